//! The tables, their version, and how a value is stored.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use pulse_telemetry_core::contract::{FIELDS, FieldKind};
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, Transaction};

use super::files::named;
use crate::ingest::Cell;
use crate::numbers::rounding::KEY_LENGTH;
use crate::storage::LATER_COLUMNS;
use crate::storage::{
    Column, DAY_PREFIX, PUBLISHED_DAYS, RECEIVED_AT, RETENTION_DAYS, ROUNDING_KEY, Row, StorageError, VIEW,
    column_list, compare_columns, day_of_table, day_table, unreadable,
};

/// The version of what is in the file. A collector that knows only 1 may be one that sweeps nothing.
pub(super) const SCHEMA_VERSION: i64 = 2;

/// How long another process may hold the file, as a report does for a moment.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A row's number in the view is its day's number, this many bits up, and its number within the day.
const DAY_SHIFT: u32 = 32;

/// The form of `received_at`, which Pulse's own reports compare with `datetime('now', …)`.
const TIME_FORM: &str = "%Y-%m-%d %H:%M:%S";

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

/// What stands in the head of a file.
pub(super) struct DatabaseHead {
    version: i64,
    /// What the sweep wrote there.
    pub(super) mark: i64,
}

/// The head as the file itself has it, whatever stands in its log; `None` where it has none that can be read. Read by
/// SQLite, which knows what else this process has open: any other closing of the file would drop the locks by which
/// other programs know that a collector has it.
pub(super) fn head_of(path: &Path) -> Option<DatabaseHead> {
    // Every byte that may mean something there as a number.
    let name: String = path.as_os_str().as_bytes().iter().fold("file://".to_owned(), |name, byte| match byte {
        b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => name + &char::from(*byte).to_string(),
        byte => name + &format!("%{byte:02X}"),
    });
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(name + "?immutable=1", flags).ok()?;
    // While the log is moved into the file, its head may tell of pages that are not there yet.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true).ok()?;
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get(0)).ok();
    Some(DatabaseHead { version: number("user_version")?, mark: number("application_id")? })
}

/// Refuses what a newer program wrote before it is opened to be written: merely that may empty the log beside it. What
/// is no database is found later.
pub(super) fn refuse_newer(path: &Path) -> Result<(), StorageError> {
    let version = head_of(path).map_or(0, |head| head.version);
    check_version(version).map(drop).map_err(|error| named(path, error))
}

pub(super) fn bring_up_to_date(transaction: &Transaction<'_>) -> Result<(), StorageError> {
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {PUBLISHED_DAYS} (day TEXT PRIMARY KEY NOT NULL, numbers TEXT NOT NULL) STRICT;
         CREATE TABLE IF NOT EXISTS {ROUNDING_KEY} (key BLOB NOT NULL) STRICT;
         INSERT INTO {ROUNDING_KEY} SELECT randomblob({KEY_LENGTH}) WHERE NOT EXISTS (SELECT 1 FROM {ROUNDING_KEY})"
    ))?;
    // The view may come from a program that knew other later columns.
    make_view(transaction)
}

/// The version of what is in the file; 0 where nothing is.
pub(super) fn version_of(connection: &Connection) -> Result<i64, StorageError> {
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

pub(super) fn create_day(transaction: &Transaction<'_>, day: Date) -> Result<(), StorageError> {
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
pub(super) fn make_view(transaction: &Transaction<'_>) -> Result<(), StorageError> {
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
pub(super) fn days(connection: &Connection) -> Result<Vec<Date>, StorageError> {
    let mut statement = connection
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB ?1 || '*' ORDER BY name")?;
    let names = statement.query_map([DAY_PREFIX], |row| row.get::<_, String>(0))?;
    let names: Vec<String> = names.collect::<Result<_, _>>()?;
    Ok(names.iter().filter_map(|name| day_of_table(name)).collect())
}

pub(super) fn check_columns(connection: &Connection, table: &str) -> Result<(), StorageError> {
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

pub(super) fn read_row(row: &rusqlite::Row<'_>, day: Date) -> Result<Row, StorageError> {
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
pub(crate) fn time_text(at: Timestamp) -> String {
    Offset::UTC.to_datetime(at).strftime(TIME_FORM).to_string()
}

pub(super) fn time_of(text: &str) -> Option<Timestamp> {
    let local = jiff::civil::DateTime::strptime(TIME_FORM, text).ok()?;
    Offset::UTC.to_timestamp(local).ok()
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(format!("SQLite: {error}"))
    }
}
