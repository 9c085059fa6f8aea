//! `on` and `off`: the local switch.

use std::io::Write;

use hyper::Method;
use pulse_telemetry_core::printable::printable;
use pulse_telemetry_core::reason::ReasonWord;
use pulse_telemetry_process::command::Exit;
use serde::Deserialize;

use super::api::{Api, ApiError, patience};
use super::error::CommandError;
use super::offline::{self, OffWritten};
use crate::config::Config;

/// What came of turning the switch: the answer of `PUT /api/v1/switch`.
#[derive(Debug, Deserialize)]
struct SwitchReply {
    off_by: Option<ReasonWord>,
    persisted: bool,
}

/// Asks the daemon; where none answers, the switch is turned in the state directory.
pub(super) async fn on(config: &Config, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let told = match Api::new(config) {
        Ok(api) => tell(&api, true, patience::AT_ONCE).await,
        Err(error) => return Err(error.into()),
    };
    let (off_by, offline) = match told {
        Err(error) if error.is_no_daemon() => (offline::switch_on(config, out)?, true),
        told => (told?.off_by, false),
    };
    writeln!(out, "The local switch is on.")?;
    if offline {
        let (listen, dir) = (&config.serve.listen, config.state.dir.display());
        writeln!(out, "No daemon answered at {listen}: it holds for one that uses the state directory {dir}.")?;
    }
    if let Some(off_by) = off_by {
        writeln!(
            out,
            "Telemetry stays off all the same ({}): see `pulse-telemetry status`.",
            printable(off_by.as_str())
        )?;
    }
    Ok(Exit::Done)
}

/// Writes the file first, which needs nobody, and then tells the daemon, which may hang. It fails only where neither
/// works.
pub(super) async fn off(config: &Config, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let written = offline::switch_off(config, out);
    let told = match Api::new(config) {
        Ok(api) => tell(&api, false, patience::OFF).await.map_err(|error| error.to_string()),
        // Turning off is always possible, also where the token for the API cannot be read.
        Err(error) => Err(error.to_string()),
    };
    // The daemon's own words end with a full stop.
    let told = told.map_err(|untold| untold.trim_end_matches('.').to_owned());
    let (listen, dir) = (&config.serve.listen, config.state.dir.display());
    match (&written, &told) {
        (Err(_), Err(_)) => {}
        (Err(error), Ok(_)) => writeln!(out, "The local switch is off, in the daemon only: {error}.")?,
        (Ok(_), _) => writeln!(out, "The local switch is off. It is on the disk, in the state directory {dir}.")?,
    }
    match (told, written) {
        (Ok(SwitchReply { persisted: true, .. }), _) => {
            writeln!(out, "The daemon at {listen} was told, and sends nothing.")?
        }
        (Ok(_), Ok(_)) => writeln!(out, "The daemon at {listen} was told, and sends nothing; it could not write it.")?,
        (Ok(_), Err(_)) => writeln!(out, "The daemon could not write it either: it holds until the daemon stops.")?,
        (Err(untold), Ok(OffWritten::Held)) => writeln!(
            out,
            "The daemon that holds the state directory was not told: {untold}. It finds the file before each ping; \
             until then its page says on, and the ID file stays."
        )?,
        (Err(untold), Err(error)) => {
            writeln!(out, "No daemon was told: {untold}.")?;
            return Err(error);
        }
        (Err(untold), Ok(OffWritten::FileOnly)) => writeln!(
            out,
            "No daemon was told: {untold}. It holds for one that uses this state directory; the ID file stays until \
             one starts there again."
        )?,
        (Err(untold), Ok(OffWritten::Whole)) => {
            writeln!(out, "No daemon was told: {untold}. It holds for one that uses this state directory.")?;
        }
    }
    Ok(Exit::Done)
}

async fn tell(api: &Api, on: bool, patience: std::time::Duration) -> Result<SwitchReply, ApiError> {
    let body = format!("{{\"enabled\":{on}}}");
    let answer = api.ask(Method::PUT, "/api/v1/switch", Some(body), patience).await?;
    serde_json::from_slice(&answer).map_err(|_| ApiError::Foreign)
}
