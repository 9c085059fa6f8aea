//! An installation: a machine, its clocks and its disk, the process, Pulse, the endpoint, and the people.

pub mod exhaustive;
mod forgetting;
mod happenings;
mod process;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pulse_telemetry_core::clock::Now;
use pulse_telemetry_core::consent::Fixed;
use pulse_telemetry_core::engine::{Engine, Schedule};

use super::clock::Clock;
use super::disk::Disk;
use super::endpoint::{self, Outcome};
use super::faults::{FAULTS, Fault, Temper};
use super::pulse::{Pulse, Read};
use super::rules::{Rules, Violation};
use super::saboteurs::Saboteur;
use super::time::{HOUR, MINUTE, NEVER, SECOND, YEAR};
use super::trace::Trace;
use super::{LIFE, Tally};
use crate::memory_fs::MemoryFs;
use crate::seeded::{Draws, Extremes, Seeded};
use forgetting::Deleting;

/// The schedule of the real program, as it comes.
const SCHEDULE: Schedule = Schedule {
    startup_delay: Duration::from_secs(120),
    interval: Duration::from_secs(24 * 60 * 60),
    jitter: Duration::from_secs(30 * 60),
};

/// 2026-06-01, in seconds since 1970: the first day on which an installation may begin.
const FIRST_DAY: i64 = 1_780_272_000;
/// A step of less than this is not one.
const SLEW: i64 = 55 * SECOND as i64;

/// No clock is further off.
const WRONG_MOST: i64 = 60 * YEAR as i64;

/// The process, while there is one.
#[derive(Clone)]
struct Process {
    engine: Engine<Draws>,
    wake: u64,
    /// A reading under way, and when it ends.
    reading: Option<(u64, Read, u64)>,
    /// A send under way: when it ends, what comes of it, and the bytes.
    sending: Option<Sending>,
    deleting: Option<Deleting>,
}

#[derive(Clone)]
struct Sending {
    began: u64,
    ends: u64,
    outcome: Outcome,
    body: String,
}

/// The process is gone.
struct Died;

/// Where in a list of actions the process crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CrashPoint {
    /// The number of an action.
    before: usize,
    /// After how many operations of the file system that the action takes; `None`: before it begins.
    operations: Option<u32>,
    /// The power goes, too.
    power: bool,
}

impl CrashPoint {
    fn draw(chance: &mut Seeded, actions: u64) -> Self {
        let before = chance.draw(actions) as usize;
        Self { before, operations: Some(chance.draw(8) as u32), power: chance.draw(2) == 0 }
    }
}

#[derive(Clone)]
pub struct World<S> {
    pub tally: Tally,
    pub trace: Trace,
    end: u64,
    at: u64,
    chance: Seeded,
    temper: Temper,
    clock: Clock,
    has_battery: bool,
    /// The machine is restarted every day at this hour.
    restarted_daily: bool,
    fixed: Fixed,
    disk: Disk,
    pulse: Pulse,
    endpoint: endpoint::Mood,
    offers_deletions: bool,
    readings: u64,
    process: Option<Process>,
    saboteur: S,
    rules: Rules,
    // When what is wrong ends, or what is planned happens.
    starts_at: u64,
    happens_at: u64,
    /// Something happens while a reading or a send is under way.
    ambush_at: u64,
    reboots_at: u64,
    clock_set_at: u64,
    disk_works_at: u64,
    endpoint_works_at: u64,
    pulse_works_at: u64,
    /// How many more crashes follow, and when the next one does.
    crashes_left: u64,
    crashes_at: u64,
    /// The exhaustive driver says what is drawn, and where the process crashes.
    extremes: Option<Arc<Mutex<Extremes>>>,
    crash: Option<CrashPoint>,
    /// It crashed within an operation, not after the last one.
    crashed_within: bool,
    /// How many actions the last list had.
    listed: usize,
    next_of_world: u64,
}

type Held<T> = Result<T, Violation>;

