//! The state directory that ships, on a disk in memory, and what somebody sees who looks at that disk.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use jiff::Timestamp;
use pulse_telemetry::store::{Disk as _, Found, Store, StoreError};
use pulse_telemetry_core::engine::{DiskAction, Entry, EntryKind, State};
use pulse_telemetry_core::identity::{Identity, InstallId};
use pulse_telemetry_core::ledger::{Piece, SentIds};
use pulse_telemetry_core::ping::Event;
use serde::Deserialize;

use crate::memory_fs::{MemoryFs, Mood, Vandalism, Which};
use crate::seeded::Seeded;

const SWITCH: &str = "off";
const ID: &str = ".install_id";
const STATE: &str = "state.json";
const LEDGER: &str = "ledger.jsonl";
const LOCK: &str = "lock";

/// How writes fail for a while.
pub fn draw_mood(chance: &mut Seeded) -> Mood {
    match chance.draw(9) {
        0 | 1 => Mood::Full,
        2 => Mood::ReadOnly,
        3 => Mood::Flaky,
        4 => Mood::LateErrors,
        5 => Mood::Hangs,
        _ => Mood::Only([SWITCH, ID, STATE, LEDGER][chance.draw(4) as usize]),
    }
}

#[derive(Clone, Debug)]
pub struct Disk {
    pub fs: MemoryFs,
    /// What the process has of it.
    store: Option<Store>,
    pub switched_off: bool,
    pub identity: Option<Identity>,
    pub state: State,
    /// The ledger's last attempt that nothing closed.
    pub open: Option<Event>,
    /// An attempt was recorded while another one was open.
    pub left_open: bool,
    /// The ledger's last entry.
    pub last: Option<LastEntry>,
    last_bytes: Bytes,
    /// How the state file begins, up to the end of the state in it.
    state_text: Bytes,
    id_file: Option<Which>,
    state_file: Option<Which>,
    ledger_file: Option<Which>,
    /// Where the last whole line ends that was read of it.
    read: u64,
    /// What was looked at is of this many changes of the file system.
    looked_at: u64,
    /// And this is what the store confirmed.
    confirmed_at: u64,
}

/// Bytes that are kept to be compared. Nothing shows them: that takes long.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }
}

/// What is read of a line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LastEntry {
    pub seq: u64,
    pub kind: EntryKind,
    pub event: Option<Event>,
    pub body: Option<String>,
}

impl Disk {
    pub fn new(fs: MemoryFs) -> Self {
        let mut disk = Self {
            fs,
            store: None,
            switched_off: false,
            identity: None,
            state: State::default(),
            open: None,
            left_open: false,
            last: None,
            last_bytes: Bytes::default(),
            state_text: Bytes::default(),
            id_file: None,
            state_file: None,
            ledger_file: None,
            read: 0,
            looked_at: u64::MAX,
            confirmed_at: u64::MAX,
        };
        disk.look();
        disk
    }

    /// A process starts.
    pub fn open(&mut self) -> Result<Found, StoreError> {
        let opened = Store::open_on(std::sync::Arc::new(self.fs.clone()));
        self.look();
        let (store, found) = opened?;
        self.store = Some(store);
        Ok(found)
    }

    /// What the process had in memory is gone.
    pub fn process_ends(&mut self) {
        (self.store, self.confirmed_at) = (None, u64::MAX);
        self.fs.process_ends();
    }

    pub fn power_loss(&mut self) {
        (self.store, self.confirmed_at) = (None, u64::MAX);
        self.fs.power_loss();
        self.look();
    }

    /// Carries out an action on the state directory, or fails to.
    pub fn carry_out(&mut self, action: &DiskAction, now: Timestamp) -> io::Result<()> {
        let done = self.store.as_mut().map_or(Ok(()), |store| store.carry_out(action, now));
        if let DiskAction::Save(state) = action {
            self.look_for(state);
        }
        self.look();
        done
    }

    /// As the daemon does before each attempt, and after all that it wrote.
    pub fn confirm(&mut self) -> io::Result<()> {
        // Where nothing changed since, the store would say the same.
        if self.fs.changed() == self.confirmed_at {
            return Ok(());
        }
        let confirmed = self.store.as_mut().map_or(Ok(()), Store::confirm);
        self.look();
        self.confirmed_at = if confirmed.is_ok() { self.fs.changed() } else { u64::MAX };
        confirmed
    }

