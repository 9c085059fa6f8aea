//! A start: what was found, and what is to be done first.

use std::time::Duration;

use super::clock_trust::ClockTrust;
use super::deadlines::{Deadline, Deadlines};
use super::forgetting::Deletion;
use super::{Action, DiskAction, Engine, Entry, EntryKind, Phase, SUSPICION_SAVED_EVERY, Schedule, State};
use crate::clock::Now;
use crate::consent::Sources;
use crate::identity::Identity;
use crate::ping::Event;
use crate::reason::LedgerReason;
use crate::rng::Rng;

/// What was found at a start.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Consent, Pulse's own setting apart.
    pub sources: Sources,
    /// The ID on disk, where there is a valid record of one, however old.
    pub identity: Option<Identity>,
    /// The ledger shows that this ID was made or used here.
    pub identity_is_ours: bool,
    /// The ledger shows that its deletion was asked for: somebody put the file back.
    pub identity_is_forgotten: bool,
    /// The state on disk, or the state of a new installation.
    pub state: State,
    /// The ledger's last entry is an attempt that nothing closed.
    pub interrupted: Option<Event>,
}

impl<C: Rng> Engine<C> {
    /// The engine at a start, and what is to be done first: off, and what it takes with it, before anything else.
    #[must_use]
    pub fn start(schedule: Schedule, mut start: Start, chance: C, now: Now) -> (Self, Vec<Action>) {
        let damaged = start.state.pending.take_if(|pending| pending.sound().is_none()).map(|pending| pending.event);
        let interrupted = start.interrupted;
        // A reset that was not written whole before the deletion was: the ID is not sent again all the same.
        let deletions = &start.state.deletions;
        let is_to_be_forgotten = |id: &str| Self::is_to_be_forgotten(deletions, id);
        let is_forgotten = start.identity_is_forgotten;
        let outlived =
            start.identity.take_if(|identity| is_forgotten || is_to_be_forgotten(identity.install_id.as_str()));
        let dropped = start.state.pending.take_if(|pending| is_to_be_forgotten(&pending.install_id));
        let state = start.state.clone();
        let mut engine = Self::new(schedule, start, chance, now);
        let mut out = Vec::new();
        engine.clock_trust.check(now, &mut engine.deadlines);
        engine.take_up_the_id(now);
        let left_a_schedule = engine.restore_deadlines(&state, now);
        if engine.is_clock_suspect() {
            engine.deferred_state = Some(state);
        }
        if outlived.is_some() {
            out.push(Action::Disk(DiskAction::DeleteId));
        }
        if engine.sources.off().is_some() {
            engine.discard_identity_and_pending(now, &mut out);
        }
        out.push(Action::Disk(DiskAction::Record(Entry {
            schedule: schedule.recorded(),
            ..Entry::new(EntryKind::Started)
        })));
        let dropped = dropped.map(|pending| pending.event);
        let ended = [
            (interrupted, LedgerReason::Interrupted),
            (damaged, LedgerReason::Damaged),
            (dropped, LedgerReason::Reset),
        ];
        for (event, reason) in ended {
            if event.is_some() {
                out.push(Action::Disk(DiskAction::Record(Entry {
                    event,
                    ..Entry::because(EntryKind::Failed, reason)
                })));
            }
        }
        if left_a_schedule || outlived.is_some() {
            out.push(Action::Disk(DiskAction::Save(engine.state(now))));
        }
        engine.advance(now, &mut out);
        (engine, out)
    }

    /// With nothing due, and the times on disk not yet taken.
    fn new(schedule: Schedule, start: Start, mut chance: C, now: Now) -> Self {
        let Start { sources, identity, identity_is_ours, state, .. } = start;
        let mut deadlines = Deadlines::default();
        let at_once = [Deadline::Spacing, Deadline::Silence, Deadline::Reread, Deadline::Arrival, Deadline::Prune];
        at_once.into_iter().chain([Deadline::RecordSuppression]).for_each(|deadline| deadlines.set(deadline, now.mono));
        deadlines.set(Deadline::SaveSuspicion, now.mono + SUSPICION_SAVED_EVERY);
        Self {
            candidate: chance.uuid(),
            schedule,
            chance,
            sources,
            deadlines,
            identity,
            id_is_ours: identity_is_ours,
            id_is_unused: false,
            started: now.mono,
            startup_attempted_at: None,
            pending: None,
            last: state.last,
            last_receipt: None,
            phase: Phase::Idle,
            suppressed: None,
            counted_twice: false,
            suppression_recorded: None,
            failed_reads: 0,
            saves: 0,
            clock_trust: ClockTrust::new(
                state.last_trusted,
                state.suspect_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            ),
            deferred_state: None,
            deletion_asked_at: (!state.deletions.is_empty()).then_some(now.mono),
            deletions: state.deletions.into_iter().map(|record| Deletion::found(record, now)).collect(),
            forgetting: None,
            records_unsaved: false,
            not_offered: false,
            without_contract_since: None,
            pruned_at: None,
            last_seen: now,
        }
    }
}
