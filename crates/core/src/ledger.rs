//! The ledger's format: one line, and what can stand in its file.

mod kept_deletions;
mod sent_ids;

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::digest::sha256;
use crate::engine::{Entry, EntryKind};
use crate::ping::Event;
use crate::reason::{LedgerReason, ReasonWord};
use crate::receipt::ReceiptStanding;
pub use kept_deletions::KeptDeletions;
pub use sent_ids::{SentIds, id_in};

/// The longest line, in bytes without its newline; a longer one is damage. The largest body that the contract allows
/// makes a line of less than 8 KiB.
pub const LINE_MAX: usize = 64 * 1024;

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
    pub reason: Option<ReasonWord>,
    /// How many seconds the wall clock stepped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_seconds: Option<i64>,
    /// The schedule in force, of a start and of an attempt: the interval,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// and by how much it is longer or shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<u64>,
    /// The `seq` of the last line that was pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<u64>,
    /// The SHA-256 of that line, in hex: the first line that is left has it as its `prev`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// The ID whose deletion it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_id: Option<Cow<'a, str>>,
    /// The receipt, of a delivery and of a deletion, as the endpoint gave it; one that is false is not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Cow<'a, str>>,
    /// What it was judged when it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_is: Option<ReceiptStanding>,
    /// The SHA-256 of the line before, without its newline, in hex; empty on the first line.
    pub prev: String,
}

impl<'a> Line<'a> {
    /// A line of that kind, which has no place in the ledger yet.
    #[must_use]
    pub fn new(kind: EntryKind, at: Timestamp) -> Self {
        Self {
            seq: 0,
            at,
            kind,
            event: None,
            body: None,
            sha256: None,
            status: None,
            reason: None,
            step_seconds: None,
            interval_ms: None,
            jitter_ms: None,
            through: None,
            last: None,
            install_id: None,
            receipt: None,
            receipt_is: None,
            prev: String::new(),
        }
    }

    /// The line of an entry, which has no place in the ledger yet.
    #[must_use]
    pub fn of(entry: &'a Entry, at: Timestamp) -> Self {
        Self {
            event: entry.event,
            body: entry.body.as_deref().map(Cow::Borrowed),
            sha256: entry.body.as_deref().map(|body| sha256(body.as_bytes())),
            status: entry.status,
            reason: entry.reason.map(ReasonWord::Known),
            step_seconds: entry.step_seconds,
            interval_ms: entry.schedule.map(|(interval, _)| millis(interval)),
            jitter_ms: entry.schedule.map(|(_, jitter)| millis(jitter)),
            install_id: entry.install_id.as_ref().map(|id| Cow::Borrowed(id.as_str())),
            receipt: entry.receipt.as_ref().and_then(|receipt| receipt.text.as_deref()).map(Cow::Borrowed),
            receipt_is: entry.receipt.as_ref().map(|receipt| receipt.standing),
            ..Self::new(entry.kind, at)
        }
    }
}

impl Line<'_> {
    /// The reason, where it is one that this version knows.
    #[must_use]
    pub fn known_reason(&self) -> Option<LedgerReason> {
        match self.reason {
            Some(ReasonWord::Known(reason)) => Some(reason),
            _ => None,
        }
    }
}

impl Line<'static> {
    /// Reads a line. `None` where it is not one of a ledger.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// The `seq` of a line as this program writes it, without reading the rest.
#[must_use]
pub fn seq_of(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"seq\":")?;
    let end = rest.iter().position(|byte| *byte == b',')?;
    std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()
}

/// The kind of a line as this program writes it, without reading the rest.
#[must_use]
pub fn kind_of(line: &[u8]) -> Option<EntryKind> {
    let rest = line.strip_prefix(b"{\"seq\":")?;
    let rest = rest.get(rest.iter().position(|byte| !byte.is_ascii_digit())?..)?.strip_prefix(b",\"at\":\"")?;
    let rest = rest.get(rest.iter().position(|byte| *byte == b'"')?..)?.strip_prefix(b"\",\"kind\":\"")?;
    let word = rest.get(..rest.iter().position(|byte| *byte == b'"')?)?;
    EntryKind::ALL.into_iter().find(|kind| kind.word().as_bytes() == word)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_line_is_told_without_reading_it() {
        for kind in EntryKind::ALL {
            let line = serde_json::to_vec(&Line { seq: 17, ..Line::new(kind, Timestamp::UNIX_EPOCH) }).unwrap();
            assert_eq!((kind_of(&line), seq_of(&line)), (Some(kind), Some(17)));
            assert_eq!(Line::parse(&line).map(|line| line.kind), Some(kind));
        }
        for other in ["", "{}", "{\"seq\":", "{\"seq\":1,\"at\":\"x\",\"kind\":\"unheard of\"}"] {
            assert_eq!(kind_of(other.as_bytes()), None, "{other}");
        }
    }
}
