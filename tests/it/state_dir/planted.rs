//! What somebody planted in the place of a file: links, pipes, devices, files without end, files of others.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, SystemTime};

use pulse_telemetry_testkit::alone::run;
use pulse_telemetry_testkit::disk::contains;
use pulse_telemetry_testkit::sidecar::Setup;

use super::{names, said, world};

/// The files that are opened, and so have to be files of this directory's.
const OPENED: [&str; 5] = [".install_id", "state.json", "ledger.jsonl", "events.jsonl", "lock"];
/// The names that are only made, replaced or removed.
const MADE: [&str; 12] = [
    "off",
    "probe",
    "probe.new",
    "off.new",
    ".install_id.new",
    "state.json.new",
    "ledger.jsonl.new",
    "events.jsonl.new",
    "ledger.jsonl.torn-1",
    "ledger.jsonl.damaged-1",
    "events.jsonl.damaged-1",
    "state.json.damaged-1",
];

const COMMANDS: [&[&str]; 12] = [
    &["run"],
    &["status"],
    &["preview"],
    &["check"],
    &["on"],
    &["reset-id"],
    &["history"],
    &["history", "--erase"],
    &["audit"],
    &["events"],
    &["events", "--erase"],
    &["off"],
];

/// What stands in a file outside, and must stay there.
const OUTSIDE: &[u8] = b"of nobody's business, without a newline";

/// How a thing is planted at a path, beside a file outside.
type Form = (&'static str, fn(&Path, &Path));

const FORMS: [Form; 7] = [
    ("a symbolic link", |at, outside| symlink(outside, at).unwrap()),
    ("hard links", |at, outside| fs::hard_link(outside, at).unwrap()),
    ("a symbolic link", |at, _| symlink("/dev/zero", at).unwrap()),
    ("a named pipe", |at, _| drop(run("mkfifo", &[at.to_str().unwrap()]))),
    ("a socket", |at, _| drop(UnixListener::bind(at).unwrap())),
    ("a directory", |at, _| fs::create_dir(at).unwrap()),
    ("bytes, and", |at, _| File::create(at).unwrap().set_len(8 << 30).unwrap()),
];

/// A file outside of the state directory, as it was: of a time to come, which nobody corrects.
struct Outside {
    path: PathBuf,
    owner: (u32, u32),
    time: SystemTime,
}

impl Outside {
    fn new(setup: &Setup) -> Self {
        let path = setup.path("outside");
        fs::write(&path, OUTSIDE).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 32);
        File::open(&path).unwrap().set_modified(time).unwrap();
        let found = fs::metadata(&path).unwrap();
        Self { path, owner: (found.uid(), found.gid()), time }
    }

    fn check(&self, setup: &Setup, planted: &str, what: &str) {
        assert_eq!(fs::read(&self.path).unwrap(), OUTSIDE, "{what}");
        let found = fs::metadata(&self.path).unwrap();
        assert_eq!(((found.uid(), found.gid()), found.mode() & 0o777), (self.owner, 0o600), "{what}");
        assert_eq!(found.modified().unwrap(), self.time, "{what}");
        for name in names(&setup.path("state")).iter().filter(|name| *name != planted) {
            let path = setup.state(name);
            let is_small = fs::symlink_metadata(&path).unwrap();
            if is_small.is_file() && is_small.len() < 1 << 20 {
                assert!(!contains(&fs::read(&path).unwrap(), OUTSIDE), "{what}: it was copied to {name}");
            }
        }
    }
}

/// Runs it to its end, in memory and time that are bounded.
fn bounded(setup: &Setup, more: &[&str], command: &[&str]) -> Output {
    let through = ["timeout", "20", "prlimit", "--as=600000000"].iter().chain(more).map(|word| (*word).to_owned());
    let output = setup.clone().through(&through.collect::<Vec<_>>()).run(command);
    assert_ne!(output.status.code(), Some(124), "{command:?} hangs: {}", said(&output));
    assert!(output.status.code().is_some(), "{command:?} was killed: {}", said(&output));
    output
}

