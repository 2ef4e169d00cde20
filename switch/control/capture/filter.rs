//! pcap's filter language, without its library.
//!
//! There is: `host`, `net`, `port` and `portrange`, each with `src`, `dst`, `src or dst`, `src and
//! dst` before it if wanted; `proto`; `ether host`, `ether src`, `ether dst`, `ether proto`;
//! `broadcast`, `multicast`; `tcp`, `udp`, `sctp`, `icmp`, `icmp6`, `arp`, `ip`, `ip6`, alone or
//! before one of those; `less`, `greater`, `len`; arithmetic on octets, as `tcp[tcpflags] & tcp-syn
//! != 0`; `and`, `or`, `not` (`&&`, `||`, `!`), which bind alike but for `not`, parentheses, and what
//! follows `and` and `or` without a qualifier, as in `port 80 or 443`. There is not: what is of
//! other links than Ethernet (`vlan`, `mpls`, `wlan`), `gateway`, and names of hosts.
//!
//! What is beside pcap's own: octets of `tcp`, `udp` and `sctp` are those of IPv6 packets too.
//!
//! Source: pcap-filter(7).

mod octets;
mod parse;

use std::net::IpAddr;

use ipnet::IpNet;
use kswitch_tables::{MacAddress, Protocol};

use crate::dataplane::frame::{ETHERNET_HEADER, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
pub use octets::{Miss, Octets, Relation};

/// What must hold for a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// It is of this kind of Ethernet frame.
    Ethertype(u16),
    /// It is of this protocol above IP.
    Protocol(Protocol),
    /// An address of it lies here.
    Net(Side, IpNet),
    /// A port of it lies between these, both included.
    Ports(Side, u16, u16),
    /// An Ethernet address of it is this.
    Mac(Side, MacAddress),
    /// It is for several machines.
    Multicast,
    /// Two numbers stand in this relation.
    Compare(Octets, Relation, Octets),
    /// Either holds.
    Or(Box<Filter>, Box<Filter>),
    /// Both hold.
    And(Box<Filter>, Box<Filter>),
    /// This does not hold.
    Not(Box<Filter>),
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one it is from.
    Source,
    /// The one it is for.
    Target,
    /// Any.
    Either,
    /// Each of them.
    Both,
}

impl Side {
    /// Whether it holds for the ends that are meant.
    fn holds<T>(self, source: T, target: T, holds: impl Fn(T) -> bool) -> bool {
        match self {
            Self::Source => holds(source),
            Self::Target => holds(target),
            Self::Either => holds(source) || holds(target),
            Self::Both => holds(source) && holds(target),
        }
    }
}

impl Filter {
    /// Reads an expression.
    ///
    /// # Errors
    /// The word that was not expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::filter(text)
    }

    /// Whether it takes a frame, Ethernet header first.
    pub fn takes(&self, frame: &[u8]) -> bool {
        // octets that the frame does not have make an end of it, whatever else holds
        self.judge(frame, &Layers::of(frame)) == Ok(true)
    }

    fn judge(&self, frame: &[u8], layers: &Layers) -> Result<bool, Miss> {
        Ok(match self {
            Self::Ethertype(wanted) => layers.ethertype == Some(*wanted),
            Self::Protocol(wanted) => layers.protocol == Some(*wanted),
            Self::Net(side, net) => layers.addresses.is_some_and(|(source, target)| {
                side.holds(source, target, |address| net.contains(&address))
            }),
            Self::Ports(side, first, last) => ports(frame, layers).is_some_and(|(from, to)| {
                side.holds(from, to, |port| (*first..=*last).contains(&port))
            }),
            Self::Mac(side, wanted) => {
                let at = |start: usize| Some(MacAddress(*frame.get(start..)?.first_chunk()?));
                let macs = at(6).zip(at(0));
                macs.is_some_and(|(from, to)| side.holds(from, to, |mac| mac == *wanted))
            }
            Self::Multicast => frame.first().is_some_and(|octet| octet & 1 != 0),
            Self::Compare(one, relation, other) => {
                match (one.value(frame, layers), other.value(frame, layers)) {
                    (Err(Miss::Beyond), _) | (_, Err(Miss::Beyond)) => return Err(Miss::Beyond),
                    (Ok(one), Ok(other)) => relation.holds(one, other),
                    _ => false,
                }
            }
            Self::Or(one, other) => one.judge(frame, layers)? || other.judge(frame, layers)?,
            Self::And(one, other) => one.judge(frame, layers)? && other.judge(frame, layers)?,
            Self::Not(inner) => !inner.judge(frame, layers)?,
        })
    }
}

