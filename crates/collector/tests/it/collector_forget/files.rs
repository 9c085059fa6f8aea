//! What is left of an ID on the disk.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::date;
use pulse_telemetry_collector::ingest::Cell;
use pulse_telemetry_collector::storage::{PingStore, PublishedDay, day_of};
use pulse_telemetry_core::rng::Rng as _;
use pulse_telemetry_testkit::collector::{Storage, block_on, open, open_postgres, ping, read_only, reader, row};
use pulse_telemetry_testkit::disk::ids_in;
use pulse_telemetry_testkit::postgres::Cluster;
use pulse_telemetry_testkit::seeded::Seeded;
use pulse_telemetry_testkit::sidecar::comes_true;
use rusqlite::Connection;
use serde_json::json;
use uuid::Uuid;

use super::*;

/// The bytes of the files of a SQLite storage.
fn bytes_of(file: &Path) -> Vec<u8> {
    // The log and its index are not there while nobody has the file open.
    let beside = |end: &str| std::fs::read(format!("{}{end}", file.display())).unwrap_or(Vec::new());
    [beside(""), beside("-wal"), beside("-shm")].concat()
}

/// What only the row of an ID holds.
fn version(id: Uuid) -> String {
    let (text, bits) = (id.simple().to_string(), id.as_u64_pair().1);
    format!("6.0.0-{}", &text[..8 + (bits % 20) as usize])
}

/// Rows of a number of IDs in an order of chance, a batch at a time, as pages are split and filled by real ones.
async fn fill(store: &dyn PingStore, ids: &[Uuid], chance: &mut Seeded) {
    for day in ["2026-11-20T12:00:00Z", "2026-11-21T12:00:00Z"] {
        let mut order = ids.to_vec();
        order.sort_by_cached_key(|_| chance.uuid());
        for batch in order.chunks(200) {
            let rows = batch.iter().map(|id| {
                let change =
                    json!({"install_id": id.to_string(), "version": version(*id), "vms": id.as_u128() as u32 % 90_000});
                row(&ping(&change), day.parse().unwrap())
            });
            store.commit(rows.collect()).await.unwrap();
        }
    }
}

#[test]
fn in_sqlite_no_byte_of_a_deleted_id_or_of_its_rows_is_left_in_any_file() {
    let storage = Storage::sqlite();
    let mut chance = Seeded(18);
    let ids: Vec<Uuid> = (0..1500).map(|_| chance.uuid()).collect();
    let gone: BTreeSet<Uuid> = ids[..1350].iter().copied().collect();
    block_on(async {
        let store = open(&storage).await;
        fill(store.as_ref(), &ids, &mut chance).await;
        assert_eq!(ids_in(&gone, &bytes_of(&storage.file())).len(), 1350, "the search finds");
        let reading = read_only(&storage.file());
        reading.execute_batch("BEGIN; SELECT count(*) FROM pings_20261120").unwrap();
        let mut left: Vec<String> = ids[..1350].iter().map(Uuid::to_string).collect();
        while !left.is_empty() {
            let some = left[..left.len().min(50)].to_vec();
            left.drain(..store.forget(some).await.unwrap());
        }
        store.tidy().await.unwrap();
        assert!(!ids_in(&gone, &bytes_of(&storage.file())).is_empty(), "a reader that began before keeps them");
        drop(reading);
        store.tidy().await.unwrap();
        let bytes = bytes_of(&storage.file());
        assert!(ids_in(&gone, &bytes).is_empty(), "an ID");
        let values: BTreeSet<String> = gone.iter().map(|id| version(*id)[..14].to_owned()).collect();
        let is_of_a_row =
            |window: &&[u8]| window.starts_with(b"6.0.0-") && values.contains(&*String::from_utf8_lossy(window));
        assert_eq!(bytes.windows(14).filter(is_of_a_row).count(), 0, "a value of a row");
        assert_eq!(storage.install_ids().len(), 300, "the others are there");
        assert_eq!(ids_in(&ids[1350..].iter().copied().collect(), &bytes).len(), 150);
        let check: String =
            read_only(&storage.file()).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    });
}

