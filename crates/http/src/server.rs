//! What both servers have in common: who gets in, one connection and its limits, the guards, and what an answer looks
//! like.
//!
//! Every request passes the [`guards`]; [`answers`] makes the responses. What is not HTTP never becomes a request:
//! hyper answers it with a bare status and closes.

pub mod answers;
pub mod body;
pub mod guards;
pub mod places;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::answers::FullResponse;
use self::places::{Admission, Place, PlaceLoss, PlaceTable, Places};
use crate::host::Host;

/// The smallest buffer that hyper works with.
const BUFFER_MIN: usize = 8 * 1024;

/// How long accepting rests after it failed, which happens where the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For whom the server answers.
#[derive(Clone, Debug, Default)]
pub struct ServeSettings {
    /// Names that a caller may use for this server, besides `localhost` and every address.
    pub allowed_hosts: Vec<Host>,
    /// What a caller of the API must show.
    pub token: Option<SecretString>,
}

/// What a caller may take of the server's memory and time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest request line and headers, in bytes.
    pub head_bytes: usize,
    /// How long they may take to arrive, and how long a connection may stay idle.
    pub head_time: Duration,
    /// The largest body, in bytes.
    pub body_bytes: usize,
    /// How long it may take to arrive.
    pub body_time: Duration,
    /// How many connections are open at a time. A further one takes the place of the one that has kept the server
    /// waiting for longest; while all of them are being answered, to the last byte of the answer, it waits to be
    /// accepted.
    pub connections: usize,
    /// How long a connection may live. What it has under way then may take as long again.
    pub connection_time: Duration,
    /// How long requests under way may take when the server stops.
    pub finish_time: Duration,
}

impl Default for Limits {
    /// All connections together hold at most 64 × (16 + 4 KiB), 1.25 MiB, of what callers send.
    fn default() -> Self {
        Self {
            head_bytes: 16 * 1024,
            head_time: Duration::from_secs(10),
            body_bytes: 4 * 1024,
            body_time: Duration::from_secs(10),
            connections: 64,
            connection_time: Duration::from_secs(60),
            finish_time: Duration::from_millis(1500),
        }
    }
}

/// Why the server does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// Others could reach it, and nothing is asked of them.
    #[error(
        "{0} is not on loopback and there is no token: name a file that holds one in serve.token_file, or listen on \
         127.0.0.1"
    )]
    TokenNeeded(String),
    /// A token that everybody knows.
    #[error("the token of serve.token_file is empty")]
    EmptyToken,
}

/// Where connections come from.
pub trait Accept {
    /// A connection, and what is known of its caller.
    type Connection;

    /// The next one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

/// Lets connections in for as long as it is waited for, each as soon as the places have one for it, and has them
/// served. `lost` is told of each that gets no place or gives its own away.
pub async fn admit<L, T, F>(
    listener: &L,
    places: &Arc<Places<T>>,
    connections: &mut JoinSet<()>,
    caller: impl Fn(&L::Connection) -> T::Caller,
    lost: impl Fn(PlaceLoss),
    serve: impl Fn(L::Connection, Place<T>) -> F,
) -> Infallible
where
    L: Accept,
    T: PlaceTable,
    F: Future<Output = ()> + Send + 'static,
{
    // The connection that was accepted and has no place yet.
    let mut next = None;
    loop {
        let mut room_at = None;
        if let Some(connection) = next.take() {
            match places.enter(&caller(&connection)) {
                Admission::Taken(id, displaced) => {
                    if let Some((_, why)) = displaced {
                        lost(why);
                    }
                    let place = Place::new(Arc::clone(places), id);
                    places.serves(id, connections.spawn(serve(connection, place)));
                    // It is looked at before the next one is let in, however many there are.
                    yield_now().await;
                }
                Admission::Refused => lost(PlaceLoss::OwnLimit),
                Admission::Full(at) => {
                    room_at = at.map(|at| places.instant(at));
                    next = Some(connection);
                }
            }
        }
        tokio::select! {
            Some(_) = connections.join_next() => {}
            () = sleep_until(room_at.unwrap_or_else(Instant::now)), if room_at.is_some() => {}
            () = places.changed.notified(), if next.is_some() => {}
            accepted = listener.accept(), if next.is_none() => match accepted {
                Ok(accepted) => next = Some(accepted),
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Waits for connections to end. Those that are not at an end by then are dropped, which closes them.
pub async fn drain(mut connections: JoinSet<()>, within: Duration) {
    let _ = timeout(within, async { while connections.join_next().await.is_some() {} }).await;
}

/// Answers the requests of one connection, one after the other, until it ends, has lived for long enough, or the server
/// stops.
pub async fn serve_http1<S, A, F>(stream: S, limits: &Limits, mut stopping: watch::Receiver<bool>, answer: A)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = FullResponse>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_header_size(limits.head_bytes)
        .max_buf_size(limits.head_bytes.max(BUFFER_MIN))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // How a caller ends its connection is its own affair.
        _ = connection.as_mut() => return,
        () = sleep(limits.connection_time) => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.connection_time, connection).await;
}
