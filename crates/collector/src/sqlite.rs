//! SQLite: one file, one connection that writes it, one table for each UTC day.
//!
//! A commit is on the disk when it is answered (`synchronous=FULL`). What is dropped is overwritten with zeros
//! (`secure_delete`), and the write-ahead log is emptied after it, so that purged bytes are in neither file.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use pulse_telemetry_core::contract::{FIELDS, FieldKind};
use pulse_telemetry_process::acting;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params_from_iter};
use tokio::task::yield_now;

use super::export::LATER_COLUMNS;
use super::ingest::Cell;
use super::storage::{
    Arrival, COMPARED_ROWS, Column, DAY_PREFIX, ID, PingStore, Purged, RECEIVED_AT, RETENTION_DAYS, ROWS_PER_ID, Read,
    Row, RowOutcome, Scanning, Span, StorageError, VIEW, Visitor, Working, column_list, compare_columns, day_of,
    day_of_table, day_table, duplicate_window, first_day_kept, last_day_kept, unreadable,
};

/// The version of what is in the file.
const SCHEMA_VERSION: i64 = 1;

/// What the names of the files beside the database end with: the write-ahead log and its index, which SQLite keeps for
/// as long as anybody has the database open, and the lock of the one collector.
const LOG: &str = "-wal";
const LOG_INDEX: &str = "-shm";
const LOCK: &str = "-lock";

/// What the name of the storage ends with that `check` makes and removes.
const TRIAL: &str = "-check";

/// How long the head of a SQLite file is, and where in it the version stands (`user_version`).
const HEAD: usize = 100;
const VERSION_AT: usize = 60;

/// How long another process may hold the file, as a report does for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How many statements are kept prepared: for each of 92 days one that looks for an ID, and four more for today and
/// yesterday.
const STATEMENTS: usize = 128;

/// Owner only: rows are nobody else's business on a shared machine.
const FILE_MODE: u32 = 0o600;

/// A row's number in the view is its day's number, this many bits up, and its number within the day.
const DAY_SHIFT: u32 = 32;

/// The form of `received_at`, which Pulse's own reports compare with `datetime('now', …)`.
const TIME_FORM: &str = "%Y-%m-%d %H:%M:%S";

/// Pings in a SQLite file. What it is asked for it does at once, on the thread that waits for it.
pub struct SqliteStore {
    writer: Mutex<Writer>,
}

impl SqliteStore {
    /// Opens the file as the one collector that takes pings into it, for as long as this lives.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`], or another collector has the file.
    pub fn open_alone(path: &Path) -> Result<Self, StorageError> {
        as_owner(path, || {
            create_file(path).map_err(|error| not_opened(path, &error))?;
            refuse_newer(path)?;
            let lock = lock_of(path)?;
            let held = create_file(&lock).map_err(|error| not_opened(&lock, &error))?;
            if !is_free(&held, &lock)? {
                return Err(taken(path));
            }
            Ok(Self { writer: Mutex::new(Writer { _held: Some(held), ..Writer::open(path)? }) })
        })
    }

    /// Opens the file, making it where it is not there, and holds its columns against the contract. A collector may
    /// have it open meanwhile.
    ///
    /// # Errors
    /// It cannot be opened, is no database of this program, or has other columns.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        as_owner(path, || {
            create_file(path).map_err(|error| not_opened(path, &error))?;
            refuse_newer(path)?;
            Ok(Self { writer: Mutex::new(Writer::open(path)?) })
        })
    }

    /// Opens the file where a collector has made it. A collector may have it open meanwhile.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`], or there is none yet.
    pub fn open_existing(path: &Path) -> Result<Self, StorageError> {
        as_owner(path, || {
            if !is_made(path)? {
                return Err(StorageError::NotYet(path.display().to_string()));
            }
            Ok(Self { writer: Mutex::new(Writer::open(path)?) })
        })
    }

    /// Does what [`SqliteStore::open_alone`] needs to work, and undoes it.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open_alone`], but for another collector.
    pub fn try_out(path: &Path) -> Result<Trial, StorageError> {
        as_owner(path, || {
            if !path.try_exists().map_err(|error| not_opened(path, &error))? {
                return try_to_make(path).map(|()| Trial::NotYet);
            }
            OpenOptions::new().append(true).open(path).map_err(|error| not_opened(path, &error))?;
            refuse_newer(path)?;
            let held = match File::open(lock_of(path)?) {
                Ok(lock) => !is_free(&lock, path)?,
                Err(_) => false,
            };
            let connection = Connection::open(path).map_err(|error| not_opened(path, &error))?;
            let tried = try_to_set_up(connection).map_err(|error| named(path, error))?;
            Ok(if held { Trial::Taken(taken(path)) } else { tried })
        })
    }

    fn ask<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut Writer) -> Result<T, StorageError> + Send + 'a,
    ) -> Working<'a, T> {
        Box::pin(async move {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let done = work(&mut writer)?;
            // What went to a file without a name is not stored.
            writer.check_place()?;
            Ok(done)
        })
    }
}

