//! Where a request comes from, and the networks that it belongs to. Nothing here can be shown.
//!
//! ```
//! fn taken<T>() {}
//! taken::<pulse_telemetry_collector::network::Client>();
//! ```
//! ```compile_fail,E0277
//! fn shown<T: std::fmt::Debug>() {}
//! shown::<pulse_telemetry_collector::network::Client>();
//! ```
//! ```compile_fail,E0277
//! fn printed<T: std::fmt::Display>() {}
//! printed::<pulse_telemetry_collector::network::Client>();
//! ```
//! ```compile_fail,E0277
//! fn serialized<T: serde::Serialize>() {}
//! serialized::<pulse_telemetry_collector::network::Client>();
//! ```
//! ```compile_fail,E0277
//! fn shown<T: std::fmt::Debug>() {}
//! shown::<pulse_telemetry_collector::network::Network>();
//! ```
//! ```compile_fail,E0277
//! fn serialized<T: serde::Serialize>() {}
//! serialized::<pulse_telemetry_collector::network::Network>();
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::header::HeaderValue;
use ipnet::IpNet;

/// How wide a network is, and how many times what the narrowest one may have it may have.
#[derive(Clone, Copy)]
pub struct Width {
    bits: u8,
    /// 1, 16 or 256.
    pub times: u32,
}

/// The networks of an address, the widest first. A /24 and a /56 are what one household or one rented machine has at
/// most; a /16 and a /48 are what one provider's customer rents, and a /32 is what a provider gets.
const WIDTHS_V4: &[Width] = &[Width { bits: 16, times: 16 }, Width { bits: 24, times: 1 }];
const WIDTHS_V6: &[Width] =
    &[Width { bits: 32, times: 256 }, Width { bits: 48, times: 16 }, Width { bits: 56, times: 1 }];

/// How many times what the narrowest network may have the widest may have.
pub const TIMES_MAX: u32 = 256;

/// Where a request comes from. It can be limited, and nothing else: not shown, logged, serialized, compared or copied.
pub struct Client(IpAddr);

/// A network that a client belongs to. It is kept for no longer than the client's connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    bits: u8,
    octets: [u8; 16],
}

/// What does not fit between a peer and its `X-Forwarded-For`, so that strangers may share one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyMismatch {
    /// The header came from a peer that is not trusted.
    Untrusted,
    /// A trusted proxy named no client.
    Missing,
}

impl Client {
    /// The other end of a connection.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }

    /// The networks that it belongs to, the widest first.
    pub fn networks(&self) -> impl Iterator<Item = (Network, Width)> + use<> {
        let (octets, widths) = match carried(self.0) {
            IpAddr::V4(address) => (address.to_ipv6_mapped().octets(), WIDTHS_V4),
            IpAddr::V6(address) => (address.octets(), WIDTHS_V6),
        };
        let before = if widths.len() == WIDTHS_V4.len() { 96 } else { 0 };
        widths.iter().map(move |width| (Network::new(octets, before + width.bits), *width))
    }

    /// Whether it is one of these.
    #[must_use]
    pub fn is_in(&self, networks: &[IpNet]) -> bool {
        networks.iter().any(|network| network.contains(&self.0))
    }

    /// The client behind the proxies that are trusted: the first address from the right that is not one of theirs.
    pub fn behind<'a>(
        &self,
        trusted: &[IpNet],
        forwarded: impl DoubleEndedIterator<Item = &'a HeaderValue>,
    ) -> (Self, Option<ProxyMismatch>) {
        let (mut client, mut is_forwarded) = (Self(self.0), false);
        let texts = forwarded.rev().map(|value| value.to_str().unwrap_or("not an address"));
        for entry in texts.flat_map(|text| text.rsplit(',')) {
            is_forwarded = true;
            if !client.is_in(trusted) {
                break;
            }
            // What is no address was not written by a proxy of ours; what is left of it is not believed either.
            let Some(address) = address(entry.trim()) else { break };
            client = Self::new(address);
        }
        let mismatch = match () {
            () if client.is_in(trusted) => Some(ProxyMismatch::Missing),
            () if is_forwarded && !self.is_in(trusted) => Some(ProxyMismatch::Untrusted),
            () => None,
        };
        (client, mismatch)
    }
}

impl Network {
    /// The network that holds every other one.
    pub(super) const ALL: Self = Self { bits: 0, octets: [0; 16] };

    fn new(mut octets: [u8; 16], bits: u8) -> Self {
        octets[usize::from(bits / 8)..].fill(0);
        Self { bits, octets }
    }

    /// All that tells it from others.
    pub(super) fn bytes(&self) -> [u8; 17] {
        let mut bytes = [self.bits; 17];
        bytes[1..].copy_from_slice(&self.octets);
        bytes
    }
}

