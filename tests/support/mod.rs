//! What the tests stand on: loopback servers that misbehave on demand, Pulse as it was captured, a Pulse of our own,
//! the telemetry endpoint, and the strings that must never leave an installation.
//!
//! The servers use nothing of the library under test, so a mistake in it cannot hide itself; `readings` and `generated`
//! do.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "each test file uses a part of this, and a test may fail loudly"
)]

pub mod alone;
pub mod booted;
pub mod browser;
pub mod client;
#[cfg(feature = "collector")]
pub mod collector;
pub mod disk;
pub mod endpoint;
pub mod generated;
pub mod history;
#[cfg(feature = "collector")]
pub mod inside;
#[cfg(feature = "collector")]
pub mod load;
pub mod manual;
pub mod planted;
#[cfg(feature = "collector")]
pub mod postgres;
pub mod promises;
pub mod proxy;
pub mod pulse;
pub mod readings;
pub mod reduced;
pub mod replay;
pub mod seeded;
pub mod server;
pub mod sidecar;
pub mod source;
pub mod tls;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A handler that panicked has failed its test already; the lock it held stays usable, so that the cause is seen.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
