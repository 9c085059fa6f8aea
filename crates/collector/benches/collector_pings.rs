//! Durable pings a second over HTTP on loopback, against one row a transaction and against group commits without HTTP,
//! with receipts and without, and beside floods of deletions and of pings, on the same disk in the same run:
//! `make bench-collector`. It fails where a flood of deletions makes others slower than one of pings. The senders write
//! bytes that were made before and look at the status alone, for they share the machine with what is measured.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "figures on standard output, for developers, who see what failed"
)]
#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::cast_precision_loss, reason = "figures")]

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use pulse_telemetry_collector::ingest;
use pulse_telemetry_collector::server::FORGET_PATH;
use pulse_telemetry_collector::storage::{PingStore, Row};
use pulse_telemetry_testkit::collector::{Collector, Setup, Storage, block_on, install_id, open, ping_of, row};
use pulse_telemetry_testkit::endpoint::PING_PATH;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The three are measured in turn, in this many rounds and for that long each: a machine that others use too is faster
/// in one second than in the next, and only what was measured side by side can be compared.
const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(2);
/// Each waits for its answer before it sends again, so they are how many pings wait at most.
const SENDERS: [u64; 3] = [16, 64, 256];

/// How many others send while it is flooded.
const BESIDE: u64 = 16;
/// How many flood it.
const FLOOD: u64 = 64;
/// The days that the flooded storage has.
const DAYS: i64 = 90;
/// The least share of pings beside a flood of deletions, of those beside a flood of pings. Less than 1 is for the
/// second commit where what is deleted was just sent, and for what a machine does meanwhile: on a busy one it was 0.8.
const SHARE_MIN: f64 = 0.6;

fn main() {
    block_on(async {
        let mut are_kept = true;
        let kinds = if pulse_telemetry_testkit::postgres::Cluster::start().is_some() { 2 } else { 1 };
        for kind in 0..kinds {
            for senders in SENDERS {
                measure(kind, senders).await;
            }
            are_kept &= flood(kind).await;
        }
        assert!(are_kept, "a flood of deletions makes others slower than one of pings");
    });
}

fn storage(kind: usize) -> Storage {
    if kind == 0 {
        Storage::sqlite()
    } else {
        Storage::postgres(pulse_telemetry_testkit::postgres::Cluster::start().unwrap())
    }
}

async fn measure(kind: usize, senders: u64) {
    let (singly, over_http, grouped, signed) = (storage(kind), storage(kind), storage(kind), storage(kind));
    let collector = Setup::new(&over_http).with("LOG__LEVEL", "info").start();
    let signing = Setup::new(&signed).with("LOG__LEVEL", "info").with_receipts().start();
    let (mut singly, mut grouped) = (Rows::new(open(&singly).await), Rows::new(open(&grouped).await));
    let pings = Arc::new(AtomicU64::new(0));
    let mut rounds = Vec::new();
    let (mut latencies, mut of_signed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let single = singly.rate(1).await;
        let before = Batches::of(&collector);
        let [http, cpu] = load(&collector, senders, &pings, &mut latencies);
        let batch = Batches::of(&collector).mean_since(&before);
        let [receipts, signing_cpu] = load(&signing, senders, &pings, &mut of_signed);
        rounds.push([single, http, grouped.rate(batch).await, batch as f64, receipts, cpu, signing_cpu]);
    }
    latencies.sort_by(f64::total_cmp);
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    let of = |what: &dyn Fn(&[f64; 7]) -> f64| Spread::new(rounds.iter().map(what).collect());
    println!(
        "{}, {senders} senders: {:.0} pings/s over HTTP in groups of {:.0}; latency p50 {:.1} ms, p99 {:.1} ms, max \
         {:.1} ms; memory at most {:.0} MB",
        over_http.name(),
        of(&|round| round[1]).median,
        of(&|round| round[3]).median,
        at(50),
        at(99),
        at(100),
        collector.memory("VmHWM") as f64 / 1e6
    );
    println!(
        "    {} times the {:.0} rows/s of one row a transaction (at least 10)\n    {} % of the {:.0} rows/s of such \
         groups without HTTP (at least 80)",
        of(&|round| round[1] / round[0]),
        of(&|round| round[0]).median,
        of(&|round| 100.0 * round[1] / round[2]),
        of(&|round| round[2]).median
    );
    println!(
        "    with receipts {:.0} pings/s (at least 15000), {} % of those without, each for {:.0} µs of the collector's \
         CPU, {} times that of one without",
        of(&|round| round[4]).median,
        of(&|round| 100.0 * round[4] / round[1]),
        of(&|round| round[6]).median,
        of(&|round| round[6] / round[5])
    );
    collector.stop();
    signing.stop();
}

