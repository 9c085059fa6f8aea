//! What a developer of this project runs: `cargo xtask`. The Makefile calls it.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a command for developers, who see what failed"
)]

mod check;
mod documents;
mod exhaust;
mod generate;
mod imports;
mod limits;
mod phrases;
mod promises;
mod secrets;
mod simulate;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// What a developer of pulse-telemetry runs.
#[derive(Parser)]
enum Task {
    /// Hold the source and the documents to the limits of CONTRIBUTING.md
    Check,
    /// Try everything that can happen to an installation, up to a depth, and tell which rule was broken, if one was
    Exhaust(exhaust::Arguments),
    /// Write the files that are made from the code
    Generate,
    /// Print what a receiver of pings can link over a new ID, by a simulation
    Linkage,
    /// Print the promises of the privacy page with their results
    Promises {
        /// The output of `cargo test`
        log: PathBuf,
        /// Of this promise alone, 1 to 36
        number: Option<i64>,
    },
    /// Print what `cargo test` is to be told to run the tests of one promise
    Promise {
        /// 1 to 36
        number: i64,
    },
    /// Let installations live in virtual time, and tell which rule was broken, if one was
    Simulate(simulate::Arguments),
}

fn main() -> ExitCode {
    match Task::parse() {
        Task::Check => check::check(),
        Task::Exhaust(arguments) => exhaust::run(&arguments),
        Task::Generate => {
            generate::generate();
            ExitCode::SUCCESS
        }
        Task::Linkage => {
            print!("{}", pulse_telemetry_testkit::linkage::report(&[2_000, 6_000, 20_000, 100_000]));
            ExitCode::SUCCESS
        }
        Task::Promises { log, number } => promises::print(&log, number),
        Task::Promise { number } => promises::tests_of(number),
        Task::Simulate(arguments) => simulate::run(&arguments),
    }
}
