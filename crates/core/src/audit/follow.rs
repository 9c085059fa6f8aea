//! What follows from one line to the next: attempts and their ends, IDs, switches, and the distances between pings.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Audit, UNRECORDED_STEP};
use crate::engine::{EntryKind, Schedule};
use crate::identity::ROTATION;
use crate::ledger::{Line, sha256};
use crate::ping::Event;
use crate::reason::{LedgerReason, ReasonWord};

#[derive(Debug)]
pub(super) struct IdUse {
    first: Timestamp,
    last: Timestamp,
    generation: u64,
    too_old: bool,
}

/// What hangs on the lines before, and is unknown at the beginning of a ledger that was pruned or erased.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// An attempt that is not yet closed: its line, and the SHA-256 of its body.
    open: Option<(u64, Option<String>)>,
    /// Whether an attempt is under way can be told.
    pub(super) attempts: bool,
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
    fn on_sent(&mut self, line: &Line<'_>) {
        let open = self.known.open.take();
        let body_sha256 = open.as_ref().and_then(|(_, body_sha256)| body_sha256.as_deref());
        self.check_receipt_of_ping(line, body_sha256);
        if open.is_none() && self.known.attempts {
            self.checks.attempts.add(self.lines, "a ping was delivered, and no attempt stands before it".to_owned());
        }
        if let Some(ping) = line.event.and_then(|event| self.known.ping(event).as_mut()) {
            ping.delivered = true;
        }
    }

    pub(super) fn follow(&mut self, line: &Line<'_>, document: Option<&Value>) {
        match line.kind {
            EntryKind::Attempted => self.on_attempt(line, document),
            EntryKind::Sent => self.on_sent(line),
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
            EntryKind::ForgetAsked => self.on_forget_asked(line),
            EntryKind::Forgotten => self.on_forgotten(line),
            EntryKind::ForgetFailed => self.on_forget_failed(line),
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
        let hash = line.body.as_deref().map(|body| sha256(body.as_bytes()));
        if let Some((open, _)) = self.known.open.replace((number, hash.clone())) {
            let what = format!("what became of this attempt is not recorded, and line {number} is the next one");
            self.checks.attempts.add(open, what);
        }
        if let Some((reason, off)) = &self.known.off {
            let what =
                format!("an attempt, although telemetry was switched off in line {off} ({reason}) and not on again");
            self.checks.consent.add(number, what);
        }
        let (Some(event), Some(hash), Some(document)) = (line.event, hash, document) else {
            if line.body.is_none() || line.event.is_none() {
                self.checks.bodies.add(number, "an attempt without its event or its bytes".to_owned());
            }
            return;
        };
        let Some(id) = document["install_id"].as_str() else { return };
        self.check_id(id, line.at);
        self.check_not_taken_back(id);
        if let Some(schedule) = schedule_in(line) {
            self.put_in_force(schedule);
        }
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
        let used = self.ids.entry(id.to_owned()).or_insert(IdUse { first: at, last: at, generation, too_old: false });
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

    pub(super) fn forget_times(&mut self) {
        self.startup = None;
        self.heartbeat = None;
        self.new_id = None;
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
