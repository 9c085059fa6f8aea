//! The ledger: one JSON object a line, each holding the hash of the line before.
//!
//! It is appended, but for two occasions on which a new file takes its place: pruning, which leaves the tail and a line
//! that says what was before it, and erasing, which leaves one line.
//!
//! What was acknowledged is under its name on the disk: before and after each line the open file is compared with what
//! has its name. Where they differ nothing is appended any more, until the ledger is taken up anew.

mod opening;
mod reading;

use std::collections::VecDeque;
use std::io::{self, BufReader, Read as _};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry_core::contract::CONTRACT_DATE;
use pulse_telemetry_core::engine::{DeletionRecord, Entry, EntryKind};
use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::ledger::{KeptDeletions, LINE_MAX, Line, Piece, SentIds, sha256};

use super::files::{Dir, LEDGER, durable};
use super::fs::{At, FileId, FsFile};
use super::state_file::Head;
use opening::Loss;
pub use reading::HistoryPage;
use reading::read_put_aside;
use reading::{History, Lines};
pub(super) use reading::{asks_to_forget, read, read_page, shows};

/// What is left of a file that would be larger than [`LEDGER`] may be, the line that tells of it included.
const KEPT_MAX: u64 = 12 << 20;
/// Most lines are shorter.
const LINE_USUAL: usize = 1024;
/// How many entries that could not be written may wait for the next one.
const OWED_MAX: usize = 256;

/// The ledger, open for appending.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    dir: Dir,
    file: Arc<dyn FsFile>,
    id: FileId,
    /// The file's name is known to outlive a power loss.
    named: bool,
    /// Bytes that are known to be good: all lines up to here are whole.
    length: u64,
    /// A write failed, and what it left may stand behind them.
    untidy: bool,
    seq: u64,
    prev: String,
    /// When a ping was last delivered.
    delivered: Option<Timestamp>,
    /// Entries that were known are not there, and no line says so yet.
    loss: Option<Loss>,
    /// A `pruned` line tells of the lines up to this offset, and they are still there.
    pruned_to: Option<u64>,
    /// What could not be written, and when it happened.
    owed: VecDeque<(Entry, Timestamp)>,
}

/// A place between two lines.
struct Cut {
    /// The `seq` and the hash of the line before it.
    through: u64,
    last: String,
    offset: u64,
}

impl Ledger {
    /// Appends one entry, durably, and before it those that could not be written when they happened.
    pub(super) fn append(&mut self, entry: &Entry, now: Timestamp) -> io::Result<()> {
        let result = self.write_owed().and_then(|()| self.write(Line::of(entry, now)));
        if result.is_err() {
            self.owe(entry, now);
        }
        result
    }

    /// The entry could not be written, and is to be written before the next one.
    pub(super) fn owe(&mut self, entry: &Entry, now: Timestamp) {
        if !entry.kind.is_recorded_again() && self.owed.len() < OWED_MAX {
            self.owed.push_back((entry.clone(), now));
        }
    }

    /// Removes lines from before that time, at most those within `at_most` of the oldest one.
    pub(super) fn prune(&mut self, before: Timestamp, at_most: Duration, now: Timestamp) -> io::Result<()> {
        self.finish_pruning()?;
        match self.end_of_old_lines(before, at_most, now)? {
            Some(cut) => self.prune_to(cut, now),
            None => Ok(()),
        }
    }

    /// Leaves one line that says so, durably, and nothing of what a crash left beside the ledger either.
    pub(super) fn erase(&mut self, now: Timestamp) -> io::Result<()> {
        let (bytes, prev) = self.encode(Line::new(EntryKind::Erased, now))?;
        self.replace(bytes.len() as u64, |file| file.write_all_at(&bytes, 0))?;
        self.seq += 1;
        self.prev = prev;
        self.owed.clear();
        self.loss = None;
        self.delivered = None;
        self.secure_name()
    }

    /// The last entry that was written or known; `None` where there never was one.
    pub(super) fn head(&self) -> Option<Head> {
        match &self.loss {
            Some(loss) => loss.known.clone(),
            None => (self.seq > 0).then(|| Head { seq: self.seq, hash: self.prev.clone() }),
        }
    }

