//! A clock that goes with the runtime's own time, which a test can pause.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_core::clock::{Clock, Now};
use tokio::time::Instant;

/// Tells `wall` at the start.
pub(super) struct Virtual {
    began: Instant,
    wall: Timestamp,
}

impl Virtual {
    pub(super) fn new(wall: Timestamp) -> Self {
        Self { began: Instant::now(), wall }
    }
}

impl Clock for Virtual {
    fn now(&self) -> Now {
        let mono = self.began.elapsed();
        Now { wall: self.wall + SignedDuration::try_from(mono).unwrap(), mono }
    }
}
