//! A file: what a process sees of it, and what a power loss leaves.

use std::fmt;
use std::fs::TryLockError;
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pulse_telemetry::store::fs::{FsFile, Stat};

use super::content::Content;
use super::{MemoryFs, Operation, Which, stat_of};
use crate::seeded::Seeded;

#[derive(Debug)]
pub(super) struct Inode {
    pub(super) id: u64,
    pub(super) modified: AtomicI64,
    /// The open file that holds its lock, by number; 0 is nobody.
    pub(super) locked: AtomicU64,
    data: Mutex<Data>,
}

#[derive(Clone, Debug)]
pub(super) struct Data {
    live: Content,
    durable: Durable,
    rewritten: u64,
}

/// What of a file is durable.
#[derive(Clone, Debug)]
enum Durable {
    /// That much of its beginning.
    Prefix(u64),
    /// What it was before its beginning was changed.
    Before(Content),
}

impl Data {
    /// Before the bytes from that place on change.
    fn before_change(&mut self, from: u64) {
        if let Durable::Prefix(length) = self.durable
            && from < length
        {
            self.rewritten += 1;
            let mut before = self.live.clone();
            before.truncate(length);
            self.durable = Durable::Before(before);
        }
    }
}

impl Inode {
    pub(super) fn new(id: u64, live: Content) -> Self {
        let data = Mutex::new(Data { live, durable: Durable::Prefix(0), rewritten: 0 });
        Self { id, modified: AtomicI64::new(0), locked: AtomicU64::new(0), data }
    }

    /// All that can change of it.
    pub(super) fn kept(&self) -> (Data, u64) {
        (self.data().clone(), self.locked.load(SeqCst))
    }

    pub(super) fn put_back(&self, (data, locked): (Data, u64)) {
        *self.data() = data;
        self.locked.store(locked, SeqCst);
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> u64 {
        self.data().live.len()
    }

    pub(super) fn read(&self) -> Vec<u8> {
        self.data().live.read_from(0)
    }

    pub(super) fn ends_with_a_line(&self) -> bool {
        let data = self.data();
        let length = data.live.len();
        data.live.read(length.saturating_sub(1), length) == b"\n"
    }

    pub(super) fn begins_with(&self, bytes: &[u8]) -> bool {
        self.data().live.begins_with(bytes)
    }

    pub(super) fn read_durable_from(&self, offset: u64) -> Vec<u8> {
        let data = self.data();
        match &data.durable {
            Durable::Prefix(length) => data.live.read(offset, *length),
            Durable::Before(content) => content.read_from(offset),
        }
    }

    pub(super) fn which(&self) -> Which {
        let data = self.data();
        Which { id: self.id, length: data.live.len(), rewritten: data.rewritten }
    }

    pub(super) fn which_durable(&self) -> Which {
        let data = self.data();
        let length = match &data.durable {
            Durable::Prefix(length) => *length,
            Durable::Before(content) => content.len(),
        };
        Which { id: self.id, length, rewritten: data.rewritten }
    }

    pub(super) fn is_durable(&self) -> bool {
        let data = self.data();
        matches!(data.durable, Durable::Prefix(length) if length == data.live.len())
    }

    pub(super) fn sync(&self) {
        let mut data = self.data();
        data.durable = Durable::Prefix(data.live.len());
    }

    /// Somebody else writes it, durably.
    pub(super) fn overwrite(&self, bytes: &[u8]) {
        let live = Content::of(bytes);
        let mut data = self.data();
        let rewritten = data.rewritten + 1;
        *data = Data { durable: Durable::Prefix(live.len()), live, rewritten };
    }

    /// Of what was not synced a drawn part is left: none of it, all of it, or a torn piece.
    pub(super) fn lose_power(&self, chance: &mut Seeded, forgets: bool) {
        let mut data = self.data();
        self.locked.store(0, SeqCst);
        match data.durable.clone() {
            Durable::Prefix(length) => {
                let unsynced = data.live.len() - length;
                if unsynced > 0 {
                    let kept = if forgets { 0 } else { chance.draw(unsynced + 1) };
                    data.live.truncate(length + kept);
                }
            }
            Durable::Before(content) => data.live = content,
        }
        data.durable = Durable::Prefix(data.live.len());
    }
}

/// An open file.
pub(super) struct MemoryFile {
    fs: MemoryFs,
    name: Box<str>,
    inode: Arc<Inode>,
    number: u64,
}

impl MemoryFile {
    pub(super) fn new(fs: MemoryFs, name: Box<str>, inode: Arc<Inode>, number: u64) -> Self {
        Self { fs, name, inode, number }
    }

    fn may(&self, operation: Operation) -> io::Result<()> {
        self.fs.lock().may(operation, &self.name)
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        // Only where it holds the lock.
        let _ = self.inode.locked.compare_exchange(self.number, 0, SeqCst, SeqCst);
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an open file")
    }
}

impl FsFile for MemoryFile {
    fn stat(&self) -> io::Result<Stat> {
        Ok(stat_of(&self.inode))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.inode.data().live.read_at(buffer, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (may, tears) = self.fs.lock().may_write(&self.name);
        if may.is_ok() || tears {
            let mut data = self.inode.data();
            let bytes = if may.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
            data.before_change(offset);
            data.live.write_at(bytes, offset);
        }
        may
    }

    fn copy_from(&self, from: &dyn FsFile, offset: u64, length: u64) -> io::Result<()> {
        self.may(Operation::Write)?;
        let from = self.fs.of_id(from.stat()?.id).ok_or(io::ErrorKind::Unsupported)?;
        let copied = from.data().live.slice(offset, length);
        if copied.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut data = self.inode.data();
        data.before_change(0);
        data.live = copied;
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.may(Operation::Remove)?;
        let mut data = self.inode.data();
        data.before_change(length);
        data.live.truncate(length);
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.may(Operation::Write)?;
        self.inode.sync();
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn try_lock(&self) -> Result<(), TryLockError> {
        match self.inode.locked.compare_exchange(0, self.number, SeqCst, SeqCst) {
            Err(holder) if holder != self.number => Err(TryLockError::WouldBlock),
            _ => Ok(()),
        }
    }

    fn try_lock_shared(&self) -> Result<(), TryLockError> {
        if self.inode.locked.load(SeqCst) != 0 { Err(TryLockError::WouldBlock) } else { Ok(()) }
    }
}
