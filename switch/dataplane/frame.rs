//! A frame, parsed once into offsets.

use kswitch_tables::{Address, Endpoint, Flow, MacAddress, Protocol};

use super::{DropReason, Vnet, checksum};
use crate::port::VNET_HEADER;

pub(super) mod ipv6;

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
        match usual(self.bytes()) {
            Some(packet) => Ok(Parsed::Ip(packet)),
            None => self.parse_any(),
        }
    }

    /// Reads the headers of any frame.
    #[inline(never)]
    fn parse_any(&self) -> Result<Parsed, DropReason> {
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

/// Reads the usual packet: TCP or UDP in IPv4 without options, whole. `None` for every other, and
/// for one that is not right: why is for [`Frame::parse_any`] to say, which reads this one alike.
#[inline]
fn usual(bytes: &[u8]) -> Option<Packet> {
    const UPPER: usize = ETHERNET_HEADER + 20;
    let head = bytes.first_chunk::<{ UPPER + 8 }>()?;
    let word = |octets: [u8; 2]| usize::from(u16::from_be_bytes(octets));
    // neither a place in a larger packet nor more to come
    let is_whole = u16::from_be_bytes([head[20], head[21]]) << 2 == 0;
    let [begin, source, target] = [
        [head[12], head[13], head[14], head[15]],
        [head[26], head[27], head[28], head[29]],
        [head[30], head[31], head[32], head[33]],
    ];
    // type, version and length of the header; its second octet may be anything
    if u32::from_be_bytes(begin) >> 8 != 0x08_0045 || !is_whole {
        return None;
    }
    let end = ETHERNET_HEADER + word([head[16], head[17]]);
    if end > bytes.len() || end < UPPER + 8 {
        return None;
    }
    // the sum is right or wrong in either byte order
    let sum = [
        [head[14], head[15], head[16], head[17]],
        [head[18], head[19], head[20], head[21]],
        [head[22], head[23], head[24], head[25]],
        source,
        target,
    ];
    let sum: u64 = sum.into_iter().map(|part| u64::from(u32::from_ne_bytes(part))).sum();
    if checksum::fold(sum) != 0xffff {
        return None;
    }
    let protocol = Protocol(head[23]);
    let kind = match protocol {
        Protocol::UDP => {
            let octets = word([head[38], head[39]]);
            if octets > end - UPPER || (octets < 8 && octets != 0) {
                return None;
            }
            Kind::Udp
        }
        Protocol::TCP => {
            let [offset, flags] = *bytes.get(UPPER + 12..end)?.first_chunk()?;
            let octets = usize::from(offset >> 4) * 4;
            if octets < 20 || octets > end - UPPER {
                return None;
            }
            Kind::Tcp(flags)
        }
        _ => return None,
    };
    let ports =
        (u16::from_be_bytes([head[34], head[35]]), u16::from_be_bytes([head[36], head[37]]));
    let address = |octets| Address::v4(u32::from_be_bytes(octets));
    Some(Packet {
        flow: flow(protocol, address(source), address(target), ports),
        ip: ETHERNET_HEADER,
        transport: UPPER,
        end,
        ttl: head[22],
        kind,
        fragment: None,
    })
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

/// The type of the chunk by which an SCTP packet changes its association: the first that ends it,
/// which others may go before, else the first of all.
///
/// Source: RFC 9260 §3.2, §6.10 (bundling).
fn chunk_that_counts(mut chunks: &[u8]) -> u8 {
    /// Chunks looked at in one packet.
    const CHUNKS_MAX: usize = 16;
    let first = chunks.first().copied().unwrap_or(0);
    for _ in 0..CHUNKS_MAX {
        let Some([kind, _, high, low]) = chunks.first_chunk().copied() else { break };
        // ABORT, SHUTDOWN, SHUTDOWN ACK, SHUTDOWN COMPLETE
        if matches!(kind, 6..=8 | 14) {
            return kind;
        }
        let octets = usize::from(u16::from_be_bytes([high, low])).next_multiple_of(4);
        let Some(rest) = chunks.get(octets..).filter(|_| octets >= 4) else { break };
        chunks = rest;
    }
    first
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
            let chunks = upper.get(header.len()..).unwrap_or(&[]);
            Ok((ports(upper).ok_or(short)?, Kind::Sctp(chunk_that_counts(chunks))))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame as anybody might send it, mostly right.
    fn some_frame() -> impl Strategy<Value = Vec<u8>> {
        let protocol = prop_oneof![Just(6u8), Just(17), Just(1), any::<u8>()];
        let body = prop::collection::vec(any::<u8>(), 0..64);
        let odd = prop::option::weighted(0.5, (0usize..60, any::<u8>()));
        (protocol, any::<[u8; 8]>(), body, any::<bool>(), odd).prop_map(
            |(protocol, addresses, mut body, is_right, odd)| {
                if body.len() >= 20 && is_right {
                    body[4..6].copy_from_slice(&u16::to_be_bytes(8));
                    body[12] = 0x50;
                }
                let total = u16::try_from(20 + body.len()).unwrap().to_be_bytes();
                let mut ip = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
                ip.extend(addresses);
                if let Some((at, octet)) = odd.filter(|(at, _)| *at < 20) {
                    ip[at] = octet;
                }
                let sum = checksum::of(&ip).to_be_bytes();
                ip[10..12].copy_from_slice(&sum);
                let mut frame = [2; 12].to_vec();
                frame.extend([8, 0]);
                frame.extend(ip);
                frame.extend(body);
                if let Some((at, octet)) = odd.filter(|(at, _)| (20..frame.len()).contains(at)) {
                    frame[at] = octet;
                }
                frame
            },
        )
    }

    proptest! {
        #[test]
        fn the_short_way_reads_what_the_long_way_reads(frame in some_frame()) {
            if let Some(packet) = usual(&frame) {
                prop_assert_eq!(ipv4(&frame), Ok(packet));
            } else if let Ok(packet) = ipv4(&frame) {
                let is_usual = matches!(packet.kind, Kind::Udp | Kind::Tcp(_));
                let has_options = packet.transport != ETHERNET_HEADER + 20;
                prop_assert!(!is_usual || has_options || packet.fragment.is_some());
            }
        }
    }
}
