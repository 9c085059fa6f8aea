//! A SQLite file that Pulse's own adoption report reads.

use std::io;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_core::contract::{FIELDS, FieldKind};
use rusqlite::{Connection, params_from_iter};

use super::ingest::Cell;
use super::sqlite::time_text;
use super::storage::{LATER_COLUMNS, RECEIVED_AT, Read, StorageError, VIEW, column_list, readable_since};

/// Writes the rows of the last 90 days into a new file, which appears under its name when it is complete. Says how many
/// there are.
///
/// # Errors
/// The file is there already or cannot be written, or the storage cannot be read.
pub async fn export(store: &dyn Read, now: Timestamp, path: &Path) -> Result<u64, StorageError> {
    let failed = |error: io::Error| StorageError::Failed(format!("failed to write {}: {error}", path.display()));
    if path.try_exists().map_err(failed)? {
        return Err(StorageError::Failed(format!("{} is there already: name a file that is not", path.display())));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = Path::new(&name);
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    super::sqlite::create_file(temporary).map_err(failed)?;
    let written = match write(store, now, temporary).await {
        Ok(count) => std::fs::rename(temporary, path).map(|()| count).map_err(failed),
        Err(error) => Err(error),
    };
    if written.is_err() {
        // Half an export is of no use, and its rows should lie nowhere.
        let _ = std::fs::remove_file(temporary);
    }
    written
}

async fn write(store: &dyn Read, now: Timestamp, path: &Path) -> Result<u64, StorageError> {
    let mut connection = Connection::open(path)?;
    let kind = |kind: FieldKind| match kind {
        FieldKind::Count | FieldKind::Flag => "INTEGER",
        FieldKind::InstallId | FieldKind::Text { .. } | FieldKind::Word | FieldKind::Choice(_) => "TEXT",
    };
    let fields: String = FIELDS.iter().map(|field| format!(", {} {}", field.name, kind(field.kind))).collect();
    let later: String = LATER_COLUMNS.iter().map(|name| format!(", {name}")).collect();
    connection.execute_batch(&format!("CREATE TABLE {VIEW} ({RECEIVED_AT} TEXT NOT NULL{fields}{later})"))?;
    let places: Vec<String> = (1..=FIELDS.len() + 1).map(|at| format!("?{at}")).collect();
    let insert = format!("INSERT INTO {VIEW} ({}) VALUES ({})", column_list(), places.join(", "));
    let transaction = connection.transaction()?;
    let mut count = 0;
    let mut failed = None;
    {
        let mut statement = transaction.prepare(&insert)?;
        // Later than that is only what a clock that was wrong brought.
        let until = now.saturating_add(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MAX);
        let mut visit = |row: super::storage::Row| {
            if row.received_at > until {
                return;
            }
            let time = Cell::Text(time_text(row.received_at));
            let values = std::iter::once(&time).chain(&*row.cells);
            match statement.execute(params_from_iter(values)) {
                Ok(_) => count += 1,
                Err(error) => failed = Some(error),
            }
        };
        store.scan(readable_since(now, Timestamp::MIN), &mut visit).await?;
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    transaction.commit()?;
    Ok(count)
}
