//! The collector's signed word for a ping and for a deletion, and the key that signs it.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::LazyLock;

use jiff::ToSpan as _;
use jiff::civil::Date;
use pulse_telemetry_core::contract;
use pulse_telemetry_core::ledger::sha256;
use pulse_telemetry_core::receipt::{PublicKey, Receipt, ReceiptKeys, SigningKey};
use pulse_telemetry_core::rng::Rng;
use pulse_telemetry_http::pem;
use serde_json::Value;

use super::storage::RETENTION_DAYS;

/// The SHA-256 of the file that the contract is published as, `config/ping.schema.json`, in hex.
pub(super) static CONTRACT_SHA256: LazyLock<String> = LazyLock::new(|| sha256(contract::schema_file().as_bytes()));

/// What stands before the 32 bytes of a key of Ed25519 in DER: PKCS#8 and SubjectPublicKeyInfo (RFC 8410).
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// Owner only.
const KEY_MODE: u32 = 0o600;

/// Signs receipts.
#[derive(Debug)]
pub struct Receipts {
    key: SigningKey,
    keys: ReceiptKeys,
}

impl Receipts {
    /// Of a file in PEM: the private key that signs, and public ones after it that are published, too.
    ///
    /// # Errors
    /// What is wrong with it, to follow the file's name.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        let (private, public) = pem::signing_keys(text).map_err(|error| error.to_string())?;
        let no_key = |number: usize| format!("block {number} in it is no key of Ed25519: `keygen` makes one");
        let key = SigningKey::from_pkcs8(&private).map_err(|_| no_key(1))?;
        let mut keys = vec![key.public().clone()];
        for (at, public) in public.iter().enumerate() {
            let bytes = public.strip_prefix(&PUBLIC).and_then(|bytes| bytes.try_into().ok());
            keys.push(PublicKey::new(bytes.ok_or_else(|| no_key(at + 2))?));
        }
        let keys = ReceiptKeys::new(keys).map_err(|error| error.to_string())?;
        Ok(Self { key, keys })
    }

    /// That this body arrived and is a row of that day. An equal one has the same text.
    #[must_use]
    pub fn received(&self, body: &[u8], day: Date) -> String {
        self.key.sign(&Receipt::Received {
            body_sha256: sha256(body),
            day,
            deleted_by: day.saturating_add(RETENTION_DAYS.days()),
            contract_sha256: CONTRACT_SHA256.clone(),
        })
    }

    /// That every row of the ID with this digest was deleted, that day.
    #[must_use]
    pub fn forgotten(&self, id_sha256: String, day: Date) -> String {
        self.key.sign(&Receipt::Forgotten { id_sha256, day, contract_sha256: CONTRACT_SHA256.clone() })
    }

    /// The public keys.
    #[must_use]
    pub fn jwk_set(&self) -> Value {
        self.keys.jwk_set()
    }
}

/// Writes a new key into a file that is not there yet, and says its name in receipts.
///
/// # Errors
/// The file is there, or cannot be written.
pub fn keygen(path: &Path, chance: &mut dyn Rng) -> io::Result<String> {
    let der = [&PKCS8[..], &chance.bytes(), &chance.bytes()].concat();
    let key = SigningKey::from_pkcs8(&der).map_err(|error| io::Error::other(error.to_string()))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(KEY_MODE).open(path)?;
    let written = file.write_all(pem::private_key_text(&der).as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key is of no use.
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    Ok(key.kid().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use pulse_telemetry_core::receipt::{Expected, ReceiptStanding, judge};
    use pulse_telemetry_process::rng::SystemRng;

    use super::*;

    #[test]
    fn a_key_that_is_made_signs_lies_in_a_file_of_its_owner_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("receipts.pem");
        let kid = keygen(&path, &mut SystemRng).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        let text = std::fs::read(&path).unwrap();
        let receipts = Receipts::from_pem(&text).unwrap();
        assert_eq!(receipts.jwk_set()["keys"][0]["kid"], kid);
        let keys = ReceiptKeys::from_jwk_set(receipts.jwk_set().to_string().as_bytes()).unwrap();
        let receipt = receipts.received(b"body", jiff::civil::date(2026, 11, 26));
        let expected = Expected::Received { body_sha256: &sha256(b"body") };
        assert_eq!(judge(Some(&keys), Some(&receipt), expected).0, ReceiptStanding::Verified);
        assert_eq!(receipt, receipts.received(b"body", jiff::civil::date(2026, 11, 26)));
        assert!(keygen(&path, &mut SystemRng).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), text);
    }

    #[test]
    fn public_keys_after_the_private_one_are_published_and_what_cannot_be_meant_is_named() {
        let (one, other) = (pem::private_key_text(&[&PKCS8[..], &[1; 32]].concat()), [&PUBLIC[..], &[7; 32]].concat());
        let public = pem::private_key_text(&other).replace("PRIVATE", "PUBLIC");
        let receipts = Receipts::from_pem(format!("{one}{public}{public}").as_bytes()).unwrap();
        assert_eq!(receipts.jwk_set()["keys"].as_array().unwrap().len(), 2);
        for (text, words) in [
            (String::new(), "there is no private key in it"),
            (public.clone(), "block 1 in it is a public key before the private one"),
            (format!("{one}{one}"), "block 2 in it is a second private key"),
            (one.replace("PRIVATE", "RSA PRIVATE"), "block 1 in it is RSA PRIVATE KEY, and PKCS#8 is expected"),
            (pem::private_key_text(b"no key"), "block 1 in it is no key of Ed25519"),
            (format!("{one}{}", pem::private_key_text(b"no").replace("PRIVATE", "PUBLIC")), "block 2 in it is no key"),
        ] {
            let refused = Receipts::from_pem(text.as_bytes()).unwrap_err();
            assert!(refused.starts_with(words), "{refused}");
        }
    }
}
