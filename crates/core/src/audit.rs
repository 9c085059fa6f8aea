//! The audit: what the ledger shows of what this program did, held against what it promises.
//!
//! Pure: it is fed the ledger piece by piece and remembers little of it. The chain shows a line that was changed,
//! removed, repeated or moved, but for what is at the very end: nothing follows the newest line, so that nothing shows
//! whether it was changed or whether newer ones were cut off. A forgery by whoever owns the disk cannot be shown.
//!
//! Whoever wrote the newest line's hash down elsewhere sees later whether the chain still holds that line.
//!
//! A finding is a fact about the ledger. Where a line cannot be read, or does not follow from the one before,
//! everything that hangs on what went before is forgotten, so that one damage is one finding.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::clock::MINUTE;
use crate::engine::{EntryKind, Schedule};
use crate::identity::ROTATION;
use crate::ledger::{LINE_MAX, Line, Piece, sha256};
use crate::ping::{self, Event};
use crate::reason::{LedgerReason, ReasonWord};

/// So many findings of a check are told one by one; more are only counted.
const TOLD_MAX: usize = 20;

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
    ids: BTreeMap<String, Use>,
    /// Grows whenever the IDs so far may not be used any more.
    generation: u64,
    /// IDs of older generations than this one may have been replaced later than it seems: the track was lost.
    uncertain: u64,
    known: Known,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many lines the ledger has.
    pub lines: u64,
    /// When its first and its last line were written.
    pub times: Option<(Timestamp, Timestamp)>,
    /// The newest line that can be read: its `seq` and its hash.
    pub newest: Option<(u64, String)>,
    /// What was checked.
    pub checks: Vec<Check>,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A word for it.
    pub name: &'static str,
    /// What was checked, with its count.
    pub what: String,
    /// What was found, at most the first 20.
    pub findings: Vec<Finding>,
    /// How much more was found.
    pub untold: u64,
}

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line of the file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: String,
}

#[derive(Debug, Default)]
struct Checks {
    chain: Findings,
    times: Findings,
    bodies: Findings,
    rotation: Findings,
    spacing: Findings,
    attempts: Findings,
    consent: Findings,
}

#[derive(Debug, Default)]
struct Findings {
    told: Vec<Finding>,
    untold: u64,
}

/// The SHA-256 of a line, as an audit prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineHash([u8; 32]);

impl FromStr for LineHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |byte| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            b'A'..=b'F' => Some(byte - b'A' + 10),
            _ => None,
        };
        let digits = text.bytes().map(digit).collect::<Option<Vec<u8>>>();
        let digits = digits.filter(|digits| digits.len() == 64);
        let digits = digits.ok_or("a hash is 64 digits of 0 to 9 and a to f, as an audit prints it")?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        }
        Ok(Self(hash))
    }
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

#[derive(Debug)]
struct Use {
    first: Timestamp,
    last: Timestamp,
    generation: u64,
    too_old: bool,
}

/// What hangs on the lines before, and is unknown at the beginning of a ledger that was pruned or erased.
#[derive(Debug, Default)]
struct Known {
    /// An attempt that is not yet closed, by its line.
    open: Option<u64>,
    /// Whether an attempt is under way can be told.
    attempts: bool,
    /// What switched telemetry off, and in which line.
    off: Option<(ReasonWord, u64)>,
    startup: Option<AttemptedPing>,
    heartbeat: Option<AttemptedPing>,
    /// There is a new ID since then, by that line, and its first heartbeat is still to come.
    new_id: Option<NewId>,
}

/// An ID that took the place of another one.
#[derive(Clone, Copy, Debug)]
struct NewId {
    at: Timestamp,
    line: u64,
    /// How far its first heartbeat has to be.
    least: Duration,
}

/// A ping that was attempted.
#[derive(Debug)]
struct AttemptedPing {
    hash: String,
    install_id: String,
    /// The first attempt.
    at: Timestamp,
    line: u64,
    /// How far the next one has to be, by the schedule in force then.
    least: Duration,
    delivered: bool,
}

