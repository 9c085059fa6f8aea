//! The only door to the endpoint.
//!
//! One attempt is one connection and one POST. No redirect is followed, no TLS session is resumed, nothing is tried
//! again here, and the request carries four headers: `host`, `user-agent`, `content-type` and `content-length`. What it
//! carries is a ping, or the one ID of a deletion (`forget`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::http::response;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use pulse_telemetry_core::ping::PingBytes;
use pulse_telemetry_core::receipt::{RECEIPT_HEADER, RECEIPT_MAX};
use pulse_telemetry_core::verdict::{Answer, ProxyFault};
use pulse_telemetry_http::host::{self, port_of};
use pulse_telemetry_http::tls::{TlsError, Trust, tls};
use pulse_telemetry_http::wire::{
    self, Dial, DialError, Dialing, Exchange, ExchangeError, SPEAKS_HTTPS, Stream, asks_for_https, secure,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::proxy::{NoProxy, Proxy, ProxyError, tunnel};
use crate::variables::{ProxyVariables, Variable};

/// All the time that one attempt has: connecting, sending, and the head of the answer.
pub const ATTEMPT_TIME: Duration = Duration::from_secs(10);

/// The same for everyone: a version here would tell installations apart.
const AGENT: HeaderValue = HeaderValue::from_static("pulse-telemetry");

/// Where pings go, and how to get there.
#[derive(Clone, Debug)]
pub struct SendSettings {
    /// The endpoint: https, or http on loopback.
    pub endpoint: Uri,
    /// `HTTPS_PROXY` and `NO_PROXY`.
    pub proxy: ProxyVariables,
    /// The certificate authorities that are trusted.
    pub trust: Trust,
}

impl SendSettings {
    /// The TCP port that a ping is sent to: the endpoint's, or the proxy's where one is asked.
    ///
    /// # Errors
    /// Where the proxy cannot be used.
    pub fn port(&self) -> Result<u16, SendSetupError> {
        Ok(port_of(self.proxy()?.as_ref().map_or(&self.endpoint, Proxy::address)))
    }

    /// A sentence for each entry of `NO_PROXY` that means nothing here.
    #[must_use]
    pub fn not_understood(&self) -> Vec<String> {
        let Some(Variable { name, value }) = &self.proxy.no_proxy else { return Vec::new() };
        let list = NoProxy::parse(value);
        let accepted = "names, .suffix, *.suffix, host:port, addresses, networks and * are";
        list.not_understood().map(|entry| format!("{name}: {entry:?} is not understood: {accepted}")).collect()
    }

    /// The proxy that the endpoint is reached through, where there is one.
    fn proxy(&self) -> Result<Option<Proxy>, SendSetupError> {
        let Some(Variable { name, value }) = &self.proxy.https else { return Ok(None) };
        if value.trim().is_empty() || self.endpoint.scheme_str() != Some("https") {
            return Ok(None);
        }
        let excluded = self.proxy.no_proxy.as_ref().map(|list| NoProxy::parse(&list.value)).unwrap_or_default();
        let endpoint = host::host_of(&self.endpoint).map_err(|_| SendSetupError::NoHost)?;
        if excluded.excludes(&endpoint, port_of(&self.endpoint)) {
            return Ok(None);
        }
        Proxy::parse(value).map(Some).map_err(|source| SendSetupError::Proxy { name, source })
    }
}

/// Why the sender could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SendSetupError {
    /// The proxy is not one that can be used. Its URL, which may hold a password, is not shown.
    #[error("the proxy in {name} cannot be used: {source}; or name the endpoint's host in NO_PROXY")]
    Proxy {
        /// The variable.
        name: &'static str,
        /// What is wrong with its value.
        source: ProxyError,
    },
    /// The endpoint has no host.
    #[error("telemetry.endpoint has no host")]
    NoHost,
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
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

    /// Makes one attempt. Dropping the future closes the connection. Beside the answer stands what it has in the header
    /// of a receipt; of that no more than shows that it is too long.
    pub async fn attempt(&self, body: PingBytes) -> (Answer, Option<String>) {
        let exchange = self.exchange(Method::POST, self.target(), String::from(body).into());
        // The body of the answer says nothing that is needed; dropping the exchange closes the connection.
        match within(exchange).await {
            Ok(Exchange { head, .. }) => (answered(&head), receipt_of(&head)),
            Err(answer) => (answer, None),
        }
    }

    /// One exchange, and the body of its answer where that is a 2xx: all of it where it has no more than `most` bytes,
    /// else more than that.
    pub(crate) async fn fetch(
        &self,
        method: Method,
        path: PathAndQuery,
        body: Bytes,
        most: usize,
    ) -> Result<(Answer, Vec<u8>), ExchangeError> {
        let mut exchange = self.exchange(method, path, body).await?;
        let mut text = Vec::new();
        while exchange.head.status.is_success()
            && text.len() <= most
            && let Some(chunk) = exchange.chunk().await?
        {
            text.extend_from_slice(&chunk);
        }
        Ok((answered(&exchange.head), text))
    }

    /// The path that pings are sent to, in origin form: a full URL is for proxies, and a proxy only ever sees a tunnel.
    pub(crate) fn target(&self) -> PathAndQuery {
        self.endpoint.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
    }

    async fn exchange(&self, method: Method, path: PathAndQuery, body: Bytes) -> Result<Exchange, ExchangeError> {
        let mut request = Request::new(Full::new(body));
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(USER_AGENT, AGENT);
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(path);
        let mut exchange = wire::exchange(&*self.dial, request).await?;
        let is_plain = self.endpoint.scheme_str() == Some("http");
        if is_plain
            && exchange.head.status == StatusCode::BAD_REQUEST
            && asks_for_https(&beginning(&mut exchange).await)
        {
            return Err(ExchangeError::SpeaksTls);
        }
        Ok(exchange)
    }
}

