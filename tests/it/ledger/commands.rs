//! History and audit, by the API and by the commands.

use std::collections::BTreeSet;

use pulse_telemetry_core::clock::Clock;
use pulse_telemetry_core::engine::EntryKind;
use pulse_telemetry_core::ledger::Line;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::history::{DAY, HOUR, audit, because, chained, entries, life, noon, split};
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup};
use serde_json::{Value, json};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A set-up that has this ledger, and a ping that goes at once.
fn setup(pulse: &SimulatedPulse, endpoint: &Endpoint, ledger: &[u8]) -> Setup {
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    std::fs::create_dir(setup.path("state")).unwrap();
    std::fs::write(setup.state("ledger.jsonl"), ledger).unwrap();
    setup
}

/// A ledger that the daemon has no reason to prune: its newest entry is of the hour.
fn recent(days: u32) -> Vec<u8> {
    let shift = SystemClock.now().wall.duration_since(noon());
    let mut lines = life(days);
    let end = lines.last().unwrap().at.duration_since(noon());
    for line in &mut lines {
        line.at += shift - end - HOUR;
    }
    chained(lines)
}

#[test]
fn the_history_by_the_api_pages_through_everything_once_and_as_it_is_stored() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let sidecar = setup(&pulse, &endpoint, &recent(30)).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h");
    let state = sidecar.state("ledger.jsonl");
    let sidecar = sidecar.start();
    sidecar.status();
    let stored = std::fs::read(state).unwrap();
    let stored: Vec<String> = split(&stored).iter().map(|line| text(line.trim_ascii_end())).collect();
    for limit in [1, 7, 50, 200] {
        let (mut shown, mut before) = (Vec::new(), String::new());
        let mut pages = 0;
        loop {
            let page = sidecar.get(&format!("/api/v1/history?limit={limit}{before}"));
            let entries = page.text();
            // Byte for byte.
            let entries = entries.strip_prefix("{\"entries\":[").unwrap().rsplit_once("],\"before\":").unwrap().0;
            shown.extend(entries.split("},{").map(|entry| entry.trim_matches(['{', '}']).to_owned()));
            pages += 1;
            match page.json()["before"].as_u64() {
                Some(seq) => before = format!("&before={seq}"),
                None => break,
            }
        }
        assert_eq!(pages, stored.len().div_ceil(limit));
        let expected: Vec<String> = stored.iter().rev().map(|line| line.trim_matches(['{', '}']).to_owned()).collect();
        // Bodies hold braces, but never `},{`.
        assert_eq!(shown, expected, "limit {limit}");
    }
    assert_eq!(sidecar.get("/api/v1/history").json()["entries"].as_array().unwrap().len(), 50);
    assert_eq!(sidecar.get("/api/v1/history?before=1").json(), json!({"entries": [], "before": null}));
    assert_eq!(sidecar.get("/api/v1/history?limit=201").status, 400);
}

#[test]
fn history_and_audit_work_beside_a_running_daemon_and_say_the_same_without_one() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = setup(&pulse, &endpoint, &recent(30)).on_a_socket();
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, LIMIT);
    sidecar.wait_for_log("ping delivered");
    let sent = text(&endpoint.pings()[0].body);
    let run = |arguments: &[&str]| {
        let output = setup.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stderr), text(&output.stdout));
        text(&output.stdout)
    };
    let commands: [&[&str]; 5] = [
        &["history"],
        &["history", "--json"],
        &["history", "--bodies"],
        &["history", "--limit", "3"],
        &["history", "--json", "--limit", "201"],
    ];
    let beside = commands.map(run);
    let stored = std::fs::read_to_string(setup.state("ledger.jsonl")).unwrap();
    assert_eq!(beside[1], stored, "as it is stored");
    assert_eq!(beside[0].lines().count(), stored.lines().count(), "one line an entry");
    let last = beside[0].lines().last().unwrap();
    assert!(
        last.contains("  sent  ") && last.ends_with("startup, status 204, receipt missing"),
        "the newest last: {last}"
    );
    assert!(!beside[0].contains(&sent) && beside[2].contains(&sent));
    assert_eq!(beside[3].lines().collect::<Vec<_>>()[2], last);
    assert_eq!((beside[3].lines().count(), beside[4].lines().count()), (3, stored.lines().count().min(201)));
    assert!(run(&["audit"]).contains("Nothing was found."));
    // A line that the daemon is about to finish.
    std::fs::write(setup.state("ledger.jsonl"), stored.clone() + "{\"seq\":").unwrap();
    assert!(run(&["audit"]).contains("Nothing was found."));
    drop(sidecar);
    assert_eq!(setup.run(&["audit"]).status.code(), Some(6), "nobody finishes it");
    std::fs::write(setup.state("ledger.jsonl"), &stored).unwrap();
    assert_eq!(commands.map(run), beside);
    assert!(run(&["audit"]).contains("Nothing was found."));
}

