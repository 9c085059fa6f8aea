//! A crowd: attackers from 16, 64 and 256 networks, beside 50 honest networks that send one ping a second in all, at
//! the default limits. And what a ping costs whose ID has sent before, and what the collector holds of bodies at once.
//!
//! Everything is on loopback: 127.0.0.0/8, and as root a network namespace of its own for IPv6. All connections of the
//! attackers together (`CONNECTIONS`) are half as many again as there are places, and one that is closed comes again
//! after a second (`PAUSE_MS`), so that one machine can be attacker and attacked. `SECONDS` (20) is how long each
//! attack takes, and `ONLY` a part of the names of those that are made: `ONLY="256 networks, Pings"`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "figures on standard output")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::cast_precision_loss, reason = "figures")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pulse_telemetry_collector::storage::{Row, RowOutcome};
use pulse_telemetry_testkit::collector::{Collector, Setup, Storage, block_on, install_id, open, ping, ping_of, row};
use pulse_telemetry_testkit::endpoint::{CertificateAuthority, PING_PATH};
use pulse_telemetry_testkit::tls;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const PLACES: u64 = 4096;
const CONNECTIONS: u64 = PLACES * 3 / 2;
const HONEST: u64 = 50;
/// Within this time an honest ping has to be stored.
const SOON: Duration = Duration::from_secs(2);
/// Set where this process is within a network namespace of its own.
const INSIDE: &str = "CROWD_INSIDE";

fn main() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    if std::env::var_os(INSIDE).is_some() {
        return crowds(&V6);
    }
    if only().is_empty() {
        costs();
        bodies();
    }
    crowds(&V4);
    let script = "ip link set lo up && echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind && \
                  ip -6 route add local 2000::/3 dev lo && exec \"$0\" --bench";
    let inside = std::env::current_exe().unwrap();
    let ended = Command::new("unshare").args(["--net", "sh", "-c", script]).arg(inside).env(INSIDE, "1").status();
    if !ended.is_ok_and(|status| status.success()) {
        println!("IPv6: left out, for a network namespace of its own needs root, unshare and ip");
    }
}

/// How addresses are given out: to attackers and to the honest, each network within a wide one of its own for as long
/// as there are any; and where the collector listens.
struct Family {
    name: &'static str,
    listen: &'static str,
    attacker: fn(u64) -> IpAddr,
    honest: fn(u64) -> IpAddr,
}

const V4: Family = Family {
    name: "IPv4",
    listen: "127.0.0.1:0",
    attacker: |network| Ipv4Addr::from(0x7f01_0001 + (low(network % 128) << 16) + (low(network / 128) << 8)).into(),
    honest: |network| Ipv4Addr::from(0x7fa0_0001 + (low(network) << 16)).into(),
};

const V6: Family = Family {
    name: "IPv6",
    listen: "[::1]:0",
    attacker: |network| Ipv6Addr::from(((0x2a00_0000 + u128::from(network)) << 96) + 1).into(),
    honest: |network| Ipv6Addr::from(((0x2b00_0000 + u128::from(network)) << 96) + 1).into(),
};

