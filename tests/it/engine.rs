//! The engine in virtual time: schedule, consent, suppression, retries, clocks.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

mod new_id;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use pulse_telemetry_core::chance::Chance;
use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::consent::{Fixed, OffSource, Sources};
use pulse_telemetry_core::contract;
use pulse_telemetry_core::credential::Credential;
use pulse_telemetry_core::engine::{
    Action, DiskAction, Engine, EntryKind, Input, Outcome, Schedule, Start, State, Suppression,
};
use pulse_telemetry_core::identity::{Identity, InstallId, ROTATION};
use pulse_telemetry_core::observation::{OwnSender, ReadError, Reading, Reason, Scope};
use pulse_telemetry_core::ping::{self, Event, PingBytes};
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_core::verdict::Answer;
use pulse_telemetry_testkit::readings::{change, handed_over, unknown};
use pulse_telemetry_testkit::seeded::Seeded;
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const SCHEDULE: Schedule =
    Schedule { startup_delay: Duration::from_secs(120), interval: DAY, jitter: Duration::from_secs(1800) };

/// An installation in virtual time. Everything outside of the engine is as simple as can be.
struct World {
    schedule: Schedule,
    now: Now,
    /// No two lives of a process have the same chance.
    lives: u64,
    engine: Engine<Seeded>,
    wake: Duration,
    sources: Sources,
    // The disk.
    disk_works: bool,
    identity: Option<Identity>,
    state: State,
    ledger: Vec<(Now, pulse_telemetry_core::engine::Entry)>,
    saves: usize,
    /// When the ledger was to be pruned, of what is older than this, and how much of it at most.
    prunings: Vec<(Now, Timestamp, Duration)>,
    // Pulse and the endpoint.
    pulse: Result<Reading, ReadError>,
    reads: usize,
    /// Readings take their time: the next one waits in `held`.
    holds_readings: bool,
    held: Option<Input>,
    answers: VecDeque<Option<Answer>>,
    answer_otherwise: Option<Answer>,
    sent: Vec<Sent>,
    accepted: Vec<usize>,
    cancels: usize,
}

/// An attempt that reached the endpoint.
#[derive(Clone, Debug)]
struct Sent {
    at: Now,
    body: String,
}

impl Sent {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn event(&self) -> String {
        self.json()["event"].as_str().unwrap().to_owned()
    }

    fn id(&self) -> InstallId {
        InstallId::parse(self.json()["install_id"].as_str().unwrap()).unwrap()
    }
}

fn status(code: u16) -> Answer {
    Answer::Status { code, retry_after: None }
}

fn no_connection() -> Answer {
    Answer::NoConnection("connection refused".to_owned())
}

fn some_id() -> Identity {
    Identity::new(Seeded(1).uuid(), noon() - SignedDuration::from_hours(24))
}

fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

impl World {
    fn new() -> Self {
        Self::with(Sources::default(), State::default(), None, noon())
    }

    fn with(sources: Sources, state: State, identity: Option<Identity>, wall: Timestamp) -> Self {
        Self::scheduled(SCHEDULE, sources, state, identity, wall)
    }

    fn scheduled(
        schedule: Schedule,
        sources: Sources,
        state: State,
        identity: Option<Identity>,
        wall: Timestamp,
    ) -> Self {
        let now = Now { wall, mono: Duration::from_secs(1000) };
        let start = Start { sources, identity: identity.clone(), state: state.clone(), ..Start::default() };
        let (engine, actions) = Engine::start(schedule, start, Seeded(7), now);
        let mut world = Self {
            schedule,
            now,
            lives: 7,
            engine,
            wake: now.mono,
            sources,
            disk_works: true,
            identity,
            state,
            ledger: Vec::new(),
            saves: 0,
            prunings: Vec::new(),
            pulse: Ok(handed_over()),
            reads: 0,
            holds_readings: false,
            held: None,
            answers: VecDeque::new(),
            answer_otherwise: Some(status(204)),
            sent: Vec::new(),
            accepted: Vec::new(),
            cancels: 0,
        };
        world.carry_out(actions);
        world
    }

    /// The process ends without a word, and a new one starts.
    fn crash_and_start(&mut self) {
        let start = Start {
            sources: self.sources,
            identity: self.identity.clone(),
            identity_is_ours: true,
            state: self.state.clone(),
            interrupted: None,
        };
        self.lives += 1;
        let (engine, actions) = Engine::start(self.schedule, start, Seeded(self.lives), self.now);
        self.engine = engine;
        self.carry_out(actions);
    }

    fn feed(&mut self, input: Input) {
        let actions = self.engine.handle(self.now, input);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        let mut stored = true;
        let mut left_out = false;
        let mut follow = Vec::new();
        for action in actions {
            match action {
                Action::WakeAt(mono) => {
                    assert!(mono >= self.now.mono, "the next wake is never in the past");
                    assert!(mono <= self.now.mono + HOUR, "the next wake is never more than an hour away");
                    self.wake = mono;
                }
                Action::ReadPulse => {
                    self.reads += 1;
                    let mut pulse = self.pulse.clone();
                    // No two readings are the same, so that no two pings that are built are.
                    if let Ok(Reading { payload: Ok(payload), .. }) = &mut pulse {
                        payload.vms = u32::try_from(self.reads).unwrap();
                    }
                    let reading = Input::Reading(Box::new(pulse));
                    if self.holds_readings { self.held = Some(reading) } else { follow.push(reading) }
                }
                Action::Send(_) if !stored => left_out = true,
                Action::Send(body) => follow.extend(self.attempt(body).map(Input::Answer)),
                Action::CancelSend => self.cancels += 1,
                _ if !self.disk_works => stored = false,
                Action::Disk(DiskAction::SaveSwitch { off }) => self.sources.switched_off = off,
                Action::Disk(DiskAction::SaveId(identity)) => self.identity = Some(identity),
                Action::Disk(DiskAction::DeleteId) => self.identity = None,
                Action::Disk(DiskAction::Save(state)) => {
                    self.state = state;
                    self.saves += 1;
                }
                Action::Disk(DiskAction::Record(entry)) => {
                    use EntryKind::{Attempted, Failed, Sent, Suppressed};
                    let of_a_ping = matches!(entry.kind, Attempted | Sent | Failed | Suppressed);
                    assert_eq!(entry.event.is_some(), of_a_ping, "it says of which ping: {entry:?}");
                    self.ledger.push((self.now, entry));
                }
                // `tests/ledger.rs` does it with the real store.
                Action::Disk(DiskAction::Prune { before, at_most }) => self.prunings.push((self.now, before, at_most)),
            }
        }
        if !stored {
            for action in self.engine.handle(self.now, Input::StorageFailed { send_left_out: left_out }) {
                if let Action::WakeAt(mono) = action {
                    self.wake = mono;
                }
            }
        }
        for input in follow {
            self.feed(input);
        }
    }

    /// What the endpoint does. `None` in the script: it never answers.
    fn attempt(&mut self, body: PingBytes) -> Option<Answer> {
        let document: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(contract::validate(&document), Ok(()));
        assert!(self.engine.sources().off().is_none(), "off sends nothing");
        let recorded = self.ledger.last().map(|(_, entry)| (entry.kind, entry.body.clone()));
        assert_eq!(recorded, Some((EntryKind::Attempted, Some(body.clone()))), "in the ledger before it is made");
        let identity = self.identity.as_ref().expect("an ID on disk");
        assert_eq!(document["install_id"], identity.install_id.as_str(), "the ID is the one on disk");
        assert!(identity.is_current_where_it_was_made(self.now.wall), "no ID that is 30 days old, or from the future");
        let answer = self.answers.pop_front().unwrap_or_else(|| self.answer_otherwise.clone());
        if matches!(answer, Some(Answer::Status { code: 200..=299, .. })) {
            self.accepted.push(self.sent.len());
        }
        self.sent.push(Sent { at: self.now, body: body.into() });
        answer
    }

