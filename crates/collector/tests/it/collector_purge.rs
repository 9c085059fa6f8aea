//! No row gets older than 90 days: the purge by itself, by hand, and what is read while it does not run.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_collector::export::write_rows;
use pulse_telemetry_collector::metrics::CollectorMetrics;
use pulse_telemetry_collector::publish;
use pulse_telemetry_collector::purge::purge_by_itself;
use pulse_telemetry_collector::storage::{PingStore, Purged, Row, Span, day_of};
use pulse_telemetry_core::clock::{Clock, Now};
use pulse_telemetry_http::exposition::Format;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::collector::{
    Setup, Storage, block_on, install_id, open, ping, ping_of, reader, row, sqlite_rows,
};
use pulse_telemetry_testkit::disk::{contains, files_below};
use pulse_telemetry_testkit::postgres::Cluster;
use rusqlite::Connection;
use serde_json::json;

use super::counting::Counting;
use super::virtual_clock::Virtual;

/// A text that no database has by chance.
const PLANTED: &str = "9.9.9-rc.1+planted.for.the.purge";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

fn planted(number: u64) -> serde_json::Value {
    ping(&json!({"install_id": install_id(number), "version": PLANTED}))
}

#[test]
fn a_day_is_dropped_when_it_is_90_days_old_and_not_before() {
    for storage in Storage::all() {
        block_on(async {
            let store = open(&storage).await;
            let old = at("2026-08-25T23:59:59Z");
            store.commit(vec![row(&planted(1), at("2026-08-25T00:00:00Z")), row(&planted(2), old)]).await.unwrap();
            store.commit(vec![row(&ping_of(3), at("2026-08-26T00:00:00Z"))]).await.unwrap();
            assert_eq!(
                store.span().await.unwrap(),
                Some(Span { oldest: at("2026-08-25T00:00:00Z"), newest: at("2026-08-26T00:00:00Z") })
            );
            let purged = store.purge(at("2026-11-22T23:59:59Z")).await.unwrap();
            assert_eq!((purged.days, storage.rows().len()), (0, 3));
            let purged = store.purge(at("2026-11-23T00:00:00Z")).await.unwrap();
            assert_eq!(purged, Purged { days: 1, lock_held_by_other: false });
            assert_eq!(storage.install_ids(), [install_id(3)], "{}", storage.name());
            assert_eq!(store.span().await.unwrap().unwrap().oldest, at("2026-08-26T00:00:00Z"));
            // A day that was dropped can come back, for a clock may step.
            store.commit(vec![row(&planted(4), old)]).await.unwrap();
            assert_eq!(storage.rows().len(), 2);
        });
    }
}

#[test]
fn the_bytes_of_a_purged_row_are_gone_from_the_file_and_from_its_log() {
    let storage = Storage::sqlite();
    block_on(async {
        let store = open(&storage).await;
        let old = at("2026-08-01T12:00:00Z");
        let rows = |from: u64| (from..from + 500).map(|number| row(&planted(number), old)).collect();
        store.commit(rows(0)).await.unwrap();
        // What stays lies beside it, and is written after it.
        let now = old + days(90);
        let newer: Vec<Row> = (0..500).map(|number| row(&ping_of(10_000 + number), now - days(1))).collect();
        store.commit(newer).await.unwrap();
        store.commit(rows(1000)).await.unwrap();
        let places = |wanted: &[u8]| -> Vec<_> {
            files_below(storage.dir())
                .into_iter()
                .filter(|(_, bytes)| contains(bytes, wanted))
                .map(|(p, _)| p)
                .collect()
        };
        let id = install_id(1007);
        assert!(!places(PLANTED.as_bytes()).is_empty() && !places(id.as_bytes()).is_empty(), "it was there");
        store.purge(now).await.unwrap();
        assert_eq!(places(PLANTED.as_bytes()), [] as [std::path::PathBuf; 0]);
        assert_eq!(places(id.as_bytes()), [] as [std::path::PathBuf; 0], "the index is gone as well");
        assert_eq!(places(b"2026-08-01"), [] as [std::path::PathBuf; 0]);
        assert_eq!(storage.rows().len(), 500);
    });
}

