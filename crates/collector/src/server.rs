//! The server: takes pings from everybody, and tells its operator how it is.
//!
//! A connection's other end becomes a [`Client`] as soon as it is accepted, and nothing else here sees an address.

mod answers;
mod app;
mod certificate;
mod overview;
mod routes;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pulse_telemetry_http::host::Host;
use pulse_telemetry_http::server::guards::Guards;
use pulse_telemetry_http::server::places::{Place, PlaceLoss, Places};
use pulse_telemetry_http::server::{Accept, Limits, ServeError, ServeSettings, admit, drain, serve_http1};
use pulse_telemetry_process::supervisor::Supervisor;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

pub use self::app::App;
pub use self::certificate::{Tls, tls, warn_before_the_end, warning};
pub use self::routes::{FORGET_PATH, PING_PATH};
use super::ingest::BODY_MAX;
use super::network::Client;
use super::places::{Networks, networks_of};

/// What every answer says in its `server` header.
pub const SERVER_NAME: &str = "pulse-telemetry-collector";

/// For how long the collector goes on taking pings and telling who asks that it is not ready any more, so that a
/// balancer sends the next ones elsewhere before the door is closed.
const DRAIN: Duration = Duration::from_secs(5);

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 4096;

/// How long requests under way may take to end after that. With [`STORAGE_END`] it stays within the two seconds that a
/// stop is promised to take: who is not answered by then sends its ping again.
const FINISH_TIME: Duration = Duration::from_millis(1500);

/// How long the storage may take to end after the last request: it may wait for a database that does not answer, or for
/// a lookup of its name.
pub const STORAGE_END: Duration = Duration::from_millis(300);

/// What the server takes of memory and time, with `connections` connections.
///
/// Callers can make it hold `connections` × (8 + 128 KiB) at most, for the space of a body doubles as it comes: 544 MiB
/// with 4096 of them that all send the largest body at once. `benches/collector_crowd.rs` measures it, and what TLS
/// keeps besides. A real ping has 0.5 to 6 KiB.
#[must_use]
pub fn limits(connections: usize) -> Limits {
    Limits {
        head_bytes: 8 * 1024,
        head_time: Duration::from_secs(10),
        body_bytes: BODY_MAX,
        body_time: Duration::from_secs(10),
        connections,
        connection_time: Duration::from_secs(60),
        finish_time: FINISH_TIME,
    }
}

/// Who is told of metrics and readiness, and where.
pub struct Admin {
    listener: TcpListener,
    guards: Guards,
    places: Arc<Places<Networks>>,
    limits: Limits,
}

/// The connections of [`Admin`]: a balancer and Prometheus have one or two each.
const ADMIN_CONNECTIONS: usize = 64;

impl Admin {
    /// Who knows that token, where there is one, and asks by one of these names, or an address.
    ///
    /// # Errors
    /// The token is empty.
    pub fn new(
        listener: TcpListener,
        allowed_hosts: Vec<Host>,
        token: Option<SecretString>,
    ) -> Result<Self, ServeError> {
        let guards = Guards::new("admin", &ServeSettings { allowed_hosts, token })?;
        let places = Arc::new(Places::new(Networks::new(ADMIN_CONNECTIONS, ADMIN_CONNECTIONS)));
        Ok(Self { listener, guards, places, limits: Limits { connections: ADMIN_CONNECTIONS, ..Limits::default() } })
    }
}

/// Binds the address.
///
/// # Errors
/// It is in use, not this machine's, or not allowed.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Tells the supervisor that it is ready, and answers until `shutdown`. Then it says that it is not ready any more, for
/// a moment longer where anybody asks for that, closes the door, and lets requests under way finish.
pub async fn run(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    admin: Arc<Admin>,
    app: Arc<App>,
    mut supervisor: Supervisor,
    shutdown: impl Future<Output = ()>,
) {
    let limits = app.limits;
    let (stop, stopping) = watch::channel(false);
    let (mut connections, mut admins) = (JoinSet::new(), JoinSet::new());
    supervisor.ready();
    let mut over = pin!(async {
        shutdown.await;
        app.health.stop();
        if app.health.is_watched(app.clock.now().mono) {
            sleep(DRAIN).await;
        }
    });
    {
        let lost = |why| match why {
            PlaceLoss::OwnLimit => app.metrics.connection_refused(),
            PlaceLoss::Pressure => app.metrics.connection_displaced(),
        };
        // Who limits nobody, or names a proxy, lets that one have as many as it likes.
        let caller = |(_, client): &(_, Client)| {
            networks_of(client, !app.limiter.limits_pings() || client.is_in(&app.trusted_proxies))
        };
        let serve =
            |(stream, client), place| serve(stream, client, place, tls.clone(), Arc::clone(&app), stopping.clone());
        let door = Door(&listener);
        let mut public = pin!(admit(&door, &app.places, &mut connections, caller, lost, serve));
        let caller = |(_, client): &(_, Client)| networks_of(client, false);
        let serve =
            |(stream, _), place| serve_admin(stream, place, Arc::clone(&admin), Arc::clone(&app), stopping.clone());
        let admin_door = Door(&admin.listener);
        let mut private = pin!(admit(&admin_door, &admin.places, &mut admins, caller, lost, serve));
        loop {
            tokio::select! {
                () = &mut over => break,
                () = supervisor.beat() => {}
                never = &mut public => match never {},
                never = &mut private => match never {},
            }
        }
    }
    supervisor.stopping();
    drop(listener);
    stop.send_replace(true);
    // What is not finished by then is dropped, which closes its connection: its ping was not answered, and comes again.
    tokio::join!(drain(connections, limits.finish_time), drain(admins, limits.finish_time));
}

/// A listener whose callers are no addresses any more as soon as they are accepted.
struct Door<'a>(&'a TcpListener);

impl Accept for Door<'_> {
    type Connection = (TcpStream, Client);

    async fn accept(&self) -> io::Result<Self::Connection> {
        let (stream, peer) = self.0.accept().await?;
        Ok((stream, Client::new(peer.ip())))
    }
}

async fn serve(
    stream: TcpStream,
    client: Client,
    place: Place<Networks>,
    tls: Option<TlsAcceptor>,
    app: Arc<App>,
    stopping: watch::Receiver<bool>,
) {
    // Without it an answer may wait for the next packet; where it cannot be set, it does.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return answer_pings(stream, &client, &place, &app, stopping).await };
    if let Ok(Ok(stream)) = timeout(app.limits.head_time, tls.accept(stream)).await {
        answer_pings(stream, &client, &place, &app, stopping).await;
    }
}

async fn serve_admin(
    stream: TcpStream,
    place: Place<Networks>,
    admin: Arc<Admin>,
    app: Arc<App>,
    stopping: watch::Receiver<bool>,
) {
    let _place = place;
    let answer = |request| routes::answer_admin(&app, &admin.guards, request);
    serve_http1(stream, &admin.limits, stopping, answer).await;
}

async fn answer_pings<S>(
    stream: S,
    client: &Client,
    place: &Place<Networks>,
    app: &App,
    stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let answer = |request| routes::answer(app, client, place, request);
    serve_http1(stream, &app.limits, stopping, answer).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stop_waits_for_after_its_pause_takes_less_than_two_seconds() {
        let admin = Limits::default();
        for limits in [limits(1), limits(4096), admin] {
            assert!(limits.finish_time + STORAGE_END <= Duration::from_millis(1800));
        }
    }
}
