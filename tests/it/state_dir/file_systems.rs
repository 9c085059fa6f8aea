//! What a file system cannot do, and what a large history costs.

use std::fs;

use jiff::SignedDuration;
use pulse_telemetry::store::{Disk as _, Store, read_history};
use pulse_telemetry_core::engine::EntryKind;
use pulse_telemetry_core::ledger::Line;
use pulse_telemetry_testkit::alone::program_or_skip;
use pulse_telemetry_testkit::history::{because, chained, noon};

use super::{said, world};

#[test]
fn a_file_system_that_cannot_lock_or_sync_is_named_as_that_and_not_as_a_matter_of_permissions() {
    let name = "a_file_system_that_cannot_lock_or_sync_is_named_as_that_and_not_as_a_matter_of_permissions";
    if !program_or_skip("strace", &["--version"], name) {
        return;
    }
    let local = "a directory on a local disk";
    let cases = [
        ("flock:error=ENOLCK", "locking it: No locks available", local),
        ("flock:error=EOPNOTSUPP", "locking it: Operation not supported", local),
        ("flock:error=ENOSYS", "locking it: Function not implemented", local),
        ("fsync:error=EINVAL", "making its entries durable: Invalid argument", local),
        ("fsync:error=EOPNOTSUPP", "making its entries durable: Operation not supported", local),
        ("fsync:error=EINVAL", "making a file durable: Invalid argument", local),
        ("fsync:error=ENOSYS", "making a file durable: Function not implemented", local),
        ("fsync:error=EIO", "Input/output error", "look at that directory and its disk"),
        ("openat:error=EACCES", "Permission denied", "must be able to write there"),
        ("openat:error=EROFS", "Read-only file system", "mounted read-only"),
        ("rename:error=ENOSPC", "No space left on device", "make room there"),
    ];
    for (injection, system, advice) in cases {
        for command in [&["run"][..], &["reset-id"]] {
            let (_pulse, _endpoint, setup) = world();
            fs::create_dir(setup.path("state")).unwrap();
            let (state, lock) = (setup.path("state").display().to_string(), setup.state("lock").display().to_string());
            let probe = setup.state("probe.new").display().to_string();
            let inject = format!("inject={injection}");
            let ledger = setup.state("ledger.jsonl").display().to_string();
            // Either the directory cannot be synced, or a file.
            let paths = match system {
                _ if !injection.contains("sync") => vec![&lock, &probe],
                _ if system.contains("a file") => vec![&probe, &ledger],
                _ => vec![&state],
            };
            let mut through = vec!["timeout", "20", "strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
            through.extend(paths.iter().flat_map(|path| ["-P", path.as_str()]));
            let through: Vec<_> = through.into_iter().map(str::to_owned).collect();
            let output = setup.clone().through(&through).run(command);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(5), "{injection}: {said}");
            assert!(said.contains(system) && said.contains(advice), "{injection}: {said}");
            let speaks_of_permissions = said.contains("must be able to write there");
            assert_eq!(speaks_of_permissions, system == "Permission denied", "{injection}: {said}");
        }
    }
}

/// How many bytes this thread has read.
fn bytes_read() -> u64 {
    let told = fs::read_to_string("/proc/thread-self/io").unwrap();
    told.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn what_is_read_of_a_history_grows_with_the_history_and_not_with_its_square() {
    let dir = tempfile::tempdir().unwrap();
    let lines =
        (0..40_000).map(|at| because(EntryKind::Suppressed, noon() + SignedDuration::from_secs(at), "incomplete"));
    let ledger = chained(lines.collect());
    fs::write(dir.path().join("ledger.jsonl"), &ledger).unwrap();
    let size = ledger.len() as u64;

    let before = bytes_read();
    let (store, _) = Store::open(dir.path()).unwrap();
    assert_eq!(store.last_delivery(), None);
    let opened = bytes_read() - before;
    // Once for what was delivered, and once for deletions, which no state file tells of.
    assert!(opened < size * 5 / 2, "{opened} bytes to open {size}, where nothing was delivered");

    let before = bytes_read();
    assert_eq!(store.history(None, 50).unwrap().entries.len(), 50);
    let a_page = bytes_read() - before;
    assert!(a_page < 200_000, "{a_page} bytes for the newest page");

    let before = bytes_read();
    let (mut seqs, mut place) = (Vec::new(), None);
    loop {
        let page = read_history(dir.path(), place, 200).unwrap();
        seqs.extend(page.entries.iter().map(|entry| Line::parse(entry.get().as_bytes()).unwrap().seq));
        place = page.before;
        if place.is_none() {
            break;
        }
    }
    let paged = bytes_read() - before;
    assert_eq!(seqs, (1..=40_000).rev().collect::<Vec<_>>(), "each entry once, the newest first");
    // A page costs its own bytes, and the search for its place.
    assert!(paged < size * 12, "{paged} bytes for all pages of {size}");
}

#[test]
fn the_last_delivery_is_known_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let sent = noon() + SignedDuration::from_secs(7);
    let mut lines: Vec<_> = (0..500).map(|_| because(EntryKind::Suppressed, noon(), "incomplete")).collect();
    lines[3] = because(EntryKind::Sent, noon(), "earlier");
    lines[9] = because(EntryKind::Sent, sent, "");
    fs::write(dir.path().join("ledger.jsonl"), chained(lines)).unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().0.last_delivery(), Some(sent));
}
