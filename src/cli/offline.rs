//! What the commands do where no daemon answers: they look at the state directory themselves.

use std::io::Write;
use std::path::Path;
use std::sync::Once;

use pulse_telemetry_core::clock::Clock;
use pulse_telemetry_core::consent::{Fixed, OffSource, Sources};
use pulse_telemetry_core::engine::{Action, DiskAction, Engine, Input, Schedule, Start, Suppression};
use pulse_telemetry_core::identity::Identity;
use pulse_telemetry_core::observation::OwnSender;
use pulse_telemetry_core::ping::{self, Event, PingBytes};
use pulse_telemetry_core::reason::ReasonWord;
use pulse_telemetry_core::rng::Rng;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::rng::SystemRng;
use serde::Deserialize;

use super::clients::pulse_client;
use super::error::CommandError;
use crate::config::{Config, Listen};
use crate::confine::{Allowed, Lookups, confine, listen_no_more};
use crate::events::{self, EventsReport, Off, Recorder};
use crate::status::{StatusContext, StatusReport, SuppressedReport, reading_warnings};
use crate::store::{self, Disk, EventFile, Found, Store, StoreError};

/// That deletions are asked for: the answer of `POST /api/v1/forget`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Asked {
    /// Of how many IDs.
    pub(super) pending: usize,
    /// Telemetry is on, and goes on with a new ID.
    pub(super) enabled: bool,
}

/// How much of `off` was done in the state directory.
#[derive(Clone, Copy, Debug)]
pub(super) enum OffWritten {
    /// All of it: the ID and the pending ping are gone as well.
    Whole,
    /// The file alone, for a daemon holds the directory.
    Held,
    /// The file alone, for something else in the directory cannot be used.
    FileOnly,
}

/// Everything that decides about consent, Pulse apart.
pub(super) fn sources(config: &Config, switched_off: bool) -> Sources {
    let variables = &config.consent;
    let fixed =
        Fixed::new(variables.pulse_telemetry.as_deref(), variables.do_not_track.as_deref(), config.telemetry.enabled);
    Sources { fixed, switched_off, off_in_pulse: false }
}

/// What of the sidecar's own environment and configuration switches local events off.
pub(super) fn events_off(config: &Config) -> Option<Off> {
    Off::fixed(config.consent.disable_local_events.as_deref(), config.events.record)
}

/// Lets a command at the state directory: confined from then on, and as root in the place of the directory's owner.
/// What else it reads, a token say, it has to have read before.
pub(super) fn at_the_state<T>(config: &Config, work: impl FnOnce(&Path) -> T) -> T {
    static CONFINED: Once = Once::new();
    let dir = &config.state.dir;
    // Where it is not there, there is nothing to be kept from.
    if dir.exists() {
        CONFINED.call_once(|| {
            let listen = match &config.serve.listen {
                Listen::Tcp(address) => Some(address.port()),
                Listen::Unix(_) => None,
            };
            let ports = listen.into_iter().chain([config.pulse.url.port()]);
            let is_root = rustix::process::geteuid().is_root();
            let mut allowed = Allowed::new(dir, ports, &Lookups::look(Path::new("/etc")), is_root);
            // The daemon may be asked later.
            allowed.read.extend(config.serve.token_file.as_ref().map(|file| file.path.clone()));
            confine(&allowed);
            listen_no_more();
        });
    }
    store::as_owner(dir, || work(dir))
}

/// As [`at_the_state`], with the directory locked. It is made where it is missing.
fn in_the_store<T>(
    config: &Config,
    out: &mut dyn Write,
    work: impl FnOnce(&mut Store, Found) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    store::make_dir(&config.state.dir)?;
    at_the_state(config, |dir| {
        let (mut store, found) = Store::open(dir)?;
        for notice in &found.damage {
            writeln!(out, "Note: {notice}")?;
        }
        work(&mut store, found)
    })
}

/// What is there, for a command that changes nothing.
pub(super) fn peek(config: &Config) -> Result<Found, StoreError> {
    at_the_state(config, Store::peek)
}

