//! `state.json`: its layout, and what its version number means.
//!
//! A file of an older layout is read and written anew, one of a newer layout is refused before anything is touched, and
//! one that is damaged is replaced: losing it costs a ping at a wrong time.

use std::io;

use pulse_telemetry_core::engine::State;
use serde::{Deserialize, Serialize};

/// The newest layout that this program writes. 2 has the ledger's last entry; 3 has deletions that were asked for, and
/// is written only while there are any: an earlier version, which knows none, refuses the file then and loses none.
pub(super) const VERSION: u32 = 3;
const WITHOUT_DELETIONS: u32 = 2;

/// Most states are shorter.
const USUAL: usize = 1024;

/// The last entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) seq: u64,
    /// Its SHA-256, in hex.
    pub(super) hash: String,
}

/// What stands in the file.
#[derive(Deserialize)]
struct Content {
    version: u32,
    state: State,
    /// So that a ledger that is lost while no daemon runs is seen at the next start.
    #[serde(default)]
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
        Ok(Content { version, state, ledger }) if (1..=VERSION).contains(&version) => {
            let is_current = version == layout_of(&state);
            return FoundState::State { state: Box::new(state), head: ledger, is_current };
        }
        _ => {}
    }
    match serde_json::from_slice(content) {
        Ok(VersionOnly { version }) if version > VERSION => FoundState::Newer(version),
        _ => FoundState::Damaged,
    }
}

fn layout_of(state: &State) -> u32 {
    if state.deletions.is_empty() { WITHOUT_DELETIONS } else { VERSION }
}

/// How the file begins, up to the end of the state in it.
pub(super) fn encode_state(state: &State) -> io::Result<String> {
    let mut text = Vec::with_capacity(USUAL);
    text.extend_from_slice(format!("{{\"version\":{},\"state\":", layout_of(state)).as_bytes());
    serde_json::to_writer(&mut text, state)?;
    String::from_utf8(text).map_err(io::Error::other)
}

/// The file that begins so.
pub(super) fn encode(state: &str, ledger: Option<&Head>) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(state.len() + USUAL);
    text.extend_from_slice(state.as_bytes());
    if let Some(head) = ledger {
        text.extend_from_slice(b",\"ledger\":");
        serde_json::to_writer(&mut text, head)?;
    }
    text.push(b'}');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let head = Head { seq: 7, hash: "ab".to_owned() };
        for known in [None, Some(head)] {
            let text = encode(&encode_state(&State::default()).unwrap(), known.as_ref()).unwrap();
            let FoundState::State { state, head, is_current: true } = parse(Some(&text)) else { panic!("not a state") };
            assert_eq!((*state, head), (State::default(), known));
        }
    }
}
