//! A history that is removed, replaced, moved or cut short, under the daemon and while none runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pulse_telemetry::store::{Disk as _, Store};
use pulse_telemetry_core::engine::{DiskAction, Entry, EntryKind, State};
use pulse_telemetry_core::identity::Identity;
use pulse_telemetry_core::ledger::Line;
use pulse_telemetry_core::reason::ReasonWord;
use pulse_telemetry_testkit::client::Reply;
use pulse_telemetry_testkit::history::{chained, entries, life, noon};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, Sidecar};
use serde_json::json;

use super::{said, world};

/// What can happen to the files, each under its name, with the word that the new entry has for it; none where the
/// confined daemon can take nothing up.
type Deed = (&'static str, Option<&'static str>, fn(&Setup));

const DEEDS: [Deed; 7] = [
    ("removed", Some("missing"), |setup| fs::remove_file(setup.state("ledger.jsonl")).unwrap()),
    ("moved away", Some("missing"), |setup| {
        fs::rename(setup.state("ledger.jsonl"), setup.state("ledger.jsonl.1")).unwrap();
    }),
    ("replaced by an empty file", Some("replaced"), |setup| {
        fs::write(setup.path("empty"), "").unwrap();
        fs::rename(setup.path("empty"), setup.state("ledger.jsonl")).unwrap();
    }),
    ("replaced by an older copy", Some("replaced"), |setup| {
        let whole = fs::read(setup.state("ledger.jsonl")).unwrap();
        fs::write(setup.path("older"), first_lines(&whole, 1)).unwrap();
        fs::rename(setup.path("older"), setup.state("ledger.jsonl")).unwrap();
    }),
    ("cut short in its place", Some("truncated"), |setup| {
        let ledger = fs::OpenOptions::new().write(true).open(setup.state("ledger.jsonl")).unwrap();
        ledger.set_len(30).unwrap();
    }),
    ("in a directory that was emptied", Some("missing"), |setup| empty(&setup.path("state"))),
    ("in a directory that another one replaced", None, |setup| {
        fs::rename(setup.path("state"), setup.path("moved")).unwrap();
        fs::create_dir(setup.path("state")).unwrap();
    }),
];

fn empty(dir: &Path) {
    super::names(dir).iter().for_each(|name| fs::remove_file(dir.join(name)).unwrap());
}

fn first_lines(ledger: &[u8], count: usize) -> Vec<u8> {
    ledger.split_inclusive(|byte| *byte == b'\n').take(count).flatten().copied().collect()
}

fn ready(sidecar: &Sidecar) -> Reply {
    sidecar.get("/readyz")
}

fn wait_until_ready(sidecar: &Sidecar) {
    let tries = LIMIT.as_millis() / 50;
    let is_ready = (0..tries).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        ready(sidecar).status == 200
    });
    assert!(is_ready, "not ready again:\n{}", sidecar.log());
}

/// How often each body was attempted, by every ledger below a directory.
fn attempted(dir: &Path) -> BTreeMap<Vec<u8>, usize> {
    let mut bodies = BTreeMap::new();
    for (_, content) in pulse_telemetry_testkit::disk::files_below(dir) {
        for line in content.split(|byte| *byte == b'\n').filter_map(Line::parse) {
            if let Some(body) = line.body {
                *bodies.entry(body.into_owned().into_bytes()).or_default() += 1;
            }
        }
    }
    bodies
}

#[test]
fn no_ping_reaches_the_endpoint_that_no_ledger_on_the_disk_holds() {
    // Each waits for ten seconds between two readings of Pulse.
    std::thread::scope(|scope| {
        for deed in DEEDS {
            scope.spawn(move || pings_after(deed));
        }
    });
}

