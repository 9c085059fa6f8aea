//! What needs root and a file system of its own: `make test-system`. The collector on a disk that is full.
#![cfg(feature = "collector")]

mod support;

use std::process::Command;

use support::collector::{Setup, Storage, ping_of};
use support::load::{check_nothing_lost, post};

#[test]
#[ignore = "needs root: make test-system"]
fn on_a_full_disk_it_answers_503_acknowledges_nothing_that_is_not_stored_and_recovers_by_itself() {
    let storage = Storage::sqlite();
    let mount = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", storage.dir().to_str().unwrap()];
    assert!(Command::new("mount").args(mount).status().unwrap().success());
    let collector = Setup::new(&storage).start();
    let mut acknowledged = std::collections::BTreeSet::new();
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
    let filler = storage.dir().join("filler");
    // Until it is full, and one cannot even say how far one got.
    let _ = std::fs::write(&filler, vec![0; 2 << 20]);
    assert!((1..2000).map(&mut send).any(|status| status == 503), "the log has room for some more, and then for none");
    assert_eq!(collector.get("/readyz").status, 503);
    std::fs::remove_file(filler).unwrap();
    collector.wait_until_ready();
    assert_eq!(send(5000), 204);
    collector.stop();
    check_nothing_lost(&acknowledged, &storage.install_ids());
    assert!(Command::new("umount").arg(storage.dir()).status().unwrap().success());
}
