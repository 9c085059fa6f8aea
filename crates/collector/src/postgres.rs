//! PostgreSQL: any number of collectors, one partition for each UTC day.
//!
//! Three locks keep collectors apart, each held for one transaction: one while the schema or a day is made, one for the
//! purge, and one for each commit, so that two of them do not both store a ping that was sent twice.

mod commit;
mod days;
mod failed;
mod forget;
mod locks;
mod published;
mod reader;
mod schema;
mod session;
mod words;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use jiff::Timestamp;
use jiff::civil::Date;
use pulse_telemetry_http::tls::Trust;
use secrecy::SecretString;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};

use self::commit::{Columns, KnownIds, RowVerdict, insert_statement};
use self::days::not_yet;
use self::failed::Failed;
use self::locks::{SOON, none_locked};
pub use self::reader::PostgresReader;
use self::reader::span;
use self::schema::{LOCK_SCHEMA, LONG, Migration, TABLE, check_version, is_there, migrate, partitions};
use self::session::{begin_commit, connection, lock, pool, writing};
use super::storage::{
    Arrival, PUBLISHED_DAYS, PingStore, PublishedDay, Purged, RowOutcome, Span, StorageError, Working, day_of,
    day_table, first_day_kept, last_day_kept,
};

const LOCK_PURGE: i64 = 0x7075_6c73_6502;
const LOCK_COMMIT: i64 = 0x7075_6c73_6503;

/// How long it may take to do what is asked. A sender waits 10 s.
const WORK_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a purge may take; it waits for commits that are under way.
const PURGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Pings in a PostgreSQL database.
pub struct PostgresStore {
    pool: Pool,
    insert: String,
    /// The days that have a partition, as far as it is known; empty until they are asked for.
    days: Mutex<BTreeSet<Date>>,
}

impl PostgresStore {
    /// Connects, brings the schema up to date, and holds its columns against the contract. `trust` is for TLS.
    ///
    /// # Errors
    /// The database cannot be reached or used, or has other columns.
    pub async fn open(
        connect: tokio_postgres::Config,
        password: Option<&SecretString>,
        trust: &Trust,
    ) -> Result<Self, StorageError> {
        let store = Self::new(connect, password, trust)?;
        store.migrating(Migration::Keep).await?;
        Ok(store)
    }

    /// Connects where a collector has made its tables, and brings these up to date.
    ///
    /// # Errors
    /// Those of [`PostgresStore::open`], or there are none yet.
    pub async fn open_existing(
        connect: tokio_postgres::Config,
        password: Option<&SecretString>,
        trust: &Trust,
    ) -> Result<Self, StorageError> {
        let store = Self::new(connect, password, trust)?;
        let is_made = store.working(WORK_TIMEOUT, |client| async move {
            let is_made = is_there(&client, TABLE).await?;
            check_version(&client).await?;
            Ok((client, is_made))
        });
        if !is_made.await? {
            return Err(not_yet());
        }
        store.migrating(Migration::Keep).await?;
        Ok(store)
    }

    /// Does what [`PostgresStore::open`] needs to work, and undoes it. Says whether a collector has made its tables.
    ///
    /// # Errors
    /// Those of [`PostgresStore::open`].
    pub async fn try_out(
        connect: tokio_postgres::Config,
        password: Option<&SecretString>,
        trust: &Trust,
    ) -> Result<bool, StorageError> {
        let store = Self::new(connect, password, trust)?;
        let is_made = store.migrating(Migration::Undo).await?;
        if is_made {
            store.span().await?;
        }
        Ok(is_made)
    }

    fn new(
        connect: tokio_postgres::Config,
        password: Option<&SecretString>,
        trust: &Trust,
    ) -> Result<Self, StorageError> {
        Ok(Self { pool: pool(connect, password, trust)?, insert: insert_statement(), days: Mutex::default() })
    }

    async fn migrating(&self, migration: Migration) -> Result<bool, StorageError> {
        self.working(PURGE_TIMEOUT, |mut client| async move {
            let was_made = migrate(&mut client, migration).await?;
            Ok((client, was_made))
        })
        .await
    }

    /// Does something with a connection. Where it takes too long, that connection and those at rest are closed.
    async fn working<T, F>(&self, limit: Duration, work: impl FnOnce(Object) -> F) -> Result<T, StorageError>
    where
        F: Future<Output = Result<(Object, T), Failed>>,
    {
        let client = connection(&self.pool).await?;
        match timeout(limit, work(client)).await {
            Ok(Ok((_client, done))) => Ok(done),
            Ok(Err(failed)) => {
                if matches!(&failed, Failed::Postgres(error) if words::calls_for_a_new_connection(error)) {
                    self.pool.retain(|_, _| false);
                }
                Err(failed.into())
            }
            Err(_) => {
                self.pool.retain(|_, _| false);
                Err(StorageError::Failed("PostgreSQL: no answer in time".to_owned()))
            }
        }
    }

