//! Hosts and ports as a URL, a `Host` header or a setting writes them: the one parser of them, for both programs.
//!
//! DNS writes a name in two forms, relative (`pulse.lan`) and absolute (`pulse.lan.`). A resolver tells them apart, so
//! a lookup gets the form that the operator wrote. Everybody else compares names, and for that both forms are one.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::Uri;
use hyper::http::HeaderValue;
use ipnet::{IpNet, Ipv4Net};
use rustls::pki_types::ServerName;

/// The longest a host name can be (RFC 1035), without the dot of the absolute form.
const NAME_MAX: usize = 253;

/// The longest one label of a host name can be (RFC 1035).
const LABEL_MAX: usize = 63;

/// What to write instead of an IPv6 address with a zone.
pub const ZONE: &str = "must not hold an IPv6 address with a zone (%…), which is a matter of one machine's interfaces: \
                        use a host name, or an address that needs no zone";

/// A host, for comparing: two hosts are equal where they are the same name or the same address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address. An IPv4 address that is written as an IPv6 one is the IPv4 address.
    Address(IpAddr),
    /// A name, in lower case and in its relative form.
    Name(String),
}

/// Why a text is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// It is an IPv6 address with a zone.
    Zone,
    /// It is neither a name nor an address.
    Malformed,
}

impl Host {
    /// Reads a name, an IPv4 address, or an IPv6 address in brackets.
    ///
    /// # Errors
    /// It is none of them.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if let Some(rest) = text.strip_prefix('[') {
            return rest.strip_suffix(']').ok_or(HostError::Malformed).and_then(ipv6);
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        name(text).map(Self::Name).ok_or(HostError::Malformed)
    }

    /// Reads a host without a port, where an IPv6 address may stand without brackets.
    ///
    /// # Errors
    /// It is no host.
    pub fn parse_bare(text: &str) -> Result<Self, HostError> {
        if text.contains(':') && !text.starts_with('[') { ipv6(text) } else { Self::parse(text) }
    }

    /// Whether it is this machine: 127.0.0.0/8, ::1, or the name `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }

    /// Whether it is `domain` itself or a name below it.
    #[must_use]
    pub fn is_within(&self, domain: &Self) -> bool {
        match (self, domain) {
            (Self::Name(name), Self::Name(domain)) => {
                name.strip_suffix(domain.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('.'))
            }
            _ => self == domain,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A host with perhaps a port, as it stands in a URL or a `Host` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port; none where no port is written, or an empty one (`host:`).
    pub port: Option<u16>,
}

impl Authority {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    ///
    /// # Errors
    /// The host is none, or the port is no number from 0 to 65535.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let end = text.find(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match text[end..].find(':') {
            Some(colon) => (&text[..end + colon], &text[end + colon + 1..]),
            None => (text, ""),
        };
        let host = Host::parse(host)?;
        // `parse` of a number takes a sign.
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HostError::Malformed);
        }
        let port = if port.is_empty() { None } else { Some(port.parse().map_err(|_| HostError::Malformed)?) };
        Ok(Self { host, port })
    }
}

/// The host of a URL.
///
/// # Errors
/// It has none.
pub fn host_of(url: &Uri) -> Result<Host, HostError> {
    Host::parse(url.host().unwrap_or_default())
}

/// Whether a host, as a URL writes it, is this machine.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    Host::parse_bare(host).is_ok_and(|host| host.is_loopback())
}

/// The port of an `http` or `https` URL, that of the scheme where none is written.
#[must_use]
pub fn port_of(url: &Uri) -> u16 {
    let of_the_scheme = if url.scheme_str() == Some("https") { 443 } else { 80 };
    url.port_u16().unwrap_or(of_the_scheme)
}

/// The `Host` header of a request to `url`, in which a name is relative: servers compare it with the names that they
/// have. `None` where the URL has no host.
#[must_use]
pub fn header_of(url: &Uri) -> Option<HeaderValue> {
    let host = url.host().filter(|host| !host.is_empty())?;
    let relative = host.strip_suffix('.').unwrap_or(host);
    let header = url.port().map_or_else(|| relative.to_owned(), |port| format!("{relative}:{port}"));
    HeaderValue::from_str(&header).ok()
}

/// The name that the certificate of `url` must have, in which a name is relative, as in every certificate.
///
/// # Errors
/// The URL has no host that a certificate can name.
pub fn server_name(url: &Uri) -> Result<ServerName<'static>, Box<dyn Error + Send + Sync>> {
    match host_of(url).map_err(|_| "the URL has no host")? {
        Host::Address(address) => Ok(address.into()),
        Host::Name(name) => Ok(name.try_into()?),
    }
}

/// The IPv4 network that an IPv4-mapped one stands for; any other as it is. Addresses are compared in this form.
#[must_use]
pub fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let length = mapped.prefix_len().checked_sub(96);
    let ipv4 = mapped.addr().to_ipv4_mapped().zip(length);
    ipv4.and_then(|(addr, length)| Ipv4Net::new(addr, length).ok()).map_or(network, IpNet::V4)
}

fn ipv6(text: &str) -> Result<Host, HostError> {
    if let Some((address, _zone)) = text.split_once('%') {
        return Err(if address.parse::<Ipv6Addr>().is_ok() { HostError::Zone } else { HostError::Malformed });
    }
    let address = text.parse::<Ipv6Addr>().map_err(|_| HostError::Malformed)?;
    Ok(Host::Address(IpAddr::V6(address).to_canonical()))
}

