//! A storage that waits, is stuck, or vanishes under the collector.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use pulse_telemetry_testkit::alone::program_or_skip;
use pulse_telemetry_testkit::collector::{Setup, Storage, install_id, ping_of};
use rusqlite::Connection;

#[test]
fn a_second_collector_on_one_file_of_sqlite_is_refused_under_any_name_of_it_and_the_first_goes_on() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    let other_name = storage.dir().join("other.sqlite");
    std::os::unix::fs::symlink(storage.file(), &other_name).unwrap();
    for file in [storage.file(), other_name] {
        let second = Setup::new(&storage).with("STORAGE__URL", &format!("sqlite:{}", file.display())).run(&["run"]);
        let said = String::from_utf8(second.stderr).unwrap();
        assert_eq!(second.status.code(), Some(5), "{said}");
        assert!(said.contains("another collector takes pings into"), "{said}");
    }
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    collector.kill();
    // A kill leaves no lock behind.
    let next = Setup::new(&storage).start();
    assert_eq!(next.post(&ping_of(2)).status, 204);
}

#[test]
fn a_file_of_sqlite_that_a_link_leads_to_is_used_as_by_its_own_name() {
    let (storage, links) = (Storage::sqlite(), tempfile::tempdir().unwrap());
    let link = links.path().join("link.sqlite");
    std::os::unix::fs::symlink(storage.file(), &link).unwrap();
    let setup = Setup::new(&storage).with("STORAGE__URL", &format!("sqlite:{}", link.display()));
    for (number, was_made) in [(1, false), (3, true)] {
        assert_eq!(storage.file().exists(), was_made);
        let collector = setup.start();
        assert_eq!(collector.post(&ping_of(number)).status, 204);
        assert_eq!(collector.post(&ping_of(number + 1)).status, 204);
        assert_eq!(collector.forget(&install_id(number + 1)).status, 200);
        let works = |command: &[&str]| {
            let ended = setup.run(command);
            assert!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
        };
        works(&["report"]);
        works(&["purge"]);
        collector.stop();
        works(&["check"]);
    }
    assert_eq!(storage.install_ids(), [install_id(1), install_id(3)]);
    assert_eq!(std::fs::read_dir(links.path()).unwrap().count(), 1, "nothing is beside the link");
}

/// Opens a database so that it could write, looks at it, and closes it.
const LOOK: &str = "import sqlite3, sys; database = sqlite3.connect(sys.argv[1]); \
                    print(database.execute('SELECT count(*) FROM telemetry_pings').fetchone()[0]); database.close()";

#[test]
fn however_often_a_collector_reads_its_own_file_another_sqlite_sees_that_it_has_it_and_takes_nothing_away() {
    let test = "however_often_a_collector_reads_its_own_file_another_sqlite_sees_that_it_has_it_and_takes_nothing_away";
    let storage = Storage::sqlite();
    let site = tempfile::tempdir().unwrap();
    let collector = Setup::new(&storage).with("PUBLISH__DIR", site.path().to_str().unwrap()).start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    collector.wait_for("the days are counted", || collector.metric("publishing_works") > 0.5);
    // A deletion has the head of the file read, too.
    assert_eq!(collector.forget(&install_id(2)).status, 200);
    collector.wait_for("the log is empty", || {
        std::fs::metadata(format!("{}-wal", storage.file().display())).is_ok_and(|log| log.len() == 0)
    });
    // What SQLite locks as long as it reads or may write, of this process, file and bytes.
    let lock = format!(":{} 1073741826 1073742335", storage.file().metadata().unwrap().ino());
    let (locks, pid) = (std::fs::read_to_string("/proc/locks").unwrap(), collector.pid().as_raw_nonzero().to_string());
    let is_held = |line: &str| line.ends_with(&lock) && line.split_whitespace().any(|word| word == pid);
    assert!(locks.lines().any(is_held), "{locks}");
    if !program_or_skip("python3", &["-c", "import sqlite3"], test) {
        return;
    }
    let looked = Command::new("python3").args(["-c", LOOK]).arg(storage.file()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&looked.stdout), "1\n", "{}", String::from_utf8_lossy(&looked.stderr));
    assert_eq!(collector.post(&ping_of(2)).status, 204);
    collector.stop();
    assert_eq!(storage.install_ids(), [install_id(1), install_id(2)]);
}

