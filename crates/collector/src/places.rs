//! The places that connections take: how many a network may have, and who gives way where every place is taken.
//!
//! A connection waits for its caller until a whole ping is there, and again once that is answered. Where every place is
//! taken, the network with the most connections gives way: of the widest networks the greediest, within it the
//! greediest of the next width, and there the connection that has waited for longest. So a client with many
//! networks below one is one, and nobody pushes out a network that has fewer connections than its own. Where none waits
//! for long enough, for each sends the next ping at once, the first that is answered ends with its answer.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use pulse_telemetry_http::server::places::{Activity, Admission, ConnectionId, PATIENCE, PlaceLoss, PlaceTable};

use super::network::{Client, Network};

/// What a network may have at least, however few places there are.
const NETWORK_MIN: usize = 8;

/// The networks of a caller, the widest first. One that is exempt belongs to none, and gives way last.
#[must_use]
pub(super) fn networks_of(client: &Client, is_exempt: bool) -> Vec<Network> {
    if is_exempt { Vec::new() } else { client.networks().map(|(network, _)| network).collect() }
}

/// How many of all places one of the narrowest networks may have: a sixteenth. A wider one may have 16 times that,
/// which is all of them.
#[must_use]
pub fn per_network(most: usize) -> usize {
    (most / 16).max(NETWORK_MIN)
}

/// Who has which place, by network.
pub struct Networks {
    most: usize,
    per_network: usize,
    next: ConnectionId,
    connections: HashMap<ConnectionId, OpenConnection>,
    networks: HashMap<Network, Holding>,
    /// Since when those connections have waited that belong to no network.
    exempt: BTreeSet<(Duration, ConnectionId)>,
}

struct OpenConnection {
    /// The widest first.
    networks: Vec<Network>,
    waits_since: Option<Duration>,
}

/// What a network holds.
#[derive(Default)]
struct Holding {
    connections: usize,
    /// Those that wait for their caller, and since when.
    waiting: BTreeSet<(Duration, ConnectionId)>,
    /// The networks within it, the greediest last.
    within: BTreeSet<(Greed, Network)>,
    /// Somebody found no place in it, and none of its connections has ended for that.
    is_wanted: bool,
}

/// How greedy a network is: whether any connection of it waits, how many it has, and which has waited for longest.
type Greed = (bool, usize, Reverse<Duration>);

impl Holding {
    fn greed(&self) -> Greed {
        let longest = self.waiting.first().map_or(Duration::MAX, |(since, _)| *since);
        (!self.waiting.is_empty(), self.connections, Reverse(longest))
    }
}

impl PlaceTable for Networks {
    type Caller = Vec<Network>;

    fn enter(&mut self, networks: &Vec<Network>, now: Duration) -> Admission {
        let has_waited = |(since, id): &(Duration, ConnectionId)| (*since + PATIENCE <= now).then_some(*id);
        let own = networks.last().and_then(|network| self.networks.get(network));
        let displaced = match own.filter(|own| own.connections >= self.per_network) {
            Some(own) => match own.waiting.first().and_then(has_waited) {
                Some(id) => Some((id, PlaceLoss::OwnLimit)),
                None => {
                    networks.last().into_iter().for_each(|own| self.want(*own, true));
                    return Admission::Refused;
                }
            },
            None if self.connections.len() < self.most => None,
            None => {
                // It counts itself: its network is not to displace one that has as many.
                let id = self.add(networks, None);
                let longest = self.greediest();
                self.leave(id);
                match longest {
                    Some(longest) if has_waited(&longest).is_some() => Some((longest.1, PlaceLoss::Pressure)),
                    longest => {
                        self.want(Network::ALL, true);
                        return Admission::Full(longest.map(|(since, _)| since + PATIENCE));
                    }
                }
            }
        };
        if let Some((id, _)) = displaced {
            self.leave(id);
        }
        self.want(Network::ALL, false);
        Admission::Taken(self.add(networks, Some(now)), displaced)
    }

    /// An answer is small: a client that does not take it is like one that sends nothing.
    fn note(&mut self, id: ConnectionId, activity: Activity) {
        let since = match activity {
            Activity::Waiting(since) | Activity::Writing(since) => Some(since),
            Activity::Answering => None,
        };
        self.wait(id, since);
    }

    fn leave(&mut self, id: ConnectionId) {
        self.wait(id, None);
        if let Some(OpenConnection { networks, .. }) = self.connections.remove(&id) {
            self.change(&networks, |holding| holding.connections -= 1);
        }
    }

    /// Whether a connection that was answered is the one that ends for somebody who found no place: in its network, or
    /// at all. One that is exempt stays.
    fn gives_way(&mut self, id: ConnectionId) -> bool {
        let own = self.connections.get(&id).and_then(|connection| connection.networks.last().copied());
        own.is_some_and(|own| [own, Network::ALL].into_iter().any(|network| self.take_wanted(network)))
    }
}

