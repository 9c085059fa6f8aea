//! A ping that is sent again because its answer was lost is stored once; any other ping is stored.
#![cfg(feature = "collector")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry::collector::storage::{Committed, Row};
use pulse_telemetry::contract::{FIELDS, Kind};
use serde_json::{Value, json};
use support::collector::{Setup, Storage, block_on, install_id, open, open_postgres, ping, ping_of, row};
use support::postgres::Cluster;

const NOON: &str = "2026-11-23T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

#[test]
fn the_same_ping_within_the_senders_back_off_is_stored_once_in_one_batch_and_over_batches_and_restarts() {
    for storage in Storage::both() {
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
    for storage in Storage::both() {
        block_on(async {
            let store = open(&storage).await;
            let first = row(&ping_of(1), at("2026-11-22T23:59:00Z"));
            let again = Row { received_at: at("2026-11-23T00:01:00Z"), ..first.clone() };
            assert_eq!(store.commit(vec![first]).await.unwrap().stored, 1);
            assert_eq!(store.commit(vec![again]).await.unwrap().duplicates, 1, "{}", storage.name());
        });
    }
}

#[test]
fn a_ping_that_differs_in_any_field_is_another_ping() {
    let change = |field: &pulse_telemetry::contract::Field| -> Value {
        match field.kind {
            Kind::InstallId => json!(install_id(77)),
            Kind::Text { .. } => json!("7.7.7"),
            Kind::Word => json!("plan9"),
            Kind::Choice(words) => {
                let now = ping(&json!({}))[field.name].clone();
                json!(words.iter().find(|word| now != **word).unwrap())
            }
            Kind::Count => json!(77),
            Kind::Flag => json!(!ping(&json!({}))[field.name].as_bool().unwrap()),
        }
    };
    let pings: Vec<Value> =
        std::iter::once(json!({})).chain(FIELDS.iter().map(|field| json!({field.name: change(field)}))).collect();
    for storage in Storage::both() {
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
    for storage in Storage::both() {
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
        use pulse_telemetry::collector::storage::Store as _;
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
    block_on(async {
        let store = open(&storage).await;
        for batch in 0..20 {
            let rows = (0..100).map(|number| row(&ping_of(100 * batch + number), at(NOON))).collect();
            store.commit(rows).await.unwrap();
        }
    });
    let Storage::Postgres(cluster) = &storage else { return };
    // A session tells what it read when it ends.
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pulse-telemetry-collector'";
    assert!((0..500).any(|_| cluster.psql("pulse", sessions).trim() == "0"), "a session is left");
    let read = "SELECT seq_tup_read, idx_scan FROM pg_stat_user_tables WHERE relname LIKE 'pings_2%'";
    assert_eq!(cluster.psql("pulse", read).trim(), "0|2000", "rows that were read one after the other, and look-ups");
}
