//! Reads Pulse: few requests, one after the other, each over a connection of its own.
//!
//! What to ask is decided here; what the answers mean is decided in `answers`.

pub(crate) mod answers;
mod dial;
mod not_pulse;
mod posture;
pub(crate) mod shapes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use pulse_telemetry_core::clock::MINUTE;
use pulse_telemetry_core::count::{Counter, Counts};
use pulse_telemetry_core::credential::TokenOrigins;
use pulse_telemetry_core::observation::{Platform, ReadError, Reading, Reason, Scope};
use pulse_telemetry_http::host::header_of;
use pulse_telemetry_http::tls::{TlsError, Trust};
use pulse_telemetry_http::wire::{self, Dial, Dialing, Exchange, ExchangeError};
use secrecy::{ExposeSecret, SecretString};

use crate::config::DEFAULT_ORGANIZATION;
pub use crate::config::{PlatformSetting, Tokens};
use crate::posture::Posture;
use answers::{Answers, Estate, LocalOverrides, PulseAnswer, Registry};
use not_pulse::{Answered, NotPulse};
use shapes::{
    ALERTS, ApiTokens, Health, JsonField, MissingScope, MockMode, Organizations, OwnPreview, STATE, STATE_MEMBERS,
    Security, Shape, Stats, Summary, Version,
};

