//! A start: what was found, and what is to be done first.

use std::time::Duration;

use super::belief::Belief;
use super::deadlines::{Deadline, Deadlines};
use super::{Action, DOUBT_KEPT, DiskAction, Engine, Entry, EntryKind, Phase, Schedule, State};
use crate::chance::Chance;
use crate::clock::Now;
use crate::consent::Sources;
use crate::identity::Identity;
use crate::ping::Event;
use crate::reason::LedgerReason;

/// What was found at a start.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Consent, Pulse's own setting apart.
    pub sources: Sources,
    /// The ID on disk, where there is a valid record of one, however old.
    pub identity: Option<Identity>,
    /// The ledger shows that this ID was made or used here.
    pub identity_is_ours: bool,
    /// The state on disk, or the state of a new installation.
    pub state: State,
    /// The ledger's last entry is an attempt that nothing closed.
    pub interrupted: Option<Event>,
}

impl<C: Chance> Engine<C> {
    /// The engine at a start, and what is to be done first: off, and what it takes with it, before anything else.
    #[must_use]
    pub fn start(schedule: Schedule, mut start: Start, chance: C, now: Now) -> (Self, Vec<Action>) {
        let damaged = start.state.pending.take_if(|pending| pending.sound().is_none()).map(|pending| pending.event);
        let interrupted = start.interrupted;
        let state = start.state.clone();
        let mut engine = Self::new(schedule, start, chance, now);
        let mut out = Vec::new();
        engine.belief.look(now, &mut engine.deadlines);
        engine.take_up_the_id(now);
        let left_a_schedule = engine.adopt(&state, now);
        if engine.is_clock_suspect() {
            engine.unadopted = Some(state);
        }
        if engine.sources.off().is_some() {
            engine.forget(now, &mut out);
        }
        out.push(Action::Disk(DiskAction::Record(Entry {
            schedule: schedule.recorded(),
            ..Entry::new(EntryKind::Started)
        })));
        for (event, reason) in [(interrupted, LedgerReason::Interrupted), (damaged, LedgerReason::Damaged)] {
            if event.is_some() {
                out.push(Action::Disk(DiskAction::Record(Entry {
                    event,
                    ..Entry::because(EntryKind::Failed, reason)
                })));
            }
        }
        if left_a_schedule {
            out.push(Action::Disk(DiskAction::Save(engine.state(now))));
        }
        engine.advance(now, &mut out);
        (engine, out)
    }

    /// With nothing due, and the times on disk not yet taken.
    fn new(schedule: Schedule, start: Start, mut chance: C, now: Now) -> Self {
        let Start { sources, identity, identity_is_ours, state, .. } = start;
        let mut deadlines = Deadlines::default();
        let at_once = [Deadline::Spacing, Deadline::Silence, Deadline::Reread, Deadline::Prune];
        at_once.into_iter().chain([Deadline::RecordSuppression]).for_each(|deadline| deadlines.set(deadline, now.mono));
        deadlines.set(Deadline::SaveSuspicion, now.mono + DOUBT_KEPT);
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
            phase: Phase::Idle,
            suppressed: None,
            counted_twice: false,
            suppression_recorded: None,
            looks: 0,
            saves: 0,
            belief: Belief::new(
                state.believed_at,
                state.doubted_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            ),
            unadopted: None,
            pruned_at: None,
            last_seen: now,
        }
    }
}
