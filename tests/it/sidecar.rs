//! The real binary against a Pulse and an endpoint on real sockets.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod access;
mod compare;

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::time::Duration;

use pulse_telemetry_core::contract;
use pulse_telemetry_endpoint::ProxyVariables;
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_testkit::endpoint::{CertificateAuthority, Endpoint};
use pulse_telemetry_testkit::planted::{leaked, planted_strings};
use pulse_telemetry_testkit::pulse::{MONITORING_READ, PLANTED, PulseModel, Relay, SimulatedPulse, TOKEN, Token};
use pulse_telemetry_testkit::replay::{self, Replay};
use pulse_telemetry_testkit::server::{Body, Refusing, ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, exists};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// A set-up that can send: a Pulse that has handed over, and its token.
fn working(pulse: &SimulatedPulse, endpoint: &Endpoint) -> Setup {
    Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN)
}

#[test]
fn the_preview_of_every_capture_is_pulses_own() {
    let name = "the_preview_of_every_capture_is_pulses_own";
    let mut compared = 0;
    for folder in replay::recorded_once() {
        let Some(oracle) = replay::oracle(&folder) else { continue };
        let pulse = Replay::start(&folder, replay::A_DAY);
        // The captures' machine was a container whose Pulse calls itself "binary": the operator's setting decides.
        let platform = oracle["platform"].as_str().unwrap();
        let setup =
            Setup::new(&pulse.server.url(), "http://127.0.0.1:1/").with("PULSE_TELEMETRY_PULSE__PLATFORM", platform);
        let setup = with_tokens_of(&folder, setup);
        let output = setup.run(&["preview"]);
        assert!(output.status.success(), "{}: {}", folder.display(), text(&output.stderr));
        let preview = parse(&output.stdout);
        let mock = replay::index(&folder)["env"]["PULSE_MOCK_MODE"] == "true";
        for field in &contract::FIELDS {
            let differs = match field.name {
                "install_id" => continue,
                // Pulse's preview always says false, its API the truth.
                "multi_tenant" => preview["multi_tenant"] != replay::serves_many(&folder),
                // The API does not tell how an official build is stamped.
                "version_raw" if oracle["version_raw"] == format!("v{}", oracle["version"].as_str().unwrap()) => {
                    preview.get("version_raw").is_some()
                }
                // In mock mode the API says true whatever was saved.
                "ai_enabled" if mock => preview["ai_enabled"] != true,
                name => preview.get(name) != oracle.get(name),
            };
            assert!(!differs, "{} of {}: {preview} but {oracle}", field.name, folder.display());
        }
        assert_eq!(contract::validate(&preview), Ok(()));
        let output = setup.run(&["check", "--compare"]);
        assert_eq!(output.status.code(), Some(0), "{}: {}", folder.display(), text(&output.stdout));
        compared += 1;
    }
    replay::compared(name, compared);
    assert!(compared >= 24, "only {compared} captures have an oracle");
}

/// The tokens of a capture, as whoever runs that Pulse would configure them.
fn with_tokens_of(capture: &Path, setup: Setup) -> Setup {
    let tokens = replay::organizations(capture);
    if tokens.is_empty() {
        return setup.with_token("full");
    }
    let file = |(name, token): &(String, String)| format!("{name}=\"{}\"", setup.write(name, token).display());
    let organizations = format!("{{{}}}", tokens.iter().map(file).collect::<Vec<_>>().join(","));
    setup.with("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", &organizations)
}

