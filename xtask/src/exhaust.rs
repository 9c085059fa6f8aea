//! Everything that can happen to an installation, up to a depth.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use pulse_telemetry_testkit::simulation::exhaustive::search;
use pulse_telemetry_testkit::simulation::saboteurs::Honest;

/// Tries everything that can happen to an installation, up to a depth, and tells which rule was broken, if one was.
#[derive(Args)]
pub(crate) struct Arguments {
    /// How many steps may follow one another.
    #[arg(long, default_value_t = 4)]
    depth: u32,
    /// Stop at that many states, before the depth is searched through.
    #[arg(long, default_value_t = u64::MAX)]
    states: u64,
    /// How many threads share the first steps.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// Searches, and tells what came of it.
pub(crate) fn run(&Arguments { depth, states, threads }: &Arguments) -> ExitCode {
    let began = now();
    match search::<Honest>(depth, states, threads) {
        Ok(searched) => {
            println!("{searched}\nno rule was broken; {:.1} s", began.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(found) => {
            eprintln!("{found}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long the search takes is measured, not simulated")]
fn now() -> Instant {
    Instant::now()
}
