//! The state directory, which no other module touches.
//!
//! A file is replaced as a whole (a temporary one, fsync, rename, fsync of the directory), so that a crash leaves the
//! old one or the new one. A damaged file is put aside under a new name and said so. The ledger is appended, pruned and
//! erased; of a line that a crash tore the half is cut off and kept beside.

mod events;
mod ledger;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::{Action, State};
use crate::identity::Identity;
use crate::ping::Event;

pub use events::EventFile;
use ledger::Ledger;
pub use ledger::{HistoryPage, LINE_MAX, Line, Piece, sha256};

const ID_FILE: &str = ".install_id";
const SWITCH_FILE: &str = "off";
const STATE_FILE: &str = "state.json";
const LOCK_FILE: &str = "lock";
/// Written and removed at a start, to show that the directory can be written.
const PROBE_FILE: &str = "probe";

/// How often, and how far apart, a start tries to lock the directory.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The layout of `state.json` that this program writes.
const STATE_VERSION: u32 = 1;

/// What stands in `state.json`.
#[derive(Serialize, Deserialize)]
struct StateFile<S> {
    version: u32,
    state: S,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the lock.
    #[error(
        "the state directory {} is in use by another pulse-telemetry: stop that one, or name another state.dir; a \
         command finds that one by its serve.listen",
        .0.display()
    )]
    InUse(PathBuf),
    /// There is nothing to read a history from.
    #[error(
        "the state directory {} is not there: no daemon has run yet, or it runs with another state.dir \
         (PULSE_TELEMETRY_STATE__DIR)",
        .0.display()
    )]
    Missing(PathBuf),
    /// The directory cannot be made, read or written.
    #[error(
        "failed to use the state directory {}: {what}: {source}; it must be a directory that the user of this process \
         can write (run commands as the user that the daemon runs as), or name another one in state.dir \
         (PULSE_TELEMETRY_STATE__DIR)",
        dir.display()
    )]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// What was found in the directory.
#[derive(Debug, Default)]
pub struct Found {
    /// The valid record of an ID, however old.
    pub identity: Option<Identity>,
    /// The engine's memory, or that of a new installation.
    pub state: State,
    /// The local switch is off.
    pub switched_off: bool,
    /// The ping of an attempt that nothing closed.
    pub interrupted: Option<Event>,
    /// What was damaged and put aside, a sentence each.
    pub damage: Vec<String>,
    /// The directory ends with the container, in a sentence.
    pub goes_with_the_container: Option<String>,
}

/// What the daemon asks of the disk. [`Store`] is the real one; a simulation has one in memory.
pub trait Disk {
    /// Whether the local switch is off on disk. Where the disk cannot tell, nothing can be recorded there either, so
    /// nothing is sent.
    #[must_use]
    fn is_switched_off(&self) -> bool;

    /// Carries out one of the engine's actions on the disk; others are nothing to it.
    ///
    /// # Errors
    /// Where it cannot be written. What was there before is then still there.
    fn carry_out(&mut self, action: &Action, now: Timestamp) -> io::Result<()>;

    /// Removes the whole history, durably, and leaves one entry that says so.
    ///
    /// # Errors
    /// Where the disk cannot be written. Asking again is safe.
    fn erase_history(&mut self, now: Timestamp) -> io::Result<()>;

    /// The size of the history.
    #[must_use]
    fn ledger_bytes(&self) -> u64;

    /// The newest entries with a `seq` below `before`, at most so many.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    fn history(&self, before: Option<u64>, limit: usize) -> io::Result<HistoryPage>;
}

/// The state directory, locked.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    ledger: Ledger,
    /// Held open: the lock goes with it.
    _lock: File,
}

