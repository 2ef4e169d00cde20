//! Frames as machines send them, octet for octet.
//!
//! Built by smoltcp's emitters, so that the pipeline's own arithmetic is checked against another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kswitch_tables::{Endpoint, MacAddress, Protocol};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, Ipv4Repr, Ipv6Repr,
    TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use crate::dataplane::frame::{
    ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN,
};
use crate::port::VNET_HEADER;

/// What a packet carries above IP.
#[derive(Clone, Debug)]
pub enum Body {
    /// A UDP datagram.
    Udp(Vec<u8>),
    /// A TCP segment.
    Tcp {
        /// Flags as on the wire.
        flags: u8,
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number; sent where the ACK flag is set.
        acknowledged: u32,
        /// Data.
        data: Vec<u8>,
    },
    /// An echo request or reply; the identifier is the source's port.
    Echo {
        /// Whether it is a reply.
        is_reply: bool,
        /// Sequence number.
        sequence: u16,
        /// Data.
        data: Vec<u8>,
    },
    /// These octets, under this protocol.
    Raw(Protocol, Vec<u8>),
}

/// A packet to be sent by a machine.
#[derive(Clone, Debug)]
pub struct Craft {
    /// Where from.
    pub source: Endpoint,
    /// Where to.
    pub target: Endpoint,
    /// TTL or hop limit.
    pub ttl: u8,
    /// What it carries.
    pub body: Body,
}

impl Craft {
    /// A UDP datagram.
    pub fn udp(source: Endpoint, target: Endpoint, data: &[u8]) -> Self {
        Self { source, target, ttl: 64, body: Body::Udp(data.to_vec()) }
    }

    /// A TCP segment without data.
    pub const fn tcp(source: Endpoint, target: Endpoint, flags: u8) -> Self {
        let body = Body::Tcp { flags, sequence: 1000, acknowledged: 0, data: Vec::new() };
        Self { source, target, ttl: 64, body }
    }

    /// A TCP SYN.
    pub const fn syn(source: Endpoint, target: Endpoint) -> Self {
        Self::tcp(source, target, TCP_SYN)
    }

    /// An echo request; the identifier is the source's port.
    pub fn ping(source: Endpoint, target: Endpoint, sequence: u16) -> Self {
        let body = Body::Echo { is_reply: false, sequence, data: vec![0x5a; 56] };
        Self { source, target, ttl: 64, body }
    }

    /// The same with this TTL.
    #[must_use]
    pub const fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// The same TCP segment with these numbers.
    #[must_use]
    pub const fn numbered(mut self, seq: u32, ack: u32) -> Self {
        if let Body::Tcp { sequence, acknowledged, .. } = &mut self.body {
            *sequence = seq;
            *acknowledged = ack;
        }
        self
    }

    /// The IP packet.
    pub fn packet(&self) -> Vec<u8> {
        match (self.source.address.to_ip(), self.target.address.to_ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => self.v4(source, target),
            (IpAddr::V6(source), IpAddr::V6(target)) => self.v6(source, target),
            // a packet has one family: nothing can be built, and nothing will be answered
            _ => Vec::new(),
        }
    }

    /// The frame with its virtio header.
    pub fn frame(&self, source_mac: MacAddress, target_mac: MacAddress) -> Vec<u8> {
        let is_v4 = self.source.address.is_v4();
        let ethertype = if is_v4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        ethernet(source_mac, target_mac, ethertype, &self.packet())
    }

    fn v4(&self, source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
        let upper = self.upper(source.into(), target.into());
        let repr = IpRepr::Ipv4(Ipv4Repr {
            src_addr: source,
            dst_addr: target,
            next_header: self.protocol(),
            payload_len: upper.len(),
            hop_limit: self.ttl,
        });
        headed(&repr, &upper)
    }

    fn v6(&self, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
        let upper = self.upper(source.into(), target.into());
        let repr = IpRepr::Ipv6(Ipv6Repr {
            src_addr: source,
            dst_addr: target,
            next_header: self.protocol(),
            payload_len: upper.len(),
            hop_limit: self.ttl,
        });
        headed(&repr, &upper)
    }

