//! ARP and neighbour discovery: the router answers for its own addresses and those it leads inside,
//! the bridge carries the rest.

use kswitch_tables::{Address, MacAddress, Port, PortRole, Protocol, Route, RouterRole, Snapshot};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, Icmpv6Packet, Icmpv6Repr,
    NdiscNeighborFlags, NdiscRepr, RawHardwareAddress,
};

use super::frame::{ETHERNET_HEADER, ETHERTYPE_ARP};
use super::icmp::{self, Envelope, Message};
use super::pipeline::{At, Output, Pipeline, Verdict};
use super::rewrite::{put_u16, set_macs};
use super::{DropReason, Frame, Packet};
use crate::port::VNET_HEADER;

/// Octets of an ARP message for Ethernet and IPv4.
const ARP_OCTETS: usize = 28;

/// Whether the router answers for `target` on this port: it is the router's own, or seems to be on
/// the link and is not, since the edge leads it to a node, or has a load balancer of that address
/// within the uplink's prefix. Cluster IPs are on no link, and the edge knows no way to them.
fn answers_for(snapshot: &Snapshot, port: &Port, target: Address) -> bool {
    let topology = &snapshot.topology;
    let gateways = topology.gateways(port);
    let is_led_inside = || {
        let edge = topology.router(port.router).filter(|router| router.role == RouterRole::Edge);
        gateways.iter().any(|gateway| gateway.on_link.contains(target))
            && edge.is_some_and(|edge| {
                matches!(topology.route(edge, target), Some(Route::Router(_)))
                    || snapshot.forwarding.owns(target)
            })
    };
    gateways.iter().any(|gateway| gateway.address == target) || is_led_inside()
}

impl Pipeline {
    /// Handles an ARP message. Source: RFC 826; RFC 5227 §2.1 (probes).
    ///
    /// # Errors
    /// [`DropReason::BadNeighbourMessage`], [`DropReason::SpoofedAddress`], and as
    /// [`Pipeline::bridge`].
    pub(super) fn arp(
        &mut self,
        at: At<'_>,
        frame: &Frame<'_>,
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let At { snapshot, ingress, port, .. } = at;
        let bad = DropReason::BadNeighbourMessage;
        let payload = frame.bytes().get(ETHERNET_HEADER..).ok_or(bad)?;
        let packet = ArpPacket::new_checked(payload).map_err(|_| bad)?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: sender_mac,
            source_protocol_addr: sender,
            target_protocol_addr: target,
            ..
        } = ArpRepr::parse(&packet).map_err(|_| bad)?
        else {
            return Err(bad);
        };
        let sender_address = Address::from(sender);
        let sender_hardware = MacAddress(sender_mac.0);
        if port.anti_spoof
            && (sender_hardware != port.mac
                || !(sender.is_unspecified() || port.addresses.contains(&sender_address)))
        {
            return Err(DropReason::SpoofedAddress);
        }
        let target_address = Address::from(target);
        if operation == ArpOperation::Request && answers_for(snapshot, port, target_address) {
            let reply = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: EthernetAddress(port.router_mac.0),
                source_protocol_addr: target,
                target_hardware_addr: sender_mac,
                target_protocol_addr: sender,
            };
            out.send(ingress, self.message.arp(&reply, sender_hardware, port.router_mac));
            return Ok(Verdict::Answered);
        }
        self.to_owner(at, target_address, frame, out)
    }

    /// Handles a neighbour discovery message.
    ///
    /// Source: RFC 4861 §6.1.1, §7.1.1, §7.1.2 (validation), §7.2.4 (answering).
    ///
    /// # Errors
    /// [`DropReason::BadNeighbourMessage`], [`DropReason::BadIcmpChecksum`],
    /// [`DropReason::SpoofedAddress`], and as [`Pipeline::bridge`].
    pub(super) fn discovery(
        &mut self,
        at: At<'_>,
        frame: &Frame<'_>,
        packet: &Packet,
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let At { snapshot, ingress, port, .. } = at;
        let bad = DropReason::BadNeighbourMessage;
        let code = frame.bytes().get(packet.transport + 1).copied();
        if packet.ttl != 255 || code != Some(0) || packet.fragment.is_some() {
            return Err(bad);
        }
        icmp::verify(frame, packet)?;
        let source = packet.flow.source.address;
        if port.anti_spoof && !is_own_source(port, source) {
            return Err(DropReason::SpoofedAddress);
        }
        let body = frame.bytes().get(packet.transport..packet.end).ok_or(bad)?;
        let (kind, target, options) = solicitation(body).ok_or(bad)?;
        if target.is_multicast() {
            return Err(bad);
        }
        if port.anti_spoof && kind == Discovery::Advertisement && !port.addresses.contains(&target)
        {
            return Err(DropReason::SpoofedAddress);
        }
        if kind == Discovery::Solicitation {
            let has_link_layer = options;
            let is_probe = source.is_unspecified();
            let to_group = packet.flow.target.address.is_multicast();
            if is_probe && (has_link_layer || !to_group) {
                return Err(bad);
            }
            if answers_for(snapshot, port, target) {
                let (_, sender_mac) = frame.macs().ok_or(DropReason::FrameTooShort)?;
                let answer = Advertisement { target, to: source, is_probe, sender_mac };
                out.send(ingress, self.message.advertise(port, &answer));
                return Ok(Verdict::Answered);
            }
        }
        self.to_owner(at, target, frame, out)
    }

    /// Sends a question about `target` to the port that has it, and floods it where nobody is
    /// known to: a question every machine of the bridge would hear is heard by one.
    fn to_owner(
        &self,
        at: At<'_>,
        target: Address,
        frame: &Frame<'_>,
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let At { snapshot, ingress, port, .. } = at;
        let owner = snapshot.topology.hosts.get(&target).map(|host| host.port);
        let neighbour = owner.filter(|owner| {
            *owner != ingress
                && matches!(port.role, PortRole::Bridged(_))
                && snapshot.topology.port(*owner).is_some_and(|other| other.role == port.role)
        });
        match neighbour {
            Some(owner) => {
                out.send(owner, frame.buffer());
                Ok(Verdict::Forwarded(owner))
            }
            None => self.bridge(at, frame, out),
        }
    }
}

