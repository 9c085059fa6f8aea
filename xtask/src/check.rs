//! The limits that CONTRIBUTING.md names.

use std::process::ExitCode;

use pulse_telemetry_testkit::boundaries::beyond_the_boundaries;

use crate::{documents, imports, limits, phrases, version};

/// Tells what goes beyond a limit.
pub(crate) fn check() -> ExitCode {
    let found = [
        beyond_the_boundaries(),
        documents::beyond_the_limits(),
        limits::beyond_the_limits(),
        imports::circles(),
        phrases::found(),
        version::disagreements(),
    ]
    .concat();
    for line in &found {
        println!("{line}");
    }
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