impl Store {
    /// Makes the directory where it is missing, locks it, reads what is there, and shows that it can be written.
    ///
    /// # Errors
    /// Where another process holds it, or it cannot be read or written.
    pub fn open(dir: &Path) -> Result<(Self, Found), StoreError> {
        let failed = |what| move |source| StoreError::Io { dir: dir.to_owned(), what, source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("making it"))?;
        let lock = open_private(dir, LOCK_FILE).map_err(failed("opening its lock"))?;
        // A command that looks at the directory holds the lock for a moment.
        let mut tries = 0;
        while matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)) && tries < LOCK_TRIES {
            std::thread::sleep(LOCK_PAUSE);
            tries += 1;
        }
        locked(lock.try_lock(), dir)?;
        replace(dir, PROBE_FILE, b"").and_then(|()| remove(dir, PROBE_FILE)).map_err(failed("writing to it"))?;
        let mut damage = Vec::new();
        let state = read_state(dir, &mut damage).map_err(failed("reading state.json"))?;
        let (ledger, interrupted) = Ledger::open(dir, &mut damage).map_err(failed("reading ledger.jsonl"))?;
        // The lock and the ledger may be new: their names must outlive a power loss as well.
        sync_dir(dir).map_err(failed("writing to it"))?;
        let goes_with_the_container = forgotten_with_the_container(dir).then(|| {
            format!(
                "The state directory {} is inside of this container and goes with it: each new container would be a \
                 new installation. Mount a volume there.",
                dir.display()
            )
        });
        let found =
            Found { state, interrupted, damage, goes_with_the_container, ..find(dir).map_err(failed("reading it"))? };
        Ok((Self { dir: dir.to_owned(), ledger, _lock: lock }, found))
    }

    /// Reads what is there and changes nothing, for a command where no daemon answers.
    ///
    /// # Errors
    /// Where a process holds the directory all the same, or it cannot be read.
    pub fn peek(dir: &Path) -> Result<Found, StoreError> {
        let failed = |what| move |source| StoreError::Io { dir: dir.to_owned(), what, source };
        match File::open(dir.join(LOCK_FILE)) {
            // Shared, so that two commands do not take each other for a daemon.
            Ok(lock) => locked(lock.try_lock_shared(), dir)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed("opening its lock")(source)),
        }
        let state = parse_state(read(&dir.join(STATE_FILE)).map_err(failed("reading state.json"))?);
        Ok(Found { state: state.unwrap_or_default(), ..find(dir).map_err(failed("reading it"))? })
    }
}

impl Disk for Store {
    fn is_switched_off(&self) -> bool {
        self.dir.join(SWITCH_FILE).try_exists().unwrap_or(false)
    }

    fn carry_out(&mut self, action: &Action, now: Timestamp) -> io::Result<()> {
        match action {
            Action::SaveSwitch { off: true } => replace(&self.dir, SWITCH_FILE, b""),
            Action::SaveSwitch { off: false } => remove(&self.dir, SWITCH_FILE),
            Action::SaveId(identity) => replace(&self.dir, ID_FILE, identity.to_file().as_bytes()),
            Action::DeleteId => remove(&self.dir, ID_FILE),
            Action::Save(state) => {
                let content = serde_json::to_vec(&StateFile { version: STATE_VERSION, state })?;
                replace(&self.dir, STATE_FILE, &content)
            }
            Action::Record(entry) => self.ledger.append(entry, now),
            Action::Prune { before, at_most } => self.ledger.prune(*before, *at_most, now),
            Action::CancelSend | Action::ReadPulse | Action::Send(_) | Action::WakeAt(_) => Ok(()),
        }
    }

    fn erase_history(&mut self, now: Timestamp) -> io::Result<()> {
        self.ledger.erase(now)
    }

    fn ledger_bytes(&self) -> u64 {
        self.ledger.bytes()
    }

    fn history(&self, before: Option<u64>, limit: usize) -> io::Result<HistoryPage> {
        self.ledger.page(before, limit)
    }
}

/// A page of the history as [`Disk::history`] gives it, read without the lock: where no daemon answers.
///
/// # Errors
/// Where the directory or the ledger cannot be read.
pub fn read_history(dir: &Path, before: Option<u64>, limit: usize) -> Result<HistoryPage, StoreError> {
    ledger::read_page(dir, before, limit).map_err(unreadable(dir))
}

