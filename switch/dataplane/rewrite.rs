//! Turning a frame into what its binding says.
//!
//! Checksums are changed by the difference of what changed, never computed anew: a checksum that
//! came in wrong goes out wrong. Source: RFC 1624; RFC 768 (UDP's zero); RFC 8200 §8.1.

use kswitch_tables::conntrack::BindingFlags;
use kswitch_tables::{Address, Binding, Endpoint, Hop, MacAddress, Protocol};

use super::checksum::{fold, joined, updated};
use super::{Frame, Kind, Packet};

/// Writes Ethernet destination and source.
pub fn set_macs(bytes: &mut [u8], target: MacAddress, source: MacAddress) {
    if let Some(macs) = bytes.first_chunk_mut::<12>() {
        let (target_room, source_room) = macs.split_at_mut(6);
        target_room.copy_from_slice(&target.0);
        source_room.copy_from_slice(&source.0);
    }
}

/// Writes a word at `at`, big endian; nothing where it does not fit.
pub fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(room) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *room = value.to_be_bytes();
    }
}

/// Writes the checksum of an IPv4 header, which these octets are, options included.
pub(super) fn seal_ipv4(ip: &mut [u8]) {
    put_u16(ip, 10, 0);
    let checksum = super::checksum::of(ip);
    put_u16(ip, 10, checksum);
}

/// The word at `at`, big endian.
pub fn get_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word))
}

/// Applies a binding: addresses, ports, checksums, TTL, and the Ethernet header of the last step.
#[inline]
pub fn apply(frame: &mut Frame<'_>, packet: &Packet, binding: &Binding, hop: &Hop) {
    let partial = frame.vnet().needs_checksum;
    let bytes = frame.bytes_mut();
    if !binding.flags.has(BindingFlags::BRIDGED) {
        set_macs(bytes, hop.target_mac, hop.source_mac);
    }
    if packet.is_v4() {
        ipv4(bytes, packet, binding);
    } else {
        ipv6(bytes, packet, binding);
    }
    if binding.flags.has(BindingFlags::NAT) && !packet.is_later_fragment() {
        transport(bytes, packet, binding, partial);
    }
}

