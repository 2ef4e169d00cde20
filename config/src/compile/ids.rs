//! Numbers that stay with what they were given to.

use std::collections::BTreeSet;
use std::hash::Hash;

use super::Map;

/// Small numbers for keys: a key keeps its number while it lives.
///
/// The number of a key that went is given to another one only in a later turn, so that nobody sees
/// one number stand for two things in the same step.
#[derive(Debug)]
pub(super) struct Ids<K> {
    ids: Map<K, (u32, u32)>,
    free: BTreeSet<u32>,
    cooling: Vec<u32>,
    next: u32,
    turn: u32,
}

impl<K> Default for Ids<K> {
    fn default() -> Self {
        Self { ids: Map::default(), free: BTreeSet::new(), cooling: Vec::new(), next: 0, turn: 0 }
    }
}

impl<K: Eq + Hash> Ids<K> {
    /// The numbers of these keys, in their order; all others are free from the next turn on.
    pub(super) fn assign(&mut self, keys: impl IntoIterator<Item = K>) -> Vec<u32> {
        self.turn = self.turn.wrapping_add(1);
        self.free.extend(self.cooling.drain(..));
        let turn = self.turn;
        let ids = keys.into_iter().map(|key| self.id(key)).collect();
        let cooling = &mut self.cooling;
        self.ids.retain(|_, (id, last)| {
            if *last != turn {
                cooling.push(*id);
            }
            *last == turn
        });
        ids
    }

    fn id(&mut self, key: K) -> u32 {
        let turn = self.turn;
        let (free, next) = (&mut self.free, &mut self.next);
        let (id, last) = self.ids.entry(key).or_insert_with(|| {
            let id = free.pop_first().unwrap_or_else(|| {
                let id = *next;
                *next = next.saturating_add(1);
                id
            });
            (id, turn)
        });
        *last = turn;
        *id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_number_while_it_lives() {
        let mut ids = Ids::default();
        assert_eq!(ids.assign(["a", "b", "c"]), [0, 1, 2]);
        assert_eq!(ids.assign(["c", "a", "b", "d"]), [2, 0, 1, 3]);
    }

    #[test]
    fn numbers_come_back_a_turn_later_and_only_for_new_keys() {
        let mut ids = Ids::default();
        assert_eq!(ids.assign(["a", "b", "c"]), [0, 1, 2]);
        assert_eq!(ids.assign(["a", "c", "new"]), [0, 2, 3]);
        assert_eq!(ids.assign(["a", "c", "new", "newer", "newest"]), [0, 2, 3, 1, 4]);
    }

    #[test]
    fn the_same_key_twice_is_one_key() {
        assert_eq!(Ids::default().assign(["a", "a"]), [0, 0]);
    }
}
