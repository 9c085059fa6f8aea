//! The proxy that pings may go through: what `HTTPS_PROXY` names, and for which hosts `NO_PROXY` excludes it.
//!
//! A value that can be read in more than one way is refused: a part of a password would else be taken for a host, and
//! looked up. Nothing of a value is ever shown.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Uri;
use hyper::http::HeaderValue;
use ipnet::IpNet;
use pulse_telemetry_core::verdict::ProxyFault;
use pulse_telemetry_http::host::{Authority, Host, unmapped};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A proxy that is spoken to over plain HTTP, and asked for a tunnel.
#[derive(Clone)]
pub struct Proxy {
    address: Uri,
    login: Option<HeaderValue>,
}

/// Why the text is no proxy that can be used. The message has no byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The login holds characters that could also end it.
    #[error(
        "its user name and password can be read in more than one way: write every character of them that is no letter, \
         digit, -, . or _ percent-encoded (@ as %40, / as %2F, : as %3A, # as %23, % as %25)"
    )]
    Login,
    /// The scheme is another one than `http`.
    #[error("only a proxy that is reached over plain HTTP can be used: write it as http://host:port")]
    Scheme,
    /// Anything else.
    #[error("it must be written as http://host:port, or http://user:password@host:port")]
    Malformed,
}

impl Proxy {
    /// Reads `[http://][user[:password]@]host[:port][/]`.
    ///
    /// # Errors
    /// It is not of that form, or could be read in another way as well.
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let text = text.trim();
        // What stands before the last @ is the login, whatever is in it.
        let (before, address) = text.rsplit_once('@').map_or((None, text), |(before, address)| (Some(before), address));
        let (login, address) = match before {
            Some(before) => (Some(login(without_scheme(before)?)?), address),
            None => (None, without_scheme(address)?),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let Authority { port, .. } = Authority::parse(address).map_err(|_| ProxyError::Malformed)?;
        if port == Some(0) || address.ends_with(':') {
            return Err(ProxyError::Malformed);
        }
        let address = format!("http://{address}/").parse().map_err(|_| ProxyError::Malformed)?;
        Ok(Self { address, login })
    }

    /// Where it is: `http://host:port/`, the host as it was written.
    #[must_use]
    pub fn address(&self) -> &Uri {
        &self.address
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy([not shown])")
    }
}

/// What follows `http://`, or all of a text without a scheme.
fn without_scheme(text: &str) -> Result<&str, ProxyError> {
    let Some((scheme, rest)) = text.split_once("://") else {
        // `http:secret@host` could be a URL whose slashes were forgotten.
        let is_scheme = |name: &str| ["http", "https", "socks4", "socks5"].iter().any(|s| name.eq_ignore_ascii_case(s));
        let looks_like_one = text.split_once(':').is_some_and(|(name, _)| is_scheme(name));
        return if looks_like_one { Err(ProxyError::Malformed) } else { Ok(text) };
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    match scheme {
        scheme if scheme.eq_ignore_ascii_case("http") => Ok(rest),
        scheme if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(is_name) => {
            Err(ProxyError::Scheme)
        }
        // A password with :// in it.
        _ => Err(ProxyError::Login),
    }
}

/// The value of `Proxy-Authorization` for `user[:password]`, both percent-encoded where they need it.
fn login(text: &str) -> Result<HeaderValue, ProxyError> {
    // RFC 3986: what a login may hold as it is. Anything else could end it.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte);
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decode = |part: &str| -> Option<Vec<u8>> {
        let mut decoded = Vec::with_capacity(part.len());
        let mut rest = part.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'%' => {
                    let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
                    decoded.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                    rest = &rest[2..];
                }
                byte if is_plain(byte) || byte == b':' => decoded.push(byte),
                _ => return None,
            }
        }
        Some(decoded)
    };
    let (user, password) = decode(user).zip(decode(password)).ok_or(ProxyError::Login)?;
    // A user name with a colon would end there for the proxy.
    if user.contains(&b':') {
        return Err(ProxyError::Login);
    }
    let basic = BASE64_STANDARD.encode([&user[..], b":", &password[..]].concat());
    let mut value = HeaderValue::from_str(&format!("Basic {basic}")).map_err(|_| ProxyError::Login)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The hosts that are reached without the proxy, as Go's programs, Pulse among them, read `NO_PROXY`.