/// The IPv4 address that an IPv6 one carries, in any of the ways in which that is written down, so that nobody has a
/// second network by coming another way; any other as it is. Whom it trusts, the collector does not decide by this:
/// 6to4 and Teredo say where somebody claims to be.
fn carried(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address.to_canonical() else { return address.to_canonical() };
    let [s0, s1, s2, s3, s4, s5, s6, s7] = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match [s0, s1, s2, s3, s4, s5] {
        // Compatible (::192.0.2.1), but neither :: nor ::1.
        [0, 0, 0, 0, 0, 0] if s6 != 0 => v4(s6, s7),
        // Translated (::ffff:0:192.0.2.1), and NAT64 (64:ff9b::192.0.2.1).
        [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(s6, s7),
        // 6to4.
        [0x2002, high, low, ..] => v4(high, low),
        // Teredo: the client's address, with each bit turned.
        [0x2001, 0, ..] => v4(!s6, !s7),
        _ => IpAddr::V6(Ipv6Addr::from(v6.octets())),
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

    fn client(text: &str) -> Client {
        Client::new(text.parse().unwrap())
    }

    /// How many of their networks two addresses share.
    fn shared(one: &str, other: &str) -> usize {
        client(one).networks().zip(client(other).networks()).filter(|((one, _), (other, _))| one == other).count()
    }

    #[test]
    fn networks_are_nested() {
        for (one, other, expected) in [
            ("192.0.2.1", "192.0.2.254", 2),
            ("192.0.2.1", "192.0.3.1", 1),
            ("192.0.2.1", "192.1.2.1", 0),
            ("2001:db8:0:100::1", "2001:db8:0:1ff::1", 3),
            ("2001:db8:0:100::1", "2001:db8:0:200::1", 2),
            ("2001:db8:0:100::1", "2001:db8:1:100::1", 1),
            ("2001:db8:0:100::1", "2001:db9:0:100::1", 0),
            ("::", "::1", 3),
            // An IPv6 network whose first bytes are those of an IPv4 one.
            ("c000:200::", "192.0.2.0", 0),
        ] {
            assert_eq!(shared(one, other), expected, "{one} {other}");
        }
        let times = |text: &str| client(text).networks().map(|(_, width)| width.times).collect::<Vec<_>>();
        assert_eq!(times("192.0.2.1"), [16, 1]);
        assert_eq!(times("2001:db8::1"), [256, 16, 1]);
    }

    #[test]
    fn an_address_is_of_one_network_in_whatever_form_it_arrives() {
        for form in [
            "::ffff:192.0.2.9",
            "::192.0.2.9",
            "::ffff:0:192.0.2.9",
            "64:ff9b::192.0.2.9",
            "2002:c000:209::1",
            "2001:0:5ef5:79fd:0:59d:3fff:fdf6",
        ] {
            assert_eq!(shared(form, "192.0.2.1"), 2, "{form}");
            assert_eq!(shared(form, "192.0.3.1"), 1, "{form}");
        }
    }

    #[test]
    fn nobody_is_a_trusted_proxy_by_an_address_that_only_carries_the_proxys() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        assert!(client("10.0.0.5").is_in(&trusted) && client("::ffff:10.0.0.5").is_in(&trusted));
        for form in ["2002:a00:5::1", "64:ff9b::10.0.0.5", "::10.0.0.5", "2001:0:5ef5:79fd:0:59d:f5ff:fffa"] {
            assert!(!client(form).is_in(&trusted), "{form}");
        }
    }

    #[test]
    fn x_forwarded_for_is_believed_from_configured_proxies_only_and_read_from_the_right() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for (peer, forwarded, expected, mismatch) in [
            ("192.0.2.1", &[][..], "192.0.2.1", None),
            // From a stranger it is worth nothing.
            ("198.51.100.1", &["192.0.2.1"], "198.51.100.1", Some(ProxyMismatch::Untrusted)),
            ("198.51.100.1", &["nonsense"], "198.51.100.1", Some(ProxyMismatch::Untrusted)),
            ("10.0.0.5", &["192.0.2.1"], "192.0.2.1", None),
            ("::ffff:10.0.0.5", &["::ffff:192.0.2.1"], "192.0.2.1", None),
            // What the client itself wrote stands further left.
            ("10.0.0.5", &["203.0.113.7, 192.0.2.1"], "192.0.2.1", None),
            ("10.0.0.5", &["203.0.113.7", "192.0.2.1"], "192.0.2.1", None),
            // Through two proxies.
            ("10.0.0.5", &["192.0.2.1, fd00::7"], "192.0.2.1", None),
            ("10.0.0.5", &["192.0.2.1:4711, [fd00::7]:80"], "192.0.2.1", None),
            // What is no address ends the reading.
            ("10.0.0.5", &["192.0.2.1, unknown"], "10.0.0.5", Some(ProxyMismatch::Missing)),
            ("10.0.0.5", &["10.0.0.6"], "10.0.0.6", Some(ProxyMismatch::Missing)),
            ("10.0.0.5", &[], "10.0.0.5", Some(ProxyMismatch::Missing)),
        ] {
            let values: Vec<HeaderValue> = forwarded.iter().map(|text| HeaderValue::from_str(text).unwrap()).collect();
            let (found, said) = client(peer).behind(&trusted, values.iter());
            assert!(found.0 == client(expected).0, "{peer} {forwarded:?}");
            assert_eq!(said, mismatch, "{peer} {forwarded:?}");
        }
    }
}
