//! The server: takes pings, and tells how it is.
//!
//! A connection's other end becomes a [`Client`] as soon as it is accepted, and nothing else here sees an address.

mod answers;
mod routes;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::ingest::BODY_MAX;
use super::limiter::{Client, Limiter};
use super::metrics::Metrics;
use super::queue::{Health, Queue, SharedClock};
use super::retry::Retry;
use crate::config::collector::TlsFiles;
use crate::serve::Limits;
use crate::supervisor::Supervisor;

/// What every answer says in its `server` header.
pub const SERVER_NAME: &str = "pulse-telemetry-collector";

/// Where pings are sent to.
pub const PING_PATH: &str = "/v1/telemetry/ping";

/// How long accepting rests after it failed, which happens where the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For how long the collector goes on taking pings and telling whoever asks that it is not ready any more, so that a balancer
/// sends the next ones elsewhere before the door is closed.
const DRAIN: Duration = Duration::from_secs(5);

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 4096;

/// What the server takes of memory and time, with so many connections.
///
/// Callers can make it hold `connections` × (8 + 128 KiB) at most, for the space of a body doubles as it comes: 544 MiB with
/// 4096 of them that all send the largest body at once, and what TLS keeps besides. A real ping has 0.5 to 6 KiB.
#[must_use]
pub fn limits(connections: usize, commit_timeout: Duration) -> Limits {
    Limits {
        head_bytes: 8 * 1024,
        head_time: Duration::from_secs(10),
        body_bytes: BODY_MAX,
        body_time: Duration::from_secs(10),
        connections,
        connection_time: Duration::from_secs(60),
        finish_time: commit_timeout + Duration::from_secs(1),
    }
}

/// What every request is answered with.
pub struct App {
    /// Who sends too much.
    pub limiter: Limiter,
    /// The way into the storage.
    pub queue: Queue,
    /// Whether the collector can do its work.
    pub health: Arc<Health>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// When those who are refused should come back.
    pub retry: Arc<Mutex<Retry>>,
    /// The time.
    pub clock: SharedClock,
    /// How long a ping may wait to be stored.
    pub commit_timeout: Duration,
    /// What a caller may take of memory and time.
    pub limits: Limits,
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

/// TLS with that certificate. No session is ever resumed, for a ticket would link pings.
///
/// # Errors
/// What is wrong with the files, in words.
pub fn tls(files: &TlsFiles) -> Result<TlsAcceptor, String> {
    let read = |key: &str, path: &Path| {
        std::fs::read(path).map_err(|error| format!("{key}: {}: failed to read it: {error}", path.display()))
    };
    let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(&read("serve.tls_cert", &files.cert)?)
        .collect::<Result<_, _>>()
        .map_err(|_| "serve.tls_cert: no certificate that can be read in it (PEM is expected)".to_owned())?;
    let key = PrivateKeyDer::from_pem_slice(&read("serve.tls_key", &files.key)?)
        .map_err(|_| "serve.tls_key: no private key that can be read in it (PEM is expected)".to_owned())?;
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("the TLS library could not be set up: {error}"))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("serve.tls_cert and serve.tls_key cannot be used together: {error}"))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Tells the supervisor that it is ready, and answers until `shutdown`. Then it says that it is not ready any more, for a
/// moment longer where anybody asks for that, closes the door, and lets requests under way finish.
pub async fn run(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: Arc<App>,
    mut supervisor: Supervisor,
    shutdown: impl Future<Output = ()>,
) {
    let limits = app.limits;
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    supervisor.ready();
    let mut over = pin!(async {
        shutdown.await;
        app.health.stop();
        if app.health.is_watched(app.clock.now().mono) {
            sleep(DRAIN).await;
        }
    });
    loop {
        tokio::select! {
            () = &mut over => break,
            () = supervisor.beat() => {}
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < limits.connections => match accepted {
                Ok((stream, peer)) => {
                    let client = Client::new(peer.ip());
                    connections.spawn(serve(stream, client, tls.clone(), Arc::clone(&app), stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    supervisor.stopping();
    drop(listener);
    stop.send_replace(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    // What is not finished by then is dropped, which closes its connection: its ping was not answered, and comes again.
    let _ = timeout(limits.finish_time, finished).await;
}

async fn serve(
    stream: TcpStream,
    client: Client,
    tls: Option<TlsAcceptor>,
    app: Arc<App>,
    stopping: watch::Receiver<bool>,
) {
    let Some(_place) = app.limiter.enter(&client, per_network(app.limits.connections), app.clock.now().mono) else {
        return app.metrics.connection_refused();
    };
    // Without it an answer may wait for the next packet; where it cannot be set, it does.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return converse(stream, client, app, stopping).await };
    if let Ok(Ok(stream)) = timeout(app.limits.head_time, tls.accept(stream)).await {
        converse(stream, client, app, stopping).await;
    }
}

async fn converse<S>(stream: S, client: Client, app: Arc<App>, stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (limits, client) = (app.limits, Arc::new(client));
    let answer = move |request| {
        let (app, client) = (Arc::clone(&app), Arc::clone(&client));
        async move { routes::answer(&app, &client, request).await }
    };
    crate::serve::converse(stream, &limits, stopping, answers::add_headers, answer).await;
}

/// How many of so many connections one network may have open at a time.
fn per_network(connections: usize) -> usize {
    (connections / 16).max(8)
}
