//! What chance makes of octets.
#![allow(
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "for tests alone"
)]

#[path = "../../config/tests/support/numbers.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod numbers;

use numbers::Random;

/// Octets at which arithmetic goes wrong.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'"', b'\n'];

/// Changes octets, the same way for the same seed.
pub struct Mutator(Random);

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self(Random::salted(seed, 0))
    }

    /// One of these, changed in one to eight places.
    pub fn mutate(&mut self, all: &[&[u8]]) -> Vec<u8> {
        let mut octets = self.0.one(all).to_vec();
        for _ in 0..=self.0.below(8) {
            self.change(&mut octets, all);
        }
        octets
    }

    fn change(&mut self, octets: &mut Vec<u8>, all: &[&[u8]]) {
        let at = self.0.below(octets.len());
        let end = (at + 1 + self.0.below(32)).min(octets.len());
        match self.0.below(6) {
            0 if !octets.is_empty() => octets[at] ^= 1 << self.0.below(8),
            1 if !octets.is_empty() => octets[at] = *self.0.one(&EDGES),
            2 if !octets.is_empty() => drop(octets.drain(at..end)),
            3 if !octets.is_empty() => {
                let again = octets[at..end].to_vec();
                octets.splice(at..at, again);
            }
            4 => octets.truncate(at),
            _ => {
                let other = *self.0.one(all);
                let from = self.0.below(other.len());
                let to = (from + self.0.below(64)).min(other.len());
                octets.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
}
