//! The days of a transaction that reads, while others make and purge days.

use deadpool_postgres::{Object, Transaction};
use jiff::civil::Date;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::failed::Failed;
use super::schema::{TABLE, check_columns, check_version, is_there, partitions};
use super::session::reading;
use crate::storage::{StorageError, day_table};

/// How often a reader begins anew because a day was purged while it began.
const READ_TRIES: u32 = 10;

/// Reads as of one moment, with the days since `from`, none of which goes before that is done, but those that are not
/// read.
pub(super) async fn with_days<T>(
    client: &mut Object,
    from: Date,
    unread: &[Date],
    read: impl AsyncFnOnce(&Transaction<'_>, Vec<Date>) -> Result<T, Failed>,
) -> Result<T, Failed> {
    let mut tries = 1;
    loop {
        let transaction = reading(client).await?;
        match hold_days(&transaction, from, unread).await {
            Err(Failed::Postgres(error)) if is_gone(&error) && tries < READ_TRIES => tries += 1,
            days => {
                let done = read(&transaction, days?).await?;
                transaction.commit().await?;
                return Ok(done);
            }
        }
    }
}

/// The days since `from`, none of which goes before the transaction ends, but those that are not read.
async fn hold_days(transaction: &Transaction<'_>, from: Date, unread: &[Date]) -> Result<Vec<Date>, Failed> {
    if !is_there(transaction.client(), TABLE).await? {
        return Err(not_yet().into());
    }
    check_version(transaction.client()).await?;
    check_columns(transaction.client()).await?;
    let days: Vec<Date> = partitions(transaction.client()).await?.into_iter().filter(|day| *day >= from).collect();
    let tables: Vec<String> = days.iter().filter(|day| !unread.contains(day)).map(|day| day_table(*day)).collect();
    if !tables.is_empty() {
        transaction.batch_execute(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", tables.join(", "))).await?;
    }
    Ok(days)
}

/// Whether a day was there when the days were listed, and another collector has purged it since.
fn is_gone(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_TABLE)
}

pub(super) fn not_yet() -> StorageError {
    StorageError::NotYet("the database of storage.url".to_owned())
}

/// Shows the rows of a query. A cursor keeps what is on the way small, and needs no statement with a name.
pub(super) async fn in_portions(
    transaction: &Transaction<'_>,
    query: &str,
    mut show: impl FnMut(&Row) -> Result<(), StorageError>,
) -> Result<(), Failed> {
    transaction.batch_execute(&format!("DECLARE rows NO SCROLL CURSOR FOR {query}")).await?;
    loop {
        let rows = transaction.query_typed("FETCH 10000 FROM rows", &[]).await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            show(&row)?;
        }
    }
    transaction.batch_execute("CLOSE rows").await?;
    Ok(())
}
