//! Longest-prefix match.

use crate::address::V4_START;
use crate::hash::{Map, map};
use crate::{Address, Prefix};

/// A map from prefixes to values, read by longest prefix.
///
/// One hash map per prefix length in use, longest first.
/// **Cost**: one probe per distinct length; no allocation.
#[derive(Clone, Debug, Default)]
pub struct PrefixMap<T> {
    /// By falling length over 128 bits.
    lengths: Vec<(u8, Map<Address, T>)>,
    seed: u64,
}

impl<T> PrefixMap<T> {
    /// An empty map that hashes by `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { lengths: Vec::new(), seed }
    }

    /// Maps `prefix` to `value`; answers what it mapped to before.
    pub fn insert(&mut self, prefix: Prefix, value: T) -> Option<T> {
        let length = prefix.length128();
        let at = self.lengths.partition_point(|(have, _)| *have > length);
        if self.lengths.get(at).is_none_or(|(have, _)| *have != length) {
            self.lengths.insert(at, (length, map(self.seed)));
        }
        let (_, map) = self.lengths.get_mut(at)?;
        map.insert(prefix.address(), value)
    }

    /// The value of the longest prefix that holds `address`.
    pub fn find(&self, address: Address) -> Option<&T> {
        self.find_prefix(address).map(|(_, value)| value)
    }

    /// The longest prefix that holds `address`, and its value.
    pub fn find_prefix(&self, address: Address) -> Option<(Prefix, &T)> {
        // the short prefixes of IPv6 hold the mapped form of IPv4 in bits, not in meaning
        let shortest = if address.is_v4() { V4_START } else { 0 };
        let lengths = self.lengths.iter().take_while(|(length, _)| *length >= shortest);
        lengths
            .map(|(length, map)| (Prefix::of_length128(address, *length), map))
            .find_map(|(prefix, map)| map.get(&prefix.address()).map(|value| (prefix, value)))
    }

    /// Every prefix with its value, longest first.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix, &T)> {
        self.lengths.iter().flat_map(|(length, map)| {
            map.iter().map(|(address, value)| (Prefix::of_length128(*address, *length), value))
        })
    }

    /// Whether there is no prefix at all.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> Address {
        text.parse::<std::net::IpAddr>().unwrap().into()
    }

    #[test]
    fn the_longest_prefix_wins_in_its_family() {
        let mut map = PrefixMap::new(1);
        map.insert(Prefix::new(address("0.0.0.0"), 0), "default");
        map.insert(Prefix::new(address("10.0.0.0"), 8), "ten");
        map.insert(Prefix::new(address("10.4.1.0"), 24), "node");
        map.insert(Prefix::new(address("::"), 0), "default v6");
        assert_eq!(map.find(address("10.4.1.9")), Some(&"node"));
        assert_eq!(map.find(address("10.4.2.9")), Some(&"ten"));
        assert_eq!(map.find(address("192.0.2.1")), Some(&"default"));
        assert_eq!(map.find(address("2001:db8::1")), Some(&"default v6"));
    }

    #[test]
    fn a_default_route_of_one_family_is_not_the_others() {
        let mut map = PrefixMap::new(1);
        map.insert(Prefix::new(address("::"), 0), "v6");
        assert_eq!(map.find(address("192.0.2.1")), None);
        assert_eq!(map.find(address("2001:db8::1")), Some(&"v6"));
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_reading(
            rules in prop::collection::vec((any::<u32>(), 0u8..=32), 0..40),
            probes in prop::collection::vec(any::<u32>(), 1..40),
        ) {
            // addresses from few bits, so that prefixes nest
            let near = |bits: u32| Address::v4(bits & 0xc003_0301);
            let mut map = PrefixMap::new(7);
            for (bits, length) in &rules {
                map.insert(Prefix::new(near(*bits), *length), *length);
            }
            for probe in probes {
                let naive = rules
                    .iter()
                    .filter(|(bits, length)| Prefix::new(near(*bits), *length).contains(near(probe)))
                    .map(|(_, length)| *length)
                    .max();
                prop_assert_eq!(map.find(near(probe)).copied(), naive);
            }
        }
    }
}
