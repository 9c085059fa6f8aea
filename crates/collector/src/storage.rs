//! Where pings are kept, as the rest of the collector sees it, and what both kinds of storage share.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_core::contract::FIELDS;

use super::ingest::Cells;
use super::numbers::Lent;
use super::numbers::rounding::{KEY_LENGTH, RoundingKey};

/// How long a ping is kept: 90 days, as the privacy page says.
pub const RETENTION_DAYS: i64 = 90;

/// Pings of one ID that are equal in every field and come within this time are one ping that was sent again because its
/// answer was lost. The sidecar comes again up to an hour later, with some chance on top, or when `Retry-After` says.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs((2 * 60 + 15) * 60);

/// How many rows of its ID, the newest, a row is compared with to find out whether it is a duplicate. A sender has one
/// ping under way at a time, so a retry follows close behind it.
pub const COMPARED_ROWS: usize = 8;

/// The most rows of one ID in a UTC day: a heartbeat and a startup an hour are 25, and two senders that share an ID by
/// mistake have 50.
pub const ROWS_PER_ID: u32 = 64;

/// Deletions are done together until they have taken this many rows, and the rest waits for the next commit: as many as
/// a commit may store. An ID has a few thousand at most.
pub(super) const FORGET_ROWS: usize = 512;

/// The name of the column that is not a field.
pub const RECEIVED_AT: &str = "received_at";

/// Which of a row's cells is its install ID.
pub(super) const ID: usize = 0;

/// What begins the name of the table, or partition, of a day; the day follows as `YYYYMMDD`.
pub const DAY_PREFIX: &str = "pings_";

/// The table of what was published, and that of the key by which numbers are rounded.
pub(super) const PUBLISHED_DAYS: &str = "published_days";
pub(super) const ROUNDING_KEY: &str = "rounding_key";

/// PostgreSQL's table of the days whose files still have rows that were deleted.
pub(super) const FORGOTTEN_DAYS: &str = "forgotten_days";

/// What the pings of the last 90 days can be read from.
pub const VIEW: &str = "telemetry_pings";

/// The columns that the newest adoption report selects besides those of the contract. Here they are always NULL.
pub static LATER_COLUMNS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let listed = include_str!("../../../config/adoption-columns.txt").lines().map(str::trim);
    listed.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
});

/// One ping as it is stored: when it came, to the second, and the fields of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// When it was received, in whole seconds.
    pub received_at: Timestamp,
    /// The fields, in the order of the contract.
    pub cells: Box<Cells>,
}

/// A row on its way into the storage.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The row.
    pub row: Row,
    /// Whether its ID may be one that is not stored yet.
    pub may_be_new: bool,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOutcome {
    /// It is stored.
    Stored {
        /// Whether its ID was not stored before.
        new_id: bool,
    },
    /// It was stored before, and is not stored again.
    Duplicate {
        /// The day of the row that is stored.
        day: Date,
    },
    /// Its ID has [`ROWS_PER_ID`] rows that day, so it is not stored.
    TooManyRows,
    /// Its ID is not stored yet and must not be a new one, so it is not stored.
    UnknownId,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// How many rows were stored.
    pub stored: u64,
    /// How many were there already.
    pub duplicates: u64,
}

impl Committed {
    /// Counts what became of the rows of a batch.
    #[must_use]
    pub fn of(outcomes: &[RowOutcome]) -> Self {
        let count = |wanted: fn(&RowOutcome) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count() as u64;
        Self {
            stored: count(|outcome| matches!(outcome, RowOutcome::Stored { .. })),
            duplicates: count(|outcome| matches!(outcome, RowOutcome::Duplicate { .. })),
        }
    }
}

/// What a purge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many days were dropped.
    pub days: u64,
    /// Whether another collector purges just now, so that nothing was done.
    pub lock_held_by_other: bool,
}

/// Between which times rows were received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When the oldest one was.
    pub oldest: Timestamp,
    /// When the newest one was.
    pub newest: Timestamp,
}

/// Why the storage did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It cannot be opened or reached, or gives an error. The text names no value of any row.
    #[error("{0}")]
    Failed(String),
    /// There is none to read from.
    #[error("{0} holds no pings yet: the first start of the collector makes what it needs there")]
    NotYet(String),
    /// What is stored does not have the columns of the contract.
    #[error(
        "{table} does not have the columns of the contract: {difference}. It was made by another version, or changed \
         by hand; use another database, or change it back"
    )]
    Columns {
        /// The table.
        table: String,
        /// What is missing, and what is there besides.
        difference: String,
    },
}

/// Work that is under way.
pub type Working<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// Is shown every row, in the order of their days.
pub type Visitor<'a> = dyn FnMut(Row) + 'a;

