//! What both programs tell an operator in each of these situations, and the table of `docs/OPERATING.md` that says what
//! to do about it: each situation is brought about with the real program, what it says is a row of the table, and no
//! row is without a situation.
#![expect(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::process::Output;

use bytes::Bytes;
use pulse_telemetry_core::verdict::ProxyFault;
use pulse_telemetry_http::tls::TlsProblem;
use pulse_telemetry_http::wire::{NotSecured, SPEAKS_HTTPS};
use pulse_telemetry_testkit::alone::program_or_skip;
use pulse_telemetry_testkit::client;
use pulse_telemetry_testkit::collector::{self, Storage};
use pulse_telemetry_testkit::endpoint::{CertificateAuthority, Endpoint};
use pulse_telemetry_testkit::pulse::{self, Orgs, PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::{RequestRecord, ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup};

/// Where no ping can go to.
const NOWHERE: &str = "http://127.0.0.1:9";

const ORGANIZATIONS: &str = "PULSE_TELEMETRY_PULSE__ORGANIZATIONS";

/// What is written instead of a part of a sentence that is another one each time.
const ANYTHING: char = '…';

/// The sentences in that column of the table below a heading, each as the parts around what changes.
fn rows(heading: &str, column: usize) -> Vec<Vec<String>> {
    let written = include_str!("../../docs/OPERATING.md").split(heading).nth(1).expect("the heading");
    let section = written.split("\n## ").next().unwrap_or(written);
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(column));
    let fenced = |cell: &'static str| cell.strip_prefix("`` ")?.strip_suffix(" ``");
    let sentences = cells.filter_map(|cell| fenced(cell).or_else(|| cell.strip_prefix('`')?.strip_suffix('`')));
    sentences.map(|sentence| sentence.split(ANYTHING).map(str::to_owned).collect()).collect()
}

/// How much of a sentence is always the same.
fn length(parts: &[String]) -> usize {
    parts.iter().map(String::len).sum()
}

/// Whether all parts stand in what was said, in their order.
fn says(said: &str, parts: &[String]) -> bool {
    let after = |rest: &str, part: &String| rest.find(part.as_str()).map(|at| at + part.len());
    parts.iter().try_fold(said, |rest, part| Some(&rest[after(rest, part)?..])).is_some()
}

/// The row that says most of what was said.
fn row_of(said: &str, rows: &[Vec<String>]) -> Option<usize> {
    (0..rows.len()).filter(|row| says(said, &rows[*row])).max_by_key(|row| length(&rows[*row]))
}

/// Holds what is said in each situation against the rows: each is a row of its own, and no row is without one.
fn hold(rows: &[Vec<String>], situations: Vec<(&str, String)>) {
    let mut seen = vec![false; rows.len()];
    for (name, said) in situations {
        let Some(row) = row_of(&said, rows) else { panic!("{name} is no row of the table: {said}") };
        assert!(!seen[row], "{name} has the row of another situation: {}", rows[row].join("…"));
        seen[row] = true;
    }
    for (row, parts) in rows.iter().enumerate() {
        assert!(seen[row], "no situation brings it about: {}", parts.join("…"));
        assert!(length(parts) > 15, "says too little: {}", parts.join("…"));
    }
}