#[test]
fn without_the_scope_settings_read_nothing_is_sent_and_everything_unknown_is_listed() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    pulse.change(|model| {
        model.tokens.insert("weak".to_owned(), Token::new(&[MONITORING_READ], "default"));
    });
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token("weak");
    let needs_it = ["ai_enabled", "relay_enabled", "multi_tenant", "own_sender"];

    let preview = setup.run(&["preview"]);
    assert_eq!((preview.status.code(), preview.stdout.len()), (Some(4), 0));
    let check = setup.run(&["check"]);
    assert_eq!(check.status.code(), Some(4));
    let offline = setup.run(&["status"]);
    assert_eq!(offline.status.code(), Some(0));
    let sidecar = setup.start();
    let json = sidecar.get("/api/v1/preview");
    assert_eq!((json.status, json.json()["error"].clone()), (503, json!("missing_scope")));
    let status = sidecar.status();
    assert_eq!(status["suppressed"]["reason"], "missing_scope");
    for what in needs_it {
        for said in [text(&preview.stderr), text(&check.stdout), text(&offline.stdout)] {
            let line = said.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what} in {said}"));
            assert!(line.contains("settings:read"), "{line}");
        }
        for unknown in [&status["suppressed"]["unknown"], &json.json()["unknown"]] {
            let entry = unknown.as_array().unwrap().iter().find(|entry| entry["what"] == what);
            assert_eq!(entry.unwrap()["required_scope"], "settings:read");
        }
    }
    sidecar.stop();
    assert_eq!(endpoint.pings().len(), 0);
}

#[test]
fn without_a_token_nothing_is_sent_and_check_says_what_to_create_in_pulse() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url());
    let check = setup.run(&["check"]);
    assert_eq!(check.status.code(), Some(4));
    let said = text(&check.stdout);
    for word in ["pulse_unauthorized", "Settings", "monitoring:read", "settings:read", "PULSE_TOKEN_FILE"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    let sidecar = setup.start();
    assert_eq!(sidecar.get("/api/v1/preview").json()["error"], "pulse_unauthorized");
    assert_eq!(sidecar.status()["suppressed"]["reason"], "pulse_unauthorized");
    sidecar.stop();
    assert_eq!(endpoint.pings().len(), 0);
}

#[test]
fn a_pulse_that_lacks_a_route_is_read_as_one_without_that_feature() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    pulse.change(|model| model.relay = Relay::Enabled);
    for path in ["/api/settings/ai", "/api/settings/relay", "/api/orgs", "/api/system/mock-mode"] {
        pulse.replace(path, ResponsePlan::text(404, "404 page not found\n"));
    }
    let setup = working(&pulse, &endpoint);
    let _sidecar = setup.start();
    let ping = endpoint.wait_for_pings(1, LIMIT)[0].json();
    for flag in ["ai_enabled", "relay_enabled", "multi_tenant"] {
        assert_eq!(ping[flag], false, "{flag}");
    }
}

