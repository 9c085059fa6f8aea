//! Posture: what else may leave the installation, as Pulse's own settings say. Shown to people, never sent.
//!
//! It is made from the same answers as a [`Reading`](pulse_telemetry_core::observation::Reading), beside it and never
//! as a part of it: the engine, the ping, the sender and the store have no way to name anything of this module. Names
//! come from lists that are fixed here, so that what is shown of Pulse's text is one host name, which is held by a type
//! of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::Uri;
use pulse_telemetry_core::observation::{Reason, Unknown, Value};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Number;

use crate::pulse::answers::{Answers, Estate, PulseAnswer, whole};
use crate::pulse::shapes::{self, JsonField, Settings, Shape, Stats};

/// The providers that Pulse is known to offer, by its own names.
const PROVIDERS: [&str; 15] = [
    "anthropic",
    "cerebras",
    "claude-subscription",
    "codex-subscription",
    "deepseek",
    "fireworks",
    "gemini",
    "groq",
    "mistral",
    "ollama",
    "openai",
    "openrouter",
    QUICKSTART,
    "together",
    "zai",
];
/// What Pulse's makers host for a try.
const QUICKSTART: &str = "quickstart";

const SENSITIVITIES: [&str; 4] = ["public", "internal", "sensitive", "restricted"];
const ROUTINGS: [&str; 3] = ["cloud-summary", "local-first", "local-only"];
const REDACTIONS: [&str; 5] = ["hostname", "alias", "ip-address", "platform-id", "path"];

/// The longest host name that the DNS has.
const HOST_MAX: usize = 253;

/// What else may leave the installation. Each part is known, or unknown for a named reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posture {
    /// AI features and their providers.
    pub ai: Value<AiPosture>,
    /// The relay for remote access.
    pub relay: Value<RelayPosture>,
    /// How Pulse looks for new versions of itself.
    pub updates: Value<Updates>,
    /// How many resources each of Pulse's data-handling rules covers; `None` where this Pulse has no such rules.
    pub data_handling: Value<Option<DataHandling>>,
}

/// AI features.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AiPosture {
    /// They are on. While they are off no provider is asked anything.
    pub enabled: bool,
    /// The providers that are configured, in the order of their names.
    pub providers: Vec<Provider>,
    /// How many more there are that this program does not know the names of. They are not taken to be local.
    pub other_providers: usize,
}

/// One AI provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Provider {
    /// Its name, as Pulse spells it.
    pub name: &'static str,
    /// It is at an address or a name of the own network, so what it is asked stays there.
    pub local: bool,
}

/// The relay.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RelayPosture {
    /// Whether Pulse connects to it.
    pub state: RelayState,
    /// Where it is; `None` where Pulse names no host, or none that can be shown.
    pub host: Option<RelayHost>,
}

/// Whether Pulse connects to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayState {
    /// It does.
    On,
    /// It does not.
    Off,
    /// It does not, for its licence does not include that.
    NotLicensed,
    /// This Pulse has none.
    Absent,
}

/// The host of the relay's endpoint: the one text of Pulse's that this module keeps.
///
/// Only what can stand in a host name or an address gets through, 253 bytes at most, and neither port, path nor user
/// name. It can be printed and put into JSON, for a person to read; its `Debug` hides it, so that it cannot get into a
/// log by accident.
#[derive(Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct RelayHost(String);

/// How Pulse looks for new versions of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Updates {
    /// It looks for them by itself, and installs them.
    pub automatic: bool,
    /// Which versions it looks for.
    pub channel: UpdateChannel,
}

/// Which versions Pulse looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateChannel {
    /// Releases.
    Stable,
    /// Release candidates too.
    Rc,
    /// One that this program does not know.
    Other,
    /// None is set, which leaves it to Pulse.
    Unset,
}

/// How many resources each of Pulse's rules covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DataHandling {
    /// All resources that the rules were applied to.
    pub resources: u32,
    /// By how sensitive they are.
    pub sensitivity: Covered,
    /// By where what is known of them may go.
    pub routing: Covered,
    /// By what is taken out before it goes.
    pub redaction: Covered,
}

/// Resources by rule: known rules in their order, and how many the unknown ones cover, as `other`. Rules that cover
/// none are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covered(pub Vec<(&'static str, u32)>);

impl Serialize for Covered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (rule, resources) in &self.0 {
            map.serialize_entry(rule, resources)?;
        }
        map.end()
    }
}

