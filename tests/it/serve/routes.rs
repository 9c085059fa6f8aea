//! The routes.

use std::path::Path;
use std::time::Duration;

use pulse_telemetry::daemon::{Handle, NoPreview, PostureSeen, ResetAnswer, SwitchAnswer};
use pulse_telemetry::posture::Posture;
use pulse_telemetry::status::{StatusReport, SuppressedReport};
use pulse_telemetry_core::consent::OffSource;
use pulse_telemetry_core::observation::{Reason, Scope, Unknown};
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_http::server::{Limits, ServeSettings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Daemon, METHODS, PAYLOAD, TOKEN, missing_scope, post, posture, put, start, start_guarded, start_with, status,
    switch,
};

/// The SHA-256 of `PAYLOAD` as `sha256sum` and `base64` tell it.
const PAYLOAD_DIGEST: &str = "sha-256=:0E5YkNXdQ5bCbuRTYk563R0uly1tFlD+Ck9zSICQDvw=:";

#[tokio::test]
async fn the_preview_is_the_payload_as_it_is_and_tells_the_age_of_the_reading() {
    let server = start(Daemon::default()).await;
    for path in ["/api/v1/preview", "/api/system/settings/telemetry-preview"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text(), format!("{{\"enabled\":true,\"payload\":{PAYLOAD}}}"));
        assert_eq!(answer.header("age"), Some("7"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn the_bytes_are_those_of_the_payload_and_their_digest_is_told() {
    let answer = start(Daemon::default()).await.get("/api/v1/preview/bytes").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), PAYLOAD);
    assert_eq!(answer.header("content-digest"), Some(PAYLOAD_DIGEST));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn without_a_preview_the_reason_and_what_is_unknown_are_told() {
    let server = start(Daemon { preview: Err(missing_scope()), ..Daemon::default() }).await;
    for path in ["/api/v1/preview", "/api/v1/preview/bytes", "/api/system/settings/telemetry-preview"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json()["error"], "missing_scope");
        assert_eq!(answer.json()["enabled"], true);
        assert_eq!(answer.json()["unknown"][0]["what"], "ai_enabled");
        assert_eq!(answer.json()["unknown"][0]["required_scope"], "settings:read");
        assert_eq!(answer.header("retry-after"), Some("9"), "when Pulse may be read again");
    }
}

#[tokio::test]
async fn a_reset_answers_with_the_new_preview() {
    let server = start(Daemon::default()).await;
    for path in ["/api/v1/reset-id", "/api/system/settings/telemetry-reset-id"] {
        let answer = server.ask(&post(path)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text(), format!("{{\"enabled\":true,\"payload\":{PAYLOAD}}}"));
    }
    assert_eq!(server.asked(), ["reset", "reset"]);
}

#[tokio::test]
async fn a_reset_that_is_done_is_no_error_where_no_preview_can_be_made() {
    let daemon = Daemon { reset: ResetAnswer::Done(Err(missing_scope())), ..Daemon::default() };
    let answer = start(daemon).await.ask(&post("/api/v1/reset-id")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["payload"], Value::Null);
    assert_eq!(answer.json()["error"], "missing_scope");
}

#[tokio::test]
async fn a_reset_that_could_not_be_written_says_for_how_long_it_holds() {
    let daemon = Daemon { reset: ResetAnswer::NotPersisted, ..Daemon::default() };
    let answer = start(daemon).await.ask(&post("/api/v1/reset-id")).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"], "storage");
    assert!(answer.text().contains("holds until the daemon stops"));
}

#[tokio::test]
async fn the_status_is_what_the_daemon_says() {
    let answer = start(Daemon::default()).await.get("/api/v1/status").await;
    assert_eq!(answer.status, 200);
    assert_eq!(serde_json::from_value::<StatusReport>(answer.json()).unwrap(), status());
}

#[tokio::test]
async fn a_page_of_the_history_takes_a_limit_and_where_to_begin_and_nothing_else() {
    let server = start(Daemon::default()).await;
    for (query, limit, before) in [
        ("", 50, None),
        ("?", 50, None),
        ("?limit=1", 1, None),
        ("?before=12&limit=200", 200, Some(12)),
        ("?before=0", 50, Some(0)),
    ] {
        let answer = server.get(&format!("/api/v1/history{query}")).await;
        let page = json!({"entries": [{"limit": limit, "before": before}], "before": 7});
        assert_eq!((answer.status, answer.json()), (200, page), "{query}");
    }
    let asked = server.asked().len();
    for query in [
        "limit=0",
        "limit=201",
        "limit=",
        "limit",
        "limit=-1",
        "limit=+5",
        "limit=5.0",
        "limit=99999999999999999999",
        "limit=5&limit=6",
        "before=now",
        "before=18446744073709551616",
        "page=2",
    ] {
        let answer = server.get(&format!("/api/v1/history?{query}")).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("bad_request")), "{query}");
    }
    assert_eq!(server.asked().len(), asked);
}

