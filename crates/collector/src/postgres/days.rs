//! The days of a transaction that reads, while others make and purge days.

use deadpool_postgres::Transaction;
use jiff::civil::Date;
use tokio_postgres::error::SqlState;

use super::failed::Failed;
use super::schema::{TABLE, check_columns, check_version, is_there, partitions};
use crate::storage::{StorageError, day_table};

/// How often a reader begins anew because a day was purged while it began.
pub(super) const READ_TRIES: u32 = 10;

/// The days since `from`, none of which goes before the transaction ends.
pub(super) async fn hold_days(transaction: &Transaction<'_>, from: Date) -> Result<Vec<Date>, Failed> {
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

/// Whether a day was there when the days were listed, and another collector has purged it since.
pub(super) fn is_gone(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_TABLE)
}

pub(super) fn not_yet() -> StorageError {
    StorageError::NotYet("the database of storage.url".to_owned())
}