impl PingStore for SqliteStore {
    fn admit(&self, arrivals: Vec<Arrival>) -> Working<'_, Vec<RowOutcome>> {
        self.ask(move |writer| writer.admit(&arrivals))
    }

    fn size(&self) -> Working<'_, u64> {
        self.ask(|writer| writer.size())
    }

    fn purge(&self, now: Timestamp) -> Working<'_, Purged> {
        Box::pin(async move {
            let old = self.ask(move |writer| writer.old_days(now)).await?;
            for day in &old {
                self.ask(|writer| writer.drop_day(*day)).await?;
                // Between two days is time for a commit, or for a stop.
                yield_now().await;
            }
            self.ask(Writer::empty_log).await?;
            Ok(Purged { days: old.len() as u64, elsewhere: false })
        })
    }

    fn span(&self) -> Working<'_, Option<Span>> {
        self.ask(Writer::span)
    }

    fn probe(&self) -> Working<'_, ()> {
        self.ask(|writer| writer.probe())
    }
}

/// A SQLite file to read from, while a collector may write it.
#[derive(Clone, Debug)]
pub struct SqliteReader {
    path: PathBuf,
}

impl SqliteReader {
    /// A reader of that file.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn open(&self) -> Result<Connection, StorageError> {
        let not_yet = || StorageError::NotYet(self.path.display().to_string());
        if !self.path.try_exists().map_err(|error| not_opened(&self.path, &error))? {
            return Err(not_yet());
        }
        refuse_newer(&self.path)?;
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(|error| not_opened(&self.path, &error))?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // This opens the log, too.
        if version_of(&connection)? == 0 { Err(not_yet()) } else { Ok(connection) }
    }

    fn read(&self, since: Timestamp, visit: &mut Visitor<'_>) -> Result<(), StorageError> {
        let connection = as_owner(&self.path, || self.open())?;
        // One transaction, so that all is read as of one moment.
        let reading = connection.unchecked_transaction()?;
        let days = days(&reading)?;
        for day in &days {
            check_columns(&reading, &day_table(*day))?;
        }
        for day in days.into_iter().filter(|day| *day >= day_of(since)) {
            let table = day_table(day);
            let query = format!("SELECT {} FROM {table} WHERE {RECEIVED_AT} >= ?1 ORDER BY rowid", column_list());
            let mut statement = reading.prepare(&query)?;
            let mut rows = statement.query([time_text(since)])?;
            while let Some(row) = rows.next()? {
                visit(read_row(row, day)?);
            }
        }
        Ok(())
    }
}

impl Read for SqliteReader {
    /// Blocks the thread: only commands read.
    fn scan<'a>(&'a self, since: Timestamp, visit: &'a mut Visitor<'_>) -> Scanning<'a> {
        Box::pin(async move { self.read(since, visit) })
    }
}

/// The one connection that writes.
struct Writer {
    connection: Connection,
    path: PathBuf,
    /// The files that the connection has open: their names, and which files they were.
    place: Vec<(PathBuf, DatabaseFileId)>,
    /// The days that have a table, with their statements.
    days: BTreeMap<Date, Statements>,
    /// SQLite's mark of what others have changed, when the days were read.
    seen: Option<i64>,
    /// The lock of the one collector.
    _held: Option<File>,
}

