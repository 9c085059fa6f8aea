//! Charts as SVG, each beside its table. A chart is as wide as a narrow screen, so that its text keeps its size.

use maud::{Markup, html};

/// Of every chart, in the units of its text, which are CSS pixels where the screen is narrow.
const WIDTH: u64 = 300;

/// The height of a bar with its words, and of the bar.
const ROW: u64 = 34;
const BAR: u64 = 10;

/// The height of a line chart, and how much of it is below the axis.
const HEIGHT: u64 = 170;
const BELOW: u64 = 22;
const ABOVE: u64 = 18;

/// A value and how many have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    /// The value.
    pub(super) label: String,
    /// How many.
    pub(super) count: u64,
    /// Their share in per cent, of all that are shown.
    pub(super) share: u64,
}

/// The bars, and a table that says the same.
pub(super) fn bars(title: &str, bars: &[Bar]) -> Markup {
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or_default().max(1);
    let height = ROW * bars.len() as u64;
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(format!("{title}: the table below says the same.")) {
            @for (bar, top) in bars.iter().zip((0..).step_by(ROW as usize)) {
                text x="0" y=(top + 14) { (shortened(&bar.label)) }
                text class="dim" x=(WIDTH) y=(top + 14) text-anchor="end" { (bar.count) " · " (bar.share) " %" }
                rect class="track" x="0" y=(top + 19) width=(WIDTH) height=(BAR) rx="3" {}
                rect class="bar" x="0" y=(top + 19) width=(WIDTH * bar.count / most) height=(BAR) rx="3" {}
            }
        }
        (table(title, bars))
    }
}

/// The table of a chart.
fn table(title: &str, bars: &[Bar]) -> Markup {
    html! {
        details {
            summary { "As a table" }
            table {
                caption { (title) }
                thead { tr { th scope="col" { "value" } th scope="col" class="number" { "IDs" } th scope="col" class="number" { "share" } } }
                tbody {
                    @for bar in bars {
                        tr { th scope="row" { (bar.label) } td class="number" { (bar.count) } td class="number" { (bar.share) " %" } }
                    }
                }
            }
        }
    }
}

/// What fits before the number.
fn shortened(label: &str) -> String {
    const LENGTH: usize = 26;
    if label.chars().count() <= LENGTH {
        return label.to_owned();
    }
    label.chars().take(LENGTH - 1).chain(['…']).collect()
}

/// A number a day; `None` where it was not shown.
pub(super) struct Point {
    /// The day.
    pub(super) day: String,
    /// The number.
    pub(super) count: Option<u64>,
}

/// The numbers over time as a line, with a gap where a number was not shown.
pub(super) fn line(title: &str, points: &[Point]) -> Markup {
    let most = points.iter().filter_map(|point| point.count).max().unwrap_or_default().max(1);
    let last = (points.len() as u64).saturating_sub(1).max(1);
    let floor = HEIGHT - BELOW;
    let place = |(at, point): (usize, &Point)| {
        point.count.map(|count| (at as u64 * WIDTH / last, floor - (floor - ABOVE) * count / most))
    };
    let places: Vec<Option<(u64, u64)>> = points.iter().enumerate().map(place).collect();
    let ends = points.first().zip(points.last());
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(format!("{title}: the table below says the same.")) {
            path class="axis" d=(format!("M0 {ABOVE}H{WIDTH}M0 {floor}H{WIDTH}")) {}
            text class="dim" x="0" y=(ABOVE - 5) { (most) }
            path class="line" d=(path_of(&places)) {}
            @for (x, y) in places.iter().flatten() { circle class="bar" cx=(x) cy=(y) r="2" {} }
            @if let Some((first, last)) = ends {
                text class="dim" x="0" y=(HEIGHT - 5) { (first.day) }
                @if points.len() > 1 { text class="dim" x=(WIDTH) y=(HEIGHT - 5) text-anchor="end" { (last.day) } }
            }
        }
    }
}

/// Lines between neighbours that both are there.
fn path_of(places: &[Option<(u64, u64)>]) -> String {
    let mut path = String::new();
    let mut pen_is_down = false;
    for place in places {
        if let Some((x, y)) = place {
            path.push_str(&format!("{}{x} {y}", if pen_is_down { "L" } else { "M" }));
        }
        pen_is_down = place.is_some();
    }
    path
}
