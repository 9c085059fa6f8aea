//! Deletions at the endpoint that somebody asked for: of each ID that was sent, once.
//!
//! They go beside the pings and whatever consent says, but only after somebody asked. What is to be in the ledger of a
//! deletion (that it was asked for, how it ended) is in the state first and stays there until it is recorded: a crash
//! loses none, and asks for none again of which a receipt was saved.
//!
//! Deletions that are asked for together would show a receiver that their IDs are one installation. So those of older
//! IDs go at random times of the next day, and two never go together, whatever held them back.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    ASKED_ADDED, ASKED_MAX, ASKED_PART, Action, Deadline, Deletions, DiskAction, Engine, Entry, EntryKind,
    ForgetAnswer, minus, plus, since, until,
};
use super::{DeletionEnd, DeletionRecord};
use crate::clock::{DAY, HOUR, MINUTE, Now};
use crate::identity::InstallId;
use crate::reason::{LedgerReason, ReasonWord};
use crate::rng::Rng;

/// A deletion that still fails this long after it was first tried is given up.
const RETRIED_FOR: Duration = DAY.saturating_mul(7);
/// An endpoint that has no contract is not asked for one again before this,
const NO_CONTRACT_PAUSE: Duration = HOUR.saturating_mul(3);
/// and is taken to offer no deletions once it had none for this long.
const NO_CONTRACT_FOR: Duration = DAY;
/// Deletions of two IDs are at least this far apart,
const APART: Duration = MINUTE;
/// and by a random time up to this more where something held both back.
const APART_MORE: Duration = HOUR;

/// A deletion that was asked for and is not over.
#[derive(Clone, Debug)]
pub(super) struct Deletion {
    install_id: InstallId,
    /// When that was asked for, and from the first attempt on, when that was.
    since: Timestamp,
    due: Duration,
    /// What the disk says of that, until the clock is trusted since the start.
    deferred_due: Option<Timestamp>,
    attempts: u32,
    end: Option<DeletionEnd>,
    recorded: Recorded,
}

/// Whether the asking, or the end where there is one, is in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recorded {
    No,
    /// If all of the last list got onto the disk.
    JustNow,
    Yes,
}

impl Deletion {
    /// What a start finds.
    pub(super) fn found(record: DeletionRecord, now: Now) -> Self {
        let DeletionRecord { install_id, since, not_before, attempts, end, is_recorded } = record;
        let recorded = if is_recorded { Recorded::Yes } else { Recorded::No };
        Self { install_id, since, due: now.mono, deferred_due: Some(not_before), attempts, end, recorded }
    }

    /// The times that the start found, by a clock that is trusted now. One that is further away than any that is ever
    /// set was set by a clock that was wrong; and the process before may have asked for another one right at its end.
    fn restore_due(&mut self, now: Now, apart: Duration, chance: &mut impl Rng) {
        if let Some(due) = self.deferred_due.take() {
            let left = until(due, now.wall);
            let left = if left > ASKED_MAX { chance.uniform_up_to(DAY) } else { left };
            self.due = now.mono + left.max(apart);
            self.since = self.since.min(now.wall);
        }
    }

    fn is_pending(&self) -> bool {
        self.end.is_none()
    }

    fn end(&mut self, end: DeletionEnd) {
        self.end = Some(end);
        self.recorded = Recorded::No;
    }

    fn fail(&mut self, reason: LedgerReason) {
        self.end(DeletionEnd::Failed(reason.into()));
    }

    fn due_by_the_wall(&self, now: Now) -> Timestamp {
        self.deferred_due.unwrap_or_else(|| match self.due.checked_sub(now.mono) {
            Some(left) => plus(now.wall, left),
            None => minus(now.wall, now.mono.saturating_sub(self.due)),
        })
    }

