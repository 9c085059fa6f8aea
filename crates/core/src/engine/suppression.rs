//! Why nothing may be sent although consent is on.

use crate::contract::Payload;
use crate::credential::Credential;
use crate::observation::{OwnSender, ReadError, Reading, Reason, Unknown};
use crate::reason::LedgerReason;

/// Why nothing may be sent although consent is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suppression {
    /// The ledger or the state cannot be written.
    Storage,
    /// The wall clock says a time that cannot be.
    ClockImplausible,
    /// Pulse cannot be reached; the text says why, without its name or address.
    PulseUnreachable(String),
    /// Pulse refused the token, or there is none.
    PulseUnauthorized(Credential),
    /// The token lacks a scope.
    MissingScope(Vec<Unknown>),
    /// Pulse shows mock data.
    MockMode,
    /// Pulse is a public demo.
    DemoMode,
    /// Pulse has not been up for long enough to know its counts.
    PulseStarting,
    /// Pulse's own sender is on: both would count this installation twice.
    PulseReportsItself,
    /// What answers is not Pulse; the sentence says what to do.
    NotPulse(String),
    /// Something could not be read.
    Incomplete(Vec<Unknown>),
}

impl Suppression {
    /// The reason for it in the API and the ledger.
    #[must_use]
    pub fn reason(&self) -> LedgerReason {
        match self {
            Self::Storage => LedgerReason::Storage,
            Self::ClockImplausible => LedgerReason::ClockImplausible,
            Self::PulseUnreachable(_) => LedgerReason::PulseUnreachable,
            Self::PulseUnauthorized(_) => LedgerReason::PulseUnauthorized,
            Self::MissingScope(_) => LedgerReason::MissingScope,
            Self::MockMode => LedgerReason::MockMode,
            Self::DemoMode => LedgerReason::DemoMode,
            Self::PulseStarting => LedgerReason::PulseStarting,
            Self::PulseReportsItself => LedgerReason::PulseReportsItself,
            Self::Incomplete(_) | Self::NotPulse(_) => LedgerReason::Incomplete,
        }
    }

    /// It has nothing to do with Pulse.
    #[must_use]
    pub fn is_of_this_machine(&self) -> bool {
        matches!(self, Self::Storage | Self::ClockImplausible)
    }

    /// What a heartbeat is made of, to be shown.
    ///
    /// # Errors
    /// Where Pulse was not read fully.
    pub fn known_payload(reading: &Reading) -> Result<&Payload, Self> {
        reading.known().map_err(|unknown| {
            let unknown: Vec<Unknown> = unknown.into_iter().cloned().collect();
            if unknown.iter().any(|u| matches!(u.reason, Reason::MissingScope(_))) {
                Self::MissingScope(unknown)
            } else {
                Self::Incomplete(unknown)
            }
        })
    }

    /// What a ping is made of, to be sent.
    ///
    /// # Errors
    /// What keeps it from being sent: first what is wrong with the set-up, then what Pulse says of itself, then what is
    /// merely unknown now.
    pub fn sendable_payload<'a>(
        read: Result<&'a Reading, &ReadError>,
        is_forced_on: bool,
    ) -> Result<&'a Payload, Self> {
        let known = read.map_err(Self::from).and_then(Self::known_payload);
        let Ok(Reading { gate, .. }) = read else { return known };
        match known {
            Err(Self::MissingScope(_)) => known,
            _ if gate.mock_mode == Ok(true) => Err(Self::MockMode),
            _ if gate.demo_mode == Ok(true) => Err(Self::DemoMode),
            _ if gate.starting == Ok(true) => Err(Self::PulseStarting),
            _ if gate.own_sender == Ok(OwnSender::On) && !is_forced_on => Err(Self::PulseReportsItself),
            _ => known,
        }
    }
}

impl From<&ReadError> for Suppression {
    fn from(error: &ReadError) -> Self {
        match error {
            ReadError::Unreachable(why) => Self::PulseUnreachable(why.clone()),
            ReadError::Unauthorized(which) => Self::PulseUnauthorized(which.clone()),
            ReadError::NotPulse(what) => Self::NotPulse(what.clone()),
        }
    }
}