/// As [`peek`], where the directory can also be used as a start uses it. Nothing is left behind.
pub(super) fn try_out(config: &Config) -> Result<Found, StoreError> {
    at_the_state(config, Store::try_out)
}

/// The local events, as far as the file tells.
pub(super) fn events(config: &Config) -> Result<EventsReport, CommandError> {
    let file = at_the_state(config, |dir| EventFile::new(dir).read_for_command())?;
    Ok(events::read(file.as_deref(), events_off(config), SystemClock.now().wall))
}

/// Erases the local events, under the lock.
pub(super) fn erase_events(config: &Config, out: &mut dyn Write) -> Result<(), CommandError> {
    in_the_store(config, out, |_, _| {
        let dir = &config.state.dir;
        let erased = Recorder::open(EventFile::new(dir), events_off(config), Box::new(SystemClock))
            .and_then(|(recorder, _)| recorder.erase_here());
        Ok(erased.map_err(unwritten(config))?)
    })
}

/// The schedule, as the engine has it.
pub(super) fn schedule(config: &Config) -> Schedule {
    Schedule {
        startup_delay: config.schedule.startup_delay,
        interval: config.schedule.interval,
        jitter: config.schedule.jitter,
    }
}

/// The engine as it would be at a start now, and what it would do first.
pub(super) fn engine(config: &Config, found: Found) -> (Engine<SystemRng>, Vec<Action>) {
    let now = SystemClock.now();
    // Only of an ID that lies ahead of the clock it matters where it comes from.
    let is_ahead = |identity: &&Identity| identity.issued_at > now.wall;
    let ahead = found.identity.as_ref().filter(is_ahead);
    let dir = &config.state.dir;
    let start = Start {
        sources: sources(config, found.switched_off),
        identity_is_ours: ahead.is_some_and(|identity| store::ledger_shows(dir, identity)),
        identity_is_forgotten: found.identity.as_ref().is_some_and(|id| store::asks_to_forget(dir, &id.install_id)),
        identity: found.identity,
        state: found.state,
        interrupted: found.interrupted,
    };
    Engine::start(schedule(config), start, SystemRng, now)
}

pub(super) async fn preview(config: &Config) -> Result<PingBytes, CommandError> {
    let pulse = pulse_client(config)?;
    let (engine, _) = engine(config, peek(config)?);
    let read = pulse.read().await;
    let payload = read.as_ref().map_err(Suppression::from).and_then(Suppression::known_payload);
    let payload = payload.map_err(|because| CommandError::Pulse(SuppressedReport::new(&because).to_text()))?;
    Ok(ping::encode(payload, &engine.preview_id(SystemClock.now()), Event::Heartbeat))
}

pub(super) async fn status(config: &Config) -> Result<StatusReport, CommandError> {
    // Needed only where telemetry is on, and read before it no longer can be.
    let pulse = pulse_client(config);
    let (engine, _) = engine(config, peek(config)?);
    let mut status = engine.status(SystemClock.now());
    let mut suppressed = None;
    let mut as_of = None;
    let mut warnings = Vec::new();
    if status.off.is_none() {
        let read = pulse?.read().await;
        let switched_off_in_pulse =
            matches!(&read, Ok(reading) if reading.gate.own_sender == Ok(OwnSender::OffBySetting));
        status.off = switched_off_in_pulse.then_some(OffSource::Pulse);
        suppressed = Suppression::sendable_payload(read.as_ref(), engine.sources().is_forced_on()).err();
        warnings = reading_warnings(read.as_ref());
        as_of = Some(SystemClock.now().wall);
    }
    status.suppressed = suppressed.as_ref().filter(|_| status.off.is_none());
    let context = StatusContext {
        running: false,
        endpoint: &config.telemetry.endpoint.to_string(),
        expects_receipts: config.telemetry.receipt_keys_file.is_some(),
        state_dir: &config.state.dir.display().to_string(),
        confinement: None,
        as_of,
        is_being_read: false,
        warnings: &warnings,
    };
    Ok(StatusReport::new(&status, &context))
}

