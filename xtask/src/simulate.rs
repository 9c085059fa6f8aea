//! The engine in virtual time, with faults.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use pulse_telemetry_testkit::simulation::saboteurs::Honest;
use pulse_telemetry_testkit::simulation::{Broken, Tally, live_aloud, simulate};

/// Lets installations live in virtual time, and tells which rule was broken, if one was.
#[derive(Args)]
pub(crate) struct Arguments {
    /// How many installation-years in all; with --trace, how long the one installation lives.
    #[arg(long, default_value_t = 10_000)]
    years: u64,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of the first installation.
    #[arg(long, default_value_t = 0)]
    installation: u64,
    /// How many threads share the years.
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// One installation only, every step of it.
    #[arg(long)]
    trace: bool,
}

/// Simulates, and tells what came of it.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let &Arguments { years, seed, installation, threads, trace } = arguments;
    let began = now();
    let result = if trace {
        live_aloud(seed, installation, years, |step| println!("{step}"))
    } else {
        in_threads(seed, installation, years, threads)
    };
    match result {
        Ok(tally) => {
            let seconds = began.elapsed().as_secs_f64();
            println!("{tally}no rule was broken; {:.0} years a second, seed {seed}", tally.years as f64 / seconds);
            ExitCode::SUCCESS
        }
        Err(broken) => {
            eprintln!("{broken}");
            ExitCode::FAILURE
        }
    }
}

/// Each thread has installations of its own.
fn in_threads(seed: u64, first: u64, years: u64, threads: u64) -> Result<Tally, Box<Broken>> {
    let share = years.div_ceil(threads);
    let workers: Vec<_> = (0..threads)
        .map(|thread| std::thread::spawn(move || simulate::<Honest>(seed, first + thread * share, share)))
        .collect();
    let mut sum = Tally::default();
    for worker in workers {
        sum.add(&worker.join().unwrap()?);
    }
    Ok(sum)
}

#[expect(clippy::disallowed_methods, reason = "how long the simulation takes is measured, not simulated")]
fn now() -> Instant {
    Instant::now()
}
