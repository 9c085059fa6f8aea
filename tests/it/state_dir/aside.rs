//! Nothing that was put aside outlives an opt-out, an erasure or 90 days.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use pulse_telemetry::store::{Disk as _, Store, StoreError};
use pulse_telemetry_core::clock::DAY;
use pulse_telemetry_core::engine::DiskAction;
use pulse_telemetry_testkit::disk::{contains, files_below};
use pulse_telemetry_testkit::sidecar::Setup;

use super::upgrade::{FIXTURES, fixture};
use super::{copy_all, names, said, world};

/// An ID that was in use before.
const OLD: &str = "0fbd0a2c-3e7f-4f0e-8d43-f7d2f94a5a11";

fn write(setup: &Setup, name: &str, content: impl AsRef<[u8]>) {
    fs::write(setup.state(name), content).unwrap();
}

/// What stands in the way of forgetting, each by its name.
type Damage = (&'static str, fn(&Setup));

const DAMAGES: [Damage; 7] = [
    ("nothing", |_| {}),
    ("a torn state", |setup| write(setup, "state.json", format!("{{\"version\":1,\"state\":{{\"pending\":\"{OLD}"))),
    ("a state that is no state", |setup| write(setup, "state.json", format!("{{\"version\":1,\"state\":\"{OLD}\"}}"))),
    ("a torn ledger", |setup| {
        let mut ledger = fs::read(setup.state("ledger.jsonl")).unwrap();
        ledger.extend(format!("{{\"seq\":7,\"body\":\"{OLD}").bytes());
        write(setup, "ledger.jsonl", ledger);
    }),
    ("a ledger that cannot be read", |setup| write(setup, "ledger.jsonl", format!("{OLD}\n"))),
    ("what an earlier version put aside", |setup| {
        for name in ["state.json.damaged-1", "state.json.damaged-12", "ledger.jsonl.damaged-1", "ledger.jsonl.torn-3"] {
            write(setup, name, OLD);
        }
    }),
    ("what crashes left", |setup| {
        for name in [".install_id.new", "state.json.new", "ledger.jsonl.new", "off.new", "probe", "probe.new"] {
            write(setup, name, OLD);
        }
    }),
];

#[test]
fn after_off_and_erase_no_file_of_the_directory_holds_a_byte_of_an_old_id() {
    for name in FIXTURES {
        for (what, damage) in DAMAGES {
            for commands in [[&["off"][..], &["history", "--erase"]], [&["history", "--erase"], &["off"]]] {
                let (_pulse, _endpoint, setup) = world();
                copy_all(&fixture(name), &setup.path("state"));
                let ids = ids_in(&setup.path("state"));
                damage(&setup);
                for command in commands {
                    let output = setup.run(command);
                    assert!(output.status.success(), "{name}, {what}: {}", said(&output));
                }
                for (path, content) in files_below(&setup.path("state")) {
                    for id in ids.iter().map(String::as_str).chain([OLD]) {
                        let is_in = contains(&content, id.as_bytes());
                        assert!(!is_in, "{name}, {what}: {id} in {}", path.display());
                    }
                }
                assert_eq!(names(&setup.path("state")), ["ledger.jsonl", "lock", "now", "off", "state.json"]);
            }
        }
    }
}

#[test]
fn a_daemon_that_is_switched_off_and_erased_leaves_nothing_either() {
    for (what, damage) in DAMAGES {
        let (_pulse, _endpoint, setup) = world();
        copy_all(&fixture("full"), &setup.path("state"));
        let ids = ids_in(&setup.path("state"));
        damage(&setup);
        let sidecar = setup.clone().with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h").start();
        assert_eq!(sidecar.put("/api/v1/switch", r#"{"enabled":false}"#).json()["persisted"], true);
        assert_eq!(sidecar.ask("DELETE", "/api/v1/history", "").unwrap().status, 204);
        for (path, content) in files_below(&setup.path("state")) {
            for id in ids.iter().map(String::as_str).chain([OLD]) {
                assert!(!contains(&content, id.as_bytes()), "{what}: {id} in {}", path.display());
            }
        }
    }
}

/// Every ID that the files of a directory hold.
fn ids_in(dir: &Path) -> Vec<String> {
    let mut ids = Vec::new();
    for (_, content) in files_below(dir) {
        let text = String::from_utf8(content).unwrap().replace('\\', "");
        let found = text.split("\"install_id\":\"").skip(1).map(|rest| rest[..36].to_owned());
        ids.extend(found);
    }
    ids.sort();
    ids.dedup();
    assert!(!ids.is_empty(), "there is something to forget");
    ids
}

#[test]
fn a_state_file_that_is_damaged_is_replaced_and_the_log_says_so() {
    for content in ["", "{\"version\":1,\"state\":{\"startup_att", "{\"version\":0,\"state\":{}}", "\0\0\0", "[]", "{}"]
    {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("state.json"), content).unwrap();
        let (store, found) = Store::open(dir.path()).unwrap();
        assert!(found.damage.iter().any(|notice| notice.contains("state.json was damaged")), "{content}");
        assert_eq!(names(dir.path()), ["ledger.jsonl", "lock", "state.json"], "{content}: it is not kept");
        drop(store);
        assert_eq!(Store::open(dir.path()).unwrap().1.damage, Vec::<String>::new(), "{content}: once");
    }
}

#[test]
fn a_directory_of_a_newer_version_is_refused_and_nothing_in_it_is_touched() {
    let (_pulse, endpoint, setup) = world();
    copy_all(&fixture("pending"), &setup.path("state"));
    fs::remove_file(setup.state("lock")).unwrap();
    write(&setup, "state.json", "{\"version\":999,\"state\":{\"of\":\"the future\"},\"more\":[]}");
    write(&setup, "ledger.jsonl.new", "left by a crash");
    write(&setup, "ledger.jsonl", "{\"seq\":1,\"kind\":\"of the future\"}\ntorn");
    let before = files_below(&setup.path("state"));
    let commands: [&[&str]; 5] = [&["run"], &["status"], &["reset-id"], &["history", "--erase"], &["on"]];
    for command in commands {
        let output = setup.run(command);
        assert_eq!(output.status.code(), Some(5), "{command:?}: {}", said(&output));
        assert!(said(&output).contains("newer version"), "{command:?}: {}", said(&output));
        assert_eq!(files_below(&setup.path("state")), before, "{command:?}");
    }
    assert_eq!(endpoint.server.connections(), 0);
    let error = Store::open(&setup.path("state")).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 999, .. }), "{error}");
}

