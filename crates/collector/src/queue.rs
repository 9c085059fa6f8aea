//! Group commit: pings wait in a bounded queue, and whatever waits is committed together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pulse_telemetry_core::clock::Clock;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

use super::capacity::Capacity;
use super::metrics::CollectorMetrics;
use super::retry::Retry;
use super::storage::{Arrival, Committed, PingStore, RowOutcome};

/// The most rows of one commit. More do not pay: writing them then takes longer than flushing the disk.
pub const BATCH_MAX: usize = 512;

/// Who has not asked for so long whether the collector is ready does not do so again and again.
const WATCHED: Duration = Duration::from_secs(60);

/// A clock that every part may hold.
pub type SharedClock = Arc<dyn Clock + Send + Sync>;

/// What is known of the storage.
#[derive(Debug, Default)]
enum StorageHealth {
    /// Nothing was tried yet.
    #[default]
    Unknown,
    Works,
    /// It failed, with this error.
    Failed(String),
}

/// Whether the collector can do its work. Shared by whoever finds out and whoever is asked.
#[derive(Debug, Default)]
pub struct Readiness {
    storage: Mutex<StorageHealth>,
    stopping: AtomicBool,
    /// When it was asked last whether it is ready, by the monotonic clock.
    asked: Mutex<Option<Duration>>,
    /// When the commit began that is under way, by the monotonic clock.
    committing: Mutex<Option<Duration>>,
}

impl Readiness {
    /// Whether pings could be stored the last time that it was tried.
    #[must_use]
    pub fn storage_works(&self) -> bool {
        matches!(*self.known(), StorageHealth::Works)
    }

    /// Whether a commit has been under way for longer than this.
    #[must_use]
    pub fn is_stuck(&self, now: Duration, longer_than: Duration) -> bool {
        let began = *self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        began.is_some_and(|began| now.saturating_sub(began) > longer_than)
    }

    fn commits(&self, began: Option<Duration>) {
        *self.committing.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }

    /// Whether storing failed, which is more than that it was not tried yet.
    pub(super) fn storage_failed(&self) -> bool {
        matches!(*self.known(), StorageHealth::Failed(_))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, StorageHealth> {
        self.storage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the collector stops.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Somebody asks whether it is ready.
    pub fn asked(&self, now: Duration) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Whether somebody, such as a balancer, asks again and again whether it is ready.
    #[must_use]
    pub fn is_watched(&self, now: Duration) -> bool {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.is_some_and(|asked| now.saturating_sub(asked) < WATCHED)
    }

    /// From now on the collector stops.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether pings can be stored, as it was just found. What changes is logged, not what stays.
    pub fn found(&self, works: Result<(), String>, metrics: &CollectorMetrics) {
        metrics.storage_works(works.is_ok());
        let mut known = self.known();
        *known = match works {
            Ok(()) => {
                if !matches!(*known, StorageHealth::Works) {
                    tracing::info!("pings can be stored");
                }
                StorageHealth::Works
            }
            Err(error) => {
                if !matches!(&*known, StorageHealth::Failed(before) if *before == error) {
                    tracing::error!(error, "failed to store pings; senders are told to come back later");
                }
                StorageHealth::Failed(error)
            }
        };
    }
}

/// A ping that waits.
struct WaitingPing {
    arrival: Arrival,
    answer: oneshot::Sender<RowOutcome>,
}

/// Why it is not known what became of a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// Too many wait already.
    Full,
    /// It could not be stored, or the collector stops.
    Failed,
}

/// The way into the storage.
#[derive(Clone)]
pub struct Queue {
    waiting: mpsc::Sender<WaitingPing>,
}

/// The other end of the queue: commits what waits.
pub struct Committer {
    waiting: mpsc::Receiver<WaitingPing>,
    store: Arc<dyn PingStore>,
    health: Arc<Readiness>,
    capacity: Arc<Capacity>,
    metrics: Arc<CollectorMetrics>,
    retry: Arc<Mutex<Retry>>,
    clock: SharedClock,
    stored: mpsc::UnboundedSender<CommitAnswers>,
}

/// To those whose pings were committed together.
type CommitAnswers = Vec<(oneshot::Sender<RowOutcome>, RowOutcome)>;

/// Answers those whose pings are committed, on the thread that serves them: each that is woken from another one costs a
/// system call.
pub struct Answerer {
    stored: mpsc::UnboundedReceiver<CommitAnswers>,
}

/// A queue for so many pings, and what empties it.
#[must_use]
pub fn queue(
    capacity: usize,
    store: Arc<dyn PingStore>,
    health: Arc<Readiness>,
    storage: Arc<Capacity>,
    metrics: Arc<CollectorMetrics>,
    retry: Arc<Mutex<Retry>>,
    clock: SharedClock,
) -> (Queue, Committer, Answerer) {
    let (sender, waiting) = mpsc::channel(capacity);
    let (done, stored) = mpsc::unbounded_channel();
    let committer = Committer { waiting, store, health, capacity: storage, metrics, retry, clock, stored: done };
    (Queue { waiting: sender }, committer, Answerer { stored })
}

impl Queue {
    /// Waits until the row is committed, and says what became of it.
    ///
    /// # Errors
    /// It is not stored, as far as can be told; the same ping sent again is stored once.
    pub async fn store(&self, arrival: Arrival) -> Result<RowOutcome, TurnedAway> {
        let (answer, answered) = oneshot::channel();
        self.waiting.try_send(WaitingPing { arrival, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => TurnedAway::Full,
            mpsc::error::TrySendError::Closed(_) => TurnedAway::Failed,
        })?;
        answered.await.map_err(|_| TurnedAway::Failed)
    }

    /// Whether a ping would be taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting.capacity() > 0
    }
}

impl Committer {
    /// Commits until every [`Queue`] is gone and nothing waits any more.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.metrics.waiting(self.waiting.len() + batch.len());
            self.commit(&mut batch).await;
            self.metrics.waiting(self.waiting.len());
            // Where the storage blocks the thread, this is where others get a turn.
            yield_now().await;
        }
    }

    async fn commit(&self, batch: &mut Vec<WaitingPing>) {
        // Whoever gave up waiting will send again; what need not be stored twice need not be stored once.
        let waited = batch.len();
        batch.retain(|waiting| !waiting.answer.is_closed());
        self.metrics.turned_away(waited - batch.len());
        let (arrivals, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(|w| (w.arrival, w.answer)).unzip();
        let count = arrivals.len();
        if count == 0 {
            return;
        }
        let began = self.clock.now().mono;
        self.health.commits(Some(began));
        let committed = self.store.admit(arrivals).await;
        self.health.commits(None);
        let took = self.clock.now().mono.saturating_sub(began);
        match committed {
            Ok(outcomes) => {
                let committed = Committed::of(&outcomes);
                self.metrics.committed(committed, count, took);
                self.capacity.stored(committed.stored, &self.metrics);
                self.retry.lock().unwrap_or_else(PoisonError::into_inner).measure(count, took);
                self.health.found(Ok(()), &self.metrics);
                // Its other end is gone only where the whole collector ends.
                let _ = self.stored.send(answers.into_iter().zip(outcomes).collect());
            }
            Err(error) => {
                self.metrics.failed(count, took);
                self.health.found(Err(error.to_string()), &self.metrics);
            }
        }
    }
}

impl Answerer {
    /// Answers until the [`Committer`] is gone.
    pub async fn run(mut self) {
        while let Some(answers) = self.stored.recv().await {
            for (answer, outcome) in answers {
                // Who is gone does not want to know.
                let _ = answer.send(outcome);
            }
        }
    }
}
