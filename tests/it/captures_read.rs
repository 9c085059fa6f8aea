//! Recorded answers of real Pulse builds are read as Pulse itself reads them: its own preview is the judge.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::path::PathBuf;
use std::time::Duration;

use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, Tokens};
use pulse_telemetry_core::contract;
use pulse_telemetry_core::contract::Values;
use pulse_telemetry_core::observation::{OwnSender, ReadError, Reading, Reason, Scope};
use pulse_telemetry_core::ping::Event;
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_testkit::readings::ping;
use pulse_telemetry_testkit::reduced;
use pulse_telemetry_testkit::replay::{self, A_DAY, Replay};
use serde_json::{Map, Value, json};

#[tokio::test]
async fn every_capture_with_an_oracle_is_read_field_for_field_as_pulse_read_itself() {
    let test = "every_capture_with_an_oracle_is_read_field_for_field_as_pulse_read_itself";
    let mut seen = 0;
    for capture in captures() {
        let Some(oracle) = replay::oracle(&capture.path) else { continue };
        let reading = capture.read(capture.tokens(), capture.platform()).await.unwrap();
        assert_eq!(reading.unknown(), Vec::<&_>::new(), "{}", capture.name);
        // With the ID that Pulse had, the whole ping is to be the same.
        let id = oracle["install_id"].as_str().unwrap();
        let ping: Value = serde_json::from_str(&ping(&reading, id, Event::Heartbeat)).unwrap();
        assert_eq!(ping, capture.expected(&oracle, &ping), "{}", capture.name);
        seen += 1;
    }
    replay::compared(test, seen);
}

#[tokio::test]
async fn organizations_are_summed_and_one_of_them_alone_is_not_the_whole() {
    let mut seen = 0;
    for capture in captures().into_iter().filter(Capture::has_organizations) {
        let both = capture.read(capture.tokens(), PlatformSetting::Auto).await.unwrap();
        let of = async |name: &str| capture.read(Tokens::One(name.into()), PlatformSetting::Auto).await.unwrap();
        let (default, acme) = (of("default").await, of("acme").await);
        let (one, other) = (counts(&default.values()), counts(&acme.values()));
        let sum: Vec<_> = one.iter().zip(other).map(|(one, other)| one + other).collect();
        assert_eq!(counts(&both.values()), sum, "{}", capture.name);
        assert!(one != sum, "the other organization has something");
        for alone in [default, acme] {
            let unknown: Vec<_> =
                alone.unknown().iter().map(|unknown| (unknown.what, unknown.reason.clone())).collect();
            assert_eq!(unknown, [("organizations", Reason::OrganizationsNotConfigured)], "{}", capture.name);
            assert!(alone.known().is_err(), "{}", capture.name);
        }
        seen += 1;
    }
    assert!(seen >= 2);
}

#[tokio::test]
async fn a_reading_asks_at_most_20_kb_of_pulse_plus_its_settings_however_large_the_estate_is() {
    let test = "a_reading_asks_at_most_20_kb_of_pulse_plus_its_settings_however_large_the_estate_is";
    let mut seen = 0;
    for capture in captures() {
        capture.read(capture.tokens(), capture.platform()).await.unwrap();
        let (mut settings, mut others, mut has_summary) = (0, 0, false);
        for request in capture.replay.server.requests() {
            let told = replay::told(&capture.path, &replay::token_of(&request).unwrap(), &request.target);
            let Some(told) = told else { continue };
            has_summary |= request.path() == "/api/state/summary" && told.status == 200;
            *if request.path().contains("settings") { &mut settings } else { &mut others } += told.body.len();
        }
        if !has_summary {
            continue;
        }
        assert!(others <= 20_000, "{}: {others}", capture.name);
        assert!(settings + others <= 40_000, "{}: {settings} and {others}", capture.name);
        seen += 1;
    }
    replay::compared(test, seen);
}

#[test]
fn the_reduced_captures_among_the_fixtures_are_those_of_the_shared_folder() {
    let mut compared = 0;
    for (path, content) in reduced::fixtures() {
        match std::fs::read_to_string(&path) {
            Ok(found) => assert!(found == content, "{} is out of date: run `make generate`", path.display()),
            Err(_) => {
                println!("{} is not among the fixtures yet: `make generate` makes it", path.display());
                continue;
            }
        }
        compared += 1;
    }
    if replay::shared_or_skip("the_reduced_captures_among_the_fixtures_are_those_of_the_shared_folder").is_some() {
        replay::compared("the_reduced_captures_among_the_fixtures_are_those_of_the_shared_folder", compared);
    }
}

