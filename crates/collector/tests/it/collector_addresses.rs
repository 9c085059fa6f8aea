//! An address is nowhere: not in the storage, not in a log at its most talkative, not in metrics, errors, panics or
//! cores.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use pulse_telemetry_collector::cli::end_at_a_panic;
use pulse_telemetry_core::rng::Rng;
use pulse_telemetry_http::exposition::Format;
use pulse_telemetry_testkit::collector::{Setup, Storage, block_on, ping, ping_of};
use pulse_telemetry_testkit::disk::{contains, files_below};
use pulse_telemetry_testkit::endpoint::PING_PATH;
use pulse_telemetry_testkit::inside::{Inside, Obedient, Settings};
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpSocket;

/// Where pings come from, and what their headers claim. None of them is in any configuration.
const PEERS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 77, 188, 99), Ipv4Addr::new(127, 201, 17, 83)];
const CLAIMED: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 177)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 219)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x5e17, 0x7ab3, 0x11, 0x9f, 0xc3, 0x77)),
];

/// Everything that an address could be written as.
fn traces(address: IpAddr) -> Vec<(String, Vec<u8>)> {
    let (octets, mut texts) = match address {
        IpAddr::V4(v4) => {
            let mapped = v4.to_ipv6_mapped();
            let hex = mapped.segments().map(|part| format!("{part:x}"));
            (v4.octets().to_vec(), vec![v4.to_string(), format!("{}:{}", hex[6], hex[7]), u32::from(v4).to_string()])
        }
        IpAddr::V6(v6) => (v6.octets().to_vec(), vec![v6.to_string(), v6.to_string().to_uppercase()]),
    };
    let reversed: Vec<u8> = octets.iter().rev().copied().collect();
    for bytes in [&octets, &reversed] {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        texts.push(hex.to_uppercase());
        texts.push(hex);
        texts.push(STANDARD_NO_PAD.encode(bytes));
        texts.push(URL_SAFE_NO_PAD.encode(bytes));
    }
    texts.push(STANDARD_NO_PAD.encode(address.to_string()));
    let texts = texts.into_iter().map(|text| (text.clone(), text.into_bytes()));
    texts.chain([("raw bytes".to_owned(), octets), ("raw bytes, reversed".to_owned(), reversed)]).collect()
}

fn all_traces() -> Vec<(String, Vec<u8>)> {
    PEERS.map(IpAddr::V4).into_iter().chain(CLAIMED).flat_map(traces).collect()
}

/// How often each trace occurs in each file.
fn found_below(storage: &Storage) -> BTreeMap<(PathBuf, String), usize> {
    let traces = all_traces();
    // By their first byte, for a database has tens of megabytes.
    let mut by_first: [Vec<usize>; 256] = [const { Vec::new() }; 256];
    for (number, (_, trace)) in traces.iter().enumerate() {
        by_first[usize::from(trace[0])].push(number);
    }
    let mut found = BTreeMap::new();
    for (path, bytes) in files_below(storage.dir()) {
        for (at, byte) in bytes.iter().enumerate() {
            for number in &by_first[usize::from(*byte)] {
                let (name, trace) = &traces[*number];
                if bytes[at..].starts_with(trace) {
                    *found.entry((path.clone(), name.clone())).or_insert(0) += 1;
                }
            }
        }
    }
    found
}

fn nowhere_in(what: &str, text: &str) {
    for (name, trace) in all_traces() {
        assert!(!contains(text.as_bytes(), &trace), "{name} in {what}:\n{text}");
    }
}

