//! How an entry comes into the table, and why its key is there only once.

use super::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use super::atomic::{fence, pause};
use super::plant::Plant;
use super::word::{Life, Phase, Stamp};
use super::{Entry, Held, PATIENCE, SlotRef, SlotTable, WINDOW};

/// What came of an attempt to reserve a key.
#[derive(Debug)]
#[must_use]
pub enum Reserved<'t, const KEY: usize, const VALUE: usize> {
    /// The key is this thread's, to commit or to withdraw.
    New(Reservation<'t, KEY, VALUE>),
    /// The key has an entry.
    Exists(Entry<VALUE>),
}

/// Why a key could not be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many entries as there may be, or no free slot near the key's home.
    Full,
    /// Another thread has reserved the key and did not come to a decision in time.
    Contended,
}

/// A key that nobody else can insert until this is committed or dropped.
#[derive(Debug)]
#[must_use]
pub struct Reservation<'t, const KEY: usize, const VALUE: usize> {
    table: &'t SlotTable<KEY, VALUE>,
    index: u32,
    stamp: Stamp,
}

impl<const KEY: usize, const VALUE: usize> Reservation<'_, KEY, VALUE> {
    /// The index of the slot that the entry will have.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Makes it an entry with this value, and these bits of life.
    pub fn commit(self, value: &[u64; VALUE], bits: u64) -> Entry<VALUE> {
        let (table, index) = (self.table, self.index);
        let slot = table.slot(index);
        for (word, new) in slot.value.iter().zip(value) {
            word.store(*new, Relaxed);
        }
        let stamp = self.stamp.to(Phase::Live);
        let tag = if table.plants.has(Plant::NoTag) { 0 } else { stamp.version() };
        let life = Life::first(tag, bits);
        slot.life.store(life.0, Relaxed);
        // Releases value and life to the Acquire of `read`.
        slot.stamp.store(stamp.0, table.plants.order(Plant::RelaxedCommit, Release));
        // what the slot holds now is no longer this reservation's to withdraw
        std::mem::forget(self);
        Entry { at: SlotRef { index, stamp }, value: *value, life }
    }
}

impl<const KEY: usize, const VALUE: usize> Drop for Reservation<'_, KEY, VALUE> {
    /// Withdraws it.
    fn drop(&mut self) {
        // nobody else changes the stamp of a reserved slot
        self.table.vacate(self.index, self.stamp);
    }
}

/// What is known of a key.
enum Known<const VALUE: usize> {
    Present(Entry<VALUE>),
    /// Another thread is about to insert it.
    Pending,
    /// It has an entry that others keep changing.
    Unsteady,
    /// Nobody has it; the first free slot near its home is at this distance.
    Absent(Option<u32>),
}

/// What one slot says to an inserter of a key.
enum Claim {
    /// Nothing to do with the key.
    None,
    /// An owner who does not know yet whether the key is its own.
    Tentative(Stamp),
    /// An owner who has the key.
    Settled,
}

impl<const KEY: usize, const VALUE: usize> SlotTable<KEY, VALUE> {
    /// Inserts an entry unless its key has one.
    ///
    /// # Errors
    /// As [`Self::reserve`].
    pub fn insert(
        &self,
        hash: u64,
        key: &[u64; KEY],
        value: &[u64; VALUE],
        bits: u64,
    ) -> Result<Inserted<VALUE>, Refused> {
        Ok(match self.reserve(hash, key)? {
            Reserved::New(reservation) => Inserted::New(reservation.commit(value, bits)),
            Reserved::Exists(entry) => Inserted::Exists(entry),
        })
    }

