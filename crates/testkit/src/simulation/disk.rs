//! The state directory: what outlives the process, and how writing it fails.

use std::collections::VecDeque;

use pulse_telemetry_core::engine::{DiskAction, Entry, EntryKind, State};
use pulse_telemetry_core::identity::Identity;
use pulse_telemetry_core::ping::Event;

use super::faults::Fault;
use crate::seeded::Seeded;

/// How writes fail for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Works,
    /// Files can be removed, but none can be written.
    Full,
    ReadOnly,
    /// Every other write fails.
    Flaky,
    /// Every other failure comes after the write was done: the directory could not be synced.
    LateErrors,
    /// One of the files cannot be written.
    Only(Part),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Switch,
    Id,
    State,
    Ledger,
}

impl Mood {
    pub fn draw(chance: &mut Seeded) -> Self {
        match chance.draw(8) {
            0 | 1 => Self::Full,
            2 => Self::ReadOnly,
            3 => Self::Flaky,
            4 => Self::LateErrors,
            _ => Self::Only([Part::Switch, Part::Id, Part::State, Part::Ledger][chance.draw(4) as usize]),
        }
    }
}

/// Entries that could not be written wait for the next one, at most so many.
const OWED_MAX: usize = 256;

#[derive(Debug)]
pub struct Disk {
    pub mood: Mood,
    pub switched_off: bool,
    pub identity: Option<Identity>,
    pub state: State,
    /// The ledger's last attempt that nothing closed.
    pub open: Option<Event>,
    /// An attempt was recorded while another one was open.
    pub left_open: bool,
    /// The ledger's last entry.
    pub last: Option<Entry>,
    owed: VecDeque<Entry>,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    Failed(Fault),
}

impl Disk {
    pub fn new() -> Self {
        Self {
            mood: Mood::Works,
            switched_off: false,
            identity: None,
            state: State::default(),
            open: None,
            left_open: false,
            last: None,
            owed: VecDeque::new(),
        }
    }

    /// Carries out an action on the state directory, or fails to.
    pub fn carry_out(&mut self, action: DiskAction, chance: &mut Seeded) -> Written {
        match self.fault(&action, chance) {
            None => {
                self.apply(action);
                Written::Done
            }
            Some(fault) => {
                match action {
                    // An attempt that could not be recorded is not made.
                    DiskAction::Record(entry) if entry.kind != EntryKind::Attempted && self.owed.len() < OWED_MAX => {
                        self.owed.push_back(entry);
                    }
                    DiskAction::Record(_) => {}
                    action if fault == Fault::ErrorAfterWrite => self.apply(action),
                    _ => {}
                }
                Written::Failed(fault)
            }
        }
    }

    /// What the process had in memory is gone.
    pub fn process_ends(&mut self) {
        self.owed.clear();
    }

    /// The write is done.
    pub fn apply(&mut self, action: DiskAction) {
        match action {
            DiskAction::SaveSwitch { off } => self.switched_off = off,
            DiskAction::SaveId(identity) => self.identity = Some(identity),
            DiskAction::DeleteId => self.identity = None,
            DiskAction::Save(state) => self.state = state,
            DiskAction::Record(entry) => {
                while let Some(owed) = self.owed.pop_front() {
                    self.append(owed);
                }
                self.append(entry);
            }
            DiskAction::Prune { .. } => {}
        }
    }

    fn append(&mut self, entry: Entry) {
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

    fn fault(&self, action: &DiskAction, chance: &mut Seeded) -> Option<Fault> {
        let part = match action {
            DiskAction::SaveSwitch { .. } => Part::Switch,
            DiskAction::SaveId(_) | DiskAction::DeleteId => Part::Id,
            DiskAction::Save(_) => Part::State,
            _ => Part::Ledger,
        };
        let removes = matches!(action, DiskAction::SaveSwitch { off: false } | DiskAction::DeleteId);
        match self.mood {
            Mood::Works => None,
            Mood::Full => (!removes).then_some(Fault::DiskFull),
            Mood::ReadOnly => Some(Fault::DiskReadOnly),
            Mood::Flaky => (chance.draw(2) == 0).then_some(Fault::WriteError),
            Mood::LateErrors => match chance.draw(4) {
                0 => Some(Fault::WriteError),
                1 => Some(Fault::ErrorAfterWrite),
                _ => None,
            },
            Mood::Only(bad) => (bad == part).then_some(Fault::WriteError),
        }
    }
}