#[test]
fn while_a_reader_keeps_the_log_from_being_emptied_the_purge_says_so_and_the_next_one_does_it() {
    let storage = Storage::sqlite();
    block_on(async {
        let store = open(&storage).await;
        let old = at("2026-08-01T12:00:00Z");
        store.commit(vec![row(&planted(1), old)]).await.unwrap();
        let reading = pulse_telemetry_testkit::collector::read_only(&storage.file());
        reading.execute_batch("BEGIN; SELECT count(*) FROM sqlite_master").unwrap();
        let purged = store.purge(old + days(90)).await;
        assert!(purged.unwrap_err().to_string().contains("a reader"), "said, and so tried again");
        reading.execute_batch("COMMIT").unwrap();
        store.purge(old + days(90)).await.unwrap();
        assert!(files_below(storage.dir()).iter().all(|(_, bytes)| !contains(bytes, PLANTED.as_bytes())));
    });
}

/// Makes a day one that cannot be dropped, as a damaged disk or a view of somebody's own does.
fn keep_from_being_dropped(storage: &Storage, day: &str) {
    let Storage::Postgres(cluster) = storage else {
        let other = Connection::open(storage.file()).unwrap();
        let number = |query: &str| other.query_row(query, [], |row| row.get::<_, u32>(0)).unwrap();
        let root = number(&format!("SELECT rootpage FROM sqlite_master WHERE name = 'pings_{day}'"));
        let size = number("PRAGMA page_size");
        drop(other);
        let file = File::options().write(true).open(storage.file()).unwrap();
        return file.write_all_at(&[0xff; 100], u64::from(root - 1) * u64::from(size)).unwrap();
    };
    cluster.psql("pulse", &format!("CREATE VIEW own AS SELECT install_id FROM pings_{day}"));
}

#[test]
fn a_day_that_cannot_be_dropped_is_told_and_keeps_no_other_from_it() {
    for storage in Storage::all() {
        let name = storage.name();
        block_on(async {
            let store = open(&storage).await;
            for (number, day) in [(1, "01"), (2, "02"), (3, "03")] {
                let day = at(&format!("2026-08-{day}T12:00:00Z"));
                store.commit(vec![row(&ping_of(number), day)]).await.unwrap();
            }
            drop(store);
            keep_from_being_dropped(&storage, "20260801");
            let store = open(&storage).await;
            let now = at("2026-08-03T12:00:00Z") + days(89);
            for _ in 0..2 {
                assert!(store.purge(now).await.is_err(), "{name}");
                let known = reader(&storage).days().await.unwrap();
                assert_eq!(known, [date(2026, 8, 1), date(2026, 8, 3)], "{name}");
            }
            if let Storage::Postgres(cluster) = &storage {
                cluster.psql("pulse", "DROP VIEW own");
                assert_eq!(store.purge(now).await.unwrap().days, 1, "{name}");
            }
        });
    }
}

#[test]
fn a_day_that_another_collector_purges_meanwhile_is_in_no_readers_way() {
    let Some(cluster) = Cluster::start() else { return };
    let storage = Storage::postgres(cluster);
    let old = at("2026-08-01T12:00:00Z");
    block_on(async {
        let (purging, looking) = (open(&storage).await, open(&storage).await);
        purging.commit(vec![row(&ping_of(1), old + days(90))]).await.unwrap();
        let is_over = Cell::new(false);
        let come_and_go = async {
            for number in 10..60 {
                purging.commit(vec![row(&ping_of(number), old)]).await.unwrap();
                purging.purge(old + days(90)).await.unwrap();
            }
            is_over.set(true);
        };
        let look = async {
            while !is_over.get() {
                assert_eq!(looking.span().await.unwrap().unwrap().newest, old + days(90));
            }
        };
        let read = async {
            let reader = reader(&storage);
            while !is_over.get() {
                let mut stay = 0;
                let mut visit = |row: Row| stay += usize::from(row.received_at > old);
                reader.scan(Timestamp::UNIX_EPOCH, &mut visit).await.unwrap();
                assert_eq!(stay, 1);
            }
        };
        tokio::join!(come_and_go, look, read);
    });
}

async fn rows_in_an_export(storage: &Storage, now: Timestamp) -> u64 {
    let file = tempfile::NamedTempFile::new().unwrap();
    write_rows(reader(storage).as_ref(), now, file.path()).await.unwrap()
}