    fn entry(&self) -> Entry {
        let (kind, reason, receipt) = match &self.end {
            None => (EntryKind::ForgetAsked, None, None),
            Some(DeletionEnd::Forgotten(receipt)) => (EntryKind::Forgotten, None, Some(receipt.clone())),
            Some(DeletionEnd::Failed(ReasonWord::Known(reason))) => (EntryKind::ForgetFailed, Some(*reason), None),
            Some(DeletionEnd::Failed(ReasonWord::Other(_))) => (EntryKind::ForgetFailed, None, None),
        };
        Entry { install_id: Some(self.install_id.clone()), reason, receipt, ..Entry::new(kind) }
    }
}

impl<C: Rng> Engine<C> {
    /// Somebody wants all deleted: the ID that is in use is replaced first, and all that were used are kept on disk
    /// before anything is asked.
    pub(super) fn on_forget(&mut self, now: Now, ids: Vec<InstallId>, out: &mut Vec<Action>) {
        let current = self.identity.as_ref().filter(|_| !self.id_is_unused);
        let current = current.map(|identity| identity.install_id.canonical());
        self.cut_off(now, out);
        // Not before the last ping that was cut off, whichever of them it went with: its row would stay.
        let at_once = self.deadlines.latest([Deadline::Arrival]).max(now.mono);
        // Nor right after that of another ID.
        let apart = self.apart();
        let at_once = self.deletion_asked_at.map_or(at_once, |asked_at| at_once.max(asked_at + apart));
        let mut older: Vec<InstallId> = ids.iter().map(InstallId::canonical).collect();
        older.retain(|id| Some(id) != current.as_ref());
        // A single one cannot be linked to another.
        let is_single = current.is_none() && older.len() == 1 && self.deletions.is_empty();
        for id in older {
            let due = if is_single { at_once } else { now.mono + APART.max(self.chance.uniform_up_to(DAY)) };
            self.add_deletion(now, id, due);
        }
        if let Some(id) = current {
            self.add_deletion(now, id, at_once);
        }
        (self.not_offered, self.without_contract_since) = (false, None);
        if self.sources.off().is_none() {
            self.on_reset(now, out);
        } else {
            out.push(Action::Disk(DiskAction::Save(self.state(now))));
        }
    }

    /// One that was done just now stays as it is, and one that is pending is retried for as long as a new one.
    fn add_deletion(&mut self, now: Now, install_id: InstallId, due: Duration) {
        let failed = |deletion: &Deletion| matches!(deletion.end, Some(DeletionEnd::Failed(_)));
        self.deletions.retain(|deletion| deletion.install_id != install_id || !failed(deletion));
        if let Some(deletion) = self.deletions.iter_mut().find(|deletion| deletion.install_id == install_id) {
            deletion.since = now.wall;
            return;
        }
        self.deletions.push(Deletion {
            install_id,
            since: now.wall,
            due,
            deferred_due: None,
            attempts: 0,
            end: None,
            recorded: Recorded::No,
        });
    }

    pub(super) fn on_forget_answer(&mut self, now: Now, id: &InstallId, answer: ForgetAnswer, out: &mut Vec<Action>) {
        if self.forgetting.take_if(|under_way| under_way == id).is_none() {
            return;
        }
        // A disk that hangs may have kept it from going at the time it was meant to.
        self.keep_others_apart(now, id);
        self.not_offered = matches!(answer, ForgetAnswer::NotOffered | ForgetAnswer::NoContract);
        let since = self.without_contract_since.take().unwrap_or(now.mono);
        match answer {
            ForgetAnswer::Done(receipt) => {
                if let Some(deletion) = self.deletion(id) {
                    deletion.end(DeletionEnd::Forgotten(receipt));
                }
            }
            ForgetAnswer::NoContract if now.mono.saturating_sub(since) < NO_CONTRACT_FOR => {
                self.without_contract_since = Some(since);
                self.retry_or_give_up(now, id, Some(NO_CONTRACT_PAUSE.min(self.schedule.interval)));
            }
            ForgetAnswer::NotOffered | ForgetAnswer::NoContract => {
                self.end_deletions(LedgerReason::NotOffered);
            }
            ForgetAnswer::Failed { after } => self.retry_or_give_up(now, id, after),
        }
        out.push(Action::Disk(DiskAction::Save(self.state(now))));
    }

