//! The state directory, which no other module touches.
//!
//! A file is replaced as a whole (a temporary one, fsync, rename, fsync of the directory), so that a crash leaves the
//! old one or the new one. The ledger is appended, pruned and erased; of a line that a crash tore the half is cut off
//! and kept beside. What was acknowledged is on the disk under its name: where the ledger or the lock is not any more,
//! nothing is written until both are taken up anew.

mod events;
mod files;
pub mod fs;
mod ledger;
mod state_file;
mod trial;

use std::fs::{TryLockError, symlink_metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry_core::engine::{DiskAction, State};
use pulse_telemetry_core::identity::{Identity, InstallId};
use pulse_telemetry_core::ledger::{KeptDeletions, Piece};
use pulse_telemetry_core::ping::Event;
use pulse_telemetry_process::acting;

pub use events::EventFile;
use files::{Dir, EVENTS, ID, LEDGER, LOCK, NotLocked, PROBE, STATE, SWITCH};
use fs::{FileId, Fs, FsFile, Kind, RealFs};
pub use ledger::HistoryPage;
use ledger::Ledger;
use state_file::Head;

/// How often, and how far apart, a start tries to lock the directory.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

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
    /// A newer version of this program wrote it. Nothing there was touched.
    #[error(
        "{} was written by a newer version of pulse-telemetry (its layout is {found}, and this one knows {}): run that \
         version, or name another state.dir (PULSE_TELEMETRY_STATE__DIR)",
        file.display(), state_file::VERSION
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its layout.
        found: u32,
    },
    /// Nothing is in it, and it is in another one, whose switch, ID and history it would pass over.
    #[error(
        "there is no state in the state directory {}, and {} is one: name that in state.dir \
         (PULSE_TELEMETRY_STATE__DIR), or move what is in it",
        dir.display(), outer.display()
    )]
    Within {
        /// The directory.
        dir: PathBuf,
        /// The one that it would be in.
        outer: PathBuf,
    },
    /// The directory cannot be made, read or written.
    #[error("failed to use the state directory {}: {what}: {source}; {}", dir.display(), files::advice(source))]
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
    /// What a start should warn of, a sentence each: the directory ends with the container, or others can write there.
    pub warnings: Vec<String>,
}

/// Reads the IDs that attempts were made with.
pub type ReadSentIds = Box<dyn FnOnce() -> io::Result<Vec<InstallId>> + Send>;

/// What the daemon asks of the disk. [`Store`] is the real one; a simulation has one in memory.
pub trait Disk {
    /// Whether the local switch is off on disk.
    ///
    /// # Errors
    /// Where it cannot be looked at. Nothing is sent then; but that is no operator's off, which would take the ID.
    fn is_switched_off(&self) -> io::Result<bool>;

    /// Carries out one of the engine's actions on the disk.
    ///
    /// # Errors
    /// Where it cannot be written. What was there before is then still there.
    fn carry_out(&mut self, action: &DiskAction, now: Timestamp) -> io::Result<()>;

    /// Whether everything that was acknowledged is on the disk, under its name, and the switch can be looked at.
    /// Nothing is sent otherwise.
    ///
    /// # Errors
    /// Where it is not. The next action takes up what is there then.
    fn confirm(&mut self) -> io::Result<()>;

    /// What somebody should know of what was found while the daemon runs, a sentence each; each once.
    #[must_use]
    fn take_notices(&mut self) -> Vec<String>;

    /// Reads the IDs that attempts were made with, as far as the history tells, wherever it is called: a long history
    /// takes its time.
    #[must_use]
    fn read_sent_ids(&self) -> ReadSentIds;

    /// Removes the whole history, durably, and leaves one entry that says so.
    ///
    /// # Errors
    /// Where the disk cannot be written. Asking again is safe.
    fn erase_history(&mut self, now: Timestamp) -> io::Result<()>;

    /// The size of the history.
    #[must_use]
    fn ledger_bytes(&self) -> u64;

    /// When a ping was last delivered, as far as the history tells.
    #[must_use]
    fn last_delivery(&self) -> Option<Timestamp>;

    /// The newest entries with a `seq` below `before`, at most `limit`.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    fn history(&self, before: Option<u64>, limit: usize) -> io::Result<HistoryPage>;
}

