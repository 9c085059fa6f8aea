//! The real file system.
//!
//! Who can write in the directory can put anything in a file's place: a link to a file of somebody else, a pipe on
//! which nothing ever comes, a file without end. Regular files alone are opened, under the one name that they have, of
//! the directory's owner or the user that this process acts as, and of a bounded size. Everything else is refused with
//! words that name it.

use std::fs::{self, DirBuilder, File, Metadata, TryLockError};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};

use super::{Access, FileId, Fs, FsFile, Kind, Stat, Unusable};

/// A directory of the real file system.
#[derive(Debug)]
pub struct RealFs {
    path: PathBuf,
}

impl RealFs {
    /// The directory of that path; it need not be there.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Refuses what is no file of this directory's.
    fn check(&self, name: &str, max_bytes: u64, found: &Metadata) -> io::Result<()> {
        let unusable =
            |what| Err(io::Error::new(io::ErrorKind::InvalidData, Unusable { path: self.path.join(name), what }));
        let kind = found.file_type();
        if !kind.is_file() {
            return unusable(match () {
                () if kind.is_symlink() => "a symbolic link, which is not followed".to_owned(),
                () if kind.is_dir() => "a directory".to_owned(),
                () if kind.is_fifo() => "a named pipe (FIFO)".to_owned(),
                () if kind.is_socket() => "a socket".to_owned(),
                () => "a device".to_owned(),
            });
        }
        if found.nlink() > 1 {
            return unusable(format!("a file with {} names (hard links)", found.nlink()));
        }
        let (owner, acting) = (fs::metadata(&self.path)?.uid(), rustix::process::geteuid().as_raw());
        if ![owner, acting].contains(&found.uid()) {
            return unusable(format!(
                "a file of user {}, and neither of the directory's owner ({owner}) nor of the user of this process \
                 ({acting})",
                found.uid()
            ));
        }
        if found.len() > max_bytes {
            return unusable(format!("a file of {} bytes, and {max_bytes} at most are read", found.len()));
        }
        Ok(())
    }
}

impl Fs for RealFs {
    fn path(&self) -> &Path {
        &self.path
    }

    fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)
    }

    fn confirm(&self) -> io::Result<()> {
        fs::metadata(&self.path).map(|_| ())
    }

    fn open(&self, name: &str, access: Access, max_bytes: u64) -> io::Result<Arc<dyn FsFile>> {
        let path = self.path.join(name);
        // Before it is opened, for opening a device may do something; and after, for it may have been exchanged.
        self.check(name, max_bytes, &fs::symlink_metadata(&path)?)?;
        let access = if access == Access::Read { OFlags::RDONLY } else { OFlags::RDWR };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = File::from(rustix::fs::openat(CWD, &path, flags, Mode::empty())?);
        self.check(name, max_bytes, &opened.metadata()?)?;
        Ok(Arc::new(opened))
    }

    /// What root makes belongs to the owner of the directory, or the daemon, which runs as that user, could not use it.
    fn create_new(&self, name: &str) -> io::Result<Arc<dyn FsFile>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(CWD, self.path.join(name), flags, Mode::RUSR | Mode::WUSR)?);
        if rustix::process::geteuid().is_root() {
            let dir = fs::metadata(&self.path)?;
            if dir.uid() != file.metadata()?.uid() {
                // A root that may not do this keeps the file, as any other user would.
                let _ = fchown(&file, Some(dir.uid()), Some(dir.gid()));
            }
        }
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn remove_dir(&self, name: &str) -> io::Result<()> {
        fs::remove_dir(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        match fs::symlink_metadata(self.path.join(name)) {
            Ok(found) => Ok(Some(Stat::from(&found))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !entry.file_type()?.is_dir() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn set_modified(&self, name: &str, time: Timestamp) -> io::Result<()> {
        let time = Timespec { tv_sec: time.as_second(), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(rustix::fs::utimensat(CWD, self.path.join(name), &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn warnings(&self) -> Vec<String> {
        goes_with_the_container(&self.path).into_iter().chain(others_can_write(&self.path)).collect()
    }
}

impl From<&Metadata> for Stat {
    fn from(found: &Metadata) -> Self {
        let kind = match found.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            _ => Kind::Other,
        };
        let id = FileId(found.dev(), found.ino());
        Self { id, kind, size: found.len(), names: found.nlink(), modified: found.mtime() }
    }
}

impl FsFile for File {
    fn stat(&self) -> io::Result<Stat> {
        Ok(Stat::from(&self.metadata()?))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut file = self;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        Self::set_len(self, length)
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn try_lock(&self) -> Result<(), TryLockError> {
        Self::try_lock(self)
    }

    fn try_lock_shared(&self) -> Result<(), TryLockError> {
        Self::try_lock_shared(self)
    }
}

/// Says so where others can write in the directory. A group that it was given to is what lets this process in, unless
/// the directory is its own.
fn others_can_write(dir: &Path) -> Option<String> {
    let found = fs::metadata(dir).ok()?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw();
    let others = if is_own { 0o022 } else { 0o002 };
    (found.mode() & others != 0).then(|| {
        format!(
            "Others can write in the state directory {} (mode {:o}), and so remove the history or switch telemetry \
             off: chmod 700 it.",
            dir.display(),
            found.mode() & 0o7777
        )
    })
}

/// Says so where the directory is part of a container's own file system, which ends with the container.
fn goes_with_the_container(dir: &Path) -> Option<String> {
    let in_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists());
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let goes = in_container && device(dir).is_some_and(|dev| device(Path::new("/")) == Some(dev));
    goes.then(|| {
        format!(
            "The state directory {} is inside of this container and goes with it: each new container would be a new \
             installation. Mount a volume there.",
            dir.display()
        )
    })
}
