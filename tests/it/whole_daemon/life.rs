//! An installation in virtual time: the real daemon, its real clients and a real hyper on the other side of each, over
//! pipes in memory; the real state directory on a disk in memory; and a script that lets things happen to all of them.
//!
//! Everything is drawn from the seed and the number of the installation, so that a life can be replayed. The witness
//! knows only what a person could see from outside: what reached the disk, what was dialled, and what the endpoint
//! received.

mod clock;
mod disk;
mod endpoint;
mod looking;
mod pipe;
mod pulse;
mod script;
mod witness;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use pulse_telemetry::daemon::{self, Handle, Parts};
use pulse_telemetry::metrics::Metrics;
use pulse_telemetry_core::clock::{DAY, HOUR, MINUTE};
use pulse_telemetry_core::engine::Engine;
use pulse_telemetry_process::supervisor::Supervisor;

use clock::{SimulatedClock, Time};
use disk::{Content, SimulatedDisk};
use endpoint::Endpoint;
use pulse::Pulse;
use pulse_telemetry_testkit::history::SCHEDULE;
use pulse_telemetry_testkit::seeded::Seeded;
use script::{End, Script};
use witness::Witness;

pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The readings and pings of an hour need fewer polls than this, whatever is wrong.
const POLLS_MAX: u32 = 10_000;

/// How many of the last lines of a trace are told.
const TRACE_TOLD: usize = 120;

/// A mistake on purpose, which the witness must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// There is none.
    None,
    /// The disk keeps no due time.
    DueTimeLost,
    /// The disk keeps no time of the last startup ping.
    StartupTimeLost,
    /// The disk says that a new ID is written where there is one already, and keeps the old one.
    IdNotWritten,
    /// The disk says that the switch is off, and it is not.
    OffNotWritten,
    /// The disk writes an attempt down only with the entry after it.
    AttemptRecordedLate,
    /// The disk says that a pending ping is gone, and keeps it.
    PendingKept,
    /// The connection sends the request once more, to where a redirect points.
    RedirectFollowed,
    /// The connection adds a header.
    HeaderAdded,
}

/// What was done and seen in a life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) installations: u64,
    pub(crate) lived: Duration,
    pub(crate) processes: u64,
    pub(crate) readings: u64,
    pub(crate) pings: u64,
    pub(crate) accepted: u64,
    /// What happened, by its name.
    pub(crate) happened: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.installations += other.installations;
        self.lived += other.lived;
        self.processes += other.processes;
        self.readings += other.readings;
        self.pings += other.pings;
        self.accepted += other.accepted;
        for (what, times) in &other.happened {
            *self.happened.entry(what).or_default() += times;
        }
    }
}

/// What must never be seen was seen.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) what: String,
    /// What came before it.
    pub(crate) trace: Vec<String>,
}

/// Everything around the daemon.
struct World {
    mistake: Mistake,
    time: Time,
    disk: Content,
    pulse: Pulse,
    endpoint: Endpoint,
    witness: Witness,
    /// `DO_NOT_TRACK` is set in the environment of this process.
    do_not_track: bool,
    /// The process is killed at an await, once it was polled that many times more.
    polls_left: Option<u32>,
    /// The hour of the life, and how often the process was polled in it.
    polls: (u64, u32),
    tally: Tally,
    trace: VecDeque<String>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    fn new(mistake: Mistake, seed: &mut Seeded) -> Self {
        Self {
            mistake,
            time: Time::new(),
            disk: Content::new(Seeded(seed.draw(u64::MAX))),
            pulse: Pulse::new(seed.draw(8) == 0),
            endpoint: Endpoint::new(Seeded(seed.draw(u64::MAX))),
            witness: Witness::default(),
            do_not_track: false,
            polls_left: None,
            polls: (0, 0),
            tally: Tally { installations: 1, ..Tally::default() },
            trace: VecDeque::new(),
        }
    }

    fn tell(&mut self, what: impl std::fmt::Display) {
        if self.trace.len() == TRACE_TOLD {
            self.trace.pop_front();
        }
        let (day, at) = (self.time.passed().as_secs() / DAY.as_secs(), self.time.now().wall);
        self.trace.push_back(format!("day {day:>4}, {at:.3}: {what}"));
    }

    /// Something happened that is counted by its name.
    fn happens(&mut self, what: &'static str) {
        *self.tally.happened.entry(what).or_default() += 1;
        self.tell(format_args!("--- {what}"));
    }

