//! How many pings one network may send, and how many connections it may have open: the only part that sees an address.
//!
//! An address comes in as a [`Client`], which cannot be shown. What is kept of it is an HMAC of its network under a random
//! key that lives in memory and is replaced every ten minutes, together with everything that was counted under it.
//!
//! ```
//! fn taken<T>() {}
//! taken::<pulse_telemetry::collector::limiter::Client>();
//! ```
//! ```compile_fail,E0277
//! fn shown<T: std::fmt::Debug>() {}
//! shown::<pulse_telemetry::collector::limiter::Client>();
//! ```
//! ```compile_fail,E0277
//! fn printed<T: std::fmt::Display>() {}
//! printed::<pulse_telemetry::collector::limiter::Client>();
//! ```
//! ```compile_fail,E0277
//! fn serialized<T: serde::Serialize>() {}
//! serialized::<pulse_telemetry::collector::limiter::Client>();
//! ```
//! ```compile_fail,E0277
//! fn shown<T: std::fmt::Debug>() {}
//! shown::<pulse_telemetry::collector::limiter::Place>();
//! ```

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as GovernorClock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use hyper::header::HeaderValue;
use ipnet::IpNet;
use ring::hmac;

use crate::chance::Chance;

/// How long one key is used.
const KEY_LIFE: Duration = Duration::from_secs(10 * 60);

/// The most networks that are counted at a time: 100,000 × about 100 bytes. Where more come, all counts begin anew.
const NETWORKS_MAX: usize = 100_000;

/// Which part of an address names a network: what one household or one rented machine has at most.
const PREFIX_V4: u8 = 24;
const PREFIX_V6: u8 = 56;

/// Where a request comes from. It can be limited, and nothing else: not shown, logged, serialized, compared or copied.
pub struct Client(IpAddr);

impl Client {
    /// The other end of a connection.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self(address)
    }
}

/// A connection's place among those of its network, which it gives back when it is dropped.
pub struct Place(Option<Taken>);

struct Taken {
    counting: Arc<Mutex<Counting>>,
    network: Network,
    /// Under which key.
    keys: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(Taken { counting, network, keys }) = &self.0 {
            counting.lock().unwrap_or_else(PoisonError::into_inner).leave(network, *keys);
        }
    }
}

/// Counts pings and connections by network.
pub struct Limiter {
    /// `None`: any number is taken.
    per_minute: Option<NonZeroU32>,
    trusted_proxies: Vec<IpNet>,
    counting: Arc<Mutex<Counting>>,
}

struct Counting {
    chance: Box<dyn Chance + Send>,
    key: hmac::Key,
    /// How many keys there have been.
    keys: u64,
    counts: Option<Counts>,
    connections: HashMap<Network, usize>,
    told: Told,
    /// When the key is replaced, by the monotonic clock.
    until: Duration,
}

type Counts = RateLimiter<Network, HashMapStateStore<Network>, Told, NoOpMiddleware<Duration>>;

/// A network under the key of the moment.
type Network = [u8; 16];

/// A clock that says what it was told last, in nanoseconds.
#[derive(Clone, Debug, Default)]
struct Told(Arc<AtomicU64>);

impl GovernorClock for Told {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl Limiter {
    /// A limiter for so many pings a minute from one network; 0 for any number.
    #[must_use]
    pub fn new(per_minute: u32, trusted_proxies: Vec<IpNet>, chance: Box<dyn Chance + Send>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]);
        // The first check replaces this key, as it does every one whose time is over.
        let (counts, connections, told, until) = (None, HashMap::new(), Told::default(), Duration::ZERO);
        let counting = Arc::new(Mutex::new(Counting { chance, key, keys: 0, counts, connections, told, until }));
        Self { per_minute: NonZeroU32::new(per_minute), trusted_proxies, counting }
    }

    /// Lets a connection in, or not, where its network has `most` of them open already. A proxy that is trusted has as many
    /// as it likes; so has everybody where any number of pings is taken. With a new key the count begins anew.
    pub fn enter(&self, peer: &Client, most: usize, now: Duration) -> Option<Place> {
        let peer = Client(peer.0.to_canonical());
        if self.per_minute.is_none() || self.is_trusted(&peer.0) {
            return Some(Place(None));
        }
        let (network, keys) = self.counting.lock().unwrap_or_else(PoisonError::into_inner).enter(&peer, most, now)?;
        Some(Place(Some(Taken { counting: Arc::clone(&self.counting), network, keys })))
    }

    fn is_trusted(&self, address: &IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(address))
    }

    /// Takes a ping from this client, or says how long it should wait. `forwarded` are the values of `X-Forwarded-For`,
    /// `now` is the monotonic time.
    ///
    /// # Errors
    /// The time until the network may send again.
    pub fn check<'a>(
        &self,
        peer: &Client,
        forwarded: impl DoubleEndedIterator<Item = &'a HeaderValue>,
        now: Duration,
    ) -> Result<(), Duration> {
        let Some(per_minute) = self.per_minute else { return Ok(()) };
        let client = self.client(peer, forwarded);
        // A thread that panicked with the lock left counts that are whole, or a key that is replaced below.
        self.counting.lock().unwrap_or_else(PoisonError::into_inner).check(&client, per_minute, now)
    }

    /// The client behind the proxies that are trusted: the first address from the right that is not one of theirs.
    fn client<'a>(&self, peer: &Client, forwarded: impl DoubleEndedIterator<Item = &'a HeaderValue>) -> Client {
        let mut client = peer.0.to_canonical();
        let texts = forwarded.rev().map(|value| value.to_str().unwrap_or_default());
        for entry in texts.flat_map(|text| text.rsplit(',')) {
            if !self.is_trusted(&client) {
                break;
            }
            // What is no address was not written by a proxy of ours; what is left of it is not believed either.
            let Some(address) = address(entry.trim()) else { break };
            client = address.to_canonical();
        }
        Client(client)
    }

    /// How many networks are counted now.
    #[must_use]
    pub fn networks(&self) -> usize {
        let counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        counting.counts.as_ref().map_or(0, RateLimiter::len)
    }
}

