//! The two formats in which Prometheus reads metrics, and which of them somebody who asks is given. For both programs.
//!
//! The names of the samples are the same in both. Prometheus' text format is what everybody reads; OpenMetrics goes to
//! who prefers it.

use hyper::header::{ACCEPT, HeaderMap};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The one that the request prefers: OpenMetrics where its `Accept` says so, else the text format.
    #[must_use]
    pub fn wanted(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
        let ranges: Vec<Range<'_>> = lines.flat_map(|line| line.split(',')).filter_map(Range::parse).collect();
        // The closest range decides how much a format is liked; of two that are liked equally, the closer one wins.
        let preference = |format: Self| {
            let ranges = ranges.iter().filter_map(|range| Some((range.quality, range.closeness(format)?)));
            ranges.max_by_key(|(quality, closeness)| (*closeness, *quality)).filter(|(quality, _)| *quality > 0)
        };
        if preference(Self::OpenMetrics) > preference(Self::Text) { Self::OpenMetrics } else { Self::Text }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The metrics in this format.
    #[must_use]
    pub fn encode(self, registry: &Registry) -> String {
        let mut written = String::new();
        // Writing to a text does not fail.
        let _ = text::encode(&mut written, registry);
        match self {
            Self::Text => to_text(&written),
            Self::OpenMetrics => written,
        }
    }
}

/// OpenMetrics in the text format, where a counter is described by the name of its sample, and nothing says where the
/// end is or what a unit is. The encoder writes what a metric is for before it writes its type.
fn to_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 256);
    let mut help = "";
    let mut rest = open_metrics;
    while !rest.is_empty() {
        let (samples, comments) = rest.split_at(comment_at(rest));
        text.push_str(samples);
        let (comment, next) = comments.split_once('\n').unwrap_or((comments, ""));
        if let Some(described) = comment.strip_prefix("# HELP ") {
            help = described;
        } else if let Some((name, kind)) = comment.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let help = help.strip_prefix(name).unwrap_or_default();
            text.extend(["# HELP ", name, suffix, help, "\n# TYPE ", name, suffix, " ", kind, "\n"]);
        }
        rest = next;
    }
    text
}

/// Where the first line begins that is a comment, or where the text ends.
fn comment_at(text: &str) -> usize {
    let begins_a_line = |at: usize| text.as_bytes().get(..at).is_some_and(|before| matches!(before, [] | [.., b'\n']));
    text.match_indices('#').map(|(at, _)| at).find(|at| begins_a_line(*at)).unwrap_or(text.len())
}

/// A range of media types, as `Accept` lists them.
struct Range<'a> {
    kind: &'a str,
    version: Option<&'a str>,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self { kind: parts.next().filter(|kind| !kind.is_empty())?, version: None, quality: 1000 };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "version" => range.version = Some(value.trim().trim_matches('"')),
                "q" => range.quality = thousandths(value.trim())?,
                _ => {}
            }
        }
        Some(range)
    }

    /// How closely it names the format, where it covers it.
    fn closeness(&self, format: Format) -> Option<u8> {
        let (main, sub, version) = match format {
            Format::Text => ("text", "plain", "0.0.4"),
            Format::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
        };
        let (kind, name) = self.kind.split_once('/')?;
        let closeness = match (kind, name) {
            ("*", "*") => 0,
            (kind, "*") if kind.eq_ignore_ascii_case(main) => 1,
            (kind, name) if kind.eq_ignore_ascii_case(main) && name.eq_ignore_ascii_case(sub) => 2,
            _ => return None,
        };
        let is_ours = self.version.is_none_or(|asked| asked == version);
        is_ours.then_some(closeness)
    }
}

/// A quality between 0 and 1.
fn thousandths(text: &str) -> Option<u16> {
    let quality: f32 = text.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?;
    // It is between 0 and 1000.
    Some((quality * 1000.0).round() as u16)
}
