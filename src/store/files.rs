//! The one way to a file of the state directory.
//!
//! What may be opened is `fs`' to say; here is what the files are called, how one takes the place of another, and where
//! what is damaged goes.

use std::borrow::Cow;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::process::{getegid, geteuid};

use super::fs::{Access, At, Fs, FsFile, Kind, RealFs, Stat, is_unusable};

/// A file of the directory, and how many bytes may stand in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) name: &'static str,
    /// The name of the file that is to take this one's place.
    pub(super) temporary: &'static str,
    pub(super) max_bytes: u64,
}

impl Name {
    const fn new(name: &'static str, temporary: &'static str, max_bytes: u64) -> Self {
        Self { name, temporary, max_bytes }
    }
}

/// One record of some 100 bytes. Pulse reads no more of it either.
pub(super) const ID: Name = Name::new(".install_id", concat!(".install_id", ".new"), 4 << 10);
/// Only whether it is there counts: it is never opened.
pub(super) const SWITCH: Name = Name::new("off", concat!("off", ".new"), 0);
/// A pending ping of less than 8 KiB, escaped as JSON, some dates, and less than 256 bytes for each deletion: a ledger
/// holds attempts of less than 16,000 IDs.
pub(super) const STATE: Name = Name::new("state.json", concat!("state.json", ".new"), 4 << 20);
/// Nothing is ever written in it.
pub(super) const LOCK: Name = Name::new("lock", concat!("lock", ".new"), 4 << 10);
/// Written and removed at a start, to show that the directory can be written.
pub(super) const PROBE: Name = Name::new("probe", concat!("probe", ".new"), 0);
/// The ledger makes room before it grows larger.
pub(super) const LEDGER: Name = Name::new("ledger.jsonl", concat!("ledger.jsonl", ".new"), 16 << 20);
/// 500 events of at most some 1.5 KiB.
pub(super) const EVENTS: Name = Name::new("events.jsonl", concat!("events.jsonl", ".new"), 1 << 20);

const ALL: [Name; 7] = [ID, SWITCH, STATE, LOCK, PROBE, LEDGER, EVENTS];

/// A state directory.
#[derive(Clone, Debug)]
pub(super) struct Dir {
    fs: Arc<dyn Fs>,
}

/// The file system does not make a file, or the entries of a directory, durable.
#[derive(Debug, thiserror::Error)]
#[error("making {what} durable: {source}")]
pub(super) struct NotDurable {
    what: &'static str,
    source: io::Error,
}

/// What the system said of a file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
struct FileError {
    path: PathBuf,
    source: io::Error,
}

/// What came of making a file durable.
pub(super) fn durable(synced: io::Result<()>) -> io::Result<()> {
    made_durable("a file", synced)
}

fn made_durable(what: &'static str, synced: io::Result<()>) -> io::Result<()> {
    synced.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => {
            io::Error::new(error.kind(), NotDurable { what, source: error })
        }
        _ => error,
    })
}

