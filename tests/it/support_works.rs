//! The tests' own support, tested: a lie here would be a lie in every other test.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pulse_telemetry_testkit::client::{fetch, get};
use pulse_telemetry_testkit::endpoint::{CertificateAuthority, Endpoint, Issued, PING_PATH};
use pulse_telemetry_testkit::planted::{leaked, planted_strings, worth_looking_for};
use pulse_telemetry_testkit::pulse::{
    Counts, MONITORING_READ, Orgs, PLANTED, PulseModel, Relay, SETTINGS_READ, SimulatedPulse, TOKEN, Token,
};
use pulse_telemetry_testkit::replay::{A_DAY, Replay, captures, oracle, shared_or_skip, tokens};
use pulse_telemetry_testkit::server::{Body, Refusing, ResponsePlan, Server, TlsRecord};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

// ---- server

#[test]
fn a_request_is_kept_as_it_was_sent() {
    let server = Server::start(|_| ResponsePlan::json(200, &json!({"ok": true})));
    let mut stream = TcpStream::connect(server.addr).unwrap();
    let head = "POST /a/b?c=d&e HTTP/1.1\r\nHost: x\r\nX-Odd-CASE:  one \r\nAccept: */*\r\nx-odd-case: two\r\n";
    stream.write_all(format!("{head}Content-Length: 4\r\n\r\nbody").as_bytes()).unwrap();
    let request = server.wait_for_requests(1, LIMIT).remove(0);
    let headers =
        [("Host", "x"), ("X-Odd-CASE", "one"), ("Accept", "*/*"), ("x-odd-case", "two"), ("Content-Length", "4")];
    assert_eq!(request.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/a/b?c=d&e"));
    assert_eq!((request.path(), &request.body[..], request.tls.as_ref()), ("/a/b", &b"body"[..], None));
}

#[test]
fn requests_of_one_connection_are_told_apart_from_those_of_two() {
    let server = Server::start(|_| ResponsePlan::status(204));
    let mut stream = TcpStream::connect(server.addr).unwrap();
    for n in 1..=2 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        server.wait_for_requests(n, LIMIT);
    }
    get(server.addr, "/", None).unwrap();
    let requests = server.requests();
    assert_eq!(requests.iter().map(|request| request.connection).collect::<Vec<_>>(), [1, 1, 2]);
    assert_eq!(requests[1].header("host"), Some("x"));
    assert_eq!(server.connections(), 2);
}

#[test]
fn the_server_answers_what_it_was_told() {
    let server = Server::start(|request| match request.path() {
        "/chunks" => ResponsePlan::body(Body::Chunks(vec![Bytes::from("ab"), Bytes::from("c")])),
        "/away" => ResponsePlan::redirect(307, "http://127.0.0.1:1/"),
        _ => ResponsePlan::text(429, "later").with_header("Retry-After", "7"),
    });
    let chunks = get(server.addr, "/chunks", None).unwrap();
    assert_eq!((chunks.status, chunks.text().as_str()), (200, "abc"));
    assert_eq!(chunks.header("content-length"), None);
    let away = get(server.addr, "/away", None).unwrap();
    assert_eq!((away.status, away.header("location")), (307, Some("http://127.0.0.1:1/")));
    let later = get(server.addr, "/", None).unwrap();
    assert_eq!((later.status, later.header("retry-after"), later.text().as_str()), (429, Some("7"), "later"));
}

#[test]
fn a_body_cut_short_is_cut_short() {
    for sent in ["", "{\"half\":"] {
        let server =
            Server::start(move |_| ResponsePlan::body(Body::CutShort { declared: 100, sent: Bytes::from(sent) }));
        let answer = raw(server.addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.to_lowercase().contains("content-length: 100\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{sent}")), "{answer}");
        assert!(get(server.addr, "/", None).is_err());
    }
}

