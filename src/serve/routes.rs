//! The routes: each asks the daemon and tells its answer.

use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::body::Incoming;
use hyper::header::{AGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use pulse_telemetry_core::consent::OffSource;
use pulse_telemetry_core::contract;
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_http::server::answers::{self, FullResponse};
use pulse_telemetry_http::server::body::{self, BodyError, is_too_large};
use pulse_telemetry_http::server::places::{Longest, Place};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::headers::add_headers;
use super::page::{self, Shown};
use super::{AppState, ServerContext, openapi};
use crate::daemon::{
    CancelForgetAnswer, ForgetCommandAnswer, Gone, Handle, NoPreview, PostureSeen, Preview, ResetAnswer, Snapshot,
    SwitchAnswer,
};
use crate::events::{self, EventRefusal, SwitchOutcome};
use crate::status::{PostureReport, PreviewReport, StatusReport, paused};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The documents that the page links to, of this very version. They hold no data, so nobody needs the token for them.
const PRIVACY: &str = include_str!("../../docs/PRIVACY.md");
const CONFIGURATION: &str = include_str!("../../docs/CONFIGURATION.md");
const METRICS_PAGE: &str = include_str!("../../docs/METRICS.md");
const PING_SCHEMA: &str = include_str!("../../config/ping.schema.json");

/// How many entries of the history a page has, and may have.
const PAGE: usize = 50;
const PAGES: RangeInclusive<usize> = 1..=200;
/// How many of them, and of the local events, the page for people shows at a time.
const SHOWN: usize = 20;

/// How long the page waits for a reading that somebody without JavaScript asked for.
const READ_AGAIN: Duration = Duration::from_secs(2);

const NOT_WRITTEN: &str = "It holds until the daemon stops, but cannot be written, and no ID is sent for a deletion \
    before it is; writing it is tried again. Look at the state directory's space and permissions.";

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Page,
    Style,
    Script,
    Icon,
    Privacy,
    Configuration,
    MetricsPage,
    PingSchema,
    Preview,
    PreviewBytes,
    ResetId,
    Forget,
    CancelForget,
    Status,
    Posture,
    History,
    EraseHistory,
    Schema,
    Switch,
    PulsePreview,
    PulseResetId,
    RecordEvent,
    EventStats,
    EventHealth,
    EventSwitch,
    TurnEventSwitch,
    Events,
    EraseEvents,
    Metrics,
    OpenApi,
    Health,
    Ready,
}

/// The route, the method it takes besides OPTIONS (and HEAD, where that is GET), and its path.
const ROUTES: [(Route, Method, &str); 33] = [
    (Route::Page, Method::GET, "/"),
    (Route::Style, Method::GET, "/style.css"),
    (Route::Script, Method::GET, "/page.js"),
    (Route::Icon, Method::GET, "/icon.svg"),
    // What a browser asks for by itself, where a document names no icon.
    (Route::Icon, Method::GET, "/favicon.ico"),
    (Route::Privacy, Method::GET, "/docs/PRIVACY.md"),
    (Route::Configuration, Method::GET, "/docs/CONFIGURATION.md"),
    (Route::MetricsPage, Method::GET, "/docs/METRICS.md"),
    (Route::PingSchema, Method::GET, "/docs/ping.schema.json"),
    (Route::Preview, Method::GET, "/api/v1/preview"),
    (Route::PreviewBytes, Method::GET, "/api/v1/preview/bytes"),
    (Route::ResetId, Method::POST, "/api/v1/reset-id"),
    (Route::Forget, Method::POST, "/api/v1/forget"),
    (Route::CancelForget, Method::DELETE, "/api/v1/forget"),
    (Route::Status, Method::GET, "/api/v1/status"),
    (Route::Posture, Method::GET, "/api/v1/posture"),
    (Route::History, Method::GET, "/api/v1/history"),
    (Route::EraseHistory, Method::DELETE, "/api/v1/history"),
    (Route::Schema, Method::GET, "/api/v1/schema"),
    (Route::Switch, Method::PUT, "/api/v1/switch"),
    (Route::Events, Method::GET, "/api/v1/events"),
    (Route::EraseEvents, Method::DELETE, "/api/v1/events"),
    // Pulse's own paths, so that a client made for Pulse works here.
    (Route::PulsePreview, Method::GET, "/api/system/settings/telemetry-preview"),
    (Route::PulseResetId, Method::POST, "/api/system/settings/telemetry-reset-id"),
    (Route::RecordEvent, Method::POST, "/api/upgrade-metrics/events"),
    (Route::EventStats, Method::GET, "/api/upgrade-metrics/stats"),
    (Route::EventHealth, Method::GET, "/api/upgrade-metrics/health"),
    (Route::EventSwitch, Method::GET, "/api/upgrade-metrics/config"),
    (Route::TurnEventSwitch, Method::PUT, "/api/upgrade-metrics/config"),
    (Route::Metrics, Method::GET, "/metrics"),
    (Route::OpenApi, Method::GET, "/openapi.json"),
    (Route::Health, Method::GET, "/healthz"),
    (Route::Ready, Method::GET, "/readyz"),
];

