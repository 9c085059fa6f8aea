//! The ledger on disk: what it keeps, what it gives away, and that a life of an installation audits clean.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod commands;
mod installation;
mod store;

use std::path::PathBuf;

use jiff::SignedDuration;
use pulse_telemetry::store::Store;
use pulse_telemetry_core::engine::{Entry, EntryKind};
use tempfile::TempDir;

const YEAR: SignedDuration = SignedDuration::from_hours(24 * 365);

/// A state directory, in memory where the machine has such a place: these tests write a lot.
struct Disk {
    dir: TempDir,
}

impl Disk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap() }
    }

    fn with(ledger: &[u8]) -> Self {
        let disk = Self::new();
        std::fs::write(disk.path("ledger.jsonl"), ledger).unwrap();
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self) -> Store {
        Store::open(self.dir.path()).unwrap().0
    }

    fn ledger(&self) -> Vec<u8> {
        std::fs::read(self.path("ledger.jsonl")).unwrap()
    }

    /// The names of the files beside the ledger that are its own.
    fn beside(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name.starts_with("ledger.jsonl."));
        names.sort();
        names
    }
}

fn entry(kind: EntryKind) -> Entry {
    Entry::new(kind)
}