/// Where pings are kept. A future may block the thread that drives it, so the collector drives them on one of their
/// own.
pub trait PingStore: Send + Sync {
    /// Stores the rows durably, or fails for all of them, and says what became of each, in their order. One that is
    /// there already, as [`DUPLICATE_WINDOW`] and [`COMPARED_ROWS`] say, is not stored again.
    fn admit(&self, arrivals: Vec<Arrival>) -> Working<'_, Vec<RowOutcome>>;

    /// Stores rows as [`PingStore::admit`] does, each of which may have a new ID.
    fn commit(&self, rows: Vec<Row>) -> Working<'_, Committed> {
        let arrivals = rows.into_iter().map(|row| Arrival { row, may_be_new: true }).collect();
        Box::pin(async move { Ok(Committed::of(&self.admit(arrivals).await?)) })
    }

    /// Removes every row of the first of these IDs, durably, and says of how many: of all, or of those that have
    /// `FORGET_ROWS` together. Each is the canonical text of an ID. What was admitted before is removed, too.
    fn forget(&self, ids: Vec<String>) -> Working<'_, usize>;

    /// Where rows were deleted: leaves nothing of them in the files, as far as readers let it, and waits for nobody.
    fn tidy(&self) -> Working<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// The days before yesterday that had deletions, where only a rewriting frees the disk of them, the oldest first.
    fn unrewritten(&self, _now: Timestamp) -> Working<'_, Vec<Date>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Rewrites such a day, in that time at most. Says why it still has something of deleted rows, where it has.
    fn rewrite(&self, _day: Date, _within: Duration) -> Working<'_, Option<String>> {
        Box::pin(async { Ok(None) })
    }

    /// How many bytes the pings take of the disk, indexes included. Neither what a purge has freed counts nor a
    /// write-ahead log, which holds for a moment what is counted here.
    fn size(&self) -> Working<'_, u64>;

    /// Removes every day that began 90 days ago or earlier, so that no row gets older than that, and every day later
    /// than tomorrow.
    fn purge(&self, now: Timestamp) -> Working<'_, Purged>;

    /// When the oldest and the newest row were received.
    fn span(&self) -> Working<'_, Option<Span>>;

    /// Keeps what is published of a day for good, where nothing is kept of that day yet.
    fn keep_published(&self, published: PublishedDay) -> Working<'_, ()>;

    /// Whether rows could be stored now.
    fn probe(&self) -> Working<'_, ()>;
}

/// A reading that is under way.
pub type PendingRead<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + 'a>>;

/// Is shown values of one row, in the order of [`super::numbers::counted_fields`].
pub type DayVisitor<'a> = dyn FnMut(&[Lent<'_>]) + 'a;

/// What is published of a UTC day. It outlives the rows that it was counted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedDay {
    /// The day.
    pub day: Date,
    /// Its numbers, as JSON.
    pub numbers: String,
}

/// What was published, and the key by which the next day is rounded.
pub struct Publication {
    /// Secret.
    pub key: RoundingKey,
    /// The oldest day first.
    pub days: Vec<PublishedDay>,
    /// The time by the storage's own clock, where it has one.
    pub now: Option<Timestamp>,
}

/// Where pings can be read from, for reports and exports.
pub trait Read {
    /// Shows every row that was received at that time or later.
    fn scan<'a>(&'a self, since: Timestamp, visit: &'a mut Visitor<'_>) -> PendingRead<'a, ()>;

    /// Shows the last row of the UTC day of each ID that has one on an earlier day, too, but none before `since`.
    fn scan_day<'a>(&'a self, day: Date, since: Date, visit: &'a mut DayVisitor<'_>) -> PendingRead<'a, ()>;

    /// What was published.
    fn publication(&self) -> PendingRead<'_, Publication>;

    /// The days that have rows, the oldest first.
    fn days(&self) -> PendingRead<'_, Vec<Date>>;
}

/// The times between which a row is the same ping as one that was received at `at`. Both ways, for the clocks of two
/// collectors differ, and one may step.
pub(super) fn duplicate_window(at: Timestamp) -> (Timestamp, Timestamp) {
    let window = SignedDuration::try_from(DUPLICATE_WINDOW).unwrap_or(SignedDuration::ZERO);
    (at.saturating_sub(window).unwrap_or(Timestamp::MIN), at.saturating_add(window).unwrap_or(Timestamp::MAX))
}

/// The UTC day of a time.
#[must_use]
pub fn day_of(at: Timestamp) -> Date {
    Offset::UTC.to_datetime(at).date()
}

