//! Phrases that are not to come back: they read as translated. In the sources, so in help and manuals too; and in the
//! documents.

use std::fs;
use std::path::Path;

use pulse_telemetry_testkit::boundaries::sources;
use pulse_telemetry_testkit::project;

use crate::documents::documents;

const PHRASES: [&str; 4] = ["so many", "so much of them", "what is not there", "whoever"];

/// Every file that has one of them.
pub(crate) fn found() -> Vec<String> {
    let roots = ["src", "crates", "xtask"];
    let code = roots.iter().flat_map(|root| sources(&project().join(root)));
    let pages =
        documents().into_iter().chain(["SECURITY.md", "crates/collector/NUMBERS.md"].map(|page| project().join(page)));
    code.chain(pages).flat_map(|path| of(&path)).collect()
}

fn of(path: &Path) -> Vec<String> {
    let file = path.strip_prefix(project()).unwrap_or(path);
    // This file has them all.
    if file == Path::new(file!()) {
        return Vec::new();
    }
    let said = in_text(&fs::read_to_string(path).unwrap());
    said.into_iter().map(|phrase| format!("{} says \"{phrase}\"", file.display())).collect()
}

/// The phrases of a text, those over the end of a line included. A name of a test is one word.
fn in_text(text: &str) -> Vec<&'static str> {
    let text = text.to_lowercase();
    let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty());
    let words = format!(" {} ", words.collect::<Vec<_>>().join(" "));
    PHRASES.into_iter().filter(|phrase| words.contains(&format!(" {phrase} "))).collect()
}

#[cfg(test)]
mod tests {
    use super::in_text;

    #[test]
    fn a_phrase_is_told_also_over_the_end_of_a_line_and_not_in_a_name() {
        assert_eq!(in_text("/// At most so\n    /// many. Whoever asks."), ["so many", "whoever"]);
        assert!(in_text("fn whoever_asks_is_answered() {} // Of many, so most.").is_empty());
    }
}
