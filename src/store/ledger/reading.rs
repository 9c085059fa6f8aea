//! Reads a ledger line by line, in memory that does not grow with it: all of it from its beginning, a page from its
//! end.

use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry_core::engine::EntryKind;
use pulse_telemetry_core::identity::{Identity, InstallId};
use pulse_telemetry_core::ledger::{LINE_MAX, Line, Piece, kind_of, seq_of};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::files::{Dir, LEDGER};
use super::super::fs::{At, FsFile};

/// A page is not larger than this, but for a single entry: half of what the commands read of an answer.
const PAGE_BYTES: usize = 512 * 1024;

/// Reads piece by piece.
pub(super) struct Lines<R> {
    from: R,
    buffer: Vec<u8>,
    /// Where the last whole line that was read ends.
    end: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, buffer: Vec::new(), end: 0 }
    }

    /// The offset behind the last whole line that was read.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Piece<'_>>> {
        // A line and its newline. What is longer is read in several goes, and only its end is looked for.
        let most = LINE_MAX as u64 + 1;
        let mut length = 0;
        loop {
            self.buffer.clear();
            let read = self.from.by_ref().take(most).read_until(b'\n', &mut self.buffer)? as u64;
            length += read;
            if self.buffer.last() == Some(&b'\n') {
                self.buffer.pop();
                self.end += length;
                return Ok(Some(if length > most { Piece::TooLong } else { Piece::Line(&self.buffer) }));
            }
            if read < most {
                return Ok((length > 0).then_some(Piece::Torn));
            }
        }
    }
}

/// Some entries of the ledger: the answer of `GET /api/v1/history`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryPage {
    /// The lines as they are stored, the newest first. Those that cannot be read are left out; the audit names them.
    pub entries: Vec<Box<RawValue>>,
    /// There are older ones: those with a `seq` below this one.
    pub before: Option<u64>,
}

/// The entries of a file, to be read from its end.
pub(in super::super) struct History<'a> {
    file: &'a dyn FsFile,
    length: u64,
}

impl<'a> History<'a> {
    pub(super) fn of(file: &'a dyn FsFile, length: u64) -> Self {
        Self { file, length }
    }

    /// The newest entries with a `seq` below `before`, at most `limit`. The larger the file, the longer it takes to
    /// find the place; what stands before it and behind it is not read.
    pub(super) fn page(&self, before: Option<u64>, limit: usize) -> io::Result<HistoryPage> {
        let end = before.map_or(Ok(self.length), |before| self.begin_of(before))?;
        let mut newest: Vec<(u64, Vec<u8>)> = Vec::new();
        let (mut bytes, mut more) = (0, false);
        let mut lines = LinesBackwards::new(self.file, end);
        while let Some(piece) = lines.next()? {
            let Piece::Line(line) = piece else { continue };
            let Some(seq) = seq_of(line).filter(|seq| before.is_none_or(|before| *seq < before)) else { continue };
            bytes += line.len();
            if newest.len() == limit || (!newest.is_empty() && bytes > PAGE_BYTES) {
                more = true;
                break;
            }
            newest.push((seq, line.to_vec()));
        }
        let oldest = newest.iter().map(|(seq, _)| *seq).min();
        let entries = newest.into_iter().filter_map(|(_, line)| as_stored(line)).collect();
        Ok(HistoryPage { entries, before: oldest.filter(|_| more) })
    }

    /// Where the lines begin whose `seq` is not below this one: they grow along the file.
    fn begin_of(&self, seq: u64) -> io::Result<u64> {
        // Every line that begins before `low` is below it, and every one that begins at `high` or later is not.
        let (mut low, mut high) = (0, self.length);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_from(middle, high)? {
                Some((found, end)) if found < seq => low = end,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// The `seq` of the first line that begins in that range and has one, and where the line ends.
    fn first_from(&self, from: u64, to: u64) -> io::Result<Option<(u64, u64)>> {
        // From the byte before on, to see whether a line begins right there.
        let start = from.saturating_sub(1);
        let mut lines =
            Lines::new(BufReader::with_capacity(CHUNK, At::new(self.file, start)).take(self.length - start));
        if from > 0 {
            lines.next()?;
        }
        loop {
            let begin = start + lines.end();
            let seq = match lines.next()? {
                Some(Piece::Line(line)) => seq_of(line),
                Some(Piece::TooLong) => None,
                Some(Piece::Torn) | None => return Ok(None),
            };
            if begin >= to {
                return Ok(None);
            }
            if let Some(seq) = seq {
                return Ok(Some((seq, start + lines.end())));
            }
        }
    }
}

/// How much is read at a time where only a part of the file is.
const CHUNK: usize = 16 * 1024;

/// Reads from a place backwards, once what has no newline behind it is skipped.
pub(super) struct LinesBackwards<'a> {
    file: &'a dyn FsFile,
    /// What stands before this place is still to be read.
    unread: u64,
    /// What was read and not yet given: it ends with the newline of the line that comes next.
    buffer: Vec<u8>,
    line: Vec<u8>,
    is_torn_skipped: bool,
    /// How much is read next: more each time, for mostly the last lines are enough.
    chunk: u64,
}

impl<'a> LinesBackwards<'a> {
    pub(super) fn new(file: &'a dyn FsFile, end: u64) -> Self {
        Self {
            file,
            unread: end,
            buffer: Vec::new(),
            line: Vec::new(),
            is_torn_skipped: false,
            chunk: CHUNK as u64 / 8,
        }
    }

    /// Skips what is behind the last newline, and says where that one ends.
    pub(super) fn skip_torn(&mut self) -> io::Result<u64> {
        if !self.is_torn_skipped {
            self.take_last()?;
            self.is_torn_skipped = true;
        }
        Ok(self.unread + self.buffer.len() as u64)
    }

