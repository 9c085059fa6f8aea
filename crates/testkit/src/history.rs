//! Ledgers made by hand, and their audit.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_core::audit::{Audit, Report};
use pulse_telemetry_core::engine::{EntryKind, Schedule};
use pulse_telemetry_core::ledger::{Line, Piece, sha256};
use pulse_telemetry_core::ping::Event;

use super::readings::{change, handed_over, ping};

pub const HOUR: SignedDuration = SignedDuration::from_hours(1);
pub const DAY: SignedDuration = SignedDuration::from_hours(24);
pub const SCHEDULE: Schedule = Schedule {
    startup_delay: Duration::from_secs(120),
    interval: Duration::from_secs(24 * 3600),
    jitter: Duration::from_secs(1800),
};

pub fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// The start of a process with that schedule.
pub fn started(at: Timestamp, Schedule { interval, jitter, .. }: Schedule) -> Line<'static> {
    let millis = |duration: Duration| Some(u64::try_from(duration.as_millis()).unwrap());
    Line { interval_ms: millis(interval), jitter_ms: millis(jitter), ..Line::new(EntryKind::Started, at) }
}

pub fn because(kind: EntryKind, at: Timestamp, reason: &'static str) -> Line<'static> {
    Line { reason: Some(reason.to_owned().into()), ..Line::new(kind, at) }
}

/// The ping of the ID of that number, at that many guests.
pub fn body(id: u32, event: Event, vms: u32) -> String {
    let mut reading = handed_over();
    change(&mut reading, |values| values.vms = Ok(vms));
    ping(&reading, &format!("{id:08x}-0000-4000-8000-000000000000"), event).into()
}

pub fn attempt(at: Timestamp, event: Event, body: String) -> Line<'static> {
    let sha256 = Some(sha256(body.as_bytes()));
    Line { event: Some(event), body: Some(body.into()), sha256, ..Line::new(EntryKind::Attempted, at) }
}

/// How the attempt before ended.
pub fn end(kind: EntryKind, at: Timestamp, event: Event, reason: Option<&'static str>) -> Line<'static> {
    Line { event: Some(event), reason: reason.map(|reason| reason.to_owned().into()), ..Line::new(kind, at) }
}

/// A year of daily pings with all that may happen in one, and nothing wrong with it.
pub fn life(days: u32) -> Vec<Line<'static>> {
    use EntryKind::{ConsentChanged, Failed, IdReset, IdRotated, Sent, Stopped, Suppressed};
    let mut at = noon();
    let mut id = 1;
    let mut lines = vec![started(at, SCHEDULE), because(IdRotated, at, "none")];
    for day in 0..days {
        let event = if day == 0 { Event::Startup } else { Event::Heartbeat };
        let ping = body(id, event, day);
        match day % 10 {
            3 => {
                lines.push(attempt(at, event, ping.clone()));
                lines.push(end(Failed, at, event, Some("no_connection")));
                lines.push(because(Suppressed, at, "pulse_unreachable"));
                // The next one counts from here.
                at += HOUR;
                lines.push(attempt(at, event, ping));
                lines.push(end(Sent, at, event, None));
            }
            5 => {
                lines.push(attempt(at, event, ping));
                lines.push(started(at + HOUR, SCHEDULE));
                lines.push(end(Failed, at + HOUR, event, Some("interrupted")));
                lines.push(Line::new(IdReset, at + HOUR));
                id += 1;
            }
            7 => {
                lines.push(attempt(at, event, ping));
                lines.push(end(Sent, at, event, None));
                lines.push(because(ConsentChanged, at, "switch"));
                lines.push(Line::new(Stopped, at + HOUR));
                lines.push(started(at + HOUR, SCHEDULE));
                lines.push(because(ConsentChanged, at + HOUR, "on"));
                lines.push(because(IdRotated, at + HOUR, "none"));
                id += 1;
            }
            _ => {
                lines.push(attempt(at, event, ping));
                lines.push(end(Sent, at, event, None));
            }
        }
        at += DAY;
    }
    lines
}

/// The bytes of a ledger of these lines, from the first one.
pub fn chained(lines: Vec<Line<'_>>) -> Vec<u8> {
    chained_behind(0, String::new(), lines)
}

/// The bytes of a ledger of these lines, behind the one of that number and hash.
pub fn chained_behind(mut seq: u64, mut prev: String, lines: Vec<Line<'_>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        seq += 1;
        let line = serde_json::to_vec(&Line { seq, prev, ..line }).unwrap();
        prev = sha256(&line);
        bytes.extend(line);
        bytes.push(b'\n');
    }
    bytes
}

/// The lines of a ledger, each with its newline.
pub fn split(ledger: &[u8]) -> Vec<Vec<u8>> {
    ledger.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// The entries of a ledger that can be read.
pub fn entries(ledger: &[u8]) -> Vec<Line<'static>> {
    split(ledger).iter().filter_map(|line| Line::parse(line)).collect()
}

pub fn audit(ledger: &[u8]) -> Report {
    let mut audit = Audit::new(now(ledger), None);
    for line in split(ledger) {
        match line.strip_suffix(b"\n") {
            None => audit.take(Piece::Torn),
            Some(line) if line.len() > pulse_telemetry_core::ledger::LINE_MAX => audit.take(Piece::TooLong),
            Some(line) => audit.take(Piece::Line(line)),
        }
    }
    audit.finish()
}

/// The time of the newest line that can be read.
fn now(ledger: &[u8]) -> Timestamp {
    entries(ledger).last().map_or_else(noon, |line| line.at)
}

/// Which check found something, and in which line.
pub fn found(ledger: &[u8]) -> Vec<(&'static str, u64)> {
    let report = audit(ledger);
    report.checks.iter().flat_map(|check| check.findings.iter().map(|finding| (check.name, finding.line))).collect()
}