#[test]
fn a_running_collector_leaves_no_byte_of_a_deleted_id_and_has_no_temporary_file() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).with_receipts().start();
    let id: Uuid = install_id(1).parse().unwrap();
    for number in 1..20 {
        assert_eq!(collector.post(&ping_of(number)).status, 204);
    }
    let ids = BTreeSet::from([id]);
    assert_eq!(ids_in(&ids, &bytes_of(&storage.file())), ids);
    assert_eq!(collector.forget(&id.to_string()).status, 200);
    collector.wait_for("its bytes are gone", || ids_in(&ids, &bytes_of(&storage.file())).is_empty());
    let files = format!("/proc/{}/fd", collector.pid().as_raw_nonzero());
    let open: Vec<_> = std::fs::read_dir(files).unwrap().map(|file| std::fs::read_link(file.unwrap().path())).collect();
    let temporary = open.iter().flatten().filter(|path| path.to_string_lossy().contains("(deleted)")).count();
    assert_eq!(temporary, 0, "{open:?}");
    collector.kill();
    assert!(ids_in(&ids, &bytes_of(&storage.file())).is_empty());
}

#[test]
fn what_was_deleted_right_before_a_kill_is_in_no_file_soon_after_the_next_start() {
    let storage = Storage::sqlite();
    // So long ago that the clock is doubted and the start purges nothing, which would empty the log.
    let now = SystemClock.now().wall;
    block_on(async {
        let rows = [1, 2].map(|number| days_ago(number, 10, now));
        open(&storage).await.commit(rows.to_vec()).await.unwrap();
    });
    let ids = BTreeSet::from([install_id(1).parse().unwrap()]);
    let collector = Setup::new(&storage).start();
    let reading = read_only(&storage.file());
    reading.execute_batch("BEGIN; SELECT count(*) FROM telemetry_pings").unwrap();
    assert_eq!(collector.forget(&install_id(1)).status, 200);
    collector.kill();
    let collector = Setup::new(&storage).start();
    assert_eq!(ids_in(&ids, &bytes_of(&storage.file())), ids, "a reader that began before keeps them");
    drop(reading);
    collector.wait_for("its bytes are gone", || ids_in(&ids, &bytes_of(&storage.file())).is_empty());
    assert_eq!(storage.install_ids(), [install_id(2)]);
}

/// Writes one of these IDs between the cells of each page that has room for it, as SQLite leaves copies.
fn plant_copies(connection: &Connection, ids: &BTreeSet<Uuid>) {
    let pages: u32 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let mut ids = ids.iter().cycle();
    for number in 2..=pages {
        let query = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";
        let mut page: Vec<u8> = connection.query_row(query, [number], |row| row.get(0)).unwrap();
        let pair = |at: usize| usize::from(u16::from_be_bytes([page[at], page[at + 1]]));
        let gap = 12 + 2 * pair(3)..pair(5);
        if [2, 5, 10, 13].contains(&page[0]) && gap.len() >= 36 {
            let copy = ids.next().unwrap().to_string();
            page[gap][..36].copy_from_slice(copy.as_bytes());
            connection.execute("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1", (number, page)).unwrap();
        }
    }
}

#[test]
fn what_an_older_collector_left_between_the_rows_of_a_page_is_wiped_and_no_row_is_lost() {
    let storage = Storage::sqlite();
    let mut chance = Seeded(19);
    let gone: BTreeSet<Uuid> = (0..1000).map(|_| chance.uuid()).collect();
    block_on(async {
        let store = open(&storage).await;
        fill(store.as_ref(), &gone.iter().copied().collect::<Vec<_>>(), &mut chance).await;
        drop(store);
        // In a file that was never swept.
        let other = Connection::open(storage.file()).unwrap();
        other.pragma_update(None, "secure_delete", true).unwrap();
        plant_copies(&other, &gone);
        // Which it said was swept.
        other.pragma_update(None, "application_id", 0x7075_6c01).unwrap();
        for day in ["pings_20261120", "pings_20261121"] {
            other.execute(&format!("DELETE FROM {day} WHERE install_id < '8'"), []).unwrap();
        }
        drop(other);
        let gone: BTreeSet<Uuid> = gone.into_iter().filter(|id| id.to_string().as_str() < "8").collect();
        assert!(ids_in(&gone, &bytes_of(&storage.file())).len() > 10, "the copies are there");
        let stored = storage.install_ids().len();
        let store = open(&storage).await;
        for _ in 0..3 {
            store.tidy().await.unwrap();
        }
        assert!(ids_in(&gone, &bytes_of(&storage.file())).is_empty());
        assert_eq!(storage.install_ids().len(), stored);
    });
}

