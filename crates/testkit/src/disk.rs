//! What lies on the disk, byte by byte.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Every file below a directory, with its content.
pub fn files_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            found.extend(files_below(&path));
        } else if kind.is_file() {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

/// Whether the bytes occur.
pub fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Which of these IDs are in the bytes, in any spelling: as they are, or as hex, with hyphens or without, in any case.
pub fn ids_in(ids: &BTreeSet<Uuid>, bytes: &[u8]) -> BTreeSet<Uuid> {
    let mut there = BTreeSet::new();
    for at in 0..bytes.len() {
        let of_length = |length: usize| bytes.get(at..at + length);
        there.extend(of_length(16).and_then(|raw| Uuid::from_slice(raw).ok()).filter(|id| ids.contains(id)));
        for text in [36, 32].into_iter().filter_map(of_length) {
            if text.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-') {
                there.extend(Uuid::try_parse_ascii(text).ok().filter(|id| ids.contains(id)));
            }
        }
    }
    there
}
