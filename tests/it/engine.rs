//! The engine in virtual time: schedule, consent, suppression, retries, clocks.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

mod consenting;
mod disk;
mod forgetting;
mod invariants;
mod new_id;
mod resets;
mod schedule;
mod wall_clock;

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_core::clock::{DAY, HOUR, MINUTE, Now};
use pulse_telemetry_core::consent::Sources;
use pulse_telemetry_core::contract;
use pulse_telemetry_core::engine::{
    Action, DiskAction, Engine, EntryKind, ForgetAnswer, Input, KeptReceipt, Schedule, Start, State,
};
use pulse_telemetry_core::identity::{Identity, InstallId};
use pulse_telemetry_core::observation::{ReadError, Reading};
use pulse_telemetry_core::ping::PingBytes;
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_core::rng::Rng;
use pulse_telemetry_core::verdict::Answer;
use pulse_telemetry_testkit::readings::handed_over;
use pulse_telemetry_testkit::seeded::Seeded;
use serde_json::Value;

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
    /// What the endpoint does about deletions. `None` in the script: it never answers.
    forget_answers: VecDeque<Option<ForgetAnswer>>,
    forget_answer_otherwise: Option<ForgetAnswer>,
    /// The deletions that it was asked for.
    asked: Vec<(Now, InstallId)>,
    forget_cancels: usize,
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

/// With no receipt.
fn answered(answer: Answer) -> Input {
    Input::Answer(answer, KeptReceipt::NONE)
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
            forget_answers: VecDeque::new(),
            forget_answer_otherwise: Some(ForgetAnswer::Done(KeptReceipt::NONE)),
            asked: Vec::new(),
            forget_cancels: 0,
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
            identity_is_forgotten: false,
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

    #[expect(clippy::too_many_lines, reason = "an arm for each action")]
    fn carry_out(&mut self, actions: Vec<Action>) {
        let mut stored = true;
        let (mut left_out, mut forget_left_out) = (false, false);
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
                Action::Send(body) => follow.extend(self.attempt(body).map(answered)),
                Action::CancelSend => self.cancels += 1,
                Action::Forget(_) if !stored => forget_left_out = true,
                Action::Forget(id) => {
                    let pending = |id: &InstallId| self.state.deletions.iter().any(|it| it.install_id == *id);
                    assert!(pending(&id), "on disk before it is asked for");
                    let answer = self.forget_answers.pop_front();
                    let answer = answer.unwrap_or_else(|| self.forget_answer_otherwise.clone());
                    follow.extend(answer.map(|answer| Input::ForgetAnswer { id: id.clone(), answer }));
                    self.asked.push((self.now, id));
                }
                Action::CancelForget => self.forget_cancels += 1,
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
            for action in
                self.engine.handle(self.now, Input::StorageFailed { send_left_out: left_out, forget_left_out })
            {
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
            self.wake_up();
            steps += 1;
            assert!(steps < 200_000, "the engine is busy without pause");
        }
        let rest = end - self.now.mono;
        self.pass(rest);
    }

    /// The time comes that the engine waits for.
    fn wake_up(&mut self) {
        let pause = self.wake.saturating_sub(self.now.mono);
        self.pass(pause);
        self.feed(Input::Tick);
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
