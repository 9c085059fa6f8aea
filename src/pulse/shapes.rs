//! What is read of Pulse's small answers: the keys that say something for the ping, and nothing else.
//!
//! Keys that are not listed are passed over. A key of another type than Pulse gives it makes only itself unreadable.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use pulse_telemetry_core::observation::Reason;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What one request tells.
pub(crate) trait Shape: DeserializeOwned {
    /// The request, method and path; its path is asked for and its name is shown to people.
    const REQUEST: &'static str;
    /// The most bytes that such an answer has.
    const MAX: usize = 256 * 1024;
    /// A status beside 200 whose body says the same.
    const ALSO_WITH: Option<u16> = None;

    /// What a body says.
    fn parse(body: &[u8]) -> Result<Self, Reason> {
        parse(body)
    }
}

/// A key of an answer.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum JsonField<T> {
    /// The answer does not have it.
    #[default]
    Absent,
    /// It is of another type than Pulse gives it.
    Wrong,
    /// What it says.
    Is(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonField<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either<T> {
            Is(T),
            Wrong(IgnoredAny),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Is(value) => Self::Is(value),
            Either::Wrong(_) => Self::Wrong,
        })
    }
}

impl<T> JsonField<T> {
    /// The value, where it must be there.
    pub(crate) fn required(&self) -> Result<&T, Reason> {
        match self {
            Self::Is(value) => Ok(value),
            Self::Absent | Self::Wrong => Err(Reason::WrongShape),
        }
    }

    /// The value, or what an absent one means.
    pub(crate) fn or<'a>(&'a self, absent: &'a T) -> Result<&'a T, Reason> {
        match self {
            Self::Absent => Ok(absent),
            Self::Is(_) | Self::Wrong => self.required(),
        }
    }
}

/// A JSON object. Without this, serde would read an array as one too, by the order of the keys.
#[derive(PartialEq)]
pub(crate) struct JsonObject<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = JsonObject<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(JsonObject)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// A list of which only the length matters. Its elements take no memory.
pub(crate) type List = Vec<IgnoredAny>;

/// How Pulse is doing.
#[derive(Default, Deserialize, PartialEq)]
pub(crate) struct Health {
    /// How long Pulse has been up, in seconds.
    #[serde(default)]
    pub(crate) uptime: JsonField<f64>,
}

impl Shape for Health {
    const REQUEST: &'static str = "GET /api/health";
    // Up to 6.0.0-rc.6 Pulse says 503, with the whole body, while its scheduler has given up on anything.
    const ALSO_WITH: Option<u16> = Some(503);
}

/// Which build is running, and how.
#[derive(Default, Deserialize, PartialEq)]
pub(crate) struct Version {
    #[serde(default)]
    pub(crate) version: JsonField<String>,
    #[serde(default, rename = "isDocker")]
    pub(crate) is_docker: JsonField<bool>,
    /// `mock` while Pulse shows mock data.
    #[serde(default, rename = "deploymentType")]
    pub(crate) deployment_type: JsonField<String>,
}

impl Shape for Version {
    const REQUEST: &'static str = "GET /api/version";
}

/// How people sign in, and who is shown what.
#[derive(Default, Deserialize, PartialEq)]
pub(crate) struct Security {
    /// Pulse asks for a token or a login. Before its set-up it does not, and answers with any token.
    #[serde(default, rename = "requiresAuth")]
    pub(crate) requires_auth: JsonField<bool>,
    /// Pulse 6.
    #[serde(default, rename = "ssoEnabled")]
    pub(crate) sso_enabled: JsonField<bool>,
    /// Pulse 5.
    #[serde(default, rename = "oidcEnabled")]
    pub(crate) oidc_enabled: JsonField<bool>,
    /// Pulse 5. A list that was never made is null.
    #[serde(default, rename = "ssoProviders")]
    pub(crate) sso_providers: JsonField<Option<List>>,
    /// Absent in 5.1.
    #[serde(default, rename = "presentationPolicy")]
    pub(crate) presentation_policy: JsonField<JsonObject<PresentationPolicy>>,
}

impl Shape for Security {
    const REQUEST: &'static str = "GET /api/security/status";
}

#[derive(Deserialize, PartialEq)]
pub(crate) struct PresentationPolicy {
    #[serde(default, rename = "demoMode")]
    pub(crate) demo_mode: JsonField<bool>,
}

/// Pulse's settings: whether its own sender is on, and who says so; its updates; what it says of its commercial side.
#[derive(Default, Deserialize)]
pub(crate) struct Settings {
    /// The value in effect; absent before 6.0, which has no sender.
    #[serde(default, rename = "telemetryEnabled")]
    pub(crate) telemetry_enabled: JsonField<bool>,
    #[serde(default, rename = "envOverrides")]
    pub(crate) env_overrides: JsonField<Option<JsonObject<EnvOverrides>>>,
    /// `stable` or `rc`.
    #[serde(default, rename = "updateChannel")]
    pub(crate) update_channel: JsonField<String>,
    #[serde(default, rename = "autoUpdateEnabled")]
    pub(crate) auto_update_enabled: JsonField<bool>,
    /// Local-only commercial events are off. What is false may be absent, here and below.
    #[serde(default, rename = "disableLocalUpgradeMetrics")]
    pub(crate) disable_local_upgrade_metrics: JsonField<bool>,
    #[serde(default, rename = "reduceProUpsellNoise")]
    pub(crate) reduce_pro_upsell_noise: JsonField<bool>,
}

