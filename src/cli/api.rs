//! Asks the running daemon over its local API.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, SERVER};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use pulse_telemetry_core::printable::printable;
use pulse_telemetry_core::reason::ReasonWord;
use pulse_telemetry_http::wire::{self, ExchangeError, Stream};
use pulse_telemetry_process::config::ConfigError;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::net::{TcpStream, UnixStream};

use crate::config::{Config, Listen};
use crate::serve::SERVER_NAME;

/// How long a command waits for the daemon's answer, connecting included.
pub(super) mod patience {
    use std::time::Duration;

    /// For an answer that the daemon has at once.
    pub(in crate::cli) const AT_ONCE: Duration = Duration::from_secs(5);
    /// For one that may need a reading of Pulse, which has 30 s.
    pub(in crate::cli) const A_READING: Duration = Duration::from_secs(40);
    /// For a newer reading of Pulse than the one that the daemon knows; then that one is told.
    pub(in crate::cli) const NEWER: Duration = Duration::from_secs(2);
    /// For what the endpoint says to a deletion: two exchanges of ten seconds at most.
    pub(in crate::cli) const A_DELETION: Duration = Duration::from_secs(25);
    /// For `off`, which has written its file before it asks.
    pub(in crate::cli) const OFF: Duration = Duration::from_secs(2);
}

/// The largest answer that is read.
const ANSWER_MAX: usize = 1 << 20;

/// Why the API gave no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// Nobody listens there.
    #[error("no daemon answers at serve.listen")]
    NoDaemon,
    /// Somebody listens, but it is not this daemon.
    #[error("what answers at serve.listen is not pulse-telemetry")]
    Foreign,
    /// Somebody listens, and gave no whole answer in that time.
    #[error("what listens at serve.listen gave no whole answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// Somebody listens, and ended the connection before a whole answer.
    #[error("what listens at serve.listen ended the connection before its answer was whole")]
    CutShort,
    /// The daemon said no.
    #[error("{message}")]
    Refused { status: u16, error: ReasonWord, message: String },
}

#[derive(Deserialize)]
struct ApiRefusal {
    error: ReasonWord,
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

