//! Why a command failed.

use pulse_telemetry_core::consent::OffSource;
use pulse_telemetry_core::reason::LedgerReason;
use pulse_telemetry_endpoint::SendSetupError;
use pulse_telemetry_http::server::ServeError;
use pulse_telemetry_http::tls::TlsError;
use pulse_telemetry_process::command::Exit;
use pulse_telemetry_process::config::ConfigError;

use super::api::ApiError;
use crate::config::Listen;
use crate::pulse::SettingsError;
use crate::status::{NOT_OFFERED, ids};
use crate::store::StoreError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    #[error("{0}")]
    Log(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    PulseSettings(#[from] SettingsError),
    #[error(transparent)]
    SendSettings(#[from] SendSetupError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("{0}")]
    Pulse(String),
    #[error(transparent)]
    State(#[from] StoreError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("failed to listen at serve.listen {listen}: {source}")]
    Listen { listen: Listen, source: std::io::Error },
    #[error("failed to start: {0}")]
    Start(#[source] std::io::Error),
    #[error(transparent)]
    Output(#[from] std::io::Error),
    #[error("telemetry stays off: {0} says so, and the switch cannot overrule it")]
    Locked(OffSource),
    #[error("{NOT_OFFERED} It is {endpoint}.{}", if *is_pending { ASKED_AGAIN } else { "" })]
    NotOffered { endpoint: String, is_pending: bool },
    #[error("{}; `pulse-telemetry history` tells which", not_forgotten(*cancelled, *failed))]
    NotForgotten { cancelled: usize, failed: usize },
}

/// What follows where the endpoint only had no contract.
const ASKED_AGAIN: &str =
    " It may come to offer them, so it is asked again for a day; `pulse-telemetry forget --cancel` ends that.";

fn not_forgotten(cancelled: usize, failed: usize) -> String {
    let parts = [(cancelled, "cancelled"), (failed, "given up")].map(|(number, how)| {
        (number > 0).then(|| format!("the deletion of what was sent under {} was {how}", ids(number)))
    });
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

impl CommandError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Configuration(_)
            | Self::Log(_)
            | Self::Tls(_)
            | Self::PulseSettings(_)
            | Self::SendSettings(_)
            | Self::Serve(_) => Exit::Configuration,
            Self::Api(ApiError::Refused { status: 503, error, .. }) if *error != LedgerReason::Storage => Exit::Pulse,
            Self::Pulse(_) => Exit::Pulse,
            Self::State(_) => Exit::State,
            Self::Api(_)
            | Self::Listen { .. }
            | Self::Start(_)
            | Self::Output(_)
            | Self::Locked(_)
            | Self::NotOffered { .. }
            | Self::NotForgotten { .. } => Exit::Failed,
        }
    }
}
