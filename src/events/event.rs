//! One local event: what a client hands over, checked.

use std::collections::BTreeSet;

use pulse_telemetry_core::printable::is_printable;
use serde::{Deserialize, Serialize};

/// Every type that Pulse 6.0 knows.
pub const TYPES: [&str; 20] = [
    "pricing_viewed",
    "paywall_viewed",
    "trial_started",
    "license_activated",
    "license_activation_failed",
    "upgrade_clicked",
    "checkout_clicked",
    "checkout_started",
    "checkout_completed",
    "limit_warning_shown",
    "limit_blocked",
    "agent_install_token_generated",
    "agent_install_command_copied",
    "agent_install_profile_selected",
    "agent_first_connected",
    "infrastructure_onboarding_opened",
    "infrastructure_onboarding_path_selected",
    "infrastructure_onboarding_probe_result",
    "infrastructure_onboarding_catalog_selected",
    "infrastructure_onboarding_credentials_opened",
];

/// The longest surface, capability and limit key, in bytes.
const TEXT_MAX: usize = 128;
/// The longest idempotency key, in bytes.
const KEY_MAX: usize = 256;
/// How many surfaces can be switched off.
const SURFACES_MAX: usize = 32;

/// The organization whose events these are: the installation's own.
const ORGANIZATION: &str = "default";

/// A local event, every text trimmed, bounded and without control and format characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalEvent {
    /// One of [`TYPES`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Where in the interface it happened.
    pub surface: String,
    /// The feature that it was about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub capability: String,
    /// `single`, `multi` or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant_mode: String,
    /// The limit that it was about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub limit_key: String,
    /// How much of the limit was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_value: Option<i64>,
    /// The limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_value: Option<i64>,
    /// When it happened by the client's clock, in milliseconds since 1970.
    pub timestamp: i64,
    /// What tells a repetition from another event.
    pub idempotency_key: String,
}

/// Why what a client handed over is not taken, in the words that Pulse has for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventRefusal {
    /// It is not what the route takes.
    #[error("{0}")]
    Invalid(String),
    /// It is said to be another organization's.
    #[error("org_id does not match authenticated tenant")]
    OtherOrganization,
    /// More come within a second than are taken.
    #[error("more than ten events within a second")]
    TooMany,
}

/// An event as a client writes it. What is null is as good as absent, and keys that are not known are passed over.
#[derive(Deserialize)]
struct RawEvent {
    #[serde(rename = "type")]
    kind: Option<String>,
    surface: Option<String>,
    org_id: Option<String>,
    capability: Option<String>,
    tenant_mode: Option<String>,
    limit_key: Option<String>,
    current_value: Option<i64>,
    limit_value: Option<i64>,
    timestamp: Option<i64>,
    idempotency_key: Option<String>,
}

impl LocalEvent {
    /// What it tells beside its type and its surface, in words, as far as it tells it.
    pub fn details(&self) -> impl Iterator<Item = String> {
        let number = |name: &str, value: Option<i64>| value.map(|value| format!("{name} {value}"));
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let details = [
            text(&self.capability),
            text(&self.limit_key),
            number("at", self.current_value),
            number("of", self.limit_value),
            text(&self.tenant_mode),
        ];
        details.into_iter().flatten()
    }

