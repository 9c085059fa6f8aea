//! SQLite: one file, one connection that writes it, one table for each UTC day.
//!
//! A commit is on the disk when it is answered (`synchronous=FULL`). What is dropped or deleted is overwritten with
//! zeros (`secure_delete` and `sweep`), and the write-ahead log is emptied after it, so that its bytes are in neither
//! file.

mod files;
mod published;
mod schema;
mod writer;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use jiff::civil::Date;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::task::yield_now;

pub(super) use self::files::create_file;
use self::files::{
    LOG, LOG_INDEX, TRIAL, as_owner, beside, is_free, lock_of, named, not_opened, refuse_other_names, taken,
};
use self::published::{publication, scan_day};
pub(super) use self::schema::time_text;
use self::schema::{BUSY_TIMEOUT, bring_up_to_date, check_columns, days, read_row, refuse_newer, version_of};
use self::writer::{Writer, read_days, span};
use super::storage::{
    Arrival, DayVisitor, PendingRead, PingStore, Publication, PublishedDay, Purged, RECEIVED_AT, Read, RowOutcome,
    Span, StorageError, Visitor, Working, column_list, day_of, day_table,
};

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
            let file = create_file(path).map_err(|error| not_opened(path, &error))?;
            refuse_other_names(path)?;
            refuse_newer(path)?;
            let lock = lock_of(path)?;
            let beside = create_file(&lock).map_err(|error| not_opened(&lock, &error))?;
            if !is_free(&beside, &lock)? || !is_free(&file, path)? {
                return Err(taken(path));
            }
            Ok(Self { writer: Mutex::new(Writer::open(path)?.holding([beside, file])) })
        })
    }

    /// Opens the file, making it where it is not there, and holds its columns against the contract. A collector may
    /// have it open meanwhile.
    ///
    /// # Errors
    /// It cannot be opened, is no database of this program, or has other columns.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        as_owner(path, || {
            if !path.try_exists().map_err(|error| not_opened(path, &error))? {
                create_file(path).map_err(|error| not_opened(path, &error))?;
            }
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
            // Closed after the connection.
            let file = OpenOptions::new().append(true).open(path).map_err(|error| not_opened(path, &error))?;
            refuse_other_names(path)?;
            refuse_newer(path)?;
            let of_file = is_free(&file, path)?;
            // A start meanwhile is not to find it taken.
            file.unlock().map_err(|error| not_opened(path, &error))?;
            let held = match File::open(lock_of(path)?) {
                Ok(lock) => !of_file || !is_free(&lock, path)?,
                Err(_) => !of_file,
            };
            let connection = Connection::open(path).map_err(|error| not_opened(path, &error))?;
            let in_the_log: i64 = connection
                .query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1))
                .map_err(|error| named(path, error.into()))?;
            // Nothing of the log goes into the file before it is swept.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, in_the_log > 0)?;
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

    fn forget(&self, ids: Vec<String>) -> Working<'_, usize> {
        self.ask(move |writer| writer.forget(&ids))
    }

    fn tidy(&self) -> Working<'_, ()> {
        self.ask(Writer::tidy)
    }

    fn size(&self) -> Working<'_, u64> {
        self.ask(|writer| writer.size())
    }

    fn purge(&self, now: Timestamp) -> Working<'_, Purged> {
        Box::pin(async move {
            let old = self.ask(move |writer| writer.old_days(now)).await?;
            let mut failed = None;
            for day in &old {
                // One that fails keeps no other: it would be the first one again the next time.
                if let Err(error) = self.ask(|writer| writer.drop_day(*day)).await {
                    failed.get_or_insert(error);
                }
                // Between two days is time for a commit, or for a stop.
                yield_now().await;
            }
            self.ask(Writer::empty_log).await?;
            failed.map_or(Ok(Purged { days: old.len() as u64, lock_held_by_other: false }), Err)
        })
    }

    fn span(&self) -> Working<'_, Option<Span>> {
        self.ask(Writer::span)
    }

    fn keep_published(&self, published: PublishedDay) -> Working<'_, ()> {
        self.ask(move |writer| writer.keep_published(&published))
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
    fn scan<'a>(&'a self, since: Timestamp, visit: &'a mut Visitor<'_>) -> PendingRead<'a, ()> {
        Box::pin(async move { self.read(since, visit) })
    }

    fn scan_day<'a>(&'a self, day: Date, since: Date, visit: &'a mut DayVisitor<'_>) -> PendingRead<'a, ()> {
        Box::pin(async move {
            let connection = as_owner(&self.path, || self.open())?;
            let reading = connection.unchecked_transaction()?;
            scan_day(&reading, day, since, visit)
        })
    }

    fn publication(&self) -> PendingRead<'_, Publication> {
        Box::pin(async move { publication(&as_owner(&self.path, || self.open())?) })
    }

    fn days(&self) -> PendingRead<'_, Vec<Date>> {
        Box::pin(async move { days(&as_owner(&self.path, || self.open())?) })
    }
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
