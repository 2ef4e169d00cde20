//! The packets of probes: ordinary ones, with whatever is to be wrong about them put in by hand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kswitch_config::PlannedPort;
use kswitch_tables::{Address, MacAddress, Protocol};

use super::super::format::l3::{Check, Kind, NdOption, Send};
use super::super::hosts::endpoint;
use super::super::names::{Quoted, end, icmp_type};
use super::super::topology::Broken;
use crate::dataplane::frame::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::dataplane::rewrite::{get_u16, put_u16};
use crate::sim::craft::{Body, Craft, ethernet};
use crate::sim::{fragment, icmp};

/// Source port of packets that name none.
const SOURCE_PORT: u16 = 40_000;

/// Octets above the transport header of packets of which nothing is said.
const DATA_OCTETS: usize = 8;

/// Type of a neighbour solicitation.
const SOLICITATION: u8 = 135;

/// A frame to be sent.
#[derive(Debug)]
pub(super) struct Probe {
    /// The frame, virtio header first.
    pub(super) frame: Vec<u8>,
    /// The IP packet in it; empty for ARP.
    pub(super) packet: Vec<u8>,
    /// Where it goes.
    pub(super) target: IpAddr,
    /// The data above its transport header.
    pub(super) data: Vec<u8>,
}

/// Makes probes for one machine.
pub(super) struct Crafter<'c> {
    /// The sender's port.
    pub(super) port: &'c PlannedPort,
    /// The sender's address of the family at hand.
    pub(super) own: IpAddr,
    /// The Ethernet address to which unicast packets go.
    pub(super) next: MacAddress,
}

/// The address that `$gateway4`, `$gateway6` or an address stand for on a link.
pub(super) fn address(text: &str, port: &PlannedPort) -> Result<IpAddr, Broken> {
    let gateway = |is_v4: bool| {
        let mut gateways = port.gateways.iter().map(|gateway| gateway.address);
        let found = gateways.find(|ip| ip.is_ipv4() == is_v4);
        found.ok_or_else(|| Broken(format!("{} has no gateway of that family", port.kind)))
    };
    match text {
        "$gateway4" => gateway(true),
        "$gateway6" => gateway(false),
        text => text.parse().map_err(|_| Broken(format!("{text:?} is no address"))),
    }
}

/// Where a probe goes: an address and perhaps a port.
pub(super) fn target(send: &Send, port: &PlannedPort) -> Result<(IpAddr, Option<u16>), Broken> {
    let text = match (&send.to, &send.destination, &send.target) {
        (Some(to), _, _) => to,
        (None, Some(destination), _) if destination != "solicited-node" => destination,
        (None, _, Some(target)) => target,
        (None, _, None) => return Err(Broken("a probe lacks `to`".to_owned())),
    };
    if text.starts_with('$') {
        // a gateway may be followed by a port
        let (gateway, to_port) = text.rsplit_once(':').unwrap_or((text, ""));
        return Ok((address(gateway, port)?, to_port.parse().ok()));
    }
    end(text)
}