    fn pass(&mut self, duration: Duration) {
        self.now.mono += duration;
        self.now.wall += SignedDuration::try_from(duration).unwrap();
    }

    /// Time goes by, and the daemon does what it is asked for.
    fn run_for(&mut self, duration: Duration) {
        let end = self.now.mono + duration;
        let mut steps = 0;
        while self.wake < end {
            let pause = self.wake.saturating_sub(self.now.mono);
            self.pass(pause);
            self.feed(Input::Tick);
            steps += 1;
            assert!(steps < 200_000, "the engine is busy without pause");
        }
        let rest = end - self.now.mono;
        self.pass(rest);
    }

    fn step_clock(&mut self, seconds: i64) {
        self.now.wall += SignedDuration::from_secs(seconds);
    }

    fn events(&self) -> Vec<String> {
        self.sent.iter().map(Sent::event).collect()
    }

    fn reasons(&self, kind: EntryKind) -> Vec<&'static str> {
        self.ledger
            .iter()
            .filter(|(_, e)| e.kind == kind)
            .filter_map(|(_, e)| e.reason.map(LedgerReason::word))
            .collect()
    }

    fn suppressed(&self) -> Option<&'static str> {
        self.engine.status(self.now).suppressed.map(|suppression| suppression.reason().word())
    }
}

#[test]
fn a_ping_goes_two_minutes_after_the_start_and_then_one_every_24_hours() {
    let mut world = World::new();
    let start = world.now.mono;
    world.run_for(DAY * 60);
    assert_eq!(world.events()[..2], ["startup", "heartbeat"]);
    assert_eq!(world.sent[0].at.mono - start, 2 * MINUTE);
    assert!(world.events()[1..].iter().all(|event| event == "heartbeat"));
    for pair in world.sent.windows(2).filter(|pair| pair[0].id() == pair[1].id()) {
        let apart = pair[1].at.mono - pair[0].at.mono;
        assert!(apart >= DAY - HOUR / 2 && apart <= DAY + HOUR / 2, "{apart:?} apart");
    }
    // Each of the two rotations takes half a day to one and a half.
    assert!((56..=61).contains(&world.sent.len()), "{} pings in 60 days", world.sent.len());
}

#[test]
fn off_by_any_source_sends_nothing_in_400_virtual_days_and_leaves_no_id_file() {
    let fixed = |pulse_telemetry, do_not_track, enabled| Sources {
        fixed: Fixed::new(pulse_telemetry, do_not_track, enabled),
        ..Sources::default()
    };
    let off_sources = [
        (fixed(Some("false"), None, true), OffSource::PulseTelemetry),
        (fixed(Some("off"), None, true), OffSource::PulseTelemetry),
        (fixed(Some("nonsense"), None, true), OffSource::PulseTelemetry),
        (fixed(None, Some("1"), true), OffSource::DoNotTrack),
        (fixed(None, None, false), OffSource::Config),
        (Sources { switched_off: true, ..Sources::default() }, OffSource::Switch),
        (fixed(Some("true"), Some("yes"), true), OffSource::DoNotTrack),
    ];
    for (sources, source) in off_sources {
        // What an earlier process left: a pending ping, a heartbeat due, an ID.
        let mut before = World::new();
        before.answer_otherwise = Some(status(503));
        before.run_for(HOUR);
        assert!(before.state.pending.is_some() && before.identity.is_some());

        let mut world = World::with(sources, before.state, before.identity, before.now.wall);
        assert!(world.identity.is_none() && world.state.pending.is_none(), "deleted before anything else runs");
        assert_eq!(world.engine.status(world.now).off, Some(source));
        world.run_for(DAY * 400);
        assert_eq!((world.sent.len(), world.reads), (0, 0), "{source}");
        assert!(world.identity.is_none(), "{source}");
        assert!(!world.engine.preview_id(world.now).as_str().is_empty(), "the preview has a candidate all the same");
    }
}

#[test]
fn off_by_pulses_own_setting_sends_nothing_and_leaves_no_id_file() {
    let mut world = World::new();
    world.run_for(HOUR);
    let before = world.sent.len();
    world.pulse.as_mut().unwrap().gate.own_sender = Ok(OwnSender::OffBySetting);
    world.run_for(DAY * 400);
    assert_eq!(world.sent.len(), before);
    assert!(world.identity.is_none());
    assert_eq!(world.engine.status(world.now).off, Some(OffSource::Pulse));
    assert_eq!(world.reasons(EntryKind::ConsentChanged), ["pulse"]);

    world.pulse.as_mut().unwrap().gate.own_sender = Ok(OwnSender::OffByEnvironment);
    world.run_for(DAY * 2);
    assert!(world.sent.len() > before, "on again in Pulse is on again here");
}

#[test]
fn switching_off_deletes_the_id_and_the_pending_ping_and_on_again_makes_a_new_id() {
    let mut world = World::new();
    world.answers.push_back(Some(status(503)));
    world.run_for(5 * MINUTE);
    let old = world.sent[0].id();
    world.feed(Input::Switch { off: true });
    assert!(world.identity.is_none() && world.state.pending.is_none() && world.sources.switched_off);
    let sent = world.sent.len();
    world.run_for(DAY * 3);
    assert_eq!(world.sent.len(), sent);
    world.feed(Input::Switch { off: false });
    world.run_for(DAY * 2);
    assert!(world.sent.len() > sent);
    assert!(world.sent[sent..].iter().all(|sent| sent.id() != old));
    assert_eq!(world.reasons(EntryKind::ConsentChanged), ["switch", "on"]);
}

/// A crash, or a disk that fails, between any two of the actions leaves it off.
#[test]
fn off_is_the_first_that_is_written_and_on_the_last() {
    let mut world = World::new();
    world.run_for(HOUR);
    let switches = |actions: &[Action]| {
        let written: Vec<&Action> = actions.iter().filter(|action| matches!(action, Action::Disk(_))).collect();
        let is_switch = |action: Option<&&Action>| matches!(action, Some(Action::Disk(DiskAction::SaveSwitch { .. })));
        (is_switch(written.first()), is_switch(written.last()), written.len() > 1)
    };
    let off = world.engine.handle(world.now, Input::Switch { off: true });
    assert_eq!(switches(&off), (true, false, true), "{off:?}");
    let on = world.engine.handle(world.now, Input::Switch { off: false });
    assert_eq!(switches(&on), (false, true, true), "{on:?}");
}

#[test]
fn an_answer_that_comes_after_switching_off_changes_nothing() {
    let mut world = World::new();
    world.answers.push_back(None);
    world.run_for(5 * MINUTE);
    world.feed(Input::Switch { off: true });
    let (state, entries) = (world.state.clone(), world.ledger.len());
    world.feed(Input::Answer(status(204)));
    assert_eq!((world.state.clone(), world.ledger.len()), (state, entries));
}

#[test]
fn an_outage_of_a_month_ends_with_one_ping_not_a_backlog_and_its_id_is_valid() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.answer_otherwise = Some(no_connection());
    world.run_for(DAY * 31);
    let failed = world.sent.len();
    world.answer_otherwise = Some(status(204));
    world.run_for(DAY * 2);
    let after: Vec<_> = world.accepted.iter().filter(|at| **at >= failed).collect();
    assert!((1..=2).contains(&after.len()), "{} pings in the two days after the outage", after.len());
    // That the ID was valid is checked at every attempt.
}

