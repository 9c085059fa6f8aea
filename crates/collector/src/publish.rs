//! Numbers that everybody may see.
//!
//! Each whole UTC day is counted once, kept in the storage for good, and published from there: what was published stays
//! when its rows are gone, is the same from each collector, and never changes.

mod chart;
mod daily;
mod directory;
pub(crate) mod page;
mod passed;
mod text;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

pub use self::daily::{LatestNumbers, Publisher, count_by_itself};
pub use self::directory::{PublishError, write};
pub use self::page::page;
use super::numbers::rounding::{RoundingKey, STEP};
use super::numbers::{DayNumbers, DayTally, FORMAT, ValueCell, VersionCell};
use super::storage::{PingStore, Publication, PublishedDay, Read, StorageError, day_of, first_day_kept};

/// How long after its end a day is counted: what a collector was told in its last second is stored by then, and the
/// clocks of two collectors differ.
const SETTLED: SignedDuration = SignedDuration::from_mins(10);

/// With how many days before the last one it is compared, to tell whether the number of installations grows.
const TREND_DAYS: u32 = 7;

/// All that was published, the oldest day first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The days, none of which changes.
    pub days: Vec<DayNumbers>,
}

/// Whether the number of installations changed by more than one per cent a day since some day of the last week. It is
/// told, for then the correction for rotation, and the day on which an installation is not counted yet, shift numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trend {
    /// It grows.
    Growing,
    /// It shrinks.
    Shrinking,
    /// It does neither.
    Steady,
}

/// The file `numbers.json`.
#[derive(Debug, Serialize)]
pub struct NumbersFile<'a> {
    /// The version of its form.
    pub format: u32,
    /// The last day that was published.
    pub latest: &'a DayNumbers,
    /// Its IDs by channel, the sums of its versions.
    pub channels: Vec<ValueCell>,
    /// Its IDs by whether the version was published, the sums of its versions.
    pub published: Vec<ValueCell>,
    /// Whether the number of installations changes.
    pub trend: Option<Trend>,
    /// Each day that was published.
    pub days: Vec<DayLine<'a>>,
}

/// A day in `numbers.json`.
#[derive(Debug, Serialize)]
pub struct DayLine<'a> {
    /// The day.
    pub day: Date,
    /// Its installations.
    pub installations: Option<u64>,
    /// Its versions.
    pub versions: &'a [VersionCell],
}

/// Counts the whole days that were not published yet, and keeps them for good. Gives all that was published.
///
/// # Errors
/// The storage cannot be read or written, or what it holds was published by a newer program.
pub async fn publish(reader: &dyn Read, store: &dyn PingStore, now: Timestamp) -> Result<Published, StorageError> {
    let Publication { key, days, now: of_storage } = reader.publication().await?;
    // Of collectors that share a storage one may be ahead, and would publish a day that goes on for the others.
    let now = of_storage.map_or(now, |of_storage| of_storage.min(now));
    let (stored, whole, since) = (reader.days().await?, last_whole_day(now), first_day_kept(now));
    // By a clock that is ahead, a day that goes on looks over, and what is published of it could not be mended. Nor is
    // such a clock told by what was stored by it.
    let mut failed = None;
    let newest = stored.iter().rfind(|day| **day <= whole);
    let is_plausible = newest.is_some_and(|newest| *newest >= whole.yesterday().unwrap_or(Date::MIN));
    for day in stored.into_iter().filter(|day| is_plausible && (since..=whole).contains(day)) {
        if days.iter().any(|published| published.day == day) {
            continue;
        }
        // One that cannot be read keeps no later one from being kept before its rows go.
        let numbers = match count(reader, day, since, &key).await {
            Ok(numbers) => numbers,
            Err(error) => {
                failed.get_or_insert(error);
                continue;
            }
        };
        let numbers = serde_json::to_string(&numbers).map_err(|error| StorageError::Failed(error.to_string()))?;
        store.keep_published(PublishedDay { day, numbers }).await?;
    }
    // Another collector may have been first, so what is kept counts.
    let published = parsed(reader.publication().await?.days)?;
    failed.map_or(Ok(published), Err)
}

