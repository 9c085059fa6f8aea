//! `[telemetry]`: whether and where pings are sent.

use pulse_telemetry_process::config::Checker;
use serde::Deserialize;

use super::Url;

/// Whether and where pings are sent.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// False is an off that only the configuration can take back. True does not overrule any other off.
    pub enabled: bool,
    /// Where pings go: https, or http on loopback.
    pub endpoint: Url,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTelemetry {
    enabled: bool,
    endpoint: String,
}

impl RawTelemetry {
    pub(super) fn check(self, check: &mut Checker<'_>) -> Option<Telemetry> {
        let endpoint = check.accept("telemetry.endpoint", &self.endpoint, endpoint(&self.endpoint));
        Some(Telemetry { enabled: self.enabled, endpoint: endpoint? })
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
