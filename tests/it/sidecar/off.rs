//! Off, by each source.

use pulse_telemetry_core::contract;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::{ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, exists};
use serde_json::{Value, json};

use super::{parse, text, working};

/// Starts the daemon so, and checks that telemetry is off by that source and that nothing left.
fn is_off(setup: &Setup, endpoint: &Endpoint, off_by: &str) {
    let sidecar = setup.start();
    let preview = sidecar.get("/api/v1/preview");
    assert_eq!((preview.status, preview.json()["enabled"].clone()), (200, json!(false)), "the preview works while off");
    let status = sidecar.status();
    assert_eq!((&status["enabled"], &status["off_by"]), (&json!(false), &json!(off_by)));
    assert!(!exists(&setup.id_file()), "no ID file while off");
    sidecar.stop();
    assert!(!exists(&setup.id_file()), "no ID file while off");
    assert_eq!(endpoint.server.connections(), 0, "off by {off_by}");
}

#[test]
fn off_by_every_spelling_of_pulse_telemetry_makes_no_connection_and_keeps_no_id_file() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    for value in ["false", "FALSE", "0", "f", "no", "n", "off", "disabled", " False ", "nonsense", "tru", "2"] {
        let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY", value);
        is_off(&setup, &endpoint, "pulse_telemetry");
        let refused = setup.on_a_socket();
        let sidecar = refused.start();
        let output = refused.run(&["on"]);
        assert_eq!(output.status.code(), Some(1), "the switch cannot overrule {value:?}");
        assert!(text(&output.stderr).contains("PULSE_TELEMETRY"), "{}", text(&output.stderr));
        drop(sidecar);
    }
}

#[test]
fn off_by_each_other_source_makes_no_connection_and_keeps_no_id_file() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    for value in ["1", "true", "yes", "anything"] {
        is_off(&working(&pulse, &endpoint).with("DO_NOT_TRACK", value), &endpoint, "do_not_track");
    }
    let every_off_wins = working(&pulse, &endpoint).with("DO_NOT_TRACK", "1").with("PULSE_TELEMETRY", "true");
    is_off(&every_off_wins, &endpoint, "do_not_track");

    let by_config = working(&pulse, &endpoint).with("PULSE_TELEMETRY_TELEMETRY__ENABLED", "false");
    is_off(&by_config, &endpoint, "config");

    let by_switch = working(&pulse, &endpoint);
    assert!(by_switch.run(&["off"]).status.success());
    is_off(&by_switch, &endpoint, "switch");

    let in_pulse = SimulatedPulse::start(PulseModel { telemetry_env_override: false, ..PulseModel::default() });
    is_off(&working(&in_pulse, &endpoint), &endpoint, "pulse");
}

#[test]
fn off_deletes_whatever_id_file_an_earlier_process_left() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let record = r#"{"install_id":"81f9c1f6-6c0f-4459-b79b-17aeefba91fc","issued_at":"2026-11-01T00:00:00Z"}"#;
    for left in [record, "81f9c1f6-6c0f-4459-b79b-17aeefba91fc\n", "half a rec", ""] {
        let setup = working(&pulse, &endpoint);
        std::fs::create_dir(setup.path("state")).unwrap();
        std::fs::write(setup.id_file(), left).unwrap();
        is_off(&setup.clone().with("PULSE_TELEMETRY", "false"), &endpoint, "pulse_telemetry");
        std::fs::write(setup.id_file(), left).unwrap();
        assert!(setup.clone().with("DO_NOT_TRACK", "1").run(&["off"]).status.success());
        assert!(!exists(&setup.id_file()), "by the command, too");
    }
}

#[test]
fn an_opt_out_in_pulse_deletes_the_id_as_soon_as_anybody_sees_it() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint);
    assert!(setup.run(&["reset-id"]).status.success());
    pulse.change(|model| model.telemetry_env_override = false);
    let sidecar = setup.with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h").start();
    assert_eq!(sidecar.get("/api/v1/preview").json()["enabled"], false);
    let status = sidecar.status();
    assert_eq!((&status["off_by"], &status["next"], &status["id"]), (&json!("pulse"), &Value::Null, &Value::Null));
    let turned = sidecar.put("/api/v1/switch", r#"{"enabled":true}"#).json();
    assert_eq!((&turned["enabled"], &turned["off_by"]), (&json!(false), &json!("pulse")));
    sidecar.stop();
    assert_eq!(endpoint.server.connections(), 0);
}

