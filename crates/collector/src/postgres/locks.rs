//! Partitions that are locked even for readers, as one is for minutes while it is rewritten, by whichever collector.

use std::collections::HashSet;

use jiff::civil::Date;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::commit::text;
use super::failed::Failed;
use super::schema::TABLE;
use super::session::writing;
use super::{PostgresStore, WORK_TIMEOUT};
use crate::storage::{Arrival, ID, RECEIVED_AT, StorageError, day_of_table};

/// For who does not wait for a partition that was locked just now.
pub(super) const SOON: &str = "SET LOCAL lock_timeout = '200ms'";

/// How often IDs are looked for where a partition was locked just then.
const LOOKS: u32 = 5;

/// The days whose partition, or its index, somebody has locked even for readers, or waits to: readers wait behind him.
pub(super) async fn locked_days(client: &Client) -> Result<Vec<Date>, tokio_postgres::Error> {
    let query = "SELECT DISTINCT c.relname::text FROM pg_locks l
                 LEFT JOIN pg_index x ON x.indexrelid = l.relation
                 JOIN pg_inherits i ON i.inhrelid = coalesce(x.indrelid, l.relation)
                 JOIN pg_class c ON c.oid = i.inhrelid
                 WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
                   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                   AND i.inhparent = to_regclass($1) ORDER BY 1";
    let rows = client.query_typed(query, &[(&TABLE, Type::TEXT)]).await?;
    Ok(rows.iter().filter_map(|row| day_of_table(row.get(0))).collect())
}

/// Fails at once where somebody has locked a day, for who needs all of them.
pub(super) async fn none_locked(client: &Client) -> Result<(), Failed> {
    match locked_days(client).await?.first() {
        None => Ok(()),
        Some(day) => Err(StorageError::Failed(format!(
            "PostgreSQL: the partition of {day} is locked, as it is while it is rewritten; it is tried again"
        ))
        .into()),
    }
}

impl PostgresStore {
    /// Which of the rows' IDs are stored, of whatever day that is not locked. What cannot be looked for counts as new:
    /// no ping waits for a rewriting.
    pub(super) async fn stored_ids(&self, arrivals: &[&Arrival]) -> Result<HashSet<String>, StorageError> {
        let ids: Vec<&str> = arrivals.iter().filter_map(|arrival| text(&arrival.row.cells[ID])).collect();
        self.working(WORK_TIMEOUT, |mut client| async move {
            for _ in 0..LOOKS {
                // By the index, as the commit does.
                let transaction = writing(&mut client).await?;
                let query = stored(&locked_days(transaction.client()).await?);
                transaction.batch_execute(SOON).await?;
                match transaction.query_typed(&query, &[(&ids, Type::TEXT_ARRAY)]).await {
                    Ok(stored) => {
                        let stored = stored.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
                        transaction.commit().await?;
                        return Ok((client, stored));
                    }
                    // It was locked between the two, and the next look sees that.
                    Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                        transaction.rollback().await?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Ok((client, HashSet::new()))
        })
        .await
    }
}

/// What finds stored IDs on all days but these, whose partitions are left out before they are locked.
fn stored(but: &[Date]) -> String {
    let but: String = but
        .iter()
        .map(|day| {
            let next = day.tomorrow().unwrap_or(*day);
            format!(" AND (old.{RECEIVED_AT} < '{day}' OR old.{RECEIVED_AT} >= '{next}')")
        })
        .collect();
    format!(
        "SELECT id FROM unnest($1::text[]) AS id
         WHERE EXISTS (SELECT FROM {TABLE} old WHERE old.install_id = id{but})"
    )
}
