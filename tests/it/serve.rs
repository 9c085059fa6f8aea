//! The local server over real sockets, in front of a daemon that answers what the test tells it to.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pulse_telemetry::daemon::{Command, Handle, NoPreview, PostureSeen, Preview, ResetAnswer, Snapshot, SwitchAnswer};
use pulse_telemetry::events::Recorder;
use pulse_telemetry::metrics::Metrics;
use pulse_telemetry::posture::{
    AiPosture, Covered, DataHandling, Posture, Provider, RelayHost, RelayPosture, RelayState, UpdateChannel, Updates,
};
use pulse_telemetry::serve::{Desk, Listen, Listener, Server};
use pulse_telemetry::status::{StatusReport, SuppressedReport, UnknownReport};
use pulse_telemetry::store::{EventFile, HistoryPage};
use pulse_telemetry_core::consent::OffSource;
use pulse_telemetry_core::contract::FIELDS;
use pulse_telemetry_core::observation::{Commercial, Reason, Scope, Unknown};
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_http::host::Host;
use pulse_telemetry_http::server::{Limits, ServeError, ServeSettings};
use pulse_telemetry_process::clock::SystemClock;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};

const PAYLOAD: &str = r#"{"install_id":"a1b2c3d4-0000-4000-8000-000000000000","version":"6.0.0-rc.1","vms":25}"#;

/// The SHA-256 of `PAYLOAD` as `sha256sum` and `base64` tell it.
const PAYLOAD_DIGEST: &str = "sha-256=:0E5YkNXdQ5bCbuRTYk563R0uly1tFlD+Ck9zSICQDvw=:";

/// The same as `sha256sum` alone tells it.
const PAYLOAD_SHA256: &str = "d04e5890d5dd4396c26ee453624e7add1d2e972d6d1650fe0a4f734880900efc";

const TOKEN: &str = "correct-horse";

// The routes.

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

// The guards.