    fn retry_or_give_up(&mut self, now: Now, id: &InstallId, after: Option<Duration>) {
        let before = self.deletion(id).map_or(0, |deletion| deletion.attempts.saturating_sub(1));
        let asked = after.unwrap_or_default();
        let added = if asked.is_zero() { asked } else { (asked / ASKED_PART).max(ASKED_ADDED) };
        let pause = self.backoff(before).max(asked + self.chance.uniform_up_to(added));
        let is_suspect = self.is_clock_suspect();
        let Some(deletion) = self.deletion(id) else { return };
        if !is_suspect && since(deletion.since, now.wall) >= RETRIED_FOR {
            deletion.fail(LedgerReason::GaveUp);
        } else {
            deletion.due = now.mono + pause;
        }
    }

    pub(super) fn on_cancel_forget(&mut self, now: Now, out: &mut Vec<Action>) {
        self.break_off_the_deletion(out);
        // One that could not be written before is not told to be so now.
        if self.end_deletions(LedgerReason::Cancelled) || self.is_unsaved() {
            out.push(Action::Disk(DiskAction::Save(self.state(now))));
        }
    }

    /// Ends the deletion under way, if there is one; it stays pending.
    pub(super) fn break_off_the_deletion(&mut self, out: &mut Vec<Action>) {
        if self.forgetting.take().is_some() {
            out.push(Action::CancelForget);
        }
    }

    /// Ends all that are pending, and says whether there were any.
    fn end_deletions(&mut self, reason: LedgerReason) -> bool {
        let pending = self.deletions.iter_mut().filter(|deletion| deletion.is_pending());
        pending.map(|deletion| deletion.fail(reason)).count() > 0
    }

    fn deletion(&mut self, id: &InstallId) -> Option<&mut Deletion> {
        self.deletions.iter_mut().find(|deletion| deletion.is_pending() && deletion.install_id == *id)
    }

    /// What the last list was to record is in the ledger; the state does not say so yet.
    pub(super) fn trust_the_records(&mut self) {
        for deletion in self.deletions.iter_mut().filter(|deletion| deletion.recorded == Recorded::JustNow) {
            deletion.recorded = Recorded::Yes;
            self.records_unsaved = true;
        }
    }

    /// Something of the last list could not be written: what it was to record is recorded again.
    pub(super) fn doubt_the_records(&mut self, forget_left_out: bool) {
        if forget_left_out {
            self.forgetting = None;
        }
        let just_recorded = self.deletions.iter_mut().filter(|deletion| deletion.recorded == Recorded::JustNow);
        just_recorded.for_each(|deletion| deletion.recorded = Recorded::No);
    }

    /// Records what is to be recorded, leaves what is over, and asks for the deletion that is due.
    pub(super) fn go_on_forgetting(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.deletions.is_empty() || self.is_unsaved() {
            return;
        }
        self.deletions.retain(|deletion| deletion.is_pending() || deletion.recorded != Recorded::Yes);
        if std::mem::take(&mut self.records_unsaved) {
            out.push(Action::Disk(DiskAction::Save(self.state(now))));
        }
        for deletion in self.deletions.iter_mut().filter(|deletion| deletion.recorded == Recorded::No) {
            out.push(Action::Disk(DiskAction::Record(deletion.entry())));
            deletion.recorded = Recorded::JustNow;
        }
        if self.deletion_due().is_some_and(|due| due <= now.mono) {
            self.ask_for_the_next_deletion(now, out);
        }
    }

