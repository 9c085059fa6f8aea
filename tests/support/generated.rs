//! The files of the repository that are made from the code. `make generate` writes them, a test compares them.

use std::fs;
use std::path::{Path, PathBuf};

use pulse_telemetry::{cli, config, contract, metrics};

/// Each file, and what it should hold.
pub fn generated() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = contract::schema_file();
    let fields = contract::markdown_table();
    let keys = format!("```toml\n{}```\n", config::DEFAULTS);
    let commands: String = cli::help().into_iter().map(|text| format!("```text\n{}\n```\n\n", text.trim())).collect();
    #[cfg_attr(not(feature = "collector"), expect(unused_mut, reason = "the collector adds to it"))]
    let mut files = vec![
        (root.join("config/ping.schema.json"), schema),
        section(root.join("docs/PRIVACY.md"), "fields", &fields),
        section(root.join("docs/METRICS.md"), "metrics", &metrics::markdown_table()),
        section(root.join("docs/CONFIGURATION.md"), "keys", &keys),
        section(root.join("docs/CONFIGURATION.md"), "commands", commands.trim_end()),
    ];
    #[cfg(feature = "collector")]
    files.extend(of_the_collector(root));
    files
}

#[cfg(feature = "collector")]
fn of_the_collector(root: &Path) -> [(PathBuf, String); 2] {
    use pulse_telemetry::collector::cli::help;
    use pulse_telemetry::config::collector::DEFAULTS;
    let keys = format!("```toml\n{DEFAULTS}```\n");
    let commands: String = help().into_iter().map(|text| format!("```text\n{}\n```\n\n", text.trim())).collect();
    let path = root.join("docs/COLLECTOR.md");
    [section(path.clone(), "keys", &keys), section(path, "commands", commands.trim_end())]
}

/// The file with the text between its two marks replaced.
fn section(path: PathBuf, name: &str, text: &str) -> (PathBuf, String) {
    let before = fs::read_to_string(&path).unwrap_or_default();
    let (open, close) = (format!("<!-- {name}: written by `make generate` -->\n"), format!("<!-- end of {name} -->"));
    let start = before.find(&open).unwrap_or_else(|| panic!("{} has no mark {open}", path.display())) + open.len();
    let end = before.find(&close).unwrap_or_else(|| panic!("{} has no mark {close}", path.display()));
    let after = format!("{}{}\n{}", &before[..start], text.trim_end(), &before[end..]);
    (path, after)
}
