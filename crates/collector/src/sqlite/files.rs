//! The files of a database, and who may have put them there.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use pulse_telemetry_process::acting;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::storage::StorageError;

/// What the names of the files beside the database end with: the write-ahead log and its index, which SQLite keeps for
/// as long as anybody has the database open, and the lock of the one collector.
pub(super) const LOG: &str = "-wal";
pub(super) const LOG_INDEX: &str = "-shm";
const LOCK: &str = "-lock";

/// What the name of the storage ends with that `check` makes and removes.
pub(super) const TRIAL: &str = "-check";

/// Owner only: rows are nobody else's business on a shared machine.
const FILE_MODE: u32 = 0o600;

/// Which file it is, whatever its name: its file system and its number there.
pub(super) type DatabaseFileId = (u64, u64);

/// Opens the file, and makes it where it is not there, so that nobody else can read it. The log beside it takes its
/// mode from it.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(path)
}

/// Does something with a database, as root with the rights of the owner of its directory.
pub(super) fn as_owner<T>(file: &Path, work: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    acting::as_owner(file.parent().unwrap_or_else(|| Path::new("/")), || {
        refuse_planted(file)?;
        work()
    })
}

/// Refuses what somebody may have put in the place of a database or of a file beside it. To open a pipe would take for
/// ever, and a link could lead root to a file that only root may read.
fn refuse_planted(file: &Path) -> Result<(), StorageError> {
    let failed = |path: &Path, what: &str| Err(StorageError::Failed(format!("{} {what}", path.display())));
    // One that is not there yet has nothing beside it.
    let Ok(found) = file.metadata() else { return Ok(()) };
    if !found.is_file() {
        return failed(file, "is not a file");
    }
    if !acting::may_read(&found) {
        return failed(file, "belongs to somebody else than the directory that it is in: see where it comes from");
    }
    let real = real_name(file)?;
    for end in [LOCK, LOG, LOG_INDEX] {
        let beside = beside(&real, end);
        if beside.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            return failed(&beside, "is not a file");
        }
    }
    Ok(())
}

/// The file beside the database whose name ends so.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

pub(super) fn file_id(path: &Path) -> io::Result<DatabaseFileId> {
    path.metadata().map(|file| (file.dev(), file.ino()))
}

/// The file's one true name, whatever link led to it: beside that SQLite keeps its log.
pub(super) fn real_name(path: &Path) -> Result<PathBuf, StorageError> {
    path.canonicalize().map_err(|error| not_opened(path, &error))
}

/// Where a lock of the one collector is, beside the one of the file itself: beside its one true name, for the file may
/// be replaced.
pub(super) fn lock_of(path: &Path) -> Result<PathBuf, StorageError> {
    Ok(beside(&real_name(path)?, LOCK))
}

/// Takes the lock, where no other collector has it.
pub(super) fn is_free(lock: &File, path: &Path) -> Result<bool, StorageError> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(not_opened(path, &error)),
    }
}

/// Refuses a file that the log does not go with: SQLite keeps that beside the name by which it opened the file, and who
/// has another name of it, or is in another container, would not see what is there.
pub(super) fn refuse_other_names(path: &Path) -> Result<(), StorageError> {
    let (file, real) = (path.metadata().map_err(|error| not_opened(path, &error))?, real_name(path)?);
    // Where the kernel does not tell it, nothing is refused.
    let mount = |path: &Path| {
        let told = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
        (told.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(told.stx_mnt_id)
    };
    let why = if file.nlink() > 1 {
        "has several names (hard links), and SQLite keeps the log of what is not in it yet beside one of them: remove \
         the others"
    } else if real.parent().is_some_and(|dir| mount(dir) != mount(&real)) {
        "is a mount of its own, and SQLite keeps the log of what is not in it yet beside it, outside of that mount: \
         mount the directory that it is in"
    } else {
        return Ok(());
    };
    Err(StorageError::Failed(format!("{} {why}", path.display())))
}

pub(super) fn taken(path: &Path) -> StorageError {
    StorageError::Failed(format!(
        "another collector takes pings into {} already: stop it, or give this one a file of its own (several \
         collectors can share a PostgreSQL)",
        path.display()
    ))
}

/// The error with the file's name.
pub(super) fn named(path: &Path, error: StorageError) -> StorageError {
    match error {
        StorageError::Failed(text) => StorageError::Failed(format!("failed to open {}: {text}", path.display())),
        other => other,
    }
}

pub(super) fn not_opened(path: &Path, error: &dyn std::error::Error) -> StorageError {
    StorageError::Failed(format!("failed to open {}: {error}", path.display()))
}
