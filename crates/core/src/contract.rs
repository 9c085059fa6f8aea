//! The contract: the 25 fields of Pulse's privacy page, and nothing else.
//!
//! The table in `fields` is the one place that says what leaves. The payload, the encoder ([`crate::ping`]), the list
//! of what is unknown, the JSON Schema (`config/ping.schema.json`), the field table of `docs/PRIVACY.md`, the rows of
//! `check` and the collector's columns are made from it.

mod declare;
mod fields;

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde_json::{Map, Value, json};

use crate::event::Event;
use crate::identity::InstallId;
use crate::platform::Platform;
use crate::unknown::Unknown;
use crate::version::{Channel, VERSION_MAX, is_sendable};
pub use fields::{FIELDS, Incomplete, Payload, Ping, Values};

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
    pub kind: FieldKind,
    /// Why it is collected.
    pub purpose: &'static str,
    /// A value as it may be sent, as JSON.
    pub example: &'static str,
}

/// What a field may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
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

/// What a token needs, to read a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAccess {
    /// Nobody is asked: it is this machine's own.
    Own,
    /// Nothing.
    Nothing,
    /// The scope `monitoring:read`.
    Monitoring,
    /// The scope `settings:read`.
    Settings,
    /// To be one that Pulse takes.
    AnyToken,
}

impl fmt::Display for TokenAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Own | Self::Nothing => "none",
            Self::Monitoring => "monitoring:read",
            Self::Settings => "settings:read",
            Self::AnyToken => "any token",
        })
    }
}

/// A value that was read for a ping, as a person is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueRow<'a> {
    /// The field.
    pub name: &'static str,
    /// What a token needs to read it.
    pub needs: TokenAccess,
    /// The value, or why it is unknown.
    pub value: Result<String, &'a Unknown>,
}

/// What a field can be made of.
pub trait FieldValue {
    /// The value on the wire, as JSON; `None` where the field is left out.
    fn to_json(&self) -> Option<Cow<'static, str>>;
}

impl<T: FieldValue> FieldValue for &T {
    fn to_json(&self) -> Option<Cow<'static, str>> {
        (*self).to_json()
    }
}

impl<T: FieldValue> FieldValue for Option<T> {
    fn to_json(&self) -> Option<Cow<'static, str>> {
        self.as_ref()?.to_json()
    }
}

macro_rules! field_value {
    ($($type:ty: |$value:ident| $json:expr),+ $(,)?) => {
        $(impl FieldValue for $type {
            fn to_json(&self) -> Option<Cow<'static, str>> {
                let $value = self;
                Some(Cow::from($json))
            }
        })+
    };
}

field_value! {
    u32: |value| value.to_string(),
    bool: |value| if *value { "true" } else { "false" },
    String: |value| quoted(value),
    &'static str: |value| quoted(value),
    InstallId: |value| quoted(value.as_str()),
    Event: |value| quoted(value.word()),
    Platform: |value| quoted(value.word()),
    Channel: |value| quoted(value.word()),
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The field of that name.
#[must_use]
pub fn field(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

impl Field {
    /// Whether a ping must have it.
    #[must_use]
    pub fn required(&self) -> bool {
        !matches!(self.kind, FieldKind::Text { optional: true, .. })
    }

    /// Whether the contract lets this field hold `value`.
    #[must_use]
    pub fn accepts(&self, value: &Value) -> bool {
        match self.kind {
            FieldKind::InstallId => value.as_str().is_some_and(crate::identity::is_install_id),
            FieldKind::Text { .. } => value.as_str().is_some_and(is_sendable),
            FieldKind::Word => value.as_str().is_some_and(is_word),
            FieldKind::Choice(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            FieldKind::Count => value.as_u64().is_some_and(|count| count <= u64::from(COUNT_MAX)),
            FieldKind::Flag => value.is_boolean(),
        }
    }

    /// A value as a receiver takes it: whole numbers are clamped (`1.0` is one, as the schema has it), an ID has one
    /// spelling, and an optional text that is out of bounds is as good as none, since Pulse's own sender bounds
    /// neither. Anything else is left as it is, for [`Field::accepts`] to judge; `Null` stands for no value.
    #[must_use]
    pub fn clamp(&self, value: Value) -> Value {
        match self.kind {
            FieldKind::InstallId => match value.as_str().and_then(crate::identity::canonical_install_id) {
                Some(id) => Value::from(id),
                None => value,
            },
            FieldKind::Text { optional: true, .. } if value.is_string() && !self.accepts(&value) => Value::Null,
            FieldKind::Count => match value.as_f64() {
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
            FieldKind::InstallId => "a UUID".to_owned(),
            FieldKind::Text { optional: false } => format!("1 to {VERSION_MAX} letters, digits, `.`, `+` and `-`"),
            FieldKind::Text { optional: true } => {
                format!("1 to {VERSION_MAX} letters, digits, `.`, `+` and `-`; left out where there is none")
            }
            FieldKind::Word => "a word of small letters and digits, at most 16".to_owned(),
            FieldKind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            FieldKind::Count => format!("0 to {COUNT_MAX}"),
            FieldKind::Flag => "`true` or `false`".to_owned(),
        }
    }

    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            FieldKind::InstallId => json!({"type": "string", "pattern": INSTALL_ID_PATTERN}),
            FieldKind::Text { .. } => {
                json!({"type": "string", "pattern": format!("^[0-9A-Za-z.+-]{{1,{VERSION_MAX}}}$")})
            }
            FieldKind::Word => json!({"type": "string", "pattern": "^[a-z0-9]{1,16}$"}),
            FieldKind::Choice(words) => json!({"enum": words}),
            FieldKind::Count => json!({"type": "integer", "minimum": 0, "maximum": COUNT_MAX}),
            FieldKind::Flag => json!({"type": "boolean"}),
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
    validate_by(&FIELDS, document)
}

/// As [`validate`], by another table.
///
/// # Errors
/// As for [`validate`].
pub fn validate_by(fields: &[Field], document: &Value) -> Result<(), Violation> {
    let object = document.as_object().ok_or(Violation::NotAnObject)?;
    for field in fields {
        match object.get(field.name) {
            Some(value) if field.accepts(value) => {}
            Some(_) => return Err(Violation::OutOfBounds(field.name)),
            None if field.required() => return Err(Violation::Missing(field.name)),
            None => {}
        }
    }
    match object.keys().filter(|key| fields.iter().all(|field| field.name != key.as_str())).count() {
        0 => Ok(()),
        additional => Err(Violation::Additional(additional)),
    }
}

/// The JSON Schema (2020-12) of the ping: `config/ping.schema.json`.
#[must_use]
pub fn schema() -> Value {
    schema_of(&FIELDS)
}

/// As [`schema`], of another table.
#[must_use]
pub fn schema_of(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields.iter().map(|f| (f.name.to_owned(), f.schema())).collect();
    let required: Vec<&str> = fields.iter().filter(|f| f.required()).map(|f| f.name).collect();
    json!({
        "$schema": SCHEMA_ID,
        "title": "Pulse telemetry ping",
        "description": "All that leaves a Pulse installation whose telemetry is on. Made from contract.rs.",
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
    markdown_table_of(&FIELDS)
}

/// As [`markdown_table`], of another table.
#[must_use]
pub fn markdown_table_of(fields: &[Field]) -> String {
    let mut table = "| field | example | what it may hold | purpose |\n|---|---|---|---|\n".to_owned();
    for field in fields {
        // Writing to a String cannot fail.
        let _ =
            writeln!(table, "| `{}` | `{}` | {} | {} |", field.name, field.example, field.describe(), field.purpose);
    }
    table
}
