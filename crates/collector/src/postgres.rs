//! PostgreSQL: any number of collectors, one partition for each UTC day.
//!
//! Three locks keep collectors apart, each held for one transaction: one while the schema or a day is made, one for the
//! purge, and one for each commit, so that two of them do not both store a ping that was sent twice.

mod session;
mod words;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Object, Pool, Transaction};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use pulse_telemetry_core::contract::{FIELDS, FieldKind};
use pulse_telemetry_http::tls::Trust;
use secrecy::SecretString;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use self::session::{begin_commit, connection, lock, pool, reading, writing};
use super::ingest::{Cell, Cells};
use super::storage::{
    Arrival, COMPARED_ROWS, Column, DAY_PREFIX, DUPLICATE_WINDOW, ID, PingStore, Purged, RECEIVED_AT, RETENTION_DAYS,
    ROWS_PER_ID, Read, Row, RowOutcome, Scanning, Span, StorageError, VIEW, Visitor, Working, column_list,
    compare_columns, day_of, day_of_table, day_table, first_day_kept, last_day_kept, unreadable,
};

/// The table that the days are partitions of.
const TABLE: &str = "pings";

/// The version of the tables, and what stands before it in the comment on [`TABLE`].
const SCHEMA_VERSION: u32 = 1;
const VERSION: &str = "pulse-telemetry-collector, version ";

/// The keys of the advisory locks. They only have to differ from those of other programs in the same database.
const LOCK_SCHEMA: i64 = 0x7075_6c73_6501;
const LOCK_PURGE: i64 = 0x7075_6c73_6502;
const LOCK_COMMIT: i64 = 0x7075_6c73_6503;

/// How long it may take to do what is asked. A sender waits 10 s.
const WORK_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a purge may take; it waits for commits that are under way.
const PURGE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a reader begins anew because a day was purged while it began.
const READ_TRIES: u32 = 10;

/// The limit of one transaction that may take as long as [`PURGE_TIMEOUT`].
const LONG: &str = "SET LOCAL statement_timeout = '60s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";

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

    /// Connects where a collector has made its tables.
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
        if is_made.await? { Ok(store) } else { Err(not_yet()) }
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
                // To make it as a partition at once would wait for whoever reads, and keep everybody waiting.
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
            let outcome = &mut outcomes[places[&arrival.row.cells]];
            // Who comes with the same is a duplicate of what was stored, or is refused like the first.
            let after = if matches!(outcome, RowOutcome::Stored { .. }) { RowOutcome::Duplicate } else { *outcome };
            std::mem::replace(outcome, after)
        };
        Ok(arrivals.iter().map(outcome).collect())
    }

    /// Which of the rows' IDs are stored, of whatever day.
    async fn stored_ids(&self, arrivals: &[&Arrival]) -> Result<HashSet<String>, StorageError> {
        let ids: Vec<&str> = arrivals.iter().filter_map(|arrival| text(&arrival.row.cells[ID])).collect();
        let query = format!(
            "SELECT id FROM unnest($1::text[]) AS id WHERE EXISTS (SELECT FROM {TABLE} old WHERE old.install_id = id)"
        );
        self.working(WORK_TIMEOUT, |mut client| async move {
            // By the index, as the commit does.
            let transaction = writing(&mut client).await?;
            let stored = transaction.query_typed(&query, &[(&ids, Type::TEXT_ARRAY)]).await?;
            let stored = stored.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            transaction.commit().await?;
            Ok((client, stored))
        })
        .await
    }

    async fn insert(&self, arrivals: &[&Arrival], known: &KnownIds) -> Result<Vec<RowVerdict>, StorageError> {
        let columns = Columns::of(arrivals, known);
        let insert = &self.insert;
        let inserted = self
            .working(WORK_TIMEOUT, |client| async move {
                // All at once, in this order, so that the locks are held for no longer than the server works. After an
                // error it takes the last for a rollback.
                let (begin, parameters) = (begin_commit(LOCK_COMMIT), columns.parameters());
                let (begun, verdicts, committed) = tokio::join!(
                    biased;
                    client.batch_execute(&begin),
                    client.query_typed(insert, &parameters),
                    client.batch_execute("COMMIT")
                );
                begun?;
                let verdicts =
                    verdicts?.iter().map(|row| row.try_get(0).map(RowVerdict::of)).collect::<Result<_, _>>()?;
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
                    return Ok((client, Purged { days: 0, elsewhere: true }));
                }
                // While it waits for whoever reads, every commit waits behind it. So it does not wait, and tries again
                // in a minute.
                transaction.batch_execute("SET LOCAL lock_timeout = '500ms'").await?;
                let mut days = 0;
                for day in partitions(transaction.client()).await?.into_iter().filter(|day| !stays.contains(day)) {
                    transaction.batch_execute(&format!("DROP TABLE {}", day_table(day))).await?;
                    days += 1;
                }
                transaction.commit().await?;
                Ok((client, Purged { days, elsewhere: false }))
            })
            .await?;
        self.known_days().retain(|day| kept.contains(day));
        Ok(purged)
    }
}

