//! The disk: what a process leaves to the next one.
//!
//! A write is done as a whole or not at all; torn ones are what `storage_faults` and `system` are about. Nothing is
//! pruned: `ledger` does that with the real store.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;

use jiff::Timestamp;
use pulse_telemetry::store::{Disk, HistoryPage};
use pulse_telemetry_core::consent::{Fixed, Sources};
use pulse_telemetry_core::engine::{DiskAction, Entry, EntryKind, Start, State};
use pulse_telemetry_core::identity::Identity;
use pulse_telemetry_core::ledger::{Line, sha256};
use pulse_telemetry_core::ping::Event;
use pulse_telemetry_core::reason::ReasonWord;
use serde_json::value::RawValue;

use super::{Mistake, Shared, World};

/// What is on the disk, and what is wrong with it.
#[derive(Default)]
pub(super) struct Content {
    pub(super) off: bool,
    pub(super) id: Option<String>,
    pub(super) state: Option<String>,
    /// Each line without its newline.
    pub(super) ledger: Vec<Vec<u8>>,
    seq: u64,
    prev: String,
    /// What this process could not write yet.
    owed: VecDeque<(Entry, Timestamp)>,
    /// Every write fails.
    pub(super) full: bool,
    /// The write after so many more fails.
    pub(super) fails_at: Option<u32>,
    /// The power goes at the write after so many more.
    pub(super) dies_at: Option<u32>,
    pub(super) lost_power: bool,
}

/// An attempt that nothing has closed yet.
pub(super) struct OpenAttempt {
    pub(super) event: Event,
    pub(super) body: String,
}

impl Content {
    pub(super) fn fails(&self) -> bool {
        self.full || self.fails_at.is_some() || self.dies_at.is_some()
    }

