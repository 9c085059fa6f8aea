//! Wall times on disk, monotonic times in memory, and a clock that steps.

use std::time::Duration;

use jiff::Timestamp;

use super::clock_trust::SUSPICION_MAX;
use super::state::{PendingRecord, State};
use super::{
    ASKED_MAX, Action, DAY, Deadline, DiskAction, Engine, Entry, EntryKind, Pending, STEP, minus, new_id, plus, since,
    until, until_next_pruning,
};
use crate::clock::Now;
use crate::rng::Rng;

impl<C: Rng> Engine<C> {
    /// Converts persisted wall-clock times into monotonic deadlines. Says whether they belong to another ID, so that
    /// the state on disk is to be written anew.
    pub(super) fn restore_deadlines(&mut self, state: &State, now: Now) -> bool {
        let schedule = self.schedule;
        self.startup_attempted_at = state.startup_attempted_at;
        self.deadlines.set(Deadline::Spacing, now.mono + state.spacing_left(now.wall, schedule.spacing()));
        let silence = state.not_before.map_or(Duration::ZERO, |at| until(at, now.wall)).min(ASKED_MAX);
        self.deadlines.set(Deadline::Silence, now.mono + silence);
        // A due time further away than any that is ever set was set by a clock that was wrong.
        let most = schedule.interval + schedule.jitter.max(schedule.interval / 2);
        let heartbeat = state
            .heartbeat_due
            .map(|due| until(due, now.wall))
            .map(|left| now.mono + if left > most { Duration::ZERO } else { left });
        self.deadlines.set(Deadline::Heartbeat, heartbeat);
        self.restore_pending(state.pending.as_ref(), now);
        self.restore_deletions(now);
        self.pruned_at = state.pruned_at;
        let pruning = state.pruned_at.map_or(Duration::ZERO, |at| until_next_pruning(at, now.wall));
        self.deadlines.set(Deadline::Prune, now.mono + pruning);
        let left = self.restore_for_the_id(state, now);
        let stands_in = self.pending.as_ref().is_some_and(|pending| self.may_carry(&pending.install_id, now));
        let startup_skipped = stands_in || self.deadlines.is_ahead(Deadline::Spacing, now);
        let startup = (!startup_skipped).then_some((self.started + schedule.startup_delay).max(now.mono));
        self.deadlines.set(Deadline::Startup, startup);
        left
    }

    fn restore_pending(&mut self, record: Option<&PendingRecord>, now: Now) {
        self.take_pending();
        let Some((record, (body, install_id))) = record.and_then(|record| Some((record, record.sound()?))) else {
            return;
        };
        let left = self.schedule.interval.saturating_sub(since(record.built_at, now.wall));
        self.deadlines.set(Deadline::GiveUp, now.mono + left);
        self.deadlines.set(Deadline::Retry, now.mono + until(record.not_before, now.wall).min(DAY));
        let PendingRecord { event, built_at, attempts, .. } = *record;
        if attempts > 0 {
            // Perhaps right before the start. Of a ping that a reset or an opt-out took off the disk nothing is known.
            self.let_it_arrive(now);
        }
        self.pending = Some(Pending { event, body, install_id, built_at, attempts, id_was_unused: false });
    }

    pub(super) fn watch_the_clock(&mut self, now: Now, out: &mut Vec<Action>) {
        let step = now.wall.duration_since(self.last_seen.expected_at(now));
        self.last_seen = now;
        self.clock_trust.check(now, &mut self.deadlines);
        self.take_up_the_id(now);
        if step.unsigned_abs() > STEP {
            let entry = Entry { step_seconds: Some(step.as_secs()), ..Entry::new(EntryKind::ClockStepped) };
            out.push(Action::Disk(DiskAction::Record(entry)));
            // Wall times on disk are for the next start: they follow the step.
            let follow = |time: &mut Timestamp| *time = time.saturating_add(step).unwrap_or(*time);
            self.startup_attempted_at.iter_mut().for_each(follow);
            self.pending.iter_mut().for_each(|pending| follow(&mut pending.built_at));
            self.let_deletions_follow(follow);
            out.push(Action::Disk(DiskAction::Save(self.state(now))));
        }
        if !self.is_clock_suspect()
            && let Some(state) = self.deferred_state.take()
            && self.restore_deadlines(&state, now)
        {
            out.push(Action::Disk(DiskAction::Save(self.state(now))));
        }
    }

    /// What the state file is to say.
    pub(super) fn state(&self, now: Now) -> State {
        let wall = |mono: Duration| match mono.checked_sub(now.mono) {
            Some(left) => plus(now.wall, left),
            None => minus(now.wall, now.mono.saturating_sub(mono)),
        };
        let suspect_seconds = self.suspect_for(now).and_then(|suspect| u32::try_from(suspect.as_secs()).ok());
        if let Some(state) = &self.deferred_state {
            // Of an ID that was made since the start.
            let id_is_unused =
                if state.schedule_of == Some(new_id::NOBODYS) { self.id_is_unused } else { state.id_is_unused };
            let deletions = self.deletion_records(now);
            return State { suspect_seconds, id_is_unused, deletions, ..state.clone() };
        }
        State {
            startup_attempted_at: self.startup_attempted_at,
            heartbeat_due: self.deadlines.at(Deadline::Heartbeat).map(wall),
            not_before: self.deadlines.at(Deadline::Silence).filter(|at| *at > now.mono).map(wall),
            pending: self.pending.as_ref().map(|pending| PendingRecord {
                event: pending.event,
                body: pending.body.as_str().to_owned(),
                install_id: pending.install_id.as_str().to_owned(),
                built_at: pending.built_at,
                attempts: pending.attempts,
                not_before: wall(self.deadlines.at(Deadline::Retry).unwrap_or(now.mono)),
            }),
            last: self.last.clone(),
            last_trusted: self.clock_trust.last_trusted,
            suspect_seconds,
            pruned_at: self.pruned_at,
            schedule_of: (self.identity.as_ref().map(|identity| identity.issued_at)).or((self
                .deadlines
                .is_set(Deadline::Heartbeat)
                && self.sources.off().is_none())
            .then_some(new_id::NO_ID)),
            id_is_unused: self.id_is_unused,
            deletions: self.deletion_records(now),
        }
    }

    /// For how long the clock has been suspect, earlier processes included; `None` where it is trusted. Kept on disk,
    /// or a restart would end a suspicion that is right, and a machine that is restarted every day would never send.
    fn suspect_for(&self, now: Now) -> Option<Duration> {
        let until = self.deadlines.at(Deadline::Trust)?;
        Some(SUSPICION_MAX.saturating_sub(until.saturating_sub(now.mono)))
    }
}
