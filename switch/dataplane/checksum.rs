//! The Internet checksum: whole, and by difference.
//!
//! Source: RFC 1071; RFC 1624 equation 3.

use kswitch_tables::{Address, Endpoint, Protocol};

/// Folds a sum of 16-bit words to 16 bits, carries added back.
#[expect(clippy::cast_possible_truncation, reason = "two folds leave 16 bits")]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The one's-complement sum of `bytes` as big-endian words, an odd octet padded with zero.
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut total = 0u64;
    for word in words {
        let word = u64::from_be_bytes(*word);
        // two halves, so that the carries stay within the accumulator
        total += (word >> 32) + (word & 0xffff_ffff);
    }
    let (pairs, odd) = rest.as_chunks::<2>();
    for pair in pairs {
        total += u64::from(u16::from_be_bytes(*pair));
    }
    if let [last] = odd {
        total += u64::from(*last) << 8;
    }
    total
}

/// The checksum of `bytes`.
pub fn of(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// The sum of the words of an address.
pub fn address_sum(address: Address) -> u64 {
    if address.is_v4() {
        u64::from(address.low32())
    } else {
        let bits = address.bits();
        let quarter = |shift: u32| u64::try_from((bits >> shift) & 0xffff_ffff).unwrap_or(0);
        quarter(96) + quarter(64) + quarter(32) + quarter(0)
    }
}

/// The sum of the pseudo-header; `length` is that of the upper-layer packet, octets.
///
/// Source: RFC 9293 §3.1, RFC 8200 §8.1.
pub fn pseudo_header_sum(source: Address, target: Address, protocol: Protocol, length: u32) -> u64 {
    address_sum(source) + address_sum(target) + u64::from(protocol.0) + u64::from(length)
}

/// The same of the two addresses as they stand in a header.
pub fn pseudo_header_sum_of(addresses: &[u8], protocol: Protocol, length: usize) -> u64 {
    sum(addresses) + u64::from(protocol.0) + length as u64
}

/// What to add to the complement of a checksum when words summing to `old` become words summing
/// to `new`: `~m + m'` of RFC 1624.
pub const fn delta(old: u64, new: u64) -> u16 {
    // folding both first keeps the subtraction within one's complement
    fold(!fold(old) as u64 + fold(new) as u64)
}

/// The checksum after a change of `delta`. A delta of zero changes nothing, so that a field whose
/// value is already unusual is passed on as it came.
///
/// Source: RFC 1624 §3, equation 3: `HC' = ~(~HC + ~m + m')`.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "two words fold to one at once")]
pub const fn updated(checksum: u16, delta: u16) -> u16 {
    if delta == 0 || delta == 0xffff {
        return checksum;
    }
    let sum = !checksum as u32 + delta as u32;
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Both changes, one after the other, as one.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "two words fold to one at once")]
pub const fn joined(one: u16, other: u16) -> u16 {
    let sum = one as u32 + other as u32;
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The delta of replacing the addresses of `old` by those of `new`.
pub fn address_delta(old: (Address, Address), new: (Address, Address)) -> u16 {
    if old == new {
        return 0;
    }
    delta(address_sum(old.0) + address_sum(old.1), address_sum(new.0) + address_sum(new.1))
}

/// The delta of replacing ports (or, for echo, the identifier, which stands in both ends).
pub fn port_delta(protocol: Protocol, old: (Endpoint, Endpoint), new: (Endpoint, Endpoint)) -> u16 {
    let words = |ends: (Endpoint, Endpoint)| {
        if protocol.has_ports() {
            u64::from(ends.0.port) + u64::from(ends.1.port)
        } else {
            u64::from(ends.0.port)
        }
    };
    let (old, new) = (words(old), words(new));
    if old == new { 0 } else { delta(old, new) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        assert_eq!(updated(0xdd2f, delta(0x5555, 0x3285)), 0x0000);
    }

    #[test]
    fn an_unchanged_word_leaves_even_an_odd_checksum_alone() {
        assert_eq!(updated(0xffff, delta(0x1234, 0x1234)), 0xffff);
        assert_eq!(updated(0x0000, delta(0x1234, 0x1234)), 0x0000);
    }

    proptest! {
        #[test]
        fn the_update_agrees_with_the_whole(
            mut bytes in prop::collection::vec(any::<u8>(), 2..80),
            at in any::<prop::sample::Index>(),
            new in any::<u16>(),
        ) {
            if bytes.len() % 2 == 1 {
                bytes.push(0);
            }
            // a constant word keeps the sum away from zero, as a protocol number does in a packet
            bytes.extend([0x00, 0x11]);
            let at = at.index(bytes.len() / 2) * 2;
            let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let before = of(&bytes);
            bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
            let after = of(&bytes);
            let update = updated(before, delta(u64::from(old), u64::from(new)));
            prop_assert!(update == after || (update ^ after) == 0xffff);
        }

        #[test]
        fn the_sum_agrees_with_word_by_word(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let naive: u64 = bytes
                .chunks(2)
                .map(|pair| (u64::from(pair[0]) << 8) + pair.get(1).map_or(0, |b| u64::from(*b)))
                .sum();
            prop_assert_eq!(fold(sum(&bytes)) % 0xffff, fold(naive) % 0xffff);
        }
    }
}
