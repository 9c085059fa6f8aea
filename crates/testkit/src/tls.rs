//! A client over TLS that would resume a session if it were let.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::endpoint::PING_PATH;
use super::lock;

/// Each authority's PEM, and the client for it.
type Clients = Vec<(String, Arc<ClientConfig>)>;

/// One client for each authority, or there would be nothing to resume.
static CLIENTS: LazyLock<Mutex<Clients>> = LazyLock::new(Mutex::default);

/// Posts a ping. The status, and whether the session was resumed.
pub fn post(address: SocketAddr, ca_pem: &str, ping: &Value) -> (u16, bool) {
    let body = ping.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = over(TcpStream::connect(address).await.unwrap(), ca_pem).await;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post(PING_PATH).header("Host", "localhost").header("Content-Type", "application/json");
        let answer = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
        (answer.status().as_u16(), resumed)
    })
}

/// TLS over a connection to this machine.
pub async fn over(stream: TcpStream, ca_pem: &str) -> TlsStream<TcpStream> {
    let connector = tokio_rustls::TlsConnector::from(client(ca_pem));
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
}

fn client(ca_pem: &str) -> Arc<ClientConfig> {
    let mut clients = lock(&CLIENTS);
    if let Some((_, config)) = clients.iter().find(|(pem, _)| pem == ca_pem) {
        return Arc::clone(config);
    }
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    clients.push((ca_pem.to_owned(), Arc::clone(&config)));
    config
}