    /// Reserves a key unless it has an entry. Of threads that reserve the same key at the same
    /// time one succeeds; the others wait for it to commit or withdraw.
    ///
    /// # Errors
    /// [`Refused::Full`] and [`Refused::Contended`], as they say.
    pub fn reserve(
        &self,
        hash: u64,
        key: &[u64; KEY],
    ) -> Result<Reserved<'_, KEY, VALUE>, Refused> {
        let home = self.home(hash);
        for _ in 0..PATIENCE {
            match self.look(home, key) {
                Known::Present(entry) => return Ok(Reserved::Exists(entry)),
                Known::Pending => pause(),
                Known::Unsteady => return Err(Refused::Contended),
                Known::Absent(None) => return Err(Refused::Full),
                Known::Absent(Some(distance)) => {
                    let Some(stamp) = self.claim(home, distance, key)? else { continue };
                    let index = self.step(home, distance);
                    if let Some(stamp) = self.settle(home, distance, stamp, key) {
                        return Ok(Reserved::New(Reservation { table: self, index, stamp }));
                    }
                    pause();
                }
            }
        }
        Err(Refused::Contended)
    }

    /// Whether the slot at this index is held by the key, be it as an entry or by one who is about
    /// to insert it.
    pub fn is_taken(&self, index: u32, key: &[u64; KEY]) -> bool {
        !matches!(self.claim_on(index, key), Claim::None)
    }

    /// What is known of the key before anything is written. Only a hint: `settle` decides.
    fn look(&self, home: u32, key: &[u64; KEY]) -> Known<VALUE> {
        let mut free = None;
        for distance in 0..WINDOW {
            let index = self.step(home, distance);
            match self.claim_on(index, key) {
                Claim::None => {}
                Claim::Tentative(_) => return Known::Pending,
                Claim::Settled => {
                    return match self.read(index, key) {
                        Held::Entry(entry) => Known::Present(entry),
                        Held::Other => Known::Pending,
                        Held::Unsteady => Known::Unsteady,
                    };
                }
            }
            let slot = self.slot(index);
            if free.is_none() && Stamp(slot.stamp.load(Relaxed)).is(Phase::Free) {
                free = Some(distance);
            }
            if slot.overflow.load(Relaxed) == 0 && free.is_some() {
                break;
            }
        }
        Known::Absent(free)
    }

    /// Puts the key into a free slot, tentatively. `None` if the slot is not free any more.
    fn claim(&self, home: u32, distance: u32, key: &[u64; KEY]) -> Result<Option<Stamp>, Refused> {
        if self.count.0.fetch_add(1, Relaxed) >= self.capacity {
            self.count.0.fetch_sub(1, Relaxed);
            return Err(Refused::Full);
        }
        let slot = self.slot(self.step(home, distance));
        let seen = Stamp(slot.stamp.load(Relaxed));
        let next = u32::from(!self.plants.has(Plant::SameVersion));
        let stamp = seen.claimed(distance, next);
        // Acquires the slot from the `vacate` that released it.
        let order = self.plants.order(Plant::RelaxedClaim, Acquire);
        if !seen.is(Phase::Free)
            || slot.stamp.compare_exchange(seen.0, stamp.0, order, Relaxed).is_err()
        {
            self.count.0.fetch_sub(1, Relaxed);
            return Ok(None);
        }
        self.blocks.mark(self.step(home, distance));
        if !self.plants.has(Plant::NoClaimFence) {
            // Pairs with the fence of `read`: a reader of the last entry that sees a word of this
            // one sees its stamp too.
            fence(Release);
        }
        for (word, new) in slot.key.iter().zip(key) {
            word.store(*new, Relaxed);
        }
        if !self.plants.has(Plant::NoOverflow) {
            for passed in 0..distance {
                // Before the entry can be seen, so that who looks for it comes this far.
                self.slot(self.step(home, passed)).overflow.fetch_add(1, Relaxed);
            }
        }
        let stamp = stamp.to(Phase::Tentative);
        // The fence of `settle` shows it to rivals, key and counts with it.
        slot.stamp.store(stamp.0, Relaxed);
        Ok(Some(stamp))
    }

    /// Decides whether a tentative claim stands; gives it up if not.
    fn settle(&self, home: u32, own: u32, stamp: Stamp, key: &[u64; KEY]) -> Option<Stamp> {
        let own_index = self.step(home, own);
        if !self.plants.has(Plant::NoSettleFence) {
            // Pairs with itself in the rival's thread: of two who have shown their claims and then
            // look for others, at least one sees the other.
            fence(SeqCst);
        }
        if self.plants.has(Plant::NoSettle) || self.is_unrivalled(home, own, key) {
            let reserved = stamp.to(Phase::Reserved);
            // Fails if a rival at a lower position was faster. What the stamp guards was released
            // with the tentative claim.
            let swapped =
                self.slot(own_index).stamp.compare_exchange(stamp.0, reserved.0, Relaxed, Relaxed);
            if swapped.is_ok() {
                return Some(reserved);
            }
        }
        if !self.vacate(own_index, stamp) {
            self.vacate(own_index, stamp.to(Phase::Ousted));
        }
        None
    }

    /// Whether nobody else has a better right to the key; ousts those who have a worse one.
    fn is_unrivalled(&self, home: u32, own: u32, key: &[u64; KEY]) -> bool {
        for distance in 0..WINDOW {
            let index = self.step(home, distance);
            let is_clear = match distance.cmp(&own) {
                std::cmp::Ordering::Less => matches!(self.claim_on(index, key), Claim::None),
                std::cmp::Ordering::Equal => true,
                std::cmp::Ordering::Greater => self.oust(index, key),
            };
            if !is_clear {
                return false;
            }
            // Sees the counts of every rival whose claim this thread must see.
            if self.slot(index).overflow.load(Relaxed) == 0 {
                break;
            }
        }
        true
    }

    /// Makes a rival at this index give the key up; fails if it is settled.
    fn oust(&self, index: u32, key: &[u64; KEY]) -> bool {
        loop {
            let rival = match self.claim_on(index, key) {
                Claim::None => return true,
                Claim::Settled => return false,
                Claim::Tentative(_) if self.plants.has(Plant::NoOust) => return true,
                Claim::Tentative(rival) => rival,
            };
            let (rival, ousted) = (rival.0, rival.to(Phase::Ousted).0);
            // Atomicity decides between this and the rival's own swap in `settle`.
            let swapped = self.slot(index).stamp.compare_exchange(rival, ousted, Relaxed, Relaxed);
            if swapped.is_ok() {
                return true;
            }
        }
    }

    /// What the slot at this index has to do with the key.
    fn claim_on(&self, index: u32, key: &[u64; KEY]) -> Claim {
        let slot = self.slot(index);
        loop {
            // Acquires the life released by `commit`: the slot may yet show that of a dead entry.
            let stamp = Stamp(slot.stamp.load(self.plants.order(Plant::RelaxedLook, Acquire)));
            let has_key = !stamp.is(Phase::Free)
                && !stamp.is(Phase::Writing)
                && !stamp.is(Phase::Ousted)
                && slot.has_key(key);
            if !has_key {
                return Claim::None;
            }
            let life = Life(slot.life.load(Relaxed));
            // Pairs with the release fence of the next owner's `claim`.
            fence(Acquire);
            let now = Stamp(slot.stamp.load(Relaxed));
            if now == stamp {
                let is_entry = stamp.is(Phase::Live) || stamp.is(Phase::Rewriting);
                return match () {
                    () if is_entry && life.is_dead() => Claim::None,
                    () if stamp.is(Phase::Tentative) => Claim::Tentative(stamp),
                    () => Claim::Settled,
                };
            }
        }
    }
}

/// What came of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted<const VALUE: usize> {
    /// The entry is new.
    New(Entry<VALUE>),
    /// The key had an entry.
    Exists(Entry<VALUE>),
}
