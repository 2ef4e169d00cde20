use std::collections::HashMap;

use proptest::prelude::*;

use super::{Entry, Inserted, Lost, Refused, Reserved, SlotTable, Stamp, WINDOW, word::Phase};

type Table = SlotTable<2, 4>;

fn key(number: u64) -> [u64; 2] {
    [number, !number]
}

fn value(number: u64) -> [u64; 4] {
    [number, number + 1, number + 2, number + 3]
}

fn new(table: &Table, hash: u64, number: u64) -> Entry<4> {
    match table.insert(hash, &key(number), &value(number), 1) {
        Ok(Inserted::New(entry)) => entry,
        other => panic!("not new: {other:?}"),
    }
}

/// What must hold whenever no thread is at work.
fn assert_sound(table: &Table) {
    let mut passed = vec![0; table.slots.len()];
    let mut live = 0;
    for (index, slot) in table.slots.iter().enumerate() {
        let stamp = Stamp(slot.stamp.load(super::Relaxed));
        assert!(stamp.is(Phase::Free) || stamp.is(Phase::Live), "{stamp:?}");
        if stamp.is(Phase::Live) {
            live += 1;
            let home = u32::try_from(index).unwrap().wrapping_sub(stamp.distance());
            for distance in 0..stamp.distance() {
                passed[table.step(home, distance) as usize] += 1;
            }
        }
    }
    assert_eq!(table.len(), live);
    for (slot, passed) in table.slots.iter().zip(passed) {
        assert_eq!(slot.overflow.load(super::Relaxed), passed);
    }
}

#[test]
fn an_entry_is_found_until_it_is_removed() {
    let table = Table::new(8);
    let entry = new(&table, 5, 1);
    assert_eq!(table.find(5, &key(1)), Some(entry));
    assert_eq!(table.find(5, &key(2)), None);
    assert_eq!(table.remove(entry.at, entry.life), Ok(()));
    assert_eq!(table.find(5, &key(1)), None);
    assert_eq!(table.remove(entry.at, entry.life), Err(Lost));
    assert_sound(&table);
}

#[test]
fn a_key_has_one_entry() {
    let table = Table::new(8);
    let entry = new(&table, 5, 1);
    assert_eq!(table.insert(5, &key(1), &value(9), 7), Ok(Inserted::Exists(entry)));
    assert_eq!(table.len(), 1);
}

#[test]
fn entries_of_one_home_stay_found_when_those_before_them_go() {
    let table = Table::new(64);
    let entries: Vec<_> = (0..20).map(|number| new(&table, 3, number)).collect();
    for (number, entry) in entries.iter().enumerate().take(19) {
        table.remove(entry.at, entry.life).unwrap();
        assert_eq!(table.find(3, &key(number as u64)), None);
        assert_eq!(table.find(3, &key(19)), Some(entries[19]));
    }
    assert_sound(&table);
    table.remove(entries[19].at, entries[19].life).unwrap();
    assert!(table.is_pristine(), "a trace is left that lengthens searches");
}

#[test]
fn a_home_near_the_end_goes_on_at_the_beginning() {
    let table = Table::new(64);
    let last = u64::from(table.slots() - 1);
    let entries: Vec<_> = (0..5).map(|number| new(&table, last, number)).collect();
    assert_eq!(entries[1].at.index, 0);
    assert_eq!(table.find(last, &key(4)), Some(entries[4]));
    assert_sound(&table);
    for entry in entries {
        table.remove(entry.at, entry.life).unwrap();
    }
    assert_sound(&table);
}

#[test]
fn a_full_table_refuses_and_keeps_what_it_has() {
    let table = Table::new(4);
    for number in 0..4 {
        new(&table, number, number);
    }
    assert_eq!(table.insert(9, &key(9), &value(9), 1), Err(Refused::Full));
    assert!((0..4).all(|number| table.find(number, &key(number)).is_some()));
    assert_sound(&table);
}

