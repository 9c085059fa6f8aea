//! Who is answered: the Host allow-list, the refusal of other sites, and the token, in this order.

use std::fmt;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};

use super::{ServeError, ServeSettings};
use crate::host::{Authority, Host, HostError};

const SEC_FETCH_SITE: &str = "sec-fetch-site";
const SEC_FETCH_DEST: &str = "sec-fetch-dest";
const X_API_TOKEN: &str = "x-api-token";

/// The longest part of a caller's own header that a refusal repeats, in bytes.
const SHOWN_MAX: usize = 256;

/// The guards of one server.
#[derive(Debug)]
pub struct Guards {
    /// The section of the configuration that they come from.
    section: &'static str,
    hosts: Vec<Host>,
    token: Option<Token>,
}

/// Why a request goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is not exactly one `Host`.
    HostMissing,
    /// By that section of the configuration.
    HostNotAllowed(&'static str),
    /// It comes from the page of another site.
    CrossSite,
    /// The page that asks has this `Origin`, and asks for this `Host`.
    OtherOrigin {
        /// Its `Origin`, as far as it can be shown.
        origin: String,
        /// The `Host` that it asks for, as far as it can be shown.
        host: String,
    },
    /// By that section of the configuration.
    Unauthorized(&'static str),
}

impl Guards {
    /// Guards with the keys of that section of the configuration.
    pub fn new(section: &'static str, settings: &ServeSettings) -> Result<Self, ServeError> {
        let token = settings.token.as_ref().map(Token::new).transpose()?;
        Ok(Self { section, hosts: settings.allowed_hosts.clone(), token })
    }

    /// Lets the request pass, or says why not.
    pub fn check(&self, request: &Parts) -> Result<(), Refusal> {
        let host = self.check_host(request)?;
        check_site(request, host)?;
        if is_api(request) { self.check_token(request) } else { Ok(()) }
    }

    /// Whether this caller may see data.
    ///
    /// # Errors
    /// A token is asked for, and it shows none or another one.
    pub fn check_token(&self, request: &Parts) -> Result<(), Refusal> {
        if self.may_see(request) { Ok(()) } else { Err(Refusal::Unauthorized(self.section)) }
    }

    /// Whether this caller may see data: it shows the token, or none is asked for.
    pub fn may_see(&self, request: &Parts) -> bool {
        self.token.as_ref().is_none_or(|token| token.is_shown(&request.headers))
    }

    /// A page of another site can make a browser ask this server under a name of its own that it lets point here (DNS
    /// rebinding), but not under another name, and not under an address. What asks for the health may use any name, and
    /// HTTP/1.0 without one, since there is nothing to see.
    fn check_host<'a>(&self, request: &'a Parts) -> Result<&'a str, Refusal> {
        let is_health = matches!(request.uri.path(), "/healthz" | "/readyz");
        let mut hosts = request.headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().map_err(|_| Refusal::HostNotAllowed(self.section)),
            (None, None) if is_health && request.version < Version::HTTP_11 => Ok(""),
            _ => return Err(Refusal::HostMissing),
        };
        if is_health {
            return Ok(host.unwrap_or(""));
        }
        let host = host?;
        // A target in absolute form names the server too.
        let target = request.uri.authority().map(|authority| authority.as_str());
        let allowed = [Some(host), target].into_iter().flatten().all(|name| self.is_allowed(name));
        if allowed { Ok(host) } else { Err(Refusal::HostNotAllowed(self.section)) }
    }

    /// The port is not looked at: a proxy or a published container port may change it.
    fn is_allowed(&self, authority: &str) -> bool {
        match Authority::parse(authority).map(|Authority { host, .. }| host) {
            Ok(Host::Address(_)) | Err(HostError::Zone) => true,
            Ok(name) => name.is_loopback() || self.hosts.contains(&name),
            Err(HostError::Malformed) => false,
        }
    }
}

/// Nothing may be changed from another site, and no other site's page needs to read the API, or anything in the place
/// of an image, a frame or a script. A link may lead here.
fn check_site(request: &Parts, host: &str) -> Result<(), Refusal> {
    let changes = !matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if let Some(site) = only(&request.headers, SEC_FETCH_SITE)? {
        let is_own = site == "same-origin" || site == "none";
        let is_link = only(&request.headers, SEC_FETCH_DEST)?.is_none_or(|dest| dest == "document");
        let may = is_own || !(changes || is_api(request)) && is_link;
        return if may { Ok(()) } else { Err(Refusal::CrossSite) };
    }
    match only(&request.headers, ORIGIN.as_str())? {
        Some(origin) if changes && !is_origin_of(origin, host) => {
            Err(Refusal::OtherOrigin { origin: shown(origin.as_bytes()), host: shown(host.as_bytes()) })
        }
        _ => Ok(()),
    }
}

/// The value of a header that browsers send once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Refusal::CrossSite),
    }
}

/// Whether the origin is this server as the caller names it, port included. Both schemes: a proxy may add TLS. A port
/// that is left out is the scheme's own.
fn is_origin_of(origin: &HeaderValue, host: &str) -> bool {
    let schemes = [("http://", 80), ("https://", 443)];
    let parts = origin
        .to_str()
        .ok()
        .and_then(|origin| schemes.into_iter().find_map(|(scheme, port)| Some((origin.strip_prefix(scheme)?, port))));
    let Some((origin, default_port)) = parts else { return false };
    let (Ok(origin), Ok(host)) = (Authority::parse(origin), Authority::parse(host)) else { return false };
    origin.host == host.host && origin.port.unwrap_or(default_port) == host.port.unwrap_or(default_port)
}

/// What the caller sent, as far as it can be shown in a line.
fn shown(header: &[u8]) -> String {
    let visible = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
    header.iter().take(SHOWN_MAX).map(visible).collect()
}

/// Whether what is asked for holds data.
fn is_api(request: &Parts) -> bool {
    request.uri.path().starts_with("/api/") || request.uri.path() == "/metrics"
}

/// The token that a caller must show. Only its HMAC is kept, since comparing those takes the same time whatever
/// differs.
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
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::HostMissing => StatusCode::BAD_REQUEST,
            Self::HostNotAllowed(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::CrossSite | Self::OtherOrigin { .. } => StatusCode::FORBIDDEN,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
        }
    }

    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::HostMissing => "bad_host",
            Self::HostNotAllowed(_) => "host_not_allowed",
            Self::CrossSite | Self::OtherOrigin { .. } => "cross_site",
            Self::Unauthorized(_) => "unauthorized",
        }
    }

    pub(super) fn message(&self) -> String {
        match self {
            Self::HostMissing => "A request needs exactly one Host header.".to_owned(),
            Self::HostNotAllowed(section) => format!(
                "This server does not answer under that name. Use localhost or an address, or add the name to \
                 {section}.allowed_hosts."
            ),
            Self::CrossSite => {
                "This request comes from the page of another site, which may not use this server.".to_owned()
            }
            Self::OtherOrigin { origin, host } => format!(
                "This request comes from a page of {origin} (its Origin) and asks for {host} (its Host), so it is the \
                 page of another site, or a proxy between them changed the Host. The proxy has to pass on the Host as \
                 the browser sent it, with its port: in nginx `proxy_set_header Host $http_host;`."
            ),
            Self::Unauthorized(section) => format!(
                "This server asks for its token ({section}.token_file), as `Authorization: Bearer` or `X-API-Token`."
            ),
        }
    }
}
