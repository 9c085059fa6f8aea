//! The page.

use std::time::Duration;

use pulse_telemetry::daemon::{NoPreview, PostureSeen, Preview};
use pulse_telemetry::posture::{AiPosture, Posture, RelayPosture, RelayState};
use pulse_telemetry::status::{StatusReport, SuppressedReport, UnknownReport};
use pulse_telemetry_core::contract::FIELDS;
use pulse_telemetry_core::observation::{Reason, Scope, Unknown};
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_http::server::ServeSettings;
use serde_json::{Value, json};

use super::{Daemon, PAYLOAD, TOKEN, missing_scope, preview, start, start_guarded, status};

/// The same as `sha256sum` alone tells it.
const PAYLOAD_SHA256: &str = "d04e5890d5dd4396c26ee453624e7add1d2e972d6d1650fe0a4f734880900efc";

#[tokio::test]
async fn the_page_is_made_of_what_is_known_and_asks_for_no_reading_but_where_a_query_says_so() {
    let server = start(Daemon { has_read: false, ..Daemon::default() }).await;
    for target in ["/", "/?before=9", "/?reader", "/?x=read"] {
        let page = server.get(target).await.text();
        assert_eq!(page.matches("Pulse is being asked, and has not answered yet.").count(), 2, "{page}");
        for said in ["Telemetry is on.", "href=\"?read\">Read Pulse again</a>", "is not known"] {
            assert!(page.contains(said), "{target}: {said}");
        }
    }
    assert!(!server.asked().contains(&"preview"), "{:?}", server.asked());
    for target in ["/?read", "/?read=", "/?before=9&read"] {
        assert_eq!(server.get(target).await.status, 200);
    }
    let read = server.asked().into_iter().filter(|asked| *asked == "preview").count();
    assert_eq!(read, 3);
    let status = StatusReport { is_being_read: true, ..status() };
    let page = start(Daemon { status, ..Daemon::default() }).await.get("/").await.text();
    assert!(page.contains("<span id=\"being-read\">Pulse is being read.</span>"));
    for (age, said) in [(7, "7 s"), (3600, "60 min"), (40_000, "11 h"), (900_000, "10 days")] {
        let preview = Ok(Preview { age: Duration::from_secs(age), ..preview() });
        let page = start(Daemon { preview, ..Daemon::default() }).await.get("/").await.text();
        assert!(page.contains(&format!("{said} before this page was made</span>.")), "{said}");
    }
    assert!(page.contains("<dt>As of</dt><dd><time datetime=\"2026-06-01T22:52:04Z\">"));
}

#[tokio::test]
async fn only_those_who_look_have_pulse_read_and_no_machine_that_asks_all_the_time() {
    let server = start(Daemon::default()).await;
    for path in ["/metrics", "/readyz", "/healthz"] {
        assert_eq!(server.get(path).await.status, 200);
    }
    assert_eq!(server.asked(), ["glance", "glance"]);
    server.get("/api/v1/status").await;
    server.get("/").await;
    assert_eq!(server.asked()[2..], ["status", "known", "history"]);
}

#[tokio::test]
async fn a_preview_of_an_earlier_reading_says_why() {
    let until = "2026-06-01T23:00:00Z".parse().unwrap();
    let preview = Preview { paused_until: Some(until), age: Duration::from_secs(480), ..preview() };
    let server = start(Daemon { preview: Ok(preview), ..Daemon::default() }).await;
    for path in ["/api/v1/preview", "/api/system/settings/telemetry-preview"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.header("age")), (200, Some("480")));
        let said = "Pulse asked for fewer requests (429): it is read again at 2026-06-01T23:00:00Z.";
        assert_eq!(answer.json()["message"], said);
        assert!(server.get("/").await.text().contains(said));
    }
    assert_eq!(server.get("/api/v1/preview/bytes").await.text(), PAYLOAD);
}

#[tokio::test]
async fn the_page_shows_every_field_its_purpose_and_the_exact_bytes() {
    let answer = start(Daemon::default()).await.get("/").await;
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    let page = answer.text();
    for field in FIELDS {
        assert!(page.contains(&format!("<code>{}</code>", field.name)), "{}", field.name);
        assert!(page.contains(&field.purpose.replace('\'', "&#39;")), "{}", field.name);
    }
    assert!(page.replace("<wbr>", "").contains(&PAYLOAD.replace('"', "&quot;")));
    assert!(page.contains(PAYLOAD_SHA256));
    assert!(page.contains("<td role=\"cell\"><code>25</code></td>"));
    assert!(page.contains("Telemetry is on."));
    assert!(page.contains("<noscript>") && page.contains("pulse-telemetry reset-id"));
    assert!(!page.contains("<!--"), "every place is filled");
}