impl RelayHost {
    /// The host of that URL.
    #[must_use]
    pub fn of(url: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        let host = url.host()?;
        let plausible = (1..=HOST_MAX).contains(&host.len())
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
        plausible.then(|| Self(host.to_owned()))
    }
}

impl fmt::Display for RelayHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelayHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayHost(hidden)")
    }
}

impl Posture {
    /// What is unknown.
    pub fn unknown(&self) -> impl Iterator<Item = &Unknown> {
        [
            self.ai.as_ref().err(),
            self.relay.as_ref().err(),
            self.updates.as_ref().err(),
            self.data_handling.as_ref().err(),
        ]
        .into_iter()
        .flatten()
    }
}

/// What the answers say of it. As for a ping, nothing is invented: what no answer says is unknown.
pub(crate) fn read(answers: &Answers) -> Posture {
    Posture {
        ai: named::<shapes::Ai, _>("ai", ai(&answers.ai)),
        relay: named::<shapes::Relay, _>("relay", relay(&answers.relay)),
        updates: named::<Settings, _>("updates", setting(&answers.settings, updates)),
        data_handling: named::<Stats, _>("data_handling", data_handling(&answers.estates)),
    }
}

fn named<S: Shape, T>(what: &'static str, value: Result<T, Reason>) -> Value<T> {
    value.map_err(|reason| Unknown { what, request: S::REQUEST, reason })
}

fn ai(answer: &PulseAnswer<shapes::Ai>) -> Result<AiPosture, Reason> {
    let ai = match answer {
        Ok(ai) => ai,
        // Neither there nor licensed: then it is off, as for the ping.
        Err(Reason::Status(404 | 402)) => {
            return Ok(AiPosture { enabled: false, providers: Vec::new(), other_providers: 0 });
        }
        Err(reason) => return Err(reason.clone()),
    };
    let mut names: Vec<&str> = Vec::new();
    names.extend(ai.configured_providers.required()?.iter().flatten().map(String::as_str));
    if *ai.using_quickstart.or(&false)? {
        names.push(QUICKSTART);
    }
    let mut providers = Vec::new();
    let mut other_providers = 0;
    for name in names {
        match PROVIDERS.into_iter().find(|known| *known == name) {
            Some(name) => providers.push(Provider { name, local: is_local(name, ai)? }),
            None => other_providers += 1,
        }
    }
    providers.sort_unstable();
    providers.dedup();
    Ok(AiPosture { enabled: *ai.enabled.required()?, providers, other_providers })
}

/// Some providers are wherever the operator says.
fn is_local(provider: &str, ai: &shapes::Ai) -> Result<bool, Reason> {
    let (url, unset) = match provider {
        "ollama" => (&ai.ollama_base_url, true),
        "openai" => (&ai.openai_base_url, false),
        "zai" => (&ai.zai_base_url, false),
        _ => return Ok(false),
    };
    match url {
        JsonField::Absent => Ok(unset),
        url => Ok(url.required().map(String::as_str).map(|url| if url.is_empty() { unset } else { is_near(url) })?),
    }
}

/// Whether the URL's host is this machine or in the own network, as far as its spelling tells.
fn is_near(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return false };
    let Some(host) = url.host() else { return false };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return address.is_loopback() || address.is_private() || address.is_link_local();
    }
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<Ipv6Addr>() {
        return address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local();
    }
    // Resolvers take such a name for an address, which may be anywhere.
    let is_a_number = host.bytes().all(|b| b.is_ascii_digit()) || host.starts_with("0x");
    let of_the_own_network = [".localhost", ".local", ".lan", ".internal", ".home.arpa"];
    (!host.contains('.') && !is_a_number) || of_the_own_network.iter().any(|end| host.ends_with(end))
}

fn relay(answer: &PulseAnswer<shapes::Relay>) -> Result<RelayPosture, Reason> {
    match answer {
        Ok(relay) => {
            let state = if *relay.enabled.required()? { RelayState::On } else { RelayState::Off };
            Ok(RelayPosture { state, host: RelayHost::of(relay.server_url.or(&String::new())?) })
        }
        Err(Reason::Status(404)) => Ok(RelayPosture { state: RelayState::Absent, host: None }),
        Err(Reason::Status(402)) => Ok(RelayPosture { state: RelayState::NotLicensed, host: None }),
        Err(reason) => Err(reason.clone()),
    }
}

