//! The file: pruned, cut, torn, damaged, erased.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use pulse_telemetry::store::{Disk as _, Store, asks_to_forget, ledger_shows};
use pulse_telemetry_core::engine::{DiskAction, Entry, EntryKind, State};
use pulse_telemetry_core::identity::{Identity, InstallId};
use pulse_telemetry_core::ledger::{Line, sha256};
use pulse_telemetry_core::ping::{Event, PingBytes};
use pulse_telemetry_core::rng::Rng;
use pulse_telemetry_testkit::history::{
    DAY, HOUR, attempt, audit, because, body, chained, entries, found, life, noon, split,
};
use pulse_telemetry_testkit::memory_fs::MemoryFs;
use pulse_telemetry_testkit::seeded::Seeded;

use super::{Disk, YEAR, entry};

fn record(store: &mut Store, kind: EntryKind, at: Timestamp) -> std::io::Result<()> {
    store.carry_out(&DiskAction::Record(entry(kind)), at)
}

/// A year of entries, a day apart.
fn year() -> Vec<Line<'static>> {
    (0..365).map(|day| Line::new(EntryKind::Started, noon() + DAY * day)).collect()
}

fn prune(store: &mut Store, before: Timestamp, now: Timestamp) -> std::io::Result<()> {
    store.carry_out(&DiskAction::Prune { before, at_most: Duration::from_secs(24 * 3600) }, now)
}

#[test]
fn the_ledger_shows_an_id_that_was_made_or_used_here_and_no_other() {
    let disk = Disk::new();
    let mut store = disk.open();
    let made = Identity::new(Seeded(1).uuid(), noon());
    let used = Identity::new(Seeded(2).uuid(), noon() - DAY * 20);
    let foreign = Identity::new(Seeded(3).uuid(), noon() + SignedDuration::from_mins(5));
    let shows = |identity| ledger_shows(disk.dir.path(), identity);
    assert!(![&made, &used, &foreign].into_iter().any(shows), "an empty one shows nothing");
    record(&mut store, EntryKind::IdRotated, noon() + SignedDuration::from_millis(3)).unwrap();
    record(&mut store, EntryKind::Suppressed, foreign.issued_at).unwrap();
    let body = body(2, Event::Heartbeat, 3);
    let body = body.replace("00000002-0000-4000-8000-000000000000", used.install_id.as_str());
    let body = Some(PingBytes::parse(&body).unwrap());
    let attempted = Entry { body, event: Some(Event::Heartbeat), ..entry(EntryKind::Attempted) };
    store.carry_out(&DiskAction::Record(attempted), noon()).unwrap();
    assert!(shows(&made) && shows(&used) && !shows(&foreign));
    record(&mut store, EntryKind::IdReset, foreign.issued_at).unwrap();
    assert!(shows(&foreign));
    std::fs::remove_file(disk.path("ledger.jsonl")).unwrap();
    assert!(!shows(&made), "a file that is gone shows nothing");
}

#[test]
fn pruning_removes_what_is_too_old_and_a_day_of_it_at_most() {
    let disk = Disk::with(&chained(year()));
    let now = noon() + YEAR;
    let mut store = disk.open();
    let first = || entries(&disk.ledger())[0].seq;
    prune(&mut store, noon() + HOUR * 2, now).unwrap();
    assert_eq!(first(), 2);
    prune(&mut store, now, now).unwrap();
    assert_eq!(first(), 3, "a day from the oldest one, whatever the clock says");
    prune(&mut store, noon() + DAY, now).unwrap();
    assert_eq!(first(), 3, "what is young enough stays");
    let pruned: Vec<_> = entries(&disk.ledger()).into_iter().filter(|line| line.kind == EntryKind::Pruned).collect();
    assert_eq!(
        pruned.iter().map(|line| (line.seq, line.through)).collect::<Vec<_>>(),
        [(366, Some(1)), (367, Some(2))]
    );
}

#[test]
fn what_was_pruned_stays_provable_and_the_rest_audits_clean() {
    let whole = chained(life(100));
    let disk = Disk::with(&whole);
    let now = noon() + DAY * 101;
    let mut store = disk.open();
    for day in 1..50 {
        prune(&mut store, noon() + DAY * day, now).unwrap();
        record(&mut store, EntryKind::Started, now).unwrap();
        assert!(audit(&disk.ledger()).is_clean(), "{}", audit(&disk.ledger()).to_text());
    }
    drop(store);
    let left = entries(&disk.ledger());
    let told = left.iter().rev().find(|line| line.kind == EntryKind::Pruned).unwrap();
    assert_eq!(Some(left[0].seq - 1), told.through);
    let last_pruned = &split(&whole)[left[0].seq as usize - 2];
    assert_eq!(told.last, Some(sha256(last_pruned.trim_ascii_end())), "an older copy can be held against it");
    // Without its explanation the beginning is a finding.
    let told = |line: &Vec<u8>| Line::parse(line).unwrap().kind == EntryKind::Pruned;
    let without: Vec<_> = split(&disk.ledger()).into_iter().take_while(|line| !told(line)).collect();
    assert_eq!(found(&without.concat()), [("chain", 1)]);
}

