//! The ping: payload, identity and event become bytes. The one constructor and the one encoder there are, so that
//! preview, ledger and wire hold the same bytes.

use std::fmt;
use std::ops::Deref;

use serde::Serialize;
use serde_json::Value;

use crate::contract::{self, FIELDS, Payload, Ping, Violation};
pub use crate::event::Event;
use crate::identity::InstallId;

/// The bytes of a ping, which nothing but [`encode`] and [`PingBytes::parse`] makes: there is no way to send anything
/// else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PingBytes(String);

impl PingBytes {
    /// The bytes, where they are to the last one those of a ping.
    ///
    /// # Errors
    /// As for [`decode`].
    pub fn parse(bytes: &str) -> Result<Self, DecodeError> {
        decode(bytes).map(|_| Self(bytes.to_owned()))
    }

    /// The bytes as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for PingBytes {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PingBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<PingBytes> for String {
    fn from(bytes: PingBytes) -> Self {
        bytes.0
    }
}

/// The bytes of a ping: compact JSON in the order of the contract.
#[must_use]
pub fn encode(payload: &Payload, install_id: &InstallId, event: Event) -> PingBytes {
    PingBytes(Ping { payload, install_id, event }.to_json())
}

/// Why some bytes are no ping as [`encode`] writes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is not one JSON document.
    #[error("is not JSON")]
    NotJson,
    /// It is not what the contract says.
    #[error("breaks the contract: {0}")]
    Contract(#[from] Violation),
    /// It is spelled otherwise: a space, a key twice, another order, an escape that is not needed.
    #[error("is not compact JSON in the contract's order")]
    Spelling,
}

/// The values of a ping, where the bytes are to the last one what [`encode`] makes of them: nothing is hidden in
/// between that a reader of JSON passes over.
///
/// # Errors
/// Where they are not.
pub fn decode(body: &str) -> Result<Value, DecodeError> {
    let document: Value = serde_json::from_str(body).map_err(|_| DecodeError::NotJson)?;
    contract::validate(&document)?;
    let in_order = document.as_object().is_some_and(|object| {
        object.keys().eq(FIELDS.iter().map(|field| field.name).filter(|name| object.contains_key(*name)))
    });
    let is_as_encoded = in_order && serde_json::to_string(&document).is_ok_and(|encoded| encoded == body);
    if is_as_encoded { Ok(document) } else { Err(DecodeError::Spelling) }
}
