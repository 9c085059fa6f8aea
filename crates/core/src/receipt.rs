//! The receiver's signed word: that a ping arrived as it was sent, or that all of an ID is deleted.
//!
//! A receipt is a compact JWS (RFC 7515) of [`Receipt`], signed with Ed25519 (RFC 9864). It shows that the key's
//! holder said so, and nothing more.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use jiff::civil::Date;
use ring::error::KeyRejected;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::sha256;
use crate::identity::{InstallId, canonical_install_id};
use crate::words::{serde_word, words};

mod keys;

pub use keys::{InvalidJwkSet, PublicKey, ReceiptKeys};

/// The type that stands in the header of each receipt.
pub const TYP: &str = "pulse-telemetry-receipt";

/// The header of the answer to a ping that has the receipt.
pub const RECEIPT_HEADER: &str = "pulse-telemetry-receipt";

/// The longest receipt that is read, in characters. One that is written has less than 600.
pub const RECEIPT_MAX: usize = 1024;

/// The algorithm by its name of RFC 9864, which is written,
const ALGORITHM: &str = "Ed25519";
/// and by that of RFC 8037, which is only read.
const OLD_ALGORITHM: &str = "EdDSA";

/// What a receipt claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Receipt {
    /// A ping arrived.
    Received {
        /// The SHA-256 of its body as it arrived, in hex.
        body_sha256: String,
        /// The UTC day of the row that it became.
        day: Date,
        /// The last day on which the row may still be there.
        deleted_by: Date,
        /// The SHA-256 of the contract that the receiver names, in hex.
        contract_sha256: String,
    },
    /// Every row of an ID was deleted.
    Forgotten {
        /// [`id_sha256`].
        id_sha256: String,
        /// The UTC day of the deletion.
        day: Date,
        /// The SHA-256 of the contract that the receiver names, in hex.
        contract_sha256: String,
    },
}

/// The header of the JWS. One that has anything else is not ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JwsHeader {
    alg: String,
    kid: String,
    typ: String,
}

/// The read of a receipt that has the form of one, the signature not looked at.
struct ReadReceipt<'a> {
    signed: &'a str,
    kid: String,
    receipt: Receipt,
    signature: Vec<u8>,
}

impl Receipt {
    /// What the text claims; its signature is not looked at. `None` where it does not have the form of a receipt.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        Some(ReadReceipt::of(text)?.receipt)
    }

    fn digests(&self) -> [&str; 2] {
        match self {
            Self::Received { body_sha256: digest, contract_sha256, .. }
            | Self::Forgotten { id_sha256: digest, contract_sha256, .. } => [digest, contract_sha256],
        }
    }

    fn is(&self, expected: Expected<'_>) -> bool {
        match (self, expected) {
            (Self::Received { body_sha256: said, .. }, Expected::Received { body_sha256: sent }) => said == sent,
            (Self::Forgotten { id_sha256: said, .. }, Expected::Forgotten { id_sha256: asked }) => said == asked,
            _ => false,
        }
    }
}

impl<'a> ReadReceipt<'a> {
    fn of(text: &'a str) -> Option<Self> {
        if text.len() > RECEIPT_MAX {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        // Anything outside of `[A-Za-z0-9_-]`, a third dot too, is refused here.
        let (header, claims) = (BASE64URL.decode(header).ok()?, BASE64URL.decode(claims).ok()?);
        let signature = BASE64URL.decode(signature).ok().filter(|signature| signature.len() == 64)?;
        let header: JwsHeader = serde_json::from_slice(&header).ok()?;
        if header.typ != TYP || ![ALGORITHM, OLD_ALGORITHM].contains(&header.alg.as_str()) {
            return None;
        }
        let receipt: Receipt = serde_json::from_slice(&claims).ok()?;
        // A day is read from a time as well, whose hour nobody is to learn.
        let is_exact = serde_json::from_slice::<Value>(&claims).ok()? == serde_json::to_value(&receipt).ok()?;
        let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_exact || !receipt.digests().into_iter().all(is_digest) {
            return None;
        }
        Some(Self { signed, kid: header.kid, receipt, signature })
    }
}

/// What [`Receipt::Forgotten`] says of an ID: the SHA-256 of its 36 lower-case characters, in hex.
#[must_use]
pub fn id_sha256(id: &InstallId) -> String {
    sha256(canonical_install_id(id.as_str()).as_deref().unwrap_or(id.as_str()).as_bytes())
}

words! {
    /// What a receipt is worth.
    pub enum ReceiptStanding {
        /// One of the keys that were given signed it, and it says what was expected.
        Verified = "verified",
        /// It says what was expected; no keys were given to verify it with.
        Unverified = "unverified",
        /// It is none, is of something else, or none of the keys signed it.
        False = "false",
        /// None was given.
        Missing = "missing",
    }
}

serde_word!(ReceiptStanding);

/// What a receipt has to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected<'a> {
    /// Of the ping whose body has this SHA-256, in hex.
    Received {
        /// In hex.
        body_sha256: &'a str,
    },
    /// Of the deletion of the ID with this [`id_sha256`].
    Forgotten {
        /// In hex.
        id_sha256: &'a str,
    },
}

/// What the receipt is worth, and the text to keep: none of one that is false. Without keys all but the signature is
/// looked at.
#[must_use]
pub fn judge(
    keys: Option<&ReceiptKeys>,
    text: Option<&str>,
    expected: Expected<'_>,
) -> (ReceiptStanding, Option<String>) {
    let Some(text) = text else { return (ReceiptStanding::Missing, None) };
    let Some(read) = ReadReceipt::of(text).filter(|read| read.receipt.is(expected)) else {
        return (ReceiptStanding::False, None);
    };
    match keys {
        None => (ReceiptStanding::Unverified, Some(text.to_owned())),
        Some(keys) if keys.verifies(&read.kid, read.signed.as_bytes(), &read.signature) => {
            (ReceiptStanding::Verified, Some(text.to_owned()))
        }
        Some(_) => (ReceiptStanding::False, None),
    }
}

/// The key that signs receipts.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
    /// The header of each receipt, with the dot behind it.
    header: String,
}

impl SigningKey {
    /// Reads a private key, as DER of PKCS#8, with its public key or without.
    ///
    /// # Errors
    /// It is none of Ed25519.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyRejected> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)?;
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        let public = PublicKey::new(public);
        let header = json!({"alg": ALGORITHM, "kid": public.kid(), "typ": TYP}).to_string();
        Ok(Self { pair, header: format!("{}.", BASE64URL.encode(header)), public })
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// [`PublicKey::kid`].
    #[must_use]
    pub fn kid(&self) -> &str {
        self.public.kid()
    }

    /// The receipt as text. An equal one has the same text.
    #[must_use]
    pub fn sign(&self, receipt: &Receipt) -> String {
        let mut text = self.header.clone();
        BASE64URL.encode_string(json!(receipt).to_string(), &mut text);
        let signature = self.pair.sign(text.as_bytes());
        text.push('.');
        BASE64URL.encode_string(signature, &mut text);
        text
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