    fn protocol(&self) -> IpProtocol {
        match &self.body {
            Body::Udp(_) => IpProtocol::Udp,
            Body::Tcp { .. } => IpProtocol::Tcp,
            Body::Echo { .. } if self.source.address.is_v4() => IpProtocol::Icmp,
            Body::Echo { .. } => IpProtocol::Icmpv6,
            Body::Raw(protocol, _) => IpProtocol::from(protocol.0),
        }
    }

    /// The octets above IP, checksum included.
    fn upper(&self, source: IpAddr, target: IpAddr) -> Vec<u8> {
        let (from, to) = (source.into(), target.into());
        let checksums = ChecksumCapabilities::default();
        let (source_port, target_port) = (self.source.port, self.target.port);
        match &self.body {
            Body::Raw(_, octets) => octets.clone(),
            Body::Udp(data) => {
                let repr = UdpRepr { src_port: source_port, dst_port: target_port };
                let mut room = vec![0; repr.header_len() + data.len()];
                let mut packet = UdpPacket::new_unchecked(&mut room);
                let copy = |payload: &mut [u8]| payload.copy_from_slice(data);
                repr.emit(&mut packet, &from, &to, data.len(), copy, &checksums);
                room
            }
            Body::Tcp { flags, sequence, acknowledged, data } => {
                let repr = tcp_repr(self, *flags, *sequence, *acknowledged, data);
                let mut room = vec![0; repr.buffer_len()];
                let mut packet = TcpPacket::new_unchecked(&mut room);
                repr.emit(&mut packet, &from, &to, &checksums);
                // smoltcp emits one control flag at a time; what it cannot say is set by hand
                packet.set_syn(flags & TCP_SYN != 0);
                packet.set_fin(flags & TCP_FIN != 0);
                packet.set_rst(flags & TCP_RST != 0);
                packet.set_psh(flags & 0x08 != 0);
                packet.fill_checksum(&from, &to);
                room
            }
            Body::Echo { is_reply, sequence, data } => {
                let (ident, seq_no) = (source_port, *sequence);
                if let (IpAddr::V6(source), IpAddr::V6(target)) = (source, target) {
                    let repr = if *is_reply {
                        Icmpv6Repr::EchoReply { ident, seq_no, data }
                    } else {
                        Icmpv6Repr::EchoRequest { ident, seq_no, data }
                    };
                    let mut room = vec![0; repr.buffer_len()];
                    let mut packet = Icmpv6Packet::new_unchecked(&mut room);
                    repr.emit(&source, &target, &mut packet, &checksums);
                    return room;
                }
                let repr = if *is_reply {
                    Icmpv4Repr::EchoReply { ident, seq_no, data }
                } else {
                    Icmpv4Repr::EchoRequest { ident, seq_no, data }
                };
                let mut room = vec![0; repr.buffer_len()];
                repr.emit(&mut Icmpv4Packet::new_unchecked(&mut room), &checksums);
                room
            }
        }
    }
}

fn tcp_repr<'d>(
    craft: &Craft,
    flags: u8,
    sequence: u32,
    acknowledged: u32,
    data: &'d [u8],
) -> TcpRepr<'d> {
    #[expect(clippy::cast_possible_wrap, reason = "sequence numbers wrap")]
    let number = |n: u32| TcpSeqNumber(n as i32);
    TcpRepr {
        src_port: craft.source.port,
        dst_port: craft.target.port,
        control: TcpControl::None,
        seq_number: number(sequence),
        ack_number: (flags & TCP_ACK != 0).then(|| number(acknowledged)),
        window_len: 65_535,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: data,
    }
}

fn headed(repr: &IpRepr, upper: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; repr.header_len() + upper.len()];
    repr.emit(&mut packet, &ChecksumCapabilities::default());
    if let Some(room) = packet.get_mut(repr.header_len()..) {
        room.copy_from_slice(upper);
    }
    packet
}

/// A frame with an empty virtio header.
pub fn ethernet(source: MacAddress, target: MacAddress, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(VNET_HEADER + ETHERNET_HEADER + payload.len());
    buffer.extend([0; VNET_HEADER]);
    buffer.extend(target.0);
    buffer.extend(source.0);
    buffer.extend(ethertype.to_be_bytes());
    buffer.extend(payload);
    buffer
}
