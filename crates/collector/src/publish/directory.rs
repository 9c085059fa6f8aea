//! The directory that a web server shows.
//!
//! Root may write it where others may write, too. So a directory is opened once, and what is done in it is done in the
//! one that was opened, whatever its name leads to by then.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::{Published, page};

/// The JSON Schema of `numbers.json`.
pub(super) const SCHEMA: &str = include_str!("../../../../config/numbers.schema.json");

/// How many files may be written into one directory at a time.
const WRITERS: u32 = 64;

/// How often, and after which pause, the lock is tried that keeps others from cleaning.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// Why the directory was not written.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No whole day has been counted.
    #[error("nothing to publish yet: a day is counted when it is over, from the second day with pings on")]
    Nothing,
    /// A file cannot be written.
    #[error("failed to write {path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// Writes the site. Each file appears complete or not at all; those of other programs stay as they are.
///
/// # Errors
/// Nothing was published yet, or a file cannot be written.
pub fn write(published: &Published, dir: &Path) -> Result<(), PublishError> {
    let Some(numbers) = published.to_file() else { return Err(PublishError::Nothing) };
    let site = OpenDirectory::named(dir)?;
    let days = site.inner("days")?;
    for day in &published.days {
        days.put_json(&format!("{}.json", day.day), day)?;
    }
    site.put("numbers.schema.json", SCHEMA)?;
    site.put_json("numbers.json", &numbers)?;
    site.put("index.html", &page(published).into_string())
}

/// A directory, open.
struct OpenDirectory {
    dir: File,
    path: PathBuf,
}

impl OpenDirectory {
    /// The directory that the operator named, which may be a link of theirs.
    fn named(path: &Path) -> Result<Self, PublishError> {
        let opened =
            make_all(path).and_then(|()| Ok(openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?));
        Self::of(path.to_owned(), opened.map(File::from))
    }

    /// A directory in it, and no link.
    fn inner(&self, name: &str) -> Result<Self, PublishError> {
        Self::of(self.path.join(name), make(&self.dir, Path::new(name)))
    }

    fn of(path: PathBuf, opened: io::Result<File>) -> Result<Self, PublishError> {
        let dir = opened.map_err(|error| PublishError::Io { path: path.clone(), error })?;
        let directory = Self { dir, path };
        // Nobody writes while this has the lock, so what has no name yet is of a writer that was killed.
        if directory.dir.try_lock().is_ok() {
            directory.remove_temporary();
        }
        // Another one that cleans keeps it for a moment. Where somebody else keeps it for longer, the files are written
        // all the same: each has a name of its own.
        let mut tries = 0;
        while directory.dir.try_lock_shared().is_err() && tries < LOCK_TRIES {
            std::thread::sleep(LOCK_PAUSE);
            tries += 1;
        }
        Ok(directory)
    }

    fn remove_temporary(&self) {
        for number in 0..WRITERS {
            // One that cannot be removed is in nobody's way: the next number is taken.
            let _ = unlinkat(&self.dir, temporary(number), AtFlags::empty());
        }
    }

    fn put_json(&self, name: &str, value: &impl serde::Serialize) -> Result<(), PublishError> {
        let json = serde_json::to_string_pretty(value);
        let json = json.map_err(|error| PublishError::Io { path: self.path.join(name), error: error.into() })?;
        self.put(name, &(json + "\n"))
    }

    /// Makes the file hold this text, where it does not.
    fn put(&self, name: &str, text: &str) -> Result<(), PublishError> {
        let done = if self.holds(name, text) { Ok(()) } else { self.replace(name, text) };
        done.map_err(|error| PublishError::Io { path: self.path.join(name), error })
    }

    /// What another user put there, such as a link or a pipe, is neither followed nor waited for.
    fn holds(&self, name: &str, text: &str) -> bool {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = openat(&self.dir, name, flags, Mode::empty()).map(File::from) else { return false };
        let is_file = file.metadata().is_ok_and(|there| there.is_file() && there.len() == text.len() as u64);
        let mut there = Vec::with_capacity(text.len());
        is_file && file.take(text.len() as u64).read_to_end(&mut there).is_ok() && there == text.as_bytes()
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let (mut file, temporary) = self.create()?;
        let mut written = || {
            file.write_all(text.as_bytes())?;
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.sync_all()?;
            Ok(renameat(&self.dir, &temporary, &self.dir, name)?)
        };
        let written = written();
        if written.is_err() {
            // That it cannot be written is told already.
            let _ = unlinkat(&self.dir, &temporary, AtFlags::empty());
        }
        written
    }

    /// A file that is nobody else's, and its name.
    fn create(&self) -> io::Result<(File, String)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        for number in 0..WRITERS {
            let name = temporary(number);
            match openat(&self.dir, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => return Ok((File::from(file), name)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::EXIST.into())
    }
}

/// What a file is called until it is complete.
fn temporary(number: u32) -> String {
    format!(".pulse-telemetry-collector-{number}.new")
}

/// Makes a directory, where there is none, and each above it.
fn make_all(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || fs::metadata(path).is_ok_and(|there| there.is_dir()) {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make_all(above)?;
    }
    make(CWD, path).map(drop)
}

/// Makes a directory, where there is none, and opens it. A web server can read one that is made here, whatever this
/// process's umask is.
fn make(above: impl std::os::fd::AsFd, path: &Path) -> io::Result<File> {
    let made = mkdirat(&above, path, Mode::RWXU);
    let opened = openat(&above, path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    match (made, opened) {
        (Ok(()), Ok(dir)) => {
            let dir = File::from(dir);
            dir.set_permissions(Permissions::from_mode(0o755))?;
            Ok(dir)
        }
        (Err(Errno::EXIST), Ok(dir)) => Ok(dir.into()),
        (Err(Errno::EXIST), Err(Errno::LOOP | Errno::NOTDIR)) => {
            Err(io::Error::other("it is no directory, or a link: remove it"))
        }
        (Err(error), _) | (_, Err(error)) => Err(error.into()),
    }
}
