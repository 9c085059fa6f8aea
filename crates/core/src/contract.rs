//! The contract: the 25 fields of Pulse's privacy page, and nothing else.
//!
//! This table is the one place that says what leaves. What [`crate::ping`] encodes is compared with it by a test; the JSON
//! Schema (`config/ping.schema.json`) and the field table of `docs/PRIVACY.md` are written from it; whoever receives a
//! ping holds it against it.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::version::{VERSION_MAX, is_sendable};

/// The day the privacy page was published that this contract follows. A clock that says an earlier time is wrong.
pub const CONTRACT_DATE: jiff::Timestamp = jiff::Timestamp::constant(1_779_321_600, 0); // 2026-05-21T00:00:00Z

/// The largest count that is believed. The largest estates known have some ten thousand guests.
pub const COUNT_MAX: u32 = 10_000_000;

/// Where the schema says it lives.
const SCHEMA_ID: &str = "https://json-schema.org/draft/2020-12/schema";

/// One field of the ping.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name on the wire, in every document and on the page.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Why it is collected.
    pub purpose: &'static str,
    /// A value as it may be sent, as JSON.
    pub example: &'static str,
}

/// What a field may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A UUID in one of the five spellings that Pulse keeps.
    InstallId,
    /// Letters, digits, `.`, `+` and `-`, [`VERSION_MAX`] at most.
    Text {
        /// Left out of the ping where there is no value.
        optional: bool,
    },
    /// A word of small letters and digits, of 16 bytes at most.
    Word,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A count from 0 to [`COUNT_MAX`].
    Count,
    /// True or false.
    Flag,
}

/// The fields, in the order in which they stand on the wire.
pub const FIELDS: [Field; 25] = [
    Field {
        name: "install_id",
        kind: Kind::InstallId,
        purpose: "Tells installations apart. It is a random pseudonym, derived from nothing; no account or person belongs \
                  to it. It is replaced every 30 days, but the counts of a ping can tell an installation longer.",
        example: "\"a1b2c3d4-0000-4000-8000-000000000000\"",
    },
    Field {
        name: "version",
        kind: Kind::Text { optional: false },
        purpose: "Which release of Pulse is running, in its canonical form.",
        example: "\"6.0.0-rc.1\"",
    },
    Field {
        name: "version_raw",
        kind: Kind::Text { optional: true },
        purpose: "The version as the build itself spells it, sent only where that differs, so that builds made by hand \
                  are not mistaken for releases.",
        example: "\"v6.0.0-rc.1-45-gabcdef\"",
    },
    Field {
        name: "version_channel",
        kind: Kind::Choice(&["stable", "rc", "dev", "prerelease", "unknown"]),
        purpose: "Whether a release, a release candidate, a development build or another prerelease is running.",
        example: "\"rc\"",
    },
    Field {
        name: "version_build",
        kind: Kind::Text { optional: true },
        purpose: "The build metadata of the version, sent only where there is some, as for builds from a git checkout.",
        example: "\"git.45.gabcdef\"",
    },
    Field {
        name: "version_is_development",
        kind: Kind::Flag,
        purpose: "Marks builds made from source or for development.",
        example: "false",
    },
    Field {
        name: "version_is_published_release",
        kind: Kind::Flag,
        purpose: "Marks builds whose version is that of a published stable release or release candidate.",
        example: "true",
    },
    Field {
        name: "platform",
        kind: Kind::Choice(&["docker", "binary"]),
        purpose: "Shows whether Pulse behaves differently in containers.",
        example: "\"docker\"",
    },
    Field {
        name: "os",
        kind: Kind::Word,
        purpose: "Shows trouble that only one operating system has.",
        example: "\"linux\"",
    },
    Field {
        name: "arch",
        kind: Kind::Word,
        purpose: "Shows trouble that only one processor architecture has.",
        example: "\"amd64\"",
    },
    Field {
        name: "event",
        kind: Kind::Choice(&["startup", "heartbeat"]),
        purpose: "Tells the first ping after a start from the daily one.",
        example: "\"heartbeat\"",
    },
    Field {
        name: "pve_nodes",
        kind: Kind::Count,
        purpose: "How large Proxmox VE estates are, in aggregate.",
        example: "3",
    },
    Field {
        name: "pbs_instances",
        kind: Kind::Count,
        purpose: "How many use Proxmox Backup Server, in aggregate.",
        example: "1",
    },
    Field {
        name: "pmg_instances",
        kind: Kind::Count,
        purpose: "How many use Proxmox Mail Gateway, in aggregate.",
        example: "0",
    },
    Field {
        name: "vms",
        kind: Kind::Count,
        purpose: "The scale of what is monitored: virtual machines.",
        example: "25",
    },
    Field {
        name: "containers",
        kind: Kind::Count,
        purpose: "The scale of what is monitored: LXC containers.",
        example: "12",
    },
    Field {
        name: "docker_hosts",
        kind: Kind::Count,
        purpose: "How many use Docker monitoring, in aggregate.",
        example: "2",
    },
    Field {
        name: "kubernetes_clusters",
        kind: Kind::Count,
        purpose: "How many use Kubernetes monitoring, in aggregate.",
        example: "0",
    },
    Field {
        name: "ai_enabled",
        kind: Kind::Flag,
        purpose: "Whether AI features are used at all, before they are extended or removed.",
        example: "false",
    },
    Field {
        name: "active_alerts",
        kind: Kind::Count,
        purpose: "How noisy installations are, in aggregate: how many alerts are active, never which.",
        example: "4",
    },
    Field { name: "relay_enabled", kind: Kind::Flag, purpose: "Whether remote access is used.", example: "false" },
    Field { name: "sso_enabled", kind: Kind::Flag, purpose: "Whether single sign-on is used.", example: "false" },
    Field {
        name: "multi_tenant",
        kind: Kind::Flag,
        purpose: "Whether several organizations are used in one Pulse.",
        example: "false",
    },
    Field {
        name: "paid_license",
        kind: Kind::Flag,
        purpose: "Tells free from paid, without the tier.",
        example: "false",
    },
    Field {
        name: "has_api_tokens",
        kind: Kind::Flag,
        purpose: "Whether API tokens are used, without their number.",
        example: "true",
    },
];

