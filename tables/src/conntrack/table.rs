//! The connections of one address family.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use super::binding::{Layout, Record};
use super::{Binding, BindingFlags, Connection, Direction, FlowRef, Found, Life, Occupancy};
use crate::slots::{Entry, Plant, SlotTable};
use crate::tally::Tally;
use crate::{Flow, LoadId, Loads};

/// What is counted of the connections of both families.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) loads: Arc<Loads>,
    pub(super) half_open: Arc<Tally>,
}

impl Counts {
    pub(super) fn new() -> Self {
        let ports = usize::from(u16::MAX) + 1;
        Self { loads: Arc::new(Loads::new(LoadId::COUNT)), half_open: Arc::new(Tally::new(ports)) }
    }
}

/// Connections of one family: `L` says how they lie in slots.
#[derive(Debug)]
pub(super) struct Table<L, const KEY: usize, const VALUE: usize> {
    pub(super) slots: SlotTable<KEY, VALUE>,
    pub(super) loads: Arc<Loads>,
    /// Connections that count for the port where they began.
    ///
    /// Whoever clears the mark in a connection's life, or removes it while it has the mark, takes it
    /// off. While it has the mark, its binding names the port that it was bound with: see `rebind`.
    pub(super) half_open: Arc<Tally>,
    layout: PhantomData<L>,
}

impl<L: Layout<KEY, VALUE>, const KEY: usize, const VALUE: usize> Table<L, KEY, VALUE> {
    /// A table for so many connections, at addresses that `advise` hears of first.
    pub(super) fn new(capacity: usize, counts: &Counts, advise: &dyn Fn(Range<usize>)) -> Self {
        Self::on(SlotTable::advised(capacity.saturating_mul(2), advise), counts)
    }

    pub(super) fn on(slots: SlotTable<KEY, VALUE>, counts: &Counts) -> Self {
        let Counts { loads, half_open } = counts.clone();
        Self { slots, loads, half_open, layout: PhantomData }
    }

    pub(super) fn occupancy(&self) -> Occupancy {
        Occupancy { connections: self.slots.len().div_ceil(2), capacity: self.slots.capacity() / 2 }
    }

    #[inline]
    pub(super) fn warm(&self, hash: u64) {
        self.slots.warm(hash);
    }

    #[inline]
    pub(super) fn find(&self, flow: &Flow, hash: u64) -> Option<Found> {
        let entry = self.slots.find(hash, &L::key(flow))?;
        Some(Self::found(flow, &entry))
    }

    #[inline]
    pub(super) fn found(flow: &Flow, entry: &Entry<VALUE>) -> Found {
        let Record { binding, peer } = L::record(&entry.value);
        let handle = FlowRef {
            protocol: flow.protocol,
            is_v4: flow.is_v4(),
            at: entry.at,
            life: entry.life,
            peer,
        };
        Found { binding, life: Life::from_bits(entry.life.bits()), handle }
    }

    /// The other direction of what was found, if it is still there.
    pub(super) fn peer(&self, found: &Found) -> Option<Found> {
        let flow = found.binding.answered_by(found.handle.protocol);
        self.at(found.handle.peer, &flow, found.handle.at.index)
    }

    /// The direction of this flow at this index, if it belongs to the one at index `peer`.
    fn at(&self, index: u32, flow: &Flow, peer: u32) -> Option<Found> {
        let entry = self.slots.find_at(index, &L::key(flow))?;
        Some(Self::found(flow, &entry)).filter(|found| found.handle.peer == peer)
    }

    pub(super) fn rebind(&self, found: &Found, binding: Binding) -> bool {
        if binding.ingress != found.binding.ingress
            && found.binding.direction() == Direction::Original
        {
            // before the port is another: who sees that sees that it does not count
            self.discount(found);
        }
        let flags = match found.binding.direction() {
            Direction::Original => binding.flags.without(BindingFlags::REPLY),
            Direction::Reply => binding.flags.and(BindingFlags::REPLY),
        };
        // who counts it is told when it ends, so that stays
        let binding = Binding { flags, load: found.binding.load, ..binding };
        let record = Record { binding, peer: found.handle.peer };
        self.slots.replace(found.handle.at, &L::value(&record)).is_ok()
    }