/// Pulse leaves out settings that are false or were never made; where there are no settings at all (404), none is.
fn setting<T>(answer: &PulseAnswer<Settings>, read: impl FnOnce(&Settings) -> Result<T, Reason>) -> Result<T, Reason> {
    match answer {
        Ok(settings) => read(settings),
        Err(Reason::Status(404)) => read(&Settings::default()),
        Err(reason) => Err(reason.clone()),
    }
}

fn updates(settings: &Settings) -> Result<Updates, Reason> {
    let channel = match settings.update_channel.or(&String::new())?.as_str() {
        "" => UpdateChannel::Unset,
        "stable" => UpdateChannel::Stable,
        "rc" => UpdateChannel::Rc,
        _ => UpdateChannel::Other,
    };
    Ok(Updates { automatic: *settings.auto_update_enabled.or(&false)?, channel })
}

fn data_handling(estates: &[Estate]) -> Result<Option<DataHandling>, Reason> {
    let mut sum: Option<DataHandling> = None;
    for estate in estates {
        let posture = match estate {
            Estate::V6 { stats: Stats { policy_posture: JsonField::Absent, .. }, .. } | Estate::V5 { .. } => {
                continue;
            }
            Estate::V6 { stats, .. } => &stats.policy_posture.required()?.0,
            Estate::Unread(reason) => return Err(reason.clone()),
        };
        let sum = sum.get_or_insert_default();
        sum.resources = sum.resources.saturating_add(whole(posture.total_resources.required()?)?);
        sum.sensitivity.add(posture.sensitivity.required()?, &SENSITIVITIES)?;
        sum.routing.add(posture.routing.required()?, &ROUTINGS)?;
        sum.redaction.add(posture.redaction.required()?, &REDACTIONS)?;
    }
    Ok(sum)
}

impl Covered {
    fn add(&mut self, counts: &BTreeMap<String, Number>, known: &[&'static str]) -> Result<(), Reason> {
        let mut other = 0_u32;
        let mut found: BTreeMap<&str, u32> = self.0.drain(..).collect();
        for (rule, count) in counts {
            let count = whole(count)?;
            let total = match known.iter().find(|known| *known == rule) {
                Some(rule) => found.entry(rule).or_default(),
                None => &mut other,
            };
            *total = total.saturating_add(count);
        }
        let before = found.remove(OTHER).unwrap_or_default();
        self.0 = known.iter().filter_map(|rule| Some((*rule, found.remove(rule)?))).collect();
        self.0.push((OTHER, other.saturating_add(before)));
        self.0.retain(|(_, resources)| *resources > 0);
        Ok(())
    }
}

/// Rules that this program does not know.
const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_told_from_what_is_not_by_its_spelling_alone() {
        for url in [
            "http://localhost:11434",
            "http://127.0.0.1:11434/v1",
            "http://[::1]:1234",
            "http://10.1.2.3",
            "http://192.168.1.5:8080",
            "http://[fd00::5]/v1",
            "http://ollama:11434",
            "http://GPU.lan",
            "http://box.home.arpa.:80",
            "http://host.docker.internal:11434",
        ] {
            assert!(is_near(url), "{url}");
        }
        for url in [
            "https://api.openai.com/v1",
            "https://ollama.example.com",
            "http://203.0.113.9:11434",
            "http://100.64.0.7",
            "http://[2001:db8::1]",
            "http://localhost.example.com",
            "",
            "not a url",
            "/v1",
        ] {
            assert!(!is_near(url), "{url}");
        }
    }

    #[test]
    fn of_the_relays_url_only_a_host_gets_through_and_no_debug_output_shows_it() {
        let host = |url: &str| RelayHost::of(url).map(|host| host.to_string());
        assert_eq!(host("wss://relay.pulserelay.pro/ws/instance").as_deref(), Some("relay.pulserelay.pro"));
        assert_eq!(host("wss://user:secret@relay.example:8443/ws?token=t").as_deref(), Some("relay.example"));
        assert_eq!(host("wss://[2001:db8::1]:443/").as_deref(), Some("[2001:db8::1]"));
        for url in ["", "/path", "wss:///x", "wss://a b/", "wss://<script>/", "wss://a_b/"] {
            assert_eq!(host(url), None, "{url}");
        }
        assert_eq!(host(&format!("wss://{}/", "a".repeat(254))), None);
        assert_eq!(format!("{:?}", RelayHost::of("wss://relay.example/")), "Some(RelayHost(hidden))");
    }
}