#[test]
fn the_ping_on_the_wire_is_the_preview_byte_for_byte_and_carries_no_other_header() {
    let authority = CertificateAuthority::new();
    let endpoint = Endpoint::start_tls(&authority.issue_for_loopback());
    let pulse = SimulatedPulse::start(PulseModel::default());
    let setup = working(&pulse, &endpoint);
    let ca = setup.write("ca.pem", &authority.ca_pem());
    let setup = setup.with("SSL_CERT_FILE", ca.to_str().unwrap());
    let sidecar = setup.start();

    let request = endpoint.wait_for_pings(1, LIMIT).remove(0);
    let sent = text(&request.body);
    let preview = sidecar.get("/api/v1/preview/bytes");
    let beside = setup.clone().with("PULSE_TELEMETRY_SERVE__LISTEN", &sidecar.address().to_string());
    let printed = beside.run(&["preview"]);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    let as_startup = |bytes: &[u8]| text(bytes).replace(r#""event":"heartbeat""#, r#""event":"startup""#);
    assert_eq!(as_startup(&preview.body), sent);
    assert_eq!(as_startup(&printed.stdout), sent);
    let spliced = sidecar.get("/api/v1/preview").text();
    assert_eq!(spliced, format!(r#"{{"enabled":true,"payload":{}}}"#, text(&preview.body)));

    let schema: Value = serde_json::from_str(include_str!("../../config/ping.schema.json")).unwrap();
    assert!(jsonschema::is_valid(&schema, &request.json()));
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/v1/telemetry/ping"));
    let mut headers: Vec<_> = request.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    headers.sort();
    assert_eq!(headers, ["content-length", "content-type", "host", "user-agent"]);
    let privacy = include_str!("../../docs/PRIVACY.md");
    assert!(headers.iter().all(|header| privacy.contains(&format!("`{header}`"))), "docs/PRIVACY.md lists them");
    assert_eq!(request.header("user-agent"), Some("pulse-telemetry"));

    let status = text(&beside.run(&["status"]).stdout);
    assert!(status.contains("Last:      startup at ") && status.contains(": delivered ("), "{status}");

    // The ledger holds the same bytes.
    let ledger = std::fs::read_to_string(setup.state("ledger.jsonl")).unwrap();
    let attempted = ledger.lines().map(|line| parse(line.as_bytes())).find(|line| line["kind"] == "attempted");
    assert_eq!(attempted.unwrap()["body"], sent);
}

#[test]
fn with_nothing_said_of_telemetry_and_a_pulse_that_does_not_report_itself_it_pings() {
    for model in [PulseModel { telemetry_enabled: None, ..PulseModel::default() }, PulseModel::v5()] {
        let (pulse, endpoint) = (SimulatedPulse::start(model), Endpoint::start());
        let _sidecar = working(&pulse, &endpoint).start();
        let ping = endpoint.wait_for_pings(1, LIMIT)[0].json();
        assert_eq!(contract::validate(&ping), Ok(()));
        assert_eq!(ping["event"], "startup");
    }
}

#[test]
fn a_startup_is_followed_by_the_heartbeat_that_the_preview_showed() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint)
        .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "2s")
        .with("PULSE_TELEMETRY_SCHEDULE__JITTER", "0s");
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, LIMIT);
    let shown = sidecar.get("/api/v1/preview/bytes").text();
    let pings = endpoint.wait_for_pings(2, LIMIT);
    let events: Vec<_> = pings.iter().map(|ping| ping.json()["event"].clone()).collect();
    assert_eq!(events, ["startup", "heartbeat"]);
    assert_eq!(text(&pings[1].body), shown, "the heartbeat is what the preview showed before");
}

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
fn a_pulse_that_hangs_costs_one_time_out_and_is_told_as_that() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    for path in ["/api/health", "/api/version", "/api/security/status", "/api/system/settings"] {
        pulse.replace(path, ResponsePlan::Hang);
    }
    let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY_PULSE__TIMEOUT", "1s");
    let preview = setup.run(&["preview"]);
    assert_eq!(preview.status.code(), Some(4));
    assert!(text(&preview.stderr).contains("was not answered within pulse.timeout (1 s)"), "{}", text(&preview.stderr));
    assert_eq!(pulse.server.requests().len(), 1);
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
fn authorities_that_are_named_and_cannot_be_read_are_an_error_and_no_others_take_their_place() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    let setup = Setup::new(&pulse.url(), "https://127.0.0.1:1/").with_token(TOKEN);
    let (ca, directory) = (CertificateAuthority::new().ca_pem(), setup.path("empty"));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("README"), "Put certificates here.").unwrap();
    let der = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap().to_vec();
    std::fs::write(setup.path("der"), der).unwrap();
    setup.write("nothing", "");
    setup.write("trusted", &ca.replace("CERTIFICATE", "TRUSTED CERTIFICATE"));
    setup.write("broken", &format!("{ca}{}", ca.replacen("MII", "M!I", 1)));
    setup.write("key", &CertificateAuthority::new().issue_for_loopback().key_pem);
    for (variable, file, words) in [
        ("SSL_CERT_FILE", "absent", "failed to read it"),
        ("SSL_CERT_FILE", "nothing", "there is no certificate in it"),
        ("SSL_CERT_FILE", "der", "`openssl x509 -inform DER"),
        ("SSL_CERT_FILE", "trusted", "TRUSTED CERTIFICATE"),
        ("SSL_CERT_FILE", "broken", "block 2 in it"),
        ("SSL_CERT_FILE", "key", "PRIVATE KEY"),
        ("SSL_CERT_DIR", "empty", "no file in it that holds a certificate"),
        ("SSL_CERT_DIR", "absent", "no file in it that holds a certificate"),
        ("PULSE_CACERT", "nothing", "there is no certificate in it"),
        ("PULSE_CACERT", "der", "`openssl x509 -inform DER"),
        ("PULSE_CACERT", "broken", "block 2 in it"),
    ] {
        let path = setup.path(file).display().to_string();
        let output = setup.clone().with(variable, &path).run(&["check"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{variable} {file}: {said}");
        let key = if variable == "PULSE_CACERT" { "pulse.ca_file" } else { variable };
        assert!(said.contains(&format!("{key}: {path}")) && said.contains(words), "{variable} {file}: {said}");
    }
    let marked = setup.write("marked", &format!("\u{feff}{ca}\u{feff}{ca}")).display().to_string();
    for (file, directory) in [("", ""), (" ", " "), (marked.as_str(), ""), ("", setup.path("").to_str().unwrap())] {
        let setup = setup.clone().with("SSL_CERT_FILE", file).with("SSL_CERT_DIR", directory);
        let output = setup.run(&["check"]);
        assert_eq!(output.status.code(), Some(0), "{file:?} {directory:?}: {}", text(&output.stderr));
    }
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

    // Whoever insists is heard, and told what it means.
    let insisting = setup.with("PULSE_TELEMETRY", "true").start();
    endpoint.wait_for_pings(1, LIMIT);
    let warnings = insisting.status()["warnings"].to_string();
    assert!(warnings.contains("counted twice"), "{warnings}");
}

#[test]
fn nothing_that_identifies_an_installation_leaves_it_or_reaches_the_log() {
    let name = "nothing_that_identifies_an_installation_leaves_it_or_reaches_the_log";
    let Some(_) = replay::shared_or_skip(name) else { return };
    for folder in replay::captures() {
        let pulse = replay::start_as_if_real(&folder);
        let endpoint = Endpoint::start();
        let planted = planted_strings(&folder);
        // Where Pulse would report itself the sidecar insists, so that something is sent that could be looked at.
        let setup = Setup::new(&pulse.url(), &endpoint.url()).with("PULSE_TELEMETRY", "true");
        let setup = with_tokens_of(&folder, setup);
        let sidecar = setup.start();
        let opted_out = folder.to_string_lossy().contains("opted-out");
        let preview = sidecar.get("/api/v1/preview/bytes");
        assert_eq!(preview.status, 200);
        let mut left = preview.text();
        if !opted_out {
            for ping in endpoint.wait_for_pings(1, LIMIT) {
                left += &format!("\n{} {:?}\n{}", ping.target, ping.headers, text(&ping.body));
            }
        }
        let log = sidecar.stop();
        assert_eq!(endpoint.pings().is_empty(), opted_out, "{}", folder.display());
        assert!(log.contains("DEBUG"), "the log is at its most talkative");
        for (what, text) in [("what left", &left), ("the log", &log)] {
            let found = leaked(&planted, text);
            assert!(found.is_empty(), "{what} of {} holds {found:?}:\n{text}", folder.display());
        }
    }
}

#[test]
fn no_token_and_no_planted_string_reaches_the_endpoint_the_log_or_an_error() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let sidecar = working(&pulse, &endpoint).start();
    let ping = endpoint.wait_for_pings(1, LIMIT).remove(0);
    let shown = [sidecar.get("/api/v1/status").text(), sidecar.get("/").text(), sidecar.get("/api/v1/preview").text()];
    let log = sidecar.stop();
    let left = format!("{:?} {}", ping.headers, text(&ping.body));
    let refused = Setup::new(&pulse.url(), &endpoint.url()).with_token("a-secret-that-pulse-refuses").run(&["check"]);
    let said = text(&refused.stdout) + &text(&refused.stderr);
    for secret in PLANTED.iter().copied().chain([TOKEN, "a-secret-that-pulse-refuses"]) {
        for (what, text) in [("the ping", &left), ("the log", &log), ("check", &said)] {
            assert!(!text.contains(secret), "{what} holds {secret:?}: {text}");
        }
        assert!(shown.iter().all(|text| !text.contains(secret)), "the page or the API holds {secret:?}");
    }
}

