//! The audit: what the ledger shows of what this program did, held against what it promises.
//!
//! Pure: it is fed the ledger piece by piece and remembers little of it. The chain shows a line that was changed,
//! removed, repeated or moved, but for what is at the very end: nothing follows the newest line, so that nothing shows
//! whether it was changed or whether newer ones were cut off. A forgery by the owner of the disk cannot be shown.
//!
//! The newest line's hash, written down elsewhere, shows later whether the chain still holds that line.
//!
//! A finding is a fact about the ledger. Where a line cannot be read, or does not follow from the one before,
//! everything that hangs on what went before is forgotten, so that one damage is one finding.

mod follow;
mod line_hash;
mod receipts;
mod report;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::clock::MINUTE;
use crate::engine::{EntryKind, Schedule};
use crate::ledger::{LINE_MAX, Line, Piece, sha256};
use crate::ping::{self, Event};
use crate::reason::ReasonWord;
use follow::{IdUse, Known};
pub use line_hash::LineHash;
use receipts::ReceiptsSeen;
use report::Checks;
pub use report::{Check, Finding, Report};

/// Wall clocks may step by this without a `clock_stepped` line. Of a short distance, for tests, a tenth is allowed.
const UNRECORDED_STEP: Duration = MINUTE;

/// An audit under way.
#[derive(Debug)]
pub struct Audit {
    now: Timestamp,
    /// The hash of a line that has to be there.
    since: Option<Since>,
    /// The schedule in force, where the ledger tells it.
    schedule: Option<Schedule>,
    checks: Checks,
    /// How many lines there were so far.
    lines: u64,
    /// When the first and the last line were written.
    times: Option<(Timestamp, Timestamp)>,
    /// The newest line that can be read: its `seq` and its hash.
    newest: Option<(u64, String)>,
    /// The first of the lines so far whose time is in the future, and how many there are.
    ahead: Option<(u64, u64)>,
    /// The line before; `None` at the beginning and after one that cannot be read.
    before: Option<Before>,
    /// The `seq` and `prev` of a first line that a later `pruned` line has to explain.
    unexplained: Option<(u64, String)>,
    counted: Counted,
    /// Every ID, and what it was used for.
    ids: BTreeMap<String, IdUse>,
    /// Grows whenever the IDs so far may not be used any more.
    generation: u64,
    /// IDs of older generations than this one may have been replaced later than it seems: the track was lost.
    uncertain: u64,
    known: Known,
    receipts: ReceiptsSeen,
}

/// A hash that somebody wrote down, and the entry that has it.
#[derive(Debug)]
struct Since {
    hash: String,
    found: Option<u64>,
}

#[derive(Debug)]
struct Before {
    seq: u64,
    hash: String,
    at: Timestamp,
    kind: EntryKind,
}

#[derive(Debug, Default)]
struct Counted {
    bodies: u64,
    attempts: u64,
    startups: u64,
    heartbeats: u64,
    switches: u64,
    pruned_through: Option<u64>,
    erased: bool,
}

impl Audit {
    /// An audit at that time. Where a hash is given, a line has to have it.
    #[must_use]
    pub fn new(now: Timestamp, since: Option<LineHash>) -> Self {
        Self {
            now,
            since: since.map(|hash| Since { hash: hash.to_string(), found: None }),
            schedule: None,
            newest: None,
            ahead: None,
            checks: Checks::default(),
            lines: 0,
            times: None,
            before: None,
            unexplained: None,
            counted: Counted::default(),
            ids: BTreeMap::new(),
            generation: 0,
            uncertain: 0,
            known: Known::default(),
            receipts: ReceiptsSeen::default(),
        }
    }

    /// Takes the next piece of the ledger.
    pub fn take(&mut self, piece: Piece<'_>) {
        self.lines += 1;
        match piece {
            Piece::Line(bytes) => match Line::parse(bytes) {
                Some(line) => self.take_line(&line, sha256(bytes)),
                None => self.lose_track("cannot be read as an entry of the ledger"),
            },
            Piece::TooLong => self.lose_track(&format!("is longer than {LINE_MAX} bytes, which no entry is")),
            Piece::Torn => {
                self.lose_track("is not whole: a crash tore it. The next start cuts it off and keeps it beside")
            }
        }
    }

    /// What was checked and found.
    #[must_use]
    pub fn finish(mut self) -> Report {
        if let Some((seq, _)) = self.unexplained.take() {
            let what = format!("begins with entry {seq}, and no later entry says why the ones before are gone");
            self.checks.chain.add(1, what);
        }
        if let Some((line, more)) = self.ahead {
            let more = if more > 1 { format!(", and so do {} more", more - 1) } else { String::new() };
            self.checks.times.add(line, format!("its time lies in the future{more}, and no later line sets it right"));
        }
        let since = self.check_since();
        let Checks { chain, times, bodies, rotation, spacing, attempts, consent, receipts, deletions } = self.checks;
        let Counted { pruned_through, erased, .. } = self.counted;
        let beginning = match (pruned_through, erased) {
            (Some(through), _) => format!(" (older ones were pruned, up to entry {through})"),
            (None, true) => " (an entry says that the history before was erased on request)".to_owned(),
            (None, false) => String::new(),
        };
        let counted = &self.counted;
        let checks = vec![
            chain.of(
                "chain",
                format!("{} lines: each follows from the one before, by number and hash{beginning}{since}", self.lines),
            ),
            times.of("times", "no line is from the future".to_owned()),
            bodies.of(
                "bodies",
                format!("{} bodies: each has its SHA-256, keeps the contract, and is compact JSON", counted.bodies),
            ),
            rotation.of(
                "rotation",
                format!("{} IDs: none used for 30 days, none used again after it was replaced", self.ids.len()),
            ),
            spacing.of(
                "spacing",
                format!(
                    "{} heartbeats and {} startups: each keeps the distance that the schedule in force asked for",
                    counted.heartbeats, counted.startups
                ),
            ),
            attempts.of(
                "attempts",
                format!(
                    "{} attempts: what became of each is recorded, the newest one's perhaps not yet",
                    counted.attempts
                ),
            ),
            consent.of("consent", format!("{} switches: no attempt while telemetry was off", counted.switches)),
            receipts.of("receipts", self.receipts.told()),
            deletions.of("deletions", self.receipts.told_of_deletions()),
        ];
        Report { lines: self.lines, times: self.times, newest: self.newest, checks }
    }

