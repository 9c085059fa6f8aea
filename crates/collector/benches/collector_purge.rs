//! What a purge costs: one day of 10,000 rows beside 1 million and beside 10 million others, and a day that grows with
//! them.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "figures on standard output")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_core::contract::FIELDS;
use pulse_telemetry_testkit::collector::{Storage, block_on, open, ping_of, row};
use rusqlite::Connection;

/// The day that is purged first, the same at both sizes.
const FIXED: u64 = 10_000;
const DAYS: u64 = 90;

fn main() {
    let new = || {
        std::iter::once(Storage::sqlite())
            .chain(pulse_telemetry_testkit::postgres::Cluster::start().map(Storage::postgres))
    };
    for storage in new() {
        println!("{}", storage.name());
        drop(storage);
    }
    for total in [1_000_000, 10_000_000] {
        for storage in new() {
            let (fixed, growing) = purge(&storage, total);
            println!(
                "{:>10}, {total:>8} rows in {DAYS} days: a day of {FIXED} rows in {:>6.1} ms; a day of {} rows in \
                 {:>7.1} ms",
                storage.name(),
                fixed.as_secs_f64() * 1000.0,
                total / DAYS,
                growing.as_secs_f64() * 1000.0
            );
        }
    }
}

fn purge(storage: &Storage, total: u64) -> (Duration, Duration) {
    let first: Timestamp = "2026-08-01T00:00:00Z".parse().unwrap();
    let day = |number: u64| first + SignedDuration::from_hours(24 * i64::try_from(number).unwrap());
    block_on(async {
        let store = open(storage).await;
        // Day 0 has the fixed size, the others share the rest.
        for number in 0..DAYS {
            store.commit(vec![row(&ping_of(number), day(number))]).await.unwrap();
        }
    });
    for number in 0..DAYS {
        fill(storage, &day(number).strftime("%Y%m%d").to_string(), if number == 0 { FIXED } else { total / DAYS });
    }
    block_on(async {
        let store = open(storage).await;
        let mut took = [Duration::ZERO; 2];
        for (number, took) in took.iter_mut().enumerate() {
            let began = Instant::now();
            let purged = store.purge(day(DAYS + number as u64)).await.unwrap();
            *took = began.elapsed();
            assert_eq!(purged.days, 1);
        }
        (took[0], took[1])
    })
}

/// Multiplies the one row of a day.
fn fill(storage: &Storage, day: &str, rows: u64) {
    let table = format!("pings_{day}");
    let rest: String = FIELDS[1..].iter().map(|field| format!(", {}", field.name)).collect();
    match storage {
        Storage::Sqlite(_) => {
            let connection = Connection::open(storage.file()).unwrap();
            connection
                .execute_batch(&format!(
                    "PRAGMA synchronous = OFF;
                     WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows} - 1)
                     INSERT INTO {table} SELECT received_at,
                         (SELECT lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                             || '-4' || substr(hex(randomblob(2)), 2) || '-8' || substr(hex(randomblob(2)), 2)
                             || '-' || hex(randomblob(6))) WHERE i > 0){rest}
                     FROM n, (SELECT * FROM {table} LIMIT 1);
                     PRAGMA wal_checkpoint(TRUNCATE);"
                ))
                .unwrap();
        }
        Storage::Postgres(cluster) => {
            cluster.psql(
                "pulse",
                &format!(
                    "INSERT INTO {table} SELECT received_at, gen_random_uuid()::text{rest}
                     FROM (SELECT * FROM {table} LIMIT 1) one, generate_series(2, {rows})"
                ),
            );
        }
    }
}
