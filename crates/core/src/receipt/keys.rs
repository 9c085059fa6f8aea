//! The keys that verify receipts, as a JWK set (RFC 7517, RFC 8037).

use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ALGORITHM, BASE64URL, ED25519, OLD_ALGORITHM, UnparsedPublicKey};

/// A public key of Ed25519.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    bytes: [u8; 32],
    kid: String,
}

impl PublicKey {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        // RFC 7638: these members, in this order, without a space.
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, BASE64URL.encode(bytes));
        let thumbprint = ring::digest::digest(&ring::digest::SHA256, members.as_bytes());
        Self { bytes, kid: BASE64URL.encode(thumbprint) }
    }

    /// Its name in a receipt: its thumbprint (RFC 7638).
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    fn jwk(&self) -> Value {
        let x = BASE64URL.encode(self.bytes);
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "alg": ALGORITHM, "use": "sig", "kid": self.kid})
    }
}

/// The public keys that receipts are verified with: one at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptKeys(Vec<PublicKey>);

/// Why a text is no set of such keys. The messages follow the file's name, and have nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJwkSet {
    /// No set at all.
    #[error("it is no JWK set, which is a JSON object with a list `keys`")]
    NotASet,
    /// Nothing that verifies a receipt.
    #[error("there is no key of Ed25519 in it")]
    NoKey,
    /// One of the keys.
    #[error("key {number} in it {what}")]
    Key {
        /// From 1.
        number: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl ReceiptKeys {
    /// These keys; each once.
    ///
    /// # Errors
    /// There is none.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Result<Self, InvalidJwkSet> {
        let mut found: Vec<PublicKey> = Vec::new();
        for key in keys {
            if !found.contains(&key) {
                found.push(key);
            }
        }
        if found.is_empty() { Err(InvalidJwkSet::NoKey) } else { Ok(Self(found)) }
    }

    /// Reads a JWK set. Keys of other algorithms may be in it and are passed over.
    ///
    /// # Errors
    /// It is none, has no key of Ed25519, or such a key cannot be meant.
    pub fn from_jwk_set(text: &[u8]) -> Result<Self, InvalidJwkSet> {
        #[derive(Deserialize)]
        struct JwkSet {
            keys: Vec<Map<String, Value>>,
        }
        let set: JwkSet = serde_json::from_slice(text).map_err(|_| InvalidJwkSet::NotASet)?;
        let mut keys = Vec::new();
        for (at, jwk) in set.keys.iter().enumerate() {
            keys.extend(read(jwk).map_err(|what| InvalidJwkSet::Key { number: at + 1, what })?);
        }
        Self::new(keys)
    }

    /// The JWK set.
    #[must_use]
    pub fn jwk_set(&self) -> Value {
        json!({"keys": self.0.iter().map(PublicKey::jwk).collect::<Vec<_>>()})
    }

    /// Whether the key of that name is among them, and signed this.
    pub(super) fn verifies(&self, kid: &str, signed: &[u8], signature: &[u8]) -> bool {
        let key = self.0.iter().find(|key| key.kid == kid);
        key.is_some_and(|key| UnparsedPublicKey::new(&ED25519, key.bytes).verify(signed, signature).is_ok())
    }
}

/// The key of Ed25519 in a JWK, or `None` where it is another's.
fn read(jwk: &Map<String, Value>) -> Result<Option<PublicKey>, &'static str> {
    let is = |member: &str, wanted: &str| jwk.get(member).and_then(Value::as_str) == Some(wanted);
    if jwk.contains_key("d") {
        return Err("is a private key: make the set of public keys alone");
    }
    if !is("kty", "OKP") || !is("crv", "Ed25519") {
        return Ok(None);
    }
    if jwk.contains_key("use") && !is("use", "sig") {
        return Err("is not for signatures, as its `use` says");
    }
    if jwk.contains_key("alg") && !is("alg", ALGORITHM) && !is("alg", OLD_ALGORITHM) {
        return Err("has an `alg` that is not Ed25519's");
    }
    let x = jwk.get("x").and_then(Value::as_str).and_then(|x| BASE64URL.decode(x).ok());
    let x = x.and_then(|x| <[u8; 32]>::try_from(x).ok()).ok_or("has no `x` of 32 bytes in base64url")?;
    let key = PublicKey::new(x);
    if jwk.contains_key("kid") && !is("kid", &key.kid) {
        return Err("has a `kid` that is not its thumbprint (RFC 7638)");
    }
    Ok(Some(key))
}
