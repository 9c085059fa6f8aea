//! `[pulse]`: how Pulse is reached and read.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pulse_telemetry_core::credential::TokenOrigins;
use pulse_telemetry_process::config::{
    Checker, ConfigError, Environment, Problem, SYSTEMD, TokenFile, parse_duration, token_of_variable,
};
use serde::Deserialize;

use super::{TokenSource, Tokens, Url};

/// The organization from which the flags of the whole installation come.
pub(crate) const DEFAULT_ORGANIZATION: &str = "default";

/// The longest name of an organization, as Pulse's own identifiers of organizations are.
const ORGANIZATION_MAX: usize = 64;

/// The file name of systemd's credential for the token.
const CREDENTIAL: &str = "pulse-token";

/// The variable that says where systemd's credentials are.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// How Pulse is reached and read.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// Pulse's address; `Url::join` puts Pulse's own paths behind it, whether it ends in a slash or not.
    pub url: Url,
    /// Where the API tokens come from.
    pub tokens: TokenSource,
    /// Where a single token was looked for, in words.
    looked_at: String,
    /// A file with the certificate authority (PEM) that signed Pulse's certificate. It is not read here.
    pub ca_file: Option<PathBuf>,
    /// How long one request may take: 1 second to 2 minutes.
    pub timeout: Duration,
    /// How Pulse is installed.
    pub platform: PlatformSetting,
}

impl Pulse {
    /// Reads the tokens from their files.
    ///
    /// # Errors
    /// Each file that cannot be read or does not hold one token, by its key and path.
    pub fn read_tokens(&self) -> Result<Tokens, ConfigError> {
        self.tokens.read().map_err(|problems| ConfigError { problems })
    }

    /// Where each token comes from, and where a single one was looked for, in words for people.
    #[must_use]
    pub fn token_origins(&self) -> TokenOrigins {
        let of_file = |file: &TokenFile| format!("the file {} ({})", file.path.display(), file.origin);
        let mut origins = TokenOrigins { looked_at: self.looked_at.clone(), ..TokenOrigins::default() };
        match &self.tokens {
            TokenSource::None => {}
            TokenSource::Inline(_) => "the environment variable PULSE_TOKEN".clone_into(&mut origins.single),
            TokenSource::File(file) => origins.single = of_file(file),
            TokenSource::Organizations(files) => {
                origins.organizations = files.iter().map(|(name, file)| (name.clone(), of_file(file))).collect();
            }
        }
        origins
    }
}

/// How Pulse is installed, as the setting says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlatformSetting {
    /// What Pulse itself says.
    #[default]
    Auto,
    /// In a container.
    Docker,
    /// As a program on the machine.
    Binary,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPulse {
    url: String,
    token_file: String,
    ca_file: String,
    timeout: String,
    platform: String,
    organizations: BTreeMap<String, String>,
}

impl RawPulse {
    pub(super) fn check(self, check: &mut Checker<'_>, env: &Environment) -> Option<Pulse> {
        let url = check.accept("pulse.url", &self.url, Url::parse(&self.url));
        let timeout = check.accept("pulse.timeout", &self.timeout, timeout(&self.timeout));
        let platform = check.accept("pulse.platform", &self.platform, platform(&self.platform));
        let tokens = self.tokens(check, env);
        let ca_file = Some(self.ca_file).filter(|path| !path.is_empty()).map(PathBuf::from);
        Some(Pulse {
            url: url?,
            tokens: tokens?,
            looked_at: looked_at(env),
            ca_file,
            timeout: timeout?,
            platform: platform?,
        })
    }

