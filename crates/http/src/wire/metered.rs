//! A connection whose other end can neither speak before it is asked nor send without end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::error::ExchangeError;
use super::stream::Stream;

/// What is read from the connection at a time.
const PIECE: usize = 16 * 1024;

/// Counts what is read, and fails where it is more than is allowed.
///
/// It reads nothing before the request is written: what a program of another kind says first (as an SSH server does) is
/// then an answer that is no HTTP.
pub(super) struct Metered {
    stream: Box<dyn Stream>,
    piece: Box<[u8]>,
    meter: Meter,
    is_asked: bool,
    reader: Option<Waker>,
}

/// How many bytes of an answer there were, and how many there may be.
#[derive(Clone, Default)]
pub(super) struct Meter(Arc<Counters>);

#[derive(Default)]
struct Counters {
    read: AtomicU64,
    allowed: AtomicU64,
    /// The first that came is a record of TLS: an alert.
    speaks_tls: AtomicBool,
}

impl Meter {
    pub(super) fn new(allowed: u64) -> Self {
        Self(Arc::new(Counters { allowed: AtomicU64::new(allowed), ..Counters::default() }))
    }

    pub(super) fn allow_more(&self, bytes: u64) {
        self.0.allowed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Why an exchange failed, where what was read tells it.
    pub(super) fn why(&self) -> Option<ExchangeError> {
        if self.0.speaks_tls.load(Ordering::Relaxed) {
            return Some(ExchangeError::SpeaksTls);
        }
        self.is_exceeded().then_some(ExchangeError::TooLong)
    }

    fn is_exceeded(&self) -> bool {
        self.0.read.load(Ordering::Relaxed) > self.0.allowed.load(Ordering::Relaxed)
    }
}

impl Metered {
    pub(super) fn new(stream: Box<dyn Stream>, meter: Meter) -> Self {
        Self { stream, piece: vec![0; PIECE].into_boxed_slice(), meter, is_asked: false, reader: None }
    }

    fn has_asked(&mut self) {
        self.is_asked = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Read for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_asked {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let room = buf.remaining().min(PIECE);
        let mut piece = ReadBuf::new(&mut this.piece[..room]);
        match Pin::new(&mut this.stream).poll_read(cx, piece.unfilled()) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        let read = piece.filled();
        let before = this.meter.0.read.fetch_add(read.len() as u64, Ordering::Relaxed);
        // A record of TLS, an alert or a server's side of a handshake, begins with a byte that no HTTP answer begins
        // with.
        if before == 0 && matches!(read, [0x15 | 0x16, 0x03, ..]) {
            this.meter.0.speaks_tls.store(true, Ordering::Relaxed);
        }
        if this.meter.is_exceeded() {
            return Poll::Ready(Err(io::Error::other("more bytes than an answer may have")));
        }
        buf.put_slice(read);
        Poll::Ready(Ok(()))
    }
}

impl Write for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if written.is_ready() {
            self.has_asked();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if written.is_ready() {
            self.has_asked();
        }
        written
    }
}
