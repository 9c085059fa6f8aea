//! The bytes of a request become a row, or a refusal that names the field. Pure.
//!
//! What the contract does not have is passed over while it is read: it is counted, and neither kept nor logged.

use std::fmt;

use pulse_telemetry_core::contract::{FIELDS, Field, FieldKind};
use pulse_telemetry_core::version::{identify, is_sendable};
use serde::de::{self, DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The largest body of a ping, in bytes. The largest that a Pulse sends today has 6,234.
pub const BODY_MAX: usize = 64 * 1024;

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// An optional field that is not there.
    Null,
    /// Text within the bounds of the contract.
    Text(String),
    /// A count.
    Count(u32),
    /// True or false.
    Flag(bool),
}

/// The values of one ping, in the order of [`FIELDS`].
pub type Cells = [Cell; FIELDS.len()];

/// A ping that holds to the contract, and how many of its fields the contract does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The fields of the contract.
    pub cells: Box<Cells>,
    /// How many others there were, and optional texts that the contract does not allow.
    pub dropped: u64,
}

/// Why a body is no ping. The text names fields of the contract, and nothing of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPing {
    /// Not JSON.
    #[error("the body is not JSON")]
    NotJson,
    /// JSON, but not an object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// A field that every ping has is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field holds what the contract does not allow.
    #[error("{0} must be {expected}", expected = expected(.0))]
    Invalid(&'static str),
}

impl InvalidPing {
    /// The word for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::Missing(_) => "missing_field",
            Self::Invalid(_) => "invalid_field",
        }
    }

    /// The field that is meant.
    #[must_use]
    pub fn field(self) -> Option<&'static str> {
        match self {
            Self::NotJson | Self::NotAnObject => None,
            Self::Missing(field) | Self::Invalid(field) => Some(field),
        }
    }
}

/// Reads the body of a ping.
///
/// # Errors
/// The first thing that is wrong, in the order of the contract.
pub fn read(body: &[u8]) -> Result<Accepted, InvalidPing> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let found = deserializer.deserialize_any(PingVisitor).and_then(|found| deserializer.end().map(|()| found));
    let mut found = found.map_err(|error| {
        if error.classify() == serde_json::error::Category::Data {
            InvalidPing::NotAnObject
        } else {
            InvalidPing::NotJson
        }
    })?;
    found.complete_version();
    let mut cells = Box::new([const { Cell::Null }; FIELDS.len()]);
    for ((field, cell), value) in FIELDS.iter().zip(&mut *cells).zip(&mut found.values) {
        let says_something = value.as_ref().and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        *cell = take(field, value.take())?;
        found.dropped += u64::from(says_something && *cell == Cell::Null);
    }
    Ok(Accepted { cells, dropped: found.dropped })
}

/// The cell for what a ping says of one field.
fn take(field: &'static Field, value: Option<Value>) -> Result<Cell, InvalidPing> {
    let value = match value {
        None if field.required() => return Err(InvalidPing::Missing(field.name)),
        None => return Ok(Cell::Null),
        Some(Value::Null) if !field.required() => return Ok(Cell::Null),
        Some(value) => match field.clamp(value) {
            Value::Null if !field.required() => return Ok(Cell::Null),
            value if field.accepts(&value) => value,
            _ => return Err(InvalidPing::Invalid(field.name)),
        },
    };
    let cell = match (field.kind, value) {
        (FieldKind::Flag, Value::Bool(flag)) => Some(Cell::Flag(flag)),
        (FieldKind::Count, value) => value.as_u64().and_then(|count| u32::try_from(count).ok()).map(Cell::Count),
        (_, Value::String(text)) => Some(Cell::Text(text)),
        _ => None,
    };
    cell.ok_or(InvalidPing::Invalid(field.name))
}

fn expected(name: &str) -> String {
    match FIELDS.iter().find(|field| field.name == name) {
        Some(Field { kind: FieldKind::Choice(words), .. }) => format!("one of {}", words.join(", ")),
        Some(Field { kind: FieldKind::Count, .. }) => "a whole number".to_owned(),
        Some(Field { kind: FieldKind::Flag, .. }) => "true or false".to_owned(),
        Some(field) => field.describe(),
        None => String::new(),
    }
}

/// What is found in a body: the fields of the contract as they stand, and how many others.
struct FoundFields {
    values: [Option<Value>; FIELDS.len()],
    dropped: u64,
}

/// The five fields that say what a version is. Pulse 6.0.0-rc.1, as it was released, sends none of them.
const OF_A_VERSION: [&str; 5] =
    ["version_raw", "version_channel", "version_build", "version_is_development", "version_is_published_release"];

impl FoundFields {
    fn of(&mut self, name: &str) -> Option<&mut Option<Value>> {
        FIELDS.iter().position(|field| field.name == name).map(|at| &mut self.values[at])
    }

    /// Says of the version what later senders say themselves, where a ping has none of the five fields. One that has
    /// some of them is left as it is, to be refused for those that are missing.
    fn complete_version(&mut self) {
        if FIELDS.iter().zip(&self.values).any(|(field, value)| OF_A_VERSION.contains(&field.name) && value.is_some()) {
            return;
        }
        let Some(Some(Value::String(written))) = self.of("version") else { return };
        if !is_sendable(written) {
            return;
        }
        // What may not be stored becomes a version that is none, and is refused as such.
        let identity = identify(written);
        let version = identity.as_ref().map_or(Value::Null, |identity| Value::from(identity.version.as_str()));
        let derived = identity.map_or([const { None }; 5], |identity| {
            [
                identity.raw.map(Value::from),
                Some(Value::from(identity.channel.word())),
                identity.build.map(Value::from),
                Some(Value::from(identity.is_development)),
                Some(Value::from(identity.is_published_release)),
            ]
        });
        for (name, value) in OF_A_VERSION.into_iter().zip(derived).chain([("version", Some(version))]) {
            if let Some(place) = self.of(name) {
                *place = value;
            }
        }
    }
}

struct PingVisitor;

impl<'de> Visitor<'de> for PingVisitor {
    type Value = FoundFields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FoundFields, A::Error> {
        let mut found = FoundFields { values: [const { None }; FIELDS.len()], dropped: 0 };
        // Senders write the fields in the order of the contract.
        let mut next = 0;
        while let Some(at) = map.next_key_seed(FieldKey { next })? {
            match at {
                // Of a key that comes twice the last value counts, as in Go.
                Some(at) => {
                    found.values[at] = Some(map.next_value()?);
                    next = at + 1;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                    found.dropped += 1;
                }
            }
        }
        Ok(found)
    }
}

/// Looks for the field that a key names, from `next` on; gives `None` for one that the contract does not have.
struct FieldKey {
    next: usize,
}

impl<'de> DeserializeSeed<'de> for FieldKey {
    type Value = Option<usize>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldKey {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let (before, after) = FIELDS.split_at(self.next);
        let at = after.iter().chain(before).position(|field| field.name == name);
        Ok(at.map(|at| (self.next + at) % FIELDS.len()))
    }
}
