//! Which crate may have what below it, and name what: `cargo xtask check`, and a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A crate, what may not be below it, and what its source may not name: as text, so `std::{` hides nothing of it.
struct Boundary {
    name: &'static str,
    not_below: &'static [&'static str],
    not_named: &'static [&'static str],
}

const BOUNDARIES: [Boundary; 2] = [
    Boundary {
        name: "core",
        not_below: &["tokio", "hyper", "rustls", "rusqlite", "figment", "pulse-telemetry"],
        not_named: &["std::{", "std::fs", "std::net", "std::env", "SystemTime", "Instant::now", "Timestamp::now"],
    },
    Boundary {
        name: "endpoint",
        not_below: &["pulse-telemetry", "pulse-telemetry-process", "pulse-telemetry-collector", "figment"],
        not_named: &["std::{", "std::fs", "tokio::fs", "std::env", "SystemTime", "Instant::now", "Timestamp::now"],
    },
];

/// Everything that goes beyond a boundary.
pub fn beyond_the_boundaries() -> Vec<String> {
    BOUNDARIES.iter().flat_map(beyond).collect()
}

/// What a crate has below it or names, and may not.
fn beyond(boundary: &Boundary) -> Vec<String> {
    let package = format!("pulse-telemetry-{}", boundary.name);
    let below = dependencies(&package);
    let mut found: Vec<String> = boundary
        .not_below
        .iter()
        .filter(|name| below.iter().any(|below| below == *name))
        .map(|name| format!("{package} has {name} below it"))
        .collect();
    for file in sources(&crate::project().join("crates").join(boundary.name).join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        for name in boundary.not_named.iter().filter(|name| text.contains(**name)) {
            found.push(format!("{} names {name}", file.display()));
        }
    }
    found
}

/// The packages below one, itself left out.
pub fn dependencies(package: &str) -> Vec<String> {
    let tree = ["tree", "--offline", "--edges", "normal", "--prefix", "none", "--package", package];
    let output = Command::new("cargo").args(tree).current_dir(crate::project()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().skip(1).filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
}

/// Every source file below a directory.
pub fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut left = vec![directory.to_owned()];
    let mut files = Vec::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