    /// Nothing stands in the way of a ping.
    fn all_is_well(&self) -> bool {
        let off = self.disk.is_off() || self.witness.expects_off() || self.do_not_track;
        !off && self.endpoint.trouble.is_none() && self.pulse.trouble.is_none() && !self.disk.fails()
    }

    fn check_silence(&mut self) {
        let passed = self.time.passed();
        if self.all_is_well() {
            self.witness.check_silence(passed);
        } else {
            // However it ends: a restart may find a disk with room, or an on that a failing disk refused.
            self.witness.on_trouble(passed);
        }
    }
}

/// Lets one installation live for so long.
pub(crate) fn live(seed: u64, installation: u64, span: Duration, mistake: Mistake) -> Result<Tally, Violation> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut chance = Seeded(seed.wrapping_add(installation.wrapping_mul(0x9e37_79b9)));
    // Its first draws are as close to each other as the seeds are.
    let mut chance = Seeded(chance.draw(u64::MAX));
    runtime.block_on(async {
        let world = Shared(Arc::new(Mutex::new(World::new(mistake, &mut chance))));
        let mut script = Script::new(Seeded(chance.draw(u64::MAX)), span);
        loop {
            match a_process(&world, &mut script, Seeded(chance.draw(u64::MAX))).await {
                End::OfLife => break,
                end => script.down(&world, end).await,
            }
            if world.lock().witness.violation.is_some() {
                break;
            }
        }
        let mut world = world.lock();
        let audited = world.disk.audit();
        world.witness.hold(audited);
        world.tally.lived = world.time.passed();
        match world.witness.violation.take() {
            Some(what) => Err(Violation { what, trace: world.trace.drain(..).collect() }),
            None => Ok(world.tally.clone()),
        }
    })
}

/// What the daemon is made of in this world.
fn parts(world: &Shared) -> Parts<SimulatedDisk, SimulatedClock> {
    Parts {
        store: SimulatedDisk(world.clone()),
        pulse: pulse::client(world),
        sender: endpoint::sender(world),
        receipt_keys: None,
        clock: SimulatedClock(world.clone()),
        endpoint: endpoint::URL.to_owned(),
        state_dir: "in memory".to_owned(),
        notices: Vec::new(),
        metrics: Metrics::default(),
        supervisor: Supervisor::nobody(),
        confinement: None,
    }
}

/// From a start of the daemon to its end, whichever it is.
async fn a_process(world: &Shared, script: &mut Script, chance: Seeded) -> End {
    let (handle, commands) = Handle::new(8);
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let engine = {
        let mut world = world.lock();
        let do_not_track = world.do_not_track;
        let start = world.power_up(do_not_track);
        let (now, passed) = (world.time.now(), world.time.passed());
        let off = start.sources.off().is_some();
        let clock_is_right = world.time.is_right();
        world.witness.on_start(passed, clock_is_right, off);
        world.tally.processes += 1;
        world.tell("a process starts");
        Engine::start(SCHEDULE, start, chance, now)
    };
    script.on_start(world);
    let mut daemon = pin!(daemon::run(parts(world), engine, commands, async {
        let _ = stopping.await;
    }));
    let mut driving = pin!(script.drive(world, &handle));
    let end = std::future::poll_fn(|cx| {
        if daemon.as_mut().poll(cx).is_ready() {
            world.lock().witness.violate("the daemon ended by itself".to_owned());
            return Poll::Ready(End::OfLife);
        }
        if world.lock().must_end_here() {
            return Poll::Ready(End::Killed);
        }
        driving.as_mut().poll(cx)
    })
    .await;
    if let End::Stopped { .. } = end {
        let _ = stop.send(());
        daemon.await;
    }
    end
}

impl World {
    /// The power was cut at a write, the process is to be killed at this await, or there is nothing more to see.
    fn must_end_here(&mut self) -> bool {
        let hour = self.time.passed().as_secs() / HOUR.as_secs();
        self.polls = if self.polls.0 == hour { (hour, self.polls.1 + 1) } else { (hour, 0) };
        if self.polls.1 > POLLS_MAX {
            self.witness.violate("the daemon is busy without pause".to_owned());
        }
        let killed = match &mut self.polls_left {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        killed || self.disk.fs.has_died() || self.witness.violation.is_some()
    }
}
