//! `[serve]`: where the local page and API listen, and for whom.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use pulse_telemetry_http::host::{Host, HostError, ZONE};
use pulse_telemetry_process::config::{Checker, ConfigError, Problem, TokenFile, allowed_host, tcp_address};
use secrecy::SecretString;
use serde::Deserialize;

const ACCEPTED: &str = "must be an address with a port, such as 127.0.0.1:7656 or [::1]:7656, localhost:PORT, \
                        or unix:/absolute/path";

/// Where the local page and API listen, and for whom.
#[derive(Clone, Debug)]
pub struct Serve {
    /// The address that is bound.
    pub listen: Listen,
    /// The file of the token that a caller must show; always there when the address is not on loopback.
    pub token_file: Option<TokenFile>,
    /// More names that a caller may use for this server.
    pub allowed_hosts: Vec<Host>,
}

impl Serve {
    /// Reads the token that a caller must show; `None` where none is asked for.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold one token.
    pub fn read_token(&self) -> Result<Option<SecretString>, ConfigError> {
        Ok(self.token_file.as_ref().map(TokenFile::read).transpose()?)
    }
}

/// An address to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; port 0 takes any free port.
    Tcp(SocketAddr),
    /// A Unix socket at an absolute path.
    Unix(PathBuf),
}

impl Listen {
    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Self::Unix(path)) } else { Err(ACCEPTED) };
        }
        tcp_address(text).map(Self::Tcp).map_err(|why| if why == HostError::Zone { ZONE } else { ACCEPTED })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawServe {
    listen: String,
    token_file: String,
    allowed_hosts: Vec<String>,
}

impl RawServe {
    pub(super) fn check(self, check: &mut Checker<'_>) -> Option<Serve> {
        let listen = check.accept("serve.listen", &self.listen, Listen::parse(&self.listen));
        let token_file = TokenFile::check_optional(check, "serve.token_file", &self.token_file);
        if self.token_file.is_empty() && listen.as_ref().is_some_and(|listen| !listen.is_local()) {
            check.add(Problem::new("serve.token_file", self.why_a_token(check)));
        }
        let hosts: Vec<_> =
            self.allowed_hosts.iter().map(|host| allowed_host(check, "serve.allowed_hosts", host)).collect();
        Some(Serve {
            listen: listen?,
            token_file: token_file?,
            allowed_hosts: hosts.into_iter().collect::<Option<_>>()?,
        })
    }

    fn why_a_token(&self, check: &Checker<'_>) -> String {
        let (listen, origin) = (&self.listen, check.origin("serve.listen"));
        format!(
            "is not set, and serve.listen {listen:?} from {origin} is not on loopback: name a file that holds a token"
        )
    }
}