impl PingStore for PostgresStore {
    fn admit(&self, arrivals: Vec<Arrival>) -> Working<'_, Vec<RowOutcome>> {
        Box::pin(async move { self.admit_rows(&arrivals).await })
    }

    fn size(&self) -> Working<'_, u64> {
        Box::pin(self.working(WORK_TIMEOUT, |client| async move {
            let query = "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint
                         FROM pg_inherits WHERE inhparent = to_regclass($1)";
            let bytes: i64 = client.query_typed_one(query, &[(&TABLE, Type::TEXT)]).await?.get(0);
            Ok((client, bytes.unsigned_abs()))
        }))
    }

    fn purge(&self, now: Timestamp) -> Working<'_, Purged> {
        Box::pin(self.purge_days(now))
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

/// Pings in a PostgreSQL database to read from. It changes nothing, and the server sees to that.
pub struct PostgresReader {
    pool: Pool,
}

impl PostgresReader {
    /// A reader of that database, which is connected to when something is read. `trust` is for TLS.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(
        connect: tokio_postgres::Config,
        password: Option<&SecretString>,
        trust: &Trust,
    ) -> Result<Self, StorageError> {
        Ok(Self { pool: pool(connect, password, trust)? })
    }
}

impl Read for PostgresReader {
    fn scan<'a>(&'a self, since: Timestamp, visit: &'a mut Visitor<'_>) -> Scanning<'a> {
        Box::pin(async move {
            let mut client = connection(&self.pool).await?;
            read(&mut client, since, visit).await.map_err(StorageError::from)
        })
    }
}

async fn read(client: &mut Object, since: Timestamp, visit: &mut Visitor<'_>) -> Result<(), Failed> {
    let from = civil(since);
    let mut tries = 1;
    loop {
        let transaction = reading(client).await?;
        match hold_days(&transaction, from.date()).await {
            Err(Failed::Postgres(error)) if is_gone(&error) && tries < READ_TRIES => tries += 1,
            days => {
                for day in days? {
                    show(&transaction, day, from, visit).await?;
                }
                return Ok(transaction.commit().await?);
            }
        }
    }
}

async fn span(client: &mut Object) -> Result<Option<Span>, Failed> {
    let mut tries = 1;
    loop {
        let transaction = reading(client).await?;
        match hold_days(&transaction, Date::MIN).await {
            Err(Failed::Postgres(error)) if is_gone(&error) && tries < READ_TRIES => tries += 1,
            days => {
                let days = days?;
                let oldest = end(&transaction, days.iter(), "min").await?;
                let newest = end(&transaction, days.iter().rev(), "max").await?;
                transaction.commit().await?;
                return Ok(oldest.zip(newest).map(|(oldest, newest)| Span { oldest, newest }));
            }
        }
    }
}

/// The days since `from`, none of which goes before the transaction ends.
async fn hold_days(transaction: &Transaction<'_>, from: Date) -> Result<Vec<Date>, Failed> {
    if !is_there(transaction.client(), TABLE).await? {
        return Err(not_yet().into());
    }
    check_version(transaction.client()).await?;
    check_columns(transaction.client()).await?;
    let days: Vec<Date> = partitions(transaction.client()).await?.into_iter().filter(|day| *day >= from).collect();
    if !days.is_empty() {
        let tables: Vec<String> = days.iter().map(|day| day_table(*day)).collect();
        transaction.batch_execute(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", tables.join(", "))).await?;
    }
    Ok(days)
}

/// Shows the rows of one day. A cursor keeps what is on the way small, and needs no statement with a name.
async fn show(transaction: &Transaction<'_>, day: Date, from: DateTime, visit: &mut Visitor<'_>) -> Result<(), Failed> {
    let (columns, table) = (column_list(), day_table(day));
    let rows = format!("SELECT {columns} FROM {table} WHERE {RECEIVED_AT} >= '{from}' ORDER BY {RECEIVED_AT}");
    transaction.batch_execute(&format!("DECLARE rows NO SCROLL CURSOR FOR {rows}")).await?;
    loop {
        let rows = transaction.query_typed("FETCH 10000 FROM rows", &[]).await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            visit(read_row(&row, day)?);
        }
    }
    transaction.batch_execute("CLOSE rows").await?;
    Ok(())
}

