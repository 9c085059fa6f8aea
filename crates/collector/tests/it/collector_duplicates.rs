//! A ping that is sent again because its answer was lost is stored once; any other ping is stored.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_collector::storage::{Arrival, Committed, Row, RowOutcome};
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_core::contract::{FIELDS, FieldKind};
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::collector::{
    Setup, Storage, block_on, install_id, open, open_postgres, ping, ping_of, row,
};
use pulse_telemetry_testkit::postgres::Cluster;
use serde_json::{Value, json};

const NOON: &str = "2026-11-23T12:00:00Z";

const DUPLICATE: RowOutcome = RowOutcome::Duplicate { day: jiff::civil::date(2026, 11, 23) };

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

#[test]
fn the_same_ping_within_the_senders_back_off_is_stored_once_in_one_batch_and_over_batches_and_restarts() {
    for storage in Storage::all() {
        block_on(async {
            let once = row(&ping_of(1), at(NOON));
            let store = open(&storage).await;
            let committed = store.commit(vec![once.clone(), once.clone()]).await.unwrap();
            assert_eq!(committed, Committed { stored: 1, duplicates: 1 }, "{}", storage.name());
            let again = Row { received_at: at(NOON) + minutes(134), ..once.clone() };
            assert_eq!(store.commit(vec![again.clone()]).await.unwrap().duplicates, 1);
            drop(store);
            let store = open(&storage).await;
            assert_eq!(store.commit(vec![again]).await.unwrap().duplicates, 1, "after a restart");
            assert_eq!(storage.rows().len(), 1);
            // The clock of another collector may be behind.
            let before = Row { received_at: at(NOON) - minutes(134), ..once.clone() };
            assert_eq!(store.commit(vec![before]).await.unwrap().duplicates, 1);
            let day_before = Row { received_at: at(NOON) - minutes(24 * 60), ..once.clone() };
            assert_eq!(store.commit(vec![day_before]).await.unwrap().stored, 1, "another day's ping");
            // Beyond the window it is the next ping of an installation where nothing changed.
            let later = Row { received_at: at(NOON) + minutes(136), ..once };
            assert_eq!(store.commit(vec![later]).await.unwrap().stored, 1);
        });
    }
}

#[test]
fn the_same_ping_on_both_sides_of_midnight_is_stored_once() {
    for storage in Storage::all() {
        block_on(async {
            let store = open(&storage).await;
            let first = row(&ping_of(1), at("2026-11-22T23:59:00Z"));
            let again = Row { received_at: at("2026-11-23T00:01:00Z"), ..first.clone() };
            assert_eq!(store.commit(vec![first]).await.unwrap().stored, 1);
            let outcomes = store.admit(vec![arrival(again, true)]).await.unwrap();
            // A retry is told the day of the row, so that its receipt is the same.
            let day = jiff::civil::date(2026, 11, 22);
            assert_eq!(outcomes, [RowOutcome::Duplicate { day }], "{}", storage.name());
        });
    }
}

#[test]
fn a_ping_that_differs_in_any_field_is_another_ping() {
    let change = |field: &pulse_telemetry_core::contract::Field| -> Value {
        match field.kind {
            FieldKind::InstallId => json!(install_id(77)),
            FieldKind::Text { .. } => json!("7.7.7"),
            FieldKind::Word => json!("plan9"),
            FieldKind::Choice(words) => {
                let now = ping(&json!({}))[field.name].clone();
                json!(words.iter().find(|word| now != **word).unwrap())
            }
            FieldKind::Count => json!(77),
            FieldKind::Flag => json!(!ping(&json!({}))[field.name].as_bool().unwrap()),
        }
    };
    let pings: Vec<Value> =
        std::iter::once(json!({})).chain(FIELDS.iter().map(|field| json!({field.name: change(field)}))).collect();
    for storage in Storage::all() {
        block_on(async {
            let store = open(&storage).await;
            for change in &pings {
                let committed = store.commit(vec![row(&ping(change), at(NOON))]).await.unwrap();
                assert_eq!(committed, Committed { stored: 1, duplicates: 0 }, "{}: {change}", storage.name());
            }
            assert_eq!(storage.rows().len(), FIELDS.len() + 1);
        });
    }
}

#[test]
fn a_sender_that_asks_again_gets_the_same_answer_and_leaves_one_row() {
    for storage in Storage::all() {
        let collector = Setup::new(&storage).start();
        for _ in 0..3 {
            assert_eq!(collector.post(&ping_of(1)).status, 204);
        }
        assert!((collector.metric("pings_total{outcome=\"duplicate\"}") - 2.0).abs() < 0.5);
        collector.stop();
        assert_eq!(storage.rows().len(), 1);
    }
}