    /// Has a connection, of which this is the original direction, count for no port any more.
    pub(super) fn discount(&self, found: &Found) {
        while let Some(owner) = self.again(found).filter(|owner| owner.life.is_counted) {
            let life = Life { is_counted: false, ..owner.life };
            if self.set(&owner, life) {
                self.half_open.remove(owner.binding.ingress.0);
                return;
            }
        }
    }

    /// The original direction of the connection as it is now, if it is still there.
    pub(super) fn owner(&self, found: &Found) -> Option<Found> {
        if found.binding.direction() == Direction::Original
            || self.slots.has_planted(Plant::CopyOnly)
        {
            return self.again(found);
        }
        let owner = self.peer(found)?;
        // A later connection of the same flows may lie in the same two slots. While the reply that
        // was found is there, what was read before it is its own.
        let is_own = self.again(found).is_some() || self.slots.has_planted(Plant::AnyOwner);
        is_own.then_some(owner)
    }

    /// The same direction with its life as it is now, if it is still there.
    pub(super) fn again(&self, found: &Found) -> Option<Found> {
        let life = self.slots.life(found.handle.at, found.handle.life)?;
        let handle = FlowRef { life, ..found.handle };
        Some(Found { life: Life::from_bits(life.bits()), handle, ..*found })
    }

    /// Removes the connection however it stands; answers whether this call did.
    pub(super) fn remove(&self, found: &Found) -> bool {
        while let Some(owner) = self.owner(found) {
            if self.remove_as(&owner) {
                return true;
            }
        }
        false
    }

    /// Removes the connection if its original direction is exactly as observed.
    pub(super) fn remove_as(&self, owner: &Found) -> bool {
        // Read before the original goes: afterwards both slots may be those of a later connection
        // of the same flows.
        let mut reply = self.peer(owner);
        if self.slots.remove(owner.handle.at, owner.handle.life).is_err() {
            return false;
        }
        self.loads.remove(owner.binding.load);
        if owner.life.is_counted {
            self.half_open.remove(owner.binding.ingress.0);
        }
        if self.slots.has_planted(Plant::LatePeer) {
            reply = self.peer(owner);
        }
        if let Some(reply) = reply {
            self.bury(&reply);
        }
        true
    }

    /// Whether the original of this reply direction was removed.
    ///
    /// It is removed first, but recorded last: until then its slot is reserved.
    pub(super) fn is_orphan(&self, reply: &Found) -> bool {
        let original = reply.binding.answered_by(reply.handle.protocol);
        !self.slots.is_taken(reply.handle.peer, &L::key(&original))
            && !self.slots.has_planted(Plant::NoOrphans)
    }

    /// Removes the reply direction of a connection whose original is gone.
    pub(super) fn bury(&self, reply: &Found) {
        let mut reply = Some(*reply);
        while let Some(observed) = reply.and_then(|reply| self.again(&reply)) {
            if self.slots.remove(observed.handle.at, observed.handle.life).is_ok() {
                return;
            }
            reply = Some(observed);
        }
    }

    /// What is at this index, and the flow it is found by.
    pub(super) fn direction(&self, index: u32) -> Option<(Flow, Found)> {
        let (key, entry) = self.slots.entry(index)?;
        let flow = L::flow(&key);
        let found = Self::found(&flow, &entry);
        Some((flow, found))
    }

    /// What is at this index, if it is an original direction.
    pub(super) fn original(&self, index: u32) -> Option<(Flow, Found)> {
        let direction = self.direction(index);
        direction.filter(|(_, found)| found.binding.direction() == Direction::Original)
    }

    /// The whole connection.
    pub(super) fn connection(&self, original: Flow, found: &Found) -> Connection {
        let backward = self.peer(found).map(|reply| reply.binding);
        Connection { original, forward: found.binding, backward, life: found.life }
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = Connection> {
        (0..self.slots.slots())
            .filter_map(|index| self.original(index))
            .map(|(flow, found)| self.connection(flow, &found))
    }
}
