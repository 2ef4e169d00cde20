//! Addresses and prefixes, IPv4 and IPv6 in one shape.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or IPv6 address in 128 bits, so that every table treats both alike.
///
/// IPv4 is stored in its IPv4-mapped form, `::ffff:a.b.c.d`. Frames never carry mapped addresses
/// (the parser refuses them), so the two families cannot be confused.
///
/// Source: RFC 4291 §2.5.5.2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    // two words rather than one of 128 bits, which would align every flow to 16 octets and pad
    // it by a third
    high: u64,
    low: u64,
}

const V4_MAPPED: u64 = 0xffff_0000_0000;

impl Address {
    /// `0.0.0.0`.
    pub const UNSPECIFIED_V4: Self = Self::v4(0);
    /// `::`.
    pub const UNSPECIFIED_V6: Self = Self::v6(0);

    /// The IPv4 address of these 32 bits, host order.
    #[inline]
    pub const fn v4(bits: u32) -> Self {
        Self { high: 0, low: V4_MAPPED | bits as u64 }
    }

    /// The IPv6 address of these 128 bits, host order.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a half each")]
    pub const fn v6(bits: u128) -> Self {
        Self { high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// All 128 bits, host order; IPv4 in its mapped form.
    #[inline]
    pub const fn bits(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    /// The low 32 bits, host order: the whole of an IPv4 address.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
    pub const fn low32(self) -> u32 {
        self.low as u32
    }

    /// Whether this is an IPv4 address.
    #[inline]
    pub const fn is_v4(self) -> bool {
        self.high == 0 && self.low >> 32 == V4_MAPPED >> 32
    }

    /// Whether this is `0.0.0.0` or `::`.
    pub const fn is_unspecified(self) -> bool {
        self.high == 0 && (self.low == V4_MAPPED || self.low == 0)
    }

    /// Whether this is a multicast address, or IPv4's limited broadcast.
    pub const fn is_multicast(self) -> bool {
        if self.is_v4() {
            self.low32() >> 28 == 0xe || self.low32() == u32::MAX
        } else {
            self.high >> 56 == 0xff
        }
    }

    /// Whether this is a loopback address.
    pub const fn is_loopback(self) -> bool {
        if self.is_v4() { self.low32() >> 24 == 127 } else { self.bits() == 1 }
    }

    /// Whether this is a link-local unicast address (`169.254/16`, `fe80::/10`).
    pub const fn is_link_local(self) -> bool {
        if self.is_v4() { self.low32() >> 16 == 0xa9fe } else { self.high >> 54 == 0xfe80 >> 6 }
    }

    /// The standard library's form.
    pub fn to_ip(self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from_bits(self.low32()))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(self.bits()))
        }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::v4(ip.to_bits()),
            IpAddr::V6(ip) => Self::v6(ip.to_bits()),
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(ip: Ipv4Addr) -> Self {
        Self::v4(ip.to_bits())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(ip: Ipv6Addr) -> Self {
        Self::v6(ip.to_bits())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

/// Length over 128 bits of the prefix that holds all IPv4 addresses.
pub(crate) const V4_START: u8 = 96;

/// An address prefix; bits below the length are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: Address,
    /// Length over the 128-bit form: an IPv4 /24 has 120.
    length: u8,
}

impl Prefix {
    /// The prefix of `address` whose length, counted in its own family, is `length`.
    ///
    /// Lengths beyond the family's width mean the whole address.
    pub const fn new(address: Address, length: u8) -> Self {
        let length = if address.is_v4() {
            if length > 32 { 128 } else { 96 + length }
        } else if length > 128 {
            128
        } else {
            length
        };
        Self { address: Address::v6(address.bits() & mask(length)), length }
    }

    /// The prefix of `address` of this length over 128 bits.
    pub(crate) const fn of_length128(address: Address, length: u8) -> Self {
        Self { address: Address::v6(address.bits() & mask(length)), length }
    }

    /// The prefix that holds this address alone.
    pub const fn host(address: Address) -> Self {
        Self { address, length: 128 }
    }

    /// The first address of the prefix.
    pub const fn address(self) -> Address {
        self.address
    }

    /// The last address of the prefix: of an IPv4 link, its broadcast address.
    pub const fn last(self) -> Address {
        Address::v6(self.address.bits() | !mask(self.length))
    }

    /// Length over the 128-bit form of [`Address::bits`]: 0..=128.
    pub const fn length128(self) -> u8 {
        self.length
    }

    /// Length counted in the prefix's own family, as people write it.
    pub const fn length(self) -> u8 {
        if self.address.is_v4() { self.length.saturating_sub(96) } else { self.length }
    }

    /// Whether it is a prefix of IPv4 addresses. A short prefix of IPv6 holds no IPv4 address,
    /// although it holds the bits of their mapped form.
    pub const fn is_v4(self) -> bool {
        self.length >= V4_START && self.address.is_v4()
    }

    /// Whether `address` lies in this prefix.
    pub const fn contains(self, address: Address) -> bool {
        self.is_v4() == address.is_v4()
            && (address.bits() ^ self.address.bits()) & mask(self.length) == 0
    }

    /// Whether the two prefixes share an address.
    pub const fn overlaps(self, other: Self) -> bool {
        let shorter = if self.length < other.length { self.length } else { other.length };
        self.is_v4() == other.is_v4()
            && (self.address.bits() ^ other.address.bits()) & mask(shorter) == 0
    }
}

/// The mask of the first `length` of 128 bits.
const fn mask(length: u8) -> u128 {
    if length == 0 { 0 } else { u128::MAX << (128 - length as u32) }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ethernet address, octets in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the group bit is set: multicast or broadcast.
    pub const fn is_group(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 1
    }

    /// The address as the low 48 bits of a word, first octet highest.
    pub const fn to_bits(self) -> u64 {
        let mut bits = 0;
        let mut at = 0;
        while let Some((octet, _)) = self.0.split_at(at).1.split_first() {
            bits = bits << 8 | *octet as u64;
            at += 1;
        }
        bits
    }

    /// The address in the low 48 bits of a word.
    pub const fn from_bits(bits: u64) -> Self {
        let octets = bits.to_be_bytes();
        match octets.last_chunk() {
            Some(low) => Self(*low),
            None => Self([0; 6]),
        }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, octet) in self.0.iter().enumerate() {
            let colon = if number == 0 { "" } else { ":" };
            write!(out, "{colon}{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn families_keep_their_own_lengths() {
        let v4 = Prefix::new(address("10.4.7.9"), 14);
        assert_eq!(v4.to_string(), "10.4.0.0/14");
        assert!(v4.contains(address("10.7.255.255")) && !v4.contains(address("10.8.0.0")));
        let v6 = Prefix::new(address("fd00:4::1"), 48);
        assert_eq!(v6.to_string(), "fd00:4::/48");
        assert!(!v6.contains(address("10.4.0.1")));
    }

    #[test]
    fn a_default_route_of_one_family_does_not_hold_the_other() {
        let v4 = Prefix::new(Address::UNSPECIFIED_V4, 0);
        assert!(v4.contains(address("198.51.100.7")) && !v4.contains(address("2001:db8::7")));
    }

    #[test]
    fn short_prefixes_of_ipv6_hold_no_ipv4() {
        for length in [0, 1, 64, 80] {
            let prefix = Prefix::new(Address::UNSPECIFIED_V6, length);
            assert!(!prefix.contains(address("198.51.100.7")));
            assert!(!prefix.overlaps(Prefix::new(Address::UNSPECIFIED_V4, 0)));
            assert!(prefix.contains(address("::7")));
        }
    }

    #[test]
    fn overlap_is_symmetric() {
        let wide = Prefix::new(address("10.0.0.0"), 8);
        let narrow = Prefix::new(address("10.4.0.0"), 14);
        assert!(wide.overlaps(narrow) && narrow.overlaps(wide));
        assert!(!narrow.overlaps(Prefix::new(address("10.8.0.0"), 20)));
    }

    #[test]
    fn kinds_of_address() {
        assert!(address("224.0.0.1").is_multicast() && address("255.255.255.255").is_multicast());
        assert!(address("ff02::1").is_multicast() && !address("fd00::1").is_multicast());
        assert!(address("fe80::1").is_link_local() && address("169.254.1.1").is_link_local());
        assert!(address("127.0.0.53").is_loopback() && address("::1").is_loopback());
    }
}
