//! The places that connections take, and who gives way where every place is taken: who has kept the server waiting for
//! longest, once that is long enough. A connection whose request is being answered does not, to the last byte.
//!
//! [`Longest`] is that rule alone. A [`PlaceTable`] of another kind may have its callers' networks count as well.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long a caller may keep the server waiting for its request before its place can be given to another one. So 64
/// places let 640 new connections a second in, however many of them stay silent.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// How long a caller may take no byte of its answer before its place can be given to another one, where nobody keeps
/// the server waiting for a request.
const STALL: Duration = Duration::from_secs(2);

/// A connection's number.
pub type ConnectionId = u64;

/// What a connection does. Times are since the listener began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It waits for its caller's request, since then.
    Waiting(Duration),
    /// A request of it is being answered.
    Answering,
    /// Its answer is being written. The caller last took a byte of it then.
    Writing(Duration),
}

/// What is decided about a connection that wants to come in.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// It has a place: this one. Another connection gave way, if one is named.
    Taken(ConnectionId, Option<(ConnectionId, PlaceLoss)>),
    /// Its caller has all that it may, so it is closed.
    Refused,
    /// Every place is taken. Somebody will have waited for long enough at that time; `None` where all are being
    /// answered.
    Full(Option<Duration>),
}

/// Why a connection has no place, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceLoss {
    /// Its caller has all that it may.
    OwnLimit,
    /// Every place was taken.
    Pressure,
}

/// Who has which place. Pure: it is told the time.
pub trait PlaceTable {
    /// What it knows of a caller.
    type Caller;

    /// Lets a connection in, which waits for its caller then, or says why not.
    fn enter(&mut self, caller: &Self::Caller, now: Duration) -> Admission;
    /// Notes what a connection does.
    fn note(&mut self, id: ConnectionId, activity: Activity);
    /// Whether a connection that has its answer ends with it, because somebody found no place.
    fn gives_way(&mut self, _: ConnectionId) -> bool {
        false
    }
    /// Frees a place. Nothing happens where its connection has given way before.
    fn leave(&mut self, id: ConnectionId);
}

/// The places of one listener.
#[derive(Debug)]
pub struct Places<T> {
    shared: Mutex<Shared<T>>,
    began: Instant,
    /// Told whenever a place may be one to give away.
    pub(super) changed: Notify,
}

#[derive(Debug)]
struct Shared<T> {
    table: T,
    served: HashMap<ConnectionId, AbortHandle>,
}

impl<T: PlaceTable> Places<T> {
    /// Places that this table gives away.
    #[must_use]
    pub fn new(table: T) -> Self {
        let shared = Mutex::new(Shared { table, served: HashMap::new() });
        Self { shared, began: Instant::now(), changed: Notify::new() }
    }

    /// Lets a connection in, and ends the one that gives way for it.
    pub(super) fn enter(&self, caller: &T::Caller) -> Admission {
        let Shared { table, served } = &mut *self.lock();
        let entry = table.enter(caller, self.now());
        if let Admission::Taken(_, Some((displaced, _))) = &entry
            && let Some(handle) = served.remove(displaced)
        {
            handle.abort();
        }
        entry
    }

    /// Says what serves the connection that has this place, so that it can be ended.
    pub(super) fn serves(&self, id: ConnectionId, handle: AbortHandle) {
        self.lock().served.insert(id, handle);
    }

    /// When that time comes.
    pub(super) fn instant(&self, at: Duration) -> Instant {
        self.began + at
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Shared<T>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place, which is free again when this is dropped.
#[derive(Debug)]
pub struct Place<T: PlaceTable> {
    places: Arc<Places<T>>,
    id: ConnectionId,
    activity: Mutex<Activity>,
}

impl<T: PlaceTable> Place<T> {
    /// The place of that number.
    #[must_use]
    pub fn new(places: Arc<Places<T>>, id: ConnectionId) -> Self {
        let activity = Mutex::new(Activity::Waiting(places.now()));
        Self { places, id, activity }
    }

    /// Says that a request of this connection is being answered.
    #[must_use]
    pub fn keep(&self) -> Busy<'_, T> {
        self.set(|_| Some(Activity::Answering));
        Busy(self)
    }

    /// Whether this connection is to end with the answer that it has, because somebody found no place. One ends for
    /// each.
    #[must_use]
    pub fn gives_way(&self) -> bool {
        self.places.lock().table.gives_way(self.id)
    }

    /// The stream of this connection, whose place learns how the answer gets out.
    pub fn watch<S>(self: &Arc<Self>, stream: S) -> Watched<S, T> {
        Watched { stream, place: Arc::clone(self) }
    }

    fn set(&self, next: impl FnOnce(Activity) -> Option<Activity>) {
        let mut activity = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = next(*activity) {
            *activity = next;
            self.places.lock().table.note(self.id, next);
            self.places.changed.notify_one();
        }
    }

    /// The caller took some of an answer.
    fn wrote(&self) {
        let now = self.places.now();
        self.set(|activity| (activity != Activity::Answering).then_some(Activity::Writing(now)));
    }

    /// All that was to be written is out.
    fn flushed(&self) {
        let now = self.places.now();
        self.set(|activity| matches!(activity, Activity::Writing(_)).then_some(Activity::Waiting(now)));
    }
}

impl<T: PlaceTable> Drop for Place<T> {
    fn drop(&mut self) {
        let Shared { table, served } = &mut *self.places.lock();
        table.leave(self.id);
        served.remove(&self.id);
    }
}

/// For as long as this lives, a request of the connection is being answered.
pub struct Busy<'a, T: PlaceTable>(&'a Place<T>);

