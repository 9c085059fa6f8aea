//! `check --compare`: our ping beside Pulse's own.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use pulse_telemetry_core::contract;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{self, Orgs, PulseModel, Relay, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::replay;
use pulse_telemetry_testkit::server::{ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup};
use serde_json::{Value, json};

use super::{text, working};

/// A change of the model.
type Change<'a> = &'a dyn Fn(&mut PulseModel);

/// The exit code of a comparison with that Pulse, what it says, and its error.
fn compare(change: Change<'_>) -> (i32, String, String) {
    let mut model = PulseModel::default();
    change(&mut model);
    let pulse = SimulatedPulse::start(model);
    let setup = Setup::new(&pulse.url(), "http://127.0.0.1:1/").with_token(TOKEN);
    let output = setup.run(&["check", "--compare"]);
    assert!(!setup.path("state").exists(), "it keeps nothing");
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The line of that field.
fn row(said: &str, field: &str) -> String {
    let line = said.lines().find(|line| line.split_whitespace().next() == Some(field));
    assert!(line.is_some(), "{field} in {said}");
    line.unwrap().to_owned()
}

/// Pulse's own ping says that; null leaves the field out.
fn own(name: &str, value: Value) -> impl Fn(&mut PulseModel) {
    move |model| drop(model.own_ping.insert(name.to_owned(), value.clone()))
}

/// Pulse answers that in place of its own ping.
fn instead(plan: ResponsePlan) -> impl Fn(&mut PulseModel) {
    move |model| drop(model.overrides.insert(replay::PREVIEW.to_owned(), plan.clone()))
}

#[test]
fn our_ping_is_shown_beside_pulses_own_and_what_only_pulse_sends_by_name() {
    let (code, said, _) = compare(&|_| {});
    assert_eq!(code, 0, "{said}");
    assert!(said.lines().nth(1).unwrap().contains("makes Pulse write its own ID file"), "{said}");
    for field in &contract::FIELDS {
        let line = row(&said, field.name);
        let is_documented = ["version_raw", "install_id"].contains(&field.name);
        assert!(line.contains(if is_documented { "documented: " } else { "same" }), "{line}");
    }
    let extra = said.lines().find(|line| line.starts_with("Only Pulse sends")).unwrap();
    for name in ["schema_version", "sent_at", "estate_size_bucket", "docker_containers"] {
        assert!(extra.contains(name), "{extra}");
    }
    assert!(!said.contains("1a1ecd79"), "no ID is shown");
    // As long as 6.3 has them.
    let long = "pulse_intelligence_patrol_control_paid_completed_operations_loop_30d";
    assert!(compare(&own(long, json!(0))).1.contains(long));
    let (code, said, _) = compare(&own("pl\u{1b}[31m\u{202e}nted", json!(1)));
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains('\u{202e}'), "{said}");
}

#[test]
fn a_documented_difference_from_pulses_own_ping_is_told_with_its_sentence() {
    let lapsed = |model: &mut PulseModel| {
        model.relay = Relay::NotLicensed;
        own("relay_enabled", json!(true))(model);
    };
    let documented: [(&str, Change<'_>); 8] = [
        ("event", &own("event", json!("startup"))),
        ("platform", &own("platform", json!("docker"))),
        ("os", &own("os", json!("freebsd"))),
        ("arch", &own("arch", json!("riscv64"))),
        ("relay_enabled", &lapsed),
        ("ai_enabled", &|model| (model.mock, model.ai) = (true, false)),
        ("version_raw", &own("version_raw", json!("v6.3.0 "))),
        ("install_id", &own("install_id", json!("0"))),
    ];
    for (field, change) in documented {
        let (code, said, _) = compare(change);
        assert_eq!(code, 0, "{field}: {said}");
        assert!(row(&said, field).contains("documented: "), "{said}");
    }
    let pulse = SimulatedPulse::start(PulseModel { orgs: Orgs::List, ..PulseModel::default() });
    let setup = Setup::new(&pulse.url(), "http://127.0.0.1:1/");
    let organizations = format!("{{default=\"{}\"}}", setup.write("default", TOKEN).display());
    let output = setup.with("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", &organizations).run(&["check", "--compare"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(row(&text(&output.stdout), "multi_tenant").contains("documented: "));
}

#[test]
fn any_other_difference_from_pulses_own_ping_ends_with_7() {
    for (field, value) in [
        ("vms", json!(7)),
        ("vms", json!("6")),
        ("docker_hosts", Value::Null),
        ("active_alerts", json!(0)),
        ("version", json!("6.3.1")),
        ("version_raw", json!("v6.3.1")),
        ("version_raw", json!(["v6.3.0"])),
        ("version_build", json!("git.1.gabc")),
        ("version_channel", Value::Null),
        // Of those that may differ, in another way.
        ("platform", Value::Null),
        ("ai_enabled", json!(false)),
        ("relay_enabled", json!(true)),
        ("multi_tenant", json!(true)),
        ("has_api_tokens", json!(false)),
    ] {
        let (code, said, _) = compare(&own(field, value.clone()));
        assert_eq!(code, 7, "{field} {value}: {said}");
        assert!(row(&said, field).contains("DIFFERS"), "{said}");
        let last = said.lines().last().unwrap();
        assert!(last.contains(field), "{last}");
    }
}

#[test]
fn a_pulse_without_a_ping_of_its_own_is_told_and_ends_with_4() {
    let none: [(&str, Change<'_>); 5] = [
        ("no telemetry of its own", &|model| *model = PulseModel::v5()),
        ("404", &instead(ResponsePlan::status(404))),
        ("Pulse answered 500", &instead(ResponsePlan::status(500))),
        ("another shape", &instead(ResponsePlan::json(200, &json!({"enabled": true})))),
        ("pulse.organizations", &|model| model.orgs = Orgs::List),
    ];
    for (expected, change) in none {
        let (code, _, error) = compare(change);
        assert_eq!(code, 4, "{error}");
        assert!(error.contains(expected), "{expected} in {error}");
    }
}

#[test]
fn what_moves_while_pulse_is_compared_is_told_as_changed_meanwhile() {
    let looks = AtomicU64::new(0);
    let server = Server::start(move |request| {
        // Each look at the estate finds one more guest and alert, and Pulse's own ping lies between two of them.
        let now =
            if request.path() == "/api/state/summary" { looks.fetch_add(1, SeqCst) + 1 } else { looks.load(SeqCst) };
        let mut model = PulseModel::default();
        (model.counts.vms, model.counts.alerts) = (5 + now, now);
        pulse::answer(&model, &request)
    });
    let setup = Setup::new(&server.url(), "http://127.0.0.1:1/").with_token(TOKEN);
    let output = setup.run(&["check", "--compare"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let moved: Vec<_> = said.lines().filter(|line| line.contains("changed meanwhile")).collect();
    assert_eq!(moved.len(), 2, "{said}");
    assert!(moved[0].contains("vms") && moved[1].contains("active_alerts"), "{said}");
}

#[test]
fn the_daemon_never_asks_pulse_for_its_own_ping() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint);
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, LIMIT);
    for path in ["/", "/api/v1/preview", "/api/v1/status", "/api/v1/posture", replay::PREVIEW] {
        assert_eq!(sidecar.get(path).status, 200, "{path}");
    }
    sidecar.stop();
    for command in ["preview", "status", "check"] {
        assert_eq!(setup.run(&[command]).status.code(), Some(0), "{command}");
    }
    let asked = pulse.server.requests();
    assert!(!asked.is_empty() && asked.iter().all(|request| request.path() != replay::PREVIEW));
}