/// The file goes before the first ping, which is then due.
fn pings_after((what, reason, deed): Deed) {
    let (_pulse, endpoint, setup) = world();
    setup.run(&["reset-id"]);
    let sidecar = setup.with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "2s");
    let sidecar = sidecar.with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "3s");
    let (setup, sidecar) = (sidecar.clone(), sidecar.start());
    sidecar.wait_for_log("telemetry is on");
    deed(&setup);
    sidecar.wait_for_log("nothing is sent error");
    if reason.is_some() {
        endpoint.wait_for_pings(2, LIMIT);
    } else {
        // It may write in the old directory only: nothing goes until somebody looked.
        sidecar.wait_for_log("reason=\"storage\"");
        assert_eq!(ready(&sidecar).status, 503, "{what}");
    }
    drop(sidecar);
    let attempted = attempted(&setup.path(""));
    let mut arrived: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for ping in endpoint.pings() {
        *arrived.entry(ping.body.to_vec()).or_default() += 1;
    }
    for (body, times) in &arrived {
        assert!(times <= attempted.get(body).unwrap_or(&0), "{what}: a ping arrived that no ledger holds");
    }
    assert_eq!(arrived.is_empty(), reason.is_none(), "{what}");
}

#[test]
fn a_daemon_that_lost_its_history_says_so_and_begins_another_that_tells_of_it() {
    for (what, reason, deed) in DEEDS {
        let (_pulse, endpoint, setup) = world();
        let idle = setup
            .clone()
            .with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h")
            .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "2s");
        setup.run(&["reset-id"]);
        let sidecar = idle.start();
        assert_eq!(ready(&sidecar).status, 200);
        sidecar.wait_for_log("telemetry is on");
        let known = entries(&fs::read(setup.state("ledger.jsonl")).unwrap()).last().unwrap().seq;
        deed(&setup);
        // A caller finds it, although nothing had to be written: of the history at once, of the rest within a second.
        assert_eq!(sidecar.get("/api/v1/history").status, if reason.is_some() { 200 } else { 503 }, "{what}");
        assert_eq!(ready(&sidecar).status, 503, "{what}");
        let status = sidecar.status();
        assert_eq!(
            (&status["writable"], &status["suppressed"]["reason"]),
            (&json!(false), &json!("storage")),
            "{what}"
        );
        let Some(reason) = reason else {
            assert!(status["warnings"].to_string().contains("lock is missing"), "{what}: {}", status["warnings"]);
            continue;
        };
        wait_until_ready(&sidecar);
        let warnings = sidecar.status()["warnings"].to_string();
        assert!(warnings.contains("The history ledger.jsonl"), "{what}: {warnings}");
        assert!(sidecar.get("/").text().contains("The history ledger.jsonl"), "{what}: the page says so too");
        sidecar.stop();
        let told: Vec<_> = entries(&fs::read(setup.state("ledger.jsonl")).unwrap());
        let lost = told.iter().find(|line| line.kind == EntryKind::HistoryLost).unwrap();
        assert_eq!((lost.reason.as_ref().map(ReasonWord::as_str), lost.through), (Some(reason), Some(known)), "{what}");
        assert_eq!(lost.last.as_ref().map(String::len), Some(64), "{what}");
        assert_eq!(told[0].kind == EntryKind::HistoryLost, reason != "replaced" || what.contains("empty"), "{what}");
        let audit = setup.run(&["audit"]);
        assert_eq!(audit.status.code(), Some(6), "{what}: {}", said(&audit));
        assert!(said(&audit).contains(&format!("were lost ({reason})")), "{what}: {}", said(&audit));
        assert_eq!(endpoint.server.connections(), 0, "{what}");
    }
}