/// The state directory, locked.
#[derive(Clone, Debug)]
pub struct Store {
    dir: Dir,
    lock: Lock,
    ledger: Ledger,
    /// How `state.json` begins: what it says, but for the ledger's last entry.
    state: String,
    /// What it says of that; `None` where it has to be written anew in any case.
    kept_head: Option<Option<Head>>,
    /// The lock or the ledger is not under its name any more: both are taken up before anything else is written.
    lost: bool,
    notices: Vec<String>,
}

/// The lock of the directory, which lasts for as long as the file is open.
#[derive(Clone, Debug)]
struct Lock {
    _held: Arc<dyn FsFile>,
    id: FileId,
}

impl Store {
    /// Makes the directory where it is missing, locks it, reads what is there, and shows that it can be written.
    ///
    /// # Errors
    /// Where another process holds it, a newer version wrote it, or it cannot be read or written.
    pub fn open(dir: &Path) -> Result<(Self, Found), StoreError> {
        Self::open_on(Arc::new(RealFs::new(dir)))
    }

    /// [`Self::open`] of a directory of that file system.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn open_on(fs: Arc<dyn Fs>) -> Result<(Self, Found), StoreError> {
        let dir = &Dir::on(fs);
        let failed = |what| move |source| StoreError::Io { dir: dir.path().to_owned(), what, source };
        dir.fs().make().map_err(failed("making it"))?;
        // Before anything is touched: a newer version's directory stays as it is.
        let before = read_state(dir)?;
        let mut found = parse_state(dir, before.as_deref())?;
        let lock = lock(dir)?;
        dir.remove_temporaries()
            .and_then(|()| dir.replace(PROBE, b""))
            .and_then(|()| dir.remove(PROBE))
            .map_err(failed("writing to it"))?;
        let (mut damage, mut kept_head) = (Vec::new(), None);
        let content = read_state(dir)?;
        if content != before {
            found = parse_state(dir, content.as_deref())?;
        }
        let (state, head) = match found {
            state_file::FoundState::State { state, head, is_current } => {
                kept_head = is_current.then(|| head.clone());
                (*state, head)
            }
            state_file::FoundState::Damaged | state_file::FoundState::Newer(_) => {
                damage.push(format!(
                    "{} was damaged; it is replaced, and the schedule begins anew; deletions go on.",
                    dir.path().join(STATE.name).display()
                ));
                (State::default(), None)
            }
            state_file::FoundState::Nothing => {
                kept_head = Some(None);
                (State::default(), None)
            }
        };
        let known = head.as_ref().map_or(0, |head| head.seq);
        let (ledger, interrupted) = Ledger::open(dir, head, &mut damage).map_err(failed("reading ledger.jsonl"))?;
        let deletions = ledger.deletions(known, state.deletions.clone()).map_err(failed("reading ledger.jsonl"))?;
        if deletions != state.deletions {
            kept_head = None;
        }
        let state = State { deletions, ..state };
        let found = find(dir).map_err(failed("reading it"))?;
        let encoded = state_file::encode_state(&state).map_err(failed("writing state.json"))?;
        let mut store =
            Self { dir: dir.clone(), lock, ledger, state: encoded, kept_head, lost: false, notices: Vec::new() };
        store.keep_head().map_err(failed("writing state.json"))?;
        // An older version kept what it could not read.
        dir.remove_put_aside(STATE).map_err(failed("writing to it"))?;
        // The lock and the ledger may be new: their names must outlive a power loss as well.
        dir.sync().map_err(failed("writing to it"))?;
        let found = Found { state, interrupted, damage, warnings: dir.fs().warnings(), ..found };
        Ok((store, found))
    }

    /// Reads what is there and changes nothing, for a command where no daemon answers.
    ///
    /// # Errors
    /// Where a process holds the directory all the same, a newer version wrote it, or it cannot be read.
    pub fn peek(dir: &Path) -> Result<Found, StoreError> {
        let failed = |what| move |source| StoreError::Io { dir: dir.to_owned(), what, source };
        let dir = &Dir::new(dir);
        match dir.open_to_read(LOCK) {
            // Shared, so that two commands do not take each other for a daemon.
            Ok(Some(lock)) => locked(lock.try_lock_shared(), dir)?,
            Ok(None) => not_within_another(dir.path())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return not_within_another(dir.path()).map(|()| Found::default());
            }
            Err(source) => return Err(failed("opening its lock")(source)),
        }
        let state = match parse_state(dir, read_state(dir)?.as_deref())? {
            state_file::FoundState::State { state, .. } => *state,
            _ => {
                let mut deletions = KeptDeletions::new(0, Vec::new());
                // What cannot be read tells of none.
                let _ = ledger::read(dir, |piece| deletions.take(piece));
                State { deletions: deletions.into_deletions(), ..State::default() }
            }
        };
        Ok(Found { state, ..find(dir).map_err(failed("reading it"))? })
    }

    /// Whether the lock and the ledger are under their names.
    fn check(&self) -> io::Result<()> {
        self.check_the_lock()?;
        self.ledger.check()
    }

    /// Where the lock is not under its name, another daemon may hold the directory.
    fn check_the_lock(&self) -> io::Result<()> {
        let lock = self.dir.look_at(LOCK.name)?.map(|found| found.id);
        if lock == Some(self.lock.id) {
            return Ok(());
        }
        let what = if lock.is_none() { "is missing" } else { "is another file than the one that is locked" };
        Err(io::Error::other(format!("{} {what}", self.dir.path().join(LOCK.name).display())))
    }

    /// Takes up the lock and the ledger that are there now, where one of them was lost. The action that finds the lock
    /// gone fails: the other files may be gone with it, and are written anew only after a failure.
    fn take_up(&mut self, now: Timestamp) -> io::Result<()> {
        if !self.lost {
            return self.check_the_lock().inspect_err(|_| self.lost = true);
        }
        let lost = self.check().err();
        let taken_up = self.take_up_what_was_lost(now);
        self.lost = taken_up.is_err();
        taken_up.map_err(|error| match lost {
            Some(lost) => io::Error::new(error.kind(), format!("{lost}; {error}")),
            None => error,
        })
    }

    fn take_up_what_was_lost(&mut self, now: Timestamp) -> io::Result<()> {
        if self.check_the_lock().is_err() {
            self.lock = lock(&self.dir).map_err(io::Error::other)?;
        }
        match self.ledger.check() {
            Ok(()) => Ok(()),
            Err(_) => self.ledger.take_up(now, &mut self.notices),
        }
    }

    /// Makes `state.json` say what it should of the ledger's last entry.
    fn keep_head(&mut self) -> io::Result<()> {
        let head = self.ledger.head();
        if self.kept_head.as_ref() == Some(&head) {
            return Ok(());
        }
        self.dir.replace(STATE, &state_file::encode(&self.state, head.as_ref())?)?;
        self.kept_head = Some(head);
        Ok(())
    }

    fn try_to(&mut self, action: &DiskAction, now: Timestamp) -> io::Result<()> {
        match action {
            DiskAction::SaveSwitch { off: true } => save_off(&self.dir),
            DiskAction::SaveSwitch { off: false } => remove_off(&self.dir),
            DiskAction::SaveId(identity) => self.dir.replace(ID, identity.to_file().as_bytes()),
            DiskAction::DeleteId => {
                self.dir.remove(ID)?;
                self.dir.remove_temporaries()?;
                self.dir.remove_put_aside(LEDGER)
            }
            DiskAction::Save(state) => {
                self.state = state_file::encode_state(state)?;
                self.kept_head = None;
                self.keep_head()
            }
            DiskAction::Record(entry) => self.ledger.append(entry, now),
            DiskAction::Prune { before, at_most } => {
                self.ledger.prune(*before, *at_most, now)?;
                [LEDGER, EVENTS].into_iter().try_for_each(|file| self.dir.prune_put_aside(file, *before, *at_most, now))
            }
        }
    }
}

