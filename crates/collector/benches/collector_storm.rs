//! A storm: senders come at ten times what the storage takes, and each comes back when it is told to. The storage is
//! throttled, so that the senders are not what is measured.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "figures on standard output")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::cast_precision_loss, reason = "figures")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pulse_telemetry_testkit::collector::{block_on, ping_of};
use pulse_telemetry_testkit::endpoint::PING_PATH;
use pulse_telemetry_testkit::inside::{Inside, Obedient, Settings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What the storage takes in a second.
const CAPACITY: u64 = 500;
/// All of them come within two seconds.
const SENDERS: u64 = 10 * CAPACITY * 2;

fn main() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let store = Obedient::taking(Duration::from_secs(1) / u32::try_from(CAPACITY).unwrap());
    let settings = Settings { queue: 1024, connections: 4096, ..Settings::default() };
    let inside = Inside::start(Arc::clone(&store) as _, settings);
    let (address, refusals, before) = (inside.address, Arc::new(AtomicU64::new(0)), memory());
    let began = Instant::now();
    let last = block_on(async {
        let senders: Vec<_> = (0..SENDERS)
            .map(|number| {
                let refusals = Arc::clone(&refusals);
                tokio::spawn(async move {
                    tokio::time::sleep(
                        Duration::from_secs(2) * u32::try_from(number).unwrap() / u32::try_from(SENDERS).unwrap(),
                    )
                    .await;
                    loop {
                        match post(address, &ping_of(number).to_string()).await {
                            (204, _) => return began.elapsed(),
                            (503, Some(after)) => {
                                refusals.fetch_add(1, Ordering::Relaxed);
                                tokio::time::sleep(Duration::from_secs(after)).await;
                            }
                            other => panic!("neither taken nor told when to come back: {other:?}"),
                        }
                    }
                })
            })
            .collect();
        let mut last = Duration::ZERO;
        for sender in senders {
            last = last.max(sender.await.unwrap());
        }
        last
    });
    assert_eq!(store.count() as u64, SENDERS, "everybody is served, and once");
    let goodput = SENDERS as f64 / last.as_secs_f64() / CAPACITY as f64;
    println!(
        "{SENDERS} senders at {} a second, a storage that takes {CAPACITY}: all served after {:.1} s, {} times turned \
         away; goodput {:.0} % of capacity (80 % to reach); memory {} before, {} at most, senders included",
        SENDERS / 2,
        last.as_secs_f64(),
        refusals.load(Ordering::Relaxed),
        100.0 * goodput,
        before,
        memory()
    );
}

async fn post(address: SocketAddr, body: &str) -> (u16, Option<u64>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {PING_PATH} HTTP/1.1\r\nHost: collector\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let after =
        answer.lines().find_map(|line| line.strip_prefix("retry-after: ")).map(|after| after.trim().parse().unwrap());
    (answer[9..12].parse().unwrap(), after)
}

/// The most memory that this process ever had.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned()
}
