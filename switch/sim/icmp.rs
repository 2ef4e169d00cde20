//! ICMP messages other than echoes, as machines send them.

use std::net::IpAddr;

use kswitch_tables::{Address, Endpoint, Protocol};

use super::craft::{Body, Craft};
use crate::dataplane::checksum::{fold, pseudo_header_sum, sum};

/// Octets of an erroneous packet that are quoted: what ICMP for IPv4 is sure to quote, and more.
///
/// Source: RFC 1812 §4.3.2.3.
const QUOTED_OCTETS: usize = 548;

/// An ICMP message with its checksum right; `rest` is the word after the checksum.
pub fn message(
    source: Address,
    target: Address,
    (kind, code): (u8, u8),
    rest: [u8; 4],
    data: &[u8],
) -> Craft {
    let mut octets = vec![kind, code, 0, 0];
    octets.extend(rest);
    octets.extend(data);
    let protocol = if source.is_v4() { Protocol::ICMP } else { Protocol::ICMPV6 };
    let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
    let pseudo =
        if source.is_v4() { 0 } else { pseudo_header_sum(source, target, protocol, length) };
    let checksum = !fold(sum(&octets) + pseudo);
    if let Some(room) = octets.get_mut(2..4) {
        room.copy_from_slice(&checksum.to_be_bytes());
    }
    let (source, target) = (Endpoint::new(source, 0), Endpoint::new(target, 0));
    Craft { source, target, ttl: 64, body: Body::Raw(protocol, octets) }
}

/// An error about a packet.
pub fn error(
    source: Address,
    target: Address,
    kind_and_code: (u8, u8),
    rest: [u8; 4],
    about: &[u8],
) -> Craft {
    let quote = about.get(..QUOTED_OCTETS).unwrap_or(about);
    message(source, target, kind_and_code, rest, quote)
}

/// What a machine says to a datagram for a port where nobody listens.
pub fn port_unreachable(source: Address, target: Address, about: &[u8]) -> Craft {
    let kind_and_code = if source.is_v4() { (3, 3) } else { (1, 4) };
    error(source, target, kind_and_code, [0; 4], about)
}

/// Source and target of a quoted packet, and its protocol.
pub fn quoted_ends(quote: &[u8]) -> Option<(Protocol, Endpoint, Endpoint)> {
    let (protocol, source, target, header): (_, IpAddr, IpAddr, _) = match quote.first()? >> 4 {
        4 => {
            let header = quote.first_chunk::<20>()?;
            let source: [u8; 4] = *header.get(12..)?.first_chunk()?;
            let target: [u8; 4] = *header.get(16..)?.first_chunk()?;
            (header[9], source.into(), target.into(), usize::from(header[0] & 15) * 4)
        }
        6 => {
            let header = quote.first_chunk::<40>()?;
            let source: [u8; 16] = *header.get(8..)?.first_chunk()?;
            let target: [u8; 16] = *header.get(24..)?.first_chunk()?;
            (header[6], source.into(), target.into(), 40)
        }
        _ => return None,
    };
    let upper = quote.get(header..)?;
    let word = |at: usize| {
        let octets: [u8; 2] = *upper.get(at..)?.first_chunk()?;
        Some(u16::from_be_bytes(octets))
    };
    let protocol = Protocol(protocol);
    let (from, to) = match protocol {
        Protocol::ICMP | Protocol::ICMPV6 => (word(4)?, word(4)?),
        _ => (word(0)?, word(2)?),
    };
    Some((protocol, Endpoint::new(source.into(), from), Endpoint::new(target.into(), to)))
}
