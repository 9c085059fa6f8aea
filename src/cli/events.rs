//! `events`: the local-only commercial events.

use std::io::Write;

use hyper::Method;
use pulse_telemetry_core::printable::printable;
use pulse_telemetry_process::command::Exit;

use super::api::{Api, ApiError, patience};
use super::error::CommandError;
use super::offline;
use crate::config::Config;
use crate::events::{EventsReport, Kept};

pub(super) async fn show(config: &Config, json: bool, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let report: EventsReport = match Api::new(config)?.ask(Method::GET, "/api/v1/events", None, patience::AT_ONCE).await
    {
        Err(error) if error.is_no_daemon() => offline::events(config)?,
        answer => serde_json::from_slice(&answer?).map_err(|_| CommandError::from(ApiError::Foreign))?,
    };
    if json {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", to_text(&report))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn erase(config: &Config, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match Api::new(config)?.ask(Method::DELETE, "/api/v1/events", None, patience::AT_ONCE).await {
        Err(error) if error.is_no_daemon() => offline::erase_events(config, out)?,
        answer => drop(answer?),
    }
    writeln!(out, "The local events were erased.")?;
    Ok(Exit::Done)
}

fn to_text(report: &EventsReport) -> String {
    let mut lines: Vec<String> = report.events.iter().rev().map(line).collect();
    if lines.is_empty() {
        lines.push("No local event is kept.".to_owned());
    }
    lines.push(printable(&report.summary));
    if !report.disabled_surfaces.is_empty() {
        lines.push(format!("Not kept from these surfaces: {}.", printable(&report.disabled_surfaces.join(", "))));
    }
    if !report.running {
        lines.push("No pulse-telemetry answers at serve.listen: this is what the file says.".to_owned());
    }
    if let Some(reduced) = report.reduce_pro_upsell_noise {
        let word = if reduced { "on" } else { "off" };
        lines.push(format!("Pulse's legacy preference reduceProUpsellNoise is {word}; nothing here depends on it."));
    }
    if !report.writable {
        lines.push("The last event could not be written. Look at the state directory.".to_owned());
    }
    lines.join("\n") + "\n"
}

fn line(Kept { at, event }: &Kept) -> String {
    let details: Vec<String> = event.details().map(|detail| printable(&detail)).collect();
    format!("{at:.0}  {:<32}  {}  {}", printable(&event.kind), printable(&event.surface), details.join(", "))
        .trim_end()
        .to_owned()
}
