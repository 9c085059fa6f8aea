//! What is told of a UTC day, to maintainers and to everybody: how many installations there are, and of what kind.
//!
//! An ID counts where it pinged on that day and on an earlier one, by its last ping of the day: who makes IDs up adds
//! nothing on their first day. An installation whose ID was just replaced is missed for a day, one in [`CYCLE_DAYS`],
//! so the number of installations is that of the IDs, corrected by that. Everything shown is computed from the numbers
//! of IDs that [`rounding`] lets through, and nothing from the exact ones. `crates/collector/NUMBERS.md` derives it.

mod names;
pub mod rounding;
mod tally;

use std::collections::BTreeMap;

use jiff::civil::Date;
use pulse_telemetry_core::contract::Field;
use serde::{Deserialize, Serialize};

use self::names::{is_known, is_release};
use self::rounding::RoundingKey;
pub use self::tally::{DayTally, Lent, counted_fields};
use self::tally::{FieldTally, SIZES, VersionClass};

/// The version of the form in which numbers are published.
pub const FORMAT: u32 = 1;

/// How many days an ID lasts, and so on how many one of them is its first.
pub const CYCLE_DAYS: u64 = 30;

/// The cell of the values that are too rare to be shown.
const OTHER: &str = "other";

/// The numbers of one UTC day, as they are kept and published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayNumbers {
    /// [`FORMAT`], where this program wrote them.
    pub format: u32,
    /// The day.
    pub day: Date,
    /// IDs that pinged on that day and on an earlier one. `None` where they are too few to be shown.
    pub ids: Option<u64>,
    /// Installations: those IDs, corrected for rotation.
    pub installations: Option<u64>,
    /// Versions, the most frequent first.
    pub versions: Vec<VersionCell>,
    /// The other fields, in the order of the contract.
    pub fields: Vec<FieldNumbers>,
}

/// Installations of one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionCell {
    /// The version; `None` for those of this kind that are too rare to be shown.
    pub version: Option<String>,
    /// Its channel; `None` for the rest of all channels.
    pub channel: Option<String>,
    /// Whether it is that of a published release; `None` for the rest of all channels.
    pub published: Option<bool>,
    /// How many IDs.
    pub ids: u64,
}

/// Installations by the values of one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldNumbers {
    /// The field.
    pub field: String,
    /// Its values, or ranges of sizes from the smallest on. Empty where none can be shown.
    pub cells: Vec<ValueCell>,
}

/// Installations of one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueCell {
    /// The value, a range of sizes, `yes` or `no`, or `other`.
    pub value: String,
    /// How many IDs.
    pub ids: u64,
}

/// A group of IDs before it is rounded.
struct Group<T> {
    of: T,
    ids: u64,
}

impl DayNumbers {
    /// What may be shown of a day.
    #[must_use]
    pub fn new(day: Date, tally: &DayTally, key: &RoundingKey) -> Self {
        let ids = key.shown("", "", tally.ids);
        let mut numbers = Self {
            format: FORMAT,
            day,
            ids,
            installations: ids.map(installations),
            versions: Vec::new(),
            fields: Vec::new(),
        };
        if ids.is_some() {
            numbers.versions = versions(tally, key);
            numbers.fields = tally.fields.iter().map(|(field, tally)| field_numbers(field, tally, key)).collect();
        }
        numbers
    }

    /// The shown IDs by the word that each version has.
    fn by_version_class<'a>(&'a self, word: impl Fn(&'a VersionCell) -> Option<&'a str>) -> Vec<ValueCell> {
        let mut cells: BTreeMap<&str, u64> = BTreeMap::new();
        for cell in &self.versions {
            *cells.entry(word(cell).unwrap_or(OTHER)).or_insert(0) += cell.ids;
        }
        let cells = cells.into_iter().map(|(value, ids)| ValueCell { value: value.to_owned(), ids });
        largest_first(cells.collect())
    }

    /// The shown IDs by channel.
    #[must_use]
    pub fn channels(&self) -> Vec<ValueCell> {
        self.by_version_class(|cell| cell.channel.as_deref())
    }

    /// The shown IDs by whether their version was published.
    #[must_use]
    pub fn published(&self) -> Vec<ValueCell> {
        self.by_version_class(|cell| cell.published.map(|published| if published { "yes" } else { "no" }))
    }
}

/// Installations by the number of their IDs that pinged on a day and on an earlier one: of the days of an ID, one is
/// its first.
#[must_use]
pub fn installations(ids: u64) -> u64 {
    let missed = CYCLE_DAYS - 1;
    (ids * CYCLE_DAYS + missed / 2) / missed
}