impl Networks {
    /// `most` places, of which one of the narrowest networks may have `per_network`.
    #[must_use]
    pub fn new(most: usize, per_network: usize) -> Self {
        let (connections, networks, exempt) = (HashMap::new(), HashMap::new(), BTreeSet::new());
        Self { most, per_network, next: 0, connections, networks, exempt }
    }

    /// Whether somebody waits for a place of this network; then it is as good as given.
    fn take_wanted(&mut self, network: Network) -> bool {
        self.networks.get_mut(&network).is_some_and(|holding| std::mem::take(&mut holding.is_wanted))
    }

    /// Says whether somebody waits for a place of this network.
    fn want(&mut self, network: Network, is_wanted: bool) {
        self.networks.entry(network).or_default().is_wanted = is_wanted;
    }

    /// Who is to give way: the one that has waited for longest in the greediest network.
    fn greediest(&self) -> Option<(Duration, ConnectionId)> {
        let mut holding = self.networks.get(&Network::ALL);
        while let Some((_, within)) = holding.and_then(|holding| holding.within.last()) {
            holding = self.networks.get(within);
        }
        holding.and_then(|holding| holding.waiting.first()).or_else(|| self.exempt.first()).copied()
    }

    fn add(&mut self, networks: &[Network], waits_since: Option<Duration>) -> ConnectionId {
        let id = self.next;
        self.next += 1;
        self.change(networks, |holding| holding.connections += 1);
        self.connections.insert(id, OpenConnection { networks: networks.to_vec(), waits_since: None });
        self.wait(id, waits_since);
        id
    }

    /// Since when a connection waits for its caller; `None`: it does not.
    fn wait(&mut self, id: ConnectionId, since: Option<Duration>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let before = std::mem::replace(&mut connection.waits_since, since);
        if before == since {
            return;
        }
        let networks = connection.networks.clone();
        let update = |waiting: &mut BTreeSet<_>| {
            if let Some(before) = before {
                waiting.remove(&(before, id));
            }
            if let Some(since) = since {
                waiting.insert((since, id));
            }
        };
        if networks.is_empty() {
            update(&mut self.exempt);
        }
        self.change(&networks, |holding| update(&mut holding.waiting));
    }