/// Every route: its method besides OPTIONS (and HEAD, where that is GET), and its path.
pub fn routes() -> impl Iterator<Item = (Method, &'static str)> {
    ROUTES.into_iter().map(|(_, method, path)| (method, path))
}

/// Answers one request.
pub(super) async fn answer(app: &ServerContext, place: &Place<Longest>, request: Request<Incoming>) -> FullResponse {
    let (head, body) = request.into_parts();
    let mut answer = match app.guards.check(&head) {
        Ok(()) => route(app, place, &head, body).await,
        Err(refusal) => answers::refused(&refusal),
    };
    add_headers(answer.headers_mut());
    answer
}

async fn route(app: &ServerContext, place: &Place<Longest>, head: &Parts, body: Incoming) -> FullResponse {
    let path = head.uri.path();
    let Some((first, ..)) = ROUTES.iter().find(|(_, _, at)| *at == path) else {
        return answers::error(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path.");
    };
    let allow = allow(path);
    if head.method == Method::OPTIONS {
        return answers::with_allow(options(app, *first, head).await, &allow);
    }
    let asked = if head.method == Method::HEAD { Method::GET } else { head.method.clone() };
    let Some((route, ..)) = ROUTES.iter().find(|(_, method, at)| *at == path && *method == asked) else {
        return wrong_method(*first, &allow);
    };
    let reads = asked == Method::GET;
    // A request that reads has no use for a body. Hyper closes the connection where one is sent all the same.
    let body = match () {
        () if reads => Ok(Vec::new()),
        () if is_too_large(&body, &app.limits) => Err(BodyError::TooLarge),
        () => body::read(body, &app.limits).await,
    };
    match body {
        Ok(body) => {
            let _busy = place.keep();
            let answer = ask(app, *route, head, &body).await;
            answer.unwrap_or_else(|Gone| unavailable("stopping", "The daemon is stopping."))
        }
        Err(why) => body_refused(why),
    }
}

/// A balancer that is told no method asks by this one, as HAProxy does, and looks at the status alone.
async fn options(app: &ServerContext, route: Route, head: &Parts) -> FullResponse {
    if route != Route::Ready {
        return answers::empty(StatusCode::NO_CONTENT);
    }
    match ask(app, route, head, &[]).await {
        Ok(answer) if answer.status() == StatusCode::OK => answers::empty(StatusCode::NO_CONTENT),
        Ok(answer) => answer,
        Err(Gone) => unavailable("stopping", "The daemon is stopping."),
    }
}

async fn ask(app: &ServerContext, route: Route, head: &Parts, body: &[u8]) -> Result<FullResponse, Gone> {
    let AppState { daemon: handle, events, metrics } = &app.state;
    Ok(match route {
        Route::Page if app.guards.may_see(head) => page(&app.state, head.uri.query()).await?,
        Route::Page => answers::body(StatusCode::OK, HTML, page::locked()),
        Route::Style => answers::body(StatusCode::OK, CSS, page::STYLE),
        Route::Script => answers::body(StatusCode::OK, JAVASCRIPT, page::SCRIPT),
        Route::Icon => answers::body(StatusCode::OK, SVG, page::ICON),
        Route::Privacy => answers::body(StatusCode::OK, TEXT, PRIVACY),
        Route::Configuration => answers::body(StatusCode::OK, TEXT, CONFIGURATION),
        Route::MetricsPage => answers::body(StatusCode::OK, TEXT, METRICS_PAGE),
        Route::PingSchema => answers::body(StatusCode::OK, JSON, PING_SCHEMA),
        Route::Preview | Route::PulsePreview => preview(handle.preview().await?),
        Route::PreviewBytes => preview_bytes(handle.preview().await?),
        Route::ResetId | Route::PulseResetId => reset(handle.reset().await?),
        Route::Forget => forget(handle).await?,
        Route::CancelForget => cancel_forget(handle.cancel_forget().await?),
        Route::Status => answers::json(StatusCode::OK, &handle.status().await?),
        Route::Posture => posture(handle.posture().await?),
        Route::History => history(handle, head.uri.query()).await?,
        Route::EraseHistory => erased(handle.erase_history().await?),
        Route::Schema => answers::body(StatusCode::OK, JSON, contract::schema().to_string()),
        Route::Switch => switch(handle, &head.headers, body).await?,
        Route::RecordEvent => match events.record(body, handle.commercial().await?).await {
            Ok(()) => answers::json(StatusCode::ACCEPTED, &json!({"accepted": true})),
            Err(refusal) => event_refused(&refusal),
        },
        Route::EventStats => answers::json(StatusCode::OK, &events.stats()),
        Route::EventHealth => answers::json(StatusCode::OK, &events.health()),
        Route::EventSwitch => answers::json(StatusCode::OK, &events.switch(handle.known().await?.commercial)),
        Route::TurnEventSwitch => set_event_switch(&app.state, body).await?,
        Route::Events => answers::json(StatusCode::OK, &events.report(handle.known().await?.commercial)),
        Route::EraseEvents => erased_events(events.erase().await),
        Route::Metrics => {
            let (status, events) = (handle.glance().await?, events.count());
            answers::metrics(&head.headers, |format| metrics.encode(format, &status, events))
        }
        Route::OpenApi => answers::body(StatusCode::OK, JSON, openapi::document().to_string()),
        Route::Health => answers::json(StatusCode::OK, &json!({"status": "ok"})),
        Route::Ready => ready(&handle.glance().await?),
    })
}

/// The page, of what is known: it never waits for Pulse, but for a moment where a query asks for a reading.
async fn page(AppState { daemon, events, .. }: &AppState, query: Option<&str>) -> Result<FullResponse, Gone> {
    let query: Vec<&str> = query.unwrap_or_default().split('&').collect();
    let is_ask = |part: &&str| part.split('=').next() == Some(page::READ);
    let (asks, rest): (Vec<&str>, Vec<&str>) = query.into_iter().partition(is_ask);
    if !asks.is_empty() {
        // What came of it is in what is known then.
        let _ = timeout(READ_AGAIN, daemon.preview()).await;
    }
    // A query that says anything else was not made by this page, which is shown all the same.
    let before = read_page_query(&rest.join("&")).and_then(|(_, before)| before);
    let Snapshot { status, preview, posture, commercial } = daemon.known().await?;
    let history = daemon.history(before, SHOWN).await?;
    let shown = Shown {
        status: &status,
        preview: preview.as_ref(),
        posture: posture.as_ref(),
        history: history.as_ref(),
        is_older: before.is_some(),
        events: &events.report(commercial),
        events_shown: SHOWN,
    };
    Ok(answers::body(StatusCode::OK, HTML, page::render(&shown)))
}

fn preview(preview: Result<Preview, NoPreview>) -> FullResponse {
    match preview {
        Ok(preview) => with_age(enabled_and_payload(&preview), &preview),
        Err(no) => no_preview(&no),
    }
}

fn preview_bytes(preview: Result<Preview, NoPreview>) -> FullResponse {
    match preview {
        Ok(preview) => {
            let digest = content_digest(preview.bytes.as_bytes());
            let mut answer = answers::body(StatusCode::OK, JSON, preview.bytes.clone());
            answer.headers_mut().extend(digest);
            with_age(answer, &preview)
        }
        Err(no) => no_preview(&no),
    }
}

/// The SHA-256 of a body, as RFC 9530 spells it.
fn content_digest(body: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let digest = BASE64.encode(ring::digest::digest(&ring::digest::SHA256, body));
    let value = HeaderValue::from_str(&format!("sha-256=:{digest}:")).ok()?;
    Some((HeaderName::from_static("content-digest"), value))
}

/// The payload is spliced in as it is: the same bytes as those of the preview's own route.
fn enabled_and_payload(preview: &Preview) -> FullResponse {
    match serde_json::from_str::<&RawValue>(&preview.bytes) {
        Ok(payload) => {
            let message = preview.paused_until.map(paused);
            answers::json(StatusCode::OK, &PreviewReport { enabled: preview.enabled, payload, message })
        }
        Err(error) => {
            tracing::error!(%error, "the payload is not JSON");
            answers::error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The payload is not JSON. This is a bug.")
        }
    }
}

fn with_age(mut answer: FullResponse, preview: &Preview) -> FullResponse {
    answer.headers_mut().insert(AGE, HeaderValue::from(preview.age.as_secs()));
    answer
}

fn posture(posture: Result<PostureSeen, NoPreview>) -> FullResponse {
    match posture {
        Ok(PostureSeen { posture, age }) => {
            let mut answer = answers::json(StatusCode::OK, &PostureReport::new(&posture));
            answer.headers_mut().insert(AGE, HeaderValue::from(age.as_secs()));
            answer
        }
        Err(NoPreview { because, retry_after, .. }) => {
            answers::retry_after(unavailable(because.reason.as_str(), &because.message), retry_after)
        }
    }
}

fn no_preview(NoPreview { enabled, because, retry_after }: &NoPreview) -> FullResponse {
    let answer = answers::json(
        StatusCode::SERVICE_UNAVAILABLE,
        &json!({
            "error": because.reason,
            "message": because.message,
            "enabled": enabled,
            "unknown": because.unknown,
        }),
    );
    answers::retry_after(answer, *retry_after)
}

fn reset(answer: ResetAnswer) -> FullResponse {
    match answer {
        ResetAnswer::Done(Ok(preview)) => with_age(enabled_and_payload(&preview), &preview),
        // The reset is done all the same, so this is no error.
        ResetAnswer::Done(Err(no)) => answers::json(
            StatusCode::OK,
            &json!({
                "enabled": no.enabled,
                "payload": null,
                "error": no.because.reason,
                "message": no.because.message,
            }),
        ),
        ResetAnswer::NotPersisted => unavailable(
            "storage",
            "The new ID cannot be written. It holds until the daemon stops, and writing it is tried again; if the \
             daemon stops before, the old one comes back. Look at the state directory's space and permissions.",
        ),
    }
}

/// Answers before the endpoint does: what comes of it is in the status.
async fn forget(handle: &Handle) -> Result<FullResponse, Gone> {
    Ok(match handle.forget().await? {
        ForgetCommandAnswer::Asked { pending } => {
            let enabled = handle.glance().await?.enabled;
            answers::json(StatusCode::ACCEPTED, &json!({"pending": pending, "enabled": enabled}))
        }
        ForgetCommandAnswer::NotPersisted => unavailable("storage", NOT_WRITTEN),
        ForgetCommandAnswer::Unreadable => unavailable(
            "storage",
            "The history cannot be read, which knows the IDs that were sent. Look at the state directory.",
        ),
        ForgetCommandAnswer::Cancelled => answers::error(
            StatusCode::CONFLICT,
            LedgerReason::Cancelled.word(),
            "Somebody cancelled the deletion before it was on the disk: nothing is asked for.",
        ),
    })
}

fn cancel_forget(CancelForgetAnswer { cancelled, persisted }: CancelForgetAnswer) -> FullResponse {
    if persisted {
        return answers::json(StatusCode::OK, &json!({"cancelled": cancelled}));
    }
    unavailable("storage", NOT_WRITTEN)
}

async fn history(handle: &Handle, query: Option<&str>) -> Result<FullResponse, Gone> {
    let Some((limit, before)) = query.map_or(Some((PAGE, None)), read_page_query) else {
        return Ok(answers::error(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "The query takes `limit`, from 1 to 200, and `before`, the `before` of the page before.",
        ));
    };
    Ok(match handle.history(before, limit).await? {
        Some(page) => answers::json(StatusCode::OK, &page),
        None => unavailable("storage", "The history cannot be read. Look at the state directory."),
    })
}

/// The limit and where to begin. `None` where the query says anything else.
fn read_page_query(query: &str) -> Option<(usize, Option<u64>)> {
    let (mut limit, mut before) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let value: u64 = value.parse().ok().filter(|_| value.bytes().all(|byte| byte.is_ascii_digit()))?;
        match name {
            "limit" if limit.is_none() => limit = Some(usize::try_from(value).ok().filter(|n| PAGES.contains(n))?),
            "before" if before.is_none() => before = Some(value),
            _ => return None,
        }
    }
    Some((limit.unwrap_or(PAGE), before))
}