/// Whether a neighbour discovery message may come from `source` at this port.
fn is_own_source(port: &Port, source: Address) -> bool {
    source.is_unspecified() || source.is_link_local() || port.addresses.contains(&source)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Discovery {
    Solicitation,
    Advertisement,
    Other,
}

/// Kind, target and whether a link-layer option is present. `None` for a broken message.
fn solicitation(body: &[u8]) -> Option<(Discovery, Address, bool)> {
    let packet = Icmpv6Packet::new_checked(body).ok()?;
    let kind = *body.first()?;
    if !matches!(kind, 135 | 136) {
        return Some((Discovery::Other, Address::UNSPECIFIED_V6, false));
    }
    // every option counts its own length, and none is zero: RFC 4861 §4.6
    let mut options = body.get(24..)?;
    while let [_, length, ..] = options {
        if *length == 0 {
            return None;
        }
        options = options.get(usize::from(*length) * 8..)?;
    }
    match NdiscRepr::parse(&packet).ok()? {
        NdiscRepr::NeighborSolicit { target_addr, lladdr } => {
            Some((Discovery::Solicitation, target_addr.into(), lladdr.is_some()))
        }
        NdiscRepr::NeighborAdvert { target_addr, lladdr, .. } => {
            Some((Discovery::Advertisement, target_addr.into(), lladdr.is_some()))
        }
        _ => None,
    }
}

/// What to advertise to whom.
struct Advertisement {
    target: Address,
    to: Address,
    is_probe: bool,
    sender_mac: MacAddress,
}

impl Message {
    /// Builds an ARP reply.
    fn arp(&mut self, reply: &ArpRepr, target: MacAddress, source: MacAddress) -> &[u8] {
        self.length = VNET_HEADER + ETHERNET_HEADER + ARP_OCTETS;
        self.buffer.fill(0);
        let frame = self.buffer.get_mut(VNET_HEADER..).unwrap_or(&mut []);
        set_macs(frame, target, source);
        put_u16(frame, 12, ETHERTYPE_ARP);
        if let Some(room) = frame.get_mut(ETHERNET_HEADER..ETHERNET_HEADER + ARP_OCTETS) {
            reply.emit(&mut ArpPacket::new_unchecked(room));
        }
        self.buffer()
    }

    /// Builds the advertisement of one of the router's addresses. A probe (duplicate address
    /// detection) is answered to all nodes, since its sender has no address yet.
    ///
    /// Source: RFC 4861 §7.2.4.
    fn advertise(&mut self, port: &Port, answer: &Advertisement) -> &[u8] {
        const ALL_NODES: u128 = 0xff02_0000_0000_0000_0000_0000_0000_0001;
        let (to, mac) = if answer.is_probe {
            (Address::v6(ALL_NODES), MacAddress([0x33, 0x33, 0, 0, 0, 1]))
        } else {
            (answer.to, answer.sender_mac)
        };
        let flags = NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::OVERRIDE;
        let repr = NdiscRepr::NeighborAdvert {
            flags: if answer.is_probe { flags } else { flags | NdiscNeighborFlags::SOLICITED },
            target_addr: to_v6(answer.target),
            lladdr: Some(RawHardwareAddress::from(EthernetAddress(port.router_mac.0))),
        };
        let envelope = Envelope {
            source_mac: port.router_mac,
            target_mac: mac,
            source: answer.target,
            target: to,
        };
        let room = self.start(&envelope, Protocol::ICMPV6, Icmpv6Repr::Ndisc(repr).buffer_len());
        Icmpv6Repr::Ndisc(repr).emit(
            &to_v6(envelope.source),
            &to_v6(envelope.target),
            &mut Icmpv6Packet::new_unchecked(room),
            &smoltcp::phy::ChecksumCapabilities::default(),
        );
        self.set_hop_limit(255);
        self.buffer()
    }
}

fn to_v6(address: Address) -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::from_bits(address.bits())
}
