//! Why a command failed.

use pulse_telemetry_process::command::Exit;
use pulse_telemetry_process::config::ConfigError;

use crate::storage::StorageError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CollectorError {
    #[error("{0}")]
    Configuration(#[from] ConfigError),
    #[error("{0}")]
    SetUp(String),
    #[error("{0}")]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Other(String),
}

impl CollectorError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Configuration(_) | Self::SetUp(_) => Exit::Configuration,
            Self::Storage(_) => Exit::State,
            Self::Other(_) => Exit::Failed,
        }
    }
}

impl From<std::io::Error> for CollectorError {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.to_string())
    }
}
