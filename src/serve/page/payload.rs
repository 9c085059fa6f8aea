//! What would be sent now, field by field and byte by byte.

use std::time::Duration;

use pulse_telemetry_core::contract::{FIELDS, Field};
use pulse_telemetry_core::ledger::sha256;
use serde_json::{Map, Value};

use super::READ;
use super::html::{NOT_READ_YET, code, copyable, escape, row, table, time, told, unknown};
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
pub(super) fn fields(preview: Option<&Result<Preview, NoPreview>>, status: &StatusReport) -> String {
    let values: Map<String, Value> = match preview {
        None => return NOT_READ_YET.to_owned(),
        Some(Ok(preview)) => match serde_json::from_str(&preview.bytes) {
            Ok(values) => values,
            Err(_) => {
                return "<p class=\"trouble\">The fields cannot be told apart: look at the bytes.</p>
"
                .to_owned();
            }
        },
        Some(Err(no)) => return nothing(&no.because, status),
    };
    let rows: String = FIELDS.iter().map(|field| format!("{}{}", group(field), shown(field, &values))).collect();
    table(
        "fields",
        "Every field, what it would hold now, and why it is collected",
        &["Field", "Now", "Why, and an example"],
        &rows,
    )
}

/// The same as it would go over the wire.
pub(super) fn bytes(preview: Option<&Result<Preview, NoPreview>>) -> String {
    let Some(Ok(preview)) = preview else { return String::new() };
    format!(
        "<h3>The exact bytes</h3>\n{}<dl class=\"facts\">\n<div><dt>SHA-256</dt><dd><code \
         id=\"sha256\">{}</code></dd></div>\n<div><dt>Size</dt><dd>{} bytes</dd></div>\n<div><dt>For programs</dt>\
         <dd><code>/api/v1/preview/bytes</code></dd></div>\n</dl>\n",
        copyable("bytes", "the exact bytes", &preview.bytes),
        sha256(preview.bytes.as_bytes()),
        preview.bytes.len(),
    )
}

/// How old it is, and the way to a newer one without the script. A part of its own, since it is never the same again.
pub(super) fn age(preview: Option<&Result<Preview, NoPreview>>, status: &StatusReport) -> String {
    let read = match (preview, status.as_of) {
        (Some(Ok(Preview { age, paused_until, .. })), _) => {
            let pause = paused_until.map(|until| format!(" {}", escape(&paused(until)))).unwrap_or_default();
            let (seconds, ago) = (age.as_secs(), ago(*age));
            format!("Read from Pulse <span data-age=\"{seconds}\">{ago} before this page was made</span>.{pause}")
        }
        (_, Some(at)) => format!("Pulse was asked {}.", time(at)),
        (_, None) => String::new(),
    };
    let is_being_read = if status.is_being_read { " <span id=\"being-read\">Pulse is being read.</span>" } else { "" };
    // Without a fragment: a browser that is there already would only scroll to it.
    format!("{read}{is_being_read} <a class=\"without-script\" href=\"?{READ}\">Read Pulse again</a>")
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
fn nothing(because: &SuppressedReport, status: &StatusReport) -> String {
    let is_said = status.enabled && status.suppressed.as_ref().is_some_and(|said| said.reason == because.reason);
    let what_to_do = if is_said { String::new() } else { format!("<p>{}</p>\n", told(because)) };
    format!(
        "<div class=\"trouble\">\n<p><strong>There is nothing to show, for not all of it is known.</strong> What is unknown \
         is not sent, and not made up.</p>\n{what_to_do}</div>\n{}",
        unknown(&because.unknown)
    )
}

fn group(field: &Field) -> String {
    let title = GROUPS.iter().find(|(first, _)| *first == field.name).map(|(_, title)| title);
    title.map_or_else(String::new, |title| {
        format!("<tr role=\"row\" class=\"group\"><th scope=\"rowgroup\" colspan=\"3\" role=\"rowheader\">{title}</th></tr>\n")
    })
}

fn shown(field: &Field, values: &Map<String, Value>) -> String {
    let value = values.get(field.name).map_or_else(
        || "<span class=\"dim\">left out</span>".to_owned(),
        |value| code(&value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)),
    );
    let example = field.example_value();
    let example = example.as_str().map_or_else(|| example.to_string(), ToOwned::to_owned);
    let why = format!("{} <span class=\"dim\">For example {}.</span>", escape(field.purpose), code(&example));
    row(&[&code(field.name), &value, &why])
}
