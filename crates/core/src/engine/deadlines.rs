//! All that the engine waits for, in one table. Times are monotonic, so that a stepping wall clock moves none of them.

use std::time::Duration;

use super::{Engine, Phase};
use crate::clock::Now;
use crate::consent::OffSource;
use crate::rng::Rng;

/// What has its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// The startup ping of this start is due; stopped once it is built or skipped.
    Startup,
    /// The next heartbeat is due.
    Heartbeat,
    /// Startups and heartbeats may be built again.
    Spacing,
    /// The silence ends that the endpoint asked for, for the next ping too.
    Silence,
    /// The pending ping is attempted again.
    Retry,
    /// Pulse may be read again after a reading that no attempt followed.
    Reread,
    /// The pending ping is given up.
    GiveUp,
    /// A ping that was cut off, or is to be retried, has arrived or never will.
    Arrival,
    /// What could not be written is tried again; stopped while all is written.
    Save,
    /// For how long the clock has been suspect is kept on disk again.
    SaveSuspicion,
    /// The clock is trusted whatever it says; stopped while it is trusted.
    Trust,
    /// The ledger is pruned.
    Prune,
    /// A change of what keeps pings back may be recorded again.
    RecordSuppression,
}

impl Deadline {
    const ALL: [Self; 13] = [
        Self::Startup,
        Self::Heartbeat,
        Self::Spacing,
        Self::Silence,
        Self::Retry,
        Self::Reread,
        Self::GiveUp,
        Self::Arrival,
        Self::Save,
        Self::SaveSuspicion,
        Self::Trust,
        Self::Prune,
        Self::RecordSuppression,
    ];
}

/// When each of them is, where it is set.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadlines([Option<Duration>; Deadline::ALL.len()]);

impl Deadlines {
    /// Sets it to that time; none stops it.
    pub(super) fn set(&mut self, deadline: Deadline, at: impl Into<Option<Duration>>) {
        self.0[deadline as usize] = at.into();
    }

    /// It has no time any more.
    pub(super) fn stop(&mut self, deadline: Deadline) {
        self.set(deadline, None);
    }

    /// When it is.
    pub(super) fn at(&self, deadline: Deadline) -> Option<Duration> {
        self.0[deadline as usize]
    }

    /// It is set.
    pub(super) fn is_set(&self, deadline: Deadline) -> bool {
        self.at(deadline).is_some()
    }

    /// Its time has come.
    pub(super) fn expired(&self, deadline: Deadline, now: Now) -> bool {
        self.at(deadline).is_some_and(|at| at <= now.mono)
    }

    /// Its time is still to come.
    pub(super) fn is_ahead(&self, deadline: Deadline, now: Now) -> bool {
        self.at(deadline).is_some_and(|at| at > now.mono)
    }

    /// The earliest time of these.
    fn earliest(&self, of: impl IntoIterator<Item = Deadline>) -> Option<Duration> {
        of.into_iter().filter_map(|deadline| self.at(deadline)).min()
    }

    /// When all of these have passed; what is not set has.
    pub(super) fn latest(&self, of: impl IntoIterator<Item = Deadline>) -> Duration {
        of.into_iter().filter_map(|deadline| self.at(deadline)).max().unwrap_or_default()
    }
}

impl<C: Rng> Engine<C> {
    /// When the engine has to act next.
    pub(super) fn next_wake(&self, now: Now) -> Duration {
        let acts_on = Deadline::ALL.into_iter().filter(|deadline| self.acts_on(*deadline));
        let start = (self.phase == Phase::Idle && !self.is_off_here()).then(|| self.next_due());
        [self.deadlines.earliest(acts_on), self.id_expires(now), start, self.forgetting_goes_on(now)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Duration::MAX)
    }

    /// Whether the engine acts when this one expires, in this phase and whatever the others say.
    fn acts_on(&self, deadline: Deadline) -> bool {
        match deadline {
            Deadline::Save | Deadline::Trust => true,
            Deadline::SaveSuspicion => self.is_clock_suspect(),
            Deadline::Prune => !self.is_clock_suspect(),
            // Of a send under way the answer decides.
            Deadline::GiveUp => self.phase != Phase::Sending,
            // Together they are `next_due`.
            Deadline::Startup
            | Deadline::Heartbeat
            | Deadline::Spacing
            | Deadline::Silence
            | Deadline::Retry
            | Deadline::Reread => false,
            Deadline::Arrival | Deadline::RecordSuppression => false,
        }
    }

    /// When something is due next, as things stand.
    pub(super) fn next_due(&self) -> Duration {
        self.attempt_due().max(self.deadlines.latest([Deadline::Reread]))
    }

    /// When the next attempt is due, if nothing suppresses it.
    pub(super) fn attempt_due(&self) -> Duration {
        let due: &[Deadline] = if self.pending.is_some() {
            &[Deadline::Retry, Deadline::Silence]
        } else if self.deadlines.is_set(Deadline::Startup) {
            &[Deadline::Startup, Deadline::Silence]
        } else {
            &[Deadline::Heartbeat, Deadline::Spacing, Deadline::Silence]
        };
        self.deadlines.latest(due.iter().copied())
    }

    /// Something here says off, so that nothing is started; Pulse's own setting is read again.
    pub(super) fn is_off_here(&self) -> bool {
        self.sources.off().is_some_and(|source| source != OffSource::Pulse)
    }

    /// The wall clock is not trusted.
    pub(super) fn is_clock_suspect(&self) -> bool {
        self.deadlines.is_set(Deadline::Trust)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn each_deadline_has_a_place_of_its_own_and_the_earliest_of_those_asked_for_is_told() {
        let second = Duration::from_secs(1);
        let mut deadlines = Deadlines::default();
        for (after, deadline) in (1..).zip(Deadline::ALL) {
            deadlines.set(deadline, second * after);
        }
        let now = Now { wall: Timestamp::UNIX_EPOCH, mono: second * 3 };
        for (after, deadline) in (1..).zip(Deadline::ALL) {
            assert_eq!(deadlines.at(deadline), Some(second * after), "{deadline:?}");
            assert_eq!((deadlines.expired(deadline, now), deadlines.is_ahead(deadline, now)), (after <= 3, after > 3));
        }
        assert_eq!(deadlines.earliest([Deadline::Silence, Deadline::Heartbeat]), Some(second * 2));
        assert_eq!(deadlines.latest([Deadline::Silence, Deadline::Heartbeat]), second * 4);
        deadlines.stop(Deadline::Heartbeat);
        assert_eq!(deadlines.earliest([Deadline::Silence, Deadline::Heartbeat]), Some(second * 4));
        assert!(!deadlines.expired(Deadline::Heartbeat, now) && !deadlines.is_ahead(Deadline::Heartbeat, now));
    }
}
