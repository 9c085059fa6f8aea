//! TLS over a connection that is there, and what the other end speaks where that fails.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use super::error::{DialError, SPEAKS_PLAIN_HTTP};
use super::stream::Stream;
use crate::tls::TlsProblem;

/// How many bytes of the other end's first ones are kept.
const FIRST: usize = 8;

/// Why a connection could not be secured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSecured {
    /// The other end answered in plain HTTP.
    #[error("{SPEAKS_PLAIN_HTTP}")]
    PlainHttp,
    /// The other end answered something that is no TLS.
    #[error("no secure connection (TLS): what answers there does not speak TLS")]
    NoTls,
    /// The other end closed the connection before it said anything.
    #[error(
        "no secure connection (TLS): what answers there closed the connection without a word; most likely it does not \
         speak TLS"
    )]
    Closed,
    /// TLS, but none that is trusted or supported.
    #[error("{0}")]
    Tls(TlsProblem),
    /// The connection failed.
    #[error("{0}")]
    Failed(String),
}

/// Secures a connection to the server of that name.
pub async fn secure<S>(
    stream: S,
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Box<dyn Stream>, NotSecured>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let noted = FirstBytes { stream, first: Vec::new() };
    match TlsConnector::from(Arc::clone(config)).connect(name, noted).into_fallible().await {
        Ok(secured) => Ok(Box::new(TokioIo::new(secured))),
        Err((error, FirstBytes { first, .. })) => Err(why(&error, &first)),
    }
}

fn why(error: &io::Error, first: &[u8]) -> NotSecured {
    if is_http(first) {
        return NotSecured::PlainHttp;
    }
    if first.is_empty() && is_the_end(error.kind()) {
        return NotSecured::Closed;
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidMessage(_)) => NotSecured::NoTls,
        Some(tls) => NotSecured::Tls(TlsProblem::of(tls)),
        None => NotSecured::Failed(DialError::from_connector(error).to_string()),
    }
}

/// Whether an HTTP server says this: it answers the handshake with an error, or with the page alone that tells of one.
/// Other programs say other things, also such as begin with a `<`.
fn is_http(first: &[u8]) -> bool {
    let begins = |with: &[u8]| first.get(..with.len()).is_some_and(|first| first.eq_ignore_ascii_case(with));
    begins(b"HTTP/") || begins(b"<html") || begins(b"<!doctyp")
}

/// Whether the other end ended the connection. Where it has not read what it was sent, that is a reset.
fn is_the_end(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(kind, Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe)
}

/// A connection whose first bytes are kept.
struct FirstBytes<S> {
    stream: S,
    first: Vec<u8>,
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstBytes<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let wanted = FIRST - self.first.len();
        self.first.extend(buf.filled()[before..].iter().take(wanted));
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstBytes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
