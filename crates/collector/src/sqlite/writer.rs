//! The one connection that writes.

mod sweep;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use pulse_telemetry_core::contract::FIELDS;
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params_from_iter};

use self::sweep::Sweep;
pub(super) use self::sweep::begin;
use super::files::{DatabaseFileId, LOG, LOG_INDEX, beside, file_id, named, not_opened, real_name};
use super::schema::{
    BUSY_TIMEOUT, SCHEMA_VERSION, bring_up_to_date, check_columns, create_day, days, make_view, time_of, time_text,
    version_of,
};
use crate::storage::{
    Arrival, COMPARED_ROWS, FORGET_ROWS, ID, RECEIVED_AT, ROWS_PER_ID, Row, RowOutcome, Span, StorageError, VIEW,
    column_list, day_of, day_table, duplicate_window, first_day_kept, last_day_kept, unreadable,
};

/// How many statements are kept prepared: for each of 92 days one that looks for an ID, and four more for today and
/// yesterday.
const STATEMENTS: usize = 128;

/// SQLite's words where the disk is full.
const FULL: &str = "database or disk is full";

/// How many rows of a day are deleted at a time there, at most; a fourth of that where it is too many.
const PURGE_PORTION: u32 = 1024;

/// The one connection that writes.
pub(super) struct Writer {
    pub(super) connection: Connection,
    path: PathBuf,
    /// [`real_name`]
    real: PathBuf,
    /// The files that the connection has open: their names, and which files they were.
    place: Vec<(PathBuf, DatabaseFileId)>,
    /// The days that have a table, with their statements.
    days: BTreeMap<Date, Statements>,
    /// SQLite's mark of what others have changed, when the days were read.
    seen: Option<i64>,
    /// How far what deleted rows leave was wiped.
    sweep: Sweep,
    /// The locks of the one collector. The file is closed after the connection: before, that would drop SQLite's own.
    _held: Vec<File>,
}

/// The statements of one day's table.
pub(super) struct Statements {
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
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        let connection = Connection::open(path).map_err(|error| not_opened(path, &error))?;
        let real = real_name(path)?;
        let (place, days, sweep) = (Vec::new(), BTreeMap::new(), Sweep::default());
        let mut writer =
            Self { connection, path: path.to_owned(), real, place, days, seen: None, sweep, _held: Vec::new() };
        writer.set_up().map_err(|error| named(path, error))?;
        Ok(writer)
    }

    /// The same, which keeps these locks for as long as it lives.
    pub(super) fn holding(mut self, locks: [File; 2]) -> Self {
        self._held = locks.into();
        self
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
        self.sweep = Sweep::of(connection, &self.real)?;
        let transaction = begin(connection)?;
        bring_up_to_date(&transaction)?;
        read_days(&transaction, &mut self.days, &mut self.seen)?;
        transaction.commit()?;
        self.place = [self.path.clone(), beside(&self.real, LOG), beside(&self.real, LOG_INDEX)]
            .into_iter()
            .map(|path| file_id(&path).map(|id| (path, id)))
            .collect::<Result<_, _>>()
            .map_err(|error| StorageError::Failed(error.to_string()))?;
        Ok(())
    }

    /// Whether the files still have their names: SQLite itself goes on with files that were removed.
    pub(super) fn check_place(&self) -> Result<(), StorageError> {
        match self.place.iter().find(|(path, id)| file_id(path).ok() != Some(*id)) {
            None => Ok(()),
            Some((path, _)) => Err(StorageError::Failed(format!(
                "{} was removed, or another file was put in its place, while the collector runs; nothing is \
                 acknowledged: move the old file back, or restart the collector, which goes on with what is there",
                path.display()
            ))),
        }
    }

    pub(super) fn admit(&mut self, arrivals: &[Arrival]) -> Result<Vec<RowOutcome>, StorageError> {
        let transaction = begin(&mut self.connection)?;
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
        self.look_at_the_log()?;
        Ok(outcomes)
    }

    /// Deletes every row of the first of these IDs, as many as have `FORGET_ROWS` together, and says how many IDs
    /// that are.
    pub(super) fn forget(&mut self, ids: &[String]) -> Result<usize, StorageError> {
        let transaction = begin(&mut self.connection)?;
        read_days(&transaction, &mut self.days, &mut self.seen)?;
        let (mut done, mut rows) = (0, 0);
        for id in ids {
            for (day, Statements { has, .. }) in self.days.iter().rev() {
                if transaction.prepare_cached(has)?.exists([id])? {
                    let delete = format!("DELETE FROM {} WHERE install_id = ?1", day_table(*day));
                    rows += transaction.execute(&delete, [id])?;
                }
            }
            done += 1;
            if rows >= FORGET_ROWS {
                break;
            }
        }
        transaction.commit()?;
        if rows > 0 {
            self.sweep.rows_are_in_the_log = true;
            self.look_at_the_log()?;
        }
        Ok(done)
    }

    pub(super) fn size(&self) -> Result<u64, StorageError> {
        let number = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let pages = number("page_count")? - number("freelist_count")?;
        Ok((pages * number("page_size")?).unsigned_abs())
    }

    pub(super) fn old_days(&mut self, now: Timestamp) -> Result<Vec<Date>, StorageError> {
        let kept = first_day_kept(now)..=last_day_kept(now);
        read_days(&self.connection, &mut self.days, &mut self.seen)?;
        Ok(self.days.keys().filter(|day| !kept.contains(day)).copied().collect())
    }

    pub(super) fn drop_day(&mut self, day: Date) -> Result<(), StorageError> {
        self.connection.flush_prepared_statement_cache();
        match self.drop_table(day) {
            Err(StorageError::Failed(error)) if error.contains(FULL) => self.drop_in_portions(day)?,
            done => done?,
        }
        self.days.remove(&day);
        Ok(())
    }

    fn drop_table(&mut self, day: Date) -> Result<(), StorageError> {
        let transaction = begin(&mut self.connection)?;
        transaction.execute_batch(&format!("DROP VIEW IF EXISTS {VIEW}; DROP TABLE IF EXISTS {}", day_table(day)))?;
        make_view(&transaction)?;
        Ok(transaction.commit()?)
    }

    /// Where the disk has no room for a log of each page of a day, all of which are overwritten. What the log has taken
    /// of the disk by then, it uses again for one portion after the other.
    fn drop_in_portions(&mut self, day: Date) -> Result<(), StorageError> {
        let mut portion = PURGE_PORTION;
        loop {
            match self.delete_some(day, portion) {
                Ok(0) => return self.drop_table(day),
                Ok(_) => {
                    self.sweep_log()?;
                    self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
                }
                Err(StorageError::Failed(error)) if error.contains(FULL) && portion > 1 => portion /= 4,
                Err(error) => return Err(error),
            }
        }
    }

    fn delete_some(&mut self, day: Date, rows: u32) -> Result<usize, StorageError> {
        let (table, transaction) = (day_table(day), begin(&mut self.connection)?);
        let first = format!("SELECT rowid FROM {table} ORDER BY rowid LIMIT {rows}");
        let deleted = transaction.execute(&format!("DELETE FROM {table} WHERE rowid IN ({first})"), [])?;
        transaction.commit()?;
        Ok(deleted)
    }

    /// Also where nothing was dropped: a reader may have kept the log from being emptied the last time.
    pub(super) fn empty_log(&mut self) -> Result<(), StorageError> {
        self.sweep_log()?;
        let busy: bool = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy {
            return Err(StorageError::Failed(
                "a reader kept the write-ahead log from being emptied; it is tried again".to_owned(),
            ));
        }
        Ok(())
    }

    pub(super) fn span(&mut self) -> Result<Option<Span>, StorageError> {
        let transaction = self.connection.transaction()?;
        read_days(&transaction, &mut self.days, &mut self.seen)?;
        span(&transaction, &self.days)
    }

    /// Writes a page and flushes it: the version again, as it is.
    pub(super) fn probe(&self) -> Result<(), StorageError> {
        Ok(self.connection.pragma_update(None, "user_version", SCHEMA_VERSION)?)
    }
}

