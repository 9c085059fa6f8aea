//! The local page and API: what would be sent, how things stand, the switch and the reset.
//!
//! A connection is accepted by `listener`, each request passes the guards, `routes` asks the daemon or the recorder of
//! local events, and `headers` gives every response the same ones.
//! Nothing here holds state.

mod headers;
mod listener;
mod openapi;
mod page;
mod places;
mod routes;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pulse_telemetry_http::server::guards::Guards;
use pulse_telemetry_http::server::{Limits, ServeError, ServeSettings, converse};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::listener::Accepted;
pub use self::listener::Listener;
pub use self::openapi::document;
use self::places::{Place, Taken};
pub use self::routes::routes;
pub use crate::config::Listen;
use crate::daemon::{Handle, READERS_MAX};
use crate::events::Recorder;
use crate::metrics::Metrics;

/// What every answer says in its `server` header, so that a command can tell this server from another on its port.
pub const SERVER_NAME: &str = "pulse-telemetry";

/// How long accepting rests after it failed, which happens where the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
        Ok(Self { listener, guards, desk, limits: Limits { connections: 2 * READERS_MAX, ..Limits::default() } })
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
    converse(stream, &limits, stopping, answer).await;
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
        Arc::new(Recorder::open(file, None, Box::new(pulse_telemetry_process::clock::SystemClock)).unwrap().0)
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