#[test]
fn while_nothing_purges_nothing_older_than_90_days_is_read_all_the_same() {
    let now = SystemClock.now().wall;
    for storage in Storage::all() {
        block_on(async {
            let store = open(&storage).await;
            let old = |number: u64| row(&ping_of(number), now - days(91));
            store.commit((0..10).map(old).collect()).await.unwrap();
            store.commit((10..20).map(|number| row(&ping_of(number), now)).collect()).await.unwrap();
        });
        assert_eq!(storage.rows().len(), 20, "they are still there");
        let name = storage.name();
        let in_the_view = match &storage {
            Storage::Sqlite(_) => sqlite_rows(&storage.file(), "telemetry_pings").len(),
            Storage::Postgres(cluster) => {
                cluster.psql("pulse", "SELECT count(*) FROM telemetry_pings").trim().parse().unwrap()
            }
        };
        assert_eq!(in_the_view, 10, "{name}");
        assert_eq!(block_on(rows_in_an_export(&storage, now)), 10, "{name}");
    }
}

#[test]
fn while_nothing_purges_no_number_is_counted_of_what_is_older_than_90_days() {
    let now = at("2026-11-26T12:00:00Z");
    for storage in Storage::all() {
        let name = storage.name();
        block_on(async {
            let store = open(&storage).await;
            // The same IDs, so that those of yesterday were seen before: the half of them by a row that is too old.
            for (ids, days_ago) in [(0..60, 91), (60..120, 90), (120..180, 89), (0..180, 1)] {
                store.commit(ids.map(|number| row(&ping_of(number), now - days(days_ago))).collect()).await.unwrap();
            }
            let reader = reader(&storage);
            let reported = publish::report(reader.as_ref(), now).await.unwrap();
            let published = publish::publish(reader.as_ref(), store.as_ref(), now).await.unwrap();
            let told: Vec<Date> = published.days.iter().map(|numbers| numbers.day).collect();
            assert_eq!(told, [day_of(now - days(89)), day_of(now - days(1))], "{name}");
            assert_eq!(reported.latest(), published.latest(), "{name}");
            assert!(published.latest().unwrap().ids.unwrap().abs_diff(60) < 5, "{name}: {published:?}");
            let later = publish::report(reader.as_ref(), now + days(90)).await.unwrap();
            assert_eq!(later.latest(), published.latest(), "{name}: what was published stays");
        });
    }
}

#[test]
fn the_collector_purges_by_itself_when_it_starts_and_a_metric_tells_the_oldest_row() {
    let now = SystemClock.now().wall;
    for storage in Storage::all() {
        let yesterday = now - days(1);
        block_on(async {
            let store = open(&storage).await;
            store.commit(vec![row(&planted(1), now - days(91)), row(&planted(2), yesterday)]).await.unwrap();
        });
        let collector = Setup::new(&storage).start();
        collector.wait_for("a day is purged", || collector.metric("purged_tables_total") > 0.5);
        #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
        let yesterday = yesterday.as_second() as f64;
        collector.wait_for("the oldest row is told", || {
            (collector.metric("oldest_row_timestamp_seconds") - yesterday).abs() < 1.0
        });
        collector.stop();
        assert_eq!(storage.install_ids(), [install_id(2)], "{}", storage.name());
    }
}

#[test]
fn it_can_be_purged_by_hand_also_while_a_collector_runs() {
    let now = SystemClock.now().wall;
    for storage in Storage::all() {
        let setup = Setup::new(&storage);
        let collector = setup.start();
        collector.wait_for("the purge at the start is done", || collector.metric("last_purge_timestamp_seconds") > 0.5);
        block_on(async {
            let rows = vec![row(&planted(1), now - days(91)), row(&ping_of(3), now)];
            open(&storage).await.commit(rows).await.unwrap();
        });
        let purged = setup.run(&["purge"]);
        assert!(purged.status.success(), "{}", String::from_utf8_lossy(&purged.stderr));
        assert_eq!(
            String::from_utf8_lossy(&purged.stdout),
            "Days that were dropped because they are 90 days old: 1.\n"
        );
        assert_eq!(collector.post(&ping_of(2)).status, 204, "the collector goes on");
        collector.stop();
        assert_eq!(storage.install_ids(), [install_id(2), install_id(3)]);
    }
}

