//! The addresses that are talked to.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::Uri;

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
    port: u16,
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
        let (host, port) = split_authority(authority).ok_or(ACCEPTED)?;
        let port = port.unwrap_or(if https { 443 } else { 80 });
        Ok(Self { uri, https, host, port })
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host in lower case: a name, an IPv4 address, or an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, which is the scheme's own where none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the host is this machine: 127.0.0.0/8, ::1, or the name `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback())
            || self.host.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback())
    }

    /// The whole address.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The address of `path_and_query`, which begins with a slash, under this one's path; `None` where it is no path.
    #[must_use]
    pub fn join(&self, path_and_query: &str) -> Option<Uri> {
        let base = self.to_string();
        format!("{}{path_and_query}", base.trim_end_matches('/')).parse().ok()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

/// Host and port of `host`, `host:port` or `[v6]:port`.
fn split_authority(authority: &str) -> Option<(String, Option<u16>)> {
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
    match port.map(str::parse::<u16>) {
        None => Some((host, None)),
        Some(Ok(port)) if port != 0 => Some((host, Some(port))),
        Some(_) => None,
    }
}

/// The host name or IPv4 address in lower case, where `text` is one.
pub(super) fn host_name(text: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_label = |label: &str| (1..=LABEL_MAX).contains(&label.len()) && label.chars().all(is_part);
    (text.len() <= HOST_MAX && text.split('.').all(is_label)).then(|| text.to_ascii_lowercase())
}
