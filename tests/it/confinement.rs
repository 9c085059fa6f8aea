//! What the kernel holds the daemon to, with the real binary: it is in force, it refuses what it should, everything
//! works all the same, and a kernel without it is told of. And that the daemon itself tries nothing else.
//!
//! What a confined program cannot do is tried by a thread of this test, which the same function confines.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use landlock::{ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope};
use pulse_telemetry::confine::{Allowed, Confinement, Extent, Lookups, confine, listen_no_more};
use pulse_telemetry_testkit::alone::program_or_skip;
use pulse_telemetry_testkit::client;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::localhost_is_known;
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, exists};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

#[test]
fn the_status_says_what_the_kernel_holds_the_daemon_to_and_every_thread_is_held_to_it() {
    let name = "the_status_says_what_the_kernel_holds_the_daemon_to_and_every_thread_is_held_to_it";
    if !kernel_has_it(name) || !localhost_is_known(name) {
        return;
    }
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    // By name, so that a thread of the runtime has to look it up.
    let named = |url: &str| url.replace("127.0.0.1", "localhost");
    let setup = Setup::new(&named(&pulse.url()), &named(&endpoint.url())).with_token(TOKEN).on_a_socket();
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, LIMIT);

    let status = setup.run(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let ports = BTreeSet::from([53, port(&pulse.url()), port(&endpoint.url())]);
    let whole = json!({
        "no_new_privileges": true, "landlock": "fully", "outgoing_ports": ports,
    });
    assert_eq!(status["confinement"], whole);
    let told = String::from_utf8(setup.run(&["status"]).stdout).unwrap();
    assert!(told.contains("\nConfined:  writes to the state directory only; connects to the TCP ports"), "{told}");
    let threads: Vec<_> = fs::read_dir(format!("/proc/{}/task", sidecar.id())).unwrap().collect();
    assert!(threads.len() > 1, "the lookups were made by another thread");
    for thread in threads {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    }
    let log = sidecar.stop();
    assert!(!exists(&setup.path("api.sock")), "its socket is removed all the same");
    assert!(log.contains("confined by the kernel: ") && !log.contains("not confined"), "{log}");
    let offline = setup.run(&["status", "--json"]);
    let offline: Value = serde_json::from_slice(&offline.stdout).unwrap();
    assert_eq!((&offline["running"], &offline["confinement"]), (&json!(false), &Value::Null));
}

#[test]
fn a_confined_program_can_write_nothing_but_its_state() {
    confined("a_confined_program_can_write_nothing_but_its_state", |place| {
        let (state, elsewhere) = (place.state.join("file"), place.dir.join("elsewhere"));
        for round in ["made", "written over"] {
            fs::write(place.state.join("new"), round).unwrap();
            fs::rename(place.state.join("new"), &state).unwrap();
        }
        OpenOptions::new().write(true).open(&state).unwrap().set_len(2).unwrap();
        assert_eq!(fs::read(&state).unwrap(), b"wr");

        refuses(fs::write(&elsewhere, "made"));
        refuses(OpenOptions::new().append(true).open(place.dir.join("there")));
        refuses(fs::create_dir(&elsewhere));
        refuses(fs::remove_file(place.dir.join("there")));
        refuses(fs::rename(place.dir.join("there"), &elsewhere));
        refuses(fs::hard_link(place.dir.join("there"), &elsewhere));
        refuses(std::os::unix::fs::symlink(&state, &elsewhere));
        assert!(fs::rename(&state, &elsewhere).is_err(), "nothing is moved out");
        refuses(OpenOptions::new().write(true).truncate(true).open(place.dir.join("there")));
        assert!(UnixListener::bind(&elsewhere).is_err());
        refuses(UnixListener::bind(place.state.join("socket")));
        fs::remove_file(state).unwrap();
    });
}

#[test]
fn a_confined_program_can_read_its_state_and_what_a_lookup_needs_and_nothing_else() {
    let name = "a_confined_program_can_read_its_state_and_what_a_lookup_needs_and_nothing_else";
    if !localhost_is_known(name) {
        return;
    }
    confined(name, |place| {
        fs::write(place.state.join("file"), "state").unwrap();
        assert_eq!(fs::read(place.state.join("file")).unwrap(), b"state");
        assert_eq!(fs::read_dir(&place.state).unwrap().count(), 1);
        refuses(File::open("/etc/shadow"));
        refuses(fs::read(place.dir.join("there")));
        refuses(fs::read_dir(&place.dir));
        refuses(Command::new("/bin/true").status());
        assert!(File::open("/etc/hosts").is_ok());
        // Where the system call for random bytes is not found, they are read there.
        assert!(File::open("/dev/random").is_ok() && File::open("/dev/urandom").is_ok());
        // As the runtime does it, in a thread that comes later.
        let found = std::thread::spawn(|| ("localhost", 80).to_socket_addrs().unwrap().count()).join().unwrap();
        assert!(found > 0);
    });
}

