//! What happens to an entry after it was inserted: it is refreshed, replaced, removed.

use super::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use super::atomic::fence;
use super::plant::Plant;
use super::word::{Life, Phase, Stamp};
use super::{SlotRef, SlotTable};

/// Another thread changed the entry first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl<const KEY: usize, const VALUE: usize> SlotTable<KEY, VALUE> {
    /// The life now of an entry whose life was once `observed`, if it is still there.
    #[inline]
    pub fn life(&self, at: SlotRef, observed: Life) -> Option<Life> {
        // Acquires what the last `refresh` released.
        let life =
            Life(self.slot(at.index).life.load(self.plants.order(Plant::RelaxedLife, Acquire)));
        (life.dead() == observed.dead() && !life.is_dead()).then_some(life)
    }

    /// Changes the life of an entry from exactly what was read; answers its life now.
    ///
    /// # Errors
    /// [`Lost`] where it is no longer what was read: another thread changed it, or the entry is
    /// gone.
    #[inline]
    pub fn refresh(&self, at: SlotRef, observed: Life, bits: u64) -> Result<Life, Lost> {
        let life = observed.with(bits);
        // Releases what this thread did before to `life`: who sees this life there also sees those
        // of other entries that it was made from.
        let order = self.plants.order(Plant::RelaxedLife, Release);
        let refreshed =
            self.slot(at.index).life.compare_exchange(observed.0, life.0, order, Relaxed);
        refreshed.map(|_| life).map_err(|_| Lost)
    }

    /// Removes an entry whose life is still exactly what was read.
    ///
    /// An entry refreshed since stays.
    ///
    /// # Errors
    /// [`Lost`] where it is not.
    pub fn remove(&self, at: SlotRef, observed: Life) -> Result<(), Lost> {
        let slot = self.slot(at.index);
        let dead = observed.dead();
        if self.plants.has(Plant::BlindRemove) {
            slot.life.store(dead.0, Relaxed);
            self.bury(at.index, dead);
            return Ok(());
        }
        // Whose swap succeeds has removed the entry. Atomicity is all that is asked of it.
        slot.life.compare_exchange(observed.0, dead.0, Relaxed, Relaxed).map_err(|_| Lost)?;
        self.bury(at.index, dead);
        Ok(())
    }

    /// Frees the slot of a removed entry, unless its value is being replaced: then the one who
    /// replaces it does.
    fn bury(&self, index: u32, dead: Life) {
        if !self.plants.has(Plant::NoBuryFence) {
            // Pairs with the last fence of `replace`: either this thread sees the slot live again,
            // or that one sees the entry dead. Both may; the swap in `vacate` decides.
            fence(SeqCst);
        }
        let slot = self.slot(index);
        loop {
            // Acquires all writes to the slot, to hand them on to its next owner.
            let stamp = Stamp(slot.stamp.load(Acquire));
            // The life of a later entry was stored before its stamp became live.
            if !stamp.is(Phase::Live) || slot.life.load(Relaxed) != dead.0 {
                return;
            }
            if self.vacate(index, stamp) {
                return;
            }
        }
    }

    /// Gives a slot back, if it is still as `stamp` says.
    pub(super) fn vacate(&self, index: u32, stamp: Stamp) -> bool {
        // Releases the slot to the `claim` that acquires it. The fences of `settle` and `bury`, one
        // of which came before, do as much; no model can tell.
        let free = stamp.to(Phase::Free);
        let released = self.slot(index).stamp.compare_exchange(stamp.0, free.0, Release, Relaxed);
        if released.is_err() {
            return false;
        }
        let home = index.wrapping_sub(stamp.distance());
        let uncounted = if self.plants.has(Plant::NoUncount) { 0 } else { stamp.distance() };
        for distance in 0..uncounted {
            // An entry still there keeps its own count, so nobody stops short of it.
            self.slot(self.step(home, distance)).overflow.fetch_sub(1, Relaxed);
        }
        self.count.0.fetch_sub(1, Relaxed);
        true
    }

    /// Replaces the value of the version that was read; answers the place of the new version.
    ///
    /// The life of the entry is left as it is.
    ///
    /// # Errors
    /// [`Lost`] where another thread replaces it, or the entry is gone.
    pub fn replace(&self, at: SlotRef, value: &[u64; VALUE]) -> Result<SlotRef, Lost> {
        let slot = self.slot(at.index);
        let rewriting = at.stamp.to(Phase::Rewriting);
        slot.stamp
            // Acquires the words of the last writer, so that those written here come after them.
            .compare_exchange(at.stamp.0, rewriting.0, Acquire, Relaxed)
            .map_err(|_| Lost)?;
        if !self.plants.has(Plant::NoReplaceFence) {
            // Pairs with the fence of `read`.
            fence(Release);
        }
        for (word, new) in slot.value.iter().zip(value) {
            word.store(*new, Relaxed);
        }
        let stamp = at.stamp.rewritten();
        // Released to the Acquire of `read`.
        slot.stamp.store(stamp.0, self.plants.order(Plant::RelaxedReplace, Release));
        if !self.plants.has(Plant::NoHandOverFence) {
            // Pairs with the fence of `bury`.
            fence(SeqCst);
        }
        let life = Life(slot.life.load(Relaxed));
        if life.is_dead() && !self.plants.has(Plant::NoHandOver) {
            self.bury(at.index, life);
            return Err(Lost);
        }
        Ok(SlotRef { index: at.index, stamp })
    }
}