/// Whether a day was there when the days were listed, and another collector has purged it since.
fn is_gone(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_TABLE)
}

fn not_yet() -> StorageError {
    StorageError::NotYet("the database of storage.url".to_owned())
}

/// What becomes of a migration that worked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Migration {
    Keep,
    Undo,
}

/// Makes what is not there, and touches nothing else: that would wait for whoever reads, and keep other collectors
/// waiting. Several collectors may do this at once. Says whether the tables were there before.
async fn migrate(client: &mut Object, migration: Migration) -> Result<bool, Failed> {
    let columns: Vec<String> = expected_columns()
        .iter()
        .zip(std::iter::once(true).chain(FIELDS.iter().map(pulse_telemetry_core::contract::Field::required)))
        .map(|(Column { name, kind }, required)| format!("{name} {kind}{}", if required { " NOT NULL" } else { "" }))
        .collect();
    let transaction = writing(client).await?;
    transaction.batch_execute(LONG).await?;
    lock(&transaction, LOCK_SCHEMA).await?;
    check_database(transaction.client()).await?;
    let was_made = is_there(transaction.client(), TABLE).await?;
    if was_made {
        check_version(transaction.client()).await?;
    } else {
        transaction
            .batch_execute(&format!(
                "CREATE TABLE {TABLE} ({}) PARTITION BY RANGE ({RECEIVED_AT});
                 CREATE INDEX {TABLE}_by_id ON {TABLE} (install_id);
                 COMMENT ON TABLE {TABLE} IS '{VERSION}{SCHEMA_VERSION}'",
                columns.join(", ")
            ))
            .await?;
    }
    check_columns(transaction.client()).await?;
    // Rows older than 90 days are not in it, whether they were purged or not.
    let view = format!(
        "SELECT {} FROM {TABLE}
         WHERE {RECEIVED_AT} >= (now() AT TIME ZONE ''UTC'') - interval ''{RETENTION_DAYS} days''
           AND {RECEIVED_AT} <= (now() AT TIME ZONE ''UTC'') + interval ''1 day''",
        column_list()
    );
    // How another version made it cannot be told from how PostgreSQL writes it down, so the text stands beside it.
    let said = "SELECT obj_description(to_regclass($1), 'pg_class')";
    let said: Option<String> = transaction.query_typed_one(said, &[(&VIEW, Type::TEXT)]).await?.get(0);
    let text = view.replace("''", "'");
    if said.as_ref() != Some(&text) {
        let make = format!("CREATE OR REPLACE VIEW {VIEW} AS {text}; COMMENT ON VIEW {VIEW} IS '{view}'");
        transaction.batch_execute(&make).await?;
    }
    match migration {
        Migration::Keep => transaction.commit().await?,
        Migration::Undo => transaction.rollback().await?,
    }
    Ok(was_made)
}

/// Refuses what a newer program made. Its version stands beside the table; the first one wrote none.
async fn check_version(client: &Client) -> Result<(), Failed> {
    let said = "SELECT obj_description(to_regclass($1), 'pg_class')";
    let said: Option<String> = client.query_typed_one(said, &[(&TABLE, Type::TEXT)]).await?.get(0);
    let version = said.as_deref().and_then(|said| said.strip_prefix(VERSION)?.parse::<u32>().ok()).unwrap_or(1);
    if version > SCHEMA_VERSION {
        return Err(StorageError::Failed(format!(
            "the version of the tables is {version}, and this program knows {SCHEMA_VERSION}: use the newer program"
        ))
        .into());
    }
    Ok(())
}

