//! `[admin]` of the collector: where it tells its operator how it is, and whom.

use std::net::SocketAddr;

use pulse_telemetry_http::host::{Host, HostError, ZONE};
use pulse_telemetry_process::config::{Checker, ConfigError, Problem, TokenFile, allowed_host, tcp_address};
use secrecy::SecretString;
use serde::Deserialize;

/// Where metrics and readiness are told, and whom.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// The address that is bound; port 0 takes any free port.
    pub listen: SocketAddr,
    /// The file of the token that a caller must show; always there when the address is not on loopback.
    pub token_file: Option<TokenFile>,
    /// Names that a caller may use for this listener, besides `localhost` and every address.
    pub allowed_hosts: Vec<Host>,
}

impl AdminConfig {
    /// Reads the token that a caller must show; `None` where none is asked for.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold one token.
    pub fn read_token(&self) -> Result<Option<SecretString>, ConfigError> {
        Ok(self.token_file.as_ref().map(TokenFile::read).transpose()?)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAdmin {
    listen: String,
    token_file: String,
    allowed_hosts: Vec<String>,
}

impl RawAdmin {
    pub(super) fn check(self, check: &mut Checker<'_>) -> Option<AdminConfig> {
        let listen = tcp_address(&self.listen).map_err(|why| match why {
            HostError::Zone => ZONE,
            HostError::Malformed => "must be an address with a port, such as 127.0.0.1:7658, or localhost:PORT",
        });
        let listen: Option<SocketAddr> = check.accept("admin.listen", &self.listen, listen);
        let token_file = TokenFile::check_optional(check, "admin.token_file", &self.token_file);
        if self.token_file.is_empty() && listen.is_some_and(|listen| !listen.ip().to_canonical().is_loopback()) {
            let origin = check.origin("admin.listen");
            let why = format!(
                "is not set, and admin.listen {:?} from {origin} is not on loopback: name a file that holds a token",
                self.listen
            );
            check.add(Problem::new("admin.token_file", why));
        }
        let hosts: Vec<_> =
            self.allowed_hosts.iter().map(|host| allowed_host(check, "admin.allowed_hosts", host)).collect();
        Some(AdminConfig {
            listen: listen?,
            token_file: token_file?,
            allowed_hosts: hosts.into_iter().collect::<Option<_>>()?,
        })
    }
}
