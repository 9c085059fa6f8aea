//! The places that connections take: which of them wait for their caller, which for an answer of ours, and which for a
//! caller that does not take it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pulse_telemetry_http::server::PATIENCE;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long a caller may take no byte of its answer before its place can be given to another one, where nobody keeps the
/// server waiting for a request.
const STALL: Duration = Duration::from_secs(2);

/// The place of one connection.
#[derive(Clone, Debug)]
pub(super) struct Place(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    doing: Mutex<Doing>,
    /// Told whenever the place may be one to give away.
    changed: Arc<Notify>,
}

/// What a connection does.
#[derive(Clone, Copy, Debug)]
enum Doing {
    /// It waits for its caller's request, since then.
    Waiting(Instant),
    /// A request of it is being answered.
    Answering,
    /// Its answer is being written. The caller last took a byte of it then.
    Writing(Instant),
}

/// For as long as this lives, a request of the connection is being answered.
pub(super) struct Busy<'a>(&'a Place);

/// The stream of a connection, whose place learns how the answer gets out.
pub(super) struct Watched<S> {
    stream: S,
    place: Place,
}

impl Place {
    /// A connection that waits for its first request.
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        Self(Arc::new(Shared { doing: Mutex::new(Doing::Waiting(Instant::now())), changed }))
    }

    /// Says that a request of this connection is being answered.
    pub(super) fn keep(&self) -> Busy<'_> {
        self.set(Doing::Answering);
        Busy(self)
    }

    /// The stream of this connection.
    pub(super) fn watch<S>(&self, stream: S) -> Watched<S> {
        Watched { stream, place: self.clone() }
    }

    fn set(&self, doing: Doing) {
        *self.0.doing.lock().unwrap_or_else(PoisonError::into_inner) = doing;
        self.0.changed.notify_one();
    }

    fn doing(&self) -> Doing {
        *self.0.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller took some of an answer.
    fn wrote(&self) {
        if !matches!(self.doing(), Doing::Answering) {
            self.set(Doing::Writing(Instant::now()));
        }
    }

    /// All that was to be written is out.
    fn flushed(&self) {
        if matches!(self.doing(), Doing::Writing(_)) {
            self.set(Doing::Waiting(Instant::now()));
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(Doing::Writing(Instant::now()));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
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

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Taken(VecDeque<(AbortHandle, Place)>);

impl Taken {
    pub(super) fn push(&mut self, served: AbortHandle, place: Place) {
        self.0.push_back((served, place));
    }

    /// Makes room for another one, and says whether there is any: where every place is taken, who has kept the server
    /// waiting for longest gives way, if that is long enough.
    pub(super) fn make_room(&mut self, most: usize) -> bool {
        self.0.retain(|(served, _)| !served.is_finished());
        if self.0.len() < most {
            return true;
        }
        let Some((at, _)) = self.first_to_go().filter(|(_, time)| *time <= Instant::now()) else {
            return false;
        };
        self.0.remove(at).inspect(|(served, _)| served.abort()).is_some()
    }

    /// When somebody will have kept the server waiting for long enough to give way; `None` while every request is being
    /// answered.
    pub(super) fn room_at(&self) -> Option<Instant> {
        self.first_to_go().map(|(_, time)| time)
    }

    /// Who gives way, and when: of those who have kept the server waiting for a request for long enough the first one, and
    /// only where there is none of them somebody whose answer does not get out.
    fn first_to_go(&self) -> Option<(usize, Instant)> {
        let first = |of: fn(Doing) -> Option<Instant>| {
            let places = self.0.iter().enumerate();
            places.filter_map(|(at, (_, place))| Some((at, of(place.doing())?))).min_by_key(|(_, time)| *time)
        };
        let waiting = first(|doing| if let Doing::Waiting(since) = doing { Some(since + PATIENCE) } else { None });
        let stalled = first(|doing| if let Doing::Writing(since) = doing { Some(since + STALL) } else { None });
        match (waiting, stalled) {
            (Some(waiting), Some(stalled)) if stalled.1 < waiting.1 && waiting.1 > Instant::now() => Some(stalled),
            (waiting, stalled) => waiting.or(stalled),
        }
    }
}
