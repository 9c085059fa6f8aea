//! What the data is collected for: how many installations there are, and of what kind. Aggregates only.
//!
//! An installation counts by its last ping in a window. Install IDs rotate every 30 days, so that a window of w days
//! sees more IDs than there are installations: by 1 + (w − 1) / 30. Every count is divided by that, and the report
//! shows both. A cell of fewer than [`K`] installations could show a single installation, so such cells are folded
//! together; where they do not make up [`K`] even then, the next smallest ones join them. Every number that is shown is
//! rounded to a multiple of [`K`], so that no smaller group can be computed from two of them: of two tables, windows or
//! days, one of which holds the other.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_core::contract::{FIELDS, FieldKind};
use pulse_telemetry_core::identity::ROTATION;
use pulse_telemetry_core::printable::printable;
use serde::Serialize;

use super::ingest::{Cell, Cells};
use super::storage::{Read, Row, StorageError, day_of, readable_since};

/// The fewest installations that a cell shows.
pub const K: u64 = 5;

/// The windows: their names and lengths. 25 hours hold a heartbeat of every installation, 24 h ± 30 min apart.
const WINDOWS: [(&str, u64); 4] = [("25h", 25), ("72h", 72), ("7d", 7 * 24), ("30d", 30 * 24)];

/// Where the sizes of a distribution begin: 0, 1, 2 to 5, and so on.
const SIZES: [u32; 10] = [0, 1, 2, 6, 11, 26, 51, 101, 251, 1001];

/// The name of the cells that were folded together.
const OTHER: &str = "other";

/// The fields that tell installations apart, and so are never a table.
const NO_TABLES: [&str; 2] = ["install_id", "event"];

/// Texts that only make sense beside the version.
const BESIDE_THE_VERSION: [&str; 2] = ["version_raw", "version_build"];

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UsageReport {
    /// The end of every window.
    pub until: Timestamp,
    /// The fewest installations that a cell shows.
    pub k: u64,
    /// The report of each window, the shortest first.
    pub windows: Vec<Window>,
    /// The versions of each day, the oldest day first.
    pub uptake: Vec<Day>,
}

/// One window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    /// Its name: 25h, 72h, 7d or 30d.
    pub name: &'static str,
    /// Its length in days.
    pub days: f64,
    /// How many of these days there are pings of: from the oldest one on, and at least 1.
    pub span: f64,
    /// What the numbers of IDs are divided by: 1 + (span − 1) / 30.
    pub correction: f64,
    /// All installations. `None` where they are fewer than K.
    pub active: Option<Count>,
    /// The tables, in the order of the contract.
    pub tables: Vec<Table>,
}

/// How many there are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Count {
    /// Distinct install IDs, rounded to a multiple of [`K`].
    pub ids: u64,
    /// Installations: those IDs, corrected for rotation. They tell nothing more than the IDs do.
    pub installations: u64,
}

/// Installations by the values of one field.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// The field.
    pub field: &'static str,
    /// Its values. Empty where nothing can be told without showing a small cell.
    pub cells: Vec<TableCell>,
}

/// One value and how many have it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableCell {
    /// The value, a range of sizes, or `other` for the values that were folded together.
    pub value: String,
    /// How many have it.
    #[serde(flatten)]
    pub count: Count,
}

/// The versions of one UTC day.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Day {
    /// The day.
    pub day: jiff::civil::Date,
    /// Distinct IDs by version. No correction: within one day an ID is an installation.
    pub versions: Vec<TableCell>,
}

/// Reads the rows and reports on them.
///
/// # Errors
/// The storage cannot be read.
pub async fn report(store: &dyn Read, now: Timestamp) -> Result<UsageReport, StorageError> {
    let mut counting = ReportBuilder::new(now);
    store.scan(readable_since(now, longest_since(now)), &mut |row| counting.add(&row)).await?;
    Ok(counting.report())
}

/// When the longest window begins.
fn longest_since(now: Timestamp) -> Timestamp {
    ago(now, WINDOWS.iter().map(|(_, hours)| *hours).max().unwrap_or_default())
}

