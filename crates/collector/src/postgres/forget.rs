//! Deleting all rows of an ID, and rewriting the partitions that had them.
//!
//! PostgreSQL leaves deleted rows in its files until the space is used again. So each night the partitions that had
//! deletions are rewritten, one after the other: by `VACUUM (FULL, SKIP_LOCKED)`, which cannot run in a transaction,
//! and so takes no `SET LOCAL` behind a pooler. It waits for no lock, so nobody queues behind it while it has none. But
//! while it works it locks the partition even for readers, so who needs all of them does without that one, or fails
//! at once (`locks.rs`). So it takes as long as the night at most.

use std::time::Duration;

use deadpool_postgres::Object;
use jiff::Timestamp;
use jiff::civil::Date;
use tokio::time::timeout;
use tokio_postgres::types::Type;

use super::locks::{SOON, none_locked};
use super::schema::{TABLE, partitions};
use super::session::{connection, lock, writing};
use super::{LOCK_COMMIT, PostgresStore, WORK_TIMEOUT};
use crate::storage::{FORGET_ROWS, FORGOTTEN_DAYS, RECEIVED_AT, StorageError, day_of, day_table};

/// Why a partition still has deleted rows.
const LOCKED: &str = "it was in use, or the collector's role may not rewrite it";
const NEEDED: &str = "a long transaction, a prepared one or a replication slot may still read what was deleted";
const TOO_LONG: &str = "there was not enough time for it";

/// Ends a statement of the collectors' role.
const END: &str = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
    WHERE query = $1 AND state = 'active' AND usename = current_user AND datname = current_database()";

impl PostgresStore {
    /// Deletes every row of the first of these IDs, as many as have `FORGET_ROWS` together, and says how many IDs
    /// that are.
    pub(super) async fn forget_ids(&self, ids: Vec<String>) -> Result<usize, StorageError> {
        let count = format!(
            "SELECT (SELECT count(*) FROM (
                 SELECT FROM {TABLE} old WHERE old.install_id = asked.id LIMIT {FORGET_ROWS}) old)
             FROM unnest($1::text[]) WITH ORDINALITY AS asked (id, place) ORDER BY place"
        );
        // Which days had deletions is known by the same transaction.
        let delete = format!(
            "WITH gone AS (DELETE FROM {TABLE} old WHERE old.install_id = ANY($1::text[]) RETURNING old.{RECEIVED_AT})
             INSERT INTO {FORGOTTEN_DAYS} AS known (day, deletions)
             SELECT {RECEIVED_AT}::date, count(*) FROM gone GROUP BY 1
             ON CONFLICT (day) DO UPDATE SET deletions = known.deletions + excluded.deletions"
        );
        self.working(WORK_TIMEOUT, |mut client| async move {
            let transaction = writing(&mut client).await?;
            // Before pings wait behind it.
            none_locked(transaction.client()).await?;
            // No ping of another collector is between here and there.
            lock(&transaction, LOCK_COMMIT).await?;
            transaction.batch_execute(SOON).await?;
            let (mut done, mut rows) = (0, 0);
            for count in transaction.query_typed(&count, &[(&ids, Type::TEXT_ARRAY)]).await? {
                done += 1;
                rows += usize::try_from(count.try_get::<_, i64>(0)?).unwrap_or(FORGET_ROWS);
                if rows >= FORGET_ROWS {
                    break;
                }
            }
            if rows > 0 {
                let these = ids.get(..done).unwrap_or(&ids);
                transaction.query_typed(&delete, &[(&these, Type::TEXT_ARRAY)]).await?;
            }
            transaction.commit().await?;
            Ok((client, done))
        })
        .await
    }

    pub(super) async fn unrewritten_days(&self, now: Timestamp) -> Result<Vec<Date>, StorageError> {
        let yesterday = day_of(now).yesterday().unwrap_or(Date::MIN);
        self.working(WORK_TIMEOUT, |client| async move {
            // By the server's clock, too: this one may be days ahead, and pings come into today's partition.
            let query = format!(
                "SELECT day FROM {FORGOTTEN_DAYS}
                 WHERE day < least($1, (now() AT TIME ZONE 'UTC')::date - 1) ORDER BY day"
            );
            let rows = client.query_typed(&query, &[(&yesterday, Type::DATE)]).await?;
            let days = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            Ok((client, days))
        })
        .await
    }

    /// Rewrites one partition, where it is there, and forgets that it had deletions. Says why it still has deleted
    /// rows, where it has.
    pub(super) async fn rewrite_day(&self, day: Date, within: Duration) -> Result<Option<String>, StorageError> {
        let known = self.working(WORK_TIMEOUT, |client| async move {
            let query = format!("SELECT deletions FROM {FORGOTTEN_DAYS} WHERE day = $1");
            let known = client.query_typed(&query, &[(&day, Type::DATE)]).await?;
            let deletions = known.first().map(|row| row.try_get::<_, i64>(0)).transpose()?;
            let is_there = partitions(&client).await?.contains(&day);
            Ok((client, (deletions, is_there)))
        });
        let (Some(deletions), is_there) = known.await? else { return Ok(None) };
        if is_there && let Some(why) = self.rewrite_partition(day, within).await? {
            return Ok(Some(why.to_owned()));
        }
        self.working(WORK_TIMEOUT, |mut client| async move {
            let transaction = writing(&mut client).await?;
            // Not where there were more meanwhile.
            let done = format!("DELETE FROM {FORGOTTEN_DAYS} WHERE day = $1 AND deletions = $2");
            transaction.query_typed(&done, &[(&day, Type::DATE), (&deletions, Type::INT8)]).await?;
            transaction.commit().await?;
            Ok((client, None))
        })
        .await
    }

    /// Rewrites one partition, and says why it still has deleted rows, where it has.
    async fn rewrite_partition(&self, day: Date, within: Duration) -> Result<Option<&'static str>, StorageError> {
        let table = day_table(day);
        self.working(within + WORK_TIMEOUT, |client| async move {
            // What was rewritten is in another file. Its index, which was made with it, counts all that it holds:
            // deleted rows that somebody may still read, too.
            let state = format!(
                "SELECT pg_relation_filenode(to_regclass($1))::bigint,
                        (SELECT coalesce(max(made.reltuples), 0)::bigint FROM pg_index
                         JOIN pg_class made ON made.oid = indexrelid WHERE indrelid = to_regclass($1)),
                        (SELECT count(*) FROM {table})"
            );
            let look = async || -> Result<(i64, i64, i64), tokio_postgres::Error> {
                let row = client.query_typed_one(&state, &[(&table, Type::TEXT)]).await?;
                Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
            };
            let (before, ..) = look().await?;
            let rewrite = format!("VACUUM (FULL, SKIP_LOCKED) {table}");
            let Ok(rewritten) = timeout(within, client.batch_execute(&rewrite)).await else {
                // To close its connection does not end it, and the partition would stay locked.
                drop(Object::take(client));
                let other = connection(&self.pool).await?;
                other.query_typed(END, &[(&rewrite, Type::TEXT)]).await?;
                return Ok((other, Some(TOO_LONG)));
            };
            rewritten?;
            let (after, in_the_file, seen) = look().await?;
            let left = match () {
                () if after == before => Some(LOCKED),
                () if in_the_file > seen => Some(NEEDED),
                () => None,
            };
            Ok((client, left))
        })
        .await
    }
}
