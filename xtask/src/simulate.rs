//! The engine in virtual time, with faults.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use pulse_telemetry_testkit::simulation::saboteurs::Honest;
use pulse_telemetry_testkit::simulation::{live_aloud, simulate_in_threads};

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
        simulate_in_threads::<Honest>(seed, installation, years, threads)
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

#[expect(clippy::disallowed_methods, reason = "how long the simulation takes is measured, not simulated")]
fn now() -> Instant {
    Instant::now()
}
