//! A Pulse with a certificate of its own making is read once its authority is named, and never without a check.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod support;

use std::time::Duration;

use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, Tokens};
use pulse_telemetry::snapshot::{ReadError, Reading};
use pulse_telemetry::wire::Trust;
use support::endpoint::{CertificateAuthority, Issued};
use support::pulse::{self, PulseModel, SimulatedPulse, TOKEN};
use support::server::{Refusing, ResponsePlan, Server, TlsRecord, localhost_is_known};

#[tokio::test]
async fn a_certificate_of_ones_own_making_works_with_its_authority_named() {
    if !localhost_is_known("a_certificate_of_ones_own_making_works_with_its_authority_named") {
        return;
    }
    let authority = CertificateAuthority::new();
    let server = serve(&authority.issue_for_loopback());
    let reading = read(&on_localhost(&server), trusting(&authority)).await.unwrap();
    let plain = SimulatedPulse::start(PulseModel::default());
    assert_eq!(Ok(reading), read(&plain.url(), Trust::System).await);
}

#[tokio::test]
async fn no_tls_session_is_resumed_so_that_none_links_two_requests() {
    if !localhost_is_known("no_tls_session_is_resumed_so_that_none_links_two_requests") {
        return;
    }
    let authority = CertificateAuthority::new();
    let server = serve(&authority.issue_for_loopback());
    read(&on_localhost(&server), trusting(&authority)).await.unwrap();
    let sessions: Vec<_> = server.requests().into_iter().map(|request| request.tls.unwrap()).collect();
    let fresh = TlsRecord { server_name: Some("localhost".to_owned()), resumed: false };
    assert_eq!(sessions, vec![fresh; 11]);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_with_the_key_that_helps() {
    if !localhost_is_known("a_certificate_that_nobody_vouches_for_is_refused_with_the_key_that_helps") {
        return;
    }
    let server = serve(&CertificateAuthority::new().issue_for_loopback());
    for trust in [Trust::System, trusting(&CertificateAuthority::named("Another authority"))] {
        let text = refused(&server, trust).await;
        assert!(text.contains("unknown authority") && text.contains("pulse.ca_file"), "{text}");
    }
}

#[tokio::test]
async fn an_authority_of_the_same_name_is_not_the_same_authority() {
    if !localhost_is_known("an_authority_of_the_same_name_is_not_the_same_authority") {
        return;
    }
    let server = serve(&CertificateAuthority::new().issue_for_loopback());
    let text = refused(&server, trusting(&CertificateAuthority::new())).await;
    assert!(text.contains("certificate is not valid") && text.contains("pulse.ca_file"), "{text}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_though_its_authority_is_trusted() {
    if !localhost_is_known("a_certificate_for_another_name_is_refused_though_its_authority_is_trusted") {
        return;
    }
    let authority = CertificateAuthority::new();
    let text = refused(&serve(&authority.issue_for_another_host()), trusting(&authority)).await;
    assert!(text.contains("another name"), "{text}");
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused_though_its_authority_is_trusted() {
    if !localhost_is_known("a_certificate_that_has_expired_is_refused_though_its_authority_is_trusted") {
        return;
    }
    let authority = CertificateAuthority::new();
    let text = refused(&serve(&authority.issue_expired(&["localhost"])), trusting(&authority)).await;
    assert!(text.contains("expired"), "{text}");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_told_without_its_address() {
    let nobody = Refusing::new();
    for scheme in ["http", "https"] {
        let text = unreachable(read(&format!("{scheme}://{}", nobody.addr), Trust::System).await);
        assert_eq!(text, "connection refused");
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_told_as_that() {
    // Longer than a label may be, so that no resolver is asked.
    let text = unreachable(read(&format!("http://{}", "x".repeat(70)), Trust::System).await);
    assert!(text.contains("resolver") && !text.contains("xxx"), "{text}");
}

#[tokio::test]
async fn the_wrong_scheme_is_told_with_the_right_one() {
    let server = Server::start(|_| ResponsePlan::status(200));
    let text = unreachable(read(&format!("https://{}", server.addr), Trust::System).await);
    assert_eq!(text, "the port speaks plain HTTP: try http://");
    let server = serve(&CertificateAuthority::new().issue_for_loopback());
    let outcome = read(&format!("http://{}", server.addr), Trust::System).await;
    let Err(ReadError::NotPulse(what)) = outcome else { panic!("{outcome:?}") };
    assert!(what.to_string().contains("the port speaks HTTPS: try https://"), "{what}");
}

/// A Pulse behind that certificate.
fn serve(certificate: &Issued) -> Server {
    let model = PulseModel::default();
    Server::start_tls(&certificate.cert_pem, &certificate.key_pem, move |request| pulse::answer(&model, &request))
}

fn on_localhost(server: &Server) -> String {
    format!("https://localhost:{}", server.addr.port())
}

fn trusting(authority: &CertificateAuthority) -> Trust {
    Trust::SystemAnd(authority.ca_pem().into_bytes())
}

async fn read(url: &str, trust: Trust) -> Result<Reading, ReadError> {
    let settings = PulseSettings {
        url: url.parse().unwrap(),
        tokens: Tokens::One(TOKEN.into()),
        trust,
        timeout: Duration::from_secs(60),
        platform: PlatformSetting::Auto,
    };
    PulseClient::new(settings).unwrap().read().await
}

/// Why the server's certificate was refused. The server must have been reached, and asked nothing.
async fn refused(server: &Server, trust: Trust) -> String {
    let before = server.connections();
    let text = unreachable(read(&on_localhost(server), trust).await);
    assert!(server.connections() > before && server.requests().is_empty(), "{:?}", server.requests());
    assert!(!text.contains("localhost") && !text.contains("127.0.0.1"), "{text}");
    text
}

fn unreachable(outcome: Result<Reading, ReadError>) -> String {
    match outcome {
        Err(ReadError::Unreachable(text)) => text,
        other => panic!("{other:?}"),
    }
}