#[test]
fn a_second_collector_is_refused_also_where_it_cannot_see_the_lock_beside_the_file() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    let lock = format!("{}-lock", storage.file().display());
    // As in a container of its own, into which the file alone is mounted.
    std::fs::rename(&lock, storage.dir().join("elsewhere")).unwrap();
    for command in ["check", "run"] {
        let second = Setup::new(&storage).run(&[command]);
        let said = String::from_utf8([second.stdout, second.stderr].concat()).unwrap();
        assert_eq!(second.status.code(), Some(5), "{command}: {said}");
        assert!(said.contains("another collector takes pings into"), "{command}: {said}");
    }
    assert_eq!(collector.post(&ping_of(1)).status, 204);
}

#[test]
fn while_a_commit_waits_every_other_request_is_answered() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    let other = Connection::open(storage.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| collector.post(&ping_of(2)).status);
        collector.wait_for("a commit waits", || collector.metric("waiting_pings") > 0.0);
        assert_eq!(collector.get("/healthz").status, 200);
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(waiting.join().unwrap(), 204);
    });
}

#[test]
fn a_commit_that_is_stuck_is_answered_in_time_and_keeps_no_stop_waiting() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).with("LIMITS__COMMIT_TIMEOUT", "1s").start();
    collector.wait_until_ready();
    let other = Connection::open(storage.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reply = collector.post(&ping_of(1));
    assert!(reply.status == 503 && reply.header("retry-after").is_some(), "{}", reply.status);
    collector.stop();
    other.execute_batch("COMMIT").unwrap();
    assert!(storage.install_ids().is_empty());
}

#[test]
fn a_stop_leaves_everything_in_the_one_file() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    collector.stop();
    let beside = |ending| storage.dir().join(format!("pings.sqlite{ending}")).exists();
    assert!(!beside("-wal") && !beside("-shm"));
    assert_eq!(storage.install_ids(), [install_id(1)]);
}

#[test]
fn a_file_that_is_removed_or_replaced_under_the_collector_gets_no_ping_acknowledged_until_it_is_back() {
    for ending in ["", "-wal"] {
        let storage = Storage::sqlite();
        let collector = Setup::new(&storage).start();
        assert_eq!(collector.post(&ping_of(1)).status, 204);
        let name = format!("pings.sqlite{ending}");
        let (file, away) = (storage.dir().join(&name), storage.dir().join("away"));
        std::fs::rename(&file, &away).unwrap();
        let refused = |number| {
            let reply = collector.post(&ping_of(number));
            assert!(reply.status == 503 && reply.header("retry-after").is_some(), "{ending}: {}", reply.status);
            let ready = collector.ask_admin("/readyz");
            assert_eq!((ready.status, ready.json()["because"].as_str()), (503, Some("storage")));
        };
        refused(2);
        // Another file in its place is not the one that is written to.
        std::fs::copy(&away, &file).unwrap();
        refused(3);
        let told = collector.wait_for_log("was removed, or another file was put in its place");
        assert!(told.contains(&name) && told.contains("restart the collector"), "{told}");
        std::fs::rename(&away, &file).unwrap();
        collector.wait_until_ready();
        assert_eq!(collector.post(&ping_of(4)).status, 204);
        collector.stop();
        let (stored, acknowledged) = (storage.install_ids(), [1, 4].map(install_id));
        assert!(acknowledged.iter().all(|id| stored.contains(id)), "{ending}: {stored:?}");
    }
}