/// Which file it is, whatever its name: its file system and its number there.
type DatabaseFileId = (u64, u64);

/// The statements of one day's table.
struct Statements {
    insert: String,
    /// Whether one of the newest rows of an ID is equal to this one, and of a time between those two.
    find: String,
    /// How many rows an ID has, up to [`ROWS_PER_ID`].
    count: String,
    /// Whether an ID has any.
    has: String,
}

impl Writer {
    /// Opens a file that is there.
    fn open(path: &Path) -> Result<Self, StorageError> {
        let connection = Connection::open(path).map_err(|error| not_opened(path, &error))?;
        let (place, days) = (Vec::new(), BTreeMap::new());
        let mut writer = Self { connection, path: path.to_owned(), place, days, seen: None, _held: None };
        writer.set_up().map_err(|error| named(path, error))?;
        Ok(writer)
    }

    fn set_up(&mut self) -> Result<(), StorageError> {
        let connection = &mut self.connection;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        version_of(connection)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "secure_delete", true)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        bring_up_to_date(&transaction)?;
        read_days(&transaction, &mut self.days, &mut self.seen)?;
        transaction.commit()?;
        self.place = [self.path.clone(), beside(&self.path, LOG), beside(&self.path, LOG_INDEX)]
            .into_iter()
            .map(|path| file_id(&path).map(|id| (path, id)))
            .collect::<Result<_, _>>()
            .map_err(|error| StorageError::Failed(error.to_string()))?;
        Ok(())
    }

    /// Whether the files still have their names: SQLite itself goes on with files that were removed.
    fn check_place(&self) -> Result<(), StorageError> {
        match self.place.iter().find(|(path, id)| file_id(path).ok() != Some(*id)) {
            None => Ok(()),
            Some((path, _)) => Err(StorageError::Failed(format!(
                "{} was removed, or another file was put in its place, while the collector runs; nothing is \
                 acknowledged: move the old file back, or restart the collector, which goes on with what is there",
                path.display()
            ))),
        }
    }

    fn admit(&mut self, arrivals: &[Arrival]) -> Result<Vec<RowOutcome>, StorageError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        read_days(&transaction, &mut self.days, &mut self.seen)?;
        let mut added = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(arrivals.len());
        for Arrival { row, may_be_new } in arrivals {
            let day = day_of(row.received_at);
            if !self.days.contains_key(&day) && !added.contains_key(&day) {
                create_day(&transaction, day)?;
                added.insert(day, Statements::new(day));
            }
            let mut days: Vec<_> = self.days.iter().chain(&added).collect();
            days.sort_unstable_by_key(|(day, _)| Reverse(**day));
            let outcome = judge(&transaction, &days, row, *may_be_new)?;
            if matches!(outcome, RowOutcome::Stored { .. })
                && let Some((_, Statements { insert, .. })) = days.iter().find(|(known, _)| **known == day)
            {
                let time = time_text(row.received_at);
                let values = std::iter::once(&time as &dyn ToSql);
                let values = values.chain(row.cells.iter().map(|cell| cell as &dyn ToSql));
                transaction.prepare_cached(insert)?.execute(params_from_iter(values))?;
            }
            outcomes.push(outcome);
        }
        transaction.commit()?;
        self.days.append(&mut added);
        Ok(outcomes)
    }

    fn size(&self) -> Result<u64, StorageError> {
        let number = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let pages = number("page_count")? - number("freelist_count")?;
        Ok((pages * number("page_size")?).unsigned_abs())
    }

    fn old_days(&mut self, now: Timestamp) -> Result<Vec<Date>, StorageError> {
        let kept = first_day_kept(now)..=last_day_kept(now);
        read_days(&self.connection, &mut self.days, &mut self.seen)?;
        Ok(self.days.keys().filter(|day| !kept.contains(day)).copied().collect())
    }

    fn drop_day(&mut self, day: Date) -> Result<(), StorageError> {
        self.connection.flush_prepared_statement_cache();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(&format!("DROP VIEW IF EXISTS {VIEW}; DROP TABLE IF EXISTS {}", day_table(day)))?;
        make_view(&transaction)?;
        transaction.commit()?;
        self.days.remove(&day);
        Ok(())
    }

    /// Also where nothing was dropped: a reader may have kept the log from being emptied the last time.
    fn empty_log(&mut self) -> Result<(), StorageError> {
        let busy: bool = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy {
            return Err(StorageError::Failed(
                "a reader kept the write-ahead log from being emptied; it is tried again".to_owned(),
            ));
        }
        Ok(())
    }

    fn span(&mut self) -> Result<Option<Span>, StorageError> {
        let transaction = self.connection.transaction()?;
        read_days(&transaction, &mut self.days, &mut self.seen)?;
        span(&transaction, &self.days)
    }

    /// Writes a page and flushes it: the version again, as it is.
    fn probe(&self) -> Result<(), StorageError> {
        Ok(self.connection.pragma_update(None, "user_version", SCHEMA_VERSION)?)
    }
}

