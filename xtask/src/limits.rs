//! What the code is held to: a type name is defined once, a file has 600 lines at most, install.sh 199, a line 120
//! columns, and no module lies elsewhere than its name says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pulse_telemetry_testkit::boundaries::sources;
use pulse_telemetry_testkit::project;

const LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 120;
/// What somebody reads before it runs as root.
const INSTALL_SH_LINES_MAX: usize = 199;

/// Everything that goes beyond a limit.
pub(crate) fn beyond_the_limits() -> Vec<String> {
    let mut found = Vec::new();
    for file in files() {
        let text = fs::read_to_string(project().join(&file)).unwrap();
        let lines = text.lines().count();
        if lines > LINES_MAX {
            found.push(format!("{file} has {lines} lines, and may have {LINES_MAX}"));
        }
        let is_long = |line: &str| line.chars().count() > COLUMNS_MAX;
        if let Some(at) = text.lines().position(is_long) {
            found.push(format!("{file}:{} is longer than {COLUMNS_MAX} columns", at + 1));
        }
        if text.lines().any(|line| line.trim_start().starts_with("#[path")) {
            found.push(format!("{file} names a module's path"));
        }
    }
    let lines = fs::read_to_string(project().join("install.sh")).unwrap().lines().count();
    if lines > INSTALL_SH_LINES_MAX {
        found.push(format!("install.sh has {lines} lines, and may have {INSTALL_SH_LINES_MAX}"));
    }
    let twice = names().into_iter().filter(|(_, files)| files.len() > 1);
    found.extend(twice.map(|(name, files)| format!("{name} is defined in {}", files.join(", "))));
    found
}

/// Every file of code, from the project's directory.
fn files() -> Vec<String> {
    let mut files: Vec<String> = ["src", "crates", "xtask", "tests", "benches", "examples"]
        .iter()
        .flat_map(|directory| sources(&project().join(directory)))
        .map(|file| relative(&file))
        .collect();
    files.sort();
    files
}

fn relative(file: &Path) -> String {
    file.strip_prefix(project()).unwrap().display().to_string()
}

/// The types of the programs, tests aside, and where each is defined.
fn names() -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let is_program = |file: &String| {
        let in_a_crate = file.starts_with("crates/") && file.contains("/src/") && !file.starts_with("crates/testkit/");
        file.starts_with("src/") || in_a_crate
    };
    for file in files().into_iter().filter(is_program) {
        let text = fs::read_to_string(project().join(&file)).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for name in text.lines().filter_map(defined) {
            names.entry(name.to_owned()).or_default().push(file.clone());
        }
    }
    names
}

/// The type that a line defines. An alias is one at the margin only: further in it belongs to a trait.
fn defined(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
    match words.next()? {
        "struct" | "enum" | "trait" => {}
        "type" if !line.starts_with(' ') => {}
        _ => return None,
    }
    let name = words.next()?;
    // A macro's own names are none.
    name.split(|character: char| !character.is_alphanumeric()).next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::defined;

    #[test]
    fn a_definition_is_told_from_a_use() {
        for (line, name) in [
            ("pub struct Places<T> {", Some("Places")),
            ("    pub(crate) enum Loss {", Some("Loss")),
            ("pub(super) trait Point {", Some("Point")),
            ("type Place = places::Place<Longest>;", Some("Place")),
            ("    type Caller = ();", None),
            ("impl Table for Longest {", None),
            ("pub enum $name {", None),
            ("/// A struct Foo.", None),
        ] {
            assert_eq!(defined(line), name, "{line}");
        }
    }
}