#[test]
fn entries_of_a_time_that_cannot_be_are_not_pruned_by_themselves() {
    let now = noon() + YEAR;
    let wrong = [Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + HOUR, now + YEAR];
    let wrong = wrong.map(|at| Line::new(EntryKind::Started, at));
    let disk = Disk::with(&chained([&wrong[..], &[Line::new(EntryKind::Stopped, now - DAY)]].concat()));
    let before = disk.ledger();
    let mut store = disk.open();
    prune(&mut store, now - DAY * 90, now).unwrap();
    assert_eq!(disk.ledger(), before);

    // They go with a later one, so that they do not keep what stands behind them either.
    let old = [Line::new(EntryKind::Stopped, now - DAY * 100), Line::new(EntryKind::Stopped, now - DAY)];
    let disk = Disk::with(&chained([&wrong[..], &old].concat()));
    prune(&mut disk.open(), now - DAY * 90, now).unwrap();
    assert_eq!(entries(&disk.ledger())[0].seq, 5);
}

#[test]
fn a_crash_between_the_two_steps_of_pruning_is_finished_at_the_next_start() {
    let whole = chained(life(100));
    let disk = Disk::with(&whole);
    let now = noon() + DAY * 101;
    prune(&mut disk.open(), noon() + DAY, now).unwrap();
    let finished = disk.ledger();
    assert!(finished.len() < whole.len());

    let announced = [&whole[..], &split(&finished).pop().unwrap()].concat();
    assert!(audit(&announced).is_clean(), "what is announced and not yet done is no damage");
    std::fs::write(disk.path("ledger.jsonl"), &announced).unwrap();
    std::fs::write(disk.path("ledger.jsonl.new"), &finished[..1000]).unwrap();
    drop(disk.open());
    assert_eq!(disk.ledger(), finished);
    assert_eq!(disk.beside(), Vec::<String>::new());
}

#[test]
fn a_pruning_that_fails_is_an_error_and_finished_by_the_next_one() {
    let disk = Disk::with(&chained(year()));
    let now = noon() + YEAR;
    let mut store = disk.open();
    std::fs::create_dir(disk.path("ledger.jsonl.new")).unwrap();
    for _ in 0..3 {
        assert!(prune(&mut store, noon() + HOUR, now).is_err());
    }
    let pruned = |ledger: &[u8]| entries(ledger).iter().filter(|line| line.kind == EntryKind::Pruned).count();
    assert_eq!((entries(&disk.ledger())[0].seq, pruned(&disk.ledger())), (1, 1), "announced once");
    record(&mut store, EntryKind::Stopped, now).unwrap();
    std::fs::remove_dir(disk.path("ledger.jsonl.new")).unwrap();
    prune(&mut store, noon() + HOUR, now).unwrap();
    assert_eq!((entries(&disk.ledger())[0].seq, pruned(&disk.ledger())), (2, 1));
    assert!(audit(&disk.ledger()).is_clean());
}

/// Almost 16 MiB of entries of some 60 KiB.
fn almost_full() -> Vec<u8> {
    let reason: &'static str = "x".repeat(60_000).leak();
    chained((0..278).map(|day| because(EntryKind::Suppressed, noon() + HOUR * day, reason)).collect())
}

#[test]
fn a_ledger_of_16_mib_is_cut_to_12_and_audits_clean() {
    let full = almost_full();
    assert!((16 << 20) - full.len() < 128 * 1024 && full.len() < 16 << 20);
    let disk = Disk::with(&full);
    let mut store = disk.open();
    for _ in 0..500 {
        record(&mut store, EntryKind::Started, noon() + YEAR).unwrap();
        assert!(disk.path("ledger.jsonl").metadata().unwrap().len() <= 16 << 20);
    }
    let ledger = disk.ledger();
    let told = entries(&ledger).into_iter().find(|line| line.kind == EntryKind::Pruned).unwrap();
    let since =
        split(&ledger).concat().len() - entries(&ledger).iter().filter(|line| line.seq > told.seq).count() * 150;
    assert!((11 << 20..12 << 20).contains(&since), "{since} bytes are left");
    assert!(audit(&ledger).is_clean(), "{}", audit(&ledger).to_text());
}