#[test]
fn a_reset_is_on_disk_before_its_answer_and_the_old_id_never_goes_again() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    // The first attempt is never answered: it is under way when the reset comes.
    endpoint.answer_next(ResponsePlan::Hang);
    let setup = working(&pulse, &endpoint)
        .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "1s")
        .with("PULSE_TELEMETRY_SCHEDULE__JITTER", "0s");
    let sidecar = setup.start();
    let old = endpoint.wait_for_pings(1, LIMIT)[0].json()["install_id"].clone();
    assert_eq!(setup.id_on_disk().as_deref(), old.as_str());

    let answer = sidecar.post("/api/v1/reset-id");
    assert_eq!(answer.status, 200);
    let new = answer.json()["payload"]["install_id"].clone();
    assert_ne!(new, old);
    assert_eq!(setup.id_on_disk().as_deref(), new.as_str(), "durable before the answer");
    assert_eq!(sidecar.get("/api/v1/preview").json()["payload"]["install_id"], new);
    let state = parse(&std::fs::read(setup.state("state.json")).unwrap());
    assert_eq!(state["state"]["pending"], Value::Null);

    let pings = endpoint.wait_for_pings(2, LIMIT);
    assert!(pings[1..].iter().all(|ping| ping.json()["install_id"] == new));
}

