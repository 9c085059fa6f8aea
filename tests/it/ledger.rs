//! The ledger on disk: what it keeps, what it gives away, and that a life of an installation audits clean.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use pulse_telemetry::store::{Disk as _, Store, ledger_shows};
use pulse_telemetry_core::chance::Chance;
use pulse_telemetry_core::clock::{Clock, Now};
use pulse_telemetry_core::consent::Sources;
use pulse_telemetry_core::credential::Credential;
use pulse_telemetry_core::engine::{Action, DiskAction, Engine, Entry, EntryKind, Input, Start};
use pulse_telemetry_core::identity::Identity;
use pulse_telemetry_core::ledger::{Line, sha256};
use pulse_telemetry_core::observation::{OwnSender, ReadError, Reading};
use pulse_telemetry_core::ping::{Event, PingBytes};
use pulse_telemetry_core::verdict::Answer;
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::history::{
    DAY, HOUR, SCHEDULE, attempt, audit, because, body, chained, entries, found, life, noon, split,
};
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::readings::{change, handed_over};
use pulse_telemetry_testkit::seeded::Seeded;
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup};
use serde_json::{Value, json};
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
    Entry { kind, event: None, body: None, status: None, reason: None, step_seconds: None, schedule: None }
}

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
    assert!(!shows(&made), "what is not there shows nothing");
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

/// An installation in virtual time, with the real store.
struct World {
    now: Now,
    disk: Disk,
    store: Option<Store>,
    engine: Engine<Seeded>,
    chance: Seeded,
    wake: Duration,
    pulse: Result<Reading, ReadError>,
    reads: u32,
    answer: Option<Answer>,
    /// The state file can be written. An off or a reset that could not be written is a finding indeed after a restart.
    state_works: bool,
    /// How many actions are still carried out before a crash.
    crash_in: Option<u32>,
    prunings: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Now { wall: noon(), mono: Duration::from_secs(1000) };
        let disk = Disk::new();
        let store = disk.open();
        let (engine, actions) = Engine::start(SCHEDULE, Start::default(), Seeded(seed), now);
        let mut world = Self {
            now,
            disk,
            store: Some(store),
            engine,
            chance: Seeded(seed),
            wake: now.mono,
            pulse: Ok(handed_over()),
            reads: 0,
            answer: Some(Answer::Status { code: 204, retry_after: None }),
            state_works: true,
            crash_in: None,
            prunings: 0,
        };
        world.carry_out(actions);
        world
    }

    fn start(&mut self) {
        self.crash_in = None;
        self.store = None;
        let (store, found) = Store::open(self.disk.dir.path()).unwrap();
        self.store = Some(store);
        let start = Start {
            sources: Sources { switched_off: found.switched_off, ..Sources::default() },
            identity_is_ours: true,
            identity: found.identity,
            state: found.state,
            interrupted: found.interrupted,
        };
        let seed = self.chance.draw(u64::MAX);
        let (engine, actions) = Engine::start(SCHEDULE, start, Seeded(seed), self.now);
        self.engine = engine;
        self.carry_out(actions);
    }

    fn feed(&mut self, input: Input) {
        let actions = self.engine.handle(self.now, input);
        self.carry_out(actions);
    }

    /// As the daemon does it.
    fn carry_out(&mut self, actions: Vec<Action>) {
        let (mut stored, mut left_out) = (true, false);
        let mut follow = Vec::new();
        for action in actions {
            match self.crash_in {
                Some(0) => return self.start(),
                Some(left) => self.crash_in = Some(left - 1),
                None => {}
            }
            match action {
                Action::WakeAt(mono) => self.wake = mono,
                Action::ReadPulse => {
                    self.reads += 1;
                    let mut pulse = self.pulse.clone();
                    if let Ok(reading) = &mut pulse {
                        // Some days nothing changes.
                        change(reading, |values| values.vms = Ok(self.reads / 3));
                    }
                    follow.push(Input::Reading(Box::new(pulse)));
                }
                Action::Send(_) if !stored => left_out = true,
                Action::Send(_) => follow.extend(self.answer.clone().map(Input::Answer)),
                Action::CancelSend => {}
                Action::Disk(DiskAction::Record(entry)) if !stored && entry.kind.says_done() => {}
                Action::Disk(DiskAction::Save(_)) if !self.state_works => stored = false,
                Action::Disk(action) => {
                    self.prunings += u32::from(matches!(action, DiskAction::Prune { .. }));
                    self.store.as_mut().unwrap().carry_out(&action, self.now.wall).unwrap();
                }
            }
        }
        if !stored {
            let actions = self.engine.handle(self.now, Input::StorageFailed { send_left_out: left_out });
            for action in actions {
                match action {
                    Action::WakeAt(mono) => self.wake = mono,
                    Action::Disk(action @ DiskAction::Record(_)) => {
                        self.store.as_mut().unwrap().carry_out(&action, self.now.wall).unwrap();
                    }
                    _ => {}
                }
            }
        }
        for input in follow {
            self.feed(input);
        }
    }

    fn pass(&mut self, duration: Duration) {
        self.now.mono += duration;
        self.now.wall += SignedDuration::try_from(duration).unwrap();
    }

    fn run_for(&mut self, duration: SignedDuration) {
        let end = self.now.mono + duration.unsigned_abs();
        while self.wake < end {
            self.pass(self.wake.saturating_sub(self.now.mono));
            self.feed(Input::Tick);
        }
        self.pass(end - self.now.mono);
    }

    /// When the oldest entry was written.
    fn oldest(&self) -> Timestamp {
        entries(&self.disk.ledger())[0].at
    }
}

