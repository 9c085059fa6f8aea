//! The places that connections take: which of them wait for their caller, and which for an answer of ours.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long a caller may keep the server waiting before its place can be given to another one: long enough to send a
/// request, or to take an answer. So 64 places let 640 new connections a second in, however many of them stay silent.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

/// Since when a connection has been waiting for its caller; `None` while a request of it is being answered.
#[derive(Clone, Debug)]
pub(super) struct Waiting(Arc<Mutex<Option<Instant>>>);

/// What all connections share.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Told whenever a request has been answered.
    pub(super) answered: Notify,
}

/// For as long as this lives, its connection does not wait for its caller.
pub(super) struct Busy<'a> {
    waiting: &'a Waiting,
    places: &'a Places,
}

impl Places {
    /// Says that a request of this connection is being answered.
    pub(super) fn keep<'a>(&'a self, waiting: &'a Waiting) -> Busy<'a> {
        waiting.set(None);
        Busy { waiting, places: self }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.waiting.set(Some(Instant::now()));
        self.places.answered.notify_one();
    }
}

impl Waiting {
    /// A connection that waits for its first request.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(Instant::now()))))
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Taken(VecDeque<(AbortHandle, Waiting)>);

impl Taken {
    pub(super) fn push(&mut self, served: AbortHandle, waiting: Waiting) {
        self.0.push_back((served, waiting));
    }

    /// Makes room for another one, and says whether there is any: where every place is taken, who has kept the server
    /// waiting for longest gives way, if that is long enough.
    pub(super) fn make_room(&mut self, most: usize) -> bool {
        self.0.retain(|(served, _)| !served.is_finished());
        if self.0.len() < most {
            return true;
        }
        let Some((at, _)) = self.longest_waiting().filter(|(_, since)| since.elapsed() >= PATIENCE) else {
            return false;
        };
        self.0.remove(at).inspect(|(served, _)| served.abort()).is_some()
    }

    /// When somebody will have kept the server waiting for long enough to give way; `None` while every request is being
    /// answered.
    pub(super) fn room_at(&self) -> Option<Instant> {
        self.longest_waiting().map(|(_, since)| since + PATIENCE)
    }

    fn longest_waiting(&self) -> Option<(usize, Instant)> {
        let waiting = self.0.iter().enumerate().filter_map(|(at, (_, waiting))| Some((at, waiting.since()?)));
        waiting.min_by_key(|(_, since)| *since)
    }
}
