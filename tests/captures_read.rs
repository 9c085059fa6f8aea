//! Recorded answers of real Pulse builds are read as Pulse itself reads them: its own preview is the judge.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use pulse_telemetry::contract;
use pulse_telemetry::ping::{self, Event};
use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, Tokens};
use pulse_telemetry::snapshot::{OwnSender, ReadError, Reading, Reason, Scope, Snapshot};
use pulse_telemetry::wire::Trust;
use serde_json::{Map, Value, json};
use support::replay::{self, A_DAY, Replay};

#[tokio::test]
async fn every_capture_with_an_oracle_is_read_field_for_field_as_pulse_read_itself() {
    let test = "every_capture_with_an_oracle_is_read_field_for_field_as_pulse_read_itself";
    let mut seen = 0;
    for capture in captures(test) {
        let Some(oracle) = replay::oracle(&capture.folder) else { continue };
        let reading = capture.read(capture.tokens(), capture.platform()).await.unwrap();
        assert_eq!(reading.unknown(), Vec::<&_>::new(), "{}", capture.name);
        // With the ID that Pulse had, the whole ping is to be the same.
        let id = oracle["install_id"].as_str().unwrap();
        let ping: Value = serde_json::from_str(&ping::encode(&reading, id, Event::Heartbeat).unwrap()).unwrap();
        assert_eq!(ping, capture.expected(&oracle, &ping), "{}", capture.name);
        let uncounted = capture.serves_many() && !capture.has_organizations();
        assert_eq!(reading.state.uncounted_organizations, uncounted, "{}", capture.name);
        seen += 1;
    }
    assert!(seen > 0 || replay::shared().is_none());
}

#[tokio::test]
async fn two_organizations_are_summed() {
    let Some(shared) = replay::shared_or_skip("two_organizations_are_summed") else { return };
    let capture = Capture::open(shared.join("captures/v6.3-two-organizations"));
    let both = capture.read(capture.tokens(), PlatformSetting::Auto).await.unwrap().snapshot;
    let of = async |name: &str| capture.read(Tokens::One(name.into()), PlatformSetting::Auto).await.unwrap().snapshot;
    let (default, acme) = (counts(&of("default").await), counts(&of("acme").await));
    let sum: Vec<_> = default.iter().zip(acme).map(|(one, other)| one + other).collect();
    assert_eq!(counts(&both), sum);
    assert!(default != sum, "the other organization has something");
}

#[tokio::test]
async fn the_deciding_facts_are_those_of_each_capture() {
    for capture in captures("the_deciding_facts_are_those_of_each_capture") {
        let name = &capture.name;
        let state = capture.read(capture.tokens(), PlatformSetting::Auto).await.unwrap().state;
        assert_eq!(state.mock_mode, Ok(capture.is_mock()), "{name}");
        assert_eq!(state.demo_mode, Ok(false), "{name}");
        assert_eq!(state.starting, Ok(false), "{name}");
        let own_sender = match capture.env("PULSE_TELEMETRY") {
            _ if capture.is_five() => OwnSender::Absent,
            Some("false") => OwnSender::OffByEnvironment,
            _ if name.ends_with("opted-out-in-settings") => OwnSender::OffBySetting,
            _ => OwnSender::On,
        };
        assert_eq!(state.own_sender, Ok(own_sender), "{name}");

        let just_started = Replay::start(&capture.folder, 30);
        let state = read(&just_started, capture.tokens(), PlatformSetting::Auto).await.unwrap().state;
        assert_eq!(state.starting, Ok(true), "{name}");
    }
}

