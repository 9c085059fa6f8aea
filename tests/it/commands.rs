//! The commands of the real binary, beside a daemon that hangs or is somebody else.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::{RequestRecord, ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, exists};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// Ten times what `off` may take.
const SOON: Duration = Duration::from_secs(30);

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Both streams of a command, for what it told.
fn told(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

fn working(pulse: &SimulatedPulse, endpoint: &Endpoint) -> Setup {
    Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN)
}

/// What listens in the daemon's place.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Peer {
    /// Takes the connection and says nothing.
    Silent,
    /// A good head, a byte a second.
    Drips,
    /// A good head and half a body, and then nothing.
    StopsInTheMiddle,
    /// A good head and half a body, and then the end of the connection.
    EndsInTheMiddle,
    /// A program of another kind.
    Ssh,
    /// Another web server.
    Web,
}

const GOOD_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nserver: pulse-telemetry\r\ncontent-length: 4096\r\n\r\n{\"enabled\":";

impl Peer {
    /// Serves one connection for as long as the other end stays.
    fn serve(self, stream: &mut (impl Read + Write)) -> io::Result<()> {
        match self {
            Self::Silent => {}
            Self::Drips => {
                for byte in GOOD_HEAD.iter().chain(std::iter::repeat(&b' ')) {
                    stream.write_all(&[*byte])?;
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            Self::StopsInTheMiddle => stream.write_all(GOOD_HEAD)?,
            Self::EndsInTheMiddle => {
                // With the request unread, the end would be a reset, which may overtake the answer.
                let _ = stream.read(&mut [0; 4096])?;
                return stream.write_all(GOOD_HEAD);
            }
            Self::Ssh => stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n")?,
            Self::Web => stream.write_all(b"HTTP/1.1 200 OK\r\nserver: nginx\r\ncontent-length: 2\r\n\r\n{}")?,
        }
        io::copy(stream, &mut io::sink()).map(drop)
    }

    /// Listens on TCP, and gives `serve.listen`. Its threads end with the test's process.
    fn on_tcp(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map(Result::unwrap) {
                std::thread::spawn(move || self.serve(&mut stream));
            }
        });
        address.to_string()
    }

    /// Listens on a Unix socket, and gives `serve.listen`.
    fn on_a_socket(self, path: &Path) -> String {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map(Result::unwrap) {
                std::thread::spawn(move || self.serve(&mut stream));
            }
        });
        format!("unix:{}", path.display())
    }
}

/// Runs a command, and holds it to the bound.
fn run(setup: &Setup, arguments: &[&str]) -> Output {
    let started = SystemClock.now().mono;
    let output = setup.run(arguments);
    let took = SystemClock.now().mono - started;
    assert!(took < SOON, "{arguments:?} took {took:?}: {}", told(&output));
    output
}

#[test]
fn off_is_on_the_disk_and_has_ended_at_once_whoever_listens_in_the_daemons_place() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let of = |peer: Peer, on_tcp: bool| {
        let setup = working(&pulse, &endpoint);
        let listen = if on_tcp { peer.on_tcp() } else { peer.on_a_socket(&setup.path("peer.sock")) };
        let setup = setup.with("PULSE_TELEMETRY_SERVE__LISTEN", &listen);
        let off = run(&setup, &["off"]);
        assert!(off.status.success() && exists(&setup.state("off")), "{peer:?}: {}", told(&off));
        let word = match peer {
            Peer::Silent | Peer::Drips | Peer::StopsInTheMiddle => "gave no whole answer within 2 s",
            Peer::EndsInTheMiddle => "ended the connection before its answer was whole",
            Peer::Ssh | Peer::Web => "is not pulse-telemetry",
        };
        let said = told(&off);
        assert!(said.contains("It is on the disk") && said.contains(word), "{peer:?}: {said}");
    };
    std::thread::scope(|scope| {
        for on_tcp in [true, false] {
            for peer in [Peer::Silent, Peer::Drips, Peer::StopsInTheMiddle, Peer::EndsInTheMiddle, Peer::Ssh, Peer::Web]
            {
                scope.spawn(move || of(peer, on_tcp));
            }
        }
    });
}