    pub fn erase_history(&mut self, now: Timestamp) -> io::Result<()> {
        let erased = self.store.as_mut().map_or(Ok(()), |store| store.erase_history(now));
        self.look();
        erased
    }

    /// Looks at the disk, at what has changed there.
    pub fn look(&mut self) {
        let changed = self.fs.changed();
        if changed == self.looked_at {
            return;
        }
        self.looked_at = changed;
        self.switched_off = self.fs.which(SWITCH).is_some();
        let id_file = self.fs.which(ID);
        if id_file != self.id_file {
            self.identity = self.fs.read(ID).as_deref().and_then(Identity::parse);
            self.id_file = id_file;
        }
        let state_file = self.fs.which(STATE);
        if state_file != self.state_file {
            self.read_state();
            self.state_file = state_file;
        }
        // A line that is not durable may be taken back.
        let ledger_file = self.fs.which_durable(LEDGER);
        if ledger_file != self.ledger_file {
            self.read_ledger(ledger_file);
            self.ledger_file = ledger_file;
        }
    }

    /// Whether the state file says this, to the letter. That is found out sooner than what else it says.
    fn look_for(&mut self, state: &State) {
        let mut text = Vec::with_capacity(2048);
        let version = if state.deletions.is_empty() { 2 } else { 3 };
        text.extend_from_slice(format!("{{\"version\":{version},\"state\":").as_bytes());
        if serde_json::to_writer(&mut text, state).is_ok() && self.fs.begins_with(STATE, &text) {
            self.state.clone_from(state);
            self.state_text = Bytes(text);
            self.state_file = self.fs.which(STATE);
        }
    }

    fn read_state(&mut self) {
        if !self.state_text.0.is_empty() && self.fs.begins_with(STATE, &self.state_text.0) {
            return;
        }
        let content = self.fs.read(STATE).unwrap_or_default();
        self.state = state_of(&content).unwrap_or_default();
        self.state_text.0.clear();
    }

    /// Reads the lines that are new.
    fn read_ledger(&mut self, found: Option<Which>) {
        let Some(Which { id, length, rewritten }) = found else { return };
        let is_same = self.ledger_file.is_some_and(|known| known.id == id && known.rewritten == rewritten);
        if is_same && self.read <= length {
            let bytes = self.fs.read_durable_from(LEDGER, self.read);
            return self.take_lines(&bytes, self.read);
        }
        // Pruning makes another file of the end of the old one.
        for newest in [4 * 1024, NEWEST] {
            let from = length.saturating_sub(newest);
            let bytes = self.fs.read_durable_from(LEDGER, from);
            let lines = bytes.split_inclusive(|byte| *byte == b'\n');
            let mut end = bytes.len();
            let known = lines.rev().find_map(|line| {
                end -= line.len();
                (line.strip_suffix(b"\n") == Some(&self.last_bytes.0)).then_some(end + line.len())
            });
            if let Some(known) = known {
                return self.take_lines(&bytes[known..], from + known as u64);
            }
            if from == 0 || newest == NEWEST {
                // It is another history than the one that was followed.
                let left_open = self.left_open;
                self.open = None;
                self.take_lines(&bytes, from);
                self.left_open = left_open;
                return;
            }
        }
    }

