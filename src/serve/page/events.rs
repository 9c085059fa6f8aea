//! The local-only commercial events that are kept, and who decides about them.

use super::html::{code, escape, time};
use crate::events::{EventsReport, Kept};

/// The newest events, at most so many, below the word of who decides about them.
pub(super) fn events(report: &EventsReport, most: usize) -> String {
    let mut said = vec![escape(&report.summary)];
    if !report.disabled_surfaces.is_empty() {
        let surfaces: Vec<String> = report.disabled_surfaces.iter().map(|surface| code(surface)).collect();
        said.push(format!("Not kept from these surfaces: {}.", surfaces.join(", ")));
    }
    if let Some(reduced) = report.reduce_pro_upsell_noise {
        let word = if reduced { "on" } else { "off" };
        let name = code("reduceProUpsellNoise");
        said.push(format!("Pulse's legacy preference {name} is {word}; nothing here depends on it."));
    }
    let trouble = if report.writable {
        ""
    } else {
        "<p class=\"trouble\">The last event could not be written. Look at the state directory.</p>\n"
    };
    format!("<p>{}</p>\n{trouble}{}", said.join(" "), list(&report.events, most))
}

fn list(events: &[Kept], most: usize) -> String {
    if events.is_empty() {
        return "<p>No local event is kept.</p>\n".to_owned();
    }
    let items: String = events.iter().take(most).map(item).collect();
    let older = match events.len().saturating_sub(most) {
        0 => String::new(),
        more => format!("<p>And {more} older: {} shows them all.</p>\n", code("pulse-telemetry events")),
    };
    format!("<ol class=\"history\">\n{items}</ol>\n{older}")
}

fn item(Kept { at, event }: &Kept) -> String {
    let told: Vec<String> = [&event.kind, &event.surface].into_iter().cloned().chain(event.details()).collect();
    format!("<li class=\"other\">{} <span class=\"said\">{}</span></li>\n", time(*at), escape(&told.join(", ")))
}
