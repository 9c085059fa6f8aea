//! `run`: puts the parts together, and takes them apart on a signal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pulse_telemetry_http::server::ServeSettings;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::command::Exit;
use pulse_telemetry_process::log::start_log;
use pulse_telemetry_process::no_core::warn_of_cores;
use pulse_telemetry_process::signals::asked_to_stop;
use pulse_telemetry_process::supervisor::Supervisor;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::clients::{pulse_client, send_settings, sender};
use super::error::CommandError;
use super::offline;
use crate::config::{Config, Listen};
use crate::confine::{Allowed, Lookups, confine, listen_no_more};
use crate::daemon::{self, Handle};
use crate::events::{self, Recorder};
use crate::metrics::Metrics;
use crate::serve::{AppState, Listener, Server};
use crate::store::{self, EventFile, Store, StoreError};

/// Questions of the local server that wait for the daemon, at most.
const WAITING_QUESTIONS: usize = 64;

/// What a stop takes at most, of the two seconds that are promised: most of it may be the server's, for what it is
/// answering, and what the server leaves is for local events that are being written.
const STOP_TIME: Duration = Duration::from_millis(1800);

pub(super) async fn run(config: &Config, is_root: bool, leaves_no_core: bool) -> Result<Exit, CommandError> {
    start_log(&config.log).map_err(CommandError::Log)?;
    warn_of_cores(leaves_no_core);
    let notes = config.exposed_secrets().into_iter().chain(send_settings(config).not_understood());
    for note in config.warnings().iter().map(ToString::to_string).chain(notes) {
        tracing::warn!("{note}");
    }
    let pulse = pulse_client(config)?;
    let (sender, receipt_keys) = (sender(config)?, config.telemetry.read_receipt_keys()?);
    let token = config.serve.read_token()?;
    let dir = &config.state.dir;
    store::make_dir(dir)?;
    // What needs more than what stays allowed has been read, nothing of the state directory is open yet, and no other
    // thread runs.
    let confinement = confine(&allowed(config, is_root)?);
    let (store, found) = Store::open(dir)?;
    let (recorder, damaged_events) =
        Recorder::open(EventFile::new(dir), offline::events_off(config), Box::new(SystemClock))
            .map_err(|source| StoreError::Io { dir: dir.clone(), what: "reading events.jsonl", source })?;
    let listen = &config.serve.listen;
    let listener =
        Listener::bind(listen).await.map_err(|source| CommandError::Listen { listen: listen.clone(), source })?;
    listen_no_more();
    let asked_to_stop = asked_to_stop();
    tracing::info!(address = %listener.local_addr(), "the local page and API");

    let (handle, commands) = Handle::new(WAITING_QUESTIONS);
    let (events, metrics) = (Arc::new(recorder), Metrics::default());
    let app = AppState { daemon: handle, events: Arc::clone(&events), metrics: metrics.clone() };
    let settings = ServeSettings { allowed_hosts: config.serve.allowed_hosts.clone(), token };
    let server = Server::new(listener, &settings, app)?;
    let parts = daemon::Parts {
        store,
        pulse,
        sender,
        receipt_keys,
        clock: SystemClock,
        endpoint: config.telemetry.endpoint.to_string(),
        state_dir: config.state.dir.display().to_string(),
        notices: found.damage.iter().chain(&found.warnings).chain(&damaged_events).cloned().collect(),
        metrics,
        supervisor: Supervisor::of_this_process(),
        confinement: Some(confinement),
    };
    let engine = offline::engine(config, found);

    let (stop, stopping) = watch::channel(false);
    let stopped = |mut stopping: watch::Receiver<bool>| async move {
        // The channel ends only with this function, which is a stop as well.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let serving = tokio::spawn(server.run(stopped(stopping.clone())));
    let recorder = Arc::clone(&events);
    let pruning = tokio::spawn(async move { events::prune_expired(&recorder).await });
    let ((), end) = tokio::join!(daemon::run(parts, engine, commands, stopped(stopping)), async {
        asked_to_stop.await;
        tracing::info!("stopping");
        let _ = stop.send(true);
        Instant::now() + STOP_TIME
    });
    pruning.abort();
    // A server that panicked has been told by the panic.
    let _ = serving.await;
    // Events are written beside this loop, and nobody else waits for that once the server has ended.
    let _ = timeout_at(end, events.flush()).await;
    Ok(Exit::Done)
}

/// What the daemon can still touch, by its configuration.
fn allowed(config: &Config, is_root: bool) -> Result<Allowed, CommandError> {
    let endpoint = send_settings(config).port()?;
    let ports = [config.pulse.url.port(), endpoint];
    let lookups = Lookups::look(Path::new("/etc"));
    for told in &lookups.unreadable {
        tracing::warn!("{told}");
    }
    let allowed = Allowed::new(&config.state.dir, ports, &lookups, is_root);
    Ok(match &config.serve.listen {
        Listen::Tcp(_) => allowed,
        Listen::Unix(socket) => allowed.with_socket(socket),
    })
}
