//! Version identity: what a raw version string says of the build that reports it.
//!
//! The rules are Pulse's own (`internal/updates/version.go` there), so that the sidecar and Pulse's sender count the
//! same build as the same version; `tests/version.rs` holds them against recorded answers of Pulse's code.

/// The most bytes a version may have; a longer one is unknown. Official versions have 20.
pub const VERSION_MAX: usize = 256;

/// The most bytes a raw version may have; a longer one is left out of the ping and named.
pub const VERSION_RAW_MAX: usize = 128;

/// Whether published releases, development or something between is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// A release.
    Stable,
    /// A release candidate.
    Rc,
    /// A development build.
    Dev,
    /// Any other prerelease.
    Prerelease,
    /// Not a version that could be read.
    Unknown,
}

/// What is sent of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionIdentity {
    /// The canonical version, without a leading `v`.
    pub version: String,
    /// The string as it was found, trimmed, where it differs from `version`.
    pub raw: Option<String>,
    /// There was such a string, but it is too long or has control characters, so it is not sent.
    pub raw_left_out: bool,
    /// The channel that the version belongs to.
    pub channel: Channel,
    /// Build metadata: what follows the `+` of `version`.
    pub build: Option<String>,
    /// A development build.
    pub is_development: bool,
    /// A published stable release or release candidate.
    pub is_published_release: bool,
}

/// What `raw` says, or `None` where what it says is outside of the contract's bounds.
#[must_use]
pub fn identify(raw: &str) -> Option<VersionIdentity> {
    let trimmed = raw.trim();
    let version = canonical(trimmed);
    if version.len() > VERSION_MAX || !is_printable(&version) {
        return None;
    }
    let parts = SemVer::parse(&version);
    let build = parts.as_ref().map_or("", |parts| parts.build);
    let channel = parts.as_ref().map_or(Channel::Unknown, SemVer::channel);
    let differs = !trimmed.is_empty() && trimmed != version;
    let fits = trimmed.len() <= VERSION_RAW_MAX && is_printable(trimmed);
    Some(VersionIdentity {
        raw: (differs && fits).then(|| trimmed.to_owned()),
        raw_left_out: differs && !fits,
        channel,
        build: (!build.is_empty()).then(|| build.to_owned()),
        is_development: channel == Channel::Dev,
        is_published_release: build.is_empty() && matches!(channel, Channel::Stable | Channel::Rc),
        version,
    })
}

/// No control characters but a tab.
pub(crate) fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && c != '\t')
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
