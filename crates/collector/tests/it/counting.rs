//! A storage that keeps nothing, and counts when it was purged and rewritten.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use pulse_telemetry_collector::storage::{
    Arrival, PingStore, PublishedDay, Purged, RowOutcome, Span, StorageError, Working,
};

#[derive(Default)]
pub(super) struct Counting {
    pub(super) purges: Mutex<Vec<Timestamp>>,
    pub(super) lock_held_by_other: bool,
    /// When it was looked for days to rewrite, and which were to be, in how much time at most.
    pub(super) looks: Mutex<Vec<Timestamp>>,
    pub(super) rewritings: Mutex<Vec<(Date, Duration)>>,
    /// What the next looks find; then nothing.
    pub(super) unrewritten: Mutex<VecDeque<Result<Vec<Date>, StorageError>>>,
    /// How long each rewriting takes, and which days are not rewritten then.
    pub(super) takes: Duration,
    pub(super) in_use: Vec<Date>,
}

impl PingStore for Counting {
    fn admit(&self, _: Vec<Arrival>) -> Working<'_, Vec<RowOutcome>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn forget(&self, ids: Vec<String>) -> Working<'_, usize> {
        Box::pin(async move { Ok(ids.len()) })
    }

    fn unrewritten(&self, now: Timestamp) -> Working<'_, Vec<Date>> {
        self.looks.lock().unwrap().push(now);
        let unrewritten = self.unrewritten.lock().unwrap().pop_front();
        Box::pin(async { unrewritten.unwrap_or_else(|| Ok(Vec::new())) })
    }

    fn rewrite(&self, day: Date, within: Duration) -> Working<'_, Option<String>> {
        self.rewritings.lock().unwrap().push((day, within));
        Box::pin(async move {
            tokio::time::sleep(self.takes.min(within)).await;
            Ok(self.in_use.contains(&day).then(|| "it was in use".to_owned()))
        })
    }

    fn size(&self) -> Working<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    fn purge(&self, now: Timestamp) -> Working<'_, Purged> {
        self.purges.lock().unwrap().push(now);
        let lock_held_by_other = self.lock_held_by_other;
        Box::pin(async move { Ok(Purged { days: 0, lock_held_by_other }) })
    }

    fn keep_published(&self, _: PublishedDay) -> Working<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn span(&self) -> Working<'_, Option<Span>> {
        Box::pin(async { Ok(None) })
    }

    fn probe(&self) -> Working<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}