/// The time from which rows may be read: 90 days ago, or later than that where `since` is.
#[must_use]
pub fn readable_since(now: Timestamp, since: Timestamp) -> Timestamp {
    since.max(now.saturating_sub(SignedDuration::from_hours(24 * RETENTION_DAYS)).unwrap_or(Timestamp::MIN))
}

/// The first day that stays.
///
/// A day goes when its first second is 90 days old. Were it to stay until its last one is, rows would lie on the disk
/// for up to 91 days.
pub(super) fn first_day_kept(now: Timestamp) -> Date {
    let kept = day_of(readable_since(now, Timestamp::MIN)).tomorrow();
    kept.unwrap_or(Date::MAX)
}

/// The last day that stays: tomorrow, for the clocks of two collectors differ. Later ones come from a clock that was
/// wrong, and would be kept for years.
pub(super) fn last_day_kept(now: Timestamp) -> Date {
    day_of(now).tomorrow().unwrap_or(Date::MAX)
}

/// The table, or partition, of a day.
pub(super) fn day_table(day: Date) -> String {
    format!("{DAY_PREFIX}{:04}{:02}{:02}", day.year(), day.month(), day.day())
}

/// The day of a table, where it is one of a day.
pub(super) fn day_of_table(name: &str) -> Option<Date> {
    let digits = name.strip_prefix(DAY_PREFIX).filter(|d| d.len() == 8 && d.bytes().all(|b| b.is_ascii_digit()))?;
    let part = |range: std::ops::Range<usize>| digits.get(range)?.parse::<i16>().ok();
    let small = |range| i8::try_from(part(range)?).ok();
    Date::new(part(0..4)?, small(4..6)?, small(6..8)?).ok()
}

/// `received_at` and the fields, with a comma between.
pub(super) fn column_list() -> String {
    std::iter::once(RECEIVED_AT).chain(FIELDS.iter().map(|field| field.name)).collect::<Vec<_>>().join(", ")
}

/// Holds the columns of a table against the contract.
pub(super) fn compare_columns(table: &str, found: &[Column], expected: &[Column]) -> Result<(), StorageError> {
    if found == expected {
        return Ok(());
    }
    let names = |columns: &[Column], others: &[Column]| {
        let only: Vec<_> = columns.iter().filter(|c| !others.contains(c)).map(ToString::to_string).collect();
        if only.is_empty() { "nothing".to_owned() } else { only.join(", ") }
    };
    let (missing, besides) = (names(expected, found), names(found, expected));
    let difference = if missing == besides {
        "they stand in another order".to_owned()
    } else {
        format!("{missing} is missing, {besides} is there besides")
    };
    Err(StorageError::Columns { table: table.to_owned(), difference })
}

/// A cell holds what its column cannot, as after a change by hand. Unknown is not zero: nothing is told of such a
/// storage.
pub(super) fn unreadable(column: &str, day: Date) -> StorageError {
    StorageError::Failed(format!(
        "the column {column} of {day} holds what cannot be read, so no report or export of it would be right: set it \
         right, or remove the rows of that day ({})",
        day_table(day)
    ))
}

/// A column: its name, and its type as the database spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: String,
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.kind)
    }
}

/// A storage of an older collector has no key yet. One that is drawn for each answer would be averaged away.
pub(super) fn without_a_key() -> StorageError {
    StorageError::Failed(
        "the storage is one of an older collector, which has no key to round numbers by: start this one on it once"
            .to_owned(),
    )
}

/// The key of these bytes, as they are stored.
pub(super) fn stored_key(bytes: &[u8]) -> Result<RoundingKey, StorageError> {
    let bytes: &[u8; KEY_LENGTH] = bytes
        .try_into()
        .map_err(|_| StorageError::Failed(format!("the key in {ROUNDING_KEY} does not have {KEY_LENGTH} bytes")))?;
    Ok(RoundingKey::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_goes_when_its_first_second_is_90_days_old_and_not_before() {
        let of_january = jiff::civil::date(2026, 1, 1);
        assert_eq!(first_day_kept(at("2026-03-31T23:59:59Z")), of_january);
        assert_eq!(first_day_kept(at("2026-04-01T00:00:00Z")), of_january.tomorrow().unwrap());
    }

    #[test]
    fn a_table_of_a_day_is_told_from_any_other() {
        let day = jiff::civil::date(2026, 11, 23);
        assert_eq!(day_table(day), "pings_20261123");
        assert_eq!(day_of_table("pings_20261123"), Some(day));
        for other in ["pings_", "pings_2026112", "pings_20261323", "pings_+2026112", "sqlite_sequence"] {
            assert_eq!(day_of_table(other), None, "{other}");
        }
    }
}
