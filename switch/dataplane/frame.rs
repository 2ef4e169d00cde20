//! A frame, parsed once into offsets.

use kswitch_tables::{Address, Endpoint, Flow, MacAddress, Protocol};

use super::{DropReason, Vnet, checksum};
use crate::port::VNET_HEADER;

mod ipv6;

/// Octets of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;
/// Octets of an IPv6 header.
pub const IPV6_HEADER: usize = 40;
/// Ethertype of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethertype of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// Ethertype of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// TCP's FIN flag.
pub const TCP_FIN: u8 = 0x01;
/// TCP's SYN flag.
pub const TCP_SYN: u8 = 0x02;
/// TCP's RST flag.
pub const TCP_RST: u8 = 0x04;
/// TCP's ACK flag.
pub const TCP_ACK: u8 = 0x10;

/// A frame in a worker's buffer, behind its virtio header. A GSO frame is one frame.
#[derive(Debug)]
pub struct Frame<'a> {
    buffer: &'a mut [u8],
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An IPv4 or IPv6 packet.
    Ip(Packet),
    /// ARP.
    Arp,
    /// Anything else; only bridged.
    Other,
}

/// What matters of the header above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP, with its flags.
    Tcp(u8),
    /// UDP.
    Udp,
    /// SCTP, with the type of its first chunk.
    Sctp(u8),
    /// An ICMP echo request, by identifier.
    EchoRequest,
    /// An ICMP echo reply, by identifier.
    EchoReply,
    /// An ICMP error, about another packet.
    IcmpError,
    /// Neighbour discovery, with its `ICMPv6` type.
    NeighbourDiscovery(u8),
    /// Another ICMP message, with its type.
    OtherIcmp(u8),
    /// The first fragment of a packet whose transport header ends in a later one.
    Spread,
    /// Another protocol.
    Other,
}

/// Which part of a fragmented packet this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification of the packet; 16 bits in IPv4.
    pub id: u32,
    /// Where its payload belongs, octets.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
}

/// Offsets and meaning of an IP packet within its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sends what to whom.
    pub flow: Flow,
    /// Start of the IP header, octets from the start of the frame.
    pub ip: usize,
    /// Start of the transport header, octets from the start of the frame.
    pub transport: usize,
    /// End of the IP packet, octets from the start of the frame; behind it is only padding.
    pub end: usize,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// What matters of the header above IP.
    pub kind: Kind,
    /// Which fragment, if it is one.
    pub fragment: Option<Fragment>,
}

impl Packet {
    /// Octets of the IP packet.
    pub const fn ip_octets(&self) -> usize {
        self.end - self.ip
    }

    /// Whether the packet is IPv4.
    pub const fn is_v4(&self) -> bool {
        self.flow.is_v4()
    }

    /// Whether the transport header is elsewhere, in the first fragment.
    pub const fn is_later_fragment(&self) -> bool {
        matches!(self.fragment, Some(Fragment { offset: 1.., .. }))
    }
}

impl<'a> Frame<'a> {
    /// The frame in this buffer; the buffer holds the virtio header and then the frame, no more.
    pub const fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer }
    }

    /// The whole buffer: what a port sends.
    pub const fn buffer(&self) -> &[u8] {
        self.buffer
    }

    /// The virtio header's meaning.
    pub fn vnet(&self) -> Vnet {
        self.buffer.first_chunk().map(Vnet::read).unwrap_or_default()
    }

    /// Says that nothing is left undone.
    pub fn clear_vnet(&mut self) {
        if let Some(header) = self.buffer.first_chunk_mut::<VNET_HEADER>() {
            header.fill(0);
        }
    }

    /// The frame from its Ethernet header on.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(VNET_HEADER..).unwrap_or(&[])
    }

    /// The frame from its Ethernet header on, to be rewritten.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(VNET_HEADER..).unwrap_or(&mut [])
    }

    /// Octets of the frame.
    pub const fn octets(&self) -> usize {
        self.buffer.len().saturating_sub(VNET_HEADER)
    }

    /// Ethernet destination and source.
    pub fn macs(&self) -> Option<(MacAddress, MacAddress)> {
        let bytes = self.bytes();
        let (target, source) = (bytes.first_chunk()?, bytes.get(6..)?.first_chunk()?);
        Some((MacAddress(*target), MacAddress(*source)))
    }

    /// Reads the headers.
    ///
    /// # Errors
    /// The reason for which a frame with these headers is dropped.
    #[inline]
    pub fn parse(&self) -> Result<Parsed, DropReason> {
        let bytes = self.bytes();
        let header = bytes.first_chunk::<ETHERNET_HEADER>().ok_or(DropReason::FrameTooShort)?;
        match u16::from_be_bytes([header[12], header[13]]) {
            ETHERTYPE_IPV4 => ipv4(bytes).map(Parsed::Ip),
            ETHERTYPE_IPV6 => ipv6::parse(bytes).map(Parsed::Ip),
            ETHERTYPE_ARP => Ok(Parsed::Arp),
            _ => Ok(Parsed::Other),
        }
    }
}