    /// When a ping was last delivered, as far as the ledger tells.
    pub(super) fn last_delivery(&self) -> Option<Timestamp> {
        self.delivered
    }

    /// Whether the open file is what has the ledger's name, with all that was written to it.
    pub(super) fn check(&self) -> io::Result<()> {
        let what = match self.dir.look_at(LEDGER.name)? {
            None => "is missing",
            Some(found) if found.id != self.id => "is another file than the one that was written",
            Some(found) if found.size < self.length => "was cut short",
            Some(found) if found.size > self.length && !self.untidy => "was written to by somebody else",
            Some(_) => return Ok(()),
        };
        Err(io::Error::other(format!("{} {what}", self.dir.path().join(LEDGER.name).display())))
    }

    /// Takes away what a write left that failed, durably. It was told not to be written, and a start would believe it.
    pub(super) fn tidy(&mut self) -> io::Result<()> {
        if self.untidy {
            self.file.set_len(self.length)?;
            durable(self.file.sync_all())?;
            self.untidy = false;
        }
        Ok(())
    }

    /// The size of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.length
    }

    /// The newest entries with a `seq` below `before`, at most `limit`.
    pub(super) fn page(&self, before: Option<u64>, limit: usize) -> io::Result<HistoryPage> {
        self.check()?;
        History::of(&*self.file, self.length).page(before, limit)
    }

    /// The IDs that attempts were made with, those of ledgers that were put aside among them.
    pub(super) fn sent_ids(&self) -> io::Result<Vec<InstallId>> {
        let mut ids = SentIds::default();
        read_put_aside(&self.dir, |piece| ids.take(piece))?;
        let mut lines = self.lines();
        while let Some(piece) = lines.next()? {
            ids.take(piece);
        }
        Ok(ids.into_ids())
    }

    /// The deletions that are pending, by the state file that knows the entries up to this one and by those after it.
    pub(super) fn deletions(&self, known: u64, by_state: Vec<DeletionRecord>) -> io::Result<Vec<DeletionRecord>> {
        if self.seq <= known {
            return Ok(by_state);
        }
        let mut deletions = KeptDeletions::new(known, by_state);
        let mut lines = self.lines();
        while let Some(piece) = lines.next()? {
            deletions.take(piece);
        }
        Ok(deletions.into_deletions())
    }

    fn write_owed(&mut self) -> io::Result<()> {
        while let Some((entry, at)) = self.owed.pop_front() {
            if let Err(error) = self.write(Line::of(&entry, at)) {
                self.owed.push_front((entry, at));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Appends a line, and before it one that tells of a loss; makes room for it first where the file is full.
    fn write(&mut self, line: Line<'_>) -> io::Result<()> {
        self.tell_of_loss(line.at)?;
        if self.is_full() {
            self.finish_pruning()?;
        }
        if self.is_full()
            && let Some(cut) = self.end_of_surplus()?
        {
            self.prune_to(cut, line.at)?;
        }
        self.write_at_end(line)
    }

    /// Another line may not fit.
    fn is_full(&self) -> bool {
        self.length + LINE_MAX as u64 > LEDGER.max_bytes
    }

    fn write_at_end(&mut self, line: Line<'_>) -> io::Result<()> {
        self.check()?;
        let delivered = (line.kind == EntryKind::Sent).then_some(line.at);
        let (bytes, prev) = self.encode(line)?;
        self.secure_name()?;
        // What a failed write left must not stay in front of this line.
        self.tidy()?;
        self.untidy = true;
        self.file.write_all_at(&bytes, self.length)?;
        durable(self.file.sync_data())?;
        self.untidy = false;
        self.length += bytes.len() as u64;
        self.seq += 1;
        self.prev = prev;
        self.delivered = delivered.or(self.delivered);
        self.check()
    }

    /// The line as the next one of the chain, with its newline, and its hash.
    fn encode(&self, line: Line<'_>) -> io::Result<(Vec<u8>, String)> {
        let mut bytes = Vec::with_capacity(LINE_USUAL);
        serde_json::to_writer(&mut bytes, &Line { seq: self.seq + 1, prev: self.prev.clone(), ..line })?;
        let hash = sha256(&bytes);
        bytes.push(b'\n');
        Ok((bytes, hash))
    }

    /// Tells of it first, durably: whatever happens then, the ledger says why it does not begin at its beginning.
    fn prune_to(&mut self, cut: Cut, now: Timestamp) -> io::Result<()> {
        let Cut { through, last, offset } = cut;
        self.write_at_end(Line { through: Some(through), last: Some(last), ..Line::new(EntryKind::Pruned, now) })?;
        self.pruned_to = Some(offset);
        self.finish_pruning()
    }

    fn finish_pruning(&mut self) -> io::Result<()> {
        let Some(offset) = self.pruned_to else { return Ok(()) };
        self.check()?;
        let (file, length) = (Arc::clone(&self.file), self.length - offset);
        self.replace(length, |new| new.copy_from(&*file, offset, length))?;
        self.secure_name()
    }

    /// Puts a new file of that length in the ledger's place. Its name is not yet secure.
    fn replace(&mut self, length: u64, write: impl FnOnce(&dyn FsFile) -> io::Result<()>) -> io::Result<()> {
        let new = LEDGER.temporary;
        let file = self.dir.create_temporary(new)?;
        write(&*file)?;
        durable(file.sync_all())?;
        self.dir.rename(new, LEDGER.name)?;
        self.id = file.stat()?.id;
        self.file = file;
        self.named = false;
        self.length = length;
        self.untidy = false;
        self.pruned_to = None;
        Ok(())
    }

    /// A line is not durable while a power loss could bring back the file that this one replaced.
    fn secure_name(&mut self) -> io::Result<()> {
        if !self.named {
            self.dir.sync()?;
            self.named = true;
        }
        Ok(())
    }

    /// The lines that are known to be good, from the beginning.
    fn lines(&self) -> Lines<io::Take<BufReader<At<'_>>>> {
        Lines::new(BufReader::new(At::new(&*self.file, 0)).take(self.length))
    }

    /// Where the line with that hash ends.
    fn end_of(&self, hash: &str) -> io::Result<Option<u64>> {
        let mut lines = self.lines();
        while let Some(piece) = lines.next()? {
            if matches!(piece, Piece::Line(bytes) if sha256(bytes) == hash) {
                return Ok(Some(lines.end()));
            }
        }
        Ok(None)
    }

    /// Where the lines end that may go because of their age. A line of a time that cannot be (the clock was wrong when
    /// it was written) goes with a later one, never by itself.
    fn end_of_old_lines(&self, before: Timestamp, at_most: Duration, now: Timestamp) -> io::Result<Option<Cut>> {
        let mut lines = self.lines();
        let (mut bound, mut old) = (None, None);
        while let Some(piece) = lines.next()? {
            let Piece::Line(bytes) = piece else { continue };
            let Some(line) = Line::parse(bytes).filter(|line| (CONTRACT_DATE..=now).contains(&line.at)) else {
                continue;
            };
            let latest = || line.at.saturating_add(at_most).unwrap_or(Timestamp::MAX);
            if line.at >= *bound.get_or_insert_with(|| before.min(latest())) {
                break;
            }
            old = Some((line.seq, bytes.to_vec(), lines.end()));
        }
        Ok(old.map(|(through, bytes, offset)| Cut { through, last: sha256(&bytes), offset }))
    }

    /// Where the lines end that have to go because of the file's size.
    fn end_of_surplus(&self) -> io::Result<Option<Cut>> {
        // The line that tells of it has to fit as well.
        let room = KEPT_MAX - LINE_MAX as u64;
        let mut lines = self.lines();
        while let Some(piece) = lines.next()? {
            let Piece::Line(bytes) = piece else { continue };
            let Some(line) = Line::parse(bytes) else { continue };
            let last = sha256(bytes);
            if self.length - lines.end() <= room {
                return Ok(Some(Cut { through: line.seq, last, offset: lines.end() }));
            }
        }
        Ok(None)
    }
}
