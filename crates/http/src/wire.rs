//! What both clients share: one HTTP/1.1 request over a connection of its own, and how TLS is set up.
//!
//! Nothing here opens a socket: crate `endpoint` dials the endpoint, `pulse` dials Pulse. A request is driven by its
//! caller; dropping the future, or the [`Exchange`], closes the connection at once.

mod error;
mod metered;
mod secure;
mod stream;

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, http};

pub use self::error::{DialError, ExchangeError, SPEAKS_HTTPS, SPEAKS_PLAIN_HTTP, asks_for_https};
use self::metered::{Meter, Metered};
pub use self::secure::{NotSecured, secure};
pub use self::stream::{Dial, Dialing, Stream};

/// An answer whose body is still arriving.
pub struct Exchange {
    /// Status and headers.
    pub head: http::response::Parts,
    body: Incoming,
    connection: Option<Connection>,
    meter: Meter,
}

/// The most of an answer, in bytes, that is held at once while it is read; also the most that its head may have.
const READ_MAX: usize = 64 * 1024;

/// The most bytes of an answer that are no body: its head, the 1xx answers before it and its trailers together.
const OVERHEAD_MAX: u64 = 256 * 1024;

/// How large a part of the body its framing may be, beyond what [`OVERHEAD_MAX`] leaves. The chunks of a real answer
/// have some 2 KiB and seven bytes besides. A chunk of one byte has five, and takes as much work as a large one.
const FRAMING_SHARE: u64 = 8;

type Connection = Pin<Box<http1::Connection<Metered, Full<Bytes>>>>;

/// Sends one request over a connection of its own, and waits for the head of the answer.
///
/// The request carries the headers it is given and no other, but for `content-length`, which hyper adds to a body.
///
/// # Errors
/// Where there is no connection, or it ends before the head is whole.
pub async fn exchange(dial: &dyn Dial, request: Request<Full<Bytes>>) -> Result<Exchange, ExchangeError> {
    exchange_over(dial.dial().await?, request).await
}

/// The same, over a connection that is there.
///
/// # Errors
/// Where it ends before the head is whole.
pub async fn exchange_over(stream: Box<dyn Stream>, request: Request<Full<Bytes>>) -> Result<Exchange, ExchangeError> {
    let meter = Meter::new(OVERHEAD_MAX);
    let failed = |error| meter.why().unwrap_or(ExchangeError::Broken(error));
    let stream = Metered::new(stream, meter.clone());
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(READ_MAX).handshake(stream).await.map_err(failed)?;
    let mut connection = Some(Box::pin(connection));
    let mut response = std::pin::pin!(sender.send_request(request));
    let response = std::future::poll_fn(|cx| {
        drive(&mut connection, cx);
        response.as_mut().poll(cx)
    })
    .await
    .map_err(failed)?;
    let (head, body) = response.into_parts();
    // What is read ahead of the body is not yet counted as a part of it.
    meter.allow_more(READ_MAX as u64);
    Ok(Exchange { head, body, connection, meter })
}

impl Exchange {
    /// The next piece of the body, `None` after its end.
    ///
    /// # Errors
    /// Where the connection ends before the body does, or where much more comes than the body's bytes.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        loop {
            let frame = std::future::poll_fn(|cx| {
                drive(&mut self.connection, cx);
                Pin::new(&mut self.body).poll_frame(cx)
            })
            .await;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.meter.why().unwrap_or(ExchangeError::Broken(error))),
                Some(Ok(frame)) => {
                    // Trailers say nothing that anybody here needs.
                    if let Ok(data) = frame.into_data() {
                        let body = data.len() as u64;
                        self.meter.allow_more(body + body / FRAMING_SHARE);
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// Lets the connection make progress. What ends it is told by the response or the body, which see it too.
fn drive(connection: &mut Option<Connection>, cx: &mut std::task::Context<'_>) {
    if let Some(running) = connection
        && let Poll::Ready(_) = running.as_mut().poll(cx)
    {
        *connection = None;
    }
}