#[test]
fn by_hand_nothing_is_purged_by_a_clock_that_is_far_from_the_newest_ping_unless_who_asks_trusts_it() {
    let now = SystemClock.now().wall;
    for storage in Storage::all() {
        let setup = Setup::new(&storage);
        for (number, apart) in [(1, days(100)), (2, -days(100))] {
            block_on(async {
                open(&storage).await.commit(vec![row(&planted(number), now - apart)]).await.unwrap();
            });
            let purged = setup.run(&["purge"]);
            let said = String::from_utf8_lossy(&purged.stderr);
            assert_eq!(purged.status.code(), Some(1), "{}: {said}", storage.name());
            assert!(said.contains("set the clock if it is wrong, else add --trust-clock"), "{said}");
        }
        assert_eq!(storage.rows().len(), 2, "{}", storage.name());
        let purged = setup.run(&["purge", "--trust-clock"]);
        assert!(purged.status.success(), "{}", String::from_utf8_lossy(&purged.stderr));
        assert_eq!(storage.rows().len(), 0, "{}", storage.name());
        // Where there is none that it could be held against.
        assert!(setup.run(&["purge"]).status.success(), "{}", storage.name());
    }
}

async fn purges_in(wall: &str, time: Duration) -> Vec<Timestamp> {
    purges_after(None, wall, time).await
}

/// When it is purged in that time, by a clock that tells `wall` at the start, where the newest ping was received then.
async fn purges_after(newest: Option<Timestamp>, wall: &str, time: Duration) -> Vec<Timestamp> {
    let store = Arc::new(Counting::default());
    let clock = Arc::new(Virtual::new(at(wall)));
    let purging =
        purge_by_itself(Arc::clone(&store) as Arc<dyn PingStore>, Arc::new(CollectorMetrics::default()), clock, newest);
    let _ = tokio::time::timeout(time, purging).await;
    let purges = store.purges.lock().unwrap();
    purges.clone()
}

