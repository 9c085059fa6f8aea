//! Telemetry switched on or off, and a new ID that somebody asks for: what both take with them.

use super::attempts::End;
use super::{Action, Deadline, DiskAction, Engine, Entry, EntryKind, Outcome};
use crate::clock::Now;
use crate::consent::{OffSource, Sources};
use crate::observation::OwnSender;
use crate::reason::LedgerReason;
use crate::rng::Rng;

impl<C: Rng> Engine<C> {
    pub(super) fn on_own_sender(&mut self, now: Now, own_sender: OwnSender, out: &mut Vec<Action>) {
        self.counted_twice = own_sender == OwnSender::On && self.sources.is_forced_on();
        let sources = Sources { off_in_pulse: own_sender == OwnSender::OffBySetting, ..self.sources };
        self.change_consent(now, sources, out);
    }

    pub(super) fn on_switch(&mut self, now: Now, off: bool, out: &mut Vec<Action>) {
        // Off comes first. On comes last, so that it is left out where anything before it could not be written.
        if off {
            out.push(Action::Disk(DiskAction::SaveSwitch { off }));
        }
        self.change_consent(now, Sources { switched_off: off, ..self.sources }, out);
        if !off {
            out.push(Action::Disk(DiskAction::SaveSwitch { off }));
        }
    }

    fn change_consent(&mut self, now: Now, sources: Sources, out: &mut Vec<Action>) {
        let before = self.sources.off();
        self.sources = sources;
        let after = sources.off();
        if before == after {
            return;
        }
        if after.is_some() {
            self.cancel(now, LedgerReason::SwitchedOff, out);
            self.discard_identity_and_pending(now, out);
        } else if self.deadlines.is_set(Deadline::Heartbeat) {
            self.leave_the_old_schedule(now);
            out.push(Action::Disk(DiskAction::Save(self.state(now))));
        }
        self.deadlines.set(Deadline::Reread, now.mono);
        self.failed_reads = 0;
        let reason = after.map_or(LedgerReason::On, OffSource::reason);
        out.push(Action::Disk(DiskAction::Record(Entry::because(EntryKind::ConsentChanged, reason))));
    }

    /// Off: no pending ping, no ID. The ping that is gone is not built again as soon as telemetry is on again, or the
    /// timing would link the old ID to the new one.
    pub(super) fn discard_identity_and_pending(&mut self, now: Now, out: &mut Vec<Action>) {
        let had_an_id = self.identity.take().is_some();
        if self.take_pending().is_some() || had_an_id || self.deadlines.is_set(Deadline::Heartbeat) {
            self.leave_the_old_schedule(now);
        }
        self.candidate = self.chance.uuid();
        self.suppressed = None;
        out.push(Action::Disk(DiskAction::DeleteId));
        out.push(Action::Disk(DiskAction::Save(self.state(now))));
    }

    pub(super) fn on_reset(&mut self, now: Now, out: &mut Vec<Action>) {
        self.cut_off(now, out);
        self.candidate = self.chance.uuid();
        let is_on = self.sources.off().is_none();
        if is_on {
            self.make_id(now, out);
            // The new ID must not follow the old one at a time that links both: what was pending is done with.
            self.end_pending(now, End::without_answer(Outcome::Dropped, LedgerReason::Reset), out);
            self.leave_the_old_schedule(now);
            out.push(Action::Disk(DiskAction::Save(self.state(now))));
        }
        if self.is_unsaved() {
            // The old ID, or its pending ping, may still be on the disk.
            self.save_all(now, out);
        }
        if is_on {
            out.push(Action::Disk(DiskAction::Record(Entry::new(EntryKind::IdReset))));
        }
    }
}