/// Whether the database can hold whatever a ping may hold, and the collector's role may do in it what is to be done.
async fn check_database(client: &Client) -> Result<(), Failed> {
    let query = "SELECT current_setting('server_encoding'),
                        has_database_privilege(current_database(), 'TEMPORARY'),
                        quote_ident(current_schema())::text,
                        coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
                        coalesce((SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass($1)), true),
                        quote_ident(current_user)::text, quote_ident(current_database())::text";
    let row = client.query_typed_one(query, &[(&TABLE, Type::TEXT)]).await?;
    let (encoding, schema): (String, Option<String>) = (row.get(0), row.get(2));
    let [temporary, makes, owns]: [bool; 3] = [row.get(1), row.get(3), row.get(4)];
    let (role, database): (String, String) = (row.get(5), row.get(6));
    let schema_or_public = schema.as_deref().unwrap_or("public");
    let wrong = if encoding != "UTF8" {
        format!("the database's encoding is {encoding}, and a version may hold any character: make one with UTF8")
    } else if !temporary {
        format!(
            "the collector may not make temporary tables in the database, by which it looks whether it works: GRANT \
             TEMPORARY ON DATABASE {database} TO {role}"
        )
    } else if schema.is_none() || !makes {
        format!(
            "the collector's role may make no tables in the database, and each day has one of its own: GRANT USAGE, \
             CREATE ON SCHEMA {schema_or_public} TO {role}"
        )
    } else if !owns {
        format!(
            "the table {TABLE} belongs to another role, and only its owner can add and drop days: ALTER TABLE {TABLE} \
             OWNER TO {role}, and each {DAY_PREFIX}… and {VIEW} likewise"
        )
    } else {
        return Ok(());
    };
    Err(StorageError::Failed(wrong).into())
}

/// Whether there is a table or view of that name.
async fn is_there(client: &Client, name: &str) -> Result<bool, tokio_postgres::Error> {
    let query = "SELECT to_regclass($1) IS NOT NULL";
    Ok(client.query_typed_one(query, &[(&name, Type::TEXT)]).await?.get(0))
}

async fn check_columns(client: &Client) -> Result<(), Failed> {
    let columns = "SELECT column_name::text, data_type::text FROM information_schema.columns
                   WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position";
    let found = client.query_typed(columns, &[(&TABLE, Type::TEXT)]).await?;
    let found: Vec<Column> = found.iter().map(|row| Column { name: row.get(0), kind: row.get(1) }).collect();
    Ok(compare_columns(TABLE, &found, &expected_columns())?)
}

/// The first time that there is, at that end of the first of these days that has any.
async fn end(
    transaction: &Transaction<'_>,
    days: impl Iterator<Item = &Date>,
    end: &'static str,
) -> Result<Option<Timestamp>, Failed> {
    for day in days {
        let query = format!("SELECT {end}({RECEIVED_AT}) FROM {}", day_table(*day));
        let row = transaction.query_typed_one(&query, &[]).await?;
        if let Some(at) = row.try_get::<_, Option<DateTime>>(0)? {
            return Ok(Some(timestamp(at).ok_or_else(|| unreadable(RECEIVED_AT, *day))?));
        }
    }
    Ok(None)
}

/// The days that have a partition, the oldest first.
async fn partitions(client: &Client) -> Result<Vec<Date>, Failed> {
    let query = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                 WHERE i.inhparent = to_regclass($1) AND starts_with(c.relname::text, $2) ORDER BY 1";
    let rows = client.query_typed(query, &[(&TABLE, Type::TEXT), (&DAY_PREFIX, Type::TEXT)]).await?;
    Ok(rows.iter().filter_map(|row| day_of_table(row.get(0))).collect())
}

/// What is known of IDs that no row of the last two days has.
enum KnownIds {
    /// Nothing: it is to be asked for.
    Unasked,
    /// There are no rows of other days.
    None,
    /// These are stored.
    These(HashSet<String>),
}

/// What the statement says of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowVerdict {
    Done(RowOutcome),
    /// Whether its ID is known is to be asked for.
    Ask,
}

impl RowVerdict {
    /// Reads what [`insert_statement`] writes.
    fn of(word: &str) -> Self {
        match word {
            "duplicate" => Self::Done(RowOutcome::Duplicate),
            "many" => Self::Done(RowOutcome::TooManyRows),
            "new" => Self::Done(RowOutcome::Stored { new_id: true }),
            "known" => Self::Done(RowOutcome::Stored { new_id: false }),
            "unknown" => Self::Done(RowOutcome::UnknownId),
            _ => Self::Ask,
        }
    }

    /// Nothing is asked for twice, so what is still to be asked for was not stored.
    fn outcome(self) -> RowOutcome {
        match self {
            Self::Done(outcome) => outcome,
            Self::Ask => RowOutcome::UnknownId,
        }
    }
}