#[test]
fn pulse_away_for_a_month_costs_one_ping_at_its_end() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.pulse = Err(ReadError::Unreachable("connection refused".to_owned()));
    world.run_for(DAY * 31);
    assert_eq!(world.sent.len(), 1);
    assert_eq!(world.suppressed(), Some("pulse_unreachable"));
    assert_eq!(world.reasons(EntryKind::Suppressed), ["pulse_unreachable"], "one entry, not one for each look");
    world.pulse = Ok(handed_over());
    world.run_for(2 * HOUR);
    assert_eq!(world.sent.len(), 2);
    assert_eq!(world.suppressed(), None);
}

#[test]
fn a_host_that_restarts_daily_still_sends_its_heartbeats() {
    let mut world = World::new();
    for _ in 0..30 {
        world.run_for(DAY - HOUR);
        world.pass(HOUR);
        world.crash_and_start();
    }
    let heartbeats = world.events().iter().filter(|event| *event == "heartbeat").count();
    assert!((27..=31).contains(&heartbeats), "{heartbeats} heartbeats in 30 days");
}

#[test]
fn a_crash_loop_sends_one_startup_an_hour_at_most() {
    let mut world = World::new();
    for _ in 0..600 {
        world.run_for(3 * MINUTE);
        world.crash_and_start();
    }
    let startups: Vec<_> = world.sent.iter().filter(|sent| sent.event() == "startup").map(|s| s.at.mono).collect();
    assert!(startups.windows(2).all(|pair| pair[1] - pair[0] >= HOUR));
    assert!((20..=31).contains(&startups.len()), "{} startups in 30 hours", startups.len());
}

#[test]
fn a_crash_loop_cannot_hammer_an_endpoint_that_fails() {
    let mut world = World::new();
    world.answer_otherwise = Some(status(500));
    for _ in 0..(24 * 20) {
        world.run_for(3 * MINUTE);
        world.crash_and_start();
    }
    assert!(world.sent.len() < 100, "{} attempts in a day of crashes", world.sent.len());
}

#[test]
fn a_pending_ping_found_at_a_start_stands_in_for_the_startup_and_is_the_same_bytes() {
    let mut world = World::new();
    world.answers.push_back(Some(status(503)));
    world.run_for(2 * MINUTE + Duration::from_secs(1));
    assert_eq!(world.sent.len(), 1);
    world.crash_and_start();
    // A count that changed in between does not change the bytes.
    change(world.pulse.as_mut().unwrap(), |values| values.vms = Ok(26));
    world.run_for(HOUR);
    assert_eq!(world.sent.len(), 2);
    assert_eq!(world.sent[0].body, world.sent[1].body);
}

#[test]
fn an_overdue_heartbeat_waits_an_hour_after_the_startup() {
    let state = State { heartbeat_due: Some(noon() - SignedDuration::from_hours(48)), ..State::default() };
    let mut world = World::with(Sources::default(), state, Some(some_id()), noon());
    world.run_for(3 * HOUR);
    assert_eq!(world.events(), ["startup", "heartbeat"]);
    assert!(world.sent[1].at.mono - world.sent[0].at.mono >= HOUR);
}

#[test]
fn a_due_time_in_the_far_future_does_not_silence_for_years() {
    let state = State { heartbeat_due: Some(noon() + SignedDuration::from_hours(24 * 3650)), ..State::default() };
    let mut world = World::with(Sources::default(), state, Some(some_id()), noon());
    world.run_for(3 * HOUR);
    assert_eq!(world.events(), ["startup", "heartbeat"]);
}

#[test]
fn a_due_time_as_far_away_as_any_is_set_is_kept() {
    let due = noon() + SignedDuration::from_hours(36);
    let state = State { heartbeat_due: Some(due), ..State::default() };
    let mut world = World::with(Sources::default(), state, Some(some_id()), noon());
    world.run_for(DAY + DAY / 2);
    assert_eq!(world.events(), ["startup"]);
    world.run_for(MINUTE);
    assert_eq!(world.events(), ["startup", "heartbeat"]);
}

#[test]
fn once_a_day_what_is_older_than_90_days_is_pruned_a_day_of_it_at_most_and_none_while_the_clock_is_doubted() {
    let mut world = World::new();
    world.run_for(DAY * 3 - MINUTE);
    assert_eq!(world.prunings.len(), 3);
    for (number, (at, before, at_most)) in (0_u32..).zip(&world.prunings) {
        assert_eq!(at.wall, noon() + SignedDuration::from_hours(24 * i64::from(number)));
        assert_eq!((at.wall.duration_since(*before), *at_most), (SignedDuration::from_hours(24 * 90), DAY));
    }
    world.step_clock(10 * 365 * 24 * 3600);
    world.run_for(DAY - HOUR);
    assert_eq!(world.prunings.len(), 3);
}

#[test]
fn a_doubt_is_kept_on_disk_every_ten_minutes_and_nothing_is_where_there_is_none() {
    let mut world = World::with(
        Sources { switched_off: true, ..Sources::default() },
        State::default(),
        None,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(world.saves, 1, "off is written at the start");
    world.run_for(2 * HOUR - MINUTE);
    assert_eq!((world.saves, world.state.doubted_seconds), (12, Some(110 * 60)));

    let mut world = World::new();
    world.run_for(HOUR);
    let before = world.saves;
    world.run_for(10 * HOUR);
    assert_eq!(world.saves, before);
}

#[test]
fn what_a_crash_or_damage_took_is_told_with_the_ping_it_happened_to() {
    let start = Start { interrupted: Some(Event::Heartbeat), ..Start::default() };
    let now = Now { wall: noon(), mono: HOUR };
    let (engine, actions) = Engine::start(SCHEDULE, start, Seeded(7), now);
    let told = actions.iter().find_map(|action| match action {
        Action::Disk(DiskAction::Record(entry)) if entry.kind == EntryKind::Failed => {
            Some((entry.event, entry.reason.map(LedgerReason::word)))
        }
        _ => None,
    });
    assert_eq!(told, Some((Some(Event::Heartbeat), Some("interrupted"))));
    assert_eq!(engine.sources(), Sources::default());
}

#[test]
fn what_an_answer_said_is_in_the_ledger() {
    let mut world = World::new();
    world.answers = VecDeque::from([Some(status(503)), Some(status(400)), Some(status(202))]);
    world.run_for(DAY * 2);
    let answers: Vec<_> = world.ledger.iter().filter_map(|(_, entry)| entry.status).collect();
    assert_eq!(answers[..3], [503, 400, 202]);
}

#[test]
fn a_reset_cancels_a_send_under_way_and_nothing_else() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.feed(Input::Reset);
    assert_eq!(world.cancels, 0);
    world.answers.push_back(None);
    world.run_for(DAY * 2);
    world.feed(Input::Reset);
    assert_eq!(world.cancels, 1);
}

#[test]
fn a_disk_that_fails_during_a_send_does_not_make_its_answer_void() {
    let mut world = World::new();
    world.answers.push_back(None);
    world.run_for(5 * MINUTE);
    world.feed(Input::StorageFailed { send_left_out: false });
    world.feed(Input::Answer(status(204)));
    assert_eq!(world.ledger.iter().filter(|(_, entry)| entry.kind == EntryKind::Sent).count(), 1);
}