#[tokio::test]
async fn pulse_5_is_counted_by_the_lengths_of_its_arrays() {
    let mut seen = 0;
    let test = "pulse_5_is_counted_by_the_lengths_of_its_arrays";
    for capture in captures(test).into_iter().filter(Capture::is_five) {
        let name = &capture.name;
        let reading = capture.read(capture.tokens(), PlatformSetting::Auto).await.unwrap();
        assert_eq!(reading.unknown(), Vec::<&_>::new(), "{name}");
        let state = capture.answer_to("full", "api_state.json");
        let arrays = ["nodes", "pbs", "pmg", "vms", "containers", "dockerHosts", "kubernetesClusters"];
        let mut lengths: Vec<_> = arrays.iter().map(|array| state[array].as_array().map_or(0, Vec::len)).collect();
        lengths.push(capture.answer_to("full", "api_alerts_active.json").as_array().map_or(0, Vec::len));
        assert_eq!(counts(&reading.snapshot), lengths, "{name}");
        // 5.1 has neither relay nor organizations.
        assert_eq!(reading.snapshot.relay_enabled, Ok(false), "{name}");
        assert_eq!(reading.snapshot.multi_tenant, Ok(false), "{name}");
        assert_eq!(reading.snapshot.sso_enabled, Ok(false), "{name}");
        let ai = capture.answer_to("full", "api_settings_ai.json")["enabled"].as_bool().unwrap();
        assert_eq!(reading.snapshot.ai_enabled, Ok(ai), "{name}");
        let paid = capture.answer_to("full", "api_license_status.json")["tier"] != "free";
        assert_eq!(reading.snapshot.paid_license, Ok(paid), "{name}");
        assert_eq!(reading.snapshot.has_api_tokens, Ok(true), "{name}");
        seen += 1;
    }
    assert!(seen > 0 || replay::shared().is_none());
}

#[tokio::test]
async fn a_token_without_settings_read_names_all_that_it_cannot_read() {
    let mut seen = 0;
    for capture in captures_of_three_callers("a_token_without_settings_read_names_all_that_it_cannot_read") {
        let name = &capture.name;
        let reading = capture.read(Tokens::One("monitoring-only".into()), PlatformSetting::Auto).await.unwrap();
        let mut expected = vec![
            ("ai_enabled", "GET /api/settings/ai"),
            ("relay_enabled", "GET /api/settings/relay"),
            ("multi_tenant", "GET /api/orgs"),
            ("mock_mode", "GET /api/system/mock-mode"),
            ("own_sender", "GET /api/system/settings"),
        ];
        if capture.is_five() {
            expected.retain(|(what, _)| !matches!(*what, "relay_enabled" | "multi_tenant"));
        }
        if capture.is_mock() {
            expected.retain(|(what, _)| *what != "mock_mode");
        }
        let lacks = Reason::MissingScope(Scope::new("settings:read"));
        let expected: Vec<_> = expected.into_iter().map(|(what, request)| (what, request, lacks.clone())).collect();
        let unknown =
            reading.unknown().into_iter().map(|unknown| (unknown.what, unknown.request, unknown.reason.clone()));
        assert_eq!(unknown.collect::<Vec<_>>(), expected, "{name}");
        assert_eq!(ping::encode(&reading, "id", Event::Heartbeat), None, "{name}");

        // What it may read is read as with the whole token.
        let full = capture.read(capture.tokens(), PlatformSetting::Auto).await.unwrap();
        let limited = Snapshot {
            ai_enabled: full.snapshot.ai_enabled.clone(),
            relay_enabled: full.snapshot.relay_enabled.clone(),
            multi_tenant: full.snapshot.multi_tenant.clone(),
            ..reading.snapshot
        };
        assert_eq!(limited, full.snapshot, "{name}");
        seen += 1;
    }
    assert!(seen > 0 || replay::shared().is_none());
}

#[tokio::test]
async fn without_a_token_that_is_known_pulse_is_unauthorized() {
    for capture in captures_of_three_callers("without_a_token_that_is_known_pulse_is_unauthorized") {
        for tokens in [Tokens::None, Tokens::One("nonsense".into())] {
            let outcome = capture.read(tokens, PlatformSetting::Auto).await;
            assert_eq!(outcome, Err(ReadError::Unauthorized), "{}", capture.name);
        }
    }
}

struct Capture {
    name: String,
    folder: PathBuf,
    index: Value,
    replay: Replay,
}

fn captures(test_name: &str) -> Vec<Capture> {
    let folders = replay::shared_or_skip(test_name).map(|_| replay::captures());
    folders.into_iter().flatten().map(Capture::open).collect()
}

