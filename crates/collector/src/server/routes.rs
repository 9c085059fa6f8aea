//! The routes. None shows a ping, or anything of a single installation.

use std::sync::PoisonError;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use jiff::Timestamp;
use jiff::tz::Offset;
use pulse_telemetry_core::contract;
use pulse_telemetry_core::identity::canonical_install_id;
use pulse_telemetry_core::ledger::sha256;
use pulse_telemetry_core::receipt::RECEIPT_HEADER;
use pulse_telemetry_http::server::Limits;
use pulse_telemetry_http::server::body::{self, BodyError};
use pulse_telemetry_http::server::guards::Guards;
use pulse_telemetry_http::server::places::Place;
use serde::Deserialize;
use serde_json::json;
use tokio::join;
use tokio::task::yield_now;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::answers::{self, FullResponse};
use super::app::App;
use super::overview;
use crate::capacity::Fullness;
use crate::ingest;
use crate::metrics::{DONE, FAILED, LIMITED, NEW_IDS, PER_MINUTE, REFUSED, ROWS_OF_AN_ID, TURNED_AWAY};
use crate::network::{Client, ProxyMismatch};
use crate::places::Networks;
use crate::purge::is_plausible;
use crate::queue::TurnedAway;
use crate::receipts::{CONTRACT_SHA256, Receipts};
use crate::retry::Retry;
use crate::storage::{Arrival, Row, RowOutcome, day_of};

/// Where pings are sent to.
pub const PING_PATH: &str = "/v1/telemetry/ping";

const READ: &str = "GET, HEAD, OPTIONS";
const POST: &str = "POST, OPTIONS";

/// Where deletions are asked for.
pub const FORGET_PATH: &str = "/v1/telemetry/forget";

/// The largest body of a deletion, in bytes.
const DELETION_MAX: usize = 256;

