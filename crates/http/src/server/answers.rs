//! What an answer looks like.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::guards::Refusal;
use crate::exposition::Format;

/// An answer.
pub type FullResponse = Response<Full<Bytes>>;

/// An answer with this body.
pub fn body(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> FullResponse {
    let mut answer = empty(status);
    *answer.body_mut() = Full::new(body.into());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Metrics in the format that the request prefers.
pub fn metrics(asked: &HeaderMap, encode: impl FnOnce(Format) -> String) -> FullResponse {
    let format = Format::wanted(asked);
    let mut answer = body(StatusCode::OK, format.media_type(), encode(format));
    answer.headers_mut().insert(VARY, HeaderValue::from_static(ACCEPT.as_str()));
    answer
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> FullResponse {
    let mut answer = FullResponse::default();
    *answer.status_mut() = status;
    answer
}

/// A JSON answer.
pub fn json(status: StatusCode, value: &impl Serialize) -> FullResponse {
    match serde_json::to_vec(value) {
        Ok(json) => body(status, "application/json", json),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be encoded");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// An error: a word for programs and a sentence for people.
pub fn error(status: StatusCode, word: &str, message: &str) -> FullResponse {
    json(status, &json!({"error": word, "message": message}))
}

/// The request did not pass the guards.
pub fn refused(refusal: &Refusal) -> FullResponse {
    let mut answer = error(refusal.status(), refusal.word(), &refusal.message());
    if matches!(refusal, Refusal::Unauthorized(_)) {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// Says when to ask again, in seconds.
pub fn retry_after(mut answer: FullResponse, pause: Duration) -> FullResponse {
    let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    answer
}

/// Says which methods there are.
pub fn with_allow(mut answer: FullResponse, methods: &str) -> FullResponse {
    answer.headers_mut().extend(HeaderValue::from_str(methods).map(|methods| (ALLOW, methods)));
    answer
}
