//! What happened: the ledger's entries in words, with the exact bytes of each attempt.

use std::fmt::Write as _;
use std::iter::Peekable;

use pulse_telemetry_core::engine::EntryKind;
use pulse_telemetry_core::ledger::Line;
use pulse_telemetry_core::verdict;

use super::html::{code, escape, json, time};
use crate::store::HistoryPage;

/// The entries, the newest first, and the ways to the others.
pub(super) fn history(page: Option<&HistoryPage>, is_older: bool) -> String {
    let Some(page) = page else {
        return "<p class=\"trouble\">The history cannot be read. Look at the state directory.</p>\n".to_owned();
    };
    let mut lines = page.entries.iter().filter_map(|entry| Line::parse(entry.get().as_bytes())).peekable();
    let mut items = String::new();
    while let Some(line) = lines.next() {
        let attempt = attempt_of(&line, &mut lines);
        items.push_str(&item(&line, attempt.as_ref()));
    }
    let list = if items.is_empty() {
        "<p>Nothing is recorded here yet.</p>\n".to_owned()
    } else {
        format!("<ol class=\"history\">\n{items}</ol>\n")
    };
    format!("{list}{}", ways(page, is_older))
}

/// The end of an attempt and the attempt are told as one.
fn attempt_of<'a>(line: &Line<'_>, older: &mut Peekable<impl Iterator<Item = Line<'a>>>) -> Option<Line<'a>> {
    let is_end = matches!(line.kind, EntryKind::Sent | EntryKind::Failed);
    older.next_if(|older| is_end && older.kind == EntryKind::Attempted && older.seq.checked_add(1) == Some(line.seq))
}

fn item(line: &Line<'_>, attempt: Option<&Line<'_>>) -> String {
    let with_body = attempt.unwrap_or(line);
    let said = format!("{} <span class=\"said\">{}</span>", time(line.at), say(line));
    let class = class(line.kind);
    let Some(body) = &with_body.body else { return format!("<li class=\"{class}\">{said}</li>\n") };
    let digest = with_body.sha256.as_deref().unwrap_or_default();
    format!(
        "<li class=\"{class}\"><details id=\"entry-{}\"><summary>{said}</summary>\n<pre>{}</pre>\n<p class=\"dim\">SHA-256 \
         <code>{}</code></p></details></li>\n",
        with_body.seq,
        json(body),
        escape(digest)
    )
}

fn class(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Sent => "sent",
        EntryKind::Failed | EntryKind::Attempted => "failed",
        _ => "other",
    }
}

/// What a line says, as HTML.
fn say(line: &Line<'_>) -> String {
    let ping = line.event.map_or("ping", |event| event.word());
    let reason = line.reason.as_deref().map(code).unwrap_or_default();
    // A proxy that gave no tunnel has answered in the endpoint's place.
    let who = if line.reason.as_deref().is_some_and(verdict::is_of_a_proxy) { "proxy" } else { "endpoint" };
    let answer = line.status.map(|status| format!(", the {who} answered {status}")).unwrap_or_default();
    match line.kind {
        EntryKind::Started => "The sidecar started".to_owned(),
        EntryKind::Attempted => format!("A {ping} is on its way, or how it ended was not recorded"),
        EntryKind::Sent => format!("A {ping} was sent and accepted{answer}"),
        EntryKind::Failed => format!("A {ping} was not accepted: {reason}{answer}"),
        EntryKind::Suppressed => format!("Nothing was sent: {reason}"),
        EntryKind::IdRotated if line.reason.as_deref() == Some("expired") => {
            "A new ID was made: the one before was 30 days old".to_owned()
        }
        EntryKind::IdRotated => "An ID was made: there was none".to_owned(),
        EntryKind::IdReset => "A new ID was made, because somebody asked for it".to_owned(),
        EntryKind::ConsentChanged if line.reason.as_deref() == Some("on") => "Telemetry was turned on".to_owned(),
        EntryKind::ConsentChanged => format!("Telemetry was turned off, by {reason}"),
        EntryKind::ClockStepped => {
            let mut text = "The clock was set".to_owned();
            if let Some(seconds) = line.step_seconds {
                // Writing to a String cannot fail.
                let _ = write!(text, ", by {seconds} s");
            }
            text
        }
        EntryKind::Erased => "Everything before was erased, because somebody asked for it".to_owned(),
        EntryKind::Pruned => "Older entries were removed for their age or their size".to_owned(),
        EntryKind::HistoryLost => format!("Entries that were here were lost, and nobody asked for that: {reason}"),
        EntryKind::Stopped => "The sidecar stopped".to_owned(),
    }
}

fn ways(page: &HistoryPage, is_older: bool) -> String {
    let newest = is_older.then(|| "<a href=\"./#history\">Newest entries</a>".to_owned());
    let older = page.before.map(|before| format!("<a href=\"?before={before}#history\">Older entries</a>"));
    let ways: Vec<String> = [newest, older].into_iter().flatten().collect();
    if ways.is_empty() {
        return String::new();
    }
    format!("<p class=\"ways\">{}</p>\n", ways.join(" "))
}