impl<T: PlaceTable> Drop for Busy<'_, T> {
    fn drop(&mut self) {
        let now = self.0.places.now();
        self.0.set(|_| Some(Activity::Writing(now)));
    }
}

/// The stream of a connection, whose place learns how the answer gets out.
pub struct Watched<S, T: PlaceTable> {
    stream: S,
    place: Arc<Place<T>>,
}

impl<S: AsyncRead + Unpin, T: PlaceTable> AsyncRead for Watched<S, T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin, T: PlaceTable> AsyncWrite for Watched<S, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        if written.as_ref().is_ok_and(|written| *written > 0) {
            self.place.wrote();
        }
        Poll::Ready(written)
    }

    /// Hyper asks for this only when it has nothing more to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.place.flushed();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// All callers are alike: who has kept the server waiting for a request for longest gives way, and only where nobody
/// has done so for long enough, who has taken no byte of its answer for longest.
#[derive(Debug)]
pub struct Longest {
    most: usize,
    next: ConnectionId,
    connections: HashMap<ConnectionId, Activity>,
}

impl Longest {
    /// A table of `most` places.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, next: 0, connections: HashMap::new() }
    }

    /// Who gives way, and when.
    fn first_to_go(&self, now: Duration) -> Option<(Duration, ConnectionId)> {
        let first = |gives_way_at: fn(Activity) -> Option<Duration>| {
            self.connections.iter().filter_map(|(id, activity)| Some((gives_way_at(*activity)?, *id))).min()
        };
        let waiting = first(|activity| match activity {
            Activity::Waiting(since) => Some(since + PATIENCE),
            _ => None,
        });
        let stalled = first(|activity| match activity {
            Activity::Writing(since) => Some(since + STALL),
            _ => None,
        });
        match (waiting, stalled) {
            (Some(waiting), Some(stalled)) if stalled.0 < waiting.0 && waiting.0 > now => Some(stalled),
            (waiting, stalled) => waiting.or(stalled),
        }
    }
}

impl PlaceTable for Longest {
    type Caller = ();

    fn enter(&mut self, (): &(), now: Duration) -> Admission {
        let displaced = if self.connections.len() < self.most {
            None
        } else {
            match self.first_to_go(now) {
                Some((at, id)) if at <= now => Some(id),
                first => return Admission::Full(first.map(|(at, _)| at)),
            }
        };
        if let Some(displaced) = displaced {
            self.leave(displaced);
        }
        let id = self.next;
        self.next += 1;
        self.connections.insert(id, Activity::Waiting(now));
        Admission::Taken(id, displaced.map(|displaced| (displaced, PlaceLoss::Pressure)))
    }

    fn note(&mut self, id: ConnectionId, activity: Activity) {
        if let Some(noted) = self.connections.get_mut(&id) {
            *noted = activity;
        }
    }

    fn leave(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn displaces(id: ConnectionId) -> Option<(ConnectionId, PlaceLoss)> {
        Some((id, PlaceLoss::Pressure))
    }

    #[test]
    fn who_waits_for_longest_gives_way_after_a_moment_and_who_is_answered_never() {
        let mut table = Longest::new(3);
        for id in 0..3 {
            assert_eq!(table.enter(&(), at(id)), Admission::Taken(id, None));
        }
        table.note(0, Activity::Answering);
        assert_eq!(table.enter(&(), at(100)), Admission::Full(Some(at(101))));
        assert_eq!(table.enter(&(), at(101)), Admission::Taken(3, displaces(1)));
        table.note(2, Activity::Answering);
        table.note(3, Activity::Answering);
        assert_eq!(table.enter(&(), at(9999)), Admission::Full(None));
        table.leave(1);
        assert_eq!(table.enter(&(), at(9999)), Admission::Full(None), "it has left before");
        table.leave(3);
        assert_eq!(table.enter(&(), at(9999)), Admission::Taken(4, None));
    }

    #[test]
    fn who_takes_nothing_of_its_answer_gives_way_where_nobody_has_waited_for_long_enough() {
        let mut table = Longest::new(2);
        table.enter(&(), at(0));
        table.enter(&(), at(0));
        table.note(0, Activity::Writing(at(0)));
        table.note(1, Activity::Waiting(at(1950)));
        assert_eq!(table.enter(&(), at(1999)), Admission::Full(Some(at(2000))));
        assert_eq!(table.enter(&(), at(2000)), Admission::Taken(2, displaces(0)));
        table.note(2, Activity::Writing(at(2000)));
        assert_eq!(table.enter(&(), at(4000)), Admission::Taken(3, displaces(1)), "who waits goes first");
    }
}
