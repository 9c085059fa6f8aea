//! The export is what Pulse's own report reads.

use pulse_telemetry_collector::storage::{LATER_COLUMNS, day_of};
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_core::contract::FIELDS;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::collector::{
    Setup, Storage, block_on, open, ping, ping_of, read_only, recorded, row, sqlite_rows,
};
use pulse_telemetry_testkit::replay;
use pulse_telemetry_testkit::sidecar::comes_true;
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

#[test]
fn the_columns_of_the_adoption_report_are_those_of_the_shared_list() {
    let Some(shared) = replay::shared_or_skip("the_columns_of_the_adoption_report_are_those_of_the_shared_list") else {
        return;
    };
    let list = std::fs::read_to_string(shared.join("docs/adoption-columns.txt")).unwrap();
    let list: Vec<_> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(*LATER_COLUMNS, list);
}

/// What the adoption report reads: the time, the fields, and the later columns.
fn adoption_query() -> String {
    let fields = FIELDS.iter().map(|field| field.name).chain(LATER_COLUMNS.iter().copied());
    let columns = fields.collect::<Vec<_>>().join(", ");
    format!(
        "SELECT rowid, received_at, {columns} FROM telemetry_pings WHERE received_at >= datetime('now', '-2 days') \
         ORDER BY rowid"
    )
}

#[test]
fn the_export_and_the_view_of_the_storage_are_what_pulses_own_adoption_report_reads() {
    if replay::shared_or_skip("the_export_and_the_view_of_the_storage_are_what_pulses_own_adoption_report_reads")
        .is_none()
    {
        return;
    }
    let recorded = recorded("ping-6.3.0.txt").unwrap();
    for storage in Storage::all() {
        let setup = Setup::new(&storage);
        let collector = setup.start();
        assert_eq!(collector.post(&recorded).status, 204);
        assert_eq!(collector.post(&ping(&json!({"paid_license": true}))).status, 204);
        // While the collector runs.
        let file = storage.dir().join("export.sqlite");
        let exported = setup.run(&["export", "--sqlite", file.to_str().unwrap()]);
        let name = storage.name();
        if let Storage::Sqlite(_) = storage {
            assert_eq!(sqlite_rows(&storage.file(), "telemetry_pings").len(), 2, "the view of the storage itself");
        }
        assert!(exported.status.success(), "{name}: {}", String::from_utf8_lossy(&exported.stderr));
        let again = setup.run(&["export", "--sqlite", file.to_str().unwrap()]);
        assert_eq!(again.status.code(), Some(5), "a file that is there stays as it is");
        let view = matches!(storage, Storage::Sqlite(_)).then(|| storage.file());
        for file in view.iter().chain([&file]) {
            let connection = read_only(file);
            let mut statement = connection.prepare(&adoption_query()).unwrap();
            let mut rows = statement.query([]).unwrap();
            let mut rowids = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                rowids.push(row.get::<_, i64>("rowid").unwrap());
                let received_at: String = row.get("received_at").unwrap();
                let shape = |c: char| if c.is_ascii_digit() { 'd' } else { c };
                assert_eq!(received_at.chars().map(shape).collect::<String>(), "dddd-dd-dd dd:dd:dd");
                assert!(matches!(row.get::<_, i64>("paid_license").unwrap(), 0 | 1));
                for later in LATER_COLUMNS.iter() {
                    assert_eq!(row.get::<_, Option<i64>>(*later).unwrap(), None, "{later}");
                }
            }
            assert!(rowids.len() == 2 && rowids[0] != rowids[1], "{rowids:?}");
            let paid =
                "SELECT count(DISTINCT install_id) FROM telemetry_pings WHERE paid_license = 1 AND version_raw IS NULL";
            assert_eq!(connection.query_row(paid, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
        }
        collector.stop();
    }
}

#[test]
fn an_export_that_is_asked_to_stop_leaves_no_file() {
    for storage in Storage::both() {
        let now = SystemClock.now().wall;
        block_on(async { open(&storage).await.commit(vec![row(&ping_of(1), now)]).await.unwrap() });
        // So that its reading waits.
        let _locked = match &storage {
            Storage::Sqlite(_) => {
                let locked = Connection::open(storage.file()).unwrap();
                locked.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
                Some(locked)
            }
            Storage::Postgres(cluster) => {
                let day = day_of(now).strftime("%Y%m%d");
                cluster.psql("pulse", &format!("BEGIN; LOCK TABLE pings_{day}; PREPARE TRANSACTION 'locked'"));
                None
            }
        };
        for signal in [Signal::TERM, Signal::INT] {
            let place = tempfile::tempdir().unwrap();
            let files = || std::fs::read_dir(place.path()).unwrap().map(|file| file.unwrap().path());
            let file = place.path().join("export.sqlite");
            let export = Setup::new(&storage).spawn(&["export", "--sqlite", file.to_str().unwrap()]);
            assert!(comes_true(|| files().any(|file| file.metadata().is_ok_and(|found| found.len() > 0))));
            kill_process(Pid::from_child(&export), signal).unwrap();
            let ended = export.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(files().count(), 0, "{}, {signal:?}: {said}", storage.name());
            assert!(ended.status.code() == Some(1) && said.contains("it was asked to stop"), "{signal:?}: {said}");
        }
    }
}
