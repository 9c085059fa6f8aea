//! Everything that can happen to an installation, up to a depth: a plain search with a set of hashed states, over the
//! engine and the state directory that ship.
//!
//! A step is one thing that happens and all that the engine does about it, or as much of that as a crash leaves.
//! Each random time is none of what it may be and nearly all of it. Two states are one where they mean the same:
//! `canonical` says when.
//!
//! Silence is no fault within a few steps, so the rules that nothing stays undone (`NoSilence`, `NotPostponed`,
//! `DeletionsGoOn`) are not asked here: the random years ask them, and find the mistake that breaks nothing else,
//! `DeletionPutOff`.
//!
//! `READINGS` has each kind that the engine tells apart: one that is slow is another step before it, mixed ones are
//! different readings one after the other, and what is not Pulse keeps a ping back for the reason that a half-filled
//! reading has.

mod canonical;

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use pulse_telemetry_core::consent::Fixed;
use pulse_telemetry_core::engine::{ForgetAnswer, Input};
use pulse_telemetry_core::observation::OwnSender;
use pulse_telemetry_core::verdict::Answer;

use super::super::disk::Lost;
use super::super::endpoint::{Outcome, RetryAfter, receipt};
use super::super::pulse::{Mood as PulseMood, Read};
use super::super::rules::{Rule, Violation};
use super::super::saboteurs::Saboteur;
use super::super::time::{DAY, HOUR, MINUTE, NEVER, SECOND};
use super::{CrashPoint, Died, Held, World};
use crate::lock;
use crate::memory_fs::{Mood, Snapshot, Vandalism};
use crate::seeded::{Extremes, Seeded};

/// What happens in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The next thing that is due: the engine's wake.
    Wake,
    /// The reading under way gives this.
    Read(PulseMood),
    /// Pulse's own sender is this from now on, and somebody's reading tells the engine.
    OwnSender(OwnSender),
    /// What comes of the send under way.
    Answer(Response),
    Switch {
        off: bool,
    },
    Reset,
    Forget,
    CancelForget,
    /// What comes of the deletion under way.
    Deletion(Response),
    Erase,
    Stop,
    Crash,
    PowerLoss,
    Start,
    /// Nothing runs for that long.
    Sleep(u64),
    /// The clock steps by that many seconds against what it says.
    Clock(i64),
    Disk(Mood),
    Lose(Lost),
    Vandalise(Vandalism),
    LockVanishes,
}

/// What comes of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    Accepted,
    AnswerLost,
    Refused,
    Dropped,
    ServerError,
    AsksForSilence,
}

impl Response {
    fn outcome(self) -> Outcome {
        let status = |code| Answer::Status { code, retry_after: None };
        let (answer, stored) = match self {
            Self::Accepted => (status(204), true),
            Self::AnswerLost => (Answer::TimedOut, true),
            Self::Refused => (Answer::NoConnection("connection refused".to_owned()), false),
            Self::Dropped => (status(400), false),
            Self::ServerError => (status(503), false),
            Self::AsksForSilence => (Answer::Status { code: 429, retry_after: Some("7200".to_owned()) }, false),
        };
        let retry_after = if self == Self::AsksForSilence { RetryAfter::Seconds(7200) } else { RetryAfter::None };
        Outcome { answer, takes: SECOND, stored, retry_after, faults: [None; 2] }
    }

    fn deletion(self) -> ForgetAnswer {
        match self {
            Self::Accepted => ForgetAnswer::Done(receipt()),
            Self::Dropped => ForgetAnswer::NotOffered,
            _ => ForgetAnswer::Failed { after: None },
        }
    }
}

/// What an endpoint says to a deletion: it is done; it offers none; later.
const DELETIONS: [Response; 3] = [Response::Accepted, Response::Dropped, Response::ServerError];

const RESPONSES: [Response; 6] = [
    Response::Accepted,
    Response::AnswerLost,
    Response::Refused,
    Response::Dropped,
    Response::ServerError,
    Response::AsksForSilence,
];

const READINGS: [PulseMood; 9] = [
    PulseMood::Works,
    PulseMood::Down,
    PulseMood::Unauthorized,
    PulseMood::MissingScope,
    PulseMood::HalfFilled,
    PulseMood::Starting,
    PulseMood::Mock,
    PulseMood::Demo,
    PulseMood::RateLimited,
];

