//! A process whose memory stays its own: no core file, and no other process of its user looks in.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Switches core files off, and the ways in which another process of the same user reads memory and environment
/// (ptrace, `/proc/PID/mem`, `/proc/PID/environ`). The memory holds tokens, in the collector addresses for moments too.
///
/// Says whether a crash leaves no core file.
#[must_use]
pub fn leave_no_core() -> bool {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // Where one of them is refused the other holds.
    let limited = setrlimit(Resource::Core, none);
    set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok() || limited.is_ok()
}

/// Tells the log where it could not be done.
pub fn warn_of_cores(leaves_none: bool) {
    if !leaves_none {
        tracing::warn!("failed to switch core files off; see to it that a crash leaves none");
    }
}