/// The name in lower case and in its relative form, where `text` is one.
fn name(text: &str) -> Option<String> {
    let relative = text.strip_suffix('.').unwrap_or(text);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_label = |label: &str| (1..=LABEL_MAX).contains(&label.len()) && label.chars().all(is_part);
    // No resolver takes an address with a dot behind it for that address.
    let is_name =
        relative.len() <= NAME_MAX && relative.split('.').all(is_label) && relative.parse::<Ipv4Addr>().is_err();
    is_name.then(|| relative.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_name_are_one_host() {
        for (written, other) in [
            ("pulse.lan.", "pulse.lan"),
            ("PULSE.Lan", "pulse.lan."),
            ("localhost.", "LOCALHOST"),
            ("pulse.monitoring.svc.cluster.local.", "pulse.monitoring.svc.cluster.local"),
            ("_pulse._tcp.lan.", "_pulse._tcp.lan"),
            ("[::FFFF:127.0.0.1]", "127.0.0.1"),
            ("[0:0::1]", "[::1]"),
        ] {
            assert_eq!(Host::parse(written), Host::parse(other), "{written}");
            assert!(Host::parse(written).is_ok(), "{written}");
        }
    }

    #[test]
    fn the_longest_name_may_be_absolute_too() {
        let label = "x".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "x".repeat(61));
        assert_eq!(longest.len(), NAME_MAX);
        let absolute = format!("{longest}.");
        assert_eq!(Host::parse(&absolute), Ok(Host::Name(longest.clone())));
        assert_eq!(Host::parse(&format!("x{longest}")), Err(HostError::Malformed));
        let url: Uri = format!("https://{absolute}/").parse().unwrap();
        assert_eq!(server_name(&url).unwrap(), ServerName::try_from(longest).unwrap());
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..",
            "a..b",
            ".a",
            "a b",
            "a,b",
            "user@host",
            "*",
            "*.lan",
            "a/b",
            "é",
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[::1]x",
            "[x]",
            "[127.0.0.1]",
            "127.0.0.1.",
            "a:1",
        ] {
            assert_eq!(Host::parse(text), Err(HostError::Malformed), "{text:?}");
        }
        for text in ["[fe80::1%25eth0]", "[fe80::1%eth0]", "[fe80::1%2]"] {
            assert_eq!(Host::parse(text), Err(HostError::Zone), "{text}");
        }
        assert_eq!(Host::parse_bare("fe80::1%eth0"), Err(HostError::Zone));
    }

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        let parts = |text: &str| Authority::parse(text).map(|authority| (authority.host.to_string(), authority.port));
        let parted = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(parts("Pulse.LAN."), parted("pulse.lan", None));
        assert_eq!(parts("pulse.lan.:7655"), parted("pulse.lan", Some(7655)));
        assert_eq!(parts("pulse.lan:"), parted("pulse.lan", None));
        assert_eq!(parts("[fd00::1]:443"), parted("fd00::1", Some(443)));
        assert_eq!(parts("10.0.0.5:0"), parted("10.0.0.5", Some(0)));
        for text in ["", ":80", "a:b", "a:+1", "a:65536", "a:1:2", "[::1]1", "[::1]:x", "::1", "]:1", "a]:1"] {
            assert_eq!(parts(text), Err(HostError::Malformed), "{text:?}");
        }
        assert_eq!(parts("[fe80::1%25eth0]:80"), Err(HostError::Zone));
    }

    #[test]
    fn this_machine_is_recognised_in_each_of_its_spellings() {
        for host in ["localhost", "LocalHost.", "127.0.0.1", "127.9.9.9", "[::1]", "::1", "[::ffff:127.0.0.1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["localhost..", "localhost.lan.", "127.0.0.1.", "127.1", "128.0.0.1", "[::2]", "[::ffff:10.0.0.1]", ""]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_domain_holds_itself_and_the_names_below_it_in_both_forms() {
        let within = |host: &str, domain: &str| Host::parse(host).unwrap().is_within(&Host::parse(domain).unwrap());
        assert!(within("pulse.lan.", "lan") && within("PULSE.lan", "pulse.lan.") && within("a.b.lan", "b.LAN."));
        assert!(!within("notlan", "lan") && !within("lan", "pulse.lan") && !within("10.0.0.5", "0.0.5.lan"));
        assert!(within("10.0.0.5", "[::ffff:10.0.0.5]"));
    }

    #[test]
    fn the_host_header_and_the_certificate_have_the_relative_name_and_the_lookup_keeps_its_form() {
        for (url, header, name) in [
            ("https://Pulse.lan.:8443/x", "Pulse.lan:8443", "pulse.lan"),
            ("https://pulse.lan./", "pulse.lan", "pulse.lan"),
            ("https://pulse.lan:443", "pulse.lan:443", "pulse.lan"),
            ("https://[fd00::1]:1/", "[fd00::1]:1", "fd00::1"),
            ("https://10.0.0.5/", "10.0.0.5", "10.0.0.5"),
        ] {
            let uri: Uri = url.parse().unwrap();
            assert_eq!(header_of(&uri).unwrap(), header);
            assert_eq!(server_name(&uri).unwrap().to_str(), name);
            assert!(url.contains(uri.host().unwrap()));
        }
        assert_eq!(header_of(&Uri::from_static("/path")), None);
    }
}
