//! The process environment as a plain value. Only the binary reads the real one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use pulse_telemetry_http::tls::Authorities;

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

/// A variable that was found set and not empty. Its `Debug` does not show the value, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
}

impl Variable {
    /// The first of the names that is set and not empty.
    fn first(env: &Environment, names: &[&'static str]) -> Option<Self> {
        names.iter().find_map(|name| env.get_filled(name).map(|value| Self { name, value: value.to_owned() }))
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variable").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The proxy that pings are to take, as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyVariables {
    /// The first that is set and not empty of `https_proxy`, `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY`: curl's order.
    pub https: Option<Variable>,
    /// `no_proxy`, else `NO_PROXY`: the hosts that are reached directly.
    pub no_proxy: Option<Variable>,
}

impl ProxyVariables {
    pub(super) fn of(env: &Environment) -> Self {
        Self {
            https: Variable::first(env, &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            no_proxy: Variable::first(env, &["no_proxy", "NO_PROXY"]),
        }
    }
}

/// The certificate authorities that the environment names.
pub(super) fn authorities(env: &Environment) -> Authorities {
    let filled = |name| env.get_filled(name).filter(|value| !value.trim().is_empty());
    Authorities {
        file: filled("SSL_CERT_FILE").map(PathBuf::from),
        directories: filled("SSL_CERT_DIR").map(str::to_owned),
    }
}
