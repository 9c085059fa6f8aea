//! True time: nanoseconds since the installation began.

pub const SECOND: u64 = 1_000_000_000;
pub const MINUTE: u64 = 60 * SECOND;
pub const HOUR: u64 = 60 * MINUTE;
pub const DAY: u64 = 24 * HOUR;
pub const YEAR: u64 = 365 * DAY;
/// Later than anything that happens.
pub const NEVER: u64 = u64::MAX;
