//! What both servers have in common: one connection and its limits, the guards, and what an answer looks like.
//!
//! Every request passes the [`guards`]; [`answers`] makes the responses. What is not HTTP never becomes a request: hyper
//! answers it with a bare status and closes.

pub mod answers;
pub mod guards;

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::answers::Answer;
use crate::host::Host;

/// The smallest buffer that hyper works with.
const BUFFER_MIN: usize = 8 * 1024;

/// How long a caller may keep the server waiting for its request before its place can be given to another one. So 64
/// places let 640 new connections a second in, however many of them stay silent.
pub const PATIENCE: Duration = Duration::from_millis(100);

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

/// Answers the requests of one connection, one after the other, until it ends, has lived for long enough, or the server
/// stops.
pub async fn converse<S, A, F>(stream: S, limits: &Limits, mut stopping: watch::Receiver<bool>, answer: A)
where
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