impl Counting {
    fn enter(&mut self, peer: &Client, most: usize, now: Duration) -> Option<(Network, u64)> {
        if now >= self.until {
            self.begin_anew(now);
        }
        let network = self.network(peer);
        let open = self.connections.entry(network).or_default();
        (*open < most).then(|| {
            *open += 1;
            (network, self.keys)
        })
    }

    fn leave(&mut self, network: &Network, keys: u64) {
        if keys != self.keys {
            return;
        }
        if let Some(open) = self.connections.get_mut(network) {
            *open -= 1;
            if *open == 0 {
                self.connections.remove(network);
            }
        }
    }

    fn check(&mut self, client: &Client, per_minute: NonZeroU32, now: Duration) -> Result<(), Duration> {
        let is_full = self.counts.as_ref().is_some_and(|counts| counts.len() >= NETWORKS_MAX);
        if now >= self.until || is_full {
            self.begin_anew(now);
        }
        self.told.0.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let network = self.network(client);
        let counts = self.counts.get_or_insert_with(|| {
            RateLimiter::new(Quota::per_minute(per_minute), HashMapStateStore::default(), self.told.clone())
        });
        counts.check_key(&network).map_err(|until| {
            let wait = until.earliest_possible().duration_since(now);
            wait.into()
        })
    }

    fn begin_anew(&mut self, now: Duration) {
        let bytes: Vec<u8> = self.chance.bytes().into_iter().chain(self.chance.bytes()).collect();
        self.key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        self.keys += 1;
        self.counts = None;
        self.connections.clear();
        self.until = now + KEY_LIFE;
    }

    fn network(&self, client: &Client) -> Network {
        let prefix = if client.0.is_ipv4() { PREFIX_V4 } else { PREFIX_V6 };
        let mut octets = match client.0 {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        octets.truncate(usize::from(prefix / 8));
        let tag = hmac::sign(&self.key, &octets);
        let mut network = Network::default();
        network.copy_from_slice(&tag.as_ref()[..16]);
        network
    }
}

/// The address of one entry: alone, in brackets, or with a port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    bare.parse().ok().or_else(|| entry.parse().ok().map(|with_port: SocketAddr| with_port.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::SystemChance;

    fn limiter(per_minute: u32, proxies: &[&str]) -> Limiter {
        Limiter::new(per_minute, proxies.iter().map(|p| p.parse().unwrap()).collect(), Box::new(SystemChance))
    }

    fn client(text: &str) -> Client {
        Client::new(text.parse().unwrap())
    }

    fn ask(limiter: &Limiter, peer: &str, forwarded: &[&str], now: u64) -> Result<(), Duration> {
        let values: Vec<HeaderValue> = forwarded.iter().map(|text| HeaderValue::from_str(text).unwrap()).collect();
        limiter.check(&client(peer), values.iter(), Duration::from_secs(now))
    }

    /// Whether both are counted as one network.
    fn same(one: (&str, &[&str]), other: (&str, &[&str])) -> bool {
        let limiter = limiter(1, &["10.0.0.0/8", "fd00::/8"]);
        assert!(ask(&limiter, one.0, one.1, 0).is_ok());
        ask(&limiter, other.0, other.1, 0).is_err()
    }

    #[test]
    fn a_network_is_an_ipv4_24_or_an_ipv6_56_and_mapped_addresses_are_ipv4() {
        assert!(same(("192.0.2.1", &[]), ("192.0.2.254", &[])));
        assert!(!same(("192.0.2.1", &[]), ("192.0.3.1", &[])));
        assert!(same(("2001:db8:0:100::1", &[]), ("2001:db8:0:1ff::1", &[])));
        assert!(!same(("2001:db8:0:100::1", &[]), ("2001:db8:0:200::1", &[])));
        assert!(same(("::ffff:192.0.2.1", &[]), ("192.0.2.9", &[])));
        assert!(!same(("::ffff:192.0.2.1", &[]), ("::ffff:192.0.3.1", &[])));
    }

