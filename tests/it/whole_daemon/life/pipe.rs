//! Connections in memory, with a real hyper at the far end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use pulse_telemetry_http::wire::Stream;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// What fits into a pipe at a time.
const ROOM: usize = 16 * 1024;

/// What the far end writes in place of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// The answer.
    Well,
    /// Something that is no HTTP.
    Garbage,
    /// The first bytes of the answer only.
    Cut,
}

/// How the far end answers a request: `None` closes the connection.
pub(super) type Answered = Option<Response<Full<Bytes>>>;

/// A connection whose far end is a hyper server with that handler.
pub(super) fn connect<F, A>(spoken: Spoken, handler: F) -> Box<dyn Stream>
where
    F: Fn(Request<Incoming>) -> A + Send + 'static,
    A: Future<Output = Answered> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(ROOM);
    tokio::spawn(serve(far, spoken, handler));
    Box::new(TokioIo::new(near))
}

/// Serves one connection.
pub(super) async fn serve<F, A>(far: DuplexStream, spoken: Spoken, handler: F)
where
    F: Fn(Request<Incoming>) -> A + Send,
    A: Future<Output = Answered> + Send,
{
    let service = service_fn(move |request| {
        let answered = handler(request);
        async move { answered.await.ok_or_else(|| io::Error::other("closed as planned")) }
    });
    let far = TokioIo::new(Mangled { pipe: far, spoken });
    // A client that goes away is an error to hyper, and what many a life is about.
    let _ = hyper::server::conn::http1::Builder::new().keep_alive(false).serve_connection(far, service).await;
}

/// The bytes of a request's body.
pub(super) async fn body_of(request: Request<Incoming>) -> Result<(hyper::http::request::Parts, Bytes), hyper::Error> {
    let (head, body) = request.into_parts();
    Ok((head, http_body_util::BodyExt::collect(body).await?.to_bytes()))
}

/// A server's end of a pipe.
struct Mangled {
    pipe: DuplexStream,
    spoken: Spoken,
}

impl AsyncRead for Mangled {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, into)
    }
}

impl AsyncWrite for Mangled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let instead = match self.spoken {
            Spoken::Well => return Pin::new(&mut self.pipe).poll_write(cx, bytes),
            Spoken::Garbage => &b"\x16\x03\x01 220 mail.example ready\r\n\r\n"[..],
            Spoken::Cut => &bytes[..bytes.len().min(9)],
        };
        // The room of the pipe is far larger than what is written to it here.
        Pin::new(&mut self.pipe).poll_write(cx, instead).map_ok(|_| bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
