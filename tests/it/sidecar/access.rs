//! What is said where Pulse does not let itself be read: by `check`, `status` and the page alike.

use std::process::Output;

use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{Orgs, PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::{ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::Setup;
use serde_json::json;

use super::text;

/// Where no ping can go to.
const NOWHERE: &str = "http://127.0.0.1:1/";

fn all(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

/// What `check` and `status` say beside no daemon, and what a daemon says in its status and on its page.
fn said_everywhere(setup: &Setup) -> [String; 4] {
    let check = setup.run(&["check"]);
    assert_eq!(check.status.code(), Some(4), "{}", all(&check));
    let status = setup.run(&["status"]);
    let sidecar = setup.start();
    // The daemon has looked at Pulse once somebody was shown a preview, or why there is none.
    assert_eq!(sidecar.get("/api/v1/preview").status, 503);
    let (api, page) = (sidecar.status()["suppressed"]["message"].as_str().unwrap().to_owned(), sidecar.get("/").text());
    sidecar.stop();
    [all(&check), all(&status), api, page.replace("&#39;", "'").replace("&#x27;", "'").replace("&quot;", "\"")]
}

#[test]
fn a_missing_token_a_refused_one_and_whose_it_is_are_told_apart_with_where_they_come_from() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    let new = || Setup::new(&pulse.url(), NOWHERE);
    let with_file = |name: &str| {
        let setup = new();
        let file = setup.write("revoked", "a-revoked-token").display().to_string();
        (setup.with(name, &file), file)
    };
    let (by_variable, variable_file) = with_file("PULSE_TOKEN_FILE");
    let (by_key, key_file) = with_file("PULSE_TELEMETRY_PULSE__TOKEN_FILE");
    let by_credential = new();
    let credential = by_credential.write("pulse-token", "a-revoked-token").display().to_string();
    let directory = by_credential.path("").display().to_string();
    let none_there = new();
    let empty = none_there.path("").display().to_string();
    let none = "asks for an API token, and none is configured";
    let refused = "refused the API token of ";
    for (setup, expected) in [
        (new(), vec![none, "PULSE_TOKEN, PULSE_TOKEN_FILE and pulse.token_file", "restart"]),
        (new().with("INVOCATION_ID", "1"), vec![none, "no credential pulse-token came from systemd", "restart"]),
        (none_there.with("CREDENTIALS_DIRECTORY", &empty), vec![none, "no pulse-token among systemd's credentials"]),
        (by_variable, vec![refused, &variable_file, "PULSE_TOKEN_FILE", "restart"]),
        (by_key, vec![refused, &key_file, "PULSE_TELEMETRY_PULSE__TOKEN_FILE", "restart"]),
        (
            new().with("PULSE_TOKEN", "a-revoked-token"),
            vec![refused, "the environment variable PULSE_TOKEN", "restart"],
        ),
        (
            by_credential.with("CREDENTIALS_DIRECTORY", &directory),
            vec![refused, &credential, "systemd credential pulse-token", "restart"],
        ),
    ] {
        for said in said_everywhere(&setup) {
            for words in &expected {
                assert!(said.contains(words), "{words} in {said}");
            }
            assert!(!said.contains("a-revoked-token"), "{said}");
        }
    }
}

#[test]
fn with_organizations_the_refused_token_is_named_with_whose_it_is() {
    let pulse = SimulatedPulse::start(PulseModel { orgs: Orgs::List, ..PulseModel::default() });
    let setup = Setup::new(&pulse.url(), NOWHERE);
    let [default, acme] =
        [("default", TOKEN), ("acme", "a-revoked-token")].map(|(name, token)| setup.write(name, token));
    let organizations = format!("{{default={:?},acme={:?}}}", default.display(), acme.display());
    let setup = setup.with("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", &organizations.replace("\\\\", ""));
    for said in said_everywhere(&setup) {
        let expected = [&acme.display().to_string(), "that of the organization acme"];
        assert!(expected.iter().all(|words| said.contains(*words)), "{said}");
        assert!(!said.contains(&format!("of the file {}", default.display())), "{said}");
    }
}

#[test]
fn credentials_that_cannot_be_looked_at_are_an_error_and_not_an_absence() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    let setup = Setup::new(&pulse.url(), NOWHERE);
    let no_directory = setup.write("file", "").display().to_string();
    let circle = setup.path("circle");
    std::os::unix::fs::symlink(&circle, &circle).unwrap();
    std::fs::create_dir_all(setup.path("there/pulse-token")).unwrap();
    let there = setup.path("there").display().to_string();
    let long = format!("/{}", "x".repeat(300));
    for (directory, expected) in [
        (no_directory.as_str(), "Not a directory"),
        (circle.to_str().unwrap(), "symbolic links"),
        (&long, "File name too long"),
        // One that is there, and is no file.
        (&there, "Is a directory"),
    ] {
        let setup = setup.clone().with("CREDENTIALS_DIRECTORY", directory);
        for command in [&["check"][..], &["run"]] {
            let output = setup.run(command);
            let said = all(&output);
            assert_eq!(output.status.code(), Some(3), "{said}");
            let words = ["systemd credential pulse-token", "cannot be read", expected, "Look at LoadCredential="];
            assert!(words.iter().all(|words| said.contains(words)), "{expected} in {said}");
        }
    }
}

#[test]
fn what_is_not_pulse_is_told_in_one_sentence_and_not_in_twenty_rows() {
    let page = Server::start(|_| ResponsePlan::bytes(200, "text/html", "<!doctype html><title>Welcome</title>"));
    let elsewhere =
        Server::start(|request| ResponsePlan::redirect(301, &format!("https://pulse.example.com{}", request.target)));
    let pulse = SimulatedPulse::start(PulseModel::default());
    for (url, expected) in [
        (page.url(), "something else than JSON"),
        (elsewhere.url(), "try https://"),
        (format!("{}/pulse/api", pulse.url()), "path of pulse.url"),
    ] {
        let setup = Setup::new(&url, NOWHERE).with_token(TOKEN);
        for said in said_everywhere(&setup) {
            let whole = format!("his does not look like Pulse: {url}/api/health ");
            assert!(said.contains(&whole) && said.contains(expected), "{expected} in {said}");
            assert!(!said.contains("UNKNOWN") && !said.contains("  unknown: "), "{said}");
        }
    }
}

#[test]
fn organizations_that_are_not_named_are_told_with_what_to_do_until_they_are() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    pulse.change(|model| model.orgs = Orgs::List);
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    for said in said_everywhere(&setup) {
        let expected =
            ["has organizations", "Name each organization and its token in pulse.organizations", "default alone"];
        assert!(expected.iter().all(|words| said.contains(words)), "{said}");
    }
    // The list of another program is none.
    pulse.replace("/api/orgs", ResponsePlan::json(200, &json!({"welcome": true})));
    let said = all(&setup.run(&["check"]));
    assert!(said.contains("multi_tenant") && said.contains("another shape"), "{said}");
    assert!(endpoint.pings().is_empty());
}
