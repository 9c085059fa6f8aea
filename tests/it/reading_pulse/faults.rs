//! Answers and connections that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pulse_telemetry::pulse::{PulseClient, PulseSettings};
use pulse_telemetry::status::SuppressedReport;
use pulse_telemetry_core::engine::Suppression;
use pulse_telemetry_core::observation::{ReadError, Reading, Reason, Scope};
use pulse_telemetry_http::wire::{Dial, Dialing};
use pulse_telemetry_testkit::pulse::{self, MONITORING_READ, PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::{Answer, Body, RequestRecord, ResponsePlan, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time;

use super::{
    ALERTS, ALL_COUNTS, Dialer, Fault, Flood, NODES, SECURITY, SETTINGS, STATS, SUMMARY, TIMEOUT, TOLD, Told,
    assert_told, boxed, cut_short, each_request_fails_with, early, gone, healthy, missing_scope, ok, one, read,
    read_at, read_by, read_early_with, read_with, reason, settings, unknown,
};

/// As `TOLD`, of a build before 6.0.0-rc.7, where there is no summary.
const TOLD_WITHOUT_SUMMARY: [Told; 4] = [
    (STATS, ALL_COUNTS),
    ("/api/resources?type=agent&source=proxmox&limit=1", &["pve_nodes"]),
    ("/api/resources?type=agent,docker-host&source=docker&limit=1", &["docker_hosts"]),
    (ALERTS, &["active_alerts"]),
];

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
}

#[tokio::test]
async fn a_port_that_speaks_https_alone_is_told_with_what_to_try() {
    // What servers say there: an alert of TLS, or a 400 with these words.
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
}

#[tokio::test]
async fn a_pulse_that_hangs_is_named_with_the_time_that_it_had() {
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
    let rows = ["version", "platform", "starting"].map(|what| (what, Reason::Status(404)));
    assert_eq!(unknown(&read(&pulse).await), rows);
    // So are different answers.
    pulse.replace(SECURITY, ResponsePlan::status(500));
    assert_eq!(unknown(&read(&pulse).await).len(), 5);
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