    /// Takes the whole lines of these bytes, which stand there.
    fn take_lines(&mut self, bytes: &[u8], from: u64) {
        // What is behind the last newline is not a line yet.
        self.read = from;
        for line in bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            self.read += line.len() as u64;
            let line = &line[..line.len() - 1];
            line.clone_into(&mut self.last_bytes.0);
            if let Ok(entry) = serde_json::from_slice(line) {
                self.take(entry);
            }
        }
    }

    fn take(&mut self, entry: LastEntry) {
        match entry.kind {
            EntryKind::Attempted => {
                self.left_open |= self.open.is_some();
                self.open = entry.event;
            }
            EntryKind::Sent | EntryKind::Failed => self.open = None,
            _ => {}
        }
        self.last = Some(entry);
    }

    /// Whether what was acknowledged is under its name on the disk, and a power loss would leave it there.
    pub fn keeps(&self, action: &DiskAction) -> Result<(), String> {
        let file = match action {
            DiskAction::SaveSwitch { .. } => SWITCH,
            DiskAction::SaveId(_) | DiskAction::DeleteId => ID,
            DiskAction::Save(_) => STATE,
            DiskAction::Record(_) => LEDGER,
            // That something is no longer there.
            _ => return Ok(()),
        };
        let (live, durable) = (self.fs.which(file), self.fs.which_durable(file));
        let says = match action {
            DiskAction::SaveSwitch { off } => live.is_some() == *off,
            DiskAction::SaveId(identity) => self.identity.as_ref() == Some(identity),
            DiskAction::DeleteId => live.is_none(),
            DiskAction::Save(state) => self.state == *state,
            // What was followed of a ledger may be forgotten where somebody else wrote in it; the disk itself counts.
            DiskAction::Record(entry) => {
                let said = |line: &LastEntry| says(line, entry);
                live.is_some()
                    && (self.last.as_ref().is_some_and(said) || self.last_on_disk().as_ref().is_some_and(said))
            }
            _ => true,
        };
        if says && live == durable {
            return Ok(());
        }
        Err(format!("{file} is {live:?}, after a power loss {durable:?}, and does not say {action:?}"))
    }

    /// The last whole line of the ledger.
    fn last_on_disk(&self) -> Option<LastEntry> {
        let content = self.fs.read(LEDGER)?;
        let last = content.strip_suffix(b"\n")?.rsplit(|byte| *byte == b'\n').next()?;
        serde_json::from_slice(last).ok()
    }

    /// Somebody else removes a file while no process runs.
    pub fn lose(&mut self, what: Lost) {
        let file = match what {
            Lost::State => STATE,
            Lost::Id => ID,
            Lost::Ledger => LEDGER,
        };
        self.fs.take_away(file);
        if what == Lost::Ledger {
            self.forget_the_ledger();
        }
        self.look();
    }

    /// Somebody else does this to the ledger while a process may have it open.
    pub fn vandalise_the_ledger(&mut self, how: Vandalism) {
        self.fs.vandalise(LEDGER, how);
        self.forget_the_ledger();
        self.look();
        // What an older copy says of an attempt is nothing to the one that comes next.
        (self.open, self.last) = (None, None);
    }

    pub fn vandalise_the_lock(&mut self, how: Vandalism) {
        self.fs.vandalise(LOCK, how);
    }

    fn forget_the_ledger(&mut self) {
        (self.open, self.last) = (None, None);
        self.ledger_file = None;
    }

    /// Somebody else leaves the switch's file, or removes it.
    pub fn turn_by_hand(&mut self, off: bool) {
        if off {
            self.fs.put(SWITCH, b"");
        } else {
            self.fs.take_away(SWITCH);
        }
        self.look();
    }

    /// The IDs that the ledger holds attempts of.
    pub fn sent_ids(&self) -> Vec<InstallId> {
        let mut ids = SentIds::default();
        let ledger = self.fs.read(LEDGER).unwrap_or_default();
        ledger.split(|byte| *byte == b'\n').for_each(|line| ids.take(Piece::Line(line)));
        ids.into_ids()
    }

    /// The IDs of deletions that the ledger tells of, and whether they are pending.
    pub fn deletions_by_ledger(&self) -> BTreeMap<String, bool> {
        #[derive(Deserialize)]
        struct Told {
            kind: EntryKind,
            install_id: String,
        }
        let ledger = self.fs.read(LEDGER).unwrap_or_default();
        let told = ledger.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Told>(line).ok());
        told.map(|line| (line.install_id, line.kind == EntryKind::ForgetAsked)).collect()
    }

    pub fn last_seq(&self) -> u64 {
        self.last.as_ref().map_or(0, |line| line.seq)
    }

    pub fn works(&self) -> bool {
        self.fs.mood() == Mood::Works
    }
}

/// A list of actions writes less than this.
const NEWEST: u64 = 64 * 1024;

/// A file that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    State,
    Id,
    Ledger,
}

fn says(line: &LastEntry, entry: &Entry) -> bool {
    line.kind == entry.kind && line.event == entry.event && line.body.as_deref() == entry.body.as_deref()
}

fn state_of(content: &[u8]) -> Option<State> {
    #[derive(Deserialize)]
    struct Content {
        state: State,
    }
    serde_json::from_slice(content).ok().map(|content: Content| content.state)
}