#[test]
fn a_confined_program_can_connect_to_its_ports_only_and_listens_nowhere() {
    confined("a_confined_program_can_connect_to_its_ports_only_and_listens_nowhere", |place| {
        TcpStream::connect(("127.0.0.1", place.port)).unwrap();
        refuses(TcpStream::connect(place.other.local_addr().unwrap()));
        std::thread::scope(|scope| {
            let other = place.other.local_addr().unwrap();
            scope.spawn(move || refuses(TcpStream::connect(other)));
        });
        refuses(TcpListener::bind("127.0.0.1:0"));
    });
}

#[test]
fn a_confined_program_cannot_signal_another_or_reach_its_abstract_socket() {
    let mut another = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&another);
    let name = format!("pulse-telemetry-test-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(name).unwrap();
    let _listening = UnixListener::bind_addr(&address).unwrap();
    confined("a_confined_program_cannot_signal_another_or_reach_its_abstract_socket", move |_| {
        refuses(rustix::process::kill_process(pid, Signal::TERM).map_err(io::Error::from));
        refuses(UnixStream::connect_addr(&address));
    });
    another.kill().unwrap();
    another.wait().unwrap();
}

#[test]
fn another_user_than_root_finds_the_hosts_file_that_took_the_place_of_another() {
    if !localhost_is_known("another_user_than_root_finds_the_hosts_file_that_took_the_place_of_another") {
        return;
    }
    let allowed = Allowed::new(Path::new("/nonexistent/state"), [], &Lookups::default(), false);
    assert!(allowed.read.contains(&PathBuf::from("/etc")));
    let dir = tempfile::tempdir().unwrap();
    let allowed = Allowed { written: dir.path().to_owned(), ..allowed };
    std::thread::spawn(move || {
        confine(&allowed);
        assert!(File::open("/etc/hosts").is_ok());
        // Where the system call for random bytes is not found, they are read there.
        assert!(File::open("/dev/random").is_ok() && File::open("/dev/urandom").is_ok());
    })
    .join()
    .unwrap();
}

#[test]
fn without_landlock_it_works_and_says_that_it_is_not_confined() {
    let name = "without_landlock_it_works_and_says_that_it_is_not_confined";
    let (status, log) = a_life_with(name, "inject=landlock_create_ruleset:error=ENOSYS");
    let Some(status) = status else { return };
    let none = json!({
        "no_new_privileges": true, "landlock": "none", "outgoing_ports": null,
    });
    assert_eq!(status["confinement"], none);
    assert!(log.contains("not confined by this kernel: files, ports and processes (Landlock, "), "{log}");
}

#[test]
fn on_a_kernel_of_2022_files_are_confined_and_the_rest_is_told_as_missing() {
    let name = "on_a_kernel_of_2022_files_are_confined_and_the_rest_is_told_as_missing";
    // What the kernel says that it knows; the ruleset itself is the second call.
    let (status, log) = a_life_with(name, "inject=landlock_create_ruleset:retval=2:when=1");
    let Some(status) = status else { return };
    let some = json!({
        "no_new_privileges": true, "landlock": "partly", "outgoing_ports": null,
    });
    assert_eq!(status["confinement"], some);
    assert_eq!(log.matches("not confined by this kernel: what is newer than").count(), 1, "{log}");
}

