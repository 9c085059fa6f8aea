//! The local page and API: what would be sent, how things stand, the switch and the reset.
//!
//! A connection is accepted by `listener`, each request passes the guards, `routes` asks the daemon or the recorder of
//! local events, and `headers` gives every response the same ones.
//! Nothing here holds state.

mod headers;
mod listener;
mod openapi;
mod page;
mod routes;

use std::sync::Arc;

use pulse_telemetry_http::server::guards::Guards;
use pulse_telemetry_http::server::places::{Longest, Place, Places};
use pulse_telemetry_http::server::{Limits, ServeError, ServeSettings, admit, drain, serve_http1};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::listener::Listener;
use self::listener::LocalStream;
pub use self::openapi::document;
pub use self::routes::routes;
pub use crate::config::Listen;
use crate::daemon::Handle;
use crate::events::Recorder;
use crate::metrics::Metrics;
use crate::readings::READERS_MAX;

/// What every answer says in its `server` header, so that a command can tell this server from another on its port.
pub const SERVER_NAME: &str = "pulse-telemetry";

/// Whom the server asks for its answers.
#[derive(Clone, Debug)]
pub struct AppState {
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
    state: AppState,
    limits: Limits,
}

/// What every request is answered with.
struct ServerContext {
    guards: Guards,
    state: AppState,
    limits: Limits,
}

impl Server {
    /// A server at this listener that asks there.
    ///
    /// # Errors
    /// Where others than this machine could reach it without a token, or the settings make no sense.
    pub fn new(listener: Listener, settings: &ServeSettings, state: AppState) -> Result<Self, ServeError> {
        if settings.token.is_none() && !listener.is_local() {
            return Err(ServeError::TokenNeeded(listener.local_addr()));
        }
        let guards = Guards::new("serve", settings)?;
        Ok(Self { listener, guards, state, limits: Limits { connections: 2 * READERS_MAX, ..Limits::default() } })
    }

    /// The same server with other limits than [`Limits::default`].
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Answers until `shutdown`, closes the door, and lets requests under way finish.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, guards, state, limits } = self;
        let app = Arc::new(ServerContext { guards, state, limits });
        let (stop, stopping) = watch::channel(false);
        let mut connections = JoinSet::new();
        let places = Arc::new(Places::new(Longest::new(limits.connections)));
        let serve = |accepted, place| serve(accepted, Arc::clone(&app), place, stopping.clone());
        tokio::select! {
            () = shutdown => {}
            never = admit(&listener, &places, &mut connections, |_| (), |_| {}, serve) => match never {},
        }
        drop(listener);
        stop.send_replace(true);
        drain(connections, limits.finish_time).await;
    }
}

async fn serve(accepted: LocalStream, app: Arc<ServerContext>, place: Place<Longest>, stopping: watch::Receiver<bool>) {
    match accepted {
        LocalStream::Tcp(stream) => serve_connection(stream, &app, place, stopping).await,
        LocalStream::Unix(stream) => serve_connection(stream, &app, place, stopping).await,
    }
}

async fn serve_connection<S>(stream: S, app: &ServerContext, place: Place<Longest>, stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let place = Arc::new(place);
    let answer = |request| routes::answer(app, &place, request);
    serve_http1(place.watch(stream), &app.limits, stopping, answer).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use tokio::time::{Instant, advance};

    use super::*;

    const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// The other end of a connection that is being served.
    fn connect() -> (DuplexStream, watch::Sender<bool>) {
        let app = ServerContext {
            guards: Guards::new("serve", &ServeSettings::default()).unwrap(),
            state: AppState { daemon: Handle::new(1).0, events: recorder(), metrics: Metrics::default() },
            limits: Limits::default(),
        };
        let (ours, theirs) = duplex(64 * 1024);
        let (stop, stopping) = watch::channel(false);
        let place = Place::new(Arc::new(Places::new(Longest::new(1))), 0);
        tokio::spawn(async move { serve_connection(theirs, &app, place, stopping).await });
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
