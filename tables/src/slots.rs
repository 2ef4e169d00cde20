//! A table of fixed capacity that any thread may read and write: the only code of this crate that
//! knows memory orderings.
//!
//! # Trade-offs
//!
//! - **Look-ups come first.** A hit reads one cache line (an entry of two key words and four value
//!   words is one) and a miss mostly one too, at any age of the table; neither writes. The price is
//!   paid at insertion: a second look at the neighbourhood and a full fence.
//! - **Nothing is ever allocated or freed**, so nothing need be reclaimed: what a thread reads may be
//!   stale but is always a slot. The price is a capacity fixed at the start, and twice as many slots.
//! - **Words only.** Every part of an entry is an atomic word, so there is no unsafe code, and a
//!   torn read is a wrong value to be thrown away rather than undefined behaviour.
//! - **No locks, but not wait-free.** A thread suspended between [`SlotTable::reserve`] and its
//!   commit makes others who want the same key give up after a while ([`Refused::Contended`]), and
//!   one suspended in [`SlotTable::replace`] hides that entry. Nobody else waits for anyone.
//! - **A reader can be fooled** if its slot gets 2²³ owners, and a refresh or removal if it gets
//!   exactly 2¹⁶ of them and the same life bits, within one operation.
//!
//! # A slot
//!
//! | word | of | changed by |
//! |---|---|---|
//! | stamp | version, distance from home, phase | swaps, as below |
//! | overflow | how many entries passed this slot on their way from home | who claims or vacates one |
//! | key | the entry | its owner, while the phase is writing |
//! | value | the entry | its owner while reserved; one thread while rewriting |
//! | life | the entry: 48 bits of the user's and a tag | swaps from exactly what was read |
//!
//! ```text
//!          claim          settle            settle           commit
//! Free ------------> Writing ----> Tentative ----> Reserved ------> Live <----> Rewriting
//!   ^                                 |   \            |             |    replace
//!   |                                 |    v           | withdraw    |
//!   +---------------------------------+-- Ousted ------+-------------+ bury, once life is dead
//! ```
//!
//! **Finding.** From the key's home on, slot by slot: read the stamp, the words, the stamp again; if
//! it is the same and the phase is live, the words are one entry's (a sequence lock). Stop at the
//! first slot that no entry has passed. Entries count the slots they pass before they can be seen
//! and uncount them after they are gone, so there are no tombstones and searches never get longer
//! with age.
//!
//! **Inserting, once per key.** Threads that insert one key may pick different slots, as slots are
//! freed and taken meanwhile. So a claim is first *tentative*: the key is shown, then a full fence,
//! then the whole neighbourhood is looked through for rivals. Of two rivals at least one sees the
//! other, whatever the order (the fence on either side sees to that). Seeing a settled one, a claim
//! is given up. Of two tentative ones that at the lower position goes on and ousts the other, by
//! swapping its stamp; the other gives up at the sight of the lower, or when its own swap to
//! *reserved* fails. Since a claim stays where it is until it is settled, nobody can be missed by
//! moving. The loser starts over, and waits for what the winner commits.
//!
//! **Removing.** An entry dies by a swap of its life from exactly what was read to dead: if it was
//! refreshed in between, the swap fails and it lives. The life is tagged by the version under which
//! the slot was claimed, so the swap cannot hit a later entry. Death is what counts: readers take a
//! dead entry for absent, inserters insert the key anew elsewhere. Then the slot is freed, by the
//! one who removed it or, if its value is just being replaced, by the one who replaces it.
//!
//! # How it is checked
//!
//! `loom_models` explores small cases of all this under the C11 memory model, and proves for each
//! that it would find the bugs it is there for (`plant`). Note what that leaves out: the model has
//! two threads, four slots to look through, and few words.

mod atomic;
mod blocks;
mod change;
#[cfg(test)]
#[cfg(loom)]
pub(crate) mod checking;
mod insert;
#[cfg(test)]
#[cfg(loom)]
mod loom_models;
mod mend;
mod plant;
mod room;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod word;

use std::fmt;
use std::ops::Range;

use atomic::Ordering::{Acquire, Relaxed};
use atomic::{AtomicLife, AtomicStamp, AtomicU32, AtomicU64, AtomicUsize, fence, pause};
use blocks::Blocks;
pub(crate) use plant::Plant;
use plant::Plants;
use room::Room;
use word::{Phase, Stamp};

pub use blocks::BLOCK;
pub use change::Lost;
pub use insert::{Inserted, Refused, Reservation, Reserved};
pub use word::Life;

/// How far from its home an entry may be, slots.
///
/// With half of the slots in use hardly one entry in a hundred thousand would need more.
pub const WINDOW: u32 = if cfg!(loom) { 4 } else { 64 };

/// The largest distance a stamp can hold.
const MAX_DISTANCE: u32 = 63;

/// How often a reader starts over before it gives up.
const RETRIES: u32 = if cfg!(loom) { 2 } else { 64 };