#[test]
fn the_ledger_keeps_90_days_whether_the_machine_runs_on_or_restarts_daily() {
    for restarts in [false, true] {
        let mut world = World::new(3);
        for day in 0..130 {
            world.run_for(DAY);
            if restarts {
                world.start();
            }
            if day > 95 {
                let kept = world.now.wall.duration_since(world.oldest());
                assert!(kept > DAY * 89 && kept < DAY * 93, "{kept:#} after {day} days");
            }
        }
        assert!((128..=132).contains(&world.prunings), "{} prunings in 130 days", world.prunings);
        let report = audit(&world.disk.ledger());
        assert!(report.is_clean(), "{}", report.to_text());
    }
}

#[test]
fn the_ledger_is_pruned_while_telemetry_is_off_as_well() {
    let mut world = World::new(4);
    world.run_for(DAY * 10);
    world.feed(Input::Switch { off: true });
    world.run_for(DAY * 120);
    let ledger = entries(&world.disk.ledger());
    assert!(ledger.iter().all(|line| line.body.is_none()), "what was sent is gone after 90 days");
}

#[test]
fn a_leap_of_the_clock_prunes_at_most_one_day() {
    let mut world = World::new(5);
    world.run_for(DAY * 60);
    let before = entries(&world.disk.ledger());
    world.now.wall += YEAR * 10;
    world.run_for(HOUR * 23);
    assert_eq!(world.oldest(), before[0].at, "nothing while the clock is doubted");
    world.run_for(HOUR * 2);
    let oldest = world.oldest();
    let lost = before.iter().take_while(|line| line.at != oldest);
    assert!(lost.clone().count() > 0, "it is believed after a day");
    assert!(lost.clone().all(|line| line.at < before[0].at + DAY), "one day of entries");
    for _ in 0..20 {
        world.run_for(HOUR);
        world.start();
    }
    assert_eq!(world.oldest(), oldest, "a restart prunes no sooner");
    world.now.wall -= YEAR * 10;
    world.run_for(DAY * 3);
    assert_eq!(world.oldest(), oldest);
    assert!(audit(&world.disk.ledger()).is_clean(), "{}", audit(&world.disk.ledger()).to_text());
}

