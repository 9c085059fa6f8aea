//! Posture: what else may leave the installation, as Pulse's own settings say. Shown to people, never sent.
//!
//! It is made from the same answers as a [`Reading`](pulse_telemetry_core::observation::Reading), beside it and never
//! as a part of it: the engine, the ping, the sender and the store have no way to name anything of this module. Names
//! come from lists that are fixed, so that what is shown of Pulse's text is one host name, which is held by a type
//! of its own.

use std::fmt;

use hyper::Uri;
use pulse_telemetry_core::observation::{Unknown, Value};
use serde::ser::{Serialize, SerializeMap, Serializer};

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

#[cfg(test)]
mod tests {
    use super::*;

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
