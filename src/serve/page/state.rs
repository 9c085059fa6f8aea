//! On, off or silent, who decided it, and what comes next.

use pulse_telemetry_core::engine::{Concluded, Outcome};

use super::READ;
use super::html::{code, copyable, escape, facts, json, time, told};
use crate::status::{HAND_OVER_LINE, REPORTS_ITSELF, StatusReport, SuppressedReport, UNANSWERED};

/// The first thing that a person sees.
pub(super) fn state(status: &StatusReport) -> String {
    let (class, word, title) = match (status.enabled, &status.suppressed) {
        (false, _) => ("off", "Off", "No ping goes out, and none waits"),
        (true, Some(suppressed)) if reports_itself(suppressed) => {
            ("quiet", "Silent", "Pulse reports itself, so this program sends nothing")
        }
        (true, Some(_)) => ("quiet", "Silent", "Telemetry is on, but nothing is sent now"),
        (true, None) if status.waits_for_pulse() => ("quiet", "Waiting", UNANSWERED),
        (true, None) => ("on", "On", "One small ping goes out each day"),
    };
    let explained = match &status.suppressed {
        Some(suppressed) if status.enabled => silent(suppressed),
        _ if status.waits_for_pulse() => unanswered(),
        _ => format!("<p>{} {}</p>\n", escape(&status.summary), decided(status)),
    };
    let warnings: String = status.warnings.iter().map(|warning| format!("<li>{}</li>\n", escape(warning))).collect();
    let warnings = if warnings.is_empty() { warnings } else { format!("<ul class=\"warnings\">\n{warnings}</ul>\n") };
    format!(
        "<div class=\"state {class}\">\n<p class=\"word\">{word}</p>\n<div>\n<h2 id=\"state-title\">{title}</h2>\n\
         {explained}{warnings}</div>\n</div>\n{}{}",
        facts(&pings(status)),
        buttons(status)
    )
}

/// What this program is, and where it keeps what it knows.
pub(super) fn about(status: &StatusReport) -> String {
    let confined = status.confinement.as_ref().map(|confinement| {
        format!("<p id=\"confinement\">What the kernel holds it to: {}.</p>\n", escape(&confinement.to_text()))
    });
    format!(
        "<p>pulse-telemetry {}, with its state in {}. This page loads nothing from anywhere else, and counts nobody.</p>\n{}",
        escape(&status.version),
        code(&status.state_dir),
        confined.unwrap_or_default(),
    )
}

fn reports_itself(suppressed: &SuppressedReport) -> bool {
    suppressed.reason == "pulse_reports_itself"
}

/// What to do while nothing is known of Pulse, not even why.
fn unanswered() -> String {
    format!(
        "<p>Telemetry is on, and what a ping holds is read from Pulse. Where no answer comes, this page says why after 30 \
         seconds, or after {timeout} where that is longer. Look whether Pulse runs, and at {url} ({variable}): {check} tries \
         it and says what it finds. <a class=\"without-script\" href=\"?{READ}\">Look again</a></p>\n",
        timeout = code("pulse.timeout"),
        url = code("pulse.url"),
        variable = code("PULSE_URL"),
        check = code("pulse-telemetry check"),
    )
}

/// Why nothing is sent although telemetry is on, and what to do.
fn silent(suppressed: &SuppressedReport) -> String {
    if reports_itself(suppressed) {
        return format!(
            "<p>{}</p>\n<p>To hand over, put this line into Pulse's environment (in its systemd unit or its compose \
             file, not in a file that the sidecar reads as well) and restart Pulse:</p>\n{}",
            escape(REPORTS_ITSELF),
            copyable("hand-over", "the line that hands over", HAND_OVER_LINE)
        );
    }
    format!("<p>{}</p>\n", told(suppressed))
}

/// Who decided that it is on, or what would turn it on again.
fn decided(status: &StatusReport) -> &'static str {
    match status.off_by.as_deref() {
        None => {
            "Nothing says off: neither the environment, nor the configuration, nor the switch below, nor Pulse's own \
             setting. Any one of them would win."
        }
        Some("switch") => "The button below turns it on again, with a new ID.",
        Some("pulse") => "It can be turned on again in Pulse, not here.",
        Some("config") => {
            "Only there can it be turned on again: change the file and restart the sidecar. No button here overrules it."
        }
        Some(_) => {
            "Only there can it be turned on again: unset the variable and restart the sidecar. No button here overrules \
             it."
        }
    }
}

fn pings(status: &StatusReport) -> Vec<(&'static str, String)> {
    let next = match (&status.next, &status.suppressed) {
        (None, _) => ("Next ping", "none is due".to_owned()),
        (Some(next), None) if status.waits_for_pulse() => {
            ("Next look", format!("{}, whether a ping may go", time(next.at)))
        }
        (Some(next), None) if next.replaces_id => {
            ("New ID", format!("{}, its first heartbeat 12 to 36 hours later", time(next.at)))
        }
        (Some(next), None) => ("Next ping", format!("{}, a {}", time(next.at), next.event.word())),
        (Some(next), Some(_)) => ("Next look", format!("{}, whether a ping may go", time(next.at))),
    };
    let mut facts = vec![next];
    facts.push(("As of", status.as_of.map_or_else(|| "Pulse has not answered yet".to_owned(), time)));
    if let Some(pending) = &status.pending {
        let (event, attempts) = (pending.event.word(), pending.attempts);
        let told = format!(
            "a {event}, built and not accepted yet after {attempts} {}<details id=\"pending\"><summary>Its exact \
             bytes</summary>\n<pre>{}</pre></details>",
            if attempts == 1 { "attempt" } else { "attempts" },
            json(&pending.bytes)
        );
        facts.push(("Waiting", told));
    }
    facts.push(("Last ping", status.last.as_ref().map_or_else(|| "none yet".to_owned(), last)));
    let id = match &status.id {
        Some(id) => format!("made {}, replaced {} at the latest", time(id.issued_at), time(id.rotates_at)),
        None if status.enabled => "none that is valid; one is made when the next ping is built".to_owned(),
        None => "none: off deletes it".to_owned(),
    };
    facts.push(("ID", id));
    facts.push(("Goes to", code(&status.endpoint)));
    facts
}

fn last(last: &Concluded) -> String {
    let outcome = match last.outcome {
        Outcome::Delivered => "accepted".to_owned(),
        Outcome::Dropped => format!("dropped ({})", code(&last.reason)),
        Outcome::GaveUp => format!("given up ({})", code(&last.reason)),
    };
    let status = last.status.map(|status| format!("; the endpoint answered {status}")).unwrap_or_default();
    format!("{}, a {}, {outcome}{status}", time(last.at), last.event.word())
}

fn buttons(status: &StatusReport) -> String {
    let switch = match (status.enabled, status.locked) {
        (true, _) => "<button type=\"button\" id=\"switch\" data-switch=\"off\">Turn telemetry off</button>",
        (false, false) => "<button type=\"button\" id=\"switch\" data-switch=\"on\">Turn telemetry on</button>",
        // Pulse's setting may be turned on by somebody else.
        (false, true) if status.off_by.as_deref() == Some("pulse") => {
            "<button type=\"button\" id=\"switch\" data-switch=\"off\">Keep telemetry off here as well</button>"
        }
        (false, true) => "",
    };
    format!(
        "<p class=\"buttons needs-script\">{switch} <button type=\"button\" id=\"reset\" \
         data-open=\"reset-dialog\">Reset the ID…</button></p>\n"
    )
}
