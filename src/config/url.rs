//! The addresses that are talked to.

use std::fmt;
use std::net::Ipv6Addr;

use hyper::Uri;

use crate::wire::{is_loopback, port_of};

const ACCEPTED: &str = "must be a URL that begins with http:// or https:// and a host, such as https://pulse.lan:7655";

/// The longest a host name can be (RFC 1035, without the root's dot).
const HOST_MAX: usize = 253;

/// The longest one part of a host name can be (RFC 1035).
const LABEL_MAX: usize = 63;

/// An http or https address: a host, perhaps a port, perhaps a path. It has no user name, no query and no fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    uri: Uri,
    https: bool,
    host: String,
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
        if !text.is_ascii() {
            return Err("must be written in ASCII: a host name as xn--…, a path with %XX");
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
        let host = host_of(authority).ok_or(ACCEPTED)?;
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
        is_loopback(&self.host)
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

/// The host of `host`, `host:port` or `[v6]:port`, in lower case; none where one of both is wrong.
fn host_of(authority: &str) -> Option<String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            let address: Ipv6Addr = host.parse().ok()?;
            (address.to_string(), if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => {
            let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
            (host_name(host)?, port)
        }
    };
    port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0)).then_some(host)
}

/// The host name or IPv4 address in lower case, where `text` is one.
pub(super) fn host_name(text: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_label = |label: &str| (1..=LABEL_MAX).contains(&label.len()) && label.chars().all(is_part);
    (text.len() <= HOST_MAX && text.split('.').all(is_label)).then(|| text.to_ascii_lowercase())
}
