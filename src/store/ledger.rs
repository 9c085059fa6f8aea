//! The ledger: one JSON object a line, each holding the hash of the line before.
//!
//! It is appended, but for two occasions on which a new file takes its place: pruning, which leaves the tail and a line
//! that says what was before it, and erasing, which leaves one line.

mod line;
mod reading;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::contract::CONTRACT_DATE;
use crate::engine::{Entry, EntryKind};
use crate::ping::Event;

pub use line::{LINE_MAX, Line, sha256};
use reading::Lines;
pub use reading::{HistoryPage, Piece};

const LEDGER_FILE: &str = "ledger.jsonl";
/// The file that is to take the ledger's place.
const NEW_FILE: &str = "ledger.jsonl.new";

/// The file is never larger.
const FILE_MAX: u64 = 16 << 20;
/// What is left of a file that would be, the line that tells of it included.
const KEPT_MAX: u64 = 12 << 20;
/// Entries that could not be written wait for the next one, at most so many.
const OWED_MAX: usize = 256;

/// The ledger, open for appending.
#[derive(Debug)]
pub(super) struct Ledger {
    dir: PathBuf,
    file: File,
    /// The file's name is known to outlive a power loss.
    named: bool,
    /// Bytes that are known to be good: all lines up to here are whole.
    length: u64,
    seq: u64,
    prev: String,
    /// A `pruned` line tells of the lines up to this offset, and they are still there.
    pruned_to: Option<u64>,
    /// What could not be written, and when it happened.
    owed: VecDeque<(Entry, Timestamp)>,
}

/// What a look at the whole file tells.
#[derive(Default)]
struct Scan {
    /// Where the last whole line ends.
    whole: u64,
    torn: bool,
    /// The last whole line.
    last: Option<Vec<u8>>,
    first_seq: Option<u64>,
    /// The attempt that nothing closed.
    open: Option<Event>,
    /// What the last `pruned` line tells: the last line that was pruned, and its hash.
    pruned: Option<(u64, String)>,
}

/// A place between two lines.
struct Cut {
    /// The `seq` and the hash of the line before it.
    through: u64,
    last: String,
    offset: u64,
}

impl Ledger {
    /// Opens the ledger, and says which attempt nothing closed. A last line that a crash tore is cut off and kept
    /// beside; a ledger whose last whole line cannot be read is put aside as a whole; a pruning that a crash cut short
    /// is finished.
    pub(super) fn open(dir: &Path, notices: &mut Vec<String>) -> io::Result<(Self, Option<Event>)> {
        // A new file that never took the ledger's place holds history that may have been erased since.
        super::remove(dir, NEW_FILE)?;
        let path = dir.join(LEDGER_FILE);
        let mut file = super::open_private(dir, LEDGER_FILE)?;
        let mut scan = Scan::of(BufReader::new(&file))?;
        let last = scan.last.as_deref().and_then(Line::parse).filter(|line| line.seq < u64::MAX);
        let (seq, prev) = match (&scan.last, last) {
            (None, _) => (0, String::new()),
            (Some(bytes), Some(line)) => (line.seq, sha256(bytes)),
            (Some(_), None) => {
                notices.push(super::put_aside(&path)?);
                file = super::open_private(dir, LEDGER_FILE)?;
                scan = Scan::default();
                (0, String::new())
            }
        };
        if scan.torn {
            let beside = keep_torn(dir, &file, scan.whole)?;
            file.set_len(scan.whole)?;
            file.sync_all()?;
            let (path, beside) = (path.display(), beside.display());
            notices
                .push(format!("The last line of {path} was torn by a crash; it was cut off and is kept in {beside}."));
        }
        let mut ledger = Self {
            dir: dir.to_owned(),
            file,
            named: false,
            length: scan.whole,
            seq,
            prev,
            pruned_to: None,
            owed: VecDeque::new(),
        };
        if let Some((through, last)) = &scan.pruned
            && scan.first_seq.is_some_and(|first| first <= *through)
        {
            ledger.pruned_to = ledger.end_of(last)?;
            ledger.finish_pruning()?;
        }
        Ok((ledger, scan.open))
    }

    /// Appends one entry, durably, and before it those that could not be written when they happened.
    pub(super) fn append(&mut self, entry: &Entry, now: Timestamp) -> io::Result<()> {
        let result = self.write_owed().and_then(|()| self.write(Line::of(entry, now)));
        // An attempt that could not be recorded is not made.
        if result.is_err() && entry.kind != EntryKind::Attempted && self.owed.len() < OWED_MAX {
            self.owed.push_back((entry.clone(), now));
        }
        result
    }

