//! `run`: puts the parts together, and takes them apart on a signal.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use pulse_telemetry_http::server::places::Places;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::log::start_log;
use pulse_telemetry_process::no_core::warn_of_cores;
use pulse_telemetry_process::rng::SystemRng;
use pulse_telemetry_process::runtime;
use pulse_telemetry_process::signals::asked_to_stop;
use pulse_telemetry_process::supervisor::Supervisor;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::error::CollectorError;
use super::storage::{open_existing, open_postgres, reader};
use crate::capacity::Capacity;
use crate::config::{CollectorConfig, Storage};
use crate::limiter::Limiter;
use crate::metrics::CollectorMetrics;
use crate::places::{self, Networks};
use crate::publish::{self, LatestNumbers, PublishError, Published, Publisher, count_by_itself};
use crate::purge::{look_after_the_storage, purge_by_itself};
use crate::queue::{Readiness, SharedClock, queue};
use crate::receipts::Receipts;
use crate::retry::Retry;
use crate::rewrite::rewrite_by_itself;
use crate::server::{self, Admin, App, STORAGE_END};
use crate::sqlite::SqliteStore;
use crate::storage::{PingStore, StorageError};

pub(super) async fn run(config: &CollectorConfig, leaves_no_core: bool) -> Result<(), CollectorError> {
    set_up_process(config, leaves_no_core)?;
    let tls = config.serve.tls.as_ref().map(server::tls).transpose().map_err(CollectorError::SetUp)?;
    let (token, receipts) = (config.admin.read_token()?, config.receipts.read()?);
    // From here on, for a database may not answer: where this is a container's first process, a signal that nobody
    // waits for does nothing.
    let mut stop = pin!(asked_to_stop());
    let storage = storage_thread()?;
    // On that thread, for there a connection to PostgreSQL is looked after from then on.
    let opening = storage.spawn(open(config.storage.clone()));
    let opened = tokio::select! {
        biased;
        () = &mut stop => {
            tracing::info!("stopping");
            return Ok(());
        }
        opened = opening => opened,
    };
    let (store, newest) = opened.map_err(|error| CollectorError::Other(error.to_string()))??;
    let listener = listen("serve.listen", config.serve.listen)?;
    let admin = listen("admin.listen", config.admin.listen)?;
    tracing::info!(address = %address_of(&admin)?, "metrics and readiness are told");
    tracing::info!(address = %address_of(&listener)?, "the collector listens");
    let admin = Admin::new(admin, config.admin.allowed_hosts.clone(), token)
        .map_err(|error| CollectorError::SetUp(error.to_string()))?;
    let (app, mut tasks) = BackgroundTasks::start(config, receipts, &storage, store, newest);
    if let Some(tls) = &tls {
        app.metrics.certificate_ends(tls.ends);
        tokio::spawn(server::warn_before_the_end(tls.ends, Arc::clone(&app.clock)));
    }
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
    tokio::select! {
        biased;
        () = serving => {}
        part = tasks.lost() => {
            return Err(CollectorError::Other(format!(
                "the part that {part} has ended, which is a bug; start the collector again"
            )));
        }
    }
    drop(app);
    tasks.end().await;
    Ok(())
}

/// What concerns the process as a whole, with all that its configuration is warned of.
fn set_up_process(config: &CollectorConfig, leaves_no_core: bool) -> Result<(), CollectorError> {
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
    Ok(())
}

/// Opens the storage, and tells when its newest ping came: before anything is stored by a clock that may be wrong.
async fn open(storage: Storage) -> Result<(Arc<dyn PingStore>, Option<Timestamp>), CollectorError> {
    let store: Arc<dyn PingStore> = match &storage {
        Storage::Sqlite(path) => Arc::new(SqliteStore::open_alone(path)?),
        Storage::Postgres(postgres) => Arc::new(open_postgres(postgres).await?),
    };
    let newest = store.span().await?.map(|span| span.newest);
    Ok((store, newest))
}