    /// What the next process finds.
    pub(super) fn power_up(&mut self, do_not_track: bool) -> Start {
        self.lost_power = false;
        self.owed.clear();
        let fixed = Fixed::new(None, do_not_track.then_some("1"), true);
        Start {
            sources: Sources { fixed, switched_off: self.off, off_in_pulse: false },
            identity_is_ours: true,
            identity: self.id.as_deref().and_then(|id| Identity::parse(id.as_bytes())),
            state: self.state(),
            interrupted: self.open_attempt().map(|attempt| attempt.event),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state.as_deref().map(|state| serde_json::from_str(state).unwrap()).unwrap_or_default()
    }

    /// The attempt that the ledger does not say the end of.
    pub(super) fn open_attempt(&self) -> Option<OpenAttempt> {
        for line in self.ledger.iter().rev() {
            let line = Line::parse(line).unwrap();
            match line.kind {
                EntryKind::Sent | EntryKind::Failed => return None,
                EntryKind::Attempted => {
                    return Some(OpenAttempt { event: line.event.unwrap(), body: line.body.unwrap().into_owned() });
                }
                _ => {}
            }
        }
        None
    }

    /// What the real audit finds in the ledger.
    pub(super) fn audit(&self) -> Result<(), String> {
        let mut audit = pulse_telemetry_core::audit::Audit::new(Timestamp::MAX, None);
        for line in &self.ledger {
            audit.take(pulse_telemetry_core::ledger::Piece::Line(line));
        }
        let report = audit.finish();
        if report.is_clean() { Ok(()) } else { Err(format!("the audit found something\n{}", report.to_text())) }
    }

    /// Whether this write is made.
    fn may_write(&mut self) -> io::Result<()> {
        if counted_down(&mut self.dies_at) {
            self.lost_power = true;
        }
        if self.lost_power || counted_down(&mut self.fails_at) || self.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn append(&mut self, entry: &Entry, now: Timestamp) {
        let body = entry.body.as_deref();
        self.append_line(Line {
            event: entry.event,
            body: body.map(Cow::Borrowed),
            sha256: body.map(|body| sha256(body.as_bytes())),
            status: entry.status,
            reason: entry.reason.map(ReasonWord::Known),
            step_seconds: entry.step_seconds,
            interval_ms: entry.schedule.map(|(interval, _)| interval.as_millis() as u64),
            jitter_ms: entry.schedule.map(|(_, jitter)| jitter.as_millis() as u64),
            ..Line::new(entry.kind, now)
        });
    }

    fn append_line(&mut self, line: Line<'_>) {
        self.seq += 1;
        let line = serde_json::to_vec(&Line { seq: self.seq, prev: std::mem::take(&mut self.prev), ..line }).unwrap();
        self.prev = sha256(&line);
        self.ledger.push(line);
    }

    /// As the real ledger does it: what could not be written waits for the next entry, but for an attempt, which is not
    /// made.
    fn record(&mut self, entry: &Entry, now: Timestamp) -> io::Result<()> {
        if let Err(error) = self.may_write() {
            if entry.kind != EntryKind::Attempted {
                self.owed.push_back((entry.clone(), now));
            }
            return Err(error);
        }
        for (entry, at) in std::mem::take(&mut self.owed) {
            self.append(&entry, at);
        }
        self.append(entry, now);
        Ok(())
    }
}

/// Counts down to the write that it is about, and says whether this is it.
fn counted_down(count: &mut Option<u32>) -> bool {
    match count {
        Some(0) => {
            *count = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl World {
    fn write(&mut self, action: &DiskAction, now: Timestamp) -> io::Result<()> {
        let mistake = self.mistake;
        let disk = &mut self.disk;
        if let DiskAction::Record(entry) = action {
            if mistake == Mistake::AttemptRecordedLate && entry.kind == EntryKind::Attempted {
                disk.owed.push_back((entry.clone(), now));
                return Ok(());
            }
            let result = disk.record(entry, now);
            self.tell_of(entry, result.is_ok());
            return result;
        }
        disk.may_write()?;
        match action {
            DiskAction::SaveSwitch { off } => disk.off = *off && mistake != Mistake::OffNotWritten,
            DiskAction::SaveId(_) if mistake == Mistake::IdNotWritten && disk.id.is_some() => {}
            DiskAction::SaveId(identity) => {
                disk.id = Some(identity.to_file());
                self.witness.on_id(self.time.passed(), Some(identity.install_id.as_str()));
            }
            DiskAction::DeleteId => {
                disk.id = None;
                self.witness.on_id(self.time.passed(), None);
            }
            DiskAction::Save(state) => {
                let mut state = state.clone();
                match mistake {
                    Mistake::DueTimeLost => state.heartbeat_due = None,
                    Mistake::StartupTimeLost => state.startup_attempted_at = None,
                    Mistake::PendingKept if state.pending.is_none() => state.pending = disk.state().pending,
                    _ => {}
                }
                disk.state = Some(serde_json::to_string(&state).unwrap());
                self.witness.on_pending(state.pending.as_ref().map(|pending| pending.body.as_str()));
            }
            _ => {}
        }
        Ok(())
    }

    fn tell_of(&mut self, entry: &Entry, written: bool) {
        let Entry { kind, event, status, reason, .. } = entry;
        let but = if written { "" } else { ", and could not be recorded" };
        self.tell(format_args!("{} {event:?} {status:?} {reason:?}{but}", kind.word()));
    }
}

/// The disk as the daemon has it.
pub(super) struct SimulatedDisk(pub(super) Shared);

impl Disk for SimulatedDisk {
    fn is_switched_off(&self) -> bool {
        self.0.lock().disk.off
    }

    fn carry_out(&mut self, action: &DiskAction, now: Timestamp) -> io::Result<()> {
        self.0.lock().write(action, now)
    }

    fn confirm(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn take_notices(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn erase_history(&mut self, now: Timestamp) -> io::Result<()> {
        let disk = &mut self.0.lock().disk;
        disk.may_write()?;
        disk.ledger.clear();
        disk.owed.clear();
        disk.append_line(Line::new(EntryKind::Erased, now));
        Ok(())
    }

    fn ledger_bytes(&self) -> u64 {
        self.0.lock().disk.ledger.iter().map(|line| line.len() as u64).sum()
    }

    fn last_delivery(&self) -> Option<Timestamp> {
        let lines = self.0.lock().disk.ledger.iter().rev().filter_map(|line| Line::parse(line)).collect::<Vec<_>>();
        lines.iter().find(|line| line.kind == EntryKind::Sent).map(|line| line.at)
    }

    fn history(&self, before: Option<u64>, limit: usize) -> io::Result<HistoryPage> {
        let disk = &self.0.lock().disk;
        let as_stored = |line: &Vec<u8>| RawValue::from_string(String::from_utf8(line.clone()).unwrap()).unwrap();
        let older = |line: &&Vec<u8>| before.is_none_or(|before| Line::parse(line).unwrap().seq < before);
        let entries: Vec<_> = disk.ledger.iter().rev().filter(older).take(limit).map(as_stored).collect();
        Ok(HistoryPage { entries, before: None })
    }
}
