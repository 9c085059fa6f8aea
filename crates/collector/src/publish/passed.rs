//! How much of the time that the clock tells has surely passed.

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_core::clock::{DAY, Now};

/// By how much the wall clock may be ahead of what passed by the monotonic one: it is set by a little all the time.
const AHEAD: SignedDuration = SignedDuration::from_mins(10);

/// The time up to which a day is surely over. A wall clock that is ahead of what has passed since it was last believed
/// may be wrong, and is believed after a day; what came meanwhile is not forgotten, but told later.
#[derive(Debug)]
pub(super) struct PassedTime {
    believed: Now,
    /// When the clock began to be ahead.
    ahead: Option<Now>,
}

impl PassedTime {
    /// From a start on, before which the newest row was received at `newest`: so late it surely was then.
    pub(super) fn new(start: Now, newest: Option<Timestamp>) -> Self {
        let wall = newest.map_or(start.wall, |newest| newest.min(start.wall));
        Self { believed: Now { wall, ..start }, ahead: None }
    }

    /// What of the time now has surely passed.
    pub(super) fn at(&mut self, now: Now) -> Timestamp {
        let passed = self.believed.expected_at(now);
        let is_steady = |since: Now| now.wall.duration_since(since.expected_at(now)).abs() <= AHEAD;
        let since = self.ahead.filter(|since| is_steady(*since)).unwrap_or(now);
        if now.wall.duration_since(passed) <= AHEAD || now.mono.saturating_sub(since.mono) >= DAY {
            *self = Self { believed: now, ahead: None };
            return now.wall;
        }
        if self.ahead.is_none() {
            tracing::info!(%passed, now = %now.wall, "the clock is ahead of what has surely passed: days are published \
                by the latter, until a day has gone");
        }
        self.ahead = Some(since);
        passed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn now(wall: &str, mono: Duration) -> Now {
        Now { wall: wall.parse().unwrap(), mono }
    }

    /// What has surely passed at each of these times, after a start at noon with the newest row at that time.
    fn passed(newest: Option<&str>, times: &[(&str, u32)]) -> Vec<String> {
        let start = now("2026-11-26T12:00:00Z", HOUR * 5);
        let mut passed = PassedTime::new(start, newest.map(|newest| newest.parse().unwrap()));
        let at = |(wall, hours): &(&str, u32)| passed.at(now(wall, HOUR * (5 + hours))).to_string();
        times.iter().map(at).collect()
    }

    #[test]
    fn a_clock_that_goes_is_believed_and_one_that_leaps_ahead_only_after_a_day() {
        let goes = ["2026-11-26T13:00:00Z", "2026-11-26T14:09:00Z", "2026-11-26T11:00:00Z", "2026-11-26T12:00:00Z"];
        let times: Vec<_> = goes.into_iter().zip([1, 2, 3, 4]).collect();
        assert_eq!(passed(None, &times), goes);
        let leaps = passed(
            None,
            &[
                ("2026-11-27T01:00:00Z", 1),
                ("2026-11-27T13:00:00Z", 13),
                ("2026-11-28T00:00:00Z", 24),
                ("2026-11-28T01:00:00Z", 25),
                ("2026-11-28T02:00:00Z", 26),
            ],
        );
        assert_eq!(
            leaps,
            [
                "2026-11-26T13:00:00Z",
                "2026-11-27T01:00:00Z",
                "2026-11-27T12:00:00Z",
                "2026-11-28T01:00:00Z",
                "2026-11-28T02:00:00Z",
            ]
        );
        // Set right again, it is believed at once; leaping on, it is doubted anew.
        let again = passed(
            None,
            &[
                ("2026-11-27T01:00:00Z", 1),
                ("2026-11-26T14:00:00Z", 2),
                ("2026-11-27T03:00:00Z", 3),
                ("2026-12-01T00:00:00Z", 26),
            ],
        );
        assert_eq!(
            again,
            ["2026-11-26T13:00:00Z", "2026-11-26T14:00:00Z", "2026-11-26T15:00:00Z", "2026-11-27T14:00:00Z"]
        );
    }

    #[test]
    fn at_the_start_no_more_has_passed_than_since_the_newest_row_before_it() {
        let times = [("2026-11-26T12:00:00Z", 0), ("2026-11-26T22:00:00Z", 10), ("2026-11-27T12:00:00Z", 24)];
        let late = passed(Some("2026-11-25T20:00:00Z"), &times);
        assert_eq!(late, ["2026-11-25T20:00:00Z", "2026-11-26T06:00:00Z", "2026-11-27T12:00:00Z"]);
        for newest in [None, Some("2026-11-26T11:55:00Z"), Some("2026-12-26T12:00:00Z")] {
            assert_eq!(passed(newest, &times), times.map(|(wall, _)| wall), "{newest:?}");
        }
    }
}
