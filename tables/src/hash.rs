//! Hashing of fixed-size keys, seeded.

use ahash::RandomState;

/// The hash map of the read-only tables.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, RandomState>;

/// An empty map that hashes by `seed`.
///
/// The seed is an argument so that a run can be repeated; a running switch draws it at random,
/// since the keys come from whoever sends frames.
pub(crate) fn map<K, V>(seed: u64) -> Map<K, V> {
    Map::with_hasher(state(seed))
}

/// A hasher of this seed.
pub(crate) fn state(seed: u64) -> RandomState {
    RandomState::with_seeds(
        seed,
        seed.rotate_left(17) ^ 0x9e37_79b9_7f4a_7c15,
        seed.rotate_left(31) ^ 0xc2b2_ae3d_27d4_eb4f,
        seed.rotate_left(47) ^ 0x1656_67b1_9e37_79f9,
    )
}
