//! A storage that keeps nothing, and counts when it was purged and rewritten.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::VecDeque;
use std::sync::Mutex;

use jiff::Timestamp;
use pulse_telemetry_collector::storage::{
    Arrival, PingStore, PublishedDay, Purged, Rewritten, RowOutcome, Span, StorageError, Working,
};

#[derive(Default)]
pub(super) struct Counting {
    pub(super) purges: Mutex<Vec<Timestamp>>,
    pub(super) lock_held_by_other: bool,
    pub(super) rewritings: Mutex<Vec<Timestamp>>,
    /// What comes of the next rewritings; then all is rewritten.
    pub(super) rewritten: Mutex<VecDeque<Result<Rewritten, StorageError>>>,
}

impl PingStore for Counting {
    fn admit(&self, _: Vec<Arrival>) -> Working<'_, Vec<RowOutcome>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn forget(&self, ids: Vec<String>) -> Working<'_, usize> {
        Box::pin(async move { Ok(ids.len()) })
    }

    fn rewrite(&self, now: Timestamp) -> Working<'_, Rewritten> {
        self.rewritings.lock().unwrap().push(now);
        let rewritten = self.rewritten.lock().unwrap().pop_front();
        Box::pin(async { rewritten.unwrap_or_else(|| Ok(Rewritten::default())) })
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