fn listen(key: &str, address: SocketAddr) -> Result<TcpListener, CollectorError> {
    server::bind(address)
        .map_err(|error| CollectorError::Other(format!("failed to listen at {key} {address}: {error}")))
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr, CollectorError> {
    listener.local_addr().map_err(|error| CollectorError::Other(format!("failed to listen: {error}")))
}

/// What runs beside the server.
struct BackgroundTasks {
    committing: JoinHandle<()>,
    purging: JoinHandle<()>,
    looking: JoinHandle<()>,
    rewriting: JoinHandle<()>,
    answering: JoinHandle<()>,
    counting: JoinHandle<()>,
}

impl BackgroundTasks {
    /// Starts the parts, and makes what the server answers with.
    fn start(
        config: &CollectorConfig,
        receipts: Option<Receipts>,
        storage: &Handle,
        store: Arc<dyn PingStore>,
        newest: Option<Timestamp>,
    ) -> (Arc<App>, Self) {
        let clock: SharedClock = Arc::new(SystemClock);
        let (health, metrics) = (Arc::new(Readiness::default()), Arc::new(CollectorMetrics::default()));
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
        let (connections, numbers) = (config.serve.connections, Arc::new(LatestNumbers::default()));
        let (of, keeps) = (config.storage.clone(), config.publish.dir.is_some());
        let count = move |now| count(of.clone(), keeps, now);
        let publisher = Publisher {
            config: config.publish.clone(),
            numbers: Arc::clone(&numbers),
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&clock),
            start: (clock.now(), newest),
        };
        let app = Arc::new(App {
            limiter: Limiter::new(config.limits.per_minute, config.limits.new_ids, Box::new(SystemRng)),
            trusted_proxies: config.serve.trusted_proxies.clone(),
            places: Arc::new(Places::new(Networks::new(connections, places::per_network(connections)))),
            capacity: Arc::clone(&capacity),
            queue,
            receipts,
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            numbers,
            retry,
            clock: Arc::clone(&clock),
            commit_timeout: config.limits.commit_timeout,
            limits: server::limits(connections),
        });
        let tasks = Self {
            answering: tokio::spawn(answerer.run()),
            committing: storage.spawn(committer.run()),
            counting: tokio::spawn(count_by_itself(publisher, count, write_site)),
            rewriting: storage.spawn(rewrite_by_itself(Arc::clone(&store), Arc::clone(&metrics), Arc::clone(&clock))),
            purging: storage.spawn(purge_by_itself(Arc::clone(&store), Arc::clone(&metrics), clock, newest)),
            looking: storage.spawn(look_after_the_storage(store, health, capacity, metrics)),
        };
        (app, tasks)
    }

    /// Waits until one of them has ended, and says what it did: a collector that lost a part would look alive and store
    /// or purge nothing.
    async fn lost(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = &mut self.committing => "commits",
            _ = &mut self.purging => "purges",
            _ = &mut self.looking => "looks after the storage",
            _ = &mut self.rewriting => "rewrites",
            _ = &mut self.answering => "answers",
            _ = &mut self.counting => "counts the days",
        }
    }

    /// Ends them, after the server.
    async fn end(self) {
        self.counting.abort();
        self.purging.abort();
        self.looking.abort();
        self.rewriting.abort();
        let ended = async {
            // With the server went the last way into the queue, so this ends when all that waited is committed.
            let _ = self.committing.await;
            // The last of them to end closes the storage.
            let _ = self.purging.await;
            let _ = self.looking.await;
            let _ = self.rewriting.await;
        };
        // What a storage that does not answer holds was not acknowledged, and what was is on the disk.
        let _ = timeout(STORAGE_END, ended).await;
    }
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
/// every build: without one of its parts the collector would look alive and do nothing, and what started it starts
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

/// What there is to show: all that was published, where it is kept, else the last whole day beside it. On a thread of
/// its own, for a large day takes seconds and SQLite blocks.
async fn count(storage: Storage, keeps: bool, now: Timestamp) -> Result<Published, StorageError> {
    let counting = tokio::task::spawn_blocking(move || {
        let counted = runtime::run(async {
            let reader = reader(&storage)?;
            Ok::<_, CollectorError>(if keeps {
                publish::publish(reader.as_ref(), open_existing(&storage).await?.as_ref(), now).await?
            } else {
                publish::report(reader.as_ref(), now).await?
            })
        });
        counted.map_err(|error| StorageError::Failed(format!("failed to start: {error}")))?.map_err(|error| match error
        {
            CollectorError::Storage(error) => error,
            other => StorageError::Failed(other.to_string()),
        })
    });
    counting.await.map_err(|error| StorageError::Failed(error.to_string()))?
}

/// Writes the site on a thread of its own: its file system may be another machine's that does not answer. No stop waits
/// for that thread.
async fn write_site(published: Arc<Published>, dir: PathBuf) -> Result<(), PublishError> {
    let (path, writing) = (dir.clone(), tokio::task::spawn_blocking(move || publish::write(&published, &dir)));
    writing.await.map_err(|error| PublishError::Io { path, error: std::io::Error::other(error) })?
}