#[tokio::test(start_paused = true)]
async fn the_purge_runs_at_the_start_and_at_every_full_hour_for_years() {
    let purges = purges_in("2026-11-23T10:20:30Z", Duration::from_secs(60 * 60 * 24 * 400)).await;
    assert_eq!(purges.len(), 24 * 400 + 1);
    assert_eq!(purges[1], at("2026-11-23T11:00:00Z"));
    assert!(purges[1..].iter().all(|at| at.as_second() % 3600 == 0));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_cannot_be_right_purges_nothing() {
    assert_eq!(purges_in("1970-01-01T00:00:00Z", Duration::from_secs(60 * 60 * 24)).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_far_from_the_newest_ping_at_the_start_purges_nothing_for_a_day() {
    let (now, day) = ("2026-11-23T10:20:30Z", Duration::from_secs(24 * 60 * 60));
    let far = [days(8), days(90), days(3650), -days(3), -days(30)];
    for newest in far.map(|ago| at(now) - ago) {
        let purges = purges_after(Some(newest), now, day * 2).await;
        assert_eq!(purges[0], at(now) + days(1), "the newest is of {newest}");
    }
    for newest in [days(7), SignedDuration::ZERO, -SignedDuration::from_hours(24)].map(|ago| at(now) - ago) {
        assert_eq!(purges_after(Some(newest), now, day).await[0], at(now), "the newest is of {newest}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_soon_after_the_start_purges_then_and_has_dropped_nothing() {
    struct Set(Virtual);
    impl Clock for Set {
        fn now(&self) -> Now {
            let Now { wall, mono } = self.0.now();
            let ahead = if mono < Duration::from_secs(90) { days(3650) } else { SignedDuration::ZERO };
            Now { wall: wall + ahead, mono }
        }
    }
    let now = at("2026-11-23T10:20:30Z");
    let store = Arc::new(Counting::default());
    let clock = Arc::new(Set(Virtual::new(now)));
    let metrics = Arc::new(CollectorMetrics::default());
    let purging = purge_by_itself(Arc::clone(&store) as Arc<dyn PingStore>, metrics, clock, Some(now - days(1)));
    let _ = tokio::time::timeout(Duration::from_secs(150), purging).await;
    assert_eq!(*store.purges.lock().unwrap(), [now + SignedDuration::from_secs(120)]);
}

#[test]
fn a_collector_purges_nothing_by_a_clock_that_is_months_behind_or_ahead_of_its_pings() {
    let now = SystemClock.now().wall;
    for storage in Storage::all() {
        for (number, apart) in [(1, days(100)), (2, -days(100))] {
            block_on(async {
                open(&storage).await.commit(vec![row(&planted(number), now - apart)]).await.unwrap();
            });
            let collector = Setup::new(&storage).start();
            collector.wait_for_log("the clock is far from the newest ping");
            collector.wait_for("a metric tells it", || collector.metric("purge_failures_total") > 0.5);
            collector.stop();
        }
        assert_eq!(storage.rows().len(), 2, "{}", storage.name());
    }
}

#[test]
fn a_collector_notices_the_days_that_were_purged_by_hand_and_takes_pings_into_them_again() {
    for storage in Storage::all() {
        block_on(async {
            let (running, by_hand) = (open(&storage).await, open(&storage).await);
            let old = at("2026-08-25T12:00:00Z");
            running.commit(vec![row(&planted(1), old)]).await.unwrap();
            assert_eq!(by_hand.purge(old + days(90)).await.unwrap().days, 1);
            assert_eq!(running.span().await.unwrap(), None, "{}", storage.name());
            let again = running.commit(vec![row(&planted(2), old)]).await;
            if let Storage::Sqlite(_) = storage {
                again.unwrap();
            } else {
                // The error of the first one is how it notices.
                running.commit(vec![row(&planted(2), old)]).await.unwrap();
            }
            assert_eq!(storage.install_ids(), [install_id(2)]);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn while_another_collector_purges_it_is_looked_again_in_a_minute() {
    let store = Arc::new(Counting { lock_held_by_other: true, ..Counting::default() });
    let clock = Arc::new(Virtual::new(at("2026-11-23T10:20:30Z")));
    let metrics = Arc::new(CollectorMetrics::default());
    let purging = purge_by_itself(Arc::clone(&store) as Arc<dyn PingStore>, Arc::clone(&metrics), clock, None);
    let _ = tokio::time::timeout(Duration::from_secs(90), purging).await;
    assert_eq!(store.purges.lock().unwrap().len(), 2);
    assert!(metrics.text(Format::Text).contains("last_purge_timestamp_seconds 0.0"), "it is no purge that worked");
}

#[test]
fn what_a_clock_that_was_ahead_brought_is_read_by_nobody_and_purged() {
    let now = SystemClock.now().wall;
    for storage in Storage::all() {
        block_on(async {
            let store = open(&storage).await;
            store.commit(vec![row(&ping_of(1), now), row(&planted(2), now + days(3))]).await.unwrap();
            if let Storage::Sqlite(_) = storage {
                assert_eq!(sqlite_rows(&storage.file(), "telemetry_pings").len(), 1, "the view");
            }
            assert_eq!(rows_in_an_export(&storage, now).await, 1, "{}", storage.name());
            assert_eq!(store.purge(now).await.unwrap().days, 1, "{}", storage.name());
            assert_eq!(storage.install_ids(), [install_id(1)]);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_leaps_by_days_purges_nothing_for_a_day_and_is_then_believed() {
    struct Leaps(Virtual);
    impl Clock for Leaps {
        fn now(&self) -> Now {
            let Now { wall, mono } = self.0.now();
            let leap = if mono > Duration::from_secs(2 * 60 * 60) { days(60) } else { SignedDuration::ZERO };
            Now { wall: wall + leap, mono }
        }
    }
    let store = Arc::new(Counting::default());
    let clock = Arc::new(Leaps(Virtual::new(at("2026-11-23T10:20:30Z"))));
    let metrics = Arc::new(CollectorMetrics::default());
    let mut purging =
        std::pin::pin!(purge_by_itself(Arc::clone(&store) as Arc<dyn PingStore>, Arc::clone(&metrics), clock, None));
    let mut purges_after = async |hours: u64| {
        let _ = tokio::time::timeout(Duration::from_secs(hours * 60 * 60), purging.as_mut()).await;
        store.purges.lock().unwrap().len()
    };
    assert_eq!(purges_after(25).await, 3, "at the start and at two full hours");
    assert!(!metrics.text(Format::Text).contains("purge_failures_total 0"), "a metric tells it");
    assert_eq!(purges_after(4).await, 6, "a day after the leap, and at the full hours since");
}