    fn known_days(&self) -> std::sync::MutexGuard<'_, BTreeSet<Date>> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the partitions of these days, where there are none.
    async fn make_days(&self, days: &BTreeSet<Date>) -> Result<(), StorageError> {
        if self.known_days().is_empty() {
            let there = self.working(WORK_TIMEOUT, |client| async move {
                let there = partitions(&client).await?;
                Ok((client, there))
            });
            let there = there.await?;
            self.known_days().extend(there);
        }
        let missing: Vec<Date> = days.difference(&self.known_days()).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let making = missing.clone();
        self.working(WORK_TIMEOUT, |mut client| async move {
            let transaction = writing(&mut client).await?;
            lock(&transaction, LOCK_SCHEMA).await?;
            for day in making {
                let (table, next) = (day_table(day), day.tomorrow().unwrap_or(day));
                if is_there(transaction.client(), &table).await? {
                    continue;
                }
                // To make it as a partition at once would wait for readers, and keep everybody waiting.
                let make = format!(
                    "CREATE TABLE {table} (LIKE {TABLE} INCLUDING ALL);
                     ALTER TABLE {TABLE} ATTACH PARTITION {table} FOR VALUES FROM ('{day}') TO ('{next}')"
                );
                transaction.batch_execute(&make).await?;
            }
            transaction.commit().await?;
            Ok((client, ()))
        })
        .await?;
        self.known_days().extend(missing);
        Ok(())
    }

    async fn admit_rows(&self, arrivals: &[Arrival]) -> Result<Vec<RowOutcome>, StorageError> {
        let days: BTreeSet<Date> = arrivals.iter().map(|arrival| day_of(arrival.row.received_at)).collect();
        self.make_days(&days).await?;
        let recent = |day: &Date| days.iter().any(|of_row| day == of_row || day.tomorrow().ok() == Some(*of_row));
        let has_older = !self.known_days().iter().all(recent);
        // The statement compares with what was stored before it, not with its own rows.
        let (mut places, mut unique) = (HashMap::new(), Vec::new());
        for arrival in arrivals {
            places.entry(&arrival.row.cells).or_insert_with(|| {
                unique.push(arrival);
                unique.len() - 1
            });
        }
        // An ID that comes for the first time in two days is looked for in all others only then: it is rare, and to
        // plan a look into 90 partitions takes longer than a commit.
        let known = if has_older { KnownIds::Unasked } else { KnownIds::None };
        let mut verdicts = self.insert(&unique, &known).await?;
        let unknown: Vec<usize> = (0..unique.len()).filter(|at| verdicts[*at] == RowVerdict::Ask).collect();
        if !unknown.is_empty() {
            let again: Vec<&Arrival> = unknown.iter().map(|at| unique[*at]).collect();
            let known = KnownIds::These(self.stored_ids(&again).await?);
            for (at, verdict) in unknown.into_iter().zip(self.insert(&again, &known).await?) {
                verdicts[at] = verdict;
            }
        }
        let mut outcomes: Vec<RowOutcome> = verdicts.into_iter().map(RowVerdict::outcome).collect();
        let outcome = |arrival: &Arrival| {
            let place = places[&arrival.row.cells];
            let outcome = &mut outcomes[place];
            // Who comes with the same is a duplicate of what was stored, or is refused like the first.
            let after = match *outcome {
                RowOutcome::Stored { .. } => RowOutcome::Duplicate { day: day_of(unique[place].row.received_at) },
                other => other,
            };
            std::mem::replace(outcome, after)
        };
        Ok(arrivals.iter().map(outcome).collect())
    }

    async fn insert(&self, arrivals: &[&Arrival], known: &KnownIds) -> Result<Vec<RowVerdict>, StorageError> {
        let columns = Columns::of(arrivals, known);
        let insert = &self.insert;
        let inserted = self
            .working(WORK_TIMEOUT, |client| async move {
                // A row that is given up on the way must not arrive when a deletion of its ID was done, over another
                // connection. So it goes out when the lock is held that deletions wait for, too: either this session
                // stores it before them, or it has ended.
                begin_commit(&client, LOCK_COMMIT).await?;
                // Both at once, so that the lock is held for no longer than the server works. After an error it takes
                // the second for a rollback.
                let parameters = columns.parameters();
                let (verdicts, committed) = tokio::join!(
                    biased;
                    client.query_typed(insert, &parameters),
                    client.batch_execute("COMMIT")
                );
                let verdicts = verdicts?.iter().map(RowVerdict::of).collect::<Result<_, _>>()?;
                committed?;
                Ok((client, verdicts))
            })
            .await;
        if inserted.is_err() {
            // A day's partition may be gone that was there before.
            self.known_days().clear();
        }
        inserted
    }