    /// Asks, and waits at most that long for the whole answer.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        patience: Duration,
    ) -> Result<Vec<u8>, ApiError> {
        let answer = tokio::time::timeout(patience, self.exchange(method, path, body)).await;
        match answer {
            Ok(Err(ApiError::Silent(_))) | Err(_) => Err(ApiError::Silent(patience)),
            Ok(answer) => answer,
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<String>) -> Result<Vec<u8>, ApiError> {
        let stream = self.connect().await.map_err(|error| match error.kind() {
            // A Unix socket whose queue is full: somebody listens, and accepts nobody.
            ErrorKind::WouldBlock => ApiError::Silent(Duration::ZERO),
            _ => ApiError::NoDaemon,
        })?;
        let broken = |error: ExchangeError| match error {
            ExchangeError::Broken(error) if error.is_parse() => ApiError::Foreign,
            ExchangeError::TooLong | ExchangeError::SpeaksTls => ApiError::Foreign,
            ExchangeError::Broken(_) | ExchangeError::Dial(_) => ApiError::CutShort,
        };
        let mut exchange = wire::exchange_over(stream, self.request(method, path, body)?).await.map_err(broken)?;
        if exchange.head.headers.get(SERVER).is_none_or(|server| server != SERVER_NAME) {
            return Err(ApiError::Foreign);
        }
        let mut answer = Vec::new();
        while let Some(chunk) = exchange.chunk().await.map_err(broken)? {
            answer.extend_from_slice(&chunk);
            if answer.len() > ANSWER_MAX {
                return Err(ApiError::Foreign);
            }
        }
        if exchange.head.status.is_success() {
            return Ok(answer);
        }
        let ApiRefusal { error, message } = serde_json::from_slice(&answer).map_err(|_| ApiError::Foreign)?;
        Err(ApiError::Refused { status: exchange.head.status.as_u16(), error, message: printable(&message) })
    }

    fn request(&self, method: Method, path: &str, body: Option<String>) -> Result<Request<Full<Bytes>>, ApiError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path.parse::<Uri>().map_err(|_| ApiError::Foreign)?)
            .header(HOST, "localhost");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        // Not for what needs none.
        if let Some(token) = self.token.as_ref().filter(|_| path.starts_with("/api/")) {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose_secret()));
        }
        request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(|_| ApiError::Foreign)
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match &self.listen {
            Listen::Unix(path) => Box::new(TokioIo::new(UnixStream::connect(path).await?)),
            Listen::Tcp(address) => {
                let mut address = *address;
                if address.ip().is_unspecified() {
                    // A server on all addresses is on this one too.
                    address.set_ip(match address {
                        std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                        std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                    });
                }
                Box::new(TokioIo::new(TcpStream::connect(address).await?))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixListener;
    use tokio::time::Instant;

    use super::*;
    use crate::cli::{preview, reset_id, switch};
    use pulse_telemetry_process::config::Environment;

    fn config(listen: &str, state_dir: &str) -> Config {
        let set = |name: &str, value: &str| (format!("PULSE_TELEMETRY_{name}"), value.to_owned());
        let variables = [set("SERVE__LISTEN", listen), set("STATE__DIR", state_dir)];
        Config::load(None, &Environment::new(variables), false).unwrap()
    }

    #[tokio::test]
    async fn what_needs_no_token_is_asked_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, token) = (dir.path().join("api.sock"), dir.path().join("token"));
        std::fs::write(&token, "the-pages-own-token").unwrap();
        let set = |name: &str, value: String| (format!("PULSE_TELEMETRY_{name}"), value);
        let variables = [
            set("SERVE__LISTEN", format!("unix:{}", socket.display())),
            set("SERVE__TOKEN_FILE", token.display().to_string()),
            set("STATE__DIR", dir.path().join("state").display().to_string()),
        ];
        let config = Config::load(None, &Environment::new(variables), false).unwrap();
        let somebody = UnixListener::bind(&socket).unwrap();
        let api = Api::new(&config).unwrap();
        for (path, is_told) in [("/healthz", false), ("/api/v1/status", true)] {
            let hears = async {
                let (mut stream, _) = somebody.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                String::from_utf8(head).unwrap()
            };
            let (head, asked) = tokio::join!(hears, api.ask(Method::GET, path, None, patience::AT_ONCE));
            assert!(asked.is_err(), "nothing is answered");
            assert_eq!(head.contains("the-pages-own-token"), is_told, "{path}");
        }
    }

    /// Virtual time passes at once where nothing else can happen, so what a command waits is measured exactly.
    #[tokio::test(start_paused = true)]
    async fn off_waits_two_seconds_for_a_silent_daemon_and_what_needs_a_reading_forty() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("api.sock");
        let _silent = UnixListener::bind(&socket).unwrap();
        let config = config(&format!("unix:{}", socket.display()), &dir.path().join("state").display().to_string());
        let mut out = Vec::new();

        let started = Instant::now();
        assert!(switch::off(&config, &mut out).await.is_ok());
        assert_eq!(started.elapsed().as_secs(), 2);
        for (what, waits) in [("preview", 40), ("reset-id", 40), ("on", 5)] {
            let started = Instant::now();
            let failed = match what {
                "preview" => preview(&config, &mut out).await,
                "reset-id" => reset_id(&config, &mut out).await,
                _ => switch::on(&config, &mut out).await,
            };
            let message = failed.map(drop).unwrap_err().to_string();
            assert_eq!(message, format!("what listens at serve.listen gave no whole answer within {waits} s"));
            assert_eq!(started.elapsed().as_secs(), waits, "{what}");
        }
    }
}