#[derive(Clone, Debug, Default)]
pub struct NoProxy {
    entries: Vec<NoProxyEntry>,
    not_understood: Vec<String>,
}

#[derive(Clone, Debug)]
enum NoProxyEntry {
    Everything,
    Network(IpNet),
    Address(IpAddr, Option<u16>),
    /// `domain`: the name itself, and those below it.
    Domain(Host, Option<u16>),
    /// `.domain`, `*.domain`: those below it.
    Below(Host, Option<u16>),
}

impl NoProxy {
    /// Reads a list whose entries are separated by commas or blanks.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut list = Self::default();
        for written in text.split(|c: char| c == ',' || c.is_whitespace()).filter(|written| !written.is_empty()) {
            match NoProxyEntry::parse(written) {
                Some(entry) => list.entries.push(entry),
                None => list.not_understood.push(written.to_owned()),
            }
        }
        list
    }

    /// Whether that host is reached without the proxy at that port.
    #[must_use]
    pub fn excludes(&self, host: &Host, port: u16) -> bool {
        let at = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        self.entries.iter().any(|entry| match (entry, host) {
            (NoProxyEntry::Everything, _) => true,
            (NoProxyEntry::Network(network), Host::Address(address)) => network.contains(address),
            (NoProxyEntry::Address(excluded, wanted), Host::Address(address)) => excluded == address && at(wanted),
            (NoProxyEntry::Domain(domain, wanted), Host::Name(_)) => host.is_within(domain) && at(wanted),
            (NoProxyEntry::Below(domain, wanted), Host::Name(_)) => {
                host.is_within(domain) && host != domain && at(wanted)
            }
            _ => false,
        })
    }

    /// The entries that are none of these, for the log. One that may hold a login is not shown.
    pub fn not_understood(&self) -> impl Iterator<Item = &str> {
        self.not_understood.iter().map(|written| if written.contains('@') { "[not shown]" } else { written })
    }
}

impl NoProxyEntry {
    fn parse(written: &str) -> Option<Self> {
        if written == "*" {
            return Some(Self::Everything);
        }
        if let Ok(network) = written.parse::<IpNet>() {
            return Some(Self::Network(unmapped(network)));
        }
        if let Ok(Host::Address(address)) = Host::parse_bare(written) {
            return Some(Self::Address(address, None));
        }
        let below = written.strip_prefix("*.").or_else(|| written.strip_prefix('.'));
        let Authority { host, port } = Authority::parse(below.unwrap_or(written)).ok()?;
        if port == Some(0) || written.ends_with(':') {
            return None;
        }
        match (host, below) {
            (Host::Address(address), None) => Some(Self::Address(address, port)),
            (Host::Address(_), Some(_)) => None,
            (name, None) => Some(Self::Domain(name, port)),
            (name, Some(_)) => Some(Self::Below(name, port)),
        }
    }
}

/// The most bytes that a proxy's answer may have, with all the 1xx answers before it.
const ANSWER_MAX: usize = 256 * 1024;

/// Asks the proxy at the other end for a tunnel to that host and port.
///
/// # Errors
/// It gives none.
pub(crate) async fn tunnel<S>(stream: &mut S, proxy: &Proxy, target: &str) -> Result<(), ProxyFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let login = proxy.login.iter().flat_map(|login| [b"Proxy-Authorization: ", login.as_bytes(), b"\r\n"]).flatten();
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    request.extend(login);
    request.extend(b"\r\n");
    stream.write_all(&request).await.map_err(|_| ProxyFault::CutShort)?;
    let mut answer = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.map_err(|_| ProxyFault::CutShort)?;
        if read == 0 {
            return Err(if is_http(&answer) { ProxyFault::CutShort } else { ProxyFault::NotHttp });
        }
        answer.extend_from_slice(&piece[..read]);
        if let Some(verdict) = verdict(&answer) {
            return verdict;
        }
        if answer.len() > ANSWER_MAX {
            return Err(ProxyFault::NotHttp);
        }
    }
}

