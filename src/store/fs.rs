//! The seam to the disk: all that the state directory and the ledger need of a file system.
//!
//! [`RealFs`] is the real one. A simulation has one in memory, under the same state directory and ledger.

mod real;

use std::fmt;
use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

pub use real::RealFs;

/// Which file it is, whatever its name: its file system and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId(pub u64, pub u64);

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, a pipe, a socket or a device.
    Other,
}

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// Which one it is.
    pub id: FileId,
    /// What it is.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: u64,
    /// How many names (hard links) it has.
    pub names: u64,
    /// When it was last written, in seconds since 1970.
    pub modified: i64,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading alone.
    Read,
    /// Reading and writing.
    Write,
}

/// One directory of a file system. Names are those of its entries, and links are never followed.
pub trait Fs: fmt::Debug + Send + Sync {
    /// Where it is, as it is shown.
    fn path(&self) -> &Path;

    /// Makes the directory where it is missing, so that only its owner can use it.
    ///
    /// # Errors
    /// Where it cannot be made.
    fn make(&self) -> io::Result<()>;

    /// Fails where the directory is missing.
    ///
    /// # Errors
    /// Where it is missing, or cannot be looked at.
    fn confirm(&self) -> io::Result<()>;

    /// Opens a regular file of this directory's that is no larger than this.
    ///
    /// # Errors
    /// Where there is none (`NotFound`), where something else has its name (`Unusable`), or where it cannot be opened.
    fn open(&self, name: &str, access: Access, max_bytes: u64) -> io::Result<Arc<dyn FsFile>>;

    /// Makes a file that only its owner can use, to read and write.
    ///
    /// # Errors
    /// Where something has that name (`AlreadyExists`), or where it cannot be made.
    fn create_new(&self, name: &str) -> io::Result<Arc<dyn FsFile>>;

    /// Gives a file another name, in place of whatever has that name.
    ///
    /// # Errors
    /// Where it cannot be renamed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name that is not a directory's.
    ///
    /// # Errors
    /// Where there is none (`NotFound`), or where it cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// Where it cannot be removed.
    fn remove_dir(&self, name: &str) -> io::Result<()>;

    /// Makes the entries of the directory durable.
    ///
    /// # Errors
    /// Where they are not.
    fn sync(&self) -> io::Result<()>;

    /// What has that name. `None` where nothing has.
    ///
    /// # Errors
    /// Where it cannot be looked at.
    fn stat(&self, name: &str) -> io::Result<Option<Stat>>;

    /// All names but those of directories.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Sets the time at which a file was last written.
    ///
    /// # Errors
    /// Where it cannot be set.
    fn set_modified(&self, name: &str, time: Timestamp) -> io::Result<()>;

    /// What a start should warn of, a sentence each.
    fn warnings(&self) -> Vec<String>;
}

/// An open file.
pub trait FsFile: fmt::Debug + Send + Sync {
    /// What is known of it.
    ///
    /// # Errors
    /// Where it cannot be looked at.
    fn stat(&self) -> io::Result<Stat>;

    /// Reads from that place on; 0 at the end.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of it, from that place on.
    ///
    /// # Errors
    /// Where it cannot be written; a part of it may have been.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Copies `length` bytes of a file of the same file system, from `offset` on, to the beginning of this one.
    ///
    /// # Errors
    /// Where they cannot be read or written.
    fn copy_from(&self, from: &dyn FsFile, offset: u64, length: u64) -> io::Result<()> {
        let (mut buffer, mut done) = (vec![0; COPIED], 0);
        while done < length {
            let most = usize::try_from(length - done).map_or(COPIED, |left| left.min(COPIED));
            let read = from.read_at(&mut buffer[..most], offset + done)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.write_all_at(&buffer[..read], done)?;
            done += read as u64;
        }
        Ok(())
    }

    /// Cuts it to that size.
    ///
    /// # Errors
    /// Where it cannot be cut.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Makes all of it durable.
    ///
    /// # Errors
    /// Where it is not.
    fn sync_all(&self) -> io::Result<()>;

    /// Makes its content durable, and of what is known of it only what reading it needs.
    ///
    /// # Errors
    /// Where it is not.
    fn sync_data(&self) -> io::Result<()>;

    /// Locks it for this process alone, until it is closed.
    ///
    /// # Errors
    /// Where another process has locked it, or where it cannot be locked.
    fn try_lock(&self) -> Result<(), TryLockError>;

    /// Locks it together with others that only look.
    ///
    /// # Errors
    /// Where another process has locked it for itself alone, or where it cannot be locked.
    fn try_lock_shared(&self) -> Result<(), TryLockError>;
}

/// How much is copied at a time.
const COPIED: usize = 64 * 1024;

/// Reads an open file from a place on, whatever else reads it.
#[derive(Debug)]
pub(super) struct At<'a> {
    file: &'a dyn FsFile,
    offset: u64,
}

impl<'a> At<'a> {
    pub(super) fn new(file: &'a dyn FsFile, offset: u64) -> Self {
        Self { file, offset }
    }
}

impl io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// What stands in a file's place and is not used.
#[derive(Debug, thiserror::Error)]
#[error("{} is {what}", path.display())]
pub(super) struct Unusable {
    pub(super) path: PathBuf,
    pub(super) what: String,
}

/// Whether something that is no file of this directory's stands in a file's place.
pub(super) fn is_unusable(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Unusable>())
}