#[test]
fn a_pruning_written_down_in_the_far_future_does_not_end_pruning() {
    let mut world = World::new(6);
    world.now.wall += YEAR * 10;
    world.start();
    world.run_for(HOUR);
    world.now.wall -= YEAR * 10;
    world.start();
    let before = world.prunings;
    world.run_for(DAY * 3);
    assert!(world.prunings > before);
}

/// What may happen to an installation at any moment.
#[derive(Clone, Debug)]
enum Happening {
    Run(u32),
    Suspend(u32),
    Step(i64),
    CrashIn(u32),
    Restart,
    Reset,
    Switch(bool),
    StateWorks(bool),
    Pulse(u8),
    Endpoint(Option<Answer>),
    Erase,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let status = |code| Some(Answer::Status { code, retry_after: None });
    let endpoint = prop_oneof![Just(status(204)), Just(status(503)), Just(status(400)), Just(None)];
    let one = prop_oneof![
        8 => (1_u32..300_000).prop_map(Happening::Run),
        1 => (1_u32..2_000_000).prop_map(Happening::Suspend),
        1 => (-5_000_000_i64..5_000_000).prop_map(Happening::Step),
        3 => (0_u32..12).prop_map(Happening::CrashIn),
        2 => Just(Happening::Restart),
        1 => Just(Happening::Reset),
        2 => any::<bool>().prop_map(Happening::Switch),
        1 => any::<bool>().prop_map(Happening::StateWorks),
        2 => (0_u8..6).prop_map(Happening::Pulse),
        2 => endpoint.prop_map(Happening::Endpoint),
        1 => Just(Happening::Erase),
    ];
    prop::collection::vec(one, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_an_installation_its_ledger_audits_clean(
        seed in any::<u64>(), happenings in happenings(),
    ) {
        let mut world = World::new(seed);
        for happening in happenings {
            // What was never answered times out.
            if world.answer.is_none() {
                world.feed(Input::Answer(Answer::TimedOut));
            }
            match happening {
                Happening::Run(seconds) => world.run_for(SignedDuration::from_secs(seconds.into())),
                Happening::Suspend(seconds) => world.pass(Duration::from_secs(seconds.into())),
                Happening::Step(seconds) => world.now.wall += SignedDuration::from_secs(seconds),
                Happening::CrashIn(actions) => world.crash_in = Some(actions),
                Happening::Restart => {
                    world.feed(Input::Stop);
                    world.start();
                }
                Happening::Reset => world.feed(Input::Reset),
                Happening::Switch(off) => world.feed(Input::Switch { off }),
                Happening::StateWorks(works) => world.state_works = works,
                Happening::Pulse(kind) => {
                    world.pulse = if kind == 0 { Err(ReadError::Unauthorized(Credential::default())) } else { Ok(handed_over()) };
                    if let Ok(Reading { gate, .. }) = &mut world.pulse {
                        gate.own_sender =
                            Ok(if kind == 1 { OwnSender::OffBySetting } else { OwnSender::OffByEnvironment });
                    }
                }
                Happening::Endpoint(answer) => world.answer = answer,
                Happening::Erase => world.store.as_mut().unwrap().erase_history(world.now.wall).unwrap(),
            }
        }
        let report = audit(&world.disk.ledger());
        prop_assert!(report.is_clean(), "{}\n{}", report.to_text(), String::from_utf8_lossy(&world.disk.ledger()));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A set-up that has this ledger, and a ping that goes at once.
fn setup(pulse: &SimulatedPulse, endpoint: &Endpoint, ledger: &[u8]) -> Setup {
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    std::fs::create_dir(setup.path("state")).unwrap();
    std::fs::write(setup.state("ledger.jsonl"), ledger).unwrap();
    setup
}

/// A ledger that the daemon has no reason to prune: its newest entry is of the hour.
fn recent(days: u32) -> Vec<u8> {
    let shift = SystemClock.now().wall.duration_since(noon());
    let mut lines = life(days);
    let end = lines.last().unwrap().at.duration_since(noon());
    for line in &mut lines {
        line.at += shift - end - HOUR;
    }
    chained(lines)
}

#[test]
fn the_history_by_the_api_pages_through_everything_once_and_as_it_is_stored() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let sidecar = setup(&pulse, &endpoint, &recent(30)).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h");
    let state = sidecar.state("ledger.jsonl");
    let sidecar = sidecar.start();
    sidecar.status();
    let stored = std::fs::read(state).unwrap();
    let stored: Vec<String> = split(&stored).iter().map(|line| text(line.trim_ascii_end())).collect();
    for limit in [1, 7, 50, 200] {
        let (mut shown, mut before) = (Vec::new(), String::new());
        let mut pages = 0;
        loop {
            let page = sidecar.get(&format!("/api/v1/history?limit={limit}{before}"));
            let entries = page.text();
            // Byte for byte.
            let entries = entries.strip_prefix("{\"entries\":[").unwrap().rsplit_once("],\"before\":").unwrap().0;
            shown.extend(entries.split("},{").map(|entry| entry.trim_matches(['{', '}']).to_owned()));
            pages += 1;
            match page.json()["before"].as_u64() {
                Some(seq) => before = format!("&before={seq}"),
                None => break,
            }
        }
        assert_eq!(pages, stored.len().div_ceil(limit));
        let expected: Vec<String> = stored.iter().rev().map(|line| line.trim_matches(['{', '}']).to_owned()).collect();
        // Bodies hold braces, but never `},{`.
        assert_eq!(shown, expected, "limit {limit}");
    }
    assert_eq!(sidecar.get("/api/v1/history").json()["entries"].as_array().unwrap().len(), 50);
    assert_eq!(sidecar.get("/api/v1/history?before=1").json(), json!({"entries": [], "before": null}));
    assert_eq!(sidecar.get("/api/v1/history?limit=201").status, 400);
}

#[test]
fn history_and_audit_work_beside_a_running_daemon_and_say_the_same_without_one() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = setup(&pulse, &endpoint, &recent(30)).on_a_socket();
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, LIMIT);
    sidecar.wait_for_log("ping delivered");
    let sent = text(&endpoint.pings()[0].body);
    let run = |arguments: &[&str]| {
        let output = setup.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stderr), text(&output.stdout));
        text(&output.stdout)
    };
    let commands: [&[&str]; 5] = [
        &["history"],
        &["history", "--json"],
        &["history", "--bodies"],
        &["history", "--limit", "3"],
        &["history", "--json", "--limit", "201"],
    ];
    let beside = commands.map(run);
    let stored = std::fs::read_to_string(setup.state("ledger.jsonl")).unwrap();
    assert_eq!(beside[1], stored, "as it is stored");
    assert_eq!(beside[0].lines().count(), stored.lines().count(), "one line an entry");
    let last = beside[0].lines().last().unwrap();
    assert!(last.contains("  sent  ") && last.ends_with("startup, status 204"), "the newest last: {last}");
    assert!(!beside[0].contains(&sent) && beside[2].contains(&sent));
    assert_eq!(beside[3].lines().collect::<Vec<_>>()[2], last);
    assert_eq!((beside[3].lines().count(), beside[4].lines().count()), (3, stored.lines().count().min(201)));
    assert!(run(&["audit"]).contains("Nothing was found."));
    // A line that the daemon is about to finish.
    std::fs::write(setup.state("ledger.jsonl"), stored.clone() + "{\"seq\":").unwrap();
    assert!(run(&["audit"]).contains("Nothing was found."));
    drop(sidecar);
    assert_eq!(setup.run(&["audit"]).status.code(), Some(6), "nobody finishes it");
    std::fs::write(setup.state("ledger.jsonl"), &stored).unwrap();
    assert_eq!(commands.map(run), beside);
    assert!(run(&["audit"]).contains("Nothing was found."));
}