    /// Removes lines from before that time, at most so much of them as lies so long behind the oldest one.
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
        self.replace(&mut bytes.as_slice(), bytes.len() as u64)?;
        self.seq += 1;
        self.prev = prev;
        self.owed.clear();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if ["torn-", "damaged-"].iter().any(|mark| name.starts_with(&format!("{LEDGER_FILE}.{mark}"))) {
                fs::remove_file(entry.path())?;
            }
        }
        self.named = false;
        self.secure_name()
    }

    /// The size of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.length
    }

    /// The newest entries with a `seq` below `before`, at most so many.
    pub(super) fn page(&self, before: Option<u64>, limit: usize) -> io::Result<HistoryPage> {
        reading::page(self.reader()?.take(self.length), before, limit)
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

    /// Appends a line, and makes room for it first where the file is full.
    fn write(&mut self, line: Line<'_>) -> io::Result<()> {
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
        self.length + LINE_MAX as u64 > FILE_MAX
    }

    fn write_at_end(&mut self, line: Line<'_>) -> io::Result<()> {
        let (bytes, prev) = self.encode(line)?;
        self.secure_name()?;
        // What a failed write left must not stay in front of this line.
        if self.file.metadata()?.len() != self.length {
            self.file.set_len(self.length)?;
        }
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        self.seq += 1;
        self.prev = prev;
        Ok(())
    }

    /// The line as the next one of the chain, with its newline, and its hash.
    fn encode(&self, line: Line<'_>) -> io::Result<(Vec<u8>, String)> {
        let mut bytes = serde_json::to_vec(&Line { seq: self.seq + 1, prev: self.prev.clone(), ..line })?;
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
        let mut tail = self.reader()?;
        tail.seek(SeekFrom::Start(offset))?;
        self.replace(&mut tail, self.length - offset)?;
        self.secure_name()
    }

    /// Puts a new file in the ledger's place. Its name is not yet secure.
    fn replace(&mut self, content: &mut dyn Read, length: u64) -> io::Result<()> {
        let (temporary, mut file) = super::open_temporary(&self.dir, NEW_FILE)?;
        if io::copy(&mut content.take(length), &mut file)? != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.sync_all()?;
        fs::rename(&temporary, self.dir.join(LEDGER_FILE))?;
        self.file = file;
        self.named = false;
        self.length = length;
        self.pruned_to = None;
        Ok(())
    }

    /// A line is not durable while a power loss could bring back the file that this one replaced.
    fn secure_name(&mut self) -> io::Result<()> {
        if !self.named {
            super::sync_dir(&self.dir)?;
            self.named = true;
        }
        Ok(())
    }

    /// The lines that are known to be good, from the beginning.
    fn reader(&self) -> io::Result<BufReader<File>> {
        // A handle of its own: a clone would share its position with the one that appends.
        File::open(self.dir.join(LEDGER_FILE)).map(BufReader::new)
    }

    /// Where the line with that hash ends.
    fn end_of(&self, hash: &str) -> io::Result<Option<u64>> {
        let mut lines = Lines::new(self.reader()?.take(self.length));
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
        let mut lines = Lines::new(self.reader()?.take(self.length));
        let (mut bound, mut cut) = (None, None);
        while let Some(piece) = lines.next()? {
            let Piece::Line(bytes) = piece else { continue };
            let Some(line) = Line::parse(bytes).filter(|line| (CONTRACT_DATE..=now).contains(&line.at)) else {
                continue;
            };
            let latest = || line.at.saturating_add(at_most).unwrap_or(Timestamp::MAX);
            if line.at >= *bound.get_or_insert_with(|| before.min(latest())) {
                break;
            }
            let last = sha256(bytes);
            cut = Some(Cut { through: line.seq, last, offset: lines.end() });
        }
        Ok(cut)
    }

    /// Where the lines end that have to go because of the file's size.
    fn end_of_surplus(&self) -> io::Result<Option<Cut>> {
        // The line that tells of it has to fit as well.
        let room = KEPT_MAX - LINE_MAX as u64;
        let mut lines = Lines::new(self.reader()?.take(self.length));
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

impl Scan {
    fn of(from: impl BufRead) -> io::Result<Self> {
        let mut scan = Self::default();
        let mut lines = Lines::new(from);
        while let Some(piece) = lines.next()? {
            let bytes = match piece {
                Piece::Line(bytes) => bytes,
                Piece::TooLong => &[],
                Piece::Torn => {
                    scan.torn = true;
                    continue;
                }
            };
            scan.last.get_or_insert_default().clear();
            scan.last.get_or_insert_default().extend_from_slice(bytes);
            if let Some(line) = Line::parse(bytes) {
                scan.look_at(&line);
            }
        }
        scan.whole = lines.end();
        Ok(scan)
    }

    fn look_at(&mut self, line: &Line<'_>) {
        self.first_seq.get_or_insert(line.seq);
        match line.kind {
            EntryKind::Attempted => self.open = line.event,
            EntryKind::Sent | EntryKind::Failed => self.open = None,
            EntryKind::Pruned => self.pruned = line.through.zip(line.last.clone()),
            _ => {}
        }
    }
}

/// Copies what is behind the last whole line to a new file beside the ledger, durably.
fn keep_torn(dir: &Path, mut file: &File, whole: u64) -> io::Result<PathBuf> {
    let mut number = 1;
    let (beside, mut kept) = loop {
        let beside = dir.join(format!("{LEDGER_FILE}.torn-{number}"));
        match super::create_private(dir, &beside) {
            Ok(kept) => break (beside, kept),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    };
    file.seek(SeekFrom::Start(whole))?;
    io::copy(&mut file, &mut kept)?;
    kept.sync_all()?;
    super::sync_dir(dir)?;
    Ok(beside)
}

/// Reads the ledger of a state directory piece by piece, without its lock: beside a running daemon too.
pub(super) fn read(dir: &Path, mut each: impl FnMut(Piece<'_>)) -> io::Result<()> {
    let Some(file) = open_to_read(dir)? else { return Ok(()) };
    let mut lines = Lines::new(file);
    while let Some(piece) = lines.next()? {
        each(piece);
    }
    Ok(())
}

/// A page of the ledger of a state directory, without its lock.
pub(super) fn read_page(dir: &Path, before: Option<u64>, limit: usize) -> io::Result<HistoryPage> {
    match open_to_read(dir)? {
        Some(file) => reading::page(file, before, limit),
        None => Ok(HistoryPage { entries: Vec::new(), before: None }),
    }
}

/// `None` where nothing was recorded yet. A directory that is not there is an error.
fn open_to_read(dir: &Path) -> io::Result<Option<BufReader<File>>> {
    fs::read_dir(dir)?;
    match File::open(dir.join(LEDGER_FILE)) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
