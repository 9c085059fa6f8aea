//! Why there is no connection, or no answer.

use std::io;

use pulse_telemetry_core::verdict::ProxyFault;

/// What is wrong where TLS was asked for and none is spoken.
pub const SPEAKS_PLAIN_HTTP: &str = "the port speaks plain HTTP: try http://";

/// What is wrong where TLS is spoken and none was asked for.
pub const SPEAKS_HTTPS: &str = "the port speaks HTTPS: try https://";

/// Why there is no connection. The text is for people and names neither host nor address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The peer was not reached.
    #[error("{0}")]
    Peer(String),
    /// The proxy before it gave no tunnel.
    #[error(transparent)]
    Proxy(#[from] ProxyFault),
}

impl DialError {
    /// Says what went wrong from what the connector says, without the peer's name.
    #[must_use]
    pub fn from_connector(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            // hyper-util tells this by its text alone.
            if error.to_string() == "dns error" {
                return Self::Peer("the host name is not known to the resolver".to_owned());
            }
            cause = match error.downcast_ref::<io::Error>() {
                Some(io) if is_telling(io.kind()) => return Self::Peer(io.kind().to_string()),
                // An io::Error that wraps another one passes over it in its `source`.
                Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
                None => error.source(),
            };
        }
        Self::Peer("no connection".to_owned())
    }
}

/// Whether the kind's own text says what went wrong. Others, such as a name that nobody knows, say nothing.
fn is_telling(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::AddrNotAvailable
            | Kind::PermissionDenied
            | Kind::NotFound
            | Kind::TimedOut
            | Kind::UnexpectedEof
            | Kind::BrokenPipe
    )
}

/// Whether the body of a 400 is what servers say on a port that takes HTTPS alone: Go (and so Pulse and Caddy), nginx
/// and Apache. Others answer with an alert of TLS, which is [`ExchangeError::SpeaksTls`].
#[must_use]
pub fn asks_for_https(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_ascii_lowercase();
    ["to an https server", "to https port", "to an ssl-enabled server port"].iter().any(|said| text.contains(said))
}

/// Why an exchange gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// A connection, but no whole answer over it.
    #[error("the connection ended before the answer did")]
    Broken(#[source] hyper::Error),
    /// TLS is spoken there, and was not asked for.
    #[error("{SPEAKS_HTTPS}")]
    SpeaksTls,
    /// More bytes than an answer of that kind has.
    #[error("the answer has more bytes than are read")]
    TooLong,
}