/// Stores the rows of arrays, one for each column, but those that must not be, and says what became of each, in their
/// order. After the fields come: whether the ID may be a new one, and whether it is known, where no row of the last two
/// days has it. The last two parameters are the times between which a row is looked at, so that only those days are:
/// from the day before the first row to the end of the last one's. Of two rows of one second the one of the later
/// transaction is the newer one.
fn insert_statement() -> String {
    let flags = ["may_be_new", "is_known"].map(|name| Column { name: name.to_owned(), kind: "boolean".to_owned() });
    let arrays: Vec<String> = expected_columns()
        .iter()
        .chain(&flags)
        .enumerate()
        .map(|(at, Column { kind, .. })| format!("${}::{kind}[]", at + 1))
        .collect();
    let (columns, window) = (column_list(), DUPLICATE_WINDOW.as_secs());
    let of = |table: &str| FIELDS.iter().map(|f| format!("{table}.{}", f.name)).collect::<Vec<_>>().join(", ");
    let recent = format!(
        "{TABLE} old WHERE old.install_id = new.install_id AND old.{RECEIVED_AT} >= ${} AND old.{RECEIVED_AT} < ${}",
        arrays.len() + 1,
        arrays.len() + 2
    );
    format!(
        "WITH new AS (
             SELECT * FROM unnest({arrays}) WITH ORDINALITY AS new ({columns}, may_be_new, is_known, place)
         ), compared AS MATERIALIZED (
             SELECT new.*, date_trunc('day', new.{RECEIVED_AT}) AS day,
                    EXISTS (
                        SELECT FROM (SELECT old.* FROM {recent} ORDER BY old.{RECEIVED_AT} DESC, age(old.xmin), old.ctid DESC
                            LIMIT {COMPARED_ROWS}) old
                        WHERE old.{RECEIVED_AT} BETWEEN new.{RECEIVED_AT} - interval '{window} seconds'
                              AND new.{RECEIVED_AT} + interval '{window} seconds'
                          AND ({old_fields}) IS NOT DISTINCT FROM ({new_fields})
                    ) AS is_duplicate,
                    (
                        SELECT count(*) FROM (
                            SELECT FROM {recent} AND old.{RECEIVED_AT} >= date_trunc('day', new.{RECEIVED_AT})
                                AND old.{RECEIVED_AT} < date_trunc('day', new.{RECEIVED_AT}) + interval '1 day'
                            LIMIT {ROWS_PER_ID}
                        ) old
                    ) AS stored
             FROM new
         ), judged AS MATERIALIZED (
             SELECT *, CASE
                 WHEN is_duplicate THEN 'duplicate'
                 WHEN stored + coalesce(count(*) FILTER (WHERE NOT is_duplicate) OVER before, 0) >= {ROWS_PER_ID} THEN 'many'
                 WHEN stored > 0 OR is_known OR EXISTS (SELECT FROM {recent}) THEN 'known'
                 WHEN is_known IS NULL THEN 'ask'
                 WHEN coalesce(bool_or(may_be_new) OVER before, false) THEN 'known'
                 WHEN may_be_new THEN 'new'
                 ELSE 'unknown' END AS verdict
             FROM compared AS new
             WINDOW before AS (
                 PARTITION BY install_id, day ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
         ), inserted AS (
             INSERT INTO {TABLE} ({columns}) SELECT {columns} FROM judged WHERE verdict IN ('known', 'new')
         )
         SELECT verdict FROM judged ORDER BY place",
        arrays = arrays.join(", "),
        old_fields = of("old"),
        new_fields = of("new"),
    )
}

/// A batch, column by column.
struct Columns {
    received_at: Vec<DateTime>,
    fields: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
    may_be_new: Vec<bool>,
    is_known: Vec<Option<bool>>,
    /// Between these two lie the days that are looked at.
    span: [DateTime; 2],
}