fn ago(now: Timestamp, hours: u64) -> Timestamp {
    let span = SignedDuration::from_hours(i64::try_from(hours).unwrap_or(i64::MAX / 3600));
    now.saturating_sub(span).unwrap_or(Timestamp::MIN)
}

/// What is kept of the rows while they are read: for each ID its last ping, every value as a small number.
pub struct ReportBuilder {
    now: Timestamp,
    /// When the first row that counts was received.
    oldest: Option<Timestamp>,
    words: [Words; FIELDS.len()],
    last: HashMap<Box<str>, Last>,
    today: Option<Today>,
    uptake: Vec<Day>,
}

/// The last ping of one ID.
struct Last {
    at: Timestamp,
    values: Box<[u32; FIELDS.len()]>,
}

/// The IDs of the day that is being read, and the version of each.
struct Today {
    day: jiff::civil::Date,
    versions: HashMap<Box<str>, u32>,
}

/// The values of one field, and a number for each.
#[derive(Default)]
struct Words {
    numbers: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Words {
    fn number(&mut self, text: String) -> u32 {
        let next = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            next
        })
    }

    fn text(&self, number: u32) -> &str {
        usize::try_from(number).ok().and_then(|at| self.texts.get(at)).map_or("", String::as_str)
    }
}

impl ReportBuilder {
    /// A count of the windows that end at this time.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let words = std::array::from_fn(|_| Words::default());
        Self { now, oldest: None, words, last: HashMap::new(), today: None, uptake: Vec::new() }
    }

    /// Counts a row. Rows of one day come together, the oldest day first.
    pub fn add(&mut self, row: &Row) {
        if row.received_at > self.now {
            return;
        }
        let Some(id) = text_of(&row.cells, "install_id") else { return };
        self.oldest = Some(self.oldest.map_or(row.received_at, |oldest| oldest.min(row.received_at)));
        self.add_to_the_day(row, id);
        let last = self.last.get(id);
        if last.is_some_and(|last| last.at > row.received_at) {
            return;
        }
        let mut values = Box::new([0; FIELDS.len()]);
        for (((field, cell), words), value) in FIELDS.iter().zip(&*row.cells).zip(&mut self.words).zip(&mut *values) {
            if field.name == "version" {
                *value = words.number(version_of(&row.cells));
            } else if has_a_table(field.name) {
                *value = words.number(shown(cell));
            }
        }
        self.last.insert(id.into(), Last { at: row.received_at, values });
    }

    fn add_to_the_day(&mut self, row: &Row, id: &str) {
        let day = day_of(row.received_at);
        if self.today.as_ref().is_none_or(|today| today.day != day) {
            self.close_the_day();
        }
        let number = self.words[field_at("version")].number(version_of(&row.cells));
        let today = self.today.get_or_insert_with(|| Today { day, versions: HashMap::new() });
        today.versions.insert(id.into(), number);
    }

    fn close_the_day(&mut self) {
        let Some(today) = self.today.take() else { return };
        // Of the day on which the longest window begins there is only a fragment.
        if today.day == day_of(longest_since(self.now)) {
            return;
        }
        let mut counts = HashMap::new();
        for version in today.versions.values() {
            *counts.entry(*version).or_insert(0) += 1;
        }
        let words = &self.words[field_at("version")];
        let cells = counts.into_iter().map(|(version, ids)| (words.text(version).to_owned(), ids)).collect();
        let versions = in_cells(fold(cells, 1.0), 1.0);
        self.uptake.push(Day { day: today.day, versions });
    }

    /// The report on what was counted.
    #[must_use]
    pub fn report(mut self) -> UsageReport {
        self.close_the_day();
        let windows = WINDOWS.iter().map(|(name, hours)| self.window(name, *hours)).collect();
        UsageReport { until: self.now, k: K, windows, uptake: self.uptake }
    }

    /// For how long there have been pings.
    fn age(&self) -> Duration {
        self.oldest.and_then(|oldest| Duration::try_from(self.now.duration_since(oldest)).ok()).unwrap_or_default()
    }

    fn window(&self, name: &'static str, hours: u64) -> Window {
        let since = ago(self.now, hours);
        let length = Duration::from_secs(hours * 60 * 60);
        let span = length.min(self.age()).max(Duration::from_secs(24 * 60 * 60));
        let correction = correction(span);
        let within: Vec<&Last> = self.last.values().filter(|last| last.at >= since).collect();
        let ids = within.len() as u64;
        let tables = FIELDS.iter().zip(&self.words).enumerate().filter(|(_, (field, _))| has_a_table(field.name));
        let tables = tables.map(|(at, (field, words))| {
            let mut counts: HashMap<u32, u64> = HashMap::new();
            for last in &within {
                *counts.entry(last.values[at]).or_insert(0) += 1;
            }
            let cells = counts.into_iter().map(|(value, ids)| (words.text(value).to_owned(), ids)).collect();
            let mut cells = in_cells(fold(cells, correction), correction);
            if matches!(field.kind, FieldKind::Count) {
                cells.sort_by_key(|cell| {
                    SIZES.iter().position(|from| size_name(*from) == cell.value).unwrap_or(SIZES.len())
                });
            }
            Table { field: field.name, cells }
        });
        Window {
            name,
            days: length.as_secs_f64() / 86_400.0,
            span: span.as_secs_f64() / 86_400.0,
            correction,
            active: is_shown(ids, correction).then(|| counted(ids, correction)),
            tables: tables.collect(),
        }
    }
}

