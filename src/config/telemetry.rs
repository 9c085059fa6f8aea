//! `[telemetry]`: whether and where pings are sent, and by which keys their receipts are verified.

use std::path::{Path, PathBuf};

use pulse_telemetry_core::receipt::ReceiptKeys;
use pulse_telemetry_http::file::read_bounded;
use pulse_telemetry_process::config::{Checker, ConfigError, Problem};
use serde::Deserialize;

use super::Url;

const KEYS_FILE: &str = "telemetry.receipt_keys_file";

/// The largest set of keys that is read.
const KEYS_MAX: u64 = 64 * 1024;

/// Whether and where pings are sent.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// False is an off that only the configuration can take back. True does not overrule any other off.
    pub enabled: bool,
    /// Where pings go: https, or http on loopback.
    pub endpoint: Url,
    /// A file with the endpoint's public keys, a JWK set. It is not read here.
    pub receipt_keys_file: Option<PathBuf>,
}

impl Telemetry {
    /// Reads the keys that receipts are verified with; `None` where none are named.
    ///
    /// # Errors
    /// The file cannot be read, or holds no such keys.
    pub fn read_receipt_keys(&self) -> Result<Option<ReceiptKeys>, ConfigError> {
        self.receipt_keys_file.as_deref().map(|file| receipt_keys(KEYS_FILE, file)).transpose()
    }
}

/// The keys in the file that `key` names.
///
/// # Errors
/// It cannot be read, or holds no such keys.
pub fn receipt_keys(key: &str, file: &Path) -> Result<ReceiptKeys, ConfigError> {
    let read = read_bounded(file, KEYS_MAX).map_err(|error| format!("cannot be read: {error}"));
    let keys =
        read.and_then(|text| ReceiptKeys::from_jwk_set(&text).map_err(|error| format!("cannot be used: {error}")));
    keys.map_err(|what| ConfigError { problems: vec![Problem::new(key, what).with_value(&file.display().to_string())] })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTelemetry {
    enabled: bool,
    endpoint: String,
    receipt_keys_file: String,
}

impl RawTelemetry {
    pub(super) fn check(self, check: &mut Checker<'_>) -> Option<Telemetry> {
        let endpoint = check.accept("telemetry.endpoint", &self.endpoint, endpoint(&self.endpoint));
        let receipt_keys_file = Some(self.receipt_keys_file).filter(|path| !path.is_empty()).map(PathBuf::from);
        Some(Telemetry { enabled: self.enabled, endpoint: endpoint?, receipt_keys_file })
    }
}

fn endpoint(written: &str) -> Result<Url, &'static str> {
    let url = Url::parse(written)?;
    if url.is_https() || url.is_loopback() {
        Ok(url)
    } else {
        Err("must be https, or http on this machine (127.0.0.0/8, [::1], localhost)")
    }
}