/// Reads an IPv4 packet.
///
/// Source: RFC 791 §3.1; RFC 1812 §5.2.2 (what to verify before forwarding).
fn ipv4(bytes: &[u8]) -> Result<Packet, DropReason> {
    let ip = ETHERNET_HEADER;
    let packet = bytes.get(ip..).ok_or(DropReason::BadIpHeader)?;
    let header = packet.first_chunk::<20>().ok_or(DropReason::BadIpHeader)?;
    let header_octets = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_octets < 20 || total < header_octets || total > packet.len() {
        return Err(DropReason::BadIpHeader);
    }
    let whole = packet.get(..header_octets).ok_or(DropReason::BadIpHeader)?;
    if checksum::fold(checksum::sum(whole)) != 0xffff {
        return Err(DropReason::BadIpChecksum);
    }
    let word = u16::from_be_bytes([header[6], header[7]]);
    let fragment = (word & 0x3fff != 0).then(|| Fragment {
        id: u32::from(u16::from_be_bytes([header[4], header[5]])),
        offset: (word & 0x1fff) * 8,
        more: word & 0x2000 != 0,
    });
    let source = Address::v4(u32::from_be_bytes([header[12], header[13], header[14], header[15]]));
    let target = Address::v4(u32::from_be_bytes([header[16], header[17], header[18], header[19]]));
    let end = ip + total;
    let transport = ip + header_octets;
    let upper = bytes.get(transport..end).ok_or(DropReason::BadIpHeader)?;
    let protocol = Protocol(header[9]);
    let (ports, kind) = transport_of(upper, protocol, fragment)?;
    Ok(Packet {
        flow: flow(protocol, source, target, ports),
        ip,
        transport,
        end,
        ttl: header[8],
        kind,
        fragment,
    })
}

const fn flow(protocol: Protocol, source: Address, target: Address, ports: (u16, u16)) -> Flow {
    Flow {
        protocol,
        source: Endpoint::new(source, ports.0),
        target: Endpoint::new(target, ports.1),
    }
}

/// The fixed part of a transport header, octets.
const fn header_octets(protocol: Protocol) -> usize {
    match protocol {
        Protocol::TCP => 20,
        Protocol::SCTP => 12,
        Protocol::UDP | Protocol::ICMP | Protocol::ICMPV6 => 8,
        _ => 0,
    }
}

/// Reads ports (or an echo's identifier) and kind from the octets above IP.
fn transport_of(
    upper: &[u8],
    protocol: Protocol,
    fragment: Option<Fragment>,
) -> Result<((u16, u16), Kind), DropReason> {
    if fragment.is_some_and(|fragment| fragment.offset > 0) {
        return Ok(((0, 0), Kind::Other));
    }
    let short = DropReason::BadTransportHeader;
    if fragment.is_some() && upper.len() < header_octets(protocol) {
        return Ok(((0, 0), Kind::Spread));
    }
    let ports = |upper: &[u8]| {
        let [a, b, c, d] = *upper.first_chunk()?;
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    };
    match protocol {
        Protocol::TCP => {
            let header = upper.first_chunk::<20>().ok_or(short)?;
            // a header longer than the packet, or shorter than a header
            let octets = usize::from(header[12] >> 4) * 4;
            if octets < 20 || (fragment.is_none() && octets > upper.len()) {
                return Err(short);
            }
            Ok((ports(upper).ok_or(short)?, Kind::Tcp(header[13])))
        }
        Protocol::UDP => {
            let header = upper.first_chunk::<8>().ok_or(short)?;
            let octets = usize::from(u16::from_be_bytes([header[4], header[5]]));
            if fragment.is_none() && (octets > upper.len() || (octets < 8 && octets != 0)) {
                return Err(short);
            }
            Ok((ports(upper).ok_or(short)?, Kind::Udp))
        }
        Protocol::SCTP => {
            let header = upper.first_chunk::<12>().ok_or(short)?;
            let chunk = upper.get(12).copied().unwrap_or(0);
            let _ = header;
            Ok((ports(upper).ok_or(short)?, Kind::Sctp(chunk)))
        }
        Protocol::ICMP => {
            let header = upper.first_chunk::<8>().ok_or(short)?;
            let id = u16::from_be_bytes([header[4], header[5]]);
            Ok(match header[0] {
                8 => ((id, id), Kind::EchoRequest),
                0 => ((id, id), Kind::EchoReply),
                3 | 4 | 5 | 11 | 12 => ((0, 0), Kind::IcmpError),
                other => ((0, 0), Kind::OtherIcmp(other)),
            })
        }
        Protocol::ICMPV6 => {
            let header = upper.first_chunk::<8>();
            // MLDv1 done and friends are longer; a router solicitation is exactly eight
            let header = header.ok_or(short)?;
            let id = u16::from_be_bytes([header[4], header[5]]);
            Ok(match header[0] {
                128 => ((id, id), Kind::EchoRequest),
                129 => ((id, id), Kind::EchoReply),
                0..=127 => ((0, 0), Kind::IcmpError),
                133..=137 => ((0, 0), Kind::NeighbourDiscovery(header[0])),
                other => ((0, 0), Kind::OtherIcmp(other)),
            })
        }
        _ => Ok(((0, 0), Kind::Other)),
    }
}
