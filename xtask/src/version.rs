//! The version stands in the workspace's manifest. What else names it agrees, and the documents name none.

use std::fs;

use pulse_telemetry_testkit::project;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Each file that has to name the version, and what stands before it there.
const NAMED: [(&str, &str); 6] = [
    ("CHANGELOG.md", "\n## "),
    ("Dockerfile", "\nARG VERSION="),
    ("deploy/helm/Chart.yaml", "\nversion: "),
    ("deploy/helm/Chart.yaml", "\nappVersion: "),
    ("man/pulse-telemetry.1", "\"pulse-telemetry "),
    ("man/pulse-telemetry-collector.1", "\"pulse-telemetry-collector "),
];

/// The files that disagree.
pub(crate) fn disagreements() -> Vec<String> {
    let read = |file: &str| fs::read_to_string(project().join(file)).unwrap();
    let others = NAMED.iter().filter(|(file, before)| !names(&read(file), before, VERSION));
    let others = others.map(|(file, _)| format!("{file} names another version than {VERSION}"));
    let documents = ["README.md", "docs/INSTALL.md", "docs/OPERATING.md", "docs/COLLECTOR.md"];
    let stale = documents.iter().filter(|file| names_a_file_of_a_version(&read(file)));
    others.chain(stale.map(|file| format!("{file} names a version, which the next release makes untrue"))).collect()
}

fn names(text: &str, before: &str, version: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|next: char| next == '.' || next == '-' || next.is_alphanumeric());
    text.match_indices(before).any(|(at, _)| text[at + before.len()..].strip_prefix(version).is_some_and(ends))
}

fn names_a_file_of_a_version(text: &str) -> bool {
    let is_digit = |rest: &str| rest.starts_with(|next: char| next.is_ascii_digit());
    ["pulse-telemetry_", "pulse-telemetry-", "pulse-telemetry-collector_", "pulse-telemetry-collector-"]
        .iter()
        .any(|before| text.match_indices(before).any(|(at, _)| is_digit(&text[at + before.len()..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_version_and_a_file_of_a_version_are_told() {
        assert!(names("a\n## 1.2.3 (today)\n", "\n## ", "1.2.3") && names("\"x 1.2.3\"", "\"x ", "1.2.3"));
        assert!(!names("a\n## 1.2.30\n", "\n## ", "1.2.3") && !names("a\n## 1.2.3-rc.1\n", "\n## ", "1.2.3"));
        assert!(names_a_file_of_a_version("apt install ./pulse-telemetry_1.2.3-1_amd64.deb"));
        assert!(!names_a_file_of_a_version("./pulse-telemetry_*_amd64.deb ./pulse-telemetry-collector_*.deb"));
    }
}
