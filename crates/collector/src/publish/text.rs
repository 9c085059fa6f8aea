//! The numbers for a terminal.

use std::fmt::{self, Write as _};

use super::page::version_label;
use super::{Published, Trend};
use crate::numbers::ValueCell;
use crate::numbers::rounding::{STEP, THRESHOLD_MIN};

impl Published {
    /// The numbers of the last day, and of each day before it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, text: &mut String) -> fmt::Result {
        let Some(latest) = self.latest() else {
            return writeln!(
                text,
                "No whole day was counted yet: a day is counted when it is over, from the second day with pings on."
            );
        };
        writeln!(text, "Pulse installations on {}", latest.day)?;
        match (latest.installations, latest.ids) {
            (Some(installations), Some(ids)) => writeln!(
                text,
                "active installations: {installations} ({ids} install IDs that pinged on that day and an earlier one)"
            )?,
            _ => writeln!(text, "too few to be shown")?,
        }
        if let Some(sentence) = self.trend().and_then(Trend::sentence) {
            writeln!(text, "{sentence}")?;
        }
        writeln!(
            text,
            "Numbers are of install IDs, multiples of {STEP}, and shown from {THRESHOLD_MIN} to {} on.",
            THRESHOLD_MIN + STEP - 1
        )?;
        let versions: Vec<_> =
            latest.versions.iter().map(|cell| ValueCell { value: version_label(cell), ids: cell.ids }).collect();
        line(text, "version", &versions)?;
        line(text, "version_channel", &latest.channels())?;
        line(text, "version_is_published_release", &latest.published())?;
        for field in &latest.fields {
            line(text, &field.field, &field.cells)?;
        }
        writeln!(text, "\ninstallations by day")?;
        for numbers in &self.days {
            let shown = numbers.installations.map_or_else(|| "not shown".to_owned(), |count| count.to_string());
            writeln!(text, "  {} {shown}", numbers.day)?;
        }
        Ok(())
    }
}

fn line(text: &mut String, field: &str, cells: &[ValueCell]) -> fmt::Result {
    let cells: Vec<_> = cells.iter().map(|cell| format!("{}: {}", cell.value, cell.ids)).collect();
    let cells = if cells.is_empty() { "not shown".to_owned() } else { cells.join(", ") };
    writeln!(text, "  {field:<29} {cells}")
}
