//! Asks the running daemon over its local API.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, SERVER};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::net::{TcpStream, UnixStream};

use crate::config::{Config, ConfigError, Listen};
use crate::serve::SERVER_NAME;
use crate::wire::{self, Dial, DialError, Dialing, ExchangeError, Stream};

/// A preview may wait for a reading of Pulse, which asks a dozen questions and waits for each.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// The largest answer that is read.
const ANSWER_MAX: usize = 1 << 20;

#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// Why the API gave no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// Nobody listens there.
    #[error("no daemon answers at serve.listen")]
    NoDaemon,
    /// Somebody listens, but it is not this daemon.
    #[error("what answers at serve.listen is not pulse-telemetry")]
    Foreign,
    /// Somebody listens, and did not answer.
    #[error("what listens at serve.listen did not answer in time")]
    Silent,
    /// The daemon said no.
    #[error("{message}")]
    Refused { status: u16, error: String, message: String },
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    message: String,
}

impl ApiError {
    /// There is no daemon of ours there: the commands look at the state directory themselves.
    pub(super) fn is_no_daemon(&self) -> bool {
        matches!(self, Self::NoDaemon | Self::Foreign)
    }
}

pub(super) struct Api {
    listen: Listen,
    token: Option<SecretString>,
}

impl Api {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        Ok(Self { listen: config.serve.listen.clone(), token: config.serve.read_token()? })
    }

    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<String>) -> Result<Vec<u8>, ApiError> {
        match tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(ApiError::Silent),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<String>) -> Result<Vec<u8>, ApiError> {
        let mut exchange = match wire::exchange(self, self.request(method, path, body)?).await {
            Ok(exchange) => exchange,
            Err(ExchangeError::Dial(_)) => return Err(ApiError::NoDaemon),
            Err(ExchangeError::Broken(error)) if error.is_parse() => return Err(ApiError::Foreign),
            Err(ExchangeError::Broken(_)) => return Err(ApiError::Silent),
        };
        if exchange.head.headers.get(SERVER).is_none_or(|server| server != SERVER_NAME) {
            return Err(ApiError::Foreign);
        }
        let mut answer = Vec::new();
        while let Some(chunk) = exchange.chunk().await.map_err(|_| ApiError::Foreign)? {
            answer.extend_from_slice(&chunk);
            if answer.len() > ANSWER_MAX {
                return Err(ApiError::Foreign);
            }
        }
        if exchange.head.status.is_success() {
            return Ok(answer);
        }
        let Refusal { error, message } = serde_json::from_slice(&answer).map_err(|_| ApiError::Foreign)?;
        Err(ApiError::Refused { status: exchange.head.status.as_u16(), error, message })
    }

    fn request(&self, method: Method, path: &str, body: Option<String>) -> Result<Request<Full<Bytes>>, ApiError> {
        let mut request = Request::builder()
            .method(match method {
                Method::Get => hyper::Method::GET,
                Method::Post => hyper::Method::POST,
                Method::Put => hyper::Method::PUT,
                Method::Delete => hyper::Method::DELETE,
            })
            .uri(path.parse::<Uri>().map_err(|_| ApiError::Foreign)?)
            .header(HOST, "localhost");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose_secret()));
        }
        request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(|_| ApiError::Foreign)
    }
}

impl Dial for Api {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            let failed = |error: std::io::Error| DialError(error.kind().to_string());
            let stream: Box<dyn Stream> = match &self.listen {
                Listen::Unix(path) => Box::new(TokioIo::new(UnixStream::connect(path).await.map_err(failed)?)),
                Listen::Tcp(address) => {
                    let mut address = *address;
                    if address.ip().is_unspecified() {
                        // A server on all addresses is on this one too.
                        address.set_ip(match address {
                            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                        });
                    }
                    Box::new(TokioIo::new(TcpStream::connect(address).await.map_err(failed)?))
                }
            };
            Ok(stream)
        })
    }
}
