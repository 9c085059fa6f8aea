//! On, off or silent, who decided it, and what comes next.

use maud::{Markup, html};
use pulse_telemetry_core::engine::{Concluded, Outcome};
use pulse_telemetry_core::reason::{LedgerReason, ReasonWord};

use super::html::{code, copyable, facts, json, time, told};
use crate::status::{HAND_OVER_LINE, REPORTS_ITSELF, StatusReport, SuppressedReport, UNANSWERED, ids};

/// The query that asks for a reading of Pulse first.
pub(in crate::serve) const READ: &str = "read";

/// The first thing that a person sees.
pub(super) fn state(status: &StatusReport) -> Markup {
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
        _ => html! { p { (status.summary) " " (decided(status)) } },
    };
    html! {
        div class={ "state " (class) } {
            p class="word" { (word) }
            div {
                h2 id="state-title" { (title) }
                (explained)
                @if !status.warnings.is_empty() {
                    ul class="warnings" { @for warning in &status.warnings { li { (warning) } } }
                }
            }
        }
        (facts(&pings(status)))
        (buttons(status))
    }
}

/// What this program is, and where it keeps what it knows.
pub(super) fn about(status: &StatusReport) -> Markup {
    html! {
        p {
            "pulse-telemetry " (status.version) ", with its state in " (code(&status.state_dir))
            ". This page loads nothing from anywhere else, and counts nobody."
        }
        @if let Some(confinement) = &status.confinement {
            p id="confinement" { "What the kernel holds it to: " (confinement.to_text()) "." }
        }
    }
}

fn reports_itself(suppressed: &SuppressedReport) -> bool {
    suppressed.reason == LedgerReason::PulseReportsItself
}

/// What to do while nothing is known of Pulse, not even why.
fn unanswered() -> Markup {
    html! {
        p {
            "Telemetry is on, and what a ping holds is read from Pulse. Where no answer comes, this page says why \
             after 30 seconds, or after "
            (code("pulse.timeout")) " where that is longer. Look whether Pulse runs, and at "
            (code("pulse.url")) " (" (code("PULSE_URL")) "): " (code("pulse-telemetry check"))
            " tries it and says what it finds. "
            a class="without-script" href={ "?" (READ) } { "Look again" }
        }
    }
}

/// Why nothing is sent although telemetry is on, and what to do.
fn silent(suppressed: &SuppressedReport) -> Markup {
    if !reports_itself(suppressed) {
        return html! { p { (told(suppressed)) } };
    }
    html! {
        p { (REPORTS_ITSELF) }
        p {
            "To hand over, put this line into Pulse's environment (in its systemd unit or its compose file, not in a \
             file that the sidecar reads as well) and restart Pulse:"
        }
        (copyable("hand-over", "the line that hands over", HAND_OVER_LINE))
    }
}

/// Who decided that it is on, or what would turn it on again.
fn decided(status: &StatusReport) -> &'static str {
    match &status.off_by {
        None => {
            "Nothing says off: neither the environment, nor the configuration, nor the switch below, nor Pulse's own \
             setting. Any one of them would win."
        }
        Some(ReasonWord::Known(LedgerReason::OffBySwitch)) => "The button below turns it on again, with a new ID.",
        Some(ReasonWord::Known(LedgerReason::OffByPulse)) => "It can be turned on again in Pulse, not here.",
        Some(ReasonWord::Known(LedgerReason::OffByConfig)) => {
            "Only there can it be turned on again: change the file and restart the sidecar. No button here overrules \
             it."
        }
        Some(_) => {
            "Only there can it be turned on again: unset the variable and restart the sidecar. No button here \
             overrules it."
        }
    }
}

fn pings(status: &StatusReport) -> Vec<(&'static str, Markup)> {
    let whether = |at| html! { (time(at)) ", whether a ping may go" };
    let next = match (&status.next, &status.suppressed) {
        (None, _) => ("Next ping", html! { "none is due" }),
        (Some(next), None) if status.waits_for_pulse() => ("Next look", whether(next.at)),
        (Some(next), None) if next.replaces_id => {
            ("New ID", html! { (time(next.at)) ", its first heartbeat 12 to 36 hours later" })
        }
        (Some(next), None) => ("Next ping", html! { (time(next.at)) ", a " (next.event.word()) }),
        (Some(next), Some(_)) => ("Next look", whether(next.at)),
    };
    let mut facts = vec![next];
    facts.push(("As of", status.as_of.map_or_else(|| html! { "Pulse has not answered yet" }, time)));
    if let Some(pending) = &status.pending {
        let attempts = if pending.attempts == 1 { "attempt" } else { "attempts" };
        let told = html! {
            "a " (pending.event.word()) ", built and not accepted yet after " (pending.attempts) " " (attempts)
            details id="pending" { summary { "Its exact bytes" } pre { (json(&pending.bytes)) } }
        };
        facts.push(("Waiting", told));
    }
    facts.push(("Last ping", status.last.as_ref().map_or_else(|| html! { "none yet" }, last)));
    if let Some(standing) = status.last_receipt {
        facts.push(("Its receipt", html! { (standing.word()) }));
    }
    if let Some(next) = status.forget.next {
        let told = html! {
            "of " (ids(status.forget.pending)) " asked for and not over; the endpoint is asked next " (time(next))
        };
        facts.push(("Deletions", told));
    }
    let id = match &status.id {
        Some(id) => html! { "made " (time(id.issued_at)) ", replaced " (time(id.rotates_at)) " at the latest" },
        None if status.enabled => html! { "none that is valid; one is made when the next ping is built" },
        None => html! { "none: off deletes it" },
    };
    facts.push(("ID", id));
    facts.push(("Goes to", code(&status.endpoint)));
    facts
}

fn last(last: &Concluded) -> Markup {
    let outcome = match last.outcome {
        Outcome::Delivered => html! { "accepted" },
        Outcome::Dropped => html! { "dropped (" (code(last.reason.as_str())) ")" },
        Outcome::GaveUp => html! { "given up (" (code(last.reason.as_str())) ")" },
    };
    html! {
        (time(last.at)) ", a " (last.event.word()) ", " (outcome)
        @if let Some(status) = last.status { "; the endpoint answered " (status) }
    }
}

fn buttons(status: &StatusReport) -> Markup {
    let switch = match (status.enabled, status.locked) {
        (true, _) => Some(("off", "Turn telemetry off")),
        (false, false) => Some(("on", "Turn telemetry on")),
        // Pulse's setting may be turned on by somebody else.
        (false, true) if status.off_by == Some(LedgerReason::OffByPulse.into()) => {
            Some(("off", "Keep telemetry off here as well"))
        }
        (false, true) => None,
    };
    html! {
        p class="buttons needs-script" {
            @if let Some((to, label)) = switch {
                button type="button" id="switch" data-switch=(to) { (label) }
            }
            " " button type="button" id="reset" data-open="reset-dialog" { "Reset the ID…" }
            " " button type="button" id="forget" data-open="forget-dialog" { "Delete what was sent…" }
            @if status.forget.pending > 0 {
                " " button type="button" id="cancel-forget" data-cancel="forget" { "Cancel the deletions" }
            }
        }
    }
}
