//! What could not be written, and is tried again.

use super::{Action, Deadline, DiskAction, Engine, Entry, EntryKind, Phase, Suppression};
use crate::clock::Now;
use crate::reason::LedgerReason;
use crate::rng::Rng;

impl<C: Rng> Engine<C> {
    pub(super) fn on_storage_failed(&mut self, now: Now, send_left_out: bool, out: &mut Vec<Action>) {
        let pause = self.backoff(self.saves);
        self.deadlines.set(Deadline::Save, now.mono + pause);
        self.saves = self.saves.saturating_add(1);
        if send_left_out && self.phase == Phase::Sending {
            self.phase = Phase::Idle;
            // An ID that did not go out is nothing that could be deleted.
            self.id_is_unused |= self.pending.as_ref().is_some_and(|pending| pending.id_was_unused);
            let event = self.pending.as_ref().map(|pending| pending.event);
            out.push(Action::Disk(DiskAction::Record(Entry {
                event,
                ..Entry::because(EntryKind::Failed, LedgerReason::Storage)
            })));
        }
        self.suppress(now, Suppression::Storage, out);
    }

    /// Tries again to make the state directory say what is so.
    pub(super) fn save_all(&mut self, now: Now, out: &mut Vec<Action>) {
        self.deadlines.stop(Deadline::Save);
        if self.suppressed == Some(Suppression::Storage) {
            self.suppressed = None;
        }
        out.push(Action::Disk(DiskAction::SaveSwitch { off: self.sources.switched_off }));
        out.push(match &self.identity {
            Some(identity) => Action::Disk(DiskAction::SaveId(identity.clone())),
            None => Action::Disk(DiskAction::DeleteId),
        });
        out.push(Action::Disk(DiskAction::Save(self.state(now))));
    }
}
