//! Group commit: pings and deletions wait in a bounded queue, and whatever waits is committed together.
//!
//! Of what is taken from the queue together the pings are stored first. So a deletion takes what was sent before it,
//! and nobody is told of a deletion whose row comes after.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pulse_telemetry_core::clock::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::yield_now;

use super::capacity::Capacity;
use super::metrics::CollectorMetrics;
use super::retry::Retry;
use super::storage::{Arrival, Committed, PingStore, RowOutcome, StorageError, Working};

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

/// Whether the collector can do its work. Shared by those who find out and those who are asked.
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

/// A deletion that waits.
struct WaitingDeletion {
    /// The canonical text of the ID.
    id: String,
    answer: oneshot::Sender<()>,
    /// No more of them wait than pings may.
    _place: OwnedSemaphorePermit,
}

/// What waits.
enum Queued {
    Ping(WaitingPing),
    Deletion(WaitingDeletion),
}

/// Why it is not known what became of a ping, or of a deletion.
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
    waiting: mpsc::Sender<Queued>,
    deletions: Arc<Semaphore>,
}

/// The other end of the queue: commits what waits.
pub struct Committer {
    waiting: mpsc::Receiver<Queued>,
    deletions: VecDeque<WaitingDeletion>,
    store: Arc<dyn PingStore>,
    health: Arc<Readiness>,
    capacity: Arc<Capacity>,
    metrics: Arc<CollectorMetrics>,
    retry: Arc<Mutex<Retry>>,
    clock: SharedClock,
    stored: mpsc::UnboundedSender<CommitAnswers>,
    /// What was last said of deletions that failed.
    deletions_failed: Option<String>,
}

/// To those whose pings or deletions were committed together.
enum CommitAnswers {
    Pings(Vec<(oneshot::Sender<RowOutcome>, RowOutcome)>),
    Deletions(Vec<WaitingDeletion>),
}

/// Answers those whose pings and deletions are committed, on the thread that serves them: each that is woken from
/// another one costs a system call.
pub struct Answerer {
    stored: mpsc::UnboundedReceiver<CommitAnswers>,
}

/// A queue for `capacity` pings, and what empties it.
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
    let committer = Committer {
        waiting,
        deletions: VecDeque::new(),
        store,
        health,
        capacity: storage,
        metrics,
        retry,
        clock,
        stored: done,
        deletions_failed: None,
    };
    (Queue { waiting: sender, deletions: Arc::new(Semaphore::new(capacity)) }, committer, Answerer { stored })
}

impl Queue {
    /// Waits until the row is committed, and says what became of it.
    ///
    /// # Errors
    /// It is not stored, as far as can be told; the same ping sent again is stored once.
    pub async fn store(&self, arrival: Arrival) -> Result<RowOutcome, TurnedAway> {
        let (answer, answered) = oneshot::channel();
        self.wait(Queued::Ping(WaitingPing { arrival, answer }))?;
        answered.await.map_err(|_| TurnedAway::Failed)
    }

    /// Waits until every row of the ID is gone, which was sent before.
    ///
    /// # Errors
    /// Rows may still be there.
    pub async fn forget(&self, id: String) -> Result<(), TurnedAway> {
        let (answer, answered) = oneshot::channel();
        let place = Arc::clone(&self.deletions).try_acquire_owned().map_err(|_| TurnedAway::Full)?;
        self.wait(Queued::Deletion(WaitingDeletion { id, answer, _place: place }))?;
        answered.await.map_err(|_| TurnedAway::Failed)
    }

