//! The routes. None shows a ping, or anything of a single installation.

use std::sync::PoisonError;
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde_json::json;
use tokio::time::timeout;

use super::answers::{self, Answer};
use super::{App, PING_PATH};
use crate::collector::ingest;
use crate::collector::limiter::Client;
use crate::collector::metrics;
use crate::collector::purge::is_plausible;
use crate::collector::queue::TurnedAway;
use crate::collector::retry::Retry;
use crate::collector::storage::Row;
use crate::contract;

const READ: &str = "GET, HEAD, OPTIONS";
const PING: &str = "POST, OPTIONS";

/// Answers one request.
pub(super) async fn answer(app: &App, client: &Client, request: Request<Incoming>) -> Answer {
    let mut answer = route(app, client, request).await;
    answers::add_headers(answer.headers_mut());
    answer
}

async fn route(app: &App, client: &Client, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let (allow, is_read) = match path {
        PING_PATH => (PING, false),
        "/v1/contract" | "/metrics" | "/healthz" | "/readyz" => (READ, true),
        _ => return answers::error(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path."),
    };
    let fits = if is_read { matches!(head.method, Method::GET | Method::HEAD) } else { head.method == Method::POST };
    if head.method == Method::OPTIONS {
        return answers::with_allow(answers::empty(StatusCode::NO_CONTENT), allow);
    }
    if !fits {
        let message = format!("The methods here are {allow}.");
        let error = answers::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
        return answers::with_allow(error, allow);
    }
    match path {
        PING_PATH => ping(app, client, &head, body).await,
        "/v1/contract" => contract(),
        "/metrics" => {
            app.metrics.counted_networks(app.limiter.networks());
            answers::body(StatusCode::OK, metrics::CONTENT_TYPE, app.metrics.text())
        }
        "/readyz" => ready(app),
        _ => answers::json(StatusCode::OK, &json!({"status": "ok"})),
    }
}

async fn ping(app: &App, client: &Client, head: &Parts, body: Incoming) -> Answer {
    let now = app.clock.now();
    let forwarded = head.headers.get_all("x-forwarded-for").iter();
    if let Err(wait) = app.limiter.check(client, forwarded, now.mono) {
        app.metrics.limited(app.limiter.networks());
        let wait = turn(app, |retry| retry.when_limited(wait));
        let message = "Too many pings come from your network. Come back after the time in Retry-After.";
        return answers::come_back(StatusCode::TOO_MANY_REQUESTS, "too_many_pings", message, wait);
    }
    if let Err((status, word, message)) = check_head(&head.headers) {
        app.metrics.refused(word, None);
        return answers::error(status, word, message);
    }
    let body = match read_body(app, body).await {
        Ok(body) => body,
        Err((status, word, message)) => {
            app.metrics.refused(word, None);
            return answers::error(status, word, message);
        }
    };
    match ingest::read(&body) {
        Ok(accepted) => {
            app.metrics.dropped(accepted.dropped);
            store(app, accepted.cells).await
        }
        Err(refusal) => {
            app.metrics.refused(refusal.word(), refusal.field());
            answers::refused(refusal)
        }
    }
}

/// Why a request goes no further.
type Refused = (StatusCode, &'static str, &'static str);

fn check_head(headers: &HeaderMap) -> Result<(), Refused> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let message = "A ping is sent with the content type application/json.";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message));
    }
    if headers.contains_key(CONTENT_ENCODING) {
        let message = "A ping is sent without a content encoding.";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding", message));
    }
    Ok(())
}

async fn read_body(app: &App, body: Incoming) -> Result<Vec<u8>, Refused> {
    let limits = &app.limits;
    match timeout(limits.body_time, gather(Limited::new(body, limits.body_bytes))).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err((StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "A ping has 65536 bytes at most."))
        }
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "body_incomplete", "The body ended before its time.")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "body_too_slow", "The body did not arrive in time.")),
    }
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

async fn store(app: &App, cells: Box<ingest::Cells>) -> Answer {
    let now = app.clock.now();
    let unavailable = |message, wait| answers::come_back(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message, wait);
    if !is_plausible(now.wall) {
        app.metrics.turned_away(1);
        return unavailable("The clock of this server is wrong.", turn(app, Retry::in_an_outage));
    }
    let received_at = Timestamp::from_second(now.wall.as_second()).unwrap_or(now.wall);
    match timeout(app.commit_timeout, app.queue.store(Row { received_at, cells })).await {
        Ok(Ok(_stored)) => answers::empty(StatusCode::NO_CONTENT),
        Ok(Err(TurnedAway::Full)) => {
            app.metrics.turned_away(1);
            let wait = turn(app, |retry| retry.when_full(now.mono));
            unavailable("Too many pings come at once. Come back after the time in Retry-After.", wait)
        }
        Ok(Err(TurnedAway::Failed)) => {
            let wait = turn(app, Retry::in_an_outage);
            unavailable("The ping could not be stored. Come back after the time in Retry-After.", wait)
        }
        Err(_) => {
            let wait = turn(app, Retry::in_an_outage);
            unavailable("The ping was not stored in time. Come back after the time in Retry-After.", wait)
        }
    }
}

fn turn(app: &App, ask: impl FnOnce(&mut Retry) -> Duration) -> Duration {
    ask(&mut app.retry.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The schema, and the SHA-256 of the file that it is published as: `config/ping.schema.json`.
fn contract() -> Answer {
    let schema = contract::schema();
    let file = contract::schema_file();
    let sum: String = digest(&SHA256, file.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    answers::json(StatusCode::OK, &json!({"sha256": sum, "schema": schema}))
}

/// Whether a balancer should send pings here.
fn ready(app: &App) -> Answer {
    let now = app.clock.now();
    app.health.asked(now.mono);
    let not_ready =
        |why| answers::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not ready", "because": why}));
    match () {
        () if app.health.is_stopping() => not_ready("stopping"),
        () if !app.health.storage_works() || app.health.is_stuck(now.mono, app.commit_timeout) => not_ready("storage"),
        () if !app.queue.has_room() => not_ready("full"),
        () if !is_plausible(now.wall) => not_ready("clock"),
        () => answers::json(StatusCode::OK, &json!({"status": "ready"})),
    }
}
