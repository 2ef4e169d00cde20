//! Which parts of a table have entries, so that a walk may pass over the rest: most of a large table
//! is empty, and to read a gigabyte takes its time and everybody's cache.

// not the model checker's: what it would have to explore is another protocol than this
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use super::atomic::Ordering::Relaxed;
use super::word::{Phase, Stamp};
use super::{SlotTable, WINDOW};

/// Slots of a block: so few that a table of which one slot in a hundred is in use is mostly passed over,
/// so many that the bits of all blocks are few.
pub const BLOCK: u32 = if WINDOW < 8 { WINDOW } else { 8 };

/// A bit for each block, set if it has an entry or may have one.
pub(super) struct Blocks(Box<[AtomicU64]>);

impl Blocks {
    /// Blocks of which each may have entries, or none.
    pub(super) fn new(slots: usize, may_have: bool) -> Self {
        let word = || AtomicU64::new(if may_have { u64::MAX } else { 0 });
        let words = slots.div_ceil(BLOCK as usize * 64);
        Self(std::iter::repeat_with(word).take(words).collect())
    }

    fn bit(&self, index: u32) -> (Option<&AtomicU64>, u64) {
        let block = index / BLOCK;
        (self.0.get(block as usize / 64), 1 << (block % 64))
    }

    /// Takes note that the slot is not free any more, after it was claimed.
    #[inline]
    pub(super) fn mark(&self, index: u32) {
        if let (Some(word), bit) = self.bit(index) {
            // Also where the bit is set: who clears it next sees the claim (Acquire in `clear`).
            word.fetch_or(bit, Release);
        }
    }

    /// Whether there may be entries in the block.
    fn is_marked(&self, index: u32) -> bool {
        let (word, bit) = self.bit(index);
        word.is_some_and(|word| word.load(Acquire) & bit != 0)
    }

    /// Takes the note away. Claims that were noted before are seen from here on.
    fn clear(&self, index: u32) {
        if let (Some(word), bit) = self.bit(index) {
            word.fetch_and(!bit, AcqRel);
        }
    }
}

impl<const KEY: usize, const VALUE: usize> SlotTable<KEY, VALUE> {
    /// Shows each index of the block of `index` at which there may be an entry.
    ///
    /// Of a walk of all blocks the next meets whatever came in behind this one. There must be one
    /// walk at a time: another would pass over a block that this one is about to find in use again.
    pub fn walk_block(&self, index: u32, mut each: impl FnMut(u32)) {
        if !self.blocks.is_marked(index) {
            return;
        }
        let first = index - index % BLOCK;
        let mut look = || {
            let in_use = (first..first.saturating_add(BLOCK).min(self.slots()))
                .filter(|at| !Stamp(self.slot(*at).stamp.load(Relaxed)).is(Phase::Free));
            in_use.fold(false, |_, at| {
                each(at);
                true
            })
        };
        if !look() {
            self.blocks.clear(index);
            // what was claimed after the look, and noted before the note was taken away
            if look() {
                self.blocks.mark(index);
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::Inserted;
    use super::*;

    fn walk(table: &SlotTable<1, 2>) -> Vec<u32> {
        let mut met = Vec::new();
        for first in (0..table.slots()).step_by(BLOCK as usize) {
            table.walk_block(first, |index| met.push(index));
        }
        met
    }

    #[test]
    fn a_walk_meets_what_is_there_however_often_and_nothing_that_is_gone() {
        let table = SlotTable::<1, 2>::new(10_000);
        assert_eq!(walk(&table), []);
        let mut entries = Vec::new();
        for key in 0..300u64 {
            let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let Ok(Inserted::New(entry)) = table.insert(hash, &[key], &[0; 2], 0) else { panic!() };
            entries.push((entry.at.index, entry));
        }
        entries.sort_by_key(|(index, _)| *index);
        let all: Vec<u32> = entries.iter().map(|(index, _)| *index).collect();
        assert_eq!(walk(&table), all);
        assert_eq!(walk(&table), all);
        let (gone, stay) = entries.split_at(150);
        gone.iter().for_each(|(_, entry)| table.remove(entry.at, entry.life).unwrap());
        let stay: Vec<u32> = stay.iter().map(|(index, _)| *index).collect();
        assert_eq!(walk(&table), stay);
        let passed = (0..table.slots()).filter(|index| !table.blocks.is_marked(*index)).count();
        assert!(passed > table.slots() as usize - 160 * BLOCK as usize, "{passed}");
    }

    #[test]
    fn a_table_over_slots_that_were_there_may_have_entries_anywhere() {
        let slots = std::iter::repeat_with(Default::default).take(256).collect::<Vec<_>>();
        let table = SlotTable::<1, 2>::over(128, slots.leak()).unwrap();
        assert!((0..256).all(|index| table.blocks.is_marked(index)));
        assert_eq!(walk(&table), []);
        assert!(!(0..256).any(|index| table.blocks.is_marked(index)));
    }

    #[test]
    fn nothing_that_comes_in_during_a_walk_is_lost() {
        let table = SlotTable::<1, 2>::new(512);
        std::thread::scope(|scope| {
            let inserts = scope.spawn(|| {
                for key in 0..200_000u64 {
                    let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    if let Ok(Inserted::New(entry)) = table.insert(hash, &[key], &[0; 2], 0)
                        && key % 1_000 != 0
                    {
                        table.remove(entry.at, entry.life).unwrap();
                    }
                }
            });
            while !inserts.is_finished() {
                walk(&table);
            }
        });
        let met = walk(&table);
        let there = (0..table.slots()).filter(|index| table.entry(*index).is_some()).count();
        assert_eq!((met.len(), there), (200, 200));
    }
}
