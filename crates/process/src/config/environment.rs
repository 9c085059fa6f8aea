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

/// The certificate authorities that the environment names.
#[must_use]
pub fn authorities(env: &Environment) -> Authorities {
    let filled = |name| env.get_filled(name).filter(|value| !value.trim().is_empty());
    Authorities {
        file: filled("SSL_CERT_FILE").map(PathBuf::from),
        directories: filled("SSL_CERT_DIR").map(str::to_owned),
    }
}