/// Whether a command has anything to do with a file.
fn is_opened_by(command: &[&str], name: &str) -> bool {
    match command {
        ["history" | "audit"] => name == "ledger.jsonl",
        ["events"] => name == "events.jsonl",
        ["status" | "preview" | "check"] => [".install_id", "state.json", "lock"].contains(&name),
        ["run" | "events", ..] => true,
        _ => name != "events.jsonl",
    }
}

fn plants(more: &[&str], prepare: impl Fn(&Setup)) {
    let (pulse, endpoint, _) = world();
    for name in OPENED {
        for (word, plant) in FORMS {
            let setup = Setup::new(&pulse.url(), &endpoint.url()).with("PULSE_TOKEN", super::TOKEN);
            let outside = Outside::new(&setup);
            fs::create_dir(setup.path("state")).unwrap();
            plant(&setup.state(name), &outside.path);
            prepare(&setup);
            for command in COMMANDS.iter().filter(|command| is_opened_by(command, name)) {
                let output = bounded(&setup, more, command);
                let what = format!("{name} as {word}, {command:?}: {}", said(&output));
                outside.check(&setup, name, &what);
                assert!(said(&output).contains(name) && said(&output).contains(word), "{what}");
                assert_eq!(output.status.code() == Some(5), *command != ["off"], "{what}");
                if *command == ["off"] {
                    assert!(said(&output).contains("the ID file stays until one starts there again"), "{what}");
                    assert!(
                        output.status.success() && names(&setup.path("state")).contains(&"off".to_owned()),
                        "{what}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_planted_in_a_files_place_is_named_and_neither_read_nor_written_nor_waited_for() {
    plants(&[], |_| {});
}

/// A planted switch is an off: see `switch`. A folder in the place of a file that is to be made is an error.
#[test]
fn what_is_planted_where_a_file_is_to_be_made_gives_way_and_what_it_leads_to_stays() {
    gives_way(|_| {});
}

fn gives_way(prepare: impl Fn(&Setup)) {
    let (pulse, endpoint, _) = world();
    for name in MADE {
        for at in [0, 1, 3, 5] {
            let (word, plant) = FORMS[at];
            let setup = Setup::new(&pulse.url(), &endpoint.url()).with("PULSE_TOKEN", super::TOKEN);
            let setup = setup.with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h");
            let outside = Outside::new(&setup);
            fs::create_dir(setup.path("state")).unwrap();
            plant(&setup.state(name), &outside.path);
            prepare(&setup);
            for command in COMMANDS.into_iter().filter(|command| writes(command)) {
                let output = bounded(&setup, &[], command);
                let is_in_the_way = word == "a directory" && is_made_anew(name);
                assert_eq!(said(&output).contains("failed to"), is_in_the_way, "{name} as {word}: {}", said(&output));
                let names_it = said(&output).contains(setup.state(name).to_str().unwrap());
                assert!(names_it || !is_in_the_way, "{name} as {word}: {}", said(&output));
                outside.check(&setup, name, &format!("{name} as {word}, {command:?}: {}", said(&output)));
            }
            let started = setup.start_if_it_can();
            assert_eq!(started.is_ok(), word != "a directory" || !is_made_anew(name), "{name} as {word}");
            if let Ok(sidecar) = started {
                sidecar.status();
                sidecar.stop();
            }
            outside.check(&setup, name, &format!("{name} as {word}, the daemon"));
        }
    }
}

/// A directory is nobody's to remove; of anything else what leads elsewhere stays.
#[test]
fn what_is_planted_under_the_daemon_gives_way_or_is_named_and_what_it_leads_to_stays() {
    for name in OPENED.into_iter().chain(MADE) {
        for (word, plant) in [FORMS[0], FORMS[3], FORMS[5]] {
            let (_pulse, _endpoint, setup) = world();
            let setup = setup.with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h");
            let outside = Outside::new(&setup);
            let sidecar = setup.start();
            sidecar.wait_for_log("telemetry is on");
            let at = setup.state(name);
            let _ = fs::remove_file(&at);
            plant(&at, &outside.path);
            let what = format!("{name} as {word}");
            let done = [
                sidecar.post("/api/v1/reset-id").status,
                sidecar.put("/api/v1/switch", r#"{"enabled":false}"#).status,
                sidecar.put("/api/v1/switch", r#"{"enabled":true}"#).status,
                sidecar.ask("DELETE", "/api/v1/history", "").unwrap().status,
                sidecar.ask("DELETE", "/api/v1/events", "").unwrap().status,
            ];
            assert_eq!(sidecar.get("/healthz").status, 200, "{what}");
            let log = sidecar.stop();
            let failed = done.iter().any(|status| *status >= 500);
            assert!(!failed || log.contains(at.to_str().unwrap()), "{what}: {done:?}: {log}");
            // A ledger that is lost is told first, and another one begun.
            let may_fail = word == "a directory" || ["lock", "ledger.jsonl"].contains(&name);
            assert!(!failed || may_fail, "{what}: {done:?}: {log}");
            outside.check(&setup, name, &what);
        }
    }
}

fn writes(command: &[&str]) -> bool {
    matches!(command, ["on" | "off" | "reset-id"] | [_, "--erase"])
}

fn is_made_anew(name: &str) -> bool {
    name == "probe" || name.ends_with(".new")
}

/// What a link leads to may be a directory, for some have theirs elsewhere.
#[test]
fn what_stands_in_the_directorys_own_place_and_is_none_is_told_and_stays() {
    let (pulse, endpoint, _) = world();
    for (word, plant) in FORMS.into_iter().filter(|(word, _)| *word != "a directory") {
        let setup = Setup::new(&pulse.url(), &endpoint.url()).with("PULSE_TOKEN", super::TOKEN);
        let outside = Outside::new(&setup);
        plant(&setup.path("state"), &outside.path);
        for command in COMMANDS {
            let output = bounded(&setup, &[], command);
            let what = format!("{word}, {command:?}: {}", said(&output));
            assert_eq!(output.status.code(), Some(5), "{what}");
            assert!(said(&output).contains("is no directory: move it away"), "{what}");
            assert!(said(&output).contains(setup.path("state").to_str().unwrap()), "{what}");
        }
        assert_eq!(fs::read(&outside.path).unwrap(), OUTSIDE, "{word}");
    }
}

#[test]
fn a_ledger_that_is_exchanged_for_a_link_under_the_daemon_is_not_followed() {
    for (word, plant) in FORMS {
        let (_pulse, _endpoint, setup) = world();
        let setup = setup.with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h");
        let outside = Outside::new(&setup);
        let sidecar = setup.start();
        sidecar.wait_for_log("telemetry is on");
        fs::remove_file(setup.state("ledger.jsonl")).unwrap();
        plant(&setup.state("ledger.jsonl"), &outside.path);
        assert_eq!(sidecar.get("/readyz").status, 503, "{word}");
        let begun_anew = if word == "a directory" { 503 } else { 200 };
        assert_eq!(sidecar.get("/api/v1/history").status, begun_anew, "{word}: another one is begun");
        sidecar.stop();
        outside.check(&setup, "ledger.jsonl.damaged-1", word);
    }
}

/// Everything in the directory belongs to that user.
fn all_belong_to(dir: &Path, user: u32) {
    for name in names(dir) {
        let found = fs::symlink_metadata(dir.join(&name)).unwrap();
        assert_eq!((found.uid(), found.gid()), (user, user), "{name}");
    }
}

const NOBODY: u32 = 65534;

/// A state directory of nobody's, below one that only root can pass through, as systemd keeps those of dynamic users.
fn give_away(setup: &Setup) {
    fs::set_permissions(setup.path(""), fs::Permissions::from_mode(0o700)).unwrap();
    for name in names(&setup.path("state")) {
        let found = fs::symlink_metadata(setup.state(&name)).unwrap();
        if found.nlink() == 1 || found.is_dir() {
            std::os::unix::fs::lchown(setup.state(&name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    chown(setup.path("state"), Some(NOBODY), Some(NOBODY)).unwrap();
}

#[test]
#[ignore = "needs root: make test-system"]
fn what_another_user_planted_is_neither_read_nor_written_nor_given_away_by_root() {
    plants(&[], give_away);
}

#[test]
#[ignore = "needs root: make test-system"]
fn what_another_user_planted_where_a_file_is_to_be_made_gives_way_to_root() {
    gives_way(give_away);
}

#[test]
#[ignore = "needs root: make test-system"]
fn a_device_or_a_file_of_another_user_in_a_files_place_is_refused_by_name() {
    let (pulse, endpoint, _) = world();
    let forms: [Form; 3] = [
        ("a device", |at, _| drop(run("mknod", &[at.to_str().unwrap(), "c", "1", "5"]))),
        ("a device", |at, _| drop(run("mknod", &[at.to_str().unwrap(), "b", "7", "200"]))),
        ("a file of user 12345", |at, _| {
            fs::write(at, "").unwrap();
            chown(at, Some(12345), Some(12345)).unwrap();
        }),
    ];
    for name in OPENED {
        for (word, plant) in forms {
            for is_roots in [true, false] {
                let setup = Setup::new(&pulse.url(), &endpoint.url()).with("PULSE_TOKEN", super::TOKEN);
                fs::create_dir(setup.path("state")).unwrap();
                plant(&setup.state(name), Path::new(""));
                if !is_roots {
                    chown(setup.path("state"), Some(NOBODY), Some(NOBODY)).unwrap();
                }
                for command in COMMANDS.iter().filter(|command| is_opened_by(command, name)) {
                    let output = bounded(&setup, &[], command);
                    let what = format!("{name} as {word}, {command:?}: {}", said(&output));
                    assert!(said(&output).contains(name) && said(&output).contains(word), "{what}");
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root: make test-system"]
fn what_roots_commands_make_belongs_to_the_owner_of_the_directory() {
    let (pulse, endpoint, _) = world();
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with("PULSE_TOKEN", super::TOKEN);
    fs::create_dir(setup.path("state")).unwrap();
    give_away(&setup);
    for command in COMMANDS.into_iter().filter(|command| *command != ["run"]) {
        bounded(&setup, &[], command);
        all_belong_to(&setup.path("state"), NOBODY);
    }
    // And that user's daemon starts with all of it.
    fs::set_permissions(setup.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = setup.path("pulse-telemetry");
    fs::copy(pulse_telemetry_testkit::sidecar::binary(), &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "-C", "/"];
    let _ = bounded(&setup, &user, &["status"]);
    let daemon = setup.clone().through(&user.map(str::to_owned)).start();
    assert_eq!(daemon.status()["enabled"], false, "the last command was off");
    daemon.stop();
    all_belong_to(&setup.path("state"), NOBODY);
}

#[test]
#[ignore = "needs root: make test-system"]
fn volumes_that_belong_to_another_owner_or_group_go_on_working() {
    let (pulse, endpoint, _) = world();
    // As Kubernetes, Docker and NFS hand them out: owner, group, mode.
    for (owner, group, mode) in [(0, NOBODY, 0o2770), (0, NOBODY, 0o775), (0, 0, 0o777), (12345, 12345, 0o777)] {
        let setup = Setup::new(&pulse.url(), &endpoint.url()).with("PULSE_TOKEN", super::TOKEN);
        fs::set_permissions(setup.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(setup.path("state")).unwrap();
        chown(setup.path("state"), Some(owner), Some(group)).unwrap();
        fs::set_permissions(setup.path("state"), fs::Permissions::from_mode(mode)).unwrap();
        let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned);
        let daemon = setup.clone().through(&user);
        for _ in 0..2 {
            let running = daemon.start();
            let warns = running.status()["warnings"].to_string().contains("Others can write");
            assert_eq!(warns, mode & 0o002 != 0, "{mode:o}");
            running.stop();
        }
        assert!(daemon.run(&["off"]).status.success() && daemon.run(&["status"]).status.success(), "{mode:o}");
    }
}

#[test]
fn a_directory_that_others_can_write_is_a_warning_at_the_start() {
    for (mode, warns) in [(0o700, false), (0o755, false), (0o770, true), (0o775, true), (0o777, true)] {
        let (_pulse, _endpoint, setup) = world();
        fs::create_dir(setup.path("state")).unwrap();
        fs::set_permissions(setup.path("state"), fs::Permissions::from_mode(mode)).unwrap();
        let sidecar = setup.with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h").start();
        let warned = sidecar.status()["warnings"].to_string().contains("Others can write in the state directory");
        assert_eq!(warned, warns, "{mode:o}");
        assert_eq!(sidecar.stop().contains("Others can write in the state directory"), warns, "{mode:o}");
    }
}