impl Statements {
    fn new(day: Date) -> Self {
        let (table, columns) = (day_table(day), column_list());
        let places: Vec<String> = (1..=FIELDS.len() + 1).map(|at| format!("?{at}")).collect();
        let equal: Vec<String> =
            FIELDS.iter().zip(&places[1..]).map(|(field, place)| format!("{} IS {place}", field.name)).collect();
        Self {
            insert: format!("INSERT INTO {table} ({columns}) VALUES ({})", places.join(", ")),
            // By the row's number, which the index holds too: no row but these is looked at.
            find: format!(
                "SELECT 1 FROM (SELECT * FROM {table} WHERE install_id = ?2 ORDER BY rowid DESC LIMIT {COMPARED_ROWS}) \
                 WHERE {RECEIVED_AT} BETWEEN ?1 AND ?{} AND {}",
                FIELDS.len() + 2,
                equal.join(" AND ")
            ),
            count: format!("SELECT count(*) FROM (SELECT 1 FROM {table} WHERE install_id = ?1 LIMIT {ROWS_PER_ID})"),
            has: format!("SELECT 1 FROM {table} WHERE install_id = ?1 LIMIT 1"),
        }
    }
}

/// What is to become of a row. `days` are all days, the newest first.
fn judge(
    transaction: &Transaction<'_>,
    days: &[(&Date, &Statements)],
    row: &Row,
    may_be_new: bool,
) -> Result<RowOutcome, StorageError> {
    if is_duplicate(transaction, days, row)? {
        return Ok(RowOutcome::Duplicate);
    }
    let today = day_of(row.received_at);
    let (id, mut rows) = (&row.cells[ID], 0);
    if let Some((_, Statements { count, .. })) = days.iter().find(|(day, _)| **day == today) {
        rows = transaction.prepare_cached(count)?.query_row([id], |row| row.get::<_, u32>(0))?;
    }
    let mut is_known = rows > 0;
    // A known ID was seen yesterday, as a rule, so this ends soon.
    for (_, Statements { has, .. }) in days {
        if is_known {
            break;
        }
        is_known = transaction.prepare_cached(has)?.exists([id])?;
    }
    Ok(match () {
        () if rows >= ROWS_PER_ID => RowOutcome::TooManyRows,
        () if is_known || may_be_new => RowOutcome::Stored { new_id: !is_known },
        () => RowOutcome::UnknownId,
    })
}

/// Whether the same ping is stored already, on its day or, near midnight, on the day beside it.
fn is_duplicate(transaction: &Transaction<'_>, days: &[(&Date, &Statements)], row: &Row) -> Result<bool, StorageError> {
    let (since, until) = duplicate_window(row.received_at);
    let (from, to) = (time_text(since), time_text(until));
    for (_, Statements { find, .. }) in days.iter().filter(|(day, _)| (day_of(since)..=day_of(until)).contains(day)) {
        let values = std::iter::once(&from as &dyn ToSql).chain(row.cells.iter().map(|cell| cell as &dyn ToSql));
        let values = values.chain(std::iter::once(&to as &dyn ToSql));
        if transaction.prepare_cached(find)?.exists(params_from_iter(values))? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Count(count) => ToSqlOutput::Borrowed(ValueRef::Integer(i64::from(*count))),
            Self::Flag(flag) => ToSqlOutput::Borrowed(ValueRef::Integer(i64::from(*flag))),
        })
    }
}

