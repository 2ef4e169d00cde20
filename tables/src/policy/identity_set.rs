//! Sets of identities: what a selector comes to.

use super::IdentityId;

/// A set of identities.
///
/// Few are listed, many are bits; whichever is smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySet(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// Rising.
    Listed(Box<[u32]>),
    /// Bit `id % 64` of word `id / 64`.
    Bits(Box<[u64]>),
}

impl Default for IdentitySet {
    fn default() -> Self {
        Self(Form::Listed(Box::default()))
    }
}

impl IdentitySet {
    /// Whether `id` is in it. **Cost**: one load where there are many, a binary search of few.
    #[inline]
    pub fn contains(&self, IdentityId(id): IdentityId) -> bool {
        match &self.0 {
            Form::Listed(ids) => ids.binary_search(&id).is_ok(),
            Form::Bits(words) => {
                words.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
            }
        }
    }

    /// Everyone in it, rising.
    pub fn iter(&self) -> impl Iterator<Item = IdentityId> {
        let (listed, words): (&[u32], &[u64]) = match &self.0 {
            Form::Listed(ids) => (ids, &[]),
            Form::Bits(words) => (&[], words),
        };
        let in_word = |(first, word): (u32, &u64)| {
            let word = *word;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
        };
        let bits = (0..).step_by(64).zip(words).flat_map(in_word);
        listed.iter().copied().chain(bits).map(IdentityId)
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Memory it holds, octets.
    pub fn octets(&self) -> usize {
        match &self.0 {
            Form::Listed(ids) => ids.len() * size_of::<u32>(),
            Form::Bits(words) => words.len() * size_of::<u64>(),
        }
    }
}

impl FromIterator<IdentityId> for IdentitySet {
    fn from_iter<I: IntoIterator<Item = IdentityId>>(ids: I) -> Self {
        let mut ids: Vec<u32> = ids.into_iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids.dedup();
        let words = ids.last().map_or(0, |last| *last as usize / 64 + 1);
        if words * size_of::<u64>() >= ids.len() * size_of::<u32>() {
            return Self(Form::Listed(ids.into()));
        }
        let mut bits = vec![0; words];
        for id in ids {
            if let Some(word) = bits.get_mut(id as usize / 64) {
                *word |= 1 << (id % 64);
            }
        }
        Self(Form::Bits(bits.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn is_a_set(ids in prop::collection::vec(0u32..400, 0..200)) {
            let model: BTreeSet<u32> = ids.iter().copied().collect();
            let set: IdentitySet = ids.into_iter().map(IdentityId).collect();
            prop_assert_eq!(set.iter().map(|id| id.0).collect::<Vec<_>>(),
                model.iter().copied().collect::<Vec<_>>());
            for id in 0..500 {
                prop_assert_eq!(set.contains(IdentityId(id)), model.contains(&id));
            }
        }
    }

    #[test]
    fn the_smaller_form_is_taken() {
        let few: IdentitySet = [IdentityId(3), IdentityId(5_000)].into_iter().collect();
        let many: IdentitySet = (0..5_000).map(IdentityId).collect();
        assert_eq!((few.octets(), many.octets()), (8, 632));
        assert!(IdentitySet::default().is_empty() && !many.is_empty());
    }
}
