//! The collector from end to end: what real senders send ends as rows with the listed columns, and nothing else.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use pulse_telemetry_core::contract::{self, FIELDS};
use pulse_telemetry_testkit::collector::{Setup, Storage, expected_row, ping, ping_of, recorded};
use pulse_telemetry_testkit::endpoint::{CertificateAuthority, PING_PATH};
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::{client, replay, sidecar};
use serde_json::{Map, Value, json};

/// The columns of every table that holds pings: when it came, and the 25 fields.
fn listed() -> Vec<&'static str> {
    std::iter::once("received_at").chain(FIELDS.iter().map(|field| field.name)).collect()
}

/// The fields of a row.
fn fields(row: &Map<String, Value>) -> Map<String, Value> {
    row.iter().filter(|(name, _)| *name != "received_at").map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[test]
fn every_recorded_ping_ends_as_a_row_with_exactly_the_listed_columns() {
    let test = "every_recorded_ping_ends_as_a_row_with_exactly_the_listed_columns";
    if replay::shared_or_skip(test).is_none() {
        return;
    }
    let names = ["ping-20-fields-derived.txt", "ping-6.0.0-rc.1.txt", "ping-6.3.0.txt"];
    let mut pings: Vec<Value> = names.map(|name| recorded(name).unwrap()).into();
    // Both are of one installation, and would be one ping.
    pings[0]["install_id"] = json!(pulse_telemetry_testkit::collector::install_id(2));
    // The released 6.0.0-rc.1 says nothing more of its version, so that is said here; and a later Pulse sends 150
    // fields.
    let first = ping(&json!({"install_id": pings[0]["install_id"], "version": pings[0]["version"]}));
    let mut latest = pings[2].clone();
    for number in 0..150 {
        latest[format!("later_{number}")] = json!([number, {"name": "value"}]);
    }
    latest["install_id"] = json!(pulse_telemetry_testkit::collector::install_id(1));
    let sent = [&pings[..], &[latest.clone()]].concat();
    let expected_of = [first, pings[1].clone(), pings[2].clone(), latest];
    for storage in Storage::all() {
        let collector = Setup::new(&storage).start();
        for ping in &sent {
            assert_eq!(collector.post(ping).status, 204, "{}", storage.name());
        }
        collector.stop();
        let tables = storage.columns();
        assert!(tables.len() <= 2, "one day, and PostgreSQL's parent: {tables:?}");
        assert!(tables.values().all(|columns| *columns == listed()), "{tables:?}");
        let mut rows: Vec<_> = storage.rows().iter().map(fields).collect();
        let mut expected: Vec<_> = expected_of.iter().map(expected_row).collect();
        let key = |row: &Map<String, Value>| {
            [row["version"].to_string(), row["install_id"].to_string(), row["event"].to_string()]
        };
        rows.sort_by_key(key);
        expected.sort_by_key(key);
        assert_eq!(rows, expected, "{}", storage.name());
    }
}

#[test]
fn the_pings_of_a_real_sidecar_end_as_rows() {
    for storage in Storage::all() {
        let collector = Setup::new(&storage).start();
        let pulse = SimulatedPulse::start(PulseModel::default());
        let endpoint = format!("http://{}{PING_PATH}", collector.address);
        let setup = sidecar::Setup::new(&pulse.url(), &endpoint)
            .with_token(TOKEN)
            // The environment of both, as on a machine that runs both.
            .with("PULSE_TELEMETRY_COLLECTOR_SERVE__LISTEN", "127.0.0.1:0")
            .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "200ms");
        let sidecar = setup.start();
        collector.wait_for("a startup and a heartbeat are stored", || storage.rows().len() >= 2);
        sidecar.stop();
        collector.stop();
        let rows = storage.rows();
        let ledger = std::fs::read_to_string(setup.state("ledger.jsonl")).unwrap();
        let sent: Vec<Map<String, Value>> = ledger
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|entry| entry["kind"] == "attempted")
            .map(|entry| expected_row(&serde_json::from_str(entry["body"].as_str().unwrap()).unwrap()))
            .collect();
        assert!(rows.iter().all(|row| sent.contains(&fields(row))), "a row that no ping made");
        let events: Vec<_> = rows.iter().map(|row| row["event"].clone()).collect();
        assert!(events.contains(&json!("startup")) && events.contains(&json!("heartbeat")), "{events:?}");
    }
}

