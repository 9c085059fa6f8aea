//! Answers by which Pulse refuses.

use std::time::Duration;

use pulse_telemetry::pulse::{PulseClient, Tokens};
use pulse_telemetry_core::credential::{Credential, TokenOrigins};
use pulse_telemetry_core::observation::{ReadError, Reason, Scope};
use pulse_telemetry_testkit::pulse::{MONITORING_READ, Orgs, PulseModel, SETTINGS_READ, SimulatedPulse, TOKEN, Token};
use pulse_telemetry_testkit::server::{ResponsePlan, Server};

use super::{
    ALERTS, ALL_COUNTS, NODES, ORGS, SECURITY, SETTINGS, STATS, SUMMARY, TOLD, all_of_state, asked_for_nothing_but,
    both, cut_short, each_of, each_request_fails_with, gone, healthy, missing_scope, one, outcome, read, read_at,
    read_early_with, read_with, settings, unknown, with_acme,
};

#[tokio::test]
async fn a_token_that_is_not_accepted_ends_the_reading() {
    let pulse = SimulatedPulse::start(healthy());
    for path in ["/api/health", SETTINGS, ORGS, STATS, SUMMARY] {
        for refusal in [
            ResponsePlan::text(401, r#"{"error":"Authentication required"}"#),
            ResponsePlan::text(401, r#"{"error":"missing_scope","requiredScope":"settings:read"}"#),
            ResponsePlan::text(403, r#"{"error":"forbidden"}"#),
            ResponsePlan::text(403, r#"{"error":"forbidden","requiredScope":"settings:read"}"#),
            ResponsePlan::text(403, "<html>"),
            ResponsePlan::text(403, &" ".repeat(1024 * 1024)),
        ] {
            pulse.replace(path, refusal);
            assert_eq!(outcome(&pulse, one()).await, Err(ReadError::Unauthorized(Credential::default())), "{path}");
            assert_eq!(pulse.server.requests().last().unwrap().path(), path, "nothing more is asked");
        }
        pulse.restore(path);
    }
    let missing = Credential::Missing { looked_at: String::new() };
    for (tokens, which) in [(Tokens::One("another-token".into()), Credential::default()), (Tokens::None, missing)] {
        assert_eq!(outcome(&pulse, tokens).await, Err(ReadError::Unauthorized(which)));
    }
    let wrong = Tokens::Organizations(vec![("acme".to_owned(), "wrong".into()), ("default".to_owned(), TOKEN.into())]);
    let pulse = SimulatedPulse::start(with_acme());
    let origins = TokenOrigins {
        organizations: ["acme", "default"].map(|name| (name.to_owned(), format!("the file of {name}"))).to_vec(),
        ..TokenOrigins::default()
    };
    let client = PulseClient::new(settings(&pulse.url(), wrong)).unwrap().naming_tokens(origins);
    let which = Credential::Refused { origin: "the file of acme".to_owned(), organization: Some("acme".to_owned()) };
    assert_eq!(client.read().await, Err(ReadError::Unauthorized(which)));
}

#[tokio::test]
async fn a_missing_scope_is_told_and_everything_else_is_read() {
    let reason = |scope| Reason::MissingScope(Scope::new(scope));
    let refusal = ResponsePlan::json(403, &missing_scope(MONITORING_READ));
    each_request_fails_with(refusal, reason(MONITORING_READ)).await;

    let planted = ResponsePlan::json(403, &missing_scope("Host pve1.example.org"));
    assert_eq!(unknown(&read_with(ORGS, planted).await), [("multi_tenant", reason("unnamed"))]);

    let pulse = SimulatedPulse::start(healthy());
    pulse.change(|model| drop(model.tokens.insert(TOKEN.to_owned(), Token::new(&[SETTINGS_READ], "default"))));
    let mut expected = ALL_COUNTS.to_vec();
    let reading = read(&pulse).await;
    let mut told: Vec<_> = reading.unknown().iter().map(|unknown| unknown.what).collect();
    expected.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, expected);
    assert!(reading.unknown().iter().all(|unknown| unknown.reason == reason(MONITORING_READ)));
}

#[tokio::test]
async fn a_refusal_that_ends_early_is_not_taken_for_a_refused_token() {
    each_request_fails_with(cut_short(403, "{"), Reason::CutShort).await;
}

#[tokio::test]
async fn a_feature_that_is_not_licensed_is_off() {
    let refusal = || ResponsePlan::text(402, r#"{"error":"license_required"}"#);
    let pulse = SimulatedPulse::start(PulseModel { orgs: Orgs::List, ..healthy() });
    for path in ["/api/settings/ai", "/api/settings/relay", ORGS, "/api/license/status"] {
        pulse.replace(path, refusal());
    }
    let reading = read(&pulse).await;
    assert!(reading.unknown().is_empty());
    let s = reading.values();
    assert_eq!([s.ai_enabled, s.relay_enabled, s.multi_tenant, s.paid_license], [const { Ok(false) }; 4]);
    let expected = [("sso_enabled", Reason::Status(402)), ("demo_mode", Reason::Status(402))];
    assert_eq!(unknown(&read_with(SECURITY, refusal()).await), expected);
}

#[tokio::test]
async fn a_501_says_only_of_organizations_that_they_are_off() {
    each_of(TOLD.into_iter().filter(|(target, _)| *target != ORGS), ResponsePlan::status(501), Reason::Status(501))
        .await;
    assert_eq!(read_with(ORGS, ResponsePlan::status(501)).await.values().multi_tenant, Ok(false));
}

#[tokio::test]
async fn a_route_that_is_not_there_is_a_feature_that_is_not_there_but_for_those_that_every_pulse_has() {
    let of_every_pulse = ["/api/health", "/api/version", SECURITY, SETTINGS];
    let pulse = SimulatedPulse::start(healthy());
    for (path, told) in TOLD {
        if of_every_pulse.contains(&path) {
            let hidden: Vec<_> = told.iter().map(|what| (*what, Reason::Status(404))).collect();
            assert_eq!(unknown(&read_with(path, gone()).await), hidden, "{path}");
        } else if path != STATS {
            pulse.replace(path, gone());
        }
    }
    // Without the summary there are the lists.
    pulse.replace(ALERTS, gone());
    let reading = read(&pulse).await;
    assert!(reading.unknown().is_empty(), "{:?}", reading.unknown());
    let (s, p) = (reading.values(), reading.gate);
    for flag in [s.ai_enabled, s.relay_enabled, s.multi_tenant, s.paid_license, p.mock_mode] {
        assert_eq!(flag, Ok(false));
    }
    assert_eq!(s.active_alerts, Ok(0));

    let lists = [("pve_nodes", Reason::Status(404)), ("docker_hosts", Reason::Status(404))];
    assert_eq!(unknown(&read_early_with(NODES, gone()).await), lists);
    let pulse = SimulatedPulse::start(healthy());
    pulse.replace(STATS, gone());
    pulse.replace("/api/state", gone());
    assert_eq!(asked_for_nothing_but("GET /api/state", &read(&pulse).await), all_of_state(&Reason::Status(404)));
}

#[tokio::test]
async fn after_a_429_nothing_more_is_asked_and_the_rest_is_unknown() {
    let pulse = SimulatedPulse::start(PulseModel { orgs: Orgs::List, ..with_acme() });
    pulse.replace(STATS, ResponsePlan::status(429).with_header("Retry-After", "120"));
    let reading = outcome(&pulse, both()).await.unwrap();
    assert_eq!(pulse.server.requests().last().unwrap().path(), STATS);
    assert_eq!(reading.retry_after, Some(Duration::from_secs(120)));
    let unknown = reading.unknown();
    assert_eq!(unknown.len(), 13, "{unknown:?}");
    assert!(unknown.iter().all(|unknown| unknown.reason == Reason::RateLimited));

    for (header, seconds) in [
        (None, 60),
        (Some("soon"), 60),
        (Some("Mon, 23 Nov 2026 10:00:00 GMT"), 60),
        (Some("-5"), 60),
        (Some("0"), 0),
        (Some("599"), 599),
        (Some("601"), 600),
        (Some("86400"), 600),
        (Some("18446744073709551615"), 600),
    ] {
        let server = Server::start(move |_| match header {
            Some(value) => ResponsePlan::status(429).with_header("Retry-After", value),
            None => ResponsePlan::status(429),
        });
        let reading = read_at(settings(&server.url(), one())).await.unwrap();
        assert_eq!(reading.retry_after, Some(Duration::from_secs(seconds)), "{header:?}");
        assert_eq!(reading.unknown().len(), 20, "nothing is known");
        assert_eq!(server.connections(), 1);
    }
}
