//! Durable pings a second over HTTP on loopback, against one row a transaction and against group commits without HTTP, on the
//! same disk in the same run: `make bench-collector`. The senders write bytes that were made before and look at the status alone, for
//! they share the machine with what is measured.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "figures on standard output; whoever runs it sees what failed"
)]
#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::cast_precision_loss, reason = "figures")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pulse_telemetry::collector::ingest;
use pulse_telemetry::collector::storage::{Row, Store};
use support::collector::{Collector, Setup, Storage, block_on, install_id, open, ping_of};
use support::endpoint::PING_PATH;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long each is measured.
const TIME: Duration = Duration::from_secs(5);
/// Each waits for its answer before it sends again, so they are how many pings wait at most.
const CONNECTIONS: [u64; 3] = [16, 64, 256];

fn main() {
    let storages =
        || std::iter::once(Storage::sqlite()).chain(support::postgres::Cluster::start().map(Storage::postgres));
    for kind in 0..storages().count() {
        let new = || storages().nth(kind).unwrap();
        let one_by_one = new();
        println!("{}", one_by_one.name());
        let single = block_on(rate(open(&one_by_one), 1));
        println!("  one row a transaction: {single:.0} rows/s");
        for connections in CONNECTIONS {
            let (over_http, grouped) = (new(), new());
            let collector = Setup::new(&over_http).with("LOG__LEVEL", "info").start();
            let http = load(&collector, connections);
            let batch = (collector.metric("batch_rows_sum") / collector.metric("batch_rows_count")).round().max(1.0);
            println!(
                "  over HTTP, {connections} connections: {:.0} pings/s in groups of {batch}, latency p50 {:.1} ms, p99 {:.1} ms, max \
                 {:.1} ms; memory at most {:.0} MB",
                http.rate,
                http.p50,
                http.p99,
                http.max,
                collector.memory("VmHWM") as f64 / 1e6
            );
            collector.stop();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
            let group = block_on(rate(open(&grouped), batch as u64));
            println!(
                "    {:.1} times one by one (at least 10); {:.0} % of {group:.0} rows/s of such groups without HTTP (at least 80)",
                http.rate / single,
                100.0 * http.rate / group
            );
        }
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

/// Rows a second, made of the bytes of pings, in commits of so many, one commit after the other.
async fn rate(store: impl Future<Output = Arc<dyn Store>>, group: u64) -> f64 {
    let store = store.await;
    let now = Timestamp::now();
    let now = Timestamp::from_second(now.as_second()).unwrap();
    let mut body = Template::new(ping_of(0).to_string());
    let mut row = |number| Row { received_at: now, cells: ingest::read(body.of(number)).unwrap().cells };
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < TIME {
        store.commit((number..number + group).map(&mut row).collect()).await.unwrap();
        number += group;
    }
    number as f64 / began.elapsed().as_secs_f64()
}

struct Measured {
    rate: f64,
    p50: f64,
    p99: f64,
    max: f64,
}

fn load(collector: &Collector, connections: u64) -> Measured {
    let address = collector.address;
    let numbers = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let body = ping_of(0).to_string();
    let request = Template::new(format!(
        "POST {PING_PATH} HTTP/1.1\r\nHost: collector\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let mut latencies: Vec<f64> = block_on(async {
        let senders: Vec<_> = (0..connections)
            .map(|_| {
                let (numbers, mut request) = (Arc::clone(&numbers), request.clone());
                tokio::spawn(async move {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut latencies = Vec::new();
                    let mut answer = [0; 1024];
                    while began.elapsed() < TIME {
                        let sent = Instant::now();
                        stream.write_all(request.of(numbers.fetch_add(1, Ordering::Relaxed))).await.unwrap();
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
                })
            })
            .collect();
        let mut all = Vec::new();
        for sender in senders {
            all.extend(sender.await.unwrap());
        }
        all
    });
    let rate = latencies.len() as f64 / began.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    Measured { rate, p50: at(50), p99: at(99), max: at(100) }
}
