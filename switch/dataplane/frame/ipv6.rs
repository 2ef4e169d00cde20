//! Reading an IPv6 packet and its extension headers.

use kswitch_tables::{Address, Protocol};

use super::{ETHERNET_HEADER, Fragment, IPV6_HEADER, Packet, flow, transport_of};
use crate::dataplane::DropReason;

/// Extension headers followed before a packet is given up as hostile.
const EXTENSION_HEADERS_MAX: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Reads an IPv6 packet.
///
/// Source: RFC 8200 §3, §4; RFC 4291 §2.5.5.2 (mapped addresses never on the wire).
pub(super) fn parse(bytes: &[u8]) -> Result<Packet, DropReason> {
    let ip = ETHERNET_HEADER;
    let header = bytes
        .get(ip..)
        .and_then(|packet| packet.first_chunk::<IPV6_HEADER>())
        .ok_or(DropReason::BadIpHeader)?;
    let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let end = ip + IPV6_HEADER + payload;
    if header[0] >> 4 != 6 || end > bytes.len() {
        return Err(DropReason::BadIpHeader);
    }
    let bits = |half: &[u8]| half.first_chunk::<16>().map(|octets| u128::from_be_bytes(*octets));
    let (_, addresses) = header.split_at(8);
    let (source, target) = addresses.split_at(16);
    let source = Address::v6(bits(source).ok_or(DropReason::BadIpHeader)?);
    let target = Address::v6(bits(target).ok_or(DropReason::BadIpHeader)?);
    if source.is_v4() || target.is_v4() {
        return Err(DropReason::MartianSource);
    }
    let body = bytes.get(ip + IPV6_HEADER..end).ok_or(DropReason::BadIpHeader)?;
    let (next, skipped, fragment) = extensions(header[6], body)?;
    let upper = body.get(skipped..).ok_or(DropReason::BadExtensionHeader)?;
    let protocol = Protocol(next);
    let (ports, kind) = transport_of(upper, protocol, fragment)?;
    Ok(Packet {
        flow: flow(protocol, source, target, ports),
        ip,
        transport: ip + IPV6_HEADER + skipped,
        end,
        ttl: header[7],
        kind,
        fragment,
    })
}

/// Walks the extension headers: the protocol behind them, their octets, the fragment.
pub(in crate::dataplane) fn extensions(
    first: u8,
    body: &[u8],
) -> Result<(u8, usize, Option<Fragment>), DropReason> {
    let (mut next, mut at, mut fragment) = (first, 0usize, None);
    for _ in 0..EXTENSION_HEADERS_MAX {
        let is_extension =
            matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS);
        if !is_extension || fragment.is_some_and(|fragment: Fragment| fragment.offset > 0) {
            return Ok((next, at, fragment));
        }
        let header = body
            .get(at..)
            .and_then(|rest| rest.first_chunk::<8>())
            .ok_or(DropReason::BadExtensionHeader)?;
        let octets = match next {
            FRAGMENT => {
                let word = u16::from_be_bytes([header[2], header[3]]);
                // an atomic fragment (offset 0, none more) is a whole packet: RFC 6946
                if word & 0xfff9 != 0 {
                    fragment = Some(Fragment {
                        id: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
                        offset: word & 0xfff8,
                        more: word & 1 == 1,
                    });
                }
                8
            }
            AUTHENTICATION => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        next = header[0];
        at += octets;
    }
    Err(DropReason::BadExtensionHeader)
}
