//! The file of the local-only commercial events. What is in it is `events`' own affair.

use std::io;
use std::path::Path;

use super::StoreError;
use super::files::{Dir, EVENTS};

/// The file of the local events in a state directory. It is always replaced as a whole.
#[derive(Clone, Debug)]
pub struct EventFile {
    dir: Dir,
}

impl EventFile {
    /// The file in this directory; it need not be there.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: Dir::new(dir) }
    }

    /// What is in it; `None` where there is none, nor perhaps its directory, which the first start makes.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match self.dir.read(EVENTS) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read,
        }
    }

    /// What is in it, for a command, which tells of an error that it is the state directory's.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read_for_command(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.read().map_err(|source| StoreError::Io {
            dir: self.dir.path().to_owned(),
            what: "reading events.jsonl",
            source,
        })
    }

    /// Puts this in its place, durably.
    ///
    /// # Errors
    /// Where it cannot be written. What was there before is then still there.
    pub fn replace(&self, content: &[u8]) -> io::Result<()> {
        self.dir.replace(EVENTS, content)
    }

    /// Gives it a new name, because it is damaged, and says which.
    ///
    /// # Errors
    /// Where it cannot be renamed.
    pub fn put_aside(&self) -> io::Result<String> {
        self.dir.put_aside(EVENTS)
    }

    /// Removes what was put aside of it, durably.
    ///
    /// # Errors
    /// Where something of it cannot be removed.
    pub fn remove_what_was_put_aside(&self) -> io::Result<()> {
        self.dir.remove_put_aside(EVENTS)
    }
}
