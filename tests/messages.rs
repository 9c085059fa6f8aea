//! What both programs tell an operator, run in each of these situations.
#![cfg(feature = "collector")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::process::Output;

use support::collector::{self, Storage};
use support::endpoint::Endpoint;
use support::pulse::{PulseModel, SimulatedPulse, TOKEN};
use support::sidecar::{LIMIT, Setup};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_strangers_variable_is_told_by_check_and_by_the_log_and_stops_neither_program() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    let setup = setup.with("PULSE_TELEMETRY_TAG", "v1").with("PULSE_TELEMETRY_METRICS_PORT", "tcp://10.96.4.2:9090");
    let told = "environment variable PULSE_TELEMETRY_TAG: is not a key and changes nothing: the nearest key is ";
    let check = setup.run(&["check"]);
    assert!(check.status.success() && text(&check).contains(told), "{}", text(&check));
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, LIMIT);
    assert!(sidecar.stop().contains(told));

    let storage = Storage::sqlite();
    let setup = collector::Setup::new(&storage).with_variable("PULSE_TELEMETRY_COLLECTOR_UID", "1000");
    let told =
        "environment variable PULSE_TELEMETRY_COLLECTOR_UID: is not a key and changes nothing: the nearest key is ";
    let check = setup.run(&["check"]);
    assert!(check.status.success() && text(&check).contains(told), "{}", text(&check));
    assert!(setup.start().stop().contains(told));

    let refused =
        Setup::new("http://127.0.0.1:9", "http://127.0.0.1:9").with("PULSE_TELEMETRY_SERVE_LISTEN", "x").run(&["run"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused).contains("write PULSE_TELEMETRY_SERVE__LISTEN"), "{}", text(&refused));
}