#[tokio::test]
async fn only_addresses_and_this_servers_own_names_are_answered() {
    let settings = ServeSettings { allowed_hosts: hosts(&["Pulse.LAN.", "fd00::5"]), token: None };
    let server = start_guarded(settings).await;
    for host in [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "localhost:7656",
        "localhost.:7656",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.8.9.10",
        "[::1]",
        "[::1]:7656",
        "[0:0::1]",
        "pulse.lan",
        "PULSE.lan.:443",
        "[::ffff:127.0.0.1]:7656",
        "[::ffff:192.0.2.7]",
        "192.0.2.7",
        "192.0.2.8:7656",
        "0.0.0.0",
        "[::]",
        "[fd00::5]:80",
        "[fd00::6]",
        "[::ffff:10.42.0.7]:7656",
        "[::ffff:a2a:7]",
        "[fe80::1%eth0]:7656",
    ] {
        let answer = server.ask(&format!("GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:7656",
        "evil.example.",
        "EVIL.example",
        "localhost.evil.example",
        "evil.localhost",
        "localhost..",
        "127.0.0.1.evil.example",
        "127.1",
        "0x7f.0.0.1",
        "[::1].evil.example",
        "[::1]evil.example",
        "[evil.example]",
        "192.0.2.7.evil.example",
        "192.0.2.300",
        "localhost:99999",
        "[::1",
        "::1",
        "user@localhost",
        "localhost@evil.example",
        "localhost:7656:1",
        "localhost:x",
        "localhost evil.example",
        "localhost,evil.example",
        "pulse.lan.evil.example",
        "",
        ":7656",
        ".",
    ] {
        for path in ["/", "/api/v1/status", "/metrics", "/nothing", "/healthz/", "/readyz/../metrics"] {
            let answer = server.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!((answer.status, &answer.json()["error"]), (421, &json!("host_not_allowed")), "{host:?}");
            assert!(answer.text().contains("serve.allowed_hosts"));
        }
    }
}

#[tokio::test]
async fn whoever_asks_by_an_address_is_answered_on_every_bind_and_data_needs_the_token() {
    for bind in ["0.0.0.0:0", "[::]:0", "127.0.0.1:0"] {
        let settings = ServeSettings { token: Some(TOKEN.into()), ..ServeSettings::default() };
        let server = start_at(bind, settings).await;
        for host in ["10.42.0.7:7656", "10.42.0.7", "[2001:db8::7]:7656", "[::ffff:10.42.0.7]", "0.0.0.0:80"] {
            for (method, path) in [("GET", "/metrics"), ("HEAD", "/metrics"), ("GET", "/api/v1/status")] {
                let ask = |target: &str, token: &str| {
                    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nX-API-Token: {token}\r\n\r\n")
                };
                for target in [path.to_owned(), format!("http://{host}{path}")] {
                    assert_eq!(server.ask(&ask(&target, TOKEN)).await.status, 200, "{bind} {method} {target} {host}");
                    assert_eq!(server.ask(&ask(&target, "wrong")).await.status, 401, "{bind} {method} {target} {host}");
                }
            }
        }
    }
}

#[tokio::test]
async fn health_is_answered_under_any_host_and_to_http_1_0_without_one() {
    let server = start_at("0.0.0.0:0", ServeSettings { token: Some(TOKEN.into()), ..ServeSettings::default() }).await;
    for path in ["/healthz", "/readyz"] {
        for method in ["GET", "HEAD"] {
            for host in
                ["pulse-telemetry.monitoring.svc:7656", "balancer", "evil.example", "10.42.0.7", "", "a b", "\u{e9}"]
            {
                let answer = server.ask(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
                assert_eq!(answer.status, 200, "{method} {path} {host:?}");
                assert!(answer.body.is_empty() || answer.text().len() < 40, "there is nothing to see");
            }
            for request in [
                format!("{method} {path} HTTP/1.0\r\n\r\n"),
                format!("{method} http://10.42.0.7:7656{path} HTTP/1.0\r\n\r\n"),
                format!("{method} http://10.42.0.7:7656{path} HTTP/1.1\r\nHost: 10.42.0.7:7656\r\n\r\n"),
                format!("{method} {path}?probe=1 HTTP/1.0\r\nHost: balancer\r\n\r\n"),
            ] {
                assert_eq!(server.ask(&request).await.status, 200, "{request}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_without_one_host_is_refused() {
    let server = start(Daemon::default()).await;
    for request in [
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET /metrics HTTP/1.0\r\n\r\n",
        "GET /api/v1/status HTTP/1.0\r\n\r\n",
        "GET http://localhost/api/v1/status HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    ] {
        assert_eq!(server.ask(request).await.status, 400, "{request}");
    }
}

#[tokio::test]
async fn a_target_in_absolute_form_must_name_this_server_too() {
    let server = start(Daemon::default()).await;
    for (target, status) in [
        ("http://localhost:7656/api/v1/status", 200),
        ("http://10.42.0.7/api/v1/status", 200),
        ("http://evil.example/api/v1/status", 421),
        ("http://localhost@evil.example/api/v1/status", 421),
    ] {
        let answer = server.ask(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{target}");
    }
    let answer = server.ask("GET http://localhost/api/v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert_eq!(answer.status, 421);
}

#[tokio::test]
async fn another_site_changes_nothing() {
    let server = start(Daemon::default()).await;
    for headers in [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Site: SAME-ORIGIN",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: cross-site\r\nOrigin: http://localhost:7656",
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: ",
        "Origin: http://localhost",
        "Origin: http://localhost:3000",
        "Origin: localhost:7656",
        "Origin: file://localhost:7656",
        "Origin: http://localhost:7656/",
        "Origin: http://127.0.0.1:7656",
        "Origin: http://localhost:7656\r\nOrigin: http://evil.example",
    ] {
        for request in changes(headers) {
            let answer = server.ask(&request).await;
            assert_eq!((answer.status, &answer.json()["error"]), (403, &json!("cross_site")), "{request}");
        }
    }
    assert_eq!(server.asked(), Vec::<&str>::new());
}

#[tokio::test]
async fn the_own_page_and_a_program_may_change_something() {
    let server = start(Daemon::default()).await;
    for headers in [
        "X-Nothing: here",
        "Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost:7656",
        "Sec-Fetch-Site: none",
        "Origin: http://localhost:7656",
        "Origin: https://LOCALHOST:7656",
    ] {
        for request in changes(headers) {
            assert_eq!(server.ask(&request).await.status, 200, "{request}");
        }
    }
}

#[tokio::test]
async fn a_default_port_that_is_written_out_is_the_same_as_none() {
    let settings = ServeSettings { allowed_hosts: hosts(&["telemetry.lan"]), token: None };
    let server = start_guarded(settings).await;
    let ask = |host: &str, origin: &str| {
        let headers = format!("Host: {host}\r\nOrigin: {origin}\r\n");
        post("/api/v1/reset-id").replacen("Host: localhost\r\n", &headers, 1)
    };
    for (host, origin) in [
        ("localhost:80", "http://localhost"),
        ("localhost", "http://localhost:80"),
        ("telemetry.lan:443", "https://telemetry.lan"),
        ("TELEMETRY.lan.:443", "https://telemetry.lan"),
        ("telemetry.lan", "https://telemetry.lan."),
        ("10.42.0.7:80", "http://10.42.0.7"),
        ("[fd00::5]:443", "https://[fd00::5]"),
        ("[fd00::5]:7656", "http://[fd00::5]:7656"),
    ] {
        assert_eq!(server.ask(&ask(host, origin)).await.status, 200, "{host} {origin}");
    }
    for (host, origin) in [
        ("localhost:443", "http://localhost"),
        ("localhost:80", "https://localhost"),
        ("localhost", "http://localhost:443"),
        ("localhost:7656", "http://localhost"),
        ("telemetry.lan", "http://telemetry.lan:8080"),
        ("localhost:80", "http://telemetry.lan"),
        ("10.42.0.7", "http://10.42.0.8"),
        ("[fd00::5]", "http://[fd00::6]"),
        ("localhost", "http://localhost@evil.example"),
        ("localhost", "http://evil.example:80@localhost"),
        ("localhost", "http://localhost:80:80"),
        ("localhost", "ftp://localhost"),
    ] {
        assert_eq!(server.ask(&ask(host, origin)).await.status, 403, "{host} {origin}");
    }
}

#[tokio::test]
async fn a_page_that_is_refused_learns_which_host_and_origin_were_compared_and_what_a_proxy_has_to_pass_on() {
    let server = start_guarded(ServeSettings { allowed_hosts: hosts(&["telemetry.lan"]), token: None }).await;
    for (host, origin) in [
        ("127.0.0.1:7656", "http://telemetry.lan"),
        ("telemetry.lan", "http://telemetry.lan:8080"),
        ("localhost", "null"),
    ] {
        let headers = format!("Host: {host}\r\nOrigin: {origin}\r\n");
        let answer = server.ask(&post("/api/v1/reset-id").replacen("Host: localhost\r\n", &headers, 1)).await;
        let said = answer.json()["message"].as_str().unwrap().to_owned();
        assert_eq!((answer.status, &answer.json()["error"]), (403, &json!("cross_site")));
        assert!(
            said.contains(&format!("{origin} (its Origin)")) && said.contains(&format!("{host} (its Host)")),
            "{said}"
        );
        assert!(said.contains("proxy_set_header Host $http_host;"), "{said}");
    }
    let long = format!("http://{}\u{1b}[31m", "x".repeat(2000));
    let headers = format!("Host: localhost\r\nOrigin: {long}\r\n");
    let answer = server.ask(&post("/api/v1/reset-id").replacen("Host: localhost\r\n", &headers, 1)).await;
    assert!(answer.status == 400 || answer.text().len() < 1000, "{}", answer.text());
}

#[tokio::test]
async fn another_site_may_link_to_the_page_but_not_load_the_api() {
    let server = start(Daemon::default()).await;
    for (path, site, status) in [
        ("/", "cross-site", 200),
        ("/", "same-site", 200),
        ("/api/v1/status", "cross-site", 403),
        ("/api/v1/preview/bytes", "same-site", 403),
        ("/api/system/settings/telemetry-preview", "cross-site", 403),
        ("/api/v1/status", "same-origin", 200),
        ("/api/v1/status", "none", 200),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: {site}\r\n\r\n");
        assert_eq!(server.ask(&request).await.status, status, "{path} {site}");
    }
}

#[tokio::test]
async fn off_loopback_there_is_no_server_without_a_token() {
    let listen = |address: &str| Listen::Tcp(address.parse().unwrap());
    let (handle, _receiver) = Handle::new(1);
    for address in ["0.0.0.0:0", "[::]:0"] {
        let listener = Listener::bind(&listen(address)).await.unwrap();
        let told = listener.local_addr();
        let refused = Server::new(listener, &ServeSettings::default(), desk(handle.clone())).unwrap_err();
        assert_eq!(refused, ServeError::TokenNeeded(told));
        assert!(refused.to_string().contains("serve.token_file"));
    }
    let listener = Listener::bind(&listen("0.0.0.0:0")).await.unwrap();
    let settings = ServeSettings { token: Some(String::new().into()), ..ServeSettings::default() };
    assert_eq!(Server::new(listener, &settings, desk(handle.clone())).unwrap_err(), ServeError::EmptyToken);
    let listener = Listener::bind(&listen("0.0.0.0:0")).await.unwrap();
    let settings = ServeSettings { token: Some(TOKEN.into()), ..ServeSettings::default() };
    assert!(Server::new(listener, &settings, desk(handle)).is_ok());
}

#[tokio::test]
async fn the_api_asks_for_the_token_and_what_holds_no_data_does_not() {
    let server = start_guarded(ServeSettings { token: Some(TOKEN.into()), ..ServeSettings::default() }).await;
    let status = |headers: &str| format!("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n");
    for headers in [
        "X-Nothing: here".to_owned(),
        "Authorization: Bearer wrong".to_owned(),
        "Authorization: Bearer ".to_owned(),
        format!("Authorization: Bearer {TOKEN}x"),
        format!("Authorization: Bearer {}", TOKEN.to_uppercase()),
        format!("Authorization: Basic {TOKEN}"),
        format!("Authorization: {TOKEN}"),
        "X-API-Token: wrong".to_owned(),
        format!("Cookie: token={TOKEN}"),
    ] {
        let answer = server.ask(&status(&headers)).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{headers}");
        assert_eq!(answer.json()["error"], "unauthorized");
    }
    for (path, allow, _) in METHODS.into_iter().filter(|(path, ..)| path.starts_with("/api/") || *path == "/metrics") {
        let method = allow.split(", ").find(|method| *method != "OPTIONS").unwrap();
        let answer = server.ask(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(answer.status, 401, "{path}");
    }
    assert_eq!(server.asked(), Vec::<&str>::new());
    for path in ["/", "/style.css", "/page.js", "/openapi.json", "/healthz", "/readyz"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    for headers in [
        format!("Authorization: Bearer {TOKEN}"),
        format!("Authorization: bearer   {TOKEN}"),
        format!("X-API-Token: {TOKEN}"),
    ] {
        assert_eq!(server.ask(&status(&headers)).await.status, 200, "{headers}");
    }
}

#[tokio::test]
async fn the_token_is_in_no_debug_output() {
    let (handle, _receiver) = Handle::new(1);
    let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let settings = ServeSettings { token: Some(TOKEN.into()), ..ServeSettings::default() };
    let server = Server::new(listener, &settings, desk(handle)).unwrap();
    assert!(!format!("{settings:?} {server:?}").contains(TOKEN));
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_kept() {
    let server = start(Daemon::default()).await;
    let start_of = |more: &str| format!("PUT /api/v1/switch HTTP/1.1\r\nHost: localhost\r\n{more}\r\n\r\n");
    let announced = start_of("Content-Type: application/json\r\nContent-Length: 4097");
    assert_eq!(server.ask(&announced).await.status, 413);
    let chunked = start_of("Content-Type: application/json\r\nTransfer-Encoding: chunked");
    assert_eq!(server.ask(&format!("{chunked}1001\r\n{}", " ".repeat(0x1001))).await.status, 413);
    let padded = format!("{}{}", r#"{"enabled":true}"#, " ".repeat(4096 - 16));
    assert_eq!(server.ask(&switch(&padded)).await.status, 200, "4 KiB are read");
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "x".repeat(16 * 1024));
    let answer = server.ask(&head).await;
    assert_eq!((answer.status, answer.body.len()), (431, 0));
    let target = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(70_000));
    let answer = server.ask(&target).await;
    assert!([414, 431].contains(&answer.status) && answer.body.is_empty(), "{answer:?}");
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(15 * 1024));
    assert_eq!(server.ask(&head).await.status, 200, "15 KiB are read");
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let server = start(Daemon::default()).await;
    for garbage in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\r\n\r\n"] {
        let answer = server.ask(garbage).await;
        assert_eq!((answer.status, answer.body.len()), (400, 0), "{garbage:?}");
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_head_is_held_to_its_limit_also_where_a_buffer_could_hold_more() {
    let limits = Limits { head_bytes: 1024, ..Limits::default() };
    let server = start_with(Daemon::default().spawn().0, ServeSettings::default(), limits).await;
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(1024));
    assert_eq!(server.ask(&head).await.status, 431);
}

#[tokio::test]
async fn with_every_place_taken_whoever_keeps_the_server_waiting_for_longest_gives_way() {
    // Where that is not so, somebody waits for ever.
    tokio::time::timeout(Duration::from_secs(45), every_place_is_taken()).await.unwrap();
}

async fn every_place_is_taken() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let (handle, mut questions) = Handle::new(4);
    let server = start_with(handle, ServeSettings::default(), limits).await;
    let status_request = "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut answers = Vec::new();
    // One is being answered, two have begun a request and do not go on.
    let answered = tokio::spawn(exchange(server.connect().await, status_request));
    let Some(Command::Status { answer, .. }) = questions.recv().await else {
        unreachable!("only the status is asked for")
    };
    answers.push(answer);
    let mut silent = server.connect().await;
    silent.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let mut later = server.connect().await;
    later.write_all(b"GET /api/v1/status HTTP/1.1\r\n").await.unwrap();
    // A new one takes the place of the first of these.
    let third = tokio::spawn(exchange(server.connect().await, status_request));
    let Some(Command::Status { answer, .. }) = questions.recv().await else {
        unreachable!("only the status is asked for")
    };
    answers.push(answer);
    let ended = silent.read(&mut [0; 64]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    later.write_all(b"Host: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let Some(Command::Status { answer, .. }) = questions.recv().await else {
        unreachable!("only the status is asked for")
    };
    answers.push(answer);
    // Now each is being answered: another one waits until one of them has been.
    let mut fourth = server.connect().await;
    fourth.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    for answer in answers.drain(..) {
        answer.send(status()).unwrap();
    }
    assert_eq!((answered.await.unwrap().status, third.await.unwrap().status), (200, 200));
    for stream in [&mut later, &mut fourth] {
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw).await.unwrap();
        assert_eq!(Answer::parse(&raw).status, 200);
    }
}

/// Some 16 MB of it, which no buffer of a kernel holds.
fn long_history() -> Option<Vec<Value>> {
    Some(vec![json!({"seq": 1, "kind": "attempted", "body": "x".repeat(16 << 20)})])
}

const HISTORY: &[u8] = b"GET /api/v1/history HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn an_answer_that_is_on_its_way_is_not_cut_off_with_every_place_taken() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let daemon = Daemon { history: long_history(), ..Daemon::default() };
    let server = start_with(daemon.spawn().0, ServeSettings::default(), limits).await;
    // Two take their answers slowly, and idle ones and others who ask take turns at the last place.
    let mut slow = [server.connect().await, server.connect().await];
    let (mut taken, mut pieces) = ([0, 0], 0);
    for stream in &mut slow {
        stream.write_all(HISTORY).await.unwrap();
    }
    let mut piece = vec![0; 1 << 20];
    loop {
        let mut ended = 0;
        for (stream, taken) in slow.iter_mut().zip(&mut taken) {
            let read = stream.read(&mut piece).await.expect("the connection is not cut off");
            *taken += read;
            ended += usize::from(read == 0);
        }
        if ended == slow.len() {
            break;
        }
        pieces += 1;
        if pieces % 8 == 0 {
            let _idle = server.connect().await;
            assert_eq!(server.get("/healthz").await.status, 200);
        }
    }
    assert!(taken.iter().all(|taken| *taken > 16 << 20), "{taken:?}");
}

#[tokio::test]
async fn callers_who_take_no_byte_of_their_answers_shut_nobody_out() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let daemon = Daemon { history: long_history(), ..Daemon::default() };
    let server = start_with(daemon.spawn().0, ServeSettings::default(), limits).await;
    let mut stalled = Vec::new();
    for round in 0..3 {
        for _ in 0..limits.connections {
            let mut stream = server.connect().await;
            stream.write_all(HISTORY).await.unwrap();
            stalled.push(stream);
        }
        let answer = tokio::time::timeout(Duration::from_secs(45), server.get("/healthz")).await;
        assert_eq!(answer.unwrap().status, 200, "round {round}");
    }
}

#[tokio::test]
async fn no_answer_carries_a_cors_header_and_each_carries_those_that_shut_others_out() {
    let server = start(Daemon::default()).await;
    let mut requests: Vec<String> = METHODS.iter().map(|(path, ..)| with_origin("GET", path)).collect();
    requests.extend(METHODS.iter().map(|(path, ..)| with_origin("OPTIONS", path)));
    requests.push(with_origin("GET", "/nothing"));
    requests.push(with_origin("POST", "/api/v1/reset-id"));
    requests.push("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned());
    for request in requests {
        let answer = server.ask(&request).await;
        assert!(!answer.headers.keys().any(|name| name.starts_with("access-control-")), "{request}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{request}");
        }
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{request}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"));
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"));
    }
}

// The page.

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
    assert_eq!(page.matches("://").count(), 1, "the endpoint's, which is shown and not linked");
    assert!(!page.contains("style=") && !page.contains(" onclick") && !page.contains("<script>"));
    assert_eq!(server.get("/style.css").await.header("content-type"), Some("text/css; charset=utf-8"));
    assert_eq!(server.get("/page.js").await.header("content-type"), Some("text/javascript; charset=utf-8"));
}

// Listening and stopping.

#[tokio::test]
async fn a_unix_socket_is_for_owner_and_group_and_is_removed_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("telemetry.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a stale socket is there");
    let listener = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    assert_eq!(listener.local_addr(), format!("unix:{}", path.display()));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);

    let server = Server::new(listener, &ServeSettings::default(), desk(Daemon::default().spawn().0)).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let ask = |request: &'static str| async { exchange(UnixStream::connect(&path).await.unwrap(), request).await };
    assert_eq!(ask("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n").await.status, 200);
    assert_eq!(ask("GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n").await.status, 421);
    stop.send(()).unwrap();
    running.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "whether this is CI is the environment's to say")]
async fn a_unix_socket_has_the_group_of_a_directory_that_passes_its_group_on() {
    const GROUP: u32 = 54_321;
    let dir = tempfile::tempdir().unwrap();
    if std::os::unix::fs::chown(dir.path(), None, Some(GROUP)).is_err() {
        assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "CI must not skip what needs root");
        let name = "a_unix_socket_has_the_group_of_a_directory_that_passes_its_group_on";
        let _ = writeln!(std::io::stderr(), "SKIPPED {name}: only root may give a directory to another group");
        return;
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o2750)).unwrap();
    let path = dir.path().join("telemetry.sock");
    let _listener = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    let found = path.metadata().unwrap();
    assert_eq!((found.gid(), found.permissions().mode() & 0o777), (GROUP, 0o660));
}

#[tokio::test]
async fn neither_a_live_socket_nor_a_file_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("telemetry.sock");
    let first = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    let second = Listener::bind(&Listen::Unix(path.clone())).await.unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    assert!(path.exists());
    drop(first);

    std::fs::write(&path, "precious").unwrap();
    assert!(Listener::bind(&Listen::Unix(path.clone())).await.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_socket_that_another_process_has_put_there_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("telemetry.sock");
    let first = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    std::fs::rename(&path, dir.path().join("moved")).unwrap();
    let _second = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    drop(first);
    assert!(Path::exists(&path));
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_server_stops_and_an_idle_caller_is_not_waited_for() {
    let (handle, mut questions) = Handle::new(1);
    let hour = Duration::from_secs(3600);
    let limits = Limits { finish_time: hour, head_time: hour, connection_time: hour, ..Limits::default() };
    let (server, address) = bound(handle, ServeSettings::default(), limits).await;
    let _idle = TcpStream::connect(address).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let asking = tokio::spawn(async move {
        exchange(TcpStream::connect(address).await.unwrap(), "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
    });
    let Some(Command::Status { answer, .. }) = questions.recv().await else {
        unreachable!("only the status was asked")
    };
    stop.send(()).unwrap();
    // The door is closed first.
    while TcpStream::connect(address).await.is_ok() {}
    answer.send(status()).unwrap();
    assert_eq!(asking.await.unwrap().status, 200);
    running.await.unwrap();
}

#[tokio::test]
async fn a_request_that_gets_no_answer_does_not_keep_the_server_from_stopping() {
    let (handle, mut questions) = Handle::new(1);
    let limits = Limits { finish_time: Duration::from_millis(10), ..Limits::default() };
    let (server, address) = bound(handle, ServeSettings::default(), limits).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let _unanswered = questions.recv().await;
    stop.send(()).unwrap();
    running.await.unwrap();
}

/// Every path, what it allows, and methods that it does not.
const METHODS: [(&str, &str, [&str; 3]); 28] = [
    ("/", READS, ["POST", "PUT", "DELETE"]),
    ("/style.css", READS, ["POST", "PUT", "DELETE"]),
    ("/page.js", READS, ["POST", "PUT", "DELETE"]),
    ("/icon.svg", READS, ["POST", "PUT", "DELETE"]),
    ("/favicon.ico", READS, ["POST", "PUT", "DELETE"]),
    ("/docs/PRIVACY.md", READS, ["POST", "PUT", "DELETE"]),
    ("/docs/CONFIGURATION.md", READS, ["POST", "PUT", "DELETE"]),
    ("/docs/METRICS.md", READS, ["POST", "PUT", "DELETE"]),
    ("/docs/ping.schema.json", READS, ["POST", "PUT", "DELETE"]),
    ("/api/v1/preview", READS, ["POST", "PATCH", "TRACE"]),
    ("/api/v1/preview/bytes", READS, ["POST", "PUT", "DELETE"]),
    ("/api/v1/reset-id", "OPTIONS, POST", ["GET", "HEAD", "PUT"]),
    ("/api/v1/status", READS, ["POST", "PUT", "DELETE"]),
    ("/api/v1/posture", READS, ["POST", "PUT", "DELETE"]),
    ("/api/v1/history", "DELETE, GET, HEAD, OPTIONS", ["POST", "PUT", "PATCH"]),
    ("/api/v1/schema", READS, ["POST", "PUT", "DELETE"]),
    ("/api/v1/events", "DELETE, GET, HEAD, OPTIONS", ["POST", "PUT", "PATCH"]),
    ("/api/v1/switch", "OPTIONS, PUT", ["GET", "HEAD", "POST"]),
    ("/api/system/settings/telemetry-preview", READS, ["POST", "PUT", "DELETE"]),
    ("/api/system/settings/telemetry-reset-id", "OPTIONS, POST", ["GET", "HEAD", "PUT"]),
    ("/api/upgrade-metrics/events", "OPTIONS, POST", ["GET", "HEAD", "DELETE"]),
    ("/api/upgrade-metrics/stats", READS, ["POST", "PUT", "DELETE"]),
    ("/api/upgrade-metrics/health", READS, ["POST", "PUT", "DELETE"]),
    ("/api/upgrade-metrics/config", "GET, HEAD, OPTIONS, PUT", ["POST", "PATCH", "DELETE"]),
    ("/metrics", READS, ["POST", "PUT", "DELETE"]),
    ("/openapi.json", READS, ["POST", "PUT", "DELETE"]),
    ("/healthz", READS, ["POST", "PUT", "DELETE"]),
    ("/readyz", READS, ["POST", "PUT", "DELETE"]),
];

const READS: &str = "GET, HEAD, OPTIONS";

/// What the daemon answers.
struct Daemon {
    status: StatusReport,
    preview: Result<Preview, NoPreview>,
    reset: ResetAnswer,
    switch: SwitchAnswer,
    erased: bool,
    posture: Result<PostureSeen, NoPreview>,
    /// Pulse was read.
    has_read: bool,
    /// Lines of the ledger, the newest first; none: a line that repeats the question.
    history: Option<Vec<Value>>,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            status: status(),
            preview: Ok(preview()),
            reset: ResetAnswer::Done(Ok(preview())),
            switch: SwitchAnswer::Done { off: None, persisted: true },
            erased: true,
            posture: Ok(PostureSeen { posture: posture(), age: Duration::from_millis(7900) }),
            has_read: true,
            history: None,
        }
    }
}

type Asked = Arc<Mutex<Vec<&'static str>>>;

impl Daemon {
    /// Starts it, and tells what it was asked.
    fn spawn(self) -> (Handle, Asked) {
        let (handle, questions) = Handle::new(8);
        let asked = Asked::default();
        tokio::spawn(self.answer(questions, Arc::clone(&asked)));
        (handle, asked)
    }

    async fn answer(self, mut questions: mpsc::Receiver<Command>, asked: Asked) {
        while let Some(question) = questions.recv().await {
            let word = match question {
                Command::Status { is_looked_at, answer } => {
                    let word = if is_looked_at { "status" } else { "glance" };
                    answer.send(self.status.clone()).map_or("gone", |()| word)
                }
                Command::Snapshot(answer) => {
                    let known = Snapshot {
                        status: self.status.clone(),
                        preview: Some(self.preview.clone()).filter(|_| self.has_read),
                        posture: Some(self.posture.clone()).filter(|_| self.has_read),
                        commercial: Some(COMMERCIAL).filter(|_| self.has_read),
                    };
                    answer.send(known).map_or("gone", |()| "known")
                }
                Command::Preview(answer) => answer.send(self.preview.clone()).map_or("gone", |()| "preview"),
                Command::Posture(answer) => answer.send(self.posture.clone()).map_or("gone", |()| "posture"),
                Command::Reset(answer) => answer.send(self.reset.clone()).map_or("gone", |()| "reset"),
                Command::Switch { on, answer } => {
                    answer.send(self.switch).map_or("gone", |()| if on { "switch on" } else { "switch off" })
                }
                Command::History { before, limit, answer } => {
                    let asked_for = json!({"limit": limit, "before": before}).to_string();
                    let entries = self.history.as_ref().map_or_else(
                        || vec![RawValue::from_string(asked_for).unwrap()],
                        |lines| lines.iter().map(|line| RawValue::from_string(line.to_string()).unwrap()).collect(),
                    );
                    answer.send(Some(HistoryPage { entries, before: Some(7) })).map_or("gone", |()| "history")
                }
                Command::EraseHistory(answer) => answer.send(self.erased).map_or("gone", |()| "erase"),
                Command::Commercial(answer) => answer.send(Some(COMMERCIAL)).map_or("gone", |()| "commercial"),
            };
            asked.lock().unwrap().push(word);
        }
    }
}

const COMMERCIAL: Commercial = Commercial { disable_local_upgrade_metrics: false, reduce_pro_upsell_noise: true };

/// The daemon's desk, with a recorder that can keep nothing.
fn desk(daemon: Handle) -> Desk {
    let file = EventFile::new(Path::new("/nonexistent"));
    let recorder = Recorder::open(file, None, Box::new(SystemClock)).unwrap().0;
    Desk { daemon, events: Arc::new(recorder), metrics: Metrics::default() }
}

fn status() -> StatusReport {
    serde_json::from_value(json!({
        "version": "0.1.0",
        "running": true,
        "enabled": true,
        "off_by": null,
        "summary": "Telemetry is on.",
        "locked": false,
        "suppressed": null,
        "endpoint": "https://example.invalid/",
        "next": {"event": "heartbeat", "at": "2026-06-02T10:20:30Z"},
        "pending": {"event": "startup", "attempts": 2, "bytes": "{}"},
        "last": {
            "at": "2026-06-01T10:20:30Z",
            "event": "heartbeat",
            "outcome": "delivered",
            "reason": "delivered",
            "status": 204,
        },
        "id": {"issued_at": "2026-06-01T00:00:00Z", "rotates_at": "2026-07-01T00:00:00Z"},
        "state_dir": "/var/lib/pulse-telemetry",
        "writable": true,
        "confinement": {
            "no_new_privileges": true,
            "landlock": "fully",
            "outgoing_ports": [53, 443, 7655],
        },
        "as_of": "2026-06-01T22:52:04Z",
        "is_being_read": false,
        "warnings": [],
    }))
    .unwrap()
}

fn preview() -> Preview {
    Preview { enabled: true, bytes: PAYLOAD.to_owned(), age: Duration::from_millis(7900), paused_until: None }
}

/// One in which everything is known and nothing is as it is by default.
fn posture() -> Posture {
    let providers = vec![Provider { name: "anthropic", local: false }, Provider { name: "ollama", local: true }];
    Posture {
        ai: Ok(AiPosture { enabled: true, providers, other_providers: 1 }),
        relay: Ok(RelayPosture { state: RelayState::On, host: RelayHost::of("wss://relay.example/ws") }),
        updates: Ok(Updates { automatic: true, channel: UpdateChannel::Rc }),
        data_handling: Ok(Some(DataHandling {
            resources: 110,
            sensitivity: Covered(vec![("internal", 14), ("sensitive", 96)]),
            routing: Covered(vec![("cloud-summary", 14), ("local-first", 93), ("other", 3)]),
            redaction: Covered(vec![("hostname", 95)]),
        })),
    }
}

fn missing_scope() -> NoPreview {
    let unknown = UnknownReport {
        what: "ai_enabled".to_owned(),
        request: "GET /api/settings/ai".to_owned(),
        reason: "the token lacks the scope settings:read".to_owned(),
        required_scope: Some("settings:read".to_owned()),
    };
    let because = SuppressedReport {
        reason: LedgerReason::MissingScope.into(),
        message: "The API token may not read all that the ping needs.".to_owned(),
        unknown: vec![unknown],
    };
    NoPreview { enabled: true, because, retry_after: Duration::from_millis(8100) }
}

/// A server that is up.
struct Running {
    address: SocketAddr,
    asked: Asked,
}

async fn start(daemon: Daemon) -> Running {
    let (handle, asked) = daemon.spawn();
    Running { asked, ..start_with(handle, ServeSettings::default(), Limits::default()).await }
}

async fn start_guarded(settings: ServeSettings) -> Running {
    start_at("127.0.0.1:0", settings).await
}

async fn start_at(address: &str, settings: ServeSettings) -> Running {
    let (handle, asked) = Daemon::default().spawn();
    let listener = Listener::bind(&Listen::Tcp(address.parse().unwrap())).await.unwrap();
    let port = listener.local_addr().parse::<SocketAddr>().unwrap().port();
    tokio::spawn(Server::new(listener, &settings, desk(handle)).unwrap().run(std::future::pending()));
    Running { address: SocketAddr::from(([127, 0, 0, 1], port)), asked }
}

async fn start_with(handle: Handle, settings: ServeSettings, limits: Limits) -> Running {
    let (server, address) = bound(handle, settings, limits).await;
    tokio::spawn(server.run(std::future::pending()));
    Running { address, asked: Asked::default() }
}

async fn bound(handle: Handle, settings: ServeSettings, limits: Limits) -> (Server, SocketAddr) {
    let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let address = listener.local_addr().parse().unwrap();
    (Server::new(listener, &settings, desk(handle)).unwrap().with_limits(limits), address)
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn ask(&self, request: &str) -> Answer {
        exchange(self.connect().await, request).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
    }

    fn asked(&self) -> Vec<&'static str> {
        self.asked.lock().unwrap().clone()
    }
}

