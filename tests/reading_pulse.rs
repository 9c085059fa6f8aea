//! Whatever Pulse answers, each fault has its own outcome, and none of them is a zero, a false or a panic.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod fake_pulse;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake_pulse::{Asked, Deed, FakePulse, answer, settings};
use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, SettingsError, Tokens};
use pulse_telemetry::snapshot::{OwnSender, Platform, ReadError, Reading, Reason, Scope};
use pulse_telemetry::wire::{Dial, DialError, Dialing};

const NODES: &str = "GET /api/resources?type=agent&source=proxmox&limit=1";

/// What is answered in place of a Pulse 6 on which all is well.
#[derive(Default)]
struct Script {
    instead: HashMap<&'static str, fn() -> Deed>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Script {
    fn on(mut self, request: &'static str, deed: fn() -> Deed) -> Self {
        self.instead.insert(request, deed);
        self
    }

    fn pulse(self) -> FakePulse {
        FakePulse::new(move |asked| {
            self.asked.lock().unwrap().push(asked.clone());
            self.instead.get(asked.line.as_str()).map_or_else(|| healthy(asked), |deed| deed())
        })
    }

    fn lines(asked: &Mutex<Vec<Asked>>) -> Vec<String> {
        asked.lock().unwrap().iter().map(|asked| asked.line.clone()).collect()
    }

    async fn read_with(self, tokens: Tokens) -> Result<Reading, ReadError> {
        read(settings(tokens), self.pulse()).await
    }

    async fn read(self) -> Reading {
        self.read_with(one()).await.unwrap()
    }

    /// What is unknown, and why, when one request is answered like this.
    async fn unknown(self) -> Vec<(&'static str, Reason)> {
        self.read().await.unknown().into_iter().map(|unknown| (unknown.what, unknown.reason.clone())).collect()
    }
}

async fn read(settings: PulseSettings, dial: impl Dial + 'static) -> Result<Reading, ReadError> {
    PulseClient::with_dial(settings, Box::new(dial)).unwrap().read().await
}

fn one() -> Tokens {
    Tokens::One("secret-token".into())
}

fn on(request: &'static str, deed: fn() -> Deed) -> Script {
    Script::default().on(request, deed)
}

fn ok(body: &str) -> Deed {
    answer(200, body)
}

