//! What an answer looks like.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SERVER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::SERVER_NAME;
use crate::collector::ingest::Refusal;
use crate::collector::retry::in_seconds;

/// An answer.
pub(super) type Answer = Response<Full<Bytes>>;

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
    answer.headers_mut().insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, value: &Value) -> Answer {
    body(status, "application/json", value.to_string())
}

/// An error: a word for programs and a sentence for people.
pub(super) fn error(status: StatusCode, word: &str, message: &str) -> Answer {
    json(status, &json!({"error": word, "message": message}))
}

/// The body is no ping.
pub(super) fn refused(refusal: Refusal) -> Answer {
    let mut body = json!({"error": refusal.word(), "message": format!("This is no ping: {refusal}.")});
    if let Some(field) = refusal.field() {
        body["field"] = json!(field);
    }
    json(StatusCode::BAD_REQUEST, &body)
}

/// An error after which the sender should come back, and when.
pub(super) fn come_back(status: StatusCode, word: &str, message: &str, wait: Duration) -> Answer {
    let mut answer = error(status, word, message);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(in_seconds(wait)));
    answer
}

/// Says which methods there are.
pub(super) fn with_allow(mut answer: Answer, methods: &'static str) -> Answer {
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}
