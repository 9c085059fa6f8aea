//! What both programs need of HTTP, and of what is below it.
//!
//! [`host`] parses hosts and URLs, [`pem`] and [`x509`] read certificates, [`tls`] holds what is trusted, [`wire`] makes one
//! exchange over one connection. [`server`] is the other side: one connection and its limits, the guards, the answers.
//! [`exposition`] writes metrics in the format that is asked for.

pub mod exposition;
pub mod host;
pub mod pem;
pub mod server;
pub mod tls;
pub mod wire;
pub mod x509;
