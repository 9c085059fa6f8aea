//! The state directory between others: files that are removed, replaced, damaged or planted, and those that an earlier
//! version wrote.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

#[path = "state_dir/aside.rs"]
mod aside;
#[path = "state_dir/file_systems.rs"]
mod file_systems;
#[path = "state_dir/lost.rs"]
mod lost;
#[path = "state_dir/planted.rs"]
mod planted;
#[path = "state_dir/switch.rs"]
mod switch;
#[path = "state_dir/upgrade.rs"]
mod upgrade;

use std::fs;
use std::path::Path;
use std::process::Output;

use support::endpoint::Endpoint;
use support::pulse::{PulseModel, SimulatedPulse, TOKEN};
use support::sidecar::Setup;

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