#[test]
fn an_attempt_that_was_left_out_is_told_with_its_ping() {
    let mut world = World::new();
    world.answers.push_back(None);
    world.run_for(5 * MINUTE);
    let actions = world.engine.handle(world.now, Input::StorageFailed { send_left_out: true });
    let told = actions.into_iter().find_map(|action| match action {
        Action::Disk(DiskAction::Record(entry)) if entry.kind == EntryKind::Failed => {
            Some((entry.event, entry.reason.map(LedgerReason::word)))
        }
        _ => None,
    });
    assert_eq!(told, Some((Some(Event::Startup), Some("storage"))));
}

#[test]
fn a_disk_that_works_again_is_no_longer_told_as_broken_although_nothing_is_due() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.disk_works = false;
    world.feed(Input::Reset);
    assert_eq!(world.suppressed(), Some("storage"));
    world.disk_works = true;
    let reads = world.reads;
    world.run_for(HOUR);
    assert_eq!((world.suppressed(), world.reads), (None, reads));
}

#[test]
fn a_step_of_more_than_a_minute_is_recorded_with_its_seconds() {
    let mut world = World::new();
    for seconds in [60, -60, 61, -61] {
        world.step_clock(seconds);
        world.feed(Input::Tick);
    }
    assert_eq!(world.ledger.iter().filter_map(|(_, entry)| entry.step_seconds).collect::<Vec<_>>(), [61, -61]);
}

#[test]
fn what_the_endpoint_asked_for_holds_after_a_restart_as_well() {
    let mut world = World::new();
    world.answers.push_back(Some(Answer::Status { code: 503, retry_after: Some("18000".to_owned()) }));
    world.run_for(5 * MINUTE);
    let asked = world.sent[0].at;
    let not_before = world.state.not_before.unwrap().duration_since(asked.wall);
    assert!((SignedDuration::from_hours(5)..=SignedDuration::from_mins(330)).contains(&not_before), "{not_before:?}");
    world.crash_and_start();
    world.run_for(DAY);
    assert!(world.sent[1].at.mono - asked.mono >= 5 * HOUR);
}

#[test]
fn what_pulse_asked_for_is_honoured() {
    let mut world = World::new();
    if let Ok(reading) = &mut world.pulse {
        change(reading, |values| values.vms = Err(unknown("vms", Reason::RateLimited)));
        reading.retry_after = Some(5 * HOUR);
    }
    world.run_for(5 * HOUR);
    assert_eq!(world.reads, 1);
    world.run_for(HOUR);
    assert_eq!(world.reads, 2);
}

#[test]
fn a_restart_prunes_no_second_time_on_the_same_day() {
    let mut world = World::new();
    for _ in 0..5 {
        world.run_for(4 * HOUR);
        world.crash_and_start();
    }
    assert_eq!(world.prunings.len(), 1);
}

#[test]
fn a_running_clock_is_doubted_when_it_leaps_more_than_a_day_ahead_or_more_than_an_hour_back() {
    for (seconds, is_believed) in [(86_400, true), (86_401, false), (-3600, true), (-3601, false)] {
        let mut world = World::new();
        world.run_for(HOUR);
        world.step_clock(seconds);
        world.feed(Input::Tick);
        assert_eq!(world.state.doubted_seconds, (!is_believed).then_some(0), "{seconds} seconds");
    }
}

/// What is made of a clock at a start, by what earlier processes left.
#[test]
fn a_clock_is_believed_at_a_start_unless_something_speaks_against_it() {
    let hours_ago = |hours| Some(noon() - SignedDuration::from_hours(hours));
    let in_1970 = |days: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days);
    for (believed_at, doubted_seconds, wall, is_believed) in [
        (None, None, contract::CONTRACT_DATE, true),
        (None, None, contract::CONTRACT_DATE - SignedDuration::from_hours(1), false),
        (Some(in_1970(1)), None, in_1970(2), false),
        (hours_ago(-1), None, noon(), true),
        (hours_ago(-2), None, noon(), false),
        // The machine was off for as long as the clock says.
        (hours_ago(24 * 30), None, noon(), true),
        (hours_ago(24), Some(600), noon(), true),
        (hours_ago(25), Some(600), noon(), false),
        // Nobody had set it before.
        (Some(in_1970(1)), Some(600), noon(), true),
    ] {
        let state = State { believed_at, doubted_seconds, ..State::default() };
        let mut world = World::with(Sources::default(), state, None, wall);
        world.run_for(5 * MINUTE);
        assert_eq!(world.sent.len() == 1, is_believed, "{believed_at:?}, {doubted_seconds:?}: {wall}");
    }
}

#[test]
fn the_bytes_retried_are_the_bytes_built() {
    let mut world = World::new();
    for answer in [
        status(408),
        status(425),
        status(429),
        status(500),
        status(503),
        no_connection(),
        Answer::CutShort,
        Answer::TimedOut,
    ] {
        world.answers.push_back(Some(answer));
    }
    world.run_for(12 * HOUR);
    assert_eq!(world.sent.len(), 9);
    assert!(world.sent.iter().all(|sent| sent.body == world.sent[0].body));
    assert_eq!(
        world.reasons(EntryKind::Failed),
        [
            "asked_to_retry",
            "asked_to_retry",
            "rate_limited",
            "server_error",
            "server_error",
            "no_connection",
            "cut_short",
            "timed_out"
        ]
    );
}

#[test]
fn retry_after_is_honoured_up_to_a_day_and_for_the_next_ping_too() {
    let mut world = World::new();
    world.answers.push_back(Some(Answer::Status { code: 503, retry_after: Some("7200".to_owned()) }));
    world.run_for(DAY / 2);
    assert!(world.sent[1].at.mono - world.sent[0].at.mono >= 2 * HOUR);

    let mut world = World::new();
    world.answers.push_back(Some(Answer::Status { code: 429, retry_after: Some("99999999999999999999".to_owned()) }));
    world.run_for(HOUR);
    world.crash_and_start();
    world.run_for(DAY * 2);
    let apart = world.sent[1].at.mono - world.sent[0].at.mono;
    assert!((DAY..DAY + DAY / 10 + HOUR).contains(&apart), "{apart:?}, over a restart");
}

#[test]
fn a_ping_that_is_refused_or_redirected_is_dropped_and_the_next_goes_in_its_time() {
    for (code, reason) in
        [(400, "refused"), (404, "refused"), (301, "redirected"), (307, "redirected"), (308, "redirected")]
    {
        let mut world = World::new();
        world.answers.push_back(Some(status(code)));
        world.run_for(DAY - HOUR);
        assert_eq!(world.sent.len(), 1, "{code}");
        assert_eq!(world.reasons(EntryKind::Failed), [reason]);
        world.run_for(2 * HOUR);
        assert_eq!(world.events(), ["startup", "heartbeat"]);
    }
}

#[test]
fn a_ping_is_given_up_an_interval_after_it_was_built_and_a_startup_is_replaced_by_one_heartbeat() {
    let mut world = World::new();
    world.answer_otherwise = Some(status(500));
    world.run_for(DAY - MINUTE);
    assert!(world.events().iter().all(|event| event == "startup"));
    world.run_for(2 * HOUR);
    assert_eq!(world.reasons(EntryKind::Failed).iter().filter(|r| **r == "gave_up").count(), 1);
    assert!(world.events().last().is_some_and(|event| event == "heartbeat"));
}

