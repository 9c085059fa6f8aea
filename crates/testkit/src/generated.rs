//! The files of the repository that are made from the code. `make generate` writes them, a test compares them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use pulse_telemetry::{cli, comparison, config, metrics};
use pulse_telemetry_core::contract;

use super::manual;
use super::promises;

/// Each file, and what it should hold.
pub fn generated() -> Vec<(PathBuf, String)> {
    let root = crate::project();
    let schema = contract::schema_file();
    let fields = contract::markdown_table();
    let (keys, commands) = (keys(config::DEFAULTS), commands(&cli::command()));
    let mut files = vec![
        (root.join("config/ping.schema.json"), schema),
        section(root.join("docs/PRIVACY.md"), "fields", &fields),
        section(root.join("docs/PRIVACY.md"), "differences", &comparison::markdown_table()),
        section(root.join("docs/PRIVACY.md"), "promises", &promises::markdown_list()),
        section(root.join("docs/METRICS.md"), "metrics", &metrics::markdown_table()),
        section(root.join("docs/CONFIGURATION.md"), "keys", &keys),
        section(root.join("docs/CONFIGURATION.md"), "commands", &commands),
    ];
    files.extend(manual::of_program(cli::command(), root, "pulse-telemetry-collector(1), systemctl(1), journalctl(1)"));
    files.extend(of_the_collector(root));
    files
}

fn of_the_collector(root: &Path) -> Vec<(PathBuf, String)> {
    use pulse_telemetry_collector::cli::command;
    use pulse_telemetry_collector::config::DEFAULTS;
    let (keys, commands) = (keys(DEFAULTS), commands(&command()));
    let path = root.join("docs/COLLECTOR.md");
    let mut files = manual::of_program(command(), root, "pulse-telemetry(1), systemctl(1), journalctl(1)");
    files.extend([section(path.clone(), "keys", &keys), section(path, "commands", &commands)]);
    files
}

/// Every key with its default. What each means stands in the file of the defaults.
fn keys(defaults: &str) -> String {
    let lines = defaults.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let spaced = lines.map(|line| if line.starts_with('[') { format!("\n{line}\n") } else { format!("{line}\n") });
    format!("```toml\n{}```\n", spaced.collect::<String>().trim_start())
}

/// Every command with its options, as a table.
fn commands(program: &Command) -> String {
    let own = program.get_subcommands().filter(|command| command.get_name() != "help");
    let rows: String =
        own.map(|command| format!("| `{}` | {} |\n", command.get_name(), description(command))).collect();
    format!("| command | what it does |\n|---|---|\n{rows}")
}

/// What a command does, and the names of its options.
fn description(command: &Command) -> String {
    let options = command.get_arguments().filter(|argument| !argument.is_global_set() && argument.get_id() != "help");
    let names = options.filter_map(|option| Some(format!("`--{}`", option.get_long()?))).collect::<Vec<_>>();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    if names.is_empty() { about } else { format!("{about}: {}", names.join(", ")) }
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