/// Gives an exchange its time, and says what came of one that failed.
pub(crate) async fn within<T>(exchange: impl Future<Output = Result<T, ExchangeError>>) -> Result<T, Answer> {
    tokio::time::timeout(ATTEMPT_TIME, exchange).await.map_err(|_| Answer::TimedOut)?.map_err(|error| match error {
        ExchangeError::Dial(DialError::Peer(why)) => Answer::NoConnection(why),
        ExchangeError::Dial(DialError::Proxy(fault)) => Answer::NoTunnel(fault),
        ExchangeError::SpeaksTls => Answer::NoConnection(SPEAKS_HTTPS.to_owned()),
        ExchangeError::Broken(_) | ExchangeError::TooLong => Answer::CutShort,
    })
}

fn answered(head: &response::Parts) -> Answer {
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    Answer::Status { code: head.status.as_u16(), retry_after: retry_after.map(str::to_owned) }
}

/// Several of the header are one with commas between (RFC 9110, 5.3), and so no receipt.
fn receipt_of(head: &response::Parts) -> Option<String> {
    let mut values = head.headers.get_all(RECEIPT_HEADER).iter();
    let first = values.next()?.as_bytes();
    let mut receipt = String::from_utf8_lossy(&first[..first.len().min(RECEIPT_MAX + 1)]).into_owned();
    if values.next().is_some() {
        receipt.push(',');
    }
    Some(receipt)
}

/// The beginning of the body, as far as it comes.
async fn beginning(exchange: &mut Exchange) -> Vec<u8> {
    let mut text = Vec::new();
    while text.len() < 1024
        && let Ok(Some(chunk)) = exchange.chunk().await
    {
        text.extend_from_slice(&chunk);
    }
    text
}

/// Opens the connections to the endpoint.
struct EndpointDial {
    endpoint: Uri,
    tcp: HttpConnector,
    proxy: Option<Proxy>,
    /// Set up only where it is used: the certificate authorities are much of what a process like this one holds.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl EndpointDial {
    fn new(settings: &SendSettings) -> Result<Self, SendSetupError> {
        let endpoint = settings.endpoint.clone();
        let tls = if endpoint.scheme_str() == Some("https") {
            Some((Arc::new(tls(&settings.trust)?), host::server_name(&endpoint).map_err(|_| SendSetupError::NoHost)?))
        } else {
            None
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        Ok(Self { tcp, proxy: settings.proxy()?, tls, endpoint })
    }

    /// A connection to the endpoint, or to the proxy's end of a tunnel there.
    async fn connect(&self) -> Result<TcpStream, DialError> {
        let peer = self.proxy.as_ref().map_or(&self.endpoint, Proxy::address);
        let connected = self.tcp.clone().call(peer.clone()).await.map(TokioIo::into_inner);
        let Some(proxy) = &self.proxy else {
            return connected.map_err(|error| DialError::from_connector(&error));
        };
        let mut stream = connected.map_err(|_| ProxyFault::Unreachable)?;
        let (host, port) = (self.endpoint.host().unwrap_or_default(), port_of(&self.endpoint));
        tunnel(&mut stream, proxy, &format!("{host}:{port}")).await?;
        Ok(stream)
    }
}

impl Dial for EndpointDial {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            // No test can reach the real endpoint: only a release build goes beyond this machine.
            if cfg!(debug_assertions) && !host::is_loopback(self.endpoint.host().unwrap_or_default()) {
                return Err(DialError::Peer("a test build sends to loopback only".to_owned()));
            }
            let stream = self.connect().await?;
            match &self.tls {
                None => Ok(Box::new(TokioIo::new(stream)) as Box<dyn Stream>),
                Some((config, name)) => {
                    let secured = secure(stream, config, name.clone()).await;
                    secured.map_err(|error| DialError::Peer(error.to_string()))
                }
            }
        })
    }
}