/// How often an inserter waits for another before it gives up.
const PATIENCE: u32 = if cfg!(loom) { 3 } else { 1_000 };

/// One entry, or the place of one.
///
/// Words that any thread may read and write, and nothing else: whatever bits there are, they are a
/// slot, and all zeros are a free one. So slots may lie in memory that outlives the process.
#[repr(C, align(64))]
pub struct Slot<const KEY: usize, const VALUE: usize> {
    stamp: AtomicStamp,
    /// Entries whose way from home led past this slot.
    overflow: AtomicU32,
    key: [AtomicU64; KEY],
    value: [AtomicU64; VALUE],
    life: AtomicLife,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot<2, 4>>() == 64 && size_of::<Slot<5, 7>>() == 128);

/// An entry as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<const VALUE: usize> {
    /// Where it is, and which version of it was read.
    pub at: SlotRef,
    /// Its value.
    pub value: [u64; VALUE],
    /// Its life when it was read.
    pub life: Life,
}

/// A place in the table, and the version of the entry seen there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRef {
    /// Index of the slot.
    pub index: u32,
    stamp: Stamp,
}

/// A hash table of plain words with room for a fixed number of entries.
pub struct SlotTable<const KEY: usize, const VALUE: usize> {
    slots: Room<KEY, VALUE>,
    mask: u32,
    capacity: usize,
    count: Count,
    blocks: Blocks,
    plants: Plants,
}

/// The number of entries, on a cache line that look-ups never read.
#[repr(align(64))]
struct Count(AtomicUsize);

/// What a slot was found to hold.
enum Held<const VALUE: usize> {
    /// Not the key.
    Other,
    /// The key, whole.
    Entry(Entry<VALUE>),
    /// The key, but its words changed each time they were read.
    Unsteady,
}

impl<const KEY: usize, const VALUE: usize> SlotTable<KEY, VALUE> {
    /// A table for `capacity` entries, in at least twice as many slots.
    pub fn new(capacity: usize) -> Self {
        Self::advised(capacity, &|_| {})
    }

    /// As [`Self::new`]; `advise` hears of the addresses that the slots will lie at before any of
    /// them is written to.
    pub fn advised(capacity: usize, advise: &dyn Fn(Range<usize>)) -> Self {
        let slots = Self::slots_for(capacity);
        let mut memory: Vec<Slot<KEY, VALUE>> = Vec::with_capacity(slots);
        let start = memory.as_ptr().addr();
        advise(start..start.saturating_add(slots * size_of::<Slot<KEY, VALUE>>()));
        memory.extend(std::iter::repeat_with(Slot::default).take(slots));
        Self::of(capacity, Room::Own(memory.into_boxed_slice()))
    }

    /// A table in slots that are there already, as many as [`Self::slots_for`] says; they may have
    /// entries, which are not counted before [`Self::mend`].
    pub fn over(capacity: usize, slots: &'static [Slot<KEY, VALUE>]) -> Option<Self> {
        (slots.len() == Self::slots_for(capacity)).then(|| Self::of(capacity, Room::Lent(slots)))
    }

    /// How many slots a table for so many entries has.
    pub fn slots_for(capacity: usize) -> usize {
        let slots = capacity.saturating_mul(2).max(WINDOW as usize).next_power_of_two();
        // slots are counted in 32 bits
        slots.min(1 << 31)
    }

    fn of(capacity: usize, slots: Room<KEY, VALUE>) -> Self {
        let capacity = capacity.min(slots.len() / 2).max(1);
        Self {
            mask: u32::try_from(slots.len() - 1).unwrap_or(u32::MAX),
            blocks: Blocks::new(slots.len(), matches!(slots, Room::Lent(_))),
            slots,
            capacity,
            count: Count(AtomicUsize::new(0)),
            #[cfg(not(all(loom, test)))]
            plants: Plants,
            #[cfg(all(loom, test))]
            plants: Plants(None),
        }
    }

    /// How many entries there are, those about to be committed among them.
    pub fn len(&self) -> usize {
        // a statistic: pairs with nothing
        self.count.0.load(Relaxed)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries there may be.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many slots there are: the end of the indices that [`Self::entry`] takes.
    pub fn slots(&self) -> u32 {
        self.mask.saturating_add(1)
    }

    /// The index of the slot where the search for this hash begins.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the mask has no higher bits")]
    pub fn home(&self, hash: u64) -> u32 {
        hash as u32 & self.mask
    }

    #[inline]
    fn step(&self, home: u32, distance: u32) -> u32 {
        home.wrapping_add(distance) & self.mask
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "there are mask + 1 slots")]
    fn slot(&self, index: u32) -> &Slot<KEY, VALUE> {
        &self.slots[(index & self.mask) as usize]
    }

    /// Reads the home of this hash, so that a look-up soon after finds it in the cache, and the slot
    /// behind it, where every third entry of a full table is.
    ///
    /// Safe code has no prefetch instruction; a load whose result nobody waits for is nearly one.
    #[inline]
    pub fn warm(&self, hash: u64) {
        let home = self.home(hash);
        let both = [home, self.step(home, 1)].map(|index| self.slot(index).stamp.load(Relaxed));
        std::hint::black_box(both);
    }

