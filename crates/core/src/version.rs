//! Version identity: what a raw version string says of the build that reports it.
//!
//! The rules are Pulse's own (`internal/updates/version.go` there), so that the sidecar and Pulse's sender count the
//! same build as the same version; `tests/it/version.rs` holds them against recorded answers of Pulse's code.

use crate::words::words;
use std::fmt;

/// The most bytes that each of the texts that are sent may have. Official versions have 20.
pub const VERSION_MAX: usize = 64;

words! {
    /// Whether published releases, development or something between is running.
    pub enum Channel {
        /// A release.
        Stable = "stable",
        /// A release candidate.
        Rc = "rc",
        /// A development build.
        Dev = "dev",
        /// Any other prerelease.
        Prerelease = "prerelease",
        /// Not a version that could be read.
        Unknown = "unknown",
    }
}

/// What is sent of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionIdentity {
    /// The canonical version, without a leading `v`.
    pub version: String,
    /// The string as it was found, trimmed, where it differs from `version`.
    pub raw: Option<String>,
    /// There was such a string, but it is not of the sort that may be sent.
    pub raw_left_out: bool,
    /// The channel that the version belongs to.
    pub channel: Channel,
    /// Build metadata: what follows the `+` of `version`.
    pub build: Option<String>,
    /// There was some, but it is not of the sort that may be sent.
    pub build_left_out: bool,
    /// A development build.
    pub is_development: bool,
    /// A published stable release or release candidate.
    pub is_published_release: bool,
}

impl fmt::Display for VersionIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)
    }
}

/// What is sent of `raw`, or `None` where the version itself may not be sent.
#[must_use]
pub fn identify(raw: &str) -> Option<VersionIdentity> {
    VersionIdentity::of(raw).sendable()
}

/// Whether a text may be sent as a version, a raw version or a build: letters, digits, `.`, `+` and `-`, and few of
/// them, so that no name, path or markup of somebody's own build leaves by accident.
#[must_use]
pub fn is_sendable(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-');
    (1..=VERSION_MAX).contains(&text.len()) && text.bytes().all(is_part)
}

impl VersionIdentity {
    /// What `raw` says, whatever its length and its characters: what Pulse's own code makes of it.
    #[must_use]
    pub fn of(raw: &str) -> Self {
        let trimmed = raw.trim();
        let version = canonical(trimmed);
        let parts = SemVer::parse(&version);
        let build = parts.as_ref().map_or("", |parts| parts.build);
        let channel = parts.as_ref().map_or(Channel::Unknown, SemVer::channel);
        let differs = !trimmed.is_empty() && trimmed != version;
        Self {
            raw: differs.then(|| trimmed.to_owned()),
            raw_left_out: false,
            channel,
            build: (!build.is_empty()).then(|| build.to_owned()),
            build_left_out: false,
            is_development: channel == Channel::Dev,
            is_published_release: build.is_empty() && matches!(channel, Channel::Stable | Channel::Rc),
            version,
        }
    }

    /// The same without the texts that may not be sent; `None` where the version itself may not.
    fn sendable(mut self) -> Option<Self> {
        if !is_sendable(&self.version) {
            return None;
        }
        self.raw_left_out = self.raw.take_if(|raw| !is_sendable(raw)).is_some();
        self.build_left_out = self.build.take_if(|build| !is_sendable(build)).is_some();
        Some(self)
    }
}

fn canonical(trimmed: &str) -> String {
    let version = trimmed.strip_prefix('v').unwrap_or(trimmed);
    if version.is_empty() {
        return "0.0.0-dev".to_owned();
    }
    if let Some(described) = from_git_describe(version) {
        return described;
    }
    if SemVer::parse(version).is_some() {
        return version.to_owned();
    }
    format!("0.0.0-{}", reduced(version))
}

/// `X.Y.Z[-pre]-N-gHEX[-dirty]` → `X.Y.Z[-pre]+git.N.ghex[.dirty]`.
fn from_git_describe(version: &str) -> Option<String> {
    let (clean, dirty) = match version.strip_suffix("-dirty") {
        Some(clean) => (clean, ".dirty"),
        None => (version, ""),
    };
    let (rest, commit) = clean.rsplit_once('-')?;
    let (base, distance) = rest.rsplit_once('-')?;
    let hex = commit.strip_prefix('g')?;
    let is_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(distance) || hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let prerelease = after_numbers(base)?;
    let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    if !(prerelease.is_empty() || prerelease.strip_prefix('-').is_some_and(plain)) {
        return None;
    }
    Some(format!("{base}+git.{distance}.g{}{dirty}", hex.to_ascii_lowercase()))
}

/// The text reduced to letters, digits, `-` and `.`, in lower case; `dev` when nothing is left.
/// Of several separators in a row the first stays.
fn reduced(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            kept.push(c.to_ascii_lowercase());
        } else if !kept.ends_with(['-', '.']) {
            kept.push(if c == '.' { '.' } else { '-' });
        }
    }
    match kept.trim_matches(['-', '.']) {
        "" => "dev".to_owned(),
        kept => kept.to_owned(),
    }
}

/// What follows the three numbers of `X.Y.Z…`.
fn after_numbers(text: &str) -> Option<&str> {
    let number = |text| {
        let rest = str::trim_start_matches(text, |c: char| c.is_ascii_digit());
        (rest.len() < str::len(text)).then_some(rest)
    };
    let rest = number(text)?.strip_prefix('.')?;
    let rest = number(rest)?.strip_prefix('.')?;
    number(rest)
}

/// The parts of a semantic version, read as leniently as Pulse reads them.
struct SemVer<'a> {
    prerelease: &'a str,
    build: &'a str,
}

impl<'a> SemVer<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let rest = after_numbers(text.strip_prefix('v').unwrap_or(text))?;
        let (prerelease, rest) = match rest.strip_prefix('-') {
            Some(rest) => {
                let (prerelease, build) = rest.split_at(rest.find('+').unwrap_or(rest.len()));
                (Some(prerelease), build)
            }
            None => (None, rest),
        };
        let build = match rest.strip_prefix('+') {
            Some(build) => Some(build),
            None if rest.is_empty() => None,
            None => return None,
        };
        if prerelease == Some("") || build.is_some_and(|build| build.is_empty() || build.contains('\n')) {
            return None;
        }
        Some(Self { prerelease: prerelease.unwrap_or(""), build: build.unwrap_or("") })
    }

    fn channel(&self) -> Channel {
        if !self.build.is_empty() {
            return Channel::Dev;
        }
        let prerelease = self.prerelease.to_lowercase();
        if has_rc_number(&prerelease) {
            Channel::Rc
        } else if prerelease.is_empty() {
            Channel::Stable
        } else if prerelease == "dev" || prerelease.starts_with("dev.") {
            Channel::Dev
        } else {
            Channel::Prerelease
        }
    }
}

/// Whether the text holds `rc` and digits, a dot between them or not. Only the first such place counts, and its number
/// must fit 63 bits, as in Pulse.
fn has_rc_number(lower: &str) -> bool {
    let number = lower.match_indices("rc").find_map(|(at, _)| {
        let rest = &lower[at + 2..];
        let rest = rest.strip_prefix('.').unwrap_or(rest);
        let digits = &rest[..rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len()];
        (!digits.is_empty()).then_some(digits)
    });
    number.is_some_and(|digits| digits.parse::<i64>().is_ok())
}
