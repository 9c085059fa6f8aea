//! TLS, proxies, redirects and time-outs, of Pulse and of the endpoint.

use std::time::Duration;

use pulse_telemetry_endpoint::ProxyVariables;
use pulse_telemetry_http::tls::Trust;
use pulse_telemetry_testkit::endpoint::{CertificateAuthority, Endpoint};
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::replay::{self, Replay};
use pulse_telemetry_testkit::server::{Body, ResponsePlan, Server};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{text, working};

#[test]
fn a_pulse_that_hangs_costs_one_time_out_and_is_told_as_that() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    for path in ["/api/health", "/api/version", "/api/security/status", "/api/system/settings"] {
        pulse.replace(path, ResponsePlan::Hang);
    }
    let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY_PULSE__TIMEOUT", "1s");
    let preview = setup.run(&["preview"]);
    assert_eq!(preview.status.code(), Some(4));
    assert!(text(&preview.stderr).contains("was not answered within pulse.timeout (1 s)"), "{}", text(&preview.stderr));
    assert_eq!(pulse.server.requests().len(), 1);
}

#[test]
fn authorities_that_are_named_and_cannot_be_read_are_an_error_and_no_others_take_their_place() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    let setup = Setup::new(&pulse.url(), "https://127.0.0.1:1/").with_token(TOKEN);
    let (ca, directory) = (CertificateAuthority::new().ca_pem(), setup.path("empty"));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("README"), "Put certificates here.").unwrap();
    let der = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap().to_vec();
    std::fs::write(setup.path("der"), der).unwrap();
    setup.write("nothing", "");
    setup.write("trusted", &ca.replace("CERTIFICATE", "TRUSTED CERTIFICATE"));
    setup.write("broken", &format!("{ca}{}", ca.replacen("MII", "M!I", 1)));
    setup.write("key", &CertificateAuthority::new().issue_for_loopback().key_pem);
    for (variable, file, words) in [
        ("SSL_CERT_FILE", "absent", "failed to read it"),
        ("SSL_CERT_FILE", "nothing", "there is no certificate in it"),
        ("SSL_CERT_FILE", "der", "`openssl x509 -inform DER"),
        ("SSL_CERT_FILE", "trusted", "TRUSTED CERTIFICATE"),
        ("SSL_CERT_FILE", "broken", "block 2 in it"),
        ("SSL_CERT_FILE", "key", "PRIVATE KEY"),
        ("SSL_CERT_DIR", "empty", "no file in it that holds a certificate"),
        ("SSL_CERT_DIR", "absent", "no file in it that holds a certificate"),
        ("PULSE_CACERT", "nothing", "there is no certificate in it"),
        ("PULSE_CACERT", "der", "`openssl x509 -inform DER"),
        ("PULSE_CACERT", "broken", "block 2 in it"),
    ] {
        let path = setup.path(file).display().to_string();
        let output = setup.clone().with(variable, &path).run(&["check"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{variable} {file}: {said}");
        let key = if variable == "PULSE_CACERT" { "pulse.ca_file" } else { variable };
        assert!(said.contains(&format!("{key}: {path}")) && said.contains(words), "{variable} {file}: {said}");
    }
    let marked = setup.write("marked", &format!("\u{feff}{ca}\u{feff}{ca}")).display().to_string();
    for (file, directory) in [("", ""), (" ", " "), (marked.as_str(), ""), ("", setup.path("").to_str().unwrap())] {
        let setup = setup.clone().with("SSL_CERT_FILE", file).with("SSL_CERT_DIR", directory);
        let output = setup.run(&["check"]);
        assert_eq!(output.status.code(), Some(0), "{file:?} {directory:?}: {}", text(&output.stderr));
    }
}

/// A reading that takes as long as the pause between two readings answers those who waited for it.
#[test]
fn a_pulse_that_never_answers_leaves_nobody_waiting_for_a_preview_the_posture_or_the_page() {
    // Connections are made by the operating system; nobody takes them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pulse = format!("http://{}", silent.local_addr().unwrap());
    let sidecar = Setup::new(&pulse, &Endpoint::start().url()).with("PULSE_TELEMETRY_PULSE__TIMEOUT", "10s").start();
    for (path, status) in [("/api/v1/preview", 503), ("/api/v1/posture", 503), ("/", 200)] {
        let answer = sidecar.get(path);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.text().contains("was not answered within pulse.timeout (10 s)"), "{path}: {}", answer.text());
    }
    assert!(sidecar.get("/").text().contains("is not known, and unknown is off"), "local events are off then");
}

