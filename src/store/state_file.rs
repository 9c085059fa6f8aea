//! `state.json`: its layout, and what its version number means.
//!
//! A file of an older layout is read and written anew, one of a newer layout is refused before anything is touched, and
//! one that is damaged is replaced: losing it costs a ping at a wrong time.

use pulse_telemetry_core::engine::State;
use serde::{Deserialize, Serialize};

/// The layout that this program writes. 2 has the ledger's last entry.
pub(super) const VERSION: u32 = 2;

/// The last entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) seq: u64,
    /// Its SHA-256, in hex.
    pub(super) hash: String,
}

/// What stands in the file.
#[derive(Serialize, Deserialize)]
struct Content<S> {
    version: u32,
    state: S,
    /// So that a ledger that is lost while no daemon runs is seen at the next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ledger: Option<Head>,
}

/// What a look at the file tells.
pub(super) enum FoundState {
    /// There is no file.
    Nothing,
    /// The engine's memory and the ledger's last entry then. `is_current`: in the layout that is written.
    State { state: Box<State>, head: Option<Head>, is_current: bool },
    /// It is of that layout, which this program does not know yet.
    Newer(u32),
    /// It cannot be read.
    Damaged,
}

/// Reads the file.
pub(super) fn parse(content: Option<&[u8]>) -> FoundState {
    #[derive(Deserialize)]
    struct VersionOnly {
        version: u32,
    }
    let Some(content) = content else { return FoundState::Nothing };
    match serde_json::from_slice(content) {
        Ok(VersionOnly { version }) if version > VERSION => return FoundState::Newer(version),
        Ok(VersionOnly { version: 1..=VERSION }) => {}
        _ => return FoundState::Damaged,
    }
    match serde_json::from_slice(content) {
        Ok(Content { version, state, ledger }) => {
            FoundState::State { state: Box::new(state), head: ledger, is_current: version == VERSION }
        }
        Err(_) => FoundState::Damaged,
    }
}

/// The file that says this.
pub(super) fn encode(state: &State, ledger: Option<Head>) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Content { version: VERSION, state, ledger })
}