/// What the number of distinct IDs in a window has to be divided by: an installation that sends one ping a day has
/// replaced its ID (w − 1) / 30 times between the first and the last of w pings.
#[must_use]
pub fn correction(window: Duration) -> f64 {
    let day = Duration::from_secs(24 * 60 * 60).as_secs_f64();
    1.0 + (window.as_secs_f64() - day).max(0.0) / ROTATION.as_secs_f64()
}

/// Whether so many IDs are [`K`] installations. An installation whose ID was replaced has two.
#[expect(clippy::cast_precision_loss, reason = "numbers of IDs are far below 2^52")]
fn is_shown(ids: u64, correction: f64) -> bool {
    ids as f64 / correction >= K as f64
}

/// Folds small cells into one, and more of them where those alone would still be too few. Nothing is left where even
/// all of them are too few, or where all were folded.
#[must_use]
pub fn fold(mut cells: Vec<(String, u64)>, correction: f64) -> Vec<(String, u64)> {
    cells.sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    let mut folded = 0;
    while let Some((_, ids)) = cells.last()
        && (!is_shown(*ids, correction) || (folded > 0 && !is_shown(folded, correction)))
    {
        folded += ids;
        cells.pop();
    }
    if cells.is_empty() {
        return Vec::new();
    }
    if folded > 0 {
        cells.push((OTHER.to_owned(), folded));
    }
    cells
}

fn in_cells(cells: Vec<(String, u64)>, correction: f64) -> Vec<TableCell> {
    cells.into_iter().map(|(value, ids)| TableCell { value, count: counted(ids, correction) }).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "numbers of installations are far below 2^52"
)]
fn counted(ids: u64, correction: f64) -> Count {
    let ids = rounded(ids);
    Count { ids, installations: (ids as f64 / correction).round() as u64 }
}

/// The multiple of [`K`] that is nearest. Of numbers from [`K`] on, it is never zero.
#[must_use]
pub fn rounded(ids: u64) -> u64 {
    (ids + K / 2) / K * K
}

fn has_a_table(field: &str) -> bool {
    !NO_TABLES.contains(&field) && !BESIDE_THE_VERSION.contains(&field)
}

#[expect(clippy::expect_used, reason = "the names are constants, and each report asks for all of them")]
fn field_at(name: &str) -> usize {
    FIELDS.iter().position(|field| field.name == name).expect("a field of the contract")
}

fn text_of<'a>(cells: &'a Cells, name: &str) -> Option<&'a str> {
    match &cells[field_at(name)] {
        Cell::Text(text) => Some(text),
        _ => None,
    }
}

/// The version as a table shows it: one that was not published says so.
fn version_of(cells: &Cells) -> String {
    let version = plain(text_of(cells, "version").unwrap_or_default());
    let is_published = cells[field_at("version_is_published_release")] == Cell::Flag(true);
    if is_published { version } else { format!("{version} (not published)") }
}

