//! Whether the wall clock is believed.

use std::time::Duration;

use jiff::Timestamp;

use super::deadlines::{Deadline, Deadlines};
use super::{DAY, HOUR, plus, since, until};
use crate::clock::Now;
use crate::contract::CONTRACT_DATE;

/// A wall clock further behind the last time that was believed is implausible.
const BEHIND_MAX: Duration = HOUR;
/// A wall clock that steps further ahead is implausible.
const AHEAD_MAX: Duration = DAY;
/// An implausible clock is believed after this time.
pub(super) const DOUBT_MAX: Duration = DAY;

/// What is known of the wall clock.
#[derive(Debug)]
pub(super) struct Belief {
    /// The latest time that was believed.
    pub(super) latest: Option<Timestamp>,
    /// The monotonic time then, where that was in this process.
    at: Option<Duration>,
    /// For how long earlier processes doubted it already; `None` where the last one believed it.
    doubted_before: Option<Duration>,
}

impl Belief {
    /// At a start: `latest` is what an earlier process believed last, `doubted_before` for how long it then doubted.
    pub(super) fn new(latest: Option<Timestamp>, doubted_before: Option<Duration>) -> Self {
        Self { latest, at: None, doubted_before }
    }

    /// Looks at the clock: believes it, or begins to doubt it, or goes on doubting it until its time has passed.
    pub(super) fn look(&mut self, now: Now, deadlines: &mut Deadlines) {
        let left = DOUBT_MAX.saturating_sub(self.doubted_before.unwrap_or_default());
        let until = deadlines.at(Deadline::Trust).unwrap_or(now.mono + left);
        if !self.implausible(now) || now.mono >= until {
            *self = Self { latest: Some(now.wall), at: Some(now.mono), doubted_before: None };
            deadlines.stop(Deadline::Trust);
        } else {
            deadlines.set(Deadline::Trust, until);
        }
    }

    fn implausible(&self, now: Now) -> bool {
        match (self.latest, self.at) {
            (None, _) => now.wall < CONTRACT_DATE,
            (Some(latest), None) => {
                // The machine may have been off for as long as the clock says, unless that was doubted already.
                let was_doubted = self.doubted_before.is_some() && latest >= CONTRACT_DATE;
                let leapt_ahead = was_doubted && since(latest, now.wall) > AHEAD_MAX;
                now.wall < CONTRACT_DATE || until(latest, now.wall) > BEHIND_MAX || leapt_ahead
            }
            (Some(latest), Some(at)) => {
                let expected = plus(latest, now.mono.saturating_sub(at));
                let leaps_ahead = since(expected, now.wall) > AHEAD_MAX;
                // A clock that was believed only because nobody set it may be set at any time.
                until(expected, now.wall) > BEHIND_MAX || (leaps_ahead && expected >= CONTRACT_DATE)
            }
        }
    }
}
