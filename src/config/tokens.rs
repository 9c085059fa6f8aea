//! Pulse's API tokens: where they come from.

use pulse_telemetry_process::config::{Problem, TokenFile};
use secrecy::SecretString;

/// Where Pulse's API tokens come from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// The variable `PULSE_TOKEN`.
    Inline(SecretString),
    /// One file: `PULSE_TOKEN_FILE`, `pulse.token_file`, or systemd's credential `pulse-token`.
    File(TokenFile),
    /// One file for each organization, `default` among them.
    Organizations(Vec<(String, TokenFile)>),
    /// Nowhere: Pulse is asked without a token.
    None,
}

impl TokenSource {
    /// The files that tokens are read from.
    pub(super) fn files(&self) -> Vec<&TokenFile> {
        match self {
            Self::None | Self::Inline(_) => Vec::new(),
            Self::File(file) => vec![file],
            Self::Organizations(files) => files.iter().map(|(_, file)| file).collect(),
        }
    }

    /// Reads the files.
    pub(super) fn read(&self) -> Result<Tokens, Vec<Problem>> {
        match self {
            Self::None => Ok(Tokens::None),
            Self::Inline(token) => Ok(Tokens::One(token.clone())),
            Self::File(file) => file.read().map(Tokens::One).map_err(|problem| vec![problem]),
            Self::Organizations(files) => read_all(files).map(Tokens::Organizations),
        }
    }
}

/// Pulse's API tokens.
#[derive(Clone, Debug)]
pub enum Tokens {
    /// There is none.
    None,
    /// One, for the one organization that it belongs to.
    One(SecretString),
    /// One for each organization, `default` among them.
    Organizations(Vec<(String, SecretString)>),
}

fn read_all(files: &[(String, TokenFile)]) -> Result<Vec<(String, SecretString)>, Vec<Problem>> {
    let mut tokens = Vec::new();
    let mut problems = Vec::new();
    for (name, file) in files {
        match file.read() {
            Ok(token) => tokens.push((name.clone(), token)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(tokens) } else { Err(problems) }
}
