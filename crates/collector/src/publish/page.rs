//! The page: no script, nothing from elsewhere, each chart beside its table.

use jiff::civil::Date;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use pulse_telemetry_core::contract;

use super::chart::{self, Bar, Series, grouped};
use super::{Published, Trend};
use crate::numbers::rounding::{STEP, THRESHOLD_MIN};
use crate::numbers::{CYCLE_DAYS, DayNumbers, FieldNumbers, ValueCell, VersionCell, installations};
use crate::storage::RETENTION_DAYS;

const STYLE: &str = include_str!("page.css");

/// Nothing but the style above, and an icon of no bytes, so that browsers ask for none.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// How many versions the page shows over time, each of which has a colour.
const VERSIONS_OVER_TIME: usize = 6;

/// How many versions are drawn; the table has them all.
const VERSIONS_DRAWN: usize = 12;

/// How many days the page shows. `numbers.json` has them all.
const DAYS_SHOWN: usize = 366;

/// The published page.
#[must_use]
pub fn page(published: &Published) -> Markup {
    let latest = published.latest().map(|latest| format!("days/{}.json", latest.day));
    document(
        "Pulse installations",
        &html! {
            header {
                h1 { "Pulse installations" }
                p { "Counted from the daily pings of the installations that send telemetry, and rounded so that no \
                    single one shows." }
                p {
                    "The same for programs: " a href="numbers.json" { "numbers.json" } " with "
                    a href="numbers.schema.json" { "its schema" }
                    @if let Some(latest) = latest { ", and " a href=(latest) { "a file for each day" } }
                    "."
                }
            }
            main { (numbers(published)) (method()) }
        },
    )
}

/// A whole page, as the maintainers' page has it, too.
pub(crate) fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="referrer" content="no-referrer";
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
}

/// The numbers of the last day, and those over time.
pub(crate) fn numbers(published: &Published) -> Markup {
    let Some(latest) = published.latest() else {
        return html! { p { "No whole day was counted yet: a day is counted when it is over, from the second day with \
        pings on." } };
    };
    // On the first day no ID was seen before.
    let began = published.days.iter().position(|numbers| numbers.ids.is_some()).unwrap_or_default();
    let from = began.max(published.days.len().saturating_sub(DAYS_SHOWN));
    let shown = published.days.get(from..).unwrap_or_default();
    html! {
        (active(latest, published.trend(), shown))
        section aria-labelledby="versions" {
            h2 id="versions" { "Versions" }
            div class="grid" {
                (versions_over_time(shown))
                (card("version", &bars_of_versions(latest), chart_of_versions))
                (card("version_channel", &bars_of(latest, &latest.channels()), chart::bars))
                (card("version_is_published_release", &bars_of(latest, &latest.published()), chart::bars))
            }
        }
        (fields(latest, "platforms", "Platforms", ChartKind::Word))
        (fields(latest, "sizes", "Sizes", ChartKind::Size))
        (fields(latest, "features", "Features and licence", ChartKind::Flag))
    }
}

/// How many installations there are, and were.
fn active(latest: &DayNumbers, trend: Option<Trend>, shown: &[DayNumbers]) -> Markup {
    let title = "Active installations by day";
    let days: Vec<Date> = shown.iter().map(|numbers| numbers.day).collect();
    let counts = shown.iter().map(|numbers| numbers.installations).collect();
    let series = Series { label: "installations".to_owned(), counts };
    html! {
        section aria-labelledby="active" {
            h2 id="active" { "Active installations" }
            div class="card" {
                @match (latest.installations, latest.ids) {
                    (Some(installations), Some(ids)) => {
                        p class="total" { (grouped(installations)) }
                        p { "on " (latest.day.strftime("%-d %B %Y")) ", from " (grouped(ids)) " install IDs, \
                            corrected for their rotation." (before(latest, shown).unwrap_or_default()) }
                    }
                    _ => p { "Too few on " (latest.day.strftime("%-d %B %Y")) " to be shown." },
                }
                @if let Some(sentence) = trend.and_then(Trend::sentence) { p { (sentence) } }
                @if days.len() > 1 {
                    h3 { "Installations by day" }
                    (chart::line(title, &days, &series))
                    (table_by_day(title, &days, &[series]))
                }
            }
        }
    }
}

/// How many there were when the cycle of an ID began.
fn before(latest: &DayNumbers, shown: &[DayNumbers]) -> Option<String> {
    let cycle = i32::try_from(CYCLE_DAYS).ok()?;
    let before = shown.iter().find(|numbers| (latest.day - numbers.day).get_days() == cycle)?;
    Some(format!(" {CYCLE_DAYS} days before: {}.", grouped(before.installations?)))
}

