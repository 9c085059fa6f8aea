//! The page. The server writes it whole, so that it can be read without JavaScript.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::contract::FIELDS;
use crate::daemon::{NoPreview, Preview};
use crate::engine::{Concluded, Outcome};
use crate::status::{StatusReport, UnknownReport};

const SHELL: &str = include_str!("page.html");
const REPORT: &str = include_str!("report.html");
const LOCKED: &str = include_str!("locked.html");

/// The style sheet.
pub(super) const STYLE: &str = include_str!("page.css");
/// The script.
pub(super) const SCRIPT: &str = include_str!("page.js");

/// The page for somebody who may see data.
#[must_use]
pub fn render(status: &StatusReport, preview: &Result<Preview, NoPreview>) -> String {
    let main = fill(
        REPORT,
        &[
            ("<!--state-->", &state(status)),
            ("<!--payload-->", &payload(preview)),
            ("<!--pings-->", &pings(status)),
            ("<!--switch-->", switch(status)),
            ("<!--about-->", &about(status)),
        ],
    );
    fill(SHELL, &[("<!--main-->", &main)])
}

/// The page that asks for the token and holds no data.
pub(super) fn locked() -> String {
    fill(SHELL, &[("<!--main-->", LOCKED)])
}

/// Puts each part in its place. No part can hold another's place, since values are escaped.
fn fill(template: &str, parts: &[(&str, &str)]) -> String {
    parts.iter().fold(template.to_owned(), |page, (place, part)| page.replacen(place, part, 1))
}

fn state(status: &StatusReport) -> String {
    let class = match (status.enabled, &status.suppressed) {
        (false, _) => "off",
        (true, Some(_)) => "quiet",
        (true, None) => "on",
    };
    let warnings: String = status.warnings.iter().map(|warning| format!("<li>{}</li>\n", escape(warning))).collect();
    let list = if warnings.is_empty() { warnings } else { format!("<ul class=\"warnings\">\n{warnings}</ul>\n") };
    format!("<p class=\"summary {class}\">{}</p>\n{list}", escape(&status.summary))
}

fn payload(preview: &Result<Preview, NoPreview>) -> String {
    match preview {
        Ok(preview) => shown(preview),
        Err(no) => {
            let message = escape(&no.because.message);
            format!("<p>There is nothing to show now. {message}</p>\n{}", unknown(&no.because.unknown))
        }
    }
}

fn shown(preview: &Preview) -> String {
    let values: Map<String, Value> = serde_json::from_str(&preview.bytes).unwrap_or_default();
    let rows: String = FIELDS
        .iter()
        .map(|field| {
            let value = values.get(field.name).map_or_else(
                || "<span class=\"absent\">left out</span>".to_owned(),
                |value| format!("<code>{}</code>", escape(&plain(value))),
            );
            row(&[&format!("<code>{}</code>", field.name), &value, &escape(field.purpose)])
        })
        .collect();
    format!(
        "{}<h3>The exact bytes</h3>\n<pre>{}</pre>\n<p>Read from Pulse {} s ago.</p>\n",
        table("Every field, what it holds now, and why it is collected", &["Field", "Value", "Why"], &rows),
        escape(&preview.bytes),
        preview.age.as_secs(),
    )
}

fn unknown(unknown: &[UnknownReport]) -> String {
    if unknown.is_empty() {
        return String::new();
    }
    let rows: String = unknown
        .iter()
        .map(|unknown| {
            let request = format!("<code>{}</code>", escape(&unknown.request));
            row(&[&format!("<code>{}</code>", escape(&unknown.what)), &request, &escape(&unknown.reason)])
        })
        .collect();
    table("What could not be read from Pulse", &["What", "Request", "Why not"], &rows)
}

/// A table. The roles keep it one for screen readers where a narrow screen's style takes its layout away.
fn table(caption: &str, heads: &[&str; 3], rows: &str) -> String {
    let heads: String =
        heads.iter().map(|head| format!("<th scope=\"col\" role=\"columnheader\">{head}</th>")).collect();
    format!(
        "<table role=\"table\">\n<caption>{caption}</caption>\n<thead role=\"rowgroup\"><tr role=\"row\">{heads}</tr>\
         </thead>\n<tbody role=\"rowgroup\">\n{rows}</tbody>\n</table>\n"
    )
}

/// A row of cells that are HTML already.
fn row([head, rest @ ..]: &[&str; 3]) -> String {
    let cells: String = rest.iter().map(|cell| format!("<td role=\"cell\">{cell}</td>")).collect();
    format!("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\">{head}</th>{cells}</tr>\n")
}

fn pings(status: &StatusReport) -> String {
    let next = match (&status.next, &status.suppressed) {
        (None, _) => "No ping is due.".to_owned(),
        (Some(next), None) => format!("The next ping is due at {} ({}).", time(next.at), next.event.word()),
        (Some(next), Some(_)) => format!("At {} it is looked at again whether a ping may be sent.", time(next.at)),
    };
    let pending = status.pending.as_ref().map(|pending| {
        let (event, attempts) = (pending.event.word(), pending.attempts);
        format!("A {event} ping was built and is not yet accepted; attempts so far: {attempts}.")
    });
    let last = status.last.as_ref().map_or_else(|| "No ping has been sent yet.".to_owned(), told);
    let id = status.id.as_ref().map_or_else(
        || "There is no ID on disk yet; the one shown becomes it when the next ping is built.".to_owned(),
        |id| format!("The ID was made at {} and rotates at {}.", time(id.issued_at), time(id.rotates_at)),
    );
    [Some(next), pending, Some(last), Some(id)].into_iter().flatten().map(|text| format!("<p>{text}</p>\n")).collect()
}

fn told(last: &Concluded) -> String {
    let outcome = match last.outcome {
        Outcome::Delivered => "was accepted".to_owned(),
        Outcome::Dropped => format!("was dropped ({})", escape(&last.reason)),
        Outcome::GaveUp => format!("was given up ({})", escape(&last.reason)),
    };
    let status = last.status.map(|status| format!("; the endpoint answered {status}")).unwrap_or_default();
    format!("The last ping, a {}, {outcome} at {}{status}.", last.event.word(), time(last.at))
}

fn switch(status: &StatusReport) -> &'static str {
    match (status.enabled, status.locked) {
        (true, _) => "<p><button type=\"button\" data-switch=\"off\">Turn telemetry off</button></p>",
        (false, false) => "<p><button type=\"button\" data-switch=\"on\">Turn telemetry on</button></p>",
        (false, true) => "<p>The switch here cannot turn telemetry on: what says off has to be changed there.</p>",
    }
}

fn about(status: &StatusReport) -> String {
    format!(
        "<p>Pings go to <code>{}</code>. The state is kept in <code>{}</code>. This is pulse-telemetry {}. \
         <a href=\"api/v1/schema\">The schema of the payload</a>.</p>\n",
        escape(&status.endpoint),
        escape(&status.state_dir),
        escape(&status.version),
    )
}

fn time(at: Timestamp) -> String {
    format!("<time datetime=\"{at}\">{}</time>", at.strftime("%Y-%m-%d %H:%M UTC"))
}

/// Text as it is, everything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}
