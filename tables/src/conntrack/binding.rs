//! What is remembered of one direction of a connection, and how it lies in a slot.

use super::Direction;
use crate::{Address, Endpoint, Flow, Generation, HopId, LoadId, PortId, Protocol};

/// Everything that forwarding a frame of one direction needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The port that frames of this direction come in at.
    pub ingress: PortId,
    /// The source after rewriting.
    pub source: Endpoint,
    /// The target after rewriting.
    pub target: Endpoint,
    /// What to add to the IPv4 header's checksum for the change of addresses, one's complement.
    ///
    /// Source: RFC 1624 §3.
    pub ip_delta: u16,
    /// What to add to the transport checksum for the change of addresses and ports.
    pub transport_delta: u16,
    /// Routers crossed, at most 15: how much to take off TTL or hop limit.
    pub hops: u8,
    /// The last step to the target.
    pub hop: HopId,
    /// What counts the connection for its backend; of the original direction.
    pub load: LoadId,
    /// The snapshot this was judged under.
    pub generation: Generation,
    /// Yes or no.
    pub flags: BindingFlags,
}

impl Binding {
    /// Which way frames of this binding go.
    pub const fn direction(&self) -> Direction {
        if self.flags.has(BindingFlags::REPLY) { Direction::Reply } else { Direction::Original }
    }

    /// The flow of frames of the other direction, as they come in.
    pub const fn answered_by(&self, protocol: Protocol) -> Flow {
        Flow { protocol, source: self.target, target: self.source }
    }
}

/// What a binding is, yes or no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindingFlags(pub u8);

impl BindingFlags {
    /// It is of the reply direction. Set by [`bind`](super::Conntrack::bind).
    pub const REPLY: Self = Self(1);
    /// Frames stay on their bridge: Ethernet addresses are left as they are.
    pub const BRIDGED: Self = Self(2);
    /// Addresses or ports change.
    pub const NAT: Self = Self(4);
    /// The source of the original direction is not the client's own.
    pub const MASQUERADED: Self = Self(8);

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Both.
    #[must_use]
    #[inline]
    pub const fn and(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// These without `flags`.
    #[must_use]
    #[inline]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }
}

/// A binding and the slot of the other direction's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) binding: Binding,
    pub(super) peer: u32,
}

/// How flows and bindings of one family lie in words.
pub(super) trait Layout<const KEY: usize, const VALUE: usize> {
    fn key(flow: &Flow) -> [u64; KEY];
    fn flow(key: &[u64; KEY]) -> Flow;
    fn value(record: &Record) -> [u64; VALUE];
    fn record(value: &[u64; VALUE]) -> Record;
}

/// IPv4: with key and life, one cache line.
#[derive(Debug)]
pub(super) struct V4;

/// IPv6: two.
#[derive(Debug)]
pub(super) struct V6;

impl Layout<2, 4> for V4 {
    #[inline]
    fn key(flow: &Flow) -> [u64; 2] {
        let source = u64::from(flow.source.address.low32());
        let target = u64::from(flow.target.address.low32());
        [source << 32 | target, ports_key(flow)]
    }

    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of words")]
    fn flow(&[addresses, ports]: &[u64; 2]) -> Flow {
        let address = |bits: u64| Address::v4(bits as u32);
        flow(address(addresses >> 32), address(addresses), ports)
    }

    #[inline]
    fn value(record: &Record) -> [u64; 4] {
        let Binding { source, target, .. } = record.binding;
        let addresses = u64::from(source.address.low32()) << 32 | u64::from(target.address.low32());
        let [first, second, third] = pack(record);
        [addresses, first, second, third]
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of words")]
    fn record(&[addresses, first, second, third]: &[u64; 4]) -> Record {
        let source = Address::v4((addresses >> 32) as u32);
        let target = Address::v4(addresses as u32);
        unpack(source, target, [first, second, third])
    }
}

impl Layout<5, 7> for V6 {
    #[inline]
    fn key(flow: &Flow) -> [u64; 5] {
        let [a, b] = halves(flow.source.address);
        let [c, d] = halves(flow.target.address);
        [a, b, c, d, ports_key(flow)]
    }

    fn flow(&[a, b, c, d, ports]: &[u64; 5]) -> Flow {
        flow(joined(a, b), joined(c, d), ports)
    }

