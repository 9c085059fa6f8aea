//! What is wrong with a configuration.

use std::fmt;

/// The most characters of a value that a message repeats.
const SHOWN_MAX: usize = 100;

/// Everything that is wrong, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong; never empty.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, or the variable or file where no key can be named.
    pub key: String,
    /// The value, quoted, where it may be shown.
    pub value: Option<String>,
    /// Where the value comes from.
    pub origin: Option<String>,
    /// What is accepted instead, or what to do.
    pub accepted: String,
}

impl Problem {
    /// A problem of `key`, whose value is not shown.
    pub fn new(key: &str, accepted: impl Into<String>) -> Self {
        Self { key: key.escape_debug().to_string(), value: None, origin: None, accepted: accepted.into() }
    }

    /// Adds where the value comes from.
    pub fn with_origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// Adds the value, a text, unless it may hold a secret.
    pub fn with_value(self, value: &str) -> Self {
        // A URL may hold a password in front of an `@`, or a token in its query.
        let may_be_secret = value.contains(['@', '?']);
        if may_be_secret { self } else { self.with_literal(format!("{:?}", shortened(value))) }
    }

    /// Adds the value, already written as it is to be shown, unless the key is one that may hold a secret: a token or a
    /// password may have been written where its file's path belongs.
    pub fn with_literal(mut self, value: String) -> Self {
        let may_be_secret = ["token", "password", "organizations", "storage.url"];
        if !may_be_secret.iter().any(|part| self.key.contains(part)) {
            self.value = Some(value);
        }
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, ": {value}")?;
        }
        if let Some(origin) = &self.origin {
            write!(f, " from {origin}")?;
        }
        write!(f, ": {}", self.accepted)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
