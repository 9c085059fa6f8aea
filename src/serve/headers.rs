//! The headers of every answer, and how a browser may keep one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, SERVER};
use pulse_telemetry_http::server::answers::{Answer, body, empty};

use super::SERVER_NAME;

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