#[test]
fn a_full_window_refuses() {
    let table = Table::new(1_000);
    let window = u64::from(WINDOW);
    let first = new(&table, 0, 0);
    for number in 1..window {
        new(&table, 0, number);
    }
    assert_eq!(table.insert(0, &key(window), &value(0), 1), Err(Refused::Full));
    assert_sound(&table);
    table.remove(first.at, first.life).unwrap();
    new(&table, 0, window);
    assert_sound(&table);
}

#[test]
fn nearly_nobody_is_refused_before_the_table_is_full() {
    // twice as many slots as entries, the fullest a table gets
    let table = Table::new(1 << 15);
    assert_eq!(table.slots(), 1 << 16);
    let hasher = crate::hash::state(1);
    let refused = (0..1 << 15).filter(|number| {
        let hash = std::hash::BuildHasher::hash_one(&hasher, number);
        table.insert(hash, &key(*number), &value(0), 1).is_err()
    });
    assert_eq!(refused.count(), 0);
}

#[test]
fn a_life_changes_only_from_what_was_seen() {
    let table = Table::new(8);
    let entry = new(&table, 5, 1);
    let life = table.refresh(entry.at, entry.life, 2).unwrap();
    assert_eq!(life.bits(), 2);
    assert_eq!(table.refresh(entry.at, entry.life, 3), Err(Lost));
    assert_eq!(table.remove(entry.at, entry.life), Err(Lost), "it was refreshed");
    assert_eq!(table.life(entry.at, entry.life), Some(life));
    assert_eq!(table.remove(entry.at, life), Ok(()));
    assert_eq!(table.life(entry.at, entry.life), None);
    assert_eq!(table.refresh(entry.at, life, 3), Err(Lost));
}

#[test]
fn the_next_entry_in_a_slot_is_another() {
    let table = Table::new(8);
    let first = new(&table, 5, 1);
    table.remove(first.at, first.life).unwrap();
    let second = new(&table, 5, 1);
    assert_eq!(first.at.index, second.at.index);
    assert_eq!(table.remove(first.at, first.life), Err(Lost));
    assert_eq!(table.refresh(first.at, first.life, 9), Err(Lost));
    assert_eq!(table.replace(first.at, &value(9)), Err(Lost));
    assert_eq!(table.life(first.at, first.life), None);
    assert_eq!(table.find(5, &key(1)), Some(second));
}

#[test]
fn a_value_is_replaced_once_per_version() {
    let table = Table::new(8);
    let entry = new(&table, 5, 1);
    let at = table.replace(entry.at, &value(7)).unwrap();
    assert_eq!(table.find(5, &key(1)), Some(Entry { at, value: value(7), life: entry.life }));
    assert_eq!(table.replace(entry.at, &value(8)), Err(Lost));
    // its life is still the same one
    table.remove(entry.at, entry.life).unwrap();
    assert_eq!(table.replace(at, &value(8)), Err(Lost));
    assert_sound(&table);
}

#[test]
fn a_reserved_key_is_seen_by_nobody_and_taken_by_nobody() {
    let table = Table::new(8);
    let Ok(Reserved::New(reservation)) = table.reserve(5, &key(1)) else { panic!() };
    assert_eq!(table.find(5, &key(1)), None);
    assert!(table.is_taken(reservation.index(), &key(1)));
    assert!(!table.is_taken(reservation.index(), &key(2)));
    assert_eq!(table.insert(5, &key(1), &value(1), 1), Err(Refused::Contended));
    let entry = reservation.commit(&value(3), 4);
    assert_eq!(table.find(5, &key(1)), Some(entry));
    assert_eq!((entry.value, entry.life.bits()), (value(3), 4));
    assert_sound(&table);
}

#[test]
fn a_dropped_reservation_leaves_nothing() {
    let table = Table::new(64);
    new(&table, 5, 0);
    drop(table.reserve(5, &key(1)));
    assert_eq!(table.len(), 1);
    assert_sound(&table);
    new(&table, 5, 1);
}

