//! A Pulse with a certificate of its own making is read once its authority is named, and never without a check.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pulse_telemetry::pulse::{PlatformSetting, PulseClient, PulseSettings, Tokens};
use pulse_telemetry_core::observation::{ReadError, Reading};
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_testkit::alone::{program_or_skip, run};
use pulse_telemetry_testkit::endpoint::{CertificateAuthority, Issued};
use pulse_telemetry_testkit::pulse::{self, PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::server::{Refusing, ResponsePlan, Server, TlsRecord, localhost_is_known};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SanType, date_time_ymd};

#[tokio::test]
async fn a_certificate_of_ones_own_making_works_with_its_authority_named() {
    if !localhost_is_known("a_certificate_of_ones_own_making_works_with_its_authority_named") {
        return;
    }
    let authority = CertificateAuthority::new();
    let server = serve(&authority.issue_for_loopback());
    let reading = read(&on_localhost(&server), trusting(&authority)).await.unwrap();
    let plain = SimulatedPulse::start(PulseModel::default());
    assert_eq!(Ok(reading), read(&plain.url(), Trust::default()).await);
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
    for trust in [Trust::default(), trusting(&CertificateAuthority::named("Another authority"))] {
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
    assert!(text.contains("another key") && text.contains("pulse.ca_file"), "{text}");
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
        let text = unreachable(read(&format!("{scheme}://{}", nobody.addr), Trust::default()).await);
        assert_eq!(text, "connection refused");
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_told_as_that() {
    // Longer than a label may be, so that no resolver is asked.
    let text = unreachable(read(&format!("http://{}", "x".repeat(70)), Trust::default()).await);
    assert!(text.contains("resolver") && !text.contains("xxx"), "{text}");
}

#[tokio::test]
async fn the_wrong_scheme_is_told_in_one_sentence() {
    let plain = Server::start(|_| ResponsePlan::status(400));
    let pages: [&[u8]; 3] =
        [b"<!DOCTYPE HTML><html>Error code: 400</html>", b"<HTML><body>400</body></HTML>", b"<!doctype html>"];
    for address in pages.into_iter().map(raw).chain([plain.addr, raw(b"HTTP/0.9 400\r\n")]) {
        let text = unreachable(read(&format!("https://{address}"), Trust::default()).await);
        assert_eq!(text, "the port speaks plain HTTP: try http://");
    }
    let secure = serve(&CertificateAuthority::new().issue_for_loopback());
    let outcome = read(&format!("http://{}", secure.addr), Trust::default()).await;
    let Err(ReadError::NotPulse(what)) = outcome else { panic!("{outcome:?}") };
    assert!(what.to_string().contains("the port speaks HTTPS: try https://"), "{what}");
}

#[tokio::test]
async fn a_port_that_speaks_neither_http_nor_tls_is_never_told_as_one_that_speaks_http() {
    let others: [&[u8]; 9] = [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"220 mail.lan ESMTP\r\n",
        b"* OK IMAP4rev1 ready\r\n",
        // MySQL, Redis, XMPP, Telnet.
        b"J\0\0\0\n8.0.33\0\x0b\0\0\0",
        b"-ERR unknown command\r\n",
        b"<?xml version='1.0'?><stream:stream>",
        b"<stream:stream xmlns='jabber:client'>",
        b"\xff\xfd\x18\xff\xfd\x20",
        b"HTTX",
    ];
    for said in others {
        let address = raw(said);
        let text = unreachable(read(&format!("https://{address}"), Trust::default()).await);
        assert_eq!(text, "no secure connection (TLS): what answers there does not speak TLS", "{said:?}");
        let outcome = read(&format!("http://{address}"), Trust::default()).await;
        let Err(ReadError::NotPulse(what)) = outcome else { panic!("{said:?}: {outcome:?}") };
        assert!(what.to_string().contains("another program most likely listens there"), "{said:?}: {what}");
    }
    // As PostgreSQL does with a handshake, read to its end or not.
    for closes in [raw(b""), unread()] {
        let text = unreachable(read(&format!("https://{closes}"), Trust::default()).await);
        let told = "what answers there closed the connection without a word; most likely it does not speak TLS";
        assert_eq!(text, format!("no secure connection (TLS): {told}"));
    }
}

/// A certificate that signs itself, as `openssl req -x509` makes it: an authority's, unless told otherwise.
fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Issued {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Issued { cert_pem: certificate.pem(), key_pem: key.serialize_pem() }
}

fn naming(file: &Issued) -> Trust {
    Trust::default().and("pulse.ca_file", file.cert_pem.clone().into_bytes())
}

#[tokio::test]
async fn a_certificate_that_is_named_byte_for_byte_is_the_servers_own_and_its_name_and_dates_are_checked() {
    if !localhost_is_known("a_certificate_that_is_named_byte_for_byte_is_the_servers_own") {
        return;
    }
    let not_an_authority = |params: &mut CertificateParams| params.is_ca = IsCa::ExplicitNoCa;
    for own in [self_signed(|_| {}), self_signed(not_an_authority), CertificateAuthority::new().issue_for_loopback()] {
        let server = serve(&own);
        read(&on_localhost(&server), naming(&own)).await.unwrap();
        // Among others too.
        let others = [CertificateAuthority::new().ca_pem(), own.cert_pem.clone()].concat();
        read(&on_localhost(&server), Trust::default().and("pulse.ca_file", others.into_bytes())).await.unwrap();
    }
    let elsewhere = self_signed(|params| params.subject_alt_names = vec![san("elsewhere.example")]);
    let no_name = self_signed(|params| params.subject_alt_names = Vec::new());
    let expired = self_signed(|params| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 12, 31));
    });
    let early = self_signed(|params| params.not_before = date_time_ymd(2090, 1, 1));
    for (own, words) in [
        (elsewhere, "for another name"),
        (no_name, "a common name alone does not count"),
        (expired, "has expired"),
        (early, "is not valid yet"),
    ] {
        let text = refused(&serve(&own), naming(&own)).await;
        assert!(text.contains(words) && !text.contains("pulse.ca_file"), "{text}");
    }
}

