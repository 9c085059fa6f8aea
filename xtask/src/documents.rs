//! Limits of the documents: how many words they have together, how long a line is, and where a link may lead.

use std::fs;
use std::path::{Path, PathBuf};

/// The most words in all documents, as `wc -w` counts them.
const WORDS_MAX: usize = 19_000;

/// The most columns of a line outside of tables, blocks of code and lines that a link makes longer.
const COLUMNS_MAX: usize = 120;

/// What goes beyond a limit in `README.md`, `ARCHITECTURE.md`, `CONTRIBUTING.md` and `docs/*.md`.
pub(crate) fn beyond_the_limits() -> Vec<String> {
    let read = |path: PathBuf| (fs::read_to_string(&path).unwrap(), path);
    let texts: Vec<(String, PathBuf)> = documents().into_iter().map(read).collect();
    let words = texts.iter().map(|(text, _)| text.split_whitespace().count()).sum();
    let long = texts.iter().flat_map(|(text, path)| long_lines(&path.file_name().unwrap().to_string_lossy(), text));
    let dead = texts.iter().flat_map(|(text, path)| dead_links(path, text));
    long.chain(too_many(words)).chain(dead).collect()
}

/// `README.md`, `ARCHITECTURE.md`, `CONTRIBUTING.md` and `docs/*.md`.
pub(crate) fn documents() -> Vec<PathBuf> {
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

/// The links that lead to no file of the repository, or to no heading of it. Where other sites lead is not asked.
fn dead_links(path: &Path, text: &str) -> Vec<String> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ', '\n']).next());
    let own = links.filter(|link| !link.starts_with("http"));
    let is_dead = |link: &&str| {
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let file = if file.is_empty() { path.to_owned() } else { path.with_file_name(file) };
        match fs::read_to_string(&file) {
            Ok(text) => !heading.is_empty() && !text.lines().any(|line| is_heading(line, heading)),
            // A picture is no text.
            Err(_) => !file.exists(),
        }
    };
    own.filter(is_dead).map(|link| format!("{}: {link} leads nowhere", path.display())).collect()
}

/// Whether a line is the heading that a forge gives this anchor.
fn is_heading(line: &str, anchor: &str) -> bool {
    let named = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    };
    let title = line.trim_start_matches('#').trim().to_lowercase();
    line.starts_with('#') && title.chars().filter_map(named).eq(anchor.chars())
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
    fn a_link_that_leads_nowhere_is_told() {
        let page = pulse_telemetry_testkit::project().join("CONTRIBUTING.md");
        let links = "[1](LICENSE) [2](docs/INSTALL.md#on-unraid) [3](docs/INSTALL.md#on-mars) [4](absent.md) \
                     [5](#contributing) [6](https://absent.example)";
        let told: Vec<String> =
            dead_links(&page, links).iter().map(|line| line.replace(" leads nowhere", "")).collect();
        assert!(told.len() == 2 && told[0].ends_with(": docs/INSTALL.md#on-mars") && told[1].ends_with(": absent.md"));
    }

    #[test]
    fn one_word_more_than_the_limit_is_told() {
        assert_eq!(too_many(WORDS_MAX), None);
        assert!(too_many(WORDS_MAX + 1).is_some_and(|told| told.contains("19001")));
    }
}
