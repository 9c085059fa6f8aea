//! The only place that opens a connection to Pulse.

use std::sync::Arc;

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use pulse_telemetry_http::host::server_name;
use pulse_telemetry_http::tls::{TlsError, TlsProblem, Trust, tls};
use pulse_telemetry_http::wire::{Dial, DialError, Dialing, NotSecured, Stream, secure};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tower_service::Service;

/// Connects to Pulse, directly: Pulse is on the same host or network, so no proxy is asked.
pub(crate) struct Direct {
    peer: Uri,
    tcp: HttpConnector,
    /// TLS is only set up where it is used: the certificate authorities are much of what a process like this one holds.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    has_ca_file: bool,
}

impl Direct {
    /// For the scheme, host and port of `peer`, which is `http` or `https`.
    pub(crate) fn new(peer: Uri, trust: &Trust) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let tls = if peer.scheme_str() == Some("https") {
            Some((Arc::new(tls(trust)?), server_name(&peer).map_err(|_| TlsError::NoName)?))
        } else {
            trust.check_own()?;
            None
        };
        Ok(Self { peer, tcp, tls, has_ca_file: trust.has_own() })
    }

    /// Why the connection was not secured, and what may help: most people's Pulse has a certificate of their own
    /// making.
    fn describe(&self, error: &NotSecured) -> DialError {
        let NotSecured::Tls(problem) = error else { return DialError::Peer(error.to_string()) };
        let hint = match (problem, self.has_ca_file) {
            (problem, false) if problem.is_unknown_issuer() => {
                "; pulse.ca_file can name the authority that issued it, or this very certificate"
            }
            (problem, true) if problem.is_unknown_issuer() => {
                "; neither it nor the authority that issued it is in pulse.ca_file"
            }
            (TlsProblem::AuthorityAsServer, false) => "; or name this very certificate in pulse.ca_file",
            _ => "",
        };
        DialError::Peer(format!("{problem}{hint}"))
    }
}

impl Dial for Direct {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async move {
            let connecting = self.tcp.clone().call(self.peer.clone());
            let stream = connecting.await.map_err(|error| DialError::from_connector(&error))?;
            match &self.tls {
                None => Ok(Box::new(stream) as Box<dyn Stream>),
                Some((config, name)) => {
                    let secured = secure(stream.into_inner(), config, name.clone()).await;
                    secured.map_err(|error| self.describe(&error))
                }
            }
        })
    }
}