    fn take_line(&mut self, line: &Line<'_>, hash: String) {
        self.newest = Some((line.seq, hash.clone()));
        if let Some(since) = self.since.as_mut().filter(|since| since.hash == hash) {
            since.found = Some(line.seq);
        }
        self.check_time(line);
        self.times = Some((self.times.map_or(line.at, |(first, _)| first), line.at));
        self.check_place(line);
        let document = line.body.as_deref().and_then(|body| self.check_body(line, body));
        if self.before.as_ref().is_some_and(|before| line.at < before.at) {
            // The clock stepped back, or was wrong before the start.
            self.known.forget_times();
        }
        self.follow(line, document.as_ref());
        self.before = Some(Before { seq: line.seq, hash, at: line.at, kind: line.kind });
    }

    /// A clock that was ahead and was set right is told by an entry, or by the next start.
    fn check_time(&mut self, line: &Line<'_>) {
        if line.at > self.now.saturating_add(UNRECORDED_STEP).unwrap_or(Timestamp::MAX) {
            let (first, count) = self.ahead.unwrap_or((self.lines, 0));
            self.ahead = Some((first, count + 1));
        } else if matches!(line.kind, EntryKind::ClockStepped | EntryKind::Started) {
            self.ahead = None;
        }
    }

    /// Looks for the line whose hash was given, and says where it is.
    fn check_since(&mut self) -> String {
        match &self.since {
            None => String::new(),
            Some(Since { found: Some(seq), .. }) => format!("; the hash that was given is that of entry {seq}"),
            Some(Since { hash, .. }) => {
                let what = format!(
                    "no line has the hash that was given, {hash}: that line was removed or the chain was written \
                     anew since (what is pruned after 90 days goes as well)"
                );
                self.checks.chain.add(self.lines, what);
                String::new()
            }
        }
    }

    /// The line cannot be read, so what comes next cannot be held against it.
    fn lose_track(&mut self, what: &str) {
        self.checks.chain.add(self.lines, what.to_owned());
        self.before = None;
        self.uncertain = self.generation;
        self.schedule = None;
        self.known = Known::default();
    }

    fn check_place(&mut self, line: &Line<'_>) {
        match &self.before {
            Some(before) if before.seq.checked_add(1) == Some(line.seq) && before.hash == line.prev => {}
            Some(before) => {
                let what = format!(
                    "entry {} does not follow from the one above it, entry {}: one of them was changed, or entries \
                     between them were removed, repeated or moved",
                    line.seq, before.seq
                );
                self.lose_track(&what);
            }
            None if self.lines > 1 => {}
            None if line.seq == 1 && line.prev.is_empty() => self.known.attempts = true,
            None if matches!(line.kind, EntryKind::Erased | EntryKind::HistoryLost) => {}
            None => self.unexplained = Some((line.seq, line.prev.clone())),
        }
        match (line.kind, line.through, &line.last) {
            (EntryKind::Pruned, Some(through), Some(last)) if through < line.seq => {
                let explains = |(seq, prev): &(u64, String)| through.checked_add(1) == Some(*seq) && prev == last;
                self.unexplained.take_if(|first| explains(first));
                self.counted.pruned_through = Some(through);
                if let Some(since) = self.since.as_mut().filter(|since| since.hash == *last) {
                    since.found = Some(through);
                }
            }
            (EntryKind::Pruned, ..) => {
                self.checks.chain.add(self.lines, "says that it pruned, but not what".to_owned())
            }
            (EntryKind::Erased, ..) if self.lines > 1 => {
                let what = "says that everything before it was erased, and stands behind other entries";
                self.checks.chain.add(self.lines, what.to_owned());
            }
            (EntryKind::Erased, ..) => self.counted.erased = true,
            (EntryKind::HistoryLost, through, _) => {
                let reason = line.reason.as_ref().map_or("unknown", ReasonWord::as_str);
                let known = through.map(|through| format!("; the last one known was entry {through}"));
                self.lose_track(&format!("entries that were here were lost ({reason}){}", known.unwrap_or_default()));
            }
            _ => {}
        }
    }

    /// Checks a body by itself, and gives it as a document where it is one.
    fn check_body(&mut self, line: &Line<'_>, body: &str) -> Option<Value> {
        self.counted.bodies += 1;
        if line.sha256.as_deref() != Some(&sha256(body.as_bytes())) {
            self.checks.bodies.add(self.lines, "the body is not the one that its SHA-256 belongs to".to_owned());
        }
        let document = match ping::decode(body) {
            Ok(document) => document,
            Err(why) => {
                self.checks.bodies.add(self.lines, format!("the body {why}"));
                return serde_json::from_str(body).ok();
            }
        };
        if line.event.map(Event::word) != document["event"].as_str() {
            self.checks.bodies.add(self.lines, "the body is another event than the entry says".to_owned());
        }
        Some(document)
    }
}
