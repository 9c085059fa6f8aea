//! What may be shown by its name: what many may have in common, and nothing that somebody made up. What is published
//! stays for good, and a few IDs of one sender are enough to be shown.

use pulse_telemetry_core::contract::{Field, FieldKind};

/// Operating systems and processors, as Go names those that it compiles for.
const OPERATING_SYSTEMS: [&str; 14] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];
const ARCHITECTURES: [&str; 15] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "sparc64", "wasm",
];

/// The longest that a number of a version may be, and what may stand before one after its third.
const DIGITS: usize = 3;
const PRERELEASES: [&str; 3] = ["alpha.", "beta.", "rc."];

/// Whether it has the form of a release: X.Y.Z, or X.Y.Z-rc.N and the like. Whether there is such a one is not asked.
pub(super) fn is_release(version: &str) -> bool {
    let is_number = |text: &str| {
        (1..=DIGITS).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text.len() == 1 || !text.starts_with('0'))
    };
    let (numbers, prerelease) = version.split_once('-').map_or((version, None), |(numbers, pre)| (numbers, Some(pre)));
    numbers.split('.').count() == 3
        && numbers.split('.').all(is_number)
        && prerelease.is_none_or(|pre| PRERELEASES.iter().any(|word| pre.strip_prefix(word).is_some_and(is_number)))
}

/// Whether a word of that field is one of those that Pulse can send.
pub(super) fn is_known(field: &Field, word: &str) -> bool {
    match (field.name, field.kind) {
        ("os", _) => OPERATING_SYSTEMS.contains(&word),
        ("arch", _) => ARCHITECTURES.contains(&word),
        (_, FieldKind::Choice(words)) => words.contains(&word),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_can_be_one_of_a_release_is_told_from_any_other() {
        for version in ["6.0.0", "6.10.0", "5.1.999", "6.0.0-rc.1", "6.0.0-beta.12", "0.0.0-alpha.0"] {
            assert!(is_release(version), "{version}");
        }
        for version in [
            "",
            "6",
            "6.0",
            "6.0.0.0",
            "6.0.1000",
            "6.00.0",
            "6.0.",
            "v6.0.0",
            "6.0.0-",
            "6.0.0-rc",
            "6.0.0-rc.",
            "6.0.0-rc.1.2",
            "6.0.0-rc.01",
            "6.0.0-dev.1",
            "6.0.0-RC.1",
            "6.0.0+git.4.gabc",
            "6.0.0-rc.1+mine",
            "0.0.0-somebody",
            "somebody",
        ] {
            assert!(!is_release(version), "{version}");
        }
    }
}