#[test]
fn a_directory_that_is_emptied_under_the_daemon_takes_neither_the_id_nor_an_off_with_it() {
    for off in [false, true] {
        let (_pulse, endpoint, setup) = world();
        let setup = setup.with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h");
        setup.run(&["reset-id"]);
        let before = fs::read(setup.state(".install_id")).unwrap();
        let sidecar = setup.start();
        sidecar.wait_for_log("telemetry is on");
        if off {
            assert_eq!(sidecar.put("/api/v1/switch", r#"{"enabled":false}"#).status, 200);
        }
        empty(&setup.path("state"));
        // Nobody looked since.
        sidecar.stop();
        assert_eq!(fs::read(setup.state(".install_id")).ok(), (!off).then_some(before), "off: {off}");
        assert_eq!(pulse_telemetry_testkit::sidecar::exists(&setup.state("off")), off);
        assert_eq!(endpoint.server.connections(), 0);
    }
}

#[test]
fn the_action_that_finds_the_directory_emptied_fails_so_that_all_is_written_anew() {
    let (dir, _, mut store) = store();
    empty(dir.path());
    let save = DiskAction::Save(State::default());
    assert!(store.carry_out(&save, noon()).is_err());
    store.carry_out(&save, noon()).unwrap();
    store.confirm().unwrap();
}

#[test]
fn a_history_that_is_lost_while_no_daemon_runs_is_seen_at_the_next_start() {
    let cases: [Deed; 4] = [
        DEEDS[0],
        ("emptied", Some("replaced"), |setup| fs::write(setup.state("ledger.jsonl"), "").unwrap()),
        ("without its last line", Some("replaced"), |setup| {
            let whole = fs::read(setup.state("ledger.jsonl")).unwrap();
            let lines = whole.split_inclusive(|byte| *byte == b'\n').count();
            fs::write(setup.state("ledger.jsonl"), first_lines(&whole, lines - 1)).unwrap();
        }),
        ("damaged at its end", Some("damaged"), |setup| {
            let mut whole = fs::read(setup.state("ledger.jsonl")).unwrap();
            whole.extend(b"nonsense\n");
            fs::write(setup.state("ledger.jsonl"), whole).unwrap();
        }),
    ];
    for (what, reason, deed) in cases {
        let (_pulse, endpoint, setup) = world();
        let sidecar = setup.start();
        endpoint.wait_for_pings(1, LIMIT);
        sidecar.wait_for_log("ping delivered");
        sidecar.stop();
        let known = entries(&fs::read(setup.state("ledger.jsonl")).unwrap()).last().unwrap().seq;
        deed(&setup);
        let next = setup.start();
        assert!(next.status()["warnings"].to_string().contains("The history ledger.jsonl"), "{what}");
        next.stop();
        let told = entries(&fs::read(setup.state("ledger.jsonl")).unwrap());
        let lost: Vec<_> = told.iter().filter(|line| line.kind == EntryKind::HistoryLost).collect();
        assert_eq!(lost.len(), 1, "{what}");
        assert_eq!((lost[0].reason.as_ref().map(ReasonWord::as_str), lost[0].through), (reason, Some(known)), "{what}");
        assert_eq!(setup.run(&["audit"]).status.code(), Some(6), "{what}");
        let again = setup.start();
        assert!(!again.status()["warnings"].to_string().contains("The history ledger.jsonl"), "{what}: told once");
        again.stop();
    }
}

#[test]
fn a_history_that_was_erased_pruned_or_killed_at_any_line_is_no_loss() {
    for how in ["erased", "erased by a command", "killed"] {
        let (_pulse, endpoint, setup) = world();
        let sidecar = setup.start();
        endpoint.wait_for_pings(1, LIMIT);
        sidecar.wait_for_log("ping delivered");
        match how {
            "erased" => assert_eq!(sidecar.ask("DELETE", "/api/v1/history", "").unwrap().status, 204),
            "killed" => {}
            _ => drop(sidecar.status()),
        }
        drop(sidecar);
        if how == "erased by a command" {
            assert!(setup.run(&["history", "--erase"]).status.success());
        }
        let next = setup.start();
        next.status();
        next.stop();
        let audit = setup.run(&["audit"]);
        assert_eq!(audit.status.code(), Some(0), "{how}: {}", said(&audit));
    }
}

/// A store over a ledger of some days, and where it is.
fn store() -> (tempfile::TempDir, PathBuf, Store) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger.jsonl");
    fs::write(&ledger, chained(life(5))).unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    (dir, ledger, store)
}

fn record(store: &mut Store, kind: EntryKind) -> std::io::Result<()> {
    let entry = Entry::new(kind);
    store.carry_out(&DiskAction::Record(entry), noon())
}

type Replace = fn(&Path);

/// How the ledger is replaced, how many losses are told then, and what is put aside.
const REPLACED: [(&str, Replace, usize, &[&str]); 5] = [
    (
        "the same again",
        |ledger| {
            fs::copy(ledger, ledger.with_extension("copy")).unwrap();
            fs::rename(ledger.with_extension("copy"), ledger).unwrap();
        },
        0,
        &[],
    ),
    (
        "an older copy",
        |ledger| {
            let older = first_lines(&fs::read(ledger).unwrap(), 4);
            fs::write(ledger.with_extension("copy"), older).unwrap();
            fs::rename(ledger.with_extension("copy"), ledger).unwrap();
        },
        1,
        &[],
    ),
    (
        "what is no ledger",
        |ledger| {
            fs::write(ledger.with_extension("copy"), "no ledger\n").unwrap();
            fs::rename(ledger.with_extension("copy"), ledger).unwrap();
        },
        1,
        &["ledger.jsonl.damaged-1"],
    ),
    (
        "a link",
        |ledger| {
            fs::rename(ledger, ledger.with_extension("away")).unwrap();
            std::os::unix::fs::symlink(ledger.with_extension("away"), ledger).unwrap();
        },
        1,
        &[],
    ),
    (
        "what somebody else appended",
        |ledger| {
            let mut whole = fs::read(ledger).unwrap();
            whole.extend(b"torn");
            fs::write(ledger, whole).unwrap();
        },
        0,
        &["ledger.jsonl.torn-1"],
    ),
];

#[test]
fn a_whole_ledger_that_takes_the_place_of_the_lost_one_is_gone_on_with_and_anything_else_is_put_aside() {
    for (what, replace, losses, aside) in REPLACED {
        let (dir, ledger, mut store) = store();
        record(&mut store, EntryKind::Started).unwrap();
        store.confirm().unwrap();
        replace(&ledger);
        assert!(record(&mut store, EntryKind::Stopped).is_err() && store.confirm().is_err(), "{what}");
        assert!(store.history(None, 5).is_err(), "{what}: what has no name is not shown");
        record(&mut store, EntryKind::IdReset).unwrap();
        store.confirm().unwrap();
        let told = entries(&fs::read(&ledger).unwrap());
        let lost = told.iter().filter(|line| line.kind == EntryKind::HistoryLost).count();
        assert_eq!(lost, losses, "{what}");
        assert_eq!(store.take_notices().is_empty(), losses == 0 && aside.is_empty(), "{what}");
        let last: Vec<_> = told.iter().rev().take(2).map(|line| line.kind).collect();
        assert_eq!(last, [EntryKind::IdReset, EntryKind::Stopped], "{what}: what could not be written follows");
        let names = super::names(dir.path());
        let beside: Vec<_> = names.iter().filter(|name| name.contains(".damaged") || name.contains(".torn")).collect();
        assert_eq!(beside, aside, "{what}");
    }
}

#[test]
fn an_attempt_that_could_not_be_recorded_is_not_in_the_new_ledger_either() {
    let (_dir, ledger, mut store) = store();
    fs::remove_file(&ledger).unwrap();
    let body = pulse_telemetry_testkit::history::body(1, pulse_telemetry_core::ping::Event::Startup, 1);
    let entry = Entry {
        event: Some(pulse_telemetry_core::ping::Event::Startup),
        body: Some(pulse_telemetry_core::ping::PingBytes::parse(&body).unwrap()),
        ..Entry::new(EntryKind::Attempted)
    };
    assert!(store.carry_out(&DiskAction::Record(entry), noon()).is_err());
    record(&mut store, EntryKind::Stopped).unwrap();
    let kinds: Vec<_> = entries(&fs::read(&ledger).unwrap()).iter().map(|line| line.kind).collect();
    assert_eq!(kinds, [EntryKind::HistoryLost, EntryKind::Stopped]);
}

#[test]
fn a_daemon_whose_lock_was_removed_sends_nothing_while_another_one_holds_the_directory() {
    let (_pulse, endpoint, setup) = world();
    let idle = setup
        .clone()
        .with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h")
        .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "2s");
    let first = idle.start();
    first.wait_for_log("telemetry is on");
    fs::remove_file(setup.state("lock")).unwrap();
    let second = idle.start();
    assert_eq!(ready(&first).status, 503);
    let status = first.status();
    assert_eq!(status["suppressed"]["reason"], "storage");
    assert!(status["warnings"].to_string().contains("lock is "), "{}", status["warnings"]);
    first.wait_for_log("nothing is sent");
    assert_eq!((ready(&first).status, ready(&second).status), (503, 200), "the second one holds it");
    assert_eq!(first.put("/api/v1/switch", r#"{"enabled":false}"#).status, 200, "off is always possible");
    assert!(pulse_telemetry_testkit::sidecar::exists(&setup.state("off")));
    assert_eq!(second.status()["off_by"], "switch", "and the second one finds it");
    second.stop();
    wait_until_ready(&first);
    first.stop();
    assert_eq!(endpoint.server.connections(), 0);
}

#[test]
fn what_another_daemon_wrote_is_not_written_over_by_one_that_lost_its_lock() {
    let (dir, _, mut first) = store();
    fs::remove_file(dir.path().join("lock")).unwrap();
    let (mut second, _) = Store::open(dir.path()).unwrap();
    let id = |number| Identity::new(uuid::Uuid::from_u128(number), noon());
    second.carry_out(&DiskAction::SaveId(id(2)), noon()).unwrap();
    second.carry_out(&DiskAction::Save(State::default()), noon()).unwrap();
    record(&mut second, EntryKind::IdReset).unwrap();
    let whole = || pulse_telemetry_testkit::disk::files_below(dir.path());
    let before = whole();

    let actions = [
        DiskAction::SaveId(id(1)),
        DiskAction::DeleteId,
        DiskAction::Save(State { suspect_seconds: Some(7), ..State::default() }),
        DiskAction::SaveSwitch { off: false },
        DiskAction::Prune { before: noon(), at_most: Duration::from_secs(86_400) },
    ];
    for action in actions {
        assert!(first.carry_out(&action, noon()).is_err(), "{action:?}");
        assert_eq!(whole(), before, "{action:?}");
    }
    assert!(first.erase_history(noon()).is_err());
    assert_eq!(whole(), before, "an erasure");
    second.confirm().unwrap();
    drop(second);
    first.erase_history(noon()).unwrap();
    first.confirm().unwrap();
}

#[test]
fn a_lock_that_was_removed_or_replaced_is_taken_again_where_nobody_holds_it() {
    type Replace = fn(&Path);
    let cases: [(&str, Replace); 3] = [
        ("removed", |lock| fs::remove_file(lock).unwrap()),
        ("replaced", |lock| {
            fs::remove_file(lock).unwrap();
            fs::write(lock, "").unwrap();
        }),
        ("moved", |lock| fs::rename(lock, lock.with_extension("away")).unwrap()),
    ];
    for (what, replace) in cases {
        let (dir, _, mut store) = store();
        replace(&dir.path().join("lock"));
        assert!(store.confirm().is_err(), "{what}");
        record(&mut store, EntryKind::Stopped).unwrap();
        store.confirm().unwrap();
        assert!(Store::open(dir.path()).is_err(), "{what}: it is held again");
    }
}