fn largest_first(mut cells: Vec<ValueCell>) -> Vec<ValueCell> {
    cells.sort_by(|a, b| {
        let last = |cell: &ValueCell| cell.value == OTHER;
        last(a).cmp(&last(b)).then_with(|| b.ids.cmp(&a.ids)).then_with(|| a.value.cmp(&b.value))
    });
    cells
}

/// Versions that may be shown, of those of releases; the others together with those of their channel, and where these
/// are too few, with all.
fn versions(tally: &DayTally, key: &RoundingKey) -> Vec<VersionCell> {
    let mut shown = Vec::new();
    let mut rest: BTreeMap<VersionClass, u64> = BTreeMap::new();
    for (version, classes) in &tally.versions {
        for (class, ids) in classes {
            let name = format!("{} {version}", class_name(*class));
            match key.shown("version", &name, *ids).filter(|_| is_release(version)) {
                Some(ids) => shown.push(Group { of: (version.to_string(), *class), ids }),
                None => *rest.entry(*class).or_insert(0) += ids,
            }
        }
    }
    shown.sort_by(|a, b| b.ids.cmp(&a.ids).then_with(|| a.of.cmp(&b.of)));
    let cell = |version, class: Option<VersionClass>, ids| VersionCell {
        version,
        channel: class.map(|class| class.channel.to_owned()),
        published: class.map(|class| class.published),
        ids,
    };
    let mut cells: Vec<_> =
        shown.into_iter().map(|Group { of: (version, class), ids }| cell(Some(version), Some(class), ids)).collect();
    let mut remaining = 0;
    for (class, ids) in rest {
        match key.shown("version of a class", &class_name(class), ids) {
            Some(ids) => cells.push(cell(None, Some(class), ids)),
            None => remaining += ids,
        }
    }
    cells.extend(key.shown("version", OTHER, remaining).map(|ids| cell(None, None, ids)));
    cells
}

fn class_name(class: VersionClass) -> String {
    format!("{} {}", class.channel, if class.published { "published" } else { "not published" })
}

fn field_numbers(field: &Field, tally: &FieldTally, key: &RoundingKey) -> FieldNumbers {
    let cells = match tally {
        FieldTally::Words(words) => {
            let mut cells = Vec::new();
            let mut rest = 0;
            for (word, ids) in words {
                match key.shown(field.name, &format!("word {word}"), *ids).filter(|_| is_known(field, word)) {
                    Some(ids) => cells.push(ValueCell { value: word.to_string(), ids }),
                    None => rest += ids,
                }
            }
            let rest = key.shown(field.name, OTHER, rest);
            cells.extend(rest.map(|ids| ValueCell { value: OTHER.to_owned(), ids }));
            largest_first(cells)
        }
        FieldTally::Sizes(sizes) => histogram(field.name, sizes, key),
        FieldTally::Flags { yes, no } => [("yes", *yes), ("no", *no)]
            .into_iter()
            .filter_map(|(value, ids)| {
                key.shown(field.name, value, ids).map(|ids| ValueCell { value: value.to_owned(), ids })
            })
            .collect(),
    };
    FieldNumbers { field: field.name.to_owned(), cells }
}

/// Ranges of sizes, each of which may be shown: one that may not is joined with its smaller neighbour, the smallest
/// first. Empty where not even all of them together may be shown.
fn histogram(field: &str, sizes: &[u64; SIZES.len()], key: &RoundingKey) -> Vec<ValueCell> {
    let mut ranges: Vec<Group<(usize, usize)>> =
        sizes.iter().enumerate().map(|(at, ids)| Group { of: (at, at), ids: *ids }).collect();
    loop {
        let shown: Vec<_> = ranges
            .iter()
            .map(|range| {
                let value = size_name(range.of);
                key.shown(field, &value, range.ids).map(|ids| ValueCell { value, ids })
            })
            .collect();
        let hidden = (0..ranges.len()).filter(|at| shown[*at].is_none()).min_by_key(|at| ranges[*at].ids);
        let Some(at) = hidden else { return shown.into_iter().flatten().collect() };
        if ranges.len() == 1 {
            return Vec::new();
        }
        let left = match (at.checked_sub(1), ranges.get(at + 1)) {
            (Some(left), Some(right)) if ranges[left].ids <= right.ids => left,
            (Some(left), None) => left,
            _ => at,
        };
        let right = ranges.remove(left + 1);
        ranges[left].of.1 = right.of.1;
        ranges[left].ids += right.ids;
    }
}

/// The name of the sizes from one range to another.
fn size_name((first, last): (usize, usize)) -> String {
    let from = SIZES[first];
    match SIZES.get(last + 1) {
        None => format!("{from} and more"),
        Some(next) if *next == from + 1 => from.to_string(),
        Some(next) => format!("{from} to {}", next - 1),
    }
}
