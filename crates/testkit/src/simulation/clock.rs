//! The machine's clocks: a monotonic one that is right, and a wall clock that people and batteries set wrong.

use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry_core::clock::Now;

use super::time::SECOND;

/// Where the monotonic clock stands at a boot: nothing may rely on zero.
const BOOTED: u64 = 7 * SECOND;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// True time when the installation began, in nanoseconds since 1970.
    began: i64,
    /// True time at the last boot.
    boot: u64,
    /// How far the wall clock is ahead, in nanoseconds.
    pub offset: i64,
}

impl Clock {
    /// A clock that is right, on a machine whose life begins `began` seconds after 1970.
    pub fn new(began: i64) -> Self {
        Self { began: began * SECOND as i64, boot: 0, offset: 0 }
    }

    /// Seconds since 1970, by a clock that is right.
    pub fn true_seconds(&self, at: u64) -> i64 {
        (self.began + at as i64) / SECOND as i64
    }

    /// What the machine's clocks say at that true time.
    pub fn now(&self, at: u64) -> Now {
        let wall = self.began + at as i64 + self.offset;
        let (second, nanos) = (wall.div_euclid(SECOND as i64), wall.rem_euclid(SECOND as i64));
        Now { wall: Timestamp::new(second, nanos as i32).unwrap(), mono: Duration::from_nanos(self.mono(at)) }
    }

    fn mono(&self, at: u64) -> u64 {
        at - self.boot + BOOTED
    }

    /// The true time at which the monotonic clock says this.
    pub fn when(&self, mono: Duration) -> u64 {
        (mono.as_nanos() as u64 - BOOTED).saturating_add(self.boot)
    }

    /// The machine boots. Without a battery its wall clock starts in 1970.
    pub fn reboot(&mut self, at: u64, has_battery: bool) {
        self.boot = at;
        if !has_battery {
            self.offset = -(self.began + at as i64);
        }
    }
}
