//! Pulse's own routes for events, the command, and that no event leaves.

use pulse_telemetry::events::{EventRefusal, TYPES};
use pulse_telemetry_core::clock::Clock;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, Sidecar};
use serde_json::{Value, json};

use super::{CONFIG, EVENTS, ON, Rig, event, run, with};

/// The exchanges of `wire/local-events.txt`, made by a client that knows Pulse only.
#[test]
fn a_client_made_for_pulses_own_event_routes_works_unchanged() {
    let name = "a_client_made_for_pulses_own_event_routes_works_unchanged";
    let Some(shared) = pulse_telemetry_testkit::replay::shared_or_skip(name) else { return };
    let recorded = std::fs::read_to_string(shared.join("wire/local-events.txt")).unwrap();
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let sidecar = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).start();
    let lines: Vec<&str> = recorded.lines().collect();
    post_as_recorded(&sidecar, &lines);
    assert_counts_as_recorded(&sidecar, &lines);
    let refused = sidecar.ask("DELETE", EVENTS, "").unwrap();
    assert_eq!((refused.status, refused.header("allow")), (405, Some("OPTIONS, POST")));

    // The two routes of the telemetry itself, with Pulse's keys in Pulse's order.
    let line = lines.iter().rposition(|line| line.starts_with("200 {\"enabled\":false")).unwrap();
    let theirs: Value = serde_json::from_str(lines[line].strip_prefix("200 ").unwrap()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let preview = sidecar.get("/api/system/settings/telemetry-preview").json();
    let reset = sidecar.post("/api/system/settings/telemetry-reset-id").json();
    for ours in [&preview, &reset] {
        assert_eq!(keys(ours), keys(&theirs));
        assert_eq!(keys(&ours["payload"]), keys(&theirs["payload"]));
    }
    assert_ne!(preview["payload"]["install_id"], reset["payload"]["install_id"]);
    let refused = sidecar.post("/api/system/settings/telemetry-preview");
    assert_eq!((refused.status, &refused.json()["code"]), (405, &json!("method_not_allowed")));
}

/// Posts each body of the recording, and gets the answer that Pulse gave.
fn post_as_recorded(sidecar: &Sidecar, lines: &[&str]) {
    let before = SystemClock.now().wall.as_millisecond();
    let mut posted = 0;
    let mut body = "";
    for (line, next) in lines.iter().zip(&lines[1..]) {
        let is_body = line.starts_with('{') || *line == "not json";
        if is_body {
            body = line;
        }
        if !is_body && *line != "POST the same again" {
            continue;
        }
        let (status, rest) = next.split_once(' ').unwrap();
        let expected: Value = serde_json::from_str(rest.split("   ").next().unwrap()).unwrap();
        let answer = sidecar.ask("POST", EVENTS, &body.replace(":T,", &format!(":{before},"))).unwrap();
        assert_eq!((answer.status.to_string().as_str(), answer.json()), (status, expected), "{body}");
        posted += 1;
    }
    assert_eq!(posted, 9);
}

/// What is told of the events is what Pulse told, but for times.
fn assert_counts_as_recorded(sidecar: &Sidecar, lines: &[&str]) {
    let recorded = |path: &str| -> Value {
        let at = lines.iter().position(|line| *line == format!("GET {path}")).unwrap();
        serde_json::from_str(lines[at + 1].strip_prefix("200 ").unwrap()).unwrap()
    };
    let after = SystemClock.now().wall.as_millisecond();
    let mut stats = sidecar.get("/api/upgrade-metrics/stats").json();
    let mut health = sidecar.get("/api/upgrade-metrics/health").json();
    assert_eq!(stats["window_start"], health["started_at"]);
    assert!(
        stats["window_end"].as_i64().unwrap() >= after && health["last_event_age_seconds"].as_f64().unwrap() >= 0.0
    );
    // Times differ; all else is as recorded.
    for (ours, path, times) in [
        (&mut stats, "/api/upgrade-metrics/stats", ["window_start", "window_end"]),
        (&mut health, "/api/upgrade-metrics/health", ["last_event_age_seconds", "started_at"]),
    ] {
        let mut theirs = recorded(path);
        for time in times {
            assert!(ours[time].is_number() && theirs[time].is_number());
            assert_eq!(ours[time].is_f64(), theirs[time].is_f64(), "{time}");
            ours[time] = json!(0);
            theirs[time] = json!(0);
        }
        assert_eq!(*ours, theirs);
    }
    assert_eq!(sidecar.get(CONFIG).json(), recorded(CONFIG));
}

