//! What an answer looks like: its body, and the headers that every one of them has.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, RETRY_AFTER,
    SERVER, VARY, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::SERVER_NAME;
use super::guards::Refusal;
use crate::exposition::Format;

/// An answer.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Every answer has these: nothing is framed, embedded or guessed by a browser, and the page can load and reach nothing
/// but this server. There is no CORS header, so no other site's page can read an answer.
const HEADERS: [(HeaderName, &str); 7] = [
    (SERVER, SERVER_NAME),
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

/// Adds the headers that every answer has. What does not say how it may be kept may not be.
pub(super) fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// An answer that only another version of this program changes: a browser may keep it, and asks whether it still holds.
pub(super) fn constant(asked: &HeaderMap, content_type: &'static str, content: impl Into<Bytes>) -> Answer {
    let content = content.into();
    let digest = ring::digest::digest(&ring::digest::SHA256, &content);
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest));
    let is_known = asked.get_all(IF_NONE_MATCH).iter().any(|known| names(known, &tag));
    let mut answer =
        if is_known { empty(StatusCode::NOT_MODIFIED) } else { body(StatusCode::OK, content_type, content) };
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
}

/// Whether a list of entity tags, or `*`, names this one.
fn names(list: &HeaderValue, tag: &str) -> bool {
    let Ok(list) = list.to_str() else { return false };
    list.split(',').map(str::trim).any(|listed| listed == "*" || listed.strip_prefix("W/").unwrap_or(listed) == tag)
}

/// The bytes of a whole answer to a head that never became a request; its connection ends with it.
pub(super) fn raw(status: StatusCode, add_headers: fn(&mut HeaderMap)) -> Vec<u8> {
    let (word, message) = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ("too_large", "The headers are larger than this server reads."),
        StatusCode::URI_TOO_LONG => ("too_large", "The request's target is longer than this server reads."),
        _ => ("bad_request", "This is not a request that can be read as HTTP/1.1."),
    };
    let mut answer = error(status, word, message);
    add_headers(answer.headers_mut());
    let content = json!({"error": word, "message": message}).to_string();
    let mut raw = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n", content.len());
    for (name, value) in answer.headers() {
        raw += &format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    (raw + "\r\n" + &content).into_bytes()
}

/// An answer with this body.
pub(crate) fn body(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = empty(status);
    *answer.body_mut() = Full::new(body.into());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Metrics in the format that the request prefers.
pub(crate) fn metrics(asked: &HeaderMap, encode: impl FnOnce(Format) -> String) -> Answer {
    let format = Format::wanted(asked);
    let mut answer = body(StatusCode::OK, format.media_type(), encode(format));
    answer.headers_mut().insert(VARY, HeaderValue::from_static(ACCEPT.as_str()));
    answer
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = status;
    answer
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(json) => body(status, "application/json", json),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be encoded");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// An error: a word for programs and a sentence for people.
pub(crate) fn error(status: StatusCode, word: &str, message: &str) -> Answer {
    json(status, &json!({"error": word, "message": message}))
}

/// The request did not pass the guards.
pub(crate) fn refused(refusal: &Refusal) -> Answer {
    let mut answer = error(refusal.status(), refusal.word(), &refusal.message());
    if matches!(refusal, Refusal::Unauthorized(_)) {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// Says when to ask again, in seconds.
pub(crate) fn retry_after(mut answer: Answer, pause: Duration) -> Answer {
    let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    answer
}

/// Says which methods there are.
pub(crate) fn with_allow(mut answer: Answer, methods: &str) -> Answer {
    answer.headers_mut().extend(HeaderValue::from_str(methods).map(|methods| (ALLOW, methods)));
    answer
}
