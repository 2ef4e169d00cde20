//! What chance makes of octets.
#![allow(
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "for tests alone"
)]

/// Octets at which arithmetic goes wrong.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'"', b'\n'];

/// Changes octets, the same way for the same seed.
pub struct Mutator(u64);

impl Mutator {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `SplitMix64`.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    /// One of these, changed in one to eight places.
    pub fn mutate(&mut self, all: &[&[u8]]) -> Vec<u8> {
        let mut octets = all[self.below(all.len())].to_vec();
        for _ in 0..=self.below(8) {
            self.change(&mut octets, all);
        }
        octets
    }

    fn change(&mut self, octets: &mut Vec<u8>, all: &[&[u8]]) {
        let at = self.below(octets.len());
        let end = (at + 1 + self.below(32)).min(octets.len());
        match self.below(6) {
            0 if !octets.is_empty() => octets[at] ^= 1 << self.below(8),
            1 if !octets.is_empty() => octets[at] = EDGES[self.below(EDGES.len())],
            2 if !octets.is_empty() => drop(octets.drain(at..end)),
            3 if !octets.is_empty() => {
                let again = octets[at..end].to_vec();
                octets.splice(at..at, again);
            }
            4 => octets.truncate(at),
            _ => {
                let other = all[self.below(all.len())];
                let from = self.below(other.len());
                let to = (from + self.below(64)).min(other.len());
                octets.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
}