#[test]
fn the_id_rotates_every_thirty_days_while_the_process_runs() {
    let mut world = World::new();
    world.run_for(DAY * 365);
    let ids: Vec<InstallId> = world.sent.iter().map(Sent::id).collect();
    let distinct: BTreeSet<_> = ids.iter().collect();
    assert!((12..=13).contains(&distinct.len()), "{} IDs in a year", distinct.len());
    for id in &distinct {
        let used: Vec<_> = world.sent.iter().filter(|sent| sent.id() == **id).map(|sent| sent.at.mono).collect();
        assert!(*used.last().unwrap() - used[0] < ROTATION);
    }
}

#[test]
fn after_a_reset_no_ping_carries_the_old_id_a_retry_under_way_included() {
    for pending in ["none", "waiting", "under way"] {
        let mut world = World::new();
        match pending {
            "waiting" => world.answers.push_back(Some(status(503))),
            "under way" => world.answers.push_back(None),
            _ => {}
        }
        world.run_for(2 * MINUTE + Duration::from_secs(1));
        let (old, sent) = (world.sent[0].id(), world.sent.len());
        world.feed(Input::Reset);
        let new = world.identity.clone().unwrap().install_id;
        assert_ne!(new, old);
        assert_eq!(world.engine.preview_id(world.now), new);
        assert!(world.state.pending.is_none());
        world.crash_and_start();
        world.run_for(DAY * 3);
        assert!(world.sent.len() > sent && world.sent[sent..].iter().all(|sent| sent.id() == new), "{pending}");
    }
}

#[test]
fn a_reset_while_off_shows_a_new_candidate_and_writes_no_id_file() {
    let mut world = World::with(Sources { switched_off: true, ..Sources::default() }, State::default(), None, noon());
    let before = world.engine.preview_id(world.now);
    world.feed(Input::Reset);
    assert_ne!(world.engine.preview_id(world.now), before);
    assert!(world.identity.is_none());
}

#[test]
fn what_a_preview_shows_becomes_the_id_of_the_next_ping() {
    let mut world = World::new();
    let shown = world.engine.preview_id(world.now);
    assert!(world.identity.is_none(), "looking writes no file");
    world.run_for(HOUR);
    assert_eq!(world.sent[0].id(), shown);
}

#[test]
fn pulses_own_setting_is_read_again_before_every_attempt_retries_included() {
    let mut world = World::new();
    world.answer_otherwise = Some(status(503));
    world.run_for(12 * HOUR);
    assert!(world.sent.len() > 5);
    assert!(world.reads >= world.sent.len(), "{} reads for {} attempts", world.reads, world.sent.len());
    let sent = world.sent.len();
    world.pulse.as_mut().unwrap().gate.own_sender = Ok(OwnSender::OffBySetting);
    world.run_for(12 * HOUR);
    assert_eq!(world.sent.len(), sent, "the retry was held back");
}

#[test]
fn whatever_suppresses_is_named_recorded_once_and_looked_at_again_within_the_hour() {
    let scope = Reason::MissingScope(Scope::new("settings:read"));
    let with = |change: &dyn Fn(&mut Reading)| {
        let mut reading = handed_over();
        change(&mut reading);
        Ok(reading)
    };
    let cases: Vec<(Result<Reading, ReadError>, &str)> = vec![
        (Err(ReadError::Unreachable("connection refused".to_owned())), "pulse_unreachable"),
        (Err(ReadError::Unauthorized(Credential::default())), "pulse_unauthorized"),
        (with(&|r| change(r, |values| values.ai_enabled = Err(unknown("ai_enabled", scope.clone())))), "missing_scope"),
        (with(&|r| r.gate.own_sender = Err(unknown("own_sender", scope.clone()))), "missing_scope"),
        (with(&|r| r.gate.mock_mode = Ok(true)), "mock_mode"),
        (with(&|r| r.gate.demo_mode = Ok(true)), "demo_mode"),
        (with(&|r| r.gate.starting = Ok(true)), "pulse_starting"),
        (with(&|r| r.gate.own_sender = Ok(OwnSender::On)), "pulse_reports_itself"),
        (with(&|r| change(r, |values| values.vms = Err(unknown("vms", Reason::Status(500))))), "incomplete"),
        (with(&|r| r.gate.own_sender = Err(unknown("own_sender", Reason::TimedOut))), "incomplete"),
        (with(&|r| r.gate.mock_mode = Err(unknown("mock_mode", Reason::NotJson))), "incomplete"),
    ];
    for (pulse, word) in cases {
        let mut world = World::new();
        world.pulse = pulse;
        world.run_for(DAY);
        assert_eq!((world.suppressed(), world.sent.len()), (Some(word), 0));
        assert_eq!(world.reasons(EntryKind::Suppressed), [word]);
        assert!((24..200).contains(&world.reads), "{word}: {} looks in a day", world.reads);
        world.pulse = Ok(handed_over());
        world.run_for(HOUR + MINUTE);
        assert_eq!((world.suppressed(), world.sent.len()), (None, 1), "{word}");
    }
}

#[test]
fn pulse_telemetry_true_insists_although_pulse_reports_itself_and_says_so() {
    let sources = Sources { fixed: Fixed::new(Some(" YES "), None, true), ..Sources::default() };
    let mut world = World::with(sources, State::default(), None, noon());
    world.pulse.as_mut().unwrap().gate.own_sender = Ok(OwnSender::On);
    world.run_for(HOUR);
    assert_eq!(world.sent.len(), 1);
    assert!(world.engine.status(world.now).counted_twice);
    world.feed(Input::Switch { off: true });
    assert!(!world.engine.status(world.now).counted_twice && world.engine.sources().switched_off);

    for (fixed, own_sender) in [
        (Fixed::default(), OwnSender::OffByEnvironment),
        (Fixed::default(), OwnSender::On),
        (Fixed::new(Some("yes"), None, true), OwnSender::OffByEnvironment),
    ] {
        let mut world = World::with(Sources { fixed, ..Sources::default() }, State::default(), None, noon());
        world.pulse.as_mut().unwrap().gate.own_sender = Ok(own_sender);
        world.run_for(HOUR);
        assert!(!world.engine.status(world.now).counted_twice);
    }
}

#[test]
fn a_suspend_of_a_week_costs_one_ping_not_seven() {
    let mut world = World::new();
    world.run_for(DAY);
    let before = world.sent.len();
    // The monotonic clock goes on during a suspend; only the process does not run.
    world.pass(DAY * 7);
    world.feed(Input::Tick);
    world.run_for(HOUR);
    assert_eq!(world.sent.len(), before + 1);
}

#[test]
fn a_clock_that_leaps_a_week_ahead_sends_no_ping_before_its_time_and_makes_no_new_id() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.step_clock(7 * 24 * 3600);
    world.run_for(DAY * 3);
    for pair in world.sent.windows(2) {
        assert!(pair[1].at.mono - pair[0].at.mono >= DAY - HOUR / 2);
    }
    assert_eq!(world.ledger.iter().filter(|(_, entry)| entry.kind == EntryKind::ClockStepped).count(), 1);
    assert_eq!(world.sent.iter().map(Sent::id).collect::<BTreeSet<_>>().len(), 1);
}

#[test]
fn a_clock_ten_years_ahead_and_back_again_costs_a_day_of_silence_at_most_and_no_new_id() {
    let ten_years = 3652 * 24 * 3600;
    let mut world = World::new();
    world.run_for(HOUR);
    world.step_clock(ten_years);
    world.run_for(20 * HOUR);
    world.step_clock(-ten_years);
    world.run_for(DAY * 2);
    assert_eq!(world.sent.iter().map(Sent::id).collect::<BTreeSet<_>>().len(), 1);
    assert!(world.sent.len() >= 3, "{} pings in three days", world.sent.len());
}