/// What the answer says, as far as it is there; `None` while its end is missing.
fn verdict(mut answer: &[u8]) -> Option<Result<(), ProxyFault>> {
    loop {
        if matches!(answer, [0x15 | 0x16, 0x03, ..]) {
            return Some(Err(ProxyFault::SpeaksTls));
        }
        if !is_http(answer) {
            return Some(Err(ProxyFault::NotHttp));
        }
        let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let (head, rest) = answer.split_at(head_end);
        let status = head.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        return Some(match status {
            // The other end of a tunnel waits for this side to speak; what comes before that is not from it.
            Some(200..=299) if rest.is_empty() => Ok(()),
            Some(100..=199) => {
                answer = rest;
                if answer.is_empty() {
                    return None;
                }
                continue;
            }
            Some(407) => Err(ProxyFault::Login),
            Some(status @ 400..=499) => Err(ProxyFault::Refused(status)),
            Some(status @ 300..=599) => Err(ProxyFault::Answered(status)),
            _ => Err(ProxyFault::NotHttp),
        });
    }
}

/// Whether the bytes are the beginning of an answer.
fn is_http(answer: &[u8]) -> bool {
    let start = b"HTTP/1.";
    answer.iter().zip(start).all(|(byte, expected)| byte == expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulse_telemetry_http::host::port_of;

    fn parts(text: &str) -> Result<(String, u16, Option<String>), ProxyError> {
        Proxy::parse(text).map(|proxy| {
            let basic =
                proxy.login.as_ref().map(|login| login.to_str().unwrap().trim_start_matches("Basic ").to_owned());
            let login = basic.map(|basic| String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap());
            (proxy.address().host().unwrap().to_owned(), port_of(proxy.address()), login)
        })
    }

    #[test]
    fn a_proxy_is_read_in_one_way_and_every_password_can_be_given_encoded() {
        let read = |host: &str, port, login: Option<&str>| Ok((host.to_owned(), port, login.map(str::to_owned)));
        assert_eq!(parts("http://proxy.lan:3128"), read("proxy.lan", 3128, None));
        assert_eq!(parts(" HTTP://proxy.lan:3128/ "), read("proxy.lan", 3128, None));
        assert_eq!(parts("proxy.lan:3128"), read("proxy.lan", 3128, None));
        assert_eq!(parts("proxy.lan."), read("proxy.lan.", 80, None));
        assert_eq!(parts("http://[fd00::1]:8080"), read("[fd00::1]", 8080, None));
        assert_eq!(parts("http://[fd00::1]"), read("[fd00::1]", 80, None));
        assert_eq!(parts("http://anna@10.0.0.5:3128"), read("10.0.0.5", 3128, Some("anna:")));
        assert_eq!(parts("http://anna:a:b!$@proxy:1"), read("proxy", 1, Some("anna:a:b!$")));
        assert_eq!(parts("anna:pass@proxy:1"), read("proxy", 1, Some("anna:pass")));
        let every = " !\"#$%&'()*+,-./0:;<=>?@A[\\]^_`a{|}~é€";
        let encoded: String = every.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let login = format!("anna:{every}");
        assert_eq!(parts(&format!("http://anna:{encoded}@proxy:3128")), read("proxy", 3128, Some(&login)));
    }

    #[test]
    fn a_proxy_that_can_be_read_in_more_than_one_way_is_refused_without_a_byte_of_its_value() {
        for secret in [
            "hun@ter2",
            "hun/ter2",
            "hun?ter2",
            "hun#ter2",
            "hun[ter2",
            "hun]ter2",
            "hun\\ter2",
            "hun ter2",
            "hun%ter2",
            "hun%2",
            "hunté",
            "hun://ter2",
            "hun\"ter2",
            "hun<ter2",
            "hun^ter2",
            "hun`ter2",
            "hun{ter2",
            "hun|ter2",
            "/",
            "@",
            "#@/?:",
            "hun\u{7f}ter2",
        ] {
            for text in [
                format!("http://anna:{secret}@proxy.lan:3128"),
                format!("anna:{secret}@proxy.lan:3128"),
                format!("http://{secret}@proxy.lan:3128"),
            ] {
                let refused = parts(&text).expect_err(&text);
                assert_eq!(refused, ProxyError::Login, "{text}");
                assert!(!refused.to_string().contains("ter2"), "{text}");
            }
        }
        assert_eq!(parts("http://an%3Ana:x@proxy:1"), Err(ProxyError::Login));
        for text in ["https://proxy:3128", "socks5://anna:x@proxy:1080", "SOCKS5h://proxy"] {
            assert_eq!(parts(text), Err(ProxyError::Scheme), "{text}");
        }
        for text in [
            "",
            "http://",
            "http://anna:x@",
            "http:x@proxy:1",
            "http:proxy",
            "http://proxy:0",
            "http://proxy:",
            "http://proxy:x",
            "http://proxy:3128/path",
            "http://proxy/?q",
            "http://proxy#f",
            "http://pro xy",
            "http://[fe80::1%eth0]:1",
            "http://proxy:1,http://other:2",
        ] {
            assert_eq!(parts(text), Err(ProxyError::Malformed), "{text}");
        }
    }

    #[test]
    fn no_proxy_is_read_as_go_reads_it() {
        let excludes =
            |list: &str, host: &str, port: u16| NoProxy::parse(list).excludes(&Host::parse(host).unwrap(), port);
        for (list, host, port) in [
            ("pulserelay.pro", "license.pulserelay.pro", 443),
            ("license.pulserelay.pro", "license.pulserelay.pro", 443),
            ("license.pulserelay.pro.", "license.pulserelay.pro", 443),
            ("LICENSE.pulserelay.PRO", "license.pulserelay.pro.", 443),
            (".pulserelay.pro", "license.pulserelay.pro", 443),
            ("*.pulserelay.pro", "license.pulserelay.pro", 443),
            ("*.pulserelay.pro.:443", "license.pulserelay.pro", 443),
            ("license.pulserelay.pro:443", "license.pulserelay.pro", 443),
            ("a, ,b.example ,  pulserelay.pro", "license.pulserelay.pro", 443),
            ("a b.example\tpulserelay.pro", "license.pulserelay.pro", 443),
            ("*", "license.pulserelay.pro", 443),
            ("x, *", "10.0.0.5", 1),
            ("10.0.0.5", "10.0.0.5", 1),
            ("10.0.0.0/8", "10.9.9.9", 1),
            ("10.0.0.5:8443", "10.0.0.5", 8443),
            ("10.0.0.0/8", "[::ffff:10.9.9.9]", 1),
            ("::ffff:10.0.0.0/104", "10.9.9.9", 1),
            ("fd00::/8", "[fd00::1]", 1),
            ("fd00::1", "[fd00::1]", 1),
            ("[fd00::1]", "[fd00::1]", 1),
            ("[fd00::1]:443", "[fd00::1]", 443),
            ("localhost", "localhost", 1),
        ] {
            assert!(excludes(list, host, port), "{list} {host}:{port}");
        }
        for (list, host, port) in [
            (".pulserelay.pro", "pulserelay.pro", 443),
            ("*.pulserelay.pro", "pulserelay.pro", 443),
            ("relay.pro", "license.pulserelay.pro", 443),
            ("license.pulserelay.pro:8443", "license.pulserelay.pro", 443),
            ("10.0.0.5:8443", "10.0.0.5", 443),
            ("10.0.0.0/8", "11.0.0.1", 1),
            ("0.0.0.5", "10.0.0.5", 1),
            ("", "license.pulserelay.pro", 443),
        ] {
            assert!(!excludes(list, host, port), "{list} {host}:{port}");
        }
        let list = NoProxy::parse("http://a, *a, a.*, 10.0.0.0/99, user:pw@host, fine.lan, a:b, a:, .10.0.0.5");
        let strange: Vec<_> = list.not_understood().collect();
        assert_eq!(strange, ["http://a", "*a", "a.*", "10.0.0.0/99", "[not shown]", "a:b", "a:", ".10.0.0.5"]);
    }
}