#[test]
fn the_history_is_erased_with_a_daemon_and_without_before_the_answer() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    for with_daemon in [true, false] {
        let setup =
            setup(&pulse, &endpoint, &recent(20)).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h").on_a_socket();
        let daemon = with_daemon.then(|| setup.start());
        let output = setup.run(&["history", "--erase"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let ledger = std::fs::read(setup.state("ledger.jsonl")).unwrap();
        assert_eq!(entries(&ledger).iter().map(|line| line.kind).collect::<Vec<_>>(), [EntryKind::Erased]);
        assert!(text(&setup.run(&["history"]).stdout).contains("erased"));
        drop(daemon);
        let again = setup.start();
        assert!(setup.run(&["status"]).status.success());
        again.stop();
        assert_eq!(setup.run(&["audit"]).status.code(), Some(0));
        assert_eq!(setup.run(&["history", "--erase", "--json"]).status.code(), Some(2));
        assert_eq!(setup.run(&["history", "--limit", "0"]).status.code(), Some(2));
    }
}

#[test]
fn audit_ends_with_0_where_it_finds_nothing_6_where_it_does_and_5_where_it_cannot_read() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let none = Setup::new(&pulse.url(), &endpoint.url());
    let output = none.run(&["audit"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("state.dir"), "{}", text(&output.stderr));
    let output = none.run(&["history"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("no daemon has run yet"), "{}", text(&output.stderr));
    std::fs::create_dir(none.path("state")).unwrap();
    assert_eq!(none.run(&["audit"]).status.code(), Some(0), "nothing was recorded yet");
    assert!(text(&none.run(&["history"]).stdout).contains("Nothing was recorded yet."));

    let ago = SystemClock.now().wall.duration_since(noon()) - DAY * 30;
    let sound = chained(life(12).into_iter().map(|line| Line { at: line.at + ago, ..line }).collect());
    let setup = setup(&pulse, &endpoint, &sound);
    let output = setup.run(&["audit"]);
    assert_eq!(output.status.code(), Some(0));
    let newest = audit(&sound).newest.unwrap().1;
    assert!(text(&output.stdout).contains(&newest), "{}", text(&output.stdout));
    assert_eq!(setup.run(&["audit", "--since", &newest]).status.code(), Some(0));
    assert_eq!(setup.run(&["audit", "--since", &"0".repeat(64)]).status.code(), Some(6));
    assert_eq!(setup.run(&["audit", "--since", "nonsense"]).status.code(), Some(2));
    let setup = setup.with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "168h");
    assert_eq!(setup.run(&["audit"]).status.code(), Some(0), "the schedule of now is not that of then");
    let changed = text(&sound).replacen("no_connection", "timed_out", 1);
    std::fs::write(setup.state("ledger.jsonl"), changed).unwrap();
    let before: BTreeSet<_> =
        std::fs::read_dir(setup.path("state")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let output = setup.run(&["audit"]);
    assert_eq!(output.status.code(), Some(6));
    assert!(text(&output.stdout).contains("chain     FOUND"), "{}", text(&output.stdout));
    let after: BTreeSet<_> =
        std::fs::read_dir(setup.path("state")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(before, after, "it writes nothing, not even a lock");
    assert_eq!(pulse.server.connections() + endpoint.server.connections(), 0, "it contacts nobody");
    let documented = include_str!("../../../docs/CONFIGURATION.md");
    assert!(documented.contains("| 6 |") && text(&setup.run(&["--help"]).stdout).contains("6 the audit"));
}

#[test]
fn a_forged_entry_cannot_control_the_terminal() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let forged = chained(vec![because(EntryKind::Failed, noon(), "\u{1b}[2J\u{9b}2J\n\u{202e}\u{200b}")]);
    let setup = setup(&pulse, &endpoint, &forged);
    let said = text(&setup.run(&["history"]).stdout);
    assert!(
        said.lines().count() == 1
            && !said.trim_end().contains(|c: char| c.is_control() || "\u{202e}\u{200b}".contains(c)),
        "{said:?}"
    );
    let json: Value = serde_json::from_slice(&setup.run(&["history", "--json"]).stdout).unwrap();
    assert_eq!(json["kind"], "failed");
}