impl Drop for Writer {
    /// The last one to close the file moves the log into it.
    fn drop(&mut self) {
        // Where it does not work the next start begins with it.
        let _ = self.sweep_log();
    }
}

impl Statements {
    pub(super) fn new(day: Date) -> Self {
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
    if let Some(day) = stored_day(transaction, days, row)? {
        return Ok(RowOutcome::Duplicate { day });
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

/// The day of the same ping, where it is stored already: its own or, near midnight, the day beside it.
fn stored_day(
    transaction: &Transaction<'_>,
    days: &[(&Date, &Statements)],
    row: &Row,
) -> Result<Option<Date>, StorageError> {
    let (since, until) = duplicate_window(row.received_at);
    let (from, to) = (time_text(since), time_text(until));
    for (day, Statements { find, .. }) in days.iter().filter(|(day, _)| (day_of(since)..=day_of(until)).contains(day)) {
        let values = std::iter::once(&from as &dyn ToSql).chain(row.cells.iter().map(|cell| cell as &dyn ToSql));
        let values = values.chain(std::iter::once(&to as &dyn ToSql));
        if transaction.prepare_cached(find)?.exists(params_from_iter(values))? {
            return Ok(Some(**day));
        }
    }
    Ok(None)
}

pub(super) fn span(
    transaction: &Transaction<'_>,
    days: &BTreeMap<Date, Statements>,
) -> Result<Option<Span>, StorageError> {
    let end = |day: &Date, end: &str| {
        let query = format!("SELECT {RECEIVED_AT} FROM {} ORDER BY rowid {end} LIMIT 1", day_table(*day));
        let at: Option<String> = transaction.query_row(&query, [], |row| row.get(0)).optional()?;
        at.map(|at| time_of(&at).ok_or_else(|| unreadable(RECEIVED_AT, *day))).transpose()
    };
    let oldest = days.keys().find_map(|day| end(day, "ASC").transpose()).transpose()?;
    let newest = days.keys().rev().find_map(|day| end(day, "DESC").transpose()).transpose()?;
    Ok(oldest.zip(newest).map(|(oldest, newest)| Span { oldest, newest }))
}

/// Reads which days have a table, where another process has changed anything since `seen`, as a purge by hand does; and
/// holds their columns against the contract.
pub(super) fn read_days(
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