/// Where in a frame what is.
#[derive(Clone, Copy, Debug, Default)]
struct Layers {
    ethertype: Option<u16>,
    /// Above IP.
    protocol: Option<Protocol>,
    /// Source and target, of ARP too.
    addresses: Option<(IpAddr, IpAddr)>,
    /// Where the transport header begins; `None` in a later fragment.
    transport: Option<usize>,
}

impl Layers {
    fn of(frame: &[u8]) -> Self {
        let word = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
        let v4 =
            |at: usize| Some(IpAddr::from(*frame.get(ETHERNET_HEADER + at..)?.first_chunk::<4>()?));
        let v6 = |at: usize| {
            Some(IpAddr::from(*frame.get(ETHERNET_HEADER + at..)?.first_chunk::<16>()?))
        };
        let octet = |at: usize| frame.get(ETHERNET_HEADER + at).copied();
        let ethertype = word(12);
        let bare = Self { ethertype, ..Self::default() };
        match ethertype {
            Some(ETHERTYPE_IPV4) => {
                let is_first = word(ETHERNET_HEADER + 6).is_some_and(|word| word << 3 == 0);
                let header = octet(0).map(|octet| usize::from(octet & 15) * 4);
                Self {
                    protocol: octet(9).map(Protocol),
                    addresses: v4(12).zip(v4(16)),
                    transport: header.filter(|_| is_first).map(|header| ETHERNET_HEADER + header),
                    ..bare
                }
            }
            Some(ETHERTYPE_IPV6) => Self {
                protocol: octet(6).map(Protocol),
                addresses: v6(8).zip(v6(24)),
                transport: Some(ETHERNET_HEADER + 40),
                ..bare
            },
            Some(ETHERTYPE_ARP) => Self { addresses: v4(14).zip(v4(24)), ..bare },
            _ => bare,
        }
    }
}

