//! Reads a ledger from its beginning, line by line, in memory that does not grow with it.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::line::{LINE_MAX, Line, seq_of};

/// A page is not larger than this, but for a single entry: half of what the commands read of an answer.
const PAGE_BYTES: usize = 512 * 1024;

/// What stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A line, without its newline.
    Line(&'a [u8]),
    /// A line of more than [`LINE_MAX`] bytes.
    TooLong,
    /// What is behind the last newline.
    Torn,
}

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

/// The newest entries with a `seq` below `before`, at most so many.
pub(super) fn page(from: impl BufRead, before: Option<u64>, limit: usize) -> io::Result<HistoryPage> {
    let mut newest: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
    let (mut bytes, mut more) = (0, false);
    let mut lines = Lines::new(from);
    while let Some(piece) = lines.next()? {
        let Piece::Line(line) = piece else { continue };
        let Some(seq) = seq_of(line).filter(|seq| before.is_none_or(|before| *seq < before)) else { continue };
        bytes += line.len();
        newest.push_back((seq, line.to_vec()));
        while newest.len() > limit || (newest.len() > 1 && bytes > PAGE_BYTES) {
            bytes -= newest.pop_front().map_or(0, |(_, line)| line.len());
            more = true;
        }
    }
    let oldest = newest.iter().map(|(seq, _)| *seq).min();
    let entries = newest.into_iter().rev().filter_map(|(_, line)| as_stored(line)).collect();
    Ok(HistoryPage { entries, before: oldest.filter(|_| more) })
}

fn as_stored(line: Vec<u8>) -> Option<Box<RawValue>> {
    Line::parse(&line)?;
    RawValue::from_string(String::from_utf8(line).ok()?).ok()
}
