//! The disk: the state directory and the ledger that ship, on a file system in memory that fails, and on which the
//! power goes. What a witness sees of it is what a power loss would leave.

use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use pulse_telemetry::store::{Disk, HistoryPage, ReadSentIds, Store};
use pulse_telemetry_core::audit::Audit;
use pulse_telemetry_core::consent::{Fixed, Sources};
use pulse_telemetry_core::engine::{DiskAction, Entry, EntryKind, Start, State};
use pulse_telemetry_core::identity::Identity;
use pulse_telemetry_core::ledger::{Line, Piece};
use pulse_telemetry_core::ping::Event;
use pulse_telemetry_testkit::memory_fs::{MemoryFs, Which};
use pulse_telemetry_testkit::seeded::Seeded;
use serde::Deserialize;

use super::{Mistake, Shared, World};

const SWITCH: &str = "off";
const ID: &str = ".install_id";
const STATE: &str = "state.json";
const LEDGER: &str = "ledger.jsonl";

/// What is on the disk, and what the process has of it.
pub(super) struct Content {
    pub(super) fs: MemoryFs,
    store: Option<Store>,
    /// The files that the witness was told of last.
    told: [Option<Which>; 2],
    /// An attempt that a mistake writes down later.
    late: Option<(Entry, Timestamp)>,
}

/// An attempt that nothing has closed yet.
pub(super) struct OpenAttempt {
    pub(super) event: Event,
    pub(super) body: String,
}

impl Content {
    pub(super) fn new(chance: Seeded) -> Self {
        Self { fs: MemoryFs::new(chance), store: None, told: [None; 2], late: None }
    }

    pub(super) fn fails(&self) -> bool {
        self.fs.is_troubled()
    }

    pub(super) fn is_off(&self) -> bool {
        self.fs.which(SWITCH).is_some()
    }

    /// Somebody leaves the file of the switch.
    pub(super) fn leave_off(&self) {
        self.fs.put(SWITCH, b"");
    }

    /// The record of the ID.
    pub(super) fn id(&self) -> Option<String> {
        self.fs.which_durable(ID).map(|_| String::from_utf8(self.fs.read_durable_from(ID, 0)).unwrap())
    }

    pub(super) fn state(&self) -> State {
        #[derive(Deserialize)]
        struct File {
            state: State,
        }
        let content = self.fs.read_durable_from(STATE, 0);
        if content.is_empty() { State::default() } else { serde_json::from_slice::<File>(&content).unwrap().state }
    }

