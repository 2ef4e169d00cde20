//! The two words that carry a slot's own state: its stamp and its life.

use super::{MAX_DISTANCE, WINDOW};

/// Where a slot is between two owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Phase {
    /// Nobody's.
    Free = 0,
    /// Claimed; its key is being written.
    Writing = 1,
    /// Its key stands; its owner has yet to learn whether a rival has the same key.
    Tentative = 2,
    /// Its owner alone has this key; the value is yet to come.
    Reserved = 3,
    /// An entry: key and value stand.
    Live = 4,
    /// Lost to a rival at a lower position while tentative; its owner will free it.
    Ousted = 5,
    /// An entry whose value is being replaced.
    Rewriting = 6,
}

/// Version (23 bits), distance from home (6 bits) and phase (3 bits) of a slot.
///
/// The version counts claims and rewrites. A reader is fooled only if 2²³ of them happen to one
/// slot while it reads a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(pub(super) u32);

const PHASE_BITS: u32 = 3;
const DISTANCE_BITS: u32 = 6;
const VERSION_SHIFT: u32 = PHASE_BITS + DISTANCE_BITS;
const _: () = assert!(MAX_DISTANCE == (1 << DISTANCE_BITS) - 1 && WINDOW <= MAX_DISTANCE + 1);

impl Stamp {
    #[inline]
    pub(super) const fn is(self, phase: Phase) -> bool {
        self.0 & ((1 << PHASE_BITS) - 1) == phase as u32
    }

    /// The same owner's stamp in another phase.
    #[inline]
    pub(super) const fn to(self, phase: Phase) -> Self {
        Self(self.0 >> PHASE_BITS << PHASE_BITS | phase as u32)
    }

    /// The stamp of the next owner, whose home is `distance` slots before this one; `next` is one.
    pub(super) const fn claimed(self, distance: u32, next: u32) -> Self {
        let version = (self.0 >> VERSION_SHIFT).wrapping_add(next) << VERSION_SHIFT;
        Self(version | (distance & MAX_DISTANCE) << PHASE_BITS | Phase::Writing as u32)
    }

    /// The stamp of the same entry with its next value.
    pub(super) const fn rewritten(self) -> Self {
        Self(self.0.wrapping_add(1 << VERSION_SHIFT)).to(Phase::Live)
    }

    /// How many slots after its home the entry is.
    pub(super) const fn distance(self) -> u32 {
        self.0 >> PHASE_BITS & MAX_DISTANCE
    }

    /// What tells the words of one owner from those of another.
    pub(super) const fn version(self) -> u32 {
        self.0 >> VERSION_SHIFT
    }
}

/// The life of an entry: 48 bits of the table's user, and a tag that tells the entry from those
/// that had its slot before.
///
/// The tag makes compare-and-swap exact: it cannot succeed on a later entry that happens to have
/// the same 48 bits, unless the slot had 2¹⁶ owners in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life(pub(super) u64);

/// The user's bits of an entry that was removed.
const DEAD: u64 = (1 << Life::BITS) - 1;

impl Life {
    /// How many bits belong to the table's user. All ones is reserved.
    pub const BITS: u32 = 48;

    /// The user's bits.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0 & DEAD
    }

    /// Other bits of the same entry.
    #[inline]
    pub(super) const fn with(self, bits: u64) -> Self {
        debug_assert!(bits < DEAD);
        Self(self.0 & !DEAD | bits & DEAD)
    }

    #[inline]
    pub(super) const fn is_dead(self) -> bool {
        self.0 & DEAD == DEAD
    }

    pub(super) const fn dead(self) -> Self {
        Self(self.0 | DEAD)
    }

    /// The first life of an entry, tagged by the low bits of its slot's version.
    pub(super) const fn first(tag: u32, bits: u64) -> Self {
        Self((tag as u64) << Self::BITS).with(bits)
    }
}