#[test]
fn a_reset_closes_without_an_answer() {
    let server = Server::start(|_| ResponsePlan::Reset);
    assert_eq!(raw(server.addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "");
    assert!(get(server.addr, "/", None).is_err());
}

#[test]
fn a_hang_ends_with_the_server_and_is_seen_as_a_request() {
    let server = Server::start(|request| match request.path() {
        "/headers" => ResponsePlan::body(Body::Never),
        _ => ResponsePlan::Hang,
    });
    let mut silent = TcpStream::connect(server.addr).unwrap();
    silent.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut headers = TcpStream::connect(server.addr).unwrap();
    headers.write_all(b"GET /headers HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    server.wait_for_requests(2, LIMIT);
    let mut first = [0; 12];
    headers.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    drop(server);
    assert_eq!(read_to_end(&mut silent), "");
}

#[test]
fn a_hundred_megabytes_stream() {
    const TOTAL: u64 = 100 * 1024 * 1024;
    let largest = Arc::new(AtomicU64::new(0));
    let asked = Arc::clone(&largest);
    let block = Bytes::from(vec![b'x'; 64 * 1024]);
    let server = Server::start(move |_| {
        let (asked, block) = (Arc::clone(&asked), block.clone());
        let generator = move |offset| {
            asked.fetch_max(offset, Ordering::SeqCst);
            block.clone()
        };
        ResponsePlan::body(Body::Generated { total: TOTAL, generator: Arc::new(generator) })
    });

    // Who reads a little gets a little: what is not read is never made, so it is nowhere held either.
    let mut stream = TcpStream::connect(server.addr).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1024]).unwrap();
    drop(stream);
    assert!(largest.load(Ordering::SeqCst) < TOTAL / 2);

    assert_eq!(get(server.addr, "/", None).unwrap().body.len() as u64, TOTAL);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_repeated_body_is_a_json_array_of_that_length() {
    let server = Server::start(|request| {
        let times = request.path()[1..].parse().unwrap();
        ResponsePlan::body(Body::repeated("{\"vms\":[", "{\"name\":\"é\"}", times, "],\"pbs\":[]}"))
    });
    for times in [0, 1, 2, 4999, 20_000] {
        let answer = get(server.addr, &format!("/{times}"), None).unwrap().json();
        assert_eq!(answer["vms"].as_array().unwrap().len(), times);
        assert_eq!(answer["pbs"], json!([]));
    }
}

#[test]
fn nobody_listens_where_connections_are_refused() {
    let refusing = Refusing::new();
    let refused = TcpStream::connect(refusing.addr).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn the_server_can_be_used_from_within_a_runtime() {
    let server = Server::start(|_| ResponsePlan::status(204));
    assert_eq!(get(server.addr, "/", None).unwrap().status, 204);
    drop(server);
}

// ---- endpoint

#[test]
fn the_endpoint_follows_its_script_and_then_accepts() {
    let endpoint = Endpoint::start();
    endpoint.answer_next(ResponsePlan::status(503));
    endpoint.answer_next(ResponsePlan::status(202));
    let post = || fetch(endpoint.server.addr, "POST", PING_PATH, &[], Bytes::from("{\"n\":1}")).unwrap().status;
    assert_eq!([post(), post(), post()], [503, 202, 204]);
    endpoint.answer_otherwise(ResponsePlan::status(400));
    assert_eq!(post(), 400);
    let pings = endpoint.wait_for_pings(4, LIMIT);
    assert!(pings.iter().all(|ping| ping.target == PING_PATH && ping.json() == json!({"n": 1})));
    assert_eq!(endpoint.url(), format!("http://{}{PING_PATH}", endpoint.server.addr));
}

#[test]
fn only_the_right_certificate_is_trusted() {
    let authority = CertificateAuthority::new();
    let trusts = |issued: &Issued, ca_pem: &str| {
        let endpoint = Endpoint::start_tls(issued);
        let outcome = tls_get(endpoint.server.addr, "127.0.0.1", &trust(ca_pem));
        assert_eq!(endpoint.server.connections(), 1);
        assert_eq!(endpoint.pings().len(), usize::from(outcome.is_ok()));
        outcome
    };
    trusts(&authority.issue_for_loopback(), &authority.ca_pem()).unwrap();
    let fails = |issued: &Issued, ca_pem: &str| trusts(issued, ca_pem).unwrap_err().to_string();
    let expired = fails(&authority.issue_expired(&["127.0.0.1"]), &authority.ca_pem());
    assert!(expired.contains("expired"), "{expired}");
    let other_host = fails(&authority.issue_for_another_host(), &authority.ca_pem());
    assert!(other_host.contains("not valid for name"), "{other_host}");
    let other_authority = fails(&authority.issue_for_loopback(), &CertificateAuthority::new().ca_pem());
    assert!(other_authority.contains("BadSignature"), "{other_authority}");
}

#[test]
fn a_client_that_resumes_its_tls_session_is_seen() {
    let authority = CertificateAuthority::new();
    let endpoint = Endpoint::start_tls(&authority.issue_for_loopback());
    let client = trust(&authority.ca_pem());
    tls_get(endpoint.server.addr, "localhost", &client).unwrap();
    tls_get(endpoint.server.addr, "localhost", &client).unwrap();
    let tls: Vec<_> = endpoint.pings().into_iter().map(|ping| ping.tls.unwrap()).collect();
    let record = |resumed| TlsRecord { server_name: Some("localhost".to_owned()), resumed };
    assert_eq!(tls, [record(false), record(true)]);
}

// ---- replay

#[test]
fn the_replay_answers_byte_for_byte_as_the_tool_does() {
    let Some(shared) = shared_or_skip("the_replay_answers_byte_for_byte_as_the_tool_does") else { return };
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("SKIPPED the_replay_answers_byte_for_byte_as_the_tool_does: there is no python3");
        return;
    }
    for name in ["v6.0-sso-relay", "v6.3-two-organizations", "v5.1-homelab"] {
        let folder = shared.join("captures").join(name);
        let tool = Tool::start(&shared, &folder);
        let replay = Replay::start(&folder, A_DAY);
        for target in targets(&folder) {
            let known = tokens(&folder);
            let callers = known.iter().map(String::as_str).chain(["nonsense"]).map(Some).chain([None]);
            for token in callers {
                let answer = |addr| {
                    let reply = get(addr, &target, token).unwrap();
                    let kind = reply.header("content-type").map(str::to_owned);
                    (reply.status, kind, reply.body)
                };
                assert_eq!(answer(replay.server.addr), answer(tool.addr), "{name} {target} as {token:?}");
            }
        }
    }
}

#[test]
fn the_replay_takes_either_header_and_tells_the_uptime_it_was_given() {
    let Some(shared) = shared_or_skip("the_replay_takes_either_header_and_tells_the_uptime_it_was_given") else {
        return;
    };
    let replay = Replay::start(&shared.join("captures/v6.3-homelab"), 30);
    let health = get(replay.server.addr, "/api/health", Some("full")).unwrap().json();
    assert_eq!(health["uptime"], json!(30));
    let bearer = [("Authorization", "Bearer monitoring-only")];
    let status = |target| fetch(replay.server.addr, "GET", target, &bearer, Bytes::new()).unwrap().status;
    assert_eq!([status("/api/resources/stats"), status("/api/settings/ai")], [200, 403]);
    assert_eq!(fetch(replay.server.addr, "POST", "/api/version", &[], Bytes::new()).unwrap().status, 405);
}

#[test]
fn every_capture_of_pulse_6_has_an_oracle_and_none_of_5_1() {
    if shared_or_skip("every_capture_of_pulse_6_has_an_oracle_and_none_of_5_1").is_none() {
        return;
    }
    for folder in captures() {
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert_eq!(oracle(&folder).is_some(), !name.starts_with("v5.1"), "{name}");
        assert!(!tokens(&folder).is_empty(), "{name}");
    }
    assert!(!captures().is_empty());
}

// ---- simulated Pulse

/// Real captures and the models that are to look like them, each with a token of the capture's scopes.
fn look_alikes() -> [(&'static str, PulseModel); 4] {
    let fresh = Counts::default();
    let v6 = PulseModel { orgs: Orgs::Off501, relay: Relay::Disabled, ..PulseModel::default() };
    [
        ("v6.3-homelab", v6.clone()),
        ("v6.3-fresh-ai", PulseModel { counts: fresh, relay: Relay::NotLicensed, sso: true, ..v6 }),
        ("v5.1-homelab", PulseModel::v5()),
        ("v5.1-fresh", PulseModel { counts: fresh, ai: false, ..PulseModel::v5() }),
    ]
}

#[test]
fn the_simulated_pulse_answers_in_the_shapes_of_the_real_one() {
    let Some(shared) = shared_or_skip("the_simulated_pulse_answers_in_the_shapes_of_the_real_one") else { return };
    for (name, mut model) in look_alikes() {
        model.tokens = [("full", &[MONITORING_READ, SETTINGS_READ][..]), ("monitoring-only", &[MONITORING_READ])]
            .map(|(token, scopes)| (token.to_owned(), Token::new(scopes, "default")))
            .into();
        let replay = Replay::start(&shared.join("captures").join(name), A_DAY);
        let pulse = SimulatedPulse::start(model);
        for target in ROUTES {
            for token in [Some("full"), Some("monitoring-only"), None] {
                let real = get(replay.server.addr, target, token).unwrap();
                if real.body.starts_with(b"404") && NOT_EVERYWHERE.contains(target) {
                    continue;
                }
                let ours = get(pulse.server.addr, target, token).unwrap();
                let of = format!("{name} {target} as {token:?}");
                assert_eq!(ours.status, real.status, "{of}");
                if real.header("content-type") != Some("application/json") {
                    assert_eq!(ours.body, real.body, "{of}");
                    continue;
                }
                let (ours, real) = (keys(&ours.json()), keys(&real.json()));
                // Of these two only a part is simulated; nothing in it is invented.
                if ["/api/settings/ai", "/api/alerts/active"].contains(target) {
                    let invented: Vec<_> = ours.difference(&real).collect();
                    assert!(invented.is_empty() || real.is_empty(), "{of}: {invented:?}");
                } else if !ours.is_empty() {
                    assert_eq!(ours, real, "{of}");
                }
            }
        }
    }
}

#[test]
fn the_simulated_pulse_counts_what_its_model_says() {
    let counts = Counts { nodes: 3, pbs: 1, pmg: 2, vms: 40, containers: 5, docker_hosts: 6, k8s: 7, alerts: 8 };
    let pulse = SimulatedPulse::start(PulseModel { counts, ..PulseModel::default() });
    let ask = |target| get(pulse.server.addr, target, Some(TOKEN)).unwrap().json();
    let nodes = ask("/api/resources?type=agent&source=proxmox&limit=1");
    assert_eq!((nodes["meta"]["total"].as_u64(), nodes["data"].as_array().unwrap().len()), (Some(3), 1));
    assert_ne!(ask("/api/resources?type=agent&limit=1")["meta"]["total"], nodes["meta"]["total"]);
    let stats = ask("/api/resources/stats");
    // Half of the Docker hosts run a unified agent, so that the stats show them as something else.
    let types = ["agent", "pbs", "pmg", "vm", "system-container", "docker-host", "k8s-cluster"];
    assert_eq!(types.map(|kind| stats["byType"][kind].as_u64().unwrap()), [6, 1, 2, 40, 5, 3, 7]);
    let docker = ask("/api/resources?type=agent,docker-host&source=docker&limit=1");
    assert_eq!(docker["meta"]["total"], 6);
    let summary = ask("/api/state/summary");
    let numbers = ["nodes", "vms", "containers", "activeAlerts"].map(|name| summary[name].as_u64().unwrap());
    assert_eq!((numbers, summary["dockerHosts"].as_array().unwrap().len()), ([3, 40, 5, 8], 6));
    assert_eq!(ask("/api/alerts/active").as_array().unwrap().len(), 8);

    let pulse = SimulatedPulse::start(PulseModel { counts, ..PulseModel::v5() });
    let state = get(pulse.server.addr, "/api/state", Some(TOKEN)).unwrap().json();
    let lists = ["nodes", "pbs", "pmg", "vms", "containers", "dockerHosts", "kubernetesClusters"];
    assert_eq!(lists.map(|list| state[list].as_array().unwrap().len()), [3, 1, 2, 40, 5, 6, 7]);
}

#[test]
fn the_simulated_pulse_changes_while_it_runs() {
    let pulse = SimulatedPulse::start(PulseModel::default());
    let status = || get(pulse.server.addr, "/api/settings/relay", Some(TOKEN)).unwrap().status;
    assert_eq!(status(), 200);
    pulse.change(|model| model.relay = Relay::NotLicensed);
    assert_eq!(status(), 402);
    pulse.replace("/api/settings/relay", ResponsePlan::status(500));
    assert_eq!(status(), 500);
    pulse.restore("/api/settings/relay");
    assert_eq!(status(), 402);
    pulse.change(|model| model.tokens.clear());
    assert_eq!(status(), 401);
    pulse.change(|model| model.require_auth = false);
    assert_eq!(get(pulse.server.addr, "/api/system/settings", None).unwrap().status, 200);
}

#[test]
fn each_token_sees_its_own_organization() {
    let mut model = PulseModel { orgs: Orgs::List, ..PulseModel::default() };
    model.other_organizations.insert("acme".to_owned(), Counts { alerts: 7, ..Counts::default() });
    model.tokens.insert("acme-token".to_owned(), Token::new(&[MONITORING_READ, SETTINGS_READ], "acme"));
    let pulse = SimulatedPulse::start(model);
    let ask = |target, token| get(pulse.server.addr, target, Some(token)).unwrap().json();
    assert_eq!(ask("/api/orgs", TOKEN)[0]["id"], "default");
    assert_eq!(ask("/api/orgs", "acme-token")[0]["id"], "acme");
    assert_eq!(ask("/api/alerts/active", TOKEN).as_array().unwrap().len(), 2);
    assert_eq!(ask("/api/alerts/active", "acme-token").as_array().unwrap().len(), 7);
}

#[test]
fn the_same_drift_tells_the_same_story() {
    let story = || {
        let mut model = PulseModel::default();
        let step = |step| {
            model.drift(step);
            model.counts
        };
        (0..100).map(step).collect::<Vec<_>>()
    };
    let told = story();
    assert_eq!(told, story());
    assert!(told.windows(2).filter(|pair| pair[0] != pair[1]).count() > 50);
}

#[test]
fn every_planted_string_is_in_what_either_shape_answers() {
    for model in [PulseModel::default(), PulseModel::v5()] {
        let shape = model.shape;
        let pulse = SimulatedPulse::start(model);
        let answers: String =
            ROUTES.iter().map(|target| get(pulse.server.addr, target, Some(TOKEN)).unwrap().text()).collect();
        for planted in PLANTED {
            assert!(answers.contains(planted), "{shape:?} never says {planted}");
        }
    }
}

// ---- planted

#[test]
fn hosts_addresses_users_and_alert_texts_are_found_in_every_capture() {
    if shared_or_skip("hosts_addresses_users_and_alert_texts_are_found_in_every_capture").is_none() {
        return;
    }
    for folder in captures() {
        let planted = planted_strings(&folder);
        for caller in tokens(&folder) {
            let read = |name: &str| -> Value {
                let file = std::fs::read(folder.join(&caller).join(name)).ok();
                file.and_then(|file| serde_json::from_slice(&file).ok()).unwrap_or_default()
            };
            let mut expected = vec![read("api_security_status.json")["authUsername"].clone()];
            for alert in read("api_alerts_active.json").as_array().into_iter().flatten() {
                expected.extend([alert["message"].clone(), alert["id"].clone()]);
            }
            for token in read("api_security_tokens.json")["tokens"].as_array().into_iter().flatten() {
                expected.extend([token["id"].clone(), token["ownerUserId"].clone()]);
            }
            let resources = read("api_resources__type-agent__source-proxmox__limit-1.json");
            for node in resources["data"].as_array().into_iter().flatten() {
                let identity = &node["identity"];
                for list in ["hostnames", "ipAddresses", "macAddresses"] {
                    expected.extend(identity[list].as_array().into_iter().flatten().cloned());
                }
                expected.extend([identity["machineId"].clone(), node["proxmox"]["host"].clone()]);
            }
            let state = read("api_state.json");
            for guest in state["vms"].as_array().into_iter().flatten() {
                expected.push(guest["name"].clone());
                expected.extend(guest["ipAddresses"].as_array().into_iter().flatten().cloned());
            }
            for host in state["dockerHosts"].as_array().into_iter().flatten() {
                expected.extend([host["hostname"].clone(), host["machineId"].clone()]);
            }

            for text in expected.iter().filter_map(Value::as_str).filter(|text| worth_looking_for(text)) {
                assert!(planted.contains(text), "{}: {text} was not found", folder.display());
            }
        }
    }
}

#[test]
fn pulses_own_heartbeat_holds_nothing_planted() {
    if shared_or_skip("pulses_own_heartbeat_holds_nothing_planted").is_none() {
        return;
    }
    // A Pulse before its set-up has nothing that could leak.
    let mut rich = 0;
    for folder in captures() {
        let Some(heartbeat) = oracle(&folder) else { continue };
        let planted = planted_strings(&folder);
        rich += usize::from(planted.len() > 5);
        // What a field is called is Pulse's own, and may be a word of somebody's too.
        let values: Vec<String> = heartbeat.as_object().unwrap().values().map(Value::to_string).collect();
        let leaked = leaked(&planted, &values.join("\n"));
        assert!(leaked.is_empty(), "{}: {leaked:?}", folder.display());
    }
    assert!(rich > 30, "{rich}");
}

#[test]
fn a_leak_is_found_as_a_word_of_its_own() {
    let planted = BTreeSet::from(["pve1".to_owned(), "198.51.100.37".to_owned()]);
    assert_eq!(leaked(&planted, r#"{"host":"pve1"}"#), ["pve1"]);
    assert_eq!(leaked(&planted, "http://198.51.100.37:8006/"), ["198.51.100.37"]);
    assert!(leaked(&planted, "pve10 and xpve1 and 198.51.100.370").is_empty());
}

// ---- helpers

const ROUTES: &[&str] = &[
    "/api/version",
    "/api/health",
    "/api/security/status",
    "/api/security/tokens",
    "/api/resources/stats",
    "/api/resources?type=agent&source=proxmox&limit=1",
    "/api/resources?type=agent,docker-host&source=docker&limit=1",
    "/api/state/summary",
    "/api/state",
    "/api/alerts/active",
    "/api/system/settings",
    "/api/system/mock-mode",
    "/api/settings/ai",
    "/api/settings/relay",
    "/api/license/status",
    "/api/orgs",
];

/// Those of which some captures have nothing.
const NOT_EVERYWHERE: &[&str] =
    &["/api/state", "/api/state/summary", "/api/resources?type=agent,docker-host&source=docker&limit=1"];

/// The top-level keys of an object, or of the first object of a list.
fn keys(value: &Value) -> BTreeSet<String> {
    let object = value.as_object().or_else(|| value.get(0)?.as_object());
    object.into_iter().flat_map(|members| members.keys().cloned()).collect()
}

fn raw(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    read_to_end(&mut stream)
}

/// Until the other end closes, or resets, which is as good.
fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// A TLS client that trusts that authority; it resumes sessions, as rustls does by default.
fn trust(ca_pem: &str) -> Arc<rustls::ClientConfig> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

fn tls_get(addr: SocketAddr, name: &'static str, config: &Arc<rustls::ClientConfig>) -> std::io::Result<String> {
    let session = rustls::ClientConnection::new(Arc::clone(config), name.try_into().unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(session, TcpStream::connect(addr)?);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Every target of a capture's index, its query also turned around, and one that nobody captured.
fn targets(folder: &Path) -> BTreeSet<String> {
    let index = pulse_telemetry_testkit::replay::index(folder);
    let mut targets: BTreeSet<String> = index["responses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|response| response["path"].as_str().unwrap().to_owned())
        .collect();
    targets
        .extend(["/api/resources?limit=%31&source=proxmox&type=agent", "/nowhere", "/api/version?x"].map(String::from));
    targets
}

struct Tool {
    addr: SocketAddr,
    process: Child,
}

impl Tool {
    /// `tools/replay-pulse` on a free port, which its first line names.
    fn start(shared: &Path, folder: &Path) -> Self {
        let mut command = Command::new("python3");
        command.arg(shared.join("tools/replay-pulse")).arg(folder).args(["--port", "0"]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().rsplit('/').next().unwrap().parse().unwrap();
        Self { addr, process }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