    #[inline]
    fn value(record: &Record) -> [u64; 7] {
        let [a, b] = halves(record.binding.source.address);
        let [c, d] = halves(record.binding.target.address);
        let [first, second, third] = pack(record);
        [a, b, c, d, first, second, third]
    }

    #[inline]
    fn record(&[a, b, c, d, first, second, third]: &[u64; 7]) -> Record {
        unpack(joined(a, b), joined(c, d), [first, second, third])
    }
}

/// High and low half of an address.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "fields are cut out of words")]
pub(crate) const fn halves(address: Address) -> [u64; 2] {
    [(address.bits() >> 64) as u64, address.bits() as u64]
}

/// The address of two halves.
#[inline]
pub(crate) const fn joined(high: u64, low: u64) -> Address {
    Address::v6((high as u128) << 64 | low as u128)
}

#[inline]
fn ports_key(flow: &Flow) -> u64 {
    u64::from(flow.source.port) << 48
        | u64::from(flow.target.port) << 32
        | u64::from(flow.protocol.0)
}

#[expect(clippy::cast_possible_truncation, reason = "fields are cut out of words")]
fn flow(source: Address, target: Address, ports: u64) -> Flow {
    Flow {
        protocol: Protocol(ports as u8),
        source: Endpoint::new(source, (ports >> 48) as u16),
        target: Endpoint::new(target, (ports >> 32) as u16),
    }
}

/// All but the addresses: 192 bits, all of them used.
#[inline]
fn pack(record: &Record) -> [u64; 3] {
    let Record { binding, peer } = *record;
    let Binding {
        ingress,
        source,
        target,
        ip_delta,
        transport_delta,
        hops,
        hop,
        load,
        generation,
        flags,
    } = binding;
    debug_assert!(hops < 16 && hop.0 <= HopId::MAX.0);
    [
        u64::from(source.port) << 48
            | u64::from(target.port) << 32
            | u64::from(ip_delta) << 16
            | u64::from(transport_delta),
        u64::from(ingress.0) << 48
            | u64::from(load.0) << 32
            | u64::from(flags.0) << 24
            | u64::from(hops & 15) << 20
            | u64::from(hop.0 & HopId::MAX.0),
        u64::from(generation.0) << 32 | u64::from(peer),
    ]
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "fields are cut out of words")]
fn unpack(source: Address, target: Address, [first, second, third]: [u64; 3]) -> Record {
    Record {
        binding: Binding {
            ingress: PortId((second >> 48) as u16),
            source: Endpoint::new(source, (first >> 48) as u16),
            target: Endpoint::new(target, (first >> 32) as u16),
            ip_delta: (first >> 16) as u16,
            transport_delta: first as u16,
            hops: (second >> 20) as u8 & 15,
            hop: HopId(second as u32 & HopId::MAX.0),
            load: LoadId((second >> 32) as u16),
            generation: Generation((third >> 32) as u32),
            flags: BindingFlags((second >> 24) as u8),
        },
        peer: third as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(a: u128, b: u128, is_v4: bool, words: [u64; 3]) -> Record {
        let address = |bits: u128| {
            if is_v4 { Address::v4(u32::try_from(bits >> 96).unwrap()) } else { Address::v6(bits) }
        };
        unpack(address(a), address(b), words)
    }

    proptest! {
        #[test]
        fn a_record_survives_its_words(a: u128, b: u128, words: [u64; 3]) {
            let v4 = record(a, b, true, words);
            prop_assert_eq!(V4::record(&V4::value(&v4)), v4);
            prop_assert_eq!(pack(&v4), words);
            let v6 = record(a, b, false, words);
            prop_assert_eq!(V6::record(&V6::value(&v6)), v6);
        }

        #[test]
        fn a_flow_survives_its_key(a: u128, b: u128, ports: [u16; 2], protocol: u8) {
            let flow = |a, b| Flow {
                protocol: Protocol(protocol),
                source: Endpoint::new(a, ports[0]),
                target: Endpoint::new(b, ports[1]),
            };
            let v6 = flow(Address::v6(a), Address::v6(b));
            prop_assert_eq!(V6::flow(&V6::key(&v6)), v6);
            let short = |bits: u128| Address::v4(u32::try_from(bits >> 96).unwrap());
            let v4 = flow(short(a), short(b));
            prop_assert_eq!(V4::flow(&V4::key(&v4)), v4);
        }
    }
}
