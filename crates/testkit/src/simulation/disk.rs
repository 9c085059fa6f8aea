//! The state directory that ships, on a disk in memory, and what somebody sees who looks at that disk.

use std::io;

use jiff::Timestamp;
use pulse_telemetry::store::{Disk as _, Found, Store, StoreError};
use pulse_telemetry_core::engine::{DiskAction, Entry, EntryKind, State};
use pulse_telemetry_core::identity::Identity;
use pulse_telemetry_core::ledger::Line;
use pulse_telemetry_core::ping::Event;

use crate::memory_fs::{MemoryFs, Mood, Vandalism};
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

/// Which file it is, and its length.
type Which = Option<(u64, u64)>;

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
    pub last: Option<Line<'static>>,
    last_bytes: Vec<u8>,
    id_file: Which,
    state_file: Which,
    ledger_file: Which,
    /// Where the last whole line ends that was read of it.
    read: u64,
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
            last_bytes: Vec::new(),
            id_file: None,
            state_file: None,
            ledger_file: None,
            read: 0,
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
        self.store = None;
        self.fs.process_ends();
    }

    pub fn power_loss(&mut self) {
        self.store = None;
        self.fs.power_loss();
        self.look();
    }

    /// Carries out an action on the state directory, or fails to.
    pub fn carry_out(&mut self, action: &DiskAction, now: Timestamp) -> io::Result<()> {
        let done = self.store.as_mut().map_or(Ok(()), |store| store.carry_out(action, now));
        self.look();
        done
    }

    /// As the daemon does before each attempt, and after all that it wrote.
    pub fn confirm(&mut self) -> io::Result<()> {
        let confirmed = self.store.as_mut().map_or(Ok(()), Store::confirm);
        self.look();
        confirmed
    }

    pub fn erase_history(&mut self, now: Timestamp) -> io::Result<()> {
        let erased = self.store.as_mut().map_or(Ok(()), |store| store.erase_history(now));
        self.look();
        erased
    }

    /// Looks at the disk, at what has changed there.
    pub fn look(&mut self) {
        self.switched_off = self.fs.which(SWITCH).is_some();
        let id_file = self.fs.which(ID);
        if id_file != self.id_file {
            self.identity = self.fs.read(ID).as_deref().and_then(Identity::parse);
            self.id_file = id_file;
        }
        let state_file = self.fs.which(STATE);
        if state_file != self.state_file {
            self.state = self.fs.read(STATE).as_deref().and_then(state_of).unwrap_or_default();
            self.state_file = state_file;
        }
        // A line that is not durable may be taken back.
        let ledger_file = self.fs.which_durable(LEDGER);
        if ledger_file != self.ledger_file {
            self.read_ledger(ledger_file);
            self.ledger_file = ledger_file;
        }
    }

    /// Reads the lines that are new.
    fn read_ledger(&mut self, found: Which) {
        let Some((id, length)) = found else { return };
        let is_same = self.ledger_file.is_some_and(|(known, _)| known == id) && self.read <= length;
        let from = if is_same { self.read } else { length.saturating_sub(NEWEST) };
        let bytes = self.fs.read_durable_from(LEDGER, from);
        // What is behind the last newline is not a line yet.
        self.read = from + bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1);
        let whole = bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
        // Pruning makes another file of the end of the old one.
        let of_old = whole.clone().position(|line| !is_same && line == self.last_bytes).map_or(0, |at| at + 1);
        for line in whole.skip(of_old) {
            line.clone_into(&mut self.last_bytes);
            if let Some(line) = Line::parse(line) {
                self.take(line);
            }
        }
    }

    fn take(&mut self, line: Line<'static>) {
        match line.kind {
            EntryKind::Attempted => {
                self.left_open |= self.open.is_some();
                self.open = line.event;
            }
            EntryKind::Sent | EntryKind::Failed => self.open = None,
            _ => {}
        }
        self.last = Some(line);
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
            DiskAction::Record(entry) => live.is_some() && self.last.as_ref().is_some_and(|line| says(line, entry)),
            _ => true,
        };
        if says && live == durable {
            return Ok(());
        }
        Err(format!("{file} is {live:?}, after a power loss {durable:?}, and does not say {action:?}"))
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

fn says(line: &Line<'_>, entry: &Entry) -> bool {
    line.kind == entry.kind && line.event == entry.event && line.body.as_deref() == entry.body.as_deref()
}

fn state_of(content: &[u8]) -> Option<State> {
    #[derive(serde::Deserialize)]
    struct Content {
        state: State,
    }
    serde_json::from_slice(content).ok().map(|content: Content| content.state)
}