const X_API_TOKEN: HeaderName = HeaderName::from_static("x-api-token");
const X_PULSE_ORG_ID: HeaderName = HeaderName::from_static("x-pulse-org-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("pulse-telemetry/", env!("CARGO_PKG_VERSION")));

/// The longest path before Pulse's own paths, so that both together are not too long for a URI (64 KiB).
const PREFIX_MAX: usize = 2 * 1024;

/// The most bytes that the body of a refusal has.
const REFUSAL_MAX: usize = 4 * 1024;

/// How long Pulse is left alone after a 429 that does not say.
const RETRY_AFTER_DEFAULT: Duration = MINUTE;
/// The longest that a 429 can ask for. One that a proxy says by mistake is not to silence preview and ping for a day.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10 * 60);

/// The most bytes of an answer that is counted while it arrives. That of an estate of 100,000 guests has some 200 MB.
const COUNTED_MAX: usize = 256 * 1024 * 1024;

/// The longest that a whole reading may take, where `pulse.timeout` is not longer.
const READING_MAX: Duration = Duration::from_secs(30);

/// Where Pulse is and how it is read.
#[derive(Clone, Debug)]
pub struct PulseSettings {
    /// `http` or `https`, host, perhaps a port and a path that Pulse's own paths follow.
    pub url: Uri,
    /// What opens Pulse's API.
    pub tokens: Tokens,
    /// The certificate authorities that are trusted.
    pub trust: Trust,
    /// The longest that one request may take, connecting included.
    pub timeout: Duration,
    /// Who says how Pulse was installed.
    pub platform: PlatformSetting,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The URL.
    #[error("pulse.url must be http:// or https://, a host and perhaps a port and a path; no user name, no query")]
    Url,
    /// A token that cannot be a header's value; its text is not told.
    #[error("the token is empty or has a character that no token has")]
    Token,
    /// The name of an organization that cannot be a header's value.
    #[error("pulse.organizations: a name is empty or has a character that no name has")]
    OrganizationName,
    /// An organization is there twice, and would be counted twice.
    #[error("pulse.organizations: a name is there twice")]
    OrganizationTwice,
    /// What holds for the whole installation is read with the token of `default`.
    #[error("pulse.organizations needs `default`, whose token reads what holds for the whole installation")]
    NoDefaultOrganization,
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Reads Pulse.
pub struct PulseClient {
    dial: Box<dyn Dial>,
    /// As it is configured, without a slash at its end.
    url: String,
    /// Before each of Pulse's own paths; does not end with a slash.
    prefix: String,
    host: HeaderValue,
    /// Whose answers hold for the whole installation; the other organizations are only counted.
    default: OrganizationHeaders,
    others: Vec<OrganizationHeaders>,
    timeout: Duration,
    overrides: LocalOverrides,
    origins: TokenOrigins,
}

/// What one reading of Pulse gave. The two parts come apart here: a ping is made of the first, and the second is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// What a ping is made of.
    pub reading: Reading,
    /// What else may leave the installation.
    pub posture: Posture,
}

/// The headers that are an organization's own.
struct OrganizationHeaders {
    name: Option<HeaderValue>,
    token: Option<HeaderValue>,
}

impl PulseClient {
    /// A client that connects to the host of `settings.url`.
    ///
    /// # Errors
    /// Where the settings contradict themselves or TLS cannot be set up.
    pub fn new(settings: PulseSettings) -> Result<Self, SettingsError> {
        let dial = dial::Direct::new(settings.url.clone(), &settings.trust)?;
        Self::with_dial(settings, Box::new(dial))
    }

    /// A client that reaches Pulse by `dial`.
    ///
    /// # Errors
    /// As for [`PulseClient::new`].
    pub fn with_dial(settings: PulseSettings, dial: Box<dyn Dial>) -> Result<Self, SettingsError> {
        let (default, others) = organizations(settings.tokens)?;
        let names = [&default].into_iter().chain(&others).filter_map(|organization| organization.name.as_ref());
        let organizations = names.filter_map(|name| Some(name.to_str().ok()?.to_owned())).collect();
        let platform = match settings.platform {
            PlatformSetting::Auto => None,
            PlatformSetting::Docker => Some(Platform::Docker),
            PlatformSetting::Binary => Some(Platform::Binary),
        };
        Ok(Self {
            dial,
            url: settings.url.to_string().trim_end_matches('/').to_owned(),
            prefix: settings.url.path().trim_end_matches('/').to_owned(),
            host: host(&settings.url)?,
            default,
            others,
            timeout: settings.timeout,
            overrides: LocalOverrides { platform, organizations },
            origins: TokenOrigins::default(),
        })
    }

    /// The same, and its errors say where the token comes from that Pulse did not take.
    #[must_use]
    pub fn naming_tokens(self, origins: TokenOrigins) -> Self {
        Self { origins, ..self }
    }

    /// Reads everything that Pulse tells. Dropping the future ends the request that is under way.
    ///
    /// # Errors
    /// Where Pulse cannot be reached or does not accept the token. Whatever else goes wrong is in the reading.
    pub async fn observe(&self) -> Result<Observation, ReadError> {
        let mut session = self.session();
        let answers = session.answers().await?;
        let reading = answers::read(&answers, &self.overrides, session.retry_after);
        Ok(Observation { reading, posture: posture::read(&answers) })
    }

    /// The same, without what no ping is made of.
    ///
    /// # Errors
    /// As for [`PulseClient::observe`].
    pub async fn read(&self) -> Result<Reading, ReadError> {
        Ok(self.observe().await?.reading)
    }

    /// The ping that Pulse would send itself, or why there is none. It makes Pulse write its ID file, so that only the
    /// command that compares asks for it, and says so.
    ///
    /// # Errors
    /// As for [`PulseClient::observe`].
    pub async fn own_preview(&self) -> Result<Result<serde_json::Map<String, serde_json::Value>, Reason>, ReadError> {
        let answer = self.session().get::<OwnPreview>(&self.default).await?;
        Ok(answer.and_then(|preview| preview.payload.required().cloned()))
    }

    fn session(&self) -> Session<'_> {
        Session {
            client: self,
            ends: tokio::time::sleep(READING_MAX.max(self.timeout)).deadline(),
            retry_after: None,
            ended: None,
            redirect: Answered::Redirect,
            token_was_of_use: false,
        }
    }

    fn request(&self, organization: &OrganizationHeaders, path: &str) -> Request<Full<Bytes>> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, self.host.clone());
        headers.insert(USER_AGENT, AGENT);
        headers.insert(ACCEPT, JSON);
        headers.extend(organization.token.clone().map(|token| (X_API_TOKEN, token)));
        headers.extend(organization.name.clone().map(|name| (X_PULSE_ORG_ID, name)));
        let mut request = Request::new(Full::default());
        *request.headers_mut() = headers;
        #[expect(clippy::expect_used, reason = "the prefix came out of a URI and the paths are this module's own")]
        let target = Uri::try_from(format!("{}{path}", self.prefix)).expect("together they are one");
        *request.uri_mut() = target;
        request
    }
}

