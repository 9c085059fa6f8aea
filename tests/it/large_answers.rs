//! Answers of any size are counted in memory that does not grow with them. The test runs in a process of its own, so
//! that the peak is its own.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::fs;
use std::time::Duration;

use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, Tokens};
use pulse_telemetry_core::observation::Reading;
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_testkit::alone::by_itself;
use pulse_telemetry_testkit::server::{Body, ResponsePlan, Server};

const MB: u64 = 1_000_000;
/// What one alert, or one virtual machine, looks like.
const ELEMENT: &str = concat!(
    r#"{"id":"a1","resourceName":"pve1.example.org","message":"CPU at 97 % of \"4\"","#,
    r#""since":[1,2.5e3,null],"node":{"vms":[{}],"ok":true}}"#,
);

#[test]
fn answers_of_100_mb_are_counted_with_less_than_1_mib_of_memory_over_idle() {
    by_itself(
        "large_answers::answers_of_100_mb_are_counted_with_less_than_1_mib_of_memory_over_idle",
        counts_in_little_memory,
    );
}

fn counts_in_little_memory() {
    let elements = 100 * MB / (ELEMENT.len() as u64 + 1);
    let small = pulse_5(3);
    let large = pulse_5(elements);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    // Once with small answers: the code is in memory then, as it is in a sidecar that idles between two readings.
    assert_counted(&runtime.block_on(client(&small).read()).unwrap(), 3);
    let before = resident("VmHWM");
    drop(vec![1_u8; 16 << 20]);
    assert!(resident("VmHWM") >= before + (8 << 10), "the peak is seen");
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let idle = resident("VmHWM");
    assert!(idle <= before + 1024, "the peak starts again: {idle} KiB after {before} KiB");

    assert_counted(&runtime.block_on(client(&large).read()).unwrap(), elements);
    let growth = resident("VmHWM").saturating_sub(idle);
    assert!(growth < 1024, "grown by {growth} KiB over {idle} KiB");
}

fn assert_counted(reading: &Reading, elements: u64) {
    let elements = u32::try_from(elements).unwrap();
    assert_eq!(reading.values().active_alerts, Ok(elements));
    assert_eq!(reading.values().vms, Ok(elements));
    assert_eq!(reading.values().pve_nodes, Ok(0));
}

fn client(server: &Server) -> PulseClient {
    PulseClient::new(PulseSettings {
        url: server.url().parse().unwrap(),
        tokens: Tokens::One("token".into()),
        trust: Trust::default(),
        timeout: Duration::from_secs(600),
        platform: PlatformSetting::Auto,
    })
    .unwrap()
}

/// A Pulse 5 with that many alerts and virtual machines, in the same process: what it takes counts as well.
fn pulse_5(elements: u64) -> Server {
    const BEFORE_VMS: &str =
        r#"{"nodes":[],"pbs":[],"pmg":[],"containers":[],"dockerHosts":[],"kubernetesClusters":[],"vms":["#;
    Server::start(move |request| match request.path() {
        "/api/alerts/active" => ResponsePlan::body(Body::repeated("[", ELEMENT, elements, "]")),
        "/api/state" => ResponsePlan::body(Body::repeated(BEFORE_VMS, ELEMENT, elements, "]}")),
        "/api/version" => ResponsePlan::bytes(200, "application/json", r#"{"version":"5.1.24"}"#),
        _ => ResponsePlan::status(404),
    })
}

/// A value of `/proc/self/status`, in KiB.
fn resident(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