    /// The event that a request's body holds.
    ///
    /// # Errors
    /// Where it is none: the first thing that is wrong, in the order in which Pulse looks.
    pub fn parse(body: &[u8]) -> Result<Self, EventRefusal> {
        let written: RawEvent = object(body)?;
        let kind = trimmed(written.kind);
        if kind.is_empty() {
            return Err(invalid("type is required"));
        }
        if !TYPES.contains(&kind.as_str()) {
            return Err(invalid(if is_bounded(&kind, TEXT_MAX) {
                format!("type {kind:?} is not supported")
            } else {
                "type is not supported".to_owned()
            }));
        }
        let surface = required("surface", written.surface, TEXT_MAX)?;
        let timestamp = written.timestamp.filter(|time| *time > 0).ok_or_else(|| invalid("timestamp is required"))?;
        let idempotency_key = required("idempotency_key", written.idempotency_key, KEY_MAX)?;
        let tenant_mode = trimmed(written.tenant_mode);
        if !["", "single", "multi"].contains(&tenant_mode.as_str()) {
            return Err(invalid("tenant_mode must be \"single\" or \"multi\""));
        }
        let capability = trimmed_within("capability", written.capability, TEXT_MAX)?;
        let limit_key = trimmed_within("limit_key", written.limit_key, TEXT_MAX)?;
        let needed = match kind.as_str() {
            "paywall_viewed" => Some(("capability", &capability)),
            "limit_warning_shown" | "limit_blocked" => Some(("limit_key", &limit_key)),
            _ => None,
        };
        if let Some((name, _)) = needed.filter(|(_, text)| text.is_empty()) {
            return Err(invalid(format!("{name} is required for {kind}")));
        }
        if !["", ORGANIZATION].contains(&trimmed(written.org_id).as_str()) {
            return Err(EventRefusal::OtherOrganization);
        }
        Ok(Self {
            kind,
            surface,
            capability,
            tenant_mode,
            limit_key,
            current_value: written.current_value,
            limit_value: written.limit_value,
            timestamp,
            idempotency_key,
        })
    }

    /// What Pulse counts events by, besides their type.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}:{}", self.surface, self.capability)
    }
}

/// The local switch of the events, as its file and Pulse's own route spell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Events are kept, as far as this switch is concerned.
    pub enabled: bool,
    /// Events of these surfaces are not.
    pub disabled_surfaces: BTreeSet<String>,
}

/// What `enabled` and `disabled_surfaces` are where a client leaves them out: off is the safe reading, and Pulse's.
#[derive(Deserialize)]
struct WrittenSwitch {
    enabled: Option<bool>,
    disabled_surfaces: Option<Vec<String>>,
}

impl Switch {
    /// The switch that a request's body asks for.
    ///
    /// # Errors
    /// Where it asks for none.
    pub fn parse(body: &[u8]) -> Result<Self, EventRefusal> {
        let written: WrittenSwitch = object(body)?;
        let mut disabled_surfaces = BTreeSet::new();
        for surface in written.disabled_surfaces.unwrap_or_default() {
            let surface = trimmed_within("disabled_surfaces", Some(surface), TEXT_MAX)?;
            if !surface.is_empty() {
                disabled_surfaces.insert(surface);
            }
        }
        if disabled_surfaces.len() > SURFACES_MAX {
            return Err(invalid(format!("disabled_surfaces has more than {SURFACES_MAX} surfaces")));
        }
        Ok(Self { enabled: written.enabled.unwrap_or(false), disabled_surfaces })
    }
}

impl Default for Switch {
    /// As it is where nobody turned it.
    fn default() -> Self {
        Self { enabled: true, disabled_surfaces: BTreeSet::new() }
    }
}

/// A JSON object. Serde would read a struct from an array as well.
fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, EventRefusal> {
    let is_object = body.trim_ascii_start().starts_with(b"{");
    is_object.then(|| serde_json::from_slice(body).ok()).flatten().ok_or_else(|| invalid("invalid request body"))
}

fn invalid(message: impl Into<String>) -> EventRefusal {
    EventRefusal::Invalid(message.into())
}

fn trimmed(text: Option<String>) -> String {
    text.map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn required(name: &str, text: Option<String>, most: usize) -> Result<String, EventRefusal> {
    match trimmed_within(name, text, most)? {
        text if text.is_empty() => Err(invalid(format!("{name} is required"))),
        text => Ok(text),
    }
}

fn trimmed_within(name: &str, text: Option<String>, most: usize) -> Result<String, EventRefusal> {
    let text = trimmed(text);
    if is_bounded(&text, most) {
        return Ok(text);
    }
    Err(invalid(format!("{name} is longer than {most} bytes or has control or format characters")))
}

fn is_bounded(text: &str, most: usize) -> bool {
    text.len() <= most && text.chars().all(is_printable)
}
