//! Charts as SVG. They are measured in per cent across and in pixels down, so that they are as wide as their place is
//! and their text has one size everywhere. Each stands beside its table, which says the same.

use jiff::civil::Date;
use maud::{Markup, html};

/// The height of a bar with its words above it, and of one with its words beside it.
const ROW: u64 = 40;
const THIN_ROW: u64 = 26;

/// The height of the area of a chart over time, and of what is above and below it.
const PLOT: u64 = 200;
const ABOVE: u64 = 10;
const BELOW: u64 = 24;

/// Into how many parts a day is wide, so that a path has whole numbers.
const DAY: u64 = 10;

/// How many letters fit before the number on a narrow screen.
const LABEL: usize = 24;

/// A value, and how many have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) count: u64,
    /// Of how many.
    pub(super) all: u64,
}

/// What is counted each day: a line, or a layer of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Series {
    pub(super) label: String,
    /// A number for each of the days; `None` where it was not shown.
    pub(super) counts: Vec<Option<u64>>,
}

/// Values with words above each, which may be long: a whole bar is all of them.
pub(super) fn bars(title: &str, bars: &[Bar]) -> Markup {
    html! {
        svg height=(ROW * bars.len() as u64) role="img" aria-label=(label(title)) {
            @for (bar, top) in bars.iter().zip((0..).step_by(ROW as usize)) {
                text x="0" y=(top + 15) { (shortened(&bar.label)) }
                text class="dim" x="100%" y=(top + 15) text-anchor="end" { (grouped(bar.count)) " · " (bar.share()) }
                rect class="track" x="0" y=(top + 22) width="100%" height="8" rx="4" {}
                rect class="bar" x="0" y=(top + 22) width=(percent(bar.count, bar.all)) height="8" rx="4" {}
            }
        }
    }
}

/// Ranges of sizes with words beside each: the longest bar is the most frequent range.
pub(super) fn histogram(title: &str, bars: &[Bar]) -> Markup {
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or_default().max(1);
    html! {
        svg height=(THIN_ROW * bars.len() as u64) role="img" aria-label=(label(title)) {
            @for (bar, top) in bars.iter().zip((0..).step_by(THIN_ROW as usize)) {
                text x="34%" y=(top + 17) text-anchor="end" { (bar.label) }
                rect class="bar" x="37%" y=(top + 3) width=(percent(bar.count * 48, most * 100)) height="20" rx="2" {}
                text class="dim" x="100%" y=(top + 17) text-anchor="end" { (bar.share()) }
            }
        }
    }
}

/// One share, whose number stands above it.
pub(super) fn meter(bar: &Bar) -> Markup {
    html! {
        svg height="10" aria-hidden="true" {
            rect class="track" width="100%" height="10" rx="5" {}
            rect class="bar" width=(percent(bar.count, bar.all)) height="10" rx="5" {}
        }
    }
}

/// A number over time, with a gap where it was not shown or a day is missing.
pub(super) fn line(title: &str, days: &[Date], series: &Series) -> Markup {
    let axis = Axis::new(series.counts.iter().flatten().copied().max().unwrap_or_default());
    let points: Vec<Point> = days
        .iter()
        .zip(&series.counts)
        .filter_map(|(day, count)| Some(Point { x: across(days, *day), bottom: PLOT, top: axis.place((*count)?) }))
        .collect();
    let runs = runs(&points);
    let path: String = runs.iter().map(|run| top_of(run)).collect();
    let area: String = runs.iter().map(|run| area_of(run)).collect();
    over_time(
        title,
        days,
        &axis,
        &html! {
            path class="area" d=(area) {}
            path class="line" d=(path) {}
        },
    )
}

