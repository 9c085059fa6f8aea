//! The limits that CONTRIBUTING.md names.

use std::process::ExitCode;

use pulse_telemetry_testkit::boundaries::beyond_the_boundaries;

use crate::{documents, imports, limits, phrases, secrets, version};

/// Tells what goes beyond a limit.
pub(crate) fn check() -> ExitCode {
    let found = [
        beyond_the_boundaries(),
        documents::beyond_the_limits(),
        limits::beyond_the_limits(),
        imports::circles(),
        phrases::found(),
        version::disagreements(),
        secrets::found(),
    ]
    .concat();
    for line in &found {
        println!("{line}");
    }
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
