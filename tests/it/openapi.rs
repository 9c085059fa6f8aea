//! The document at `/openapi.json`, held against the code and against real answers of the real program.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use pulse_telemetry::events::TYPES;
use pulse_telemetry::serve::{document, routes};
use pulse_telemetry_core::contract;
use pulse_telemetry_testkit::client::{self, Reply};
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, Sidecar};
use serde_json::{Value, json};

const KEY: &str = "correct-horse";
const EVENTS: &str = "/api/upgrade-metrics/events";
const CONFIG: &str = "/api/upgrade-metrics/config";

#[test]
fn the_document_has_every_route_and_no_other() {
    let document = document();
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            documented.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let in_code: BTreeSet<String> = routes().map(|(method, path)| format!("{method} {path}")).collect();
    assert_eq!(documented, in_code);
    let page = include_str!("../../docs/CONFIGURATION.md");
    for (_, path) in routes() {
        assert!(page.contains(path), "docs/CONFIGURATION.md lists {path}");
    }
}

#[test]
fn the_document_is_of_this_version_and_says_what_the_code_says() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["components"]["schemas"]["Ping"], contract::schema());
    assert_eq!(document["components"]["schemas"]["Event"]["properties"]["type"]["enum"], json!(TYPES));
    let text = document.to_string();
    let refers = text.split("#/components/").skip(1).map(|rest| rest.split('"').next().unwrap());
    for place in refers {
        assert!(document.pointer(&format!("/components/{place}")).is_some(), "{place}");
    }
    let mut ids = BTreeSet::new();
    for operation in document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values())
    {
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
        let open = operation.get("security").is_some();
        let guarded = operation["responses"]["default"]["$ref"] == "#/components/responses/Error";
        assert!(guarded && (!open || operation["security"] == json!([])), "{operation}");
    }
}

/// Holds answers against the document, and remembers which it has seen.
struct Checker {
    document: Value,
    seen: BTreeSet<String>,
}

impl Checker {
    fn check(&mut self, method: &str, target: &str, reply: &Reply) {
        let path = target.split('?').next().unwrap();
        let operation = &self.document["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {path}");
        let status = reply.status.to_string();
        let responses = &operation["responses"];
        let (named, response) = match responses.get(&status) {
            Some(response) => (status.as_str(), response),
            None => ("default", &self.document["components"]["responses"]["Error"]),
        };
        self.seen.insert(format!("{method} {path} {named}"));
        for header in response["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
            assert!(reply.header(header).is_some(), "{header} of {method} {target} {status}");
        }
        let Some((media_type, content)) = response["content"].as_object().and_then(|content| content.iter().next())
        else {
            assert!(reply.body.is_empty(), "{method} {target} {status}: {}", reply.text());
            return;
        };
        assert!(reply.header("content-type").unwrap().starts_with(media_type), "{method} {target} {status}");
        if media_type == "application/json" {
            let schema = json!({"allOf": [content["schema"]], "components": self.document["components"]});
            let schema = jsonschema::validator_for(&schema).unwrap();
            if let Err(error) = schema.validate(&reply.json()) {
                panic!("{method} {target} {status}: {error}\n{}", reply.text());
            }
        }
    }

    fn ask(&mut self, sidecar: &Sidecar, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let reply = client::fetch(sidecar.address(), method, target, headers, Bytes::from(body.to_owned())).unwrap();
        self.check(method, target, &reply);
        reply
    }

    fn json(&mut self, sidecar: &Sidecar, method: &str, target: &str, body: &str, status: u16) -> Reply {
        let reply = self.ask(sidecar, method, target, &[("Content-Type", "application/json")], body);
        assert_eq!(reply.status, status, "{method} {target} {body}: {}", reply.text());
        reply
    }
}

#[test]
fn real_answers_of_every_route_errors_included_keep_to_the_document() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, LIMIT);
    sidecar.wait_for_log("ping delivered");
    let mut checker = Checker { document: document(), seen: BTreeSet::new() };
    hand_over_events(&mut checker, &sidecar);
    read_and_change_all(&mut checker, &sidecar);
    ask_wrongly(&mut checker, &sidecar);
    ask_without_a_token_for_pulse(&mut checker, &pulse, &endpoint);
    ask_over_a_broken_disk(&mut checker, &sidecar, &setup);
    ask_where_the_operator_has_decided(&mut checker, &setup, &pulse, &endpoint);

    let mut documented = BTreeSet::new();
    for (path, methods) in checker.document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let statuses = operation["responses"].as_object().unwrap().keys();
            documented.extend(statuses.map(|status| format!("{} {path} {status}", method.to_uppercase())));
        }
    }
    let unseen: Vec<_> = documented.difference(&checker.seen).collect();
    assert!(unseen.is_empty(), "documented and never seen: {unseen:?}");
}