#[tokio::test]
async fn the_history_is_erased_by_delete_and_an_erasure_that_failed_is_an_error() {
    let delete = "DELETE /api/v1/history HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let server = start(Daemon::default()).await;
    assert_eq!(server.ask(delete).await.status, 204);
    assert_eq!(server.asked(), ["erase"]);
    let from_elsewhere = delete.replace("\r\n\r\n", "\r\nSec-Fetch-Site: cross-site\r\n\r\n");
    assert_eq!(server.ask(&from_elsewhere).await.status, 403);
    let answer = start(Daemon { erased: false, ..Daemon::default() }).await.ask(delete).await;
    assert_eq!((answer.status, &answer.json()["error"]), (503, &json!("storage")));
}

#[tokio::test]
async fn the_posture_tells_its_parts_and_names_those_that_are_unknown() {
    let server = start(Daemon::default()).await;
    let answer = server.get("/api/v1/posture").await;
    assert_eq!((answer.status, answer.header("age")), (200, Some("7")));
    let told = json!({
        "ai": {
            "enabled": true,
            "providers": [{"name": "anthropic", "local": false}, {"name": "ollama", "local": true}],
            "other_providers": 1,
        },
        "relay": {"state": "on", "host": "relay.example"},
        "updates": {"automatic": true, "channel": "rc"},
        "data_handling": {
            "resources": 110,
            "sensitivity": {"internal": 14, "sensitive": 96},
            "routing": {"cloud-summary": 14, "local-first": 93, "other": 3},
            "redaction": {"hostname": 95},
        },
        "unknown": [],
    });
    assert_eq!(answer.json(), told);
    assert_eq!(server.asked(), ["posture"]);

    let unknown = Unknown {
        what: "relay",
        request: "GET /api/settings/relay",
        reason: Reason::MissingScope(Scope::new("settings:read")),
    };
    let posture = Posture { relay: Err(unknown), data_handling: Ok(None), ..posture() };
    let seen = PostureSeen { posture, age: Duration::ZERO };
    let told = start(Daemon { posture: Ok(seen), ..Daemon::default() }).await.get("/api/v1/posture").await.json();
    assert_eq!([&told["relay"], &told["data_handling"]], [&Value::Null, &Value::Null]);
    assert_eq!(told["unknown"].as_array().unwrap().len(), 1);
    assert_eq!(told["unknown"][0]["what"], "relay");
    assert_eq!(told["unknown"][0]["required_scope"], "settings:read");

    let because = SuppressedReport {
        reason: LedgerReason::PulseUnreachable.into(),
        message: "Pulse cannot be reached.".to_owned(),
        unknown: Vec::new(),
    };
    let no = NoPreview { enabled: true, because, retry_after: Duration::from_secs(3) };
    let answer = start(Daemon { posture: Err(no), ..Daemon::default() }).await.get("/api/v1/posture").await;
    assert_eq!((answer.status, &answer.json()["error"]), (503, &json!("pulse_unreachable")));
    assert_eq!(answer.header("retry-after"), Some("3"));
}

#[tokio::test]
async fn the_documents_that_the_page_links_to_are_those_of_this_version_and_need_no_token() {
    let server = start_guarded(ServeSettings { token: Some(TOKEN.into()), ..ServeSettings::default() }).await;
    for (path, file) in [
        ("/docs/PRIVACY.md", "docs/PRIVACY.md"),
        ("/docs/CONFIGURATION.md", "docs/CONFIGURATION.md"),
        ("/docs/METRICS.md", "docs/METRICS.md"),
        ("/docs/ping.schema.json", "config/ping.schema.json"),
    ] {
        let committed = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert_eq!(server.get(path).await.text(), committed);
        assert!(server.get("/").await.text().contains(&format!("href=\"{}\"", &path[1..])));
    }
}

