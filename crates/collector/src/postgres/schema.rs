//! The tables: made, brought up to date, and held against the contract.

use deadpool_postgres::Object;
use jiff::civil::Date;
use pulse_telemetry_core::contract::{FIELDS, FieldKind};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::failed::Failed;
use super::session::{lock, writing};
use crate::storage::{
    Column, DAY_PREFIX, FORGOTTEN_DAYS, PUBLISHED_DAYS, RECEIVED_AT, RETENTION_DAYS, ROUNDING_KEY, StorageError, VIEW,
    column_list, compare_columns, day_of_table,
};

/// The table that the days are partitions of.
pub(super) const TABLE: &str = "pings";

/// The version of the tables, and what stands before it in the comment on [`TABLE`].
const SCHEMA_VERSION: u32 = 1;
const VERSION: &str = "pulse-telemetry-collector, version ";

/// The keys of the advisory locks. They only have to differ from those of other programs in the same database.
pub(super) const LOCK_SCHEMA: i64 = 0x7075_6c73_6501;

/// The limit of one transaction that may take as long as [`PURGE_TIMEOUT`](super::PURGE_TIMEOUT).
pub(super) const LONG: &str =
    "SET LOCAL statement_timeout = '60s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// A new key for [`ROUNDING_KEY`]: three random UUIDs hold more than its 256 bits, and the digest spreads them.
pub(super) const NEW_KEY: &str =
    "sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))";

/// What becomes of a migration that worked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Migration {
    Keep,
    Undo,
}

/// Makes what is missing, and touches nothing else: that would wait for readers, and keep other collectors
/// waiting. Several collectors may do this at once. Says whether the tables were there before.
pub(super) async fn migrate(client: &mut Object, migration: Migration) -> Result<bool, Failed> {
    let columns: Vec<String> = expected_columns()
        .iter()
        .zip(std::iter::once(true).chain(FIELDS.iter().map(pulse_telemetry_core::contract::Field::required)))
        .map(|(Column { name, kind }, required)| format!("{name} {kind}{}", if required { " NOT NULL" } else { "" }))
        .collect();
    let transaction = writing(client).await?;
    transaction.batch_execute(LONG).await?;
    lock(&transaction, LOCK_SCHEMA).await?;
    check_database(transaction.client()).await?;
    let was_made = is_there(transaction.client(), TABLE).await?;
    if was_made {
        check_version(transaction.client()).await?;
    } else {
        transaction
            .batch_execute(&format!(
                "CREATE TABLE {TABLE} ({}) PARTITION BY RANGE ({RECEIVED_AT});
                 CREATE INDEX {TABLE}_by_id ON {TABLE} (install_id);
                 COMMENT ON TABLE {TABLE} IS '{VERSION}{SCHEMA_VERSION}'",
                columns.join(", ")
            ))
            .await?;
    }
    check_columns(transaction.client()).await?;
    transaction
        .batch_execute(&format!(
            "CREATE TABLE IF NOT EXISTS {PUBLISHED_DAYS} (day date PRIMARY KEY, numbers text NOT NULL);
             CREATE TABLE IF NOT EXISTS {ROUNDING_KEY} (key bytea NOT NULL);
             CREATE TABLE IF NOT EXISTS {FORGOTTEN_DAYS} (day date PRIMARY KEY, deletions bigint NOT NULL);
             INSERT INTO {ROUNDING_KEY}
             SELECT {NEW_KEY} WHERE NOT EXISTS (SELECT FROM {ROUNDING_KEY})"
        ))
        .await?;
    // Rows older than 90 days are not in it, whether they were purged or not.
    let view = format!(
        "SELECT {} FROM {TABLE}
         WHERE {RECEIVED_AT} >= (now() AT TIME ZONE ''UTC'') - interval ''{RETENTION_DAYS} days''
           AND {RECEIVED_AT} <= (now() AT TIME ZONE ''UTC'') + interval ''1 day''",
        column_list()
    );
    // How another version made it cannot be told from how PostgreSQL writes it down, so the text stands beside it.
    let said = "SELECT obj_description(to_regclass($1), 'pg_class')";
    let said: Option<String> = transaction.query_typed_one(said, &[(&VIEW, Type::TEXT)]).await?.get(0);
    let text = view.replace("''", "'");
    if said.as_ref() != Some(&text) {
        let make = format!("CREATE OR REPLACE VIEW {VIEW} AS {text}; COMMENT ON VIEW {VIEW} IS '{view}'");
        transaction.batch_execute(&make).await?;
    }
    match migration {
        Migration::Keep => transaction.commit().await?,
        Migration::Undo => transaction.rollback().await?,
    }
    Ok(was_made)
}

