//! The statement that stores rows, and what it says of each.

use std::collections::HashSet;

use jiff::civil::{Date, DateTime};
use pulse_telemetry_core::contract::{FIELDS, FieldKind};
use tokio_postgres::types::{ToSql, Type};

use super::failed::civil;
use super::schema::{TABLE, expected_columns};
use crate::ingest::Cell;
use crate::storage::{
    Arrival, COMPARED_ROWS, Column, DUPLICATE_WINDOW, ID, RECEIVED_AT, ROWS_PER_ID, RowOutcome, column_list, day_of,
};

/// What is known of IDs that no row of the last two days has.
pub(super) enum KnownIds {
    /// Nothing: it is to be asked for.
    Unasked,
    /// There are no rows of other days.
    None,
    /// These are stored.
    These(HashSet<String>),
}

/// What the statement says of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RowVerdict {
    Done(RowOutcome),
    /// Whether its ID is known is to be asked for.
    Ask,
}

impl RowVerdict {
    /// Reads what [`insert_statement`] says of a row: its verdict, and when the row came that is stored already.
    pub(super) fn of(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        if let Some(at) = row.try_get::<_, Option<DateTime>>(1)? {
            return Ok(Self::Done(RowOutcome::Duplicate { day: at.date() }));
        }
        Ok(match row.try_get(0)? {
            "many" => Self::Done(RowOutcome::TooManyRows),
            "new" => Self::Done(RowOutcome::Stored { new_id: true }),
            "known" => Self::Done(RowOutcome::Stored { new_id: false }),
            "unknown" => Self::Done(RowOutcome::UnknownId),
            _ => Self::Ask,
        })
    }

    /// Nothing is asked for twice, so what is still to be asked for was not stored.
    pub(super) fn outcome(self) -> RowOutcome {
        match self {
            Self::Done(outcome) => outcome,
            Self::Ask => RowOutcome::UnknownId,
        }
    }
}

/// Stores the rows of arrays, one for each column, but those that must not be, and says what became of each, in their
/// order. After the fields come: whether the ID may be a new one, and whether it is known, where no row of the last two
/// days has it. The last two parameters are the times between which a row is looked at, so that only those days are:
/// from the day before the first row to the end of the last one's. Of two rows of one second the one of the later
/// transaction is the newer one.
pub(super) fn insert_statement() -> String {
    let flags = ["may_be_new", "is_known"].map(|name| Column { name: name.to_owned(), kind: "boolean".to_owned() });
    let arrays: Vec<String> = expected_columns()
        .iter()
        .chain(&flags)
        .enumerate()
        .map(|(at, Column { kind, .. })| format!("${}::{kind}[]", at + 1))
        .collect();
    let (columns, window) = (column_list(), DUPLICATE_WINDOW.as_secs());
    let of = |table: &str| FIELDS.iter().map(|f| format!("{table}.{}", f.name)).collect::<Vec<_>>().join(", ");
    let recent = format!(
        "{TABLE} old WHERE old.install_id = new.install_id AND old.{RECEIVED_AT} >= ${} AND old.{RECEIVED_AT} < ${}",
        arrays.len() + 1,
        arrays.len() + 2
    );
    format!(
        "WITH new AS (
             SELECT * FROM unnest({arrays}) WITH ORDINALITY AS new ({columns}, may_be_new, is_known, place)
         ), compared AS MATERIALIZED (
             SELECT new.*, date_trunc('day', new.{RECEIVED_AT}) AS day,
                    (
                        SELECT old.{RECEIVED_AT} FROM (
                            SELECT old.* FROM {recent}
                            ORDER BY old.{RECEIVED_AT} DESC, age(old.xmin), old.ctid DESC LIMIT {COMPARED_ROWS}
                        ) old
                        WHERE old.{RECEIVED_AT} BETWEEN new.{RECEIVED_AT} - interval '{window} seconds'
                              AND new.{RECEIVED_AT} + interval '{window} seconds'
                          AND ({old_fields}) IS NOT DISTINCT FROM ({new_fields})
                        ORDER BY old.{RECEIVED_AT} DESC LIMIT 1
                    ) AS duplicate_of,
                    (
                        SELECT count(*) FROM (
                            SELECT FROM {recent} AND old.{RECEIVED_AT} >= date_trunc('day', new.{RECEIVED_AT})
                                AND old.{RECEIVED_AT} < date_trunc('day', new.{RECEIVED_AT}) + interval '1 day'
                            LIMIT {ROWS_PER_ID}
                        ) old
                    ) AS stored
             FROM new
         ), judged AS MATERIALIZED (
             SELECT *, CASE
                 WHEN duplicate_of IS NOT NULL THEN 'duplicate'
                 WHEN stored + coalesce(count(*) FILTER (WHERE duplicate_of IS NULL) OVER before, 0) >= {ROWS_PER_ID}
                     THEN 'many'
                 WHEN stored > 0 OR is_known OR EXISTS (SELECT FROM {recent}) THEN 'known'
                 WHEN is_known IS NULL THEN 'ask'
                 WHEN coalesce(bool_or(may_be_new) OVER before, false) THEN 'known'
                 WHEN may_be_new THEN 'new'
                 ELSE 'unknown' END AS verdict
             FROM compared AS new
             WINDOW before AS (
                 PARTITION BY install_id, day ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
         ), inserted AS (
             INSERT INTO {TABLE} ({columns}) SELECT {columns} FROM judged WHERE verdict IN ('known', 'new')
         )
         SELECT verdict, duplicate_of FROM judged ORDER BY place",
        arrays = arrays.join(", "),
        old_fields = of("old"),
        new_fields = of("new"),
    )
}