    fn wait(&self, waiting: Queued) -> Result<(), TurnedAway> {
        self.waiting.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => TurnedAway::Full,
            mpsc::error::TrySendError::Closed(_) => TurnedAway::Failed,
        })
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
        let (mut batch, mut pings) = (Vec::with_capacity(BATCH_MAX), Vec::with_capacity(BATCH_MAX));
        loop {
            if self.deletions.is_empty() {
                if self.waiting.recv_many(&mut batch, BATCH_MAX).await == 0 {
                    break;
                }
            } else {
                batch.extend(std::iter::from_fn(|| self.waiting.try_recv().ok()).take(BATCH_MAX));
            }
            self.metrics.waiting(self.waiting.len() + batch.len());
            for waiting in batch.drain(..) {
                match waiting {
                    Queued::Ping(ping) => pings.push(ping),
                    Queued::Deletion(deletion) => self.deletions.push_back(deletion),
                }
            }
            self.commit(&mut pings).await;
            self.forget().await;
            self.metrics.waiting(self.waiting.len());
            // Where the storage blocks the thread, this is where others get a turn.
            yield_now().await;
        }
    }

    async fn commit(&self, batch: &mut Vec<WaitingPing>) {
        // A sender that gave up waiting will send again; what need not be stored twice need not be stored once.
        let waited = batch.len();
        batch.retain(|waiting| !waiting.answer.is_closed());
        self.metrics.turned_away(waited - batch.len());
        let (arrivals, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(|w| (w.arrival, w.answer)).unzip();
        let count = arrivals.len();
        if count == 0 {
            return;
        }
        let (committed, took) = self.timed(self.store.admit(arrivals)).await;
        match committed {
            Ok(outcomes) => {
                let committed = Committed::of(&outcomes);
                self.metrics.committed(committed, count, took);
                self.capacity.stored(committed.stored, &self.metrics);
                self.retry.lock().unwrap_or_else(PoisonError::into_inner).measure(count, took);
                self.health.found(Ok(()), &self.metrics);
                // Its other end is gone only where the whole collector ends.
                let _ = self.stored.send(CommitAnswers::Pings(answers.into_iter().zip(outcomes).collect()));
            }
            Err(error) => {
                self.metrics.failed(count, took);
                self.health.found(Err(error.to_string()), &self.metrics);
            }
        }
    }

    /// Lets the storage work, which readiness looks at meanwhile, and says how long it took.
    async fn timed<T>(&self, work: Working<'_, T>) -> (Result<T, StorageError>, Duration) {
        let began = self.clock.now().mono;
        self.health.commits(Some(began));
        let done = work.await;
        self.health.commits(None);
        (done, self.clock.now().mono.saturating_sub(began))
    }

    /// Does as many of the deletions that wait as one commit takes. Where that fails, they have failed.
    async fn forget(&mut self) {
        if self.deletions.is_empty() {
            return;
        }
        let ids: Vec<String> = self.deletions.iter().take(BATCH_MAX).map(|deletion| deletion.id.clone()).collect();
        let asked = ids.len();
        let (forgotten, took) = self.timed(self.store.forget(ids)).await;
        match forgotten {
            Ok(done) => {
                self.retry.lock().unwrap_or_else(PoisonError::into_inner).measure(done, took);
                self.deletions_failed = None;
                // Its other end is gone only where the whole collector ends.
                let _ = self.stored.send(CommitAnswers::Deletions(self.deletions.drain(..done.min(asked)).collect()));
            }
            Err(error) => {
                let error = error.to_string();
                if self.deletions_failed.as_ref() != Some(&error) {
                    tracing::error!(error, "failed to delete; who asked is told to come back later");
                }
                self.deletions_failed = Some(error);
                self.deletions.drain(..asked);
            }
        }
    }
}

impl Answerer {
    /// Answers until the [`Committer`] is gone.
    pub async fn run(mut self) {
        while let Some(answers) = self.stored.recv().await {
            // Who is gone does not want to know.
            match answers {
                CommitAnswers::Pings(answers) => {
                    for (answer, outcome) in answers {
                        let _ = answer.send(outcome);
                    }
                }
                CommitAnswers::Deletions(deletions) => {
                    for deletion in deletions {
                        let _ = deletion.answer.send(());
                    }
                }
            }
        }
    }
}
