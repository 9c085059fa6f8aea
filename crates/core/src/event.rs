//! Why a ping is sent.

use serde::{Deserialize, Serialize};

/// Why a ping is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The first ping after a start of the sidecar.
    Startup,
    /// The daily ping.
    Heartbeat,
}

impl Event {
    /// The word on the wire.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Heartbeat => "heartbeat",
        }
    }
}
