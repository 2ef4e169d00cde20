//! The protocol of the table under the model checker.

use loom::sync::Arc;
use loom::thread;

use super::checking::check;
use super::plant::Plant;
use super::{Entry, Inserted, Life, Refused, Reserved, SlotTable};

/// All keys have the same home.
const HOME: u64 = 0;

fn table<const KEY: usize>(plant: Option<Plant>) -> Arc<SlotTable<KEY, 2>> {
    Arc::new(SlotTable::with_plant(2, plant))
}

/// A value whose words tell whose they are.
const fn value(number: u64) -> [u64; 2] {
    [number, number]
}

fn found(table: &SlotTable<1, 2>, key: u64) -> Option<[u64; 2]> {
    table.find(HOME, &[key]).map(|entry| entry.value)
}

fn insert(table: &SlotTable<1, 2>, key: u64, number: u64) -> Result<Inserted<2>, Refused> {
    table.insert(HOME, &[key], &value(number), 1)
}

fn new(table: &SlotTable<1, 2>, key: u64, number: u64) -> Entry<2> {
    match insert(table, key, number) {
        Ok(Inserted::New(entry)) => entry,
        other => panic!("not new: {other:?}"),
    }
}

/// The life of an entry as it is now, whatever it is.
fn life(table: &SlotTable<1, 2>, entry: &Entry<2>) -> Option<Life> {
    table.life(entry.at, entry.life)
}

#[test]
fn loom_a_reader_sees_an_entry_whole_or_not_at_all() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let reader = {
            let table = table.clone();
            thread::spawn(move || {
                if let Some(entry) = table.find(HOME, &[1]) {
                    assert_eq!((entry.value, entry.life.bits()), (value(1), 1));
                }
            })
        };
        new(&table, 1, 1);
        reader.join().unwrap();
        assert_eq!(found(&table, 1), Some(value(1)));
    }
    check("publish", Some(3), model, &[Plant::RelaxedRead, Plant::RelaxedCommit]);
}

#[test]
fn loom_a_reader_sees_no_words_of_the_next_entry_in_a_slot() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let first = new(&table, 1, 1);
        let reader = {
            let table = table.clone();
            thread::spawn(move || {
                if let Some(seen) = found(&table, 1) {
                    assert_eq!(seen, value(1));
                }
            })
        };
        table.remove(first.at, first.life).unwrap();
        new(&table, 2, 2);
        reader.join().unwrap();
        assert_eq!((found(&table, 1), found(&table, 2)), (None, Some(value(2))));
    }
    use Plant::{NoReadFence, NoRecheck, SameVersion};
    check("reuse", Some(3), model, &[NoRecheck, NoReadFence, SameVersion]);
}

#[test]
fn loom_a_key_half_of_one_entry_and_half_of_the_next_is_not_found() {
    fn model(plant: Option<Plant>) {
        let table = table::<2>(plant);
        let insert = |key, number| match table.insert(HOME, key, &value(number), 1) {
            Ok(Inserted::New(entry)) => entry,
            other => panic!("not new: {other:?}"),
        };
        let first = insert(&[1, 1], 1);
        let reader = {
            let table = table.clone();
            thread::spawn(move || assert_eq!(table.find(HOME, &[2, 1]), None))
        };
        table.remove(first.at, first.life).unwrap();
        insert(&[2, 2], 2);
        reader.join().unwrap();
    }
    use Plant::{NoClaimFence, NoReadFence, NoRecheck};
    check("mixture", Some(2), model, &[NoRecheck, NoReadFence, NoClaimFence]);
}

#[test]
fn loom_a_reader_sees_one_value_or_the_other_while_it_is_replaced() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let first = new(&table, 1, 1);
        let reader = {
            let table = table.clone();
            thread::spawn(move || {
                if let Some(seen) = found(&table, 1) {
                    assert!(seen == value(1) || seen == value(2), "torn: {seen:?}");
                }
            })
        };
        table.replace(first.at, &value(2)).unwrap();
        reader.join().unwrap();
        assert_eq!(found(&table, 1), Some(value(2)));
    }
    use Plant::{NoReadFence, NoRecheck, NoReplaceFence, RelaxedRead, RelaxedReplace};
    let finds = [NoRecheck, NoReadFence, RelaxedRead, NoReplaceFence, RelaxedReplace];
    check("replace", None, model, &finds);
}

