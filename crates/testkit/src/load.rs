//! Senders by the dozen: blocking, on threads of their own.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::collector::ping_of;
use super::endpoint::PING_PATH;
use super::lock;

/// How long a sender waits for an answer, as a real one does.
const PATIENCE: Duration = Duration::from_secs(10);

/// One ping on a connection of its own: the status and `Retry-After`; none where the connection fails.
pub fn post(address: SocketAddr, body: &str) -> Option<(u16, Option<u64>)> {
    post_to(address, PING_PATH, body)
}

/// The same, to that path.
pub fn post_to(address: SocketAddr, path: &str, body: &str) -> Option<(u16, Option<u64>)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.get(9..12)?.parse().ok()?;
    let after = answer.lines().find_map(|line| line.strip_prefix("retry-after: ")?.trim().parse().ok());
    Some((status, after))
}

/// Senders that go on until they are stopped, each ping until it is acknowledged.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Starts that many senders. Each asks `address` where to send to, for collectors come and go.
    pub fn start(senders: u64, address: impl Fn(u64) -> Option<SocketAddr> + Send + Sync + 'static) -> Self {
        let (stop, numbers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(1)));
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let address = Arc::new(address);
        let threads = (0..senders).map(|sender| {
            let (stop, numbers, acknowledged) = (Arc::clone(&stop), Arc::clone(&numbers), Arc::clone(&acknowledged));
            let address = Arc::clone(&address);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let ping = ping_of(numbers.fetch_add(1, Ordering::Relaxed));
                    let (id, body) = (ping["install_id"].as_str().unwrap().to_owned(), ping.to_string());
                    // What is not acknowledged is sent again with the same bytes, as a real sender does.
                    while !stop.load(Ordering::Relaxed) {
                        match address(sender).and_then(|address| post(address, &body)) {
                            Some((204, _)) => {
                                lock(&acknowledged).insert(id);
                                break;
                            }
                            _ => std::thread::sleep(Duration::from_millis(5)),
                        }
                    }
                }
            })
        });
        Self { threads: threads.collect(), stop, acknowledged }
    }

    /// How many are acknowledged by now.
    pub fn count(&self) -> usize {
        lock(&self.acknowledged).len()
    }

    /// Waits until `more` others are acknowledged.
    pub fn wait_for_more(&self, more: usize) {
        let wanted = self.count() + more;
        let mut waited = Duration::ZERO;
        while self.count() < wanted {
            assert!(waited < Duration::from_secs(120), "{} of {wanted} acknowledged", self.count());
            std::thread::sleep(Duration::from_millis(5));
            waited += Duration::from_millis(5);
        }
    }

    /// Stops the senders. The install IDs of what was acknowledged.
    pub fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        Arc::into_inner(self.acknowledged).unwrap().into_inner().unwrap()
    }
}

/// Every acknowledged ping is there, and every ping that is there is there once.
pub fn check_nothing_lost(acknowledged: &BTreeSet<String>, stored: &[String]) {
    let distinct: BTreeSet<&String> = stored.iter().collect();
    assert_eq!(distinct.len(), stored.len(), "a ping is stored twice");
    let lost: Vec<_> = acknowledged.iter().filter(|id| !distinct.contains(id)).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged pings are lost", lost.len(), acknowledged.len());
}