/// Answers one request. Only a ping that is stored, or need not be, keeps its connection open, where nobody needs its
/// place.
pub(super) async fn answer(
    app: &App,
    client: &Client,
    place: &Place<Networks>,
    request: Request<Incoming>,
) -> FullResponse {
    let mut answer = route(app, client, place, request).await;
    answers::add_headers(answer.headers_mut());
    if answer.status() != StatusCode::NO_CONTENT || place.gives_way() {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

async fn route(app: &App, client: &Client, place: &Place<Networks>, request: Request<Incoming>) -> FullResponse {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if [PING_PATH, FORGET_PATH].contains(&path) {
        return match only(&head.method, &[Method::POST], POST) {
            Ok(()) if path == PING_PATH => ping(app, client, place, &head, body).await,
            Ok(()) => forget(app, client, place, &head, body).await,
            Err(answer) => *answer,
        };
    }
    match read(&head.method, head.uri.path(), &["/v1/contract", "/healthz"]) {
        Ok("/v1/contract") => contract(app),
        Ok(_) => healthy(),
        Err(answer) => *answer,
    }
}

/// Answers one request of the operator's.
pub(super) async fn answer_admin(app: &App, guards: &Guards, request: Request<Incoming>) -> FullResponse {
    let (head, _) = request.into_parts();
    let mut answer = match guards.check(&head) {
        Err(refusal) => answers::stranger(&refusal),
        Ok(()) if head.method == Method::OPTIONS && head.uri.path() == "/readyz" => {
            // A balancer that is told no method asks by this one, as HAProxy does, and looks at the status alone.
            let ready = ready(app);
            let says_so = ready.status() == StatusCode::OK;
            answers::with_allow(if says_so { answers::empty(StatusCode::NO_CONTENT) } else { ready }, READ)
        }
        Ok(()) => match read(&head.method, head.uri.path(), &["/", "/metrics", "/readyz", "/healthz"]) {
            Ok("/metrics") => {
                app.metrics.counted_networks(app.limiter.networks());
                answers::metrics(&head.headers, |format| app.metrics.text(format))
            }
            Ok("/readyz") => ready(app),
            Ok("/") => match guards.check_token(&head) {
                Ok(()) => answers::html(&overview::page(app).into_string()),
                Err(refusal) => answers::stranger(&refusal),
            },
            Ok(_) => healthy(),
            Err(answer) => *answer,
        },
    };
    answers::add_headers(answer.headers_mut());
    answer
}

/// Which of these pages is to be read, or the answer to what is no such request.
fn read<'a>(method: &Method, path: &'a str, pages: &[&str]) -> Result<&'a str, Box<FullResponse>> {
    if !pages.contains(&path) {
        return Err(Box::new(answers::error(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path.")));
    }
    only(method, &[Method::GET, Method::HEAD], READ).map(|()| path)
}

fn only(method: &Method, methods: &[Method], allow: &'static str) -> Result<(), Box<FullResponse>> {
    if methods.contains(method) {
        return Ok(());
    }
    let answer = if method == Method::OPTIONS {
        answers::empty(StatusCode::NO_CONTENT)
    } else {
        let message = format!("The methods here are {allow}.");
        answers::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message)
    };
    Err(Box::new(answers::with_allow(answer, allow)))
}

fn healthy() -> FullResponse {
    answers::json(StatusCode::OK, &json!({"status": "ok"}))
}

/// What passes the same limits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Ping,
    Deletion,
}

/// What pings and deletions pass alike: who sent it, and its body. Boxed, for it is large beside what passes.
async fn arrive(
    app: &App,
    client: &Client,
    head: &Parts,
    body: Incoming,
    sent: Sent,
) -> Result<(Client, Vec<u8>), Box<FullResponse>> {
    let now = app.clock.now();
    let refused = |(status, word, message): RefusedRequest| {
        match sent {
            Sent::Ping => app.metrics.refused(word, None),
            Sent::Deletion => app.metrics.deletion(REFUSED),
        }
        Box::new(answers::error(status, word, message))
    };
    let forwarded = head.headers.get_all("x-forwarded-for").iter();
    let (client, mismatch) = client.behind(&app.trusted_proxies, forwarded);
    if let Some(mismatch) = mismatch {
        tell(app, mismatch);
    }
    if let Err(wait) = app.limiter.check(&client, now.mono) {
        match sent {
            Sent::Ping => app.metrics.limited(PER_MINUTE),
            Sent::Deletion => app.metrics.deletion(LIMITED),
        }
        body::discard(body, &app.limits).await;
        let wait = turn(app, |retry| retry.when_limited(wait));
        let message = "Too many pings come from your network. Come back after the time in Retry-After.";
        return Err(Box::new(answers::come_back(StatusCode::TOO_MANY_REQUESTS, "too_many_pings", message, wait)));
    }
    check_head(&head.headers).map_err(refused)?;
    let body = read_body(app, body, sent).await.map_err(refused)?;
    Ok((client, body))
}

async fn ping(app: &App, client: &Client, place: &Place<Networks>, head: &Parts, body: Incoming) -> FullResponse {
    let (client, body) = match arrive(app, client, head, body, Sent::Ping).await {
        Ok(arrived) => arrived,
        Err(answer) => return *answer,
    };
    match ingest::read(&body) {
        Ok(accepted) => {
            app.metrics.dropped(accepted.dropped);
            store(app, &client, place, accepted.cells, &body).await
        }
        Err(refusal) => {
            app.metrics.refused(refusal.word(), refusal.field());
            answers::refused(refusal)
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedDeletion {
    install_id: String,
}

/// Deletes every row of an ID. What is answered does not tell whether there was any.
async fn forget(app: &App, client: &Client, place: &Place<Networks>, head: &Parts, body: Incoming) -> FullResponse {
    let body = match arrive(app, client, head, body, Sent::Deletion).await {
        Ok((_, body)) => body,
        Err(answer) => return *answer,
    };
    let asked = serde_json::from_slice::<AskedDeletion>(&body).ok();
    let Some(id) = asked.and_then(|asked| canonical_install_id(&asked.install_id)) else {
        app.metrics.deletion(REFUSED);
        let message = "A deletion is an object with install_id, a UUID, and nothing else.";
        return answers::error(StatusCode::BAD_REQUEST, "no_deletion", message);
    };
    let _busy = place.keep();
    let unavailable = |outcome, message, wait| {
        app.metrics.deletion(outcome);
        answers::come_back(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message, wait)
    };
    let now = app.clock.now();
    if !is_plausible(now.wall) {
        return unavailable(TURNED_AWAY, "The clock of this server is wrong.", turn(app, Retry::in_an_outage));
    }
    let id_sha256 = sha256(id.as_bytes());
    match timeout(app.commit_timeout, app.queue.forget(id)).await {
        Ok(Ok(())) => {
            app.metrics.deletion(DONE);
            let receipts = app.receipts.as_ref();
            let receipt = receipts.map(|receipts| receipts.forgotten(id_sha256, day_of(app.clock.now().wall)));
            answers::json(StatusCode::OK, &receipt.map_or_else(|| json!({}), |receipt| json!({"receipt": receipt})))
        }
        Ok(Err(TurnedAway::Full)) => {
            let wait = turn(app, |retry| retry.when_full(now.mono));
            unavailable(TURNED_AWAY, "Too many come at once. Come back after the time in Retry-After.", wait)
        }
        Ok(Err(TurnedAway::Failed)) | Err(_) => {
            let message = "It may not be deleted yet. Come back after the time in Retry-After.";
            unavailable(FAILED, message, turn(app, Retry::in_an_outage))
        }
    }
}

/// The ping is stored, and here is its receipt.
fn stored(receipt: Option<HeaderValue>) -> FullResponse {
    let mut answer = answers::empty(StatusCode::NO_CONTENT);
    if let Some(receipt) = receipt {
        answer.headers_mut().insert(HeaderName::from_static(RECEIPT_HEADER), receipt);
    }
    answer
}

/// Says once that strangers may share one limit. No address is told.
fn tell(app: &App, mismatch: ProxyMismatch) {
    if !app.metrics.proxy_mismatch(mismatch) {
        return;
    }
    match mismatch {
        ProxyMismatch::Untrusted => tracing::warn!(
            "a ping has X-Forwarded-For and comes from a peer that serve.trusted_proxies does not name: if it is your \
             proxy, name it there, or all its clients share one limit; if it is not, this is a stranger's header and \
             means nothing"
        ),
        ProxyMismatch::Missing => tracing::warn!(
            "a ping comes from a proxy of serve.trusted_proxies, and X-Forwarded-For names no client: have the proxy \
             set it, or all its clients share one limit"
        ),
    }
}

/// Why a request goes no further.
type RefusedRequest = (StatusCode, &'static str, &'static str);

fn check_head(headers: &HeaderMap) -> Result<(), RefusedRequest> {
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

async fn read_body(app: &App, body: Incoming, sent: Sent) -> Result<Vec<u8>, RefusedRequest> {
    let (body_bytes, too_large) = match sent {
        Sent::Ping => (app.limits.body_bytes, "A ping has 65536 bytes at most."),
        Sent::Deletion => (DELETION_MAX, "A deletion has 256 bytes at most."),
    };
    body::read(body, &Limits { body_bytes, ..app.limits }).await.map_err(|why| match why {
        BodyError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", too_large),
        BodyError::CutShort => (StatusCode::BAD_REQUEST, "body_incomplete", "The body ended before its time."),
        BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "body_too_slow", "The body did not arrive in time."),
    })
}

/// Waits until it is known what became of the ping. The receipt for it is signed meanwhile, after the pings that
/// arrived with it are in the queue; it is given only where the ping is stored.
async fn commit(
    app: &App,
    arrival: Arrival,
    body: &[u8],
) -> (Result<Result<RowOutcome, TurnedAway>, Elapsed>, Option<HeaderValue>) {
    let (receipts, today) = (app.receipts.as_ref(), day_of(arrival.row.received_at));
    let sign = |receipts: &Receipts, day| HeaderValue::try_from(receipts.received(body, day)).ok();
    let signing = async {
        let receipts = receipts?;
        yield_now().await;
        sign(receipts, today)
    };
    let (outcome, receipt) = join!(biased; timeout(app.commit_timeout, app.queue.store(arrival)), signing);
    match outcome {
        Ok(Ok(RowOutcome::Duplicate { day })) if day != today => (outcome, receipts.and_then(|r| sign(r, day))),
        _ => (outcome, receipt),
    }
}

async fn store(
    app: &App,
    client: &Client,
    place: &Place<Networks>,
    cells: Box<ingest::Cells>,
    body: &[u8],
) -> FullResponse {
    let _busy = place.keep();
    let now = app.clock.now();
    let unavailable = |message, wait| answers::come_back(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message, wait);
    if !is_plausible(now.wall) {
        app.metrics.turned_away(1);
        return unavailable("The clock of this server is wrong.", turn(app, Retry::in_an_outage));
    }
    let received_at = Timestamp::from_second(now.wall.as_second()).unwrap_or(now.wall);
    let full = || {
        app.metrics.turned_away(1);
        unavailable(
            "The storage is full. Come back after the time in Retry-After.",
            turn(app, Retry::when_storage_is_full),
        )
    };
    let fullness = app.capacity.fullness();
    if fullness == Fullness::Full {
        return full();
    }
    let today = day_of(received_at);
    let takes_new_ids = fullness < Fullness::NoNewIds;
    let new_id = takes_new_ids.then(|| app.limiter.take_new_id(client, today)).flatten();
    let arrival = Arrival { row: Row { received_at, cells }, may_be_new: new_id.is_some() };
    let (outcome, receipt) = commit(app, arrival, body).await;
    match outcome {
        Ok(Ok(RowOutcome::Stored { new_id: is_new })) => {
            // What was not new goes back to its network.
            if let Some(new_id) = new_id.filter(|_| is_new) {
                new_id.keep();
            }
            stored(receipt)
        }
        Ok(Ok(RowOutcome::Duplicate { .. })) => stored(receipt),
        Ok(Ok(RowOutcome::UnknownId)) if !takes_new_ids => full(),
        Ok(Ok(RowOutcome::UnknownId)) => {
            app.metrics.limited(NEW_IDS);
            let message =
                "Too many new install IDs come from your network today. Come back after the time in Retry-After.";
            until_the_day_ends(app, received_at, "too_many_new_ids", message)
        }
        Ok(Ok(RowOutcome::TooManyRows)) => {
            app.metrics.limited(ROWS_OF_AN_ID);
            let message = "Too many pings came with this install ID today. Come back after the time in Retry-After.";
            until_the_day_ends(app, received_at, "too_many_pings_of_an_id", message)
        }
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

/// 429 until the UTC day of `now` ends.
fn until_the_day_ends(app: &App, now: Timestamp, word: &str, message: &str) -> FullResponse {
    let tomorrow = day_of(now).tomorrow().ok().and_then(|day| Offset::UTC.to_timestamp(day.into()).ok());
    let wait = tomorrow.and_then(|tomorrow| Duration::try_from(tomorrow.duration_since(now)).ok()).unwrap_or_default();
    let wait = turn(app, |retry| retry.when_the_day_ends(wait));
    answers::come_back(StatusCode::TOO_MANY_REQUESTS, word, message, wait)
}

fn turn(app: &App, ask: impl FnOnce(&mut Retry) -> Duration) -> Duration {
    ask(&mut app.retry.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The schema, the SHA-256 of the file that it is published as (`config/ping.schema.json`), the keys that verify
/// receipts, and that who asks is forgotten.
fn contract(app: &App) -> FullResponse {
    let mut answer = json!({"sha256": *CONTRACT_SHA256, "schema": contract::schema(), "forget": true});
    if let Some(receipts) = &app.receipts {
        answer["receipts"] = receipts.jwk_set();
    }
    answers::json(StatusCode::OK, &answer)
}

/// Whether a balancer should send pings here.
fn ready(app: &App) -> FullResponse {
    let now = app.clock.now();
    app.health.asked(now.mono);
    let not_ready =
        |why| answers::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not ready", "because": why}));
    match () {
        () if app.health.is_stopping() => not_ready("stopping"),
        () if !app.health.storage_works() || app.health.is_stuck(now.mono, app.commit_timeout) => not_ready("storage"),
        () if !app.queue.has_room() => not_ready("full"),
        () if !is_plausible(now.wall) => not_ready("clock"),
        () if app.capacity.fullness() == Fullness::Full => not_ready("storage_full"),
        () if app.capacity.fullness() == Fullness::NoNewIds => {
            answers::json(StatusCode::OK, &json!({"status": "ready", "but": "no_new_ids"}))
        }
        () => answers::json(StatusCode::OK, &json!({"status": "ready"})),
    }
}