impl Crafter<'_> {
    /// The frame that a probe sends.
    pub(super) fn probe(&self, send: &Send) -> Result<Probe, Broken> {
        match send.kind {
            Kind::ArpRequest => self.arp(send),
            Kind::NeighborSolicitation => self.solicitation(send),
            Kind::Udp | Kind::Tcp | Kind::Icmp | Kind::Icmpv6 => self.packet(send),
            Kind::ArpReply | Kind::NeighborAdvertisement => {
                Err(Broken("probes are no answers".to_owned()))
            }
        }
    }

    fn packet(&self, send: &Send) -> Result<Probe, Broken> {
        let (target, port) = target(send, self.port)?;
        let source =
            send.source.as_deref().map_or(Ok(self.own), |text| address(text, self.port))?;
        if source.is_ipv4() != target.is_ipv4() {
            return Err(Broken(format!("{source} and {target} are of different families")));
        }
        let ip_header = if target.is_ipv4() { 20 } else { 40 };
        let header = ip_header + if send.kind == Kind::Tcp { 20 } else { 8 };
        let from_total = send.ip_octets.map(|octets| octets.saturating_sub(header));
        let octets = send.data_octets.or(from_total).unwrap_or(DATA_OCTETS);
        let data: Vec<u8> = (0_u8..=255).cycle().take(octets).collect();
        let craft = ordinary(send, (source, target, port), &data)?;
        let ttl = send.ttl.or(send.hop_limit).unwrap_or(64);
        let mut packet = craft.ttl(ttl).packet();
        if let Some(check) = send.checksum {
            let at = match send.kind {
                Kind::Udp => 6,
                Kind::Tcp => 16,
                _ => 2,
            };
            spoil(&mut packet, ip_header + at, check);
        }
        if target.is_ipv4() {
            ipv4_header(&mut packet, send);
        } else {
            ipv6_header(&mut packet, send);
        }
        let mut frame = self.framed(target, &packet);
        frame.resize(frame.len() + send.frame_padding.unwrap_or(0), 0);
        Ok(Probe { frame, packet, target, data })
    }

    fn framed(&self, target: IpAddr, packet: &[u8]) -> Vec<u8> {
        let ethertype = if target.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        ethernet(self.port.mac, link_address(target).unwrap_or(self.next), ethertype, packet)
    }

    fn arp(&self, send: &Send) -> Result<Probe, Broken> {
        let v4 = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => Ok(ip),
            IpAddr::V6(ip) => Err(Broken(format!("ARP knows nothing of {ip}"))),
        };
        let target = send.target.as_deref().or(send.to.as_deref());
        let target = target.ok_or_else(|| Broken("a probe lacks `target`".to_owned()))?;
        let target = v4(address(target, self.port)?)?;
        let sender = send.sender_ip.as_deref();
        let sender = v4(sender.map_or(Ok(self.own), |text| address(text, self.port))?)?;
        let mut message = vec![0, 1, 8, 0, 6, 4, 0, 1];
        message.extend(self.port.mac.0);
        message.extend(sender.octets());
        message.extend([0; 6]);
        message.extend(target.octets());
        let frame = ethernet(self.port.mac, MacAddress([0xff; 6]), ETHERTYPE_ARP, &message);
        Ok(Probe { frame, packet: Vec::new(), target: target.into(), data: Vec::new() })
    }

    fn solicitation(&self, send: &Send) -> Result<Probe, Broken> {
        let v6 = |text: &str| match address(text, self.port)? {
            IpAddr::V6(ip) => Ok(ip),
            IpAddr::V4(ip) => Err(Broken(format!("neighbour discovery knows nothing of {ip}"))),
        };
        let target = send.target.as_deref();
        let target = v6(target.ok_or_else(|| Broken("a probe lacks `target`".to_owned()))?)?;
        let source = match (&send.source, self.own) {
            (Some(text), _) => v6(text)?,
            (None, IpAddr::V6(own)) => own,
            (None, IpAddr::V4(_)) => return Err(Broken("the sender has no IPv6".to_owned())),
        };
        let destination = match send.destination.as_deref() {
            None | Some("solicited-node") => solicited_node(target),
            Some(text) => v6(text)?,
        };
        let mut data = target.octets().to_vec();
        for option in &send.options {
            data.extend(match option {
                NdOption::SourceLinkLayer => [1, 1],
                NdOption::TargetLinkLayer => [2, 1],
                NdOption::LengthZero => [1, 0],
            });
            data.extend(self.port.mac.0);
        }
        let kind_and_code = (SOLICITATION, send.code.unwrap_or(0));
        let message =
            icmp::message(source.into(), destination.into(), kind_and_code, [0; 4], &data);
        let hop_limit = send.hop_limit.or(send.ttl).unwrap_or(255);
        let mut packet = message.ttl(hop_limit).packet();
        if let Some(check) = send.checksum {
            spoil(&mut packet, 40 + 2, check);
        }
        let frame = self.framed(destination.into(), &packet);
        Ok(Probe { frame, packet, target: target.into(), data: Vec::new() })
    }
}