#[test]
fn two_collectors_that_get_the_same_pings_at_once_store_each_once() {
    let Some(cluster) = Cluster::start() else { return };
    // A database can make a transaction see what was there before it waited for the other collector's.
    cluster.psql("postgres", "ALTER ROLE pulse SET default_transaction_isolation = 'repeatable read'");
    let storage = Storage::postgres(cluster);
    block_on(async {
        let (one, other) = (open_postgres(&storage).await, open_postgres(&storage).await);
        use pulse_telemetry_collector::storage::PingStore as _;
        for round in 0..20_u64 {
            let rows = |shift: i64| -> Vec<Row> {
                let row = |n| row(&ping_of(round * 100 + n), at(NOON) + SignedDuration::from_secs(shift));
                (0..50).map(row).collect()
            };
            let (first, second) = tokio::join!(one.commit(rows(0)), other.commit(rows(1)));
            let stored = first.unwrap().stored + second.unwrap().stored;
            assert_eq!(stored, 50, "round {round}");
        }
    });
    assert_eq!(storage.rows().len(), 20 * 50);
}

#[test]
fn postgresql_looks_for_an_earlier_ping_in_the_index_however_new_the_day_is() {
    let Some(cluster) = Cluster::start() else { return };
    let storage = Storage::postgres(cluster);
    let fill = |ids: std::ops::Range<u64>, day: &str| {
        block_on(async {
            let store = open(&storage).await;
            for batch in ids {
                let rows = (0..100).map(|number| row(&ping_of(100 * batch + number), at(day))).collect();
                store.commit(rows).await.unwrap();
            }
        });
    };
    fill(0..20, NOON);
    let Storage::Postgres(cluster) = &storage else { return };
    // A session tells what it read when it ends.
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pulse-telemetry-collector'";
    let read = |what: &str| {
        assert!((0..500).any(|_| cluster.psql("pulse", sessions).trim() == "0"), "a session is left");
        let query = format!("SELECT {what} FROM pg_stat_user_tables WHERE relname LIKE 'pings_2%'");
        cluster.psql("pulse", &query).trim().to_owned()
    };
    assert_eq!(read("seq_tup_read, idx_scan"), "0|6000", "rows that were read one after the other, and look-ups");
    // IDs that are looked for in all days: new ones, and those of three days before.
    fill(30..32, "2026-11-26T12:00:00Z");
    fill(0..2, "2026-11-26T12:00:00Z");
    assert_eq!(read("sum(seq_tup_read)"), "0", "rows that were read one after the other");
}

fn arrival(row: Row, may_be_new: bool) -> Arrival {
    Arrival { row, may_be_new }
}

/// The ping of an installation whose counts change.
fn changing(number: u64, vms: u64, received_at: &str) -> Row {
    row(&ping(&json!({"install_id": install_id(number), "vms": vms})), at(received_at))
}

#[test]
fn an_id_has_64_rows_a_utc_day_and_no_more_in_one_batch_and_over_batches_and_restarts() {
    for storage in Storage::all() {
        block_on(async {
            let name = storage.name();
            let store = open(&storage).await;
            // One after the other, all at once, and half and half with another ID between.
            for vms in 0..70 {
                let outcomes = store.admit(vec![arrival(changing(1, vms, NOON), true)]).await.unwrap();
                let expected = if vms < 64 { RowOutcome::Stored { new_id: vms == 0 } } else { RowOutcome::TooManyRows };
                assert_eq!(outcomes, [expected], "{name}: {vms}");
            }
            let at_once = (0..70).map(|vms| arrival(changing(2, vms, NOON), true)).collect();
            let outcomes = store.admit(at_once).await.unwrap();
            assert_eq!(Committed::of(&outcomes), Committed { stored: 64, duplicates: 0 }, "{name}");
            assert!(outcomes[64..].iter().all(|outcome| *outcome == RowOutcome::TooManyRows), "{name}: {outcomes:?}");
            let mixed = |from: u64| -> Vec<Arrival> {
                let pair =
                    |vms| [arrival(changing(3, vms, NOON), true), arrival(changing(1000 + vms, vms, NOON), true)];
                (from..from + 35).flat_map(pair).collect()
            };
            store.admit(mixed(0)).await.unwrap();
            drop(store);
            let store = open(&storage).await;
            let outcomes = store.admit(mixed(35)).await.unwrap();
            assert_eq!(Committed::of(&outcomes).stored, 29 + 35, "{name}");
            // A retry of what is stored is no further row, and what is refused is not acknowledged as one.
            let again = vec![
                arrival(changing(2, 63, NOON), true),
                arrival(changing(2, 99, NOON), true),
                arrival(changing(2, 99, NOON), true),
            ];
            let expected = [DUPLICATE, RowOutcome::TooManyRows, RowOutcome::TooManyRows];
            assert_eq!(store.admit(again).await.unwrap(), expected, "{name}");
            for other_day in ["2026-11-24T00:00:00Z", "2026-11-22T23:59:59Z"] {
                let outcomes = store.admit(vec![arrival(changing(1, 5000, other_day), false)]).await.unwrap();
                assert_eq!(outcomes, [RowOutcome::Stored { new_id: false }], "{name}: {other_day}");
            }
            assert_eq!(storage.rows().len(), 64 * 3 + 70 + 2);
        });
    }
}