/// A text that cannot change how a report looks, and is another one than [`OTHER`].
fn plain(text: &str) -> String {
    let plain = printable(text);
    if plain == OTHER { format!("{OTHER} (as sent)") } else { plain }
}

/// A value as a table shows it.
fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Text(text) => plain(text),
        Cell::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Cell::Count(count) => size_name(SIZES.iter().copied().rfind(|from| from <= count).unwrap_or_default()),
    }
}

/// The name of the sizes that begin there.
fn size_name(from: u32) -> String {
    let next = SIZES.iter().copied().find(|size| *size > from);
    match next {
        None => format!("{from} and more"),
        Some(next) if next == from + 1 => from.to_string(),
        Some(next) => format!("{from} to {}", next - 1),
    }
}

impl UsageReport {
    /// The report for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "Pulse installations, until {}", self.until)?;
        writeln!(
            text,
            "Cells of fewer than {0} are folded together, and numbers of IDs rounded to multiples of {0}.",
            self.k
        )?;
        for window in &self.windows {
            writeln!(text, "\n## {}", window.name)?;
            let Some(active) = window.active else {
                writeln!(text, "fewer than {} installations: nothing is shown", self.k)?;
                continue;
            };
            writeln!(
                text,
                "active installations: {} ({} install IDs / {:.3}, for IDs rotate every 30 days; pings of {:.1} days)",
                active.installations, active.ids, window.correction, window.span
            )?;
            for table in &window.tables {
                let cells: Vec<_> =
                    table.cells.iter().map(|cell| format!("{}: {}", cell.value, cell.count.installations)).collect();
                let cells = if cells.is_empty() { "not shown".to_owned() } else { cells.join(", ") };
                writeln!(text, "  {:<29} {cells}", table.field)?;
            }
        }
        writeln!(text, "\n## install IDs by version, day by day")?;
        for day in &self.uptake {
            let cells: Vec<_> = day.versions.iter().map(|cell| format!("{}: {}", cell.value, cell.count.ids)).collect();
            let cells = if cells.is_empty() { "not shown".to_owned() } else { cells.join(", ") };
            let so_far = if day.day == day_of(self.until) { " (so far)" } else { "" };
            writeln!(text, "  {}{so_far} {cells}", day.day)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(counts: &[u64]) -> Vec<(String, u64)> {
        fold(counts.iter().enumerate().map(|(at, count)| (at.to_string(), *count)).collect(), 1.0)
    }

    #[test]
    fn no_cell_of_fewer_than_five_is_shown_nor_can_one_be_computed() {
        let text = |cells: &[(&str, u64)]| -> Vec<(String, u64)> {
            cells.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        assert_eq!(folded(&[10, 5]), text(&[("0", 10), ("1", 5)]));
        assert_eq!(folded(&[10, 4, 3]), text(&[("0", 10), ("other", 7)]));
        // A single small cell takes the next smallest one along, or the total would give it away.
        assert_eq!(folded(&[100, 20, 2]), text(&[("0", 100), ("other", 22)]));
        // Where that leaves nothing, nothing is shown.
        assert_eq!(folded(&[97, 3]), text(&[]));
        assert_eq!(folded(&[4]), text(&[]));
        // Nine IDs of a month may be those of four installations, and ten are those of five.
        let of_a_month = |ids| fold(text(&[("a", 50), ("b", ids), ("c", ids)]), 2.0).len();
        assert_eq!((of_a_month(9), of_a_month(10)), (2, 3));
        assert_eq!(folded(&[]), text(&[]));
    }

    #[test]
    fn a_value_neither_changes_how_a_report_looks_nor_passes_for_the_folded_cells() {
        assert_eq!(plain("6.3.0\u{1b}[2J\u{202e}\n"), "6.3.0\u{fffd}[2J\u{fffd}\u{fffd}");
        assert_eq!(plain("other"), "other (as sent)");
    }

    #[test]
    fn the_correction_is_that_of_the_published_formula() {
        let of_days = |days: u64| correction(Duration::from_secs(days * 86_400));
        assert!((of_days(1) - 1.0).abs() < 1e-9);
        assert!((of_days(7) - 1.2).abs() < 1e-9);
        assert!((of_days(30) - (1.0 + 29.0 / 30.0)).abs() < 1e-9);
    }
}