fn healthy(asked: &Asked) -> Deed {
    let acme = asked.headers.get("x-pulse-org-id").is_some_and(|name| name == "acme");
    match asked.line.as_str() {
        "GET /api/health" => ok(r#"{"uptime":86400.5}"#),
        "GET /api/version" => ok(r#"{"version":"6.3.0","isDocker":true,"deploymentType":"docker"}"#),
        "GET /api/security/status" => ok(r#"{"ssoEnabled":true,"presentationPolicy":{"demoMode":false}}"#),
        "GET /api/system/settings" => ok(r#"{"telemetryEnabled":false,"envOverrides":{"PULSE_TELEMETRY":true}}"#),
        "GET /api/system/mock-mode" => ok(r#"{"enabled":false}"#),
        "GET /api/resources/stats" if acme => ok(r#"{"total":3,"byType":{"vm":2,"pbs":1}}"#),
        "GET /api/resources/stats" => {
            ok(r#"{"total":9,"byType":{"pbs":1,"pmg":2,"vm":3,"system-container":4,"docker-host":5,"k8s-cluster":6}}"#)
        }
        NODES => ok(r#"{"data":[{}],"meta":{"total":7}}"#),
        "GET /api/alerts/active" => ok("[{},{}]"),
        "GET /api/settings/ai" | "GET /api/settings/relay" => ok(r#"{"enabled":true}"#),
        "GET /api/orgs" => answer(501, r#"{"error":"feature_disabled"}"#),
        "GET /api/license/status" => ok(r#"{"tier":"pro"}"#),
        _ => answer(404, "404 page not found\n"),
    }
}

#[tokio::test]
async fn a_healthy_pulse_is_read_whole_with_as_few_requests_as_tell_all() {
    let script = Script::default();
    let asked = script.asked.clone();
    let reading = script.read().await;
    assert!(reading.unknown().is_empty());
    let s = reading.snapshot;
    let counts = [s.pve_nodes, s.pbs_instances, s.pmg_instances, s.vms, s.containers, s.docker_hosts];
    assert_eq!(counts, [Ok(7), Ok(1), Ok(2), Ok(3), Ok(4), Ok(5)]);
    assert_eq!((s.kubernetes_clusters, s.active_alerts), (Ok(6), Ok(2)));
    assert_eq!(
        [s.ai_enabled, s.relay_enabled, s.sso_enabled, s.multi_tenant],
        [Ok(true), Ok(true), Ok(true), Ok(false)]
    );
    assert_eq!((s.paid_license, s.has_api_tokens, s.platform), (Ok(true), Ok(true), Ok(Platform::Docker)));
    assert_eq!(reading.state.own_sender, Ok(OwnSender::OffByEnvironment));
    assert_eq!(
        [reading.state.mock_mode, reading.state.demo_mode, reading.state.starting],
        [Ok(false), Ok(false), Ok(false)]
    );
    assert!(!reading.state.uncounted_organizations);
    assert_eq!(
        Script::lines(&asked),
        [
            "GET /api/health",
            "GET /api/version",
            "GET /api/security/status",
            "GET /api/system/settings",
            "GET /api/system/mock-mode",
            "GET /api/resources/stats",
            NODES,
            "GET /api/alerts/active",
            "GET /api/settings/ai",
            "GET /api/settings/relay",
            "GET /api/orgs",
            "GET /api/license/status",
        ]
    );
}

#[tokio::test]
async fn a_request_says_who_asks_and_nothing_more() {
    let script = Script::default();
    let asked = script.asked.clone();
    let url = "https://pulse.test/behind/a/proxy/".parse().unwrap();
    let outcome = read(PulseSettings { url, ..settings(one()) }, script.pulse()).await;
    assert_eq!(outcome.unwrap().snapshot.version.map_err(|unknown| unknown.reason), Err(Reason::Status(404)));
    for asked in asked.lock().unwrap().iter() {
        assert!(asked.line.starts_with("GET /behind/a/proxy/api/"), "{}", asked.line);
        let expected = [
            ("host", "pulse.test"),
            ("user-agent", concat!("pulse-telemetry/", env!("CARGO_PKG_VERSION"))),
            ("accept", "application/json"),
            ("x-api-token", "secret-token"),
        ];
        assert_eq!(asked.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}

#[tokio::test]
async fn a_reading_shows_no_token_and_no_body() {
    let reading = on("GET /api/settings/ai", || answer(500, "planted words")).read().await;
    let shown = format!("{reading:?} {:?}", settings(one()));
    assert!(!shown.contains("planted") && !shown.contains("secret-token"), "{shown}");
}

/// Everything that is unknown for one request's sake is unknown for the same reason.
async fn each_request_fails_with(deed: fn() -> Deed, reason: Reason) {
    let stats =
        ["pve_nodes", "pbs_instances", "pmg_instances", "vms", "containers", "docker_hosts", "kubernetes_clusters"];
    let told: [(&'static str, &[&str]); 10] = [
        ("GET /api/health", &["starting"]),
        ("GET /api/version", &["version", "platform"]),
        ("GET /api/security/status", &["sso_enabled", "demo_mode"]),
        ("GET /api/system/settings", &["own_sender"]),
        ("GET /api/system/mock-mode", &["mock_mode"]),
        ("GET /api/resources/stats", &stats),
        (NODES, &["pve_nodes"]),
        ("GET /api/alerts/active", &["active_alerts"]),
        ("GET /api/settings/ai", &["ai_enabled"]),
        ("GET /api/license/status", &["paid_license"]),
    ];
    for (request, unknown) in told {
        let expected: Vec<_> = unknown.iter().map(|what| (*what, reason.clone())).collect();
        assert_eq!(on(request, deed).unknown().await, expected, "{request}");
    }
}

#[tokio::test]
async fn a_server_error_is_told_by_its_status() {
    each_request_fails_with(|| answer(500, ""), Reason::Status(500)).await;
    each_request_fails_with(|| answer(503, "[]"), Reason::Status(503)).await;
    each_request_fails_with(|| answer(204, ""), Reason::Status(204)).await;
    assert_eq!(on("GET /api/orgs", || answer(500, "")).unknown().await, [("multi_tenant", Reason::Status(500))]);
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_told() {
    each_request_fails_with(|| ok("<html>Welcome</html>"), Reason::NotJson).await;
}

#[tokio::test]
async fn what_is_no_http_is_told_as_no_json() {
    let deed = || Deed { bytes: b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), hold: false };
    each_request_fails_with(deed, Reason::NotJson).await;
}

#[tokio::test]
async fn an_answer_of_another_shape_is_told() {
    each_request_fails_with(|| ok("\"[]\""), Reason::WrongShape).await;
    for (request, body) in [
        ("GET /api/health", (|| ok(r#"{"uptime":"long"}"#)) as fn() -> Deed),
        ("GET /api/health", || ok("{}")),
        ("GET /api/settings/ai", || ok(r#"{"enabled":"true"}"#)),
        ("GET /api/settings/ai", || ok(r#"{"enabled":null}"#)),
        ("GET /api/settings/relay", || ok("{}")),
        ("GET /api/license/status", || ok(r#"{"tier":""}"#)),
        ("GET /api/license/status", || ok("{}")),
        ("GET /api/license/status", || ok(r#"{"tier":1}"#)),
        (NODES, || ok(r#"{"meta":{}}"#)),
        (NODES, || ok(r#"{"meta":{"total":1.5}}"#)),
        (NODES, || ok(r#"{"meta":{"total":"7"}}"#)),
        ("GET /api/alerts/active", || ok("{}")),
        ("GET /api/system/settings", || ok(r#"{"telemetryEnabled":"false"}"#)),
        ("GET /api/system/settings", || ok(r#"{"telemetryEnabled":null}"#)),
        ("GET /api/system/settings", || ok("[]")),
        ("GET /api/system/settings", || ok(r#"{"telemetryEnabled":false,"envOverrides":[]}"#)),
        ("GET /api/security/status", || ok(r#"{"ssoEnabled":true,"presentationPolicy":[]}"#)),
        ("GET /api/system/settings", || ok(r#"{"telemetryEnabled":false,"envOverrides":{"PULSE_TELEMETRY":"yes"}}"#)),
        ("GET /api/system/mock-mode", || ok("{}")),
    ] {
        let unknown = on(request, body).unknown().await;
        assert!(unknown.len() == 1 && unknown[0].1 == Reason::WrongShape, "{request}: {unknown:?}");
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_told() {
    let deed = || Deed { bytes: b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[".to_vec(), hold: false };
    each_request_fails_with(deed, Reason::CutShort).await;
    let chunked =
        || Deed { bytes: b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[]\r\n".to_vec(), hold: false };
    each_request_fails_with(chunked, Reason::CutShort).await;
    // Without a length, the end of the connection is the end of the body: only the JSON tells.
    let unframed = || Deed { bytes: b"HTTP/1.1 200 OK\r\n\r\n[".to_vec(), hold: false };
    assert_eq!(on("GET /api/alerts/active", unframed).unknown().await, [("active_alerts", Reason::CutShort)]);
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_told() {
    each_request_fails_with(|| Deed { bytes: Vec::new(), hold: false }, Reason::CutShort).await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_told_after_the_time_out() {
    each_request_fails_with(|| Deed { bytes: Vec::new(), hold: true }, Reason::TimedOut).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_arriving_is_told_after_the_time_out() {
    let deed = || Deed { bytes: b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[".to_vec(), hold: true };
    each_request_fails_with(deed, Reason::TimedOut).await;
}

#[tokio::test]
async fn a_redirect_is_told_and_never_followed() {
    let deed = || Deed {
        bytes: b"HTTP/1.1 307 X\r\nlocation: /api/elsewhere\r\ncontent-length: 0\r\n\r\n".to_vec(),
        hold: false,
    };
    each_request_fails_with(deed, Reason::Redirected).await;
    let script = on("GET /api/settings/ai", deed);
    let asked = script.asked.clone();
    script.read().await;
    assert!(!Script::lines(&asked).contains(&"GET /api/elsewhere".to_owned()));
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_told_and_not_kept() {
    let large = || answer(200, format!("{{\"enabled\":true}}{}", " ".repeat(256 * 1024)));
    assert_eq!(on("GET /api/settings/ai", large).unknown().await, [("ai_enabled", Reason::TooLarge)]);
    assert_eq!(on(NODES, large).unknown().await, [("pve_nodes", Reason::WrongShape)], "a resource may be larger");
    let larger = || answer(200, format!("{{\"meta\":{{\"total\":1}}}}{}", " ".repeat(1024 * 1024)));
    assert_eq!(on(NODES, larger).unknown().await, [("pve_nodes", Reason::TooLarge)]);
    let alerts = || answer(200, format!("[{}0]", "0,".repeat(1024 * 1024)));
    assert_eq!(on("GET /api/alerts/active", alerts).read().await.snapshot.active_alerts, Ok(1024 * 1024 + 1));
}

#[tokio::test]
async fn a_count_beyond_the_contract_is_told() {
    for body in ["-1", "10000001", "99999999999999999999", "1e300"] {
        let pulse = FakePulse::new(move |asked| match asked.line.as_str() {
            NODES => ok(&format!(r#"{{"meta":{{"total":{body}}}}}"#)),
            _ => healthy(asked),
        });
        let reading = read(settings(one()), pulse).await.unwrap();
        assert_eq!(reading.snapshot.pve_nodes.map_err(|unknown| unknown.reason), Err(Reason::OutOfBounds), "{body}");
    }
    let most = || ok(r#"{"meta":{"total":10000000}}"#);
    assert_eq!(on(NODES, most).read().await.snapshot.pve_nodes, Ok(10_000_000));
    let version = || ok(&format!(r#"{{"version":"1.2.3-{}","isDocker":false}}"#, "x".repeat(300)));
    assert_eq!(on("GET /api/version", version).unknown().await, [("version", Reason::OutOfBounds)]);
}

#[tokio::test]
async fn a_token_that_is_not_accepted_ends_the_reading() {
    for request in ["GET /api/health", "GET /api/system/settings", "GET /api/orgs", "GET /api/alerts/active", NODES] {
        for refusal in [
            || answer(401, r#"{"error":"Authentication required"}"#),
            || answer(401, r#"{"error":"missing_scope","requiredScope":"settings:read"}"#),
            || answer(403, r#"{"error":"forbidden"}"#),
            || answer(403, r#"{"error":"forbidden","requiredScope":"settings:read"}"#),
            || answer(403, "<html>"),
            || answer(403, " ".repeat(1024 * 1024)),
        ] {
            assert_eq!(on(request, refusal).read_with(one()).await, Err(ReadError::Unauthorized), "{request}");
        }
    }
}

#[tokio::test]
async fn a_missing_scope_is_told_and_everything_else_is_read() {
    let refusal = || answer(403, r#"{"error":"missing_scope","requiredScope":"monitoring:read"}"#);
    each_request_fails_with(refusal, Reason::MissingScope(Scope::new("monitoring:read"))).await;
    let planted = || answer(403, r#"{"error":"missing_scope","requiredScope":"Host pve1.example.org"}"#);
    let unknown = on("GET /api/orgs", planted).unknown().await;
    assert_eq!(unknown, [("multi_tenant", Reason::MissingScope(Scope::new("unnamed")))]);
}

#[tokio::test]
async fn a_refusal_that_ends_early_is_not_taken_for_a_refused_token() {
    let deed = || Deed { bytes: b"HTTP/1.1 403 X\r\ncontent-length: 99\r\n\r\n{".to_vec(), hold: false };
    each_request_fails_with(deed, Reason::CutShort).await;
}

#[tokio::test]
async fn a_feature_that_is_not_licensed_is_off() {
    for request in ["GET /api/settings/ai", "GET /api/settings/relay", "GET /api/orgs", "GET /api/license/status"] {
        assert_eq!(on(request, || answer(402, r#"{"error":"license_required"}"#)).unknown().await, [], "{request}");
    }
    let reading = on("GET /api/settings/relay", || answer(402, "")).read().await;
    assert_eq!(reading.snapshot.relay_enabled, Ok(false));
    let unknown = on("GET /api/security/status", || answer(402, "")).unknown().await;
    assert_eq!(unknown, [("sso_enabled", Reason::Status(402)), ("demo_mode", Reason::Status(402))]);
}

#[tokio::test]
async fn a_501_says_only_of_organizations_that_they_are_off() {
    each_request_fails_with(|| answer(501, ""), Reason::Status(501)).await;
}

#[tokio::test]
async fn a_route_that_is_not_there_is_a_feature_that_is_not_there() {
    let gone = || answer(404, "404 page not found\n");
    let mut script = Script::default();
    for request in [
        "GET /api/health",
        "GET /api/security/status",
        "GET /api/system/settings",
        "GET /api/system/mock-mode",
        "GET /api/alerts/active",
        "GET /api/settings/ai",
        "GET /api/settings/relay",
        "GET /api/orgs",
        "GET /api/license/status",
    ] {
        script = script.on(request, gone);
    }
    let reading = script.read().await;
    assert!(reading.unknown().is_empty(), "{:?}", reading.unknown());
    let (s, p) = (reading.snapshot, reading.state);
    for flag in [
        s.ai_enabled,
        s.relay_enabled,
        s.sso_enabled,
        s.multi_tenant,
        s.paid_license,
        p.mock_mode,
        p.demo_mode,
        p.starting,
    ] {
        assert_eq!(flag, Ok(false));
    }
    assert_eq!((s.active_alerts, p.own_sender), (Ok(0), Ok(OwnSender::Absent)));

    let unknown = on("GET /api/version", gone).unknown().await;
    assert_eq!(unknown, [("version", Reason::Status(404)), ("platform", Reason::Status(404))]);
    assert_eq!(on(NODES, gone).unknown().await, [("pve_nodes", Reason::Status(404))]);
    let neither = on("GET /api/resources/stats", gone).read().await;
    assert_eq!(neither.unknown().len(), 7);
    assert!(neither.unknown().iter().all(|u| u.request == "GET /api/state" && u.reason == Reason::Status(404)));
}

#[tokio::test]
async fn after_a_429_nothing_more_is_asked_and_the_rest_is_unknown() {
    let deed = |after: &'static str| Deed {
        bytes: format!("HTTP/1.1 429 X\r\n{after}content-length: 0\r\n\r\n").into_bytes(),
        hold: false,
    };
    let script = Script::default().on("GET /api/resources/stats", || Deed {
        bytes: b"HTTP/1.1 429 X\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n".to_vec(),
        hold: false,
    });
    let asked = script.asked.clone();
    let reading = script.read().await;
    assert_eq!(Script::lines(&asked).last().unwrap(), "GET /api/resources/stats");
    assert_eq!(reading.retry_after, Some(Duration::from_secs(120)));
    let unknown = reading.unknown();
    assert_eq!(unknown.len(), 12, "{unknown:?}");
    assert!(unknown.iter().all(|unknown| unknown.reason == Reason::RateLimited));

    for (header, seconds) in [
        ("", 60),
        ("retry-after: soon\r\n", 60),
        ("retry-after: Mon, 23 Nov 2026 10:00:00 GMT\r\n", 60),
        ("retry-after: -5\r\n", 60),
        ("retry-after: 0\r\n", 0),
        ("retry-after: 86401\r\n", 86_400),
        ("retry-after: 18446744073709551615\r\n", 86_400),
    ] {
        let reading = read(settings(one()), FakePulse::new(move |_| deed(header))).await.unwrap();
        assert_eq!(reading.retry_after, Some(Duration::from_secs(seconds)), "{header}");
        assert_eq!(reading.unknown().len(), 20, "nothing is known");
    }
}

/// No connection, from the request on that has this number.
struct Unreachable {
    pulse: FakePulse,
    left: Mutex<u32>,
    silent: bool,
}

impl Dial for Unreachable {
    fn dial(&self) -> Dialing<'_> {
        let mut left = self.left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return self.pulse.dial();
        }
        let silent = self.silent;
        Box::pin(async move {
            if silent {
                std::future::pending::<()>().await;
            }
            Err(DialError("connection refused".to_owned()))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn no_connection_at_any_request_ends_the_reading() {
    for left in 0..12 {
        for (silent, text) in [(false, "connection refused"), (true, "no connection within pulse.timeout")] {
            let dial = Unreachable { pulse: FakePulse::new(healthy), left: Mutex::new(left), silent };
            let outcome = read(settings(one()), dial).await;
            assert_eq!(outcome, Err(ReadError::Unreachable(text.to_owned())), "{left}");
        }
    }
}

#[tokio::test]
async fn pulse_5_is_told_by_its_stats_and_counted_from_its_state() {
    fn five() -> Script {
        on("GET /api/resources/stats", || ok(r#"{"totalResources":28,"byType":{"vm":4}}"#))
    }
    let whole = r#"{"nodes":[{"vms":[1]}],"pbs":null,"pmg":[],"vms":[1,2],"containers":[[],[],[]],
        "dockerHosts":[1,2,3,4],"kubernetesClusters":[1,2,3,4,5],"activeAlerts":null}"#;
    let pulse = FakePulse::new(move |asked| match asked.line.as_str() {
        "GET /api/state" => ok(whole),
        "GET /api/resources/stats" => ok(r#"{"totalResources":28}"#),
        NODES => panic!("Pulse 5 counts by its state"),
        _ => healthy(asked),
    });
    let reading = read(settings(one()), pulse).await.unwrap();
    assert!(reading.unknown().is_empty());
    let s = reading.snapshot;
    assert_eq!([s.pve_nodes, s.pbs_instances, s.pmg_instances, s.vms], [Ok(1), Ok(0), Ok(0), Ok(2)]);
    assert_eq!([s.containers, s.docker_hosts, s.kubernetes_clusters, s.active_alerts], [Ok(3), Ok(4), Ok(5), Ok(2)]);

    let partial = five().on("GET /api/state", || ok(r#"{"nodes":[],"pbs":[],"pmg":[],"vms":[],"containers":[]}"#));
    let expected = [("docker_hosts", Reason::WrongShape), ("kubernetes_clusters", Reason::WrongShape)];
    assert_eq!(partial.unknown().await, expected);
    for (deed, reason) in [
        ((|| ok("[]")) as fn() -> Deed, Reason::WrongShape),
        (|| ok(r#"{"nodes":7}"#), Reason::WrongShape),
        (|| ok(r#"{"nodes":["#), Reason::CutShort),
        (|| ok("{'nodes'"), Reason::NotJson),
        (|| answer(200, "[".repeat(1000)), Reason::WrongShape),
        (|| answer(404, ""), Reason::Status(404)),
        (|| answer(502, ""), Reason::Status(502)),
    ] {
        let unknown = five().on("GET /api/state", deed).unknown().await;
        assert_eq!(unknown.len(), 7);
        assert!(unknown.iter().all(|(_, why)| *why == reason), "{unknown:?}");
    }
}

#[tokio::test]
async fn stats_that_are_neither_of_5_nor_of_6_are_not_counted() {
    for body in [(|| ok("{}")) as fn() -> Deed, || ok(r#"{"byType":{"vm":3}}"#)] {
        let unknown = on("GET /api/resources/stats", body).unknown().await;
        assert_eq!(unknown.len(), 7);
        assert!(unknown.iter().all(|(_, reason)| *reason == Reason::WrongShape));
    }
    for types in [(|| ok(r#"{"total":9}"#)) as fn() -> Deed, || ok(r#"{"total":9,"byType":[]}"#)] {
        let unknown = on("GET /api/resources/stats", types).unknown().await;
        assert_eq!(unknown.len(), 6, "the nodes have a request of their own");
    }
    let none = on("GET /api/resources/stats", || ok(r#"{"total":0,"byType":{"other":"x"}}"#)).read().await;
    assert_eq!((none.snapshot.vms, none.snapshot.kubernetes_clusters), (Ok(0), Ok(0)));
    let one_wrong = on("GET /api/resources/stats", || ok(r#"{"total":0,"byType":{"vm":"3"}}"#)).unknown().await;
    assert_eq!(one_wrong, [("vms", Reason::WrongShape)]);
}

fn two() -> Tokens {
    Tokens::Organizations(vec![("acme".to_owned(), "a".into()), ("default".to_owned(), "d".into())])
}

#[tokio::test]
async fn organizations_are_summed_and_flags_are_those_of_the_default_one() {
    let script = on("GET /api/orgs", || ok("[{},{}]"));
    let asked = script.asked.clone();
    let reading = script.read_with(two()).await.unwrap();
    assert!(reading.unknown().is_empty());
    let s = reading.snapshot;
    assert_eq!([s.pve_nodes, s.pbs_instances, s.pmg_instances, s.vms], [Ok(14), Ok(2), Ok(2), Ok(5)]);
    assert_eq!((s.active_alerts, s.multi_tenant), (Ok(4), Ok(true)));
    assert!(!reading.state.uncounted_organizations);
    for asked in asked.lock().unwrap().iter() {
        let name = asked.headers["x-pulse-org-id"].as_str();
        assert_eq!(asked.headers["x-api-token"], name[..1], "each organization has its own token");
        let counted = ["GET /api/resources/stats", NODES, "GET /api/alerts/active"].contains(&asked.line.as_str());
        assert!(name == "default" || counted, "{} of {name}", asked.line);
    }
    assert_eq!(asked.lock().unwrap().len(), 12 + 3);
}

#[tokio::test]
async fn each_organization_is_read_by_its_own_shape() {
    let pulse = FakePulse::new(|asked| match (asked.headers["x-pulse-org-id"].as_str(), asked.line.as_str()) {
        ("acme", "GET /api/resources/stats") => answer(404, ""),
        ("acme", "GET /api/state") => ok(
            r#"{"nodes":[1],"pbs":[],"pmg":[],"vms":[1,2],"containers":[],"dockerHosts":[],"kubernetesClusters":[]}"#,
        ),
        _ => healthy(asked),
    });
    let s = read(settings(two()), pulse).await.unwrap().snapshot;
    assert_eq!((s.pve_nodes, s.vms), (Ok(8), Ok(5)));
}

#[tokio::test]
async fn one_organization_that_is_unknown_makes_the_sum_unknown() {
    let pulse = FakePulse::new(|asked| match (asked.headers["x-pulse-org-id"].as_str(), asked.line.as_str()) {
        ("acme", "GET /api/alerts/active") => answer(500, ""),
        (_, NODES) => ok(r#"{"meta":{"total":6000000}}"#),
        _ => healthy(asked),
    });
    let s = read(settings(two()), pulse).await.unwrap().snapshot;
    assert_eq!(s.active_alerts.map_err(|unknown| unknown.reason), Err(Reason::Status(500)));
    assert_eq!(s.pve_nodes.map_err(|unknown| unknown.reason), Err(Reason::OutOfBounds), "each alone is within them");
}

#[tokio::test]
async fn organizations_that_a_single_token_does_not_count_are_told() {
    let orgs = || ok("[{}]");
    assert!(on("GET /api/orgs", orgs).read().await.state.uncounted_organizations);
    assert!(!on("GET /api/orgs", orgs).read_with(two()).await.unwrap().state.uncounted_organizations);
}

#[tokio::test]
async fn pulses_own_sender_is_read_with_who_switched_it() {
    for (deed, own_sender) in [
        (
            (|| ok(r#"{"telemetryEnabled":true,"envOverrides":{"PULSE_TELEMETRY":true}}"#)) as fn() -> Deed,
            OwnSender::On,
        ),
        (|| ok("{}"), OwnSender::Absent),
        (|| ok(r#"{"telemetryEnabled":false}"#), OwnSender::OffBySetting),
        (|| ok(r#"{"telemetryEnabled":false,"envOverrides":null}"#), OwnSender::OffBySetting),
        (|| ok(r#"{"telemetryEnabled":false,"envOverrides":{"PULSE_TELEMETRY":false}}"#), OwnSender::OffBySetting),
        (|| ok(r#"{"telemetryEnabled":false,"envOverrides":{"PULSE_TELEMETRY":true}}"#), OwnSender::OffByEnvironment),
        (|| ok(r#"{"telemetryEnabled":false,"envOverrides":{"telemetryEnabled":true}}"#), OwnSender::OffByEnvironment),
    ] {
        assert_eq!(on("GET /api/system/settings", deed).read().await.state.own_sender, Ok(own_sender));
    }
}

#[tokio::test]
async fn mock_data_is_told_by_the_version_or_by_its_own_route() {
    let mock = || ok(r#"{"version":"6.3.0","isDocker":false,"deploymentType":"mock"}"#);
    let script = on("GET /api/version", mock);
    let asked = script.asked.clone();
    assert_eq!(script.read().await.state.mock_mode, Ok(true));
    assert!(!Script::lines(&asked).contains(&"GET /api/system/mock-mode".to_owned()));

    let enabled = || ok(r#"{"enabled":true}"#);
    assert_eq!(on("GET /api/system/mock-mode", enabled).read().await.state.mock_mode, Ok(true));
    let neither = on("GET /api/system/mock-mode", || answer(404, "")).on("GET /api/version", || answer(500, ""));
    assert!(neither.unknown().await.contains(&("mock_mode", Reason::Status(500))));
}

#[tokio::test]
async fn single_sign_on_and_demo_mode_are_read_in_old_words_and_new() {
    for (body, sso) in [
        (r#"{"ssoEnabled":false,"oidcEnabled":true}"#, Ok(false)),
        (r#"{"oidcEnabled":true,"ssoProviders":[]}"#, Ok(true)),
        (r#"{"oidcEnabled":false,"ssoProviders":[{}]}"#, Ok(true)),
        (r#"{"oidcEnabled":false,"ssoProviders":null}"#, Ok(false)),
        (r#"{"ssoProviders":[]}"#, Ok(false)),
        (r#"{"oidcEnabled":false,"ssoProviders":{}}"#, Err(Reason::WrongShape)),
        (r#"{"ssoEnabled":"no"}"#, Err(Reason::WrongShape)),
        ("{}", Err(Reason::WrongShape)),
    ] {
        let security = move |asked: &Asked| match asked.line.as_str() {
            "GET /api/security/status" => ok(body),
            _ => healthy(asked),
        };
        let reading = read(settings(one()), FakePulse::new(security)).await.unwrap();
        assert_eq!(reading.snapshot.sso_enabled.map_err(|unknown| unknown.reason), sso, "{body}");
        assert_eq!(reading.state.demo_mode, Ok(false), "{body}");
    }
    let demo = || ok(r#"{"ssoEnabled":true,"presentationPolicy":{"demoMode":true}}"#);
    assert_eq!(on("GET /api/security/status", demo).read().await.state.demo_mode, Ok(true));
    let wrong = || ok(r#"{"ssoEnabled":true,"presentationPolicy":{"demoMode":1}}"#);
    assert_eq!(on("GET /api/security/status", wrong).unknown().await, [("demo_mode", Reason::WrongShape)]);
}

#[tokio::test]
async fn a_pulse_that_has_just_started_is_told() {
    assert_eq!(on("GET /api/health", || ok(r#"{"uptime":119.9}"#)).read().await.state.starting, Ok(true));
    assert_eq!(on("GET /api/health", || ok(r#"{"uptime":120}"#)).read().await.state.starting, Ok(false));
}

#[tokio::test]
async fn tokens_are_asked_for_only_where_none_has_been_of_use() {
    for (deed, has) in [
        ((|| ok(r#"{"tokens":[{}]}"#)) as fn() -> Deed, Ok(true)),
        (|| ok(r#"{"tokens":[]}"#), Ok(false)),
        (|| ok(r#"{"tokens":null}"#), Ok(false)),
        (|| answer(404, ""), Ok(false)),
        (|| ok("{}"), Err(Reason::WrongShape)),
        (|| answer(500, ""), Err(Reason::Status(500))),
    ] {
        let reading = on("GET /api/security/tokens", deed).read_with(Tokens::None).await.unwrap();
        assert_eq!(reading.snapshot.has_api_tokens.map_err(|unknown| unknown.reason), has);
    }
    // What everybody may read proves nothing about the token.
    let pulse = FakePulse::new(|asked| match asked.line.as_str() {
        "GET /api/health" | "GET /api/version" | "GET /api/security/status" => healthy(asked),
        _ => answer(500, ""),
    });
    let reading = read(settings(one()), pulse).await.unwrap();
    assert_eq!(reading.snapshot.has_api_tokens.map_err(|unknown| unknown.reason), Err(Reason::Status(500)));
}

#[tokio::test]
async fn the_platform_setting_wins_over_what_pulse_says() {
    let settings = PulseSettings { platform: PlatformSetting::Binary, ..settings(one()) };
    let s = read(settings, FakePulse::new(healthy)).await.unwrap().snapshot;
    assert_eq!(s.platform, Ok(Platform::Binary));
}

#[test]
fn settings_that_cannot_work_are_refused_without_showing_a_token() {
    let refused = |settings| match PulseClient::with_dial(settings, Box::new(FakePulse::new(healthy))) {
        Ok(_) => panic!("accepted"),
        Err(error) => error,
    };
    for url in ["ftp://pulse.test", "/api", "pulse.test:7655", "http://me:pass@pulse.test", "http://pulse.test/?a=b"] {
        let settings = PulseSettings { url: url.parse().unwrap(), ..settings(one()) };
        assert!(matches!(refused(settings), SettingsError::Url), "{url}");
    }
    for token in ["", " ", "two\nlines", "a\0b"] {
        let error = refused(settings(Tokens::One(token.into())));
        assert!(matches!(error, SettingsError::Token), "{token:?}");
    }
    let named = |names: &[&str]| Tokens::Organizations(names.iter().map(|n| ((*n).to_owned(), "t".into())).collect());
    assert!(matches!(refused(settings(named(&[]))), SettingsError::NoDefaultOrganization));
    assert!(matches!(refused(settings(named(&["acme"]))), SettingsError::NoDefaultOrganization));
    assert!(matches!(refused(settings(named(&["default", "default"]))), SettingsError::OrganizationTwice));
    assert!(matches!(refused(settings(named(&["default", "a", "a"]))), SettingsError::OrganizationTwice));
    assert!(matches!(refused(settings(named(&["default", "a\nb"]))), SettingsError::OrganizationName));
}
