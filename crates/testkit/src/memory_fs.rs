//! A file system in memory, under the state directory and the ledger that ship.
//!
//! It keeps what a process sees apart from what a power loss leaves: what was written and not synced may be lost, torn
//! or kept, and of the names that were changed since the directory was synced a part may be. Writes fail in every
//! [`Mood`], the process can be made to die at any operation, and others can remove, replace, cut and lengthen files.

mod content;
mod file;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use jiff::Timestamp;
use pulse_telemetry::store::fs::{Access, FileId, Fs, FsFile, Kind, Stat};

use crate::seeded::Seeded;
use content::Content;
use file::{Data, Inode, MemoryFile};

/// How writes fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mood {
    Works,
    /// Files can be removed, but nothing can be written.
    Full,
    ReadOnly,
    /// Every other write of a file fails.
    Flaky,
    /// Every fourth operation fails, and every fourth failure comes after the file took its new name.
    LateErrors,
    /// The files whose names begin like this cannot be written.
    Only(&'static str),
    /// Each operation takes as long as the world lets it: [`MemoryFs::take_hung`] counts them.
    Hangs,
}

/// What somebody else does to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vandalism {
    /// It is removed.
    Vanishes,
    /// A copy, made when it was shorter, takes its place.
    Replaced,
    /// It is cut short.
    Cut,
    /// A line is written to it.
    Lengthened,
}

/// An operation that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Write,
    Remove,
    SyncDirectory,
}

#[derive(Clone, Debug)]
struct State {
    /// The names as a process sees them.
    names: Vec<(Arc<str>, Arc<Inode>)>,
    /// The names as they were when the directory was last synced, and what happened to them since.
    durable: Vec<(Arc<str>, Arc<Inode>)>,
    changes: Vec<Change>,
    mood: Mood,
    chance: Seeded,
    /// How many operations still work before the process dies.
    dies_at: Option<u32>,
    died: bool,
    /// How many operations still work before one fails, and no other one because of that.
    fails_at: Option<u32>,
    hung: u32,
    failed: u32,
    /// A look at a name that is open tells of the open file: a mistake on purpose.
    blind: Option<Arc<Inode>>,
    is_blind: bool,
    /// Files that are open, under a name or under none, and how many before those that were closed are forgotten.
    opened: Vec<Weak<Inode>>,
    opened_max: usize,
    /// How often something changed.
    changed: u64,
    /// A power loss leaves nothing that was not durable.
    forgets: bool,
}

/// What a disk was at some time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    state: State,
    files: Vec<((Data, u64), Arc<Inode>)>,
}

/// Which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Which {
    pub id: u64,
    pub length: u64,
    /// How often something else was written than more at its end.
    pub rewritten: u64,
}

/// A change of the names that a power loss may undo.
#[derive(Clone, Debug)]
enum Change {
    Link(Arc<str>, Arc<Inode>),
    Unlink(Arc<str>),
}

/// The directory. Clones are of the same one.
#[derive(Clone)]
pub struct MemoryFs {
    path: Arc<PathBuf>,
    state: Arc<Mutex<State>>,
    next: Arc<AtomicU64>,
}

impl fmt::Debug for MemoryFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a disk in memory")
    }
}

fn put(names: &mut Vec<(Arc<str>, Arc<Inode>)>, name: Arc<str>, inode: Arc<Inode>) {
    match names.iter_mut().find(|(known, _)| *known == name) {
        Some((_, file)) => *file = inode,
        None => names.push((name, inode)),
    }
}

fn find<'a>(names: &'a [(Arc<str>, Arc<Inode>)], name: &str) -> Option<&'a Arc<Inode>> {
    names.iter().find(|(known, _)| &**known == name).map(|(_, inode)| inode)
}

fn apply(names: &mut Vec<(Arc<str>, Arc<Inode>)>, change: Change) {
    match change {
        Change::Link(name, inode) => put(names, name, inode),
        Change::Unlink(name) => names.retain(|(known, _)| *known != name),
    }
}

