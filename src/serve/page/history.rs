//! What happened: the ledger's entries in words, with the exact bytes of each attempt.

use std::iter::Peekable;

use maud::{Markup, html};
use pulse_telemetry_core::engine::EntryKind;
use pulse_telemetry_core::ledger::Line;
use pulse_telemetry_core::reason::LedgerReason;

use super::html::{code, json, time};
use crate::store::HistoryPage;

/// The entries, the newest first, and the ways to the others.
pub(super) fn history(page: Option<&HistoryPage>, is_older: bool) -> Markup {
    let Some(page) = page else {
        return html! { p class="trouble" { "The history cannot be read. Look at the state directory." } };
    };
    let mut lines = page.entries.iter().filter_map(|entry| Line::parse(entry.get().as_bytes())).peekable();
    let mut items = Vec::new();
    while let Some(line) = lines.next() {
        let attempt = attempt_of(&line, &mut lines);
        items.push(item(&line, attempt.as_ref()));
    }
    html! {
        @if items.is_empty() {
            p { "Nothing is recorded here yet." }
        } @else {
            ol class="history" { @for item in items { (item) } }
        }
        (ways(page, is_older))
    }
}

/// The end of an attempt and the attempt are told as one.
fn attempt_of<'a>(line: &Line<'_>, older: &mut Peekable<impl Iterator<Item = Line<'a>>>) -> Option<Line<'a>> {
    let is_end = matches!(line.kind, EntryKind::Sent | EntryKind::Failed);
    older.next_if(|older| is_end && older.kind == EntryKind::Attempted && older.seq.checked_add(1) == Some(line.seq))
}

fn item(line: &Line<'_>, attempt: Option<&Line<'_>>) -> Markup {
    let with_body = attempt.unwrap_or(line);
    let said = html! { (time(line.at)) " " span class="said" { (say(line)) } };
    html! {
        li class=(class(line.kind)) {
            @if let Some(body) = &with_body.body {
                details id={ "entry-" (with_body.seq) } {
                    summary { (said) }
                    pre { (json(body)) }
                    p class="dim" { "SHA-256 " (code(with_body.sha256.as_deref().unwrap_or_default())) }
                    (receipt(line))
                }
            } @else if line.receipt.is_some() {
                details id={ "entry-" (line.seq) } { summary { (said) } (receipt(line)) }
            } @else {
                (said)
            }
        }
    }
}

/// The endpoint's signed word, where there is one.
fn receipt(line: &Line<'_>) -> Markup {
    html! { @if let Some(receipt) = &line.receipt { p class="dim" { "Receipt " (code(receipt)) } } }
}

fn class(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Sent | EntryKind::Forgotten => "sent",
        EntryKind::Failed | EntryKind::Attempted | EntryKind::ForgetFailed => "failed",
        _ => "other",
    }
}

/// What a line says.
fn say(line: &Line<'_>) -> Markup {
    let ping = line.event.map_or("ping", |event| event.word());
    let reason = html! { @if let Some(reason) = &line.reason { (code(reason.as_str())) } };
    // A proxy that gave no tunnel has answered in the endpoint's place.
    let who = if line.known_reason().is_some_and(LedgerReason::is_of_a_proxy) { "proxy" } else { "endpoint" };
    let answer = html! { @if let Some(status) = line.status { ", the " (who) " answered " (status) } };
    let receipt = html! { @if let Some(standing) = line.receipt_is { "; its receipt: " (standing.word()) } };
    let id = code(line.install_id.as_deref().unwrap_or_default());
    match line.kind {
        EntryKind::Started => html! { "The sidecar started" },
        EntryKind::Attempted => html! { "A " (ping) " is on its way, or how it ended was not recorded" },
        EntryKind::Sent => html! { "A " (ping) " was sent and accepted" (answer) (receipt) },
        EntryKind::Failed => html! { "A " (ping) " was not accepted: " (reason) (answer) },
        EntryKind::Suppressed => html! { "Nothing was sent: " (reason) },
        EntryKind::IdRotated if line.known_reason() == Some(LedgerReason::Expired) => {
            html! { "A new ID was made: the one before was 30 days old" }
        }
        EntryKind::IdRotated => html! { "An ID was made: there was none" },
        EntryKind::IdReset => html! { "A new ID was made, because somebody asked for it" },
        EntryKind::ConsentChanged if line.known_reason() == Some(LedgerReason::On) => {
            html! { "Telemetry was turned on" }
        }
        EntryKind::ConsentChanged => html! { "Telemetry was turned off, by " (reason) },
        EntryKind::ClockStepped => html! {
            "The clock was set"
            @if let Some(seconds) = line.step_seconds { ", by " (seconds) " s" }
        },
        EntryKind::Erased => html! { "Everything before was erased, because somebody asked for it" },
        EntryKind::Pruned => html! { "Older entries were removed for their age or their size" },
        EntryKind::HistoryLost => html! { "Entries that were here were lost, and nobody asked for that: " (reason) },
        EntryKind::ForgetAsked => html! { "Somebody asked to have deleted what was sent under the ID " (id) },
        EntryKind::Forgotten => {
            html! { "The endpoint says that it deleted what was sent under the ID " (id) (receipt) }
        }
        EntryKind::ForgetFailed => html! { "What was sent under the ID " (id) " was not deleted: " (reason) },
        EntryKind::Stopped => html! { "The sidecar stopped" },
    }
}

fn ways(page: &HistoryPage, is_older: bool) -> Markup {
    html! {
        @if is_older || page.before.is_some() {
            p class="ways" {
                @if is_older { a href="./#history" { "Newest entries" } " " }
                @if let Some(before) = page.before { a href={ "?before=" (before) "#history" } { "Older entries" } }
            }
        }
    }
}