/// All that was published, and the last whole day, counted where it was not. Nothing is kept of it: published, it will
/// be the same.
///
/// # Errors
/// The storage cannot be read, or what it holds was published by a newer program.
pub async fn report(reader: &dyn Read, now: Timestamp) -> Result<Published, StorageError> {
    let Publication { key, days, .. } = reader.publication().await?;
    let mut published = parsed(days)?;
    let since = first_day_kept(now);
    let last = reader.days().await?.into_iter().rfind(|day| (since..=last_whole_day(now)).contains(day));
    if let Some(day) = last.filter(|day| published.latest().is_none_or(|latest| latest.day < *day)) {
        published.days.push(count(reader, day, since, &key).await?);
    }
    Ok(published)
}

/// The last day that is over, and of which all that was received is stored.
fn last_whole_day(now: Timestamp) -> Date {
    day_of(now.saturating_sub(SETTLED).unwrap_or(Timestamp::MIN)).yesterday().unwrap_or(Date::MIN)
}

/// Counts a day by the rows since another: those before are 90 days old, whether they were purged or not.
async fn count(reader: &dyn Read, day: Date, since: Date, key: &RoundingKey) -> Result<DayNumbers, StorageError> {
    let mut tally = DayTally::default();
    reader.scan_day(day, since, &mut |values| tally.add(values)).await?;
    Ok(DayNumbers::new(day, &tally, key))
}

fn parsed(days: Vec<PublishedDay>) -> Result<Published, StorageError> {
    let days = days.into_iter().map(|PublishedDay { day, numbers }| {
        let numbers: DayNumbers = serde_json::from_str(&numbers)
            .map_err(|error| StorageError::Failed(format!("what was published of {day} cannot be read: {error}")))?;
        if numbers.format > FORMAT {
            let said = format!("what was published of {day} has the form {}: use the newer program", numbers.format);
            return Err(StorageError::Failed(said));
        }
        Ok(numbers)
    });
    Ok(Published { days: days.collect::<Result<_, _>>()? })
}

impl Trend {
    /// From `before` IDs to `now`, `days` days later.
    fn between(before: u64, now: u64, days: u32) -> Self {
        // A hundredth a day, compounded, and what the rounding of both can make.
        let (before, now, room) = (u128::from(before), u128::from(now), u128::from(2 * STEP));
        let times = |ids: u128, percent: u128| ids * percent.pow(days);
        if times(now, 100) > times(before, 101) + times(room, 100) {
            Self::Growing
        } else if times(now + room, 100) < times(before, 99) {
            Self::Shrinking
        } else {
            Self::Steady
        }
    }

    /// What readers are told.
    pub(crate) fn sentence(self) -> Option<&'static str> {
        match self {
            Self::Growing => Some(
                "The number is growing by more than 1 % a day, so that it lags behind: an installation counts from its \
                 second day on.",
            ),
            Self::Shrinking => Some("The number is shrinking by more than 1 % a day."),
            Self::Steady => None,
        }
    }
}

impl Published {
    /// The last day.
    #[must_use]
    pub fn latest(&self) -> Option<&DayNumbers> {
        self.days.last()
    }

    /// Whether the number of installations changes, by the nearest of the seven days before the last one since which it
    /// did; `None` where none of them was shown.
    #[must_use]
    pub fn trend(&self) -> Option<Trend> {
        let latest = self.latest()?;
        let now = latest.ids?;
        let trends = self.days.iter().rev().skip(1).filter_map(|numbers| {
            let days = u32::try_from((latest.day - numbers.day).get_days()).ok()?;
            let before = numbers.ids.filter(|_| (1..=TREND_DAYS).contains(&days))?;
            Some(Trend::between(before, now, days))
        });
        trends.reduce(|nearer, farther| if nearer == Trend::Steady { farther } else { nearer })
    }

    /// What `numbers.json` holds.
    #[must_use]
    pub fn to_file(&self) -> Option<NumbersFile<'_>> {
        let latest = self.latest()?;
        Some(NumbersFile {
            format: FORMAT,
            latest,
            channels: latest.channels(),
            published: latest.published(),
            trend: self.trend(),
            days: self
                .days
                .iter()
                .map(|numbers| DayLine {
                    day: numbers.day,
                    installations: numbers.installations,
                    versions: &numbers.versions,
                })
                .collect(),
        })
    }
}
