//! `check`: what a person wants to know before the first ping.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use hyper::Method;
use pulse_telemetry_core::consent::Sources;
use pulse_telemetry_core::contract::{TokenAccess, ValueRow};
use pulse_telemetry_core::engine::Suppression;
use pulse_telemetry_core::observation::{OwnSender, ReadError, Reading, Unknown};
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_process::command::Exit;

use super::api::{Api, patience};
use super::clients::{pulse_client, send_settings, sender};
use super::error::CommandError;
use super::offline;
use crate::config::{Config, Listen, TokenSource};
use crate::serve::Listener;
use crate::status::{COUNTED_TWICE, StatusReport, SuppressedReport, reading_warnings};

pub(super) async fn check(config: &Config, out: &mut dyn Write) -> Result<Exit, CommandError> {
    write_configuration(config, out)?;
    // What a start would need besides: that it can be set up is seen here, not at night.
    let may_offer_deletions = sender(config)?.may_offer_deletions();
    drop(config.telemetry.read_receipt_keys()?);
    drop(config.serve.read_token()?);
    // Before the state directory is looked at: from then on nothing else can be read.
    let pulse = pulse_client(config);
    let here = check_here(config, out).await?;
    writeln!(out, "Endpoint: {} (not contacted by this command)", config.telemetry.endpoint)?;
    if !may_offer_deletions {
        writeln!(out, "  Its path does not end with /v1/telemetry/ping: `forget` contacts nobody.")?;
    }

    writeln!(out, "\nPulse at {}", config.pulse.url)?;
    if matches!(config.pulse.tokens, TokenSource::None) {
        writeln!(out, "  No API token is configured.")?;
    }
    let read = pulse?.read().await;
    let is_usable = write_read(read.as_ref(), here.sources.is_forced_on(), out)?;
    match here.listens {
        // What has it may be the daemon, which could not be asked.
        Err((is_taken, error)) if here.has_usable_state && !is_taken => return Err(error),
        _ => {}
    }
    Ok(match (here.has_usable_state, is_usable) {
        (false, _) => Exit::State,
        (true, false) => Exit::Pulse,
        (true, true) => Exit::Done,
    })
}

fn write_configuration(config: &Config, out: &mut dyn Write) -> Result<(), CommandError> {
    writeln!(out, "Configuration")?;
    for setting in config.origins() {
        writeln!(out, "  {:<27} {:<46} {}", setting.key, setting.value, setting.origin)?;
    }
    for warning in config.warnings() {
        writeln!(out, "  Note: {warning}.")?;
    }
    for note in config.exposed_secrets().into_iter().chain(send_settings(config).not_understood()) {
        writeln!(out, "  Note: {note}")?;
    }
    Ok(())
}

/// What was found on this machine.
struct Here {
    sources: Sources,
    has_usable_state: bool,
    /// Why a daemon could not listen, and whether it is because somebody does.
    listens: Result<(), (bool, CommandError)>,
}

/// Looks at the daemon; where none answers, at what one would need.
async fn check_here(config: &Config, out: &mut dyn Write) -> Result<Here, CommandError> {
    let daemon = Api::new(config)?.ask(Method::GET, "/api/v1/status", None, patience::AT_ONCE).await;
    if let Err(error) = &daemon
        && !error.is_no_daemon()
    {
        writeln!(out, "\nThe daemon could not be asked: {error}.")?;
    }
    let daemon: Option<StatusReport> = daemon.ok().and_then(|answer| serde_json::from_slice(&answer).ok());
    if let Some(report) = daemon {
        writeln!(out, "\nA daemon answers at serve.listen: {}", report.summary)?;
        writeln!(out, "State directory: {}", report.state_dir)?;
        let sources = offline::sources(config, report.off_by == Some(LedgerReason::OffBySwitch.into()));
        return Ok(Here { sources, has_usable_state: true, listens: Ok(()) });
    }
    // Before the state directory is opened, for then nothing can listen any more.
    let listens = try_to_listen(config).await.map_err(|source| {
        let is_taken = source.kind() == ErrorKind::AddrInUse;
        (is_taken, CommandError::Listen { listen: config.serve.listen.clone(), source })
    });
    let state = offline::try_out(config);
    let has_usable_state = state.is_ok();
    match &state {
        Ok(_) => writeln!(out, "\nState directory: {}", config.state.dir.display())?,
        Err(error) => writeln!(out, "\nState directory: {error}")?,
    }
    let sources = offline::sources(config, state.is_ok_and(|found| found.switched_off));
    match sources.off() {
        Some(source) => writeln!(out, "Telemetry: off, by {source}")?,
        None => writeln!(out, "Telemetry: on, unless Pulse's own setting says off (below)")?,
    }
    if let Err((_, error)) = &listens {
        writeln!(out, "Note: {error}.")?;
    }
    Ok(Here { sources, has_usable_state, listens })
}

