//! Connections that another process left in memory that outlived it.
//!
//! The slots of a table hold all that must survive: the flows, how they are rewritten, how they
//! stand. What else a binding says (port, hop, counter) means something in one process alone, so
//! every adopted flow has to be judged anew at its next frame: by a generation later than any that
//! the process before had published, see [`Adopted::newest`].

use super::binding::{Layout, Record, V4, V6};
use super::table::{Counts, Table};
use super::{Binding, Connection, Conntrack, Direction, Life};
use crate::slots::{Slot, SlotTable};
use crate::{Flow, Generation, LoadId, PortId, hash};

/// The number of the way in which connections lie in slots. Whoever changes what a word of a slot
/// means, or the number of a [`State`](super::State), counts it up.
pub const LAYOUT: u64 = 2;

/// Slots for the connections of both families.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// As many as [`Room::slots`] says first.
    pub v4: &'static [Slot<2, 4>],
    /// As many as it says second.
    pub v6: &'static [Slot<5, 7>],
}

impl Room {
    /// How many slots of either kind tables for so many connections each have.
    pub fn slots([v4, v6]: [usize; 2]) -> [usize; 2] {
        let entries = |connections: usize| connections.saturating_mul(2);
        [SlotTable::<2, 4>::slots_for(entries(v4)), SlotTable::<5, 7>::slots_for(entries(v6))]
    }
}

/// What was found in slots that another process left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Connections.
    pub connections: usize,
    /// The latest generation under which any of them was judged.
    pub newest: Generation,
}

/// What counts a connection that another process left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its backend's counter.
    pub load: LoadId,
    /// The port that its first frame came in at, if that is there.
    pub port: Option<PortId>,
}

impl Conntrack {
    /// A table in slots that are there already; what is in them is not a connection before
    /// [`Self::adopt`]. `None` if they are not as many as these capacities take.
    pub fn over(capacities: [usize; 2], seed: u64, room: Room) -> Option<Self> {
        let counts = Counts::new();
        let [v4, v6] = capacities.map(|capacity| capacity.saturating_mul(2));
        Some(Self {
            v4: Table::on(SlotTable::over(v4, room.v4)?, &counts),
            v6: Table::on(SlotTable::over(v6, room.v6)?, &counts),
            hasher: hash::state(seed),
            counts,
        })
    }

    /// Makes connections again of what another process left in the slots; those of which only one
    /// direction is there are dropped. They are not counted for backends and ports before
    /// [`Self::recount`].
    ///
    /// Nobody else may use the table meanwhile.
    ///
    /// **Cost**: a read of every slot.
    pub fn adopt(&self) -> Adopted {
        let mut adopted = Adopted::default();
        self.v4.adopt(|flow| self.hash(flow), &mut adopted);
        self.v6.adopt(|flow| self.hash(flow), &mut adopted);
        adopted
    }

    /// Has every connection counted by the counter that `counted` names for it, and one that was
    /// counted for a port, for the port it names. To be done once, when nothing is counted yet and
    /// nobody else uses the table.
    pub fn recount(&self, mut counted: impl FnMut(&Connection) -> Counted) {
        self.v4.recount(&mut counted);
        self.v6.recount(&mut counted);
    }
}

impl<L: Layout<KEY, VALUE>, const KEY: usize, const VALUE: usize> Table<L, KEY, VALUE> {
    fn adopt(&self, hash: impl Fn(&Flow) -> u64, adopted: &mut Adopted) {
        for index in self.slots.mend(|key| hash(&L::flow(key))) {
            let Some((_, found)) = self.direction(index) else { continue };
            // of a pair each says where the other is
            let is_whole = self
                .peer(&found)
                .is_some_and(|peer| peer.binding.direction() != found.binding.direction());
            if !is_whole {
                // nobody else is there to remove it first
                let _ = self.slots.remove(found.handle.at, found.handle.life);
                continue;
            }
            adopted.connections += usize::from(found.binding.direction() == Direction::Original);
            adopted.newest = adopted.newest.max(found.binding.generation);
        }
    }

    fn recount(&self, counted: &mut impl FnMut(&Connection) -> Counted) {
        if self.slots.is_empty() {
            return;
        }
        for index in 0..self.slots.slots() {
            let Some((flow, found)) = self.original(index) else { continue };
            let Counted { load, port } = counted(&self.connection(flow, &found));
            let ingress = port.unwrap_or(found.binding.ingress);
            let binding = Binding { ingress, load, ..found.binding };
            if binding != found.binding {
                let record = Record { binding, peer: found.handle.peer };
                if self.slots.replace(found.handle.at, &L::value(&record)).is_err() {
                    continue;
                }
            }
            self.loads.add(load);
            if !found.life.is_counted {
                continue;
            }
            if port.is_some() {
                self.half_open.add(ingress.0);
            } else {
                let life = Life { is_counted: false, ..found.life };
                // nobody else is there to change it first
                self.set(&found, life);
            }
        }
    }
}

