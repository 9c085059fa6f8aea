//! The ledger of an installation that lives for years.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use pulse_telemetry::store::{Disk as _, Store};
use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::consent::Sources;
use pulse_telemetry_core::credential::Credential;
use pulse_telemetry_core::engine::{Action, DiskAction, Engine, Input, KeptReceipt, Start};
use pulse_telemetry_core::observation::{OwnSender, ReadError, Reading};
use pulse_telemetry_core::verdict::Answer;
use pulse_telemetry_testkit::history::{DAY, HOUR, SCHEDULE, audit, entries, noon};
use pulse_telemetry_testkit::readings::{change, handed_over};
use pulse_telemetry_testkit::seeded::Seeded;

use super::{Disk, YEAR};

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

/// With no receipt.
fn answered(answer: Answer) -> Input {
    Input::Answer(answer, KeptReceipt::NONE)
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
            identity_is_forgotten: false,
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
                Action::Send(_) => follow.extend(self.answer.clone().map(answered)),
                Action::CancelSend | Action::Forget(_) | Action::CancelForget => {}
                Action::Disk(DiskAction::Record(entry)) if !stored && entry.kind.claims_prior_writes() => {}
                Action::Disk(DiskAction::Save(_)) if !self.state_works => stored = false,
                Action::Disk(action) => {
                    self.prunings += u32::from(matches!(action, DiskAction::Prune { .. }));
                    self.store.as_mut().unwrap().carry_out(&action, self.now.wall).unwrap();
                }
            }
        }
        if !stored {
            let actions =
                self.engine.handle(self.now, Input::StorageFailed { send_left_out: left_out, forget_left_out: false });
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
                world.feed(answered(Answer::TimedOut));
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
                    let refused = || Err(ReadError::Unauthorized(Credential::default()));
                    world.pulse = if kind == 0 { refused() } else { Ok(handed_over()) };
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
