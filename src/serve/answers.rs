//! What an answer looks like: its body, and the headers that every one of them has.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SERVER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::SERVER_NAME;
use super::guards::Refusal;

/// An answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// Every answer has these: nothing is kept, framed, embedded or guessed by a browser, and the page can load and reach
/// nothing but this server. There is no CORS header, so no other site's page can read an answer.
const HEADERS: [(HeaderName, &str); 8] = [
    (SERVER, SERVER_NAME),
    (CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("content-security-policy"),
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri \
         'none'; frame-ancestors 'none'",
    ),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("x-frame-options"), "DENY"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Adds the headers that every answer has.
pub(super) fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// An answer with this body.
pub(super) fn body(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = empty(status);
    *answer.body_mut() = Full::new(body.into());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = status;
    answer
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(json) => body(status, "application/json", json),
        Err(error) => {
            tracing::error!(%error, "an answer of the local server cannot be encoded");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// An error: a word for programs and a sentence for people.
pub(super) fn error(status: StatusCode, word: &str, message: &str) -> Answer {
    json(status, &json!({"error": word, "message": message}))
}

/// The request did not pass the guards.
pub(super) fn refused(refusal: Refusal) -> Answer {
    let mut answer = error(refusal.status(), refusal.word(), refusal.message());
    if refusal == Refusal::Unauthorized {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// Says which methods there are.
pub(super) fn with_allow(mut answer: Answer, methods: &'static str) -> Answer {
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}