/// The kinds of slots are those of the tables.
const _: fn(&Conntrack) -> (&Table<V4, 2, 4>, &Table<V6, 5, 7>) = |table| (&table.v4, &table.v6);

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::{BindingFlags, Bound, State};
    use super::*;
    use crate::{Address, Endpoint, HopId, Protocol, Tick};

    fn room() -> Room {
        let [v4, v6] = Room::slots([64, 64]);
        // zeros are free slots
        let v4: Vec<Slot<2, 4>> = (0..v4).map(|_| Slot::default()).collect();
        let v6: Vec<Slot<5, 7>> = (0..v6).map(|_| Slot::default()).collect();
        Room { v4: v4.leak(), v6: v6.leak() }
    }

    fn endpoint(is_v4: bool, last: u16, port: u16) -> Endpoint {
        let address = if is_v4 {
            Address::v4(0x0a04_0000 | u32::from(last))
        } else {
            Address::v6(0xfd00 << 112 | u128::from(last))
        };
        Endpoint::new(address, port)
    }

    fn bind(conntrack: &Conntrack, is_v4: bool, client: u16, generation: u32) -> Flow {
        bind_in(State::Established, conntrack, is_v4, client, generation)
    }

    fn bind_in(
        state: State,
        conntrack: &Conntrack,
        is_v4: bool,
        client: u16,
        generation: u32,
    ) -> Flow {
        let source = endpoint(is_v4, 1, client);
        let (service, backend) = (endpoint(is_v4, 2, 80), endpoint(is_v4, 3, 8080));
        let original = Flow { protocol: Protocol::TCP, source, target: service };
        let binding = |source, target| Binding {
            ingress: PortId(3),
            source,
            target,
            ip_delta: 1,
            transport_delta: 2,
            hops: 2,
            hop: HopId(7),
            load: LoadId(4),
            generation: Generation(generation),
            flags: BindingFlags::NAT,
        };
        let reply = Flow { protocol: Protocol::TCP, source: backend, target: source };
        let forward = binding(source, backend);
        let backward = binding(service, source);
        let bound = conntrack.bind(&original, forward, &reply, backward, Tick(9), state);
        assert!(matches!(bound, Ok(Bound::New(_))), "{bound:?}");
        original
    }

    fn find(conntrack: &Conntrack, flow: &Flow) -> Option<super::super::Found> {
        conntrack.find(flow, conntrack.hash(flow))
    }

    #[test]
    fn connections_outlive_their_process_in_both_directions() {
        let room = room();
        let before = Conntrack::over([64, 64], 1, room).unwrap();
        let flows: Vec<_> = (0..40).map(|n| bind(&before, n % 2 == 0, 40_000 + n, 5)).collect();
        let last = bind(&before, true, 50_000, 8);
        drop(before);

        let after = Conntrack::over([64, 64], 1, room).unwrap();
        assert_eq!(after.adopt(), Adopted { connections: 41, newest: Generation(8) });
        assert_eq!(after.len(), 41);
        after.recount(|connection| {
            assert_eq!(connection.forward.target.port, 8080);
            Counted {
                load: LoadId(if connection.original == last { 6 } else { 9 }),
                port: Some(PortId(8)),
            }
        });
        assert_eq!([4, 6, 9].map(|id| after.loads().get(LoadId(id))), [0, 1, 40]);
        for flow in flows.iter().chain([&last]) {
            let found = find(&after, flow).unwrap();
            assert_eq!(found.life.state, State::Established);
            let reply = found.binding.answered_by(flow.protocol);
            let reply = find(&after, &reply).unwrap();
            assert_eq!(reply.binding.direction(), Direction::Reply);
            assert!(after.remove(&found));
        }
        assert!(after.is_empty());
        assert_eq!(after.loads().get(LoadId(9)), 0);
        assert!(after.v4.slots.is_pristine() && after.v6.slots.is_pristine());
    }

    #[test]
    fn half_open_connections_count_for_the_ports_of_now() {
        let room = room();
        let before = Conntrack::over([64, 64], 1, room).unwrap();
        for client in 0..10 {
            bind_in(State::SynSent, &before, client % 2 == 0, 40_000 + client, 1);
        }
        bind(&before, true, 50_000, 1);
        assert_eq!(before.half_open(PortId(3)), 10);
        drop(before);

        let after = Conntrack::over([64, 64], 1, room).unwrap();
        after.adopt();
        // of four of them the machine is not there any more
        let port = |client| (client < 40_006).then_some(PortId(8));
        after.recount(|connection| Counted {
            load: LoadId::NONE,
            port: port(connection.original.source.port),
        });
        assert_eq!([3, 8].map(|port| after.half_open(PortId(port))), [0, 6]);
        assert_eq!(after.remove_where(|_| true, |_| {}), 11);
        assert_eq!(after.half_open(PortId(8)), 0);
    }

    #[test]
    fn half_a_connection_is_none() {
        let room = room();
        let before = Conntrack::over([64, 64], 1, room).unwrap();
        let (whole, half) = (bind(&before, true, 40_000, 1), bind(&before, true, 40_001, 1));
        let found = find(&before, &half).unwrap();
        // its process ended between the two removals
        before.v4.slots.remove(found.handle.at, found.handle.life).unwrap();
        let after = Conntrack::over([64, 64], 1, room).unwrap();
        assert_eq!(after.adopt().connections, 1);
        assert!(find(&after, &found.binding.answered_by(half.protocol)).is_none());
        let whole = find(&after, &whole).unwrap();
        assert!(after.remove(&whole));
        assert!(after.v4.slots.is_pristine());
    }

    #[test]
    fn under_another_seed_nothing_is_where_it_should_be() {
        let room = room();
        bind(&Conntrack::over([64, 64], 1, room).unwrap(), true, 40_000, 1);
        let after = Conntrack::over([64, 64], 2, room).unwrap();
        assert_eq!(after.adopt().connections, 0);
        assert!(after.v4.slots.is_pristine());
    }
}