/// Writes addresses, TTL and header checksum.
#[inline]
fn ipv4(bytes: &mut [u8], packet: &Packet, binding: &Binding) {
    let Some(header) = bytes.get_mut(packet.ip..).and_then(<[u8]>::first_chunk_mut::<20>) else {
        return;
    };
    let hops = binding.hops.min(header[8]);
    header[8] -= hops;
    // the word of TTL and protocol falls by hops × 256, whatever its value
    let ttl_delta = if hops == 0 { 0 } else { !(u16::from(hops) << 8) };
    header[12..16].copy_from_slice(&binding.source.address.low32().to_be_bytes());
    header[16..20].copy_from_slice(&binding.target.address.low32().to_be_bytes());
    let sum = u16::from_be_bytes([header[10], header[11]]);
    let sum = updated(sum, joined(ttl_delta, binding.ip_delta));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Writes addresses and hop limit.
#[inline]
fn ipv6(bytes: &mut [u8], packet: &Packet, binding: &Binding) {
    let Some(header) = bytes.get_mut(packet.ip..).and_then(<[u8]>::first_chunk_mut::<40>) else {
        return;
    };
    header[7] = header[7].saturating_sub(binding.hops);
    header[8..24].copy_from_slice(&binding.source.address.bits().to_be_bytes());
    header[24..40].copy_from_slice(&binding.target.address.bits().to_be_bytes());
}

/// Writes ports (or an echo's identifier) and the transport checksum.
#[inline]
fn transport(bytes: &mut [u8], packet: &Packet, binding: &Binding, partial: bool) {
    let checksum_at = match packet.kind {
        Kind::Tcp(_) => 16,
        Kind::Udp => 6,
        _ => return others(bytes, packet, binding),
    };
    let Some(header) = bytes.get_mut(packet.transport..) else { return };
    set_ports(header, binding.source, binding.target);
    let Some(room) = header.get_mut(checksum_at..).and_then(<[u8]>::first_chunk_mut) else {
        return;
    };
    let (sum, is_udp) = (u16::from_be_bytes(*room), packet.kind == Kind::Udp);
    let sum = if partial {
        // the field holds the pseudo-header's sum itself, not its complement, and no ports
        !updated(!sum, binding.ip_delta)
    } else if is_udp && sum == 0 && packet.is_v4() {
        return; // the sender computed none
    } else {
        match updated(sum, binding.transport_delta) {
            0 if is_udp => 0xffff,
            sum => sum,
        }
    };
    *room = sum.to_be_bytes();
}

/// The transport header of what is neither TCP nor UDP.
#[inline(never)]
fn others(bytes: &mut [u8], packet: &Packet, binding: &Binding) {
    let at = packet.transport;
    match packet.kind {
        Kind::Sctp(_) => return sctp(bytes, packet, binding),
        Kind::EchoRequest | Kind::EchoReply => put_u16(bytes, at + 4, binding.source.port),
        // ICMPv6 of any kind is covered by the pseudo-header
        _ if packet.flow.protocol == Protocol::ICMPV6 => {}
        _ => return,
    }
    if let Some(sum) = get_u16(bytes, at + 2) {
        put_u16(bytes, at + 2, updated(sum, binding.transport_delta));
    }
}

/// Writes the ports at the head of a transport header.
#[inline]
fn set_ports(header: &mut [u8], source: Endpoint, target: Endpoint) {
    if let Some(room) = header.first_chunk_mut() {
        *room = (u32::from(source.port) << 16 | u32::from(target.port)).to_be_bytes();
    }
}

/// Writes SCTP's ports and, if they changed, its checksum. There is no pseudo-header, and a CRC
/// cannot be updated by difference; one that came in wrong stays as it is.
///
/// Source: RFC 9260 §6.8, Appendix A.
fn sctp(bytes: &mut [u8], packet: &Packet, binding: &Binding) {
    let old = (packet.flow.source.port, packet.flow.target.port);
    if old == (binding.source.port, binding.target.port) {
        return;
    }
    let Some(segment) = bytes.get_mut(packet.transport..packet.end) else { return };
    let Some(sum) = segment.get(8..12).and_then(|room| room.first_chunk().copied()) else { return };
    let was_right = packet.fragment.is_none() && summed(segment) == sum;
    set_ports(segment, binding.source, binding.target);
    let sum = if was_right { summed(segment) } else { sum };
    if let Some(room) = segment.get_mut(8..12) {
        room.copy_from_slice(&sum);
    }
}

/// The `CRC32c` of an SCTP packet over a checksum field of zero, which is left behind.
fn summed(segment: &mut [u8]) -> [u8; 4] {
    if let Some(room) = segment.get_mut(8..12) {
        room.fill(0);
    }
    crc32c(segment).to_le_bytes()
}

/// `CRC32c`, an octet at a time from a table.
pub fn crc32c(bytes: &[u8]) -> u32 {
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut at = 0;
        while at < 256 {
            #[expect(clippy::cast_possible_truncation, reason = "an index below 256")]
            let mut word = at as u32;
            let mut bit = 0;
            while bit < 8 {
                word = if word & 1 == 1 { (word >> 1) ^ 0x82f6_3b78 } else { word >> 1 };
                bit += 1;
            }
            table[at] = word;
            at += 1;
        }
        table
    };
    !bytes.iter().fold(!0u32, |crc, byte| {
        let at = (crc ^ u32::from(*byte)) & 0xff;
        (crc >> 8) ^ TABLE.get(at as usize).copied().unwrap_or(0)
    })
}

/// The deltas of rewriting `from` to `to`: of the addresses, and of what the transport checksum
/// covers.
pub fn deltas(
    protocol: Protocol,
    from: (Endpoint, Endpoint),
    to: (Endpoint, Endpoint),
) -> (u16, u16) {
    let addresses =
        |ends: (Endpoint, Endpoint)| -> (Address, Address) { (ends.0.address, ends.1.address) };
    let address = super::checksum::address_delta(addresses(from), addresses(to));
    let port = super::checksum::port_delta(protocol, from, to);
    let transport = match protocol {
        // ICMP for IPv4 covers no pseudo-header
        Protocol::ICMP => port,
        _ => fold(u64::from(address) + u64::from(port)),
    };
    (address, transport)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
