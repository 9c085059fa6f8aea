//! Why something is as it is: one word of a small set, which ledger, state file, API, metrics and log share.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::words::words;

words! {
    /// Why an attempt, an ID, or the history ended as it did, or why nothing is sent.
    pub enum LedgerReason {
        /// The endpoint accepted the ping.
        Delivered = "delivered",
        /// The process ended during the attempt.
        Interrupted = "interrupted",
        /// What the disk holds is not what was written.
        Damaged = "damaged",
        /// The process stopped.
        Stopped = "stopped",
        /// Telemetry was switched off during the attempt.
        SwitchedOff = "switched_off",
        /// The state directory cannot be written.
        Storage = "storage",
        /// The ping was tried for an interval, or the deletion for seven days.
        GaveUp = "gave_up",
        /// The endpoint does not offer deletions.
        NotOffered = "not_offered",
        /// The deletion was cancelled by a person.
        Cancelled = "cancelled",
        /// The ID had its time before the ping was delivered.
        IdExpired = "id_expired",
        /// Somebody asked for a new ID.
        Reset = "reset",
        /// The ID before was 30 days old.
        Expired = "expired",
        /// The ID before was 30 days old, and no ping went with it.
        Unused = "unused",
        /// There was no ID.
        NoId = "none",
        /// Nothing switches telemetry off.
        On = "on",
        /// `PULSE_TELEMETRY` in the sidecar's environment switches it off.
        OffByPulseTelemetry = "pulse_telemetry",
        /// `DO_NOT_TRACK` in the sidecar's environment does.
        OffByDoNotTrack = "do_not_track",
        /// The configuration does.
        OffByConfig = "config",
        /// The local switch does.
        OffBySwitch = "switch",
        /// Pulse's own setting does.
        OffByPulse = "pulse",
        /// The wall clock says a time that cannot be.
        ClockImplausible = "clock_implausible",
        /// Pulse cannot be reached.
        PulseUnreachable = "pulse_unreachable",
        /// Pulse refuses the token, or there is none.
        PulseUnauthorized = "pulse_unauthorized",
        /// The token lacks a scope.
        MissingScope = "missing_scope",
        /// Pulse shows mock data.
        MockMode = "mock_mode",
        /// Pulse is a public demo.
        DemoMode = "demo_mode",
        /// Pulse has not been up for long enough to know its counts.
        PulseStarting = "pulse_starting",
        /// Pulse's own sender is on.
        PulseReportsItself = "pulse_reports_itself",
        /// Something cannot be read.
        Incomplete = "incomplete",
        /// As many callers wait for a reading as may; the API alone says so.
        Busy = "busy",
        /// No connection to the endpoint.
        NoConnection = "no_connection",
        /// The connection ended before the answer.
        CutShort = "cut_short",
        /// No answer in time.
        TimedOut = "timed_out",
        /// 408 or 425.
        AskedToRetry = "asked_to_retry",
        /// 429.
        RateLimited = "rate_limited",
        /// 5xx.
        ServerError = "server_error",
        /// 3xx.
        Redirected = "redirected",
        /// Another 4xx.
        Refused = "refused",
        /// Any other status.
        NotHttp = "not_http",
        /// No connection to the proxy.
        ProxyUnreachable = "proxy_unreachable",
        /// The proxy asks for a login.
        ProxyLogin = "proxy_login",
        /// The proxy refused the tunnel.
        ProxyRefused = "proxy_refused",
        /// The proxy failed otherwise.
        ProxyFailed = "proxy_failed",
        /// The history is gone.
        Missing = "missing",
        /// Another history is in its place.
        Replaced = "replaced",
        /// The history lost its end.
        Truncated = "truncated",
    }
}

impl LedgerReason {
    /// Whether it says what a proxy did.
    #[must_use]
    pub fn is_of_a_proxy(self) -> bool {
        matches!(self, Self::ProxyUnreachable | Self::ProxyLogin | Self::ProxyRefused | Self::ProxyFailed)
    }
}

/// A reason as a file or an answer has it. One that only another version knows stays readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReasonWord {
    /// One of this version's.
    Known(LedgerReason),
    /// The text of another version's.
    Other(String),
}

impl ReasonWord {
    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(reason) => reason.word(),
            Self::Other(text) => text,
        }
    }
}

impl PartialEq<LedgerReason> for ReasonWord {
    fn eq(&self, reason: &LedgerReason) -> bool {
        matches!(self, Self::Known(known) if known == reason)
    }
}

impl From<LedgerReason> for ReasonWord {
    fn from(reason: LedgerReason) -> Self {
        Self::Known(reason)
    }
}

impl From<String> for ReasonWord {
    fn from(text: String) -> Self {
        LedgerReason::parse(&text).map_or(Self::Other(text), Self::Known)
    }
}

impl fmt::Display for ReasonWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ReasonWord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ReasonWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_only_another_version_knows_stays_as_it_is_written() {
        for (text, known) in [("gave_up", Some(LedgerReason::GaveUp)), ("of_next_year", None), ("", None)] {
            let json = format!("{text:?}");
            let word: ReasonWord = serde_json::from_str(&json).unwrap();
            assert_eq!(word, known.map_or(ReasonWord::Other(text.to_owned()), ReasonWord::Known));
            assert_eq!((word.as_str(), serde_json::to_string(&word).unwrap()), (text, json));
        }
    }
}