#[test]
fn two_installations_on_one_host_have_unrelated_ids() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let ids: Vec<String> = (0..2)
        .map(|_| {
            let setup = working(&pulse, &endpoint);
            assert!(setup.run(&["reset-id"]).status.success());
            setup.id_on_disk().unwrap()
        })
        .collect();
    // Two random version 4 UUIDs share about as many of their 30 free digits as chance wants: two.
    let shared = ids[0].chars().zip(ids[1].chars()).filter(|(a, b)| a == b && *a != '-').count();
    assert!(shared < 15, "{ids:?}");
}

#[test]
fn the_id_is_kept_between_restarts() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint);
    let first = setup.start();
    let id = endpoint.wait_for_pings(1, LIMIT)[0].json()["install_id"].clone();
    first.stop();
    let again = setup.start();
    assert_eq!(again.get("/api/v1/preview").json()["payload"]["install_id"], id);
    drop(again);
    assert_eq!(parse(&setup.run(&["preview"]).stdout)["install_id"], id, "after a kill as well");
}

#[test]
fn what_root_writes_in_the_state_directory_of_another_user_belongs_to_that_user() {
    const USER: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED what_root_writes_in_the_state_directory_of_another_user_belongs_to_that_user: not root"
        );
        return;
    }
    let setup = Setup::new("http://127.0.0.1:1", "http://127.0.0.1:1");
    let (state, victim) = (setup.path("state"), setup.write("victim", "root's own"));
    std::fs::create_dir(&state).unwrap();
    chown(&state, Some(USER), Some(USER)).unwrap();
    // That user could leave a link there, and have root write through it.
    std::os::unix::fs::symlink(&victim, setup.state(".install_id.new")).unwrap();
    for command in [vec!["reset-id"], vec!["off"], vec!["on"], vec!["reset-id"], vec!["history", "--erase"]] {
        let output = setup.run(&command);
        assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    }
    let files: Vec<_> = std::fs::read_dir(&state).unwrap().map(|file| file.unwrap()).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let found = file.metadata().unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (USER, USER, 0o600), "{:?}", file.path());
    }
    assert_eq!((std::fs::read(&victim).unwrap(), victim.metadata().unwrap().uid()), (b"root's own".to_vec(), 0));
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

/// A reading that takes as long as the pause between two readings answers whoever waited for it.
#[test]
fn a_pulse_that_never_answers_leaves_nobody_waiting_for_a_preview_the_posture_or_the_page() {
    // Connections are made by the operating system; nobody takes them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pulse = format!("http://{}", silent.local_addr().unwrap());
    let sidecar = Setup::new(&pulse, &Endpoint::start().url()).with("PULSE_TELEMETRY_PULSE__TIMEOUT", "10s").start();
    for (path, status) in [("/api/v1/preview", 503), ("/api/v1/posture", 503), ("/", 200)] {
        let answer = sidecar.get(path);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.text().contains("was not answered within pulse.timeout (10 s)"), "{path}: {}", answer.text());
    }
    assert!(sidecar.get("/").text().contains("is not known, and unknown is off"), "local events are off then");
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

