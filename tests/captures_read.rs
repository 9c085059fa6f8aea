//! Recorded answers of real Pulse builds are read as Pulse itself reads them: its own preview is the judge.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod captured;
mod fake_pulse;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use fake_pulse::{FakePulse, answer, settings};
use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, Tokens};
use pulse_telemetry::snapshot::{OwnSender, Platform, ReadError, Reading, Reason, Scope, Snapshot, Value};
use serde_json::Value as Json;

/// Status and body by token and path.
type Answers = HashMap<(String, String), (u16, Vec<u8>)>;

struct Capture {
    index: Json,
    answers: Arc<Answers>,
}

impl Capture {
    fn open(folder: &Path) -> Self {
        let index: Json = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
        let mut answers = Answers::new();
        let responses = index["responses"].as_array().unwrap();
        let text = |value: &Json| value.as_str().unwrap().to_owned();
        for response in responses.iter().filter(|response| response.get("file").is_some()) {
            let body = fs::read(folder.join(text(&response["file"]))).unwrap();
            let status = response["status"].as_u64().unwrap() as u16;
            answers.insert((text(&response["token"]), text(&response["path"])), (status, body));
        }
        for response in responses {
            if let Some(other) = response.get("same_as") {
                let same = answers[&(text(other), text(&response["path"]))].clone();
                answers.insert((text(&response["token"]), text(&response["path"])), same);
            }
        }
        Self { index, answers: Arc::new(answers) }
    }

    /// The heartbeat that Pulse itself showed at that moment; 5.1 has none.
    fn oracle(&self) -> Option<Json> {
        let preview = || self.json("full", "/api/system/settings/telemetry-preview")?.get("payload").cloned();
        self.index.get("oracle").cloned().or_else(preview)
    }

    fn json(&self, token: &str, path: &str) -> Option<Json> {
        let (status, body) = self.answers.get(&(token.to_owned(), path.to_owned()))?;
        (*status == 200).then(|| serde_json::from_slice(body).unwrap())
    }

    fn is_mock(&self) -> bool {
        self.index["env"]["PULSE_MOCK_MODE"] == "true"
    }

    fn tokens(&self) -> Tokens {
        if self.index.get("oracle").is_some() {
            Tokens::Organizations(["acme", "default"].map(|name| (name.to_owned(), name.into())).to_vec())
        } else {
            Tokens::One("full".into())
        }
    }

    async fn read(&self, tokens: Tokens, platform: PlatformSetting) -> Result<Reading, ReadError> {
        let answers = self.answers.clone();
        let pulse = FakePulse::new(move |asked| {
            let token = asked.headers.get("x-api-token").map_or("anonymous", String::as_str);
            let path = asked.line.strip_prefix("GET ").unwrap();
            match answers.get(&(token.to_owned(), path.to_owned())) {
                Some((status, body)) => answer(*status, body),
                None => answer(404, "404 page not found\n"),
            }
        });
        let settings = PulseSettings { platform, ..settings(tokens) };
        PulseClient::with_dial(settings, Box::new(pulse)).unwrap().read().await
    }
}

fn captures() -> Vec<(String, Capture)> {
    let name = |folder: &Path| folder.file_name().unwrap().to_str().unwrap().to_owned();
    captured::folders().iter().map(|folder| (name(folder), Capture::open(folder))).collect()
}