/// What several rounds gave.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn new(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        Self { least: numbers[0], median: numbers[numbers.len() / 2], most: numbers[numbers.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ({:.1} to {:.1})", self.median, self.least, self.most)
    }
}

/// How many batches the collector committed, and how many rows.
struct Batches {
    count: f64,
    rows: f64,
}

impl Batches {
    fn of(collector: &Collector) -> Self {
        Self { count: collector.metric("batch_rows_count"), rows: collector.metric("batch_rows_sum") }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
    fn mean_since(&self, before: &Self) -> u64 {
        ((self.rows - before.rows) / (self.count - before.count)).round().max(1.0) as u64
    }
}

/// A text with the ID of one installation in it, to be replaced by others' in place.
#[derive(Clone)]
struct Template {
    bytes: Vec<u8>,
    id: usize,
}

impl Template {
    fn new(text: String) -> Self {
        let id = text.find(&install_id(0)).unwrap();
        Self { bytes: text.into_bytes(), id }
    }

    fn of(&mut self, number: u64) -> &[u8] {
        let id = install_id(number);
        self.bytes[self.id..self.id + id.len()].copy_from_slice(id.as_bytes());
        &self.bytes
    }
}

/// What commits rows without HTTP.
struct Rows {
    store: Arc<dyn PingStore>,
    written: u64,
}

impl Rows {
    fn new(store: Arc<dyn PingStore>) -> Self {
        Self { store, written: 0 }
    }

    /// Rows a second, made of the bytes of pings, in commits of `group`, one commit after the other.
    async fn rate(&mut self, group: u64) -> f64 {
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        let mut body = Template::new(ping_of(0).to_string());
        let mut row = |number| Row { received_at: now, cells: ingest::read(body.of(number)).unwrap().cells };
        let (began, before) = (Instant::now(), self.written);
        while began.elapsed() < TIME {
            self.store.commit((self.written..self.written + group).map(&mut row).collect()).await.unwrap();
            self.written += group;
        }
        (self.written - before) as f64 / began.elapsed().as_secs_f64()
    }
}

/// How many pings go with receipts and without beside what floods a collector whose storage has a table, or partition,
/// for each of 90 days. Who floods opens a connection for each request, as the sidecar does. Says whether deletions
/// make others no slower than pings do.
async fn flood(kind: usize) -> bool {
    const FLOODS: [(&str, &[Wanted]); 4] = [
        ("of pings", &[Wanted::Ping]),
        ("of deletions of unknown IDs", &[Wanted::Deletion]),
        ("of pings that are each deleted at once", &[Wanted::Ping, Wanted::Deletion]),
        ("of nothing", &[]),
    ];
    let storage = storage(kind);
    let (store, now) = (open(&storage).await, Timestamp::now());
    for days in 0..DAYS {
        store.commit(vec![row(&ping_of(0), now - SignedDuration::from_hours(24 * days))]).await.unwrap();
    }
    drop(store);
    let collector = Setup::new(&storage).with("LOG__LEVEL", "info").with_receipts().start();
    let numbers = Arc::new(AtomicU64::new(1));
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(FLOODS.map(|(_, wanted)| {
            let began = Instant::now();
            let counts = std::thread::scope(|scope| {
                let beside = scope.spawn(|| block_on(send(collector.address, BESIDE, &numbers)).len());
                let flood = scope.spawn(|| block_on(flood_with(collector.address, wanted, &numbers)));
                [beside, flood].map(|thread| thread.join().unwrap())
            });
            counts.map(|count| count as f64 / began.elapsed().as_secs_f64())
        }));
    }
    println!("{}, {DAYS} days, {BESIDE} senders of pings beside {FLOOD} that flood:", storage.name());
    let mut is_kept = true;
    for (at, (what, _)) in FLOODS.iter().enumerate() {
        let of = |what: &dyn Fn(&[[f64; 2]; 4]) -> f64| Spread::new(rounds.iter().map(what).collect());
        println!(
            "    beside a flood {what}, {:.0} requests/s: {:.0} pings/s, {} times those beside a flood of pings (at \
             least {SHARE_MIN})",
            of(&|round| round[at][1]).median,
            of(&|round| round[at][0]).median,
            of(&|round| round[at][0] / round[0][0])
        );
        is_kept &= of(&|round| round[at][0] / round[0][0]).median >= SHARE_MIN;
    }
    collector.stop();
    is_kept
}

