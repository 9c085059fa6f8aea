//! Where the captured answers of real Pulse builds are.

use std::path::{Path, PathBuf};

/// Every capture folder, sorted. None where the folder that developers share is not there, but on CI that is a panic.
#[expect(clippy::disallowed_methods, reason = "where the captures are is the environment's to say")]
pub(crate) fn folders() -> Vec<PathBuf> {
    let shared = std::env::var_os("PULSE_TELEMETRY_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let Ok(entries) = shared.join("captures").read_dir() else {
        assert!(std::env::var_os("CI").is_none(), "{} has no captures, and CI must not skip them", shared.display());
        return Vec::new();
    };
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("index.json").is_file());
    folders.sort();
    assert!(!folders.is_empty());
    folders
}
