//! ARP and neighbour discovery: the router answers for its own addresses and those it leads inside,
//! hears what is said of others (`resolve`), and the bridge carries the rest.

use kswitch_tables::{Address, MacAddress, Port, PortRole, Route, RouterRole, Snapshot};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, Icmpv6Packet, NdiscNeighborFlags, NdiscRepr,
    RawHardwareAddress,
};

use super::frame::{ETHERNET_HEADER, ETHERTYPE_ARP};
use super::icmp::{self, Message};
use super::pipeline::{At, Output, Pipeline, Verdict};
use super::resolve::Said;
use super::rewrite::{put_u16, set_macs};
use super::solicit::Advertisement;
use super::{DropReason, Frame, Packet};
use crate::port::VNET_HEADER;

/// Octets of an ARP message for Ethernet and IPv4.
const ARP_OCTETS: usize = 28;

/// Whether the router answers for `target` on this port: it is the router's own, or seems to be on
/// the link and is not, since the edge leads it to a node, or has a load balancer of that address
/// within the uplink's prefix. Cluster IPs are on no link, and the edge knows no way to them.
pub(super) fn answers_for(snapshot: &Snapshot, port: &Port, target: Address) -> bool {
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
            self.hear(at, (sender_address, sender_hardware), Said::Unasked, out);
            return Err(DropReason::SpoofedAddress);
        }
        let target_address = Address::from(target);
        let said = match operation {
            ArpOperation::Request if answers_for(snapshot, port, target_address) => Said::AskingUs,
            ArpOperation::Reply if sender != target => Said::Answering,
            _ => Said::Unasked,
        };
        self.hear(at, (sender_address, sender_hardware), said, out);
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
        let (kind, target, link_layer) = solicitation(body).ok_or(bad)?;
        if target.is_multicast() {
            return Err(bad);
        }
        if let Discovery::Advertisement(flags) = kind {
            let said = if flags.contains(NdiscNeighborFlags::SOLICITED) {
                Said::Answering
            } else if flags.contains(NdiscNeighborFlags::OVERRIDE) {
                Said::Unasked
            } else {
                Said::Hinting
            };
            let mac = link_layer.or(frame.macs().map(|(_, source)| source));
            self.hear(at, (target, mac.unwrap_or_default()), said, out);
            if port.anti_spoof && !port.addresses.contains(&target) {
                return Err(DropReason::SpoofedAddress);
            }
        }
        if kind == Discovery::Solicitation {
            let has_link_layer = link_layer.is_some();
            let is_probe = source.is_unspecified();
            let to_group = packet.flow.target.address.is_multicast();
            if is_probe && (has_link_layer || !to_group) {
                return Err(bad);
            }
            let is_ours = answers_for(snapshot, port, target);
            if let Some(mac) = link_layer {
                let said = if is_ours { Said::AskingUs } else { Said::Unasked };
                self.hear(at, (source, mac), said, out);
            }
            if is_ours {
                let (_, sender_mac) = frame.macs().ok_or(DropReason::FrameTooShort)?;
                // who probes has no address yet, so that all hear the answer: RFC 4861 §7.2.4
                let to = (!is_probe).then_some((source, sender_mac));
                let answer = Advertisement { target, mac: port.router_mac, to, is_router: true };
                out.send(ingress, self.message.advertisement(&answer));
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
    Advertisement(NdiscNeighborFlags),
    Other,
}

/// Kind, target and the Ethernet address told. `None` for a broken message.
fn solicitation(body: &[u8]) -> Option<(Discovery, Address, Option<MacAddress>)> {
    let packet = Icmpv6Packet::new_checked(body).ok()?;
    let kind = *body.first()?;
    if !matches!(kind, 135 | 136) {
        return Some((Discovery::Other, Address::UNSPECIFIED_V6, None));
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
            Some((Discovery::Solicitation, target_addr.into(), lladdr.and_then(ethernet)))
        }
        NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } => {
            let mac = lladdr.and_then(ethernet);
            Some((Discovery::Advertisement(flags), target_addr.into(), mac))
        }
        _ => None,
    }
}

/// The Ethernet address of an option.
fn ethernet(address: RawHardwareAddress) -> Option<MacAddress> {
    address.as_bytes().first_chunk().map(|octets| MacAddress(*octets))
}

impl Message {
    /// Builds an ARP message.
    pub(super) fn arp(&mut self, reply: &ArpRepr, target: MacAddress, source: MacAddress) -> &[u8] {
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
}