impl Audit {
    /// An audit at that time. Where a hash is given, a line has to have it.
    #[must_use]
    pub fn new(now: Timestamp, since: Option<LineHash>) -> Self {
        Self {
            now,
            since: since.map(|LineHash(hash)| Since {
                hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
                found: None,
            }),
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
        let Checks { chain, times, bodies, rotation, spacing, attempts, consent } = self.checks;
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

    fn follow(&mut self, line: &Line<'_>, document: Option<&Value>) {
        match line.kind {
            EntryKind::Attempted => self.on_attempt(line, document),
            EntryKind::Sent => {
                if self.known.open.take().is_none() && self.known.attempts {
                    self.checks
                        .attempts
                        .add(self.lines, "a ping was delivered, and no attempt stands before it".to_owned());
                }
                if let Some(ping) = line.event.and_then(|event| self.known.ping(event).as_mut()) {
                    ping.delivered = true;
                }
            }
            EntryKind::Failed => {
                self.known.open = None;
                // An attempt whose state could not be written was not made; a ping whose ID expired, or that was
                // damaged on disk, is built anew at once.
                let is_built_anew = matches!(
                    line.known_reason(),
                    Some(LedgerReason::Storage | LedgerReason::IdExpired | LedgerReason::Damaged)
                );
                if let Some(event) = line.event.filter(|_| is_built_anew) {
                    *self.known.ping(event) = None;
                }
            }
            EntryKind::IdRotated => {
                self.generation += 1;
                if matches!(line.known_reason(), Some(LedgerReason::NoId | LedgerReason::Unused)) {
                    // The ID went with a switch to off, recorded or not, and the pending ping with it; or no ping went
                    // with it at all.
                    let new_id = self.known.new_id;
                    self.known.forget_times();
                    self.known.new_id = new_id;
                } else {
                    self.on_new_id(line);
                }
            }
            EntryKind::IdReset => {
                self.generation += 1;
                self.on_new_id(line);
            }
            EntryKind::ConsentChanged => {
                self.counted.switches += 1;
                let is_on = line.known_reason() == Some(LedgerReason::On);
                let reason = || line.reason.clone().unwrap_or(ReasonWord::Other(String::new()));
                self.known.off = (!is_on).then(|| (reason(), self.lines));
                self.known.forget_times();
                if is_on {
                    self.on_new_id(line);
                } else {
                    self.generation += 1;
                }
            }
            EntryKind::ClockStepped => self.known.forget_times(),
            EntryKind::Started => self.on_start(line),
            EntryKind::Suppressed
            | EntryKind::Stopped
            | EntryKind::Erased
            | EntryKind::Pruned
            | EntryKind::HistoryLost => {}
        }
    }

    /// A new process looks anew at everything that switches telemetry off; only the local switch outlives it, and
    /// after a crash not even that is known, for its last turn may not have been recorded.
    fn on_start(&mut self, line: &Line<'_>) {
        match schedule_in(line) {
            Some(schedule) => self.put_in_force(schedule),
            None => {
                // An earlier version, which may have been configured otherwise.
                self.schedule = None;
                self.known.forget_times();
            }
        }
        let before = self.before.as_ref().map(|before| before.kind);
        self.known
            .off
            .take_if(|(reason, _)| *reason != LedgerReason::OffBySwitch || before != Some(EntryKind::Stopped));
        if before == Some(EntryKind::Sent) {
            // A crash right after a delivery: the state may not say so, and the same bytes may go again.
            for ping in [&mut self.known.startup, &mut self.known.heartbeat].into_iter().flatten() {
                ping.delivered = false;
            }
        }
    }

    /// From now on this schedule holds. A time that the one before set is kept, unless it is further away than any of
    /// the new one.
    fn put_in_force(&mut self, schedule: Schedule) {
        match self.schedule.replace(schedule) {
            Some(before) if before.interval <= schedule.interval => {}
            _ => self.known.forget_times(),
        }
    }

    /// The times of the old ID are nothing to the new one.
    fn on_new_id(&mut self, line: &Line<'_>) {
        self.known.heartbeat = None;
        let least = self.schedule.map_or(Duration::ZERO, |schedule| schedule.interval / 2);
        self.known.new_id = Some(NewId { at: line.at, line: self.lines, least });
    }

    fn on_attempt(&mut self, line: &Line<'_>, document: Option<&Value>) {
        let number = self.lines;
        self.counted.attempts += 1;
        self.known.attempts = true;
        if let Some(open) = self.known.open.replace(number) {
            let what = format!("what became of this attempt is not recorded, and line {number} is the next one");
            self.checks.attempts.add(open, what);
        }
        if let Some((reason, off)) = &self.known.off {
            let what =
                format!("an attempt, although telemetry was switched off in line {off} ({reason}) and not on again");
            self.checks.consent.add(number, what);
        }
        let (Some(event), Some(body), Some(document)) = (line.event, line.body.as_deref(), document) else {
            if line.body.is_none() || line.event.is_none() {
                self.checks.bodies.add(number, "an attempt without its event or its bytes".to_owned());
            }
            return;
        };
        let Some(id) = document["install_id"].as_str() else { return };
        self.check_id(id, line.at);
        if let Some(schedule) = schedule_in(line) {
            self.put_in_force(schedule);
        }
        let hash = sha256(body.as_bytes());
        self.check_distance(
            event,
            AttemptedPing {
                hash,
                install_id: id.to_owned(),
                at: line.at,
                line: self.lines,
                least: Duration::ZERO,
                delivered: false,
            },
        );
    }

    fn check_id(&mut self, id: &str, at: Timestamp) {
        let generation = self.generation;
        let used = self.ids.entry(id.to_owned()).or_insert(Use { first: at, last: at, generation, too_old: false });
        used.first = used.first.min(at);
        used.last = used.last.max(at);
        if std::mem::replace(&mut used.generation, generation).max(self.uncertain) < generation {
            self.checks.rotation.add(self.lines, "an attempt with an ID that was replaced before".to_owned());
        }
        if !used.too_old && used.last.duration_since(used.first).unsigned_abs() >= ROTATION {
            used.too_old = true;
            self.checks.rotation.add(self.lines, "an attempt with an ID that was first used 30 days before".to_owned());
        }
    }

    fn check_distance(&mut self, event: Event, ping: AttemptedPing) {
        let least = self.schedule.map_or(Duration::ZERO, |schedule| match event {
            Event::Startup => schedule.spacing(),
            Event::Heartbeat => schedule.interval.saturating_sub(schedule.jitter),
        });
        let (at, install_id) = (ping.at, ping.install_id.clone());
        let before = match self.known.ping(event) {
            Some(before) if before.hash == ping.hash && !before.delivered => return,
            before => before.replace(AttemptedPing { least, ..ping }),
        };
        match event {
            Event::Startup => self.counted.startups += 1,
            Event::Heartbeat => self.counted.heartbeats += 1,
        }
        // Another ID without an entry of its own is another file, whose schedule began with its start.
        let same = |before: &AttemptedPing| event == Event::Startup || before.install_id == install_id;
        if let Some(before) = before.filter(same) {
            self.hold_apart(event, before.least.min(least), (before.at, before.line), at);
        }
        if event == Event::Heartbeat
            && let Some(NewId { at: since, line, least }) = self.known.new_id.take()
        {
            self.hold_apart(event, least, (since, line), at);
        }
    }

    fn hold_apart(&mut self, event: Event, least: Duration, (since, before): (Timestamp, u64), at: Timestamp) {
        let apart = at.duration_since(since).unsigned_abs();
        if apart + UNRECORDED_STEP.min(least / 10) < least {
            let (apart, event) = (words(apart), event.word());
            self.checks.spacing.add(self.lines, format!("a {event} ping only {apart} after line {before}"));
        }
    }
}

impl Known {
    fn ping(&mut self, event: Event) -> &mut Option<AttemptedPing> {
        match event {
            Event::Startup => &mut self.startup,
            Event::Heartbeat => &mut self.heartbeat,
        }
    }

    fn forget_times(&mut self) {
        self.startup = None;
        self.heartbeat = None;
        self.new_id = None;
    }
}

impl Findings {
    fn add(&mut self, line: u64, what: String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(Finding { line, what });
        } else {
            self.untold += 1;
        }
    }

    fn of(self, name: &'static str, what: String) -> Check {
        Check { name, what, findings: self.told, untold: self.untold }
    }
}

impl Report {
    /// Nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings() == 0
    }

