//! How many pings one network may send in a minute, and how many new install IDs in a day.
//!
//! What is kept of an address here is an HMAC of each of its networks, under a random key that lives in memory. The key
//! of the pings is replaced every ten minutes and that of the IDs every UTC day, each together with everything that was
//! counted under it.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use pulse_telemetry_core::clock::MINUTE;
use pulse_telemetry_core::rng::Rng;
use ring::hmac;

use super::network::{Client, Network, TIMES_MAX};

/// How long one key of the pings is used.
const KEY_LIFE: Duration = Duration::from_secs(10 * 60);

/// The most networks that are counted at a time, of all widths: 100,000 × about 100 bytes, once for pings and once for
/// IDs.
const NETWORKS_MAX: usize = 100_000;

/// Counts pings and new IDs by network. Narrow networks may have what is configured, wider ones 16 and 256 times that.
pub struct Limiter {
    /// `None`: any number is taken.
    per_minute: Option<NonZeroU32>,
    new_ids: Option<NonZeroU32>,
    counting: Arc<Mutex<LimiterState>>,
}

/// A new ID that a network may bring today. The network gets it back when this is dropped.
pub struct NewIdPermit {
    /// Under the key of which day, and what was added for which networks. `None`: any number is taken.
    counted: Option<(Date, Vec<(Tag, u64)>)>,
    counting: Arc<Mutex<LimiterState>>,
}

struct LimiterState {
    chance: Box<dyn Rng + Send>,
    pings: Option<Keyed<Duration, Duration>>,
    ids: Option<Keyed<Date, u64>>,
}

/// What is counted under one key: until when, or on which day.
struct Keyed<U, V> {
    until: U,
    key: hmac::Key,
    used: Used<V>,
}

/// A network under a key.
type Tag = [u8; 16];

impl Limiter {
    /// A limiter of the pings a minute and the new IDs a day from one of the narrowest networks; 0 is no limit.
    #[must_use]
    pub fn new(per_minute: u32, new_ids: u32, chance: Box<dyn Rng + Send>) -> Self {
        let counting = Arc::new(Mutex::new(LimiterState { chance, pings: None, ids: None }));
        Self { per_minute: NonZeroU32::new(per_minute), new_ids: NonZeroU32::new(new_ids), counting }
    }

    /// Whether networks are limited at all.
    #[must_use]
    pub fn limits_pings(&self) -> bool {
        self.per_minute.is_some()
    }

    /// Takes a ping from this client, or says how long it should wait. `now` is the monotonic time.
    ///
    /// # Errors
    /// The time until each of its networks may send again.
    pub fn check(&self, client: &Client, now: Duration) -> Result<(), Duration> {
        let Some(per_minute) = self.per_minute else { return Ok(()) };
        // A thread that panicked with the lock left counts that are whole.
        self.counting.lock().unwrap_or_else(PoisonError::into_inner).check(client, per_minute, now)
    }

    /// Takes one of the new IDs that this client's networks may bring on that day; none where one of them has none
    /// left.
    #[must_use]
    pub fn take_new_id(&self, client: &Client, today: Date) -> Option<NewIdPermit> {
        let counting = Arc::clone(&self.counting);
        let Some(new_ids) = self.new_ids else { return Some(NewIdPermit { counted: None, counting }) };
        let counted =
            self.counting.lock().unwrap_or_else(PoisonError::into_inner).take_new_id(client, new_ids, today)?;
        Some(NewIdPermit { counted: Some((today, counted)), counting })
    }

    /// How many networks are counted now for their pings.
    #[must_use]
    pub fn networks(&self) -> usize {
        let counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        counting.pings.as_ref().map_or(0, |pings| pings.used.len())
    }
}

impl NewIdPermit {
    /// The ID was new: it stays counted.
    pub fn keep(mut self) {
        self.counted = None;
    }
}