/// Those that were asked with a whole token, with one that has `monitoring:read` alone, and with none.
fn captures_of_three_callers(test_name: &str) -> Vec<Capture> {
    captures(test_name).into_iter().filter(|capture| !capture.has_organizations()).collect()
}

impl Capture {
    fn open(folder: PathBuf) -> Self {
        Self {
            name: folder.file_name().unwrap().to_str().unwrap().to_owned(),
            index: replay::index(&folder),
            replay: Replay::start(&folder, A_DAY),
            folder,
        }
    }

    fn is_five(&self) -> bool {
        self.name.starts_with("v5")
    }

    fn env(&self, name: &str) -> Option<&str> {
        self.index["env"][name].as_str()
    }

    fn is_mock(&self) -> bool {
        self.env("PULSE_MOCK_MODE") == Some("true")
    }

    fn serves_many(&self) -> bool {
        self.env("PULSE_MULTI_TENANT_ENABLED") == Some("true")
    }

    /// Whether each organization has a token of its own here.
    fn has_organizations(&self) -> bool {
        self.index.get("oracle").is_some()
    }

    fn tokens(&self) -> Tokens {
        if self.has_organizations() {
            Tokens::Organizations(["acme", "default"].map(|name| (name.to_owned(), name.into())).to_vec())
        } else {
            Tokens::One("full".into())
        }
    }

    /// The operator's word, where Pulse's API says of the captures' machine something else than Pulse says of itself:
    /// Pulse goes by `PULSE_DOCKER`.
    fn platform(&self) -> PlatformSetting {
        let token = if self.has_organizations() { "default" } else { "full" };
        let by_api = self.answer_to(token, "api_version.json")["isDocker"] == true;
        match self.env("PULSE_DOCKER") == Some("true") {
            of_itself if of_itself == by_api => PlatformSetting::Auto,
            true => PlatformSetting::Docker,
            false => PlatformSetting::Binary,
        }
    }

    /// What is in the oracle of the contract's fields, but for what Pulse's API and its own sender disagree on.
    fn expected(&self, oracle: &Value, own: &Value) -> Value {
        let field = |name: &str| Some((name.to_owned(), oracle.get(name)?.clone()));
        let mut expected: Map<_, _> = contract::FIELDS.iter().filter_map(|known| field(known.name)).collect();
        // Pulse's preview says false always; its API tells the truth.
        expected["multi_tenant"] = json!(self.serves_many());
        if self.is_mock() {
            // Then the API says that AI is on, whatever was saved.
            expected["ai_enabled"] = json!(true);
        }
        // The captures' machine was Linux on x86-64; elsewhere the sidecar speaks of its own.
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            expected["os"] = own["os"].clone();
            expected["arch"] = own["arch"].clone();
        }
        Value::Object(expected)
    }

    /// What the caller with that token got.
    fn answer_to(&self, token: &str, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.folder.join(token).join(file)).unwrap()).unwrap()
    }

    async fn read(&self, tokens: Tokens, platform: PlatformSetting) -> Result<Reading, ReadError> {
        read(&self.replay, tokens, platform).await
    }
}

async fn read(replay: &Replay, tokens: Tokens, platform: PlatformSetting) -> Result<Reading, ReadError> {
    let settings = PulseSettings {
        url: replay.server.url().parse().unwrap(),
        tokens,
        trust: Trust::System,
        timeout: Duration::from_secs(60),
        platform,
    };
    PulseClient::new(settings).unwrap().read().await
}

/// The counts, all of which must be known.
fn counts(snapshot: &Snapshot) -> Vec<usize> {
    let counts = [
        &snapshot.pve_nodes,
        &snapshot.pbs_instances,
        &snapshot.pmg_instances,
        &snapshot.vms,
        &snapshot.containers,
        &snapshot.docker_hosts,
        &snapshot.kubernetes_clusters,
        &snapshot.active_alerts,
    ];
    counts.into_iter().map(|count| *count.as_ref().unwrap() as usize).collect()
}