#[test]
fn a_clock_that_starts_in_1970_sends_nothing_and_rotates_nothing_until_it_is_set() {
    let mut before = World::new();
    before.run_for(DAY * 2);
    let id = before.identity.clone();
    let mut world = World::with(
        Sources::default(),
        before.state.clone(),
        id.clone(),
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(9),
    );
    world.run_for(6 * HOUR);
    assert_eq!((world.sent.len(), world.suppressed()), (0, Some("clock_implausible")));
    assert_eq!(world.identity, id, "no new installation");
    world.now.wall = before.now.wall + SignedDuration::from_hours(7);
    world.run_for(2 * HOUR);
    assert!(!world.sent.is_empty(), "as soon as the clock is set");
    assert_eq!(world.identity, id);
}

#[test]
fn boots_without_a_clock_send_no_heartbeat_before_its_time() {
    let mut world = World::new();
    world.run_for(HOUR);
    for _ in 0..20 {
        let truth = world.now.wall;
        world.now.wall = Timestamp::UNIX_EPOCH;
        world.crash_and_start();
        world.run_for(Duration::from_secs(30));
        world.now.wall = truth + SignedDuration::from_secs(30);
        world.run_for(3 * HOUR);
    }
    let heartbeats: Vec<_> = world.sent.iter().filter(|sent| sent.event() == "heartbeat").collect();
    assert!(heartbeats.windows(2).all(|pair| pair[1].at.mono - pair[0].at.mono >= DAY - HOUR / 2));
    assert!((2..=3).contains(&heartbeats.len()), "{} heartbeats in 60 hours", heartbeats.len());
    assert!(world.events().iter().filter(|event| *event == "startup").count() > 10, "startups go on");
    assert_eq!(world.sent.iter().map(Sent::id).collect::<BTreeSet<_>>().len(), 1);
}

#[test]
fn a_machine_that_is_restarted_every_day_is_silent_for_a_day_and_a_new_ids_pause_after_its_clock_was_ten_years_ahead() {
    let mut world = World::new();
    world.run_for(2 * HOUR);
    let ten_years = 10 * 365 * 24 * 3600;
    world.step_clock(ten_years);
    world.run_for(2 * DAY);
    world.step_clock(-ten_years);
    let sent = world.sent.len();
    // The ID that was made ten years ahead is replaced.
    for _ in 0..5 {
        world.crash_and_start();
        world.run_for(14 * HOUR);
    }
    assert!(world.sent.len() > sent, "70 hours of silence");
}

#[test]
fn a_clock_that_is_doubted_is_doubted_after_a_restart_as_well() {
    let mut world = World::new();
    world.run_for(2 * HOUR);
    let (id, sent) = (world.identity.clone(), world.sent.len());
    world.step_clock(10 * 365 * 24 * 3600);
    world.run_for(HOUR);
    world.crash_and_start();
    world.run_for(20 * HOUR);
    assert_eq!((world.sent.len(), world.suppressed()), (sent, Some("clock_implausible")));
    world.step_clock(-10 * 365 * 24 * 3600);
    world.run_for(8 * HOUR);
    assert!(world.sent.len() > sent);
    assert_eq!(world.identity, id, "no new installation");
}

#[test]
fn a_clock_step_costs_no_second_startup_within_the_hour() {
    let mut world = World::new();
    world.run_for(5 * MINUTE);
    world.step_clock(15 * 3600);
    world.feed(Input::Tick);
    world.crash_and_start();
    world.run_for(HOUR / 2);
    assert_eq!(world.events(), ["startup"]);
}

#[test]
fn a_reset_while_pulse_is_read_triggers_no_ping() {
    let mut world = World::new();
    world.answer_otherwise = Some(status(503));
    world.run_for(2 * HOUR);
    world.holds_readings = true;
    world.run_for(2 * HOUR);
    let reading = world.held.take().expect("a retry is due");
    let sent = world.sent.len();
    world.feed(Input::Reset);
    world.feed(reading);
    assert_eq!(world.sent.len(), sent, "the new ID at the old one's time would link both");
}

#[test]
fn what_could_not_be_written_is_written_before_the_next_attempt() {
    let mut world = World::new();
    world.holds_readings = true;
    world.run_for(10 * MINUTE);
    let reading = world.held.take().expect("the startup is due");
    world.disk_works = false;
    world.feed(reading);
    assert!(world.sent.is_empty() && world.identity.is_none());
    // The next reading is asked for while the disk is full, and comes when it is not.
    world.run_for(HOUR);
    let reading = world.held.take().expect("asked for again");
    world.disk_works = true;
    world.holds_readings = false;
    world.feed(reading);
    assert!(world.sent.is_empty(), "the ID is not on the disk yet");
    world.run_for(HOUR);
    assert_eq!(world.sent.len(), 1, "with an ID that is on the disk: `attempt` looks");
}

#[test]
fn a_reset_is_on_the_disk_although_the_opt_out_before_could_not_be_written() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.disk_works = false;
    world.feed(Input::Switch { off: true });
    assert!(world.identity.is_some());
    world.disk_works = true;
    world.feed(Input::Reset);
    assert_eq!(world.identity, None, "the old ID must not come back with the next start");
}

#[test]
fn a_reset_leaves_no_pending_ping_on_a_disk_that_could_not_be_written() {
    let mut world = World::new();
    world.answers = VecDeque::from([Some(status(503)), None]);
    world.run_for(5 * MINUTE);
    world.disk_works = false;
    world.feed(Input::Answer(status(204)));
    assert!(world.state.pending.is_some());
    world.disk_works = true;
    world.feed(Input::Reset);
    assert_eq!(world.state.pending, None);
}

#[test]
fn a_clock_that_steps_while_pulse_is_read_sends_nothing_and_rotates_nothing() {
    let mut world = World::new();
    world.run_for(HOUR);
    let id = world.identity.clone();
    world.holds_readings = true;
    world.run_for(DAY);
    let reading = world.held.take().expect("the heartbeat is due");
    world.step_clock(40 * 24 * 3600);
    world.feed(reading);
    assert_eq!((world.sent.len(), world.suppressed()), (1, Some("clock_implausible")));
    assert_eq!(world.identity, id);
}

#[test]
fn an_opt_out_while_pulse_is_read_holds_back_the_ping() {
    for off in [Input::Switch { off: true }, Input::OwnSender(OwnSender::OffBySetting)] {
        let mut world = World::new();
        world.holds_readings = true;
        world.run_for(HOUR);
        let mut reading = world.held.take().expect("the startup is due");
        if let (Input::OwnSender(own_sender), Input::Reading(reading)) = (&off, &mut reading) {
            reading.as_mut().as_mut().unwrap().gate.own_sender = Ok(*own_sender);
        }
        world.feed(off);
        world.feed(reading);
        assert_eq!((world.sent.len(), &world.identity), (0, &None));
    }
}

#[test]
fn whoever_sees_that_pulse_was_opted_out_the_id_goes_at_once() {
    let mut world = World::new();
    world.run_for(HOUR);
    assert!(world.identity.is_some());
    world.feed(Input::OwnSender(OwnSender::OffBySetting));
    assert_eq!((world.engine.status(world.now).off, &world.identity), (Some(OffSource::Pulse), &None));
}

