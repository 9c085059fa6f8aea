//! What is read of a request's body.

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::Limits;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It has more bytes than the limit.
    TooLarge,
    /// It did not arrive in time.
    TooSlow,
    /// It ended before its time.
    CutShort,
}

/// Whether a body is announced to be larger than the limit.
#[must_use]
pub fn is_too_large(body: &Incoming, limits: &Limits) -> bool {
    body.size_hint().lower() > limits.body_bytes as u64
}

/// The whole body.
///
/// # Errors
/// It is not kept: too large, too slow, or not whole.
pub async fn read(body: Incoming, limits: &Limits) -> Result<Vec<u8>, BodyError> {
    match timeout(limits.body_time, gather(Limited::new(body, limits.body_bytes))).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::CutShort),
        Err(_) => Err(BodyError::TooSlow),
    }
}

/// Reads a body to its end or its limit, and keeps nothing: what is left unread when a connection is closed takes the
/// answer with it.
pub async fn discard(body: Incoming, limits: &Limits) {
    let mut body = Limited::new(body, limits.body_bytes);
    let _ = timeout(limits.body_time, async { while let Some(Ok(_)) = body.frame().await {} }).await;
}

/// The bytes of a body, copied as they come: pieces that are kept hold on to far larger buffers.
async fn gather<B>(mut body: B) -> Result<Vec<u8>, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data() {
            bytes.extend_from_slice(&piece);
        }
    }
    Ok(bytes)
}