fn low(number: u64) -> u32 {
    u32::try_from(number).unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Attack {
    Idle,
    Health,
    Heads,
    Bodies,
    Pings,
}

fn crowds(family: &Family) {
    let seconds = setting("SECONDS", 20);
    for networks in [16, 64, 256] {
        let (mut stored, mut sent, mut memory, mut ready) = (0, 0, 0, true);
        for attack in [Attack::Idle, Attack::Health, Attack::Heads, Attack::Bodies, Attack::Pings] {
            let name = format!("{} from {networks} networks, {attack:?}", family.name);
            if !name.contains(&only()) {
                continue;
            }
            let storage = Storage::sqlite();
            let collector = default_limits(&storage, family.listen).start();
            let crowd = Crowd::start(collector.address, attack, networks, family.attacker);
            let waits = honest(&collector, family.honest, seconds, &mut ready);
            let soon = waits.iter().filter(|wait| wait.is_some()).count();
            let slowest = waits.iter().flatten().max().copied().unwrap_or_default();
            println!(
                "{name}: {soon} of {} honest pings stored within {} s, the slowest of them after {:.2} s; {} \
                 connections of attackers a second; memory {} MiB",
                waits.len(),
                SOON.as_secs(),
                slowest.as_secs_f64(),
                crowd.stop() / seconds,
                collector.memory("VmHWM") >> 20,
            );
            (stored, sent) = (stored + soon, sent + waits.len());
            memory = memory.max(collector.memory("VmHWM") >> 20);
        }
        if sent == 0 {
            continue;
        }
        println!(
            "{} from {networks} networks, all attacks: {:.1} % of honest pings (95 to hold for 16 and 64, 99 to \
             reach), memory {memory} MiB at most, /readyz {} throughout",
            family.name,
            100.0 * stored as f64 / sent as f64,
            if ready { "answered 200" } else { "did NOT answer 200" }
        );
    }
}

fn only() -> String {
    std::env::var("ONLY").unwrap_or_else(|_| String::new())
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn default_limits(storage: &Storage, listen: &str) -> Setup {
    let setup = Setup::new(storage).with("SERVE__LISTEN", listen).with("LOG__LEVEL", "info");
    setup.with("LIMITS__PER_MINUTE", "60").with("LIMITS__NEW_IDS", "256")
}

/// One ping a second; how long each took, where that was soon enough. Meanwhile `/readyz` is asked.
fn honest(collector: &Collector, from: fn(u64) -> IpAddr, seconds: u64, ready: &mut bool) -> Vec<Option<Duration>> {
    let mut waits = Vec::new();
    for number in 0..seconds {
        let began = Instant::now();
        let ping = send(collector.address, from(number % HONEST), ping_of((1 << 40) + number).to_string());
        let status = block_on(async { timeout(SOON, ping).await });
        if !matches!(status, Ok(Some(204))) {
            println!("  the honest ping after {number} s: {status:?}");
        }
        waits.push(matches!(status, Ok(Some(204))).then(|| began.elapsed()));
        let told = collector.ask_admin("/readyz");
        if told.status != 200 {
            println!("  /readyz after {number} s: {} {}", told.status, told.json());
        }
        *ready &= told.status == 200;
        std::thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
    }
    waits
}

async fn connect(to: SocketAddr, from: IpAddr) -> Option<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.ok()?;
    socket.bind(SocketAddr::from((from, 0))).ok()?;
    socket.connect(to).await.ok()
}

fn request(body: &str) -> String {
    format!("{}{body}", head(body.len()))
}

fn head(length: usize) -> String {
    format!(
        "POST {PING_PATH} HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// One ping on a connection of its own: the status, where one comes.
async fn send(to: SocketAddr, from: IpAddr, body: String) -> Option<u16> {
    let mut stream = connect(to, from).await?;
    stream.write_all(request(&body).as_bytes()).await.ok()?;
    status(&mut stream).await
}

/// The status of an answer, which is read whole as long as it comes in one piece.
async fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).await.ok()?;
    std::str::from_utf8(answer[..read].get(9..12)?).ok()?.parse().ok()
}

/// Attackers, on a thread of their own.
struct Crowd {
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Crowd {
    fn start(to: SocketAddr, attack: Attack, networks: u64, address: fn(u64) -> IpAddr) -> Self {
        let (stop, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let pause = Duration::from_millis(setting("PAUSE_MS", 1000));
        let thread = std::thread::spawn({
            let (stop, connections) = (Arc::clone(&stop), Arc::clone(&connections));
            move || {
                block_on(async {
                    let mut attackers = JoinSet::new();
                    for number in 0..setting("CONNECTIONS", CONNECTIONS) {
                        let connections = Arc::clone(&connections);
                        attackers.spawn(async move {
                            for round in 0.. {
                                if let Some(stream) = connect(to, address(number % networks)).await {
                                    connections.fetch_add(1, Ordering::Relaxed);
                                    // Until the other end closes it.
                                    let _ = hold(stream, attack, (number << 20) + round).await;
                                }
                                sleep(pause).await;
                            }
                        });
                    }
                    while !stop.load(Ordering::Relaxed) {
                        sleep(Duration::from_millis(100)).await;
                    }
                });
            }
        });
        Self { stop, connections, thread }
    }

    /// Stops them; how many connections they made.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.connections.load(Ordering::Relaxed)
    }
}

async fn hold(mut stream: TcpStream, attack: Attack, number: u64) -> std::io::Result<()> {
    let drip: &[u8] = match attack {
        Attack::Idle => return stream.read(&mut [0; 64]).await.map(drop),
        Attack::Health => {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: c\r\n\r\n").await?;
            return stream.read_to_end(&mut Vec::new()).await.map(drop);
        }
        Attack::Heads => b"POST / HTTP/1.1\r\nX: ",
        Attack::Bodies => &[head(60_000).as_bytes(), b"{"].concat(),
        Attack::Pings => {
            for ping in 0.. {
                stream.write_all(request(&ping_of((number << 8) + ping).to_string()).as_bytes()).await?;
                if status(&mut stream).await != Some(204) {
                    break;
                }
            }
            return Ok(());
        }
    };
    stream.write_all(drip).await?;
    loop {
        // A byte now and then, and an eye on whether it is closed.
        match timeout(Duration::from_secs(2), stream.read(&mut [0; 64])).await {
            Err(_) => stream.write_all(b"x").await?,
            Ok(_) => return Ok(()),
        }
    }
}

/// What a ping costs whose ID has 63 rows that day, or is refused for 64, beside one whose ID has one.
fn costs() {
    const IDS: u64 = 300;
    for storage in Storage::both() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let of = |id: u64, vms: u64| row(&ping(&json!({"install_id": install_id(id), "vms": vms})), now);
        let (any, full, refused) = block_on(async {
            let store = open(&storage).await;
            for vms in 0..63 {
                store.commit((0..IDS).map(|id| of(id, vms)).collect()).await.unwrap();
            }
            store.commit((0..IDS).map(|id| of(IDS + id, 0)).collect()).await.unwrap();
            let mut medians = [Duration::ZERO; 3];
            // In turns, so that what else the machine does is in all of them.
            let mut times: [Vec<Duration>; 3] = Default::default();
            for id in 0..IDS {
                for (times, row) in times.iter_mut().zip([of(IDS + id, 99), of(id, 99), of(id, 100)]) {
                    let began = Instant::now();
                    let outcomes = admit(store.as_ref(), row).await;
                    times.push(began.elapsed());
                    assert_eq!(outcomes.len(), 1);
                }
            }
            for (median, times) in medians.iter_mut().zip(&mut times) {
                times.sort_unstable();
                *median = times[times.len() / 2];
            }
            (medians[0], medians[1], medians[2])
        });
        println!(
            "{}: a ping takes {} µs; {:.2} times that as the 64th of its ID that day, {:.2} times as the \
             refused 65th (2 at most)",
            storage.name(),
            any.as_micros(),
            full.as_secs_f64() / any.as_secs_f64(),
            refused.as_secs_f64() / any.as_secs_f64(),
        );
    }
}

async fn admit(store: &dyn pulse_telemetry_collector::storage::PingStore, row: Row) -> Vec<RowOutcome> {
    let arrival = pulse_telemetry_collector::storage::Arrival { row, may_be_new: true };
    store.admit(vec![arrival]).await.unwrap()
}

/// What the collector holds of memory where every place has a body of 65,000 bytes but for its end. They come from as
/// many networks as it takes for none to be limited.
fn bodies() {
    const NETWORKS: u64 = 256;
    let authority = CertificateAuthority::new();
    let issued = authority.issue_for_loopback();
    for over_tls in [false, true] {
        let storage = Storage::sqlite();
        let mut setup = default_limits(&storage, V4.listen);
        if over_tls {
            let (cert, key) = (setup.write("cert.pem", &issued.cert_pem), setup.write("key.pem", &issued.key_pem));
            setup = setup.with("SERVE__TLS_CERT", cert.to_str().unwrap()).with("SERVE__TLS_KEY", key.to_str().unwrap());
        }
        let collector = setup.start();
        let before = collector.memory("VmRSS");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let held = runtime.block_on(async {
            let mut held: Vec<Box<dyn AsyncWrite>> = Vec::new();
            let body = [head(65_000).as_bytes(), &[b' '; 64_990]].concat();
            for number in 0..PLACES {
                let stream = connect(collector.address, (V4.attacker)(number % NETWORKS)).await.unwrap();
                let mut stream: Box<dyn AsyncWrite + Unpin> =
                    if over_tls { Box::new(tls::over(stream, &authority.ca_pem()).await) } else { Box::new(stream) };
                stream.write_all(&body).await.unwrap();
                held.push(stream);
            }
            held
        });
        // Until it has read all of them.
        let mut read = 0;
        while collector.memory("VmRSS") > read {
            read = collector.memory("VmRSS");
            std::thread::sleep(Duration::from_secs(1));
        }
        println!(
            "{} bodies of 65,000 bytes that do not end, {}: {} MiB, {} MiB at most; {} MiB before",
            held.len(),
            if over_tls { "over TLS" } else { "without TLS" },
            collector.memory("VmRSS") >> 20,
            collector.memory("VmHWM") >> 20,
            before >> 20
        );
    }
}