#[test]
fn what_could_not_be_written_is_written_before_what_comes_next() {
    let disk = Disk::with(&almost_full());
    let mut store = disk.open();
    while record(&mut store, EntryKind::Started, noon() + YEAR).is_ok() {
        // As soon as it is full, it cannot be pruned.
        let _ = std::fs::create_dir(disk.path("ledger.jsonl.new"));
    }
    let body = PingBytes::parse(&body(1, Event::Startup, 1)).unwrap();
    let attempted = Entry { body: Some(body), event: Some(Event::Startup), ..entry(EntryKind::Attempted) };
    assert!(store.carry_out(&DiskAction::Record(attempted), noon() + YEAR + HOUR).is_err());
    assert!(record(&mut store, EntryKind::IdReset, noon() + YEAR + HOUR * 2).is_err());
    std::fs::remove_dir(disk.path("ledger.jsonl.new")).unwrap();
    record(&mut store, EntryKind::Stopped, noon() + YEAR + HOUR * 3).unwrap();
    let ledger = disk.ledger();
    let last: Vec<_> = entries(&ledger).iter().rev().take(4).map(|line| (line.kind, line.at)).collect();
    let at = |hours| noon() + YEAR + HOUR * hours;
    let expected = [(EntryKind::Stopped, at(3)), (EntryKind::IdReset, at(2)), (EntryKind::Started, at(0))];
    assert_eq!(last[..3], expected, "with their own times, and without the attempt that was not made");
    assert!(audit(&ledger).is_clean());
}

#[test]
fn a_line_that_was_told_not_to_be_written_is_not_found_by_a_start_once_anything_was_acknowledged_after_it() {
    for acknowledges in [false, true] {
        let fs = MemoryFs::new(Seeded(1));
        let (mut store, _) = Store::open_on(Arc::new(fs.clone())).unwrap();
        record(&mut store, EntryKind::Started, noon()).unwrap();
        let before = fs.read("ledger.jsonl").unwrap();
        // The write is done, and making it durable fails.
        fs.fail_after(1);
        assert!(record(&mut store, EntryKind::ForgetFailed, noon()).is_err());
        assert_ne!(fs.read("ledger.jsonl").unwrap(), before, "it stands there");
        if acknowledges {
            store.carry_out(&DiskAction::Save(State::default()), noon()).unwrap();
            store.confirm().unwrap();
        }
        drop(store);
        assert_eq!(fs.read("ledger.jsonl").unwrap() == before, acknowledges);
    }
}

#[test]
fn ids_of_a_ledger_that_was_put_aside_were_sent_too() {
    let sent = |seed| chained(vec![attempt(noon(), Event::Startup, body(seed, Event::Startup, 1))]);
    let disk = Disk::with(&sent(1));
    std::fs::write(disk.path("ledger.jsonl.damaged-1"), [sent(2), b"no line\n".to_vec(), sent(3)].concat()).unwrap();
    std::os::unix::fs::symlink(disk.path("ledger.jsonl"), disk.path("ledger.jsonl.damaged-2")).unwrap();
    let ids = disk.open().read_sent_ids()().unwrap();
    assert_eq!(ids.len(), 3, "{ids:?}");
}

#[test]
fn an_id_whose_deletion_was_asked_for_is_known_by_the_ledger_in_whatever_spelling_and_by_one_that_was_put_aside() {
    let (disk, asked) = (Disk::new(), InstallId::from(Seeded(1).uuid()));
    let mut store = disk.open();
    let entry = Entry { install_id: Some(asked.clone()), ..entry(EntryKind::ForgetAsked) };
    store.carry_out(&DiskAction::Record(entry), noon()).unwrap();
    let other = InstallId::from(Seeded(2).uuid());
    let loud = InstallId::parse(&asked.as_str().to_uppercase()).unwrap();
    let known = || [&asked, &loud, &other].map(|id| asks_to_forget(disk.dir.path(), id));
    assert_eq!(known(), [true, true, false]);
    std::fs::rename(disk.path("ledger.jsonl"), disk.path("ledger.jsonl.damaged-1")).unwrap();
    assert_eq!(known(), [true, true, false]);
    std::fs::remove_file(disk.path("ledger.jsonl.damaged-1")).unwrap();
    assert_eq!(known(), [false; 3]);
}

#[test]
fn a_torn_last_line_is_cut_off_and_kept_under_a_name_of_its_own_each_time() {
    let whole = chained(life(3));
    let attempted = chained(vec![attempt(noon(), Event::Startup, body(1, Event::Startup, 1))]);
    let disk = Disk::new();
    for (number, torn) in
        [&b"{\"seq\":9"[..], b"\0\0\0", &attempted[..attempted.len() - 1], &[b'x'; 200_000]].iter().enumerate()
    {
        std::fs::write(disk.path("ledger.jsonl"), [&whole[..], torn].concat()).unwrap();
        let (store, found) = Store::open(disk.dir.path()).unwrap();
        assert_eq!(disk.ledger(), whole);
        let name = format!("ledger.jsonl.torn-{}", number + 1);
        assert_eq!(std::fs::read(disk.path(&name)).unwrap(), *torn);
        assert!(found.damage.iter().any(|notice| notice.contains(&name)), "{:?}", found.damage);
        assert_eq!(found.interrupted, None, "an attempt that was not whole was not made");
        drop(store);
        assert!(Store::open(disk.dir.path()).unwrap().1.damage.iter().all(|notice| !notice.contains("torn")), "once");
    }
    assert_eq!(disk.beside().len(), 4);
}

