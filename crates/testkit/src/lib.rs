//! What the tests stand on: loopback servers that misbehave on demand, Pulse as it was captured, a Pulse of our own,
//! the telemetry endpoint, and the strings that must never leave an installation.
//!
//! The servers use nothing of the library under test, so a mistake in it cannot hide itself; `readings`, `generated`
//! and `receiver` do.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    clippy::new_without_default,
    reason = "a test may fail loudly, and its names say what each thing is"
)]

pub mod alone;
pub mod booted;
pub mod boundaries;
pub mod browser;
pub mod client;
pub mod collector;
pub mod contract_of_tests;
pub mod disk;
pub mod endpoint;
pub mod fleet;
pub mod generated;
pub mod history;
pub mod inside;
pub mod jose;
pub mod linkage;
pub mod load;
pub mod manual;
pub mod memory_fs;
pub mod packages;
pub mod planted;
pub mod postgres;
pub mod promises;
pub mod proxy;
pub mod pulse;
pub mod readings;
pub mod receiver;
pub mod reduced;
pub mod replay;
pub mod seeded;
pub mod server;
pub mod sidecar;
pub mod simulation;
pub mod tls;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The project's own directory.
pub fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The directory of a build, two folders above what runs: `target/debug`.
pub fn built() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// A directory beside the build, for what tests keep over their runs.
pub fn kept() -> PathBuf {
    let kept = built().with_file_name("tmp");
    std::fs::create_dir_all(&kept).unwrap();
    kept
}

/// A handler that panicked has failed its test already; the lock it held stays usable, so that the cause is seen.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