/// Numbers over time, each on top of the one before, with a gap where a day is missing or nothing of it was shown.
pub(super) fn layers(title: &str, days: &[Date], series: &[Series]) -> Markup {
    let count = |series: &Series, at: usize| series.counts.get(at).copied().flatten();
    let is_shown = |at: usize| series.iter().any(|series| count(series, at).is_some());
    let sum = |at: usize| series.iter().filter_map(|series| count(series, at)).sum();
    let axis = Axis::new((0..days.len()).map(sum).max().unwrap_or_default());
    let mut below = vec![0; days.len()];
    let mut areas = Vec::new();
    for series in series {
        let mut points = Vec::new();
        for (at, (day, below)) in days.iter().zip(&mut below).enumerate() {
            let bottom = axis.place(*below);
            *below += count(series, at).unwrap_or_default();
            if is_shown(at) {
                points.push(Point { x: across(days, *day), bottom, top: axis.place(*below) });
            }
        }
        areas.push(runs(&points).iter().map(|run| area_of(run)).collect::<String>());
    }
    let drawn = html! {
        @for (area, number) in areas.iter().zip(1..) { path class=(format!("layer v{number}")) d=(area) {} }
    };
    html! {
        (over_time(title, days, &axis, &drawn))
        ul class="legend" {
            @for (series, number) in series.iter().zip(1..) {
                li {
                    svg width="12" height="12" aria-hidden="true" {
                        rect class=(format!("v{number}")) width="12" height="12" rx="3" {}
                    }
                    (series.label)
                }
            }
        }
    }
}

/// Axes around what is drawn in the units of [`across`] and [`Axis::place`]. The numbers stand in a margin that the
/// style leaves at the left.
fn over_time(title: &str, days: &[Date], axis: &Axis, drawn: &Markup) -> Markup {
    let (Some(first), Some(last)) = (days.first(), days.last()) else { return Markup::default() };
    let width = across(days, *last).max(1);
    let view = format!("0 0 {width} {PLOT}");
    let height = ABOVE + PLOT + BELOW;
    let middle = first.saturating_add(jiff::Span::new().days((*last - *first).get_days() / 2));
    let words_at = height - 6;
    html! {
        svg class="over-time" height=(height) role="img" aria-label=(label(title)) {
            svg class="plot" y=(ABOVE) width="100%" height=(PLOT) viewBox=(view) preserveAspectRatio="none" { (drawn) }
            @for tick in axis.ticks() {
                @let y = ABOVE + axis.place(tick);
                line class="axis" x1="0" x2="100%" y1=(y) y2=(y) {}
                text class="dim" x="-8" y=(y + 4) text-anchor="end" { (axis.label(tick)) }
            }
            text class="dim" x="0" y=(words_at) { (first.strftime("%-d %b %Y")) }
            @if first != last {
                text class="dim" x="100%" y=(words_at) text-anchor="end" { (last.strftime("%-d %b %Y")) }
            }
            @if width >= 14 * DAY {
                text class="dim" x=(percent(across(days, middle), width)) y=(words_at) text-anchor="middle" {
                    (middle.strftime("%-d %b"))
                }
            }
        }
    }
}

/// A point of a line, or of a layer: its place across, and where it begins and ends, from the top on.
struct Point {
    x: u64,
    bottom: u64,
    top: u64,
}

/// How far a day is from the left.
fn across(days: &[Date], day: Date) -> u64 {
    days.first().map_or(0, |first| u64::from((day - *first).get_days().unsigned_abs()) * DAY)
}

/// Points of days that follow one another.
fn runs(points: &[Point]) -> Vec<&[Point]> {
    points.chunk_by(|a, b| a.x + DAY == b.x).collect()
}

fn top_of(run: &[Point]) -> String {
    let mut path = String::new();
    for (at, Point { x, top, .. }) in run.iter().enumerate() {
        // A point alone is seen by its round ends.
        path += &if at == 0 { format!("M{x} {top}h0") } else { format!("L{x} {top}") };
    }
    path
}

fn area_of(run: &[Point]) -> String {
    let mut path = top_of(run);
    for Point { x, bottom, .. } in run.iter().rev() {
        path += &format!("L{x} {bottom}");
    }
    path + "Z"
}

/// The numbers beside a chart over time: from zero on, by a round step.
struct Axis {
    step: u64,
    most: u64,
}

