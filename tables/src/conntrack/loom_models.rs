//! Connections under the model checker: what is two entries must act as one.

use loom::sync::Arc;
use loom::thread;

use super::binding::V4;
use super::table::Table;
use super::{
    BindError, Binding, BindingFlags, Bound, Direction, Found, Life, Signal, State, Verdict,
};
use crate::slots::checking::check;
use crate::slots::{Plant, SlotTable};
use crate::{Address, Endpoint, Flow, Generation, HopId, LoadId, PortId, Protocol, Tick};

type Connections = Table<V4, 2, 4>;

/// A signal that changes the state of any connection, from any state.
const ABORT: Signal = Signal::Sctp(6);

/// Homes so far apart that the two directions do not get in each other's way: how entries of one
/// home do that is the table's own business, and has its own models.
fn home(flow: Flow) -> u64 {
    if flow == there() { 0 } else { 4 }
}

fn table(plant: Option<Plant>) -> Arc<Connections> {
    Arc::new(Table::on(SlotTable::with_plant(4, plant), Arc::default()))
}

fn there() -> Flow {
    let endpoint = |last| Endpoint::new(Address::v4(last), 1);
    Flow { protocol: Protocol::UDP, source: endpoint(1), target: endpoint(2) }
}

fn back() -> Flow {
    there().reversed()
}

fn bind(table: &Connections, flow: Flow) -> Result<Bound, BindError> {
    let binding = |source, target| Binding {
        ingress: PortId(1),
        source,
        target,
        ip_delta: 0,
        transport_delta: 0,
        hops: 0,
        hop: HopId(1),
        load: LoadId::NONE,
        generation: Generation(1),
        flags: BindingFlags::default(),
    };
    let bindings = [binding(flow.source, flow.target), binding(flow.target, flow.source)];
    let life = Life::begin(State::UdpUnreplied, Tick(1));
    let reply = flow.reversed();
    table.bind([&flow, &reply], [home(flow), home(reply)], bindings, life)
}

fn new(table: &Connections, flow: Flow) -> Found {
    match bind(table, flow) {
        Ok(Bound::New(found)) => found,
        other => panic!("not new: {other:?}"),
    }
}

fn find(table: &Connections, flow: Flow) -> Option<Found> {
    table.find(&flow, home(flow))
}

/// Both directions are there, or neither; and nothing stays when they are removed.
fn assert_whole(table: &Connections) -> bool {
    let halves = [find(table, there()), find(table, back())];
    let count = halves.iter().flatten().count();
    assert_ne!(count, 1, "half a connection");
    assert_eq!(table.slots.len(), count);
    if let [Some(found), _] = &halves {
        assert!(table.remove(found));
    }
    assert!(table.slots.is_pristine());
    count == 2
}

#[test]
fn loom_one_of_two_binds_the_flow_and_both_find_its_answers() {
    fn bind_and_look(table: &Connections) -> bool {
        let outcome = bind(table, there());
        match outcome {
            Ok(Bound::New(_) | Bound::Existing(_)) => assert!(find(table, back()).is_some()),
            Err(error) => assert_eq!(error, BindError::Contended),
        }
        matches!(outcome, Ok(Bound::New(_)))
    }
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let other = {
            let table = table.clone();
            thread::spawn(move || bind_and_look(&table))
        };
        let made = [bind_and_look(&table), other.join().unwrap()];
        assert!(made != [true, true], "both are new");
        assert_eq!(assert_whole(&table), made.contains(&true));
    }
    check("bind", Some(1), model, &[Plant::OriginalFirst, Plant::NoSettle]);
}

#[test]
fn loom_two_ends_that_send_at_once_do_not_wait_for_each_other() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let other = {
            let table = table.clone();
            thread::spawn(move || bind(&table, back()))
        };
        let outcomes = [bind(&table, there()), other.join().unwrap()];
        let made = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Bound::New(_))));
        assert_eq!(made.count(), 1, "{outcomes:?}");
        assert!(assert_whole(&table));
    }
    check("ends", Some(1), model, &[Plant::CallOrder]);
}

#[test]
fn loom_a_connection_heard_from_by_its_answers_is_not_removed_as_silent() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let silent = new(&table, there());
        let answers = find(&table, back()).unwrap();
        let listener = {
            let table = table.clone();
            thread::spawn(move || table.follow(&answers, Signal::Frame, Tick(9)))
        };
        let removed = table.remove_as(&silent);
        let verdict = listener.join().unwrap();
        assert_eq!(verdict == Verdict::Gone, removed, "{verdict:?}");
        let state = find(&table, there()).map(|found| found.life.state);
        assert_eq!(state, (!removed).then_some(State::UdpReplied));
        assert_eq!(assert_whole(&table), !removed);
    }
    check("silent", Some(2), model, &[Plant::CopyOnly, Plant::BlindRemove]);
}

#[test]
fn loom_a_flow_bound_while_its_predecessor_goes_is_whole() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let old = new(&table, there());
        let other = {
            let table = table.clone();
            thread::spawn(move || bind(&table, there()))
        };
        assert!(table.remove(&old));
        let outcome = other.join().unwrap();
        match outcome {
            Ok(Bound::Existing(found)) => assert_eq!(found, old),
            Ok(Bound::New(found)) => assert_eq!(found.binding.direction(), Direction::Original),
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(assert_whole(&table), matches!(outcome, Ok(Bound::New(_))));
    }
    check("predecessor", Some(2), model, &[Plant::NoOrphans, Plant::LatePeer]);
}

#[test]
fn loom_the_copy_of_a_life_is_not_left_behind() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let forward = new(&table, there());
        let backward = find(&table, back()).unwrap();
        let other = {
            let table = table.clone();
            thread::spawn(move || table.follow(&backward, Signal::Frame, Tick(1)))
        };
        assert_eq!(table.follow(&forward, ABORT, Tick(1)), Verdict::Accept);
        assert_eq!(other.join().unwrap(), Verdict::Accept);
        let states = [there(), back()].map(|flow| find(&table, flow).unwrap().life.state);
        assert_eq!(states, [State::SctpClosed; 2]);
    }
    check("copy", Some(2), model, &[Plant::CopyOnce, Plant::RelaxedLife]);
}

#[test]
fn loom_what_was_seen_of_a_connection_does_nothing_to_its_successor() {
    fn model(plant: Option<Plant>) {
        let table = table(plant);
        let old = new(&table, there());
        let answers = find(&table, back()).unwrap();
        let other = {
            let table = table.clone();
            thread::spawn(move || table.remove(&answers))
        };
        let removed = table.remove(&old);
        let outcome = bind(&table, there());
        assert_ne!(removed, other.join().unwrap());
        let is_new = matches!(outcome, Ok(Bound::New(_)));
        assert!(is_new, "{outcome:?}");
        assert!(assert_whole(&table), "the successor was removed");
    }
    check("successor", Some(1), model, &[Plant::AnyOwner]);
}
