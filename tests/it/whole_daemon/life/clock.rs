//! The clocks of the machine, made from the paused clock of the runtime.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_core::clock::{Clock, Now};
use tokio::time::Instant;

use super::Shared;
use pulse_telemetry_testkit::history::noon;

/// What the clocks of the machine say.
pub(super) struct Time {
    born: Instant,
    /// Suspended for so long, all in all: the runtime saw nothing of it.
    suspended: Duration,
    /// The monotonic clock counts from here.
    booted: Duration,
    /// The wall clock is wrong by this.
    wrong: SignedDuration,
}

impl Time {
    pub(super) fn new() -> Self {
        Self { born: Instant::now(), suspended: Duration::ZERO, booted: Duration::ZERO, wrong: SignedDuration::ZERO }
    }

    /// How long the installation has lived: what no clock of the machine can falsify.
    pub(super) fn passed(&self) -> Duration {
        self.born.elapsed() + self.suspended
    }

    pub(super) fn now(&self) -> Now {
        Now { wall: self.right().saturating_add(self.wrong).unwrap(), mono: self.passed().saturating_sub(self.booted) }
    }

    pub(super) fn is_right(&self) -> bool {
        self.wrong.is_zero()
    }

    /// What the wall clock should say.
    fn right(&self) -> Timestamp {
        noon().saturating_add(self.passed()).unwrap()
    }

    pub(super) fn suspend(&mut self, duration: Duration) {
        self.suspended += duration;
    }

    pub(super) fn boot(&mut self) {
        self.booted = self.passed();
    }

    pub(super) fn step(&mut self, by: SignedDuration) {
        self.wrong += by;
    }

    /// A machine without a battery for its clock.
    pub(super) fn set_to_1970(&mut self) {
        self.wrong = Timestamp::UNIX_EPOCH.duration_since(self.right());
    }

    pub(super) fn set_right(&mut self) {
        self.wrong = SignedDuration::ZERO;
    }
}

/// The clock that the daemon is handed.
pub(super) struct SimulatedClock(pub(super) Shared);

impl Clock for SimulatedClock {
    fn now(&self) -> Now {
        self.0.lock().time.now()
    }
}
