//! Many installations in virtual time, with faults at every step, and the rules of `design.md` checked after each.
//!
//! An installation is the real engine, the real state directory and the real ledger in a made-up world (`world`): a
//! daemon that keeps the engine's contract, a disk (`disk`), a Pulse and an endpoint that fail, clocks that step, and
//! people who change their minds. Two drivers make things happen: chance, for years, drawn from one seed, so that a
//! violation can be replayed; and a search through everything that can happen in a few steps (`exhaustive`). The rules
//! (`rules`) know only what the world did and what reached the disk and the endpoint, never what the engine thinks. A
//! [`Saboteur`] between engine and world makes the mistakes that the rules must find.

mod clock;
pub mod disk;
mod endpoint;
mod faults;
mod pulse;
pub mod rules;
pub mod saboteurs;
mod time;
mod trace;
mod world;

use std::fmt;

pub use world::exhaustive;

use faults::FAULTS;
use rules::{Rule, Violation};
use saboteurs::{Honest, Saboteur};
use time::YEAR;
use world::World;

/// How long an installation lives, in years.
pub const LIFE: u64 = 4;

/// What was simulated.
#[derive(Clone, Debug)]
pub struct Tally {
    pub installations: u64,
    pub years: u64,
    /// How often the engine was handed something.
    pub steps: u64,
    pub attempts: u64,
    pub accepted: u64,
    /// By the number of the fault.
    pub faults: [u64; FAULTS.len()],
}

impl Default for Tally {
    fn default() -> Self {
        Self { installations: 0, years: 0, steps: 0, attempts: 0, accepted: 0, faults: [0; FAULTS.len()] }
    }
}

impl Tally {
    /// How many kinds of fault there were.
    pub fn kinds(&self) -> usize {
        self.faults.iter().filter(|count| **count > 0).count()
    }

    /// Adds another one up.
    pub fn add(&mut self, other: &Self) {
        self.installations += other.installations;
        self.years += other.years;
        self.steps += other.steps;
        self.attempts += other.attempts;
        self.accepted += other.accepted;
        for (sum, count) in self.faults.iter_mut().zip(other.faults) {
            *sum += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { installations, years, steps, attempts, accepted, .. } = self;
        writeln!(
            f,
            "{years} years of {installations} installations: {steps} steps, {attempts} attempts, {accepted} accepted"
        )?;
        writeln!(f, "faults of {} kinds:", self.kinds())?;
        for ((_, words), count) in FAULTS.iter().zip(self.faults) {
            writeln!(f, "{count:>12}  {words}")?;
        }
        Ok(())
    }
}

/// A rule was broken: by which installation, how, and what happened before.
#[derive(Debug)]
pub struct Broken {
    pub rule: Rule,
    pub seed: u64,
    pub installation: u64,
    pub years: u64,
    detail: String,
    trace: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, seed, installation, years, detail, trace } = self;
        writeln!(f, "broken: {} ({rule:?})", rule.claim())?;
        writeln!(f, "{detail}")?;
        writeln!(f, "seed {seed}, installation {installation}; what happened last:")?;
        for line in trace {
            writeln!(f, "  {line}")?;
        }
        let installation = format!("--seed {seed} --installation {installation} --years {years} --trace");
        write!(f, "replay: cargo xtask simulate {installation}")
    }
}

/// Lets installations live, `years` in all, the first one of which has the number `first`.
pub fn simulate<S: Saboteur>(seed: u64, first: u64, years: u64) -> Result<Tally, Box<Broken>> {
    let mut tally = Tally::default();
    for installation in first.. {
        let left = years - tally.years;
        if left == 0 {
            break;
        }
        tally.add(&live::<S>(seed, installation, left.min(LIFE))?);
    }
    Ok(tally)
}

/// The same in threads, each of which has installations of its own.
pub fn simulate_in_threads<S: Saboteur>(seed: u64, first: u64, years: u64, threads: u64) -> Result<Tally, Box<Broken>> {
    let share = years.div_ceil(threads).next_multiple_of(LIFE);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| (first + thread * share / LIFE, share.min(years.saturating_sub(thread * share))))
            .map(|(first, years)| scope.spawn(move || simulate::<S>(seed, first, years)))
            .collect();
        let mut sum = Tally::default();
        for worker in workers {
            sum.add(&worker.join().expect("a simulation that panics has told why")?);
        }
        Ok(sum)
    })
}

/// Lets one installation live. Where it breaks a rule, it lives again to tell how.
pub fn live<S: Saboteur>(seed: u64, installation: u64, years: u64) -> Result<Tally, Box<Broken>> {
    let mut world = World::<S>::new(seed, installation, years * YEAR);
    match world.live() {
        Ok(()) => Ok(Tally { installations: 1, years, ..world.tally }),
        Err(_) => Err(Box::new(told::<S>(seed, installation, years))),
    }
}

/// Lets one installation live and tells every step.
pub fn live_aloud(seed: u64, installation: u64, years: u64, tell: fn(&str)) -> Result<Tally, Box<Broken>> {
    let mut world = World::<Honest>::new(seed, installation, years * YEAR);
    world.trace.tell = Some(tell);
    match world.live() {
        Ok(()) => Ok(Tally { installations: 1, years, ..world.tally }),
        Err(Violation { rule, detail }) => {
            Err(Box::new(Broken { rule, seed, installation, years, detail, trace: Vec::new() }))
        }
    }
}

fn told<S: Saboteur>(seed: u64, installation: u64, years: u64) -> Broken {
    let mut world = World::<S>::new(seed, installation, years * YEAR);
    world.trace.keeps = true;
    match world.live() {
        Ok(()) => panic!("seed {seed}, installation {installation} does not replay"),
        Err(Violation { rule, detail }) => {
            Broken { rule, seed, installation, years, detail, trace: world.trace.last() }
        }
    }
}
