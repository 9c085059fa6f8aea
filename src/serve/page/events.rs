//! The local-only commercial events that are kept, and who decides about them.

use maud::{Markup, html};

use super::html::{code, joined, time};
use crate::events::{EventsReport, Kept};

/// The newest events, a limited number, below the word of who decides about them.
pub(super) fn events(report: &EventsReport, most: usize) -> Markup {
    let surfaces: Vec<Markup> = report.disabled_surfaces.iter().map(|surface| code(surface)).collect();
    html! {
        p {
            (report.summary)
            @if !surfaces.is_empty() { " Not kept from these surfaces: " (joined(&surfaces, ", ")) "." }
            @if let Some(reduced) = report.reduce_pro_upsell_noise {
                " Pulse's legacy preference " (code("reduceProUpsellNoise")) " is "
                (if reduced { "on" } else { "off" }) "; nothing here depends on it."
            }
        }
        @if !report.writable {
            p class="trouble" { "The last event could not be written. Look at the state directory." }
        }
        (list(&report.events, most))
    }
}

fn list(events: &[Kept], most: usize) -> Markup {
    let older = events.len().saturating_sub(most);
    html! {
        @if events.is_empty() {
            p { "No local event is kept." }
        } @else {
            ol class="history" { @for kept in events.iter().take(most) { (item(kept)) } }
        }
        @if older > 0 {
            p { "And " (older) " older: " (code("pulse-telemetry events")) " shows them all." }
        }
    }
}

fn item(Kept { at, event }: &Kept) -> Markup {
    let told: Vec<String> = [&event.kind, &event.surface].into_iter().cloned().chain(event.details()).collect();
    html! { li class="other" { (time(*at)) " " span class="said" { (told.join(", ")) } } }
}