/// Hands on the ledger piece by piece from its beginning, read without the lock: beside a running daemon too.
///
/// # Errors
/// Where the directory or the ledger cannot be read.
pub fn read_ledger(dir: &Path, each: impl FnMut(Piece<'_>)) -> Result<(), StoreError> {
    ledger::read(dir, each).map_err(unreadable(dir))
}

/// Whether a process holds the directory.
#[must_use]
pub fn is_in_use(dir: &Path) -> bool {
    File::open(dir.join(LOCK_FILE))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

fn unreadable(dir: &Path) -> impl FnOnce(io::Error) -> StoreError {
    |source| match source.kind() {
        io::ErrorKind::NotFound => StoreError::Missing(dir.to_owned()),
        _ => StoreError::Io { dir: dir.to_owned(), what: "reading ledger.jsonl", source },
    }
}

/// What came of locking the directory, which lasts for as long as the file is open.
fn locked(result: Result<(), fs::TryLockError>, dir: &Path) -> Result<(), StoreError> {
    match result {
        Ok(()) => Ok(()),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse(dir.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(StoreError::Io { dir: dir.to_owned(), what: "locking it", source }),
    }
}

/// Leaves the file of a switch that is off, in a directory that a daemon holds: it looks for it with every reading of
/// Pulse, and at its next start.
///
/// # Errors
/// Where it cannot be written.
pub fn leave_off(dir: &Path) -> io::Result<()> {
    replace(dir, SWITCH_FILE, b"")
}

/// Reads the ID and the switch.
fn find(dir: &Path) -> io::Result<Found> {
    Ok(Found {
        identity: read(&dir.join(ID_FILE))?.as_deref().and_then(Identity::parse),
        switched_off: dir.join(SWITCH_FILE).try_exists()?,
        ..Found::default()
    })
}

fn read_state(dir: &Path, notices: &mut Vec<String>) -> io::Result<State> {
    let path = dir.join(STATE_FILE);
    match parse_state(read(&path)?) {
        Some(state) => Ok(state),
        None => {
            notices.push(put_aside(&path)?);
            Ok(State::default())
        }
    }
}

/// The state in the file, that of a new installation where there is no file, `None` where it cannot be read.
fn parse_state(content: Option<Vec<u8>>) -> Option<State> {
    let Some(content) = content else { return Some(State::default()) };
    match serde_json::from_slice(&content) {
        Ok(StateFile { version: STATE_VERSION, state }) => Some(state),
        _ => None,
    }
}

/// Gives a damaged file a new name, and says which.
fn put_aside(path: &Path) -> io::Result<String> {
    let aside = unused_name(path, "damaged")?;
    fs::rename(path, &aside)?;
    Ok(format!("{} was damaged or is of another version; it was put aside as {}.", path.display(), aside.display()))
}

/// A name beside `path` that no file has yet.
fn unused_name(path: &Path, what: &str) -> io::Result<PathBuf> {
    let mut number = 1;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{what}-{number}"));
        let unused = PathBuf::from(name);
        if !unused.try_exists()? {
            return Ok(unused);
        }
        number += 1;
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a file that only its owner can read, and makes it where it is missing. What root makes belongs to the owner of the
/// directory, or the daemon, which runs as that user, could not use it.
fn open_private(dir: &Path, name: &str) -> io::Result<File> {
    let path = dir.join(name);
    match create_private(dir, &path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().read(true).write(true).open(&path)
        }
        created => created,
    }
}

/// Makes a file that is not there yet, as [`open_private`] does.
fn create_private(dir: &Path, path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    if rustix::process::geteuid().is_root() {
        let dir = fs::metadata(dir)?;
        if dir.uid() != file.metadata()?.uid() {
            // A root that may not do this keeps the file, as any other user would.
            let _ = fchown(&file, Some(dir.uid()), Some(dir.gid()));
        }
    }
    Ok(file)
}

/// An empty file for what is to take the place of another one. What a crash left of it goes first.
fn open_temporary(dir: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    let temporary = dir.join(name);
    let file = match create_private(dir, &temporary) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&temporary)?;
            create_private(dir, &temporary)?
        }
        created => created?,
    };
    Ok((temporary, file))
}

/// Replaces a file as a whole, durably.
fn replace(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let (temporary, mut file) = open_temporary(dir, &format!("{name}.new"))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    sync_dir(dir)
}

/// Removes a file, durably. One that is not there is fine.
fn remove(dir: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(dir.join(name)) {
        Ok(()) => sync_dir(dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Without this, a power loss can undo a rename.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether the directory is part of a container's own file system, which ends with the container.
fn forgotten_with_the_container(dir: &Path) -> bool {
    let in_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists());
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    in_container && device(dir).is_some_and(|dev| device(Path::new("/")) == Some(dev))
}