#[tokio::test]
async fn the_deciding_facts_are_those_of_each_capture() {
    for capture in captures() {
        let name = &capture.name;
        let state = capture.read(capture.tokens(), PlatformSetting::Auto).await.unwrap().gate;
        assert_eq!(state.mock_mode, Ok(capture.is_mock()), "{name}");
        assert_eq!(state.demo_mode, Ok(capture.env("DEMO_MODE") == Some("true")), "{name}");
        assert_eq!(state.starting, Ok(false), "{name}");
        let own_sender = match capture.env("PULSE_TELEMETRY") {
            _ if capture.is_five() => OwnSender::Absent,
            Some("false") => OwnSender::OffByEnvironment,
            Some(_) => OwnSender::On,
            // Then its settings decide.
            None if capture.answer_to(capture.token(), "/api/system/settings")["telemetryEnabled"] == false => {
                OwnSender::OffBySetting
            }
            None => OwnSender::On,
        };
        assert_eq!(state.own_sender, Ok(own_sender), "{name}");

        let just_started = Replay::start(&capture.path, 30);
        let state = read(&just_started, capture.tokens(), PlatformSetting::Auto).await.unwrap().gate;
        assert_eq!(state.starting, Ok(true), "{name}");
    }
}

#[tokio::test]
async fn pulse_5_is_counted_by_the_lengths_of_its_arrays() {
    let mut seen = 0;
    let test = "pulse_5_is_counted_by_the_lengths_of_its_arrays";
    for capture in captures().into_iter().filter(Capture::is_five) {
        let name = &capture.name;
        let reading = capture.read(capture.tokens(), PlatformSetting::Auto).await.unwrap();
        assert_eq!(reading.unknown(), Vec::<&_>::new(), "{name}");
        let state = capture.answer_to("full", "/api/state");
        let arrays = ["nodes", "pbs", "pmg", "vms", "containers", "dockerHosts", "kubernetesClusters"];
        let mut lengths: Vec<_> = arrays.iter().map(|array| state[array].as_array().map_or(0, Vec::len)).collect();
        lengths.push(capture.answer_to("full", "/api/alerts/active").as_array().map_or(0, Vec::len));
        assert_eq!(counts(&reading.values()), lengths, "{name}");
        // What the person who made the capture counted.
        if let Some(counted) = capture.index.get("counts") {
            let counted = COUNTS.map(|field| usize::try_from(counted[field].as_u64().unwrap()).unwrap());
            assert_eq!(lengths, counted, "{name}");
        }
        // 5.1 has neither relay nor organizations.
        assert_eq!(reading.values().relay_enabled, Ok(false), "{name}");
        assert_eq!(reading.values().multi_tenant, Ok(false), "{name}");
        assert_eq!(reading.values().sso_enabled, Ok(false), "{name}");
        let ai = capture.answer_to("full", "/api/settings/ai")["enabled"].as_bool().unwrap();
        assert_eq!(reading.values().ai_enabled, Ok(ai), "{name}");
        let paid = capture.answer_to("full", "/api/license/status")["tier"] != "free";
        assert_eq!(reading.values().paid_license, Ok(paid), "{name}");
        assert_eq!(reading.values().has_api_tokens, Ok(true), "{name}");
        seen += 1;
    }
    replay::compared(test, seen);
}

#[tokio::test]
async fn a_token_without_settings_read_names_all_that_it_cannot_read() {
    let test = "a_token_without_settings_read_names_all_that_it_cannot_read";
    let mut seen = 0;
    for capture in captures_of_three_callers() {
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
        assert!(reading.known().is_err(), "{name}");

        // What it may read is read as with the whole token.
        let full = capture.read(capture.tokens(), PlatformSetting::Auto).await.unwrap();
        let limited = Values {
            ai_enabled: full.values().ai_enabled.clone(),
            relay_enabled: full.values().relay_enabled.clone(),
            multi_tenant: full.values().multi_tenant.clone(),
            ..reading.values()
        };
        assert_eq!(limited, full.values(), "{name}");
        seen += 1;
    }
    replay::compared(test, seen);
}

#[tokio::test]
async fn without_a_token_that_is_known_pulse_is_unauthorized() {
    for capture in captures_of_three_callers() {
        for tokens in [Tokens::None, Tokens::One("nonsense".into())] {
            let outcome = capture.read(tokens, PlatformSetting::Auto).await;
            assert!(matches!(outcome, Err(ReadError::Unauthorized(_))), "{}: {outcome:?}", capture.name);
        }
    }
}