const SENDS: [Choice; 3] = [Choice::Start, Choice::Wake, Choice::Read(PulseMood::Works)];
const DELIVERS: [Choice; 4] = [SENDS[0], SENDS[1], SENDS[2], Choice::Answer(Response::Accepted)];
/// Pings with two IDs were delivered, and both are to be deleted.
const FORGETS: [Choice; 11] = [
    DELIVERS[0],
    DELIVERS[1],
    DELIVERS[2],
    DELIVERS[3],
    Choice::Reset,
    Choice::Sleep(2 * DAY),
    Choice::Wake,
    DELIVERS[2],
    DELIVERS[3],
    Choice::Forget,
    Choice::Wake,
];
const FORGOTTEN: [Choice; 7] = [
    Choice::Deletion(Response::Accepted),
    Choice::Crash,
    Choice::Start,
    Choice::Wake,
    Choice::Wake,
    Choice::Deletion(Response::Accepted),
    Choice::Wake,
];
/// The one that was tried before is asked for after the other.
const NOT_FORGOTTEN: [Choice; 11] = [
    Choice::Stop,
    Choice::Sleep(31 * DAY),
    Choice::Start,
    Choice::Wake,
    Choice::Wake,
    Choice::Deletion(Response::Accepted),
    Choice::Wake,
    DELIVERS[2],
    DELIVERS[3],
    Choice::Wake,
    Choice::Wake,
];

/// A process that crashes with each attempt, and is about to make its twelfth.
const CRASH_LOOP: [Choice; 46] = {
    let (mut steps, mut at) = ([Choice::Crash; 46], 0);
    while at < steps.len() {
        steps[at] = [SENDS[0], SENDS[1], SENDS[2], Choice::Crash][at % 4];
        at += 1;
    }
    steps
};

/// What went before the first step of a search: nothing; or a startup ping that is under way, was delivered, was
/// delivered before a restart or a month ago, could not be sent, was answered with a wish for silence, or met a crash
/// each time; or two pings are to be deleted, a crash came after one was, or nothing ran for a month. Times were drawn
/// long meanwhile: after none at all a retry hammers, and that is chance and no mistake.
const BEGINNINGS: [[&[Choice]; 2]; 11] = [
    [&[], &[]],
    [&SENDS, &[]],
    [&DELIVERS, &[]],
    [&DELIVERS, &[Choice::Stop, Choice::Start]],
    [&DELIVERS, &[Choice::Sleep(31 * DAY)]],
    [&SENDS, &[Choice::Answer(Response::Refused)]],
    [&SENDS, &[Choice::Answer(Response::AsksForSilence)]],
    [&CRASH_LOOP, &[]],
    [&FORGETS, &[]],
    [&FORGETS, &FORGOTTEN],
    [&FORGETS, &NOT_FORGOTTEN],
];

/// A step: what happens, whether times are drawn long, and where the process crashes meanwhile, if at all.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    choice: Choice,
    most: bool,
    crash: Option<CrashPoint>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.choice)?;
        if self.most {
            f.write_str(", times drawn long")?;
        }
        let Some(CrashPoint { before, operations, power }) = self.crash else { return Ok(()) };
        let what = if power { "power loss" } else { "crash" };
        match operations {
            Some(operations) => write!(f, ", {what} in action {before} after {operations} operations"),
            None => write!(f, ", {what} before action {before}"),
        }
    }
}

/// What was searched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Searched {
    pub depth: u32,
    pub states: u64,
    pub steps: u64,
    /// It ended before the depth was searched through, at its bound of states.
    pub is_cut: bool,
}

impl fmt::Display for Searched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { depth, states, steps, is_cut } = self;
        let how = if *is_cut { "begun and cut short" } else { "complete" };
        write!(f, "depth {depth}, {how}: {states} states by {steps} steps")
    }
}

/// A rule was broken, by these steps.
#[derive(Debug)]
pub struct Found {
    pub rule: Rule,
    pub detail: String,
    pub path: Vec<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "broken: {} ({:?})\n{}", self.rule.claim(), self.rule, self.detail)?;
        self.path.iter().try_for_each(|step| writeln!(f, "  {step}"))
    }
}

