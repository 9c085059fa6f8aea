//! Whether the wall clock is trusted.

use std::time::Duration;

use jiff::Timestamp;

use super::deadlines::{Deadline, Deadlines};
use super::{since, until};
use crate::clock::{DAY, HOUR, Now};
use crate::contract::CONTRACT_DATE;

/// A wall clock further behind the last trusted time is implausible.
const BEHIND_MAX: Duration = HOUR;
/// A wall clock that steps further ahead is implausible.
const AHEAD_MAX: Duration = DAY;
/// An implausible clock is trusted after this time.
pub(super) const SUSPICION_MAX: Duration = DAY;

/// What is known of the wall clock.
#[derive(Clone, Debug)]
pub(super) struct ClockTrust {
    /// The latest trusted time.
    pub(super) last_trusted: Option<Timestamp>,
    /// The monotonic time then, where that was in this process.
    at: Option<Duration>,
    /// For how long it was suspect to earlier processes; `None` where the last one trusted it.
    suspected_before: Option<Duration>,
}

impl ClockTrust {
    /// At a start, with what an earlier process trusted last, and for how long the clock was suspect to it then.
    pub(super) fn new(last_trusted: Option<Timestamp>, suspected_before: Option<Duration>) -> Self {
        Self { last_trusted, at: None, suspected_before }
    }

    /// Checks the clock: an implausible one is suspect until [`Deadline::Trust`].
    pub(super) fn check(&mut self, now: Now, deadlines: &mut Deadlines) {
        let left = SUSPICION_MAX.saturating_sub(self.suspected_before.unwrap_or_default());
        let until = deadlines.at(Deadline::Trust).unwrap_or(now.mono + left);
        if !self.implausible(now) || now.mono >= until {
            *self = Self { last_trusted: Some(now.wall), at: Some(now.mono), suspected_before: None };
            deadlines.stop(Deadline::Trust);
        } else {
            deadlines.set(Deadline::Trust, until);
        }
    }

    fn implausible(&self, now: Now) -> bool {
        match (self.last_trusted, self.at) {
            (None, _) => now.wall < CONTRACT_DATE,
            (Some(latest), None) => {
                // The machine may have been off for as long as the clock says, unless it was suspect already.
                let was_suspect = self.suspected_before.is_some() && latest >= CONTRACT_DATE;
                let leapt_ahead = was_suspect && since(latest, now.wall) > AHEAD_MAX;
                now.wall < CONTRACT_DATE || until(latest, now.wall) > BEHIND_MAX || leapt_ahead
            }
            (Some(latest), Some(at)) => {
                let expected = Now { wall: latest, mono: at }.expected_at(now);
                let leaps_ahead = since(expected, now.wall) > AHEAD_MAX;
                // A clock that was trusted only because nobody set it may be set at any time.
                until(expected, now.wall) > BEHIND_MAX || (leaps_ahead && expected >= CONTRACT_DATE)
            }
        }
    }
}
