//! What floods are made of.

use kswitch::port::VNET_HEADER;
use kswitch::sim::craft::{Craft, ethernet};
use kswitch::sim::{fragment, icmp};
use kswitch_tables::{Address, Endpoint, MacAddress};

/// Frames of a flood before it repeats: so many tuples that no table has forgotten the first.
pub const FRAMES: u64 = 1 << 17;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
/// An Ethernet protocol of no machine: IEEE 802's local experiments.
const EXPERIMENT: u16 = 0x88b5;

/// A kind of flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SYNs from ever other ports that nobody answers.
    Syn,
    /// Datagrams over random ports and addresses.
    Udp,
    /// Echo requests under random identifiers; each fourth to the router itself.
    Icmp,
    /// Questions to all of the link for addresses that nobody has.
    Arp,
    /// The same in IPv6.
    Ndp,
    /// Frames from random Ethernet addresses to random ones.
    Mac,
    /// Fragments of datagrams that never become whole: each second one a first, the others later.
    Fragments,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Syn, Self::Udp, Self::Icmp, Self::Arp, Self::Ndp, Self::Mac, Self::Fragments];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syn => "SYN flood",
            Self::Udp => "UDP spray",
            Self::Icmp => "ICMP storm",
            Self::Arp => "ARP storm",
            Self::Ndp => "NDP storm",
            Self::Mac => "MAC flooding",
            Self::Fragments => "fragment flood",
        }
    }
}

/// Who floods, and what.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The flooding machine's Ethernet address.
    pub mac: MacAddress,
    /// Its router's.
    pub router_mac: MacAddress,
    /// Its IPv4 and IPv6 address.
    pub own: [Address; 2],
    /// Its router's IPv4 address.
    pub router: Address,
    /// The flooded machine's IPv4 address.
    pub target: Address,
}

/// A number that looks like chance.
///
/// Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" (SplitMix64).
const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[expect(clippy::cast_possible_truncation, reason = "parts of a random word")]
fn mac(random: u64) -> MacAddress {
    MacAddress([
        2,
        0x66,
        (random >> 24) as u8,
        (random >> 16) as u8,
        (random >> 8) as u8,
        random as u8,
    ])
}

impl Ends {
    /// The frames of a flood, without virtio headers.
    pub fn frames(&self, kind: Kind, count: u64) -> Vec<Vec<u8>> {
        let whole = (0..count).map(|number| self.frame(kind, number));
        whole.map(|frame| frame.get(VNET_HEADER..).unwrap_or(&[]).to_vec()).collect()
    }

    #[expect(clippy::cast_possible_truncation, reason = "parts of a random word")]
    fn frame(&self, kind: Kind, number: u64) -> Vec<u8> {
        let random = mix(number);
        let [own, own_v6] = self.own;
        let (ports, low) =
            ((random as u16 | 1024, (random >> 16) as u16 | 1), (random >> 32) as u32);
        let from = Endpoint::new(own, ports.0);
        let send = |packet: Craft| packet.frame(self.mac, self.router_mac);
        match kind {
            Kind::Syn => send(Craft::syn(from, Endpoint::new(self.target, ports.1))),
            Kind::Udp => {
                // each eighth to an address that mostly nobody has
                let stray = Address::v4(self.target.low32() & 0xffff_0000 | low & 0xffff);
                let to = if number.is_multiple_of(8) { stray } else { self.target };
                send(Craft::udp(from, Endpoint::new(to, ports.1), b"flood"))
            }
            Kind::Icmp => {
                let to = if number.is_multiple_of(4) { self.router } else { self.target };
                send(Craft::ping(from, Endpoint::new(to, 0), ports.1))
            }
            Kind::Arp => {
                let asked = self.router.low32() & 0xffff_ff00 | low & 0xff;
                let mut question = vec![0, 1, 8, 0, 6, 4, 0, 1];
                question.extend(self.mac.0);
                question.extend(own.low32().to_be_bytes());
                question.extend([0; 6]);
                question.extend(asked.to_be_bytes());
                ethernet(self.mac, MacAddress::BROADCAST, ARP, &question)
            }
            Kind::Ndp => {
                let asked = Address::v6(own_v6.bits() & !0xffff_ffff | u128::from(low));
                let group =
                    Address::v6(0xff02 << 112 | 1 << 32 | 0xff << 24 | u128::from(low & 0xff_ffff));
                let mut rest = asked.bits().to_be_bytes().to_vec();
                rest.extend([1, 1]);
                rest.extend(self.mac.0);
                let [a, b, c, d] = (0xff00_0000 | low & 0xff_ffff).to_be_bytes();
                let to = MacAddress([0x33, 0x33, a, b, c, d]);
                icmp::message(own_v6, group, (135, 0), [0; 4], &rest).ttl(255).frame(self.mac, to)
            }
            Kind::Mac => ethernet(mac(random), mac(random >> 32), EXPERIMENT, b"who am I?"),
            Kind::Fragments => {
                let packet = Craft::udp(from, Endpoint::new(self.target, 9), &[0x5a; 64]).packet();
                let pieces = fragment::cut(&packet, 40, number as u32);
                let at = usize::from(number.is_multiple_of(2));
                let piece = pieces.into_iter().nth(at).unwrap_or_default();
                ethernet(self.mac, self.router_mac, IPV4, &piece)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_flood_has_other_frames_each_time_and_all_of_them_parse() {
        let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
        let ends = Ends {
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            router_mac: MacAddress([2, 0, 0, 0, 0, 2]),
            own: [address("10.4.0.3"), address("fd00:4::3")],
            router: address("10.4.0.1"),
            target: address("10.4.1.3"),
        };
        for kind in Kind::ALL {
            let frames = ends.frames(kind, 1000);
            let others = frames.iter().collect::<HashSet<_>>().len();
            // there are but 256 addresses to ask a small link for
            let least = if kind == Kind::Arp { 200 } else { 990 };
            assert!(others > least, "{}: {others}", kind.name());
            for frame in frames {
                let mut buffer = vec![0; VNET_HEADER];
                buffer.extend(frame);
                assert!(kswitch::dataplane::Frame::new(&mut buffer).parse().is_ok(), "{kind:?}");
            }
        }
    }
}