    /// The entry of `key`.
    ///
    /// **Cost**: one cache line for most keys, present or not (two if an entry is longer than
    /// one); no writes; no allocation.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u64; KEY]) -> Option<Entry<VALUE>> {
        let home = self.home(hash);
        for distance in 0..WINDOW {
            let index = self.step(home, distance);
            match self.read(index, key) {
                Held::Entry(entry) => return Some(entry),
                Held::Unsteady => return None,
                Held::Other => {}
            }
            // Sees at least the count that `claim` made for an entry this thread knows of.
            if self.slot(index).overflow.load(Relaxed) == 0 {
                return None;
            }
        }
        None
    }

    /// The entry of `key`, if it is at this index.
    #[inline]
    pub fn find_at(&self, index: u32, key: &[u64; KEY]) -> Option<Entry<VALUE>> {
        match self.read(index, key) {
            Held::Entry(entry) => Some(entry),
            Held::Other | Held::Unsteady => None,
        }
    }

    #[inline]
    fn read(&self, index: u32, key: &[u64; KEY]) -> Held<VALUE> {
        let slot = self.slot(index);
        for _ in 0..RETRIES {
            // Acquires the key and value released by `commit` and `replace`.
            let stamp = Stamp(slot.stamp.load(self.plants.order(Plant::RelaxedRead, Acquire)));
            if stamp.is(Phase::Live) {
                if !slot.has_key(key) {
                    return Held::Other;
                }
                let value = slot.value.each_ref().map(|word| word.load(Relaxed));
                let life = Life(slot.life.load(Relaxed));
                if !self.plants.has(Plant::NoReadFence) {
                    // Pairs with the release fences of `claim` and `replace`: whoever read a word
                    // written after one of them sees the stamp changed before it.
                    fence(Acquire);
                }
                if slot.stamp.load(Relaxed) == stamp.0 || self.plants.has(Plant::NoRecheck) {
                    if life.is_dead() {
                        return Held::Other;
                    }
                    return Held::Entry(Entry { at: SlotRef { index, stamp }, value, life });
                }
            } else if stamp.is(Phase::Rewriting) && slot.has_key(key) {
                pause();
            } else {
                return Held::Other;
            }
        }
        Held::Unsteady
    }

    /// The entry at this index, with its key.
    ///
    /// Walking all indices meets every entry that is there from beginning to end of the walk.
    pub fn entry(&self, index: u32) -> Option<([u64; KEY], Entry<VALUE>)> {
        if index > self.mask {
            return None;
        }
        let slot = self.slot(index);
        // most slots are free
        if Stamp(slot.stamp.load(Relaxed)).is(Phase::Free) {
            return None;
        }
        // A key read torn, or changed since, is one that `read` does not find here.
        let key = slot.key.each_ref().map(|word| word.load(Relaxed));
        self.find_at(index, &key).map(|entry| (key, entry))
    }
}

/// For the protocols of this crate that build on the table.
impl<const KEY: usize, const VALUE: usize> SlotTable<KEY, VALUE> {
    /// Whether a bug was planted.
    #[inline]
    pub(crate) const fn has_planted(&self, plant: Plant) -> bool {
        self.plants.has(plant)
    }

    /// A table with a bug.
    #[cfg(all(loom, test))]
    pub(crate) fn with_plant(capacity: usize, plant: Option<Plant>) -> Self {
        Self { plants: Plants(plant), ..Self::new(capacity) }
    }

    /// Whether the table is as it was when it was made.
    #[cfg(test)]
    pub(crate) fn is_pristine(&self) -> bool {
        let is_free = |slot: &Slot<KEY, VALUE>| {
            let stamp = Stamp(slot.stamp.load(Relaxed));
            stamp.is(Phase::Free) && slot.overflow.load(Relaxed) == 0
        };
        self.is_empty() && self.slots.iter().all(is_free)
    }
}

/// A free slot.
impl<const KEY: usize, const VALUE: usize> Default for Slot<KEY, VALUE> {
    fn default() -> Self {
        let word = |_| AtomicU64::new(0);
        Self {
            stamp: AtomicStamp::new(0),
            overflow: AtomicU32::new(0),
            key: std::array::from_fn(word),
            value: std::array::from_fn(word),
            life: AtomicLife::new(0),
        }
    }
}

impl<const KEY: usize, const VALUE: usize> Slot<KEY, VALUE> {
    #[inline]
    fn has_key(&self, key: &[u64; KEY]) -> bool {
        self.key.iter().zip(key).fold(0, |odd, (word, key)| odd | word.load(Relaxed) ^ key) == 0
    }
}

impl<const KEY: usize, const VALUE: usize> fmt::Debug for Slot<KEY, VALUE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl<const KEY: usize, const VALUE: usize> fmt::Debug for SlotTable<KEY, VALUE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotTable")
            .field("len", &self.len())
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
