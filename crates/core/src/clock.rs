//! The time, which is an argument everywhere.

use std::time::Duration;

use jiff::Timestamp;

/// A minute.
pub const MINUTE: Duration = Duration::from_secs(60);
/// An hour.
pub const HOUR: Duration = MINUTE.saturating_mul(60);
/// A day of 24 hours.
pub const DAY: Duration = HOUR.saturating_mul(24);

/// One moment, as both clocks of the machine tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock: what people and files speak of. It may step.
    pub wall: Timestamp,
    /// Time since some fixed point of this boot. It never steps, and it goes on during a suspend.
    pub mono: Duration,
}

impl Now {
    /// What the wall clock tells later, if it goes as the monotonic one does meanwhile.
    #[must_use]
    pub fn expected_at(self, later: Self) -> Timestamp {
        self.wall.saturating_add(later.mono.saturating_sub(self.mono)).unwrap_or(Timestamp::MAX)
    }
}

/// Tells the time. The daemon is handed one, so that tests can turn it.
pub trait Clock {
    /// The present moment.
    fn now(&self) -> Now;
}
