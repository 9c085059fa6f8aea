//! What is counted of a day, and what was published.

use jiff::civil::Date;
use pulse_telemetry_core::contract::{FIELDS, FieldKind};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::schema::{check_columns, days};
use super::writer::{Writer, begin};
use crate::numbers::{Lent, counted_fields};
use crate::storage::{
    DayVisitor, PUBLISHED_DAYS, Publication, PublishedDay, ROUNDING_KEY, StorageError, day_table, stored_key,
    unreadable, without_a_key,
};

/// Shows the last row of the day of each ID that has one on an earlier day, but none before `since`. An earlier one is
/// looked for by the index of each day, the newest first, where almost every ID is found.
pub(super) fn scan_day(
    reading: &Transaction<'_>,
    day: Date,
    since: Date,
    visit: &mut DayVisitor<'_>,
) -> Result<(), StorageError> {
    let known = days(reading)?;
    let earlier: Vec<String> = known
        .iter()
        .rev()
        .filter(|known| (since..day).contains(*known))
        .map(|earlier| format!("EXISTS (SELECT 1 FROM {} WHERE install_id = d.install_id)", day_table(*earlier)))
        .collect();
    if !known.contains(&day) || earlier.is_empty() {
        return Ok(());
    }
    let table = day_table(day);
    check_columns(reading, &table)?;
    let columns: Vec<&str> = counted_fields().map(|field| field.name).collect();
    let mut statement = reading.prepare(&format!(
        "SELECT {} FROM {table} AS d
         WHERE rowid = (SELECT max(rowid) FROM {table} WHERE install_id = d.install_id) AND ({})",
        columns.join(", "),
        earlier.join(" OR ")
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut values = [Lent::Flag(false); FIELDS.len()];
        let mut count = 0;
        for (field, value) in counted_fields().zip(&mut values) {
            let found = match (field.kind, row.get_ref(count)?) {
                (FieldKind::Flag, ValueRef::Integer(flag)) => (0..=1).contains(&flag).then_some(Lent::Flag(flag == 1)),
                (FieldKind::Count, ValueRef::Integer(count)) => u32::try_from(count).ok().map(Lent::Count),
                (FieldKind::Flag | FieldKind::Count, _) => None,
                (_, value) => value.as_str().ok().map(Lent::Text),
            };
            *value = found.ok_or_else(|| unreadable(field.name, day))?;
            count += 1;
        }
        visit(&values[..count]);
    }
    Ok(())
}

pub(super) fn publication(connection: &Connection) -> Result<Publication, StorageError> {
    let has_key: bool =
        connection.query_row("SELECT count(*) FROM sqlite_master WHERE name = ?1", [ROUNDING_KEY], |row| row.get(0))?;
    if !has_key {
        return Err(without_a_key());
    }
    let key = connection.query_row(&format!("SELECT key FROM {ROUNDING_KEY}"), [], |row| row.get::<_, Vec<u8>>(0));
    let key = key.optional()?.unwrap_or_default();
    let mut statement = connection.prepare(&format!("SELECT day, numbers FROM {PUBLISHED_DAYS} ORDER BY day"))?;
    let mut rows = statement.query([])?;
    let mut days = Vec::new();
    while let Some(row) = rows.next()? {
        let day: String = row.get(0)?;
        let day = day.parse().map_err(|_| StorageError::Failed(format!("{PUBLISHED_DAYS} holds no day: {day:?}")))?;
        days.push(PublishedDay { day, numbers: row.get(1)? });
    }
    Ok(Publication { key: stored_key(&key)?, days, now: None })
}

impl Writer {
    pub(super) fn keep_published(&mut self, published: &PublishedDay) -> Result<(), StorageError> {
        let transaction = begin(&mut self.connection)?;
        transaction.execute(
            &format!("INSERT INTO {PUBLISHED_DAYS} (day, numbers) VALUES (?1, ?2) ON CONFLICT DO NOTHING"),
            params![published.day.to_string(), published.numbers],
        )?;
        Ok(transaction.commit()?)
    }
}
