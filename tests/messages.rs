//! What both programs tell an operator in each of these situations, and the table of `docs/OPERATING.md` that says what
//! to do about it: each situation is brought about with the real program, what it says is a row of the table, and no row
//! is without a situation.
#![cfg(feature = "collector")]
#![expect(clippy::expect_used, reason = "a test may fail loudly")]

mod support;

use std::process::Output;

use bytes::Bytes;

use support::client;
use support::collector::{self, Storage};
use support::endpoint::Endpoint;
use support::pulse::{PulseModel, SimulatedPulse, TOKEN};
use support::sidecar::{LIMIT, Setup};

/// The heading above the table.
const HEADING: &str = "## What a message means";

/// What is written instead of a part of a sentence that is another one each time.
const ANYTHING: char = '…';

/// The sentences of the table's second column, each as the parts around what changes.
fn rows() -> Vec<Vec<String>> {
    let written = include_str!("../docs/OPERATING.md").split(HEADING).nth(1).expect("the heading");
    let section = written.split("\n## ").next().unwrap_or(written);
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(1));
    let fenced = |cell: &'static str| cell.strip_prefix("`` ")?.strip_suffix(" ``");
    let sentences = cells.filter_map(|cell| fenced(cell).or_else(|| cell.strip_prefix('`')?.strip_suffix('`')));
    sentences.map(|sentence| sentence.split(ANYTHING).map(str::to_owned).collect()).collect()
}

/// Whether all parts stand in what was said, in their order.
fn says(said: &str, parts: &[String]) -> bool {
    let after = |rest: &str, part: &String| rest.find(part.as_str()).map(|at| at + part.len());
    parts.iter().try_fold(said, |rest, part| Some(&rest[after(rest, part)?..])).is_some()
}

/// Each situation by its name, with all that the program said in it.
fn situations() -> Vec<(&'static str, String)> {
    [token_files(), spellings(), requests()].concat()
}

/// S40: what people write into a token's file.
fn token_files() -> Vec<(&'static str, String)> {
    let wide: Vec<u8> = format!("\u{feff}{TOKEN}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    [
        ("quotation marks around a token", format!("\"{TOKEN}\"\n").into_bytes()),
        ("a variable in a token's file", format!("export PULSE_TOKEN={TOKEN}\n").into_bytes()),
        ("a token's file of PowerShell", wide),
        ("a token's file with two lines", format!("{TOKEN}\n{TOKEN}\n").into_bytes()),
    ]
    .map(|(name, content)| {
        let setup = Setup::new("http://127.0.0.1:9", "http://127.0.0.1:9");
        std::fs::write(setup.path("token"), content).expect("written");
        let path = setup.path("token").display().to_string();
        let output = setup.with("PULSE_TOKEN_FILE", &path).run(&["check"]);
        assert_eq!(output.status.code(), Some(3), "{name}");
        assert!(!text(&output).contains(TOKEN), "{name}: {}", text(&output));
        (name, text(&output))
    })
    .to_vec()
}

/// S41: spellings of hosts and words.
fn spellings() -> Vec<(&'static str, String)> {
    [
        ("a zone", "PULSE_URL", "http://[fe80::1%25eth0]:7655"),
        ("a word that is none", "PULSE_TELEMETRY_PULSE__PLATFORM", "vm"),
        ("a key with an underscore missing", "PULSE_TELEMETRY_SERVE_LISTEN", "127.0.0.1:7656"),
        ("a variable that speaks of consent", "PULSE_TELEMETRY_OFF", "true"),
    ]
    .map(|(name, variable, value)| {
        let output = Setup::new("http://127.0.0.1:9", "http://127.0.0.1:9").with(variable, value).run(&["check"]);
        assert_eq!(output.status.code(), Some(3), "{name}");
        (name, text(&output))
    })
    .to_vec()
}

/// S39: requests to the page that a proxy changed.
fn requests() -> Vec<(&'static str, String)> {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let sidecar = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).start();
    let ask = |headers: &[(&str, &str)]| {
        let body = Bytes::from_static(br#"{"enabled":false}"#);
        let answer = client::fetch(sidecar.address(), "PUT", "/api/v1/switch", headers, body).expect("an answer");
        answer.json()["message"].as_str().expect("a sentence").to_owned()
    };
    vec![
        ("a proxy that changes the Host", ask(&[("Host", "localhost"), ("Origin", "http://localhost:8080")])),
        ("a name that is not the server's", ask(&[("Host", "telemetry.lan")])),
    ]
}

#[test]
fn what_the_program_says_in_each_situation_is_a_row_of_the_table_and_no_row_is_without_one() {
    let rows = rows();
    let mut seen = vec![false; rows.len()];
    for (name, said) in situations() {
        let found: Vec<usize> = (0..rows.len()).filter(|row| says(&said, &rows[*row])).collect();
        let [row] = found[..] else { panic!("{name} is {} rows of the table: {said}", found.len()) };
        seen[row] = true;
    }
    for (row, parts) in rows.iter().enumerate() {
        assert!(seen[row], "no situation brings it about: {}", parts.join("…"));
        assert!(parts.iter().map(String::len).sum::<usize>() > 20, "says too little: {}", parts.join("…"));
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_strangers_variable_is_told_by_check_and_by_the_log_and_stops_neither_program() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    let setup = setup.with("PULSE_TELEMETRY_TAG", "v1").with("PULSE_TELEMETRY_METRICS_PORT", "tcp://10.96.4.2:9090");
    let told = "environment variable PULSE_TELEMETRY_TAG: is not a key and changes nothing: the nearest key is ";
    let check = setup.run(&["check"]);
    assert!(check.status.success() && text(&check).contains(told), "{}", text(&check));
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, LIMIT);
    assert!(sidecar.stop().contains(told));

    let storage = Storage::sqlite();
    let setup = collector::Setup::new(&storage).with_variable("PULSE_TELEMETRY_COLLECTOR_UID", "1000");
    let told =
        "environment variable PULSE_TELEMETRY_COLLECTOR_UID: is not a key and changes nothing: the nearest key is ";
    let check = setup.run(&["check"]);
    assert!(check.status.success() && text(&check).contains(told), "{}", text(&check));
    assert!(setup.start().stop().contains(told));
}
