//! Reading everything as of one moment, while collectors write and purge.

use deadpool_postgres::{Object, Pool, Transaction};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use pulse_telemetry_core::contract::{FIELDS, FieldKind};
use pulse_telemetry_http::tls::Trust;
use secrecy::SecretString;

use super::days::{in_portions, with_days};
use super::failed::{Failed, civil, timestamp};
use super::locks::locked_days;
use super::published::{publication, scan_day};
use super::schema::partitions;
use super::session::{connection, pool};
use crate::ingest::{Cell, Cells};
use crate::storage::{
    DayVisitor, PendingRead, Publication, RECEIVED_AT, Read, Row, Span, StorageError, Visitor, column_list, day_table,
    unreadable,
};

/// Pings in a PostgreSQL database to read from. It changes nothing, and the server sees to that.
pub struct PostgresReader {
    pool: Pool,
}

impl PostgresReader {
    /// A reader of that database, which is connected to when something is read. `trust` is for TLS.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(
        connect: tokio_postgres::Config,
        password: Option<&SecretString>,
        trust: &Trust,
    ) -> Result<Self, StorageError> {
        Ok(Self { pool: pool(connect, password, trust)? })
    }
}

impl Read for PostgresReader {
    fn scan<'a>(&'a self, since: Timestamp, visit: &'a mut Visitor<'_>) -> PendingRead<'a, ()> {
        Box::pin(async move {
            let mut client = connection(&self.pool).await?;
            read(&mut client, since, visit).await.map_err(StorageError::from)
        })
    }

    fn scan_day<'a>(&'a self, day: Date, since: Date, visit: &'a mut DayVisitor<'_>) -> PendingRead<'a, ()> {
        Box::pin(async move {
            let mut client = connection(&self.pool).await?;
            scan_day(&mut client, day, since, visit).await.map_err(StorageError::from)
        })
    }

    fn publication(&self) -> PendingRead<'_, Publication> {
        Box::pin(async move {
            let mut client = connection(&self.pool).await?;
            publication(&mut client).await.map_err(StorageError::from)
        })
    }

    fn days(&self) -> PendingRead<'_, Vec<Date>> {
        Box::pin(async move {
            let client = connection(&self.pool).await?;
            partitions(&client).await.map_err(StorageError::from)
        })
    }
}

async fn read(client: &mut Object, since: Timestamp, visit: &mut Visitor<'_>) -> Result<(), Failed> {
    let from = civil(since);
    with_days(client, from.date(), &[], async |transaction, days| {
        for day in days {
            show(transaction, day, from, visit).await?;
        }
        Ok(())
    })
    .await
}

/// Of a day that is locked it tells the beginning: no start waits for a rewriting.
pub(super) async fn span(client: &mut Object) -> Result<Option<Span>, Failed> {
    let locked = locked_days(client).await?;
    with_days(client, Date::MIN, &locked, async |transaction, days| {
        let oldest = end(transaction, days.iter(), &locked, "min").await?;
        let newest = end(transaction, days.iter().rev(), &locked, "max").await?;
        Ok(oldest.zip(newest).map(|(oldest, newest)| Span { oldest, newest }))
    })
    .await
}

/// Shows the rows of one day.
async fn show(transaction: &Transaction<'_>, day: Date, from: DateTime, visit: &mut Visitor<'_>) -> Result<(), Failed> {
    let (columns, table) = (column_list(), day_table(day));
    let rows = format!("SELECT {columns} FROM {table} WHERE {RECEIVED_AT} >= '{from}' ORDER BY {RECEIVED_AT}");
    in_portions(transaction, &rows, |row| {
        visit(read_row(row, day)?);
        Ok(())
    })
    .await
}

/// The first time that there is, at that end of the first of these days that has any.
async fn end(
    transaction: &Transaction<'_>,
    days: impl Iterator<Item = &Date>,
    locked: &[Date],
    end: &'static str,
) -> Result<Option<Timestamp>, Failed> {
    for day in days {
        if locked.contains(day) {
            return Ok(timestamp(day.to_datetime(Time::midnight())));
        }
        let query = format!("SELECT {end}({RECEIVED_AT}) FROM {}", day_table(*day));
        let row = transaction.query_typed_one(&query, &[]).await?;
        if let Some(at) = row.try_get::<_, Option<DateTime>>(0)? {
            return Ok(Some(timestamp(at).ok_or_else(|| unreadable(RECEIVED_AT, *day))?));
        }
    }
    Ok(None)
}

fn read_row(row: &tokio_postgres::Row, day: Date) -> Result<Row, StorageError> {
    let mut cells: Box<Cells> = Box::new([const { Cell::Null }; FIELDS.len()]);
    for (at, (field, cell)) in FIELDS.iter().zip(&mut *cells).enumerate() {
        let found = match field.kind {
            FieldKind::Count => {
                row.try_get(at + 1).ok().and_then(|count: i32| u32::try_from(count).ok()).map(Cell::Count)
            }
            FieldKind::Flag => row.try_get(at + 1).ok().map(Cell::Flag),
            _ => match row.try_get(at + 1).ok() {
                Some(None) if !field.required() => Some(Cell::Null),
                text => text.flatten().map(Cell::Text),
            },
        };
        *cell = found.ok_or_else(|| unreadable(field.name, day))?;
    }
    let received_at = row.try_get(0).ok().and_then(timestamp).ok_or_else(|| unreadable(RECEIVED_AT, day))?;
    Ok(Row { received_at, cells })
}
