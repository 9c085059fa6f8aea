//! What the sidecar costs while it does nothing: its size, its start, its memory and how often it wakes, against
//! Debian's node_exporter, a hello-world in Go and one of bare hyper: `make bench`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "figures on standard output")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::cast_precision_loss, reason = "figures")]

mod measure;

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pulse_telemetry_testkit::client;
use pulse_telemetry_testkit::pulse::{PulseModel, SimulatedPulse};

use measure::{READING_PAUSE, Running, Sidecar};

/// How often each is started.
const STARTS: usize = 30;
/// For how long the wake-ups of all are counted, at the same time.
const WINDOW: Duration = Duration::from_secs(60);
/// The unit's is 5 minutes; this one beats within the window.
const WATCHDOG: Duration = Duration::from_secs(10);

fn main() {
    if std::env::args().nth(1).as_deref() == Some("hello") {
        return measure::hello();
    }
    let program = measure::sidecar();
    let peers = Peers { go: measure::go_peer("hello"), exporter: measure::node_exporter() };
    let pulse = SimulatedPulse::start(PulseModel::default());
    size(&program, &peers);
    start(&program, &pulse, &peers);
    idle(&program, &pulse, &peers);
}

struct Peers {
    go: Option<std::path::PathBuf>,
    exporter: Option<std::path::PathBuf>,
}

fn size(program: &Path, peers: &Peers) {
    measure::head("size of the binary");
    let bytes = |file: &Path| fs::metadata(file).unwrap().len() as f64;
    let ours = bytes(program);
    for (name, peer) in [("Go hello world", &peers.go), ("node_exporter", &peers.exporter)] {
        let Some(peer) = peer else { continue };
        let form = |bytes: f64| format!("{:.2} MB", bytes / 1e6);
        let ratio = format!("{:.2}", ours / bytes(peer));
        measure::row("size", &form(ours), name, &form(bytes(peer)), &ratio, "at most 5 MB");
    }
}

fn start(program: &Path, pulse: &SimulatedPulse, peers: &Peers) {
    measure::head("start to ready: READY=1 to the service manager; the peers print where they listen (median, least)");
    let ours: Vec<f64> =
        (0..STARTS).map(|_| millis(Sidecar::start(program, &pulse.url(), Duration::ZERO).ready_after)).collect();
    let hyper: Vec<f64> = (0..STARTS).map(|_| started(&mut measure::hyper_peer())).collect();
    let mut others = vec![("bare hyper", hyper)];
    if let Some(go) = &peers.go {
        others.push(("Go hello world", (0..STARTS).map(|_| started(&mut Command::new(go))).collect()));
    }
    for (name, theirs) in others {
        let ratio = format!("{:.1}", measure::median(ours.clone()) / measure::median(theirs.clone()));
        measure::row("start to ready", &both(&ours), name, &both(&theirs), &ratio, "50 ms");
    }
}

fn started(command: &mut Command) -> f64 {
    let began = Instant::now();
    let _running = Running::peer(command);
    millis(began.elapsed())
}

fn both(times: &[f64]) -> String {
    let least = times.iter().copied().fold(f64::INFINITY, f64::min);
    format!("{:.1}, {least:.1} ms", measure::median(times.to_vec()))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn idle(program: &Path, pulse: &SimulatedPulse, peers: &Peers) {
    let ours = Sidecar::start(program, &pulse.url(), Duration::ZERO);
    let watched = Sidecar::start(program, &pulse.url(), WATCHDOG);
    let mut others: Vec<(&str, Running)> = Vec::new();
    let (hyper, address) = Running::peer(&mut measure::hyper_peer());
    client::get(address, "/", None).unwrap();
    others.push(("bare hyper", hyper));
    if let Some(go) = &peers.go {
        let (go, address) = Running::peer(&mut Command::new(go));
        client::get(address, "/", None).unwrap();
        others.push(("Go hello world", go));
    }
    if let Some(exporter) = peers.exporter.as_deref().and_then(start_exporter) {
        others.push(("node_exporter", exporter));
    }
    // All have answered once; the sidecars have read Pulse as well. Then nobody asks them anything.
    for sidecar in [&ours, &watched] {
        sidecar.get("/");
        sidecar.get("/api/v1/preview/bytes");
    }
    std::thread::sleep(READING_PAUSE);
    let all = |of: &dyn Fn(u32) -> u64| -> (u64, u64, Vec<u64>) {
        (of(ours.pid()), of(watched.pid()), others.iter().map(|(_, peer)| of(peer.pid())).collect())
    };
    let before = all(&measure::waits);
    std::thread::sleep(WINDOW);
    let after = all(&measure::waits);

    measure::head("idle memory, after one page, one reading of Pulse and a minute");
    let resident = |pid| measure::memory(pid, "VmRSS").unwrap();
    let (ours_resident, _, theirs) = all(&resident);
    for ((name, _), theirs) in others.iter().zip(theirs) {
        let target = if *name == "node_exporter" { "3072 KiB, 1/4" } else { "3072 KiB" };
        let ratio = format!("{:.2}", ours_resident as f64 / theirs as f64);
        measure::row("resident", &format!("{ours_resident} KiB"), name, &format!("{theirs} KiB"), &ratio, target);
    }
    let own = |pid| measure::memory(pid, "RssAnon").unwrap();
    measure::row("of it its own, not of files", &format!("{} KiB", own(ours.pid())), "", "", "", "");

    measure::head("wake-ups while idle");
    let an_hour = |before: u64, after: u64| (after - before) as f64 * 3600.0 / WINDOW.as_secs_f64();
    let figure = an_hour(before.0, after.0);
    for (((name, _), before), after) in others.iter().zip(&before.2).zip(&after.2) {
        let theirs = format!("{:.0}", an_hour(*before, *after));
        measure::row("an hour", &format!("{figure:.0}"), name, &theirs, "", "0");
    }
    let beats = WINDOW.as_secs() / (WATCHDOG / 2).as_secs();
    let woken = format!("{} in {} s", after.1 - before.1, WINDOW.as_secs());
    measure::row("with a watchdog of 10 s", &woken, "", "", "", &format!("{beats} beats"));
}

/// On a free port, which it cannot choose by itself in a way that it tells.
fn start_exporter(program: &Path) -> Option<Running> {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut command = Command::new(program);
    command.arg(format!("--web.listen-address={address}")).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().ok()?);
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        if began.elapsed() > Duration::from_secs(20) {
            println!("node_exporter did not start: that peer is left out");
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    client::get(address, "/metrics", None).unwrap();
    Some(running)
}