    async fn purge_days(&self, now: Timestamp) -> Result<Purged, StorageError> {
        let kept = first_day_kept(now)..=last_day_kept(now);
        let stays = kept.clone();
        let purged = self
            .working(PURGE_TIMEOUT, |mut client| async move {
                let transaction = writing(&mut client).await?;
                transaction.batch_execute(LONG).await?;
                let free = format!("SELECT pg_try_advisory_xact_lock({LOCK_PURGE})");
                if !transaction.query_typed_one(&free, &[]).await?.get::<_, bool>(0) {
                    transaction.rollback().await?;
                    return Ok((client, Purged { days: 0, lock_held_by_other: true }));
                }
                // While it waits for readers, every commit waits behind it. So it does not wait, and tries again
                // in a minute.
                transaction.batch_execute("SET LOCAL lock_timeout = '500ms'").await?;
                let (mut days, mut failed) = (0, None);
                for day in partitions(transaction.client()).await?.into_iter().filter(|day| !stays.contains(day)) {
                    let drop = format!("SAVEPOINT day; DROP TABLE {}; RELEASE day", day_table(day));
                    match transaction.batch_execute(&drop).await {
                        Ok(()) => days += 1,
                        // One that cannot be dropped, as where somebody made a view of it, keeps no other. It was
                        // waited for once, which is enough.
                        Err(error) => {
                            transaction.batch_execute("ROLLBACK TO day; SET LOCAL lock_timeout = '1ms'").await?;
                            failed.get_or_insert(error);
                        }
                    }
                }
                transaction.commit().await?;
                let purged = Purged { days, lock_held_by_other: false };
                failed.map_or(Ok((client, purged)), |error| Err(error.into()))
            })
            .await;
        self.known_days().retain(|day| kept.contains(day));
        purged
    }
}

impl PingStore for PostgresStore {
    fn admit(&self, arrivals: Vec<Arrival>) -> Working<'_, Vec<RowOutcome>> {
        Box::pin(async move { self.admit_rows(&arrivals).await })
    }

    fn forget(&self, ids: Vec<String>) -> Working<'_, usize> {
        Box::pin(self.forget_ids(ids))
    }

    fn unrewritten(&self, now: Timestamp) -> Working<'_, Vec<Date>> {
        Box::pin(self.unrewritten_days(now))
    }

    fn rewrite(&self, day: Date, within: Duration) -> Working<'_, Option<String>> {
        Box::pin(self.rewrite_day(day, within))
    }

    fn size(&self) -> Working<'_, u64> {
        Box::pin(self.working(WORK_TIMEOUT, |mut client| async move {
            let query = "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint
                         FROM pg_inherits WHERE inhparent = to_regclass($1)";
            // It would wait, and go on waiting where it was given up here.
            let transaction = writing(&mut client).await?;
            none_locked(transaction.client()).await?;
            transaction.batch_execute(SOON).await?;
            let bytes: i64 = transaction.query_typed_one(query, &[(&TABLE, Type::TEXT)]).await?.get(0);
            transaction.commit().await?;
            Ok((client, bytes.unsigned_abs()))
        }))
    }

    fn purge(&self, now: Timestamp) -> Working<'_, Purged> {
        Box::pin(self.purge_days(now))
    }

    fn keep_published(&self, published: PublishedDay) -> Working<'_, ()> {
        Box::pin(self.working(WORK_TIMEOUT, move |mut client| async move {
            let transaction = writing(&mut client).await?;
            let keep = format!("INSERT INTO {PUBLISHED_DAYS} (day, numbers) VALUES ($1, $2) ON CONFLICT DO NOTHING");
            let values: [(&(dyn ToSql + Sync), Type); 2] =
                [(&published.day, Type::DATE), (&published.numbers, Type::TEXT)];
            transaction.query_typed(&keep, &values).await?;
            transaction.commit().await?;
            Ok((client, ()))
        }))
    }

    fn span(&self) -> Working<'_, Option<Span>> {
        Box::pin(self.working(WORK_TIMEOUT, |mut client| async move {
            let span = span(&mut client).await?;
            Ok((client, span))
        }))
    }

    fn probe(&self) -> Working<'_, ()> {
        Box::pin(self.working(WORK_TIMEOUT, |mut client| async move {
            // A page that is written and flushed, in a table of this transaction's own, for a disk that is full.
            let probe = "CREATE TEMPORARY TABLE probe ON COMMIT DROP AS SELECT 1 AS works";
            let transaction = writing(&mut client).await?;
            transaction.batch_execute(probe).await?;
            transaction.commit().await?;
            Ok((client, ()))
        }))
    }
}