/// The patience of `preview` and `reset-id`, which is longer, is tested in virtual time.
#[test]
fn no_command_waits_long_for_a_daemon_that_hangs_and_each_says_so() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let commands: [&[&str]; 8] = [
        &["status"],
        &["history"],
        &["history", "--erase"],
        &["events"],
        &["events", "--erase"],
        &["on"],
        &["healthcheck"],
        &["check"],
    ];
    let of = |peer: Peer, on_tcp: bool, command: &[&str]| {
        let setup = working(&pulse, &endpoint);
        let listen = if on_tcp { peer.on_tcp() } else { peer.on_a_socket(&setup.path("peer.sock")) };
        let output = run(&setup.with("PULSE_TELEMETRY_SERVE__LISTEN", &listen), command);
        // `check` goes on, and tells what it can find out by itself.
        let code = if command == ["check"] { 0 } else { 1 };
        let said = told(&output);
        assert_eq!(output.status.code(), Some(code), "{peer:?} {command:?}: {said}");
        assert!(said.contains("gave no whole answer within 5 s"), "{peer:?} {command:?}: {said}");
    };
    std::thread::scope(|scope| {
        for on_tcp in [true, false] {
            for peer in [Peer::Silent, Peer::Drips, Peer::StopsInTheMiddle] {
                for command in commands {
                    scope.spawn(move || of(peer, on_tcp, command));
                }
            }
        }
    });
}

#[test]
fn a_daemon_that_hung_while_it_was_switched_off_begins_no_connection_once_it_goes_on() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    // Due while the daemon stands still.
    let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "2s").on_a_socket();
    let sidecar = setup.start();
    let daemon = Pid::from_raw(i32::try_from(sidecar.id()).unwrap()).unwrap();
    kill_process(daemon, Signal::STOP).unwrap();
    let off = run(&setup, &["off"]);
    assert!(off.status.success() && exists(&setup.state("off")), "{}", told(&off));
    assert!(told(&off).contains("It finds the file before each ping"), "{}", told(&off));
    assert_eq!(run(&setup, &["healthcheck"]).status.code(), Some(1));
    kill_process(daemon, Signal::CONT).unwrap();
    sidecar.wait_for_log("telemetry is off");
    sidecar.stop();
    assert_eq!(endpoint.server.connections(), 0);
    assert!(!exists(&setup.id_file()));
}

#[test]
fn off_tells_the_daemon_where_its_file_cannot_be_written_and_fails_only_where_neither_works() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h").on_a_socket();
    let unwritable = |setup: &Setup| setup.clone().with("PULSE_TELEMETRY_STATE__DIR", "/dev/null/state");
    let neither = unwritable(&setup).run(&["off"]);
    assert_eq!(neither.status.code(), Some(5), "{}", told(&neither));
    assert!(told(&neither).contains("No daemon was told"), "{}", told(&neither));

    let sidecar = setup.start();
    let off = unwritable(&setup).run(&["off"]);
    assert!(off.status.success(), "{}", told(&off));
    assert!(told(&off).contains("in the daemon only"), "{}", told(&off));
    assert!(exists(&setup.state("off")), "the daemon wrote it in its own directory");
    // With the daemon, both.
    assert!(setup.run(&["on"]).status.success());
    let off = setup.run(&["off"]);
    assert!(told(&off).contains("It is on the disk") && told(&off).contains("was told"), "{}", told(&off));
    sidecar.wait_for_log("telemetry is off");
    sidecar.stop();
}

#[test]
fn whether_there_is_an_id_is_read_from_the_whole_answer_not_from_its_first_bytes() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    for (answer, is_on) in [
        (r#"{"payload":null,"enabled":false}"#, false),
        ("{ \"enabled\" : false }", false),
        (r#"{"note":"{\"enabled\":false","enabled":true}"#, true),
    ] {
        let server = Server::start(move |_| {
            ResponsePlan::bytes(200, "application/json", answer).with_header("server", "pulse-telemetry")
        });
        let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SERVE__LISTEN", &server.addr.to_string());
        let reset = setup.run(&["reset-id"]);
        assert_eq!(text(&reset.stdout).contains("was replaced"), is_on, "{answer}: {}", told(&reset));
    }
}

#[test]
fn what_another_program_answers_in_the_daemons_name_cannot_change_what_a_terminal_shows() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint);
    let hostile = "\u{1b}[2J\u{202e}\u{7}";
    let mut status = setup.start().status();
    for key in ["summary", "endpoint", "state_dir"] {
        status[key] = hostile.into();
    }
    status["warnings"] = json!([hostile]);
    let answer = move |request: RequestRecord| {
        let (code, body) = match request.target.split('?').next().unwrap_or_default() {
            "/api/v1/status" => (200, status.clone()),
            "/api/v1/switch" => (200, json!({"off_by": hostile, "persisted": true})),
            "/api/v1/history" => (200, json!({"entries": [{"strange": hostile}], "before": null})),
            _ => (500, json!({"error": "x", "message": hostile})),
        };
        ResponsePlan::json(code, &body).with_header("server", "pulse-telemetry")
    };
    let server = Server::start(answer);
    let setup = setup.with("PULSE_TELEMETRY_SERVE__LISTEN", &server.addr.to_string());
    for command in [&["status"][..], &["on"], &["off"], &["history"], &["events"], &["healthcheck"], &["reset-id"]] {
        let said = told(&setup.run(command));
        assert!(said.contains('\u{fffd}') || *command == ["off"], "{command:?}: {said}");
        assert!(!said.contains(['\u{1b}', '\u{202e}', '\u{7}']), "{command:?}: {said:?}");
    }
}

