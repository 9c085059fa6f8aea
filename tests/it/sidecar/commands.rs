//! The commands, with a daemon and without.

use pulse_telemetry_core::contract;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse};
use pulse_telemetry_testkit::server::Refusing;
use pulse_telemetry_testkit::sidecar::{Setup, exists};
use serde_json::{Value, json};

use super::{files, parse, text, working};

#[test]
fn check_beside_a_daemon_tells_what_the_daemon_says() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h").on_a_socket();
    let _sidecar = setup.start();
    assert!(setup.run(&["off"]).status.success());
    let check = setup.run(&["check"]);
    assert_eq!(check.status.code(), Some(0));
    assert!(text(&check.stdout).contains("Telemetry is off: the local switch"), "{}", text(&check.stdout));
}

#[test]
fn commands_that_look_at_the_same_time_do_not_take_each_other_for_a_daemon() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint);
    assert!(setup.run(&["reset-id"]).status.success());
    std::thread::scope(|scope| {
        let looks: Vec<_> = (0..16).map(|_| scope.spawn(|| setup.run(&["preview"]))).collect();
        for look in looks {
            let output = look.join().unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
    });
}

#[test]
fn pulses_own_preview_and_reset_routes_work_unchanged() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let sidecar = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h").start();
    let preview = sidecar.get("/api/system/settings/telemetry-preview");
    assert_eq!(preview.text(), sidecar.get("/api/v1/preview").text());
    let reset = sidecar.post("/api/system/settings/telemetry-reset-id");
    assert_eq!((preview.status, reset.status), (200, 200));
    let keys = |reply: &Value| reply.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&preview.json()), ["enabled", "payload"]);
    assert_eq!(keys(&reset.json()), ["enabled", "payload"]);
    assert_ne!(preview.json()["payload"]["install_id"], reset.json()["payload"]["install_id"]);
    assert_eq!(sidecar.get("/api/v1/preview").text(), reset.text(), "the preview is refreshed");
}

#[test]
fn looking_writes_no_file_and_moves_nothing() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint);
    let first = setup.run(&["preview"]);
    assert!(first.status.success());
    assert!(!exists(&setup.path("state")), "not even the directory");
    let sidecar = setup.clone().with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h").start();
    let before = (sidecar.status()["next"].clone(), files(&setup));
    assert_eq!(sidecar.get("/api/v1/preview").text(), sidecar.get("/api/v1/preview").text(), "one candidate");
    sidecar.get("/");
    let due = |next: &Value| next["at"].as_str().unwrap()[..19].to_owned();
    assert_eq!(due(&sidecar.status()["next"]), due(&before.0));
    assert_eq!(files(&setup), before.1);
    assert!(!exists(&setup.id_file()));
}

#[test]
fn the_commands_do_the_same_with_a_daemon_and_without() {
    for with_daemon in [true, false] {
        let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
        let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h").on_a_socket();
        let daemon = with_daemon.then(|| setup.start());
        let run = |arguments: &[&str]| {
            let output = setup.run(arguments);
            assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
            text(&output.stdout)
        };
        let status = || parse(run(&["status", "--json"]).as_bytes());
        let id = || parse(run(&["preview"]).as_bytes())["install_id"].clone();
        assert_eq!(status()["running"], with_daemon);
        run(&["reset-id"]);
        let first = setup.id_on_disk().unwrap();
        assert_eq!(id(), first);
        run(&["reset-id"]);
        assert_ne!(setup.id_on_disk().unwrap(), first);
        run(&["off"]);
        assert!(exists(&setup.state("off")) && !exists(&setup.id_file()));
        assert_eq!((status()["enabled"].clone(), status()["off_by"].clone()), (json!(false), json!("switch")));
        assert_eq!(contract::validate(&parse(run(&["preview"]).as_bytes())), Ok(()), "the preview works while off");
        assert!(run(&["status"]).contains("Telemetry is off: the local switch"));
        run(&["on"]);
        assert!(!exists(&setup.state("off")));
        assert_eq!(status()["enabled"], true);
        assert_eq!(setup.run(&["healthcheck"]).status.success(), with_daemon);
        drop(daemon);
        assert_eq!(endpoint.server.connections(), 0);
    }
}

#[test]
fn a_second_daemon_on_the_same_state_directory_says_so_and_ends() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint);
    let _first = setup.start();
    let second = setup.run(&["run"]);
    assert_eq!(second.status.code(), Some(5));
    assert!(text(&second.stderr).contains("in use by another pulse-telemetry"), "{}", text(&second.stderr));
}

#[test]
fn a_state_directory_that_cannot_be_written_is_an_error_at_the_start() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint);
    let file = setup.write("file", "");
    let setup = setup.with("PULSE_TELEMETRY_STATE__DIR", file.join("state").to_str().unwrap());
    let output = setup.run(&["run"]);
    assert_eq!(output.status.code(), Some(5));
    let said = text(&output.stderr);
    assert!(said.contains("state.dir") && said.contains(file.to_str().unwrap()), "{said}");
}

#[test]
fn exit_codes_are_the_documented_ones() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint);
    let gone = Refusing::new();
    let code = |setup: &Setup, arguments: &[&str]| setup.run(arguments).status.code();
    assert_eq!(code(&setup, &["check"]), Some(0));
    assert_eq!(code(&setup, &["--help"]), Some(0));
    assert_eq!(code(&setup, &["healthcheck"]), Some(1));
    assert_eq!(code(&setup, &["no-such-command"]), Some(2));
    assert_eq!(code(&setup.clone().with("PULSE_TELEMETRY_LOG__FORMAT", "xml"), &["preview"]), Some(3));
    assert_eq!(code(&setup.clone().with("HTTPS_PROXY", "socks5://127.0.0.1:1"), &["preview"]), Some(0));
    assert_eq!(code(&setup.clone().with("PULSE_URL", &gone.url()), &["preview"]), Some(4));
    assert_eq!(code(&setup.clone().with("PULSE_URL", &gone.url()), &["check"]), Some(4));
    let documented = include_str!("../../../docs/CONFIGURATION.md");
    for line in ["| 0 |", "| 1 |", "| 2 |", "| 3 |", "| 4 |", "| 5 |"] {
        assert!(documented.contains(line), "{line} in docs/CONFIGURATION.md");
    }
}