/// Shows what came of reading Pulse, and says whether a ping could be built of it.
fn write_read(
    read: Result<&Reading, &ReadError>,
    is_forced_on: bool,
    out: &mut dyn Write,
) -> Result<bool, CommandError> {
    let is_usable = match read {
        Ok(reading) => write_reading(reading, is_forced_on, out)?,
        Err(ReadError::Unauthorized(credential)) => {
            writeln!(out, "  Pulse refuses to be read (pulse_unauthorized).\n  {credential}")?;
            false
        }
        Err(ReadError::NotPulse(what)) => {
            writeln!(out, "  Nothing can be read (incomplete): {what}.")?;
            false
        }
        Err(ReadError::Unreachable(why)) => {
            writeln!(out, "  Pulse cannot be reached (pulse_unreachable): {why}.")?;
            writeln!(out, "  Look at pulse.url (PULSE_URL) and whether Pulse runs.")?;
            false
        }
    };
    for warning in reading_warnings(read) {
        writeln!(out, "  Note: {warning}")?;
    }
    if let Ok(Reading { retry_after: Some(pause), .. }) = read {
        let seconds = pause.as_secs();
        writeln!(out, "  Note: Pulse asked for fewer requests (429), and to be left alone for {seconds} seconds.")?;
    }
    Ok(is_usable)
}

/// Binds the address of `serve.listen` for a moment.
async fn try_to_listen(config: &Config) -> io::Result<()> {
    match (Listener::bind(&config.serve.listen).await, &config.serve.listen) {
        // A start makes the state directory first.
        (Err(error), Listen::Unix(socket))
            if error.kind() == ErrorKind::NotFound && socket.parent() == Some(&config.state.dir) =>
        {
            Ok(())
        }
        (bound, _) => bound.map(drop),
    }
}

/// Shows field by field what the token may read, and says whether a ping could be built.
fn write_reading(reading: &Reading, is_forced_on: bool, out: &mut dyn Write) -> Result<bool, CommandError> {
    let gate = &reading.gate;
    writeln!(out, "  {:<20} {:<16} answer", "what", "scope")?;
    for ValueRow { name, needs, value } in reading.values().rows() {
        // Nobody has to let us read what is this machine's own.
        if needs != TokenAccess::Own {
            row(out, name, needs, &value)?;
        }
    }
    let own_sender = gate.own_sender.as_ref().map(|sender| match sender {
        OwnSender::Absent => "absent",
        OwnSender::On => "on",
        OwnSender::OffBySetting => "off by Pulse's setting",
        OwnSender::OffByEnvironment => "off by Pulse's environment: handed over",
    });
    row(out, "mock_mode", TokenAccess::Settings, &gate.mock_mode.as_ref())?;
    row(out, "demo_mode", TokenAccess::Nothing, &gate.demo_mode.as_ref())?;
    row(out, "pulse_starting", TokenAccess::Nothing, &gate.starting.as_ref())?;
    row(out, "own_sender", TokenAccess::Settings, &own_sender)?;
    let organizations = gate.organizations.as_ref().map(|()| "all that are known are counted");
    row(out, "organizations", TokenAccess::Settings, &organizations)?;
    match Suppression::sendable_payload(Ok(reading), is_forced_on) {
        Err(suppression) => {
            let report = SuppressedReport::new(&suppression);
            writeln!(out, "\n  Nothing would be sent now ({}). {}", report.reason, report.message)?;
        }
        Ok(_) => writeln!(out, "\n  Everything that the ping needs can be read.")?,
    }
    match gate.own_sender {
        Ok(OwnSender::OffBySetting) => writeln!(out, "  Telemetry is switched off in Pulse, so it is off here too.")?,
        Ok(OwnSender::On) if is_forced_on => writeln!(out, "  {COUNTED_TWICE}")?,
        _ => {}
    }
    Ok(reading.known().is_ok())
}

fn row<T: Display>(out: &mut dyn Write, what: &str, needs: TokenAccess, value: &Result<T, &Unknown>) -> io::Result<()> {
    match value {
        Ok(value) => writeln!(out, "  {what:<20} {needs:<16} {value}"),
        Err(unknown) => writeln!(out, "  {what:<20} {needs:<16} UNKNOWN: {} ({})", unknown.reason, unknown.request),
    }
}