#[test]
fn the_history_is_erased_with_a_daemon_and_without_before_the_answer() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    for with_daemon in [true, false] {
        let setup =
            setup(&pulse, &endpoint, &recent(20)).with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "1h").on_a_socket();
        let daemon = with_daemon.then(|| setup.start());
        let output = setup.run(&["history", "--erase"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let ledger = std::fs::read(setup.state("ledger.jsonl")).unwrap();
        assert_eq!(entries(&ledger).iter().map(|line| line.kind).collect::<Vec<_>>(), [EntryKind::Erased]);
        assert!(text(&setup.run(&["history"]).stdout).contains("erased"));
        drop(daemon);
        let again = setup.start();
        assert!(setup.run(&["status"]).status.success());
        again.stop();
        assert_eq!(setup.run(&["audit"]).status.code(), Some(0));
        assert_eq!(setup.run(&["history", "--erase", "--json"]).status.code(), Some(2));
        assert_eq!(setup.run(&["history", "--limit", "0"]).status.code(), Some(2));
    }
}

#[test]
fn audit_ends_with_0_where_it_finds_nothing_6_where_it_does_and_5_where_it_cannot_read() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let none = Setup::new(&pulse.url(), &endpoint.url());
    let output = none.run(&["audit"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("state.dir"), "{}", text(&output.stderr));
    let output = none.run(&["history"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("no daemon has run yet"), "{}", text(&output.stderr));
    std::fs::create_dir(none.path("state")).unwrap();
    assert_eq!(none.run(&["audit"]).status.code(), Some(0), "nothing was recorded yet");
    assert!(text(&none.run(&["history"]).stdout).contains("Nothing was recorded yet."));

    let ago = SystemClock.now().wall.duration_since(noon()) - DAY * 30;
    let sound = chained(life(12).into_iter().map(|line| Line { at: line.at + ago, ..line }).collect());
    let setup = setup(&pulse, &endpoint, &sound);
    let output = setup.run(&["audit"]);
    assert_eq!(output.status.code(), Some(0));
    let newest = audit(&sound).newest.unwrap().1;
    assert!(text(&output.stdout).contains(&newest), "{}", text(&output.stdout));
    assert_eq!(setup.run(&["audit", "--since", &newest]).status.code(), Some(0));
    assert_eq!(setup.run(&["audit", "--since", &"0".repeat(64)]).status.code(), Some(6));
    assert_eq!(setup.run(&["audit", "--since", "nonsense"]).status.code(), Some(2));
    let setup = setup.with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "168h");
    assert_eq!(setup.run(&["audit"]).status.code(), Some(0), "the schedule of now is not that of then");
    let changed = text(&sound).replacen("no_connection", "timed_out", 1);
    std::fs::write(setup.state("ledger.jsonl"), changed).unwrap();
    let before: BTreeSet<_> =
        std::fs::read_dir(setup.path("state")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let output = setup.run(&["audit"]);
    assert_eq!(output.status.code(), Some(6));
    assert!(text(&output.stdout).contains("chain     FOUND"), "{}", text(&output.stdout));
    let after: BTreeSet<_> =
        std::fs::read_dir(setup.path("state")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(before, after, "it writes nothing, not even a lock");
    assert_eq!(pulse.server.connections() + endpoint.server.connections(), 0, "it contacts nobody");
    let documented = include_str!("../../docs/CONFIGURATION.md");
    assert!(documented.contains("| 6 |") && text(&setup.run(&["--help"]).stdout).contains("6 the audit"));
}

#[test]
fn a_forged_entry_cannot_control_the_terminal() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let forged = chained(vec![because(EntryKind::Failed, noon(), "\u{1b}[2J\u{9b}2J\n\u{202e}\u{200b}")]);
    let setup = setup(&pulse, &endpoint, &forged);
    let said = text(&setup.run(&["history"]).stdout);
    assert!(
        said.lines().count() == 1
            && !said.trim_end().contains(|c: char| c.is_control() || "\u{202e}\u{200b}".contains(c)),
        "{said:?}"
    );
    let json: Value = serde_json::from_slice(&setup.run(&["history", "--json"]).stdout).unwrap();
    assert_eq!(json["kind"], "failed");
}
