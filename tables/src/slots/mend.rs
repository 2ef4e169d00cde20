//! Putting a table right that another process left, whatever its threads were doing when it ended.

use super::atomic::Ordering::Relaxed;
use super::word::{Life, Phase, Stamp};
use super::{Slot, SlotTable};

impl<const KEY: usize, const VALUE: usize> SlotTable<KEY, VALUE> {
    /// Makes the slots a table again; answers the indices of its entries.
    ///
    /// What was about to come in is not there, and what was about to go is gone. An entry whose
    /// value was being replaced stays, each word of its value the old one or the new one. `hash` is
    /// that of a key as it was inserted; entries that are not where it says are dropped.
    ///
    /// Nobody else may use the table meanwhile. May be done again, also after it was cut off.
    ///
    /// **Cost**: a read of every slot, and writes to those in use.
    pub fn mend(&self, hash: impl Fn(&[u64; KEY]) -> u64) -> Vec<u32> {
        let mut live = Vec::new();
        for (index, slot) in (0..=self.mask).zip(&*self.slots) {
            // Relaxed here and below: who ended has been waited for, who begins is started later.
            if slot.overflow.load(Relaxed) != 0 {
                slot.overflow.store(0, Relaxed);
            }
            let stamp = Stamp(slot.stamp.load(Relaxed));
            if stamp.is(Phase::Free) {
                continue;
            }
            let mended = self.mended(index, slot, stamp, &hash);
            if mended.is(Phase::Live) {
                live.push(index);
            }
            slot.stamp.store(mended.0, Relaxed);
        }
        for index in &live {
            let distance = Stamp(self.slot(*index).stamp.load(Relaxed)).distance();
            let home = index.wrapping_sub(distance);
            for passed in 0..distance {
                self.slot(self.step(home, passed)).overflow.fetch_add(1, Relaxed);
            }
        }
        self.count.0.store(live.len(), Relaxed);
        live
    }

    /// What the stamp of a slot has to be.
    fn mended(
        &self,
        index: u32,
        slot: &Slot<KEY, VALUE>,
        stamp: Stamp,
        hash: impl Fn(&[u64; KEY]) -> u64,
    ) -> Stamp {
        let is_entry = stamp.is(Phase::Live) || stamp.is(Phase::Rewriting);
        if !is_entry || Life(slot.life.load(Relaxed)).is_dead() {
            return stamp.to(Phase::Free);
        }
        let home = self.home(hash(&slot.key.each_ref().map(|word| word.load(Relaxed))));
        if self.step(home, stamp.distance()) != index {
            return stamp.to(Phase::Free);
        }
        if stamp.is(Phase::Rewriting) { stamp.rewritten() } else { stamp }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::slots::{Entry, Inserted, Reserved};

    type Table = SlotTable<2, 4>;

    fn hash(key: &[u64; 2]) -> u64 {
        key[0]
    }

    fn insert(table: &Table, home: u64, number: u64) -> Entry<4> {
        match table.insert(home, &[home, number], &[number; 4], 1) {
            Ok(Inserted::New(entry)) => entry,
            other => panic!("not new: {other:?}"),
        }
    }

    /// Slots that are never freed, as mapped ones are.
    fn slots(capacity: usize) -> &'static [Slot<2, 4>] {
        (0..Table::slots_for(capacity)).map(|_| Slot::default()).collect::<Vec<_>>().leak()
    }

    #[test]
    fn entries_are_found_by_the_next_process_and_go_without_a_trace() {
        let slots = slots(16);
        let before = Table::over(16, slots).unwrap();
        for number in 0..6 {
            insert(&before, 5, number);
        }
        let gone = insert(&before, 5, 6);
        before.remove(gone.at, gone.life).unwrap();
        drop(before);
        let after = Table::over(16, slots).unwrap();
        assert_eq!(after.mend(hash).len(), 6);
        // once more, as after a start that was cut off
        assert_eq!(after.mend(hash).len(), 6);
        assert_eq!(after.len(), 6);
        for number in 0..6 {
            let entry = after.find(5, &[5, number]).unwrap();
            assert_eq!(entry.value, [number; 4]);
            after.remove(entry.at, entry.life).unwrap();
        }
        assert!(after.is_pristine());
    }

    #[test]
    fn what_was_under_way_is_not_there_and_leaves_no_trace() {
        let slots = slots(16);
        let before = Table::over(16, slots).unwrap();
        insert(&before, 5, 1);
        let Ok(Reserved::New(reserved)) = before.reserve(5, &[5, 2]) else { panic!("taken") };
        std::mem::forget(reserved);
        for phase in [Phase::Writing, Phase::Tentative, Phase::Ousted] {
            let stamp = Stamp(0).claimed(3, 1).to(phase);
            slots[20 + phase as usize].stamp.store(stamp.0, Relaxed);
        }
        // the life ended, the slot was not freed
        let dying = insert(&before, 9, 3);
        slots[dying.at.index as usize].life.store(dying.life.dead().0, Relaxed);
        // an entry where its hash does not lead
        let stray = insert(&before, 12, 4);
        slots[stray.at.index as usize].key[0].store(13, Relaxed);
        let after = Table::over(16, slots).unwrap();
        let live = after.mend(hash);
        assert_eq!(live.len(), 1);
        let entry = after.find(5, &[5, 1]).unwrap();
        after.remove(entry.at, entry.life).unwrap();
        assert!(after.is_pristine());
    }

    #[test]
    fn an_entry_that_was_being_rewritten_stays() {
        let slots = slots(16);
        let before = Table::over(16, slots).unwrap();
        let entry = insert(&before, 5, 1);
        let slot = &slots[entry.at.index as usize];
        let stamp = Stamp(slot.stamp.load(Relaxed)).to(Phase::Rewriting);
        slot.stamp.store(stamp.0, Relaxed);
        slot.value[2].store(7, Relaxed);
        let after = Table::over(16, slots).unwrap();
        assert_eq!(after.mend(hash), [entry.at.index]);
        assert_eq!(after.find(5, &[5, 1]).unwrap().value, [1, 1, 7, 1]);
    }

    #[test]
    fn slots_of_another_number_are_refused() {
        assert!(Table::over(16, slots(16)).is_some());
        assert!(Table::over(64, slots(16)).is_none());
    }
}
