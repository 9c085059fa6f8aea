//! What decides, and nothing that waits.
//!
//! A ping comes about here in this order. [`observation`] is what a reading of Pulse gave: values that are known, or
//! [`unknown`] for a named reason; [`version`] has Pulse's rules for its version. [`engine`] is the state machine:
//! what happened goes in, what is to be done comes out. It checks [`consent`], keeps the install ID ([`identity`]) and
//! has [`ping`] make the bytes, whose fields [`contract`] lists. [`verdict`] says what the endpoint's answer means.
//! [`receipt`] is the receiver's signed word, and says what it is worth. [`ledger`] is the format in which attempts,
//! and what kept them back, are recorded, and [`audit`] holds a ledger against the promises.
//!
//! [`count`] counts what stands in an answer while it arrives: it decides nothing, but it is pure and must be fast.
//!
//! There is no runtime here, no HTTP, no TLS, no file, no socket, no environment. The time ([`clock`]) and chance
//! ([`rng`]) are arguments.
//!
//! What a crate does not depend on it cannot name:
//!
//! ```compile_fail,E0432
//! use pulse_telemetry::events::Recorder;
//! ```
//!
//! ```compile_fail,E0432
//! use pulse_telemetry::posture::Posture;
//! ```
//!
//! ```compile_fail,E0432
//! use pulse_telemetry::store::Store;
//! ```

pub mod audit;
pub mod clock;
pub mod consent;
pub mod contract;
pub mod count;
pub mod credential;
pub mod digest;
pub mod engine;
pub mod event;
pub mod identity;
pub mod ledger;
pub mod observation;
pub mod ping;
pub mod platform;
pub mod printable;
pub mod reason;
pub mod receipt;
pub mod rng;
pub mod unknown;
pub mod verdict;
pub mod version;
mod words;