/// The field of that name.
#[must_use]
pub fn field(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

impl Field {
    /// Whether a ping must have it.
    #[must_use]
    pub fn required(&self) -> bool {
        !matches!(self.kind, Kind::Text { optional: true, .. })
    }

    /// Whether the contract lets this field hold `value`.
    #[must_use]
    pub fn accepts(&self, value: &Value) -> bool {
        match self.kind {
            Kind::InstallId => value.as_str().is_some_and(crate::identity::is_install_id),
            Kind::Text { .. } => value.as_str().is_some_and(is_sendable),
            Kind::Word => value.as_str().is_some_and(is_word),
            Kind::Choice(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Kind::Count => value.as_u64().is_some_and(|count| count <= u64::from(COUNT_MAX)),
            Kind::Flag => value.is_boolean(),
        }
    }

    /// A value as a receiver takes it: whole numbers are clamped (`1.0` is one, as the schema has it), an ID has one
    /// spelling, and an optional text that is out of bounds is as good as none, since Pulse's own sender bounds neither.
    /// Anything else is left as it is, for [`Field::accepts`] to judge; `Null` stands for no value.
    #[must_use]
    pub fn clamp(&self, value: Value) -> Value {
        match self.kind {
            Kind::InstallId => match value.as_str().and_then(crate::identity::canonical_install_id) {
                Some(id) => Value::from(id),
                None => value,
            },
            Kind::Text { optional: true, .. } if value.is_string() && !self.accepts(&value) => Value::Null,
            Kind::Count => match value.as_f64() {
                Some(number) if number.fract() == 0.0 => Value::from(clamp_count(number)),
                _ => value,
            },
            _ => value,
        }
    }

    /// What the field holds, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self.kind {
            Kind::InstallId => "a UUID".to_owned(),
            Kind::Text { optional: false } => format!("1 to {VERSION_MAX} letters, digits, `.`, `+` and `-`"),
            Kind::Text { optional: true } => {
                format!("1 to {VERSION_MAX} letters, digits, `.`, `+` and `-`; left out where there is none")
            }
            Kind::Word => "a word of small letters and digits, at most 16".to_owned(),
            Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            Kind::Count => format!("0 to {COUNT_MAX}"),
            Kind::Flag => "`true` or `false`".to_owned(),
        }
    }

    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::InstallId => json!({"type": "string", "pattern": INSTALL_ID_PATTERN}),
            Kind::Text { .. } => {
                json!({"type": "string", "pattern": format!("^[0-9A-Za-z.+-]{{1,{VERSION_MAX}}}$")})
            }
            Kind::Word => json!({"type": "string", "pattern": "^[a-z0-9]{1,16}$"}),
            Kind::Choice(words) => json!({"enum": words}),
            Kind::Count => json!({"type": "integer", "minimum": 0, "maximum": COUNT_MAX}),
            Kind::Flag => json!({"type": "boolean"}),
        };
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".to_owned(), json!(self.purpose));
            object.insert("examples".to_owned(), json!([self.example_value()]));
        }
        schema
    }

    /// The example as a value.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the examples are constants, and a test reads each")]
    pub fn example_value(&self) -> Value {
        serde_json::from_str(self.example).expect("an example is JSON")
    }
}