impl Shape for Settings {
    const REQUEST: &'static str = "GET /api/system/settings";
}

/// Which settings Pulse's environment decides.
#[derive(Deserialize)]
pub(crate) struct EnvOverrides {
    #[serde(default, rename = "PULSE_TELEMETRY")]
    pub(crate) variable: JsonField<bool>,
    #[serde(default, rename = "telemetryEnabled")]
    pub(crate) setting: JsonField<bool>,
}

#[derive(Deserialize)]
pub(crate) struct MockMode {
    #[serde(default)]
    pub(crate) enabled: JsonField<bool>,
}

impl Shape for MockMode {
    const REQUEST: &'static str = "GET /api/system/mock-mode";
}

#[derive(Deserialize)]
pub(crate) struct Ai {
    #[serde(default)]
    pub(crate) enabled: JsonField<bool>,
    /// A list that was never made is null.
    #[serde(default)]
    pub(crate) configured_providers: JsonField<Option<Vec<String>>>,
    #[serde(default)]
    pub(crate) ollama_base_url: JsonField<String>,
    #[serde(default)]
    pub(crate) openai_base_url: JsonField<String>,
    #[serde(default)]
    pub(crate) zai_base_url: JsonField<String>,
    #[serde(default)]
    pub(crate) using_quickstart: JsonField<bool>,
}

impl Shape for Ai {
    const REQUEST: &'static str = "GET /api/settings/ai";
}

#[derive(Deserialize)]
pub(crate) struct Relay {
    #[serde(default)]
    pub(crate) enabled: JsonField<bool>,
    #[serde(default)]
    pub(crate) server_url: JsonField<String>,
}

impl Shape for Relay {
    const REQUEST: &'static str = "GET /api/settings/relay";
}

#[derive(Deserialize)]
pub(crate) struct License {
    /// `free`, or what was paid for.
    #[serde(default)]
    pub(crate) tier: JsonField<String>,
}

impl Shape for License {
    const REQUEST: &'static str = "GET /api/license/status";
}

#[derive(Deserialize)]
pub(crate) struct ApiTokens {
    #[serde(default)]
    pub(crate) tokens: JsonField<Option<List>>,
}

impl Shape for ApiTokens {
    const REQUEST: &'static str = "GET /api/security/tokens";
}

/// How many resources there are. Pulse 6 and 5 both answer, each in its own words.
#[derive(Deserialize)]
pub(crate) struct Stats {
    /// Only Pulse 6 has it.
    #[serde(default)]
    pub(crate) total: JsonField<IgnoredAny>,
    /// Only Pulse 5 has it.
    #[serde(default, rename = "totalResources")]
    pub(crate) total_resources: JsonField<IgnoredAny>,
    #[serde(default, rename = "byType")]
    pub(crate) by_type: JsonField<JsonObject<ByType>>,
    /// Only Pulse 6 has it.
    #[serde(default, rename = "policyPosture")]
    pub(crate) policy_posture: JsonField<JsonObject<PolicyPosture>>,
}

impl Shape for Stats {
    const REQUEST: &'static str = "GET /api/resources/stats";
}

/// How many resources each data-handling rule covers, by Pulse's names of the rules.
#[derive(Deserialize)]
pub(crate) struct PolicyPosture {
    #[serde(default, rename = "totalResources")]
    pub(crate) total_resources: JsonField<serde_json::Number>,
    #[serde(default, rename = "sensitivityCounts")]
    pub(crate) sensitivity: JsonField<BTreeMap<String, serde_json::Number>>,
    #[serde(default, rename = "routingCounts")]
    pub(crate) routing: JsonField<BTreeMap<String, serde_json::Number>>,
    #[serde(default, rename = "redactionCounts")]
    pub(crate) redaction: JsonField<BTreeMap<String, serde_json::Number>>,
}

/// What Pulse 6's own ping counts, of one organization. Names in it are passed over.
#[derive(Deserialize)]
pub(crate) struct Summary {
    #[serde(default, rename = "activeAlerts")]
    pub(crate) active_alerts: JsonField<serde_json::Number>,
    #[serde(default)]
    pub(crate) nodes: JsonField<serde_json::Number>,
    #[serde(default)]
    pub(crate) vms: JsonField<serde_json::Number>,
    #[serde(default)]
    pub(crate) containers: JsonField<serde_json::Number>,
    /// Null where Pulse has no state at all yet.
    #[serde(default, rename = "dockerHosts")]
    pub(crate) docker_hosts: JsonField<Option<List>>,
}

impl Shape for Summary {
    const REQUEST: &'static str = "GET /api/state/summary";
    // A Docker host takes some 100 bytes.
    const MAX: usize = 1024 * 1024;
}