/// Searches all that can happen in `depth` steps, or until `states_max` states were seen, in `threads` threads.
///
/// # Errors
/// Steps that were found to break a rule.
pub fn search<S: Saboteur>(depth: u32, states_max: u64, threads: usize) -> Result<Searched, Box<Found>> {
    let shared = Shared {
        seen: std::array::from_fn(|_| Mutex::default()),
        states: AtomicU64::new(0),
        steps: AtomicU64::new(0),
        states_max,
        next: AtomicUsize::new(0),
        found: Mutex::new(None),
        is_over: AtomicBool::new(false),
    };
    let mut searched = Searched::default();
    // Shallow things first, so that what is found is short.
    for depth in 1..=depth {
        searched.depth = depth;
        shared.next.store(0, Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let path = Vec::new();
                scope.spawn(|| Search::<S> { shared: &shared, path, saboteur: PhantomData }.take_turns(depth));
            }
        });
        if let Some(found) = lock(&shared.found).take() {
            return Err(found);
        }
        if shared.is_over.load(Relaxed) {
            searched.is_cut = true;
            break;
        }
    }
    searched.states = shared.states.load(Relaxed);
    searched.steps = shared.steps.load(Relaxed);
    Ok(searched)
}

/// An installation at some time, and its disk.
#[derive(Clone)]
struct Node<S> {
    world: World<S>,
    disk: Snapshot,
    drawn: Extremes,
}

/// What the threads of a search have together.
struct Shared {
    /// For each state, how many steps from it were searched. In parts, so that threads seldom wait for each other.
    seen: [Mutex<HashMap<u64, u8>>; 64],
    states: AtomicU64,
    steps: AtomicU64,
    states_max: u64,
    /// The first steps are shared out by number.
    next: AtomicUsize,
    found: Mutex<Option<Box<Found>>>,
    /// A rule was broken, or enough was seen.
    is_over: AtomicBool,
}

struct Search<'a, S> {
    shared: &'a Shared,
    path: Vec<Step>,
    saboteur: PhantomData<S>,
}

impl<S: Saboteur> Search<'_, S> {
    /// Searches from each beginning, in `depth` steps, what may follow the first steps that fall to this thread.
    fn take_turns(&mut self, depth: u32) {
        let mut turn = self.shared.next.fetch_add(1, Relaxed);
        let mut passed = 0;
        for beginning in BEGINNINGS {
            let searched = self.begin(&beginning.concat()).and_then(|node| {
                let choices = node.choices();
                while turn < passed + choices.len() && !self.shared.is_over.load(Relaxed) {
                    self.explore_one(&node, choices[turn - passed], depth)?;
                    turn = self.shared.next.fetch_add(1, Relaxed);
                }
                passed += choices.len();
                Ok(())
            });
            if let Err(Violation { rule, detail }) = searched {
                let path = self.path.iter().map(Step::to_string).collect();
                lock(&self.shared.found).get_or_insert_with(|| Box::new(Found { rule, detail, path }));
                self.shared.is_over.store(true, Relaxed);
                return;
            }
        }
    }

    /// The installation after these steps, but for those that it does not come to: a retry that waits reads nothing.
    fn begin(&mut self, beginning: &[Choice]) -> Held<Node<S>> {
        let mut node = Node::<S>::root();
        self.path.clear();
        for choice in beginning {
            if !node.choices().contains(choice) {
                continue;
            }
            let step = Step { choice: *choice, most: true, crash: None };
            self.path.push(step);
            node.step(step)?;
            node.disk = node.world.disk.fs.snapshot();
        }
        Ok(node)
    }

    fn explore(&mut self, node: &Node<S>, left: u32) -> Held<()> {
        if left == 0 {
            return Ok(());
        }
        node.choices().into_iter().try_for_each(|choice| self.explore_one(node, choice, left))
    }

    /// Lets one thing happen, with times drawn short and long, and with a crash at each place.
    fn explore_one(&mut self, node: &Node<S>, choice: Choice, left: u32) -> Held<()> {
        for most in [false, true] {
            let Taken { drew, listed, .. } = self.take(node, Step { choice, most, crash: None }, left)?;
            for (before, power) in (0..listed).flat_map(|at| [(at, false), (at, true)]) {
                let crash = |operations| Some(CrashPoint { before, operations, power });
                self.take(node, Step { choice, most, crash: crash(None) }, left)?;
                for operations in 0.. {
                    let step = Step { choice, most, crash: crash(Some(operations)) };
                    if !self.take(node, step, left)?.crashed_within {
                        break;
                    }
                }
            }
            if !drew {
                break;
            }
        }
        Ok(())
    }

    /// Takes a step, and searches what may follow.
    fn take(&mut self, node: &Node<S>, step: Step, left: u32) -> Held<Taken> {
        let mut next = node.clone();
        self.path.push(step);
        next.step(step)?;
        let World { listed, crashed_within, .. } = next.world;
        let taken = Taken { drew: next.drawn.drew, listed, crashed_within };
        self.shared.steps.fetch_add(1, Relaxed);
        let mut hasher = DefaultHasher::new();
        canonical::write(&next.world, &mut |text| text.hash(&mut hasher));
        if self.is_new(hasher.finish(), u8::try_from(left).unwrap_or(u8::MAX)) {
            next.disk = next.world.disk.fs.snapshot();
            self.explore(&next, left - 1)?;
        }
        self.path.pop();
        Ok(taken)
    }

    /// Whether less was searched from this state than `left` steps.
    fn is_new(&self, state: u64, left: u8) -> bool {
        let shared = self.shared;
        let mut seen = lock(&shared.seen[(state % 64) as usize]);
        let known = seen.entry(state / 64).or_insert(0);
        if *known == 0 && shared.states.fetch_add(1, Relaxed) + 1 >= shared.states_max {
            shared.is_over.store(true, Relaxed);
        }
        let is_new = *known < left;
        *known = left.max(*known);
        is_new && !shared.is_over.load(Relaxed)
    }
}