impl Axis {
    fn new(most: u64) -> Self {
        let most = most.max(1);
        let steps = (0..19).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)));
        let step = steps.into_iter().find(|step| most.div_ceil(*step) <= 5).unwrap_or(most);
        Self { step, most: most.div_ceil(step) * step }
    }

    fn ticks(&self) -> impl Iterator<Item = u64> {
        (0..=self.most / self.step).map(|at| at * self.step)
    }

    /// The number as it fits beside the chart.
    fn label(&self, tick: u64) -> String {
        if self.step >= 1_000 && self.most >= 10_000 { format!("{}k", grouped(tick / 1_000)) } else { grouped(tick) }
    }

    fn place(&self, count: u64) -> u64 {
        PLOT - PLOT * count / self.most
    }
}

impl Bar {
    /// Whole per cent: the numbers are rounded, and a finer share would tell what they were.
    pub(super) fn share(&self) -> String {
        let percent = (self.count * 100 + self.all / 2).checked_div(self.all).unwrap_or_default();
        match percent {
            0 if self.count > 0 => "< 1 %".to_owned(),
            100 if self.count < self.all => "> 99 %".to_owned(),
            percent => format!("{percent} %"),
        }
    }
}

fn label(title: &str) -> String {
    format!("Chart: {title}. The table below says the same.")
}

fn percent(part: u64, all: u64) -> String {
    let hundredths = (part * 10_000).checked_div(all).unwrap_or_default();
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= LABEL {
        return label.to_owned();
    }
    label.chars().take(LABEL - 1).chain(['…']).collect()
}

/// A number with a comma before each three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_at_most_five_round_steps_and_holds_the_largest_number() {
        for (most, step, end) in [(0, 1, 1), (4, 1, 4), (11, 5, 15), (3_105, 1_000, 4_000), (99_999, 20_000, 100_000)] {
            let axis = Axis::new(most);
            assert_eq!((axis.step, axis.most), (step, end), "{most}");
            assert_eq!((axis.place(0), axis.place(end)), (PLOT, 0));
        }
        assert_eq!([Axis::new(4_000).label(3_000), Axis::new(99_999).label(20_000)], ["3,000", "20k"]);
    }

    #[test]
    fn a_line_has_a_gap_where_a_day_is_missing_or_was_not_shown() {
        let days: Vec<Date> = [1, 2, 4, 5, 6].map(|day| jiff::civil::date(2026, 11, day)).into();
        let series = Series { label: String::new(), counts: vec![Some(4), Some(2), Some(4), None, Some(4)] };
        let drawn = line("", &days, &series).into_string();
        assert!(drawn.contains(r#"class="line" d="M0 0h0L10 100M30 0h0M50 0h0""#), "{drawn}");
    }

    #[test]
    fn layers_stand_on_one_another_and_have_a_gap_where_a_day_was_not_shown() {
        let days: Vec<Date> = [1, 2, 3].map(|day| jiff::civil::date(2026, 11, day)).into();
        let series = |counts: [Option<u64>; 3]| Series { label: String::new(), counts: counts.into() };
        let drawn = layers("", &days, &[series([None, Some(2), Some(1)]), series([None, None, Some(3)])]).into_string();
        assert!(drawn.contains(r#"class="layer v1" d="M10 100h0L20 150L20 200L10 200Z""#), "{drawn}");
        assert!(drawn.contains(r#"class="layer v2" d="M10 100h0L20 0L20 150L10 100Z""#), "{drawn}");
    }

    #[test]
    fn a_share_is_whole_and_neither_none_nor_all_where_it_is_not() {
        let share = |count, all| Bar { label: String::new(), count, all }.share();
        assert_eq!(
            [share(0, 10), share(1, 1000), share(1, 3), share(999, 1000), share(10, 10)],
            ["0 %", "< 1 %", "33 %", "> 99 %", "100 %"]
        );
    }

    #[test]
    fn a_long_number_is_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