/// Runs the program as a user without privileges where the test is root, for whom every file can be read.
fn as_a_user(setup: Setup) -> Setup {
    if !rustix::process::geteuid().is_root() {
        return setup;
    }
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(setup.path(""), all).unwrap();
    std::fs::create_dir(setup.path("state")).unwrap();
    chown(setup.path("state"), Some(65534), Some(65534)).unwrap();
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned);
    setup.through(&user)
}

#[test]
fn a_crash_leaves_no_core_file_and_no_other_process_of_the_user_reads_the_token() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    pulse.replace("/api/health", ResponsePlan::Hang);
    let setup = as_a_user(Setup::new(&pulse.url(), &endpoint.url()).with("PULSE_TOKEN", TOKEN));
    for (number, command) in ["run", "preview", "check", "status"].into_iter().enumerate() {
        let mut child = setup.spawn(&[command]);
        pulse.server.wait_for_requests(number + 1, LIMIT);
        let proc = format!("/proc/{}", child.id());
        let limits = std::fs::read_to_string(format!("{proc}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{command}: {core}");
        // What only root may read is root's.
        assert_eq!(std::fs::metadata(format!("{proc}/environ")).unwrap().uid(), 0, "{command}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_secret_that_everybody_can_read_is_used_and_warned_of_once_with_what_ends_it() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url());
    let file = |name: &str, mode: u32| {
        let path = setup.write(name, TOKEN);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let page = setup.clone().with("PULSE_TELEMETRY_SERVE__TOKEN_FILE", &file("page", 0o644)).with("PULSE_TOKEN", TOKEN);
    let organizations = format!("{{default=\"{}\"}}", file("default", 0o604));
    let organizations = setup.clone().with("PULSE_TELEMETRY_PULSE__ORGANIZATIONS", &organizations);
    let by_name = |mode: u32| setup.clone().with("PULSE_TOKEN_FILE", &file(&format!("token-{mode:o}"), mode));
    for (setup, key, name, mode) in [
        (by_name(0o644), "pulse.token_file", "token-644", "0644"),
        (by_name(0o666), "pulse.token_file", "token-666", "0666"),
        (by_name(0o602), "pulse.token_file", "token-602", "0602"),
        (page, "serve.token_file", "page", "0644"),
        (organizations, "pulse.organizations.default", "default", "0604"),
    ] {
        let path = setup.path(name).display().to_string();
        let check = text(&setup.run(&["check"]).stdout);
        let sidecar = setup.start();
        sidecar.wait_for_log("telemetry is");
        for said in [check, sidecar.stop()] {
            let lines: Vec<_> = said.lines().filter(|line| line.contains("everybody on this machine")).collect();
            assert_eq!(lines.len(), 1, "{said}");
            for word in [key, mode, &format!("chmod 600 {path}")] {
                assert!(lines[0].contains(word), "{word} in {}", lines[0]);
            }
        }
    }
    let credentials = setup.path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("pulse-token"), TOKEN).unwrap();
    let as_credential = setup.clone().with("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap());
    for quiet in [by_name(0o600), by_name(0o640), by_name(0o400), as_credential] {
        let check = text(&quiet.run(&["check"]).stdout);
        assert!(!check.contains("everybody on this machine"), "{check}");
    }
}

/// Everything below the directory of a setup, by name and content.
fn everything(setup: &Setup) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    fn below(dir: &Path, found: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let kind = entry.file_type().unwrap();
            let content = if kind.is_file() { std::fs::read(entry.path()).unwrap() } else { Vec::new() };
            found.push((entry.path(), content));
            if kind.is_dir() {
                below(&entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    below(&setup.path(""), &mut found);
    found.sort();
    found
}

#[test]
fn whatever_ends_a_start_ends_a_check_with_the_same_code_and_words_and_the_check_makes_nothing() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let holder = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h").on_a_socket();
    let _daemon = holder.start();
    let held = holder.path("state").display().to_string();
    // A key, what makes its value, and the exit code.
    type Case<'a> = (&'a str, &'a dyn Fn(&Setup) -> String, i32);
    let cases: [Case<'_>; 10] = [
        ("PULSE_TELEMETRY_STATE__DIR", &|_| held.clone(), 5),
        ("PULSE_TELEMETRY_STATE__DIR", &|setup| setup.write("file", "").display().to_string(), 5),
        ("PULSE_TELEMETRY_STATE__DIR", &|setup| format!("{}/state", setup.write("file", "").display()), 5),
        ("PULSE_TELEMETRY_STATE__DIR", &|_| "/proc/nowhere/state".to_owned(), 5),
        ("PULSE_TELEMETRY_STATE__DIR", &|setup| with_state_file(setup, "state.json", "{\"version\":99}"), 5),
        ("PULSE_TELEMETRY_STATE__DIR", &|setup| with_folder(setup, "ledger.jsonl"), 5),
        ("PULSE_TELEMETRY_STATE__DIR", &|setup| with_folder(setup, "events.jsonl"), 5),
        ("PULSE_TELEMETRY_SERVE__TOKEN_FILE", &|setup| setup.path("nowhere").display().to_string(), 3),
        ("PULSE_CACERT", &|setup| setup.path("nowhere").display().to_string(), 3),
        ("PULSE_TELEMETRY_SERVE__LISTEN", &|_| "127.0.0.1".to_owned(), 3),
    ];
    for (name, value, code) in cases {
        let setup = working(&pulse, &endpoint);
        let value = value(&setup);
        let setup = setup.with(name, &value).with("PULSE_TELEMETRY_LOG__LEVEL", "off");
        let before = everything(&setup);
        let check = setup.run(&["check"]);
        assert_eq!(everything(&setup), before, "{name}={value}");
        let run = setup.run(&["run"]);
        assert_eq!(
            (check.status.code(), run.status.code()),
            (Some(code), Some(code)),
            "{name}={value}: {}",
            told(&check)
        );
        let words = text(&run.stderr);
        let words = words.trim_start_matches("pulse-telemetry: ").trim();
        assert!(told(&check).contains(words), "{name}={value}: {words:?} is not in {}", told(&check));
    }
}

fn with_folder(setup: &Setup, name: &str) -> String {
    std::fs::create_dir_all(setup.state(name)).unwrap();
    setup.path("state").display().to_string()
}

fn with_state_file(setup: &Setup, name: &str, content: &str) -> String {
    std::fs::create_dir_all(setup.path("state")).unwrap();
    std::fs::write(setup.state(name), content).unwrap();
    setup.path("state").display().to_string()
}

#[test]
fn a_check_where_a_start_would_work_leaves_the_directory_as_it_was_or_absent() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let new = working(&pulse, &endpoint);
    let below = new.path("some/folders/below").display().to_string();
    let used = working(&pulse, &endpoint);
    used.start().stop();
    let socket =
        new.clone().with("PULSE_TELEMETRY_SERVE__LISTEN", &format!("unix:{}/socket", new.path("state").display()));
    for setup in [new.clone(), socket, new.with("PULSE_TELEMETRY_STATE__DIR", &below), used] {
        let before = everything(&setup);
        let check = setup.run(&["check"]);
        assert_eq!(check.status.code(), Some(0), "{}", told(&check));
        assert_eq!(everything(&setup), before, "{}", told(&check));
    }
}

#[test]
fn who_has_read_enough_ends_a_command_quietly_with_the_code_of_what_it_found() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let good = working(&pulse, &endpoint);
    let bad = Setup::new("http://127.0.0.1:1", &endpoint.url()).with_token(TOKEN);
    let mut cases = vec![(&good, vec!["check"], 0), (&bad, vec!["check"], 4), (&good, vec!["status"], 0)];
    cases.extend([(&good, vec!["preview"], 0), (&good, vec!["--help"], 0), (&good, vec!["off"], 0)]);
    cases.extend([(&good, vec!["events", "--json"], 0), (&good, vec!["history"], 0), (&good, vec!["audit"], 0)]);
    for (setup, command, code) in cases {
        let mut child = setup.spawn(&command);
        // Nobody reads a byte of it.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(code), ""), "{command:?}");
    }
    let full = good.clone().through(&["sh", "-c", "exec \"$0\" \"$@\" > /dev/full"].map(str::to_owned));
    let output = full.run(&["check"]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("No space left on device"), "{said}");
}

#[test]
fn a_daemon_whose_log_nobody_reads_any_more_goes_on() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = working(&pulse, &endpoint);
    let mut child = setup.spawn(&["run"]);
    drop(child.stderr.take());
    endpoint.wait_for_pings(1, LIMIT);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn who_has_read_enough_ends_the_collectors_commands_quietly_too() {
    let storage = pulse_telemetry_testkit::collector::Storage::sqlite();
    let setup = pulse_telemetry_testkit::collector::Setup::new(&storage);
    setup.start().stop();
    for command in ["check", "report", "purge", "--help"] {
        let mut child = setup.spawn(&[command]);
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{command}");
    }
}
