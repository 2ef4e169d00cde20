//! Which flow a copied frame is of, however little of it was kept.

use kswitch_tables::conntrack::Direction;
use kswitch_tables::{Address, Conntrack, Endpoint, Flow, Protocol, murmur3_x64_128};

use crate::dataplane::frame::{ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6};

/// The flow of a frame, Ethernet header first; `None` for what is no IP packet, or a later fragment
/// of one.
pub(super) fn of(frame: &[u8]) -> Option<Flow> {
    let ip = frame.get(ETHERNET_HEADER..)?;
    let word = |at: usize| Some(u16::from_be_bytes(*ip.get(at..)?.first_chunk()?));
    let ethertype = u16::from_be_bytes(*frame.get(12..)?.first_chunk()?);
    let (protocol, source, target, transport) = match ethertype {
        ETHERTYPE_IPV4 => {
            if word(6)? & 0x1fff != 0 {
                return None;
            }
            let address =
                |at: usize| Some(Address::v4(u32::from_be_bytes(*ip.get(at..)?.first_chunk()?)));
            let header = usize::from(ip.first()? & 15) * 4;
            (Protocol(*ip.get(9)?), address(12)?, address(16)?, header)
        }
        ETHERTYPE_IPV6 => {
            let address =
                |at: usize| Some(Address::v6(u128::from_be_bytes(*ip.get(at..)?.first_chunk()?)));
            (Protocol(*ip.get(6)?), address(8)?, address(24)?, 40)
        }
        _ => return None,
    };
    let (from, to) = match protocol {
        ported if ported.has_ports() => (word(transport)?, word(transport + 2)?),
        // an echo's identifier stands in both ends
        Protocol::ICMP | Protocol::ICMPV6 => {
            (word(transport + 4).unwrap_or(0), word(transport + 4).unwrap_or(0))
        }
        _ => (0, 0),
    };
    Some(Flow { protocol, source: Endpoint::new(source, from), target: Endpoint::new(target, to) })
}

/// The flow as its first packet had it; the frame's own where conntrack knows of none.
pub(super) fn original(conntrack: &Conntrack, flow: &Flow) -> Flow {
    let find = |flow: &Flow| conntrack.find(flow, conntrack.hash(flow)).map(|found| found.binding);
    let protocol = flow.protocol;
    if let Some(binding) = find(flow) {
        return match binding.direction() {
            Direction::Original => *flow,
            Direction::Reply => binding.answered_by(protocol),
        };
    }
    // one that goes out is known by the other direction
    let reversed = flow.reversed();
    match find(&reversed) {
        Some(binding) if binding.direction() == Direction::Original => reversed,
        Some(binding) => binding.answered_by(protocol),
        None => *flow,
    }
}

/// Eight digits that all frames of a flow have in common.
pub(super) fn id(original: &Flow) -> String {
    let (hash, _) = murmur3_x64_128(original.to_string().as_bytes(), 0);
    format!("{:08x}", hash & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::VNET_HEADER;
    use crate::sim::craft::Craft;
    use kswitch_tables::MacAddress;

    #[test]
    fn flows_are_read_off_the_first_octets() {
        for (from, to) in [("10.4.0.3", "10.4.1.2"), ("fd00:4::3", "fd00:4::2")] {
            let end = |address: &str, port| {
                Endpoint::new(address.parse::<std::net::IpAddr>().unwrap().into(), port)
            };
            let (source, target) = (end(from, 40_000), end(to, 80));
            let frame = Craft::syn(source, target).frame(MacAddress([2; 6]), MacAddress([4; 6]));
            let frame = &frame[VNET_HEADER..];
            let expected = Flow { protocol: Protocol::TCP, source, target };
            assert_eq!(of(frame), Some(expected));
            assert_eq!(of(&frame[..60.min(frame.len())]), Some(expected));
            assert_eq!(of(&frame[..20]), None);
        }
    }
}
