//! The collector's server within the test's own process, in front of a storage that does as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use pulse_telemetry_collector::capacity::Capacity;
use pulse_telemetry_collector::ingest::Cell;
use pulse_telemetry_collector::limiter::Limiter;
use pulse_telemetry_collector::metrics::CollectorMetrics;
use pulse_telemetry_collector::places::{self, Networks};
use pulse_telemetry_collector::purge::look_after_the_storage;
use pulse_telemetry_collector::queue::{Readiness, queue};
use pulse_telemetry_collector::retry::Retry;
use pulse_telemetry_collector::server::{self, Admin, App};
use pulse_telemetry_collector::storage::{
    Arrival, PingStore, PublishedDay, Purged, Row, RowOutcome, Span, StorageError, Working,
};
use pulse_telemetry_core::rng::Rng;
use pulse_telemetry_http::server::places::Places;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_process::rng::SystemRng;
use pulse_telemetry_process::supervisor::Supervisor;
use tokio::sync::{oneshot, watch};

use super::lock;

/// A storage in memory that a test holds up, breaks or slows down.
pub struct Obedient {
    pub rows: Mutex<Vec<Row>>,
    pub commits: AtomicUsize,
    open: watch::Sender<bool>,
    broken: AtomicBool,
    /// How long a commit takes for each row.
    per_row: Duration,
}

impl Obedient {
    pub fn new() -> Arc<Self> {
        Self::taking(Duration::ZERO)
    }

    /// One that takes that long for each row.
    pub fn taking(per_row: Duration) -> Arc<Self> {
        let (open, _) = watch::channel(true);
        let (rows, commits, broken) = (Mutex::default(), AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { rows, commits, open, broken, per_row })
    }

    /// Whether commits get through.
    pub fn let_through(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// Whether commits and looks fail.
    pub fn break_down(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    fn works(&self) -> Result<(), StorageError> {
        let broken = self.broken.load(Ordering::SeqCst);
        if broken { Err(StorageError::Failed("the disk is full".to_owned())) } else { Ok(()) }
    }

    pub fn count(&self) -> usize {
        lock(&self.rows).len()
    }
}

impl PingStore for Obedient {
    fn admit(&self, arrivals: Vec<Arrival>) -> Working<'_, Vec<RowOutcome>> {
        let mut open = self.open.subscribe();
        Box::pin(async move {
            let _ = open.wait_for(|open| *open).await;
            self.works()?;
            tokio::time::sleep(self.per_row * u32::try_from(arrivals.len()).unwrap()).await;
            self.commits.fetch_add(1, Ordering::SeqCst);
            let outcomes = vec![RowOutcome::Stored { new_id: true }; arrivals.len()];
            lock(&self.rows).extend(arrivals.into_iter().map(|arrival| arrival.row));
            Ok(outcomes)
        })
    }

    fn forget(&self, ids: Vec<String>) -> Working<'_, usize> {
        Box::pin(async move {
            self.works()?;
            self.commits.fetch_add(1, Ordering::SeqCst);
            let is_asked = |row: &Row| matches!(&row.cells[0], Cell::Text(id) if ids.contains(id));
            lock(&self.rows).retain(|row| !is_asked(row));
            Ok(ids.len())
        })
    }

    fn size(&self) -> Working<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    fn purge(&self, _: Timestamp) -> Working<'_, Purged> {
        Box::pin(async { Ok(Purged::default()) })
    }

    fn keep_published(&self, _: PublishedDay) -> Working<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn span(&self) -> Working<'_, Option<Span>> {
        Box::pin(async { Ok(None) })
    }

    fn probe(&self) -> Working<'_, ()> {
        Box::pin(async { self.works() })
    }
}

/// What differs from the defaults.
pub struct Settings {
    pub per_minute: u32,
    pub queue: usize,
    pub connections: usize,
    pub commit_timeout: Duration,
    /// The limiter's.
    pub chance: Box<dyn Rng + Send>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            per_minute: 0,
            queue: 1024,
            connections: 1024,
            commit_timeout: Duration::from_secs(8),
            chance: Box::new(SystemRng),
        }
    }
}

/// A running server; stopped when dropped.
pub struct Inside {
    pub address: SocketAddr,
    /// Where `/readyz` is.
    pub admin: SocketAddr,
    pub metrics: Arc<CollectorMetrics>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    pub fn start(store: Arc<dyn PingStore>, settings: Settings) -> Self {
        let (stop, stopped) = oneshot::channel();
        let metrics = Arc::new(CollectorMetrics::default());
        let (bound, is_bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let metrics = Arc::clone(&metrics);
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let listener = server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
                    let admin = server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
                    bound.send((listener.local_addr().unwrap(), admin.local_addr().unwrap())).unwrap();
                    let admin = Admin::new(admin, Vec::new(), None).unwrap();
                    let health = Arc::new(Readiness::default());
                    let capacity = Arc::new(Capacity::new(0));
                    let retry = Arc::new(Mutex::new(Retry::new(Box::new(SystemRng))));
                    let (queue, committer, answerer) = queue(
                        settings.queue,
                        Arc::clone(&store),
                        Arc::clone(&health),
                        Arc::clone(&capacity),
                        Arc::clone(&metrics),
                        Arc::clone(&retry),
                        Arc::new(SystemClock),
                    );
                    let app = App {
                        limiter: Limiter::new(settings.per_minute, 0, settings.chance),
                        trusted_proxies: Vec::new(),
                        places: Arc::new(Places::new(Networks::new(
                            settings.connections,
                            places::per_network(settings.connections),
                        ))),
                        capacity: Arc::clone(&capacity),
                        queue,
                        receipts: None,
                        health: Arc::clone(&health),
                        metrics: Arc::clone(&metrics),
                        numbers: Arc::default(),
                        retry,
                        clock: Arc::new(SystemClock),
                        commit_timeout: settings.commit_timeout,
                        limits: server::limits(settings.connections),
                    };
                    let looking = tokio::spawn(look_after_the_storage(store, health, capacity, metrics));
                    tokio::spawn(answerer.run());
                    let committing = tokio::spawn(committer.run());
                    let stopped = async { drop(stopped.await) };
                    server::run(listener, None, Arc::new(admin), Arc::new(app), Supervisor::nobody(), stopped).await;
                    looking.abort();
                    committing.await.unwrap();
                });
            }
        });
        let (address, admin) = is_bound.recv().unwrap();
        Self { address, admin, metrics, stop: Some(stop), thread: Some(thread) }
    }

    /// Asks it to stop, and does not wait.
    pub fn ask_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) {
        self.ask_to_stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.ask_to_stop();
        // A test that failed may have left the storage held up, and then nothing ends.
        if let Some(thread) = self.thread.take().filter(|_| !std::thread::panicking()) {
            let _ = thread.join();
        }
    }
}