#[test]
fn what_a_damaged_state_holds_is_not_sent() {
    let mut world = World::new();
    world.answer_otherwise = Some(status(503));
    world.run_for(3 * MINUTE);
    let sound = world.state.clone();
    let pending = sound.pending.clone().unwrap();
    let other_event = pending.body.replace("startup", "heartbeat");
    let other_id = pending.body.replace(&pending.install_id, "81f9c1f6-6c0f-4459-b79b-17aeefba91fc");
    let another_key = pending.body.replace("{", "{\"hostname\":\"pve-secret\",");
    // Nothing may be hidden where a reader of JSON passes over it.
    let free_text = pending.body.replacen("{", "{\"vms\":\"hostname pve01, token full\",", 1);
    let twice = pending.body.replacen("{", "{\"pve_nodes\":3,", 1);
    let two_documents = format!("{0}{0}", pending.body);
    let other_order = pending.body.replace("\"vms\":1,\"containers\":12", "\"containers\":12,\"vms\":1");
    let spaced = pending.body.replace("\"vms\":", "\"vms\": ");
    let newline = format!("{}\n", pending.body);
    let fraction = pending.body.replace("\"pve_nodes\":3", "\"pve_nodes\":3.0");
    let exponent = pending.body.replace("\"pve_nodes\":3", "\"pve_nodes\":3e0");
    let escaped = pending.body.replace("startup", "st\\u0061rtup");
    let escaped_key = pending.body.replace("\"vms\"", "\"v\\u006ds\"");
    let misspelled =
        [free_text, twice, two_documents, other_order, spaced, newline, fraction, exponent, escaped, escaped_key];
    for body in &misspelled {
        // The audit asks the same function.
        assert!(body != &pending.body && ping::decode(body).is_err(), "{body}");
    }
    let others = [other_event, other_id, another_key, "{}".to_owned(), "[".to_owned(), String::new()];
    for body in misspelled.into_iter().chain(others) {
        let mut state = sound.clone();
        state.pending.as_mut().unwrap().body = body.clone();
        let mut world = World::with(Sources::default(), state, world.identity.clone(), world.now.wall);
        world.run_for(HOUR * 2);
        assert_eq!(world.reasons(EntryKind::Failed), ["damaged"]);
        assert!(world.sent.iter().all(|sent| sent.body != body), "{body}");
    }
}

#[test]
fn a_ping_whose_time_passes_while_pulse_is_read_is_given_up() {
    let mut world = World::new();
    world.answer_otherwise = Some(status(503));
    world.run_for(DAY - 2 * HOUR);
    world.holds_readings = true;
    world.run_for(2 * HOUR);
    let reading = world.held.take().expect("a retry is due");
    let sent = world.sent.len();
    world.pass(DAY);
    world.holds_readings = false;
    world.feed(reading);
    assert!(world.reasons(EntryKind::Failed).contains(&"gave_up"));
    assert!(world.sent[sent..].iter().all(|late| late.body != world.sent[0].body));
}

/// A Pulse that asks to be left alone lets a reading wait.
#[test]
fn whatever_has_its_time_has_it_while_pulse_is_being_read_too() {
    let reading = |prepare: &dyn Fn(&mut World)| {
        let mut world = World::new();
        prepare(&mut world);
        world.holds_readings = true;
        world.run_for(2 * DAY);
        assert!(world.held.is_some(), "the engine waits for a reading");
        world
    };
    let pending = |world: &mut World| {
        world.answer_otherwise = Some(status(503));
        world.run_for(3 * HOUR);
    };
    let mut world = reading(&pending);
    assert_eq!(world.reasons(EntryKind::Failed).last(), Some(&"gave_up"), "a ping is given up");
    assert_eq!(world.prunings.len(), 3, "the history is pruned");
    let sent = world.sent.len();
    world.disk_works = false;
    world.feed(Input::Switch { off: true });
    assert!(!world.sources.switched_off);
    world.disk_works = true;
    world.run_for(2 * HOUR);
    assert!(world.sources.switched_off && world.identity.is_none(), "an off is written as soon as it can be");
    assert_eq!(world.sent.len(), sent);

    let old_id = |world: &mut World| {
        pending(world);
        let age = SignedDuration::from_hours(24 * 29 + 12);
        world.identity.as_mut().unwrap().issued_at = world.now.wall - age;
        world.state.schedule_of = None;
        world.crash_and_start();
    };
    let world = reading(&old_id);
    assert_eq!(world.reasons(EntryKind::Failed).last(), Some(&"id_expired"), "an ID expires, and its retry with it");
    assert_eq!(world.reasons(EntryKind::IdRotated), ["none", "expired"]);
}

