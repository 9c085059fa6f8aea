//! A SQLite file that Pulse's own adoption report reads.

use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_core::contract::{FIELDS, FieldKind};
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::ingest::Cell;
use super::sqlite::time_text;
use super::storage::{LATER_COLUMNS, RECEIVED_AT, Read, StorageError, VIEW, column_list, readable_since};

/// A file that is made, and appears under its name when it is complete. Dropped before, it leaves nothing behind: half
/// an export is of no use, and its rows should lie nowhere.
pub struct Export {
    path: PathBuf,
    place: PathBuf,
    is_complete: bool,
}

impl Export {
    /// Makes it.
    ///
    /// # Errors
    /// The file is there already or cannot be written.
    pub fn new(path: &Path) -> Result<Self, StorageError> {
        if path.try_exists().map_err(|error| failed(path, &error))? {
            return Err(StorageError::Failed(format!("{} is there already: name a file that is not", path.display())));
        }
        let mut place = path.as_os_str().to_owned();
        place.push(".new");
        let place = PathBuf::from(place);
        // One that was killed has left it.
        match std::fs::remove_file(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(path, &error)),
            _ => {}
        }
        super::sqlite::create_file(&place).map_err(|error| failed(path, &error))?;
        Ok(Self { path: path.to_owned(), place, is_complete: false })
    }

    /// Where its rows are written until then.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// It cannot be given that.
    pub fn complete(mut self) -> Result<(), StorageError> {
        std::fs::rename(&self.place, &self.path).map_err(|error| failed(&self.path, &error))?;
        self.is_complete = true;
        Ok(())
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if !self.is_complete {
            let _ = std::fs::remove_file(&self.place);
        }
    }
}

fn failed(path: &Path, error: &io::Error) -> StorageError {
    StorageError::Failed(format!("failed to write {}: {error}", path.display()))
}

/// Writes the rows of the last 90 days into an empty file. Says how many there are.
///
/// # Errors
/// The file cannot be written, or the storage cannot be read.
pub async fn write_rows(store: &dyn Read, now: Timestamp, place: &Path) -> Result<u64, StorageError> {
    // Not made again, where it was removed meanwhile.
    let mut connection = Connection::open_with_flags(place, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // It is complete or removed, and a journal would be left beside it.
    connection.pragma_update(None, "journal_mode", "off")?;
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
