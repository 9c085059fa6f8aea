//! The only module that reads the time.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use pulse_telemetry_core::clock::{Clock, Now};
use rustix::time::{ClockId, clock_gettime};

/// The machine's own clocks: `CLOCK_REALTIME` and `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the time is read")]
    fn now(&self) -> Now {
        // A wall clock outside of what a timestamp can hold (year 9999) is no time at all: read it as 1970,
        // which the engine knows to be implausible.
        let wall = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
        let boot = clock_gettime(ClockId::Boottime);
        let mono = Duration::new(u64::try_from(boot.tv_sec).unwrap_or(0), u32::try_from(boot.tv_nsec).unwrap_or(0));
        Now { wall, mono }
    }
}