/// Refuses what a newer program made. Its version stands beside the table; the first one wrote none.
pub(super) async fn check_version(client: &Client) -> Result<(), Failed> {
    let said = "SELECT obj_description(to_regclass($1), 'pg_class')";
    let said: Option<String> = client.query_typed_one(said, &[(&TABLE, Type::TEXT)]).await?.get(0);
    let version = said.as_deref().and_then(|said| said.strip_prefix(VERSION)?.parse::<u32>().ok()).unwrap_or(1);
    if version > SCHEMA_VERSION {
        return Err(StorageError::Failed(format!(
            "the version of the tables is {version}, and this program knows {SCHEMA_VERSION}: use the newer program"
        ))
        .into());
    }
    Ok(())
}

/// Whether the database can hold whatever a ping may hold, and the collector's role may do in it what is to be done.
async fn check_database(client: &Client) -> Result<(), Failed> {
    let query = "SELECT current_setting('server_encoding'),
                        has_database_privilege(current_database(), 'TEMPORARY'),
                        quote_ident(current_schema())::text,
                        coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
                        coalesce(
                            (SELECT bool_and(pg_has_role(relowner, 'USAGE')) FROM pg_class
                             WHERE oid IN (to_regclass($1), to_regclass($2), to_regclass($3), to_regclass($4))), true),
                        quote_ident(current_user)::text, quote_ident(current_database())::text";
    let tables = [TABLE, PUBLISHED_DAYS, ROUNDING_KEY, FORGOTTEN_DAYS];
    let tables: Vec<_> = tables.iter().map(|table| (table as &(dyn ToSql + Sync), Type::TEXT)).collect();
    let row = client.query_typed_one(query, &tables).await?;
    let (encoding, schema): (String, Option<String>) = (row.get(0), row.get(2));
    let [temporary, makes, owns]: [bool; 3] = [row.get(1), row.get(3), row.get(4)];
    let (role, database): (String, String) = (row.get(5), row.get(6));
    let schema_or_public = schema.as_deref().unwrap_or("public");
    let wrong = if encoding != "UTF8" {
        format!("the database's encoding is {encoding}, and a version may hold any character: make one with UTF8")
    } else if !temporary {
        format!(
            "the collector may not make temporary tables in the database, by which it looks whether it works: GRANT \
             TEMPORARY ON DATABASE {database} TO {role}"
        )
    } else if schema.is_none() || !makes {
        format!(
            "the collector's role may make no tables in the database, and each day has one of its own: GRANT USAGE, \
             CREATE ON SCHEMA {schema_or_public} TO {role}"
        )
    } else if !owns {
        format!(
            "the table {TABLE} belongs to another role, and only its owner can add and drop days: ALTER TABLE {TABLE} \
             OWNER TO {role}, and each {DAY_PREFIX}…, {VIEW}, {PUBLISHED_DAYS}, {ROUNDING_KEY} and \
             {FORGOTTEN_DAYS} likewise"
        )
    } else {
        return Ok(());
    };
    Err(StorageError::Failed(wrong).into())
}

/// Whether there is a table or view of that name.
pub(super) async fn is_there(client: &Client, name: &str) -> Result<bool, tokio_postgres::Error> {
    let query = "SELECT to_regclass($1) IS NOT NULL";
    Ok(client.query_typed_one(query, &[(&name, Type::TEXT)]).await?.get(0))
}

pub(super) async fn check_columns(client: &Client) -> Result<(), Failed> {
    let columns = "SELECT column_name::text, data_type::text FROM information_schema.columns
                   WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position";
    let found = client.query_typed(columns, &[(&TABLE, Type::TEXT)]).await?;
    let found: Vec<Column> = found.iter().map(|row| Column { name: row.get(0), kind: row.get(1) }).collect();
    Ok(compare_columns(TABLE, &found, &expected_columns())?)
}

/// The days that have a partition, the oldest first.
pub(super) async fn partitions(client: &Client) -> Result<Vec<Date>, Failed> {
    let query = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                 WHERE i.inhparent = to_regclass($1) AND starts_with(c.relname::text, $2) ORDER BY 1";
    let rows = client.query_typed(query, &[(&TABLE, Type::TEXT), (&DAY_PREFIX, Type::TEXT)]).await?;
    Ok(rows.iter().filter_map(|row| day_of_table(row.get(0))).collect())
}

pub(super) fn expected_columns() -> Vec<Column> {
    let column = |name: &str, kind: &str| Column { name: name.to_owned(), kind: kind.to_owned() };
    let fields = FIELDS.iter().map(|field| match field.kind {
        FieldKind::Count => column(field.name, "integer"),
        FieldKind::Flag => column(field.name, "boolean"),
        FieldKind::InstallId | FieldKind::Text { .. } | FieldKind::Word | FieldKind::Choice(_) => {
            column(field.name, "text")
        }
    });
    std::iter::once(column(RECEIVED_AT, "timestamp without time zone")).chain(fields).collect()
}
