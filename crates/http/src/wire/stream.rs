//! Connections, and who opens them.

use std::future::Future;
use std::pin::Pin;

use hyper::rt::{Read, Write};

use super::error::DialError;

/// A connection: bytes in, bytes out.
pub trait Stream: Read + Write + Send + Unpin {}
impl<T: Read + Write + Send + Unpin> Stream for T {}

/// A connection that is being made.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, DialError>> + Send + 'a>>;

/// Opens connections to one peer.
pub trait Dial: Send + Sync {
    /// One connection, secured where the peer's URL says `https`.
    fn dial(&self) -> Dialing<'_>;
}