/// An answer, read until the server closed the connection.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(raw: &[u8]) -> Self {
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&raw[..end]).unwrap();
        let (first, headers) = head.split_once("\r\n").unwrap_or((head, ""));
        let headers = headers.lines().map(|line| line.split_once(": ").unwrap());
        Self {
            status: first.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: raw[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Sends a request, which may end in the middle, and reads until the server has closed the connection.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Answer {
    let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    // A server that refuses early may close before it has read everything.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut raw = Vec::new();
    let _ = stream.read_to_end(&mut raw).await;
    Answer::parse(&raw)
}

fn post(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
}

fn switch(body: &str) -> String {
    put("application/json", body)
}

fn put(content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "PUT /api/v1/switch HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: \
         {length}\r\n\r\n{body}"
    )
}

/// Each request that changes something, with these headers.
fn changes(headers: &str) -> [String; 3] {
    [post("/api/v1/reset-id"), post("/api/system/settings/telemetry-reset-id"), switch(r#"{"enabled":true}"#)]
        .map(|request| request.replacen("Host: localhost\r\n", &format!("Host: localhost:7656\r\n{headers}\r\n"), 1))
}

fn with_origin(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n")
}

fn hosts(texts: &[&str]) -> Vec<Host> {
    texts.iter().map(|text| Host::parse_bare(text).unwrap()).collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