#[test]
fn what_another_program_moved_from_the_log_into_the_file_before_it_was_swept_is_wiped_all_the_same() {
    for is_killed in [false, true] {
        let (running, copied) = (Storage::sqlite(), Storage::sqlite());
        let mut chance = Seeded(20);
        // So few that no sweep comes between.
        let ids: Vec<Uuid> = (0..500).map(|_| chance.uuid()).collect();
        let gone: BTreeSet<Uuid> = ids[..100].iter().copied().collect();
        block_on(async {
            let store = open(&running).await;
            // All of the file is swept by then.
            for _ in 0..3 {
                store.tidy().await.unwrap();
            }
            fill(store.as_ref(), &ids, &mut chance).await;
            let other = Connection::open(running.file()).unwrap();
            other.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
            plant_copies(&other, &gone);
            let mut left: Vec<String> = gone.iter().map(Uuid::to_string).collect();
            while !left.is_empty() {
                let some = left[..left.len().min(50)].to_vec();
                left.drain(..store.forget(some).await.unwrap());
            }
            let log = |storage: &Storage| format!("{}-wal", storage.file().display());
            let storage = if is_killed { &copied } else { &running };
            if is_killed {
                // What a kill leaves, and a look at it: who closes a database as the last one moves its log.
                std::fs::copy(running.file(), copied.file()).unwrap();
                std::fs::copy(log(&running), log(&copied)).unwrap();
                let other = Connection::open(copied.file()).unwrap();
                other.query_row("SELECT count(*) FROM telemetry_pings", [], |_| Ok(())).unwrap();
                drop(other);
                assert!(!Path::new(&log(&copied)).exists());
            } else {
                other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            }
            assert!(!ids_in(&gone, &bytes_of(&storage.file())).is_empty(), "{is_killed}: copies are in the file");
            let store = if is_killed { open(&copied).await } else { store };
            for _ in 0..4 {
                store.tidy().await.unwrap();
            }
            assert!(ids_in(&gone, &bytes_of(&storage.file())).is_empty(), "{is_killed}: an ID");
            assert_eq!(storage.install_ids().len(), 800, "{is_killed}: the others are there");
        });
    }
}

/// Of a month when no server's clock is any more.
fn night() -> Timestamp {
    "2026-10-26T03:00:00Z".parse().unwrap()
}

/// Stores pings of 49 IDs on each day that is that number of days before a night.
async fn fill_days(store: &impl PingStore, night: Timestamp, days: Range<i64>) {
    for days in days {
        store.commit((1..50).map(|id| days_ago(id, days, night)).collect()).await.unwrap();
    }
}

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Rewrites what there is to rewrite in that night: which days were, and which were not, and why.
async fn rewrite(store: &impl PingStore, night: Timestamp) -> (Vec<i8>, Vec<(i8, String)>) {
    let (mut rewritten, mut left) = (Vec::new(), Vec::new());
    for day in store.unrewritten(night).await.unwrap() {
        match store.rewrite(day, HOUR).await {
            Ok(None) => rewritten.push(day.day()),
            Ok(Some(why)) => left.push((day.day(), why)),
            Err(error) => left.push((day.day(), error.to_string())),
        }
    }
    (rewritten, left)
}

/// Each PostgreSQL, in each way that it is reached by.
fn clusters() -> impl Iterator<Item = Storage> {
    Storage::all().into_iter().filter(|storage| matches!(storage, Storage::Postgres(_)))
}