    /// The attempt that the ledger does not say the end of.
    pub(super) fn open_attempt(&self) -> Option<OpenAttempt> {
        let ledger = self.fs.read_durable_from(LEDGER, 0);
        for line in ledger.rsplit(|byte| *byte == b'\n').filter_map(Line::parse) {
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

    /// What the real audit finds in the ledger, once it was opened again.
    pub(super) fn audit(&mut self) -> Result<(), String> {
        self.power_up(false);
        let mut audit = Audit::new(Timestamp::MAX, None);
        let ledger = self.fs.read(LEDGER).unwrap_or_default();
        for line in ledger.split_inclusive(|byte| *byte == b'\n') {
            audit.take(line.strip_suffix(b"\n").map_or(Piece::Torn, Piece::Line));
        }
        let report = audit.finish();
        if report.is_clean() { Ok(()) } else { Err(format!("the audit found something\n{}", report.to_text())) }
    }

    /// What the next process finds. Where it cannot start, somebody sees to the disk first.
    fn power_up(&mut self, do_not_track: bool) -> Start {
        self.store = None;
        self.late = None;
        if self.fs.has_died() {
            self.fs.power_loss();
        } else {
            self.fs.process_ends();
        }
        let opened = Store::open_on(Arc::new(self.fs.clone()));
        let (store, found) = opened.unwrap_or_else(|_| {
            self.fs.mend();
            Store::open_on(Arc::new(self.fs.clone())).unwrap()
        });
        self.store = Some(store);
        let fixed = Fixed::new(None, do_not_track.then_some("1"), true);
        Start {
            sources: Sources { fixed, switched_off: found.switched_off, off_in_pulse: false },
            identity_is_ours: true,
            identity_is_forgotten: false,
            identity: found.identity,
            state: found.state,
            interrupted: found.interrupted,
        }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }
}

impl World {
    /// What the next process finds.
    pub(super) fn power_up(&mut self, do_not_track: bool) -> Start {
        let start = self.disk.power_up(do_not_track);
        self.tell_the_witness();
        start
    }

    fn write(&mut self, action: &DiskAction, now: Timestamp) -> io::Result<()> {
        let mistake = self.mistake;
        let disk = &mut self.disk;
        let done = match action {
            DiskAction::Record(entry) if mistake == Mistake::AttemptRecordedLate => {
                if let Some((late, at)) = disk.late.take() {
                    let _ = disk.store().carry_out(&DiskAction::Record(late), at);
                }
                if entry.kind == EntryKind::Attempted {
                    disk.late = Some((entry.clone(), now));
                    return Ok(());
                }
                disk.store().carry_out(action, now)
            }
            DiskAction::SaveSwitch { off: true } if mistake == Mistake::OffNotWritten => Ok(()),
            DiskAction::SaveId(_) if mistake == Mistake::IdNotWritten && disk.id().is_some() => Ok(()),
            DiskAction::Save(state) => {
                let mut state = state.clone();
                match mistake {
                    Mistake::DueTimeLost => state.heartbeat_due = None,
                    Mistake::StartupTimeLost => state.startup_attempted_at = None,
                    Mistake::PendingKept if state.pending.is_none() => state.pending = disk.state().pending,
                    _ => {}
                }
                disk.store().carry_out(&DiskAction::Save(state), now)
            }
            _ => disk.store().carry_out(action, now),
        };
        if let DiskAction::Record(entry) = action {
            self.tell_of(entry, done.is_ok());
        }
        self.tell_the_witness();
        done
    }

    /// Tells what became durable.
    fn tell_the_witness(&mut self) {
        let disk = &self.disk;
        let found = [disk.fs.which_durable(ID), disk.fs.which_durable(STATE)];
        let [had_id, had_state] = std::mem::replace(&mut self.disk.told, found);
        if had_id != found[0] {
            let id = self.disk.id().and_then(|record| Identity::parse(record.as_bytes()));
            self.witness.on_id(self.time.passed(), id.as_ref().map(|identity| identity.install_id.as_str()));
        }
        if had_state != found[1] {
            let pending = self.disk.state().pending;
            self.witness.on_pending(pending.as_ref().map(|pending| pending.body.as_str()));
        }
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
    fn is_switched_off(&self) -> io::Result<bool> {
        self.0.lock().disk.store().is_switched_off()
    }

    fn carry_out(&mut self, action: &DiskAction, now: Timestamp) -> io::Result<()> {
        self.0.lock().write(action, now)
    }

    fn confirm(&mut self) -> io::Result<()> {
        self.0.lock().disk.store().confirm()
    }

    fn take_notices(&mut self) -> Vec<String> {
        self.0.lock().disk.store().take_notices()
    }

    fn read_sent_ids(&self) -> ReadSentIds {
        self.0.lock().disk.store().read_sent_ids()
    }

    fn erase_history(&mut self, now: Timestamp) -> io::Result<()> {
        self.0.lock().disk.store().erase_history(now)
    }

    fn ledger_bytes(&self) -> u64 {
        self.0.lock().disk.store().ledger_bytes()
    }

    fn last_delivery(&self) -> Option<Timestamp> {
        self.0.lock().disk.store().last_delivery()
    }

    fn history(&self, before: Option<u64>, limit: usize) -> io::Result<HistoryPage> {
        self.0.lock().disk.store().history(before, limit)
    }
}