#[tokio::test]
async fn the_schema_is_that_of_the_contract() {
    let answer = start(Daemon::default()).await.get("/api/v1/schema").await;
    assert_eq!(answer.json(), pulse_telemetry_core::contract::schema());
}

#[tokio::test]
async fn the_switch_tells_what_keeps_telemetry_off_and_whether_it_lasts() {
    let done = SwitchAnswer::Done { off: Some(OffSource::Switch), persisted: false };
    let server = start(Daemon { switch: done, ..Daemon::default() }).await;
    let answer = server.ask(&switch(r#"{"enabled":false}"#)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!({"enabled": false, "off_by": "switch", "persisted": false}));
    assert_eq!(server.asked(), ["switch off"]);

    let done = SwitchAnswer::Done { off: None, persisted: true };
    let server = start(Daemon { switch: done, ..Daemon::default() }).await;
    let answer = server.ask(&switch(r#" { "enabled" : true } "#)).await;
    assert_eq!(answer.json(), json!({"enabled": true, "off_by": null, "persisted": true}));
    assert_eq!(server.asked(), ["switch on"]);
}

#[tokio::test]
async fn a_locked_switch_names_what_locks_it() {
    for (source, word, named) in [
        (OffSource::PulseTelemetry, "env_locked", "PULSE_TELEMETRY"),
        (OffSource::DoNotTrack, "env_locked", "DO_NOT_TRACK"),
        (OffSource::Config, "config_locked", "telemetry.enabled"),
    ] {
        let server = start(Daemon { switch: SwitchAnswer::Locked(source), ..Daemon::default() }).await;
        let answer = server.ask(&switch(r#"{"enabled":true}"#)).await;
        assert_eq!(answer.status, 409);
        assert_eq!(answer.json()["error"], word);
        assert!(answer.text().contains(named), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_switch_that_could_not_be_written_is_an_error() {
    let server = start(Daemon { switch: SwitchAnswer::NotPersisted, ..Daemon::default() }).await;
    let answer = server.ask(&switch(r#"{"enabled":true}"#)).await;
    assert_eq!((answer.status, &answer.json()["error"]), (503, &json!("storage")));
}

#[tokio::test]
async fn the_switch_takes_nothing_but_its_one_body() {
    let server = start(Daemon::default()).await;
    for body in [
        "",
        "null",
        "true",
        "[true]",
        "{}",
        r#"{"enabled":"true"}"#,
        r#"{"enabled":1}"#,
        r#"{"enabled":null}"#,
        r#"{"enabled":true,"more":1}"#,
        r#"{"enabled":false,"enabled":true}"#,
        r#"{"enabled":true}x"#,
        "{\"enabled\":true",
        "\u{feff}{\"enabled\":true}",
    ] {
        let answer = server.ask(&switch(body)).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["message"].as_str().unwrap().contains(r#"{"enabled":true}"#));
    }
    let plain = put("text/plain", r#"{"enabled":true}"#);
    assert_eq!(server.ask(&plain).await.status, 415);
    let none = "PUT /api/v1/switch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16\r\n\r\n{\"enabled\":true}";
    assert_eq!(server.ask(none).await.status, 415);
    assert_eq!(server.asked(), Vec::<&str>::new());
    let with_charset = put("Application/JSON; charset=utf-8", r#"{"enabled":true}"#);
    assert_eq!(server.ask(&with_charset).await.status, 200);
}

#[tokio::test]
async fn health_is_the_process_and_readiness_a_state_that_can_be_written() {
    let server = start(Daemon { preview: Err(missing_scope()), ..Daemon::default() }).await;
    assert_eq!(server.get("/healthz").await.json(), json!({"status": "ok"}));
    assert_eq!(server.get("/readyz").await.json(), json!({"status": "ready"}));

    let unwritable = StatusReport { writable: false, ..status() };
    let because =
        SuppressedReport { reason: LedgerReason::Storage.into(), message: String::new(), unknown: Vec::new() };
    let suppressed = StatusReport { suppressed: Some(because), ..status() };
    for status in [unwritable, suppressed] {
        let server = start(Daemon { status, ..Daemon::default() }).await;
        assert_eq!(server.get("/healthz").await.status, 200);
        let answer = server.get("/readyz").await;
        assert_eq!((answer.status, &answer.json()["status"]), (503, &json!("not_ready")));
        // As HAProxy asks where it is told no method.
        let answer = server.ask("OPTIONS /readyz HTTP/1.0\r\n\r\n").await;
        assert_eq!((answer.status, answer.header("allow")), (503, Some("GET, HEAD, OPTIONS")));
    }
}

#[tokio::test]
async fn a_refused_head_behind_a_request_that_was_answered_gets_its_status_and_the_connection_closes() {
    let server = start(Daemon::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nnonsense\r\n\r\n").await.unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await.unwrap();
    let raw = String::from_utf8(raw).unwrap();
    assert!(
        raw.starts_with("HTTP/1.1 200 OK\r\n") && raw.contains(r#"{"status":"ok"}HTTP/1.1 400 Bad Request"#),
        "{raw}"
    );
    assert!(raw.ends_with("\r\n\r\n"), "a bare status: {raw}");
}

#[tokio::test]
async fn an_event_is_taken_in_any_content_type_as_pulse_takes_it_and_not_from_another_site() {
    let server = start(Daemon::default()).await;
    let event = r#"{"type":"pricing_viewed","surface":"settings","timestamp":1,"idempotency_key":"a"}"#;
    let post = |headers: &str| {
        let length = event.len();
        format!(
            "POST /api/upgrade-metrics/events HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: \
             {length}\r\n\r\n{event}"
        )
    };
    for headers in ["", "Content-Type: application/json\r\n", "Content-Type: text/plain\r\n"] {
        let answer = server.ask(&post(headers)).await;
        assert_eq!((answer.status, answer.json()), (202, json!({"accepted": true})), "{headers}");
    }
    let answer = server.ask(&post("Sec-Fetch-Site: cross-site\r\n")).await;
    assert_eq!((answer.status, &answer.json()["error"]), (403, &json!("cross_site")));
    assert_eq!(server.asked(), ["commercial"; 3]);
    let report = server.get("/api/v1/events").await.json();
    assert_eq!((&report["events"], &report["writable"]), (&json!([]), &json!(false)), "it could not be written");
    assert_eq!(report["reduce_pro_upsell_noise"], true);
}

#[tokio::test]
async fn a_daemon_that_has_ended_is_said_to_stop() {
    let (handle, receiver) = Handle::new(1);
    drop(receiver);
    let server = start_with(handle, ServeSettings::default(), Limits::default()).await;
    for path in ["/", "/api/v1/status", "/api/v1/preview", "/readyz"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, &answer.json()["error"]), (503, &json!("stopping")), "{path}");
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn each_path_takes_its_methods_and_names_them() {
    let server = start(Daemon::default()).await;
    for (path, allow, others) in METHODS {
        for method in others {
            let answer = server.ask(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
        }
        let answer = server.ask(&format!("OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!((answer.status, answer.header("allow")), (204, Some(allow)), "OPTIONS {path}");
        assert!(answer.body.is_empty());
    }
    assert_eq!(server.asked(), ["glance"], "whether it is ready");
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = start(Daemon::default()).await;
    for (path, allow, _) in METHODS.into_iter().filter(|(_, allow, _)| allow.starts_with("GET")) {
        let get = server.get(path).await;
        let head = server.ask(&format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(head.status, get.status, "{path} {allow}");
        // How long ago the last event was takes now more digits, now fewer.
        let varies = path == "/api/upgrade-metrics/health";
        assert!(varies || head.header("content-length") == get.header("content-length"), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert!(head.body.is_empty() && !get.body.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn pulses_own_paths_refuse_a_method_as_pulse_does() {
    let answer = start(Daemon::default()).await.ask(&post("/api/system/settings/telemetry-preview")).await;
    let pulse = json!({
        "error": "Method not allowed",
        "code": "method_not_allowed",
        "status_code": 405,
        "details": {},
    });
    assert_eq!((answer.status, answer.json()), (405, pulse));
}

#[tokio::test]
async fn an_unknown_path_is_not_found_and_says_so_in_json() {
    let server = start(Daemon::default()).await;
    for path in ["/nothing", "/api/v1", "/api/v1/preview/", "//", "/%61pi/v1/status", "/API/V1/STATUS", "/../healthz"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, &answer.json()["error"]), (404, &json!("not_found")), "{path}");
        assert!(answer.json()["message"].is_string());
    }
    assert_eq!(server.get("/healthz?x=1").await.status, 200, "a query changes nothing");
}