#[test]
fn loom_one_of_two_inserters_of_a_key_wins_and_the_other_adopts() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        // every slot shows the life of a dead entry
        let dead = [new(&table, 3, 3), new(&table, 4, 4)];
        for entry in dead {
            table.remove(entry.at, entry.life).unwrap();
        }
        let other = {
            let table = table.clone();
            thread::spawn(move || insert(&table, 1, 1))
        };
        let outcomes = [insert(&table, 1, 2), other.join().unwrap()];
        let mut winners = 0;
        for outcome in outcomes {
            match outcome {
                Ok(Inserted::New(_)) => winners += 1,
                Ok(Inserted::Exists(entry)) => {
                    assert_eq!(found(&table, 1), Some(entry.value));
                }
                Err(refused) => assert_eq!(refused, Refused::Contended),
            }
        }
        assert!(winners < 2, "both are new");
        assert_eq!(table.len(), winners);
        if let Some(entry) = table.find(HOME, &[1]) {
            table.remove(entry.at, entry.life).unwrap();
        }
        assert!(table.is_pristine());
    }
    use Plant::{NoOust, NoSettle, NoSettleFence, RelaxedLook};
    check("insert", Some(2), model, &[NoSettle, NoSettleFence, NoOust, RelaxedLook]);
}

#[test]
fn loom_a_key_is_there_once_though_slots_are_freed_meanwhile() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        // stands in the way until the main thread removes it
        let first = new(&table, 3, 3);
        let other = {
            let table = table.clone();
            thread::spawn(move || insert(&table, 1, 1))
        };
        table.remove(first.at, first.life).unwrap();
        let outcomes = [insert(&table, 1, 2), other.join().unwrap()];
        let new = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Inserted::New(_))));
        assert!(new.count() < 2, "both are new");
    }
    use Plant::{NoOverflow, NoSettle, NoSettleFence};
    check("freed", Some(2), model, &[NoSettle, NoSettleFence, NoOverflow]);
}

#[test]
fn loom_an_entry_refreshed_since_it_was_seen_is_not_removed() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let seen = new(&table, 1, 1);
        let other = {
            let table = table.clone();
            thread::spawn(move || table.refresh(seen.at, seen.life, 2).is_ok())
        };
        let removed = table.remove(seen.at, seen.life).is_ok();
        let refreshed = other.join().unwrap();
        assert_ne!(removed, refreshed);
        assert_eq!(found(&table, 1).is_some(), refreshed);
        assert_eq!(life(&table, &seen).map(Life::bits), refreshed.then_some(2));
    }
    check("refresh", None, model, &[Plant::BlindRemove]);
}

#[test]
fn loom_what_was_seen_of_an_entry_does_nothing_to_its_successor() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let first = new(&table, 1, 1);
        let late = {
            let table = table.clone();
            thread::spawn(move || table.refresh(first.at, first.life, 9).is_ok())
        };
        let removed = table.remove(first.at, first.life).is_ok();
        if removed {
            let second = new(&table, 1, 2);
            assert_eq!(second.at.index, first.at.index);
        }
        let refreshed = late.join().unwrap();
        assert_ne!(removed, refreshed, "the successor was refreshed");
    }
    check("successor", Some(3), model, &[Plant::NoTag]);
}

#[test]
fn loom_a_slot_removed_while_its_value_is_replaced_is_freed_once() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let seen = new(&table, 1, 1);
        let remover = {
            let table = table.clone();
            thread::spawn(move || table.remove(seen.at, seen.life).unwrap())
        };
        let _ = table.replace(seen.at, &value(2));
        remover.join().unwrap();
        assert!(table.is_pristine());
    }
    use Plant::{NoBuryFence, NoHandOver, NoHandOverFence};
    check("hand over", Some(3), model, &[NoHandOver, NoHandOverFence, NoBuryFence]);
}

#[test]
fn loom_the_next_owner_of_a_slot_writes_over_the_last_one() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let last = {
            let table = table.clone();
            thread::spawn(move || {
                let entry = new(&table, 1, 1);
                table.remove(entry.at, entry.life).unwrap();
            })
        };
        let entry = new(&table, 2, 2);
        assert_eq!(found(&table, 2), Some(value(2)));
        assert_eq!(life(&table, &entry).map(Life::bits), Some(1));
        last.join().unwrap();
        table.remove(entry.at, entry.life).unwrap();
        assert!(table.is_pristine());
    }
    check("next", Some(2), model, &[Plant::RelaxedClaim, Plant::NoUncount]);
}

#[test]
fn loom_a_reserved_key_is_nobody_elses_until_it_is_withdrawn() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let other = {
            let table = table.clone();
            thread::spawn(move || insert(&table, 1, 1))
        };
        let reserved = table.reserve(HOME, &[1]);
        let held = matches!(reserved, Ok(Reserved::New(_)));
        if held {
            assert_eq!(found(&table, 1), None);
        }
        drop(reserved);
        match other.join().unwrap() {
            Ok(Inserted::New(entry)) => table.remove(entry.at, entry.life).unwrap(),
            Ok(Inserted::Exists(_)) => panic!("nobody inserted it"),
            Err(refused) => assert_eq!(refused, Refused::Contended),
        }
        assert!(table.is_pristine());
    }
    check("withdraw", Some(2), model, &[Plant::NoSettle]);
}
