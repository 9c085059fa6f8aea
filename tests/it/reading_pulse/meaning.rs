//! What the answers mean.

use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, SettingsError, Tokens};
use pulse_telemetry_core::observation::{OwnSender, Platform, Reason};
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_testkit::pulse::{self, Orgs, PulseModel, SimulatedPulse};
use pulse_telemetry_testkit::server::{ResponsePlan, Server};

use super::{
    SECURITY, SETTINGS, both, gone, healthy, ok, one, outcome, read, read_at, read_with, reason, settings, unknown,
};

#[tokio::test]
async fn pulses_own_sender_is_read_with_who_switched_it() {
    for (body, own_sender) in [
        (r#"{"telemetryEnabled":true,"envOverrides":{"PULSE_TELEMETRY":true}}"#, OwnSender::On),
        ("{}", OwnSender::Absent),
        (r#"{"telemetryEnabled":false}"#, OwnSender::OffBySetting),
        (r#"{"telemetryEnabled":false,"envOverrides":null}"#, OwnSender::OffBySetting),
        (r#"{"telemetryEnabled":false,"envOverrides":{"PULSE_TELEMETRY":false}}"#, OwnSender::OffBySetting),
        (r#"{"telemetryEnabled":false,"envOverrides":{"PULSE_TELEMETRY":true}}"#, OwnSender::OffByEnvironment),
        (r#"{"telemetryEnabled":false,"envOverrides":{"telemetryEnabled":true}}"#, OwnSender::OffByEnvironment),
        (
            r#"{"telemetryEnabled":false,"envOverrides":{"PULSE_TELEMETRY":"?","telemetryEnabled":true}}"#,
            OwnSender::OffByEnvironment,
        ),
    ] {
        assert_eq!(read_with(SETTINGS, ok(body)).await.gate.own_sender, Ok(own_sender), "{body}");
    }
}

#[tokio::test]
async fn mock_data_is_told_by_the_version_or_by_its_own_route() {
    const MOCK_MODE: &str = "/api/system/mock-mode";
    let pulse = SimulatedPulse::start(PulseModel { mock: true, ..healthy() });
    assert_eq!(read(&pulse).await.gate.mock_mode, Ok(true));
    assert!(pulse.server.requests().iter().all(|request| request.path() != MOCK_MODE));

    assert_eq!(read_with(MOCK_MODE, ok(r#"{"enabled":true}"#)).await.gate.mock_mode, Ok(true));
    let pulse = SimulatedPulse::start(healthy());
    pulse.replace(MOCK_MODE, gone());
    pulse.replace("/api/version", ResponsePlan::status(500));
    assert_eq!(reason(read(&pulse).await.gate.mock_mode), Err(Reason::Status(500)));
    pulse.replace("/api/version", ok(r#"{"version":"6.3.0","isDocker":true,"deploymentType":7}"#));
    assert_eq!(unknown(&read(&pulse).await), [("mock_mode", Reason::WrongShape)]);
}

#[tokio::test]
async fn single_sign_on_and_demo_mode_are_read_in_old_words_and_new() {
    for (body, sso) in [
        (r#"{"ssoEnabled":false,"oidcEnabled":true}"#, Ok(false)),
        (r#"{"oidcEnabled":true,"ssoProviders":[]}"#, Ok(true)),
        (r#"{"oidcEnabled":false,"ssoProviders":[{}]}"#, Ok(true)),
        (r#"{"oidcEnabled":false,"ssoProviders":null}"#, Ok(false)),
        (r#"{"ssoProviders":[]}"#, Ok(false)),
        (r#"{"oidcEnabled":false,"ssoProviders":{}}"#, Err(Reason::WrongShape)),
        (r#"{"ssoEnabled":"no"}"#, Err(Reason::WrongShape)),
        ("{}", Err(Reason::WrongShape)),
    ] {
        let reading = read_with(SECURITY, ok(body)).await;
        assert_eq!(reason(reading.values().sso_enabled), sso, "{body}");
        assert_eq!(reading.gate.demo_mode, Ok(false), "{body}");
    }
    let demo = read(&SimulatedPulse::start(PulseModel { demo: true, ..healthy() })).await;
    assert_eq!(demo.gate.demo_mode, Ok(true));
    let wrong = read_with(SECURITY, ok(r#"{"ssoEnabled":true,"presentationPolicy":{"demoMode":1}}"#)).await;
    assert_eq!(unknown(&wrong), [("demo_mode", Reason::WrongShape)]);
}

#[tokio::test]
async fn a_pulse_that_has_just_started_is_told() {
    for (uptime, starting) in [(0.0, true), (119.9, true), (120.0, false)] {
        let reading = read(&SimulatedPulse::start(PulseModel { uptime, ..healthy() })).await;
        assert_eq!(reading.gate.starting, Ok(starting), "{uptime}");
    }
}

#[tokio::test]
async fn tokens_are_asked_for_only_where_none_has_been_of_use() {
    const API_TOKENS: &str = "/api/security/tokens";
    let pulse = SimulatedPulse::start(PulseModel { require_auth: false, ..healthy() });
    assert_eq!(outcome(&pulse, Tokens::None).await.unwrap().values().has_api_tokens, Ok(true));
    for (plan, has) in [
        (ok(r#"{"tokens":[{}]}"#), Ok(true)),
        (ok(r#"{"tokens":[]}"#), Ok(false)),
        (ok(r#"{"tokens":null}"#), Ok(false)),
        (gone(), Ok(false)),
        (ok("{}"), Err(Reason::WrongShape)),
        (ResponsePlan::status(500), Err(Reason::Status(500))),
    ] {
        pulse.replace(API_TOKENS, plan);
        let reading = outcome(&pulse, Tokens::None).await.unwrap();
        assert_eq!(reason(reading.values().has_api_tokens), has);
        assert_eq!(pulse.server.requests().last().unwrap().path(), API_TOKENS);
    }
    // A Pulse that asks for no token answers with any, so that one proves nothing there, nor does an organization's.
    for tokens in [one, both, || Tokens::One("a stale token".into())] {
        for (plan, has) in [(r#"{"tokens":[{}]}"#, true), (r#"{"tokens":[]}"#, false)] {
            pulse.replace(API_TOKENS, ok(plan));
            pulse.change(|model| model.orgs = Orgs::List);
            assert_eq!(outcome(&pulse, tokens()).await.unwrap().values().has_api_tokens, Ok(has), "{plan}");
        }
    }
    // Where nothing says that a token is asked for, they are counted as well.
    pulse.restore(API_TOKENS);
    pulse.change(|model| *model = healthy());
    for plan in [ResponsePlan::status(500), gone(), ok("{}"), ok(r#"{"requiresAuth":"yes"}"#)] {
        pulse.replace(SECURITY, plan);
        pulse.replace(API_TOKENS, ok(r#"{"tokens":[]}"#));
        assert_eq!(outcome(&pulse, one()).await.unwrap().values().has_api_tokens, Ok(false));
    }
    // What everybody may read proves nothing about the token.
    let model = healthy();
    let server = Server::start(move |request| match request.path() {
        "/api/health" | "/api/version" | SECURITY => pulse::answer(&model, &request),
        _ => ResponsePlan::status(500),
    });
    let reading = read_at(settings(&server.url(), one())).await.unwrap();
    assert_eq!(reason(reading.values().has_api_tokens), Err(Reason::Status(500)));
}

#[tokio::test]
async fn the_platform_setting_wins_over_what_pulse_says() {
    for is_docker in [true, false] {
        let pulse = SimulatedPulse::start(PulseModel { is_docker, ..healthy() });
        for (platform, expected) in [
            (PlatformSetting::Auto, if is_docker { Platform::Docker } else { Platform::Binary }),
            (PlatformSetting::Docker, Platform::Docker),
            (PlatformSetting::Binary, Platform::Binary),
        ] {
            let settings = PulseSettings { platform, ..settings(&pulse.url(), one()) };
            assert_eq!(read_at(settings).await.unwrap().values().platform, Ok(expected));
        }
    }
}

#[test]
fn settings_that_cannot_work_are_refused_without_showing_a_token() {
    let refused = |settings| match PulseClient::new(settings) {
        Ok(_) => panic!("accepted"),
        Err(error) => error,
    };
    let settings = |tokens| settings("http://127.0.0.1:7655", tokens);
    for url in ["ftp://pulse.test", "/api", "pulse.test:7655", "http://me:pass@pulse.test", "http://pulse.test/?a=b"] {
        let settings = PulseSettings { url: url.parse().unwrap(), ..settings(one()) };
        assert!(matches!(refused(settings), SettingsError::Url), "{url}");
    }
    // Pulse's own paths behind it would not be a URI, and what is asked must never be another path.
    for length in [2049, 65_500] {
        let url = format!("http://pulse.test/{}", "x".repeat(length)).parse().unwrap();
        assert!(matches!(refused(PulseSettings { url, ..settings(one()) }), SettingsError::Url), "{length}");
    }
    for token in ["", " ", "two\nlines", "a\0secret"] {
        let error = refused(settings(Tokens::One(token.into())));
        assert!(matches!(error, SettingsError::Token), "{token:?}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("lines") && !shown.contains("secret"), "{shown}");
    }
    let named = |names: &[&str]| Tokens::Organizations(names.iter().map(|n| ((*n).to_owned(), "t".into())).collect());
    assert!(matches!(refused(settings(named(&[]))), SettingsError::NoDefaultOrganization));
    assert!(matches!(refused(settings(named(&["acme"]))), SettingsError::NoDefaultOrganization));
    assert!(matches!(refused(settings(named(&["default", "default"]))), SettingsError::OrganizationTwice));
    assert!(matches!(refused(settings(named(&["default", "a", "a"]))), SettingsError::OrganizationTwice));
    assert!(matches!(refused(settings(named(&["default", "a\nb"]))), SettingsError::OrganizationName));
    for pem in ["no certificate", "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n"] {
        let trust = Trust::default().and("pulse.ca_file", pem.as_bytes().to_vec());
        let settings = PulseSettings { url: "https://pulse.test".parse().unwrap(), trust, ..settings(one()) };
        assert!(matches!(refused(settings), SettingsError::Tls(_)), "{pem}");
    }
}
