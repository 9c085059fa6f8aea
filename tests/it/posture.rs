//! What else may leave an installation is read as Pulse says it, shown, and never on its way to the endpoint.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::time::Duration;

use pulse_telemetry::posture::{
    AiPosture, Covered, Posture, Provider, RelayPosture, RelayState, UpdateChannel, Updates,
};
use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, Tokens};
use pulse_telemetry_core::credential::Credential;
use pulse_telemetry_core::observation::{ReadError, Reason, Scope};
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{self, MONITORING_READ, PulseModel, SimulatedPulse, TOKEN, Token};
use pulse_telemetry_testkit::replay::{self, A_DAY, Replay};
use pulse_telemetry_testkit::server::ResponsePlan;
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup};
use serde_json::{Value, json};

const AI: &str = "/api/settings/ai";
const RELAY: &str = "/api/settings/relay";
const SETTINGS: &str = "/api/system/settings";
const STATS: &str = "/api/resources/stats";

// ---- recorded answers of real Pulse builds

#[tokio::test]
async fn every_capture_is_told_as_it_was_recorded() {
    let Some(_) = replay::shared_or_skip("every_capture_is_told_as_it_was_recorded") else { return };
    for folder in replay::captures() {
        let name = folder.display();
        let tokens = replay::tokens(&folder);
        let who = if tokens.contains(&"default".to_owned()) { "default" } else { "full" };
        let recorded = |file: &str| {
            let content = std::fs::read(folder.join(who).join(file)).ok();
            content.and_then(|content| serde_json::from_slice::<Value>(&content).ok()).unwrap_or_default()
        };
        let replay = Replay::start(&folder, A_DAY);
        let posture = read(&replay.server.url(), who).await.unwrap();
        assert_eq!(posture.unknown().count(), 0, "{name}");

        let (ai, said) = (posture.ai.unwrap(), recorded("api_settings_ai.json"));
        assert_eq!(json!(ai.enabled), said["enabled"], "{name}");
        let names: Vec<_> = ai.providers.iter().map(|provider| provider.name).collect();
        assert_eq!(json!(names), said["configured_providers"].as_array().map_or(json!([]), |names| json!(names)));
        assert!(ai.other_providers == 0 && ai.providers.iter().all(|provider| !provider.local), "{name}");

        let (relay, said) = (posture.relay.unwrap(), recorded("api_settings_relay.json"));
        let state = match (&said["enabled"], &said["error"]) {
            (Value::Bool(true), _) => RelayState::On,
            (Value::Bool(false), _) => RelayState::Off,
            (_, Value::String(_)) => RelayState::NotLicensed,
            _ => RelayState::Absent,
        };
        assert_eq!(relay.state, state, "{name}");
        let host = said["server_url"].as_str().map(|url| url.split(['/', ':']).nth(3).unwrap().to_owned());
        assert_eq!(relay.host.map(|host| host.to_string()), host, "{name}");

        let said = recorded("api_system_settings.json");
        let channel = if said["updateChannel"] == "stable" { UpdateChannel::Stable } else { UpdateChannel::Unset };
        assert_eq!(posture.updates, Ok(Updates { automatic: false, channel }), "{name}");

        let said = &recorded("api_resources_stats.json")["policyPosture"];
        let told = serde_json::to_value(posture.data_handling.unwrap()).unwrap();
        let expected = match said {
            Value::Null => Value::Null,
            said => json!({
                "resources": said["totalResources"],
                "sensitivity": said["sensitivityCounts"],
                "routing": said["routingCounts"],
                "redaction": said["redactionCounts"],
            }),
        };
        assert_eq!(told, expected, "{name}");
    }
}

#[tokio::test]
async fn a_token_without_settings_read_names_what_it_cannot_tell() {
    let Some(_) = replay::shared_or_skip("a_token_without_settings_read_names_what_it_cannot_tell") else { return };
    for folder in replay::captures() {
        let asks_for_a_token = replay::told_json(&folder, "full", "/api/security/status")["requiresAuth"] == true;
        if !replay::tokens(&folder).contains(&"monitoring-only".to_owned()) || !asks_for_a_token {
            continue;
        }
        let replay = Replay::start(&folder, A_DAY);
        let posture = read(&replay.server.url(), "monitoring-only").await.unwrap();
        let is_five = posture.data_handling == Ok(None);
        let unknown: Vec<_> = posture.unknown().map(|unknown| (unknown.what, unknown.reason.clone())).collect();
        let mut expected = vec!["ai", "relay", "updates"];
        // There is no relay in Pulse 5, and nothing to be asked for.
        expected.retain(|what| !is_five || *what != "relay");
        let lacks = Reason::MissingScope(Scope::new("settings:read"));
        let expected: Vec<_> = expected.into_iter().map(|what| (what, lacks.clone())).collect();
        assert_eq!(unknown, expected, "{}", folder.display());
    }
}

