//! HTTP and TLS for both programs, as client and as server.
//!
//! [`host`] parses hosts and URLs, [`mod@file`] reads files that a configuration names, [`pem`] and [`x509`] read
//! certificates, [`tls`] holds what is trusted. As a client,
//! [`wire`] makes one exchange over one connection. As a server, [`server`] has the connection and its limits, the
//! guards and the answers; [`exposition`] writes metrics in the format that is asked for.

pub mod exposition;
pub mod file;
pub mod host;
pub mod pem;
pub mod server;
pub mod tls;
pub mod wire;
pub mod x509;
