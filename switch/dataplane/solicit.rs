//! What routers say of Ethernet addresses unasked: questions for neighbours, probes for their own
//! addresses before they use them, announcements once they do.
//!
//! Source: RFC 826; RFC 4861 §7.2; RFC 4862 §5.4; RFC 5227 §2.

use std::net::{Ipv4Addr, Ipv6Addr};

use kswitch_tables::{Address, MacAddress, Protocol, Segment};
use smoltcp::wire::{
    ArpOperation, ArpRepr, EthernetAddress, Icmpv6Packet, Icmpv6Repr, NdiscNeighborFlags,
    NdiscRepr, RawHardwareAddress,
};

use super::icmp::{Envelope, Message};

/// All nodes of a link. Source: RFC 4291 §2.7.1.
const ALL_NODES: Address = Address::v6(0xff02_0000_0000_0000_0000_0000_0000_0001);

/// An advertisement: of what, and to whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Advertisement {
    /// The address advertised.
    pub(super) target: Address,
    /// The Ethernet address that has it.
    pub(super) mac: MacAddress,
    /// To whom; `None`: to all nodes.
    pub(super) to: Option<(Address, MacAddress)>,
    /// Whether it is a router's.
    pub(super) is_router: bool,
}

impl Message {
    /// The question who has `target`, as the router of the bridge asks it: everybody, or the one
    /// who had it. `None` where the router has no address on the link of `target`.
    pub fn question(
        &mut self,
        segment: &Segment,
        target: Address,
        asked: Option<MacAddress>,
    ) -> Option<&[u8]> {
        let own = segment.gateways.iter().find(|gateway| gateway.on_link.contains(target))?;
        let Segment { router_mac, .. } = *segment;
        if target.is_v4() {
            let (sender, target) = (own.address, target);
            return Some(self.arp_request(router_mac, sender, target, asked));
        }
        let (to, mac) = match asked {
            Some(mac) => (target, mac),
            None => solicited_node(target),
        };
        let solicit = NdiscRepr::NeighborSolicit {
            target_addr: v6(target),
            lladdr: Some(RawHardwareAddress::from(EthernetAddress(router_mac.0))),
        };
        Some(self.discovery((router_mac, own.address), (mac, to), solicit))
    }

    /// The question whether anybody uses `address`, by who is about to use it.
    ///
    /// Source: RFC 5227 §2.1.1; RFC 4862 §5.4.2.
    pub fn probe(&mut self, mac: MacAddress, address: Address) -> &[u8] {
        if address.is_v4() {
            return self.arp_request(mac, Address::UNSPECIFIED_V4, address, None);
        }
        let solicit = NdiscRepr::NeighborSolicit { target_addr: v6(address), lladdr: None };
        let (group, group_mac) = solicited_node(address);
        self.discovery((mac, Address::UNSPECIFIED_V6), (group_mac, group), solicit)
    }

    /// The announcement that `mac` has `address`, to all of a link.
    ///
    /// Source: RFC 5227 §2.3; RFC 4861 §7.2.6.
    pub fn announcement(&mut self, mac: MacAddress, address: Address, is_router: bool) -> &[u8] {
        if address.is_v4() {
            return self.arp_request(mac, address, address, None);
        }
        self.advertisement(&Advertisement { target: address, mac, to: None, is_router })
    }

    /// A neighbour advertisement.
    pub(super) fn advertisement(&mut self, what: &Advertisement) -> &[u8] {
        let Advertisement { target, mac, to, is_router } = *what;
        let mut flags = NdiscNeighborFlags::OVERRIDE;
        flags.set(NdiscNeighborFlags::ROUTER, is_router);
        flags.set(NdiscNeighborFlags::SOLICITED, to.is_some());
        let advert = NdiscRepr::NeighborAdvert {
            flags,
            target_addr: v6(target),
            lladdr: Some(RawHardwareAddress::from(EthernetAddress(mac.0))),
        };
        let (to, to_mac) = to.unwrap_or((ALL_NODES, group_mac(ALL_NODES)));
        self.discovery((mac, target), (to_mac, to), advert)
    }

    fn arp_request(
        &mut self,
        mac: MacAddress,
        sender: Address,
        target: Address,
        asked: Option<MacAddress>,
    ) -> &[u8] {
        let request = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(mac.0),
            source_protocol_addr: v4(sender),
            target_hardware_addr: EthernetAddress::default(),
            target_protocol_addr: v4(target),
        };
        self.arp(&request, asked.unwrap_or(MacAddress::BROADCAST), mac)
    }

    fn discovery(
        &mut self,
        (source_mac, source): (MacAddress, Address),
        (target_mac, target): (MacAddress, Address),
        repr: NdiscRepr<'_>,
    ) -> &[u8] {
        let envelope = Envelope { source_mac, target_mac, source, target };
        let repr = Icmpv6Repr::Ndisc(repr);
        let room = self.start(&envelope, Protocol::ICMPV6, repr.buffer_len());
        repr.emit(
            &v6(source),
            &v6(target),
            &mut Icmpv6Packet::new_unchecked(room),
            &smoltcp::phy::ChecksumCapabilities::default(),
        );
        self.set_hop_limit(255);
        self.buffer()
    }
}

/// The group in which a machine hears questions for its address. Source: RFC 4291 §2.7.1.
const fn solicited_node(address: Address) -> (Address, MacAddress) {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    let group = Address::v6(PREFIX | address.bits() & 0xff_ffff);
    (group, group_mac(group))
}

/// The Ethernet address of a group. Source: RFC 2464 §7.
const fn group_mac(group: Address) -> MacAddress {
    let [.., a, b, c, d] = group.bits().to_be_bytes();
    MacAddress([0x33, 0x33, a, b, c, d])
}

const fn v4(address: Address) -> Ipv4Addr {
    Ipv4Addr::from_bits(address.low32())
}

const fn v6(address: Address) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.bits())
}