fn organizations(tokens: Tokens) -> Result<(OrganizationHeaders, Vec<OrganizationHeaders>), SettingsError> {
    let named = match tokens {
        Tokens::None => return Ok((OrganizationHeaders { name: None, token: None }, Vec::new())),
        Tokens::One(one) => return Ok((OrganizationHeaders { name: None, token: Some(token(&one)?) }, Vec::new())),
        Tokens::Organizations(named) => named,
    };
    let mut default = None;
    let mut others: Vec<OrganizationHeaders> = Vec::new();
    for (name, secret) in named {
        let value = HeaderValue::from_str(&name).ok().filter(|_| !name.trim().is_empty());
        let organization = OrganizationHeaders {
            name: Some(value.ok_or(SettingsError::OrganizationName)?),
            token: Some(token(&secret)?),
        };
        if name == DEFAULT_ORGANIZATION {
            if default.replace(organization).is_some() {
                return Err(SettingsError::OrganizationTwice);
            }
        } else if others.iter().any(|other| other.name == organization.name) {
            return Err(SettingsError::OrganizationTwice);
        } else {
            others.push(organization);
        }
    }
    Ok((default.ok_or(SettingsError::NoDefaultOrganization)?, others))
}

fn token(secret: &SecretString) -> Result<HeaderValue, SettingsError> {
    let text = secret.expose_secret();
    let value = HeaderValue::from_str(text).ok().filter(|_| !text.trim().is_empty());
    let mut value = value.ok_or(SettingsError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

fn host(url: &Uri) -> Result<HeaderValue, SettingsError> {
    let authority = url.authority().ok_or(SettingsError::Url)?;
    let is_http = matches!(url.scheme_str(), Some("http" | "https"));
    let too_long = url.path().len() > PREFIX_MAX;
    if !is_http || too_long || authority.host().is_empty() || authority.as_str().contains('@') || url.query().is_some()
    {
        return Err(SettingsError::Url);
    }
    header_of(url).ok_or(SettingsError::Url)
}

/// One reading.
struct Session<'a> {
    client: &'a PulseClient,
    /// When the reading ends, whatever has been read by then.
    ends: tokio::time::Instant,
    /// Pulse answered 429: nothing more is asked.
    retry_after: Option<Duration>,
    /// Pulse did not answer in time: nothing more is asked, or a reading of a Pulse that hangs would take minutes.
    ended: Option<Reason>,
    /// What the last redirect tells.
    redirect: Answered,
    /// A request that needs a token succeeded with one.
    token_was_of_use: bool,
}

impl Session<'_> {
    async fn answers(&mut self) -> Result<Answers, ReadError> {
        let default = &self.client.default;
        let health = self.get::<Health>(default).await?;
        let version = self.get::<Version>(default).await?;
        let security = self.get::<Security>(default).await?;
        // Every Pulse has these, and opens them to everybody.
        let open = [health.as_ref().err(), version.as_ref().err(), security.as_ref().err()];
        let is_other_json = is_of_none(&health) && is_of_none(&version) && is_of_none(&security);
        let other_json = is_other_json.then_some(Answered::OtherJson);
        if let Some(answered) = Answered::of(&open, self.redirect, self.client.timeout).or(other_json) {
            return Err(self.not_pulse(Health::REQUEST, answered));
        }
        let settings = self.get(default).await?;
        let says_mock = version.as_ref().is_ok_and(Version::is_mock);
        let mock_mode = if says_mock { None } else { Some(self.get::<MockMode>(default).await?) };
        let mut estates = vec![self.estate(default).await?];
        let ai = self.get(default).await?;
        let relay = self.get(default).await?;
        let mut organizations = vec![self.get::<Organizations>(default).await?];
        let license = self.get(default).await?;
        for other in &self.client.others {
            organizations.push(self.get(other).await?);
            estates.push(self.estate(other).await?);
        }
        // Where Pulse asks for no token, it answers with any.
        let asks_for_token = security.as_ref().is_ok_and(|security| security.requires_auth == JsonField::Is(true));
        let token_is_known = self.token_was_of_use && asks_for_token;
        let api_tokens = if token_is_known { None } else { Some(self.get::<ApiTokens>(default).await?) };
        Ok(Answers {
            health,
            version,
            security,
            settings,
            mock_mode,
            estates,
            ai,
            relay,
            organizations,
            license,
            api_tokens,
        })
    }

    async fn estate(&mut self, organization: &OrganizationHeaders) -> Result<Estate, ReadError> {
        Ok(match self.get::<Stats>(organization).await? {
            Ok(stats) if stats.total != JsonField::Absent => {
                Estate::V6 { stats, registry: self.registry(organization).await? }
            }
            Ok(stats) if stats.total_resources == JsonField::Absent => Estate::Unread(Reason::WrongShape),
            Ok(_) | Err(Reason::Status(404)) => Estate::V5 {
                state: self.count(organization, STATE, Counter::members(STATE_MEMBERS)).await?,
                alerts: self.count(organization, ALERTS, Counter::elements()).await?,
            },
            Err(reason) => Estate::Unread(reason),
        })
    }

    /// What Pulse 6's ping counts of its registry. Stats and lists are of what is shown, which is less.
    async fn registry(&mut self, organization: &OrganizationHeaders) -> Result<Registry, ReadError> {
        Ok(match self.get::<Summary>(organization).await? {
            Err(Reason::Status(404)) => Registry::Lists {
                nodes: self.get(organization).await?,
                docker_hosts: self.get(organization).await?,
                alerts: self.count(organization, ALERTS, Counter::elements()).await?,
            },
            summary => Registry::Summary(summary),
        })
    }

    async fn get<T: Shape>(&mut self, organization: &OrganizationHeaders) -> Result<PulseAnswer<T>, ReadError> {
        let mut body = Bounded { bytes: Vec::new(), max: T::MAX };
        let status = match self.fetch(organization, T::REQUEST, T::ALSO_WITH, &mut body).await? {
            Ok(status) => status,
            Err(reason) => return Ok(Err(reason)),
        };
        Ok(match T::parse(&body.bytes) {
            // It is an error like any other where it does not say the same.
            Err(_) if status != StatusCode::OK => Err(Reason::Status(status.as_u16())),
            answer => answer,
        })
    }

    async fn count(
        &mut self,
        organization: &OrganizationHeaders,
        request: &'static str,
        counter: Counter,
    ) -> Result<PulseAnswer<Counts>, ReadError> {
        let mut counted = CountedBody { counter, left: COUNTED_MAX };
        let answer = self.fetch(organization, request, None, &mut counted).await?;
        Ok(answer.and_then(|_| counted.counter.finish().map_err(Reason::from)))
    }

    /// Makes one request and hands the body of a 200 to `sink`, or of the other status that says the same.
    async fn fetch(
        &mut self,
        organization: &OrganizationHeaders,
        request: &'static str,
        also_with: Option<u16>,
        sink: &mut dyn Sink,
    ) -> Result<PulseAnswer<StatusCode>, ReadError> {
        if self.retry_after.is_some() {
            return Ok(Err(Reason::RateLimited));
        }
        if let Some(reason) = &self.ended {
            return Ok(Err(reason.clone()));
        }
        let dial = Noting { dial: &*self.client.dial, connected: AtomicBool::new(false) };
        let within = tokio::time::sleep(self.client.timeout).deadline();
        let until = within.min(self.ends);
        let exchange = self.exchange(&dial, organization, request, also_with, sink);
        let outcome = tokio::time::timeout_at(until, exchange).await;
        let outcome = outcome.unwrap_or_else(|_| {
            // One who was slow before is there, though it had too little time left for this connection.
            let had_little = within - until > self.client.timeout / 10;
            if dial.connected.load(Ordering::Relaxed) || had_little {
                let reason = if had_little { Reason::OutOfTime } else { Reason::TimedOut };
                self.ended = Some(reason.clone());
                Ok(Err(reason))
            } else {
                Err(ReadError::Unreachable("no connection within pulse.timeout".to_owned()))
            }
        });
        match &outcome {
            Ok(Ok(_)) => tracing::debug!(request, "Pulse answered"),
            Ok(Err(reason)) => tracing::debug!(request, %reason, "Pulse told nothing"),
            Err(ReadError::Unreachable(_)) => tracing::debug!(request, "Pulse was not reached"),
            Err(ReadError::Unauthorized(_)) => tracing::debug!(request, "Pulse refused the token"),
            Err(ReadError::NotPulse(_)) => tracing::debug!(request, "this does not look like Pulse"),
        }
        outcome
    }

    async fn exchange(
        &mut self,
        dial: &dyn Dial,
        organization: &OrganizationHeaders,
        request: &'static str,
        also_with: Option<u16>,
        sink: &mut dyn Sink,
    ) -> Result<PulseAnswer<StatusCode>, ReadError> {
        let path = request.trim_start_matches("GET ");
        let mut exchange = match wire::exchange(dial, self.client.request(organization, path)).await {
            Ok(exchange) => exchange,
            Err(ExchangeError::Dial(error)) => return Err(ReadError::Unreachable(error.to_string())),
            Err(ExchangeError::SpeaksTls) => return Err(self.not_pulse(request, Answered::SpeaksHttps)),
            Err(broken) => return Ok(Err(reason_of(broken))),
        };
        let status = exchange.head.status;
        match status {
            StatusCode::OK => {
                let is_open = [Health::REQUEST, Version::REQUEST, Security::REQUEST].contains(&request);
                self.token_was_of_use |= organization.token.is_some() && !is_open;
                Ok(pour(&mut exchange, sink).await.map(|()| StatusCode::OK))
            }
            _ if also_with == Some(status.as_u16()) => {
                let reason = Reason::Status(status.as_u16());
                Ok(pour(&mut exchange, sink).await.map(|()| status).map_err(|_| reason))
            }
            StatusCode::UNAUTHORIZED => Err(self.unauthorized(organization)),
            StatusCode::FORBIDDEN => Ok(Err(match refusal(&mut exchange).await {
                Some(reason) => reason,
                None => return Err(self.unauthorized(organization)),
            })),
            StatusCode::BAD_REQUEST if asks_for_https(&mut exchange).await => {
                Err(self.not_pulse(request, Answered::SpeaksHttps))
            }
            StatusCode::TOO_MANY_REQUESTS => {
                self.retry_after = Some(retry_after(&exchange.head.headers));
                Ok(Err(Reason::RateLimited))
            }
            _ if status.is_redirection() => {
                self.redirect = match Uri::try_from(self.asked(request)) {
                    Ok(asked) => Answered::redirected(&asked, &exchange.head.headers),
                    Err(_) => Answered::Redirect,
                };
                Ok(Err(Reason::Redirected))
            }
            _ => Ok(Err(Reason::Status(status.as_u16()))),
        }
    }

    /// The whole URL of a request.
    fn asked(&self, request: &str) -> String {
        format!("{}{}", self.client.url, request.trim_start_matches("GET "))
    }

    fn not_pulse(&self, request: &str, answered: Answered) -> ReadError {
        ReadError::NotPulse(NotPulse::new(self.asked(request), !self.client.prefix.is_empty(), answered).to_string())
    }

    fn unauthorized(&self, organization: &OrganizationHeaders) -> ReadError {
        let name = organization.name.as_ref().and_then(|name| name.to_str().ok());
        ReadError::Unauthorized(self.client.origins.credential(name, organization.token.is_some()))
    }
}