#[test]
fn in_a_whole_life_no_file_is_written_outside_the_state_directory() {
    let name = "in_a_whole_life_no_file_is_written_outside_the_state_directory";
    if !program_or_skip("strace", &["--version"], name) {
        return;
    }
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    let trace = setup.path("trace");
    let setup = setup.clone().with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "300ms").through(&strace(&[
        "-A",
        "-o",
        trace.to_str().unwrap(),
        "-e",
        "trace=%file,bind,ftruncate,fchmod,fchown",
    ]));
    for start in 1..=3 {
        let sidecar = setup.start();
        endpoint.wait_for_pings(start, LIMIT);
        for page in ["/", "/page.js", "/api/v1/preview", "/api/v1/preview/bytes", "/api/v1/status", "/api/v1/posture"] {
            assert_eq!(sidecar.get(page).status, 200, "{page}");
        }
        assert_eq!(sidecar.get("/metrics").status, 200);
        assert_eq!(sidecar.post("/api/v1/reset-id").status, 200);
        assert_eq!(sidecar.put("/api/v1/switch", r#"{"enabled":false}"#).status, 200);
        assert_eq!(sidecar.put("/api/v1/switch", r#"{"enabled":true}"#).status, 200);
        let event =
            r#"{"type":"pricing_viewed","surface":"settings","timestamp":1795427342072,"idempotency_key":"one"}"#;
        assert_eq!(sidecar.ask("POST", "/api/upgrade-metrics/events", event).unwrap().status, 202);
        assert_eq!(sidecar.get("/api/v1/history").status, 200);
        sidecar.ask("DELETE", "/api/v1/history", "").unwrap();
        sidecar.ask("DELETE", "/api/v1/events", "").unwrap();
        sidecar.stop();
    }
    let trace = fs::read_to_string(trace).unwrap();
    let state = setup.path("state").display().to_string();
    let changes: Vec<&str> = trace.lines().filter(|line| changes_files(line)).collect();
    assert!(changes.len() > 30, "the trace shows what is written:\n{trace}");
    for change in changes {
        let paths = paths_in(change);
        assert!(!paths.is_empty() && paths.iter().all(|path| is_within(path, &state)), "{change}");
    }
    // Nor is anything tried that the kernel then refuses.
    let refused: Vec<&str> =
        trace.lines().filter(|line| line.contains(" EACCES ") || line.contains(" EPERM ")).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// The paths that a call names, and those of the open files that it is given.
fn paths_in(line: &str) -> Vec<&str> {
    let call = line.rsplit_once(" = ").map_or(line, |(call, _)| call);
    let named = call.split('"').skip(1).step_by(2).filter(|path| !path.is_empty());
    let opened = call.split('<').skip(1).filter_map(|rest| rest.split_once('>'));
    let working_dir = call.split_once("AT_FDCWD<").and_then(|(_, rest)| rest.split_once('>'));
    let opened = opened.map(|(path, _)| path).filter(|path| Some(*path) != working_dir.map(|(dir, _)| dir));
    named.chain(opened).collect()
}

/// Whether a line of the trace could be of a call that changes something: all but those that are known to look only.
fn changes_files(line: &str) -> bool {
    const LOOKING: [&str; 12] = [
        "execve",
        "access",
        "faccessat2",
        "stat",
        "lstat",
        "newfstatat",
        "statx",
        "statfs",
        "readlink",
        "readlinkat",
        "getcwd",
        "inotify_add_watch",
    ];
    let call = line.split_once(' ').map_or(line, |(_, call)| call.trim_start());
    let Some((name, words)) = call.split_once('(') else { return false };
    let opens_to_read = ["open", "openat"].contains(&name)
        && !["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE"].iter().any(|flag| words.contains(flag));
    // The local API's address.
    let binds_tcp = name == "bind" && words.contains("AF_INET");
    !(LOOKING.contains(&name) || opens_to_read || binds_tcp)
}

fn is_within(path: &str, dir: &str) -> bool {
    Path::new(path).starts_with(dir) && !path.contains("/../")
}

/// A place for a confined program, and what it must not touch.
struct Place {
    dir: PathBuf,
    /// All that it can write.
    state: PathBuf,
    /// Where it can connect to, and where not.
    port: u16,
    other: TcpListener,
}

/// Runs this in a thread that is confined as the daemon of root is.
fn confined(name: &str, life: impl FnOnce(&Place) + Send + 'static) {
    if !kernel_has_it(name) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place {
        dir: dir.path().to_owned(),
        state: dir.path().join("state"),
        port: listening.local_addr().unwrap().port(),
        other: TcpListener::bind("127.0.0.1:0").unwrap(),
    };
    fs::create_dir(&place.state).unwrap();
    fs::write(place.dir.join("there"), "already").unwrap();
    let told = std::thread::spawn(move || {
        let told = confine(&Allowed::new(&place.state, [place.port], &Lookups::look(Path::new("/etc")), true));
        listen_no_more();
        life(&place);
        told
    })
    .join()
    .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
    let whole = Confinement {
        no_new_privileges: true,
        landlock: Extent::Fully,
        outgoing_ports: Some(BTreeSet::from([53, listening.local_addr().unwrap().port()]).into_iter().collect()),
    };
    assert_eq!(told, whole);
    assert_eq!(fs::read(dir.path().join("there")).unwrap(), b"already");
}

fn refuses<T>(result: io::Result<T>) {
    let error = result.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}

/// The status and the log of a daemon that sends its ping while strace answers a call in the kernel's place.
fn a_life_with(name: &str, injection: &str) -> (Option<Value>, String) {
    if !program_or_skip("strace", &["--version"], name) || !kernel_has_it(name) {
        return (None, String::new());
    }
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let through = strace(&["-o", "/dev/null", "-e", injection]);
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).through(&through);
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, LIMIT);
    let status = sidecar.status();
    let page = client::get(sidecar.address(), "/", None).unwrap().text();
    assert!(page.contains("Not in force here: "), "the page says it too");
    (Some(status), sidecar.stop())
}

fn strace(options: &[&str]) -> Vec<String> {
    ["strace", "-D", "-f", "-qq", "-y", "-s", "4096"].iter().chain(options).map(|word| (*word).to_owned()).collect()
}

fn port(url: &str) -> u16 {
    url.trim_end_matches('/').rsplit(':').next().and_then(|port| port.split('/').next()).unwrap().parse().unwrap()
}

/// Whether this kernel has all of Landlock that is asked for; says so where it has not.
fn kernel_has_it(name: &str) -> bool {
    let hard = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let asked = hard.handle_access(AccessFs::from_all(ABI::V5)).and_then(|asked| {
        asked.handle_access(AccessNet::from_all(ABI::V4)).and_then(|asked| asked.scope(Scope::from_all(ABI::V6)))
    });
    let has_it = asked.and_then(Ruleset::create).is_ok();
    if !has_it {
        let _ =
            writeln!(io::stderr(), "SKIPPED {name}: this kernel has no Landlock, or an older one (before Linux 6.12)");
    }
    has_it
}