impl<S: Saboteur> World<S> {
    pub fn new(seed: u64, installation: u64, life: u64) -> Self {
        let mut chance = Seeded(seed);
        chance.0 ^= Seeded(installation).draw(u64::MAX);
        let began = FIRST_DAY + chance.draw(LIFE * YEAR / SECOND) as i64;
        let temper = Temper::of(&mut chance);
        let mut world = Self {
            tally: Tally::default(),
            trace: Trace::default(),
            end: life,
            at: SECOND,
            temper,
            clock: Clock::new(began),
            has_battery: chance.draw(8) > 0,
            restarted_daily: chance.draw(10) == 0,
            fixed: fixed(&mut chance),
            disk: S::disk(MemoryFs::new(Seeded(chance.draw(u64::MAX)))),
            pulse: Pulse::new(),
            endpoint: endpoint::Mood::Works,
            offers_deletions: true,
            readings: 0,
            process: None,
            saboteur: S::default(),
            rules: Rules::new(),
            starts_at: 2 * SECOND,
            happens_at: 0,
            ambush_at: NEVER,
            reboots_at: NEVER,
            clock_set_at: NEVER,
            disk_works_at: NEVER,
            endpoint_works_at: NEVER,
            pulse_works_at: NEVER,
            crashes_left: 0,
            crashes_at: NEVER,
            extremes: None,
            crash: None,
            crashed_within: false,
            listed: 0,
            next_of_world: 0,
            chance,
        };
        if world.restarted_daily {
            world.reboots_at = 4 * HOUR;
        }
        world.happens_at = world.pause();
        world.plan();
        world
    }

    /// Lives until the end, or until a rule is broken.
    pub fn live(&mut self) -> Held<()> {
        loop {
            let (wake, reading, sending, deleting) = match &self.process {
                Some(process) => (
                    process.wake,
                    process.reading.as_ref().map_or(NEVER, |reading| reading.0),
                    process.sending.as_ref().map_or(NEVER, |sending| sending.ends),
                    process.deleting.as_ref().map_or(NEVER, |deleting| deleting.ends),
                ),
                None => (NEVER, NEVER, NEVER, NEVER),
            };
            let next = wake.min(reading).min(sending).min(deleting).min(self.next_of_world);
            if next >= self.end {
                return Ok(());
            }
            // During a suspend nothing ran: what was due meanwhile comes at its end.
            self.at = self.at.max(next);
            let came = if next == self.next_of_world {
                let came = self.on_world(next)?;
                self.plan();
                came
            } else if next == reading {
                self.on_reading()?
            } else if next == sending {
                self.on_answer()?
            } else if next == deleting {
                self.on_deletion()?
            } else {
                self.on_time()?
            };
            if came.is_err() {
                self.process_ends();
                self.plan();
            }
        }
    }

    /// When the world does something next.
    fn plan(&mut self) {
        self.next_of_world = [
            self.starts_at,
            self.happens_at,
            self.ambush_at,
            self.crashes_at,
            self.reboots_at,
            self.clock_set_at,
            self.disk_works_at,
            self.endpoint_works_at,
            self.pulse_works_at,
        ]
        .into_iter()
        .min()
        .unwrap_or(NEVER);
    }

    fn ambush(&mut self, ends: u64, fault: Fault) {
        if self.chance.draw(1000) < self.temper.ambushes() {
            self.meet(fault);
            self.ambush_at = self.at + self.chance.draw(ends - self.at);
            self.next_of_world = self.next_of_world.min(self.ambush_at);
        }
    }

    fn pause(&mut self) -> u64 {
        let mean = self.temper.pause();
        MINUTE / 2 + self.chance.draw(2 * mean)
    }

    fn meet(&mut self, fault: Fault) {
        self.tally.faults[fault as usize] += 1;
        self.note(|_| format!("fault: {}", FAULTS[fault as usize].1));
    }

    fn now(&self) -> Now {
        self.clock.now(self.at)
    }

    fn note(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.trace.is_on() {
            let text = what(self);
            self.trace.note(self.at, self.clock.offset, &text);
        }
    }
}

/// What the operator wrote in the environment and the configuration.
fn fixed(chance: &mut Seeded) -> Fixed {
    match chance.draw(20) {
        0 => Fixed::new(Some("no"), None, true),
        1 => Fixed::new(None, Some("1"), true),
        2 => Fixed::new(None, None, false),
        3..6 => Fixed::new(Some("true"), None, true),
        _ => Fixed::new(None, None, true),
    }
}