    /// The first there is of `PULSE_TOKEN`, a token file, and systemd's credential; or the organizations' files.
    fn tokens(&self, check: &mut Checker<'_>, env: &Environment) -> Option<TokenSource> {
        let inline = env.get_filled("PULSE_TOKEN");
        let file = TokenFile::check_optional(check, "pulse.token_file", &self.token_file);
        if !self.organizations.is_empty() {
            self.refuse_a_single_token(check, inline.is_some());
            return self.organizations(check);
        }
        if let Some(token) = inline {
            check.decide("PULSE_TOKEN", "[not shown]".to_owned(), "environment variable PULSE_TOKEN".to_owned());
            return token_of_variable("PULSE_TOKEN", token)
                .map(TokenSource::Inline)
                .map_err(|problem| check.add(problem))
                .ok();
        }
        if let Some(file) = file? {
            return Some(TokenSource::File(file));
        }
        let file =
            |path| TokenFile { path, key: "pulse.token_file".to_owned(), origin: format!("{SYSTEMD} {CREDENTIAL}") };
        let file = match credential(env) {
            Ok(Some(path)) => file(path),
            Ok(None) => return Some(TokenSource::None),
            Err((path, error)) => {
                check.add(file(path).unreadable(&error));
                return None;
            }
        };
        check.decide(&file.key, format!("{:?}", file.path.display().to_string()), file.origin.clone());
        Some(TokenSource::File(file))
    }

    fn refuse_a_single_token(&self, check: &mut Checker<'_>, inline: bool) {
        let in_file = !self.token_file.is_empty();
        let others = [
            inline.then(|| "environment variable PULSE_TOKEN".to_owned()),
            in_file.then(|| format!("pulse.token_file from {}", check.origin("pulse.token_file"))),
        ];
        let origin = check.origin("pulse.organizations");
        for other in others.into_iter().flatten() {
            let accepted = format!("contradicts {other}: give either one token or a token file for each organization");
            check.add(Problem::new("pulse.organizations", accepted).with_origin(&origin));
        }
    }

    fn organizations(&self, check: &mut Checker<'_>) -> Option<TokenSource> {
        if !self.organizations.contains_key(DEFAULT_ORGANIZATION) {
            let origin = check.origin("pulse.organizations");
            let accepted = "must have an entry named default: the flags of the whole installation come from it";
            check.add(Problem::new("pulse.organizations", accepted).with_origin(origin));
        }
        let files: Vec<_> = self.organizations.iter().map(|(name, path)| organization(check, name, path)).collect();
        files.into_iter().collect::<Option<_>>().map(TokenSource::Organizations)
    }
}

fn organization(check: &mut Checker<'_>, name: &str, path: &str) -> Option<(String, TokenFile)> {
    let key = format!("pulse.organizations.{name}");
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > ORGANIZATION_MAX || !name.chars().all(is_part) {
        check.refuse(&key, path, "must have a name of 1 to 64 letters, digits, - and _");
        return None;
    }
    Some((name.to_owned(), TokenFile::check(check, &key, path)?))
}

fn timeout(written: &str) -> Result<Duration, &'static str> {
    match parse_duration(written)? {
        timeout if (Duration::from_secs(1)..=Duration::from_secs(120)).contains(&timeout) => Ok(timeout),
        _ => Err("must be from 1s to 2m"),
    }
}

fn platform(written: &str) -> Result<PlatformSetting, &'static str> {
    match written.to_ascii_lowercase().as_str() {
        "auto" => Ok(PlatformSetting::Auto),
        "docker" => Ok(PlatformSetting::Docker),
        "binary" => Ok(PlatformSetting::Binary),
        _ => Err("must be auto, docker or binary"),
    }
}

/// Systemd's credential for the token, where there is one. What cannot be looked at is not taken for absent.
fn credential(env: &Environment) -> Result<Option<PathBuf>, (PathBuf, io::Error)> {
    let Some(directory) = env.get_filled(CREDENTIALS) else { return Ok(None) };
    let path = Path::new(directory).join(CREDENTIAL);
    match path.metadata() {
        Ok(_) => Ok(Some(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err((path, error)),
    }
}

/// Where a single token is looked for, and what systemd gave.
fn looked_at(env: &Environment) -> String {
    let by_systemd = match env.get_filled(CREDENTIALS) {
        Some(directory) => format!("there is no {CREDENTIAL} among systemd's credentials in {directory}"),
        None if env.get_filled("INVOCATION_ID").is_some() => {
            format!(
                "no credential {CREDENTIAL} came from systemd: another file of the unit may have emptied \
                 LoadCredential="
            )
        }
        None => format!("there is no credential {CREDENTIAL} of systemd, which did not start this"),
    };
    format!("PULSE_TOKEN, PULSE_TOKEN_FILE and pulse.token_file are not set, and {by_systemd}")
}