#[test]
fn a_clock_that_is_never_set_is_believed_after_a_day() {
    let mut world = World::with(Sources::default(), State::default(), None, Timestamp::UNIX_EPOCH);
    world.run_for(DAY - MINUTE);
    assert_eq!(world.sent.len(), 0);
    world.run_for(2 * HOUR);
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn a_disk_that_cannot_be_written_sends_nothing_and_recovers_without_a_restart() {
    let mut world = World::new();
    world.disk_works = false;
    world.run_for(DAY);
    assert_eq!((world.sent.len(), world.suppressed()), (0, Some("storage")));
    assert!(world.engine.status(world.now).unsaved);
    world.disk_works = true;
    world.run_for(2 * HOUR);
    assert_eq!(world.suppressed(), None);
    assert!(!world.engine.status(world.now).unsaved);
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn a_reset_or_a_switch_while_pulse_is_read_for_a_retry_triggers_no_ping() {
    for inputs in [vec![Input::Reset], vec![Input::Switch { off: true }, Input::Switch { off: false }]] {
        let mut world = World::new();
        world.answers.push_back(Some(status(503)));
        world.run_for(2 * MINUTE + MINUTE / 60);
        world.holds_readings = true;
        world.run_for(HOUR);
        let reading = world.held.take().expect("the retry is due");
        world.holds_readings = false;
        inputs.into_iter().for_each(|input| world.feed(input));
        world.feed(reading);
        assert_eq!(world.sent.len(), 1, "or the timing would link the old ID to the new one");
        world.run_for(DAY - 2 * HOUR);
        assert_eq!(world.sent.len(), 1);
    }
}

#[test]
fn an_id_that_the_disk_does_not_have_is_not_sent() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.holds_readings = true;
    world.run_for(DAY);
    let reading = world.held.take().expect("the heartbeat is due");
    world.disk_works = false;
    world.feed(Input::Reset);
    world.disk_works = true;
    world.holds_readings = false;
    world.feed(reading);
    assert_eq!((world.sent.len(), world.suppressed()), (1, Some("storage")));
    world.run_for(DAY + DAY / 2);
    assert_eq!(world.sent.len(), 2, "that it is the ID on disk is checked at every attempt");
}

#[test]
fn off_holds_in_memory_where_it_cannot_be_written_and_is_written_as_soon_as_it_can() {
    let mut world = World::new();
    world.run_for(HOUR);
    world.disk_works = false;
    world.feed(Input::Switch { off: true });
    assert_eq!(world.engine.status(world.now).off, Some(OffSource::Switch));
    assert!(world.identity.is_some() && !world.sources.switched_off, "the disk still says on");
    world.disk_works = true;
    world.run_for(2 * HOUR);
    assert!(world.identity.is_none() && world.sources.switched_off, "now it says off");
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn stopping_closes_the_attempt_under_way() {
    let mut world = World::new();
    world.answers.push_back(None);
    world.run_for(5 * MINUTE);
    let actions = world.engine.handle(world.now, Input::Stop);
    assert_eq!(actions[0], Action::CancelSend);
    let recorded: Vec<_> = actions
        .iter()
        .filter_map(|a| {
            if let Action::Disk(DiskAction::Record(entry)) = a {
                Some((entry.kind, entry.event, entry.reason.map(LedgerReason::word)))
            } else {
                None
            }
        })
        .collect();
    let closed = (EntryKind::Failed, Some(Event::Startup), Some("stopped"));
    assert_eq!(recorded, [closed, (EntryKind::Stopped, None, None)]);
}

#[test]
fn everything_has_the_word_that_the_design_gives_it() {
    use EntryKind::*;
    let kinds = [
        (Started, "started"),
        (Attempted, "attempted"),
        (Sent, "sent"),
        (Failed, "failed"),
        (Suppressed, "suppressed"),
        (IdRotated, "id_rotated"),
        (IdReset, "id_reset"),
        (ConsentChanged, "consent_changed"),
        (ClockStepped, "clock_stepped"),
        (Erased, "erased"),
        (Pruned, "pruned"),
        (Stopped, "stopped"),
    ];
    for (kind, word) in kinds {
        assert_eq!((kind.word(), serde_json::to_value(kind).unwrap()), (word, word.into()));
        assert_eq!(kind.says_done(), matches!(kind, Attempted | IdRotated | IdReset), "{word}");
    }
    let outcomes = [Outcome::Delivered, Outcome::Dropped, Outcome::GaveUp].map(Outcome::word);
    assert_eq!(outcomes, ["delivered", "dropped", "given up"]);
}

#[test]
fn a_reset_in_1970_sends_no_heartbeat_before_its_time_when_the_clock_is_set() {
    let mut world = World::new();
    world.run_for(DAY - HOUR);
    world.answer_otherwise = Some(status(503));
    world.run_for(3 * HOUR);
    let last = world.sent.last().unwrap().clone();
    assert_eq!(last.event(), "heartbeat");
    world.answer_otherwise = Some(status(204));
    let truth = world.now.wall;
    world.now.wall = Timestamp::UNIX_EPOCH;
    world.crash_and_start();
    world.feed(Input::Reset);
    assert_eq!((world.state.pending.clone(), world.state.last.as_ref().unwrap().outcome), (None, Outcome::Dropped));
    world.crash_and_start();
    world.now.wall = truth;
    world.run_for(DAY * 2);
    let heartbeat = world.sent.iter().find(|sent| sent.event() == "heartbeat" && sent.id() != last.id()).unwrap();
    assert!(heartbeat.at.mono - last.at.mono >= DAY / 2);
}

#[test]
fn what_is_wrong_here_is_told_from_what_is_wrong_in_pulse() {
    for (suppression, word, of_this_machine) in [
        (Suppression::Storage, "storage", true),
        (Suppression::ClockImplausible, "clock_implausible", true),
        (Suppression::PulseUnreachable(String::new()), "pulse_unreachable", false),
        (Suppression::PulseUnauthorized(Credential::default()), "pulse_unauthorized", false),
        (Suppression::MissingScope(Vec::new()), "missing_scope", false),
        (Suppression::MockMode, "mock_mode", false),
        (Suppression::DemoMode, "demo_mode", false),
        (Suppression::PulseStarting, "pulse_starting", false),
        (Suppression::PulseReportsItself, "pulse_reports_itself", false),
        (Suppression::Incomplete(Vec::new()), "incomplete", false),
    ] {
        assert_eq!((suppression.reason().word(), suppression.is_of_this_machine()), (word, of_this_machine));
    }
}

#[test]
fn a_scope_that_is_missing_is_told_before_what_pulse_says_of_itself_and_what_is_unknown_after_it() {
    let mut reading = handed_over();
    reading.gate.mock_mode = Ok(true);
    change(&mut reading, |values| values.vms = Err(unknown("vms", Reason::TimedOut)));
    assert_eq!(Suppression::sendable_payload(Ok(&reading), false), Err(Suppression::MockMode));
    let missing = unknown("ai_enabled", Reason::MissingScope(Scope::new("settings:read")));
    change(&mut reading, |values| values.ai_enabled = Err(missing.clone()));
    let told = Suppression::sendable_payload(Ok(&reading), false);
    assert!(matches!(&told, Err(Suppression::MissingScope(unknown)) if unknown.contains(&missing)), "{told:?}");
}

/// What may happen to an installation at any moment.
#[derive(Clone, Debug)]
enum Happening {
    Run(u32),
    Suspend(u32),
    Step(i64),
    Crash,
    Reset,
    Switch(bool),
    Disk(bool),
    Pulse(u8),
    Endpoint(u16),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        6 => (1_u32..200_000).prop_map(Happening::Run),
        1 => (1_u32..2_000_000).prop_map(Happening::Suspend),
        1 => (-5_000_000_i64..5_000_000).prop_map(Happening::Step),
        2 => Just(Happening::Crash),
        1 => Just(Happening::Reset),
        1 => any::<bool>().prop_map(Happening::Switch),
        1 => any::<bool>().prop_map(Happening::Disk),
        2 => (0_u8..6).prop_map(Happening::Pulse),
        2 => prop_oneof![Just(204), Just(503), Just(400), Just(0)].prop_map(Happening::Endpoint),
    ];
    proptest::collection::vec(one, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Off, the contract, the ledger's order, the ID's age and the wake's bounds are checked at every step by `World`;
    /// here, that no reset ID comes back and that heartbeats keep their distance.
    #[test]
    fn whatever_happens_the_invariants_hold(happenings in happenings()) {
        let mut world = World::new();
        let mut reset = Vec::new();
        let mut starts = vec![0];
        for happening in happenings {
            match happening {
                Happening::Run(seconds) => world.run_for(Duration::from_secs(seconds.into())),
                Happening::Suspend(seconds) => {
                    world.pass(Duration::from_secs(seconds.into()));
                    world.feed(Input::Tick);
                }
                Happening::Step(seconds) => world.step_clock(seconds),
                Happening::Crash => {
                    world.crash_and_start();
                    starts.push(world.sent.len());
                }
                Happening::Reset => {
                    let old = world.identity.clone();
                    world.feed(Input::Reset);
                    if let (true, Some(old)) = (world.disk_works, old) {
                        reset.push((old.install_id, world.sent.len()));
                    }
                }
                Happening::Switch(off) => world.feed(Input::Switch { off }),
                Happening::Disk(works) => world.disk_works = works,
                Happening::Pulse(kind) => {
                    world.pulse = match kind {
                        0 => Err(ReadError::Unauthorized(Credential::default())),
                        1 => Err(ReadError::Unreachable("timed out".to_owned())),
                        _ => Ok(handed_over()),
                    };
                    if let Ok(Reading { gate, .. }) = &mut world.pulse {
                        gate.mock_mode = Ok(kind == 2);
                        gate.own_sender =
                            Ok(if kind == 3 { OwnSender::OffBySetting } else { OwnSender::OffByEnvironment });
                    }
                }
                Happening::Endpoint(0) => world.answer_otherwise = Some(Answer::TimedOut),
                Happening::Endpoint(code) => world.answer_otherwise = Some(status(code)),
            }
        }
        for (id, from) in reset {
            prop_assert!(world.sent[from..].iter().all(|sent| sent.id() != id), "{} came back", id);
        }
        starts.push(world.sent.len());
        for process in starts.windows(2) {
            let mut built: Vec<&Sent> = Vec::new();
            for sent in world.sent[process[0]..process[1]].iter().filter(|sent| sent.event() == "heartbeat") {
                if built.last().is_none_or(|last| last.body != sent.body) {
                    built.push(sent);
                }
            }
            for pair in built.windows(2).filter(|pair| pair[0].id() == pair[1].id()) {
                let apart = pair[1].at.mono - pair[0].at.mono;
                prop_assert!(apart >= DAY - HOUR / 2, "two heartbeats {:?} apart", apart);
            }
        }
    }
}
