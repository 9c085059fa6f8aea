//! What a crate has below it is all that its source can name. That nothing else compiles, the examples in the
//! documentation of `pulse_telemetry_core` and `pulse_telemetry_endpoint` show.

use pulse_telemetry_testkit::boundaries::{beyond_the_boundaries, dependencies};

#[test]
fn what_builds_and_sends_a_ping_cannot_name_an_event_a_posture_or_a_file() {
    assert_eq!(beyond_the_boundaries(), Vec::<String>::new());
    let below_the_sender = dependencies("pulse-telemetry-endpoint");
    let ours: Vec<_> = below_the_sender.iter().filter(|name| name.starts_with("pulse-telemetry")).collect();
    assert!(
        ours.iter().all(|name| matches!(name.as_str(), "pulse-telemetry-core" | "pulse-telemetry-http")),
        "{ours:?}"
    );
}
