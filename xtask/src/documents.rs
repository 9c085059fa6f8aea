//! Limits of the documents: how many words they have together, and how long a line is.

use std::fs;
use std::path::PathBuf;

/// The most words in all documents, as `wc -w` counts them.
const WORDS_MAX: usize = 19_000;

/// The most columns of a line outside of tables, blocks of code and lines that a link makes longer.
const COLUMNS_MAX: usize = 120;

/// What goes beyond a limit in `README.md`, `ARCHITECTURE.md`, `CONTRIBUTING.md` and `docs/*.md`.
pub(crate) fn beyond_the_limits() -> Vec<String> {
    let texts = documents().into_iter().map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        (path.file_name().unwrap().to_string_lossy().into_owned(), text)
    });
    let texts: Vec<(String, String)> = texts.collect();
    let words = texts.iter().map(|(_, text)| text.split_whitespace().count()).sum();
    texts.iter().flat_map(|(name, text)| long_lines(name, text)).chain(too_many(words)).collect()
}

fn documents() -> Vec<PathBuf> {
    let root = pulse_telemetry_testkit::project();
    let mut paths = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root.join(name)).to_vec();
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    paths.sort();
    paths
}

fn too_many(words: usize) -> Option<String> {
    (words > WORDS_MAX).then(|| format!("the documents have {words} words, and may have {WORDS_MAX}"))
}

fn long_lines(name: &str, text: &str) -> Vec<String> {
    let mut is_code = false;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        is_code ^= line.trim_start().starts_with("```");
        let may_be_long = is_code || line.starts_with('|') || line.contains("](");
        let columns = line.chars().count();
        if columns > COLUMNS_MAX && !may_be_long {
            found.push(format!("{name}:{} has {columns} columns, and may have {COLUMNS_MAX}", number + 1));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_told_but_in_a_table_a_block_of_code_or_where_a_link_is() {
        let long = "x".repeat(COLUMNS_MAX + 1);
        let text = format!("{long}\n| {long} |\n```\n{long}\n```\n[a]({long})\nshort\n{long}");
        let told = long_lines("a.md", &text);
        assert_eq!(told, [1, 8].map(|line| format!("a.md:{line} has 121 columns, and may have 120")));
    }

    #[test]
    fn one_word_more_than_the_limit_is_told() {
        assert_eq!(too_many(WORDS_MAX), None);
        assert!(too_many(WORDS_MAX + 1).is_some_and(|told| told.contains("19001")));
    }
}