/// Every file of the state directory and its content.
fn files(setup: &Setup) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(setup.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
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
    let documented = include_str!("../../docs/CONFIGURATION.md");
    for line in ["| 0 |", "| 1 |", "| 2 |", "| 3 |", "| 4 |", "| 5 |"] {
        assert!(documented.contains(line), "{line} in docs/CONFIGURATION.md");
    }
}

#[test]
fn a_self_signed_pulse_is_read_with_its_authority_and_not_without() {
    let authority = CertificateAuthority::new();
    let Some(folder) = replay::captures().into_iter().find(|folder| folder.ends_with("v6.3-homelab")) else {
        replay::shared_or_skip("a_self_signed_pulse_is_read_with_its_authority_and_not_without");
        return;
    };
    let plain = Replay::start(&folder, replay::A_DAY);
    let issued = authority.issue_for_loopback();
    let behind = plain.server.addr;
    let secure = Server::start_tls(&issued.cert_pem, &issued.key_pem, move |request| {
        let token = request.header("x-api-token").map(str::to_owned);
        let reply = pulse_telemetry_testkit::client::get(behind, &request.target, token.as_deref()).unwrap();
        ResponsePlan::bytes(reply.status, "application/json", reply.body)
    });
    let setup = Setup::new(&secure.url(), "http://127.0.0.1:1/").with_token("full");
    let refused = setup.run(&["preview"]);
    assert_eq!(refused.status.code(), Some(4));
    let said = text(&refused.stderr);
    assert!(said.contains("unknown authority") && said.contains("pulse.ca_file"), "{said}");
    let ca = setup.write("pulse-ca.pem", &authority.ca_pem());
    let trusted = setup.with("PULSE_CACERT", ca.to_str().unwrap());
    let output = trusted.run(&["preview"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn an_endpoint_that_cannot_be_trusted_gets_no_ping() {
    let authority = CertificateAuthority::new();
    let pulse = SimulatedPulse::start(PulseModel::default());
    for (issued, reason) in [
        (authority.issue_expired(&["127.0.0.1", "localhost"]), "expired"),
        (authority.issue_for_another_host(), "another name"),
        (CertificateAuthority::new().issue_for_loopback(), "unknown authority"),
    ] {
        let endpoint = Endpoint::start_tls(&issued);
        let setup = working(&pulse, &endpoint);
        let ca = setup.write("ca.pem", &authority.ca_pem());
        let sidecar = setup.with("SSL_CERT_FILE", ca.to_str().unwrap()).start();
        endpoint.server.wait_for_connections(1, LIMIT);
        sidecar.wait_for_log(reason);
        let status = sidecar.status();
        assert_eq!(status["pending"]["attempts"], 1, "{status}");
        drop(sidecar);
        assert_eq!(endpoint.pings().len(), 0, "{reason}");
    }
}

#[test]
fn no_redirect_is_followed() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    for code in [301, 302, 303, 307, 308] {
        let elsewhere = Endpoint::start();
        let endpoint = Endpoint::start();
        endpoint.answer_otherwise(ResponsePlan::redirect(code, &elsewhere.url()));
        let sidecar = working(&pulse, &endpoint).start();
        endpoint.wait_for_pings(1, LIMIT);
        sidecar.wait_for_log("redirected");
        assert_eq!(sidecar.status()["last"]["reason"], "redirected");
        drop(sidecar);
        assert_eq!(elsewhere.server.connections(), 0, "{code}");
    }
}

#[test]
fn no_tls_session_is_resumed_between_two_pings() {
    let authority = CertificateAuthority::new();
    let endpoint = Endpoint::start_tls(&authority.issue_for_loopback());
    let pulse = SimulatedPulse::start(PulseModel::default());
    let setup = working(&pulse, &endpoint)
        .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "1s")
        .with("PULSE_TELEMETRY_SCHEDULE__JITTER", "0s");
    let ca = setup.write("ca.pem", &authority.ca_pem());
    let _sidecar = setup.with("SSL_CERT_FILE", ca.to_str().unwrap()).start();
    let pings = endpoint.wait_for_pings(2, LIMIT);
    assert_ne!(pings[0].connection, pings[1].connection);
    assert!(pings.iter().all(|ping| ping.tls.as_ref().is_some_and(|tls| !tls.resumed)));
}

#[test]
fn a_proxy_is_used_only_where_one_is_configured_and_sees_only_a_tunnel() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    let proxy = Endpoint::start();
    proxy.answer_otherwise(ResponsePlan::status(502));
    let authority = CertificateAuthority::new();
    let endpoint = Endpoint::start_tls(&authority.issue_for_loopback());
    let setup = || {
        let setup = working(&pulse, &endpoint).with("HTTPS_PROXY", &proxy.server.url());
        let ca = setup.write("ca.pem", &authority.ca_pem());
        setup.with("SSL_CERT_FILE", ca.to_str().unwrap())
    };
    let sidecar = setup().start();
    let request = proxy.server.wait_for_requests(1, LIMIT).remove(0);
    assert_eq!(request.method, "CONNECT");
    assert!(request.body.is_empty());
    drop(sidecar);
    assert_eq!(endpoint.server.connections(), 0, "nothing goes past the proxy");
    let _direct = setup().with("NO_PROXY", "127.0.0.1,localhost").start();
    endpoint.wait_for_pings(1, LIMIT);
}

