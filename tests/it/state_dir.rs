//! The state directory between others: files that are removed, replaced, damaged or planted, and those that an earlier
//! version wrote.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod aside;
mod file_systems;
mod lost;
mod planted;
mod switch;
mod upgrade;

use std::fs;
use std::path::Path;
use std::process::Output;

use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::Setup;

/// A Pulse that has handed over, an endpoint, and a set-up that can send.
fn world() -> (SimulatedPulse, Endpoint, Setup) {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    (pulse, endpoint, setup)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every name in a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}
