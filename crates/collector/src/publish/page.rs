//! The page: no script, nothing from elsewhere, each chart beside its table.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use pulse_telemetry_core::contract;

use super::chart::{self, Bar, Point};
use super::{Published, Trend};
use crate::numbers::rounding::{STEP, THRESHOLD_MIN};
use crate::numbers::{CYCLE_DAYS, DayNumbers, FieldNumbers, ValueCell, VersionCell, installations};

const STYLE: &str = include_str!("page.css");

/// How many versions the page shows over time.
const VERSIONS_OVER_TIME: usize = 6;

/// The published page.
#[must_use]
pub fn page(published: &Published) -> Markup {
    document(
        "Pulse installations",
        &html! {
            header {
                h1 { "Pulse installations" }
                p { "What " a href="numbers.json" { "numbers.json" } " (" a href="numbers.schema.json" { "its schema" } ") holds, as a page. \
                    It is made of the telemetry of installations that send it, and shows no single one." }
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
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
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
        return html! { p { "No whole day was counted yet: a day is counted when it is over, from the second day with pings on." } };
    };
    html! {
        section aria-labelledby="active" {
            h2 id="active" { "Active installations on " (latest.day) }
            (total(latest, published.trend()))
            div class="grid" { (over_time(published)) }
        }
        section aria-labelledby="versions" {
            h2 id="versions" { "Versions" }
            div class="grid" {
                (card("Versions", purpose("version"), &bars_of_versions(&latest.versions)))
                (card("Channels", purpose("version_channel"), &bars_of(&latest.channels())))
                (card("Published releases", purpose("version_is_published_release"), &bars_of(&latest.published())))
                (versions_over_time(published))
            }
        }
        @for (title, kind) in [("Platforms", Kind::Word), ("Sizes", Kind::Size), ("Features and licence", Kind::Flag)] {
            section aria-label=(title) {
                h2 { (title) }
                div class="grid" {
                    @for field in latest.fields.iter().filter(|field| kind_of(field) == Some(kind)) {
                        (card(&field.field, purpose(&field.field), &bars_of(&field.cells)))
                    }
                }
            }
        }
    }
}

fn total(latest: &DayNumbers, trend: Option<Trend>) -> Markup {
    html! {
        @match (latest.installations, latest.ids) {
            (Some(installations), Some(ids)) => {
                p class="total" { (installations) }
                p class="dim" { (ids) " install IDs, corrected for their rotation." }
            }
            _ => p { "Too few to be shown." },
        }
        @match trend {
            Some(Trend::Growing) => p { "The number is growing by more than 1 % a day: it lags behind, for an installation counts from its second day on." },
            Some(Trend::Shrinking) => p { "The number is shrinking by more than 1 % a day." },
            Some(Trend::Steady) | None => {},
        }
    }
}

fn over_time(published: &Published) -> Markup {
    let points: Vec<Point> = published
        .days
        .iter()
        .map(|numbers| Point { day: numbers.day.to_string(), count: numbers.installations })
        .collect();
    let title = "Installations by day";
    html! {
        div class="card" {
            h3 { (title) }
            (chart::line(title, &points))
            details {
                summary { "As a table" }
                div class="scroll" tabindex="0" role="region" aria-label=(title) {
                    table {
                        caption { (title) }
                        thead { tr { th scope="col" { "day" } th scope="col" class="number" { "installations" } } }
                        tbody {
                            @for point in points.iter().rev() {
                                tr { th scope="row" { a href=(format!("days/{}.json", point.day)) { (point.day) } } td class="number" { (shown(point.count)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The most frequent versions, a chart each, by the same scale of days.
fn versions_over_time(published: &Published) -> Markup {
    let Some(latest) = published.latest() else { return Markup::default() };
    let named = latest.versions.iter().filter(|cell| cell.version.is_some()).take(VERSIONS_OVER_TIME);
    html! {
        @for cell in named {
            @let label = version_label(cell);
            @let title = format!("{label} by day");
            @let count = |numbers: &DayNumbers| {
                let there = |other: &&VersionCell| (&other.version, &other.channel, other.published) == (&cell.version, &cell.channel, cell.published);
                numbers.versions.iter().find(there).map(|cell| installations(cell.ids))
            };
            @let points: Vec<Point> = published.days.iter().map(|numbers| Point { day: numbers.day.to_string(), count: count(numbers) }).collect();
            div class="card" {
                h3 { (title) }
                (chart::line(&title, &points))
                details {
                    summary { "As a table" }
                    div class="scroll" tabindex="0" role="region" aria-label=(title) {
                        table {
                            caption { (title) }
                            thead { tr { th scope="col" { "day" } th scope="col" class="number" { "installations" } } }
                            tbody { @for point in points.iter().rev() { tr { th scope="row" { (point.day) } td class="number" { (shown(point.count)) } } } }
                        }
                    }
                }
            }
        }
    }
}

fn shown(count: Option<u64>) -> String {
    count.map_or_else(|| "not shown".to_owned(), |count| count.to_string())
}

fn card(title: &str, purpose: &str, bars: &[Bar]) -> Markup {
    html! {
        div class="card" {
            h3 { (title) }
            p { (purpose) }
            @if bars.is_empty() { p { "Too few to be shown." } } @else { (chart::bars(title, bars)) }
        }
    }
}

fn bars_of(cells: &[ValueCell]) -> Vec<Bar> {
    let all: u64 = cells.iter().map(|cell| cell.ids).sum();
    cells.iter().map(|cell| Bar { label: cell.value.clone(), count: cell.ids, share: share(cell.ids, all) }).collect()
}

fn bars_of_versions(cells: &[VersionCell]) -> Vec<Bar> {
    let all: u64 = cells.iter().map(|cell| cell.ids).sum();
    cells.iter().map(|cell| Bar { label: version_label(cell), count: cell.ids, share: share(cell.ids, all) }).collect()
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

/// In per cent, of what is shown.
fn share(part: u64, all: u64) -> u64 {
    (part * 100 + all / 2).checked_div(all).unwrap_or_default()
}

fn purpose(field: &str) -> &'static str {
    contract::field(field).map_or("", |field| field.purpose)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Size,
    Flag,
}

fn kind_of(field: &FieldNumbers) -> Option<Kind> {
    Some(match contract::field(&field.field)?.kind {
        contract::FieldKind::Count => Kind::Size,
        contract::FieldKind::Flag => Kind::Flag,
        _ => Kind::Word,
    })
}

pub(crate) fn method() -> Markup {
    html! {
        section aria-labelledby="method" {
            h2 id="method" { "How this is counted, and what is not shown" }
            dl class="facts" {
                dt { "Who counts" }
                dd { "An install ID that pinged on that UTC day and on an earlier one, by its last ping of the day. An ID counts nothing on its first day, so that made-up ones add nothing then." }
                dt { "Rotation" }
                dd { "An ID is replaced after " (CYCLE_DAYS) " days, and the new one is missed on its first day. So installations are IDs times " (CYCLE_DAYS) " / " (CYCLE_DAYS - 1) "." }
                dt { "Thresholds" }
                dd { "A number is shown from " (THRESHOLD_MIN) " IDs on; the threshold of each is up to " (STEP - 1) " higher, by a secret key, and always the same." }
                dt { "Rounding" }
                dd { "Each number is a multiple of " (STEP) ", rounded up or down by the same key. Shares are of the rounded numbers." }
                dt { "Small groups" }
                dd { "Sizes that are too rare are joined with their neighbours, versions with those of their channel, words as " em { "other" } ". What is too rare even then is not shown, so numbers do not add up." }
                dt { "Days" }
                dd { "A day is published once and never changes. It stays here after its rows are deleted, which happens after 90 days." }
            }
        }
    }
}