    /// Changes what each of the networks holds, and their order within the next wider one.
    fn change(&mut self, networks: &[Network], change: impl Fn(&mut Holding)) {
        // From the narrowest on, so that what is empty is gone before what held it.
        for (at, network) in networks.iter().enumerate().rev() {
            let wider = at.checked_sub(1).map_or(Network::ALL, |above| networks[above]);
            let holding = self.networks.entry(*network).or_default();
            let before = holding.greed();
            change(holding);
            let (after, is_empty) = (holding.greed(), holding.connections == 0);
            let above = self.networks.entry(wider).or_default();
            above.within.remove(&(before, *network));
            if is_empty {
                self.networks.remove(network);
            } else {
                above.within.insert((after, *network));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(address: &str) -> Vec<Network> {
        Client::new(address.parse().unwrap()).networks().map(|(network, _)| network).collect()
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    impl Networks {
        fn enters(&mut self, address: &str, now: u64) -> Admission {
            self.enter(&networks(address), at(now))
        }

        /// A connection that gets a place; its number, and whose place it takes.
        fn takes(&mut self, address: &str, now: u64) -> (ConnectionId, Option<ConnectionId>) {
            match self.enters(address, now) {
                Admission::Taken(id, displaced) => (id, displaced.map(|(displaced, _)| displaced)),
                other => panic!("{address}: {other:?}"),
            }
        }
    }

    #[test]
    fn one_network_cannot_hold_all_places_and_who_leaves_makes_room() {
        let mut table = Networks::new(100, 2);
        let (first, _) = table.takes("192.0.2.1", 0);
        table.takes("192.0.2.200", 0);
        assert_eq!(table.enters("192.0.2.3", 50), Admission::Refused);
        assert_eq!(table.enters("::ffff:192.0.2.3", 50), Admission::Refused);
        assert_eq!(table.enters("64:ff9b::192.0.2.3", 50), Admission::Refused);
        assert_eq!(table.takes("192.0.3.1", 50).1, None, "others get in");
        table.leave(first);
        table.takes("192.0.2.3", 50);
        assert_eq!(table.enters("192.0.2.3", 50), Admission::Refused);
    }

    #[test]
    fn a_neighbour_of_who_holds_all_of_a_network_gets_the_place_of_the_longest_waiting() {
        let mut table = Networks::new(100, 2);
        let (busy, _) = table.takes("192.0.2.1", 0);
        table.wait(busy, None);
        let (idle, _) = table.takes("192.0.2.1", 10);
        assert_eq!(table.enters("192.0.2.9", 109), Admission::Refused);
        let Admission::Taken(_, displaced) = table.enters("192.0.2.9", 110) else { panic!("it gets in") };
        assert_eq!(displaced, Some((idle, PlaceLoss::OwnLimit)));
    }

    #[test]
    fn where_every_place_is_taken_the_greediest_network_gives_way_and_its_longest_waiting_first() {
        let mut table = Networks::new(5, 4);
        let (honest, _) = table.takes("198.51.100.1", 0);
        let greedy: Vec<ConnectionId> = (1..=4).map(|n| table.takes("192.0.2.1", n).0).collect();
        // Nobody gives way before a moment has passed.
        assert_eq!(table.enters("203.0.113.1", 60), Admission::Full(Some(at(101))));
        let (newcomer, displaced) = table.takes("203.0.113.1", 101);
        assert_eq!(displaced, Some(greedy[0]));
        assert_eq!(table.takes("203.0.114.1", 103).1, Some(greedy[1]));
        // Two /24 of one /16 are as greedy as the /24 with two, and the one that has waited for longest goes.
        assert_eq!(table.takes("198.18.0.1", 104).1, Some(greedy[2]));
        // Now the /16 of both newcomers is the greediest, though neither /24 is.
        assert_eq!(table.takes("198.19.0.1", 300).1, Some(newcomer));
        assert_eq!(table.takes("198.20.0.1", 300).1, Some(honest), "all have one: who waited for longest goes");
    }

    #[test]
    fn for_each_who_finds_no_place_one_that_is_answered_ends_in_its_network_or_at_all_and_none_that_is_exempt() {
        let mut table = Networks::new(4, 2);
        let (first, _) = table.takes("192.0.2.1", 0);
        let (neighbour, _) = table.takes("192.0.2.2", 0);
        let (other, _) = table.takes("198.51.100.1", 0);
        assert_eq!(table.enters("192.0.2.3", 50), Admission::Refused);
        assert!(!table.gives_way(other), "of another network");
        assert!(table.gives_way(neighbour) && !table.gives_way(first), "one is enough");
        let Admission::Taken(exempt, _) = table.enter(&Vec::new(), at(0)) else { panic!("there is room") };
        assert_eq!(table.enters("203.0.113.1", 50), Admission::Full(Some(at(100))));
        assert!(!table.gives_way(exempt));
        assert!(table.gives_way(other) && !table.gives_way(first), "one is enough");
        table.enters("203.0.113.1", 60);
        table.leave(first);
        table.takes("203.0.113.1", 70);
        assert!(!table.gives_way(other), "who waited has a place");
    }

    #[test]
    fn many_networks_with_a_connection_each_are_one_where_a_wider_one_holds_them() {
        for (attacker, honest) in [
            (&(|n: usize| format!("10.7.{n}.1")) as &dyn Fn(usize) -> String, "10.8.0.1"),
            (&|n| format!("2001:db8:0:{n:x}00::1"), "2001:db8:1::1"),
            (&|n| format!("2001:db8:{n:x}::1"), "2001:db9::1"),
            (&|n| format!("2002:0a07:{n:02x}01::1"), "2002:0a08:0001::1"),
        ] {
            let mut table = Networks::new(100, 8);
            let (honest, _) = table.takes(honest, 0);
            for n in 0..99 {
                table.takes(&attacker(n), 1);
            }
            for round in 1..500 {
                let (_, displaced) = table.takes(&attacker(round % 250), 100 * round as u64 + 1);
                assert!(displaced.is_some_and(|id| id != honest));
            }
        }
    }

    #[test]
    fn who_is_being_answered_gives_way_to_nobody_and_who_is_exempt_last() {
        let mut table = Networks::new(3, 8);
        let Admission::Taken(exempt, None) = table.enter(&Vec::new(), at(0)) else { panic!("it gets in") };
        let (answered, _) = table.takes("192.0.2.1", 1);
        let (idle, _) = table.takes("198.51.100.1", 2);
        table.wait(answered, None);
        assert_eq!(table.takes("203.0.113.1", 200).1, Some(idle));
        table.wait(table.next - 1, None);
        assert_eq!(table.takes("203.0.114.1", 200).1, Some(exempt));
        table.wait(table.next - 1, None);
        assert_eq!(table.enters("203.0.115.1", 900), Admission::Full(None));
        table.wait(answered, Some(at(900)));
        assert_eq!(table.enters("203.0.115.1", 950), Admission::Full(Some(at(1000))));
        assert_eq!(table.takes("203.0.115.1", 1000).1, Some(answered));
    }

    #[test]
    fn nothing_is_kept_of_who_has_left() {
        let mut table = Networks::new(100, 8);
        let ids: Vec<ConnectionId> = (0..100).map(|n| table.takes(&format!("10.{}.{n}.1", n % 7), n).0).collect();
        for id in ids {
            table.leave(id);
            table.leave(id);
        }
        assert!(table.connections.is_empty() && table.exempt.is_empty());
        assert_eq!(table.networks.len(), 1);
        assert!(table.networks[&Network::ALL].within.is_empty());
    }
}
