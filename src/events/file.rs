//! What stands in the events' file: the switch on the first line, then an event a line, the oldest first.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::{LocalEvent, Switch};

/// The layout that this program writes.
const VERSION: u32 = 1;

/// An event that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// When it was handed over, by this machine's clock.
    pub at: Timestamp,
    /// What was handed over.
    #[serde(flatten)]
    pub event: LocalEvent,
}

#[derive(Serialize, Deserialize)]
struct First<S> {
    version: u32,
    #[serde(flatten)]
    switch: S,
}

/// What a file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EventsFile {
    pub(super) switch: Switch,
    pub(super) kept: Vec<Kept>,
    /// A line could not be read.
    pub(super) damaged: bool,
}

impl EventsFile {
    /// Reads a file; `None` is one that is not there. Where the switch cannot be read it is off: damage turns nothing
    /// on.
    pub(super) fn parse(file: Option<&[u8]>) -> Self {
        let Some(file) = file else {
            return Self { switch: Switch::default(), kept: Vec::new(), damaged: false };
        };
        let mut lines = file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let first = lines.next().and_then(|line| serde_json::from_slice(line).ok());
        let switch = first.filter(|First { version, .. }| *version == VERSION).map(|First { switch, .. }| switch);
        let mut damaged = switch.is_none();
        let mut kept: Vec<Kept> = Vec::new();
        for line in lines {
            match serde_json::from_slice(line) {
                Ok(event) => kept.push(event),
                Err(_) => damaged = true,
            }
        }
        Self { switch: switch.unwrap_or(Switch { enabled: false, ..Switch::default() }), kept, damaged }
    }

    /// The file that says this.
    pub(super) fn encode(switch: &Switch, kept: &[Kept]) -> serde_json::Result<Vec<u8>> {
        let mut file = serde_json::to_vec(&First { version: VERSION, switch })?;
        file.push(b'\n');
        for event in kept {
            serde_json::to_writer(&mut file, event)?;
            file.push(b'\n');
        }
        Ok(file)
    }
}
