//! Address blocks with exceptions.

use crate::{Address, Prefix, PrefixMap};

/// Up to so many prefixes are compared one by one, which then costs less than hashing.
const FEW: usize = 8;

/// A union of address blocks, each less its own exceptions.
///
/// An exception takes away from its own block only: another block may hold the address still. Every
/// prefix that is written anywhere is kept with whether the addresses are held of which it is the
/// longest such prefix, since all of them are in the same blocks and exceptions.
#[derive(Clone, Debug)]
pub struct Blocks(Form);

#[derive(Clone, Debug)]
enum Form {
    /// Longest first.
    Few(Box<[(Prefix, bool)]>),
    Many(Box<PrefixMap<bool>>),
}

/// A block and its exceptions.
pub type Block = (Prefix, Vec<Prefix>);

impl Blocks {
    /// The union of these blocks; maps hash by `seed`.
    pub fn new(seed: u64, blocks: &[Block]) -> Self {
        let is_something = |(range, exceptions): &&Block| {
            !exceptions.iter().any(|exception| within(*range, *exception))
        };
        let blocks: Vec<&Block> = blocks.iter().filter(is_something).collect();
        let is_held = |exception: &Prefix| {
            let holds = |(range, exceptions): &&Block| {
                within(*exception, *range)
                    && !exceptions.iter().any(|other| within(*exception, *other))
            };
            blocks.iter().any(holds)
        };
        let exceptions = blocks.iter().flat_map(|(_, exceptions)| exceptions);
        let mut prefixes: Vec<(Prefix, bool)> =
            exceptions.map(|exception| (*exception, is_held(exception))).collect();
        prefixes.extend(blocks.iter().map(|(range, _)| (*range, true)));
        prefixes.sort_unstable_by_key(|(prefix, held)| {
            (std::cmp::Reverse(prefix.length128()), prefix.address(), !held)
        });
        // what is a block somewhere is held, whatever else it is
        prefixes.dedup_by_key(|(prefix, _)| *prefix);
        if prefixes.len() <= FEW {
            return Self(Form::Few(prefixes.into()));
        }
        let mut map = PrefixMap::new(seed);
        for (prefix, held) in prefixes {
            map.insert(prefix, held);
        }
        Self(Form::Many(Box::new(map)))
    }

    /// Whether `address` is in one of the blocks, and in none of that one's exceptions.
    ///
    /// **Cost**: a comparison for each of a few prefixes, a probe per distinct length of many.
    #[inline]
    pub fn contains(&self, address: Address) -> bool {
        match &self.0 {
            Form::Few(prefixes) => {
                let longest = prefixes.iter().find(|(prefix, _)| holds(*prefix, address));
                longest.is_some_and(|(_, held)| *held)
            }
            Form::Many(map) => map
                .find_prefix(address)
                .is_some_and(|(prefix, held)| *held && holds(prefix, address)),
        }
    }

    /// Memory it holds, octets; an estimate for many prefixes.
    pub fn octets(&self) -> usize {
        let (prefixes, each) = match &self.0 {
            Form::Few(prefixes) => (prefixes.len(), size_of::<(Prefix, bool)>()),
            Form::Many(map) => (map.iter().count(), 2 * size_of::<(Address, bool)>()),
        };
        prefixes * each
    }
}

/// Whether every address of `inner` is in `outer`.
fn within(inner: Prefix, outer: Prefix) -> bool {
    outer.length128() <= inner.length128() && holds(outer, inner.address())
}

/// Whether a prefix holds an address of its own family: `::/0` holds no IPv4 address.
fn holds(prefix: Prefix, address: Address) -> bool {
    let is_v4 = prefix.length128() >= 96 && prefix.address().is_v4();
    is_v4 == address.is_v4() && prefix.contains(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Prefixes of a few bits, so that they nest.
    fn prefixes() -> impl Strategy<Value = Prefix> {
        (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| Prefix::new(near(bits), length))
    }

    const fn near(bits: u32) -> Address {
        Address::v4(bits & 0xc003_0301)
    }

    #[test]
    fn blocks_of_one_family_hold_nobody_of_the_other() {
        let any_v6 = (Prefix::new(Address::UNSPECIFIED_V6, 0), vec![]);
        let some_v4 =
            (Prefix::new(Address::v4(10 << 24), 8), vec![Prefix::new(Address::v4(10 << 24), 9)]);
        for count in [1, 40] {
            // few prefixes, and many
            let v6 = (0..count).map(|at| (Prefix::new(Address::v6(1 << 100 | at), 128), vec![]));
            let blocks: Vec<Block> = v6.chain([any_v6.clone(), some_v4.clone()]).collect();
            let blocks = Blocks::new(1, &blocks);
            assert!(
                blocks.contains(Address::v6(7)) && blocks.contains(Address::v4(10 << 24 | 1 << 23))
            );
            assert!(!blocks.contains(Address::v4(10 << 24)) && !blocks.contains(Address::v4(7)));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_reading_one_by_one(
            blocks in prop::collection::vec((prefixes(), prop::collection::vec(prefixes(), 0..4)), 0..8),
            probes in prop::collection::vec(any::<u32>(), 1..40),
        ) {
            let compiled = Blocks::new(3, &blocks);
            for probe in probes {
                let probe = near(probe);
                let naive = blocks.iter().any(|(range, exceptions)| {
                    range.contains(probe) && !exceptions.iter().any(|e| e.contains(probe))
                });
                prop_assert_eq!(compiled.contains(probe), naive);
            }
        }
    }
}
