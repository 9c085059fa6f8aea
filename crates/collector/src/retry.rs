//! When those who are refused should come back: each at a time of its own, no sooner than the storage can take them.

use std::time::Duration;

use pulse_telemetry_core::clock::{HOUR, MINUTE};
use pulse_telemetry_core::rng::Rng;

/// The longest that anybody is told to wait.
const WAIT_MAX: Duration = HOUR;

/// While the storage does not work, the time until the first ones should come back, and the time that they are spread
/// over.
const OUTAGE: Duration = Duration::from_secs(30);
const OUTAGE_SPREAD: Duration = Duration::from_secs(270);

/// The time that those are spread over who wait for the next day.
const DAY_SPREAD: Duration = MINUTE;

/// What is believed of the storage before anything was measured: rows, and the seconds that they take. It weighs
/// little, so that the first commit already says more. Turns that were given out too slowly would leave the storage
/// idle.
const ROWS_AT_START: f64 = 2.0;
const SECONDS_AT_START: f64 = 0.01;

/// How much of the past counts when a batch is measured.
const MEMORY: f64 = 0.9;

/// Gives out turns.
pub struct Retry {
    chance: Box<dyn Rng + Send>,
    /// Rows, and the seconds that the storage took for them; both fade.
    rows: f64,
    seconds: f64,
    /// The first turn that nobody has, by the monotonic clock.
    next: Duration,
}

impl Retry {
    /// Turns that are spread by this chance.
    #[must_use]
    pub fn new(chance: Box<dyn Rng + Send>) -> Self {
        Self { chance, rows: ROWS_AT_START, seconds: SECONDS_AT_START, next: Duration::ZERO }
    }

    /// The storage took `rows` rows in that time.
    pub fn measure(&mut self, rows: usize, took: Duration) {
        // A batch has hundreds of rows; a count that large is exact.
        self.rows = self.rows * MEMORY + f64::from(u32::try_from(rows).unwrap_or(u32::MAX));
        self.seconds = self.seconds * MEMORY + took.as_secs_f64();
    }

    /// How long the next one to be refused should wait because the queue is full.
    pub fn when_full(&mut self, now: Duration) -> Duration {
        let rate = (self.rows / self.seconds.max(1e-6)).clamp(1.0, 1e6);
        let wait = self.next.max(now) - now;
        if wait > WAIT_MAX {
            return self.chance.uniform_up_to(WAIT_MAX);
        }
        self.next = now + wait + Duration::from_secs_f64(1.0 / rate);
        wait + self.chance.uniform_up_to(wait / 10)
    }

    /// How long somebody should wait while the storage does not work.
    pub fn in_an_outage(&mut self) -> Duration {
        OUTAGE + self.chance.uniform_up_to(OUTAGE_SPREAD)
    }

    /// How long somebody should wait while the storage is full: a purge comes every hour.
    pub fn when_storage_is_full(&mut self) -> Duration {
        WAIT_MAX / 2 + self.chance.uniform_up_to(WAIT_MAX / 2)
    }

    /// How long somebody should wait who may send again when the UTC day ends, in `wait`.
    pub fn when_the_day_ends(&mut self, wait: Duration) -> Duration {
        wait + self.chance.uniform_up_to(DAY_SPREAD)
    }

    /// How long somebody should wait whose network may send again after `wait`.
    pub fn when_limited(&mut self, wait: Duration) -> Duration {
        wait + self.chance.uniform_up_to(wait.max(Duration::from_secs(10)))
    }
}

/// Whole seconds, as `Retry-After` has them; never zero.
#[must_use]
pub fn in_seconds(wait: Duration) -> u64 {
    wait.as_secs() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulse_telemetry_process::rng::SystemRng;

    #[test]
    fn those_who_are_refused_come_back_no_faster_than_the_storage_takes_them() {
        let mut retry = Retry::new(Box::new(SystemRng));
        for _ in 0..100 {
            retry.measure(100, Duration::from_secs(1));
        }
        let now = Duration::from_secs(5000);
        let mut at: Vec<u64> = (0..10_000).map(|_| in_seconds(retry.when_full(now))).collect();
        at.sort_unstable();
        for window in 1..100 {
            let within = at.partition_point(|second| *second <= window);
            assert!(within as u64 <= 100 * window, "{within} of them within {window} s");
        }
        assert!(at[9_999] <= 10_000 / 100 * 12 / 10, "the last one waits {} s", at[9_999]);
    }

    #[test]
    fn nobody_waits_longer_than_an_hour_or_so_and_nobody_comes_back_at_once() {
        let mut retry = Retry::new(Box::new(SystemRng));
        retry.measure(1, Duration::from_secs(3600));
        let waits: Vec<u64> = (0..100_000).map(|_| in_seconds(retry.when_full(Duration::ZERO))).collect();
        assert!(waits.iter().all(|wait| (1..=3960 + 1).contains(wait)), "{:?}", waits.iter().max());
        let outage: Vec<u64> = (0..1000).map(|_| in_seconds(retry.in_an_outage())).collect();
        assert!(outage.iter().all(|wait| (30..=301).contains(wait)));
        assert!(outage.iter().max() > outage.iter().min());
    }
}