/// What came of a step.
struct Taken {
    /// A time was drawn.
    drew: bool,
    /// How many actions there were.
    listed: usize,
    /// The crash came before the last operation of the action.
    crashed_within: bool,
}

impl<S: Saboteur> Node<S> {
    fn root() -> Self {
        let mut world = World::<S>::new(1, 0, NEVER);
        world.fixed = Fixed::new(None, None, true);
        world.has_battery = true;
        world.extremes = Some(Arc::default());
        for due in [&mut world.happens_at, &mut world.reboots_at, &mut world.starts_at] {
            *due = NEVER;
        }
        world.disk.fs.forget_what_is_not_durable();
        let disk = world.disk.fs.snapshot();
        Self { world, disk, drawn: Extremes::default() }
    }

    /// What can happen now.
    fn choices(&self) -> Vec<Choice> {
        let world = &self.world;
        let mut choices = Vec::new();
        match &world.process {
            None => choices.extend([Choice::Start, Choice::Lose(Lost::State), Choice::Lose(Lost::Id)]),
            Some(process) => {
                match (&process.reading, &process.sending) {
                    (Some(_), _) => choices.extend(READINGS.map(Choice::Read)),
                    (None, Some(_)) => choices.extend(RESPONSES.map(Choice::Answer)),
                    (None, None) => choices.push(Choice::Wake),
                }
                if process.deleting.is_some() {
                    choices.extend(DELETIONS.map(Choice::Deletion));
                }
                choices.extend([Choice::Reset, Choice::Forget, Choice::CancelForget, Choice::Erase]);
                choices.extend([Choice::Stop, Choice::Crash, Choice::PowerLoss]);
                choices.extend([Choice::Vandalise(Vandalism::Vanishes), Choice::Vandalise(Vandalism::Replaced)]);
                choices.push(Choice::LockVanishes);
            }
        }
        choices.push(Choice::Switch { off: !world.disk.switched_off });
        let senders = [OwnSender::OffByEnvironment, OwnSender::OffBySetting, OwnSender::On];
        choices.extend(senders.into_iter().filter(|s| *s != world.pulse.own_sender).map(Choice::OwnSender));
        choices.extend([Choice::Sleep(3 * HOUR), Choice::Sleep(2 * DAY), Choice::Sleep(31 * DAY)]);
        let steps = [2 * HOUR as i64, 3 * DAY as i64, -(2 * HOUR as i64), -(3 * DAY as i64)];
        choices.extend(steps.map(|step| Choice::Clock(step / SECOND as i64)));
        let moods = [Mood::Works, Mood::Full, Mood::ReadOnly, Mood::Hangs, Mood::Only("ledger"), Mood::Only("state")];
        choices.extend(moods.into_iter().filter(|mood| *mood != world.disk.fs.mood()).map(Choice::Disk));
        choices
    }