/// A batch, column by column.
pub(super) struct Columns {
    received_at: Vec<DateTime>,
    fields: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
    may_be_new: Vec<bool>,
    is_known: Vec<Option<bool>>,
    /// Between these two lie the days that are looked at.
    span: [DateTime; 2],
}

impl Columns {
    pub(super) fn of(arrivals: &[&Arrival], known: &KnownIds) -> Self {
        let days = || arrivals.iter().map(|arrival| day_of(arrival.row.received_at));
        let since = days().min().and_then(|day| day.yesterday().ok()).unwrap_or(Date::MIN);
        let until = days().max().and_then(|day| day.tomorrow().ok()).unwrap_or(Date::MAX);
        let cells = |at: usize| arrivals.iter().map(move |arrival| &arrival.row.cells[at]);
        let fields = FIELDS.iter().enumerate().map(|(at, field)| -> (Box<dyn ToSql + Sync + Send>, Type) {
            match field.kind {
                FieldKind::Count => (Box::new(cells(at).map(count).collect::<Vec<_>>()), Type::INT4_ARRAY),
                FieldKind::Flag => (Box::new(cells(at).map(flag).collect::<Vec<_>>()), Type::BOOL_ARRAY),
                _ => (
                    Box::new(cells(at).map(|cell| text(cell).map(str::to_owned)).collect::<Vec<_>>()),
                    Type::TEXT_ARRAY,
                ),
            }
        });
        let is_known = |cell| match known {
            KnownIds::Unasked => None,
            KnownIds::None => Some(false),
            KnownIds::These(ids) => Some(text(cell).is_some_and(|id| ids.contains(id))),
        };
        Self {
            received_at: arrivals.iter().map(|arrival| civil(arrival.row.received_at)).collect(),
            fields: fields.collect(),
            may_be_new: arrivals.iter().map(|arrival| arrival.may_be_new).collect(),
            is_known: cells(ID).map(is_known).collect(),
            span: [since, until].map(|day| day.to_datetime(jiff::civil::Time::midnight())),
        }
    }

    pub(super) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let fields = self.fields.iter().map(|(field, kind)| (field.as_ref() as &(dyn ToSql + Sync), kind.clone()));
        let first: (&(dyn ToSql + Sync), Type) = (&self.received_at, Type::TIMESTAMP_ARRAY);
        let flags: [(&(dyn ToSql + Sync), Type); 2] =
            [(&self.may_be_new, Type::BOOL_ARRAY), (&self.is_known, Type::BOOL_ARRAY)];
        let span = self.span.iter().map(|time| (time as &(dyn ToSql + Sync), Type::TIMESTAMP));
        std::iter::once(first).chain(fields).chain(flags).chain(span).collect()
    }
}

/// What is no count becomes NULL, which the column refuses: unknown is not zero.
pub(super) fn count(cell: &Cell) -> Option<i32> {
    match cell {
        Cell::Count(count) => i32::try_from(*count).ok(),
        _ => None,
    }
}

fn flag(cell: &Cell) -> Option<bool> {
    match cell {
        Cell::Flag(flag) => Some(*flag),
        _ => None,
    }
}

pub(super) fn text(cell: &Cell) -> Option<&str> {
    match cell {
        Cell::Text(text) => Some(text),
        _ => None,
    }
}