impl Disk for Store {
    fn is_switched_off(&self) -> io::Result<bool> {
        is_switched_off(&self.dir)
    }

    fn carry_out(&mut self, action: &DiskAction, now: Timestamp) -> io::Result<()> {
        let taken_up = self.take_up(now);
        // An off is written whatever else is wrong; anything else might be written over what another process wrote.
        if taken_up.is_err() && !matches!(action, DiskAction::SaveSwitch { off: true }) {
            if let DiskAction::Record(entry) = action {
                self.ledger.owe(entry, now);
            }
            return taken_up;
        }
        let done = self.try_to(action, now);
        self.lost |= done.is_err() && self.check().is_err();
        taken_up.and(done)
    }

    fn confirm(&mut self) -> io::Result<()> {
        self.check().inspect_err(|_| self.lost = true)?;
        self.is_switched_off()?;
        self.ledger.tidy()?;
        self.keep_head()
    }

    fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn read_sent_ids(&self) -> ReadSentIds {
        let checked = self.ledger.check();
        let ledger = self.ledger.clone();
        Box::new(move || checked.and_then(|()| ledger.sent_ids()))
    }

    fn erase_history(&mut self, now: Timestamp) -> io::Result<()> {
        if self.check_the_lock().is_err() {
            self.take_up(now)?;
        }
        self.ledger.erase(now)?;
        self.dir.remove_temporaries()?;
        self.dir.remove_put_aside(LEDGER)?;
        self.keep_head()
    }