    /// The line before the one that was given last. Nothing is [`Piece::Torn`] here.
    pub(super) fn next(&mut self) -> io::Result<Option<Piece<'_>>> {
        if self.skip_torn()? == 0 {
            return Ok(None);
        }
        self.buffer.pop();
        let is_whole = self.take_last()?;
        Ok(Some(if is_whole { Piece::Line(&self.line) } else { Piece::TooLong }))
    }

    /// Takes everything that is behind the last newline for the line, and says whether it is no longer than one may be.
    fn take_last(&mut self) -> io::Result<bool> {
        let mut fits = true;
        loop {
            let newline = last_newline(&self.buffer);
            if newline.is_none() && self.unread > 0 {
                if self.buffer.len() > LINE_MAX {
                    self.buffer.clear();
                    fits = false;
                }
                self.read_more()?;
                continue;
            }
            let begin = newline.map_or(0, |newline| newline + 1);
            self.line.clear();
            self.line.extend_from_slice(&self.buffer[begin..]);
            self.buffer.truncate(begin);
            return Ok(fits && self.line.len() <= LINE_MAX);
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let size = self.unread.min(self.chunk);
        self.chunk = (2 * self.chunk).min(CHUNK as u64);
        self.unread -= size;
        let mut chunk = vec![0; usize::try_from(size).unwrap_or(CHUNK)];
        At::new(self.file, self.unread).read_exact(&mut chunk)?;
        chunk.append(&mut self.buffer);
        self.buffer = chunk;
        Ok(())
    }
}

/// Where the last newline is. Most of a line is passed over in blocks, which takes a fraction of the time.
fn last_newline(bytes: &[u8]) -> Option<usize> {
    let is_in = |block: &&[u8]| block.iter().fold(false, |found, byte| found | (*byte == b'\n'));
    let passed = bytes.rchunks_exact(64).take_while(|block| !is_in(block)).count() * 64;
    bytes[..bytes.len() - passed].iter().rposition(|byte| *byte == b'\n')
}

/// Reads the ledger of a state directory piece by piece, without its lock: beside a running daemon too.
pub(in super::super) fn read(dir: &Dir, each: impl FnMut(Piece<'_>)) -> io::Result<()> {
    dir.open_to_read(LEDGER)?.map_or(Ok(()), |file| read_all(&*file, each))
}

/// Reads the ledgers that were put aside. What cannot be read of them any more tells nothing.
pub(super) fn read_put_aside(dir: &Dir, mut each: impl FnMut(Piece<'_>)) -> io::Result<()> {
    for aside in dir.put_aside_of(LEDGER)? {
        let _ = dir.open_put_aside(&aside, LEDGER).and_then(|file| read_all(&*file, &mut each));
    }
    Ok(())
}

/// Reads a file as a ledger.
fn read_all(file: &dyn FsFile, mut each: impl FnMut(Piece<'_>)) -> io::Result<()> {
    let mut lines = Lines::new(BufReader::new(At::new(file, 0)));
    while let Some(piece) = lines.next()? {
        each(piece);
    }
    Ok(())
}

/// Whether the ledger of a state directory, or one that was put aside, shows that the deletion of all that was sent
/// with this ID was asked for.
pub(in super::super) fn asks_to_forget(dir: &Dir, id: &InstallId) -> io::Result<bool> {
    let id = id.canonical();
    let mut shown = false;
    let mut look = |piece: Piece<'_>| {
        let Piece::Line(bytes) = piece else { return };
        if shown || kind_of(bytes) != Some(EntryKind::ForgetAsked) {
            return;
        }
        let asked = Line::parse(bytes).and_then(|line| InstallId::parse(line.install_id.as_deref()?));
        shown = asked.is_some_and(|asked| asked.canonical() == id);
    };
    read_put_aside(dir, &mut look)?;
    read(dir, &mut look)?;
    Ok(shown)
}

/// Whether the ledger of a state directory shows that this ID was made or used here.
pub(in super::super) fn shows(dir: &Dir, identity: &Identity) -> io::Result<bool> {
    let mut shown = false;
    read(dir, |piece| {
        let Piece::Line(bytes) = piece else { return };
        // Most lines need not be understood for this.
        let may = |line: &str| line.contains(identity.install_id.as_str()) || line.contains("\"id_r");
        let may = !shown && std::str::from_utf8(bytes).is_ok_and(may);
        let Some(line) = Some(bytes).filter(|_| may).and_then(Line::parse) else { return };
        shown = match line.kind {
            EntryKind::Attempted => line.body.is_some_and(|body| body.contains(identity.install_id.as_str())),
            EntryKind::IdRotated | EntryKind::IdReset => is_of_that_moment(line.at, identity.issued_at),
            _ => false,
        };
    })?;
    Ok(shown)
}

/// The entry of a new ID is written right after it is made.
fn is_of_that_moment(entry: Timestamp, made: Timestamp) -> bool {
    Duration::try_from(entry.duration_since(made)).is_ok_and(|later| later < Duration::from_secs(60))
}

/// A page of the ledger of a state directory, without its lock.
pub(in super::super) fn read_page(dir: &Dir, before: Option<u64>, limit: usize) -> io::Result<HistoryPage> {
    match dir.open_to_read(LEDGER)? {
        Some(file) => History::of(&*file, file.stat()?.size).page(before, limit),
        None => Ok(HistoryPage { entries: Vec::new(), before: None }),
    }
}

fn as_stored(line: Vec<u8>) -> Option<Box<RawValue>> {
    Line::parse(&line)?;
    RawValue::from_string(String::from_utf8(line).ok()?).ok()
}