#[test]
fn turning_off_works_where_no_daemon_or_somebody_else_answers() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let html = "<html>somebody else's page</html>";
    for plan in [ResponsePlan::text(404, "not found"), ResponsePlan::text(200, html), ResponsePlan::text(204, "")] {
        let elsewhere = Server::start(move |_| plan.clone());
        let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SERVE__LISTEN", &elsewhere.addr.to_string());
        let off = setup.run(&["off"]);
        assert!(off.status.success(), "{}", text(&off.stderr));
        assert!(exists(&setup.state("off")));
        assert_eq!(contract::validate(&parse(&setup.run(&["preview"]).stdout)), Ok(()), "and so does looking");
        assert_eq!(parse(&setup.run(&["status", "--json"]).stdout)["running"], false);
        assert!(setup.run(&["on"]).status.success() && setup.run(&["reset-id"]).status.success());
        assert!(setup.id_on_disk().is_some());
        assert_eq!(setup.run(&["healthcheck"]).status.code(), Some(1));
    }
    let no_token = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SERVE__TOKEN_FILE", "/nowhere/token");
    assert!(no_token.run(&["off"]).status.success());
    assert!(exists(&no_token.state("off")));
}

#[test]
fn turning_off_works_where_the_daemon_does_not_take_the_caller() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "3s");
    let token = setup.write("page-token", "a-token-of-the-page");
    let sidecar = setup.clone().with("PULSE_TELEMETRY_SERVE__TOKEN_FILE", token.to_str().unwrap()).start();
    let beside = setup.clone().with("PULSE_TELEMETRY_SERVE__LISTEN", &sidecar.address().to_string());
    assert_eq!(beside.run(&["status"]).status.code(), Some(1), "the caller has no token");
    let off = beside.run(&["off"]);
    assert!(off.status.success(), "{}", text(&off.stderr));
    assert!(text(&off.stdout).contains("was not told: This server asks for its token"), "{}", text(&off.stdout));
    assert!(exists(&setup.state("off")));
    // The daemon finds the file with the reading that the startup ping needs.
    sidecar.wait_for_log("telemetry is off");
    sidecar.stop();
    assert_eq!(endpoint.server.connections(), 0);
}

#[test]
fn off_with_a_configuration_that_cannot_be_used_tells_how_to_do_it_by_hand() {
    let setup = Setup::new("nonsense", "https://127.0.0.1:1/").with_token(TOKEN);
    let output = setup.run(&["off"]);
    assert_eq!(output.status.code(), Some(3));
    let told = text(&output.stderr);
    assert!(told.contains("pulse.url") && told.contains("An empty file named `off`"), "{told}");
    assert!(!text(&setup.run(&["on"]).stderr).contains("empty file"));
}

#[test]
fn a_blank_variable_is_unset_and_a_clear_yes_is_on() {
    for (name, value) in [
        ("PULSE_TELEMETRY", ""),
        ("PULSE_TELEMETRY", "  "),
        ("PULSE_TELEMETRY", "1"),
        ("PULSE_TELEMETRY", "T"),
        ("PULSE_TELEMETRY", "yes"),
        ("PULSE_TELEMETRY", " On "),
        ("PULSE_TELEMETRY", "enabled"),
        ("DO_NOT_TRACK", ""),
        ("DO_NOT_TRACK", "0"),
        ("DO_NOT_TRACK", "False"),
    ] {
        let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
        let _sidecar = working(&pulse, &endpoint).with(name, value).start();
        endpoint.wait_for_pings(1, LIMIT);
    }
}

#[test]
fn a_pulse_that_reports_itself_silences_the_sidecar_which_says_how_to_hand_over() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    pulse.change(|model| model.telemetry_enabled = Some(true));
    let setup = working(&pulse, &endpoint);
    let sidecar = setup.start();
    assert_eq!(sidecar.get("/api/v1/preview").status, 200, "the preview works all the same");
    let status = sidecar.status();
    assert_eq!(status["suppressed"]["reason"], "pulse_reports_itself");
    let said =
        [status["summary"].as_str().unwrap().to_owned(), text(&setup.run(&["check"]).stdout), sidecar.get("/").text()];
    for said in said {
        assert!(
            said.contains("PULSE_TELEMETRY=false") && said.replace("&#39;", "'").contains("Pulse's environment"),
            "{said}"
        );
    }
    sidecar.stop();
    assert_eq!(endpoint.server.connections(), 0);

    // A person who insists is heard, and told what it means.
    let insisting = setup.with("PULSE_TELEMETRY", "true").start();
    endpoint.wait_for_pings(1, LIMIT);
    let warnings = insisting.status()["warnings"].to_string();
    assert!(warnings.contains("counted twice"), "{warnings}");
}

#[test]
fn a_damaged_state_file_does_not_switch_telemetry_on_again() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint);
    assert!(setup.run(&["off"]).status.success());
    std::fs::write(setup.state("state.json"), "{\"version\":1,\"state\":{\"startup_att").unwrap();
    let sidecar = setup.start();
    sidecar.wait_for_log("was damaged");
    assert_eq!(sidecar.status()["off_by"], "switch");
    sidecar.stop();
    assert!(!exists(&setup.state("state.json.damaged-1")), "replaced, not kept");
    assert_eq!(endpoint.server.connections(), 0);
}
