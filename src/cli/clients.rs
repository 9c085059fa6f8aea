//! What reads Pulse and what sends pings, out of the configuration.

use pulse_telemetry_endpoint::{SendSettings, Sender};
use pulse_telemetry_http::tls::Trust;

use super::error::CommandError;
use crate::config::Config;
use crate::pulse::{PulseClient, PulseSettings};

/// The client that reads Pulse, out of the configuration.
pub(super) fn pulse_client(config: &Config) -> Result<PulseClient, CommandError> {
    let (pulse, trust) = (&config.pulse, Trust::of(config.authorities.clone()));
    let trust = match &pulse.ca_file {
        None => trust,
        Some(path) => trust.and_file("pulse.ca_file", path)?,
    };
    let settings = PulseSettings {
        url: pulse.url.uri().clone(),
        tokens: pulse.read_tokens()?,
        trust,
        timeout: pulse.timeout,
        platform: pulse.platform,
    };
    Ok(PulseClient::new(settings)?.naming_tokens(pulse.token_origins()))
}

/// What sends pings, out of the configuration.
pub(super) fn sender(config: &Config) -> Result<Sender, CommandError> {
    Ok(Sender::new(&send_settings(config))?)
}

pub(super) fn send_settings(config: &Config) -> SendSettings {
    SendSettings {
        endpoint: config.telemetry.endpoint.uri().clone(),
        proxy: config.proxy.clone(),
        trust: Trust::of(config.authorities.clone()),
    }
}