#[tokio::test]
async fn the_page_names_what_could_not_be_read() {
    let page = start(Daemon { preview: Err(missing_scope()), ..Daemon::default() }).await.get("/").await.text();
    assert!(page.contains("ai_enabled") && page.contains("GET /api/settings/ai"));
    assert!(page.contains("the token lacks the scope settings:read"));
}

#[tokio::test]
async fn no_value_becomes_markup() {
    let evil = "<script>alert('1')</script>\"&<!--payload-->";
    let payload = json!({"version": evil, "version_raw": evil}).to_string();
    let because = SuppressedReport {
        reason: evil.to_owned().into(),
        message: evil.to_owned(),
        unknown: vec![UnknownReport {
            what: evil.to_owned(),
            request: evil.to_owned(),
            reason: evil.to_owned(),
            required_scope: Some(evil.to_owned()),
        }],
    };
    let status = StatusReport {
        summary: evil.to_owned(),
        endpoint: evil.to_owned(),
        state_dir: evil.to_owned(),
        version: evil.to_owned(),
        suppressed: Some(because.clone()),
        warnings: strings(&[evil]),
        ..status()
    };
    for preview in [
        Ok(Preview { bytes: payload, ..preview() }),
        Err(NoPreview { enabled: true, because, retry_after: Duration::ZERO }),
    ] {
        let daemon = Daemon { status: status.clone(), preview, ..Daemon::default() };
        let page = start(daemon).await.get("/").await.text();
        assert!(page.contains("&lt;script&gt;alert('1')&lt;/script&gt;&quot;&amp;&lt;!--payload"));
        assert!(!page.contains("<script>") && !page.contains("<!--"));
    }
}

#[tokio::test]
async fn the_page_says_who_decided_and_where_it_can_be_changed() {
    for (source, says) in [
        ("pulse_telemetry", "unset the variable"),
        ("do_not_track", "unset the variable"),
        ("config", "change the file"),
        ("switch", "The button below turns it on again"),
        ("pulse", "in Pulse, not here"),
    ] {
        let locked = source != "switch";
        let summary = format!("Telemetry is off: {source} says so. Nothing is sent.");
        let status = StatusReport {
            enabled: false,
            off_by: Some(source.to_owned().into()),
            summary,
            locked,
            next: None,
            ..status()
        };
        let page = start(Daemon { status, ..Daemon::default() }).await.get("/").await.text();
        assert!(page.contains(&format!("Telemetry is off: {source} says so.")) && page.contains(says), "{source}");
        assert_eq!(page.contains("data-switch=\"on\""), !locked, "{source}");
        // Pulse's setting may be turned on by somebody else.
        assert_eq!(page.contains("data-switch=\"off\""), source == "pulse", "{source}");
        assert!(page.contains("none is due"), "{source}");
        assert!(page.contains("a1b2c3d4"), "the preview is there all the same");
    }
    let page = start(Daemon::default()).await.get("/").await.text();
    assert!(page.contains("Nothing says off") && page.contains("data-switch=\"off\""));
}

#[tokio::test]
async fn a_pulse_that_reports_itself_is_explained_with_the_line_that_hands_over() {
    let because = SuppressedReport {
        reason: LedgerReason::PulseReportsItself.into(),
        message: "Long.".to_owned(),
        unknown: Vec::new(),
    };
    let status = StatusReport { suppressed: Some(because), ..status() };
    let page = start(Daemon { status, ..Daemon::default() }).await.get("/").await.text();
    assert!(page.contains("Pulse reports itself, so this program sends nothing"));
    assert!(page.contains(">PULSE_TELEMETRY=false</pre>") && page.contains("restart Pulse"));
    assert!(page.contains("Next look") && !page.contains("Next ping"));
    assert!(page.contains("a1b2c3d4"), "the preview is there all the same");
}

#[tokio::test]
async fn the_page_shows_what_else_may_leave() {
    let page = start(Daemon::default()).await.get("/").await.text();
    for said in [
        "<code>anthropic</code>, one that is not known here, <strong>outside of your network</strong>, and \
         <code>ollama</code> in it",
        "connected to <code>relay.example</code>",
        "automatic: Pulse looks for release candidates by itself",
        "<code>cloud-summary</code> 14, <code>local-first</code> 93, <code>other</code> 3",
    ] {
        assert!(page.contains(said), "{said}");
    }
    let none = AiPosture { enabled: false, providers: Vec::new(), other_providers: 0 };
    let posture = Posture {
        ai: Ok(none),
        relay: Ok(RelayPosture { state: RelayState::NotLicensed, host: None }),
        updates: Err(Unknown {
            what: "updates",
            request: "GET /api/system/settings",
            reason: Reason::MissingScope(Scope::new("settings:read")),
        }),
        data_handling: Ok(None),
    };
    let seen = PostureSeen { posture, age: Duration::ZERO };
    let page = start(Daemon { posture: Ok(seen), ..Daemon::default() }).await.get("/").await.text();
    for said in [
        "off, and no provider is configured",
        "not in this Pulse's licence",
        "no rules for it",
        "not known: the token lacks the scope settings:read (<code>GET /api/system/settings</code>)",
    ] {
        assert!(page.contains(said), "{said}");
    }
}

