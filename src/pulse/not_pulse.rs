//! What answers at `pulse.url` and is not Pulse: one sentence in place of a row for each value that it did not tell.

use std::fmt;
use std::time::Duration;

use hyper::header::LOCATION;
use hyper::{HeaderMap, Uri};
use pulse_telemetry_core::observation::Reason;
use pulse_telemetry_http::wire::SPEAKS_HTTPS;

/// Something else than Pulse answers, or nothing does.
///
/// Each of its answers was of one kind, those of the routes included that every Pulse has and opens to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotPulse {
    /// The URL that was asked, in full.
    asked: String,
    /// `pulse.url` has a path, which stands before Pulse's own.
    has_path: bool,
    answered: Answered,
}

/// What became of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// The port takes HTTPS alone.
    SpeaksHttps,
    /// A redirect of the same path to HTTPS.
    RedirectToHttps,
    /// Any other redirect.
    Redirect,
    /// This status.
    Status(u16),
    /// Something that is no JSON.
    NotJson,
    /// JSON that has nothing of what Pulse says there.
    OtherJson,
    /// The connection ended.
    CutShort,
    /// More bytes than any answer of Pulse has.
    TooMuch,
    /// Nothing, within this time.
    Nothing(Duration),
}

impl NotPulse {
    /// That what was asked at `asked` was answered like this.
    pub(super) fn new(asked: String, has_path: bool, answered: Answered) -> Self {
        Self { asked, has_path, answered }
    }
}

impl Answered {
    /// The one thing that all of these say, where it is one that Pulse does not say of everything.
    pub(super) fn of(reasons: &[Option<&Reason>], redirect: Self, timeout: Duration) -> Option<Self> {
        let first = (*reasons.first()?)?;
        if reasons.iter().any(|reason| *reason != Some(first)) {
            return None;
        }
        Some(match first {
            Reason::Redirected => redirect,
            Reason::Status(status) => Self::Status(*status),
            Reason::NotJson => Self::NotJson,
            Reason::CutShort => Self::CutShort,
            Reason::TooLarge => Self::TooMuch,
            Reason::TimedOut => Self::Nothing(timeout),
            _ => return None,
        })
    }

    /// Where a redirect leads, as far as that tells what is wrong.
    pub(super) fn redirected(asked: &Uri, headers: &HeaderMap) -> Self {
        let to = headers.get(LOCATION).and_then(|to| Uri::try_from(to.as_bytes()).ok());
        let is_https = to.as_ref().is_some_and(|to| to.scheme_str() == Some("https") && to.path() == asked.path());
        if is_https && asked.scheme_str() == Some("http") { Self::RedirectToHttps } else { Self::Redirect }
    }
}

impl fmt::Display for NotPulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this does not look like Pulse: {} ", self.asked)?;
        let path = "the path of pulse.url is most likely one that does not belong there";
        match self.answered {
            Answered::SpeaksHttps => write!(f, "was refused, for {SPEAKS_HTTPS} in pulse.url"),
            Answered::RedirectToHttps => f.write_str("is redirected to https: try https:// in pulse.url"),
            Answered::Redirect => f.write_str(
                "is redirected to another page, as a sign-on page before Pulse does it: let the sidecar past it, or \
                 name Pulse's own address in pulse.url",
            ),
            Answered::Status(404) if self.has_path => write!(f, "is not there (404): {path}"),
            Answered::Status(404) => f.write_str(
                "is not there (404): pulse.url most likely names another port, or lacks the path that a proxy wants",
            ),
            Answered::Status(status @ 500..) => write!(
                f,
                "was answered {status}: Pulse fails, or a proxy before it does not reach it. Look at Pulse's log and \
                 at pulse.url"
            ),
            Answered::Status(status) => write!(
                f,
                "was answered {status}: another program most likely listens there; look at the port in pulse.url"
            ),
            Answered::NotJson if self.has_path => write!(f, "was answered with something else than JSON: {path}"),
            Answered::NotJson => f.write_str(
                "was answered with something else than JSON: another program most likely listens there; look at the \
                 port in pulse.url",
            ),
            Answered::OtherJson if self.has_path => write!(f, "was answered with JSON that is not Pulse's: {path}"),
            Answered::OtherJson => f.write_str(
                "was answered with JSON that is not Pulse's: another program most likely listens there; look at the \
                 port in pulse.url",
            ),
            Answered::CutShort => f.write_str(
                "ended without an answer: another program most likely listens there; look at the port in pulse.url",
            ),
            Answered::TooMuch => f.write_str(
                "was answered with more bytes than Pulse ever says: another program most likely listens there; look \
                 at the port in pulse.url",
            ),
            Answered::Nothing(timeout) => write!(
                f,
                "was not answered within pulse.timeout ({} s): Pulse hangs, or another program listens there. Where \
                 Pulse is only slow, a longer pulse.timeout helps",
                timeout.as_secs()
            ),
        }
    }
}