    fn step(&mut self, step: Step) -> Held<()> {
        let world = &mut self.world;
        world.disk.fs.restore(&self.disk);
        // What the world draws is the same in every step; what the engine draws is an extreme.
        world.chance = Seeded(1);
        world.crash = step.crash;
        (world.listed, world.crashed_within) = (0, false);
        let extremes = world.extremes.clone();
        let extremes = extremes.as_deref();
        extremes.into_iter().for_each(|shared| {
            *lock(shared) = Extremes { most: step.most, drew: false, ..self.drawn };
        });
        let came = world.take(step.choice)?;
        self.drawn = extremes.map_or(self.drawn, |shared| *lock(shared));
        if came.is_err() {
            world.process_ends();
        }
        world.starts_at = NEVER;
        Ok(())
    }
}

impl<S: Saboteur> World<S> {
    /// Of the readings that tell a part only, the one that does not tell of the nodes.
    fn read_to_search(&self, mood: PulseMood) -> Read {
        let misses_nodes =
            |read: &Read| read.result.as_ref().as_ref().is_ok_and(|reading| reading.values().pve_nodes.is_err());
        let mut reads = (1..).map(|seed| self.pulse.read(self.readings, &mut Seeded(seed)));
        let fits = |read: &Read| mood != PulseMood::HalfFilled || misses_nodes(read);
        reads.find(fits).expect("one in nine does")
    }

    fn wake(&mut self) -> Held<Result<(), Died>> {
        let wake = self.process.as_ref().map_or(self.at, |process| process.wake);
        self.at = self.at.max(wake);
        if self.look_at_the_switch()?.is_err() {
            return Ok(Err(Died));
        }
        Ok(self.feed(Input::Tick)?.map(|_| ()))
    }

    fn read_with(&mut self, mood: PulseMood) -> Held<Result<(), Died>> {
        self.at += SECOND;
        self.pulse.mood = mood;
        let read = self.read_to_search(mood);
        if let Some(reading) = self.process.as_mut().and_then(|process| process.reading.as_mut()) {
            reading.1 = read;
        }
        self.on_reading()
    }

    fn take(&mut self, choice: Choice) -> Held<Result<(), Died>> {
        // Silence is what the random years look for.
        self.rules.disturb(self.at);
        let runs = self.process.is_some();
        match choice {
            Choice::Wake => return self.wake(),
            Choice::Read(mood) => return self.read_with(mood),
            Choice::OwnSender(own_sender) => {
                self.pulse.own_sender = own_sender;
                if runs {
                    self.told_of_the_own_sender(Some(own_sender));
                    return Ok(self.feed(Input::OwnSender(own_sender))?.map(|_| ()));
                }
            }
            Choice::Answer(response) => {
                self.at += SECOND;
                if let Some(sending) = self.process.as_mut().and_then(|process| process.sending.as_mut()) {
                    sending.outcome = response.outcome();
                }
                return self.on_answer();
            }
            Choice::Switch { off } if runs && off => return Ok(self.switch(true)?.map(|_| ())),
            Choice::Switch { off: false } if runs => return self.switch_on(),
            Choice::Switch { off } => self.disk.turn_by_hand(off),
            Choice::Reset => return self.reset(),
            Choice::Forget => return self.forget(),
            Choice::CancelForget => return self.cancel_forgetting(),
            Choice::Deletion(response) => {
                self.at += SECOND;
                if let Some(deleting) = self.process.as_mut().and_then(|process| process.deleting.as_mut()) {
                    deleting.answer = response.deletion();
                }
                return self.on_deletion();
            }
            Choice::Erase => drop(self.disk.erase_history(self.now().wall)),
            Choice::Stop => return self.stop(),
            Choice::Crash => return Ok(Err(Died)),
            Choice::PowerLoss => {
                self.disk.power_loss();
                return Ok(Err(Died));
            }
            Choice::Start => {
                self.at += MINUTE / 2;
                return self.start();
            }
            Choice::Sleep(time) => self.at += time,
            Choice::Clock(seconds) => self.clock.offset += seconds * SECOND as i64,
            Choice::Disk(mood) => self.disk.fs.set_mood(mood),
            Choice::Lose(what) => {
                if what == Lost::State {
                    self.rules.state_lost();
                }
                self.disk.lose(what);
            }
            Choice::Vandalise(how) => self.vandalise_the_ledger(how),
            Choice::LockVanishes => self.disk.vandalise_the_lock(Vandalism::Vanishes),
        }
        Ok(Ok(()))
    }
}