// ---- a Pulse of our own

#[tokio::test]
async fn ai_providers_are_told_with_where_they_are_and_whether_they_are_asked_at_all() {
    let all = json!({
        "enabled": true,
        "configured_providers": ["zai", "openai", "ollama", "anthropic", "codex-subscription", "skynet", "hal"],
        "openai_base_url": "http://192.168.1.9:1234/v1",
        "ollama_base_url": "https://ollama.example.com",
        "using_quickstart": true,
    });
    let near = |name, local| Provider { name, local };
    let providers = vec![
        near("anthropic", false),
        near("codex-subscription", false),
        near("ollama", false),
        near("openai", true),
        near("quickstart", false),
        near("zai", false),
    ];
    let told = with(AI, 200, &all).await.ai;
    assert_eq!(told, Ok(AiPosture { enabled: true, providers, other_providers: 2 }));

    let off = json!({"enabled": false, "configured_providers": ["ollama"], "ollama_base_url": ""});
    let providers = vec![near("ollama", true)];
    assert_eq!(with(AI, 200, &off).await.ai, Ok(AiPosture { enabled: false, providers, other_providers: 0 }));
    let none = AiPosture { enabled: true, providers: Vec::new(), other_providers: 0 };
    assert_eq!(with(AI, 200, &json!({"enabled": true, "configured_providers": null})).await.ai, Ok(none.clone()));
    for status in [402, 404] {
        assert_eq!(with(AI, status, &json!({})).await.ai, Ok(AiPosture { enabled: false, ..none.clone() }));
    }
}

#[tokio::test]
async fn the_relay_is_told_with_its_host_alone() {
    for (status, answer, state, host) in [
        (
            200,
            json!({"enabled": true, "server_url": "wss://u:p@relay.example:9/ws?x=1"}),
            RelayState::On,
            "relay.example",
        ),
        (200, json!({"enabled": false, "server_url": "wss://relay.example/ws"}), RelayState::Off, "relay.example"),
        (200, json!({"enabled": true, "server_url": ""}), RelayState::On, ""),
        (200, json!({"enabled": true}), RelayState::On, ""),
        (402, json!({"error": "license_required"}), RelayState::NotLicensed, ""),
        (404, json!({}), RelayState::Absent, ""),
    ] {
        let RelayPosture { state: told, host: at } = with(RELAY, status, &answer).await.relay.unwrap();
        assert_eq!((told, at.map(|host| host.to_string()).unwrap_or_default().as_str()), (state, host), "{answer}");
    }
}

#[tokio::test]
async fn updates_are_told_with_their_channel() {
    for (answer, automatic, channel) in [
        (json!({"autoUpdateEnabled": true, "updateChannel": "rc"}), true, UpdateChannel::Rc),
        (json!({"autoUpdateEnabled": false, "updateChannel": "stable"}), false, UpdateChannel::Stable),
        (json!({"updateChannel": "nightly of wilhelmina"}), false, UpdateChannel::Other),
        (json!({}), false, UpdateChannel::Unset),
    ] {
        let posture = with(SETTINGS, 200, &answer).await;
        assert_eq!(posture.updates, Ok(Updates { automatic, channel }), "{answer}");
    }
    let posture = with(SETTINGS, 404, &json!({})).await;
    assert_eq!(posture.updates, Ok(Updates { automatic: false, channel: UpdateChannel::Unset }));
}

#[tokio::test]
async fn rules_that_are_not_known_are_counted_without_their_names() {
    let mut stats = json!({"total": 9, "byType": {}});
    stats["policyPosture"] = json!({
        "totalResources": 9,
        "sensitivityCounts": {"public": 4, "top secret of wilhelmina": 2, "another": 3, "internal": 0},
        "routingCounts": {},
        "redactionCounts": {"path": 1, "hostname": 2},
    });
    let told = with(STATS, 200, &stats).await.data_handling.unwrap().unwrap();
    assert_eq!(told.sensitivity, Covered(vec![("public", 4), ("other", 5)]));
    assert_eq!((told.routing, told.redaction), (Covered(vec![]), Covered(vec![("hostname", 2), ("path", 1)])));
    let without = with(STATS, 200, &json!({"total": 9, "byType": {}})).await;
    assert_eq!(without.data_handling, Ok(None));
}

