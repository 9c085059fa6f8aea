//! Callers that mean harm, at the real program, on loopback: bounded in count, and over when the next ping has gone
//! out.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pulse_telemetry_testkit::endpoint::Endpoint;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::sidecar::{LIMIT, Setup, comes_true};

/// How many connections each kind of attack holds open; the server has 64 places for all of them.
const HELD: usize = 100;
/// How often an attack that ends by itself begins again, at most.
const ROUNDS: usize = 2_000;

/// More memory than this the program does not take over what it took before, at its worst moment. Its own limits allow
/// 64 × (16 + 4 KiB) of what callers send; the rest is buffers of answers, tasks, and the allocator's slack.
const ROOM: u64 = 12 << 20;

/// One attack: begins again until it is told to stop, and counts what it did.
type Attack = fn(SocketAddr, &dyn Fn() -> bool);

const ATTACKS: [(&str, Attack); 7] = [
    ("slow headers", slow_headers),
    ("slow bodies", slow_bodies),
    ("idle connections", idle_connections),
    ("a megabyte of headers", endless_headers),
    ("a body without end", endless_body),
    ("pipelining without reading", pipelining),
    ("garbage", garbage),
];

#[test]
fn under_every_attack_at_once_others_are_answered_memory_stays_bounded_and_the_ping_goes_out_when_it_is_due() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let setup = setup(&pulse, &endpoint);
    let sidecar = setup.start();
    endpoint.wait_for_pings(1, LIMIT);
    assert_eq!(sidecar.get("/api/v1/preview").status, 200);
    let before = sidecar.memory("VmHWM");
    let stop = Arc::new(AtomicBool::new(false));
    let attackers: Vec<_> = ATTACKS
        .into_iter()
        .map(|(name, attack)| {
            let (address, stop) = (sidecar.address(), Arc::clone(&stop));
            let rounds = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&rounds);
            let goes_on = move || !stop.load(Ordering::Relaxed) && counted.fetch_add(1, Ordering::Relaxed) < ROUNDS;
            (name, rounds, std::thread::spawn(move || attack(address, &goes_on)))
        })
        .collect();
    let mut answered = 0;
    let sent = endpoint.pings().len();
    // Readings of Pulse are ten seconds apart, and so are these heartbeats.
    let goes_out = comes_true(|| {
        for path in ["/healthz", "/api/v1/status", "/"] {
            assert_eq!(ask(sidecar.address(), path), 200, "{path} after {answered} answers");
            answered += 1;
        }
        endpoint.pings().len() > sent
    });
    assert!(goes_out, "no ping goes out in spite of the attacks");
    stop.store(true, Ordering::Relaxed);
    for (name, rounds, attacker) in attackers {
        attacker.join().unwrap();
        assert!(rounds.load(Ordering::Relaxed) > 1, "{name} did not take place");
    }
    let worst = sidecar.memory("VmHWM");
    let report = format!("{answered} answers; memory {before} before, {worst} at its worst");
    let _ = writeln!(std::io::stderr(), "{report}");
    assert!(answered >= 30 && worst < before + ROOM, "{report}");
    assert_eq!(sidecar.get("/api/v1/preview").status, 200);
    sidecar.stop();
}

#[test]
fn pipelined_requests_are_answered_in_their_order_and_hold_up_nobody() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let sidecar = setup(&pulse, &endpoint).start();
    let mut stream = connect(sidecar.address()).unwrap();
    let paths = ["/healthz", "/nothing", "/readyz", "/api/v1/schema"];
    let requests: String =
        (0..400).map(|n| format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", paths[n % 4])).collect();
    let mut writing = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        writing.write_all(requests.as_bytes()).unwrap();
        writing.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    });
    assert_eq!(ask(sidecar.address(), "/healthz"), 200);
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    writer.join().unwrap();
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    let mut expected = ["200", "404", "200", "200"].repeat(100);
    expected.push("200");
    assert_eq!(statuses, expected);
}