/// Whether an answer is JSON that has nothing of what Pulse says there.
fn is_of_none<T: Shape + Default + PartialEq>(answer: &PulseAnswer<T>) -> bool {
    match answer {
        Ok(answer) => *answer == T::default(),
        Err(reason) => *reason == Reason::WrongShape,
    }
}

/// Where the body of an answer goes.
trait Sink: Send {
    fn take(&mut self, chunk: &[u8]) -> Result<(), Reason>;
}

/// A body that is kept, up to a bound.
struct Bounded {
    bytes: Vec<u8>,
    max: usize,
}

impl Sink for Bounded {
    fn take(&mut self, chunk: &[u8]) -> Result<(), Reason> {
        if self.max - self.bytes.len() < chunk.len() {
            return Err(Reason::TooLarge);
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }
}

/// A body that is counted while it arrives, up to a bound.
struct CountedBody {
    counter: Counter,
    left: usize,
}

impl Sink for CountedBody {
    fn take(&mut self, chunk: &[u8]) -> Result<(), Reason> {
        self.left = self.left.checked_sub(chunk.len()).ok_or(Reason::TooLarge)?;
        self.counter.push(chunk).map_err(Reason::from)
    }
}

async fn pour(exchange: &mut Exchange, sink: &mut dyn Sink) -> Result<(), Reason> {
    while let Some(chunk) = exchange.chunk().await.map_err(reason_of)? {
        sink.take(&chunk)?;
    }
    Ok(())
}

/// What a 403 means: a scope that the token lacks; `None` where the token is not accepted.
async fn refusal(exchange: &mut Exchange) -> Option<Reason> {
    let mut body = Bounded { bytes: Vec::new(), max: REFUSAL_MAX };
    if let Err(Reason::CutShort) = pour(exchange, &mut body).await {
        return Some(Reason::CutShort);
    }
    let refusal = shapes::parse::<MissingScope>(&body.bytes).ok().filter(|refusal| refusal.error == "missing_scope")?;
    Some(Reason::MissingScope(Scope::new(&refusal.required_scope)))
}

/// Whether a 400 says that the port takes HTTPS alone.
async fn asks_for_https(exchange: &mut Exchange) -> bool {
    let mut body = Bounded { bytes: Vec::new(), max: REFUSAL_MAX };
    // What came before the end of it says enough.
    let _ = pour(exchange, &mut body).await;
    wire::asks_for_https(&body.bytes)
}

/// Pulse says it in seconds. A date, which HTTP allows too, would need a clock that agrees with Pulse's.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    seconds.map_or(RETRY_AFTER_DEFAULT, Duration::from_secs).min(RETRY_AFTER_MAX)
}

/// Why an exchange that did not come to its end told nothing.
fn reason_of(error: ExchangeError) -> Reason {
    match error {
        // What is no HTTP is no JSON either.
        ExchangeError::Broken(error) if error.is_parse() => Reason::NotJson,
        ExchangeError::TooLong => Reason::TooLarge,
        ExchangeError::SpeaksTls => Reason::NotJson,
        ExchangeError::Broken(_) | ExchangeError::Dial(_) => Reason::CutShort,
    }
}

/// Remembers whether there was a connection, so that a time-out can be told from a Pulse that is not there.
struct Noting<'a> {
    dial: &'a dyn Dial,
    connected: AtomicBool,
}

impl Dial for Noting<'_> {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async move {
            let stream = self.dial.dial().await?;
            self.connected.store(true, Ordering::Relaxed);
            Ok(stream)
        })
    }
}
