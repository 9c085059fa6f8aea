//! The headers of every answer.

use hyper::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, SERVER};

use super::SERVER_NAME;

/// Every answer has these: nothing is framed, embedded or guessed by a browser, and the page can load and reach nothing
/// but this server. There is no CORS header, so no other site's page can read an answer.
const HEADERS: [(HeaderName, &str); 8] = [
    (SERVER, SERVER_NAME),
    (CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("content-security-policy"),
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action \
         'self'; base-uri 'none'; frame-ancestors 'none'",
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