/// Opens the file, and makes it where it is not there, so that nobody else can read it. The log beside it takes its
/// mode from it.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(path)
}

/// Does something with a database, as root with the rights of the owner of its directory.
fn as_owner<T>(file: &Path, work: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    acting::as_owner(file.parent().unwrap_or_else(|| Path::new("/")), || {
        refuse_planted(file)?;
        work()
    })
}

/// Refuses what somebody may have put in the place of a database or of a file beside it. To open a pipe would take for
/// ever, and a link could lead root to a file that only root may read.
fn refuse_planted(file: &Path) -> Result<(), StorageError> {
    let failed = |path: &Path, what: &str| Err(StorageError::Failed(format!("{} {what}", path.display())));
    // One that is not there yet has nothing beside it.
    let Ok(found) = file.metadata() else { return Ok(()) };
    if !found.is_file() {
        return failed(file, "is not a file");
    }
    if !acting::may_read(&found) {
        return failed(file, "belongs to somebody else than the directory that it is in: see where it comes from");
    }
    let real = file.canonicalize().map_err(|error| not_opened(file, &error))?;
    for end in [LOCK, LOG, LOG_INDEX] {
        let beside = beside(&real, end);
        if beside.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            return failed(&beside, "is not a file");
        }
    }
    Ok(())
}

/// The file beside the database whose name ends so.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn file_id(path: &Path) -> io::Result<DatabaseFileId> {
    path.metadata().map(|file| (file.dev(), file.ino()))
}

/// What a start would find.
#[derive(Debug)]
pub enum Trial {
    /// A storage that it can take.
    Free,
    /// None, and one can be made.
    NotYet,
    /// A storage that another collector has, and what the start would say of it.
    Taken(StorageError),
}

/// Where the lock of the one collector is: beside the file's one true name, for two collectors may be told different
/// ones.
fn lock_of(path: &Path) -> Result<PathBuf, StorageError> {
    Ok(beside(&path.canonicalize().map_err(|error| not_opened(path, &error))?, LOCK))
}

/// Takes the lock, where no other collector has it.
fn is_free(lock: &File, path: &Path) -> Result<bool, StorageError> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(not_opened(path, &error)),
    }
}

fn taken(path: &Path) -> StorageError {
    StorageError::Failed(format!(
        "another collector takes pings into {} already: stop it, or give this one a file of its own (several \
         collectors can share a PostgreSQL)",
        path.display()
    ))
}

/// Refuses what a newer program wrote before SQLite touches it: merely to open a file may empty the log beside it.
fn refuse_newer(path: &Path) -> Result<(), StorageError> {
    let mut head = [0; HEAD];
    let mut file = File::open(path).map_err(|error| not_opened(path, &error))?;
    // A file that ends before is empty, or no database; the latter is found later.
    if file.read_exact(&mut head).is_err() {
        return Ok(());
    }
    let version = head.get(VERSION_AT..VERSION_AT + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
    let is_database = head.starts_with(b"SQLite format 3\0");
    check_version(version.filter(|_| is_database).unwrap_or_default().into())
        .map(drop)
        .map_err(|error| named(path, error))
}

/// Whether a collector has made the storage.
fn is_made(path: &Path) -> Result<bool, StorageError> {
    if !path.try_exists().map_err(|error| not_opened(path, &error))? {
        return Ok(false);
    }
    refuse_newer(path)?;
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|error| not_opened(path, &error))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(version_of(&connection)? > 0)
}

/// Makes a storage beside the one that is to be made, and removes it.
fn try_to_make(path: &Path) -> Result<(), StorageError> {
    let trial = beside(path, TRIAL);
    let remove = || {
        for end in ["", LOG, LOG_INDEX] {
            // It is not there where it could not be made.
            let _ = std::fs::remove_file(beside(&trial, end));
        }
    };
    remove();
    let tried = create_file(&trial).map_err(|error| not_opened(path, &error)).and_then(|_| Writer::open(&trial));
    let tried = tried.map(drop);
    remove();
    // In the words of a start.
    tried.map_err(|error| match error {
        StorageError::Failed(text) => {
            StorageError::Failed(text.replace(&trial.display().to_string(), &path.display().to_string()))
        }
        other => other,
    })
}