    #[test]
    fn x_forwarded_for_is_believed_from_configured_proxies_only_and_read_from_the_right() {
        let of_client: (&str, &[&str]) = ("192.0.2.1", &[]);
        // From a stranger it is worth nothing.
        assert!(!same(("198.51.100.1", &["192.0.2.1"]), of_client));
        assert!(same(("10.0.0.5", &["192.0.2.1"]), of_client));
        assert!(same(("::ffff:10.0.0.5", &["::ffff:192.0.2.1"]), of_client));
        // What the client itself wrote stands further left.
        assert!(same(("10.0.0.5", &["203.0.113.7, 192.0.2.1"]), of_client));
        assert!(same(("10.0.0.5", &["203.0.113.7", "192.0.2.1"]), of_client));
        // Through two proxies.
        assert!(same(("10.0.0.5", &["192.0.2.1, fd00::7"]), of_client));
        assert!(same(("10.0.0.5", &["192.0.2.1:4711, [fd00::7]:80"]), of_client));
        // What is no address ends the reading.
        assert!(same(("10.0.0.5", &["192.0.2.1, unknown"]), ("10.0.0.5", &[])));
    }

    #[test]
    fn who_sends_too_much_is_told_when_to_come_back_and_others_are_served() {
        let limiter = limiter(2, &[]);
        assert!(ask(&limiter, "192.0.2.1", &[], 0).is_ok());
        assert!(ask(&limiter, "192.0.2.1", &[], 0).is_ok());
        assert_eq!(ask(&limiter, "192.0.2.1", &[], 0), Err(Duration::from_secs(30)));
        assert!(ask(&limiter, "192.0.3.1", &[], 0).is_ok());
        assert!(ask(&limiter, "192.0.2.1", &[], 30).is_ok());
        assert!(ask(&limiter, "192.0.2.1", &[], 30).is_err());
    }

    #[test]
    fn the_key_and_all_counts_are_replaced_every_ten_minutes() {
        let limiter = limiter(1, &[]);
        let network = || {
            let counting = limiter.counting.lock().unwrap();
            counting.network(&client("192.0.2.1"))
        };
        assert!(ask(&limiter, "192.0.2.1", &[], 1000).is_ok());
        let first = network();
        assert!(ask(&limiter, "192.0.2.1", &[], 1001).is_err());
        assert!(ask(&limiter, "192.0.9.1", &[], 1599).is_ok());
        assert_eq!(network(), first);
        assert!(ask(&limiter, "192.0.9.1", &[], 1600).is_ok());
        assert_ne!(network(), first);
        assert_eq!(limiter.networks(), 1, "what was counted under the old key is gone");
    }

    #[test]
    fn one_network_cannot_hold_all_connections_and_a_trusted_proxy_may() {
        let limiter = limiter(1, &["10.0.0.0/8"]);
        let enter = |address: &str, now| limiter.enter(&client(address), 2, Duration::from_secs(now));
        let (first, second) = (enter("192.0.2.1", 0), enter("192.0.2.200", 0));
        assert!(first.is_some() && second.is_some());
        assert!(enter("192.0.2.3", 0).is_none() && enter("::ffff:192.0.2.3", 0).is_none());
        let other = enter("192.0.3.1", 0);
        assert!(other.is_some(), "others get in");
        let proxied: Vec<_> = (0..100).map(|_| enter("10.0.0.5", 0)).collect();
        assert!(proxied.iter().all(Option::is_some));
        drop(second);
        let again = enter("192.0.2.3", 0);
        assert!(again.is_some(), "who leaves makes room");
        assert!(enter("192.0.2.1", 0).is_none());
        // Under a new key nothing is known of the old ones, also when they leave.
        let anew = (enter("192.0.2.1", 600), enter("192.0.2.1", 600));
        assert!(anew.0.is_some() && anew.1.is_some());
        drop((first, again, other));
        assert!(enter("192.0.2.1", 600).is_none());
        drop(anew);
        assert_eq!(limiter.counting.lock().unwrap().connections.len(), 0, "nothing is kept of who has left");
    }

    #[test]
    fn zero_limits_nobody() {
        let limiter = limiter(0, &[]);
        let places: Vec<_> = (0..100).map(|_| limiter.enter(&client("192.0.2.1"), 2, Duration::ZERO)).collect();
        assert!(places.iter().all(Option::is_some));
        assert!((0..1000).all(|_| ask(&limiter, "192.0.2.1", &[], 0).is_ok()));
        assert_eq!(limiter.networks(), 0);
    }

    #[test]
    fn however_many_networks_come_memory_is_bounded() {
        let limiter = limiter(1, &[]);
        for n in 0..u32::try_from(NETWORKS_MAX + 10).unwrap() {
            let _ = limiter.check(&Client(std::net::Ipv4Addr::from(n << 8).into()), std::iter::empty(), Duration::ZERO);
        }
        assert!(limiter.networks() <= NETWORKS_MAX);
    }
}
