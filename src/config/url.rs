//! The addresses that are talked to.

use std::fmt;

use hyper::Uri;
use pulse_telemetry_http::host::{Authority, Host, HostError, ZONE, port_of};

const ACCEPTED: &str = "must be a URL that begins with http:// or https:// and a host, such as https://pulse.lan:7655";

const BLANKS: &str = "must not have blanks or line ends around it";

const PORT: &str = "must have a port from 1 to 65535 behind the colon";

/// The longest address: what servers and proxies read.
const LENGTH_MAX: usize = 2048;

/// An http or https address: a host, perhaps a port, perhaps a path. It has no user name, no query and no fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    uri: Uri,
    https: bool,
    host: Host,
}

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is accepted instead, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains('#') {
            return Err("must not have a fragment (#…)");
        }
        if text.len() > LENGTH_MAX {
            return Err("must have at most 2048 characters");
        }
        if !text.is_ascii() {
            return Err("must be written in ASCII: a host name as xn--…, a path with %XX");
        }
        if text.trim() != text {
            return Err(BLANKS);
        }
        if authority_of(text).is_some_and(|authority| Authority::parse(authority) == Err(HostError::Zone)) {
            return Err(ZONE);
        }
        if authority_of(text).is_some_and(has_no_port_behind_its_colon) {
            return Err(PORT);
        }
        let uri: Uri = text.parse().map_err(|_| ACCEPTED)?;
        let https = match uri.scheme_str() {
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => true,
            Some(scheme) if scheme.eq_ignore_ascii_case("http") => false,
            _ => return Err(ACCEPTED),
        };
        let authority = uri.authority().ok_or(ACCEPTED)?.as_str();
        if authority.contains('@') {
            return Err("must not hold a user name or password");
        }
        if uri.query().is_some() {
            return Err("must not have a query (?…): requests carry nothing but what is documented");
        }
        let Authority { host, .. } = Authority::parse(authority).map_err(|_| ACCEPTED)?;
        Ok(Self { uri, https, host })
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Whether the host is this machine: 127.0.0.0/8, ::1, or the name `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.is_loopback()
    }

    /// The port, that of the scheme where none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        port_of(&self.uri)
    }

    /// The whole address.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

/// Whether a host is followed by a colon and no port. What stands before an @ is a login, which is refused as that.
fn has_no_port_behind_its_colon(authority: &str) -> bool {
    let address = authority.rsplit_once(']').map_or(authority, |(_, behind)| behind);
    let port = address.split_once(':').filter(|(host, port)| !host.contains('@') && !port.contains([':', '@']));
    port.is_some_and(|(_, port)| !port.bytes().all(|b| b.is_ascii_digit()) || !port.parse::<u16>().is_ok_and(|n| n > 0))
}

/// What stands where a URL has host and port, before anything is known of it.
fn authority_of(url: &str) -> Option<&str> {
    url.split_once("://")?.1.split(['/', '?', '#']).next()
}
