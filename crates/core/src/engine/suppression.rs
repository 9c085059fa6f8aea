//! Why nothing may be sent although consent is on.

use crate::credential::Credential;
use crate::observation::{OwnSender, ReadError, Reading, Reason, Unknown};

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
    /// The word for it in the API and the ledger.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::ClockImplausible => "clock_implausible",
            Self::PulseUnreachable(_) => "pulse_unreachable",
            Self::PulseUnauthorized(_) => "pulse_unauthorized",
            Self::MissingScope(_) => "missing_scope",
            Self::MockMode => "mock_mode",
            Self::DemoMode => "demo_mode",
            Self::PulseStarting => "pulse_starting",
            Self::PulseReportsItself => "pulse_reports_itself",
            Self::Incomplete(_) | Self::NotPulse(_) => "incomplete",
        }
    }

    /// It has nothing to do with Pulse.
    #[must_use]
    pub fn is_of_this_machine(&self) -> bool {
        matches!(self, Self::Storage | Self::ClockImplausible)
    }

    /// What keeps a heartbeat from being shown: Pulse cannot be read, or not fully.
    #[must_use]
    pub fn by_what_is_unknown(reading: &Result<Reading, ReadError>) -> Option<Self> {
        let unknown: Vec<Unknown> = match reading {
            Ok(reading) => reading.unknown().into_iter().cloned().collect(),
            Err(ReadError::Unreachable(why)) => return Some(Self::PulseUnreachable(why.clone())),
            Err(ReadError::Unauthorized(which)) => return Some(Self::PulseUnauthorized(which.clone())),
            Err(ReadError::NotPulse(what)) => return Some(Self::NotPulse(what.clone())),
        };
        if unknown.is_empty() {
            None
        } else if unknown.iter().any(|u| matches!(u.reason, Reason::MissingScope(_))) {
            Some(Self::MissingScope(unknown))
        } else {
            Some(Self::Incomplete(unknown))
        }
    }

    /// What keeps a ping from being sent after this reading: first what is wrong with the set-up, then what Pulse
    /// says of itself, then what is merely unknown now.
    #[must_use]
    pub fn by_reading(reading: &Result<Reading, ReadError>, insists: bool) -> Option<Self> {
        let unreadable = Self::by_what_is_unknown(reading);
        let Ok(Reading { state, .. }) = reading else { return unreadable };
        match unreadable {
            Some(Self::MissingScope(_)) => unreadable,
            _ if state.mock_mode == Ok(true) => Some(Self::MockMode),
            _ if state.demo_mode == Ok(true) => Some(Self::DemoMode),
            _ if state.starting == Ok(true) => Some(Self::PulseStarting),
            _ if state.own_sender == Ok(OwnSender::On) && !insists => Some(Self::PulseReportsItself),
            _ => unreadable,
        }
    }
}