fn hand_over_events(checker: &mut Checker, sidecar: &Sidecar) {
    let event = json!({
        "type": "limit_blocked",
        "surface": "s",
        "capability": "c",
        "tenant_mode": "multi",
        "limit_key": "l",
        "current_value": 9,
        "limit_value": 9,
        "timestamp": 5,
        "idempotency_key": "k",
    });
    let event = &event.to_string();
    checker.json(sidecar, "POST", EVENTS, event, 202);
    checker.json(sidecar, "POST", EVENTS, "{}", 400);
    let too_many = (0..100).any(|_| {
        let headers = [("Content-Type", "application/json")];
        checker.ask(sidecar, "POST", EVENTS, &headers, event).status == 429
    });
    assert!(too_many, "more than ten events within a second");
    checker.json(sidecar, "POST", EVENTS, &event.replace("\"s\"", "\"s\",\"org_id\":\"acme\""), 403);
}

/// Whatever can be read, as it is answered when all is well, and whatever can be changed.
fn read_and_change_all(checker: &mut Checker, sidecar: &Sidecar) {
    for (method, path) in routes().filter(|(method, _)| *method == "GET") {
        checker.json(sidecar, method.as_str(), path, "", 200);
    }
    checker.json(sidecar, "GET", "/api/v1/history?limit=2", "", 200);
    for path in ["/api/v1/reset-id", "/api/system/settings/telemetry-reset-id"] {
        checker.json(sidecar, "POST", path, "", 200);
    }
    checker.json(sidecar, "POST", "/api/v1/forget", "", 202);
    checker.json(sidecar, "DELETE", "/api/v1/forget", "", 200);
    checker.json(sidecar, "GET", "/api/v1/history", "", 200);
    checker.json(sidecar, "PUT", "/api/v1/switch", r#"{"enabled":false}"#, 200);
    for path in ["/api/v1/status", "/api/v1/preview", "/api/v1/history", "/"] {
        checker.json(sidecar, "GET", path, "", 200);
    }
    checker.json(sidecar, "PUT", CONFIG, r#"{"enabled":true,"disabled_surfaces":["x"]}"#, 200);
}

/// What is wrong with a request.
fn ask_wrongly(checker: &mut Checker, sidecar: &Sidecar) {
    checker.json(sidecar, "GET", "/api/v1/history?limit=0", "", 400);
    checker.json(sidecar, "PUT", "/api/v1/switch", "{}", 400);
    checker.json(sidecar, "PUT", CONFIG, "[]", 400);
    let large = " ".repeat(5000);
    for (method, path) in [("PUT", "/api/v1/switch"), ("POST", EVENTS), ("PUT", CONFIG)] {
        checker.json(sidecar, method, path, &large, 413);
    }
    assert_eq!(checker.ask(sidecar, "PUT", "/api/v1/switch", &[("Content-Type", "text/plain")], "{}").status, 415);
    for (method, path) in routes() {
        let is_health = ["/healthz", "/readyz"].contains(&path);
        let (hosts, status) = if is_health { (vec!["a", "b"], 400) } else { (vec!["evil.example"], 421) };
        let hosts: Vec<_> = hosts.into_iter().map(|host| ("Host", host)).collect();
        assert_eq!(checker.ask(sidecar, method.as_str(), path, &hosts, "").status, status);
    }
}

/// What is wrong with Pulse.
fn ask_without_a_token_for_pulse(checker: &mut Checker, pulse: &SimulatedPulse, endpoint: &Endpoint) {
    pulse.change(|model| model.tokens.clear());
    let blind = Setup::new(&pulse.url(), &endpoint.url()).start();
    let previews = ["/api/v1/preview", "/api/v1/preview/bytes", "/api/system/settings/telemetry-preview"];
    for path in previews.into_iter().chain(["/api/v1/posture"]) {
        checker.json(&blind, "GET", path, "", 503);
    }
    checker.json(&blind, "GET", "/api/v1/status", "", 200);
    checker.json(&blind, "GET", "/api/v1/events", "", 200);
    checker.json(&blind, "POST", "/api/v1/reset-id", "", 200);
}

/// What is wrong with the disk: a folder stands where a file is to be written.
fn ask_over_a_broken_disk(checker: &mut Checker, sidecar: &Sidecar, setup: &Setup) {
    let block = |name: &str| std::fs::create_dir(setup.state(name)).unwrap();
    block("state.json.new");
    for method in ["POST", "DELETE"] {
        checker.json(sidecar, method, "/api/v1/forget", "", 503);
    }
    std::fs::remove_dir(setup.state("state.json.new")).unwrap();
    block("events.jsonl.new");
    checker.json(sidecar, "DELETE", "/api/v1/events", "", 503);
    checker.json(sidecar, "PUT", CONFIG, r#"{"enabled":false}"#, 503);
    block("ledger.jsonl.new");
    checker.json(sidecar, "DELETE", "/api/v1/history", "", 503);
    for name in ["events.jsonl.new", "ledger.jsonl.new"] {
        std::fs::remove_dir(setup.state(name)).unwrap();
    }
    checker.json(sidecar, "DELETE", "/api/v1/events", "", 204);
    checker.json(sidecar, "DELETE", "/api/v1/history", "", 204);
    block("state.json.new");
    checker.json(sidecar, "PUT", "/api/v1/switch", r#"{"enabled":true}"#, 503);
    checker.json(sidecar, "GET", "/readyz", "", 503);
    std::fs::remove_dir(setup.state("state.json.new")).unwrap();
    checker.json(sidecar, "PUT", "/api/v1/switch", r#"{"enabled":true}"#, 200);
    block(".install_id.new");
    for path in ["/api/v1/reset-id", "/api/system/settings/telemetry-reset-id"] {
        checker.json(sidecar, "POST", path, "", 503);
    }
    std::fs::remove_file(setup.state("ledger.jsonl")).unwrap();
    checker.json(sidecar, "GET", "/api/v1/history", "", 503);
    checker.json(sidecar, "POST", "/api/v1/forget", "", 503);
}

/// What the operator has decided.
fn ask_where_the_operator_has_decided(
    checker: &mut Checker,
    setup: &Setup,
    pulse: &SimulatedPulse,
    endpoint: &Endpoint,
) {
    let token = setup.write("key", KEY);
    let locked = Setup::new(&pulse.url(), &endpoint.url())
        .with("PULSE_TELEMETRY", "false")
        .with("PULSE_DISABLE_LOCAL_UPGRADE_METRICS", "true")
        .with("PULSE_TELEMETRY_SERVE__TOKEN_FILE", token.to_str().unwrap())
        .start();
    let shown = [("Content-Type", "application/json"), ("X-API-Token", KEY)];
    for path in ["/api/v1/switch", CONFIG] {
        assert_eq!(checker.ask(&locked, "PUT", path, &shown, r#"{"enabled":true}"#).status, 409);
    }
    for (method, path) in routes() {
        let open = document()["paths"][path][method.as_str().to_lowercase()].get("security").is_some();
        let status = checker.ask(&locked, method.as_str(), path, &[], "").status;
        assert_eq!(status == 401, !open, "{method} {path}: {status}");
    }
}

/// Hypothesis draws requests from the document, wrong ones too: no 5xx but the documented 503, and no answer off it.
#[test]
#[expect(clippy::disallowed_methods, reason = "whether this is CI is the environment's to say")]
fn a_schema_driven_fuzzer_finds_no_answer_off_the_document() {
    let beside_the_build =
        pulse_telemetry_testkit::sidecar::binary().ancestors().nth(2).unwrap().join("schemathesis/bin/schemathesis");
    let on_path = Path::new("schemathesis");
    let found = [beside_the_build.as_path(), on_path]
        .into_iter()
        .find(|program| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success()));
    let Some(schemathesis) = found else {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI installs schemathesis by `make setup`");
        let name = "a_schema_driven_fuzzer_finds_no_answer_off_the_document";
        let _ = writeln!(std::io::stderr(), "SKIPPED {name}: schemathesis is not here; `make fuzzer` installs it");
        return;
    };
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let sidecar = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).start();
    let work = tempfile::tempdir().unwrap();
    let url = format!("http://{}/openapi.json", sidecar.address());
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                  response_schema_conformance,unsupported_method";
    let output = Command::new(schemathesis)
        .args(["run", &url, "--checks", checks, "--phases", "examples,coverage,fuzzing", "--mode", "all"])
        .args(["--max-examples", "25", "--generation-deterministic", "--workers", "1"])
        .args(["--request-timeout", "30", "--no-color"])
        .current_dir(work.path())
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("No issues found"), "{said}");
    assert_eq!(sidecar.get("/healthz").status, 200);
}
