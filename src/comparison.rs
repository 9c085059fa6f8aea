//! Our ping beside Pulse's own, field by field: what `check --compare` finds. Pure, and for people: nothing of it is
//! kept or sent.

use pulse_telemetry_core::contract::FIELDS;
use pulse_telemetry_core::version::VersionIdentity;
use serde_json::{Map, Value};

use crate::posture::RelayState;
use crate::pulse::Observation;

/// The differences that there may be, each with the sentence that says why. `docs/PRIVACY.md` lists them.
pub const DOCUMENTED: [(&str, &str); 9] = [
    (
        "install_id",
        "Pulse and the sidecar have an ID of their own each; it is moved over from Pulse by a copy, never shared.",
    ),
    ("event", "The preview of each is a heartbeat; a ping says startup where it is the first one after a start."),
    (
        "version_raw",
        "Official builds of Pulse are stamped with a leading v, which the API does not tell, so it is left out.",
    ),
    ("platform", "Pulse looks at its own variable PULSE_DOCKER, the API at the machine; pulse.platform overrides it."),
    ("os", "The sidecar says its own machine's."),
    ("arch", "The sidecar says its own machine's."),
    ("ai_enabled", "While Pulse shows mock data, its API says true whatever was saved."),
    ("relay_enabled", "After a licence has lapsed, the API no longer tells the setting (402), and the relay is off."),
    ("multi_tenant", "Pulse's own ping says false always; the API tells the truth."),
];

/// How one field compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldVerdict {
    /// Both say the same.
    Same,
    /// It moved between our two readings, so that nothing can be said of it.
    Moved,
    /// They differ, for this documented reason.
    Documented(&'static str),
    /// They differ.
    Differs,
}

/// One field of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparisonRow {
    /// Its name.
    pub field: &'static str,
    /// What we would send, after Pulse was asked for its own.
    pub ours: Option<Value>,
    /// What Pulse would send.
    pub theirs: Option<Value>,
    /// What comes of it.
    pub verdict: FieldVerdict,
}

/// All fields of the contract, and what else Pulse sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// In the order of the contract.
    pub rows: Vec<ComparisonRow>,
    /// The names of the fields that only Pulse sends. They are Pulse's own text.
    pub only_theirs: Vec<String>,
}

/// One of our readings, and the ping that would be made of it.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    /// What was read.
    pub observed: &'a Observation,
    /// The ping.
    pub payload: &'a Map<String, Value>,
}

impl Comparison {
    /// Compares what Pulse says of itself with what we read before and after it.
    #[must_use]
    pub fn new(before: Ours<'_>, theirs: &Map<String, Value>, after: Ours<'_>) -> Self {
        let row = |field: &'static str| {
            let (earlier, ours, other) = (before.payload.get(field), after.payload.get(field), theirs.get(field));
            let verdict = if earlier != ours {
                FieldVerdict::Moved
            } else if ours == other {
                FieldVerdict::Same
            } else if is_documented(field, ours, other, theirs, after.observed) {
                DOCUMENTED
                    .iter()
                    .find(|(name, _)| *name == field)
                    .map_or(FieldVerdict::Differs, |(_, why)| FieldVerdict::Documented(why))
            } else {
                FieldVerdict::Differs
            };
            ComparisonRow { field, ours: ours.cloned(), theirs: other.cloned(), verdict }
        };
        let only_theirs = theirs.keys().filter(|name| FIELDS.iter().all(|field| field.name != name.as_str()));
        Self { rows: FIELDS.iter().map(|field| row(field.name)).collect(), only_theirs: only_theirs.cloned().collect() }
    }

    /// The fields that differ without a documented reason.
    pub fn differing(&self) -> impl Iterator<Item = &'static str> {
        self.rows.iter().filter(|row| row.verdict == FieldVerdict::Differs).map(|row| row.field)
    }
}

/// Whether this very difference is a documented one, and not only of a field that may have one.
fn is_documented(
    field: &str,
    ours: Option<&Value>,
    theirs: Option<&Value>,
    all_of_theirs: &Map<String, Value>,
    observed: &Observation,
) -> bool {
    let says = |value: Option<&Value>, flag: bool| value == Some(&Value::Bool(flag));
    match field {
        "install_id" | "event" | "platform" | "os" | "arch" => ours.is_some() && theirs.is_some(),
        "version_raw" => ours.is_none() && is_a_stamp(theirs, all_of_theirs.get("version")),
        "ai_enabled" => says(ours, true) && says(theirs, false) && observed.reading.gate.mock_mode == Ok(true),
        "relay_enabled" => {
            let lapsed = observed.posture.relay.as_ref().is_ok_and(|relay| relay.state == RelayState::NotLicensed);
            says(ours, false) && says(theirs, true) && lapsed
        }
        "multi_tenant" => says(ours, true) && says(theirs, false),
        _ => false,
    }
}

/// Whether that raw string is another spelling of that version.
fn is_a_stamp(raw: Option<&Value>, version: Option<&Value>) -> bool {
    let (raw, version) = (raw.and_then(Value::as_str), version.and_then(Value::as_str));
    raw.zip(version).is_some_and(|(raw, version)| VersionIdentity::of(raw).version == version)
}

/// The documented differences, as a table for `docs/PRIVACY.md`.
#[must_use]
pub fn markdown_table() -> String {
    let rows: String = DOCUMENTED.iter().map(|(field, why)| format!("| `{field}` | {why} |\n")).collect();
    format!("| field | why it can differ |\n|---|---|\n{rows}")
}