#[test]
fn the_endpoint_is_asked_for_no_longer_than_ten_seconds_and_again_later() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    endpoint.answer_next(ResponsePlan::Hang);
    let setup = working(&pulse, &endpoint);
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, Duration::from_secs(20));
    sidecar.wait_for_log("timed_out");
    assert_eq!(sidecar.status()["pending"]["attempts"], 1);
    assert_eq!(sidecar.status()["pending"]["bytes"].as_str().unwrap(), text(&endpoint.pings()[0].body));
}

#[test]
fn an_outage_is_told_in_one_line_of_the_log_and_its_retries_only_to_who_asks_for_more() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    endpoint.answer_otherwise(ResponsePlan::status(503));
    let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "1s");
    let sidecar = setup.start();
    let told = |level| move |line: &&str| line.contains(level) && line.contains("did not take the ping");
    endpoint.wait_for_pings(2, LIMIT);
    sidecar.wait_for_log("DEBUG pulse_telemetry::daemon: the endpoint did not take the ping");
    let log = sidecar.stop();
    assert_eq!(log.lines().filter(told("WARN")).count(), 1, "{log}");
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

#[test]
fn an_answer_without_an_end_holds_neither_the_connection_nor_the_next_ping() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    endpoint.answer_next(ResponsePlan::body(Body::Never));
    let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "1s");
    let sidecar = setup.start();
    endpoint.wait_for_pings(2, LIMIT);
    assert!(!sidecar.get("/api/v1/history").text().contains("\"failed\""), "2xx is an acceptance");
    sidecar.stop();
}

#[test]
fn a_build_for_tests_cannot_reach_the_real_endpoint() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    let setup = Setup::new(&pulse.url(), "https://license.pulserelay.pro/v1/telemetry/ping")
        .with_token(TOKEN)
        .with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "2m");
    let output = setup.run(&["check"]);
    assert!(output.status.success(), "the configuration is the default one");
    let sender = pulse_telemetry_endpoint::Sender::new(&pulse_telemetry_endpoint::SendSettings {
        endpoint: "https://license.pulserelay.pro/v1/telemetry/ping".parse().unwrap(),
        proxy: ProxyVariables::default(),
        trust: Trust::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(sender.unwrap().attempt(pulse_telemetry_testkit::readings::any_ping()));
    assert_eq!(
        answer,
        pulse_telemetry_core::verdict::Answer::NoConnection("a test build sends to loopback only".to_owned())
    );
}