#[test]
fn a_licence_tier_a_token_count_and_every_other_unlisted_field_leave_nothing_on_disk_or_in_the_log() {
    let secret = "platinum-tier-of-wilhelmina";
    let body =
        ping(&json!({"license_tier": secret, "api_tokens": 471_147_114, "nested": {"deep": [secret]}, secret: true}));
    for storage in Storage::all() {
        let collector = Setup::new(&storage).start();
        assert_eq!(collector.post(&body).status, 204);
        assert!((collector.metric("dropped_fields_total") - 4.0).abs() < 0.5);
        let metrics = collector.ask_admin("/metrics").text();
        let log = collector.kill();
        assert_eq!(storage.rows().iter().map(fields).collect::<Vec<_>>(), [expected_row(&body)]);
        for (place, bytes) in pulse_telemetry_testkit::disk::files_below(storage.dir()) {
            assert!(!pulse_telemetry_testkit::disk::contains(&bytes, secret.as_bytes()), "in {}", place.display());
        }
        assert!(!log.contains(secret) && !log.contains("471147114"), "{log}");
        assert!(!metrics.contains(secret), "{metrics}");
    }
}

#[test]
fn what_is_no_ping_is_refused_with_the_field_and_nothing_is_stored() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    let refusal = |body: String| {
        let reply = collector.post_bytes(body, &[]);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let json = reply.json();
        (reply.status, json["error"].as_str().unwrap().to_owned(), json["field"].as_str().map(str::to_owned))
    };
    let told = |status: u16, error: &str, field: Option<&str>| (status, error.to_owned(), field.map(str::to_owned));
    assert_eq!(refusal("no json".to_owned()), told(400, "not_json", None));
    assert_eq!(refusal(String::new()), told(400, "not_json", None));
    assert_eq!(refusal("[1]".to_owned()), told(400, "not_an_object", None));
    assert_eq!(refusal(format!("{} ,", ping(&json!({})))), told(400, "not_json", None));
    for field in FIELDS.iter().filter(|field| field.required()) {
        let mut without = ping(&json!({}));
        without.as_object_mut().unwrap().remove(field.name);
        assert_eq!(refusal(without.to_string()), told(400, "missing_field", Some(field.name)));
        let wrong = ping(&json!({field.name: [1]}));
        assert_eq!(refusal(wrong.to_string()), told(400, "invalid_field", Some(field.name)));
        let null = ping(&json!({field.name: null}));
        assert_eq!(refusal(null.to_string()), told(400, "invalid_field", Some(field.name)));
    }
    let large = ping(&json!({"padding": "x".repeat(64 * 1024)}));
    assert_eq!(refusal(large.to_string()).0, 413);
    let none = collector.post_bytes(ping(&json!({})).to_string(), &[("Content-Encoding", "gzip")]);
    assert_eq!(none.status, 415);
    let body = ping(&json!({})).to_string();
    let text = client::fetch(collector.address, "POST", PING_PATH, &[("Content-Type", "text/plain")], body.into());
    assert_eq!(text.unwrap().status, 415);
    let get = collector.get(PING_PATH);
    assert_eq!((get.status, get.header("allow")), (405, Some("POST, OPTIONS")));
    assert_eq!(collector.get("/v1/telemetry/ping/4711").status, 404);
    collector.stop();
    assert_eq!(storage.rows().len(), 0);
}

#[test]
fn the_largest_ping_is_accepted_and_one_byte_more_is_not() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    let padded = |length: usize| {
        let bare = ping(&json!({"padding": ""})).to_string();
        ping(&json!({"padding": "x".repeat(length - bare.len())})).to_string()
    };
    assert_eq!(collector.post_bytes(padded(65_536), &[]).status, 204);
    assert_eq!(collector.post_bytes(padded(65_537), &[]).status, 413);
}

