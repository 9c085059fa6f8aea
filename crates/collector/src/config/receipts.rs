//! `[receipts]`: the key that signs receipts.

use pulse_telemetry_process::config::{Checker, ConfigError, Problem, TokenFile};
use serde::Deserialize;

use crate::receipts::Receipts;

/// The key that signs receipts.
#[derive(Clone, Debug)]
pub struct ReceiptsConfig {
    /// Its file; `None`: there are no receipts.
    pub key_file: Option<TokenFile>,
}

impl ReceiptsConfig {
    /// Reads the key.
    ///
    /// # Errors
    /// The file cannot be read, or does not begin with a key that can sign.
    pub fn read(&self) -> Result<Option<Receipts>, ConfigError> {
        let read = |file: &TokenFile| -> Result<Receipts, Problem> {
            Receipts::from_pem(&file.read_pem()?).map_err(|what| file.problem(what))
        };
        Ok(self.key_file.as_ref().map(read).transpose()?)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawReceipts {
    key_file: String,
}

impl RawReceipts {
    pub(super) fn check(self, check: &mut Checker<'_>) -> Option<ReceiptsConfig> {
        Some(ReceiptsConfig { key_file: TokenFile::check_optional(check, "receipts.key_file", &self.key_file)? })
    }
}