    fn ledger_bytes(&self) -> u64 {
        self.ledger.bytes()
    }

    fn last_delivery(&self) -> Option<Timestamp> {
        self.ledger.last_delivery()
    }

    fn history(&self, before: Option<u64>, limit: usize) -> io::Result<HistoryPage> {
        self.ledger.page(before, limit)
    }
}

/// Lets a command at the state directory; one of root's acts as its owner. Where the lock there is root's own, the
/// daemon ran as root, whatever user has the directory, and its files are root's.
pub fn as_owner<T>(dir: &Path, work: impl FnOnce() -> T) -> T {
    let is_roots = |lock: std::fs::Metadata| lock.is_file() && lock.uid() == 0 && lock.nlink() == 1;
    if symlink_metadata(dir.join(LOCK.name)).is_ok_and(is_roots) {
        return work();
    }
    acting::as_owner(dir, work)
}

/// Makes a state directory where it is missing, so that only its owner can use it.
///
/// # Errors
/// Where it cannot be made, or has nothing in it and is within another one.
pub fn make_dir(dir: &Path) -> Result<(), StoreError> {
    not_within_another(dir)?;
    RealFs::new(dir).make().map_err(|source| StoreError::Io { dir: dir.to_owned(), what: "making it", source })
}

/// An image that looks one level deeper than the one before must not take its volume for a new installation's.
fn not_within_another(dir: &Path) -> Result<(), StoreError> {
    // Pulse's own directory has a file for an ID, too.
    let is_one = |dir: &Path| [SWITCH, STATE, LEDGER].iter().any(|file| dir.join(file.name).symlink_metadata().is_ok());
    match dir.parent().filter(|outer| is_one(outer) && !is_one(dir)) {
        Some(outer) => Err(StoreError::Within { dir: dir.to_owned(), outer: outer.to_owned() }),
        None => Ok(()),
    }
}

/// A page of the history as [`Disk::history`] gives it, read without the lock: where no daemon answers.
///
/// # Errors
/// Where the directory or the ledger cannot be read.
pub fn read_history(dir: &Path, before: Option<u64>, limit: usize) -> Result<HistoryPage, StoreError> {
    ledger::read_page(&Dir::new(dir), before, limit).map_err(unreadable(dir))
}

