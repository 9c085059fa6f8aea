//! A Pulse with a certificate of its own making is read once its authority is named, and never without a check.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::sync::Arc;
use std::time::Duration;

use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, Tokens};
use pulse_telemetry::snapshot::{ReadError, Reading};
use pulse_telemetry::wire::Trust;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

struct Authority {
    pem: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem().into_bytes();
    Authority { pem, issuer: Issuer::new(params, key) }
}

/// A Pulse that has nothing, with a certificate for that name; the port it is on.
async fn serve(authority: &Authority, name: &str) -> u16 {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            // A client that does not trust the certificate hangs up.
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    port
}

async fn read(url: String, trust: Trust) -> Result<Reading, ReadError> {
    let settings = PulseSettings {
        url: url.parse().unwrap(),
        tokens: Tokens::One("token".into()),
        trust,
        timeout: Duration::from_secs(60),
        platform: PlatformSetting::Auto,
    };
    PulseClient::new(settings).unwrap().read().await
}

fn unreachable(outcome: Result<Reading, ReadError>) -> String {
    match outcome {
        Err(ReadError::Unreachable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_of_ones_own_making_works_with_its_authority_named() {
    let authority = authority("ours");
    let port = serve(&authority, "localhost").await;
    let reading = read(format!("https://localhost:{port}"), Trust::SystemAnd(authority.pem)).await.unwrap();
    assert_eq!(reading.snapshot.ai_enabled, Ok(false));
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_with_the_key_that_helps() {
    let port = serve(&authority("ours"), "localhost").await;
    for trust in [Trust::System, Trust::SystemAnd(authority("another").pem)] {
        let text = unreachable(read(format!("https://localhost:{port}"), trust).await);
        assert!(text.contains("unknown authority") && text.contains("pulse.ca_file"), "{text}");
        assert!(!text.contains("localhost") && !text.contains("127.0.0.1"), "{text}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_though_its_authority_is_trusted() {
    let authority = authority("ours");
    let port = serve(&authority, "other.example.org").await;
    let text = unreachable(read(format!("https://localhost:{port}"), Trust::SystemAnd(authority.pem)).await);
    assert!(text.contains("another name") && !text.contains("localhost"), "{text}");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_told_without_its_address() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for scheme in ["http", "https"] {
        let text = unreachable(read(format!("{scheme}://127.0.0.1:{port}"), Trust::System).await);
        assert_eq!(text, "connection refused");
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_told_as_that() {
    // Longer than a label may be, so that no resolver is asked.
    let text = unreachable(read(format!("http://{}", "x".repeat(70)), Trust::System).await);
    assert!(text.contains("resolver") && !text.contains("xxx"), "{text}");
}

#[tokio::test]
async fn a_server_without_tls_is_told_as_that() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let text = unreachable(read(format!("https://127.0.0.1:{port}"), Trust::System).await);
    assert_eq!(text, "no secure connection (TLS)");
}