#[test]
fn postgresql_rewrites_the_days_that_had_deletions_but_never_today_s_or_yesterday_s_and_tells_what_it_could_not() {
    for storage in clusters() {
        let Storage::Postgres(cluster) = &storage else { continue };
        let name = storage.name();
        block_on(async {
            let (store, now) = (open_postgres(&storage).await, night());
            fill_days(&store, now, 0..4).await;
            assert_eq!(store.forget(vec![install_id(1), install_id(777)]).await.unwrap(), 2);
            let known = || cluster.psql("pulse", "SELECT day, deletions FROM forgotten_days ORDER BY 1");
            assert_eq!(known().lines().count(), 4, "{name}: {}", known());
            let holds = |day: &str| {
                let path = cluster.psql("pulse", &format!("SELECT pg_relation_filepath('pings_{day}')"));
                cluster.psql("pulse", "CHECKPOINT");
                let bytes = std::fs::read(cluster.dir().join("data").join(path.trim())).unwrap();
                !ids_in(&BTreeSet::from([install_id(1).parse().unwrap()]), &bytes).is_empty()
            };
            assert!(holds("20261023"), "{name}: the search finds");
            // What is in use is left alone.
            cluster
                .psql("pulse", "BEGIN; LOCK TABLE pings_20261024 IN ACCESS SHARE MODE; PREPARE TRANSACTION 'in use'");
            let (rewritten, left) = rewrite(&store, now).await;
            assert!(rewritten == [23] && left[0].0 == 24 && left[0].1.contains("in use"), "{name}: {left:?}");
            cluster.psql("pulse", "ROLLBACK PREPARED 'in use'");
            assert_eq!(rewrite(&store, now).await, (vec![24], Vec::new()), "{name}");
            assert_eq!(known().lines().count(), 2, "{name}: {}", known());
            assert_eq!(
                ["20261023", "20261024", "20261025", "20261026"].map(holds),
                [false, false, true, true],
                "{name}"
            );
            assert_eq!(storage.rows().len(), 4 * 48, "{name}");
            // The next night, yesterday's is the day before.
            assert_eq!(rewrite(&store, now + SignedDuration::from_hours(24)).await.0, [25], "{name}");
        });
    }
}

#[test]
fn whatever_a_database_is_set_to_no_deletion_is_without_its_rewriting_and_a_day_that_cannot_be_read_is_told() {
    for storage in clusters() {
        let Storage::Postgres(cluster) = &storage else { continue };
        let name = storage.name();
        for (setting, value) in [
            ("datestyle", "German"),
            ("intervalstyle", "sql_standard"),
            ("timezone", "Pacific/Auckland"),
            ("bytea_output", "escape"),
            ("standard_conforming_strings", "off"),
            ("default_transaction_isolation", "serializable"),
        ] {
            cluster.psql("postgres", &format!("ALTER DATABASE pulse SET {setting} = '{value}'"));
        }
        block_on(async {
            let (store, now) = (open_postgres(&storage).await, night());
            fill_days(&store, now, 2..4).await;
            store.forget(vec![install_id(1)]).await.unwrap();
            assert_eq!(rewrite(&store, now).await, (vec![23, 24], Vec::new()), "{name}");
            let day = PublishedDay { day: date(2026, 10, 23), numbers: "{}".to_owned() };
            store.keep_published(day.clone()).await.unwrap();
            let reader = reader(&storage);
            assert_eq!(reader.publication().await.unwrap().days, [day], "{name}");
            assert_eq!(reader.days().await.unwrap(), [date(2026, 10, 23), date(2026, 10, 24)], "{name}");
            assert_eq!(store.span().await.unwrap().unwrap().newest, now - SignedDuration::from_hours(48), "{name}");
            cluster.psql("pulse", "INSERT INTO forgotten_days VALUES ('-infinity', 1)");
            assert!(store.unrewritten(now).await.is_err(), "{name}");
        });
    }
}

#[test]
fn a_clock_that_is_ahead_of_the_server_s_has_no_day_rewritten_that_pings_come_into() {
    for storage in clusters() {
        block_on(async {
            let (store, now) = (open_postgres(&storage).await, SystemClock.now().wall);
            fill_days(&store, now, 0..5).await;
            store.forget(vec![install_id(1)]).await.unwrap();
            let days = store.unrewritten(now + SignedDuration::from_hours(24 * 60)).await.unwrap();
            let of = |days: i64| day_of(now - SignedDuration::from_hours(24 * days));
            assert!(days.starts_with(&[of(4), of(3)]) && !days.contains(&of(0)), "{}: {days:?}", storage.name());
        });
    }
}

#[test]
fn rows_that_somebody_may_still_see_are_told_and_rewritten_later() {
    let Some(cluster) = Cluster::start() else { return };
    let storage = Storage::postgres(cluster);
    let Storage::Postgres(cluster) = &storage else { return };
    block_on(async {
        let (store, now) = (open_postgres(&storage).await, night());
        fill_days(&store, now, 3..4).await;
        // A transaction that began before, and is not over.
        cluster.psql("pulse", "BEGIN; CREATE TABLE other (n int); PREPARE TRANSACTION 'long'");
        store.forget(vec![install_id(1)]).await.unwrap();
        let (_, left) = rewrite(&store, now).await;
        assert!(left[0].1.contains("may still read"), "{left:?}");
        cluster.psql("pulse", "ROLLBACK PREPARED 'long'");
        assert_eq!(rewrite(&store, now).await.0, [23]);
    });
}