impl Columns {
    fn of(arrivals: &[&Arrival], known: &KnownIds) -> Self {
        let days = || arrivals.iter().map(|arrival| day_of(arrival.row.received_at));
        let since = days().min().and_then(|day| day.yesterday().ok()).unwrap_or(Date::MIN);
        let until = days().max().and_then(|day| day.tomorrow().ok()).unwrap_or(Date::MAX);
        let cells = |at: usize| arrivals.iter().map(move |arrival| &arrival.row.cells[at]);
        let fields = FIELDS.iter().enumerate().map(|(at, field)| -> (Box<dyn ToSql + Sync + Send>, Type) {
            match field.kind {
                FieldKind::Count => (Box::new(cells(at).map(count).collect::<Vec<_>>()), Type::INT4_ARRAY),
                FieldKind::Flag => (Box::new(cells(at).map(flag).collect::<Vec<_>>()), Type::BOOL_ARRAY),
                _ => (
                    Box::new(cells(at).map(|cell| text(cell).map(str::to_owned)).collect::<Vec<_>>()),
                    Type::TEXT_ARRAY,
                ),
            }
        });
        let is_known = |cell| match known {
            KnownIds::Unasked => None,
            KnownIds::None => Some(false),
            KnownIds::These(ids) => Some(text(cell).is_some_and(|id| ids.contains(id))),
        };
        Self {
            received_at: arrivals.iter().map(|arrival| civil(arrival.row.received_at)).collect(),
            fields: fields.collect(),
            may_be_new: arrivals.iter().map(|arrival| arrival.may_be_new).collect(),
            is_known: cells(ID).map(is_known).collect(),
            span: [since, until].map(|day| day.to_datetime(jiff::civil::Time::midnight())),
        }
    }

    fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let fields = self.fields.iter().map(|(field, kind)| (field.as_ref() as &(dyn ToSql + Sync), kind.clone()));
        let first: (&(dyn ToSql + Sync), Type) = (&self.received_at, Type::TIMESTAMP_ARRAY);
        let flags: [(&(dyn ToSql + Sync), Type); 2] =
            [(&self.may_be_new, Type::BOOL_ARRAY), (&self.is_known, Type::BOOL_ARRAY)];
        let span = self.span.iter().map(|time| (time as &(dyn ToSql + Sync), Type::TIMESTAMP));
        std::iter::once(first).chain(fields).chain(flags).chain(span).collect()
    }
}

/// What is no count becomes NULL, which the column refuses: unknown is not zero.
fn count(cell: &Cell) -> Option<i32> {
    match cell {
        Cell::Count(count) => i32::try_from(*count).ok(),
        _ => None,
    }
}

fn flag(cell: &Cell) -> Option<bool> {
    match cell {
        Cell::Flag(flag) => Some(*flag),
        _ => None,
    }
}

fn text(cell: &Cell) -> Option<&str> {
    match cell {
        Cell::Text(text) => Some(text),
        _ => None,
    }
}

fn read_row(row: &tokio_postgres::Row, day: Date) -> Result<Row, StorageError> {
    let mut cells: Box<Cells> = Box::new([const { Cell::Null }; FIELDS.len()]);
    for (at, (field, cell)) in FIELDS.iter().zip(&mut *cells).enumerate() {
        let found = match field.kind {
            FieldKind::Count => {
                row.try_get(at + 1).ok().and_then(|count: i32| u32::try_from(count).ok()).map(Cell::Count)
            }
            FieldKind::Flag => row.try_get(at + 1).ok().map(Cell::Flag),
            _ => match row.try_get(at + 1).ok() {
                Some(None) if !field.required() => Some(Cell::Null),
                text => text.flatten().map(Cell::Text),
            },
        };
        *cell = found.ok_or_else(|| unreadable(field.name, day))?;
    }
    let received_at = row.try_get(0).ok().and_then(timestamp).ok_or_else(|| unreadable(RECEIVED_AT, day))?;
    Ok(Row { received_at, cells })
}

fn expected_columns() -> Vec<Column> {
    let column = |name: &str, kind: &str| Column { name: name.to_owned(), kind: kind.to_owned() };
    let fields = FIELDS.iter().map(|field| match field.kind {
        FieldKind::Count => column(field.name, "integer"),
        FieldKind::Flag => column(field.name, "boolean"),
        FieldKind::InstallId | FieldKind::Text { .. } | FieldKind::Word | FieldKind::Choice(_) => {
            column(field.name, "text")
        }
    });
    std::iter::once(column(RECEIVED_AT, "timestamp without time zone")).chain(fields).collect()
}

fn civil(at: Timestamp) -> DateTime {
    Offset::UTC.to_datetime(at)
}

fn timestamp(civil: DateTime) -> Option<Timestamp> {
    Offset::UTC.to_timestamp(civil).ok()
}

/// Either side's error, within this module.
enum Failed {
    Postgres(tokio_postgres::Error),
    Storage(StorageError),
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<Failed> for StorageError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Storage(error) => error,
            Failed::Postgres(error) => Self::Failed(words::of(&error)),
        }
    }
}
