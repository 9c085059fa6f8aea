//! The only door to the endpoint.
//!
//! One attempt is one connection and one POST. No redirect is followed, no TLS session is resumed, nothing is tried
//! again here, and the request carries four headers: `host`, `user-agent`, `content-type` and `content-length`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use tower_service::Service;

use crate::host;
use crate::verdict::Answer;
use crate::wire::{self, Dial, DialError, Dialing, ExchangeError, Stream, Trust};

/// All the time that one attempt has: connecting, sending, and the head of the answer.
pub const ATTEMPT_TIME: Duration = Duration::from_secs(10);

/// The same for everyone: a version here would tell installations apart.
const AGENT: HeaderValue = HeaderValue::from_static("pulse-telemetry");

/// Where pings go, and how to get there.
#[derive(Clone, Debug)]
pub struct SendSettings {
    /// The endpoint: https, or http on loopback.
    pub endpoint: Uri,
    /// `HTTPS_PROXY`.
    pub https_proxy: Option<String>,
    /// `NO_PROXY`.
    pub no_proxy: Option<String>,
}

impl SendSettings {
    /// The TCP port that a ping is sent to: the endpoint's, or the proxy's where one is asked.
    ///
    /// # Errors
    /// Where the proxy cannot be used.
    pub fn port(&self) -> Result<u16, SendSetupError> {
        let proxy = proxy_for(self)?;
        Ok(host::port_of(proxy.as_ref().map_or(&self.endpoint, |proxy| proxy.uri())))
    }
}

/// Why the sender could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SendSetupError {
    /// The proxy is not one that can be used.
    #[error(
        "the proxy in HTTPS_PROXY (https_proxy, ALL_PROXY or all_proxy) cannot be used: write it as http://host:port, or \
         name the endpoint's host in NO_PROXY"
    )]
    Proxy,
    /// The endpoint has no host.
    #[error("telemetry.endpoint has no host")]
    NoHost,
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] wire::TlsError),
}

/// Sends pings.
pub struct Sender {
    endpoint: Uri,
    host: HeaderValue,
    dial: Box<dyn Dial>,
}

impl Sender {
    /// A sender over real connections.
    ///
    /// # Errors
    /// Where the proxy cannot be used or TLS cannot be set up.
    pub fn new(settings: &SendSettings) -> Result<Self, SendSetupError> {
        let dial = EndpointDial::new(settings)?;
        Self::with_dial(settings.endpoint.clone(), Box::new(dial))
    }

    /// A sender over other connections.
    ///
    /// # Errors
    /// Where the endpoint has no host.
    pub fn with_dial(endpoint: Uri, dial: Box<dyn Dial>) -> Result<Self, SendSetupError> {
        let host = host::header_of(&endpoint).ok_or(SendSetupError::NoHost)?;
        Ok(Self { endpoint, host, dial })
    }

    /// Makes one attempt. Dropping the future closes the connection.
    pub async fn attempt(&self, body: String) -> Answer {
        match tokio::time::timeout(ATTEMPT_TIME, self.post(body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(ExchangeError::Dial(DialError(why)))) => Answer::NoConnection(why),
            Ok(Err(error @ ExchangeError::SpeaksTls)) => Answer::NoConnection(error.to_string()),
            Ok(Err(ExchangeError::Broken(_) | ExchangeError::TooLong)) => Answer::CutShort,
            Err(_) => Answer::TimedOut,
        }
    }

    async fn post(&self, body: String) -> Result<Answer, ExchangeError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        // The target in origin form: a full URL is for proxies, and a proxy only ever sees a tunnel.
        *request.uri_mut() = Uri::from(self.endpoint.path_and_query().cloned().unwrap_or_else(root));
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(USER_AGENT, AGENT);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let exchange = wire::exchange(&*self.dial, request).await?;
        // The body of the answer says nothing that is needed; dropping the exchange closes the connection.
        let retry_after = exchange.head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        Ok(Answer::Status { code: exchange.head.status.as_u16(), retry_after: retry_after.map(str::to_owned) })
    }
}

fn root() -> hyper::http::uri::PathAndQuery {
    hyper::http::uri::PathAndQuery::from_static("/")
}

/// Opens the connections to the endpoint.
struct EndpointDial {
    endpoint: Uri,
    route: Route,
}

enum Route {
    Direct(HttpsConnector<HttpConnector>),
    Proxy(HttpsConnector<Tunnel<HttpConnector>>),
}

impl EndpointDial {
    fn new(settings: &SendSettings) -> Result<Self, SendSetupError> {
        let tls = wire::tls(&Trust::System)?;
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .with_server_name_resolver(host::server_name)
            .enable_http1();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let route = match proxy_for(settings)? {
            None => Route::Direct(https.wrap_connector(tcp)),
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
                if let Some(login) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(login.clone());
                }
                Route::Proxy(https.wrap_connector(tunnel))
            }
        };
        Ok(Self { endpoint: settings.endpoint.clone(), route })
    }
}

fn proxy_for(settings: &SendSettings) -> Result<Option<hyper_util::client::proxy::matcher::Intercept>, SendSetupError> {
    let Some(proxy) = settings.https_proxy.as_deref().map(str::trim).filter(|proxy| !proxy.is_empty()) else {
        return Ok(None);
    };
    if settings.endpoint.scheme_str() != Some("https") {
        return Ok(None);
    }
    let no_proxy = settings.no_proxy.as_deref().unwrap_or_default();
    if Matcher::builder().https("http://any").no(no_proxy).build().intercept(&settings.endpoint).is_none() {
        return Ok(None);
    }
    let proxy = Matcher::builder().https(proxy).build().intercept(&settings.endpoint);
    proxy.filter(|proxy| proxy.uri().scheme_str() == Some("http")).map(Some).ok_or(SendSetupError::Proxy)
}

impl Dial for EndpointDial {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            // No test can reach the real endpoint: only a release build goes beyond this machine.
            if cfg!(debug_assertions) && !host::is_loopback(self.endpoint.host().unwrap_or_default()) {
                return Err(DialError("a test build sends to loopback only".to_owned()));
            }
            let stream: Box<dyn Stream> = match &self.route {
                Route::Direct(connector) => Box::new(connect(connector.clone(), &self.endpoint).await?),
                Route::Proxy(connector) => Box::new(connect(connector.clone(), &self.endpoint).await?),
            };
            Ok(stream)
        })
    }
}

async fn connect<C>(mut connector: C, endpoint: &Uri) -> Result<C::Response, DialError>
where
    C: Service<Uri>,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let describe = |error: C::Error| DialError::from_connector(&*error.into());
    std::future::poll_fn(|cx| connector.poll_ready(cx)).await.map_err(describe)?;
    connector.call(endpoint.clone()).await.map_err(describe)
}
