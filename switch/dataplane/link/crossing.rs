//! Over which links a frame goes on its way out.

use kswitch_tables::{Address, PortId, RouterId, Topology};

use super::{Lane, Links};
use crate::dataplane::frame::{ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::port::VNET_HEADER;

/// Links on the way of one frame at most: there and back between three routers, and the last.
pub(in crate::dataplane) const LANES_MAX: usize = 9;

/// Source and target of the IP packet in a buffer, virtio header first.
pub(in crate::dataplane) fn addresses(buffer: &[u8]) -> Option<(Address, Address)> {
    let frame = buffer.get(VNET_HEADER..)?;
    let ethertype = u16::from_be_bytes(*frame.get(12..)?.first_chunk()?);
    let packet = frame.get(ETHERNET_HEADER..)?;
    match ethertype {
        ETHERTYPE_IPV4 => {
            let at = |start: usize| Some(v4(*packet.get(start..)?.first_chunk()?));
            Some((at(12)?, at(16)?))
        }
        ETHERTYPE_IPV6 => {
            let at = |start: usize| Some(v6(*packet.get(start..)?.first_chunk()?));
            Some((at(8)?, at(24)?))
        }
        _ => None,
    }
}

fn v4(octets: [u8; 4]) -> Address {
    std::net::IpAddr::from(octets).into()
}

fn v6(octets: [u8; 16]) -> Address {
    std::net::IpAddr::from(octets).into()
}

/// The router that speaks by this address, or has the machine behind it.
fn router_of(topology: &Topology, address: Address) -> Option<RouterId> {
    if let Some(attachment) = topology.hosts.get(&address) {
        return Some(attachment.router);
    }
    let speaks = |gateways: &[kswitch_tables::Gateway]| {
        gateways.iter().any(|gateway| gateway.address == address && !address.is_link_local())
    };
    let segment = topology.segments.iter().find(|segment| speaks(&segment.gateways));
    let number = topology
        .routers
        .iter()
        .position(|router| router.addresses.contains(&address) || speaks(&router.link_gateways));
    let routed = || number.and_then(|number| u16::try_from(number).ok()).map(RouterId);
    segment.map(|segment| segment.router).or_else(routed)
}

/// The links that a frame crosses which came in at one port, asked for `asked`, and goes out at
/// another as it is in `buffer`.
///
/// Between routers that is: from that of the sender to the node whose own address was asked for or
/// which speaks for the sender, and on to that of the receiver. What a router far away answers has
/// gone there and comes back.
pub(in crate::dataplane) fn lanes<'l>(
    links: &'l Links,
    topology: &Topology,
    (ingress, egress): (PortId, PortId),
    asked: Option<Address>,
    buffer: &[u8],
) -> ([Option<&'l Lane>; LANES_MAX], usize) {
    let mut found = [None; LANES_MAX];
    let mut count = 0;
    let mut add = |lane: Option<&'l Lane>| {
        if let (Some(lane), Some(room)) = (lane, found.get_mut(count)) {
            *room = Some(lane);
            count += 1;
        }
    };
    let router = |port: PortId| topology.port(port).map(|port| port.router);
    if let (Some(first), Some(last)) = (router(ingress), router(egress)) {
        let home = |address: Address| topology.hosts.get(&address).map(|host| host.router);
        let source = addresses(buffer).map(|(source, _)| source);
        let via = if ingress == egress {
            source.and_then(|source| router_of(topology, source))
        } else {
            let asked = asked.and_then(home).filter(|router| *router != last);
            asked.or_else(|| source.and_then(home))
        };
        let via = via.unwrap_or(first);
        links.between(first, via).into_iter().for_each(&mut add);
        links.between(via, last).into_iter().for_each(&mut add);
    }
    add(links.to_port(egress));
    (found, count)
}