#[test]
fn every_type_that_pulse_knows_is_recorded_with_all_its_fields() {
    let rig = Rig::new();
    for kind in TYPES {
        let event = json!({
            "type": kind, "surface": "s", "org_id": "default", "capability": "c", "tenant_mode": "multi",
            "limit_key": "l", "current_value": 9, "limit_value": 10, "timestamp": 5, "idempotency_key": kind,
            "something_newer": {"a": 1},
        });
        rig.record(&event).unwrap();
    }
    assert_eq!(rig.keys(), TYPES);
    for (key, value, message) in [
        ("idempotency_key", json!(" "), "idempotency_key is required"),
        ("type", json!(null), "type is required"),
        ("tenant_mode", json!("many"), "tenant_mode must be \"single\" or \"multi\""),
        ("type", json!("limit_blocked"), "limit_key is required for limit_blocked"),
        ("timestamp", json!(-1), "timestamp is required"),
        ("timestamp", json!(1.5), "invalid request body"),
    ] {
        assert_eq!(rig.record(&with(event("x"), key, value)).unwrap_err().to_string(), message);
    }
    assert_eq!(run(rig.recorder.record(b"[]", ON)), Err(EventRefusal::Invalid("invalid request body".to_owned())));
}

#[test]
fn the_command_shows_and_erases_with_a_daemon_and_without() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).on_a_socket();
    let text = |arguments: &[&str]| {
        let output = setup.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text(&["status"]).contains("Telemetry is on"), "the state directory need not be there");
    assert!(!text(&["events"]).contains("limit_blocked"), "nor for this");
    let socket = setup.path("api.sock");
    let post = |key: &str| {
        use std::io::{Read as _, Write as _};
        let body = with(with(event(key), "type", json!("limit_blocked")), "limit_key", json!("hosts")).to_string();
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let head = format!("POST {EVENTS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    };
    let sidecar = setup.start();
    post("one");
    let with_daemon = text(&["events"]);
    assert!(with_daemon.contains("limit_blocked") && with_daemon.contains("hosts"), "{with_daemon}");
    drop(sidecar);
    let without = text(&["events"]);
    assert_eq!(without.lines().next(), with_daemon.lines().next());
    assert!(without.contains("No pulse-telemetry answers"), "{without}");
    let json: Value = serde_json::from_str(&text(&["events", "--json"])).unwrap();
    assert_eq!((&json["running"], &json["events"][0]["idempotency_key"]), (&json!(false), &json!("one")));
    assert!(text(&["events", "--erase"]).contains("erased"));
    assert!(text(&["events"]).contains("No local event is kept."));
    let sidecar = setup.start();
    post("two");
    assert!(text(&["events", "--erase"]).contains("erased"));
    assert!(!std::fs::read_to_string(setup.state("events.jsonl")).unwrap().contains("two"));
    drop(sidecar);
}

#[test]
fn no_byte_of_an_event_leaves_to_pulse_to_the_endpoint_or_into_the_log() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url())
        .with_token(TOKEN)
        .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "1s")
        .with("PULSE_TELEMETRY_SCHEDULE__JITTER", "0s");
    let sidecar = setup.start();
    let planted = ["PLANTEDsurface", "PLANTEDcapability", "PLANTEDlimit", "PLANTEDkey"];
    let event = json!({
        "type": "agent_first_connected", "surface": planted[0], "capability": planted[1], "limit_key": planted[2],
        "timestamp": 1_234_567_891_234_567_i64, "idempotency_key": planted[3],
        "current_value": 987_654_321_012_345_i64, "limit_value": 876_543_210_123_456_i64,
    });
    assert_eq!(sidecar.ask("POST", EVENTS, &event.to_string()).unwrap().status, 202);
    assert_eq!(sidecar.ask("POST", EVENTS, &event.to_string().replace("agent", "PLANTEDtype")).unwrap().status, 400);
    assert!(std::fs::read_to_string(setup.state("events.jsonl")).unwrap().contains("PLANTEDkey"), "it is here");
    // Previews, a reset and pings after it.
    let sent = endpoint.pings().len();
    sidecar.get("/api/v1/preview");
    sidecar.post("/api/v1/reset-id");
    endpoint.wait_for_pings(sent + 1, LIMIT);
    let metrics = sidecar.get("/metrics").text();
    let elsewhere: Vec<String> = ["state.json", "ledger.jsonl", ".install_id"]
        .iter()
        .map(|file| std::fs::read_to_string(setup.state(file)).unwrap())
        .collect();
    let log = sidecar.stop();
    let mut left: Vec<String> = [&pulse.server, &endpoint.server]
        .iter()
        .flat_map(|server| server.requests())
        .map(|request| {
            format!(
                "{} {} {:?} {}",
                request.method,
                request.target,
                request.headers,
                String::from_utf8_lossy(&request.body)
            )
        })
        .collect();
    assert!(left.len() > 20, "Pulse was read and pings were sent");
    left.extend(elsewhere);
    left.extend([log, metrics]);
    let numbers = ["1234567891234567", "987654321012345", "876543210123456"];
    for text in left {
        for secret in planted.iter().chain(&numbers).chain(&["PLANTED", "agent_first_connected"]) {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
