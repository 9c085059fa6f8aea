//! What must hold of deletions: only on request, each once, one by one, none lost, given up in time.

use std::collections::{BTreeMap, BTreeSet};

use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::engine::{DeletionEnd, DiskAction, Entry, EntryKind, ForgetAnswer, State};
use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::reason::LedgerReason;

use super::super::disk::Disk;
use super::super::time::{DAY, HOUR, MINUTE};
use super::{CALM, Rule, SLEWED, Violation};

/// A deletion is given up so long after its first attempt.
const RETRIED_FOR: u64 = 7 * DAY;
/// Deletions of two IDs are so far apart.
const APART: u64 = MINUTE;

/// A deletion that is on the disk.
#[derive(Clone, Copy, Debug)]
struct Known {
    asked: u64,
    /// When the endpoint was asked first.
    tried: Option<u64>,
    /// The wall clock was set since, the disk learned of it late, or somebody asked once more: for how long it is to be
    /// retried cannot be told.
    is_unclear: bool,
    /// Its end is in the ledger.
    is_over: bool,
}

/// The memory of these rules.
#[derive(Clone, Debug, Default)]
pub struct Deletions {
    /// Somebody asked for the deletion of these, and nothing ended that.
    wanted: BTreeSet<String>,
    /// That was on the disk once: no ping has them any more.
    taken_back: BTreeSet<String>,
    on_disk: BTreeMap<String, Known>,
    /// The state file was removed, and no process has started since.
    is_state_lost: bool,
    /// The endpoint said of these that they are deleted, or the disk has its word.
    answered: BTreeSet<String>,
    receipts: BTreeSet<String>,
    /// The one that the endpoint was asked for last, and when.
    last: Option<(u64, String)>,
}

impl Deletions {
    /// Somebody wants these deleted.
    pub fn commanded(&mut self, ids: impl IntoIterator<Item = InstallId>) {
        for id in ids {
            let id = id.canonical().to_string();
            // One that waits to be recorded as done is not asked for again.
            if let Some(known) = self.on_disk.get_mut(&id) {
                known.is_unclear = true;
            } else {
                self.receipts.remove(&id);
                self.answered.remove(&id);
            }
            self.wanted.insert(id);
        }
    }

    /// Nobody wants any any more, and that is on the disk.
    pub fn ended(&mut self) {
        self.wanted.clear();
    }

    /// What was lost with the state is not to be held against the engine.
    pub fn state_lost(&mut self) {
        self.on_disk.clear();
        self.taken_back.clear();
        self.is_state_lost = true;
    }

    /// The ledger is not what it was: the word of the endpoint that it alone had, for the state file could not be
    /// written, is lost with it.
    pub fn ledger_lost(&mut self, state: &State) {
        for deletion in state.deletions.iter().filter(|deletion| deletion.end.is_none()) {
            let id = deletion.install_id.as_str();
            self.receipts.remove(id);
            self.on_disk.entry(id.to_owned()).and_modify(|known| known.is_over = false);
        }
    }

    /// A start found this on the disk.
    pub fn found(&mut self, state: &State, disk: &Disk) -> Result<(), Violation> {
        let is_there = |id: &str| state.deletions.iter().any(|it| it.install_id.as_str() == id);
        let is_lost = std::mem::take(&mut self.is_state_lost);
        if !is_lost && self.on_disk.iter().all(|(id, known)| known.is_over || is_there(id)) {
            return Ok(());
        }
        let by_ledger = disk.deletions_by_ledger();
        for (id, known) in self.on_disk.iter_mut().filter(|(id, known)| !known.is_over && !is_there(id)) {
            hold!(DeletionIsNotLost, by_ledger.get(id) == Some(&false), "{id} is not taken up: {by_ledger:?}");
            known.is_over = true;
        }
        if is_lost {
            // That one was cancelled or is done may have been in the state alone.
            for (id, _) in by_ledger.into_iter().filter(|(_, is_pending)| *is_pending) {
                hold!(DeletionIsNotLost, is_there(&id), "{id} is in the ledger, and not taken up");
                self.receipts.remove(&id);
                self.answered.remove(&id);
                self.wanted.insert(id);
            }
        }
        Ok(())
    }

    /// The process sees that the wall clock was set.
    pub fn clock_set(&mut self) {
        self.on_disk.values_mut().for_each(|known| known.is_unclear = true);
    }

    /// A ping is about to be sent.
    pub fn sends(&self, id: &str) -> Result<(), Violation> {
        hold!(ForgottenIsNotSent, !self.taken_back.contains(id), "{id}");
        Ok(())
    }

    /// The endpoint is about to be asked.
    pub fn asks(&mut self, at: u64, id: &InstallId, is_one_under_way: bool, disk: &Disk) -> Result<(), Violation> {
        let id = id.as_str();
        hold!(NotAskedAgain, !self.receipts.contains(id), "{id}");
        hold!(AskedOnRequest, self.wanted.contains(id), "{id}");
        let is_kept = disk.state.deletions.iter().any(|it| it.install_id.as_str() == id && it.end.is_none());
        hold!(DeletionIsNotLost, is_kept, "{id} is asked for, and the disk has {:?}", disk.state.deletions);
        let is_in_use = disk.identity.as_ref().is_some_and(|identity| identity.install_id.as_str() == id);
        hold!(ForgottenIsNotSent, !is_in_use, "{id} is still on the disk");
        hold!(DeletionsAreApart, !is_one_under_way, "two deletions under way");
        if let Some((before, other)) = self.last.replace((at, id.to_owned())) {
            hold!(DeletionsAreApart, other == id || at - before >= APART, "{id} right after {other}");
        }
        if let Some(known) = self.on_disk.get_mut(id) {
            known.tried.get_or_insert(at);
        }
        Ok(())
    }