#[test]
fn a_self_signed_pulse_is_read_with_its_authority_and_not_without() {
    let authority = CertificateAuthority::new();
    let Some(folder) = replay::captures().into_iter().find(|folder| folder.ends_with("v6.3-homelab")) else {
        replay::shared_or_skip("a_self_signed_pulse_is_read_with_its_authority_and_not_without");
        return;
    };
    let plain = Replay::start(&folder, replay::A_DAY);
    let issued = authority.issue_for_loopback();
    let behind = plain.server.addr;
    let secure = Server::start_tls(&issued.cert_pem, &issued.key_pem, move |request| {
        let token = request.header("x-api-token").map(str::to_owned);
        let reply = pulse_telemetry_testkit::client::get(behind, &request.target, token.as_deref()).unwrap();
        ResponsePlan::bytes(reply.status, "application/json", reply.body)
    });
    let setup = Setup::new(&secure.url(), "http://127.0.0.1:1/").with_token("full");
    let refused = setup.run(&["preview"]);
    assert_eq!(refused.status.code(), Some(4));
    let said = text(&refused.stderr);
    assert!(said.contains("unknown authority") && said.contains("pulse.ca_file"), "{said}");
    let ca = setup.write("pulse-ca.pem", &authority.ca_pem());
    let trusted = setup.with("PULSE_CACERT", ca.to_str().unwrap());
    let output = trusted.run(&["preview"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn an_endpoint_that_cannot_be_trusted_gets_no_ping() {
    let authority = CertificateAuthority::new();
    let pulse = SimulatedPulse::start(PulseModel::default());
    for (issued, reason) in [
        (authority.issue_expired(&["127.0.0.1", "localhost"]), "expired"),
        (authority.issue_for_another_host(), "another name"),
        (CertificateAuthority::new().issue_for_loopback(), "unknown authority"),
    ] {
        let endpoint = Endpoint::start_tls(&issued);
        let setup = working(&pulse, &endpoint);
        let ca = setup.write("ca.pem", &authority.ca_pem());
        let sidecar = setup.with("SSL_CERT_FILE", ca.to_str().unwrap()).start();
        endpoint.server.wait_for_connections(1, LIMIT);
        sidecar.wait_for_log(reason);
        let status = sidecar.status();
        assert_eq!(status["pending"]["attempts"], 1, "{status}");
        drop(sidecar);
        assert_eq!(endpoint.pings().len(), 0, "{reason}");
    }
}

#[test]
fn no_redirect_is_followed() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    for code in [301, 302, 303, 307, 308] {
        let elsewhere = Endpoint::start();
        let endpoint = Endpoint::start();
        endpoint.answer_otherwise(ResponsePlan::redirect(code, &elsewhere.url()));
        let sidecar = working(&pulse, &endpoint).start();
        endpoint.wait_for_pings(1, LIMIT);
        sidecar.wait_for_log("redirected");
        assert_eq!(sidecar.status()["last"]["reason"], "redirected");
        drop(sidecar);
        assert_eq!(elsewhere.server.connections(), 0, "{code}");
    }
}

#[test]
fn no_tls_session_is_resumed_between_two_pings() {
    let authority = CertificateAuthority::new();
    let endpoint = Endpoint::start_tls(&authority.issue_for_loopback());
    let pulse = SimulatedPulse::start(PulseModel::default());
    let setup = working(&pulse, &endpoint)
        .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "1s")
        .with("PULSE_TELEMETRY_SCHEDULE__JITTER", "0s");
    let ca = setup.write("ca.pem", &authority.ca_pem());
    let _sidecar = setup.with("SSL_CERT_FILE", ca.to_str().unwrap()).start();
    let pings = endpoint.wait_for_pings(2, LIMIT);
    assert_ne!(pings[0].connection, pings[1].connection);
    assert!(pings.iter().all(|ping| ping.tls.as_ref().is_some_and(|tls| !tls.resumed)));
}

#[test]
fn a_proxy_is_used_only_where_one_is_configured_and_sees_only_a_tunnel() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    let proxy = Endpoint::start();
    proxy.answer_otherwise(ResponsePlan::status(502));
    let authority = CertificateAuthority::new();
    let endpoint = Endpoint::start_tls(&authority.issue_for_loopback());
    let setup = || {
        let setup = working(&pulse, &endpoint).with("HTTPS_PROXY", &proxy.server.url());
        let ca = setup.write("ca.pem", &authority.ca_pem());
        setup.with("SSL_CERT_FILE", ca.to_str().unwrap())
    };
    let sidecar = setup().start();
    let request = proxy.server.wait_for_requests(1, LIMIT).remove(0);
    assert_eq!(request.method, "CONNECT");
    assert!(request.body.is_empty());
    drop(sidecar);
    assert_eq!(endpoint.server.connections(), 0, "nothing goes past the proxy");
    let _direct = setup().with("NO_PROXY", "127.0.0.1,localhost").start();
    endpoint.wait_for_pings(1, LIMIT);
}