fn erased(done: bool) -> FullResponse {
    if done {
        return answers::empty(StatusCode::NO_CONTENT);
    }
    unavailable("storage", "The history was not erased: the state directory cannot be written. Ask again later.")
}

/// What the switch is to be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchRequest {
    enabled: bool,
}

async fn switch(handle: &Handle, headers: &HeaderMap, body: &[u8]) -> Result<FullResponse, Gone> {
    if !is_json(headers) {
        return Ok(answers::error(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "The body must be JSON, with `Content-Type: application/json`.",
        ));
    }
    // Serde reads a struct from an array too, which is not what is documented.
    let request = body.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(body).ok()).flatten();
    let Some(SwitchRequest { enabled }) = request else {
        return Ok(answers::error(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "The body must be {\"enabled\":true} or {\"enabled\":false}.",
        ));
    };
    Ok(match handle.switch(enabled).await? {
        SwitchAnswer::Done { off, persisted } => {
            let off_by = off.map(|source| source.reason().word());
            let told = json!({"enabled": off.is_none(), "off_by": off_by, "persisted": persisted});
            answers::json(StatusCode::OK, &told)
        }
        SwitchAnswer::Locked(source) => locked(source),
        SwitchAnswer::NotPersisted => unavailable(
            "storage",
            "Telemetry stays off: the state directory cannot be written. Look at its space and its permissions.",
        ),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case(JSON)
}

fn locked(source: OffSource) -> FullResponse {
    let word = match source {
        OffSource::Config => "config_locked",
        _ => "env_locked",
    };
    let message = format!("Telemetry stays off: {source} says so, and only there can it be turned on.");
    answers::error(StatusCode::CONFLICT, word, &message)
}

fn event_refused(refusal: &EventRefusal) -> FullResponse {
    match refusal {
        EventRefusal::Invalid(message) => answers::error(StatusCode::BAD_REQUEST, "validation_error", message),
        EventRefusal::OtherOrganization => answers::error(StatusCode::FORBIDDEN, "org_mismatch", &refusal.to_string()),
        EventRefusal::TooMany => {
            let answer = answers::error(StatusCode::TOO_MANY_REQUESTS, "too_many", &refusal.to_string());
            answers::retry_after(answer, Duration::from_secs(1))
        }
    }
}

/// Answers with the switch as it is then.
async fn set_event_switch(state: &AppState, body: &[u8]) -> Result<FullResponse, Gone> {
    let wanted = match events::Switch::parse(body) {
        Ok(wanted) => wanted,
        Err(refusal) => return Ok(event_refused(&refusal)),
    };
    Ok(match state.events.set_switch(wanted).await {
        SwitchOutcome::Done => {
            answers::json(StatusCode::OK, &state.events.switch(state.daemon.known().await?.commercial))
        }
        SwitchOutcome::Locked(off) => {
            let word = if off == events::Off::Config { "config_locked" } else { "env_locked" };
            let message = format!("Local events stay off: {off}, and only there can they be turned on.");
            answers::error(StatusCode::CONFLICT, word, &message)
        }
        SwitchOutcome::NotPersisted => unavailable(
            "storage",
            "The switch cannot be written. Off holds until the daemon stops, on was not done. Look at the state \
             directory's space and permissions.",
        ),
    })
}

fn erased_events(result: std::io::Result<()>) -> FullResponse {
    match result {
        Ok(()) => answers::empty(StatusCode::NO_CONTENT),
        Err(error) => {
            tracing::warn!(%error, "failed to erase the local events");
            unavailable(
                "storage",
                "The events were not erased: the state directory cannot be written. Ask again later.",
            )
        }
    }
}

/// Ready is listening with a state that can be written, whatever Pulse does.
fn ready(status: &StatusReport) -> FullResponse {
    let suppressed_by_storage =
        status.suppressed.as_ref().is_some_and(|suppressed| suppressed.reason == LedgerReason::Storage);
    if status.writable && !suppressed_by_storage {
        return answers::json(StatusCode::OK, &json!({"status": "ready"}));
    }
    let message = "The state directory cannot be written, or what was written there is gone. Look at its space, its \
                   permissions, and the warnings of the status.";
    answers::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not_ready", "message": message}))
}

fn unavailable(word: &str, message: &str) -> FullResponse {
    answers::error(StatusCode::SERVICE_UNAVAILABLE, word, message)
}

/// The methods of a path, in alphabetic order.
fn allow(path: &str) -> String {
    let own = ROUTES.iter().filter(|(_, _, at)| *at == path).map(|(_, method, _)| method);
    let mut methods: Vec<&str> = own
        .flat_map(|method| if *method == Method::GET { vec!["GET", "HEAD"] } else { vec![method.as_str()] })
        .chain(["OPTIONS"])
        .collect();
    methods.sort_unstable();
    methods.join(", ")
}

fn wrong_method(route: Route, allow: &str) -> FullResponse {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let answer = match route {
        // As Pulse says it, but for its `timestamp`: the time would have to come from the daemon.
        Route::PulsePreview | Route::PulseResetId => answers::json(
            status,
            &json!({
                "error": "Method not allowed",
                "code": "method_not_allowed",
                "status_code": status.as_u16(),
                "details": {},
            }),
        ),
        _ => answers::error(status, "method_not_allowed", "This path takes another method: see the header Allow."),
    };
    answers::with_allow(answer, allow)
}

fn body_refused(why: BodyError) -> FullResponse {
    match why {
        BodyError::TooLarge => {
            answers::error(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body is larger than this server reads.")
        }
        BodyError::TooSlow => {
            answers::error(StatusCode::REQUEST_TIMEOUT, "timed_out", "The body did not arrive in time.")
        }
        BodyError::CutShort => answers::error(StatusCode::BAD_REQUEST, "bad_request", "The body is not whole."),
    }
}