fn ports(frame: &[u8], layers: &Layers) -> Option<(u16, u16)> {
    let at = layers.protocol.filter(|it| it.has_ports()).and(layers.transport)?;
    let word = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
    word(at).zip(word(at + 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::VNET_HEADER;
    use crate::sim::craft::Craft;
    use kswitch_tables::Endpoint;

    fn end(address: &str, port: u16) -> Endpoint {
        Endpoint::new(address.parse::<IpAddr>().unwrap().into(), port)
    }

    fn frame(packet: &Craft) -> Vec<u8> {
        packet.frame(MacAddress([2; 6]), MacAddress([4; 6]))[VNET_HEADER..].to_vec()
    }

    #[test]
    fn expressions_take_what_they_say() {
        let frame = frame(&Craft::syn(end("10.4.0.3", 40_000), end("10.8.0.80", 80)));
        for (text, takes) in [
            ("tcp", true),
            ("udp", false),
            ("ip", true),
            ("ip6 or arp", false),
            ("port 80", true),
            ("port http", true),
            ("tcp port 80", true),
            ("udp port 80", false),
            ("src port 80", false),
            ("dst port 80", true),
            ("src or dst port 80", true),
            ("src and dst port 80", false),
            ("tcp dst portrange 79-81", true),
            ("host 10.4.0.3", true),
            ("10.4.0.3", true),
            ("dst host 10.4.0.3", false),
            ("dst 10.8.0.80", true),
            ("ip host 10.4.0.3", true),
            ("src net 10.4.0.0/14 and not port 443", true),
            ("net 10.4", true),
            ("net 10.5", false),
            ("net 10.4.0.0 mask 255.252.0.0", true),
            ("!(host 10.4.0.3 || udp)", false),
            ("udp or tcp and port 443", false),
            ("tcp or udp and port 443", false),
            ("tcp or (udp and port 443)", true),
            ("(udp or tcp) and port 80", true),
            ("port 443 or 80", true),
            ("host 10.9.9.9 or 10.4.0.3", true),
            ("tcp port 443 or 8080", false),
            ("greater 1000", false),
            ("less 1000", true),
            ("len <= 60", true),
            ("len > 60", false),
            ("ip proto 6", true),
            ("ip proto \\tcp", true),
            ("ip6 proto 6", false),
            ("proto 17", false),
            ("ether proto 0x800", true),
            ("ether src 02:02:02:02:02:02", true),
            ("ether host 04:04:04:04:04:04", true),
            ("ether dst 02:02:02:02:02:02", false),
            ("broadcast or multicast", false),
            ("tcp[13] & 2 != 0", true),
            ("tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", true),
            ("tcp[tcpflags] & (tcp-syn | tcp-ack) = tcp-syn|tcp-ack", false),
            ("(tcp[13] & 2) != 0 and port 80", true),
            ("tcp[2:2] = 80", true),
            ("ip[8] < 65", true),
            ("ip[0] & 0xf = 5", true),
            ("ip[12:4] = 0x0a040003", true),
            ("ether[12:2] == 2048", true),
            ("tcp[(tcp[12] >> 4) * 4 - 7] = tcp[13]", true),
            ("udp[0] = 0", false),
            ("not udp[0] = 0", true),
            ("not tcp[1000] = 0", false),
            ("2 + 3 * 4 = 14", true),
            ("icmp[icmptype] = icmp-echo", false),
        ] {
            assert_eq!(Filter::parse(text).map(|filter| filter.takes(&frame)), Ok(takes), "{text}");
        }
        for (text, said) in [
            ("", "expected a condition at the end"),
            ("host web", "\"web\" is no address"),
            ("port x", "\"x\" is no port"),
            ("(tcp", "expected )"),
            ("tcp udp", "did not expect \"udp\""),
            ("vlan 3", "does not know \"vlan\""),
            ("tcp[13", "expected ]"),
            ("tcp[13:3] = 1", "1, 2 or 4 octets are a number, not 3"),
            ("ip[", "expected a number at the end"),
            ("1 / 0 = 1", "division by zero"),
        ] {
            assert_eq!(Filter::parse(text).unwrap_err(), said, "{text}");
        }
        let deep = "(".repeat(10_000);
        assert_eq!(Filter::parse(&deep).unwrap_err(), "too many brackets");
    }

    #[test]
    fn other_packets_are_read_too() {
        let six = frame(&Craft::udp(end("fd00:4::3", 5353), end("fd00:8::50", 53), b"x"));
        for (text, takes) in [
            ("ip6", true),
            ("udp port domain", true),
            ("host fd00:4::3", true),
            ("src net fd00:4::/32 and udp", true),
            ("udp[0:2] = 5353", true),
            ("ip6[6] = 17", true),
            ("ip[6] = 17", false),
            ("ip6 multicast", false),
        ] {
            assert_eq!(Filter::parse(text).map(|filter| filter.takes(&six)), Ok(takes), "{text}");
        }
        let mut arp = vec![0xff; 6];
        arp.extend([2, 2, 2, 2, 2, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 2, 2, 2, 2, 2]);
        arp.extend([10, 4, 0, 3, 0, 0, 0, 0, 0, 0, 10, 4, 0, 1]);
        for (text, takes) in [
            ("arp", true),
            ("host 10.4.0.1", true),
            ("src host 10.4.0.1", false),
            ("arp host 10.4.0.3", true),
            ("ip host 10.4.0.3", false),
            ("ether broadcast", true),
            ("broadcast", true),
            ("arp[6:2] = 1", true),
        ] {
            assert_eq!(Filter::parse(text).map(|filter| filter.takes(&arp)), Ok(takes), "{text}");
        }
    }
}