impl State {
    /// Whether this operation is done, and an error where it is not.
    fn may(&mut self, operation: Operation, name: &str) -> io::Result<()> {
        self.changed += 1;
        if self.died {
            return Err(io::Error::other("the process is gone"));
        }
        match &mut self.dies_at {
            Some(0) => {
                self.died = true;
                return Err(io::Error::other("the process is gone"));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        match &mut self.fails_at {
            Some(0) => {
                self.fails_at = None;
                self.failed += 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let kind = match self.mood {
            Mood::Works => return Ok(()),
            Mood::Hangs => {
                self.hung += 1;
                return Ok(());
            }
            Mood::Full if operation != Operation::Write => return Ok(()),
            Mood::Full => io::ErrorKind::StorageFull,
            Mood::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            Mood::Flaky if operation != Operation::Write || self.chance.draw(2) == 0 => return Ok(()),
            Mood::LateErrors => match (operation, self.chance.draw(4)) {
                (Operation::SyncDirectory, 0 | 1) | (Operation::Write, 0) => io::ErrorKind::Other,
                _ => return Ok(()),
            },
            Mood::Only(bad) if operation == Operation::SyncDirectory || !name.starts_with(bad) => return Ok(()),
            Mood::Flaky | Mood::Only(_) => io::ErrorKind::Other,
        };
        self.failed += 1;
        Err(kind.into())
    }

    /// The same of writing a file, and whether a part of it is written where it fails: by a process that dies just
    /// then, and on a disk that is full or flaky.
    fn may_write(&mut self, name: &str) -> (io::Result<()>, bool) {
        let was_dead = self.died;
        let may = self.may(Operation::Write, name);
        let tears = self.died || matches!(self.mood, Mood::Full | Mood::Flaky | Mood::LateErrors);
        (may, tears && !was_dead)
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, change.clone());
        self.changes.push(change);
    }
}

impl MemoryFs {
    /// An empty directory.
    #[must_use]
    pub fn new(chance: Seeded) -> Self {
        let state = State {
            names: Vec::new(),
            durable: Vec::new(),
            changes: Vec::new(),
            mood: Mood::Works,
            chance,
            dies_at: None,
            died: false,
            fails_at: None,
            hung: 0,
            failed: 0,
            blind: None,
            is_blind: false,
            opened: Vec::new(),
            opened_max: OPENED,
            changed: 0,
            forgets: false,
        };
        let path = Arc::new(PathBuf::from("/in-memory"));
        Self { path, state: Arc::new(Mutex::new(state)), next: Arc::new(AtomicU64::new(1)) }
    }

    /// The disk as it is, to be put back.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut state = self.lock();
        state.opened.retain(|inode| inode.strong_count() > 0);
        let mut files: Vec<Arc<Inode>> = state.opened.iter().filter_map(Weak::upgrade).collect();
        let changed = state.changes.iter().filter_map(|change| match change {
            Change::Link(_, inode) => Some(inode),
            Change::Unlink(_) => None,
        });
        let named = state.names.iter().chain(&state.durable).map(|(_, inode)| inode);
        files.extend(named.chain(changed).map(Arc::clone));
        files.sort_by_key(|inode| inode.id);
        files.dedup_by_key(|inode| inode.id);
        let files = files.into_iter().map(|inode| (inode.kept(), inode)).collect();
        Snapshot { state: state.clone(), files }
    }

    /// Puts a disk back as it was.
    pub fn restore(&self, snapshot: &Snapshot) {
        for (kept, inode) in &snapshot.files {
            inode.put_back(kept.clone());
        }
        let mut state = self.lock();
        let opened = std::mem::take(&mut state.opened);
        let changed = state.changed + 1;
        *state = State { changed, ..snapshot.state.clone() };
        state.opened.extend(opened);
        state.opened.sort_by_key(Weak::as_ptr);
        state.opened.dedup_by_key(|inode| Weak::as_ptr(inode));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn mood(&self) -> Mood {
        self.lock().mood
    }

    pub fn set_mood(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// The process dies once that many more operations are done.
    pub fn die_after(&self, operations: u32) {
        self.lock().dies_at = Some(operations);
    }

    /// The process is not to die, if it has not yet.
    pub fn spare(&self) {
        self.lock().dies_at = None;
    }

    /// An operation fails once that many more are done.
    pub fn fail_after(&self, operations: u32) {
        self.lock().fails_at = Some(operations);
    }

    /// Nothing fails any more.
    pub fn mend(&self) {
        let mut state = self.lock();
        (state.mood, state.fails_at) = (Mood::Works, None);
    }

    /// Something fails, or is going to.
    pub fn is_troubled(&self) -> bool {
        let state = self.lock();
        state.mood != Mood::Works || state.dies_at.is_some() || state.fails_at.is_some()
    }

    pub fn has_died(&self) -> bool {
        self.lock().died
    }

    /// How many operations hung, and how many failed, since this was asked last.
    pub fn take_hung(&self) -> u32 {
        std::mem::take(&mut self.lock().hung)
    }

    pub fn take_failed(&self) -> u32 {
        std::mem::take(&mut self.lock().failed)
    }

    /// The comparison of an open ledger with its name is taken out: looking at the name tells of the open file.
    pub fn take_out_the_comparison(&self) {
        self.lock().is_blind = true;
    }

    /// From now on a power loss leaves nothing of what was not made durable.
    pub fn forget_what_is_not_durable(&self) {
        self.lock().forgets = true;
    }

    /// The names, and of each whether a power loss would leave it as it is, and whether its last line is whole. Those
    /// that differ by a number are one.
    pub fn outline(&self) -> Vec<(String, bool, bool)> {
        let state = self.lock();
        let of = |(name, inode): &(Arc<str>, Arc<Inode>)| {
            let is_same = find(&state.durable, name).is_some_and(|durable| durable.id == inode.id);
            let name = name.trim_end_matches(|last: char| last.is_ascii_digit()).to_owned();
            (name, is_same && inode.is_durable(), inode.ends_with_a_line())
        };
        let lost = |(name, _): &&(Arc<str>, Arc<Inode>)| find(&state.names, name).is_none();
        let mut outline: Vec<_> = state.names.iter().map(of).collect();
        outline.extend(state.durable.iter().filter(lost).map(|(name, _)| (name.to_string(), false, false)));
        outline.sort_unstable();
        outline.dedup();
        outline
    }

    /// The process is gone, and the machine runs on.
    pub fn process_ends(&self) {
        let mut state = self.lock();
        (state.dies_at, state.died) = (None, false);
        state.blind = None;
        for (_, inode) in &state.names {
            inode.locked.store(0, Relaxed);
        }
    }

    /// The power goes and comes back. Of what was not made durable a drawn part is left.
    pub fn power_loss(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        state.changed += 1;
        let most = if state.forgets { 0 } else { state.changes.len() as u64 };
        let kept = state.chance.draw(most + 1) as usize;
        let changes = std::mem::take(&mut state.changes);
        for change in changes.into_iter().take(kept) {
            apply(&mut state.durable, change);
        }
        state.names.clone_from(&state.durable);
        for (_, inode) in &state.names {
            inode.lose_power(&mut state.chance, state.forgets);
        }
        (state.dies_at, state.died, state.blind) = (None, false, None);
    }

    /// What stands in a file.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        find(&self.lock().names, name).map(|inode| inode.read())
    }

    /// Whether these bytes stand at the beginning of a file.
    pub fn begins_with(&self, name: &str, bytes: &[u8]) -> bool {
        find(&self.lock().names, name).is_some_and(|inode| inode.begins_with(bytes))
    }

    /// A number that grows with every change.
    pub fn changed(&self) -> u64 {
        self.lock().changed
    }

    /// Which file has that name, and how long it is.
    pub fn which(&self, name: &str) -> Option<Which> {
        find(&self.lock().names, name).map(|inode| inode.which())
    }

    /// The same of what a power loss would certainly leave.
    pub fn which_durable(&self, name: &str) -> Option<Which> {
        find(&self.lock().durable, name).map(|inode| inode.which_durable())
    }

    /// What a power loss would certainly leave in a file from that place on.
    pub fn read_durable_from(&self, name: &str, offset: u64) -> Vec<u8> {
        find(&self.lock().durable, name).map(|inode| inode.read_durable_from(offset)).unwrap_or_default()
    }

    /// Somebody else writes a file, as a whole and durably.
    pub fn put(&self, name: &str, content: &[u8]) {
        let inode = self.inode(Content::of(content));
        inode.sync();
        let mut state = self.lock();
        state.changed += 1;
        let name: Arc<str> = name.into();
        put(&mut state.durable, Arc::clone(&name), Arc::clone(&inode));
        state.changes.retain(|change| !matches!(change, Change::Link(of, _) | Change::Unlink(of) if *of == name));
        put(&mut state.names, name, inode);
    }

    /// Somebody else removes a file, durably. Whether there was one.
    pub fn take_away(&self, name: &str) -> bool {
        let mut state = self.lock();
        state.changed += 1;
        let was_there = find(&state.names, name).is_some();
        state.changes.retain(|change| !matches!(change, Change::Link(of, _) | Change::Unlink(of) if &**of == name));
        state.durable.retain(|(known, _)| &**known != name);
        state.names.retain(|(known, _)| &**known != name);
        was_there
    }

    /// Somebody else does this to a file. Whether there was one.
    pub fn vandalise(&self, name: &str, how: Vandalism) -> bool {
        let Some(content) = self.read(name) else { return false };
        let half = content.iter().take(content.len() / 2).rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let half = &content[..half];
        self.lock().changed += 1;
        match how {
            Vandalism::Vanishes => return self.take_away(name),
            Vandalism::Replaced => self.put(name, half),
            Vandalism::Cut => {
                let inode = find(&self.lock().names, name).cloned();
                inode.iter().for_each(|inode| inode.overwrite(half));
            }
            Vandalism::Lengthened => {
                let inode = find(&self.lock().names, name).cloned();
                inode.iter().for_each(|inode| inode.overwrite(&[&content[..], b"{}\n"].concat()));
            }
        }
        true
    }

    /// The open file of that number.
    fn of_id(&self, FileId(_, id): FileId) -> Option<Arc<Inode>> {
        let state = self.lock();
        let named = state.names.iter().map(|(_, inode)| inode).find(|inode| inode.id == id).map(Arc::clone);
        named.or_else(|| state.opened.iter().filter_map(Weak::upgrade).find(|inode| inode.id == id))
    }

    fn inode(&self, content: Content) -> Arc<Inode> {
        Arc::new(Inode::new(self.next.fetch_add(1, Relaxed), content))
    }

    fn opened(&self, name: &str, inode: Arc<Inode>) -> Arc<dyn FsFile> {
        let mut state = self.lock();
        if state.opened.len() > state.opened_max {
            state.opened.retain(|inode| inode.strong_count() > 0);
            state.opened_max = OPENED.max(2 * state.opened.len());
        }
        state.opened.push(Arc::downgrade(&inode));
        drop(state);
        let number = self.next.fetch_add(1, Relaxed);
        Arc::new(MemoryFile::new(self.clone(), name.into(), inode, number))
    }
}

/// How many files that are closed may be remembered.
const OPENED: usize = 64;

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// What the mistake on purpose looks away from.
const COMPARED: &str = "ledger.jsonl";

impl Fs for MemoryFs {
    fn path(&self) -> &Path {
        &self.path
    }

    fn make(&self) -> io::Result<()> {
        Ok(())
    }

    fn confirm(&self) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, name: &str, access: Access, max_bytes: u64) -> io::Result<Arc<dyn FsFile>> {
        let mut state = self.lock();
        let inode = find(&state.names, name).cloned().ok_or_else(not_found)?;
        if inode.len() > max_bytes {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if name == COMPARED && access == Access::Write {
            state.blind = Some(Arc::clone(&inode));
        }
        drop(state);
        Ok(self.opened(name, inode))
    }

    fn create_new(&self, name: &str) -> io::Result<Arc<dyn FsFile>> {
        let mut state = self.lock();
        if find(&state.names, name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.may(Operation::Write, name)?;
        let inode = self.inode(Content::default());
        state.change(Change::Link(name.into(), Arc::clone(&inode)));
        if name == COMPARED {
            state.blind = Some(Arc::clone(&inode));
        }
        drop(state);
        Ok(self.opened(name, inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.may(Operation::Remove, to)?;
        let inode = find(&state.names, from).cloned().ok_or_else(not_found)?;
        if to == COMPARED {
            state.blind = Some(Arc::clone(&inode));
        }
        state.names.retain(|(known, _)| &**known != from);
        let to: Arc<str> = to.into();
        put(&mut state.names, Arc::clone(&to), Arc::clone(&inode));
        // One change: a power loss leaves the old name or the new one.
        state.changes.retain(|change| !matches!(change, Change::Link(of, _) if &**of == from));
        state.changes.push(Change::Link(to, inode));
        if find(&state.durable, from).is_some() {
            state.changes.push(Change::Unlink(from.into()));
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        if find(&state.names, name).is_none() {
            return Err(not_found());
        }
        state.may(Operation::Remove, name)?;
        state.change(Change::Unlink(name.into()));
        Ok(())
    }

    fn remove_dir(&self, _: &str) -> io::Result<()> {
        Err(not_found())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.may(Operation::SyncDirectory, "")?;
        let State { changes, durable, .. } = &mut *state;
        changes.drain(..).for_each(|change| apply(durable, change));
        Ok(())
    }

    fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        let state = self.lock();
        if let Some(inode) = state.blind.as_ref().filter(|_| state.is_blind && name == COMPARED) {
            return Ok(Some(stat_of(inode)));
        }
        Ok(find(&state.names, name).map(stat_of))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.iter().map(|(name, _)| name.to_string()).collect())
    }

    fn set_modified(&self, name: &str, time: Timestamp) -> io::Result<()> {
        find(&self.lock().names, name).ok_or_else(not_found)?.modified.store(time.as_second(), Relaxed);
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

fn stat_of(inode: &Arc<Inode>) -> Stat {
    Stat {
        id: FileId(0, inode.id),
        kind: Kind::File,
        size: inode.len(),
        names: 1,
        modified: inode.modified.load(Relaxed),
    }
}
