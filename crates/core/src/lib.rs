//! What decides, and nothing that waits.
//!
//! [`observation`] is what a reading of Pulse gave: values that are known, or unknown for a named reason. [`version`] and
//! [`identity`] hold Pulse's own rules, [`contract`] lists every field of the [`ping`], [`consent`] says who switched
//! telemetry off, [`verdict`] what the endpoint's answer means. All of it comes together in [`engine`], a state machine:
//! what happened goes in, what is to be done comes out. [`ledger`] is the format in which it is recorded, and [`audit`]
//! holds a ledger against the promises.
//!
//! There is no runtime here, no HTTP, no TLS, no file, no socket, no environment. The time ([`clock`]) and chance
//! ([`chance`]) are arguments.
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
pub mod chance;
pub mod clock;
pub mod consent;
pub mod contract;
pub mod credential;
pub mod engine;
pub mod identity;
pub mod ledger;
pub mod observation;
pub mod ping;
pub mod printable;
pub mod verdict;
pub mod version;
