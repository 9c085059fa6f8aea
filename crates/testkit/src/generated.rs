//! The files of the repository that are made from the code. `make generate` writes them, a test compares them.

use std::fs;
use std::path::{Path, PathBuf};

use pulse_telemetry::{cli, comparison, config, metrics};
use pulse_telemetry_core::contract;

use super::manual;
use super::promises;

/// Each file, and what it should hold.
pub fn generated() -> Vec<(PathBuf, String)> {
    let root = crate::project();
    let schema = contract::schema_file();
    let fields = contract::markdown_table();
    let keys = format!("```toml\n{}```\n", config::DEFAULTS);
    let commands: String = cli::help().into_iter().map(|text| format!("```text\n{}\n```\n\n", text.trim())).collect();
    let mut files = vec![
        (root.join("config/ping.schema.json"), schema),
        section(root.join("docs/PRIVACY.md"), "fields", &fields),
        section(root.join("docs/PRIVACY.md"), "differences", &comparison::markdown_table()),
        section(root.join("docs/PRIVACY.md"), "promises", &promises::markdown_table()),
        section(root.join("docs/METRICS.md"), "metrics", &metrics::markdown_table()),
        section(root.join("docs/CONFIGURATION.md"), "keys", &keys),
        section(root.join("docs/CONFIGURATION.md"), "commands", commands.trim_end()),
    ];
    files.extend(manual::of_program(cli::command(), root, "pulse-telemetry-collector(1), systemctl(1), journalctl(1)"));
    files.extend(of_the_collector(root));
    files
}

fn of_the_collector(root: &Path) -> Vec<(PathBuf, String)> {
    use pulse_telemetry_collector::cli::{command, help};
    use pulse_telemetry_collector::config::DEFAULTS;
    let keys = format!("```toml\n{DEFAULTS}```\n");
    let commands: String = help().into_iter().map(|text| format!("```text\n{}\n```\n\n", text.trim())).collect();
    let path = root.join("docs/COLLECTOR.md");
    let mut files = manual::of_program(command(), root, "pulse-telemetry(1), systemctl(1), journalctl(1)");
    files.extend([section(path.clone(), "keys", &keys), section(path, "commands", commands.trim_end())]);
    files
}

/// The file with the text between its two marks replaced.
fn section(path: PathBuf, name: &str, text: &str) -> (PathBuf, String) {
    let before = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (open, close) = (format!("<!-- {name}: written by `make generate` -->\n"), format!("<!-- end of {name} -->"));
    let start = before.find(&open).unwrap_or_else(|| panic!("{} has no mark {open}", path.display())) + open.len();
    let end = before.find(&close).unwrap_or_else(|| panic!("{} has no mark {close}", path.display()));
    let after = format!("{}{}\n{}", &before[..start], text.trim_end(), &before[end..]);
    (path, after)
}