/// The counts, in the order of [`counts`].
const COUNTS: [&str; 8] = [
    "pve_nodes",
    "pbs_instances",
    "pmg_instances",
    "vms",
    "containers",
    "docker_hosts",
    "kubernetes_clusters",
    "active_alerts",
];

struct Capture {
    name: String,
    path: PathBuf,
    index: Value,
    replay: Replay,
}

/// Those of the shared folder, where it is there, and the reduced ones.
fn captures() -> impl IntoIterator<Item = Capture> {
    replay::recorded().into_iter().map(Capture::open)
}

/// Those that were asked with a whole token, with one that has `monitoring:read` alone, and with none, each of which
/// Pulse told apart.
fn captures_of_three_callers() -> impl Iterator<Item = Capture> {
    captures().into_iter().filter(|capture| !capture.has_organizations() && capture.asks_for_a_token())
}

impl Capture {
    fn open(path: PathBuf) -> Self {
        let name = if path.is_dir() { replay::name(&path) } else { format!("{}, reduced", replay::name(&path)) };
        Self { name, index: replay::index(&path), replay: Replay::start(&path, A_DAY), path }
    }

    fn pulse_version(&self) -> &str {
        self.index["pulse_version"].as_str().unwrap()
    }

    fn asks_for_a_token(&self) -> bool {
        self.answer_to("full", "/api/security/status")["requiresAuth"] == true
    }

    fn is_five(&self) -> bool {
        self.pulse_version() < "6"
    }

    fn env(&self, name: &str) -> Option<&str> {
        self.index["env"][name].as_str()
    }

    fn is_mock(&self) -> bool {
        self.env("PULSE_MOCK_MODE") == Some("true")
    }

    /// Whether each organization has a token of its own here.
    fn has_organizations(&self) -> bool {
        self.index.get("oracle").is_some()
    }

    /// The token that reads what holds for the whole installation.
    fn token(&self) -> &'static str {
        if self.has_organizations() { "default" } else { "full" }
    }

    /// As the operator of this Pulse would configure them.
    fn tokens(&self) -> Tokens {
        let organizations = replay::organizations(&self.path);
        if organizations.is_empty() {
            return Tokens::One("full".into());
        }
        Tokens::Organizations(organizations.into_iter().map(|(name, token)| (name, token.into())).collect())
    }

    /// The operator's word, where Pulse's API says of the captures' machine something else than Pulse says of itself:
    /// Pulse goes by `PULSE_DOCKER`.
    fn platform(&self) -> PlatformSetting {
        let by_api = self.answer_to(self.token(), "/api/version")["isDocker"] == true;
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
        expected["multi_tenant"] = json!(replay::serves_many(&self.path));
        if self.is_mock() {
            // Then the API says that AI is on, whatever was saved.
            expected["ai_enabled"] = json!(true);
        }
        // The API does not tell how an official build is stamped.
        if oracle["version_raw"] == json!(format!("v{}", oracle["version"].as_str().unwrap())) {
            expected.remove("version_raw");
        }
        // The captures' machine was Linux on x86-64; elsewhere the sidecar speaks of its own.
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            expected["os"] = own["os"].clone();
            expected["arch"] = own["arch"].clone();
        }
        Value::Object(expected)
    }

    /// What the caller with that token got.
    fn answer_to(&self, token: &str, target: &str) -> Value {
        replay::told_json(&self.path, token, target)
    }

    async fn read(&self, tokens: Tokens, platform: PlatformSetting) -> Result<Reading, ReadError> {
        read(&self.replay, tokens, platform).await
    }
}

async fn read(replay: &Replay, tokens: Tokens, platform: PlatformSetting) -> Result<Reading, ReadError> {
    let settings = PulseSettings {
        url: replay.server.url().parse().unwrap(),
        tokens,
        trust: Trust::default(),
        timeout: Duration::from_secs(60),
        platform,
    };
    PulseClient::new(settings).unwrap().read().await
}

/// The counts, all of which must be known.
fn counts(values: &Values) -> Vec<usize> {
    let counts = [
        &values.pve_nodes,
        &values.pbs_instances,
        &values.pmg_instances,
        &values.vms,
        &values.containers,
        &values.docker_hosts,
        &values.kubernetes_clusters,
        &values.active_alerts,
    ];
    counts.into_iter().map(|count| *count.as_ref().unwrap() as usize).collect()
}