    /// How much was found.
    #[must_use]
    pub fn findings(&self) -> u64 {
        self.checks.iter().map(|check| check.findings.len() as u64 + check.untold).sum()
    }

    /// The report for people, line by line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = match self.times {
            Some((first, last)) => format!("{} lines, from {first:.0} to {last:.0}\n\n", self.lines),
            None => format!("{} lines\n\n", self.lines),
        };
        for Check { name, what, findings, untold } in &self.checks {
            let verdict = if findings.is_empty() { "ok" } else { "FOUND" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<9} {verdict:<6} {what}");
            for Finding { line, what } in findings {
                let _ = writeln!(text, "{:<16} line {line}: {what}", "");
            }
            if *untold > 0 {
                let _ = writeln!(text, "{:<16} and {untold} more", "");
            }
        }
        if let Some((seq, hash)) = &self.newest {
            let _ = writeln!(text, "\nThe newest line is entry {seq}, and its hash {hash}");
            let _ = writeln!(
                text,
                "(kept elsewhere, it shows later with --since whether the history was cut or rewritten)"
            );
        }
        let _ = match self.findings() {
            0 => writeln!(text, "\nNothing was found."),
            found => writeln!(text, "\n{found} found."),
        };
        text
    }
}

/// The schedule that a line tells.
fn schedule_in(line: &Line<'_>) -> Option<Schedule> {
    let (interval, jitter) = (Duration::from_millis(line.interval_ms?), Duration::from_millis(line.jitter_ms?));
    Some(Schedule { startup_delay: Duration::ZERO, interval, jitter })
}

fn words(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(|_| "for ever".to_owned(), |duration| format!("{duration:#}"))
}