#[tokio::test]
async fn the_page_shows_the_local_events_and_who_decides_about_them() {
    let server = start(Daemon::default()).await;
    let page = server.get("/").await.text();
    for said in [
        "Local events are kept on this machine and never sent.",
        "<code>reduceProUpsellNoise</code> is on; nothing here depends on it.",
        "No local event is kept.",
    ] {
        assert!(page.contains(said), "{said}");
    }
    assert!(!page.contains("could not be written"));
    let event = r#"{"type":"pricing_viewed","surface":"s","timestamp":1,"idempotency_key":"k"}"#;
    let length = event.len();
    let head = "POST /api/upgrade-metrics/events HTTP/1.1\r\nHost: localhost\r\nContent-Length:";
    assert_eq!(server.ask(&format!("{head} {length}\r\n\r\n{event}")).await.status, 202);
    assert!(server.get("/").await.text().contains("The last event could not be written."), "there is no directory");
}

#[tokio::test]
async fn the_page_tells_the_history_with_the_exact_bytes_of_each_attempt_and_the_way_to_the_others() {
    let line = |seq: u64, kind: &str, more: Value| {
        let mut line = json!({"seq": seq, "at": "2026-06-01T10:20:30Z", "kind": kind, "prev": ""});
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        line
    };
    let body = json!({"event": "heartbeat", "body": PAYLOAD, "sha256": PAYLOAD_SHA256});
    let lines = vec![
        line(9, "attempted", body.clone()),
        line(8, "failed", json!({"event": "heartbeat", "status": 503, "reason": "server_error"})),
        line(7, "attempted", body.clone()),
        line(6, "suppressed", json!({"reason": "mock_mode"})),
        line(5, "consent_changed", json!({"reason": "switch"})),
        line(4, "sent", json!({"event": "startup", "status": 204, "reason": "delivered"})),
        line(3, "attempted", body),
        line(2, "id_rotated", json!({"reason": "none"})),
        line(1, "started", json!({})),
    ];
    let server = start(Daemon { history: Some(lines), ..Daemon::default() }).await;
    let page = server.get("/?before=10").await.text();
    assert_eq!(page.matches("<li class=\"").count(), 7, "an attempt and its end are one");
    assert_eq!(page.matches(&*PAYLOAD.replace('"', "&quot;").replace(',', ",<wbr>")).count(), 4, "and the preview");
    for said in [
        "A startup was sent and accepted, the endpoint answered 204",
        "A heartbeat was not accepted: <code>server_error</code>, the endpoint answered 503",
        "A heartbeat is on its way, or how it ended was not recorded",
        "Nothing was sent: <code>mock_mode</code>",
        "Telemetry was turned off, by <code>switch</code>",
        "An ID was made: there was none",
        "The sidecar started",
        "href=\"?before=7#history\"",
        "href=\"./#history\"",
    ] {
        assert!(page.contains(said), "{said}");
    }
    assert!(!server.get("/").await.text().contains("href=\"./#history\""), "these are the newest");
    assert_eq!(server.get("/?before=x&y").await.status, 200, "a query that means nothing is no error of the page");
    let nothing = start(Daemon { history: Some(Vec::new()), ..Daemon::default() }).await.get("/").await.text();
    assert!(nothing.contains("Nothing is recorded here yet."));
}

#[tokio::test]
async fn a_page_that_asks_for_the_token_holds_no_data() {
    let server = start_guarded(ServeSettings { token: Some(TOKEN.into()), ..ServeSettings::default() }).await;
    let page = server.get("/").await.text();
    assert!(page.contains("data-locked") && page.contains("<label for=\"token\">"));
    assert!(!page.contains("a1b2c3d4") && !page.contains("Telemetry is"));
    assert_eq!(server.asked(), Vec::<&str>::new());
    let shown = format!("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    assert!(server.ask(&shown).await.text().contains("a1b2c3d4"));
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_nothing_inline() {
    let server = start(Daemon::default()).await;
    let page = server.get("/").await.text();
    assert_eq!(page.matches("://").count(), 2, "the endpoint's, which is shown twice and not linked");
    assert!(!page.contains("href=\"http") && !page.contains("src=\"http"));
    assert!(!page.contains("style=") && !page.contains(" onclick") && !page.contains("<script>"));
    assert_eq!(server.get("/style.css").await.header("content-type"), Some("text/css; charset=utf-8"));
    assert_eq!(server.get("/page.js").await.header("content-type"), Some("text/javascript; charset=utf-8"));
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
