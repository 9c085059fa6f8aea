//! What one reading of Pulse gave: every value known, or unknown for a named reason.
//!
//! After this module no value can hold a string that came from Pulse, except the version.

use std::time::Duration;

use crate::contract::{Incomplete, Payload, Values};
use crate::credential::Credential;
pub use crate::platform::Platform;
pub use crate::unknown::{OrganizationNames, Reason, Scope, Unknown, Value};

/// What decides whether a ping may be sent at all, and is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Pulse shows mock data (`deploymentType` is `mock`, or `/api/system/mock-mode` says `enabled`).
    pub mock_mode: Value<bool>,
    /// Pulse shows itself to the public (`presentationPolicy.demoMode`).
    pub demo_mode: Value<bool>,
    /// Up for less than two minutes: its counts are not filled yet.
    pub starting: Value<bool>,
    /// Pulse's own telemetry setting.
    pub own_sender: Value<OwnSender>,
    /// What Pulse's settings say of its commercial side. It is shown, and decides about local events only.
    pub commercial: Value<Commercial>,
    /// Every organization that anybody here knows of is counted.
    pub organizations: Value<()>,
}

/// Pulse's own sender, by its setting `telemetryEnabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnSender {
    /// This Pulse has none (before 6.0).
    Absent,
    /// On: Pulse reports itself.
    On,
    /// Switched off in Pulse's settings: an off for the sidecar too.
    OffBySetting,
    /// Switched off by `PULSE_TELEMETRY` in Pulse's environment: how an operator hands over to the sidecar.
    OffByEnvironment,
}

/// What Pulse's settings say of its commercial side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commercial {
    /// `disableLocalUpgradeMetrics`: no local-only commercial events are to be kept.
    pub disable_local_upgrade_metrics: bool,
    /// `reduceProUpsellNoise`: a legacy preference for fewer prompts. Nothing here depends on it.
    pub reduce_pro_upsell_noise: bool,
}

impl Gate {
    fn unknown(&self) -> impl Iterator<Item = &Unknown> {
        [
            self.mock_mode.as_ref().err(),
            self.demo_mode.as_ref().err(),
            self.starting.as_ref().err(),
            self.own_sender.as_ref().err(),
            self.organizations.as_ref().err(),
        ]
        .into_iter()
        .flatten()
    }
}

/// A whole reading of Pulse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What a ping is made of, where all of it is known.
    pub payload: Result<Payload, Incomplete>,
    /// What decides whether one may be sent.
    pub gate: Gate,
    /// Pulse answered 429 and asked to be left alone for this long.
    pub retry_after: Option<Duration>,
}

impl Reading {
    /// The payload, where nothing is unknown that a ping depends on.
    ///
    /// # Errors
    /// [`Self::unknown`], where something is.
    pub fn known(&self) -> Result<&Payload, Vec<&Unknown>> {
        let unknown = self.unknown();
        match &self.payload {
            Ok(payload) if unknown.is_empty() => Ok(payload),
            _ => Err(unknown),
        }
    }

    /// Everything that is unknown, in the contract's order and each once, the deciding facts last.
    #[must_use]
    pub fn unknown(&self) -> Vec<&Unknown> {
        let values = self.payload.as_ref().err().map(Incomplete::values);
        values.into_iter().flat_map(Values::unknown).chain(self.gate.unknown()).collect()
    }

    /// Each value as it was read.
    #[must_use]
    pub fn values(&self) -> Values {
        match &self.payload {
            Ok(payload) => payload.clone().into(),
            Err(incomplete) => incomplete.values().clone(),
        }
    }
}

/// Why Pulse could not be read at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// No connection, or no secure one. The text says what failed and never holds an address or a host name.
    Unreachable(String),
    /// 401, or 403 for another reason than a scope.
    Unauthorized(Credential),
    /// What answers is not Pulse, or nothing answers. The sentence says what to do.
    NotPulse(String),
}
