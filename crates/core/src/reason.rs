//! Why something is in the ledger: one word of a small set, which metrics and log use too.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// Why an attempt, an ID, or the history ended as it did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum LedgerReason {
            $($(#[$doc])* $variant,)+
        }

        impl LedgerReason {
            /// The word for it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The reason with that word. A ledger that another version wrote may have others.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

reasons! {
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
    /// The ping was tried for an interval.
    GaveUp = "gave_up",
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
}

impl LedgerReason {
    /// Whether it says what a proxy did.
    #[must_use]
    pub fn is_of_a_proxy(self) -> bool {
        matches!(self, Self::ProxyUnreachable | Self::ProxyLogin | Self::ProxyRefused | Self::ProxyFailed)
    }
}

impl fmt::Display for LedgerReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