#[test]
fn an_attempt_that_a_crash_left_open_is_told_at_the_start() {
    let attempted = attempt(noon(), Event::Heartbeat, body(1, Event::Heartbeat, 1));
    let found = |lines| Store::open(Disk::with(&chained(lines)).dir.path()).unwrap().1.interrupted;
    assert_eq!(found(vec![attempted.clone(), Line::new(EntryKind::Started, noon())]), Some(Event::Heartbeat));
    assert_eq!(found(vec![attempted, Line::new(EntryKind::Failed, noon())]), None);
}

#[test]
fn a_ledger_whose_last_line_cannot_be_read_is_put_aside_as_a_whole() {
    let sound = chained(life(3));
    let last = |line: &[u8]| [&sound[..], line, b"\n"].concat();
    let no_next = chained(vec![Line::new(EntryKind::Started, noon())]);
    let no_next = String::from_utf8(no_next).unwrap().replace("\"seq\":1,", &format!("\"seq\":{},", u64::MAX));
    for damaged in [last(b"nonsense"), last(&[b'x'; 70_000]), last(b""), no_next.into_bytes()] {
        let disk = Disk::with(&damaged);
        let (mut store, found) = Store::open(disk.dir.path()).unwrap();
        assert!(found.damage.iter().any(|notice| notice.contains("put aside")), "{:?}", found.damage);
        record(&mut store, EntryKind::Started, noon()).unwrap();
        let left: Vec<_> = entries(&disk.ledger()).iter().map(|line| (line.seq, line.kind)).collect();
        assert_eq!(left, [(1, EntryKind::HistoryLost), (2, EntryKind::Started)]);
        assert_eq!(std::fs::read(disk.path("ledger.jsonl.damaged-1")).unwrap(), damaged);
    }
}

#[test]
fn erasing_leaves_one_line_that_audits_clean_and_nothing_of_it_beside() {
    let whole = chained(life(20));
    let disk = Disk::with(&[&whole[..], b"torn"].concat());
    std::fs::write(disk.path("ledger.jsonl.damaged-3"), "older").unwrap();
    let mut store = disk.open();
    assert_eq!(disk.beside().len(), 2);
    store.erase_history(noon() + YEAR).unwrap();
    assert_eq!(disk.beside(), Vec::<String>::new());
    let lines = split(&whole);
    let erased = entries(&disk.ledger());
    assert_eq!(erased.len(), 1);
    assert_eq!((erased[0].kind, erased[0].seq), (EntryKind::Erased, lines.len() as u64 + 1));
    assert_eq!(erased[0].prev, sha256(lines.last().unwrap().trim_ascii_end()));
    assert!(audit(&disk.ledger()).is_clean());

    record(&mut store, EntryKind::Stopped, noon() + YEAR).unwrap();
    drop(store);
    let mut again = disk.open();
    record(&mut again, EntryKind::Started, noon() + YEAR).unwrap();
    assert!(audit(&disk.ledger()).is_clean());
    assert_eq!(entries(&disk.ledger()).len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_in_the_ledger_keep_the_store_from_starting_recording_pruning_and_erasing(
        pieces in prop::collection::vec(
            prop_oneof![
                4 => prop::sample::select(split(&chained(life(12)))),
                2 => prop::collection::vec(any::<u8>(), 0..300),
                1 => Just(vec![b'x'; 70_000]),
                1 => Just(b"\n".to_vec()),
            ],
            0..12,
        ),
    ) {
        let disk = Disk::with(&pieces.concat());
        let now = noon() + YEAR;
        let mut store = disk.open();
        record(&mut store, EntryKind::Started, now).unwrap();
        let page = store.history(None, 5).unwrap();
        prop_assert!(page.entries.len() <= 5);
        prune(&mut store, now, now).unwrap();
        drop(store);
        let (mut store, found) = Store::open(disk.dir.path()).unwrap();
        prop_assert!(found.damage.iter().all(|notice| !notice.contains("ledger")), "{:?}", found.damage);
        let _ = audit(&disk.ledger()).to_text();
        store.erase_history(now).unwrap();
        prop_assert!(audit(&disk.ledger()).is_clean());
    }
}