impl Drop for NewIdPermit {
    fn drop(&mut self) {
        let Some((day, counted)) = self.counted.take() else { return };
        let mut counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ids) = counting.ids.as_mut().filter(|ids| ids.until == day) {
            for (tag, share) in counted {
                let used = ids.used.of(&tag).unwrap_or_default();
                ids.used.set(tag, used.saturating_sub(share), |_| false);
            }
        }
    }
}

impl LimiterState {
    /// A network's count is the time at which all that it sent is forgiven: each ping adds its share of a minute, and
    /// nobody may be more than a minute ahead.
    fn check(&mut self, client: &Client, per_minute: NonZeroU32, now: Duration) -> Result<(), Duration> {
        let pings = match &mut self.pings {
            Some(pings) if now < pings.until => pings,
            pings => pings.insert(Keyed::new(now + KEY_LIFE, self.chance.as_mut())),
        };
        pings.used.forget_those(|forgiven| *forgiven <= now);
        let share = |times: u32| MINUTE / per_minute.get() / times;
        let counted: Vec<(Tag, Duration, Duration)> = client
            .networks()
            .map(|(network, width)| {
                let (tag, share) = (pings.tag(&network), share(width.times));
                (tag, pings.used.of(&tag).unwrap_or(now).max(now) + share, share)
            })
            .collect();
        let wait = counted.iter().map(|(_, forgiven, _)| forgiven.saturating_sub(now + MINUTE)).max();
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        // Who could not send another one of the narrowest network's is at its limit, whatever its width.
        let is_at_limit = |forgiven: &Duration| *forgiven + share(1) > now + MINUTE;
        for (tag, forgiven, _) in counted {
            pings.used.set(tag, forgiven, is_at_limit);
        }
        Ok(())
    }

    /// A network's count is what it used of its share, in parts of the narrowest network's ID.
    fn take_new_id(&mut self, client: &Client, new_ids: NonZeroU32, today: Date) -> Option<Vec<(Tag, u64)>> {
        let ids = match &mut self.ids {
            Some(ids) if ids.until == today => ids,
            ids => ids.insert(Keyed::new(today, self.chance.as_mut())),
        };
        let all = u64::from(new_ids.get()) * u64::from(TIMES_MAX);
        let shares: Vec<(Tag, u64)> =
            client.networks().map(|(network, width)| (ids.tag(&network), u64::from(TIMES_MAX / width.times))).collect();
        let used = |ids: &Keyed<Date, u64>, tag: &Tag| ids.used.of(tag).unwrap_or_default();
        if shares.iter().any(|(tag, share)| used(ids, tag) + share > all) {
            return None;
        }
        for (tag, share) in &shares {
            let used = used(ids, tag) + share;
            ids.used.set(*tag, used, |used| *used + u64::from(TIMES_MAX) > all);
        }
        Some(shares)
    }
}

impl<U, V: Copy + Ord> Keyed<U, V> {
    fn new(until: U, chance: &mut dyn Rng) -> Self {
        let bytes: Vec<u8> = chance.bytes().into_iter().chain(chance.bytes()).collect();
        Self { until, key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), used: Used::default() }
    }

    fn tag(&self, network: &Network) -> Tag {
        let mut tag = Tag::default();
        tag.copy_from_slice(&hmac::sign(&self.key, &network.bytes()).as_ref()[..16]);
        tag
    }
}

/// How much each network has used, in a unit in which networks of all widths can be compared.
struct Used<V> {
    of: HashMap<Tag, V>,
    /// Who used least first.
    order: BTreeSet<(V, Tag)>,
}

