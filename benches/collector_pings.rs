//! Durable pings a second over HTTP on loopback, against one row a transaction and against group commits without HTTP, on the
//! same disk in the same run: `make bench-collector`.
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

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use pulse_telemetry::collector::storage::{Row, Store};
use support::collector::{Collector, Setup, Storage, block_on, open, ping_of, row};
use support::endpoint::PING_PATH;
use tokio::net::TcpStream;

/// How long each is measured.
const TIME: Duration = Duration::from_secs(5);
const CONNECTIONS: u64 = 256;

fn main() {
    let new = || std::iter::once(Storage::sqlite()).chain(support::postgres::Cluster::start().map(Storage::postgres));
    for ((one_by_one, over_http), grouped) in new().zip(new()).zip(new()) {
        println!("{}", one_by_one.name());
        let single = block_on(rate(open(&one_by_one), 1));
        println!("  one row a transaction:       {single:>8.0} rows/s");
        let collector = Setup::new(&over_http).with("LOG__LEVEL", "info").start();
        let http = load(&collector);
        let batch = (collector.metric("batch_rows_sum") / collector.metric("batch_rows_count")).round().max(1.0);
        println!(
            "  over HTTP, {CONNECTIONS} connections: {:>8.0} pings/s, batches of {batch}, latency p50 {:.1} ms, p99 {:.1} ms, \
             max {:.1} ms; memory at most {}",
            http.rate,
            http.p50,
            http.p99,
            http.max,
            memory(&collector)
        );
        collector.stop();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
        let group = block_on(rate(open(&grouped), batch as u64));
        println!("  the same groups without HTTP:{group:>8.0} rows/s");
        println!(
            "  {:.1} times one by one (at least 10); {:.0} % of the groups without HTTP (at least 80)",
            http.rate / single,
            100.0 * http.rate / group
        );
    }
}

/// Rows a second, in commits of so many, one commit after the other.
async fn rate(store: impl Future<Output = Arc<dyn Store>>, group: u64) -> f64 {
    let store = store.await;
    let now = Timestamp::now();
    let now = Timestamp::from_second(now.as_second()).unwrap();
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < TIME {
        let rows: Vec<Row> = (number..number + group).map(|number| row(&ping_of(number), now)).collect();
        store.commit(rows).await.unwrap();
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

fn load(collector: &Collector) -> Measured {
    let address = collector.address;
    let numbers = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut latencies: Vec<f64> = block_on(async {
        let senders: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let numbers = Arc::clone(&numbers);
                tokio::spawn(async move {
                    let stream = TcpStream::connect(address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    let (mut sender, connection) =
                        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
                    tokio::spawn(connection);
                    let mut latencies = Vec::new();
                    while began.elapsed() < TIME {
                        let body = ping_of(numbers.fetch_add(1, Ordering::Relaxed)).to_string();
                        let request = Request::post(PING_PATH)
                            .header("Host", "collector")
                            .header("Content-Type", "application/json")
                            .body(Full::new(Bytes::from(body)));
                        let sent = Instant::now();
                        let answer = sender.send_request(request.unwrap()).await.unwrap();
                        assert_eq!(answer.status(), 204);
                        answer.into_body().collect().await.unwrap();
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

/// The most memory that it ever had.
fn memory(collector: &Collector) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", collector.pid().as_raw_nonzero())).unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned()
}