/// Somebody's own index on the oldest of three days that had deletions, whose function does that from now on.
fn own_function(cluster: &Cluster, does: &str) {
    let function = "CREATE OR REPLACE FUNCTION own(text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS";
    cluster.psql("pulse", &format!("{function} $$BEGIN {does}; END$$"));
    cluster.psql("pulse", "CREATE INDEX IF NOT EXISTS own ON pings_20261022 (own(install_id))");
}

#[test]
fn a_day_that_cannot_be_rewritten_is_told_and_keeps_no_other_from_it() {
    for storage in clusters() {
        let Storage::Postgres(cluster) = &storage else { continue };
        let name = storage.name();
        block_on(async {
            let (store, now) = (open_postgres(&storage).await, night());
            fill_days(&store, now, 2..5).await;
            store.forget(vec![install_id(1)]).await.unwrap();
            own_function(cluster, "RETURN 1");
            for (fails, others) in
                [("RETURN 1 / 0", &[23, 24][..]), ("RETURN $1::int", &[]), ("RAISE EXCEPTION '%', $1", &[])]
            {
                own_function(cluster, fails);
                let (rewritten, left) = rewrite(&store, now).await;
                assert_eq!((&rewritten[..], left.len(), left[0].0), (others, 1, 22), "{name}: {left:?}");
                let names = |id: u64| left[0].1.contains(&install_id(id));
                assert!(!(1..50).any(names), "{name}, {fails}: {left:?}");
            }
            cluster.psql("pulse", "DROP FUNCTION own CASCADE");
            assert_eq!(rewrite(&store, now).await, (vec![22], Vec::new()), "{name}");
        });
    }
}

#[test]
fn a_rewriting_that_takes_longer_than_it_may_is_ended_in_the_server_too_so_that_the_day_is_locked_no_longer() {
    for storage in clusters() {
        let Storage::Postgres(cluster) = &storage else { continue };
        let name = storage.name();
        block_on(async {
            let (store, now) = (open_postgres(&storage).await, night());
            fill_days(&store, now, 4..5).await;
            store.forget(vec![install_id(1)]).await.unwrap();
            own_function(cluster, "RETURN 1");
            own_function(cluster, "PERFORM pg_sleep(3600); RETURN 1");
            let why = store.rewrite(date(2026, 10, 22), Duration::from_millis(500)).await.unwrap();
            assert_eq!(why.as_deref(), Some("there was not enough time for it"), "{name}");
            let asks = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'VACUUM%' AND state = 'active'";
            assert!(comes_true(|| cluster.psql("pulse", asks).trim() == "0"), "{name}: it goes on");
            assert_eq!(store.forget(vec![install_id(2)]).await.unwrap(), 1, "{name}");
            cluster.psql("pulse", "DROP FUNCTION own CASCADE");
            assert_eq!(rewrite(&store, now).await.0, [22], "{name}");
        });
    }
}

#[test]
fn tables_from_before_are_taken_up_without_loss_and_what_was_published_stays() {
    for storage in Storage::both() {
        block_on(async {
            let (now, store) = (night(), open(&storage).await);
            store.commit((1..10).map(|id| days_ago(id, 3, now)).collect()).await.unwrap();
            let day = PublishedDay { day: date(2026, 10, 23), numbers: "{}".to_owned() };
            store.keep_published(day.clone()).await.unwrap();
            drop(store);
            if let Storage::Postgres(cluster) = &storage {
                cluster.psql("pulse", "DROP TABLE forgotten_days");
            }
            let store = open(&storage).await;
            assert_eq!(storage.rows().len(), 9, "{}", storage.name());
            assert_eq!(store.forget(vec![install_id(1)]).await.unwrap(), 1);
            let mut seen = Vec::new();
            let mut visit = |row: Row| seen.push(row.cells[0].clone());
            reader(&storage).scan(now - SignedDuration::from_hours(24 * 9), &mut visit).await.unwrap();
            assert_eq!(seen.len(), 8, "{}: what export reads", storage.name());
            assert!(!seen.contains(&Cell::Text(install_id(1))), "{}", storage.name());
            assert_eq!(reader(&storage).publication().await.unwrap().days, [day], "{}", storage.name());
        });
    }
}