impl<V> Default for Used<V> {
    fn default() -> Self {
        Self { of: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<V: Copy + Ord> Used<V> {
    fn of(&self, tag: &Tag) -> Option<V> {
        self.of.get(tag).copied()
    }

    fn len(&self) -> usize {
        self.of.len()
    }

    fn forget_those(&mut self, is_over: impl Fn(&V) -> bool) {
        while let Some((_, tag)) = self.order.first().filter(|(used, _)| is_over(used)).copied() {
            self.forget(&tag);
        }
    }

    fn forget(&mut self, tag: &Tag) {
        if let Some(used) = self.of.remove(tag) {
            self.order.remove(&(used, *tag));
        }
    }

    /// Writes down what a network has used. Where there is no room for another one, who used least is forgotten, which
    /// may be this one; never one that is at its limit.
    fn set(&mut self, tag: Tag, used: V, is_at_limit: impl Fn(&V) -> bool) {
        self.forget(&tag);
        if self.of.len() >= NETWORKS_MAX {
            match self.order.first().copied() {
                Some((least, other)) if least <= used && !is_at_limit(&least) => self.forget(&other),
                _ => return,
            }
        }
        self.of.insert(tag, used);
        self.order.insert((used, tag));
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use pulse_telemetry_process::rng::SystemRng;

    const DAY: Date = jiff::civil::date(2026, 11, 23);

    fn limiter(per_minute: u32, new_ids: u32) -> Limiter {
        Limiter::new(per_minute, new_ids, Box::new(SystemRng))
    }

    fn client(text: &str) -> Client {
        Client::new(text.parse().unwrap())
    }

    fn ask(limiter: &Limiter, peer: &str, now: u64) -> Result<(), Duration> {
        limiter.check(&client(peer), Duration::from_secs(now))
    }

    /// An address of the /24 or /56 of that number, in the networks that the first one is in as far as they reach.
    fn v4(number: u32) -> Client {
        Client::new(Ipv4Addr::from((10 << 24) + (number << 8)).into())
    }

    fn v6(number: u128) -> Client {
        Client::new(Ipv6Addr::from((0x2001_0db8 << 96) + (number << 72)).into())
    }

    #[test]
    fn who_sends_too_much_is_told_when_to_come_back_and_others_are_served() {
        let limiter = limiter(2, 0);
        assert!(ask(&limiter, "192.0.2.1", 0).is_ok());
        assert!(ask(&limiter, "192.0.2.1", 0).is_ok());
        assert_eq!(ask(&limiter, "192.0.2.1", 0), Err(Duration::from_secs(30)));
        assert!(ask(&limiter, "192.0.3.1", 0).is_ok());
        assert!(ask(&limiter, "192.0.2.1", 30).is_ok());
        assert!(ask(&limiter, "192.0.2.1", 30).is_err());
    }

    #[test]
    fn a_wider_network_may_send_16_times_and_the_widest_256_times_what_the_narrowest_may() {
        let sent = |peers: &mut dyn Iterator<Item = Client>| {
            let limiter = limiter(3, 0);
            peers.filter(|peer| limiter.check(peer, Duration::ZERO).is_ok()).count()
        };
        assert_eq!(sent(&mut (0..100).map(|_| v4(7))), 3);
        assert_eq!(sent(&mut (0..256).map(v4)), 3 * 16, "one each of a /16");
        assert_eq!(sent(&mut (0..100).map(|_| v6(7))), 3);
        assert_eq!(sent(&mut (0..256).map(v6)), 3 * 16, "one each of a /48");
        assert_eq!(sent(&mut (0..25_600).map(|number| v6(number * 64))), 3 * 256, "four each of the /48s of a /32");
    }

    #[test]
    fn a_ping_that_is_refused_for_one_network_counts_for_none() {
        let limiter = limiter(1, 0);
        for _ in 0..100 {
            let _ = limiter.check(&v4(0), Duration::ZERO);
        }
        assert_eq!((1..256).filter(|number| limiter.check(&v4(*number), Duration::ZERO).is_ok()).count(), 15);
    }

    #[test]
    fn the_key_and_all_counts_are_replaced_every_ten_minutes() {
        let limiter = limiter(1, 0);
        let tag = || {
            let counting = limiter.counting.lock().unwrap();
            let (network, _) = client("192.0.2.1").networks().last().unwrap();
            counting.pings.as_ref().unwrap().tag(&network)
        };
        assert!(ask(&limiter, "192.0.2.1", 1000).is_ok());
        let first = tag();
        assert!(ask(&limiter, "192.0.2.1", 1001).is_err());
        assert!(ask(&limiter, "192.0.9.1", 1599).is_ok());
        assert_eq!(tag(), first);
        assert!(ask(&limiter, "192.0.9.1", 1600).is_ok());
        assert_ne!(tag(), first);
        assert_eq!(limiter.networks(), 2, "what was counted under the old key is gone: a /16 and a /24");
    }

    #[test]
    fn zero_limits_nobody() {
        let limiter = limiter(0, 0);
        assert!((0..1000).all(|_| ask(&limiter, "192.0.2.1", 0).is_ok()));
        assert!((0..1000).all(|_| limiter.take_new_id(&v4(1), DAY).map(NewIdPermit::keep).is_some()));
        assert_eq!(limiter.networks(), 0);
    }

    #[test]
    fn each_network_and_those_above_it_bring_a_bounded_number_of_new_ids_a_day() {
        let brought = |limiter: &Limiter, peers: &mut dyn Iterator<Item = Client>| {
            peers.filter(|peer| limiter.take_new_id(peer, DAY).map(NewIdPermit::keep).is_some()).count()
        };
        let limiter = limiter(0, 4);
        assert_eq!(brought(&limiter, &mut (0..100).map(|_| v4(1))), 4);
        assert_eq!(brought(&limiter, &mut (0..256).map(v4)), 15 * 4, "of the /16's 64, four are spent");
        assert_eq!(brought(&limiter, &mut (0..100).map(|_| v6(1))), 4);
        assert_eq!(brought(&limiter, &mut (0..256).map(v6)), 15 * 4);
        assert_eq!(
            brought(&limiter, &mut (0..25_600).map(|number| v6(number * 64))),
            (256 - 16) * 4,
            "of the /32's 1024, 64 are spent"
        );
        let tomorrow = DAY.tomorrow().unwrap();
        assert!(limiter.take_new_id(&v4(1), tomorrow).is_some(), "the next day has a count of its own");
    }

    #[test]
    fn an_id_that_was_not_new_or_not_stored_is_given_back() {
        let limiter = limiter(0, 1);
        for _ in 0..10 {
            drop(limiter.take_new_id(&v4(1), DAY).unwrap());
        }
        let held = limiter.take_new_id(&v4(1), DAY).unwrap();
        assert!(limiter.take_new_id(&v4(1), DAY).is_none());
        held.keep();
        assert!(limiter.take_new_id(&v4(1), DAY).is_none());
        // What is given back a day later counts for neither day.
        let late = limiter.take_new_id(&v4(2), DAY).unwrap();
        let tomorrow = DAY.tomorrow().unwrap();
        limiter.take_new_id(&v4(2), tomorrow).unwrap().keep();
        drop(late);
        assert!(limiter.take_new_id(&v4(2), tomorrow).is_none());
    }

    #[test]
    fn however_many_networks_come_memory_is_bounded_and_nobody_at_a_limit_is_forgotten() {
        let limiter = limiter(60, 2);
        let greedy = client("203.0.113.7");
        while limiter.check(&greedy, Duration::ZERO).is_ok() {}
        while limiter.take_new_id(&greedy, DAY).map(NewIdPermit::keep).is_some() {}
        for n in 0..u32::try_from(NETWORKS_MAX + 500).unwrap() {
            // Spread over /16s too, so that none of those is at its limit.
            let peer = Client::new(Ipv4Addr::from(n.rotate_right(16) ^ 0x0a00_0000).into());
            let _ = limiter.check(&peer, Duration::from_millis(u64::from(n) / 1000));
            let _ = limiter.take_new_id(&peer, DAY).map(NewIdPermit::keep);
        }
        assert!(limiter.networks() <= NETWORKS_MAX);
        assert!(limiter.check(&greedy, Duration::from_millis(200)).is_err());
        assert!(limiter.take_new_id(&greedy, DAY).is_none());
        let counting = limiter.counting.lock().unwrap();
        assert!(counting.ids.as_ref().unwrap().used.len() <= NETWORKS_MAX);
    }
}
