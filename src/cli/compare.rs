//! `check --compare`: our ping beside the one that Pulse would send.

use std::io::{self, Write};

use pulse_telemetry_core::engine::Suppression;
use pulse_telemetry_core::identity::InstallId;
use pulse_telemetry_core::observation::{OwnSender, Reason};
use pulse_telemetry_core::ping::{self, Event};
use pulse_telemetry_core::printable::printable;
use pulse_telemetry_process::command::Exit;
use serde_json::{Map, Value};

use super::clients::pulse_client;
use super::error::CommandError;
use crate::comparison::{Comparison, ComparisonRow, FieldVerdict, Ours};
use crate::config::Config;
use crate::pulse::{Observation, PulseClient};
use crate::status::SuppressedReport;

/// The most of a text of Pulse's that is shown, and of the name of a field.
const SHOWN: usize = 64;
const NAME_SHOWN: usize = 256;

const NONE_OF_ITS_OWN: &str = "This Pulse has no telemetry of its own (Pulse 5.1 has none, and no preview of it), so \
    there is nothing to compare with.";

pub(super) async fn compare(config: &Config, out: &mut dyn Write) -> Result<Exit, CommandError> {
    writeln!(out, "Compares with the ping that Pulse at {} would send itself.", config.pulse.url)?;
    writeln!(
        out,
        "Asking Pulse for it makes Pulse write its own ID file, even where its telemetry is off (and since 6.1.1 a \
         file on its lifecycle). Nothing of the answer is kept or sent."
    )?;
    let client = pulse_client(config)?;
    let (observed, before) = ours(&client).await?;
    if observed.reading.gate.own_sender == Ok(OwnSender::Absent) {
        return Err(CommandError::Pulse(NONE_OF_ITS_OWN.to_owned()));
    }
    let theirs = theirs(&client).await?;
    let (observed_after, after) = ours(&client).await?;
    let before = Ours { observed: &observed, payload: &before };
    let comparison = Comparison::new(before, &theirs, Ours { observed: &observed_after, payload: &after });
    write(&comparison, out)
}

/// What we would send now.
async fn ours(client: &PulseClient) -> Result<(Observation, Map<String, Value>), CommandError> {
    let observed = client.observe().await.map_err(|error| failure(&Suppression::from(&error)))?;
    let payload = Suppression::known_payload(&observed.reading).map_err(|because| failure(&because))?;
    let bytes = ping::encode(payload, &InstallId::nobodys(), Event::Heartbeat);
    let fields = serde_json::from_str(&bytes).map_err(io::Error::from)?;
    Ok((observed, fields))
}

fn failure(because: &Suppression) -> CommandError {
    CommandError::Pulse(SuppressedReport::new(because).to_text())
}

/// What Pulse would send now.
async fn theirs(client: &PulseClient) -> Result<Map<String, Value>, CommandError> {
    match client.own_preview().await {
        Ok(Ok(payload)) => Ok(payload),
        Ok(Err(Reason::Status(404))) => Err(CommandError::Pulse(
            "This Pulse has no preview of its own ping (404), so there is nothing to compare with.".to_owned(),
        )),
        Ok(Err(reason)) => Err(CommandError::Pulse(format!("Pulse's own preview cannot be read: {reason}."))),
        Err(error) => Err(failure(&Suppression::from(&error))),
    }
}

fn write(comparison: &Comparison, out: &mut dyn Write) -> Result<Exit, CommandError> {
    writeln!(out, "\n  {:<30} {:<22} {:<22} comparison", "field", "the sidecar", "Pulse")?;
    for ComparisonRow { field, ours, theirs, verdict } in &comparison.rows {
        let ours = if *field == "install_id" { "its own".to_owned() } else { shown(ours.as_ref()) };
        let theirs = if *field == "install_id" { "its own".to_owned() } else { shown(theirs.as_ref()) };
        let told = match verdict {
            FieldVerdict::Same => "same".to_owned(),
            FieldVerdict::Moved => "changed meanwhile".to_owned(),
            FieldVerdict::Documented(why) => format!("documented: {why}"),
            FieldVerdict::Differs => "DIFFERS".to_owned(),
        };
        writeln!(out, "  {field:<30} {ours:<22} {theirs:<22} {told}")?;
    }
    if !comparison.only_theirs.is_empty() {
        let names: Vec<String> = comparison.only_theirs.iter().map(|name| printable(&cut(name, NAME_SHOWN))).collect();
        writeln!(out, "\nOnly Pulse sends these, and they are no difference: {}.", names.join(", "))?;
    }
    let differing: Vec<_> = comparison.differing().collect();
    if differing.is_empty() {
        writeln!(out, "\nBoth say the same, but for what is documented.")?;
        return Ok(Exit::Done);
    }
    writeln!(out, "\nThe sidecar and Pulse differ in: {}. Please report it.", differing.join(", "))?;
    Ok(Exit::Differs)
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "-".to_owned(),
        Some(Value::String(text)) => printable(&cut(text, SHOWN)),
        Some(Value::Bool(_) | Value::Number(_) | Value::Null) => value.map(Value::to_string).unwrap_or_default(),
        // Nothing that is sent is of such a shape.
        Some(Value::Array(_)) => "a list".to_owned(),
        Some(Value::Object(_)) => "an object".to_owned(),
    }
}

fn cut(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