/// Hands on the ledger piece by piece from its beginning, read without the lock: beside a running daemon too.
///
/// # Errors
/// Where the directory or the ledger cannot be read.
pub fn read_ledger(dir: &Path, each: impl FnMut(Piece<'_>)) -> Result<(), StoreError> {
    ledger::read(&Dir::new(dir), each).map_err(unreadable(dir))
}

/// Whether the ledger shows that this ID was made or used here, read without the lock. What cannot be read shows
/// nothing.
#[must_use]
pub fn ledger_shows(dir: &Path, identity: &Identity) -> bool {
    ledger::shows(&Dir::new(dir), identity).unwrap_or(false)
}

/// Whether the ledger, or one that was put aside, shows that this ID's deletion was asked for, read without the lock.
/// What cannot be read shows nothing.
#[must_use]
pub fn asks_to_forget(dir: &Path, id: &InstallId) -> bool {
    ledger::asks_to_forget(&Dir::new(dir), id).unwrap_or(false)
}

/// Whether a process holds the directory.
#[must_use]
pub fn is_in_use(dir: &Path) -> bool {
    let lock = Dir::new(dir).open_to_read(LOCK).ok().flatten();
    lock.is_some_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn unreadable(dir: &Path) -> impl FnOnce(io::Error) -> StoreError {
    |source| match source.kind() {
        io::ErrorKind::NotFound => StoreError::Missing(dir.to_owned()),
        _ => StoreError::Io { dir: dir.to_owned(), what: "reading ledger.jsonl", source },
    }
}

/// Locks the directory for this process alone. A command that looks at the directory holds the lock for a moment.
fn lock(dir: &Dir) -> Result<Lock, StoreError> {
    let failed = |what| move |source| StoreError::Io { dir: dir.path().to_owned(), what, source };
    let file = dir.open_or_create(LOCK).map_err(failed("opening its lock"))?;
    let id = file.stat().map_err(failed("opening its lock"))?.id;
    let mut tries = 0;
    while matches!(file.try_lock(), Err(TryLockError::WouldBlock)) && tries < LOCK_TRIES {
        std::thread::sleep(LOCK_PAUSE);
        tries += 1;
    }
    locked(file.try_lock(), dir)?;
    Ok(Lock { _held: file, id })
}

/// What came of locking the directory.
fn locked(result: Result<(), TryLockError>, dir: &Dir) -> Result<(), StoreError> {
    let dir = dir.path().to_owned();
    match result {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(dir)),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(StoreError::Io { dir, what: "locking it", source: error })
        }
        Err(TryLockError::Error(error)) => {
            let source = io::Error::new(error.kind(), NotLocked(error));
            Err(StoreError::Io { dir, what: "opening its lock", source })
        }
    }
}

/// Leaves the file of a switch that is off, in a directory that a daemon holds: it looks for it with every reading of
/// Pulse, and at its next start.
///
/// # Errors
/// Where it cannot be written.
pub fn leave_off(dir: &Path) -> Result<(), StoreError> {
    not_within_another(dir)?;
    let failed = |source| StoreError::Io { dir: dir.to_owned(), what: "writing to it", source };
    save_off(&Dir::new(dir)).map_err(failed)
}

/// Whatever has the switch's name is an off, links not followed.
fn is_switched_off(dir: &Dir) -> io::Result<bool> {
    Ok(dir.look_at(SWITCH.name)?.is_some())
}

fn save_off(dir: &Dir) -> io::Result<()> {
    match dir.look_at(SWITCH.name)? {
        // A file cannot take its place, and it says off already.
        Some(found) if found.kind == Kind::Directory => dir.sync(),
        _ => dir.replace(SWITCH, b""),
    }
}

fn remove_off(dir: &Dir) -> io::Result<()> {
    if dir.look_at(SWITCH.name)?.is_some_and(|found| found.kind == Kind::Directory) {
        dir.fs().remove_dir(SWITCH.name)?;
        return dir.sync();
    }
    dir.remove(SWITCH)
}

fn read_state(dir: &Dir) -> Result<Option<Vec<u8>>, StoreError> {
    dir.read(STATE).map_err(|source| StoreError::Io { dir: dir.path().to_owned(), what: "reading state.json", source })
}

/// What `state.json` says. One that a newer version wrote is refused.
fn parse_state(dir: &Dir, content: Option<&[u8]>) -> Result<state_file::FoundState, StoreError> {
    match state_file::parse(content) {
        state_file::FoundState::Newer(found) => Err(StoreError::Newer { file: dir.path().join(STATE.name), found }),
        found => Ok(found),
    }
}

/// Reads the ID and the switch.
fn find(dir: &Dir) -> io::Result<Found> {
    Ok(Found {
        identity: dir.read(ID)?.as_deref().and_then(Identity::parse),
        switched_off: is_switched_off(dir)?,
        ..Found::default()
    })
}
