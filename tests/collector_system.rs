//! What needs root and a file system of its own: `make test-system`. The collector on a disk that is full.
#![cfg(feature = "collector")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use support::collector::{Setup, Storage, ping_of};
use support::load::{check_nothing_lost, post};
use support::postgres::{Cluster, give_to_postgres};

#[test]
#[ignore = "needs root: make test-system"]
fn on_a_full_disk_it_answers_503_acknowledges_nothing_that_is_not_stored_and_recovers_by_itself() {
    let storage = Storage::sqlite();
    let disk = Disk::mounted(storage.dir(), "1m");
    fills_and_recovers(&storage, &disk);
}

/// The database is in a tablespace of that disk; the log that PostgreSQL writes ahead is not.
#[test]
#[ignore = "needs root: make test-system"]
fn with_postgresql_on_a_full_disk_it_answers_503_acknowledges_nothing_that_is_not_stored_and_recovers_by_itself() {
    let Some(cluster) = Cluster::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::mounted(dir.path(), "16m");
    give_to_postgres(dir.path());
    cluster.psql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", dir.path().display()));
    cluster.psql("postgres", "CREATE DATABASE pulse TABLESPACE small");
    fills_and_recovers(&Storage::Postgres(Box::new(cluster)), &disk);
}

fn fills_and_recovers(storage: &Storage, disk: &Disk) {
    let collector = Setup::new(storage).start();
    let mut acknowledged = BTreeSet::new();
    let mut send = |number: u64| {
        let ping = ping_of(number);
        let (status, after) = post(collector.address, &ping.to_string()).unwrap();
        if status == 204 {
            acknowledged.insert(ping["install_id"].as_str().unwrap().to_owned());
        } else {
            assert!(status == 503 && after.is_some(), "{status} {after:?}");
        }
        status
    };
    assert_eq!(send(0), 204);
    let filler = disk.0.join("filler");
    // Until it is full, and one cannot even say how far one got.
    let _ = std::fs::write(&filler, vec![0; 32 << 20]);
    assert!((1..2000).map(&mut send).any(|status| status == 503), "there is room for some more, and then for none");
    assert_eq!(collector.get("/readyz").status, 503);
    std::fs::remove_file(filler).unwrap();
    collector.wait_until_ready();
    assert_eq!(send(5000), 204);
    collector.stop();
    check_nothing_lost(&acknowledged, &storage.install_ids());
}

/// A small disk; gone when dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mounted(at: &'a Path, size: &str) -> Self {
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).status();
        assert!(mount.unwrap().success());
        Self(at)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // What still holds it open lets go of it later.
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}