/// Each situation by its name, with all that the program said in it.
fn situations() -> Vec<(&'static str, String)> {
    [token_files(), spellings(), requests(), tokens(), not_pulse(), file_systems()].concat()
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
        let setup = Setup::new(NOWHERE, NOWHERE);
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
        let output = Setup::new(NOWHERE, NOWHERE).with(variable, value).run(&["check"]);
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

/// What `check` says, which must end with that exit code.
fn check(name: &'static str, setup: &Setup, exit: i32) -> (&'static str, String) {
    let output = setup.run(&["check"]);
    assert_eq!(output.status.code(), Some(exit), "{name}: {}", text(&output));
    (name, text(&output))
}

/// S34: a token that is missing, refused, or cannot be read.
fn tokens() -> Vec<(&'static str, String)> {
    let pulse = SimulatedPulse::start(PulseModel { orgs: Orgs::List, ..PulseModel::default() });
    let new = || Setup::new(&pulse.url(), NOWHERE);
    let there = new();
    let credentials = |directory: &str| new().with("CREDENTIALS_DIRECTORY", directory);
    let path = |name: &str| there.path(name).display().to_string();
    std::fs::create_dir_all(there.path("unreadable/pulse-token")).expect("made");
    let organizations = format!("{{default={:?},acme={:?}}}", there.write("d", TOKEN), there.write("a", "revoked"));
    vec![
        check("no token", &new(), 4),
        check("no credential from systemd", &new().with("INVOCATION_ID", "1"), 4),
        check("no credential of that name", &credentials(&path("")), 4),
        check("a credential that cannot be read", &credentials(&path("unreadable")), 3),
        check("a refused token", &new().with_token("revoked"), 4),
        check("an organization's refused token", &new().with(ORGANIZATIONS, &organizations), 4),
    ]
}

/// S37 and S38: the wrong scheme, and what is not Pulse.
fn not_pulse() -> Vec<(&'static str, String)> {
    let model = PulseModel::default();
    let certificate = CertificateAuthority::new().issue_for_loopback();
    let secure =
        Server::start_tls(&certificate.cert_pem, &certificate.key_pem, move |request| pulse::answer(&model, &request));
    let plain = SimulatedPulse::start(PulseModel::default());
    let other = |plan: fn(&RequestRecord) -> ResponsePlan| Server::start(move |request| plan(&request));
    let page = other(|_| ResponsePlan::bytes(200, "text/html", "<!doctype html>"));
    let json = other(|_| ResponsePlan::bytes(200, "application/json", "{}"));
    let https = other(|request| ResponsePlan::redirect(301, &format!("https://pulse.lan{}", request.target)));
    let sign_on = other(|_| ResponsePlan::redirect(302, "https://sso.lan/login"));
    let (nothing, failing) = (other(|_| ResponsePlan::status(404)), other(|_| ResponsePlan::status(502)));
    let (teapot, silent) = (other(|_| ResponsePlan::status(418)), other(|_| ResponsePlan::Hang));
    let reset = other(|_| ResponsePlan::Reset);
    [
        ("https:// to a plain port", plain.url().replace("http://", "https://")),
        ("http:// to a port that speaks TLS", secure.url().replace("https://", "http://")),
        ("a redirect to https", https.url()),
        ("a sign-on page", sign_on.url()),
        ("a path too much", format!("{}/pulse/api", plain.url())),
        ("another port", nothing.url()),
        ("a proxy that reaches nothing", failing.url()),
        ("another program", teapot.url()),
        ("a page", page.url()),
        ("JSON of another program", json.url()),
        ("JSON of another program below a path", format!("{}/api", json.url())),
        ("a page below a path", format!("{}/api", page.url())),
        ("a Pulse that hangs", silent.url()),
        ("a port that closes", reset.url()),
    ]
    .map(|(name, url)| {
        let setup = Setup::new(&url, NOWHERE).with_token(TOKEN).with("PULSE_TELEMETRY_PULSE__TIMEOUT", "1s");
        check(name, &setup, 4)
    })
    .to_vec()
}

/// S42: a file system that refuses what a state directory needs.
fn file_systems() -> Vec<(&'static str, String)> {
    [
        ("a file system without locks", "flock:error=ENOLCK", "state/lock"),
        ("a file system whose directories cannot be synced", "fsync:error=EINVAL", "state"),
        ("a state directory of another user", "openat:error=EACCES", "state/lock"),
    ]
    .map(|(name, injection, path)| {
        let setup = Setup::new(NOWHERE, NOWHERE);
        std::fs::create_dir(setup.path("state")).expect("made");
        let (injection, path) = (format!("inject={injection}"), setup.path(path).display().to_string());
        let strace = ["timeout", "20", "strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &injection, "-P", &path];
        let output = setup.through(&strace.map(str::to_owned)).run(&["run"]);
        assert_eq!(output.status.code(), Some(5), "{name}: {}", text(&output));
        (name, text(&output))
    })
    .to_vec()
}

#[test]
fn what_the_program_says_in_each_situation_is_a_row_of_the_table_and_no_row_is_without_one() {
    if !program_or_skip(
        "strace",
        &["--version"],
        "what_the_program_says_in_each_situation_is_a_row_of_the_table_and_no_row_is_without_one",
    ) {
        return;
    }
    hold(&rows("## What a message means", 0), situations());
}

/// Every sentence of the code about a connection that could not be made.
fn about_connections() -> Vec<String> {
    use TlsProblem as Tls;
    // A variant that is added has to be added below.
    let _ = |problem: Tls| match problem {
        Tls::UnknownIssuer | Tls::OtherKey | Tls::WrongName | Tls::NoName | Tls::Expired | Tls::NotYetValid => (),
        Tls::AuthorityAsServer | Tls::Version1 | Tls::Certificate | Tls::UnsupportedKey | Tls::NothingInCommon => (),
        Tls::Other => (),
    };
    let _ = |fault: ProxyFault| match fault {
        ProxyFault::Unreachable | ProxyFault::Login | ProxyFault::Refused(_) | ProxyFault::Answered(_) => (),
        ProxyFault::CutShort | ProxyFault::NotHttp | ProxyFault::SpeaksTls => (),
    };
    let proxy = [
        ProxyFault::Unreachable,
        ProxyFault::Login,
        ProxyFault::Refused(403),
        ProxyFault::Answered(502),
        ProxyFault::CutShort,
        ProxyFault::NotHttp,
        ProxyFault::SpeaksTls,
    ];
    let certificates = [Tls::UnknownIssuer, Tls::OtherKey, Tls::WrongName, Tls::NoName, Tls::Expired, Tls::NotYetValid];
    let others = [Tls::AuthorityAsServer, Tls::Version1, Tls::Certificate, Tls::UnsupportedKey, Tls::NothingInCommon];
    let schemes = [NotSecured::PlainHttp, NotSecured::NoTls, NotSecured::Closed].map(|error| error.to_string());
    let schemes = schemes.into_iter().chain([SPEAKS_HTTPS.to_owned()]);
    let tls = certificates.into_iter().chain(others).chain([Tls::Other]).map(|problem| problem.to_string());
    proxy.into_iter().map(|fault| fault.to_string()).chain(schemes).chain(tls).collect()
}

/// The heading of the table about connections.
const CONNECTIONS: &str = "## Where there is no connection";

#[test]
fn every_sentence_about_a_connection_is_a_row_of_its_table_and_no_row_is_another() {
    hold(&rows(CONNECTIONS, 0), about_connections().into_iter().map(|said| ("a sentence of the code", said)).collect());
}

#[test]
fn what_a_proxy_answers_to_the_daemon_is_a_row_of_the_table() {
    let (rows, reasons) = (rows(CONNECTIONS, 0), rows(CONNECTIONS, 1));
    for (plan, sentence) in [
        (ResponsePlan::status(407), "the proxy asks for a login (407)"),
        (ResponsePlan::status(403), "the proxy refused the tunnel ("),
        (ResponsePlan::status(502), "the proxy answered "),
        (ResponsePlan::Reset, "the proxy ended the connection without an answer"),
    ] {
        let pulse = SimulatedPulse::start(PulseModel::default());
        let proxy = Server::start(move |_| plan.clone());
        let setup = Setup::new(&pulse.url(), "https://127.0.0.1:9/v1/telemetry/ping").with_token(TOKEN);
        let sidecar = setup.with("HTTPS_PROXY", &proxy.url()).start();
        let line = sidecar.wait_for_log("the endpoint did not take the ping");
        let row = row_of(&line, &rows).expect("a row");
        assert_eq!(rows[row][0], sentence, "{line}");
        assert!(line.contains(&reasons[row][0]), "{line}");
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