    fn ask_for_the_next_deletion(&mut self, now: Now, out: &mut Vec<Action>) {
        let next = self.deletions.iter().filter(|deletion| deletion.is_pending()).min_by_key(|deletion| deletion.due);
        let Some((id, attempts)) = next.map(|deletion| (deletion.install_id.clone(), deletion.attempts)) else {
            return;
        };
        // Kept on disk before the attempt, as that of a ping.
        let retried = now.mono + self.backoff(attempts);
        if let Some(deletion) = self.deletion(&id) {
            if attempts == 0 {
                deletion.since = now.wall;
            }
            deletion.attempts = attempts.saturating_add(1);
            deletion.due = retried;
        }
        self.keep_others_apart(now, &id);
        self.forgetting = Some(id.clone());
        out.push(Action::Disk(DiskAction::Save(self.state(now))));
        out.push(Action::Forget(id));
    }

    /// The endpoint is asked for that one about now.
    fn keep_others_apart(&mut self, now: Now, id: &InstallId) {
        self.deletion_asked_at = Some(now.mono);
        let apart = now.mono + self.apart();
        let others = self.deletions.iter_mut().filter(|deletion| deletion.is_pending() && deletion.install_id != *id);
        for deletion in others.filter(|deletion| deletion.due < apart) {
            deletion.due = apart + self.chance.uniform_up_to(APART_MORE);
        }
    }

    /// How far apart two deletions are at least. Only a schedule for tests has an interval that is shorter.
    fn apart(&self) -> Duration {
        APART.min(self.schedule.interval)
    }

    /// When the endpoint is asked for a deletion, if nothing else keeps it from that.
    fn deletion_due(&self) -> Option<Duration> {
        if self.forgetting.is_some() || self.is_clock_suspect() {
            return None;
        }
        self.deletions.iter().filter(|deletion| deletion.is_pending()).map(|deletion| deletion.due).min()
    }

    /// When there is something to do for a deletion.
    pub(super) fn forgetting_goes_on(&self, now: Now) -> Option<Duration> {
        if self.deletions.is_empty() || self.is_unsaved() {
            return None;
        }
        let was_recorded = self.deletions.iter().any(|deletion| deletion.recorded != Recorded::Yes);
        if was_recorded { Some(now.mono) } else { self.deletion_due() }
    }

    /// Whether that ID is one whose deletion was asked for.
    pub(super) fn is_to_be_forgotten(deletions: &[DeletionRecord], id: &str) -> bool {
        InstallId::parse(id).is_some_and(|id| deletions.iter().any(|deletion| deletion.install_id == id.canonical()))
    }

    /// The times on disk, once the clock is trusted.
    pub(super) fn restore_deletions(&mut self, now: Now) {
        let apart = self.apart();
        if !self.is_clock_suspect() {
            self.deletions.iter_mut().for_each(|deletion| deletion.restore_due(now, apart, &mut self.chance));
        }
    }

    /// What the state file is to say of them.
    pub(super) fn deletion_records(&self, now: Now) -> Vec<DeletionRecord> {
        let record = |deletion: &Deletion| DeletionRecord {
            install_id: deletion.install_id.clone(),
            since: deletion.since,
            not_before: deletion.due_by_the_wall(now),
            attempts: deletion.attempts,
            end: deletion.end.clone(),
            is_recorded: deletion.recorded == Recorded::Yes,
        };
        self.deletions.iter().map(record).collect()
    }

    /// Wall times on disk follow a step of the clock, but for those that the start found and no trusted clock has seen.
    pub(super) fn let_deletions_follow(&mut self, follow: impl Fn(&mut Timestamp)) {
        let seen = self.deletions.iter_mut().filter(|deletion| deletion.deferred_due.is_none());
        seen.for_each(|deletion| follow(&mut deletion.since));
    }

    /// What is shown of them.
    pub(super) fn deletions_shown(&self, now: Now) -> Deletions {
        let pending = || self.deletions.iter().filter(|deletion| deletion.is_pending());
        Deletions {
            pending: pending().count(),
            next: pending().map(|deletion| deletion.due_by_the_wall(now)).min(),
            not_offered: self.not_offered,
        }
    }
}