/// One request from that address, with headers that name others. The whole answer.
fn ask(to: SocketAddr, from: Ipv4Addr, head: &str, body: &str) -> String {
    let headers = format!(
        "Host: collector\r\nX-Forwarded-For: {}, {}\r\nForwarded: for=\"[{}]\";by={}\r\nX-Real-IP: {}\r\n",
        CLAIMED[0], CLAIMED[1], CLAIMED[2], CLAIMED[0], CLAIMED[1]
    );
    let request = format!("{head}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let stream = block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, to.port()))).await.unwrap();
        stream.into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    let mut stream = stream;
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A server that has answered may close before it has read everything.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(to: SocketAddr, from: Ipv4Addr, body: &str) -> String {
    ask(to, from, &format!("POST {PING_PATH} HTTP/1.1\r\nContent-Type: application/json"), body)
}

#[test]
fn an_address_is_in_no_file_log_metric_or_error_however_it_came_and_whatever_it_sent() {
    for (number, storage) in Storage::all().into_iter().chain([Storage::sqlite()]).enumerate() {
        // Where it listens on IPv6, IPv4 peers are mapped addresses.
        let listen = if number == 0 { "127.0.0.1:0" } else { "[::]:0" };
        {
            let setup = Setup::new(&storage)
                .with("SERVE__LISTEN", listen)
                // So that the claimed addresses are really looked at.
                .with("SERVE__TRUSTED_PROXIES", r#"["127.0.0.0/8"]"#)
                .with("LIMITS__PER_MINUTE", "2");
            let collector = setup.start_unready();
            let port = collector.address.port();
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            collector.wait_for_log("pings can be stored");
            let before = found_below(&storage);
            let mut answers = String::new();
            for from in PEERS {
                for number in 0..2 {
                    answers += &post(address, from, &ping_of(number + u64::from(from.octets()[1])).to_string());
                }
                answers += &post(address, from, &ping(&json!({"vms": "no number"})).to_string());
                answers += &post(address, from, "no json");
                answers += &ask(address, from, "GET /nowhere HTTP/1.1", "");
                answers += &ask(address, from, "PUT /v1/telemetry/ping HTTP/1.1", "");
                answers += &ask(address, from, "no HTTP at all", "");
                answers += &ask(collector.admin, from, "GET /metrics HTTP/1.1", "");
                answers += &ask(collector.admin, from, "GET /readyz HTTP/1.1", "");
            }
            assert!(answers.contains("HTTP/1.1 204") && answers.contains("HTTP/1.1 429"), "{answers}");
            nowhere_in("an answer", &answers);
            // A crash, at the worst moment.
            let limits = std::fs::read_to_string(format!("/proc/{}/limits", collector.pid().as_raw_nonzero())).unwrap();
            let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
            assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
            rustix::process::kill_process(collector.pid(), Signal::ABORT).unwrap();
            let log = collector.kill();
            nowhere_in("the log", &log);
            assert_eq!(found_below(&storage), before, "{}", storage.name());
        }
    }
}

/// Chance that panics, in the middle of the limiter's work, with the address at hand.
struct Panicking;

impl Rng for Panicking {
    fn bytes(&mut self) -> [u8; 16] {
        panic!("forced by the test")
    }
}

#[test]
fn a_panic_with_an_address_at_hand_does_not_tell_it() {
    let said = Arc::new(Mutex::new(String::new()));
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new({
        let said = Arc::clone(&said);
        move |panic| {
            let mut said = said.lock().unwrap();
            *said += &format!("{panic}\n{panic:?}\n{}\n", std::backtrace::Backtrace::force_capture());
        }
    }));
    let settings = Settings { per_minute: 1, chance: Box::new(Panicking), ..Settings::default() };
    let inside = Inside::start(Obedient::new(), settings);
    let answer = post(inside.address, PEERS[0], &ping_of(1).to_string());
    let metrics = inside.metrics.text(Format::Text);
    inside.stop();
    std::panic::set_hook(before);
    let said = said.lock().unwrap().clone();
    assert!(said.contains("forced by the test"), "{said}");
    for (what, text) in [("the panic", &said), ("the answer", &answer), ("the metrics", &metrics)] {
        nowhere_in(what, text);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it runs itself again, as a process that may end")]
fn a_panic_ends_the_process_and_its_log_at_its_most_talkative_tells_the_place_alone() {
    let name = "collector_addresses::a_panic_ends_the_process_and_its_log_at_its_most_talkative_tells_the_place_alone";
    if std::env::var_os("PANICS").is_some() {
        panic_in_the_limiter();
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", name])
        .env_clear()
        .env("PANICS", "1")
        .env("RUST_BACKTRACE", "full")
        .output()
        .unwrap();
    assert_eq!(child.status.signal(), Some(Signal::ABORT.as_raw()), "{child:?}");
    let said = String::from_utf8_lossy(&[child.stdout, child.stderr].concat()).into_owned();
    assert!(said.contains("a part of the collector panicked") && said.contains("collector_addresses.rs:"), "{said}");
    assert!(!said.contains("forced by the test"), "what was at hand is told: {said}");
    nowhere_in("the log", &said);
}

fn panic_in_the_limiter() {
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(std::io::stderr).init();
    end_at_a_panic();
    let settings = Settings { per_minute: 1, chance: Box::new(Panicking), ..Settings::default() };
    post(Inside::start(Obedient::new(), settings).address, PEERS[0], &ping_of(1).to_string());
}

#[test]
fn these_traces_would_be_found() {
    let storage = Storage::sqlite();
    assert_eq!(found_below(&storage).len(), 0);
    for (number, (_, trace)) in all_traces().into_iter().enumerate() {
        std::fs::write(storage.dir().join(number.to_string()), [b"before ", trace.as_slice(), b" after"].concat())
            .unwrap();
    }
    let traces = all_traces();
    let found = found_below(&storage);
    for (number, (name, _)) in traces.iter().enumerate() {
        assert!(found.contains_key(&(storage.dir().join(number.to_string()), name.clone())), "{name}");
    }
}
