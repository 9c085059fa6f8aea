//! What would be sent now, field by field and byte by byte.

use std::time::Duration;

use maud::{Markup, html};
use pulse_telemetry_core::contract::{FIELDS, Field};
use pulse_telemetry_core::ledger::sha256;
use serde_json::{Map, Value};

use super::html::{code, copyable, not_read_yet, row, table, time, told, unknown};
use super::state::READ;
use crate::daemon::{NoPreview, Preview};
use crate::status::{StatusReport, SuppressedReport, paused};

/// The field that each group begins with, in the order of the contract.
const GROUPS: [(&str, &str); 6] = [
    ("install_id", "The ID"),
    ("version", "Pulse's version"),
    ("platform", "Where it runs"),
    ("event", "This ping"),
    ("pve_nodes", "What is monitored"),
    ("ai_enabled", "Features and alerts"),
];

/// Every field with its value, its purpose and an example; or why there is nothing to show.
pub(super) fn fields(preview: Option<&Result<Preview, NoPreview>>, status: &StatusReport) -> Markup {
    let values: Map<String, Value> = match preview {
        None => return not_read_yet(),
        Some(Ok(preview)) => match serde_json::from_str(&preview.bytes) {
            Ok(values) => values,
            Err(_) => {
                return html! { p class="trouble" { "The fields cannot be told apart: look at the bytes." } };
            }
        },
        Some(Err(no)) => return nothing(&no.because, status),
    };
    let rows = html! { @for field in &FIELDS { (group(field)) (shown(field, &values)) } };
    table(
        "fields",
        "Every field, what it would hold now, and why it is collected",
        &["Field", "Now", "Why, and an example"],
        &rows,
    )
}

/// The same as it would go over the wire.
pub(super) fn bytes(preview: Option<&Result<Preview, NoPreview>>) -> Markup {
    let Some(Ok(preview)) = preview else { return html! {} };
    html! {
        h3 { "The exact bytes" }
        (copyable("bytes", "the exact bytes", &preview.bytes))
        dl class="facts" {
            div { dt { "SHA-256" } dd { code id="sha256" { (sha256(preview.bytes.as_bytes())) } } }
            div { dt { "Size" } dd { (preview.bytes.len()) " bytes" } }
            div { dt { "For programs" } dd { (code("/api/v1/preview/bytes")) } }
        }
    }
}

/// How old it is, and the way to a newer one without the script. A part of its own, since it is never the same again.
pub(super) fn age(preview: Option<&Result<Preview, NoPreview>>, status: &StatusReport) -> Markup {
    html! {
        @match (preview, status.as_of) {
            (Some(Ok(Preview { age, paused_until, .. })), _) => {
                "Read from Pulse "
                span data-age=(age.as_secs()) { (ago(*age)) " before this page was made" }
                "."
                @if let Some(until) = paused_until { " " (paused(*until)) }
            },
            (_, Some(at)) => { "Pulse was asked " (time(at)) "." },
            (_, None) => {},
        }
        @if status.is_being_read { " " span id="being-read" { "Pulse is being read." } }
        // Without a fragment: a browser that is there already would only scroll to it.
        " " a class="without-script" href={ "?" (READ) } { "Read Pulse again" }
    }
}

/// An age in its largest unit.
fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// What to do stands above already, where that is also why nothing is sent.
fn nothing(because: &SuppressedReport, status: &StatusReport) -> Markup {
    let is_said = status.enabled && status.suppressed.as_ref().is_some_and(|said| said.reason == because.reason);
    html! {
        div class="trouble" {
            p {
                strong { "There is nothing to show, for not all of it is known." }
                " What is unknown is not sent, and not made up."
            }
            @if !is_said { p { (told(because)) } }
        }
        (unknown(&because.unknown))
    }
}

fn group(field: &Field) -> Markup {
    let title = GROUPS.iter().find(|(first, _)| *first == field.name).map(|(_, title)| title);
    html! {
        @if let Some(title) = title {
            tr role="row" class="group" { th scope="rowgroup" colspan="3" role="rowheader" { (title) } }
        }
    }
}

fn shown(field: &Field, values: &Map<String, Value>) -> Markup {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let value = html! {
        @if let Some(value) = values.get(field.name) {
            (code(&text(value)))
        } @else {
            span class="dim" { "left out" }
        }
    };
    let why = html! {
        (field.purpose) " " span class="dim" { "For example " (code(&text(&field.example_value()))) "." }
    };
    row(&[code(field.name), value, why])
}