/// A packet with nothing wrong about it.
fn ordinary(
    send: &Send,
    (source, target, port): (IpAddr, IpAddr, Option<u16>),
    data: &[u8],
) -> Result<Craft, Broken> {
    let from = endpoint(source, send.source_port.unwrap_or(SOURCE_PORT));
    let to = endpoint(target, port.unwrap_or(0));
    let name = send.message.as_deref().unwrap_or("echo-request");
    Ok(match send.kind {
        Kind::Udp => Craft::udp(from, to, data),
        Kind::Tcp => Craft::syn(from, to),
        _ if matches!(name, "echo-request" | "echo-reply") && send.code.unwrap_or(0) == 0 => {
            let id = send.id.unwrap_or(1);
            let body = Body::Echo {
                is_reply: name == "echo-reply",
                sequence: send.seq.unwrap_or(1),
                data: data.to_vec(),
            };
            let (source, target) = (endpoint(source, id), endpoint(target, id));
            Craft { source, target, ttl: 64, body }
        }
        _ => {
            let kind = icmp_type(name, source.is_ipv4())?;
            // an error is about a packet from the one who is told of it
            let about = Quoted {
                protocol: Protocol::UDP,
                source: endpoint(target, SOURCE_PORT),
                target: endpoint(source, 9),
            };
            let kind_and_code = (kind, send.code.unwrap_or(0));
            let (from, to) = (source.into(), target.into());
            icmp::error(from, to, kind_and_code, [0; 4], &about.packet())
        }
    })
}

/// Puts what is asked for into an IPv4 header, and its checksum right unless told otherwise.
fn ipv4_header(packet: &mut [u8], send: &Send) {
    let df = if send.df.unwrap_or(false) { 0x4000 } else { 0 };
    let more = if send.more_fragments.unwrap_or(false) { 0x2000 } else { 0 };
    put_u16(packet, 4, 0x6b73);
    put_u16(packet, 6, df | more | send.fragment_offset.unwrap_or(0) & 0x1fff);
    if let Some(octets) = send.ip_octets_claimed {
        put_u16(packet, 2, octets);
    }
    if let Some(first) = packet.first_mut() {
        *first = send.version.unwrap_or(4) << 4 | send.ihl.unwrap_or(5) & 15;
    }
    fragment::fix_checksum(packet);
    if let Some(check) = send.ip_checksum {
        spoil(packet, 10, check);
    }
}

fn ipv6_header(packet: &mut [u8], send: &Send) {
    if let Some(octets) = send.ip_octets_claimed {
        put_u16(packet, 4, octets.saturating_sub(40));
    }
    if let (Some(first), Some(version)) = (packet.first_mut(), send.version) {
        *first = version << 4 | *first & 15;
    }
}

/// Makes a checksum what it should not be.
fn spoil(packet: &mut [u8], at: usize, check: Check) {
    match check {
        Check::Good => {}
        Check::Zero => put_u16(packet, at, 0),
        Check::Bad => {
            let right = get_u16(packet, at).unwrap_or(0);
            put_u16(packet, at, right ^ 0x5555);
        }
    }
}

/// The Ethernet address of a group; `None` for single machines.
fn link_address(target: IpAddr) -> Option<MacAddress> {
    match target {
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some(MacAddress([0xff; 6])),
        IpAddr::V4(group) if group.is_multicast() => {
            let [_, b, c, d] = group.octets();
            Some(MacAddress([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
        }
        IpAddr::V6(group) if group.is_multicast() => {
            let [.., a, b, c, d] = group.octets();
            Some(MacAddress([0x33, 0x33, a, b, c, d]))
        }
        _ => None,
    }
}

/// The group of those who may have an address.
///
/// Source: RFC 4291 §2.7.1.
const fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let group = 0xff02 << 112 | 1 << 32 | 0xff << 24;
    Ipv6Addr::from_bits(group | target.to_bits() & 0xff_ffff)
}

/// An address as tables have it.
pub(super) fn tables(ip: IpAddr) -> Address {
    ip.into()
}
