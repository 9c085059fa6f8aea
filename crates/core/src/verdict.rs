//! What an answer of the endpoint means for the ping.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::DAY;
use crate::reason::LedgerReason;

/// The longest `Retry-After` that is honoured.
pub const RETRY_AFTER_MAX: Duration = DAY;

/// What came of an attempt to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The endpoint answered.
    Status {
        /// The HTTP status.
        code: u16,
        /// The value of `Retry-After`, where there is one.
        retry_after: Option<String>,
    },
    /// No connection. The text says why, without a name or an address.
    NoConnection(String),
    /// The proxy gave no tunnel to the endpoint.
    NoTunnel(ProxyFault),
    /// A connection, but no answer before it ended.
    CutShort,
    /// No answer in ten seconds.
    TimedOut,
}

/// Why the proxy gave no tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// It was not reached.
    #[error("no connection to the proxy")]
    Unreachable,
    /// 407.
    #[error("the proxy asks for a login (407)")]
    Login,
    /// Another 4xx.
    #[error("the proxy refused the tunnel ({0})")]
    Refused(u16),
    /// Any other status.
    #[error("the proxy answered {0}")]
    Answered(u16),
    /// It ended the connection.
    #[error("the proxy ended the connection without an answer")]
    CutShort,
    /// What it sent is no answer.
    #[error("the proxy does not speak plain HTTP, or its answer is too long")]
    NotHttp,
    /// It speaks TLS.
    #[error("the proxy speaks HTTPS, and only one that is reached over plain HTTP can be used")]
    SpeaksTls,
}

impl ProxyFault {
    /// The status that the proxy answered, where it did.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Login => Some(407),
            Self::Refused(status) | Self::Answered(status) => Some(status),
            _ => None,
        }
    }
}

/// What it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The ping has arrived.
    Delivered,
    /// The same bytes are to be sent again, not before this time has passed.
    Retry {
        /// What the endpoint asked for; `None` leaves it to the back-off.
        after: Option<Duration>,
        /// The reason, one word of a small set: the ledger's.
        reason: LedgerReason,
    },
    /// The ping is given up: sending it again would get the same answer.
    Drop {
        /// The reason, one word of a small set.
        reason: LedgerReason,
    },
}

impl Answer {
    /// The HTTP status, where there was one: the endpoint's, or that of a proxy that gave no tunnel.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            Self::NoTunnel(fault) => fault.status(),
            _ => None,
        }
    }

    /// Why there was no connection, where that is what happened.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::NoConnection(why) => Some(why.clone()),
            Self::NoTunnel(fault) => Some(fault.to_string()),
            _ => None,
        }
    }

    /// What this answer means. `now` is needed for a `Retry-After` that is a date.
    #[must_use]
    pub fn verdict(&self, now: Timestamp) -> Verdict {
        let (code, retry_after) = match self {
            Self::Status { code, retry_after } => (*code, retry_after),
            Self::NoTunnel(fault) => return Verdict::Retry { after: None, reason: proxy_reason(*fault) },
            Self::NoConnection(_) => return Verdict::Retry { after: None, reason: LedgerReason::NoConnection },
            Self::CutShort => return Verdict::Retry { after: None, reason: LedgerReason::CutShort },
            Self::TimedOut => return Verdict::Retry { after: None, reason: LedgerReason::TimedOut },
        };
        let after = || retry_after.as_deref().and_then(|value| parse_retry_after(value, now));
        match code {
            200..=299 => Verdict::Delivered,
            408 | 425 => Verdict::Retry { after: after(), reason: LedgerReason::AskedToRetry },
            429 => Verdict::Retry { after: after(), reason: LedgerReason::RateLimited },
            500..=599 => Verdict::Retry { after: after(), reason: LedgerReason::ServerError },
            300..=399 => Verdict::Drop { reason: LedgerReason::Redirected },
            400..=499 => Verdict::Drop { reason: LedgerReason::Refused },
            _ => Verdict::Drop { reason: LedgerReason::NotHttp },
        }
    }
}

/// Reads a `Retry-After`: seconds, or a date (RFC 9110, 10.2.3). Never more than [`RETRY_AFTER_MAX`]; `None` where it
/// cannot be read.
#[must_use]
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wanted = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More seconds than fit are more than are honoured.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = Timestamp::try_from(httpdate::parse_http_date(value).ok()?).ok()?;
        Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO)
    };
    Some(wanted.min(RETRY_AFTER_MAX))
}

/// What a proxy did.
fn proxy_reason(fault: ProxyFault) -> LedgerReason {
    match fault {
        ProxyFault::Unreachable => LedgerReason::ProxyUnreachable,
        ProxyFault::Login => LedgerReason::ProxyLogin,
        ProxyFault::Refused(_) => LedgerReason::ProxyRefused,
        ProxyFault::Answered(_) | ProxyFault::CutShort | ProxyFault::NotHttp | ProxyFault::SpeaksTls => {
            LedgerReason::ProxyFailed
        }
    }
}
