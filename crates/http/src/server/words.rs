//! Puts words into the answers that hyper gives by itself.
//!
//! A head that is broken or too large never becomes a request: hyper answers it with a bare status and closes. That is
//! the last thing on its connection, and it is known by its lack of the header `server`, which every answer of ours has.
//! So the last head that is written without it is replaced by one of ours with the same status.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::StatusCode;
use hyper::header::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::answers;

/// The most bytes that such a head has.
const HEAD_MAX: usize = 512;

/// A caller's connection.
pub(super) struct WithWords<S> {
    stream: S,
    /// Our answer in the place of hyper's, and how much of it is written.
    ours: Option<(Vec<u8>, usize)>,
    add_headers: fn(&mut HeaderMap),
}

impl<S> WithWords<S> {
    /// `add_headers` adds what every answer of the server has, `server` among it.
    pub(super) fn new(stream: S, add_headers: fn(&mut HeaderMap)) -> Self {
        Self { stream, ours: None, add_headers }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WithWords<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WithWords<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.ours.is_none() {
            match bare_head(bytes) {
                // Nothing but hyper's head is left.
                Some((0, status)) => this.ours = Some((answers::raw(status, this.add_headers), 0)),
                // What comes before it goes first.
                Some((start, _)) => return Pin::new(&mut this.stream).poll_write(cx, &bytes[..start]),
                None => return Pin::new(&mut this.stream).poll_write(cx, bytes),
            }
        }
        while let Some((answer, written)) = &mut this.ours
            && *written < answer.len()
        {
            match ready!(Pin::new(&mut this.stream).poll_write(cx, &answer[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
        }
        this.ours = None;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Where the bytes end with a whole head of hyper's own: where it begins, and its status.
fn bare_head(bytes: &[u8]) -> Option<(usize, StatusCode)> {
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let tail = bytes.len().saturating_sub(HEAD_MAX);
    let mark = b"HTTP/1.1 4";
    let start = tail + bytes[tail..].windows(mark.len()).rposition(|window| window == mark)?;
    let head = std::str::from_utf8(&bytes[start..]).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let is_bare = lines.all(|line| {
        let name = line.split(':').next().unwrap_or_default();
        ["content-length", "connection", "date"].iter().any(|own| name.eq_ignore_ascii_case(own))
    });
    is_bare.then(|| StatusCode::from_bytes(status.as_bytes()).ok().map(|status| (start, status))).flatten()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const BARE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\ndate: x\r\n\r\n";

    async fn written(bytes: &[u8], room: usize) -> String {
        let (ours, mut theirs) = duplex(room);
        let bytes = bytes.to_vec();
        let writing = tokio::spawn(async move {
            let mut stream = WithWords::new(ours, |headers| {
                headers.insert("server", "pulse-telemetry".parse().unwrap());
            });
            stream.write_all(&bytes).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut read = String::new();
        theirs.read_to_string(&mut read).await.unwrap();
        writing.await.unwrap();
        read
    }

    #[tokio::test]
    async fn a_bare_refusal_gets_words_also_behind_an_answer_and_in_small_pieces() {
        let before = "HTTP/1.1 200 OK\r\nserver: pulse-telemetry\r\ncontent-length: 2\r\n\r\n{}";
        for room in [1, 7, 64 * 1024] {
            for first in ["", before] {
                let whole = written(&[first.as_bytes(), BARE].concat(), room).await;
                let answer = whole.strip_prefix(first).unwrap();
                assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
                assert!(answer.contains("server: pulse-telemetry\r\n") && answer.contains(r#"{"error":"too_large""#));
            }
        }
    }

    #[tokio::test]
    async fn every_other_answer_passes_as_it_is() {
        for other in [
            "HTTP/1.1 404 Not Found\r\nserver: pulse-telemetry\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 4\r\nserver: x\r\n\r\n\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert_eq!(written(other.as_bytes(), 16).await, other);
        }
    }
}
