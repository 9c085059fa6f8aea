//! What is asked of Pulse, and how.

use pulse_telemetry::pulse::PulseSettings;
use pulse_telemetry_core::observation::{OwnSender, Platform, ReadError};
use pulse_telemetry_testkit::pulse::{Counts, PLANTED, PulseModel, Relay, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::ResponsePlan;

use super::{Dialer, ORGS, TOLD, healthy, missing_scope, ok, one, read, read_by, settings};

#[tokio::test]
async fn a_healthy_pulse_is_read_whole_with_as_few_requests_as_tell_all() {
    let pulse = SimulatedPulse::start(healthy());
    let reading = read(&pulse).await;
    assert!(reading.unknown().is_empty());
    let s = reading.values();
    let counts = [s.pve_nodes, s.pbs_instances, s.pmg_instances, s.vms, s.containers, s.docker_hosts];
    assert_eq!(counts, [Ok(7), Ok(1), Ok(2), Ok(3), Ok(4), Ok(5)]);
    assert_eq!((s.kubernetes_clusters, s.active_alerts), (Ok(6), Ok(8)));
    assert_eq!(
        [s.ai_enabled, s.relay_enabled, s.sso_enabled, s.multi_tenant],
        [Ok(true), Ok(true), Ok(true), Ok(false)]
    );
    assert_eq!((s.paid_license, s.has_api_tokens, s.platform), (Ok(true), Ok(true), Ok(Platform::Docker)));
    assert_eq!(s.version.unwrap().version, "6.3.0");
    assert_eq!(reading.gate.own_sender, Ok(OwnSender::OffByEnvironment));
    assert_eq!(
        [reading.gate.mock_mode, reading.gate.demo_mode, reading.gate.starting],
        [Ok(false), Ok(false), Ok(false)]
    );
    assert_eq!(reading.gate.organizations, Ok(()));
    let asked: Vec<_> = pulse.server.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(asked, TOLD.map(|(target, _)| target));
}

#[tokio::test]
async fn a_pulse_that_has_nothing_is_read_as_zeros_and_false() {
    let model = PulseModel {
        counts: Counts::default(),
        ai: false,
        relay: Relay::Disabled,
        sso: false,
        tier: "free".to_owned(),
        ..healthy()
    };
    let reading = read(&SimulatedPulse::start(model)).await;
    assert!(reading.unknown().is_empty());
    let s = reading.values();
    let counts = [s.pve_nodes, s.pbs_instances, s.pmg_instances, s.vms, s.containers, s.docker_hosts];
    assert_eq!(counts, [const { Ok(0) }; 6]);
    assert_eq!((s.kubernetes_clusters, s.active_alerts), (Ok(0), Ok(0)));
    assert_eq!([s.ai_enabled, s.relay_enabled, s.sso_enabled, s.paid_license], [const { Ok(false) }; 4]);
}

#[tokio::test]
async fn a_request_says_who_asks_and_nothing_more() {
    let pulse = SimulatedPulse::start(healthy());
    let url = "https://pulse.test/behind/a/proxy/".parse().unwrap();
    let outcome = read_by(Dialer::to(&pulse), PulseSettings { url, ..settings(&pulse.url(), one()) }).await;
    // There is nothing below that path.
    assert!(matches!(outcome, Err(ReadError::NotPulse(_))), "{outcome:?}");
    let requests = pulse.server.requests();
    assert_eq!(requests[0].target, "/behind/a/proxy/api/health");
    for (n, request) in requests.into_iter().enumerate() {
        assert!(request.target.starts_with("/behind/a/proxy/api/"), "{}", request.target);
        let expected = [
            ("host", "pulse.test"),
            ("user-agent", concat!("pulse-telemetry/", env!("CARGO_PKG_VERSION"))),
            ("accept", "application/json"),
            ("x-api-token", TOKEN),
        ];
        assert_eq!(request.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!((request.method.as_str(), request.body.len()), ("GET", 0));
        assert_eq!(request.connection, n + 1, "each request has a connection of its own");
    }
}

#[tokio::test]
async fn a_reading_shows_no_token_and_no_body() {
    for model in [healthy(), PulseModel::v5()] {
        let pulse = SimulatedPulse::start(model);
        pulse.replace("/api/settings/ai", ResponsePlan::text(500, "planted words"));
        pulse.replace("/api/settings/relay", ok(r#"{"enabled":"planted words"}"#));
        pulse.replace(ORGS, ResponsePlan::json(403, &missing_scope("planted words")));
        let reading = read(&pulse).await;
        assert_eq!(reading.unknown().len(), 3);
        let reasons: String = reading.unknown().iter().map(|unknown| unknown.reason.to_string()).collect();
        let shown = format!("{reading:?} {reasons} {:?}", settings(&pulse.url(), one()));
        for secret in PLANTED.iter().chain(&[TOKEN, "planted"]) {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
    }
}
