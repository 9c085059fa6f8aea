//! `[schedule]`: when pings are sent.

use std::time::Duration;

use pulse_telemetry_core::clock::{DAY, MINUTE};
use pulse_telemetry_process::config::{Checker, parse_duration};
use serde::Deserialize;

use super::Url;

/// The install ID is replaced when it is 30 days old; a longer interval would give each heartbeat an ID of its own.
const INTERVAL_MAX: Duration = DAY.saturating_mul(30);

/// The shortest interval, for tests on loopback.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// When pings are sent. The lower bounds hold unless the endpoint is on loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleConfig {
    /// How long after the start the startup ping may go: 2 minutes to 24 hours; from 0 on loopback.
    pub startup_delay: Duration,
    /// The time between two heartbeats: 24 hours to 30 days; from 100 milliseconds on loopback.
    pub interval: Duration,
    /// How far a heartbeat may fall before or after its time: more than 0, less than half of the interval; from 0 on
    /// loopback. The default is a 48th of a shorter interval.
    pub jitter: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSchedule {
    startup_delay: String,
    interval: String,
    jitter: String,
}

impl RawSchedule {
    /// `endpoint` is `None` where it was refused; then the lower bounds that hang on it are not checked.
    pub(super) fn check(self, check: &mut Checker<'_>, endpoint: Option<&Url>) -> Option<ScheduleConfig> {
        let free = endpoint.is_none_or(Url::is_loopback);
        let startup_delay =
            check.accept("schedule.startup_delay", &self.startup_delay, startup_delay(&self.startup_delay, free));
        let interval = check.accept("schedule.interval", &self.interval, interval(&self.interval, free));
        // Without an interval, the jitter's form alone can be checked.
        let room = interval.unwrap_or(Duration::MAX);
        let jitter = match jitter(&self.jitter, free, room, &self.interval) {
            // Where only the interval is shortened, the jitter keeps the default's proportion.
            Err(_) if check.is_default("schedule.jitter") => {
                let jitter = room / 48;
                let value = format!("\"{}ms\"", jitter.as_millis());
                check.decide("schedule.jitter", value, "a 48th of schedule.interval".to_owned());
                Some(jitter)
            }
            jitter => check.accept("schedule.jitter", &self.jitter, jitter),
        };
        Some(ScheduleConfig { startup_delay: startup_delay?, interval: interval?, jitter: jitter? })
    }
}

fn startup_delay(written: &str, free: bool) -> Result<Duration, &'static str> {
    match parse_duration(written)? {
        delay if delay < 2 * MINUTE && !free => Err("must be at least 2m unless telemetry.endpoint is on loopback"),
        delay if delay > DAY => Err("must be at most 24h"),
        delay => Ok(delay),
    }
}

fn interval(written: &str, free: bool) -> Result<Duration, &'static str> {
    match parse_duration(written)? {
        interval if interval < DAY && !free => Err("must be at least 24h unless telemetry.endpoint is on loopback"),
        interval if interval < INTERVAL_MIN => Err("must be at least 100ms"),
        interval if interval > INTERVAL_MAX => Err("must be at most 30d, when the install ID is replaced"),
        interval => Ok(interval),
    }
}

fn jitter(written: &str, free: bool, interval: Duration, interval_written: &str) -> Result<Duration, String> {
    match parse_duration(written)? {
        jitter if jitter.is_zero() && !free => {
            Err("must be more than 0s unless telemetry.endpoint is on loopback".to_owned())
        }
        jitter if jitter >= interval / 2 => {
            Err(format!("must be less than half of schedule.interval, which is {interval_written:?}"))
        }
        jitter => Ok(jitter),
    }
}
