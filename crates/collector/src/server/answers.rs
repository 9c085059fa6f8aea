//! What an answer looks like, besides what it has in common with those of the sidecar.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderMap, HeaderValue, RETRY_AFTER, SERVER};
pub(super) use pulse_telemetry_http::server::answers::{
    FullResponse, body, empty, error, json, metrics, refused as stranger, with_allow,
};
use serde_json::json;

use super::SERVER_NAME;
use crate::ingest::InvalidPing;
use crate::retry::in_seconds;

/// Adds the headers that every answer has.
pub(super) fn add_headers(headers: &mut HeaderMap) {
    headers.insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// A page.
pub(super) fn html(page: &str) -> FullResponse {
    body(StatusCode::OK, "text/html; charset=utf-8", page.to_owned())
}

/// The body is no ping.
pub(super) fn refused(refusal: InvalidPing) -> FullResponse {
    let mut body = json!({"error": refusal.word(), "message": format!("This is no ping: {refusal}.")});
    if let Some(field) = refusal.field() {
        body["field"] = json!(field);
    }
    json(StatusCode::BAD_REQUEST, &body)
}

/// An error after which the sender should come back, and when.
pub(super) fn come_back(status: StatusCode, word: &str, message: &str, wait: Duration) -> FullResponse {
    let mut answer = error(status, word, message);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(in_seconds(wait)));
    answer
}
