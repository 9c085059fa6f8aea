//! Whatever Pulse answers, each fault has its own outcome, and none of them is a zero, a false or a panic.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, SettingsError, Tokens};
use pulse_telemetry::status::SuppressedReport;
use pulse_telemetry_core::credential::{Credential, TokenOrigins};
use pulse_telemetry_core::engine::Suppression;
use pulse_telemetry_core::observation::{OrganizationNames, OwnSender, Platform, ReadError, Reading, Reason, Scope};
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_http::wire::{Dial, DialError, Dialing, Stream};
use pulse_telemetry_testkit::pulse::{
    self, Counts, MONITORING_READ, Orgs, PLANTED, PulseModel, Relay, SETTINGS_READ, SimulatedPulse, TOKEN, Token,
};
use pulse_telemetry_testkit::server::{Answer, Body, RequestRecord, ResponsePlan, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::time;

const STATS: &str = "/api/resources/stats";
const SUMMARY: &str = "/api/state/summary";
const NODES: &str = "/api/resources";
const ALERTS: &str = "/api/alerts/active";
const ORGS: &str = "/api/orgs";
const SETTINGS: &str = "/api/system/settings";
const SECURITY: &str = "/api/security/status";

/// A request, and what it tells.
type Told = (&'static str, &'static [&'static str]);

/// The requests of a reading, in their order, and what each one tells.
const TOLD: [Told; 11] = [
    ("/api/health", &["starting"]),
    ("/api/version", &["version", "platform"]),
    (SECURITY, &["sso_enabled", "demo_mode"]),
    (SETTINGS, &["own_sender"]),
    ("/api/system/mock-mode", &["mock_mode"]),
    (STATS, ALL_COUNTS),
    (SUMMARY, &["pve_nodes", "vms", "containers", "docker_hosts", "active_alerts"]),
    ("/api/settings/ai", &["ai_enabled"]),
    ("/api/settings/relay", &["relay_enabled"]),
    (ORGS, &["multi_tenant"]),
    ("/api/license/status", &["paid_license"]),
];
const ALL_COUNTS: &[&str] = &[
    "pve_nodes",
    "pbs_instances",
    "pmg_instances",
    "vms",
    "containers",
    "docker_hosts",
    "kubernetes_clusters",
    "active_alerts",
];

/// As `TOLD`, of a build before 6.0.0-rc.7, where there is no summary.
const TOLD_WITHOUT_SUMMARY: [Told; 4] = [
    (STATS, ALL_COUNTS),
    ("/api/resources?type=agent&source=proxmox&limit=1", &["pve_nodes"]),
    ("/api/resources?type=agent,docker-host&source=docker&limit=1", &["docker_hosts"]),
    (ALERTS, &["active_alerts"]),
];

/// The longest that a request may take here.
const TIMEOUT: Duration = Duration::from_secs(90);

// ---- what is asked

#[tokio::test]
async fn a_healthy_pulse_is_read_whole_with_as_few_requests_as_tell_all() {
    let pulse = SimulatedPulse::start(healthy());
    let reading = read(&pulse).await;
    assert!(reading.unknown().is_empty());
    let s = reading.values();
    let counts = [s.pve_nodes, s.pbs_instances, s.pmg_instances, s.vms, s.containers, s.docker_hosts];
    assert_eq!(counts, [Ok(7), Ok(1), Ok(2), Ok(3), Ok(4), Ok(5)]);
    assert_eq!((s.kubernetes_clusters, s.active_alerts), (Ok(6), Ok(8)));
    assert_eq!(
        [s.ai_enabled, s.relay_enabled, s.sso_enabled, s.multi_tenant],
        [Ok(true), Ok(true), Ok(true), Ok(false)]
    );
    assert_eq!((s.paid_license, s.has_api_tokens, s.platform), (Ok(true), Ok(true), Ok(Platform::Docker)));
    assert_eq!(s.version.unwrap().version, "6.3.0");
    assert_eq!(reading.gate.own_sender, Ok(OwnSender::OffByEnvironment));
    assert_eq!(
        [reading.gate.mock_mode, reading.gate.demo_mode, reading.gate.starting],
        [Ok(false), Ok(false), Ok(false)]
    );
    assert_eq!(reading.gate.organizations, Ok(()));
    let asked: Vec<_> = pulse.server.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(asked, TOLD.map(|(target, _)| target));
}

#[tokio::test]
async fn a_pulse_that_has_nothing_is_read_as_zeros_and_false() {
    let model = PulseModel {
        counts: Counts::default(),
        ai: false,
        relay: Relay::Disabled,
        sso: false,
        tier: "free".to_owned(),
        ..healthy()
    };
    let reading = read(&SimulatedPulse::start(model)).await;
    assert!(reading.unknown().is_empty());
    let s = reading.values();
    let counts = [s.pve_nodes, s.pbs_instances, s.pmg_instances, s.vms, s.containers, s.docker_hosts];
    assert_eq!(counts, [const { Ok(0) }; 6]);
    assert_eq!((s.kubernetes_clusters, s.active_alerts), (Ok(0), Ok(0)));
    assert_eq!([s.ai_enabled, s.relay_enabled, s.sso_enabled, s.paid_license], [const { Ok(false) }; 4]);
}

#[tokio::test]
async fn a_request_says_who_asks_and_nothing_more() {
    let pulse = SimulatedPulse::start(healthy());
    let url = "https://pulse.test/behind/a/proxy/".parse().unwrap();
    let outcome = read_by(Dialer::to(&pulse), PulseSettings { url, ..settings(&pulse.url(), one()) }).await;
    // There is nothing below that path.
    assert!(matches!(outcome, Err(ReadError::NotPulse(_))), "{outcome:?}");
    let requests = pulse.server.requests();
    assert_eq!(requests[0].target, "/behind/a/proxy/api/health");
    for (n, request) in requests.into_iter().enumerate() {
        assert!(request.target.starts_with("/behind/a/proxy/api/"), "{}", request.target);
        let expected = [
            ("host", "pulse.test"),
            ("user-agent", concat!("pulse-telemetry/", env!("CARGO_PKG_VERSION"))),
            ("accept", "application/json"),
            ("x-api-token", TOKEN),
        ];
        assert_eq!(request.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!((request.method.as_str(), request.body.len()), ("GET", 0));
        assert_eq!(request.connection, n + 1, "each request has a connection of its own");
    }
}

#[tokio::test]
async fn a_reading_shows_no_token_and_no_body() {
    for model in [healthy(), PulseModel::v5()] {
        let pulse = SimulatedPulse::start(model);
        pulse.replace("/api/settings/ai", ResponsePlan::text(500, "planted words"));
        pulse.replace("/api/settings/relay", ok(r#"{"enabled":"planted words"}"#));
        pulse.replace(ORGS, ResponsePlan::json(403, &missing_scope("planted words")));
        let reading = read(&pulse).await;
        assert_eq!(reading.unknown().len(), 3);
        let reasons: String = reading.unknown().iter().map(|unknown| unknown.reason.to_string()).collect();
        let shown = format!("{reading:?} {reasons} {:?}", settings(&pulse.url(), one()));
        for secret in PLANTED.iter().chain(&[TOKEN, "planted"]) {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
    }
}

// ---- faults

#[tokio::test]
async fn a_server_error_is_told_by_its_status() {
    each_request_fails_with(ResponsePlan::status(500), Reason::Status(500)).await;
    each_request_fails_with(ResponsePlan::text(503, "[]"), Reason::Status(503)).await;
    each_request_fails_with(ResponsePlan::status(204), Reason::Status(204)).await;
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_told() {
    each_request_fails_with(ok("<html>Welcome</html>"), Reason::NotJson).await;
}

#[tokio::test]
async fn what_is_no_http_is_told_as_no_json() {
    each_connection_fails_with(Fault::Says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), &TOLD, Reason::NotJson).await;
}

#[tokio::test]
async fn a_head_that_is_larger_than_any_of_pulse_is_refused() {
    let head = |len| ok("{}").with_header("X-Long", &"x".repeat(len));
    assert_eq!(unknown(&read_with("/api/settings/ai", head(60 * 1024)).await), [("ai_enabled", Reason::WrongShape)]);
    // Twice what is held at once; hyper by itself would take 400 KiB.
    each_request_fails_with(head(128 * 1024), Reason::NotJson).await;
}

#[tokio::test]
async fn an_answer_of_another_shape_is_told() {
    each_request_fails_with(ok("\"[]\""), Reason::WrongShape).await;
    for (path, body, what) in [
        ("/api/health", r#"{"uptime":"long"}"#, "starting"),
        ("/api/health", "{}", "starting"),
        ("/api/settings/ai", r#"{"enabled":"true"}"#, "ai_enabled"),
        ("/api/settings/ai", r#"{"enabled":null}"#, "ai_enabled"),
        ("/api/settings/ai", r#"[true]"#, "ai_enabled"),
        ("/api/settings/relay", "{}", "relay_enabled"),
        ("/api/license/status", r#"{"tier":""}"#, "paid_license"),
        ("/api/license/status", "{}", "paid_license"),
        ("/api/license/status", r#"{"tier":1}"#, "paid_license"),
        (SETTINGS, r#"{"telemetryEnabled":"false"}"#, "own_sender"),
        (SETTINGS, r#"{"telemetryEnabled":null}"#, "own_sender"),
        (SETTINGS, "[]", "own_sender"),
        (SETTINGS, r#"{"telemetryEnabled":false,"envOverrides":[]}"#, "own_sender"),
        (SETTINGS, r#"{"telemetryEnabled":false,"envOverrides":{"PULSE_TELEMETRY":"yes"}}"#, "own_sender"),
        (SETTINGS, r#"{"telemetryEnabled":false,"envOverrides":{"telemetryEnabled":"yes"}}"#, "own_sender"),
        (SECURITY, r#"{"ssoEnabled":true,"presentationPolicy":[]}"#, "demo_mode"),
        ("/api/system/mock-mode", "{}", "mock_mode"),
        ("/api/version", r#"{"version":"6.3.0","isDocker":"yes"}"#, "platform"),
        ("/api/version", r#"{"version":6.3,"isDocker":true}"#, "version"),
    ] {
        assert_eq!(unknown(&read_with(path, ok(body)).await), [(what, Reason::WrongShape)], "{path} {body}");
    }
    let lists = [("pve_nodes", Reason::WrongShape), ("docker_hosts", Reason::WrongShape)];
    for body in [r#"{"meta":{}}"#, r#"{"meta":{"total":1.5}}"#, r#"{"meta":{"total":"7"}}"#, "{}"] {
        assert_eq!(unknown(&read_early_with(NODES, ok(body)).await), lists, "{body}");
    }
    assert_eq!(unknown(&read_early_with(ALERTS, ok("{}")).await), [("active_alerts", Reason::WrongShape)]);
}

#[tokio::test]
async fn each_count_of_the_summary_is_unknown_by_itself_and_names_in_it_are_passed_over() {
    let whole = r#"{"activeAlerts":2,"nodes":3,"vms":5,"containers":4,
        "dockerHosts":[{"name":"planted"},7,"planted",null],"lastUpdate":"now","planted":{}}"#;
    let counts = |reading: Reading| {
        let s = reading.values();
        [s.active_alerts, s.pve_nodes, s.vms, s.containers, s.docker_hosts].map(reason)
    };
    let reading = read_with(SUMMARY, ok(whole)).await;
    assert!(!format!("{reading:?}").contains("planted"));
    assert_eq!(counts(reading), [Ok(2), Ok(3), Ok(5), Ok(4), Ok(4)]);
    for (name, what, values) in [
        ("activeAlerts", "active_alerts", ["null", "[]", "\"2\"", "2.5"]),
        ("nodes", "pve_nodes", ["null", "[]", "\"2\"", "2.5"]),
        ("vms", "vms", ["null", "[]", "\"2\"", "2.5"]),
        ("containers", "containers", ["null", "[]", "\"2\"", "2.5"]),
        ("dockerHosts", "docker_hosts", ["{}", "3", "\"2\"", "false"]),
    ] {
        for value in values {
            let mut summary: serde_json::Value = serde_json::from_str(whole).unwrap();
            summary[name] = serde_json::from_str(value).unwrap();
            let reading = read_with(SUMMARY, ok(&summary.to_string())).await;
            assert_eq!(unknown(&reading), [(what, Reason::WrongShape)], "{name}: {value}");
        }
        let mut summary: serde_json::Value = serde_json::from_str(whole).unwrap();
        summary.as_object_mut().unwrap().remove(name);
        assert_eq!(
            unknown(&read_with(SUMMARY, ok(&summary.to_string())).await),
            [(what, Reason::WrongShape)],
            "{name}"
        );
    }
    // There is no state at all yet.
    let none = r#"{"activeAlerts":0,"nodes":0,"vms":0,"containers":0,"dockerHosts":null}"#;
    assert_eq!(counts(read_with(SUMMARY, ok(none)).await), [const { Ok(0) }; 5]);
}

#[tokio::test]
async fn counts_are_those_of_the_ping_and_not_of_what_is_shown() {
    // Of five Docker hosts three run the unified agent, so stats and lists of Docker hosts hold two.
    let pulse = SimulatedPulse::start(healthy());
    let stats = pulse_telemetry_testkit::client::get(pulse.server.addr, STATS, Some(TOKEN)).unwrap().json();
    assert_eq!(stats["byType"]["docker-host"], 2);
    assert_eq!(read(&pulse).await.values().docker_hosts, Ok(5));
    assert!(pulse.server.requests().iter().all(|request| request.path() != ALERTS), "the summary counts them");
    // Nor where the summary says something else than the lists, as with hosts of one name.
    pulse.replace(NODES, ok(r#"{"meta":{"total":1}}"#));
    assert_eq!(read(&pulse).await.values().pve_nodes, Ok(7));
}

#[tokio::test]
async fn a_build_before_the_summary_is_counted_by_its_lists() {
    let pulse = SimulatedPulse::start(early());
    let reading = read(&pulse).await;
    assert!(reading.unknown().is_empty());
    let s = reading.values();
    assert_eq!([s.pve_nodes, s.vms, s.containers, s.docker_hosts], [Ok(7), Ok(3), Ok(4), Ok(5)]);
    assert_eq!(s.active_alerts, Ok(8));
    for (target, told) in TOLD_WITHOUT_SUMMARY {
        let model = early();
        let server = Server::start(move |request| match request.target == target {
            true => ResponsePlan::status(500),
            false => pulse::answer(&model, &request),
        });
        let reading = read_at(settings(&server.url(), one())).await.unwrap();
        assert_told(target, told, &Reason::Status(500), &reading);
    }
    // Only its absence says that it is not there.
    for (plan, reason) in [
        (ResponsePlan::status(405), Reason::Status(405)),
        (ResponsePlan::status(503), Reason::Status(503)),
        (ok("<html>"), Reason::NotJson),
        (ResponsePlan::json(403, &missing_scope(MONITORING_READ)), Reason::MissingScope(Scope::new(MONITORING_READ))),
    ] {
        let reading = read_with(SUMMARY, plan).await;
        let told = TOLD.iter().find(|(path, _)| *path == SUMMARY).unwrap().1;
        assert_told(SUMMARY, told, &reason, &reading);
    }
}

#[tokio::test]
async fn the_uptime_is_in_a_503_as_well() {
    // As up to 6.0.0-rc.6, while anything is in the scheduler's dead-letter queue.
    for (body, starting) in [
        (r#"{"status":"unhealthy","uptime":86400.5,"dependencies":{"scheduler":false}}"#, Ok(false)),
        (r#"{"uptime":119}"#, Ok(true)),
        ("Service Unavailable", Err(Reason::Status(503))),
        ("", Err(Reason::Status(503))),
        ("[86400]", Err(Reason::Status(503))),
    ] {
        let reading = read_with("/api/health", ResponsePlan::text(503, body)).await;
        assert_eq!(reason(reading.gate.starting), starting, "{body}");
    }
    let wrong = read_with("/api/health", ResponsePlan::text(503, r#"{"uptime":"long"}"#)).await;
    assert_eq!(unknown(&wrong).len(), 1);
    for status in [500, 502] {
        let other = read_with("/api/health", ResponsePlan::text(status, r#"{"uptime":86400}"#)).await;
        assert_eq!(unknown(&other), [("starting", Reason::Status(status))]);
    }
    let other = read_with("/api/version", ResponsePlan::text(503, r#"{"version":"6.3.0","isDocker":true}"#)).await;
    assert_eq!(unknown(&other).len(), 2, "no other route says it so");
}

#[tokio::test]
async fn a_body_that_ends_early_is_told() {
    each_request_fails_with(cut_short(200, "["), Reason::CutShort).await;
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[]\r\n";
    each_connection_fails_with(Fault::Says(chunked), &TOLD, Reason::CutShort).await;
    // Without a length, the end of the connection is the end of the body: only the JSON tells.
    let unframed = b"HTTP/1.1 200 OK\r\n\r\n{";
    let ai = [("/api/settings/ai", &["ai_enabled"][..])];
    each_connection_fails_with(Fault::Says(unframed), &ai, Reason::CutShort).await;
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_told() {
    each_request_fails_with(ResponsePlan::Reset, Reason::CutShort).await;
    each_connection_fails_with(Fault::Says(b"HTTP/1.1 200 OK\r\n"), &TOLD, Reason::CutShort).await;
}

#[tokio::test]
async fn silence_is_told_after_one_time_out() {
    each_connection_fails_with(Fault::Stalls(b""), &TOLD, Reason::TimedOut).await;
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_told_after_one_time_out() {
    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[";
    each_connection_fails_with(Fault::Stalls(begun), &TOLD, Reason::TimedOut).await;
}

#[tokio::test]
async fn a_redirect_is_told_and_never_followed() {
    for status in [301, 302, 303, 307, 308] {
        each_request_fails_with(ResponsePlan::redirect(status, "/api/elsewhere"), Reason::Redirected).await;
    }
    let pulse = SimulatedPulse::start(healthy());
    let elsewhere = format!("{}/api/elsewhere", pulse.url());
    for location in ["/api/elsewhere", &elsewhere] {
        pulse.replace("/api/settings/ai", ResponsePlan::redirect(307, location));
        read(&pulse).await;
    }
    let requests = pulse.server.requests();
    assert_eq!(requests.len(), 2 * TOLD.len());
    assert!(requests.iter().all(|request| request.path() != "/api/elsewhere"));
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_told_and_not_kept() {
    let padded = |body: &str, len: usize| ok(&format!("{body}{}", " ".repeat(len - body.len())));
    let (ai, list) = (r#"{"enabled":true}"#, r#"{"meta":{"total":9}}"#);
    let most = read_with("/api/settings/ai", padded(ai, 256 * 1024)).await;
    assert_eq!(most.values().ai_enabled, Ok(true));
    let larger = read_with("/api/settings/ai", padded(ai, 256 * 1024 + 1)).await;
    assert_eq!(unknown(&larger), [("ai_enabled", Reason::TooLarge)]);
    // A node may be larger.
    let most = read_early_with(NODES, padded(list, 1024 * 1024)).await;
    assert_eq!((most.values().pve_nodes, most.values().docker_hosts), (Ok(9), Ok(9)));
    let larger = read_early_with(NODES, padded(list, 1024 * 1024 + 1)).await;
    assert_eq!(unknown(&larger), [("pve_nodes", Reason::TooLarge), ("docker_hosts", Reason::TooLarge)]);
    let hosts = vec![r#"{"name":"docker-1","containers":0,"uptimeSeconds":0,"cpuUsagePercent":0}"#; 10_000].join(",");
    let summary = format!(r#"{{"activeAlerts":0,"nodes":0,"vms":0,"containers":0,"dockerHosts":[{hosts}]}}"#);
    assert_eq!(read_with(SUMMARY, ok(&summary)).await.values().docker_hosts, Ok(10_000));
    // What is only counted may be larger still.
    let alerts = read_early_with(ALERTS, ok(&format!("[{}0]", "0,".repeat(1024 * 1024)))).await;
    assert_eq!(alerts.values().active_alerts, Ok(1024 * 1024 + 1));
}

#[tokio::test]
async fn a_count_beyond_the_contract_is_told() {
    for total in ["-1", "10000001", "99999999999999999999", "1e300"] {
        let reading = read_early_with(NODES, ok(&format!(r#"{{"meta":{{"total":{total}}}}}"#))).await;
        let lists = [("pve_nodes", Reason::OutOfBounds), ("docker_hosts", Reason::OutOfBounds)];
        assert_eq!(unknown(&reading), lists, "{total}");
        let reading = read_with(STATS, ok(&format!(r#"{{"total":1,"byType":{{"pbs":{total}}}}}"#))).await;
        assert_eq!(unknown(&reading), [("pbs_instances", Reason::OutOfBounds)], "{total}");
        let summary = format!(r#"{{"activeAlerts":1,"nodes":1,"vms":{total},"containers":1,"dockerHosts":[]}}"#);
        assert_eq!(unknown(&read_with(SUMMARY, ok(&summary)).await), [("vms", Reason::OutOfBounds)], "{total}");
    }
    let most = read_early_with(NODES, ok(r#"{"meta":{"total":10000000}}"#)).await;
    assert_eq!(most.values().pve_nodes, Ok(10_000_000));
}

#[tokio::test]
async fn a_version_that_is_not_of_the_alphabet_or_too_long_is_unknown() {
    for version in [
        "root@pve01:/home/anna Büro",
        "6.3.0-<script>alert(1)</script>",
        "6.3.0-=HYPERLINK(\"http://x\",\"y\")",
        "6.3.0-\u{202e}x",
        "6.3.0+a_b",
        "6.3.0-a\tb",
        "6.3.0+a b",
        &format!("6.3.0-{}", "a".repeat(59)),
    ] {
        let reading = read(&SimulatedPulse::start(PulseModel { version: version.to_owned(), ..healthy() })).await;
        // Anything that is no semantic version is reduced to the alphabet, as Pulse does, and its text left out.
        match reading.values().version {
            Ok(sent) => {
                assert!(sent.raw_left_out && sent.raw.is_none() && sent.version.starts_with("0.0.0-"), "{sent:?}")
            }
            Err(unknown) => assert_eq!((unknown.what, unknown.reason), ("version", Reason::OutOfBounds), "{version}"),
        }
    }
    let longest = format!("6.3.0-{}", "a".repeat(58));
    let reading = read(&SimulatedPulse::start(PulseModel { version: longest.clone(), ..healthy() })).await;
    assert_eq!(reading.values().version.unwrap().version, longest);
}

#[tokio::test]
async fn what_is_not_pulse_is_told_in_one_sentence_with_what_was_asked_and_the_likely_reason() {
    let redirect = |to: &'static str| move |path: &str| ResponsePlan::redirect(302, &to.replace("{path}", path));
    let always = |plan: ResponsePlan| move |_: &str| plan.clone();
    let (html, page) = ("<!doctype html><title>Welcome</title>", "https://login.example.com/?back=1");
    let asked = "/api/health";
    type Stranger = Box<dyn Fn(&str) -> ResponsePlan + Send + Sync>;
    let strangers: Vec<(Stranger, &str, &[&str])> = vec![
        (Box::new(always(ok(html))), "", &["something else than JSON", "another program"]),
        (Box::new(always(ok(html))), "/pulse/api", &["something else than JSON", "path of pulse.url"]),
        (Box::new(always(ok("{}"))), "", &["JSON that is not Pulse's", "another program"]),
        (Box::new(always(ok("[]"))), "/pulse/api", &["JSON that is not Pulse's", "path of pulse.url"]),
        (Box::new(always(ok(r#"{"status":"ok","data":[1]}"#))), "", &["JSON that is not Pulse's"]),
        (Box::new(always(ok("null"))), "", &["JSON that is not Pulse's"]),
        (Box::new(always(ok(""))), "", &["ended without an answer"]),
        (Box::new(always(gone())), "", &["404", "another port"]),
        (Box::new(always(gone())), "/pulse/api", &["404", "path of pulse.url"]),
        (Box::new(redirect("https://pulse.example.com{path}")), "", &["redirected to https", "try https://"]),
        (Box::new(redirect(page)), "", &["another page", "sign-on page"]),
        (Box::new(redirect("/login")), "", &["another page", "sign-on page"]),
        (Box::new(always(ResponsePlan::status(400))), "", &["answered 400", "another program"]),
        (Box::new(always(ResponsePlan::status(502))), "", &["answered 502", "proxy"]),
        (Box::new(always(ResponsePlan::status(204))), "", &["answered 204"]),
        (Box::new(always(ResponsePlan::Reset)), "", &["ended without an answer", "another program"]),
    ];
    for (stranger, prefix, expected) in strangers {
        let server = Server::start(move |request| stranger(&request.target));
        let url = format!("{}{prefix}", server.url());
        let outcome = read_at(settings(&url, one())).await;
        let Err(ReadError::NotPulse(what)) = &outcome else { panic!("{expected:?}: {outcome:?}") };
        let said = what.to_string();
        let whole = format!("this does not look like Pulse: {url}{asked} ");
        assert!(said.starts_with(&whole), "{said} but {whole}");
        assert!(expected.iter().all(|words| said.contains(words)), "{expected:?} in {said}");
        assert!(!said.contains("login") && !said.contains('\n'), "{said}");
        assert!(server.requests().len() <= 3, "nothing more is asked of it");
        let suppression = Suppression::from(outcome.as_ref().unwrap_err());
        assert_eq!(suppression.reason().word(), "incomplete");
        let report = SuppressedReport::new(&suppression);
        assert!(report.message.contains(&whole[1..]) && report.unknown.is_empty(), "{report:?}");
    }
    // What servers say on a port that takes HTTPS alone: an alert of TLS, or a 400 with these words.
    for said in [
        "Client sent an HTTP request to an HTTPS server.\n",
        "<html><center>The plain HTTP request was sent to HTTPS port</center></html>",
        "Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
    ] {
        let server = Server::start(move |_| ResponsePlan::text(400, said));
        let outcome = read_at(settings(&server.url(), one())).await;
        let Err(ReadError::NotPulse(what)) = outcome else { panic!("{said}: {outcome:?}") };
        assert!(what.to_string().contains("the port speaks HTTPS: try https://"), "{what}");
        assert_eq!(server.requests().len(), 1, "nothing more is asked in the clear");
    }
    let pulse = SimulatedPulse::start(healthy());
    let alert = Fault::Says(&[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46]);
    let outcome = read_by(Dialer::to(&pulse).with(alert, 0), settings("http://pulse.test:7655", one())).await;
    let Err(ReadError::NotPulse(what)) = outcome else { panic!("{outcome:?}") };
    assert!(what.to_string().contains("the port speaks HTTPS: try https://"), "{what}");
    // One that hangs is named with the time that it had.
    let pulse = SimulatedPulse::start(healthy());
    let dialer = Dialer::to(&pulse).with(Fault::Stalls(b""), 0);
    let outcome = read_by(dialer, settings("http://pulse.test:7655", one())).await;
    let Err(ReadError::NotPulse(what)) = outcome else { panic!("{outcome:?}") };
    let said = what.to_string();
    assert!(said.contains("http://pulse.test:7655/api/health was not answered within pulse.timeout (90 s)"), "{said}");
}

#[tokio::test]
async fn a_pulse_that_answers_anything_of_its_own_is_pulse() {
    // As soon as one of the routes that every Pulse has tells something, the others are rows.
    let pulse = SimulatedPulse::start(healthy());
    for path in ["/api/health", "/api/version"] {
        pulse.replace(path, gone());
    }
    assert_eq!(unknown(&read(&pulse).await), [("version", Reason::Status(404)), ("platform", Reason::Status(404))]);
    // So are different answers.
    pulse.replace(SECURITY, ResponsePlan::status(500));
    assert_eq!(unknown(&read(&pulse).await).len(), 4);
    pulse.replace(SECURITY, ok("{}"));
    assert!(unknown(&read(&pulse).await).contains(&("sso_enabled", Reason::WrongShape)));
}

#[tokio::test]
async fn a_whole_reading_has_30_seconds_and_what_was_not_read_by_then_is_unknown() {
    time::pause();
    for (each, timeout, most) in [(9, 10, 30), (2, 10, 30), (9, 60, 60), (59, 60, 60)] {
        let began = time::Instant::now();
        let dial = Slow { model: healthy(), each: Duration::from_secs(each) };
        let settings = PulseSettings { timeout: Duration::from_secs(timeout), ..settings("http://pulse.test", one()) };
        let reading = PulseClient::with_dial(settings, Box::new(dial)).unwrap().read().await.unwrap();
        let took = began.elapsed().as_secs();
        let asked = most / each;
        let unknown = unknown(&reading);
        if asked > TOLD.len() as u64 {
            assert!(unknown.is_empty() && took < most, "{each}: {unknown:?} after {took} s");
            continue;
        }
        assert_eq!(took, most, "{each}");
        assert!(unknown.iter().all(|(_, reason)| *reason == Reason::OutOfTime), "{unknown:?}");
        assert!(!unknown.is_empty());
        // What was read before is known.
        assert_eq!(reading.gate.starting, Ok(false));
    }
    time::resume();
}

#[tokio::test]
async fn a_flood_of_whatever_kind_ends_after_so_many_bytes() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (name, begin, again, most) in [
        ("answers 103 without end", "", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_owned(), 1),
        ("chunk extensions without end", head, format!("1;{}\r\n \r\n", "x".repeat(1000)), 1),
        ("trailers without end", &format!("{head}0\r\n"), "x-trailer: y\r\n".to_owned(), 1),
        ("a head without end", "HTTP/1.1 200 OK\r\n", "x-header: y\r\n".to_owned(), 1),
        ("chunks of a byte", head, "1\r\n \r\n".to_owned(), 1),
        ("zeros before a chunk's length", head, "0".repeat(1000), 1),
        ("blanks in a small answer", head, format!("400\r\n{}\r\n", " ".repeat(1024)), 2),
    ] {
        for target in ["/api/settings/ai", "/api/health"] {
            let told = TOLD.iter().find(|(known, _)| *known == target).unwrap();
            let at = TOLD.iter().position(|(known, _)| *known == target).unwrap();
            let pulse = SimulatedPulse::start(healthy());
            let sent = Arc::new(AtomicUsize::new(0));
            let flood = Flood { begin: begin.to_owned(), again: again.clone(), sent: Arc::clone(&sent) };
            let dialer = Dialer::to(&pulse).flooding(at, flood);
            let reading = read_by(dialer, settings(&pulse.url(), one())).await.unwrap();
            let unknown = unknown(&reading);
            assert_eq!(unknown.iter().map(|(what, _)| *what).collect::<Vec<_>>(), told.1, "{name}");
            let sent = sent.load(Ordering::Relaxed);
            // What is on its way in the pipe besides.
            assert!(sent < most * 600 * 1024, "{name}: {sent} bytes");
        }
    }
}

#[tokio::test]
async fn an_array_without_end_is_unknown_after_256_mib() {
    let pulse = SimulatedPulse::start(early());
    let sent = Arc::new(AtomicUsize::new(0));
    let flood = Flood {
        begin: "HTTP/1.1 200 OK\r\n\r\n[".to_owned(),
        again: format!("\"{}\",", "x".repeat(60_000)),
        sent: Arc::clone(&sent),
    };
    let at = ["health", "version", "security", "settings", "mock", "stats", "summary", "nodes", "hosts"].len();
    let reading = read_by(Dialer::to(&pulse).flooding(at, flood), settings(&pulse.url(), one())).await.unwrap();
    assert_eq!(unknown(&reading), [("active_alerts", Reason::TooLarge)]);
    let sent = sent.load(Ordering::Relaxed);
    assert!((255 << 20..260 << 20).contains(&sent), "{sent} bytes");
}

#[tokio::test]
async fn no_connection_at_any_request_ends_the_reading() {
    let pulse = SimulatedPulse::start(healthy());
    for at in 0..TOLD.len() {
        for (fault, text) in
            [(Fault::Refused, "connection refused"), (Fault::Unanswered, "no connection within pulse.timeout")]
        {
            let dialer = Dialer::to(&pulse).with(fault, at);
            let dialed = Arc::clone(&dialer.dialed);
            let outcome = read_by(dialer, settings(&pulse.url(), one())).await;
            assert_eq!(outcome, Err(ReadError::Unreachable(text.to_owned())), "{at}");
            assert_eq!(dialed.load(Ordering::Relaxed), at + 1, "nothing more is tried");
        }
    }
}

// ---- refusals

#[tokio::test]
async fn a_token_that_is_not_accepted_ends_the_reading() {
    let pulse = SimulatedPulse::start(healthy());
    for path in ["/api/health", SETTINGS, ORGS, STATS, SUMMARY] {
        for refusal in [
            ResponsePlan::text(401, r#"{"error":"Authentication required"}"#),
            ResponsePlan::text(401, r#"{"error":"missing_scope","requiredScope":"settings:read"}"#),
            ResponsePlan::text(403, r#"{"error":"forbidden"}"#),
            ResponsePlan::text(403, r#"{"error":"forbidden","requiredScope":"settings:read"}"#),
            ResponsePlan::text(403, "<html>"),
            ResponsePlan::text(403, &" ".repeat(1024 * 1024)),
        ] {
            pulse.replace(path, refusal);
            assert_eq!(outcome(&pulse, one()).await, Err(ReadError::Unauthorized(Credential::default())), "{path}");
            assert_eq!(pulse.server.requests().last().unwrap().path(), path, "nothing more is asked");
        }
        pulse.restore(path);
    }
    let missing = Credential::Missing { looked_at: String::new() };
    for (tokens, which) in [(Tokens::One("another-token".into()), Credential::default()), (Tokens::None, missing)] {
        assert_eq!(outcome(&pulse, tokens).await, Err(ReadError::Unauthorized(which)));
    }
    let wrong = Tokens::Organizations(vec![("acme".to_owned(), "wrong".into()), ("default".to_owned(), TOKEN.into())]);
    let pulse = SimulatedPulse::start(with_acme());
    let origins = TokenOrigins {
        organizations: ["acme", "default"].map(|name| (name.to_owned(), format!("the file of {name}"))).to_vec(),
        ..TokenOrigins::default()
    };
    let client = PulseClient::new(settings(&pulse.url(), wrong)).unwrap().naming_tokens(origins);
    let which = Credential::Refused { origin: "the file of acme".to_owned(), organization: Some("acme".to_owned()) };
    assert_eq!(client.read().await, Err(ReadError::Unauthorized(which)));
}

#[tokio::test]
async fn a_missing_scope_is_told_and_everything_else_is_read() {
    let reason = |scope| Reason::MissingScope(Scope::new(scope));
    let refusal = ResponsePlan::json(403, &missing_scope(MONITORING_READ));
    each_request_fails_with(refusal, reason(MONITORING_READ)).await;

    let planted = ResponsePlan::json(403, &missing_scope("Host pve1.example.org"));
    assert_eq!(unknown(&read_with(ORGS, planted).await), [("multi_tenant", reason("unnamed"))]);

    let pulse = SimulatedPulse::start(healthy());
    pulse.change(|model| drop(model.tokens.insert(TOKEN.to_owned(), Token::new(&[SETTINGS_READ], "default"))));
    let mut expected = ALL_COUNTS.to_vec();
    let reading = read(&pulse).await;
    let mut told: Vec<_> = reading.unknown().iter().map(|unknown| unknown.what).collect();
    expected.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, expected);
    assert!(reading.unknown().iter().all(|unknown| unknown.reason == reason(MONITORING_READ)));
}

#[tokio::test]
async fn a_refusal_that_ends_early_is_not_taken_for_a_refused_token() {
    each_request_fails_with(cut_short(403, "{"), Reason::CutShort).await;
}

#[tokio::test]
async fn a_feature_that_is_not_licensed_is_off() {
    let refusal = || ResponsePlan::text(402, r#"{"error":"license_required"}"#);
    let pulse = SimulatedPulse::start(PulseModel { orgs: Orgs::List, ..healthy() });
    for path in ["/api/settings/ai", "/api/settings/relay", ORGS, "/api/license/status"] {
        pulse.replace(path, refusal());
    }
    let reading = read(&pulse).await;
    assert!(reading.unknown().is_empty());
    let s = reading.values();
    assert_eq!([s.ai_enabled, s.relay_enabled, s.multi_tenant, s.paid_license], [const { Ok(false) }; 4]);
    let expected = [("sso_enabled", Reason::Status(402)), ("demo_mode", Reason::Status(402))];
    assert_eq!(unknown(&read_with(SECURITY, refusal()).await), expected);
}

#[tokio::test]
async fn a_501_says_only_of_organizations_that_they_are_off() {
    each_of(TOLD.into_iter().filter(|(target, _)| *target != ORGS), ResponsePlan::status(501), Reason::Status(501))
        .await;
    assert_eq!(read_with(ORGS, ResponsePlan::status(501)).await.values().multi_tenant, Ok(false));
}

#[tokio::test]
async fn a_route_that_is_not_there_is_a_feature_that_is_not_there() {
    let pulse = SimulatedPulse::start(healthy());
    for (path, _) in TOLD {
        if !["/api/version", STATS].contains(&path) {
            pulse.replace(path, gone());
        }
    }
    // Without the summary there are the lists.
    pulse.replace(ALERTS, gone());
    let reading = read(&pulse).await;
    assert!(reading.unknown().is_empty(), "{:?}", reading.unknown());
    let (s, p) = (reading.values(), reading.gate);
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

    let version = read_with("/api/version", gone()).await;
    assert_eq!(unknown(&version), [("version", Reason::Status(404)), ("platform", Reason::Status(404))]);
    let lists = [("pve_nodes", Reason::Status(404)), ("docker_hosts", Reason::Status(404))];
    assert_eq!(unknown(&read_early_with(NODES, gone()).await), lists);
    let pulse = SimulatedPulse::start(healthy());
    pulse.replace(STATS, gone());
    pulse.replace("/api/state", gone());
    assert_eq!(asked_for_nothing_but("GET /api/state", &read(&pulse).await), all_of_state(&Reason::Status(404)));
}

#[tokio::test]
async fn after_a_429_nothing_more_is_asked_and_the_rest_is_unknown() {
    let pulse = SimulatedPulse::start(PulseModel { orgs: Orgs::List, ..with_acme() });
    pulse.replace(STATS, ResponsePlan::status(429).with_header("Retry-After", "120"));
    let reading = outcome(&pulse, both()).await.unwrap();
    assert_eq!(pulse.server.requests().last().unwrap().path(), STATS);
    assert_eq!(reading.retry_after, Some(Duration::from_secs(120)));
    let unknown = reading.unknown();
    assert_eq!(unknown.len(), 13, "{unknown:?}");
    assert!(unknown.iter().all(|unknown| unknown.reason == Reason::RateLimited));

    for (header, seconds) in [
        (None, 60),
        (Some("soon"), 60),
        (Some("Mon, 23 Nov 2026 10:00:00 GMT"), 60),
        (Some("-5"), 60),
        (Some("0"), 0),
        (Some("599"), 599),
        (Some("601"), 600),
        (Some("86400"), 600),
        (Some("18446744073709551615"), 600),
    ] {
        let server = Server::start(move |_| match header {
            Some(value) => ResponsePlan::status(429).with_header("Retry-After", value),
            None => ResponsePlan::status(429),
        });
        let reading = read_at(settings(&server.url(), one())).await.unwrap();
        assert_eq!(reading.retry_after, Some(Duration::from_secs(seconds)), "{header:?}");
        assert_eq!(reading.unknown().len(), 20, "nothing is known");
        assert_eq!(server.connections(), 1);
    }
}

// ---- Pulse 5

#[tokio::test]
async fn pulse_5_is_told_by_its_stats_and_counted_from_its_state() {
    let pulse = SimulatedPulse::start(five());
    let reading = read(&pulse).await;
    assert!(reading.unknown().is_empty());
    let s = reading.values();
    assert_eq!([s.pve_nodes, s.pbs_instances, s.pmg_instances, s.vms], [Ok(7), Ok(1), Ok(2), Ok(3)]);
    assert_eq!([s.containers, s.docker_hosts, s.kubernetes_clusters, s.active_alerts], [Ok(4), Ok(5), Ok(6), Ok(8)]);
    assert_eq!(
        ([s.relay_enabled, s.multi_tenant], reading.gate.own_sender),
        ([Ok(false), Ok(false)], Ok(OwnSender::Absent))
    );
    assert!(pulse.server.requests().iter().all(|request| request.path() != NODES), "Pulse 5 counts by its state");

    let whole = r#"{"nodes":[{"vms":[1]}],"pbs":null,"pmg":[],"vms":[1,2],"containers":[[],[],[]],
        "dockerHosts":[1,2,3,4],"kubernetesClusters":[1,2,3,4,5],"activeAlerts":null}"#;
    pulse.replace("/api/state", ok(whole));
    let s = read(&pulse).await.values();
    assert_eq!([s.pve_nodes, s.pbs_instances, s.pmg_instances, s.vms], [Ok(1), Ok(0), Ok(0), Ok(2)]);
    assert_eq!([s.containers, s.docker_hosts, s.kubernetes_clusters, s.active_alerts], [Ok(3), Ok(4), Ok(5), Ok(8)]);

    pulse.replace("/api/state", ok(r#"{"nodes":[],"pbs":[],"pmg":[],"vms":[],"containers":[]}"#));
    let expected = [("docker_hosts", Reason::WrongShape), ("kubernetes_clusters", Reason::WrongShape)];
    assert_eq!(unknown(&read(&pulse).await), expected);
    for (plan, reason) in [
        (ok("[]"), Reason::WrongShape),
        (ok(r#"{"nodes":7}"#), Reason::WrongShape),
        (ok(r#"{"nodes":["#), Reason::CutShort),
        (ok("{'nodes'"), Reason::NotJson),
        (ok(&"[".repeat(1000)), Reason::WrongShape),
        (cut_short(200, r#"{"nodes":[]"#), Reason::CutShort),
        (gone(), Reason::Status(404)),
        (ResponsePlan::status(502), Reason::Status(502)),
    ] {
        pulse.replace("/api/state", plan);
        assert_eq!(asked_for_nothing_but("GET /api/state", &read(&pulse).await), all_of_state(&reason));
    }
}

#[tokio::test]
async fn stats_that_are_neither_of_5_nor_of_6_are_not_counted() {
    for body in ["{}", r#"{"byType":{"vm":3}}"#] {
        let reading = read_with(STATS, ok(body)).await;
        let request = format!("GET {STATS}");
        assert_eq!(asked_for_nothing_but(&request, &reading).len(), ALL_COUNTS.len());
    }
    for types in [r#"{"total":9}"#, r#"{"total":9,"byType":[]}"#] {
        let shown = ["pbs_instances", "pmg_instances", "kubernetes_clusters"].map(|what| (what, Reason::WrongShape));
        assert_eq!(unknown(&read_with(STATS, ok(types)).await), shown, "the others have a request of their own");
    }
    let none = read_with(STATS, ok(r#"{"total":0,"byType":{"other":"x"}}"#)).await;
    assert_eq!((none.values().pbs_instances, none.values().kubernetes_clusters), (Ok(0), Ok(0)));
    let one_wrong = read_with(STATS, ok(r#"{"total":0,"byType":{"pbs":"3"}}"#)).await;
    assert_eq!(unknown(&one_wrong), [("pbs_instances", Reason::WrongShape)]);
    let early = read_early_with(STATS, ok(r#"{"total":0,"byType":{"vm":"3"}}"#)).await;
    assert_eq!(unknown(&early), [("vms", Reason::WrongShape)]);
}

// ---- organizations

#[tokio::test]
async fn organizations_are_summed_and_flags_are_those_of_the_default_one() {
    let pulse = SimulatedPulse::start(with_acme());
    let reading = outcome(&pulse, both()).await.unwrap();
    assert!(reading.unknown().is_empty());
    let s = reading.values();
    assert_eq!([s.pve_nodes, s.pbs_instances, s.pmg_instances, s.vms], [Ok(27), Ok(2), Ok(2), Ok(33)]);
    assert_eq!([s.containers, s.docker_hosts, s.kubernetes_clusters, s.active_alerts], [Ok(4), Ok(5), Ok(6), Ok(48)]);
    assert_eq!(s.multi_tenant, Ok(true));
    assert_eq!(reading.gate.organizations, Ok(()));
    let requests = pulse.server.requests();
    assert_eq!(requests.len(), TOLD.len() + 3);
    for request in requests {
        let name = request.header("x-pulse-org-id").unwrap();
        let token = if name == "default" { TOKEN } else { ACME_TOKEN };
        assert_eq!(request.header("x-api-token"), Some(token), "each organization has its own token");
        let counted = [STATS, SUMMARY, ORGS].contains(&request.path());
        assert!(name == "default" || counted, "{} of {name}", request.target);
    }
}

#[tokio::test]
async fn each_organization_is_read_by_its_own_shape() {
    let state =
        r#"{"nodes":[1],"pbs":[],"pmg":[],"vms":[1,2],"containers":[],"dockerHosts":[],"kubernetesClusters":[]}"#;
    let server = with_acme_answering(move |path| match path {
        STATS => Some(gone()),
        "/api/state" => Some(ok(state)),
        _ => None,
    });
    let s = read_at(settings(&server.url(), both())).await.unwrap().values();
    assert_eq!((s.pve_nodes, s.vms), (Ok(8), Ok(5)));
}

#[tokio::test]
async fn one_organization_that_is_unknown_makes_the_sum_unknown() {
    let server = with_acme_answering(|path| match path {
        STATS => Some(ok(r#"{"total":9,"byType":{"pbs":"many"}}"#)),
        SUMMARY => Some(ok(r#"{"activeAlerts":"2","nodes":9999999,"vms":1,"containers":1,"dockerHosts":[]}"#)),
        _ => None,
    });
    let reading = read_at(settings(&server.url(), both())).await.unwrap();
    // Each is within the bounds, and together they are not.
    let expected = [
        ("pve_nodes", Reason::OutOfBounds),
        ("pbs_instances", Reason::WrongShape),
        ("active_alerts", Reason::WrongShape),
    ];
    assert_eq!(unknown(&reading), expected);
}

#[tokio::test]
async fn where_pulse_has_organizations_and_none_is_configured_nothing_is_whole() {
    let pulse = SimulatedPulse::start(with_acme());
    let alone = [("organizations", Reason::OrganizationsNotConfigured)];
    for list in [None, Some(r#"[{"id":"default"}]"#), Some(r#"[{"id":"default"},{"id":"acme"}]"#), Some("[]")] {
        if let Some(list) = list {
            pulse.replace(ORGS, ok(list));
        }
        assert_eq!(unknown(&outcome(&pulse, one()).await.unwrap()), alone, "{list:?}");
    }
    pulse.restore(ORGS);
    assert_eq!(unknown(&outcome(&pulse, both()).await.unwrap()), []);
    // That there is no other is for whoever configures it to say.
    let default = || Tokens::Organizations(vec![("default".to_owned(), TOKEN.into())]);
    let reading = outcome(&pulse, default()).await.unwrap();
    assert_eq!((unknown(&reading), reading.values().multi_tenant), (vec![], Ok(true)));
    // It is no harm where organizations are off.
    for plan in [ResponsePlan::status(501), ResponsePlan::status(402), gone()] {
        pulse.replace(ORGS, plan);
        let reading = outcome(&pulse, default()).await.unwrap();
        assert_eq!((unknown(&reading), reading.values().multi_tenant), (vec![], Ok(false)));
    }
}

#[tokio::test]
async fn every_organization_that_a_token_lists_has_to_be_named_and_every_one_that_is_named_listed() {
    let listed = |default: &'static str, acme: &'static str| {
        let model = with_acme();
        Server::start(move |request| match (request.path(), request.header("x-pulse-org-id")) {
            (ORGS, Some("default")) => ok(default),
            (ORGS, Some("acme")) => match acme {
                "501" => ResponsePlan::status(501),
                "500" => ResponsePlan::status(500),
                "scope" => ResponsePlan::json(403, &missing_scope(SETTINGS_READ)),
                list => ok(list),
            },
            _ => pulse::answer(&model, &request),
        })
    };
    let not_named =
        |names: &[&'static str]| Reason::OrganizationsNotNamed(OrganizationNames::new(names.iter().copied()));
    let gone = |names: &[&'static str]| Reason::OrganizationsGone(OrganizationNames::new(names.iter().copied()));
    let default = r#"[{"id":"default","displayName":"planted"}]"#;
    let acme = r#"[{"id":"acme"}]"#;
    for (by_default, by_acme, expected) in [
        (default, acme, None),
        (r#"[{"id":"acme"},{"id":"default"}]"#, acme, None),
        // One was added while this runs.
        (r#"[{"id":"default"},{"id":"new"}]"#, acme, Some(not_named(&["new"]))),
        (default, r#"[{"id":"acme"},{"id":"b"},{"id":"a"}]"#, Some(not_named(&["a", "b"]))),
        (r#"[{"id":"default"},{"id":"a planted name"}]"#, acme, Some(not_named(&["unnamed"]))),
        // One is gone, or its token belongs to another one.
        (default, "[]", Some(gone(&["acme"]))),
        (default, default, Some(gone(&["acme"]))),
        (default, "501", Some(gone(&["acme"]))),
        ("[]", acme, Some(gone(&["default"]))),
        // What cannot be read is not empty.
        (default, "500", Some(Reason::Status(500))),
        (default, "scope", Some(Reason::MissingScope(Scope::new(SETTINGS_READ)))),
        (default, r#"[{"id":7}]"#, Some(Reason::WrongShape)),
    ] {
        let server = listed(by_default, by_acme);
        let reading = read_at(settings(&server.url(), both())).await.unwrap();
        let expected: Vec<_> = expected.into_iter().map(|reason| ("organizations", reason)).collect();
        assert_eq!(unknown(&reading), expected, "{by_default} and {by_acme}");
        assert_eq!(reading.values().multi_tenant, Ok(true));
        let shown = format!("{reading:?}");
        assert!(!shown.contains("planted") && !shown.contains("new"), "{shown}");
    }
}

#[tokio::test]
async fn a_list_of_organizations_that_is_none_says_nothing_of_them() {
    for (body, told) in [
        ("<html>Welcome</html>", Reason::NotJson),
        ("", Reason::CutShort),
        ("{}", Reason::WrongShape),
        ("null", Reason::WrongShape),
        (r#"["default"]"#, Reason::WrongShape),
        (r#"[["default"]]"#, Reason::WrongShape),
        (r#"[{"name":"default"}]"#, Reason::WrongShape),
        (r#"[{"id":""}]"#, Reason::WrongShape),
        (r#"[{"id":null}]"#, Reason::WrongShape),
    ] {
        for tokens in [one(), Tokens::Organizations(vec![("default".to_owned(), TOKEN.into())])] {
            let pulse = SimulatedPulse::start(healthy());
            pulse.replace(ORGS, ok(body));
            assert_eq!(unknown(&outcome(&pulse, tokens).await.unwrap()), [("multi_tenant", told.clone())], "{body}");
        }
    }
}

// ---- what the answers mean

#[tokio::test]
async fn pulses_own_sender_is_read_with_who_switched_it() {
    for (body, own_sender) in [
        (r#"{"telemetryEnabled":true,"envOverrides":{"PULSE_TELEMETRY":true}}"#, OwnSender::On),
        ("{}", OwnSender::Absent),
        (r#"{"telemetryEnabled":false}"#, OwnSender::OffBySetting),
        (r#"{"telemetryEnabled":false,"envOverrides":null}"#, OwnSender::OffBySetting),
        (r#"{"telemetryEnabled":false,"envOverrides":{"PULSE_TELEMETRY":false}}"#, OwnSender::OffBySetting),
        (r#"{"telemetryEnabled":false,"envOverrides":{"PULSE_TELEMETRY":true}}"#, OwnSender::OffByEnvironment),
        (r#"{"telemetryEnabled":false,"envOverrides":{"telemetryEnabled":true}}"#, OwnSender::OffByEnvironment),
        (
            r#"{"telemetryEnabled":false,"envOverrides":{"PULSE_TELEMETRY":"?","telemetryEnabled":true}}"#,
            OwnSender::OffByEnvironment,
        ),
    ] {
        assert_eq!(read_with(SETTINGS, ok(body)).await.gate.own_sender, Ok(own_sender), "{body}");
    }
}

#[tokio::test]
async fn mock_data_is_told_by_the_version_or_by_its_own_route() {
    const MOCK_MODE: &str = "/api/system/mock-mode";
    let pulse = SimulatedPulse::start(PulseModel { mock: true, ..healthy() });
    assert_eq!(read(&pulse).await.gate.mock_mode, Ok(true));
    assert!(pulse.server.requests().iter().all(|request| request.path() != MOCK_MODE));

    assert_eq!(read_with(MOCK_MODE, ok(r#"{"enabled":true}"#)).await.gate.mock_mode, Ok(true));
    let pulse = SimulatedPulse::start(healthy());
    pulse.replace(MOCK_MODE, gone());
    pulse.replace("/api/version", ResponsePlan::status(500));
    assert_eq!(reason(read(&pulse).await.gate.mock_mode), Err(Reason::Status(500)));
    pulse.replace("/api/version", ok(r#"{"version":"6.3.0","isDocker":true,"deploymentType":7}"#));
    assert_eq!(unknown(&read(&pulse).await), [("mock_mode", Reason::WrongShape)]);
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
        let reading = read_with(SECURITY, ok(body)).await;
        assert_eq!(reason(reading.values().sso_enabled), sso, "{body}");
        assert_eq!(reading.gate.demo_mode, Ok(false), "{body}");
    }
    let demo = read(&SimulatedPulse::start(PulseModel { demo: true, ..healthy() })).await;
    assert_eq!(demo.gate.demo_mode, Ok(true));
    let wrong = read_with(SECURITY, ok(r#"{"ssoEnabled":true,"presentationPolicy":{"demoMode":1}}"#)).await;
    assert_eq!(unknown(&wrong), [("demo_mode", Reason::WrongShape)]);
}

#[tokio::test]
async fn a_pulse_that_has_just_started_is_told() {
    for (uptime, starting) in [(0.0, true), (119.9, true), (120.0, false)] {
        let reading = read(&SimulatedPulse::start(PulseModel { uptime, ..healthy() })).await;
        assert_eq!(reading.gate.starting, Ok(starting), "{uptime}");
    }
}

#[tokio::test]
async fn tokens_are_asked_for_only_where_none_has_been_of_use() {
    const API_TOKENS: &str = "/api/security/tokens";
    let pulse = SimulatedPulse::start(PulseModel { require_auth: false, ..healthy() });
    assert_eq!(outcome(&pulse, Tokens::None).await.unwrap().values().has_api_tokens, Ok(true));
    for (plan, has) in [
        (ok(r#"{"tokens":[{}]}"#), Ok(true)),
        (ok(r#"{"tokens":[]}"#), Ok(false)),
        (ok(r#"{"tokens":null}"#), Ok(false)),
        (gone(), Ok(false)),
        (ok("{}"), Err(Reason::WrongShape)),
        (ResponsePlan::status(500), Err(Reason::Status(500))),
    ] {
        pulse.replace(API_TOKENS, plan);
        let reading = outcome(&pulse, Tokens::None).await.unwrap();
        assert_eq!(reason(reading.values().has_api_tokens), has);
        assert_eq!(pulse.server.requests().last().unwrap().path(), API_TOKENS);
    }
    // A Pulse that asks for no token answers with any, so that one proves nothing there, nor does an organization's.
    for tokens in [one, both, || Tokens::One("a stale token".into())] {
        for (plan, has) in [(r#"{"tokens":[{}]}"#, true), (r#"{"tokens":[]}"#, false)] {
            pulse.replace(API_TOKENS, ok(plan));
            pulse.change(|model| model.orgs = Orgs::List);
            assert_eq!(outcome(&pulse, tokens()).await.unwrap().values().has_api_tokens, Ok(has), "{plan}");
        }
    }
    // Where nothing says that a token is asked for, they are counted as well.
    pulse.restore(API_TOKENS);
    pulse.change(|model| *model = healthy());
    for plan in [ResponsePlan::status(500), gone(), ok("{}"), ok(r#"{"requiresAuth":"yes"}"#)] {
        pulse.replace(SECURITY, plan);
        pulse.replace(API_TOKENS, ok(r#"{"tokens":[]}"#));
        assert_eq!(outcome(&pulse, one()).await.unwrap().values().has_api_tokens, Ok(false));
    }
    // What everybody may read proves nothing about the token.
    let model = healthy();
    let server = Server::start(move |request| match request.path() {
        "/api/health" | "/api/version" | SECURITY => pulse::answer(&model, &request),
        _ => ResponsePlan::status(500),
    });
    let reading = read_at(settings(&server.url(), one())).await.unwrap();
    assert_eq!(reason(reading.values().has_api_tokens), Err(Reason::Status(500)));
}

#[tokio::test]
async fn the_platform_setting_wins_over_what_pulse_says() {
    for is_docker in [true, false] {
        let pulse = SimulatedPulse::start(PulseModel { is_docker, ..healthy() });
        for (platform, expected) in [
            (PlatformSetting::Auto, if is_docker { Platform::Docker } else { Platform::Binary }),
            (PlatformSetting::Docker, Platform::Docker),
            (PlatformSetting::Binary, Platform::Binary),
        ] {
            let settings = PulseSettings { platform, ..settings(&pulse.url(), one()) };
            assert_eq!(read_at(settings).await.unwrap().values().platform, Ok(expected));
        }
    }
}

#[test]
fn settings_that_cannot_work_are_refused_without_showing_a_token() {
    let refused = |settings| match PulseClient::new(settings) {
        Ok(_) => panic!("accepted"),
        Err(error) => error,
    };
    let settings = |tokens| settings("http://127.0.0.1:7655", tokens);
    for url in ["ftp://pulse.test", "/api", "pulse.test:7655", "http://me:pass@pulse.test", "http://pulse.test/?a=b"] {
        let settings = PulseSettings { url: url.parse().unwrap(), ..settings(one()) };
        assert!(matches!(refused(settings), SettingsError::Url), "{url}");
    }
    // Pulse's own paths behind it would not be a URI, and what is asked must never be another path.
    for length in [2049, 65_500] {
        let url = format!("http://pulse.test/{}", "x".repeat(length)).parse().unwrap();
        assert!(matches!(refused(PulseSettings { url, ..settings(one()) }), SettingsError::Url), "{length}");
    }
    for token in ["", " ", "two\nlines", "a\0secret"] {
        let error = refused(settings(Tokens::One(token.into())));
        assert!(matches!(error, SettingsError::Token), "{token:?}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("lines") && !shown.contains("secret"), "{shown}");
    }
    let named = |names: &[&str]| Tokens::Organizations(names.iter().map(|n| ((*n).to_owned(), "t".into())).collect());
    assert!(matches!(refused(settings(named(&[]))), SettingsError::NoDefaultOrganization));
    assert!(matches!(refused(settings(named(&["acme"]))), SettingsError::NoDefaultOrganization));
    assert!(matches!(refused(settings(named(&["default", "default"]))), SettingsError::OrganizationTwice));
    assert!(matches!(refused(settings(named(&["default", "a", "a"]))), SettingsError::OrganizationTwice));
    assert!(matches!(refused(settings(named(&["default", "a\nb"]))), SettingsError::OrganizationName));
    for pem in ["no certificate", "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n"] {
        let trust = Trust::default().and("pulse.ca_file", pem.as_bytes().to_vec());
        let settings = PulseSettings { url: "https://pulse.test".parse().unwrap(), trust, ..settings(one()) };
        assert!(matches!(refused(settings), SettingsError::Tls(_)), "{pem}");
    }
}

// ---- models and answers

/// A Pulse 6 that has some of everything.
fn healthy() -> PulseModel {
    PulseModel {
        is_docker: true,
        counts: Counts { nodes: 7, pbs: 1, pmg: 2, vms: 3, containers: 4, docker_hosts: 5, k8s: 6, alerts: 8 },
        relay: Relay::Enabled,
        sso: true,
        tier: "pro".to_owned(),
        ..PulseModel::default()
    }
}

/// The same, of a build before 6.0.0-rc.7.
fn early() -> PulseModel {
    PulseModel { summary: false, version: "6.0.0-rc.5".to_owned(), ..healthy() }
}

fn five() -> PulseModel {
    PulseModel { counts: healthy().counts, ..PulseModel::v5() }
}

const ACME_TOKEN: &str = "acme-token";

/// As `healthy`, with a second organization.
fn with_acme() -> PulseModel {
    let mut model = PulseModel { orgs: Orgs::List, ..healthy() };
    let counts = Counts { nodes: 20, pbs: 1, vms: 30, alerts: 40, ..Counts::default() };
    model.other_organizations.insert("acme".to_owned(), counts);
    model.tokens.insert(ACME_TOKEN.to_owned(), Token::new(&[MONITORING_READ, SETTINGS_READ], "acme"));
    model
}

/// As `with_acme`, but whoever asks for `acme` may get another answer, by the path.
fn with_acme_answering(instead: impl Fn(&str) -> Option<ResponsePlan> + Send + Sync + 'static) -> Server {
    let model = with_acme();
    Server::start(move |request| {
        let of_acme = request.header("x-pulse-org-id") == Some("acme");
        let plan = if of_acme { instead(request.path()) } else { None };
        plan.unwrap_or_else(|| pulse::answer(&model, &request))
    })
}

fn ok(body: &str) -> ResponsePlan {
    ResponsePlan::bytes(200, "application/json", body.to_owned())
}

fn gone() -> ResponsePlan {
    ResponsePlan::text(404, "404 page not found\n")
}

fn missing_scope(scope: &str) -> serde_json::Value {
    serde_json::json!({"error": "missing_scope", "requiredScope": scope})
}

fn cut_short(status: u16, sent: &'static str) -> ResponsePlan {
    let body = Body::CutShort { declared: 99, sent: Bytes::from(sent) };
    ResponsePlan::Answer(Answer { status, headers: Vec::new(), body })
}

// ---- readings

fn one() -> Tokens {
    Tokens::One(TOKEN.into())
}

fn both() -> Tokens {
    Tokens::Organizations(vec![("acme".to_owned(), ACME_TOKEN.into()), ("default".to_owned(), TOKEN.into())])
}

fn settings(url: &str, tokens: Tokens) -> PulseSettings {
    PulseSettings {
        url: url.parse().unwrap(),
        tokens,
        trust: Trust::default(),
        timeout: TIMEOUT,
        platform: PlatformSetting::Auto,
    }
}

async fn read_at(settings: PulseSettings) -> Result<Reading, ReadError> {
    PulseClient::new(settings).unwrap().read().await
}

async fn read_by(dialer: Dialer, settings: PulseSettings) -> Result<Reading, ReadError> {
    PulseClient::with_dial(settings, Box::new(dialer)).unwrap().read().await
}

async fn outcome(pulse: &SimulatedPulse, tokens: Tokens) -> Result<Reading, ReadError> {
    read_at(settings(&pulse.url(), tokens)).await
}

async fn read(pulse: &SimulatedPulse) -> Reading {
    outcome(pulse, one()).await.unwrap()
}

/// What is read of a healthy Pulse that answers this at one path.
async fn read_with(path: &str, plan: ResponsePlan) -> Reading {
    let pulse = SimulatedPulse::start(healthy());
    pulse.replace(path, plan);
    read(&pulse).await
}

/// As `read_with`, of a build before 6.0.0-rc.7.
async fn read_early_with(path: &str, plan: ResponsePlan) -> Reading {
    let pulse = SimulatedPulse::start(early());
    pulse.replace(path, plan);
    read(&pulse).await
}

/// What is unknown, and why.
fn unknown(reading: &Reading) -> Vec<(&'static str, Reason)> {
    reading.unknown().into_iter().map(|unknown| (unknown.what, unknown.reason.clone())).collect()
}

fn reason<T>(value: pulse_telemetry_core::observation::Value<T>) -> Result<T, Reason> {
    value.map_err(|unknown| unknown.reason)
}

/// As `unknown`, where one and the same request should have told all of it.
fn asked_for_nothing_but(request: &str, reading: &Reading) -> Vec<(&'static str, Reason)> {
    assert!(reading.unknown().iter().all(|unknown| unknown.request == request), "{:?}", reading.unknown());
    unknown(reading)
}

/// The counts that `/api/state` of Pulse 5 tells.
fn all_of_state(reason: &Reason) -> Vec<(&'static str, Reason)> {
    let counts = ALL_COUNTS.iter().filter(|what| **what != "active_alerts");
    counts.map(|what| (*what, reason.clone())).collect()
}

/// What one failed request leaves unknown, and nothing else.
fn assert_told(target: &str, told: &[&str], reason: &Reason, reading: &Reading) {
    let request = format!("GET {target}");
    let expected: Vec<_> = told.iter().map(|what| (*what, request.as_str(), reason)).collect();
    let unknown = reading.unknown().into_iter().map(|unknown| (unknown.what, unknown.request, &unknown.reason));
    assert_eq!(unknown.collect::<Vec<_>>(), expected);
}

/// Each request in turn is answered like this.
async fn each_request_fails_with(plan: ResponsePlan, reason: Reason) {
    each_of(TOLD, plan, reason).await;
}

async fn each_of(told: impl IntoIterator<Item = Told>, plan: ResponsePlan, reason: Reason) {
    let pulse = SimulatedPulse::start(healthy());
    for (target, told) in told {
        let path = target.split('?').next().unwrap();
        pulse.replace(path, plan.clone());
        assert_told(target, told, &reason, &read(&pulse).await);
        pulse.restore(path);
    }
}

/// As `each_request_fails_with`, with a connection that fails.
async fn each_connection_fails_with(fault: Fault, told: &[(&str, &[&str])], reason: Reason) {
    let pulse = SimulatedPulse::start(healthy());
    for (target, told) in told {
        let at = TOLD.iter().position(|(known, _)| known == target).unwrap();
        let before = time::Instant::now();
        let outcome = read_by(Dialer::to(&pulse).with(fault, at), settings(&pulse.url(), one())).await;
        if reason == Reason::TimedOut && at == 0 {
            // Nothing else was answered either.
            assert!(matches!(outcome, Err(ReadError::NotPulse(_))), "{outcome:?}");
            continue;
        }
        let reading = outcome.unwrap();
        if reason != Reason::TimedOut {
            assert_told(target, told, &reason, &reading);
            continue;
        }
        // The rest is not asked for any more: a Pulse that hangs costs one time-out, not a dozen.
        let unknown = reading.unknown();
        assert!(unknown.iter().all(|unknown| unknown.reason == reason), "{unknown:?}");
        let request = format!("GET {target}");
        assert!(told.iter().all(|what| unknown.iter().any(|u| u.what == *what && u.request == request)), "{unknown:?}");
        assert!(before.elapsed() >= TIMEOUT && before.elapsed() < 2 * TIMEOUT);
    }
}

// ---- connections

/// What becomes of one connection.
#[derive(Clone, Copy)]
enum Fault {
    /// There is none.
    Refused,
    /// There is none, and no error either.
    Unanswered,
    /// These bytes come in place of an answer, and then its end.
    Says(&'static [u8]),
    /// These bytes come in place of an answer, and then nothing.
    Stalls(&'static [u8]),
}

/// Connects to a Pulse, whatever the settings say. One connection may be faulty, which is one request.
struct Dialer {
    pulse: SocketAddr,
    fault: Option<(usize, Fault)>,
    flood: Option<(usize, Flood)>,
    dialed: Arc<AtomicUsize>,
}

impl Dialer {
    fn to(pulse: &SimulatedPulse) -> Self {
        Self { pulse: pulse.server.addr, fault: None, flood: None, dialed: Arc::default() }
    }

    /// The connection that has this number, from 0, is faulty.
    fn with(self, fault: Fault, at: usize) -> Self {
        Self { fault: Some((at, fault)), ..self }
    }

    /// The connection that has this number brings no end of bytes.
    fn flooding(self, at: usize, flood: Flood) -> Self {
        Self { flood: Some((at, flood)), ..self }
    }
}

impl Dial for Dialer {
    fn dial(&self) -> Dialing<'_> {
        let number = self.dialed.fetch_add(1, Ordering::Relaxed);
        let fault = self.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        let flood = self.flood.clone().filter(|(at, _)| *at == number).map(|(_, flood)| flood);
        Box::pin(async move {
            if let Some(flood) = flood {
                return Ok(boxed(flood.start()));
            }
            match fault {
                None => Ok(boxed(TcpStream::connect(self.pulse).await.unwrap())),
                Some(Fault::Refused) => Err(DialError::Peer("connection refused".to_owned())),
                Some(Fault::Unanswered) => {
                    let _passing = TimePasses::at_once();
                    std::future::pending().await
                }
                Some(Fault::Says(bytes)) => Ok(boxed(say(bytes, false))),
                Some(Fault::Stalls(bytes)) => Ok(boxed(say(bytes, true))),
            }
        })
    }
}

fn boxed(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static) -> Box<dyn Stream> {
    Box::new(TokioIo::new(stream))
}

/// The end of a pipe at whose other end these bytes are said once the request is there.
fn say(bytes: &'static [u8], stalls: bool) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(4096);
    tokio::spawn(async move {
        let mut pipe = ours;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(pipe.read_u8().await.unwrap());
        }
        // A client that has read enough hangs up.
        let _ = pipe.write_all(bytes).await;
        if stalls {
            let _passing = TimePasses::at_once();
            let _ = pipe.read_u8().await;
        }
    });
    theirs
}

/// A Pulse that is in no hurry, in the test's own time.
struct Slow {
    model: PulseModel,
    each: Duration,
}

impl Dial for Slow {
    fn dial(&self) -> Dialing<'_> {
        let (model, each) = (self.model.clone(), self.each);
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            tokio::spawn(async move {
                let mut pipe = ours;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(pipe.read_u8().await.unwrap());
                }
                time::sleep(each).await;
                // One that has given up by then needs no answer.
                let _ = pipe.write_all(&answer_to(&model, &String::from_utf8(head).unwrap())).await;
            });
            Ok(boxed(theirs))
        })
    }
}

/// The bytes of what a Pulse of that model answers to a request of our client.
fn answer_to(model: &PulseModel, head: &str) -> Vec<u8> {
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let headers = vec![("x-api-token".to_owned(), TOKEN.to_owned())];
    let request =
        RequestRecord { connection: 0, method: "GET".to_owned(), target, headers, body: Bytes::new(), tls: None };
    let ResponsePlan::Answer(Answer { status, body: Body::Full(body), .. }) = pulse::answer(model, &request) else {
        unreachable!("every answer of that model is a whole one: {head}")
    };
    [format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat()
}

/// Bytes without end.
#[derive(Clone)]
struct Flood {
    begin: String,
    again: String,
    sent: Arc<AtomicUsize>,
}

impl Flood {
    /// The end of a pipe at whose other end it begins once a request is there.
    fn start(self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        tokio::spawn(async move {
            let mut pipe = ours;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(pipe.read_u8().await.unwrap());
            }
            let mut more = self.begin.as_bytes();
            while pipe.write_all(more).await.is_ok() {
                self.sent.fetch_add(more.len(), Ordering::Relaxed);
                more = self.again.as_bytes();
            }
        });
        theirs
    }
}

/// While this lives, whatever the runtime waits for, it waits for no time. Servers have runtimes of their own.
struct TimePasses;

impl TimePasses {
    fn at_once() -> Self {
        time::pause();
        Self
    }
}

impl Drop for TimePasses {
    fn drop(&mut self) {
        time::resume();
    }
}
