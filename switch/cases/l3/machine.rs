//! What machines that a probe reaches say to it: neighbours that are asked for, and listeners.

use std::net::{IpAddr, Ipv6Addr};

use kswitch_config::{PlannedPort, PortKind};
use kswitch_tables::MacAddress;

use super::super::hosts::Hosts;
use super::super::wire::{Wire, whole};
use crate::dataplane::Kind;
use crate::dataplane::frame::{ETHERNET_HEADER, ETHERTYPE_ARP, ETHERTYPE_IPV6};
use crate::dataplane::rewrite::get_u16;
use crate::port::VNET_HEADER;
use crate::sim::craft::ethernet;
use crate::sim::icmp;
use crate::sim::read::Received;

/// Types of neighbour discovery. Source: RFC 4861 §4.3, §4.4.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// Everyone on a link, as an address of IPv6 and of Ethernet.
const EVERYONE: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const EVERYONE_MAC: MacAddress = MacAddress([0x33, 0x33, 0, 0, 0, 1]);

/// Has every machine but the sender answer what came to it.
pub(super) fn answer_all(
    wire: &mut impl Wire,
    hosts: &mut Hosts,
    sender: &PortKind,
    frames: &[(PortKind, Vec<u8>)],
) {
    let others = || frames.iter().filter(|(at, _)| at != sender);
    for (at, frame) in others() {
        let answer = wire.port(at).and_then(|port| {
            arp_reply(&port, frame).or_else(|| advertisement(&port, &Received::read(frame)?))
        });
        if let Some(answer) = answer {
            wire.send(at, &answer);
        }
    }
    let packets = others().filter_map(|(at, frame)| Some((at.clone(), Received::read(frame)?)));
    for (at, packet) in whole(packets.collect()) {
        let target = packet.packet.flow.target.address.to_ip();
        let is_own = wire.port(&at).is_some_and(|port| {
            port.mac == packet.macs.0 && port.addresses.iter().any(|net| net.addr() == target)
        });
        if is_own && packet.is_intact && packet.packet.fragment.is_none() {
            for answer in hosts.answer(&at, &packet) {
                wire.send_ip(&at, answer.target.address, &answer.packet());
            }
        }
    }
}

fn has(port: &PlannedPort, ip: IpAddr) -> bool {
    port.addresses.iter().any(|net| net.addr() == ip)
}

/// The reply to an ARP request for an address of the machine.
fn arp_reply(port: &PlannedPort, frame: &[u8]) -> Option<Vec<u8>> {
    let bytes = frame.get(VNET_HEADER..)?;
    let message = bytes.get(ETHERNET_HEADER..)?;
    let target: [u8; 4] = *message.get(24..)?.first_chunk()?;
    let is_request = get_u16(bytes, 12)? == ETHERTYPE_ARP && get_u16(message, 6)? == 1;
    if !is_request || !has(port, target.into()) {
        return None;
    }
    let sender = MacAddress(*message.get(8..)?.first_chunk()?);
    let mut reply = message.get(..6)?.to_vec();
    reply.extend([0, 2]);
    reply.extend(port.mac.0);
    reply.extend(target);
    // who asked is who is told
    reply.extend(message.get(8..18)?);
    Some(ethernet(port.mac, sender, ETHERTYPE_ARP, &reply))
}

/// The answer to a neighbour solicitation for an address of the machine.
fn advertisement(port: &PlannedPort, packet: &Received) -> Option<Vec<u8>> {
    let target: [u8; 16] = *packet.upper().get(8..)?.first_chunk()?;
    let target = Ipv6Addr::from(target);
    let is_solicitation = packet.packet.kind == Kind::NeighbourDiscovery(SOLICITATION)
        && packet.packet.ttl == 255
        && packet.is_intact;
    if !is_solicitation || !has(port, target.into()) {
        return None;
    }
    let asker = packet.packet.flow.source.address;
    // solicited and override; to everyone, who asks without an address
    let (to, mac, flags) = if asker.is_unspecified() {
        (EVERYONE.into(), EVERYONE_MAC, 0x20)
    } else {
        (asker, packet.macs.1, 0x60)
    };
    let mut data = target.octets().to_vec();
    data.extend([2, 1]);
    data.extend(port.mac.0);
    let message = icmp::message(target.into(), to, (ADVERTISEMENT, 0), [flags, 0, 0, 0], &data);
    Some(ethernet(port.mac, mac, ETHERTYPE_IPV6, &message.ttl(255).packet()))
}
