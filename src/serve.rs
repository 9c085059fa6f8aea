//! The local page and API: what would be sent, how things stand, the switch and the reset.
//!
//! A connection is accepted by `listener`, each request passes the `guards`, `routes` asks the daemon or the recorder of
//! local events, and `answers` gives every response the same headers; `words` sees to those that hyper gives by itself.
//! Nothing here holds state.

pub(crate) mod answers;
pub(crate) mod guards;
mod listener;
mod openapi;
mod page;
mod places;
mod routes;
mod words;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::answers::Answer;
use self::guards::Guards;
use self::listener::Accepted;
pub use self::listener::Listener;
pub use self::openapi::document;
#[cfg(feature = "collector")]
pub(crate) use self::places::PATIENCE;
use self::places::{Place, Taken};
pub use self::routes::routes;
use self::words::WithWords;
pub use crate::config::Listen;
use crate::daemon::{Handle, READERS_MAX};
use crate::events::Recorder;
use crate::host::Host;
use crate::metrics::Metrics;

/// The smallest buffer that hyper works with.
const BUFFER_MIN: usize = 8 * 1024;

/// What every answer says in its `server` header, so that a command can tell this server from another on its port.
pub const SERVER_NAME: &str = "pulse-telemetry";

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
///
/// All connections together hold at most 64 × (16 + 4 KiB), 1.25 MiB, of what callers send.
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
    fn default() -> Self {
        Self {
            head_bytes: 16 * 1024,
            head_time: Duration::from_secs(10),
            body_bytes: 4 * 1024,
            body_time: Duration::from_secs(10),
            connections: 2 * READERS_MAX,
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

/// Whom the server asks for its answers.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The daemon, which holds the engine and the state.
    pub daemon: Handle,
    /// What keeps the local events, of which the daemon knows nothing.
    pub events: Arc<Recorder>,
    /// What is counted.
    pub metrics: Metrics,
}

/// The local server.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    guards: Guards,
    desk: Desk,
    limits: Limits,
}

/// What every request is answered with.
struct App {
    guards: Guards,
    desk: Desk,
    limits: Limits,
}

impl Server {
    /// A server at this listener that asks there.
    ///
    /// # Errors
    /// Where others than this machine could reach it without a token, or the settings make no sense.
    pub fn new(listener: Listener, settings: &ServeSettings, desk: Desk) -> Result<Self, ServeError> {
        if settings.token.is_none() && !listener.is_local() {
            return Err(ServeError::TokenNeeded(listener.local_addr()));
        }
        let guards = Guards::new("serve", settings)?;
        Ok(Self { listener, guards, desk, limits: Limits::default() })
    }

