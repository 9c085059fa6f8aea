//! What a preview costs the sidecar, against a bare hyper hello-world; and what a heartbeat asks of Pulse, against one
//! `/api/state`: `make bench`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "figures on standard output")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::cast_precision_loss, reason = "figures")]

mod measure;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse, TOKEN};
use pulse_telemetry_testkit::replay;
use pulse_telemetry_testkit::server::Server;
use tempfile::TempDir;

use measure::{READING_PAUSE, Running, Sidecar};

/// How often each is asked, on one connection, one after the other.
const REQUESTS: u32 = 10_000;
const PREVIEW: &str = "/api/v1/preview/bytes";

fn main() {
    if std::env::args().nth(1).as_deref() == Some("hello") {
        return measure::hello();
    }
    let program = measure::sidecar();
    preview(&program);
    heartbeat(&program);
    floods(&program);
}

fn preview(program: &Path) {
    let pulse = SimulatedPulse::start(PulseModel::default());
    let sidecar = Sidecar::start(program, &pulse.url(), Duration::ZERO);
    sidecar.get(PREVIEW);
    std::thread::sleep(READING_PAUSE);
    let began = Instant::now();
    sidecar.get(PREVIEW);
    let with_a_reading = began.elapsed();
    let (peer, address) = Running::peer(&mut measure::hyper_peer());
    measure::head(
        "a preview of what Pulse was just read as, and hello world: CPU time of the server, latency (median, p99)",
    );
    let ours = asked(sidecar.pid(), sidecar.address, PREVIEW);
    let theirs = asked(peer.pid(), address, "/");
    let micros = |time: Duration| format!("{:.0} µs", time.as_secs_f64() * 1e6);
    let ratio = |ours: Duration, theirs: Duration| format!("{:.1}", ours.as_secs_f64() / theirs.as_secs_f64());
    let row =
        |what, ours, theirs| measure::row(what, &micros(ours), "bare hyper", &micros(theirs), &ratio(ours, theirs), "");
    row("CPU a request", ours.cpu, theirs.cpu);
    row("latency, median", ours.median, theirs.median);
    row("latency, p99", ours.p99, theirs.p99);
    measure::row("latency, with a reading of Pulse", &micros(with_a_reading), "", "", "", "");
}

struct Asked {
    cpu: Duration,
    median: Duration,
    p99: Duration,
}

fn asked(pid: u32, address: SocketAddr, target: &str) -> Asked {
    let before = measure::cpu(pid);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut took: Vec<Duration> = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut took = Vec::new();
        for _ in 0..REQUESTS {
            let request = Request::get(target).header("Host", address.to_string()).body(Empty::<Bytes>::new());
            let began = Instant::now();
            let answer = sender.send_request(request.unwrap()).await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.unwrap();
            took.push(began.elapsed());
        }
        took
    });
    took.sort();
    let cpu = (measure::cpu(pid) - before) / REQUESTS;
    Asked { cpu, median: took[took.len() / 2], p99: took[took.len() * 99 / 100] }
}

/// A reading is what a heartbeat asks of Pulse, and what the command `preview` does where no daemon runs.
fn heartbeat(program: &Path) {
    measure::head("what a heartbeat asks of Pulse: bytes on the wire both ways, against one GET of /api/state");
    let recorded = ["v5.1-small-cluster", "v6.3-homelab", "v6.3-large"];
    let captures = replay::captures();
    for name in recorded {
        match captures.iter().find(|folder| folder.ends_with(name)) {
            Some(folder) => one_reading(program, name, &replay::start_as_if_real(folder), "full"),
            None => println!("no recorded answers of {name} here: left out"),
        }
    }
    let pulse = SimulatedPulse::start(PulseModel::default());
    one_reading(program, "a simulated Pulse 6", &pulse.server, TOKEN);
}

fn one_reading(program: &Path, name: &str, pulse: &Server, token: &str) {
    let between = Between::start(pulse.url().trim_start_matches("http://").parse().unwrap());
    measure::run(&mut one_look(program, "preview", between.address, token, &tempfile::tempdir().unwrap()));
    let (bytes, requests) = (between.taken(), pulse.requests().len());
    let whole = pulse_telemetry_testkit::client::get(between.address, "/api/state", Some(token)).unwrap();
    let state = between.taken();
    if whole.status == 200 {
        let ratio = format!("{:.4}", bytes as f64 / state as f64);
        measure::row(name, &format!("{bytes} B"), "one /api/state", &format!("{state} B"), &ratio, "");
    } else {
        measure::row(name, &format!("{bytes} B"), "no /api/state", "", "", "");
    }
    measure::row("", &format!("{requests} requests"), "", "1", "", "");
}