    /// The engine is told what came of it.
    pub fn answers(&mut self, id: &InstallId, answer: &ForgetAnswer) {
        if matches!(answer, ForgetAnswer::Done(_)) {
            self.answered.insert(id.to_string());
        }
    }

    /// That answer is on the disk.
    pub fn answer_written(
        &mut self,
        at: u64,
        id: &InstallId,
        answer: &ForgetAnswer,
        disk: &Disk,
    ) -> Result<(), Violation> {
        match answer {
            ForgetAnswer::NotOffered => self.ended(),
            ForgetAnswer::NoContract if disk.state.deletions.iter().all(|it| it.end.is_some()) => self.ended(),
            ForgetAnswer::Failed { .. } | ForgetAnswer::NoContract => {
                let known = self.on_disk.get(id.as_str()).filter(|known| !known.is_unclear);
                let tried = known.and_then(|known| known.tried);
                let is_late = tried.is_some_and(|tried| at - tried >= RETRIED_FOR + SLEWED);
                let goes_on = disk.state.deletions.iter().any(|it| it.install_id == *id && it.end.is_none());
                hold!(GivenUpInTime, !is_late || !goes_on, "{id} goes on: {known:?} at {at}");
            }
            ForgetAnswer::Done(_) => {}
        }
        Ok(())
    }

    /// The engine wants this in the ledger.
    pub fn tells_the_truth(&self, entry: &Entry) -> Result<(), Violation> {
        let Some(id) = entry.install_id.as_ref().filter(|_| entry.kind == EntryKind::Forgotten) else { return Ok(()) };
        hold!(LedgerTellsTheTruth, self.answered.contains(id.as_str()), "{id} is not deleted");
        Ok(())
    }

    /// This is on the disk, durably.
    pub fn written(&mut self, at: u64, now: Now, action: &DiskAction) -> Result<(), Violation> {
        match action {
            DiskAction::Save(state) if !(state.deletions.is_empty() && self.on_disk.is_empty()) => {
                self.state_written(at, now, state)
            }
            DiskAction::Record(entry) => self.recorded(at, entry),
            _ => Ok(()),
        }
    }

    fn state_written(&mut self, at: u64, now: Now, state: &State) -> Result<(), Violation> {
        let is_there = |id: &str| state.deletions.iter().any(|it| it.install_id.as_str() == id);
        for (id, known) in &self.on_disk {
            hold!(DeletionIsNotLost, known.is_over || is_there(id), "{id} is gone, and its end was not recorded");
        }
        self.on_disk.retain(|id, _| is_there(id));
        for deletion in &state.deletions {
            let id = deletion.install_id.to_string();
            self.taken_back.insert(id.clone());
            let late = now.wall.duration_since(deletion.since).as_nanos().unsigned_abs() > u128::from(SLEWED);
            let new = Known { asked: at, tried: None, is_unclear: late, is_over: false };
            let known = self.on_disk.entry(id.clone()).or_insert(new);
            match &deletion.end {
                // Asked for again; of one that is done only once it was left.
                None if known.is_over && !self.receipts.contains(&id) => *known = new,
                Some(DeletionEnd::Forgotten(_)) => drop(self.receipts.insert(id)),
                _ => {}
            }
        }
        Ok(())
    }

    fn recorded(&mut self, at: u64, entry: &Entry) -> Result<(), Violation> {
        let Some(id) = entry.install_id.as_ref().map(|id| id.as_str()) else { return Ok(()) };
        let known = self.on_disk.get_mut(id);
        match entry.kind {
            EntryKind::Forgotten => drop(self.receipts.insert(id.to_owned())),
            EntryKind::ForgetFailed if entry.reason == Some(LedgerReason::GaveUp) => {
                let known = known.as_ref().filter(|known| !known.is_unclear);
                let is_early = known.is_some_and(|known| at - known.asked + SLEWED < RETRIED_FOR);
                hold!(GivenUpInTime, !is_early, "{id} after {known:?}");
                self.wanted.remove(id);
            }
            EntryKind::ForgetFailed => {}
            _ => return Ok(()),
        }
        if let Some(known) = self.on_disk.get_mut(id) {
            known.is_over = true;
        }
        Ok(())
    }

    /// Nothing is wrong, and has not been for long.
    pub fn nobody_waits(&self, at: u64) -> Result<(), Violation> {
        let waits = |known: &Known| !known.is_over && at - known.asked > CALM;
        hold!(DeletionsGoOn, !self.on_disk.values().any(waits), "{:?} at hour {}", self.on_disk, at / HOUR);
        Ok(())
    }

    /// What decides of a violation later, with times as ages.
    pub fn relative(&self, age: impl Fn(u64) -> u64) -> impl std::fmt::Debug {
        let known = |(id, it): (&String, &Known)| (id.clone(), age(it.asked), it.is_unclear, it.is_over);
        let on_disk: Vec<_> = self.on_disk.iter().map(known).collect();
        let last = self.last.as_ref().map(|(time, id)| (age(*time), id.clone()));
        (
            on_disk,
            self.is_state_lost,
            self.wanted.clone(),
            self.taken_back.clone(),
            self.answered.clone(),
            self.receipts.clone(),
            last,
        )
    }
}