/// Sets everything up in a transaction that is then rolled back.
fn try_to_set_up(mut connection: Connection) -> Result<Trial, StorageError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let is_new = version_of(&connection)? == 0;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    bring_up_to_date(&transaction)?;
    let mut days = BTreeMap::new();
    read_days(&transaction, &mut days, &mut None)?;
    span(&transaction, &days)?;
    transaction.rollback()?;
    Ok(if is_new { Trial::NotYet } else { Trial::Free })
}

fn span(transaction: &Transaction<'_>, days: &BTreeMap<Date, Statements>) -> Result<Option<Span>, StorageError> {
    let end = |day: &Date, end: &str| {
        let query = format!("SELECT {RECEIVED_AT} FROM {} ORDER BY rowid {end} LIMIT 1", day_table(*day));
        let at: Option<String> = transaction.query_row(&query, [], |row| row.get(0)).optional()?;
        at.map(|at| time_of(&at).ok_or_else(|| unreadable(RECEIVED_AT, *day))).transpose()
    };
    let oldest = days.keys().find_map(|day| end(day, "ASC").transpose()).transpose()?;
    let newest = days.keys().rev().find_map(|day| end(day, "DESC").transpose()).transpose()?;
    Ok(oldest.zip(newest).map(|(oldest, newest)| Span { oldest, newest }))
}

fn bring_up_to_date(transaction: &Transaction<'_>) -> Result<(), StorageError> {
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    // The view may come from a program that knew other later columns.
    make_view(transaction)
}

/// The error with the file's name.
fn named(path: &Path, error: StorageError) -> StorageError {
    match error {
        StorageError::Failed(text) => StorageError::Failed(format!("failed to open {}: {text}", path.display())),
        other => other,
    }
}

/// The version of what is in the file; 0 where nothing is.
fn version_of(connection: &Connection) -> Result<i64, StorageError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    check_version(version)
}

fn check_version(version: i64) -> Result<i64, StorageError> {
    if (0..=SCHEMA_VERSION).contains(&version) {
        return Ok(version);
    }
    Err(StorageError::Failed(format!(
        "its version is {version}, and this program knows {SCHEMA_VERSION}: use the newer program"
    )))
}

/// Reads which days have a table, where another process has changed anything since `seen`, as a purge by hand does; and
/// holds their columns against the contract.
fn read_days(
    connection: &Connection,
    known: &mut BTreeMap<Date, Statements>,
    seen: &mut Option<i64>,
) -> Result<(), StorageError> {
    let mark: i64 = connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
    if *seen != Some(mark) {
        let days = days(connection)?;
        for day in &days {
            check_columns(connection, &day_table(*day))?;
        }
        *known = days.into_iter().map(|day| (day, Statements::new(day))).collect();
        *seen = Some(mark);
    }
    Ok(())
}

fn create_day(transaction: &Transaction<'_>, day: Date) -> Result<(), StorageError> {
    let table = day_table(day);
    let columns: Vec<String> = expected_columns()
        .iter()
        .zip(std::iter::once(true).chain(FIELDS.iter().map(pulse_telemetry_core::contract::Field::required)))
        .map(|(Column { name, kind }, required)| format!("{name} {kind}{}", if required { " NOT NULL" } else { "" }))
        .collect();
    transaction.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {table} ({}) STRICT;
         CREATE INDEX IF NOT EXISTS {table}_by_id ON {table} (install_id);",
        columns.join(", ")
    ))?;
    make_view(transaction)
}