/// What is asked for.
#[derive(Clone, Copy)]
enum Wanted {
    Ping,
    Deletion,
}

impl Wanted {
    fn request(self, head: &str) -> Template {
        let (path, body) = match self {
            Self::Ping => (PING_PATH, ping_of(0).to_string()),
            Self::Deletion => (FORGET_PATH, json!({"install_id": install_id(0)}).to_string()),
        };
        Template::new(format!(
            "POST {path} HTTP/1.1\r\nHost: collector\r\nContent-Type: application/json\r\n{head}Content-Length: \
             {}\r\n\r\n{body}",
            body.len()
        ))
    }
}

/// Asks for these things for one ID after the other, each over a connection of its own, and says how many it got.
async fn flood_with(to: SocketAddr, wanted: &'static [Wanted], numbers: &Arc<AtomicU64>) -> usize {
    let began = Instant::now();
    let flooding: JoinSet<_> = (0..FLOOD)
        .map(|_| {
            let numbers = Arc::clone(numbers);
            async move {
                let mut requests: Vec<_> =
                    wanted.iter().map(|wanted| wanted.request("Connection: close\r\n")).collect();
                let mut got = 0;
                while !requests.is_empty() && began.elapsed() < TIME {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    for request in &mut requests {
                        let mut stream = TcpStream::connect(to).await.unwrap();
                        stream.write_all(request.of(number)).await.unwrap();
                        let mut answer = Vec::new();
                        stream.read_to_end(&mut answer).await.unwrap();
                        assert!(answer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&answer));
                        got += 1;
                    }
                }
                got
            }
        })
        .collect();
    flooding.join_all().await.into_iter().sum()
}

/// Pings a second by `senders` senders, on as many threads as there are processors, and the microseconds of CPU that
/// the collector had for each; how long each ping took, in milliseconds, is added to `latencies`.
fn load(collector: &Collector, senders: u64, pings: &Arc<AtomicU64>, latencies: &mut Vec<f64>) -> [f64; 2] {
    let threads = std::thread::available_parallelism().unwrap().get() as u64;
    let (before, began, cpu) = (latencies.len(), Instant::now(), cpu_of(collector));
    std::thread::scope(|scope| {
        let of_thread = |thread| senders / threads + u64::from(thread < senders % threads);
        let threads: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || block_on(send(collector.address, of_thread(thread), pings))))
            .collect();
        latencies.extend(threads.into_iter().flat_map(|thread| thread.join().unwrap()));
    });
    let count = (latencies.len() - before) as f64;
    [count / began.elapsed().as_secs_f64(), 1e6 * (cpu_of(collector) - cpu) / count]
}

/// The seconds of CPU that the collector has had.
fn cpu_of(collector: &Collector) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", collector.pid().as_raw_nonzero())).unwrap();
    // Behind its name, which may have spaces: in user's mode and in the kernel's, in ticks of 10 ms.
    let numbers: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    numbers[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

/// A number of senders on one thread.
async fn send(to: SocketAddr, senders: u64, pings: &Arc<AtomicU64>) -> Vec<f64> {
    let (began, request) = (Instant::now(), Wanted::Ping.request(""));
    let sending: JoinSet<_> = (0..senders)
        .map(|_| {
            let (pings, mut request) = (Arc::clone(pings), request.clone());
            async move {
                let mut stream = TcpStream::connect(to).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut latencies = Vec::new();
                let mut answer = [0; 1024];
                while began.elapsed() < TIME {
                    let sent = Instant::now();
                    stream.write_all(request.of(pings.fetch_add(1, Ordering::Relaxed))).await.unwrap();
                    let mut length = 0;
                    while !answer[..length].ends_with(b"\r\n\r\n") {
                        let read = stream.read(&mut answer[length..]).await.unwrap();
                        assert!(read > 0, "the collector closed a connection");
                        length += read;
                    }
                    assert!(answer.starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(&answer[..length]));
                    latencies.push(sent.elapsed().as_secs_f64() * 1000.0);
                }
                latencies
            }
        })
        .collect();
    sending.join_all().await.concat()
}
