//! How Pulse's answers make a [`Posture`].

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::Uri;
use pulse_telemetry_core::observation::Reason;
use serde_json::Number;

use super::answers::{Answers, Estate, PulseAnswer, known_from, to_count};
use super::shapes::{self, JsonField, Settings, Stats};
use crate::posture::{
    AiPosture, Covered, DataHandling, Posture, Provider, RelayHost, RelayPosture, RelayState, UpdateChannel, Updates,
};

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

/// What the answers say of it. As for a ping, nothing is invented: what no answer says is unknown.
pub(super) fn read(answers: &Answers) -> Posture {
    Posture {
        ai: known_from::<shapes::Ai, _>("ai", ai(&answers.ai)),
        relay: known_from::<shapes::Relay, _>("relay", relay(&answers.relay)),
        updates: known_from::<Settings, _>("updates", setting(&answers.settings, updates)),
        data_handling: known_from::<Stats, _>("data_handling", data_handling(&answers.estates)),
    }
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
        sum.resources = sum.resources.saturating_add(to_count(posture.total_resources.required()?)?);
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
            let count = to_count(count)?;
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
}
