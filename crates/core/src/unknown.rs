//! What could not be read of Pulse, and why.
//!
//! A reason can name a scope or an organization, each in a type of its own that is bounded.

use std::fmt;

/// A value that was read, or why it could not be.
pub type Value<T> = Result<T, Unknown>;

/// A value that could not be read. Unknown is not zero and not false: while one is left, no ping is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What is unknown: the name of a field of the ping, or of a fact that decides whether one may be sent.
    pub what: &'static str,
    /// The request that should have told, for instance `GET /api/settings/ai`.
    pub request: &'static str,
    /// Why it did not.
    pub reason: Reason,
}

/// Why a request to Pulse told nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 403 `missing_scope`: the token may not read this.
    MissingScope(Scope),
    /// An answer with a status that this request should not get.
    Status(u16),
    /// 429: Pulse asks for fewer requests.
    RateLimited,
    /// A redirect, which is never followed.
    Redirected,
    /// No whole answer within `pulse.timeout`.
    TimedOut,
    /// The reading had taken as long as one may.
    OutOfTime,
    /// The connection ended before the answer did.
    CutShort,
    /// The answer is not JSON.
    NotJson,
    /// JSON, but not of the shape that Pulse is known to answer.
    WrongShape,
    /// An answer larger than this request can have.
    TooLarge,
    /// A value outside of the contract's bounds.
    OutOfBounds,
    /// Pulse has organizations, and `pulse.organizations` names none of them.
    OrganizationsNotConfigured,
    /// Organizations that a token lists and `pulse.organizations` does not name.
    OrganizationsNotNamed(OrganizationNames),
    /// Organizations that `pulse.organizations` names and their own tokens do not list.
    OrganizationsGone(OrganizationNames),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingScope(scope) => write!(f, "the token lacks the scope {scope}"),
            Self::Status(status) => write!(f, "Pulse answered {status}"),
            Self::RateLimited => f.write_str("Pulse asked for fewer requests (429)"),
            Self::Redirected => f.write_str("Pulse answered with a redirect, which is not followed"),
            Self::TimedOut => f.write_str("no whole answer within pulse.timeout"),
            Self::OutOfTime => f.write_str("not read in the time that a whole reading may take"),
            Self::CutShort => f.write_str("the answer was cut short"),
            Self::NotJson => f.write_str("the answer is not JSON"),
            Self::WrongShape => f.write_str("the answer has another shape than Pulse's"),
            Self::TooLarge => f.write_str("the answer is larger than expected"),
            Self::OutOfBounds => f.write_str("the value is outside of the contract's bounds"),
            Self::OrganizationsNotConfigured => f.write_str("pulse.organizations names none of Pulse's organizations"),
            Self::OrganizationsNotNamed(names) => write!(f, "pulse.organizations does not name {names}"),
            Self::OrganizationsGone(names) => write!(f, "the token of {names} does not list it"),
        }
    }
}

/// The name of a scope that Pulse asked for, such as `settings:read`.
///
/// Text from Pulse that a person is shown: only small letters, `:`, `_` and `-`, 32 bytes at most, get through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// The scope of that name, or `unnamed` where the text cannot be the name of one.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let plausible = !name.is_empty()
            && name.len() <= 32
            && name.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b':' | b'_' | b'-'));
        Self(if plausible { name } else { "unnamed" }.to_owned())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names of organizations, for people; Pulse's own identifiers, never the names that people gave them.
///
/// Only letters, digits, `-`, `_` and `.` get through, 64 bytes at most of a name, and a few names. `Debug` hides them,
/// so that they cannot get into a log by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct OrganizationNames(Vec<String>);

impl OrganizationNames {
    /// As many as are shown by name.
    const SHOWN: usize = 8;

    /// Those names; `unnamed` stands for a text that cannot be the name of one.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let plausible = |name: &str| (1..=64).contains(&name.len()) && name.chars().all(is_part);
        let mut names: Vec<_> = names.into_iter().map(|name| if plausible(name) { name } else { "unnamed" }).collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into_iter().map(str::to_owned).collect())
    }
}

impl fmt::Display for OrganizationNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, more) = self.0.split_at(self.0.len().min(Self::SHOWN));
        f.write_str(&shown.join(", "))?;
        if more.is_empty() { Ok(()) } else { write!(f, " and {} more", more.len()) }
    }
}

impl fmt::Debug for OrganizationNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OrganizationNames({} hidden)", self.0.len())
    }
}