    /// The same server with other limits than [`Limits::default`].
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Answers until `shutdown`, closes the door, and lets requests under way finish.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, guards, desk, limits } = self;
        let app = Arc::new(App { guards, desk, limits });
        let (stop, stopping) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut taken = Taken::default();
        let places_changed = Arc::new(Notify::new());
        // Who was let in and has no place yet.
        let mut guest = None;
        let mut shutdown = pin!(shutdown);
        loop {
            if guest.is_some() && taken.make_room(limits.connections) {
                let (app, stopping) = (Arc::clone(&app), stopping.clone());
                let place = Place::new(Arc::clone(&places_changed));
                let served = match guest.take() {
                    Some(Accepted::Tcp(stream)) => {
                        connections.spawn(serve_connection(stream, app, place.clone(), stopping))
                    }
                    Some(Accepted::Unix(stream)) => {
                        connections.spawn(serve_connection(stream, app, place.clone(), stopping))
                    }
                    None => continue,
                };
                taken.push(served, place);
                // It is looked at before the next one is let in, however many there are.
                yield_now().await;
            }
            let room_at = taken.room_at();
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                () = sleep_until(room_at.unwrap_or_else(Instant::now)), if guest.is_some() && room_at.is_some() => {}
                () = places_changed.notified(), if guest.is_some() => {}
                accepted = listener.accept(), if guest.is_none() => match accepted {
                    Ok(accepted) => guest = Some(accepted),
                    Err(error) => {
                        tracing::warn!(%error, "the local server cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        stop.send_replace(true);
        let finished = async { while connections.join_next().await.is_some() {} };
        // What is not finished by then is dropped, which closes its connection.
        let _ = timeout(limits.finish_time, finished).await;
    }
}

async fn serve_connection<S>(stream: S, app: Arc<App>, place: Place, stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = app.limits;
    let stream = place.watch(stream);
    let answer = move |request| {
        let (app, place) = (Arc::clone(&app), place.clone());
        async move { routes::answer(&app, &place, request).await }
    };
    converse(stream, &limits, stopping, answers::add_headers, answer).await;
}

/// Answers the requests of one connection, one after the other, until it ends, has lived for long enough, or the server
/// stops. What hyper refuses by itself gets words, and the headers that `add_headers` adds, `server` among them.
pub(crate) async fn converse<S, A, F>(
    stream: S,
    limits: &Limits,
    mut stopping: watch::Receiver<bool>,
    add_headers: fn(&mut HeaderMap),
    answer: A,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Answer>,
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
        .serve_connection(TokioIo::new(WithWords::new(stream, add_headers)), service);
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::advance;

    use super::*;

    const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// The other end of a connection that is being served.
    fn connect() -> (DuplexStream, watch::Sender<bool>) {
        let app = App {
            guards: Guards::new("serve", &ServeSettings::default()).unwrap(),
            desk: Desk { daemon: Handle::new(1).0, events: recorder(), metrics: Metrics::default() },
            limits: Limits::default(),
        };
        let (ours, theirs) = duplex(64 * 1024);
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(serve_connection(theirs, Arc::new(app), Place::new(Arc::default()), stopping));
        (ours, stop)
    }

    fn recorder() -> Arc<Recorder> {
        // It is read once, and written to by no test here.
        let dir = tempfile::tempdir().unwrap();
        let file = crate::store::EventFile::new(dir.path());
        Arc::new(Recorder::open(file, None, Box::new(crate::clock::SystemClock)).unwrap().0)
    }

    async fn read_to_end(stream: &mut DuplexStream) -> String {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        String::from_utf8(rest).unwrap()
    }

    /// One answer over a connection that stays open.
    async fn health(stream: &mut DuplexStream) -> String {
        stream.write_all(HEALTH).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") && stream.read_buf(&mut answer).await.unwrap() > 0 {}
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn headers_that_arrive_slowly_end_their_connection_and_hold_up_nobody() {
        let (mut slow, _stop) = connect();
        slow.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        let mut sent = Duration::ZERO;
        while sent < Limits::default().head_time {
            assert!(health(&mut connect().0).await.ends_with(r#"{"status":"ok"}"#));
            slow.write_all(b"x").await.unwrap();
            advance(Duration::from_secs(1)).await;
            sent += Duration::from_secs(1);
        }
        assert_eq!(read_to_end(&mut slow).await, "");
        assert!(slow.write_all(HEALTH).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed() {
        let (mut idle, _stop) = connect();
        let opened = Instant::now();
        assert_eq!(read_to_end(&mut idle).await, "");
        assert!(opened.elapsed() < Limits::default().connection_time);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_not_waited_for() {
        let (mut slow, _stop) = connect();
        let head = b"POST /api/v1/reset-id HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1234";
        slow.write_all(head).await.unwrap();
        let opened = Instant::now();
        assert!(read_to_end(&mut slow).await.starts_with("HTTP/1.1 408 "));
        assert!(opened.elapsed() >= Limits::default().body_time);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_does_not_live_for_ever() {
        let (mut busy, _stop) = connect();
        let opened = Instant::now();
        while busy.write_all(HEALTH).await.is_ok() && busy.read(&mut [0; 1024]).await.unwrap() > 0 {
            assert!(opened.elapsed() <= Limits::default().connection_time);
            advance(Duration::from_secs(5)).await;
        }
        assert!(opened.elapsed() >= Limits::default().connection_time);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_closes_an_idle_connection_at_once() {
        let (mut idle, stop) = connect();
        assert!(health(&mut idle).await.starts_with("HTTP/1.1 200 "));
        let stopped = Instant::now();
        stop.send_replace(true);
        assert_eq!(read_to_end(&mut idle).await, "");
        assert_eq!(stopped.elapsed(), Duration::ZERO);
    }
}