/// The file system does not lock files.
#[derive(Debug, thiserror::Error)]
#[error("locking it: {0}")]
pub(super) struct NotLocked(#[source] pub(super) io::Error);

impl Dir {
    pub(super) fn new(path: &Path) -> Self {
        Self::on(Arc::new(RealFs::new(path)))
    }

    pub(super) fn on(fs: Arc<dyn Fs>) -> Self {
        Self { fs }
    }

    pub(super) fn fs(&self) -> &dyn Fs {
        &*self.fs
    }

    pub(super) fn path(&self) -> &Path {
        self.fs.path()
    }

    /// Opens a file to read. `None` where there is none; a directory that is not there is an error.
    pub(super) fn open_to_read(&self, file: Name) -> io::Result<Option<Arc<dyn FsFile>>> {
        match self.fs.open(file.name, Access::Read, file.max_bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.fs.confirm()?;
                Ok(None)
            }
            opened => opened.map(Some),
        }
    }

    /// Opens a file to read and write, and makes it where there is none.
    pub(super) fn open_or_create(&self, file: Name) -> io::Result<Arc<dyn FsFile>> {
        match self.create_new(file.name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.fs.open(file.name, Access::Write, file.max_bytes)
            }
            created => created,
        }
    }

    /// Makes a file that is not there yet.
    fn create_new(&self, name: &str) -> io::Result<Arc<dyn FsFile>> {
        self.fs.create_new(name).map_err(self.naming(name))
    }

    /// An empty file for what is to take the place of another one. What a crash left of it goes first.
    pub(super) fn create_temporary(&self, name: &str) -> io::Result<Arc<dyn FsFile>> {
        match self.create_new(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.unlink(name)?;
                self.create_new(name)
            }
            created => created,
        }
    }

    /// What stands in a file. `None` where there is none.
    pub(super) fn read(&self, file: Name) -> io::Result<Option<Vec<u8>>> {
        let Some(opened) = self.open_to_read(file)? else { return Ok(None) };
        let mut content = Vec::new();
        // It may have grown since its size was looked at.
        At::new(&*opened, 0).take(file.max_bytes).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Replaces a file as a whole, durably.
    pub(super) fn replace(&self, file: Name, content: &[u8]) -> io::Result<()> {
        let new = self.create_temporary(file.temporary)?;
        new.write_all_at(content, 0)?;
        durable(new.sync_all())?;
        self.rename(file.temporary, file.name)?;
        self.sync()
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.fs.rename(from, to).map_err(self.naming(to))
    }

    /// Removes a file, durably. One that is not there is fine, once the directory is known to say so: it may have been
    /// removed before, by an attempt whose sync failed.
    pub(super) fn remove(&self, file: Name) -> io::Result<()> {
        self.unlink(file.name)?;
        self.sync()
    }

    /// Removes what a crash may have left of files that were to take the place of others.
    pub(super) fn remove_temporaries(&self) -> io::Result<()> {
        self.unlink(PROBE.name)?;
        for file in ALL {
            self.unlink(file.temporary)?;
        }
        self.sync()
    }

    /// Sees to it that nothing has that name.
    fn unlink(&self, name: &str) -> io::Result<()> {
        match self.fs.remove(name) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.naming(name)(error)),
        }
    }

    /// The system's words for an error, with the file before them.
    fn naming(&self, name: &str) -> impl FnOnce(io::Error) -> io::Error {
        move |source| io::Error::new(source.kind(), FileError { path: self.path().join(name), source })
    }

    /// Without this, a power loss can undo a rename.
    pub(super) fn sync(&self) -> io::Result<()> {
        made_durable("its entries", self.fs.sync())
    }

    /// What has that name, links not followed. `None` where nothing has.
    pub(super) fn look_at(&self, name: &str) -> io::Result<Option<Stat>> {
        self.fs.stat(name)
    }

    /// Gives what stands in a file's place a name beside it, and says which.
    pub(super) fn put_aside(&self, file: Name) -> io::Result<String> {
        let mut number = 1;
        let aside = loop {
            let name = format!("{}.{DAMAGED}{number}", file.name);
            if self.look_at(&name)?.is_none() {
                break name;
            }
            number += 1;
        };
        self.rename(file.name, &aside)?;
        Ok(format!("{} was damaged; it was put aside as {aside}.", self.path().join(file.name).display()))
    }

    /// Clears away what cannot be used and stands in a file's place, and says so: a file is put aside, and what is none
    /// (a link, a pipe) is removed, for nothing is in it. A directory is not this program's to touch.
    pub(super) fn clear_away(&self, file: Name, unusable: io::Error) -> io::Result<String> {
        match self.look_at(file.name)? {
            Some(found) if found.kind == Kind::Directory => Err(unusable),
            Some(found) if found.kind == Kind::File => self.put_aside(file),
            _ => {
                self.remove(file)?;
                Ok(format!("{unusable}; it was removed."))
            }
        }
    }

    /// A new file for the end of a file that a crash tore, and its name.
    pub(super) fn create_torn(&self, file: Name) -> io::Result<(String, Arc<dyn FsFile>)> {
        let mut number = 1;
        loop {
            let name = format!("{}.{TORN}{number}", file.name);
            match self.create_new(&name) {
                Ok(torn) => return Ok((name, torn)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes everything that was put aside of a file, durably.
    pub(super) fn remove_put_aside(&self, file: Name) -> io::Result<()> {
        self.remove_those(self.put_aside_of(file)?)
    }

    /// Removes what was put aside of a file and last written before that time, but only what was written within
    /// `at_most` of the oldest of it. What is no file of this program's (a link, a file with other names) goes at once:
    /// its time belongs to somebody else.
    pub(super) fn prune_put_aside(
        &self,
        file: Name,
        before: Timestamp,
        at_most: std::time::Duration,
        now: Timestamp,
    ) -> io::Result<()> {
        let (mut aside, mut gone) = (Vec::new(), Vec::new());
        for name in self.put_aside_of(file)? {
            let Some(found) = self.look_at(&name)? else { continue };
            let written = Timestamp::from_second(found.modified).unwrap_or(Timestamp::MAX);
            let is_ours = found.kind == Kind::File && found.names == 1;
            // A clock that was wrong gave it a time to come, by which it would stay for longer.
            if !is_ours || (written > now && self.fs.set_modified(&name, now).is_err()) {
                gone.push(name);
            } else {
                aside.push((written, name));
            }
        }
        let bound = aside
            .iter()
            .map(|(written, _)| *written)
            .min()
            .map(|oldest| before.min(oldest.saturating_add(at_most).unwrap_or(Timestamp::MAX)));
        let old = aside.into_iter().filter(|(at, _)| Some(*at) < bound).map(|(_, name)| name);
        self.remove_those(gone.into_iter().chain(old).collect())
    }

    /// The names of what was put aside of a file. A directory of such a name is not this program's.
    pub(super) fn put_aside_of(&self, file: Name) -> io::Result<Vec<String>> {
        let is_one = |name: &String| {
            let rest = name.strip_prefix(file.name).and_then(|rest| rest.strip_prefix('.'));
            rest.is_some_and(|rest| rest.starts_with(DAMAGED) || rest.starts_with(TORN))
        };
        Ok(self.fs.names()?.into_iter().filter(is_one).collect())
    }

    /// Opens what was put aside of a file, to read.
    pub(super) fn open_put_aside(&self, name: &str, file: Name) -> io::Result<Arc<dyn FsFile>> {
        self.fs.open(name, Access::Read, file.max_bytes)
    }

    fn remove_those(&self, names: Vec<String>) -> io::Result<()> {
        for name in names {
            self.unlink(&name)?;
        }
        self.sync()
    }
}

const DAMAGED: &str = "damaged-";
const TORN: &str = "torn-";

/// What to do about an error.
pub(super) fn advice(error: &io::Error) -> Cow<'static, str> {
    const LOCAL: &str = "nothing durable can be promised on such a file system, as some network file systems are: name \
                         a directory on a local disk in state.dir (PULSE_TELEMETRY_STATE__DIR)";
    let inner = error.get_ref();
    if inner.is_some_and(|inner| inner.is::<NotDurable>() || inner.is::<NotLocked>()) {
        return LOCAL.into();
    }
    if is_unusable(error) {
        return "nothing of it was read or written: see where it comes from, and move it away".into();
    }
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let (user, group) = (geteuid().as_raw(), getegid().as_raw());
            return format!(
                "run commands as the user that the daemon runs as; where that is user {user}, it must be able to write \
                 there: chown -R {user}:{group} it, or in a container what is mounted there"
            )
            .into();
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "it is mounted read-only: mount it to be written, or name another directory in state.dir \
             (PULSE_TELEMETRY_STATE__DIR)"
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "what has that name, or one on the way to it, is no directory: move it away, or name another directory in \
             state.dir (PULSE_TELEMETRY_STATE__DIR)"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there",
        _ => "look at that directory and its disk, or name another one in state.dir (PULSE_TELEMETRY_STATE__DIR)",
    };
    advice.into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::store::fs::Stat;

    /// A real directory whose first sync fails. It counts those that work.
    #[derive(Debug)]
    struct FailsOnce {
        real: RealFs,
        syncs: AtomicUsize,
        tried: AtomicUsize,
    }

    impl Fs for FailsOnce {
        fn path(&self) -> &Path {
            self.real.path()
        }

        fn make(&self) -> io::Result<()> {
            self.real.make()
        }

        fn confirm(&self) -> io::Result<()> {
            self.real.confirm()
        }

        fn open(&self, name: &str, access: Access, max_bytes: u64) -> io::Result<Arc<dyn FsFile>> {
            self.real.open(name, access, max_bytes)
        }

        fn create_new(&self, name: &str) -> io::Result<Arc<dyn FsFile>> {
            self.real.create_new(name)
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.real.rename(from, to)
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            self.real.remove(name)
        }

        fn remove_dir(&self, name: &str) -> io::Result<()> {
            self.real.remove_dir(name)
        }

        fn sync(&self) -> io::Result<()> {
            if self.tried.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err(io::Error::other("the disk does not answer"));
            }
            self.syncs.fetch_add(1, Ordering::Relaxed);
            self.real.sync()
        }

        fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
            self.real.stat(name)
        }

        fn names(&self) -> io::Result<Vec<String>> {
            self.real.names()
        }

        fn set_modified(&self, name: &str, time: Timestamp) -> io::Result<()> {
            self.real.set_modified(name, time)
        }

        fn warnings(&self) -> Vec<String> {
            self.real.warnings()
        }
    }

    #[test]
    fn what_was_removed_by_an_attempt_whose_sync_failed_is_made_durable_by_the_next() {
        let removals: [fn(&Dir) -> io::Result<()>; 3] =
            [|dir| dir.remove(ID), |dir| dir.remove_put_aside(LEDGER), Dir::remove_temporaries];
        for remove in removals {
            let place = tempfile::tempdir().unwrap();
            for name in [ID.name, "ledger.jsonl.damaged-1", "state.json.new"] {
                std::fs::write(place.path().join(name), "").unwrap();
            }
            let real = RealFs::new(place.path());
            let fs = Arc::new(FailsOnce { real, syncs: AtomicUsize::new(0), tried: AtomicUsize::new(0) });
            let dir = Dir::on(Arc::<FailsOnce>::clone(&fs));
            assert!(remove(&dir).is_err());
            remove(&dir).unwrap();
            assert_eq!(fs.syncs.load(Ordering::Relaxed), 1, "it was acknowledged, and a power loss brings it back");
        }
    }
}
