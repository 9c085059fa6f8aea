//! The real binary against a Pulse and an endpoint on real sockets.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod access;
mod beside;
mod commands;
mod compare;
mod network;
mod off;
mod pings;
mod tunnel;

use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::Setup;
use serde_json::Value;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// A set-up that can send: a Pulse that has handed over, and its token.
fn working(pulse: &SimulatedPulse, endpoint: &Endpoint) -> Setup {
    Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN)
}

/// Every file of the state directory and its content.
fn files(setup: &Setup) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(setup.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}