#[test]
fn a_walk_meets_every_entry_with_its_key() {
    let table = Table::new(64);
    let mut entries: Vec<_> = (0..30).map(|n| (key(n), new(&table, n * 7, n))).collect();
    let mut met: Vec<_> = (0..table.slots()).filter_map(|index| table.entry(index)).collect();
    entries.sort_by_key(|(key, _)| *key);
    met.sort_by_key(|(key, _)| *key);
    assert_eq!(met, entries);
    assert_eq!(table.entry(table.slots()), None);
    assert_eq!(table.entry(u32::MAX), None);
}

#[test]
fn a_version_wraps_into_neither_distance_nor_phase() {
    let last = Stamp(u32::MAX).to(Phase::Free);
    let next = last.claimed(63, 1);
    assert!(next.is(Phase::Writing));
    assert_eq!((next.version(), next.distance()), (0, 63));
    let rewritten = Stamp(u32::MAX).to(Phase::Rewriting).rewritten();
    assert!(rewritten.is(Phase::Live));
    assert_eq!((rewritten.version(), rewritten.distance()), (0, 63));
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Insert(u64, u64),
    Remove(u64),
    Refresh(u64, u64),
    Replace(u64, u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::{Insert, Refresh, Remove, Replace};
    // few keys and fewer homes, so that paths cross
    let key = 0..40_u64;
    prop_oneof![
        3 => (key.clone(), any::<u64>()).prop_map(|(key, number)| Insert(key, number >> 8)),
        2 => key.clone().prop_map(Remove),
        1 => (key.clone(), 0..1_000_u64).prop_map(|(key, bits)| Refresh(key, bits)),
        1 => (key, any::<u64>()).prop_map(|(key, number)| Replace(key, number >> 8)),
    ]
}

proptest! {
    #[test]
    fn agrees_with_a_hash_map(operations in prop::collection::vec(operation(), 1..400)) {
        let table = Table::new(24);
        let mut map = HashMap::<u64, ([u64; 4], u64)>::new();
        let home = |number: u64| number % 5;
        for operation in operations {
            match operation {
                Operation::Insert(number, first) => {
                    let outcome = table.insert(home(number), &key(number), &value(first), 1);
                    match outcome {
                        Ok(Inserted::New(_)) => {
                            prop_assert!(map.insert(number, (value(first), 1)).is_none());
                        }
                        Ok(Inserted::Exists(entry)) => {
                            prop_assert_eq!(map[&number], (entry.value, entry.life.bits()));
                        }
                        Err(refused) => {
                            prop_assert_eq!(refused, Refused::Full);
                            prop_assert_eq!(map.len(), table.capacity());
                        }
                    }
                }
                Operation::Remove(number) => {
                    let entry = table.find(home(number), &key(number));
                    let removed = entry.map(|entry| table.remove(entry.at, entry.life));
                    prop_assert_eq!(removed, map.remove(&number).map(|_| Ok(())));
                }
                Operation::Refresh(number, bits) => {
                    let entry = table.find(home(number), &key(number));
                    let done = entry.map(|entry| table.refresh(entry.at, entry.life, bits).is_ok());
                    let known = map.get_mut(&number).map(|(_, life)| *life = bits);
                    prop_assert_eq!(done, known.map(|()| true));
                }
                Operation::Replace(number, first) => {
                    let entry = table.find(home(number), &key(number));
                    let done = entry.map(|entry| table.replace(entry.at, &value(first)).is_ok());
                    let known = map.get_mut(&number).map(|(words, _)| *words = value(first));
                    prop_assert_eq!(done, known.map(|()| true));
                }
            }
            assert_sound(&table);
        }
        for number in 0..40 {
            let entry = table.find(home(number), &key(number));
            let words = entry.map(|entry| (entry.value, entry.life.bits()));
            prop_assert_eq!(words, map.get(&number).copied());
        }
        let walked = (0..table.slots()).filter_map(|index| table.entry(index)).count();
        prop_assert_eq!(walked, map.len());
    }
}
