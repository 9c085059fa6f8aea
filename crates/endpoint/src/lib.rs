//! The one door out: an attempt to send a ping or to have what was sent deleted, the proxy on its way, and what came of
//! it. By the types of what it takes, nothing else can leave than the bytes of a ping or the one ID of a deletion.
//!
//! This crate depends on the core and on HTTP alone. What keeps the local events, the posture and the files cannot be
//! named here:
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

mod forget;
mod proxy;
mod send;
mod variables;

pub use forget::DeletionAnswer;
pub use proxy::{NoProxy, Proxy, ProxyError};
pub use send::{ATTEMPT_TIME, SendSettings, SendSetupError, Sender};
pub use variables::{ProxyVariables, Variable};
