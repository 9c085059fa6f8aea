//! `run`: puts the parts together, and takes them apart on a signal.

use std::pin::pin;
use std::sync::{Arc, Mutex};

use pulse_telemetry_http::server::places::Places;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::log::start_log;
use pulse_telemetry_process::no_core::warn_of_cores;
use pulse_telemetry_process::rng::SystemRng;
use pulse_telemetry_process::signals::asked_to_stop;
use pulse_telemetry_process::supervisor::Supervisor;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{CollectorError, open_postgres};
use crate::capacity::Capacity;
use crate::config::{CollectorConfig, Storage};
use crate::limiter::Limiter;
use crate::metrics::CollectorMetrics;
use crate::places::{self, Networks};
use crate::purge::{look_after_the_storage, purge_by_itself};
use crate::queue::{Readiness, SharedClock, queue};
use crate::retry::Retry;
use crate::server::{self, Admin, App, STORAGE_END};
use crate::sqlite::SqliteStore;
use crate::storage::PingStore;

pub(super) async fn run(config: &CollectorConfig, leaves_no_core: bool) -> Result<(), CollectorError> {
    start_log(&config.log).map_err(CollectorError::SetUp)?;
    warn_of_cores(leaves_no_core);
    for exposed in config.exposed_secrets() {
        tracing::warn!("{exposed}");
    }
    end_at_a_panic();
    allow_many_files();
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let tls = config.serve.tls.as_ref().map(server::tls).transpose().map_err(CollectorError::SetUp)?;
    let token = config.admin.read_token()?;
    // From here on, for a database may not answer: where this is a container's first process, a signal that nobody
    // waits for does nothing.
    let mut stop = pin!(asked_to_stop());
    let storage = storage_thread()?;
    let settings = config.storage.clone();
    // On that thread, for there a connection to PostgreSQL is looked after from then on.
    let opened = storage.spawn(async move {
        let store: Arc<dyn PingStore> = match &settings {
            Storage::Sqlite(path) => Arc::new(SqliteStore::open_alone(path)?),
            Storage::Postgres(postgres) => Arc::new(open_postgres(postgres).await?),
        };
        // Before anything is stored by a clock that may be wrong.
        let newest = store.span().await?.map(|span| span.newest);
        Ok::<_, CollectorError>((store, newest))
    });
    let opened = tokio::select! {
        biased;
        () = &mut stop => {
            tracing::info!("stopping");
            return Ok(());
        }
        opened = opened => opened,
    };
    let (store, newest) = opened.map_err(|error| CollectorError::Other(error.to_string()))??;
    let listener = server::bind(config.serve.listen).map_err(|error| {
        CollectorError::Other(format!("failed to listen at serve.listen {}: {error}", config.serve.listen))
    })?;
    let admin = server::bind(config.admin.listen).map_err(|error| {
        CollectorError::Other(format!("failed to listen at admin.listen {}: {error}", config.admin.listen))
    })?;
    let address = admin.local_addr().map_err(|error| CollectorError::Other(format!("failed to listen: {error}")))?;
    tracing::info!(%address, "metrics and readiness are told");
    let address = listener.local_addr().map_err(|error| CollectorError::Other(format!("failed to listen: {error}")))?;
    tracing::info!(%address, "the collector listens");

    let clock: SharedClock = Arc::new(SystemClock);
    let (health, metrics) = (Arc::new(Readiness::default()), Arc::new(CollectorMetrics::default()));
    if let Some(tls) = &tls {
        metrics.certificate_ends(tls.ends);
        tokio::spawn(server::warn_before_the_end(tls.ends, Arc::clone(&clock)));
    }
    let retry = Arc::new(Mutex::new(Retry::new(Box::new(SystemRng))));
    let capacity = Arc::new(Capacity::new(config.limits.storage_bytes));
    let (queue, committer, answerer) = queue(
        config.limits.queue,
        Arc::clone(&store),
        Arc::clone(&health),
        Arc::clone(&capacity),
        Arc::clone(&metrics),
        Arc::clone(&retry),
        Arc::clone(&clock),
    );
    let app = Arc::new(App {
        limiter: Limiter::new(config.limits.per_minute, config.limits.new_ids, Box::new(SystemRng)),
        trusted_proxies: config.serve.trusted_proxies.clone(),
        places: Arc::new(Places::new(Networks::new(
            config.serve.connections,
            places::per_network(config.serve.connections),
        ))),
        capacity: Arc::clone(&capacity),
        queue,
        health: Arc::clone(&health),
        metrics: Arc::clone(&metrics),
        retry,
        clock: Arc::clone(&clock),
        commit_timeout: config.limits.commit_timeout,
        limits: server::limits(config.serve.connections),
    });
    let admin = Admin::new(admin, config.admin.allowed_hosts.clone(), token)
        .map_err(|error| CollectorError::SetUp(error.to_string()))?;
    let mut answering = tokio::spawn(answerer.run());
    let mut committing = storage.spawn(committer.run());
    let mut purging = storage.spawn(purge_by_itself(Arc::clone(&store), Arc::clone(&metrics), clock, newest));
    let mut looking = storage.spawn(look_after_the_storage(store, health, capacity, metrics));
    let serving = server::run(
        listener,
        tls.map(|tls| tls.acceptor),
        Arc::new(admin),
        Arc::clone(&app),
        Supervisor::of_this_process(),
        async {
            stop.await;
            tracing::info!("stopping");
        },
    );
    // A collector that lost a part would look alive and store or purge nothing.
    let lost = tokio::select! {
        biased;
        () = serving => None,
        _ = &mut committing => Some("commits"),
        _ = &mut purging => Some("purges"),
        _ = &mut looking => Some("looks after the storage"),
        _ = &mut answering => Some("answers"),
    };
    if let Some(part) = lost {
        return Err(CollectorError::Other(format!(
            "the part that {part} has ended, which is a bug; start the collector again"
        )));
    }
    drop(app);
    purging.abort();
    looking.abort();
    let ended = async {
        // With the server went the last way into the queue, so this ends when all that waited is committed.
        let _ = committing.await;
        // The last of them to end closes the storage.
        let _ = purging.await;
        let _ = looking.await;
    };
    // What a storage that does not answer holds was not acknowledged, and what was is on the disk.
    let _ = timeout(STORAGE_END, ended).await;
    Ok(())
}

/// A thread with a loop of its own for what concerns the storage, so that a commit waits for no request and no request
/// for a commit. It ends with the process.
fn storage_thread() -> Result<Handle, CollectorError> {
    let failed =
        |error: std::io::Error| CollectorError::Other(format!("failed to start the storage's thread: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(failed)?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("storage".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .map_err(failed)?;
    Ok(handle)
}

/// A panic tells where it happened and not what was at hand, which may come from a request. It ends the process, in
/// every build: without one of its parts the collector would look alive and do nothing, and whoever started it starts
/// it again.
pub fn end_at_a_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        tracing::error!(place, "a part of the collector panicked; this is a bug");
        std::process::abort();
    }));
}

/// As many connections as are configured need as many open files. What the system does not allow, accepting waits for.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
