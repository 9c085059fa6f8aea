//! The only place that opens a connection to Pulse.

use std::error::Error;

use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tower_service::Service;

use crate::host::server_name;
use crate::wire::{Dial, DialError, Dialing, Stream, TlsError, Trust, tls};

/// Connects to Pulse, directly: Pulse is on the same host or network, so no proxy is asked.
pub(crate) struct Direct {
    peer: Uri,
    connector: Connector,
}

/// TLS is only set up where it is used: the certificate authorities are much of what a process like this one holds.
#[derive(Clone)]
enum Connector {
    Plain(HttpConnector),
    Secure(HttpsConnector<HttpConnector>),
}

impl Direct {
    /// For the scheme, host and port of `peer`, which is `http` or `https`.
    pub(crate) fn new(peer: Uri, trust: &Trust) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let connector = if peer.scheme_str() == Some("https") {
            tcp.enforce_http(false);
            let secure = HttpsConnectorBuilder::new()
                .with_tls_config(tls(trust)?)
                .https_only()
                .with_server_name_resolver(server_name)
                .enable_http1();
            Connector::Secure(secure.wrap_connector(tcp))
        } else {
            Connector::Plain(tcp)
        };
        Ok(Self { peer, connector })
    }
}

impl Dial for Direct {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async move {
            match self.connector.clone() {
                Connector::Plain(mut plain) => {
                    let stream = plain.call(self.peer.clone()).await.map_err(|error| describe(&error))?;
                    Ok(Box::new(stream) as Box<dyn Stream>)
                }
                Connector::Secure(mut secure) => {
                    let stream = secure.call(self.peer.clone()).await.map_err(|error| describe(&*error))?;
                    Ok(Box::new(stream) as Box<dyn Stream>)
                }
            }
        })
    }
}

fn describe(error: &(dyn Error + 'static)) -> DialError {
    let DialError(text) = DialError::from_connector(error);
    // Most people's Pulse has a certificate of their own making.
    let hint = if text.contains("certificate") { "; pulse.ca_file can name the authority that issued it" } else { "" };
    DialError(text + hint)
}