/// Says whether telemetry is on, so that there is an ID at all.
pub(super) fn reset_id(config: &Config, out: &mut dyn Write) -> Result<bool, CommandError> {
    Ok(feed(config, |_| Ok(Input::Reset), out)?.sources().off().is_none())
}

/// Asks for the deletion of everything that was sent, for the next daemon to carry out. Says of how many IDs, and
/// whether telemetry is on.
pub(super) fn forget(config: &Config, out: &mut dyn Write) -> Result<Asked, CommandError> {
    let engine = feed(config, |store| Ok(Input::Forget { ids: store.read_sent_ids()()? }), out)?;
    let pending = engine.status(SystemClock.now()).deletions.pending;
    Ok(Asked { pending, enabled: engine.sources().off().is_none() })
}

/// Ends the deletions that are not done yet, and says of how many IDs.
pub(super) fn cancel_forget(config: &Config, out: &mut dyn Write) -> Result<usize, CommandError> {
    let pending = peek(config)?.state.pending_deletions();
    feed(config, |_| Ok(Input::CancelForget), out)?;
    Ok(pending)
}

/// What keeps telemetry off all the same.
pub(super) fn switch_on(config: &Config, out: &mut dyn Write) -> Result<Option<ReasonWord>, CommandError> {
    if let Some(source) = sources(config, false).off() {
        return Err(CommandError::Locked(source));
    }
    let engine = feed(config, |_| Ok(Input::Switch { off: false }), out)?;
    Ok(engine.sources().off().map(|source| source.reason().into()))
}

/// Leaves the switch's file, and does under the lock what else belongs to off. A daemon that holds the directory finds
/// the file with its next reading of Pulse, before it could send.
pub(super) fn switch_off(config: &Config, out: &mut dyn Write) -> Result<OffWritten, CommandError> {
    let Err(error) = feed(config, |_| Ok(Input::Switch { off: true }), out).map(drop) else {
        return Ok(OffWritten::Whole);
    };
    at_the_state(config, store::leave_off)?;
    if matches!(error, CommandError::State(StoreError::InUse(_))) {
        return Ok(OffWritten::Held);
    }
    writeln!(out, "Note: {error}")?;
    Ok(OffWritten::FileOnly)
}

/// Erases the history, under the lock, and says how many deletions are pending.
pub(super) fn erase_history(config: &Config, out: &mut dyn Write) -> Result<usize, CommandError> {
    in_the_store(config, out, |store, found| {
        store.erase_history(SystemClock.now().wall).map_err(unwritten(config))?;
        Ok(found.state.pending_deletions())
    })
}

fn unwritten(config: &Config) -> impl FnOnce(std::io::Error) -> StoreError {
    |source| StoreError::Io { dir: config.state.dir.clone(), what: "writing to it", source }
}

/// Lets the engine do one thing in the state directory, under the lock.
fn feed(
    config: &Config,
    input: impl FnOnce(&Store) -> std::io::Result<Input>,
    out: &mut dyn Write,
) -> Result<Engine<impl Rng>, CommandError> {
    in_the_store(config, out, |store, found| {
        let input = input(store).map_err(|source| StoreError::Io {
            dir: config.state.dir.clone(),
            what: "reading ledger.jsonl",
            source,
        })?;
        let (mut engine, first) = engine(config, found);
        // Nothing starts here; but where telemetry is off, what off takes with it goes now, and a deletion whose time
        // is over is told.
        let is_of_a_start = |action: &Action| match action {
            Action::Disk(DiskAction::Record(entry)) => entry.install_id.is_none(),
            _ => false,
        };
        let first = first.into_iter().filter(|action| !is_of_a_start(action));
        let now = SystemClock.now();
        let actions = first.chain(engine.handle(now, input));
        for action in actions.filter_map(|action| if let Action::Disk(action) = action { Some(action) } else { None }) {
            store.carry_out(&action, now.wall).map_err(unwritten(config))?;
        }
        store.confirm().map_err(unwritten(config))?;
        Ok(engine)
    })
}