#[test]
fn the_contract_is_published_with_the_sum_of_its_file() {
    let collector = Setup::new(&Storage::sqlite()).start();
    let published = collector.get("/v1/contract").json();
    assert_eq!(published["schema"], contract::schema());
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/config/ping.schema.json")).unwrap();
    let sum = ring::digest::digest(&ring::digest::SHA256, &file);
    let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(published["sha256"], sum);
}

#[test]
fn no_route_shows_a_ping_or_anything_of_a_single_installation() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    for number in 0..3 {
        assert_eq!(collector.post(&ping_of(number)).status, 204);
    }
    for path in
        ["/", "/v1/telemetry/ping", "/v1/telemetry", "/v1/contract", "/metrics", "/healthz", "/readyz", "/report"]
    {
        let text = collector.get(path).text();
        for row in storage.rows() {
            let id = row["install_id"].as_str().unwrap();
            assert!(!text.contains(id) && !text.contains("rc.1\" 1"), "{path}: {text}");
        }
    }
}

#[test]
fn over_tls_of_its_own_no_session_is_resumed() {
    let authority = CertificateAuthority::new();
    let certificate = authority.issue_for_loopback();
    let storage = Storage::sqlite();
    let setup = Setup::new(&storage);
    let (cert, key) = (setup.write("cert.pem", &certificate.cert_pem), setup.write("key.pem", &certificate.key_pem));
    let setup = setup.with("SERVE__TLS_CERT", cert.to_str().unwrap()).with("SERVE__TLS_KEY", key.to_str().unwrap());
    let collector = setup.start_unready();
    let asked: Vec<_> = (0..3)
        .map(|number| pulse_telemetry_testkit::tls::post(collector.address, &authority.ca_pem(), &ping_of(number)))
        .collect();
    assert!(asked.iter().all(|(status, resumed)| (*status, *resumed) == (204, false)), "{asked:?}");
    collector.stop();
    assert_eq!(storage.rows().len(), 3);
}

fn ask(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
    client::fetch(address, method, target, headers, Bytes::new()).unwrap().status
}

#[test]
fn metrics_and_readiness_are_told_on_the_operators_listener_and_nowhere_else() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).start();
    for (path, public, admin) in [
        ("/metrics", 404, 200),
        ("/readyz", 404, 200),
        ("/healthz", 200, 200),
        ("/v1/contract", 200, 404),
        ("/v1/telemetry/ping", 405, 404),
        ("/", 404, 200),
    ] {
        for method in ["GET", "HEAD"] {
            assert_eq!(ask(collector.address, method, path, &[]), public, "{method} {path}");
            assert_eq!(ask(collector.admin, method, path, &[]), admin, "{method} {path} of the operator");
        }
    }
    let posted =
        client::fetch(collector.admin, "POST", "/v1/telemetry/ping", &[], ping_of(1).to_string().into()).unwrap();
    assert_eq!(posted.status, 404, "no ping is taken there");
}

#[test]
fn off_loopback_the_operators_listener_needs_a_token_which_metrics_ask_for() {
    let storage = Storage::sqlite();
    let setup = Setup::new(&storage);
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7658", "[2001:db8::1]:7658"] {
        let ended = setup.clone().with("ADMIN__LISTEN", address).run(&["run"]);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(3), "{said}");
        assert!(said.contains("admin.token_file") && said.contains("is not on loopback"), "{said}");
    }
    let token = "4711-of-the-operator";
    let file = setup.write("token", token);
    let setup = setup.with("ADMIN__LISTEN", "0.0.0.0:0").with("ADMIN__TOKEN_FILE", file.to_str().unwrap());
    let collector = setup.start();
    let admin = SocketAddr::from(([127, 0, 0, 1], collector.admin.port()));
    for (path, without) in [("/metrics", 401), ("/readyz", 200), ("/healthz", 200)] {
        assert_eq!(ask(admin, "GET", path, &[]), without, "{path}");
        assert_eq!(ask(admin, "GET", path, &[("Authorization", "Bearer wrong")]), without, "{path}");
        assert_eq!(ask(admin, "GET", path, &[("Authorization", &format!("Bearer {token}"))]), 200, "{path}");
    }
    assert!(!collector.stop().contains(token));
}