/// The most frequent versions of these days, and the others together.
fn versions_over_time(shown: &[DayNumbers]) -> Markup {
    let labels = most_frequent_versions(shown);
    let days: Vec<Date> = shown.iter().map(|numbers| numbers.day).collect();
    if labels.is_empty() || days.len() < 2 {
        return Markup::default();
    }
    let count_by_day = |is_counted: &dyn Fn(&str) -> bool| -> Vec<Option<u64>> {
        let sum = |numbers: &DayNumbers| {
            numbers.versions.iter().filter(|cell| is_counted(&version_label(cell))).map(|cell| cell.ids).sum()
        };
        shown.iter().map(|numbers| Some(installations(sum(numbers))).filter(|count| *count > 0)).collect()
    };
    let mut series: Vec<Series> = labels
        .iter()
        .map(|label| Series { label: label.clone(), counts: count_by_day(&|other| other == label) })
        .collect();
    let others = count_by_day(&|other| !labels.iter().any(|label| label == other));
    if others.iter().any(Option::is_some) {
        series.push(Series { label: "all others".to_owned(), counts: others });
    }
    let title = "Versions by day";
    html! {
        div class="card wide" {
            h3 { "Versions by day" }
            p { "Installations of each version, one upon the other. Numbers too small to be shown are left out." }
            (chart::layers(title, &days, &series))
            (table_by_day(title, &days, &series))
        }
    }
}

/// The labels of the versions with the most IDs over these days, in the order in which they came.
fn most_frequent_versions(shown: &[DayNumbers]) -> Vec<String> {
    let mut versions: Vec<(String, u64)> = Vec::new();
    for cell in shown.iter().flat_map(|numbers| &numbers.versions).filter(|cell| cell.version.is_some()) {
        let label = version_label(cell);
        match versions.iter_mut().find(|(known, _)| *known == label) {
            Some((_, ids)) => *ids += cell.ids,
            None => versions.push((label, cell.ids)),
        }
    }
    let mut by_ids: Vec<u64> = versions.iter().map(|(_, ids)| *ids).collect();
    by_ids.sort_unstable_by(|a, b| b.cmp(a));
    let least = by_ids.get(VERSIONS_OVER_TIME - 1).copied().unwrap_or_default();
    versions.retain(|(_, ids)| *ids >= least);
    versions.into_iter().map(|(label, _)| label).take(VERSIONS_OVER_TIME).collect()
}

/// Numbers by day, the newest first.
fn table_by_day(title: &str, days: &[Date], series: &[Series]) -> Markup {
    let rows = days.iter().enumerate().rev();
    let count = |series: &Series, at: usize| {
        series.counts.get(at).copied().flatten().map_or_else(|| "not shown".to_owned(), grouped)
    };
    details(
        title,
        &html! {
            div class="scroll" tabindex="0" role="region" aria-label=(title) {
                table {
                    caption { (title) }
                    thead {
                        tr {
                            th scope="col" { "day" }
                            @for series in series { th scope="col" class="number" { (series.label) } }
                        }
                    }
                    tbody {
                        @for (at, day) in rows {
                            tr {
                                th scope="row" { (day) }
                                @for series in series { td class="number" { (count(series, at)) } }
                            }
                        }
                    }
                }
            }
        },
    )
}

/// The fields of one kind.
fn fields(latest: &DayNumbers, id: &str, title: &str, kind: ChartKind) -> Markup {
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (title) }
            div class="grid" {
                @for field in latest.fields.iter().filter(|field| kind_of(field) == Some(kind)) {
                    @let bars = bars_of(latest, &field.cells);
                    @match kind {
                        ChartKind::Word => (card(&field.field, &bars, chart::bars)),
                        ChartKind::Size => (card(&field.field, &bars, chart::histogram)),
                        ChartKind::Flag => (card(&field.field, &bars, share_of_yes)),
                    }
                }
            }
        }
    }
}

/// A field, with its purpose, its chart and the table that says the same.
fn card(field: &str, bars: &[Bar], chart: impl Fn(&str, &[Bar]) -> Markup) -> Markup {
    let purpose = contract::field(field).map_or("", |field| field.purpose);
    html! {
        div class="card" {
            h3 { code { (field) } }
            p { (purpose) }
            @if bars.is_empty() {
                p { "Too few to be shown." }
            } @else {
                (chart(field, bars))
                (details(field, &html! {
                    table {
                        caption { code { (field) } }
                        thead {
                            tr {
                                th scope="col" { "value" }
                                th scope="col" class="number" { "IDs" }
                                th scope="col" class="number" { "share" }
                            }
                        }
                        tbody {
                            @for bar in bars {
                                tr {
                                    th scope="row" { (bar.label) }
                                    td class="number" { (grouped(bar.count)) }
                                    td class="number" { (bar.share()) }
                                }
                            }
                        }
                    }
                }))
            }
        }
    }
}