#[test]
fn what_was_put_aside_goes_after_90_days_and_a_day_of_it_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(dir.path()).unwrap();
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let aged = |name: &str, days: u32| {
        let file = File::create(dir.path().join(name)).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) - DAY * days;
        file.set_modified(at).unwrap();
    };
    aged("ledger.jsonl.damaged-1", 100);
    aged("ledger.jsonl.torn-7", 97);
    aged("ledger.jsonl.torn-8", 89);
    aged("events.jsonl.damaged-2", 91);
    let future = File::create(dir.path().join("ledger.jsonl.torn-9")).unwrap();
    future.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)).unwrap();
    fs::create_dir(dir.path().join("ledger.jsonl.torn-10")).unwrap();
    let mut left = |days: i64| {
        let now = now + jiff::SignedDuration::from_hours(24 * days);
        let before = now - jiff::SignedDuration::from_hours(24 * 90);
        store.carry_out(&DiskAction::Prune { before, at_most: DAY }, now).unwrap();
        let names = names(dir.path());
        names.into_iter().filter(|name| name.contains(".damaged-") || name.contains(".torn-")).collect::<Vec<_>>()
    };
    assert_eq!(left(0), ["ledger.jsonl.torn-10", "ledger.jsonl.torn-7", "ledger.jsonl.torn-8", "ledger.jsonl.torn-9"]);
    assert_eq!(left(0), ["ledger.jsonl.torn-10", "ledger.jsonl.torn-8", "ledger.jsonl.torn-9"]);
    assert_eq!(left(2), ["ledger.jsonl.torn-10", "ledger.jsonl.torn-9"]);
    assert_eq!(left(91), ["ledger.jsonl.torn-10"], "a time to come was a clock's mistake; a directory is not ours");
}
