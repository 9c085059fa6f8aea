//! Deleting all rows of an ID, and rewriting the partitions that had them.
//!
//! PostgreSQL leaves deleted rows in its files until the space is used again. So each night the partitions that had
//! deletions are rewritten, one after the other: by `VACUUM (FULL, SKIP_LOCKED)`, which cannot run in a transaction,
//! and so takes no `SET LOCAL` behind a pooler. It waits for no lock, so nobody queues behind it while it has none. But
//! while it works it locks the partition even for readers, so who needs all of them does without that one, or fails
//! at once (`locks.rs`).

use jiff::Timestamp;
use jiff::civil::Date;
use tokio_postgres::types::Type;

use super::locks::{SOON, none_locked};
use super::schema::{TABLE, partitions};
use super::session::{lock, writing};
use super::{LOCK_COMMIT, PostgresStore, WORK_TIMEOUT};
use crate::storage::{FORGET_ROWS, FORGOTTEN_DAYS, RECEIVED_AT, Rewritten, StorageError, day_of, day_table};

/// How long the rewriting of one partition may take.
const REWRITE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// Why a partition still has deleted rows.
const LOCKED: &str = "it was in use, or the collector's role may not rewrite it";
const NEEDED: &str = "a long transaction, a prepared one or a replication slot may still read what was deleted";

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

    pub(super) async fn rewrite_days(&self, now: Timestamp) -> Result<Rewritten, StorageError> {
        let yesterday = day_of(now).yesterday().unwrap_or(Date::MIN);
        let known = self.working(WORK_TIMEOUT, |client| async move {
            let query =
                format!("SELECT day::text, deletions FROM {FORGOTTEN_DAYS} WHERE day < $1::text::date ORDER BY 1");
            let rows = client.query_typed(&query, &[(&yesterday.to_string(), Type::TEXT)]).await?;
            let days: Vec<(Date, i64)> =
                rows.iter().filter_map(|row| Some((row.get::<_, &str>(0).parse().ok()?, row.get(1)))).collect();
            let there = partitions(&client).await?;
            Ok((client, (days, there)))
        });
        let (days, there) = known.await?;
        let mut rewritten = Rewritten::default();
        for (day, deletions) in days {
            // One that fails keeps no other waiting: it would be the first one again the next time.
            match self.free_day(day, deletions, there.contains(&day)).await {
                Ok(None) => rewritten.days += 1,
                Ok(Some(why)) => rewritten.left.push((day, why.to_owned())),
                Err(error) => rewritten.left.push((day, error.to_string())),
            }
        }
        Ok(rewritten)
    }

    /// Rewrites one partition, where it is there, and forgets that it had `deletions` deletions. Says why it still has
    /// deleted rows, where it has.
    async fn free_day(&self, day: Date, deletions: i64, is_there: bool) -> Result<Option<&'static str>, StorageError> {
        if is_there && let Some(why) = self.rewrite_day(day).await? {
            return Ok(Some(why));
        }
        self.working(WORK_TIMEOUT, |client| async move {
            // Not where there were more meanwhile.
            let done = format!("DELETE FROM {FORGOTTEN_DAYS} WHERE day = $1::text::date AND deletions = $2");
            client.query_typed(&done, &[(&day.to_string(), Type::TEXT), (&deletions, Type::INT8)]).await?;
            Ok((client, None))
        })
        .await
    }

    /// Rewrites one partition, and says why it still has deleted rows, where it has.
    async fn rewrite_day(&self, day: Date) -> Result<Option<&'static str>, StorageError> {
        let table = day_table(day);
        self.working(REWRITE_TIMEOUT, |client| async move {
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
            client.batch_execute(&format!("VACUUM (FULL, SKIP_LOCKED) {table}")).await?;
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