#[test]
fn the_endpoint_is_asked_for_no_longer_than_ten_seconds_and_again_later() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    endpoint.answer_next(ResponsePlan::Hang);
    let setup = working(&pulse, &endpoint);
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, Duration::from_secs(20));
    sidecar.wait_for_log("timed_out");
    assert_eq!(sidecar.status()["pending"]["attempts"], 1);
    assert_eq!(sidecar.status()["pending"]["bytes"].as_str().unwrap(), text(&endpoint.pings()[0].body));
}

#[test]
fn an_outage_is_told_in_one_line_of_the_log_and_its_retries_only_to_who_asks_for_more() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    endpoint.answer_otherwise(ResponsePlan::status(503));
    let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "1s");
    let sidecar = setup.start();
    let told = |level| move |line: &&str| line.contains(level) && line.contains("did not take the ping");
    endpoint.wait_for_pings(2, LIMIT);
    sidecar.wait_for_log("DEBUG pulse_telemetry::daemon: the endpoint did not take the ping");
    let log = sidecar.stop();
    assert_eq!(log.lines().filter(told("WARN")).count(), 1, "{log}");
}

#[test]
fn an_answer_without_an_end_holds_neither_the_connection_nor_the_next_ping() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    endpoint.answer_next(ResponsePlan::body(Body::Never));
    let setup = working(&pulse, &endpoint).with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "1s");
    let sidecar = setup.start();
    endpoint.wait_for_pings(2, LIMIT);
    assert!(!sidecar.get("/api/v1/history").text().contains("\"failed\""), "2xx is an acceptance");
    sidecar.stop();
}

#[test]
fn a_build_for_tests_cannot_reach_the_real_endpoint() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    let setup = Setup::new(&pulse.url(), "https://license.pulserelay.pro/v1/telemetry/ping")
        .with_token(TOKEN)
        .with("PULSE_TELEMETRY_SCHEDULE__STARTUP_DELAY", "2m");
    let output = setup.run(&["check"]);
    assert!(output.status.success(), "the configuration is the default one");
    let sender = pulse_telemetry_endpoint::Sender::new(&pulse_telemetry_endpoint::SendSettings {
        endpoint: "https://license.pulserelay.pro/v1/telemetry/ping".parse().unwrap(),
        proxy: ProxyVariables::default(),
        trust: Trust::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (answer, _) = runtime.block_on(sender.unwrap().attempt(pulse_telemetry_testkit::readings::any_ping()));
    assert_eq!(
        answer,
        pulse_telemetry_core::verdict::Answer::NoConnection("a test build sends to loopback only".to_owned())
    );
}
