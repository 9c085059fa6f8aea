//! The ping on the wire, its ID, and what never leaves.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

use pulse_telemetry_core::contract;
use pulse_telemetry_testkit::endpoint::{CertificateAuthority, Endpoint};
use pulse_telemetry_testkit::planted::{leaked, planted_strings};
use pulse_telemetry_testkit::pulse::{MONITORING_READ, PLANTED, PulseModel, Relay, SimulatedPulse, TOKEN, Token};
use pulse_telemetry_testkit::replay::{self, Replay};
use pulse_telemetry_testkit::server::ResponsePlan;
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup};
use serde_json::{Value, json};

use super::{parse, text, working};

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

/// The tokens of a capture, as the operator of that Pulse would configure them.
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

    let schema: Value = serde_json::from_str(include_str!("../../../config/ping.schema.json")).unwrap();
    assert!(jsonschema::is_valid(&schema, &request.json()));
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/v1/telemetry/ping"));
    let mut headers: Vec<_> = request.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    headers.sort();
    assert_eq!(headers, ["content-length", "content-type", "host", "user-agent"]);
    let privacy = include_str!("../../../docs/PRIVACY.md");
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
