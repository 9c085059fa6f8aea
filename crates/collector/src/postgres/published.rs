//! What is counted of a day, and what was published.

use deadpool_postgres::{Object, Transaction};
use jiff::civil::Date;
use pulse_telemetry_core::contract::{FIELDS, FieldKind};

use super::days::{in_portions, not_yet, with_days};
use super::failed::{Failed, timestamp};
use super::schema::{TABLE, check_version, is_there};
use super::session::reading;
use crate::numbers::{Lent, counted_fields};
use crate::storage::{
    DayVisitor, PUBLISHED_DAYS, Publication, PublishedDay, RECEIVED_AT, ROUNDING_KEY, StorageError, day_table,
    stored_key, unreadable, without_a_key,
};

/// Shows the last row of the day of each ID that has one on an earlier day, but none before `since`.
pub(super) async fn scan_day(
    client: &mut Object,
    day: Date,
    since: Date,
    visit: &mut DayVisitor<'_>,
) -> Result<(), Failed> {
    with_days(client, since, &[], async |transaction, days| show(transaction, day, since, &days, visit).await).await
}

/// Almost every ID is found on the newest of the earlier days, which is hashed; only the others are looked for by the
/// index of all.
async fn show(
    transaction: &Transaction<'_>,
    day: Date,
    since: Date,
    known: &[Date],
    visit: &mut DayVisitor<'_>,
) -> Result<(), Failed> {
    let Some(newest) = known.iter().copied().filter(|known| *known < day).max() else { return Ok(()) };
    if !known.contains(&day) {
        return Ok(());
    }
    let (table, before) = (day_table(day), day_table(newest));
    let columns: Vec<&str> = counted_fields().map(|field| field.name).collect();
    let columns = columns.join(", ");
    let query = format!(
        "WITH last AS MATERIALIZED (
             SELECT DISTINCT ON (install_id COLLATE \"C\") install_id, {columns} FROM {table}
             ORDER BY install_id COLLATE \"C\", {RECEIVED_AT} DESC
         ), found AS MATERIALIZED (
             SELECT last.*, EXISTS (SELECT FROM {before} b WHERE b.install_id = last.install_id) AS is_found FROM last
         )
         SELECT {columns} FROM found WHERE is_found
         UNION ALL
         SELECT {columns} FROM found, LATERAL (
             SELECT FROM {TABLE} p
             WHERE p.install_id = found.install_id AND p.{RECEIVED_AT} >= '{since}' AND p.{RECEIVED_AT} < '{newest}'
             LIMIT 1
         ) AS earlier
         WHERE NOT is_found"
    );
    in_portions(transaction, &query, |row| show_row(row, day, visit)).await
}

fn show_row(row: &tokio_postgres::Row, day: Date, visit: &mut DayVisitor<'_>) -> Result<(), StorageError> {
    let mut values = [Lent::Flag(false); FIELDS.len()];
    let mut count = 0;
    for (field, value) in counted_fields().zip(&mut values) {
        let found = match field.kind {
            FieldKind::Count => {
                row.try_get(count).ok().and_then(|count: i32| u32::try_from(count).ok()).map(Lent::Count)
            }
            FieldKind::Flag => row.try_get(count).ok().map(Lent::Flag),
            _ => row.try_get(count).ok().map(Lent::Text),
        };
        *value = found.ok_or_else(|| unreadable(field.name, day))?;
        count += 1;
    }
    visit(&values[..count]);
    Ok(())
}

pub(super) async fn publication(client: &mut Object) -> Result<Publication, Failed> {
    let transaction = reading(client).await?;
    if !is_there(transaction.client(), TABLE).await? {
        return Err(not_yet().into());
    }
    check_version(transaction.client()).await?;
    if !is_there(transaction.client(), ROUNDING_KEY).await? {
        return Err(without_a_key().into());
    }
    let key = transaction.query_typed(&format!("SELECT key FROM {ROUNDING_KEY}"), &[]).await?;
    let key: &[u8] = key.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    let key = stored_key(key)?;
    let published = format!("SELECT day, numbers FROM {PUBLISHED_DAYS} ORDER BY day");
    let rows = transaction.query_typed(&published, &[]).await?;
    let mut days = Vec::with_capacity(rows.len());
    for row in rows {
        days.push(PublishedDay { day: row.try_get(0)?, numbers: row.try_get(1)? });
    }
    let now = transaction.query_typed_one("SELECT now() AT TIME ZONE 'UTC'", &[]).await?;
    let now = timestamp(now.try_get(0)?);
    transaction.commit().await?;
    Ok(Publication { key, days, now })
}