/// A whole number within the bounds of a count.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the bounds by then")]
fn clamp_count(number: f64) -> u32 {
    number.clamp(0.0, f64::from(COUNT_MAX)) as u32
}

const INSTALL_ID_PATTERN: &str = "^(?:[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}\
    |\\{[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}\\}\
    |[Uu][Rr][Nn]:[Uu][Uu][Ii][Dd]:[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}\
    |[0-9A-Fa-f]{32})$";

fn is_word(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// What is wrong with a document that should be a ping. Its text names fields of the contract and nothing of the
/// document itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Not a JSON object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A field of the contract is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field holds what the contract does not allow.
    #[error("{0} holds what the contract does not allow")]
    OutOfBounds(&'static str),
    /// There are fields that the contract does not have.
    #[error("{0} of its fields are not in the contract")]
    Additional(usize),
}

/// Holds a document against the contract: every required field, no other, each within its bounds.
///
/// # Errors
/// The first violation, in the order of the table; additional fields come last.
pub fn validate(document: &Value) -> Result<(), Violation> {
    let object = document.as_object().ok_or(Violation::NotAnObject)?;
    for field in &FIELDS {
        match object.get(field.name) {
            Some(value) if field.accepts(value) => {}
            Some(_) => return Err(Violation::OutOfBounds(field.name)),
            None if field.required() => return Err(Violation::Missing(field.name)),
            None => {}
        }
    }
    match object.keys().filter(|key| field(key).is_none()).count() {
        0 => Ok(()),
        additional => Err(Violation::Additional(additional)),
    }
}

/// The JSON Schema (2020-12) of the ping: `config/ping.schema.json`.
#[must_use]
pub fn schema() -> Value {
    let properties: Map<String, Value> = FIELDS.iter().map(|f| (f.name.to_owned(), f.schema())).collect();
    let required: Vec<&str> = FIELDS.iter().filter(|f| f.required()).map(|f| f.name).collect();
    json!({
        "$schema": SCHEMA_ID,
        "title": "Pulse telemetry ping",
        "description": "All that leaves a Pulse installation whose telemetry is on. Made from src/contract.rs.",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// The text of `config/ping.schema.json`.
#[must_use]
pub fn schema_file() -> String {
    // The alternate form of a JSON value is its pretty one.
    format!("{:#}\n", schema())
}

/// The field table of `docs/PRIVACY.md`, as Markdown.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = "| field | example | what it may hold | purpose |\n|---|---|---|---|\n".to_owned();
    for field in &FIELDS {
        // Writing to a String cannot fail.
        let _ =
            writeln!(table, "| `{}` | `{}` | {} | {} |", field.name, field.example, field.describe(), field.purpose);
    }
    table
}
