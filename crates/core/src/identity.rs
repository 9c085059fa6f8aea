//! The install ID: which one is kept, and which is rotated.
//!
//! File and rules are Pulse's own (`.install_id`), so that an ID can be moved over; `tests/it/identity.rs` holds them
//! against recorded decisions of Pulse's code.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::clock::DAY;

/// How long an ID may be used: 30 days, as the privacy page says.
pub const ROTATION: Duration = DAY.saturating_mul(30);

/// A clock that is set back by up to this makes no new ID of one that was made or used here.
const SET_BACK: SignedDuration = SignedDuration::from_hours(1);

/// An install ID: a UUID, in one of the spellings that Pulse keeps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstallId(String);

impl InstallId {
    /// The ID, where the text is one; it keeps its spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_install_id(text).then(|| Self(text.to_owned()))
    }

    /// The same ID in the spelling that most have, which is how the endpoint knows it.
    #[must_use]
    pub fn canonical(&self) -> Self {
        canonical_install_id(&self.0).map_or_else(|| self.clone(), Self)
    }

    /// An ID that no installation has, for a ping that is only compared.
    #[must_use]
    pub fn nobodys() -> Self {
        Uuid::nil().into()
    }

    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for InstallId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> de::Deserialize<'de> for InstallId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str> as de::Deserialize>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not an install ID"))
    }
}

impl From<Uuid> for InstallId {
    fn from(id: Uuid) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for InstallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An install ID and the time it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The UUID, spelled as it stands in the file.
    pub install_id: InstallId,
    /// When it was made.
    pub issued_at: Timestamp,
}

impl Identity {
    /// A new identity.
    #[must_use]
    pub fn new(id: Uuid, now: Timestamp) -> Self {
        Self { install_id: id.into(), issued_at: now }
    }

    /// Reads the content of an ID file. `None` where it holds no valid record, which means: rotate.
    #[must_use]
    pub fn parse(content: &[u8]) -> Option<Self> {
        // Go replaces what is not UTF-8 instead of refusing it.
        let text = String::from_utf8_lossy(content);
        let record: Record = serde_json::from_str(text.trim()).ok()?;
        Some(Self { install_id: InstallId::parse(record.install_id?.trim())?, issued_at: record.issued_at? })
    }

    /// The content of an ID file.
    #[must_use]
    pub fn to_file(&self) -> String {
        // Both values are of alphabets that need no escape in JSON.
        format!("{{\"install_id\":\"{}\",\"issued_at\":\"{}\"}}\n", self.install_id, self.issued_at)
    }

    /// Whether this ID may still be used: made in the past, and less than 30 days ago.
    #[must_use]
    pub fn is_current(&self, now: Timestamp) -> bool {
        Duration::try_from(now.duration_since(self.issued_at)).is_ok_and(|age| age < ROTATION)
    }

    /// Whether an ID that was made or used here may still be used: its time may lie ahead by as much as a clock that
    /// was wrong is commonly set back. Of a file that comes from elsewhere [`Self::is_current`] decides, as in Pulse.
    #[must_use]
    pub fn is_current_where_it_was_made(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.issued_at);
        self.is_current(now) || (-SET_BACK..SignedDuration::ZERO).contains(&age)
    }
}

/// Whether the text is a UUID in one of the spellings that Pulse keeps: upper or lower case, with braces, as
/// `urn:uuid:`, or without hyphens.
#[must_use]
pub fn is_install_id(text: &str) -> bool {
    Uuid::try_parse(text).is_ok()
}

/// The same UUID in the spelling that most have: small letters, hyphens, nothing around it. `None` where the text is
/// none.
#[must_use]
pub fn canonical_install_id(text: &str) -> Option<String> {
    Uuid::try_parse(text).ok().map(|id| id.to_string())
}

/// The record in an ID file, read as Go's `encoding/json` reads it: keys in any case, the last of several wins, null
/// leaves a value as it was.
#[derive(Default)]
struct Record {
    install_id: Option<String>,
    issued_at: Option<Timestamp>,
}

impl<'de> de::Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Record;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an install ID record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
                let mut record = Record::default();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    match folded(&key).as_str() {
                        _ if value.get() == "null" => {}
                        "install_id" => {
                            record.install_id = Some(serde_json::from_str(value.get()).map_err(de::Error::custom)?);
                        }
                        "issued_at" => {
                            let time = rfc3339(value.get()).ok_or_else(|| de::Error::custom("not an RFC 3339 time"))?;
                            record.issued_at = Some(time);
                        }
                        _ => {}
                    }
                }
                Ok(record)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// The key as Go compares it: without case, and with the two letters outside of ASCII that fold into it.
fn folded(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

/// The time in a JSON string, by the letter of RFC 3339 and without escapes, as Go's `time.Time` takes it; only the
/// year one, which Go takes for "no time", is refused.
fn rfc3339(json: &str) -> Option<Timestamp> {
    let text = json.strip_prefix('"')?.strip_suffix('"')?;
    let bytes = text.as_bytes();
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let fits = |got: &[u8], shape: &[u8]| {
        got.len() == shape.len()
            && got.iter().zip(shape).all(|(b, s)| if *s == b'd' { b.is_ascii_digit() } else { b == s })
    };
    if !fits(bytes.get(..19)?, shape) || bytes.get(17..19)? > b"59".as_slice() {
        return None;
    }
    let rest = text.get(19..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
        None => ("0", rest),
    };
    let offset_fits = |zone: &[u8]| fits(zone, b"+dd:dd") || fits(zone, b"-dd:dd");
    let hours_and_minutes =
        |zone: &str| Some((zone.get(1..3)?.parse::<i32>().ok()?, zone.get(4..6)?.parse::<i32>().ok()?));
    let offset_seconds = match zone {
        "Z" => 0,
        _ if offset_fits(zone.as_bytes()) => {
            let (hours, minutes) = hours_and_minutes(zone)?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if zone.starts_with('-') { -seconds } else { seconds }
        }
        _ => return None,
    };
    if fraction.is_empty() {
        return None;
    }
    let nanos: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let local: jiff::civil::DateTime = text.get(..19)?.parse().ok()?;
    let at = jiff::tz::Offset::UTC.to_timestamp(local).ok()?;
    let at = at.checked_sub(SignedDuration::from_secs(i64::from(offset_seconds))).ok()?;
    let at = at.checked_add(SignedDuration::from_nanos(nanos.parse().ok()?)).ok()?;
    let go_zero: Timestamp = "0001-01-01T00:00:00Z".parse().ok()?;
    (at != go_zero).then_some(at)
}