/// The types that are counted, in Pulse 6's names; one that is absent has no resources.
#[derive(Deserialize)]
pub(crate) struct ByType {
    #[serde(default)]
    pub(crate) pbs: JsonField<serde_json::Number>,
    #[serde(default)]
    pub(crate) pmg: JsonField<serde_json::Number>,
    #[serde(default)]
    pub(crate) vm: JsonField<serde_json::Number>,
    #[serde(default, rename = "system-container")]
    pub(crate) system_container: JsonField<serde_json::Number>,
    #[serde(default, rename = "k8s-cluster")]
    pub(crate) k8s_cluster: JsonField<serde_json::Number>,
}

/// One Proxmox VE node, and how many there are. Only builds without [`Summary`] are asked.
#[derive(Deserialize)]
pub(crate) struct Nodes {
    #[serde(default)]
    pub(crate) meta: JsonField<JsonObject<Meta>>,
}

impl Shape for Nodes {
    const REQUEST: &'static str = "GET /api/resources?type=agent&source=proxmox&limit=1";
    const MAX: usize = 1024 * 1024;
}

/// One agent with Docker, and how many there are. Only builds without [`Summary`] are asked.
#[derive(Deserialize)]
pub(crate) struct DockerHosts {
    #[serde(default)]
    pub(crate) meta: JsonField<JsonObject<Meta>>,
}

impl Shape for DockerHosts {
    const REQUEST: &'static str = "GET /api/resources?type=agent,docker-host&source=docker&limit=1";
    const MAX: usize = 1024 * 1024;
}

#[derive(Deserialize)]
pub(crate) struct Meta {
    #[serde(default)]
    pub(crate) total: JsonField<serde_json::Number>,
}

/// The ping that Pulse would send itself. Only the command that compares asks for it.
#[derive(Deserialize)]
pub(crate) struct OwnPreview {
    #[serde(default)]
    pub(crate) payload: JsonField<serde_json::Map<String, serde_json::Value>>,
}

impl Shape for OwnPreview {
    const REQUEST: &'static str = "GET /api/system/settings/telemetry-preview";
}

/// The organizations that the asking token reaches.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Organizations(pub(crate) Vec<JsonObject<Organization>>);

/// One organization. Its other members, names among them, are passed over.
#[derive(Deserialize)]
pub(crate) struct Organization {
    pub(crate) id: String,
}

impl Shape for Organizations {
    const REQUEST: &'static str = "GET /api/orgs";
    const MAX: usize = 1024 * 1024;

    fn parse(body: &[u8]) -> Result<Self, Reason> {
        let listed: Self = serde_json::from_slice(body).map_err(|error| reason(&error))?;
        if listed.0.iter().any(|JsonObject(organization)| organization.id.is_empty()) {
            return Err(Reason::WrongShape);
        }
        Ok(listed)
    }
}

/// Why Pulse refuses: the body of a 403.
#[derive(Deserialize)]
pub(crate) struct MissingScope {
    pub(crate) error: String,
    #[serde(rename = "requiredScope")]
    pub(crate) required_scope: String,
}

/// The active alerts, counted while they arrive.
pub(crate) const ALERTS: &str = "GET /api/alerts/active";
/// Pulse 5's whole state, counted while it arrives.
pub(crate) const STATE: &str = "GET /api/state";

/// The arrays of [`STATE`] that are counted, in the contract's order.
pub(crate) const STATE_MEMBERS: &[&str] =
    &["nodes", "pbs", "pmg", "vms", "containers", "dockerHosts", "kubernetesClusters"];

/// What an answer's body says.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Reason> {
    serde_json::from_slice(body).map(|JsonObject(answer)| answer).map_err(|error| reason(&error))
}

fn reason(error: &serde_json::Error) -> Reason {
    match error.classify() {
        serde_json::error::Category::Eof => Reason::CutShort,
        serde_json::error::Category::Data => Reason::WrongShape,
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => Reason::NotJson,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_type_makes_only_itself_unreadable() {
        let version: Version = parse(br#"{"version":"6.3.0","isDocker":"yes","other":[{}]}"#).unwrap();
        assert_eq!(version.version, JsonField::Is("6.3.0".to_owned()));
        assert_eq!(version.is_docker, JsonField::Wrong);
        assert_eq!(version.deployment_type, JsonField::Absent);
    }

    #[test]
    fn null_is_not_absent() {
        assert_eq!(parse::<MockMode>(br#"{"enabled":null}"#).unwrap().enabled, JsonField::Wrong);
    }

    #[test]
    fn nonsense_a_wrong_shape_and_an_early_end_are_told_apart() {
        assert_eq!(parse::<Ai>(b"<html>").err(), Some(Reason::NotJson));
        for other in ["[]", "[true]", "\"on\"", "null", "7"] {
            assert_eq!(parse::<Ai>(other.as_bytes()).err(), Some(Reason::WrongShape), "{other}");
        }
        assert_eq!(parse::<Ai>(b"{\"enabled\":").err(), Some(Reason::CutShort));
    }
}
