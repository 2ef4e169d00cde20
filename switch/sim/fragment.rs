//! Cutting IP packets into fragments, and putting them together again, as machines do.

use crate::dataplane::checksum;
use crate::dataplane::rewrite::put_u16;

use super::read::Received;

/// Octets of an IPv4 header without options, and of an IPv6 header.
const HEADERS: (usize, usize) = (20, 40);

/// IPv6 next header: fragment.
const FRAGMENT: u8 = 44;

/// More fragments follow; in IPv4's field and in IPv6's.
const MORE: (u16, u16) = (0x2000, 1);

/// Cuts an IP packet without options into fragments with up to so many octets above IP each.
pub fn cut(packet: &[u8], octets: usize, id: u32) -> Vec<Vec<u8>> {
    let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let header = if is_v4 { HEADERS.0 } else { HEADERS.1 };
    let (Some(header), Some(upper)) = (packet.get(..header), packet.get(header..)) else {
        return Vec::new();
    };
    let step = (octets / 8).max(1) * 8;
    let pieces = upper.chunks(step).count();
    let piece = |(at, piece): (usize, &[u8])| {
        let offset = u16::try_from(at * step).unwrap_or(u16::MAX);
        let is_last = at + 1 == pieces;
        let mut fragment = header.to_vec();
        if is_v4 {
            let more = if is_last { 0 } else { MORE.0 };
            fragment.extend(piece);
            let length = u16::try_from(fragment.len()).unwrap_or(u16::MAX);
            put_u16(&mut fragment, 2, length);
            #[expect(clippy::cast_possible_truncation, reason = "IPv4 has sixteen bits for it")]
            put_u16(&mut fragment, 4, id as u16);
            put_u16(&mut fragment, 6, (offset / 8) | more);
            fix_checksum(&mut fragment);
        } else {
            let more = if is_last { 0 } else { MORE.1 };
            let next = std::mem::replace(fragment.get_mut(6).unwrap_or(&mut 0), FRAGMENT);
            fragment.extend([next, 0]);
            fragment.extend((offset | more).to_be_bytes());
            fragment.extend(id.to_be_bytes());
            fragment.extend(piece);
            let length = u16::try_from(fragment.len() - HEADERS.1).unwrap_or(u16::MAX);
            put_u16(&mut fragment, 4, length);
        }
        fragment
    };
    upper.chunks(step).enumerate().map(piece).collect()
}

/// Puts fragments of one packet together; `None` while some are missing.
pub fn join(fragments: &[Received]) -> Option<Vec<u8>> {
    let mut pieces: Vec<(usize, bool, &Received)> = Vec::new();
    for piece in fragments {
        let fragment = piece.packet.fragment?;
        pieces.push((usize::from(fragment.offset), fragment.more, piece));
    }
    pieces.sort_by_key(|(offset, _, _)| *offset);
    let (_, _, first) = pieces.first()?;
    let is_v4 = first.packet.is_v4();
    let header = if is_v4 { HEADERS.0 } else { HEADERS.1 };
    let mut packet = first.ip.get(..header)?.to_vec();
    let mut is_whole = false;
    for (offset, more, piece) in &pieces {
        if packet.len() - header != *offset || is_whole {
            return None;
        }
        packet.extend(piece.upper());
        is_whole = !more;
    }
    if !is_whole {
        return None;
    }
    if is_v4 {
        let length = u16::try_from(packet.len()).ok()?;
        put_u16(&mut packet, 2, length);
        put_u16(&mut packet, 6, 0);
        fix_checksum(&mut packet);
    } else {
        let length = u16::try_from(packet.len() - HEADERS.1).ok()?;
        put_u16(&mut packet, 4, length);
        *packet.get_mut(6)? = first.packet.flow.protocol.0;
    }
    Some(packet)
}

/// Computes the checksum of an IPv4 header without options.
pub fn fix_checksum(packet: &mut [u8]) {
    put_u16(packet, 10, 0);
    let sum = checksum::of(packet.get(..HEADERS.0).unwrap_or(&[]));
    put_u16(packet, 10, sum);
}

#[cfg(test)]
mod tests {
    use kswitch_tables::{Address, Endpoint, MacAddress};

    use super::*;
    use crate::sim::craft::{Craft, ethernet};

    fn round_trip(source: Address, target: Address, ethertype: u16) {
        let (source, target) = (Endpoint::new(source, 7), Endpoint::new(target, 9));
        let data: Vec<u8> = (0..4000_u32).map(|n| n.to_be_bytes()[3]).collect();
        let whole = Craft::udp(source, target, &data).packet();
        let mut pieces = cut(&whole, 1400, 77);
        assert_eq!(pieces.len(), 3);
        pieces.reverse();
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        let read = |piece: &Vec<u8>| Received::read(&ethernet(mac, mac, ethertype, piece)).unwrap();
        let received: Vec<_> = pieces.iter().map(read).collect();
        assert_eq!(join(&received[..2]), None);
        let joined = join(&received).unwrap();
        let joined = Received::read(&ethernet(mac, mac, ethertype, &joined)).unwrap();
        assert!(joined.is_intact);
        assert_eq!(joined.data(), data);
        assert_eq!(joined.ends(), (source, target));
    }

    #[test]
    fn packets_are_cut_and_joined() {
        round_trip(Address::v4(0x0a00_0001), Address::v4(0x0a00_0002), 0x0800);
        round_trip(Address::v6(0xfd00 << 112 | 1), Address::v6(0xfd00 << 112 | 2), 0x86dd);
    }
}
