//! Who is answered: the Host allow-list, the refusal of other sites, and the token, in this order.

use std::fmt;
use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};

use super::{ServeError, ServeSettings};
use crate::host::{Authority, Host};

const SEC_FETCH_SITE: &str = "sec-fetch-site";
const X_API_TOKEN: &str = "x-api-token";

/// The guards of one server.
#[derive(Debug)]
pub(super) struct Guards {
    hosts: Vec<Host>,
    token: Option<Token>,
}

/// Why a request goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    HostMissing,
    HostNotAllowed,
    CrossSite,
    Unauthorized,
}

impl Guards {
    /// Guards for a server that is bound to `bound`, or to a Unix socket.
    pub(super) fn new(settings: &ServeSettings, bound: Option<IpAddr>) -> Result<Self, ServeError> {
        let mut hosts = settings.allowed_hosts.clone();
        // The unspecified address stands for all addresses of the machine and is the name of none.
        hosts.extend(bound.filter(|ip| !ip.is_unspecified()).map(|ip| Host::Address(ip.to_canonical())));
        let token = settings.token.as_ref().map(Token::new).transpose()?;
        Ok(Self { hosts, token })
    }

    /// Lets the request pass, or says why not.
    pub(super) fn check(&self, request: &Parts) -> Result<(), Refusal> {
        let host = self.check_host(request)?;
        check_site(request, host)?;
        if is_api(request) && !self.may_see(request) { Err(Refusal::Unauthorized) } else { Ok(()) }
    }

    /// Whether this caller may see data: it shows the token, or none is asked for.
    pub(super) fn may_see(&self, request: &Parts) -> bool {
        self.token.as_ref().is_none_or(|token| token.is_shown(&request.headers))
    }

    /// A page of another site can make a browser ask this server under a name of its own that it lets point here (DNS
    /// rebinding), but not under another name.
    fn check_host<'a>(&self, request: &'a Parts) -> Result<&'a str, Refusal> {
        let mut hosts = request.headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(Refusal::HostMissing) };
        let host = host.to_str().map_err(|_| Refusal::HostNotAllowed)?;
        // A target in absolute form names the server too.
        let target = request.uri.authority().map(|authority| authority.as_str());
        let allowed = [Some(host), target].into_iter().flatten().all(|name| self.is_allowed(name));
        if allowed { Ok(host) } else { Err(Refusal::HostNotAllowed) }
    }

    /// The port is not looked at: a proxy or a published container port may change it.
    fn is_allowed(&self, authority: &str) -> bool {
        Authority::parse(authority).is_ok_and(|Authority { host, .. }| host.is_loopback() || self.hosts.contains(&host))
    }
}

/// Nothing may be changed from another site, and no other site's page needs to read the API.
fn check_site(request: &Parts, host: &str) -> Result<(), Refusal> {
    let changes = !matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let own = match only(&request.headers, SEC_FETCH_SITE)? {
        Some(site) => !(changes || is_api(request)) || site == "same-origin" || site == "none",
        None if changes => only(&request.headers, ORIGIN.as_str())?.is_none_or(|origin| is_origin_of(origin, host)),
        None => true,
    };
    if own { Ok(()) } else { Err(Refusal::CrossSite) }
}

/// The value of a header that browsers send once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Refusal::CrossSite),
    }
}

/// Whether the origin is this server as the caller names it, port included. Both schemes: a proxy may add TLS.
fn is_origin_of(origin: &HeaderValue, host: &str) -> bool {
    origin.to_str().is_ok_and(|origin| {
        let name = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        name.is_some_and(|name| Authority::parse(name).is_ok_and(|name| Authority::parse(host) == Ok(name)))
    })
}

/// Whether what is asked for holds data.
fn is_api(request: &Parts) -> bool {
    request.uri.path().starts_with("/api/") || request.uri.path() == "/metrics"
}

/// The token that a caller must show. Only its HMAC is kept, since comparing those takes the same time whatever differs.
struct Token {
    key: hmac::Key,
    expected: hmac::Tag,
}

impl Token {
    fn new(token: &SecretString) -> Result<Self, ServeError> {
        let token = token.expose_secret();
        if token.is_empty() {
            return Err(ServeError::EmptyToken);
        }
        // The key need not be secret: it only makes all inputs equally long.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"serve.token");
        let expected = hmac::sign(&key, token.as_bytes());
        Ok(Self { key, expected })
    }

    fn is_shown(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        let own = headers.get(X_API_TOKEN).map(HeaderValue::as_bytes);
        [bearer, own].into_iter().flatten().any(|shown| hmac::verify(&self.key, shown, self.expected.as_ref()).is_ok())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

fn bearer(credentials: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = credentials.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::HostMissing => StatusCode::BAD_REQUEST,
            Self::HostNotAllowed => StatusCode::MISDIRECTED_REQUEST,
            Self::CrossSite => StatusCode::FORBIDDEN,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::HostMissing => "bad_host",
            Self::HostNotAllowed => "host_not_allowed",
            Self::CrossSite => "cross_site",
            Self::Unauthorized => "unauthorized",
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::HostMissing => "A request needs exactly one Host header.",
            Self::HostNotAllowed => {
                "This server does not answer under that name. Use localhost or 127.0.0.1, or add the name to \
                 serve.allowed_hosts."
            }
            Self::CrossSite => "This request comes from the page of another site, which may not use this server.",
            Self::Unauthorized => {
                "This server asks for its token (serve.token_file), as `Authorization: Bearer` or `X-API-Token`."
            }
        }
    }
}