#[test]
fn whoever_announces_or_sends_too_much_is_told_so_and_disconnected() {
    let (pulse, endpoint) = (SimulatedPulse::start(PulseModel::default()), Endpoint::start());
    let sidecar = setup(&pulse, &endpoint).start();
    let head = "PUT /api/v1/switch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let words = |word: &str| format!("\r\n\r\n{{\"error\":\"{word}\",\"message\":\"");
    // What never becomes a request gets a bare status.
    let bare = || "content-length: 0\r\n".to_owned();
    for (request, status, told) in [
        (format!("{head}Content-Length: 1000000000\r\n\r\n"), 413, words("too_large")),
        (
            format!("{head}Transfer-Encoding: chunked\r\n\r\n2000\r\n{}\r\n", "x".repeat(0x2000)),
            413,
            words("too_large"),
        ),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000)), 431, bare()),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(2_000)), 431, bare()),
        (format!("{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\n{{}}"), 400, bare()),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\nnonsense\r\n"), 400, words("bad_request")),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0".to_owned() + "\r\n\r\n", 400, bare()),
    ] {
        let mut stream = connect(sidecar.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A connection that is closed while something unread is left in it may end with a reset.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(&told), "{answer}");
    }
    assert_eq!(ask(sidecar.address(), "/healthz"), 200);
}

fn setup(pulse: &SimulatedPulse, endpoint: &Endpoint) -> Setup {
    Setup::new(&pulse.url(), &endpoint.url())
        .with_token(TOKEN)
        .with("PULSE_TELEMETRY_SCHEDULE__INTERVAL", "1s")
        .with("PULSE_TELEMETRY_SCHEDULE__JITTER", "0s")
        .with("PULSE_TELEMETRY_LOG__LEVEL", "info")
}

/// A connection whose reads and writes end when the test's patience does.
fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// The status that somebody else gets for a path.
fn ask(address: SocketAddr, path: &str) -> u16 {
    let mut stream = connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[9..12]).parse().unwrap()
}

/// Opens connections, sends each the same beginning, and holds them, the oldest giving way to the newest.
fn hold(address: SocketAddr, goes_on: &dyn Fn() -> bool, beginning: &[u8], more: &[u8]) {
    let mut held = std::collections::VecDeque::new();
    while goes_on() {
        if let Ok(mut stream) = connect(address) {
            // The server may have closed it already.
            let _ = stream.write_all(beginning);
            held.push_back(stream);
        }
        for stream in &mut held {
            let _ = stream.write_all(more);
        }
        if held.len() > HELD {
            held.pop_front();
        }
    }
}

fn slow_headers(address: SocketAddr, goes_on: &dyn Fn() -> bool) {
    hold(address, goes_on, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"x");
}

fn slow_bodies(address: SocketAddr, goes_on: &dyn Fn() -> bool) {
    let head = b"PUT /api/v1/switch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: \
        4000\r\n\r\n{";
    hold(address, goes_on, head, b" ");
}

fn idle_connections(address: SocketAddr, goes_on: &dyn Fn() -> bool) {
    hold(address, goes_on, b"", b"");
}

/// Sends a beginning and then the same piece up to a megabyte, or until the server no longer takes it.
fn pour(address: SocketAddr, goes_on: &dyn Fn() -> bool, beginning: &[u8], piece: &[u8]) {
    while goes_on() {
        let Ok(mut stream) = connect(address) else { continue };
        let mut sent = stream.write_all(beginning).map(|()| 0);
        while let Ok(bytes) = sent
            && bytes < 1 << 20
        {
            sent = stream.write_all(piece).map(|()| bytes + piece.len());
        }
    }
}

fn endless_headers(address: SocketAddr, goes_on: &dyn Fn() -> bool) {
    let piece = format!("X-More: {}\r\n", "x".repeat(1000));
    pour(address, goes_on, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", piece.as_bytes());
}

fn endless_body(address: SocketAddr, goes_on: &dyn Fn() -> bool) {
    let head = b"POST /api/upgrade-metrics/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let piece = format!("400\r\n{}\r\n", "x".repeat(0x400));
    pour(address, goes_on, head, piece.as_bytes());
}

/// Requests one after the other without reading an answer, until the server takes no more of them for a moment.
fn pipelining(address: SocketAddr, goes_on: &dyn Fn() -> bool) {
    while goes_on() {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
        let request = b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
        while goes_on() && stream.write_all(&request).is_ok() {}
    }
}

fn garbage(address: SocketAddr, goes_on: &dyn Fn() -> bool) {
    let mut state = 20_261_123_u64;
    while goes_on() {
        let Ok(mut stream) = connect(address) else { continue };
        let bytes: Vec<u8> = (0..2_000)
            .map(|_| {
                // A linear congruential generator: the same bytes in every run.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        let _ = stream.write_all(&bytes);
        let _ = stream.write_all(b"\r\n\r\n");
        let _ = stream.read(&mut [0; 64]);
    }
}