/// What Pulse's own adoption report reads. Rows older than 90 days are not in it, whether they were purged or not.
fn make_view(transaction: &Transaction<'_>) -> Result<(), StorageError> {
    let later: String = LATER_COLUMNS.iter().map(|name| format!(", NULL AS {name}")).collect();
    let columns = column_list();
    let days = days(transaction)?;
    let of_a_day = |day: &Date| {
        let number = (day.duration_since(jiff::civil::date(1970, 1, 1)).as_hours() / 24) << DAY_SHIFT;
        format!(
            "SELECT {number} + rowid AS rowid, {columns}{later} FROM {} WHERE {RECEIVED_AT} >= datetime('now', \
             '-{RETENTION_DAYS} days') AND {RECEIVED_AT} <= datetime('now', '+1 day')",
            day_table(*day)
        )
    };
    let nothing = || {
        let nulls: String = FIELDS.iter().map(|field| format!(", NULL AS {}", field.name)).collect();
        format!("SELECT NULL AS rowid, NULL AS {RECEIVED_AT}{nulls}{later} WHERE 0")
    };
    let body =
        if days.is_empty() { nothing() } else { days.iter().map(of_a_day).collect::<Vec<_>>().join(" UNION ALL ") };
    transaction.execute_batch(&format!("DROP VIEW IF EXISTS {VIEW}; CREATE VIEW {VIEW} AS {body}"))?;
    Ok(())
}

/// The days that have a table, the oldest first.
fn days(connection: &Connection) -> Result<Vec<Date>, StorageError> {
    let mut statement = connection
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB ?1 || '*' ORDER BY name")?;
    let names = statement.query_map([DAY_PREFIX], |row| row.get::<_, String>(0))?;
    let names: Vec<String> = names.collect::<Result<_, _>>()?;
    Ok(names.iter().filter_map(|name| day_of_table(name)).collect())
}

fn check_columns(connection: &Connection, table: &str) -> Result<(), StorageError> {
    let mut statement = connection.prepare("SELECT name, type FROM pragma_table_info(?1) ORDER BY cid")?;
    let found = statement.query_map([table], |row| Ok(Column { name: row.get(0)?, kind: row.get(1)? }))?;
    compare_columns(table, &found.collect::<Result<Vec<_>, _>>()?, &expected_columns())
}

fn expected_columns() -> Vec<Column> {
    let column = |name: &str, kind: &str| Column { name: name.to_owned(), kind: kind.to_owned() };
    let fields = FIELDS.iter().map(|field| match field.kind {
        FieldKind::Count | FieldKind::Flag => column(field.name, "INTEGER"),
        FieldKind::InstallId | FieldKind::Text { .. } | FieldKind::Word | FieldKind::Choice(_) => {
            column(field.name, "TEXT")
        }
    });
    std::iter::once(column(RECEIVED_AT, "TEXT")).chain(fields).collect()
}

fn read_row(row: &rusqlite::Row<'_>, day: Date) -> Result<Row, StorageError> {
    let mut cells = Box::new([const { Cell::Null }; FIELDS.len()]);
    for (at, (field, cell)) in FIELDS.iter().zip(&mut *cells).enumerate() {
        let found = match (field.kind, row.get_ref(at + 1)?) {
            (_, ValueRef::Null) => (!field.required()).then_some(Cell::Null),
            (FieldKind::Flag, ValueRef::Integer(flag)) => (0..=1).contains(&flag).then_some(Cell::Flag(flag == 1)),
            (FieldKind::Count, ValueRef::Integer(count)) => u32::try_from(count).ok().map(Cell::Count),
            (FieldKind::Flag | FieldKind::Count, _) => None,
            (_, value) => value.as_str().ok().map(|text| Cell::Text(text.to_owned())),
        };
        *cell = found.ok_or_else(|| unreadable(field.name, day))?;
    }
    let received_at = row.get_ref(0)?.as_str().ok().and_then(time_of);
    Ok(Row { received_at: received_at.ok_or_else(|| unreadable(RECEIVED_AT, day))?, cells })
}

/// A time as it is stored.
pub(super) fn time_text(at: Timestamp) -> String {
    Offset::UTC.to_datetime(at).strftime(TIME_FORM).to_string()
}

fn time_of(text: &str) -> Option<Timestamp> {
    let local = jiff::civil::DateTime::strptime(TIME_FORM, text).ok()?;
    Offset::UTC.to_timestamp(local).ok()
}

fn not_opened(path: &Path, error: &dyn std::error::Error) -> StorageError {
    StorageError::Failed(format!("failed to open {}: {error}", path.display()))
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(format!("SQLite: {error}"))
    }
}
