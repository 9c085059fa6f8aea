//! How a command of either program ends.

/// How a command ended. The codes stand here and in `docs/CONFIGURATION.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// It failed for a reason that has no code of its own.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration is wrong.
    Configuration = 3,
    /// Pulse cannot be reached, refuses the token, or cannot be read fully.
    Pulse = 4,
    /// The state directory cannot be used.
    State = 5,
    /// The audit found something.
    Findings = 6,
    /// Our ping differs from Pulse's own.
    Differs = 7,
}