#[test]
fn the_operators_listener_answers_under_its_own_names_only() {
    let storage = Storage::sqlite();
    let setup = Setup::new(&storage).with("ADMIN__ALLOWED_HOSTS", r#"["collector.lan"]"#);
    let collector = setup.start();
    for (host, expected) in [
        ("localhost:7658", 200),
        ("127.0.0.1", 200),
        ("192.0.2.7:7658", 200),
        ("[::1]", 200),
        ("collector.lan.", 200),
        ("rebound.example", 421),
        ("collector.lan.example", 421),
    ] {
        assert_eq!(ask(collector.admin, "GET", "/metrics", &[("Host", host)]), expected, "{host}");
        assert_eq!(ask(collector.admin, "GET", "/readyz", &[("Host", host)]), 200, "health has nothing to see: {host}");
    }
    let of_another_site = [("Sec-Fetch-Site", "cross-site")];
    assert_eq!(ask(collector.admin, "GET", "/metrics", &of_another_site), 403);
}

#[test]
fn a_connection_is_closed_after_every_answer_that_is_no_204() {
    let storage = Storage::sqlite();
    let collector = Setup::new(&storage).with("LIMITS__PER_MINUTE", "3").start();
    let post = |body: &str| {
        let (length, kind) = (body.len(), "Content-Type: application/json");
        format!("POST /v1/telemetry/ping HTTP/1.1\r\nHost: c\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: c\r\n\r\n");
    for (request, status) in [
        (get("/healthz"), 200),
        (get("/v1/contract"), 200),
        (get("/nowhere"), 404),
        (get("/v1/telemetry/ping"), 405),
        (post("no ping"), 400),
        (post(&ping_of(1).to_string()), 204),
        (post(&ping_of(2).to_string()), 204),
        (post(&ping_of(3).to_string()), 429),
    ] {
        let mut stream = TcpStream::connect(collector.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        if status == 204 {
            // It stays open for the next ping, and that one's answer closes it.
            stream.write_all(get("/healthz").as_bytes()).unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains("connection: close\r\n"), "{request}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), if status == 204 { 2 } else { 1 }, "{answer}");
    }
}

#[test]
fn who_is_not_told_apart_behind_a_proxy_is_said_once_and_counted_without_an_address() {
    let storage = Storage::sqlite();
    let count = |collector: &pulse_telemetry_testkit::collector::Collector, problem: &str| {
        collector.metric(&format!("proxy_mismatches_total{{problem=\"{problem}\"}}"))
    };
    for (trusted, headers, untrusted, no_client) in [
        ("[]", &[("X-Forwarded-For", "198.51.100.7")][..], 3.0, 0.0),
        ("[\"10.0.0.0/8\"]", &[("X-Forwarded-For", "198.51.100.7, 10.0.0.5")], 3.0, 0.0),
        ("[\"127.0.0.1\"]", &[("X-Real-IP", "198.51.100.7")], 0.0, 3.0),
        ("[\"127.0.0.1\"]", &[("X-Forwarded-For", "unknown")], 0.0, 3.0),
        ("[\"127.0.0.1\"]", &[("X-Forwarded-For", "198.51.100.7")], 0.0, 0.0),
        ("[]", &[], 0.0, 0.0),
    ] {
        // Also where nobody is limited.
        let collector = Setup::new(&storage).with("SERVE__TRUSTED_PROXIES", trusted).start();
        for number in 0..3 {
            assert_eq!(collector.post_bytes(ping_of(number).to_string(), headers).status, 204);
        }
        assert_eq!(
            (count(&collector, "untrusted"), count(&collector, "no_client")),
            (untrusted, no_client),
            "{headers:?}"
        );
        let log = collector.stop();
        let warnings: Vec<_> = log.lines().filter(|line| line.contains("serve.trusted_proxies")).collect();
        assert_eq!(warnings.len(), usize::from(untrusted + no_client > 0.0), "{log}");
        assert!(!log.contains("198.51.100.7") && !warnings.iter().any(|line| line.contains("127.0.0.1")), "{log}");
    }
}

#[test]
fn the_alerts_and_the_page_name_metrics_that_there_are_and_the_page_all_of_them() {
    let collector = Setup::new(&Storage::sqlite()).start();
    let prefix = "pulse_telemetry_collector_";
    let words = |text: &str| -> BTreeSet<String> {
        let is_part = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
        text.split(|byte| !is_part(byte)).map(str::to_owned).collect()
    };
    let scrape = collector.ask_admin("/metrics").text();
    let there: BTreeSet<String> =
        scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned)).collect();
    assert!(there.len() > 15, "{there:?}");
    let with_total = |name: &String| [name.clone(), format!("{name}_total")];
    let all: BTreeSet<String> = there.iter().flat_map(with_total).collect();
    let named: BTreeSet<String> =
        words(include_str!("../../docs/collector-alerts.yml")).into_iter().filter(|w| w.starts_with(prefix)).collect();
    assert!(named.len() > 5 && named.is_subset(&all), "{:?}", named.difference(&all));
    let page = words(include_str!("../../docs/COLLECTOR.md"));
    let is_on_page =
        |name: &&String| with_total(name).iter().any(|name| page.contains(name.strip_prefix(prefix).unwrap()));
    let missing: Vec<_> = there.iter().filter(|name| !is_on_page(name)).collect();
    assert!(missing.is_empty(), "not in COLLECTOR.md: {missing:?}");
}

/// A collector with TLS of its own, of these files' content.
fn with_tls(storage: &Storage, cert: &str, key: &str) -> Setup {
    let setup = Setup::new(storage);
    let (cert, key) = (setup.write("cert.pem", cert), setup.write("key.pem", key));
    setup.with("SERVE__TLS_CERT", cert.to_str().unwrap()).with("SERVE__TLS_KEY", key.to_str().unwrap())
}

#[test]
fn the_certificate_that_fits_the_key_is_put_first_wherever_it_stands_and_where_none_fits_it_is_said() {
    let authority = CertificateAuthority::new();
    let [own, other] = [0, 1].map(|_| authority.issue_for_loopback());
    let ca = authority.ca_pem();
    for chain in [
        format!("{ca}{}", own.cert_pem),
        format!("{}{}{ca}", other.cert_pem, own.cert_pem),
        format!("\u{feff}{}{ca}", own.cert_pem),
    ] {
        let storage = Storage::sqlite();
        let collector = with_tls(&storage, &chain, &own.key_pem).start_unready();
        assert_eq!(pulse_telemetry_testkit::tls::post(collector.address, &ca, &ping_of(1)), (204, false));
    }
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (chain, key, words) in [
        (&ca, own.key_pem.as_str(), "serve.tls_key"),
        (
            &format!("{ca}{}", other.cert_pem),
            &own.key_pem,
            "none of its certificates (2) belongs to the key in serve.tls_key",
        ),
        (&own.cert_pem, encrypted, "`openssl pkey -in FILE -out FILE.pem` opens it"),
    ] {
        for command in ["run", "check"] {
            let ended = with_tls(&Storage::sqlite(), chain, key).run(&[command]);
            let said = String::from_utf8(ended.stderr).unwrap();
            assert!(ended.status.code() == Some(3) && said.contains(words), "{said}");
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "certificates end by the system's clock")]
fn a_certificate_that_ends_within_fourteen_days_is_warned_of_and_a_metric_has_its_end() {
    let authority = CertificateAuthority::new();
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    for (days, warned) in [(1, true), (13, true), (15, false)] {
        let ends = std::time::SystemTime::now() + day * days;
        let certificate = authority.issue_until(ends);
        let storage = Storage::sqlite();
        let setup = with_tls(&storage, &certificate.cert_pem, &certificate.key_pem);
        let checked = String::from_utf8(setup.run(&["check"]).stdout).unwrap();
        assert_eq!(checked.contains("ends within 14 days"), warned, "{days} days: {checked}");
        let collector = setup.start();
        let told = collector.metric("certificate_end_timestamp_seconds");
        let expected = ends.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((told - expected).abs() < 2.0, "{told} and not {expected}");
        let said = collector.stop();
        assert_eq!(
            said.contains("the certificate in serve.tls_cert ends within 14 days"),
            warned,
            "{days} days: {said}"
        );
    }
}
