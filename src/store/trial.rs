//! What a start needs of the state directory, done and undone.

use std::fs;
use std::path::Path;

use super::files::{Dir, EVENTS, LEDGER, LOCK, PROBE};
use super::{Found, State, Store, StoreError, find, lock, make_dir, parse_state, read_state, state_file};

impl Store {
    /// Does what [`Store::open`] needs to work, and leaves the directory as it was; one that is not there is made and
    /// removed.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn try_out(dir: &Path) -> Result<Found, StoreError> {
        let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
        let tried = make_dir(dir).and_then(|()| try_in(&Dir::new(dir)));
        for made in missing {
            // Where it could not be made, it is not there; where somebody else put something in it, it stays.
            let _ = fs::remove_dir(made);
        }
        tried
    }
}

fn try_in(dir: &Dir) -> Result<Found, StoreError> {
    let failed = |what| move |source| StoreError::Io { dir: dir.path().to_owned(), what, source };
    let state = match parse_state(dir, read_state(dir)?.as_deref())? {
        state_file::FoundState::State { state, .. } => *state,
        _ => State::default(),
    };
    let is_new = dir.look_at(LOCK.name).map_err(failed("opening its lock"))?.is_none();
    let held = lock(dir)?;
    let written = dir.replace(PROBE, b"").and_then(|()| dir.remove(PROBE)).map_err(failed("writing to it"));
    let read = || {
        dir.open_to_read(LEDGER).map_err(failed("reading ledger.jsonl"))?;
        dir.open_to_read(EVENTS).map_err(failed("reading events.jsonl"))?;
        Ok(Found { state, ..find(dir).map_err(failed("reading it"))? })
    };
    let found = written.and_then(|()| read());
    if is_new {
        dir.remove(LOCK).map_err(failed("writing to it"))?;
    }
    drop(held);
    found
}