#[test]
fn a_row_is_compared_with_the_newest_eight_of_its_id_and_no_others() {
    for storage in Storage::all() {
        block_on(async {
            let store = open(&storage).await;
            let minute = |minute: u64| format!("2026-11-23T12:{minute:02}:00Z");
            for vms in 0..9 {
                store.commit(vec![changing(1, vms, &minute(vms))]).await.unwrap();
            }
            for (vms, expected) in [(8, DUPLICATE), (1, DUPLICATE), (0, RowOutcome::Stored { new_id: false })] {
                let outcomes = store.admit(vec![arrival(changing(1, vms, &minute(10)), false)]).await.unwrap();
                assert_eq!(outcomes, [expected], "{}: {vms}", storage.name());
            }
        });
    }
}

#[test]
fn an_id_is_new_where_no_day_has_a_row_of_it_and_is_stored_only_where_it_may_be_new() {
    for storage in Storage::all() {
        block_on(async {
            let name = storage.name();
            let store = open(&storage).await;
            let one = |row: Row, may_be_new: bool| {
                let store = &store;
                async move { store.admit(vec![arrival(row, may_be_new)]).await.unwrap()[0] }
            };
            let days = ["2026-09-01T10:00:00Z", "2026-10-14T10:00:00Z", "2026-11-22T10:00:00Z", "2026-11-23T10:00:00Z"];
            for (number, day) in (1..).zip(days) {
                assert_eq!(one(changing(number, 1, day), false).await, RowOutcome::UnknownId, "{name}: {day}");
                assert_eq!(
                    one(changing(number, 1, day), true).await,
                    RowOutcome::Stored { new_id: true },
                    "{name}: {day}"
                );
            }
            for (number, day) in (1..).zip(days) {
                let known = one(changing(number, 2, NOON), false).await;
                assert_eq!(known, RowOutcome::Stored { new_id: false }, "{name}: of {day}");
            }
            // In one batch: known and unknown, and an ID that the batch itself brings.
            let batch = vec![
                arrival(changing(1, 3, NOON), false),
                arrival(changing(90, 1, NOON), false),
                arrival(changing(90, 1, NOON), false),
                arrival(changing(91, 1, NOON), true),
                arrival(changing(91, 2, NOON), false),
                arrival(changing(91, 1, NOON), true),
            ];
            let expected = [
                RowOutcome::Stored { new_id: false },
                RowOutcome::UnknownId,
                RowOutcome::UnknownId,
                RowOutcome::Stored { new_id: true },
                RowOutcome::Stored { new_id: false },
                DUPLICATE,
            ];
            assert_eq!(store.admit(batch).await.unwrap(), expected, "{name}");
            assert!(!storage.install_ids().contains(&install_id(90)), "{name}");
        });
    }
}

#[test]
fn a_store_that_was_filled_before_there_was_a_limit_is_taken_up_as_it_is() {
    for storage in Storage::all() {
        block_on(async {
            let store = open(&storage).await;
            store.commit(vec![changing(1, 0, NOON), changing(2, 0, NOON)]).await.unwrap();
            // What an older program stored: 500 rows of one ID in a day.
            let more = "INSERT INTO pings_20261123 SELECT p.* FROM pings_20261123 p, \
                        (WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 499) SELECT n FROM \
                        n) n WHERE p.install_id = ";
            let more = format!("{more}'{}'", install_id(1));
            match &storage {
                Storage::Sqlite(_) => drop(rusqlite::Connection::open(storage.file()).unwrap().execute_batch(&more)),
                Storage::Postgres(cluster) => drop(cluster.psql("pulse", &more)),
            }
            assert_eq!(storage.rows().len(), 501, "{}", storage.name());
            let outcomes =
                store.admit(vec![arrival(changing(1, 1, NOON), true), arrival(changing(2, 1, NOON), true)]).await;
            let expected = [RowOutcome::TooManyRows, RowOutcome::Stored { new_id: false }];
            assert_eq!(outcomes.unwrap(), expected, "{}", storage.name());
        });
    }
}

#[test]
fn a_sender_beyond_the_rows_of_its_id_is_told_to_come_back_the_next_day() {
    for storage in Storage::all() {
        let collector = Setup::new(&storage).start();
        let replies: Vec<_> = (0..66).map(|vms| collector.post(&ping(&json!({"vms": vms})))).collect();
        // Midnight may come in between.
        let refused: Vec<_> = replies.iter().filter(|reply| reply.status == 429).collect();
        if !refused.is_empty() {
            assert_eq!((refused.len(), replies[65].json()["error"].as_str()), (2, Some("too_many_pings_of_an_id")));
            let after: i64 = replies[65].header("retry-after").unwrap().parse().unwrap();
            let now = SystemClock.now().wall.as_second();
            let until_midnight = 86_400 - now.rem_euclid(86_400);
            assert!((until_midnight - 60..=until_midnight + 90).contains(&after), "{after} s, {until_midnight} s");
        }
        assert_eq!(collector.post(&ping_of(7)).status, 204, "others are served");
        assert_eq!(collector.post(&ping(&json!({"vms": 63}))).status, 204, "{}: a retry", storage.name());
    }
}