/// A command that reads Pulse once, beside no daemon.
fn one_look(program: &Path, what: &str, pulse: SocketAddr, token: &str, dir: &TempDir) -> Command {
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, token).unwrap();
    let mut command = Command::new(program);
    command.arg(what).env_clear().env("PULSE_URL", format!("http://{pulse}"));
    command.env("PULSE_TOKEN_FILE", token_file).env("PULSE_TELEMETRY_STATE__DIR", dir.path().join("state"));
    command.env("PULSE_TELEMETRY_SERVE__LISTEN", format!("unix:{}", dir.path().join("nobody").display()));
    command
}

/// A Pulse that means harm: what one reading of it costs, whatever it says and for as long as it likes.
fn floods(program: &Path) {
    measure::head("one reading of a Pulse that floods or drips: CPU time of the whole command, bytes, seconds");
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let array = "HTTP/1.1 200 OK\r\n\r\n[";
    let pause = Duration::from_millis(100);
    for (name, at, begin, again, pause) in [
        ("answers 103 without end", "/api/", "", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(100), None),
        ("chunk extensions without end", "/api/", chunked, format!("1;{}\r\n \r\n", "x".repeat(4000)), None),
        ("chunks of a byte, in the alerts", "/api/alerts/active", chunked, "1\r\n \r\n".repeat(1000), None),
        ("alerts without end, small ones", "/api/alerts/active", array, "{\"a\":[1]},".repeat(1000), None),
        ("alerts without end, large ones", "/api/alerts/active", array, format!("\"{}\",", "x".repeat(9000)), None),
        ("a byte every 100 ms, everywhere", "/api/", array, " ".to_owned(), Some(pause)),
    ] {
        let flood = flooding(at, begin.to_owned(), again, pause);
        let between = Between::start(flood);
        let began = Instant::now();
        let used =
            measure::run(&mut one_look(program, "status", between.address, TOKEN, &tempfile::tempdir().unwrap()));
        let cpu = format!("{:.0} ms", used.cpu.as_secs_f64() * 1000.0);
        measure::row(name, &cpu, "bytes, with buffers", &between.taken().to_string(), "", "");
        measure::row("", &format!("{:.1} s", began.elapsed().as_secs_f64()), "", "", "", "at most 30 s");
    }
}

/// A Pulse before the summary, which says something without end where a path begins like `at`.
fn flooding(at: &'static str, begin: String, again: String, pause: Option<Duration>) -> SocketAddr {
    let pulse = SimulatedPulse::start(PulseModel { summary: false, ..PulseModel::default() });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        // It lives as long as this thread does.
        let pulse = pulse;
        for client in listener.incoming().map_while(Result::ok) {
            let mut client = client;
            let mut head = [0; 4096];
            let read = client.read(&mut head).unwrap_or(0);
            let target = String::from_utf8_lossy(&head[..read]).split(' ').nth(1).unwrap_or("").to_owned();
            if target.starts_with(at) {
                let (begin, again) = (begin.clone(), again.clone());
                std::thread::spawn(move || {
                    let _ = client.write_all(begin.as_bytes());
                    while client.write_all(again.as_bytes()).is_ok() {
                        pause.into_iter().for_each(std::thread::sleep);
                    }
                });
                continue;
            }
            let mut server = TcpStream::connect(pulse.server.addr).unwrap();
            server.write_all(&head[..read]).unwrap();
            pass(server, client, Arc::default());
        }
    });
    address
}

/// Stands between a client and a server, and counts.
struct Between {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Between {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bytes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&bytes);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(server).unwrap();
                pass(client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&counted));
                pass(server, client, Arc::clone(&counted));
            }
        });
        Self { address, bytes }
    }

    /// The bytes since it was last asked.
    fn taken(&self) -> u64 {
        self.bytes.swap(0, Ordering::SeqCst)
    }
}

/// Counts before it passes on, so that a reader of a byte can rely on the count.
fn pass(mut from: TcpStream, mut to: TcpStream, bytes: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        let mut piece = [0; 64 * 1024];
        while let Ok(read) = from.read(&mut piece) {
            bytes.fetch_add(read as u64, Ordering::SeqCst);
            if read == 0 || to.write_all(&piece[..read]).is_err() {
                break;
            }
        }
        // Either side may have gone already.
        let _ = to.shutdown(Shutdown::Write);
    });
}