#[tokio::test]
async fn each_reason_to_refuse_a_certificate_has_words_of_its_own_and_the_file_is_named_where_it_helps() {
    if !localhost_is_known("each_reason_to_refuse_a_certificate_has_words_of_its_own") {
        return;
    }
    let authority = CertificateAuthority::new();
    let (ca, own) = (self_signed(|_| {}), self_signed(|params| params.is_ca = IsCa::ExplicitNoCa));
    let other = naming(&self_signed(|params| params.distinguished_name.push(DnType::CommonName, "another")));
    let early = authority.issue_early(&["localhost"]);
    let cases: [(&Issued, Trust, &[&str], bool); 8] = [
        (&ca, Trust::default(), &["an authority's own", "`openssl req -x509", "CA:FALSE"], true),
        (&ca, other.clone(), &["an authority's own", "CA:FALSE"], false),
        (&own, Trust::default(), &["unknown authority"], true),
        (&own, other, &["unknown authority"], true),
        (&own, naming(&self_signed(|_| {})), &["one of that name is trusted, but it has another key"], true),
        (&authority.issue_for_another_host(), trusting(&authority), &["another name"], false),
        (&authority.issue_expired(&["localhost"]), trusting(&authority), &["expired"], false),
        (&early, trusting(&authority), &["not valid yet"], false),
    ];
    for (issued, trust, words, names_the_file) in cases {
        let text = refused(&serve(issued), trust).await;
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
        assert_eq!(text.contains("pulse.ca_file"), names_the_file, "{text}");
    }
}

/// What rustls cannot make: `openssl s_server`, and certificates of its own.
#[tokio::test]
async fn what_is_not_supported_is_named() {
    let name = "what_is_not_supported_is_named";
    if !localhost_is_known(name) || !program_or_skip("openssl", &["version"], name) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let san = ["-addext", "subjectAltName=DNS:localhost"];
    let p521 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"];
    let rsa = ["-newkey", "rsa:2048"];
    let p521 = openssl_certificate(dir.path(), "p521", &[&p521[..], &san].concat());
    let rsa = openssl_certificate(dir.path(), "rsa", &[&rsa[..], &san].concat());
    let version_1 = openssl_version_1(dir.path());
    let short = openssl_certificate(dir.path(), "short", &[&["-newkey", "rsa:1024"][..], &san].concat());
    let seclevel = ["-cipher", "DEFAULT@SECLEVEL=0"];
    let rsa_only: &[&str] = &["-tls1_2", "-cipher", "AES256-GCM-SHA384"];
    for (files, options, words) in [
        (&p521, &[][..], "P-521"),
        (&rsa, rsa_only, "not RSA key exchange"),
        (&rsa, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "TLS 1.2 with ECDHE or 1.3"),
        (&version_1, &[], "X.509 version 1"),
        (&short, &seclevel, "the certificate's key or signature is not supported: RSA from 2048 bits"),
        (&short, &["-tls1_2", "-cipher", "DEFAULT@SECLEVEL=0"], "RSA from 2048 bits"),
    ] {
        let server = OpensslServer::start(files, options);
        let pem = std::fs::read(format!("{files}.pem")).unwrap();
        let text = unreachable(read(&server.url(), Trust::default().and("pulse.ca_file", pem)).await);
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// Makes a certificate and its key, `NAME.pem` and `NAME.key`, and gives the path without an ending.
fn openssl_certificate(dir: &Path, name: &str, options: &[&str]) -> String {
    let files = dir.join(name).display().to_string();
    let (pem, key) = (format!("{files}.pem"), format!("{files}.key"));
    let make = ["req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=localhost", "-keyout", &key, "-out", &pem];
    run("openssl", &[&make[..], options].concat());
    files
}

fn openssl_version_1(dir: &Path) -> String {
    let files = dir.join("v1").display().to_string();
    let (pem, key, request) = (format!("{files}.pem"), format!("{files}.key"), format!("{files}.csr"));
    let subject = ["-subj", "/CN=localhost", "-newkey", "rsa:2048", "-nodes"];
    run("openssl", &[&["req", "-new", "-keyout", &key, "-out", &request][..], &subject].concat());
    run("openssl", &["x509", "-req", "-in", &request, "-signkey", &key, "-out", &pem, "-days", "30"]);
    files
}

struct OpensslServer {
    child: Child,
    port: String,
}

impl OpensslServer {
    fn start(files: &str, options: &[&str]) -> Self {
        let (pem, key) = (format!("{files}.pem"), format!("{files}.key"));
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", &pem, "-key", &key, "-www"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let accepts = said.lines().map(Result::unwrap).find(|line| line.starts_with("ACCEPT ")).unwrap();
        Self { child, port: accepts.rsplit(':').next().unwrap().to_owned() }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }
}

impl Drop for OpensslServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that answers every connection with those bytes, whatever it is sent. It ends with the test's process.
fn raw(answer: &[u8]) -> SocketAddr {
    let (listener, answer) = (TcpListener::bind("127.0.0.1:0").unwrap(), answer.to_vec());
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            // With what was sent unread, the end would be a reset, which may overtake the answer.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&answer);
        }
    });
    address
}

/// Takes connections and ends them, whatever was sent.
fn unread() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    address
}

fn san(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
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
    Trust::default().and("pulse.ca_file", authority.ca_pem().into_bytes())
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