/// The counts by their names in the ping.
fn counts(snapshot: &Snapshot) -> [(&'static str, &Value<u32>); 8] {
    [
        ("pve_nodes", &snapshot.pve_nodes),
        ("pbs_instances", &snapshot.pbs_instances),
        ("pmg_instances", &snapshot.pmg_instances),
        ("vms", &snapshot.vms),
        ("containers", &snapshot.containers),
        ("docker_hosts", &snapshot.docker_hosts),
        ("kubernetes_clusters", &snapshot.kubernetes_clusters),
        ("active_alerts", &snapshot.active_alerts),
    ]
}

#[tokio::test]
async fn every_capture_with_an_oracle_is_read_as_pulse_read_itself() {
    for (name, capture) in captures() {
        let Some(oracle) = capture.oracle() else { continue };
        let platform = if oracle["platform"] == "docker" { PlatformSetting::Docker } else { PlatformSetting::Binary };
        let reading = capture.read(capture.tokens(), platform).await.unwrap();
        assert_eq!(reading.unknown(), Vec::<&_>::new(), "{name}");

        let snapshot = &reading.snapshot;
        for (what, count) in counts(snapshot) {
            assert_eq!(Json::from(*count.as_ref().unwrap()), oracle[what], "{name}: {what}");
        }
        let mut flags = vec![
            ("relay_enabled", &snapshot.relay_enabled),
            ("sso_enabled", &snapshot.sso_enabled),
            ("paid_license", &snapshot.paid_license),
            ("has_api_tokens", &snapshot.has_api_tokens),
        ];
        if !capture.is_mock() {
            flags.push(("ai_enabled", &snapshot.ai_enabled));
        }
        for (what, flag) in flags {
            assert_eq!(Json::from(*flag.as_ref().unwrap()), oracle[what], "{name}: {what}");
        }
        let version = snapshot.version.as_ref().unwrap();
        assert_eq!(version.version, oracle["version"], "{name}");
        assert_eq!(serde_json::to_value(version.channel).unwrap(), oracle["version_channel"], "{name}");
        assert_eq!(version.is_development, oracle["version_is_development"], "{name}");
        assert_eq!(version.is_published_release, oracle["version_is_published_release"], "{name}");
        let is_docker = snapshot.platform == Ok(Platform::Docker);
        assert_eq!(is_docker, oracle["platform"] == "docker", "{name}");
        // Pulse's preview says false always; its API tells the truth.
        let serves_many = capture.index["env"]["PULSE_MULTI_TENANT_ENABLED"] == "true";
        assert_eq!(snapshot.multi_tenant, Ok(serves_many), "{name}");
        assert_eq!(
            reading.state.uncounted_organizations,
            serves_many && capture.index.get("oracle").is_none(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_deciding_facts_are_those_of_each_capture() {
    for (name, capture) in captures() {
        let state = capture.read(capture.tokens(), PlatformSetting::Auto).await.unwrap().state;
        assert_eq!(state.mock_mode, Ok(capture.is_mock()), "{name}");
        assert_eq!(state.demo_mode, Ok(false), "{name}");
        let caller = if matches!(capture.tokens(), Tokens::One(_)) { "full" } else { "default" };
        let uptime = capture.json(caller, "/api/health").unwrap()["uptime"].as_f64().unwrap();
        assert_eq!(state.starting, Ok(uptime < 120.0), "{name}");
        let own_sender = match capture.index["env"]["PULSE_TELEMETRY"].as_str() {
            _ if name.starts_with("v5") => OwnSender::Absent,
            Some("false") => OwnSender::OffByEnvironment,
            _ if name.ends_with("opted-out-in-settings") => OwnSender::OffBySetting,
            _ => OwnSender::On,
        };
        assert_eq!(state.own_sender, Ok(own_sender), "{name}");
    }
}

#[tokio::test]
async fn pulse_5_is_counted_by_the_lengths_of_its_arrays() {
    let mut seen = 0;
    for (name, capture) in captures().into_iter().filter(|(name, _)| name.starts_with("v5")) {
        let reading = capture.read(Tokens::One("full".into()), PlatformSetting::Auto).await.unwrap();
        assert_eq!(reading.unknown(), Vec::<&_>::new(), "{name}");
        let state = capture.json("full", "/api/state").unwrap();
        let arrays = ["nodes", "pbs", "pmg", "vms", "containers", "dockerHosts", "kubernetesClusters"];
        for ((what, count), array) in counts(&reading.snapshot).into_iter().zip(arrays) {
            let length = state[array].as_array().map_or(0, Vec::len);
            assert_eq!(count.as_ref().map(|&count| count as usize), Ok(length), "{name}: {what}");
        }
        let alerts = capture.json("full", "/api/alerts/active").unwrap();
        assert_eq!(reading.snapshot.active_alerts, Ok(alerts.as_array().map_or(0, Vec::len) as u32), "{name}");
        // 5.1 has neither relay nor organizations.
        assert_eq!(reading.snapshot.relay_enabled, Ok(false), "{name}");
        assert_eq!(reading.snapshot.multi_tenant, Ok(false), "{name}");
        assert_eq!(reading.snapshot.sso_enabled, Ok(false), "{name}");
        seen += 1;
    }
    assert!(seen > 0 || captured::folders().is_empty());
}

#[tokio::test]
async fn a_token_without_settings_read_names_all_that_it_cannot_read() {
    for (name, capture) in captures().into_iter().filter(|(name, _)| !name.ends_with("two-organizations")) {
        let reading = capture.read(Tokens::One("monitoring-only".into()), PlatformSetting::Auto).await.unwrap();
        let unknown = reading.unknown();
        let lacks = Reason::MissingScope(Scope::new("settings:read"));
        assert!(unknown.iter().all(|unknown| unknown.reason == lacks), "{name}: {unknown:?}");
        let mut expected = vec!["ai_enabled", "relay_enabled", "multi_tenant", "mock_mode", "own_sender"];
        if name.starts_with("v5") {
            expected.retain(|what| !matches!(*what, "relay_enabled" | "multi_tenant"));
        }
        if capture.is_mock() {
            expected.retain(|what| *what != "mock_mode");
        }
        assert_eq!(unknown.iter().map(|unknown| unknown.what).collect::<Vec<_>>(), expected, "{name}");
        assert_eq!(reading.snapshot.has_api_tokens, Ok(true), "{name}");
    }
}

#[tokio::test]
async fn without_a_token_pulse_is_unauthorized() {
    for (name, capture) in captures().into_iter().filter(|(name, _)| !name.ends_with("two-organizations")) {
        let outcome = capture.read(Tokens::None, PlatformSetting::Auto).await;
        assert_eq!(outcome, Err(ReadError::Unauthorized), "{name}");
    }
}
