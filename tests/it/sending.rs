//! What sends pings, over real connections: proxies, floods, wrong schemes.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use pulse_telemetry_core::verdict::{Answer, ProxyFault, Verdict};
use pulse_telemetry_endpoint::{ProxyVariables, SendSettings, Sender, Variable};
use pulse_telemetry_http::tls::{Authorities, Trust};
use pulse_telemetry_testkit::endpoint::{CertificateAuthority, Endpoint, Issued};
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::readings::any_ping;
use pulse_telemetry_testkit::server::{Refusing, ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::Setup;

/// What an answer may have, and what the buffers between two sockets take of more.
const BOUND: usize = 256 * 1024 + 16 * 1024 * 1024;

fn variable(name: &'static str, value: &str) -> Option<Variable> {
    Some(Variable { name, value: value.to_owned() })
}

fn settings(endpoint: &str, proxy: Option<&str>) -> SendSettings {
    let https = proxy.and_then(|proxy| variable("HTTPS_PROXY", proxy));
    let proxy = ProxyVariables { https, no_proxy: None };
    SendSettings { endpoint: endpoint.parse().unwrap(), proxy, trust: Trust::default() }
}

fn attempt(settings: &SendSettings) -> Answer {
    let sender = Sender::new(settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(sender.attempt(any_ping())).0
}

/// A server that does that with each connection. It ends with the test's process.
fn raw(serve: impl Fn(&mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(|stream| serve(&mut stream.unwrap())));
    address
}

/// One that reads a head and then says that.
fn answering(answer: &str) -> SocketAddr {
    let answer = answer.to_owned();
    raw(move |stream| {
        read_head(stream);
        let _ = stream.write_all(answer.as_bytes());
    })
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A proxy that makes the tunnels it is asked for, with that much in the head of its answer. It keeps the heads.
fn tunnelling(filler: usize) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    let proxy = raw(move |client| {
        let head = read_head(client);
        let target = head.split_whitespace().nth(1).unwrap().to_owned();
        kept.lock().unwrap().push(head);
        let mut server = TcpStream::connect(target).unwrap();
        let filler = "x".repeat(filler);
        write!(client, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nVia: {filler}\r\n\r\n").unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let up = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut server, client);
        let _ = client.shutdown(std::net::Shutdown::Both);
        let _ = up.join().unwrap();
    });
    (proxy, heads)
}

/// An endpoint over TLS, and the settings that trust it.
fn secure(proxy: Option<&str>) -> (Endpoint, SendSettings) {
    let authority = CertificateAuthority::new();
    let endpoint = Endpoint::start_tls(&authority.issue_for_loopback());
    let trust = Trust::default().and("the test's", authority.ca_pem().into_bytes());
    let settings = SendSettings { trust, ..settings(&endpoint.url(), proxy) };
    (endpoint, settings)
}

fn reason(answer: &Answer) -> &'static str {
    match answer.verdict(Timestamp::UNIX_EPOCH) {
        Verdict::Delivered => "delivered",
        Verdict::Retry { reason, .. } | Verdict::Drop { reason } => reason.word(),
    }
}

#[test]
fn what_a_proxy_answers_is_told_as_the_proxys_with_a_reason_of_its_own() {
    let big = format!("HTTP/1.1 403 Forbidden\r\nX: {}\r\n\r\n", "x".repeat(9000));
    let secured = secured_server();
    let nobody = Refusing::new();
    for (proxy, fault, reasoned, words) in [
        (
            answering("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
            ProxyFault::Login,
            "proxy_login",
            "asks for a login (407)",
        ),
        (
            answering("HTTP/1.1 403 Forbidden\r\n\r\n"),
            ProxyFault::Refused(403),
            "proxy_refused",
            "refused the tunnel (403)",
        ),
        (answering(&big), ProxyFault::Refused(403), "proxy_refused", "refused the tunnel (403)"),
        (answering("HTTP/1.1 502 Bad Gateway\r\n\r\n"), ProxyFault::Answered(502), "proxy_failed", "answered 502"),
        (answering("HTTP/1.1 302 Found\r\n\r\n"), ProxyFault::Answered(302), "proxy_failed", "answered 302"),
        (answering(""), ProxyFault::CutShort, "proxy_failed", "ended the connection"),
        (answering("HTTP/1.1 200 OK\r\nX: "), ProxyFault::CutShort, "proxy_failed", "ended the connection"),
        (answering("SSH-2.0-OpenSSH_9.2p1\r\n"), ProxyFault::NotHttp, "proxy_failed", "does not speak plain HTTP"),
        (secured.addr, ProxyFault::SpeaksTls, "proxy_failed", "speaks HTTPS"),
        (nobody.addr, ProxyFault::Unreachable, "proxy_unreachable", "no connection to the proxy"),
    ] {
        let (endpoint, settings) = secure(Some(&format!("http://{proxy}")));
        let answer = attempt(&settings);
        assert_eq!(answer, Answer::NoTunnel(fault));
        assert_eq!((reason(&answer), answer.status()), (reasoned, fault.status()));
        let told = answer.detail().unwrap();
        assert!(told.contains(words) && told.contains("proxy") && !told.contains("127.0.0.1"), "{told}");
        assert_eq!(endpoint.server.connections(), 0, "{told}");
    }
}

#[test]
fn a_tunnel_works_whatever_its_proxy_says_besides_and_every_password_arrives_as_it_was_meant() {
    let password = "p@ss:w/rd?#[%]é ";
    let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for (login, sent) in [(format!("anna:{encoded}@"), Some(format!("anna:{password}"))), (String::new(), None)] {
        let (address, heads) = tunnelling(9000);
        let (endpoint, settings) = secure(Some(&format!("http://{login}{address}")));
        assert_eq!(attempt(&settings), Answer::Status { code: 204, retry_after: None });
        assert_eq!(endpoint.pings().len(), 1);
        let head = heads.lock().unwrap().remove(0);
        let target = endpoint.server.addr;
        assert!(head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n")), "{head}");
        let basic = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: Basic "));
        let basic = basic.map(|basic| String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap());
        assert_eq!(basic, sent, "{head}");
    }
}

#[test]
fn a_host_that_no_proxy_names_in_any_of_gos_ways_is_reached_past_the_proxy() {
    let proxy = Server::start(|_| ResponsePlan::status(502));
    let (endpoint, settings) = secure(Some(&proxy.url()));
    let port = endpoint.server.addr.port();
    let lists = ["127.0.0.1", "*", "127.0.0.0/8", "a.lan ,  127.0.0.1", "::ffff:127.0.0.1"].map(str::to_owned);
    for (number, list) in lists.into_iter().chain([format!("127.0.0.1:{port}")]).enumerate() {
        let mut settings = settings.clone();
        settings.proxy.no_proxy = variable("NO_PROXY", &list);
        assert_eq!(reason(&attempt(&settings)), "delivered", "{list}");
        assert_eq!(endpoint.pings().len(), number + 1);
    }
    assert_eq!(proxy.connections(), 0);
    for list in ["127.0.0.2", "127.0.0.1:1", "localhost", ""] {
        let mut settings = settings.clone();
        settings.proxy.no_proxy = variable("NO_PROXY", list);
        assert_eq!(attempt(&settings), Answer::NoTunnel(ProxyFault::Answered(502)), "{list}");
    }
}

#[test]
fn a_proxy_whose_url_can_be_read_in_two_ways_is_refused_at_the_start_by_the_variables_name_alone() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let secret = "Secret2026";
    for (name, value) in [
        ("HTTPS_PROXY", format!("http://anna:hunter/{secret}@127.0.0.1:3128")),
        ("https_proxy", format!("http://anna:hunter@{secret}@127.0.0.1:3128")),
        ("ALL_PROXY", format!("anna:hunter#{secret}@127.0.0.1:3128")),
        ("all_proxy", format!("http://anna:%{secret}%@127.0.0.1:3128")),
        ("HTTPS_PROXY", format!("socks5://anna:{secret}@127.0.0.1:1080")),
    ] {
        let url = endpoint.url().replace("http://", "https://");
        let setup = Setup::new(&pulse.url(), &url).with_token(TOKEN).with(name, &value);
        for command in ["check", "run"] {
            let output = setup.run(&[command]);
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(3), "{name} {command}: {said}");
            assert!(said.contains(&format!("the proxy in {name} cannot be used")), "{said}");
            assert!(!said.contains(secret) && !said.contains("hunter") && !said.contains("anna"), "{said}");
        }
    }
    let odd =
        Setup::new(&pulse.url(), &endpoint.url()).with_token(TOKEN).with("NO_PROXY", "a.lan, http://b.lan, u:p@c");
    let sidecar = odd.start();
    sidecar.wait_for_log("NO_PROXY: \"http://b.lan\" is not understood");
    let log = sidecar.stop();
    assert!(log.contains("NO_PROXY: \"[not shown]\"") && !log.contains("u:p@c"), "{log}");
}

#[test]
fn the_scheme_of_an_endpoint_that_speaks_the_other_is_told_in_one_sentence() {
    let (plain, secured) = (Endpoint::start(), secured_server());
    let https = plain.url().replace("http://", "https://");
    assert_eq!(attempt(&settings(&https, None)).detail().unwrap(), "the port speaks plain HTTP: try http://");
    let (proxy, _) = tunnelling(0);
    let answer = attempt(&settings(&https, Some(&format!("http://{proxy}"))));
    assert_eq!(answer.detail().unwrap(), "the port speaks plain HTTP: try http://");
    let go = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    for address in [secured.addr, answering(go)] {
        let answer = attempt(&settings(&format!("http://{address}/"), None));
        assert_eq!(answer.detail().unwrap(), "the port speaks HTTPS: try https://");
    }
}

#[test]
fn an_endpoint_or_a_proxy_that_sends_without_end_is_read_in_256_kib_and_no_further() {
    let flood = |head: &'static [u8], again: &'static [u8]| {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let address = raw(move |stream| {
            read_head(stream);
            let block = again.repeat(64 * 1024 / again.len() + 1);
            let _ = stream.write_all(head);
            while stream.write_all(&block).is_ok() {
                counted.fetch_add(block.len(), Ordering::Relaxed);
            }
        });
        (address, sent)
    };
    for (head, again) in [
        (&b""[..], &b"HTTP/1.1 103 Early Hints\r\n\r\n"[..]),
        (b"", b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"),
        (b"HTTP/1.1 204 No Content\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"no end "),
        (b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    ] {
        let (address, sent) = flood(head, again);
        let answer = attempt(&settings(&format!("http://{address}/"), None));
        let taken = sent.load(Ordering::Relaxed);
        assert!(taken < BOUND, "{answer:?} after {taken} bytes");
        assert_ne!(answer, Answer::TimedOut);
        let (address, sent) = flood(head, again);
        let (_, settings) = secure(Some(&format!("http://{address}")));
        let answer = attempt(&settings);
        let taken = sent.load(Ordering::Relaxed);
        assert!(matches!(answer, Answer::NoTunnel(_)) && taken < BOUND, "{answer:?} after {taken} bytes");
    }
}

#[test]
fn a_collector_of_ones_own_is_trusted_by_its_own_certificate_in_ssl_cert_file_and_not_without() {
    let own = self_signed();
    let endpoint = Endpoint::start_tls(&own);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("own.pem"), &own.cert_pem).unwrap();
    let by_file = Authorities { file: Some(dir.path().join("own.pem")), directories: None };
    let by_directory = Authorities { file: None, directories: Some(format!("/nowhere:{}", dir.path().display())) };
    for authorities in [by_file, by_directory] {
        let settings = SendSettings { trust: Trust::of(authorities), ..settings(&endpoint.url(), None) };
        assert_eq!(reason(&attempt(&settings)), "delivered");
    }
    let untrusted = attempt(&settings(&endpoint.url(), None));
    assert!(untrusted.detail().unwrap().contains("an authority's own"), "{untrusted:?}");
    assert_eq!(endpoint.pings().len(), 2);
}

/// As `openssl req -x509` makes it: an authority's.
fn self_signed() -> Issued {
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    Issued { cert_pem: params.self_signed(&key).unwrap().pem(), key_pem: key.serialize_pem() }
}

fn secured_server() -> Server {
    let issued = CertificateAuthority::new().issue_for_loopback();
    Server::start_tls(&issued.cert_pem, &issued.key_pem, |_| ResponsePlan::status(204))
}