fn details(title: &str, table: &Markup) -> Markup {
    html! { details { summary { "As a table" span class="apart" { ": " (title) } } (table) } }
}

fn chart_of_versions(title: &str, bars: &[Bar]) -> Markup {
    let drawn = bars.get(..VERSIONS_DRAWN).unwrap_or(bars);
    html! {
        (chart::bars(title, drawn))
        @if drawn.len() < bars.len() { p { "And " (bars.len() - drawn.len()) " more in the table." } }
    }
}

/// In how many installations it is so.
fn share_of_yes(_title: &str, bars: &[Bar]) -> Markup {
    let cell = |value: &str| bars.iter().find(|bar| bar.label == value);
    html! {
        @match cell("yes") {
            Some(yes) => {
                p class="share" { (yes.share()) }
                @if cell("no").is_none() { p { "the others are too few to be shown" } }
                (chart::meter(yes))
            }
            None => p class="share few" { "too few to be shown" },
        }
    }
}

fn bars_of(day: &DayNumbers, cells: &[ValueCell]) -> Vec<Bar> {
    bars_of_all(day, cells.iter().map(|cell| (cell.value.clone(), cell.ids)).collect())
}

fn bars_of_versions(day: &DayNumbers) -> Vec<Bar> {
    bars_of_all(day, day.versions.iter().map(|cell| (version_label(cell), cell.ids)).collect())
}

/// Of all IDs of the day, for those of hidden cells are not in the sum. Rounding can make the sum the larger.
fn bars_of_all(day: &DayNumbers, cells: Vec<(String, u64)>) -> Vec<Bar> {
    let all = day.ids.unwrap_or(0).max(cells.iter().map(|(_, ids)| ids).sum());
    cells.into_iter().map(|(label, count)| Bar { label, count, all }).collect()
}

pub(super) fn version_label(cell: &VersionCell) -> String {
    let mark = if cell.published == Some(false) { ", not published" } else { "" };
    match (&cell.version, &cell.channel) {
        (Some(version), Some(channel)) => format!("{version} ({channel}{mark})"),
        (Some(version), None) => version.clone(),
        (None, Some(channel)) => format!("other ({channel}{mark})"),
        (None, None) => "other".to_owned(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ChartKind {
    Word,
    Size,
    Flag,
}

fn kind_of(field: &FieldNumbers) -> Option<ChartKind> {
    Some(match contract::field(&field.field)?.kind {
        contract::FieldKind::Count => ChartKind::Size,
        contract::FieldKind::Flag => ChartKind::Flag,
        _ => ChartKind::Word,
    })
}

pub(crate) fn method() -> Markup {
    html! {
        section aria-labelledby="method" {
            h2 id="method" { "How this is counted, and what is not shown" }
            div class="card" {
                dl class="facts" {
                    dt { "Who counts" }
                    dd {
                        "An install ID that pinged on that UTC day and on an earlier one, by its last ping of the day. \
                         An ID counts nothing on its first day, so that made-up ones add nothing then."
                    }
                    dt { "Rotation" }
                    dd {
                        "An ID is replaced after " (CYCLE_DAYS) " days, and the new one is missed on its first day. "
                        "So installations are IDs times " (CYCLE_DAYS) " / " (CYCLE_DAYS - 1)
                        ". Charts of one day tell IDs."
                    }
                    dt { "Thresholds" }
                    dd {
                        "A number is shown from " (THRESHOLD_MIN) " IDs on; the threshold of each is up to "
                        (STEP - 1) " higher, by a secret key, and always the same."
                    }
                    dt { "Rounding" }
                    dd {
                        "Each number is a multiple of " (STEP) ", rounded up or down by the same key. Shares are of \
                         the rounded numbers, in whole per cent of all IDs, hidden ones among them."
                    }
                    dt { "Small groups" }
                    dd {
                        "Sizes that are too rare are joined with their neighbours, versions with those of their \
                         channel, words as " em { "other" } ", and so is what is no release or system that is known. \
                         What is too rare even then is not shown. So numbers do not add up: if they did, what is \
                         missing would follow from the rest."
                    }
                    dt { "Never shown" }
                    dd {
                        code { "install_id" } " tells installations apart; " code { "event" } " says only that one "
                        "started; " code { "version_raw" } ", " code { "version_build" } " and "
                        code { "version_is_development" } " are of builds of one's own, which are few. Nor is it shown \
                         how two fields go together: that singles out soonest."
                    }
                    dt { "Days" }
                    dd {
                        "A day is published once and never changes. It stays here after its rows are deleted, which \
                         happens after " (RETENTION_DAYS) " days."
                    }
                }
            }
        }
    }
}
