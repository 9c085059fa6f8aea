//! The ledger: one JSON object a line, each holding the hash of the line before.

use std::borrow::Cow;
use std::fs::{File, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::engine::{Entry, EntryKind};
use crate::ping::Event;

/// One line of `ledger.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line<'a> {
    /// Counts from 1, without a gap.
    pub seq: u64,
    /// The wall clock's time.
    pub at: Timestamp,
    /// What happened.
    pub kind: EntryKind,
    /// The ping that it happened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// The exact bytes, of an attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Cow<'a, str>>,
    /// The SHA-256 of `body`, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The HTTP status, of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why, in one word of a small set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// How many seconds the wall clock stepped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_seconds: Option<i64>,
    /// The SHA-256 of the line before, without its newline, in hex; empty on the first line.
    pub prev: String,
}

/// The ledger, open for appending.
#[derive(Debug)]
pub(super) struct Ledger {
    file: File,
    /// Bytes that are known to be good: all lines up to here are whole.
    length: u64,
    seq: u64,
    prev: String,
}

impl Ledger {
    /// Opens the ledger, and says which attempt nothing closed. A last line that a crash tore is cut off and kept
    /// beside; a ledger whose last whole line cannot be read is put aside as a whole.
    pub(super) fn open(path: &Path, notices: &mut Vec<String>) -> io::Result<(Self, Option<Event>)> {
        let mut content = super::read(path)?.unwrap_or_default();
        let whole = content.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if whole < content.len() {
            let torn = content.split_off(whole);
            let beside = super::unused_name(path, "torn")?;
            let mut file = super::private().truncate(true).open(&beside)?;
            file.write_all(&torn)?;
            file.sync_all()?;
            let beside = beside.display();
            notices.push(format!("The last line of {} was torn by a crash; it is kept in {beside}.", path.display()));
        }
        let mut last = None;
        let mut open = None;
        for line in content.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let parsed = serde_json::from_slice::<Line<'_>>(line).ok();
            match parsed.as_ref().map(|line| line.kind) {
                Some(EntryKind::Attempted) => open = parsed.as_ref().and_then(|line| line.event),
                Some(EntryKind::Sent | EntryKind::Failed) => open = None,
                _ => {}
            }
            last = Some((parsed.map(|line| line.seq), hex(line)));
        }
        let (seq, prev) = match last {
            None => (0, String::new()),
            Some((Some(seq), prev)) => (seq, prev),
            Some((None, _)) => {
                notices.push(super::put_aside(path)?);
                content.clear();
                open = None;
                (0, String::new())
            }
        };
        let file = super::private().truncate(false).open(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok((Self { file, length: content.len() as u64, seq, prev }, open))
    }

    /// Appends one entry, durably.
    pub(super) fn append(&mut self, entry: &Entry, now: Timestamp) -> io::Result<()> {
        let line = Line {
            seq: self.seq + 1,
            at: now,
            kind: entry.kind,
            event: entry.event,
            body: entry.body.as_deref().map(Cow::Borrowed),
            sha256: entry.body.as_deref().map(|body| hex(body.as_bytes())),
            status: entry.status,
            reason: entry.reason.map(Cow::Borrowed),
            step_seconds: entry.step_seconds,
            prev: self.prev.clone(),
        };
        let mut bytes = serde_json::to_vec(&line)?;
        let prev = hex(&bytes);
        bytes.push(b'\n');
        // What a failed write left must not stay in front of this line.
        self.cut()?;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        self.seq += 1;
        self.prev = prev;
        Ok(())
    }

    /// Cuts off what is behind the last whole line, and goes there.
    fn cut(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() != self.length {
            self.file.set_len(self.length)?;
        }
        self.file.seek(io::SeekFrom::Start(self.length))?;
        Ok(())
    }
}

/// The SHA-256 in hex.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    digest(&SHA256, bytes).as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