#[tokio::test]
async fn what_has_another_shape_is_unknown_and_takes_nothing_else_with_it() {
    for (path, answer, what) in [
        (AI, json!({"enabled": "yes", "configured_providers": []}), "ai"),
        (AI, json!({"enabled": true, "configured_providers": "anthropic"}), "ai"),
        (AI, json!({"enabled": true, "configured_providers": ["ollama"], "ollama_base_url": 5}), "ai"),
        (RELAY, json!({"enabled": null}), "relay"),
        (SETTINGS, json!({"autoUpdateEnabled": "no"}), "updates"),
        (STATS, json!({"total": 1, "byType": {}, "policyPosture": []}), "data_handling"),
        (STATS, json!({"total": 1, "byType": {}, "policyPosture": {"totalResources": -1}}), "data_handling"),
    ] {
        let posture = with(path, 200, &answer).await;
        let unknown: Vec<_> = posture.unknown().map(|unknown| unknown.what).collect();
        assert_eq!(unknown, [what], "{answer}");
    }
    for (path, what) in [(AI, "ai"), (RELAY, "relay"), (STATS, "data_handling")] {
        let posture = with(path, 500, &json!({})).await;
        let unknown: Vec<_> = posture.unknown().map(|unknown| (unknown.what, &unknown.reason)).collect();
        assert_eq!(unknown, [(what, &Reason::Status(500))]);
    }
}

#[tokio::test]
async fn a_pulse_that_cannot_be_read_tells_no_posture() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    assert_eq!(read(&pulse.url(), "no-such-token").await, Err(ReadError::Unauthorized(Credential::default())));
}

#[test]
fn page_preview_and_posture_share_one_reading() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let sidecar = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).start();
    endpoint.wait_for_pings(1, LIMIT);
    let asked = || pulse.server.requests().iter().filter(|request| request.path() == AI).count();
    assert_eq!(asked(), 1);
    for path in ["/api/v1/posture", "/", "/api/v1/preview", "/api/v1/posture"] {
        assert_eq!(sidecar.get(path).status, 200);
    }
    assert_eq!(asked(), 1, "the ten seconds have not passed");
}

// ---- shown, never sent

#[test]
fn nothing_of_the_posture_reaches_the_endpoint_the_disk_or_the_log() {
    let model = PulseModel { ai_providers: vec!["anthropic".to_owned()], ..PulseModel::default() };
    let (pulse, endpoint) = (SimulatedPulse::start(model), Endpoint::start());
    let relay = json!({"enabled": true, "server_url": "wss://relay-of-wilhelmina.example/ws"});
    pulse.replace(RELAY, ResponsePlan::json(200, &relay));
    let setup = Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN);
    let sidecar = setup.start();
    let ping = endpoint.wait_for_pings(1, LIMIT).remove(0);
    sidecar.wait_for_log("ping delivered");
    let posture = sidecar.get("/api/v1/posture").text();
    let page = sidecar.get("/").text();
    let log = sidecar.stop();
    let on_disk: Vec<u8> = ["state.json", "ledger.jsonl", ".install_id"]
        .iter()
        .flat_map(|name| std::fs::read(setup.state(name)).unwrap())
        .collect();
    for secret in ["relay-of-wilhelmina", "anthropic", "cloud-summary"] {
        assert!(posture.contains(secret) && page.contains(secret), "{secret} is shown");
        for (what, bytes) in [("ping", &ping.body[..]), ("disk", &on_disk), ("log", log.as_bytes())] {
            assert!(!String::from_utf8_lossy(bytes).contains(secret), "the {what} holds {secret}");
        }
    }
}

/// What is told where one path is answered like this.
async fn with(path: &str, status: u16, answer: &Value) -> Posture {
    let pulse = SimulatedPulse::start(PulseModel {
        tokens: [(TOKEN.to_owned(), Token::new(&[MONITORING_READ, pulse::SETTINGS_READ], "default"))].into(),
        ..PulseModel::default()
    });
    pulse.replace(path, ResponsePlan::json(status, answer));
    read(&pulse.url(), TOKEN).await.unwrap()
}

async fn read(url: &str, token: &str) -> Result<Posture, ReadError> {
    let settings = PulseSettings {
        url: url.parse().unwrap(),
        tokens: Tokens::One(token.into()),
        trust: Trust::default(),
        timeout: Duration::from_secs(60),
        platform: PlatformSetting::Auto,
    };
    Ok(PulseClient::new(settings).unwrap().observe().await?.posture)
}
