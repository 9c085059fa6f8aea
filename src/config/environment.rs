//! The process environment as a plain value. Only the binary reads the real one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

/// The environment variables that the process was started with. Its `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// An environment of these names and values.
    #[must_use]
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// An environment as the system gives it (`std::env::vars_os`). What is not UTF-8 is replaced by U+FFFD, which no
    /// setting accepts, so that a variable of no concern does not stop the program and one of ours is named.
    #[must_use]
    pub fn from_os(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let text = |os: OsString| os.to_string_lossy().into_owned();
        Self::new(variables.into_iter().map(|(name, value)| (text(name), text(value))))
    }

    /// The variable's value, which may be empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The variable's value, where it is set and not blank.
    #[must_use]
    pub fn get_filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.trim().is_empty())
    }

    /// All names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The variables that speak of consent, as they were found; `None` where unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsentVariables {
    /// `PULSE_TELEMETRY`.
    pub pulse_telemetry: Option<String>,
    /// `DO_NOT_TRACK`.
    pub do_not_track: Option<String>,
    /// `PULSE_DISABLE_LOCAL_UPGRADE_METRICS`, which speaks of the local-only commercial events.
    pub disable_local_events: Option<String>,
}

impl ConsentVariables {
    pub(super) fn of(env: &Environment) -> Self {
        let value = |name| env.get(name).map(str::to_owned);
        Self {
            pulse_telemetry: value("PULSE_TELEMETRY"),
            do_not_track: value("DO_NOT_TRACK"),
            disable_local_events: value("PULSE_DISABLE_LOCAL_UPGRADE_METRICS"),
        }
    }
}

/// The proxy that outbound requests are to take. A proxy's address may hold a password, so `Debug` does not show it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyVariables {
    /// The first that is set and not empty of `https_proxy`, `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY`: curl's order.
    pub https: Option<String>,
    /// `no_proxy`, else `NO_PROXY`: the hosts that are reached directly.
    pub no_proxy: Option<String>,
}

impl ProxyVariables {
    pub(super) fn of(env: &Environment) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| env.get_filled(name)).map(str::to_owned);
        Self {
            https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            no_proxy: first(&["no_proxy", "NO_PROXY"]),
        }
    }
}

impl fmt::Debug for ProxyVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let https = self.https.as_ref().map(|_| "[not shown]");
        f.debug_struct("ProxyVariables").field("https", &https).field("no_proxy", &self.no_proxy).finish()
    }
}
