//! Which port of a bridge an Ethernet address was last heard at.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

use crate::slots::{Entry, Inserted, SlotTable};
use crate::tally::Tally;
use crate::{MacAddress, PortId, SegmentId, Tick, hash};

/// The Ethernet addresses learned on bridges.
///
/// **Sharing**: every worker finds and learns, control expires and flushes; no locks.
/// Source: IEEE 802.1Q §8.8, filtering database.
#[derive(Debug)]
pub struct Fdb {
    slots: SlotTable<1, 1>,
    hasher: RandomState,
    /// Addresses known, by port.
    stations: Tally,
}

/// One learned address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// The bridge.
    pub segment: SegmentId,
    /// The address.
    pub mac: MacAddress,
    /// Where it was last heard.
    pub port: PortId,
    /// When it was last heard.
    pub seen: Tick,
}

/// What came of learning an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// It is known at this port already.
    Known,
    /// It is new.
    New,
    /// It was at another port before.
    Moved,
    /// There is no room, its port has too many, or another thread is learning it: frames to it are
    /// flooded.
    Not,
}

/// How often the time of an address is written, ticks: a bridge needs no better.
const GRAIN: u32 = Tick::PER_SECOND;

impl Fdb {
    /// A table for so many addresses, hashing by `seed`.
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self {
            slots: SlotTable::new(capacity),
            hasher: hash::state(seed),
            stations: Tally::new(usize::from(u16::MAX) + 1),
        }
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many addresses are known at this port.
    pub fn stations(&self, port: PortId) -> u32 {
        self.stations.get(port.0)
    }

    /// Takes note that `mac` was heard at `port`, which may have so many (`limit`).
    ///
    /// **Cost**: one cache line; a write only once a second for an address that stays.
    pub fn learn(
        &self,
        segment: SegmentId,
        mac: MacAddress,
        (port, limit): (PortId, u32),
        now: Tick,
    ) -> Learned {
        let (hash, key) = self.key(segment, mac);
        let found = match self.slots.find(hash, &key) {
            Some(entry) => entry,
            None if self.stations(port) >= limit => return Learned::Not,
            None => match self.slots.insert(hash, &key, &[port.0.into()], now.0.into()) {
                Ok(Inserted::New(_)) => {
                    self.stations.add(port.0);
                    return Learned::New;
                }
                Ok(Inserted::Exists(entry)) => entry,
                Err(_) => return Learned::Not,
            },
        };
        let station = Self::station(key, &found);
        if station.port != port {
            let Ok(at) = self.slots.replace(found.at, &[port.0.into()]) else {
                return Learned::Not;
            };
            self.stations.remove(station.port.0);
            self.stations.add(port.0);
            let _ = self.slots.refresh(at, found.life, now.0.into());
            return Learned::Moved;
        }
        if now.since(station.seen) >= GRAIN {
            // whoever wrote it first wrote the same
            let _ = self.slots.refresh(found.at, found.life, now.0.into());
        }
        Learned::Known
    }

    /// The port where `mac` was heard less than `max_age` ticks ago.
    ///
    /// **Cost**: one cache line; no writes.
    pub fn find(
        &self,
        segment: SegmentId,
        mac: MacAddress,
        now: Tick,
        max_age: u32,
    ) -> Option<PortId> {
        let (hash, key) = self.key(segment, mac);
        let station = Self::station(key, &self.slots.find(hash, &key)?);
        (now.since(station.seen) < max_age).then_some(station.port)
    }

    /// Forgets every address at `port`; answers how many.
    pub fn flush_port(&self, port: PortId) -> usize {
        self.forget_all(|station| station.port == port)
    }

    /// Forgets every address not heard for `max_age` ticks; answers how many.
    pub fn expire(&self, now: Tick, max_age: u32) -> usize {
        self.forget_all(|station| now.since(station.seen) >= max_age)
    }

    /// Every address known.
    pub fn entries(&self) -> impl Iterator<Item = Station> {
        (0..self.slots.slots())
            .filter_map(|index| self.slots.entry(index))
            .map(|(key, entry)| Self::station(key, &entry))
    }

    fn forget_all(&self, unwanted: impl Fn(&Station) -> bool) -> usize {
        (0..self.slots.slots()).filter(|index| self.forget_at(*index, &unwanted)).count()
    }

    fn forget_at(&self, index: u32, unwanted: impl Fn(&Station) -> bool) -> bool {
        while let Some((key, entry)) = self.slots.entry(index) {
            let station = Self::station(key, &entry);
            if !unwanted(&station) {
                return false;
            }
            if self.slots.remove(entry.at, entry.life).is_ok() {
                self.stations.remove(station.port.0);
                return true;
            }
        }
        false
    }

    fn key(&self, segment: SegmentId, mac: MacAddress) -> (u64, [u64; 1]) {
        let key = u64::from(segment.0) << 48 | mac.to_bits();
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(key);
        (hasher.finish(), [key])
    }

    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of words")]
    fn station([key]: [u64; 1], entry: &Entry<1>) -> Station {
        let [port] = entry.value;
        Station {
            segment: SegmentId((key >> 48) as u16),
            mac: MacAddress::from_bits(key),
            port: PortId(port as u16),
            seen: Tick(entry.life.bits() as u32),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const LONG: u32 = 3_000;
    const BRIDGE: SegmentId = SegmentId(1);

    fn at(port: u16) -> (PortId, u32) {
        (PortId(port), 8)
    }

    fn mac(last: u8) -> MacAddress {
        MacAddress([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn an_address_is_at_the_port_it_was_last_heard_at() {
        let fdb = Fdb::new(8, 1);
        assert_eq!(fdb.find(BRIDGE, mac(1), Tick(0), LONG), None);
        assert_eq!(fdb.learn(BRIDGE, mac(1), at(4), Tick(0)), Learned::New);
        assert_eq!(fdb.learn(BRIDGE, mac(1), at(4), Tick(0)), Learned::Known);
        assert_eq!(fdb.find(BRIDGE, mac(1), Tick(0), LONG), Some(PortId(4)));
        assert_eq!(fdb.learn(BRIDGE, mac(1), at(5), Tick(7)), Learned::Moved);
        assert_eq!(fdb.find(BRIDGE, mac(1), Tick(7), LONG), Some(PortId(5)));
        assert_eq!(fdb.len(), 1);
    }

    #[test]
    fn bridges_are_apart() {
        let fdb = Fdb::new(8, 1);
        fdb.learn(BRIDGE, mac(1), at(4), Tick(0));
        assert_eq!(fdb.find(SegmentId(2), mac(1), Tick(0), LONG), None);
        fdb.learn(SegmentId(2), mac(1), at(9), Tick(0));
        assert_eq!(fdb.find(BRIDGE, mac(1), Tick(0), LONG), Some(PortId(4)));
    }

    #[test]
    fn an_address_not_heard_for_too_long_is_not_known() {
        let fdb = Fdb::new(8, 1);
        fdb.learn(BRIDGE, mac(1), at(4), Tick(0));
        fdb.learn(BRIDGE, mac(2), at(4), Tick(0));
        fdb.learn(BRIDGE, mac(1), at(4), Tick(2_000));
        assert_eq!(fdb.find(BRIDGE, mac(1), Tick(LONG), LONG), Some(PortId(4)));
        assert_eq!(fdb.find(BRIDGE, mac(2), Tick(LONG), LONG), None);
        assert_eq!(fdb.expire(Tick(LONG), LONG), 1);
        assert_eq!(fdb.len(), 1);
    }

    #[test]
    fn time_is_written_once_a_second_at_most() {
        let fdb = Fdb::new(8, 1);
        fdb.learn(BRIDGE, mac(1), at(4), Tick(100));
        fdb.learn(BRIDGE, mac(1), at(4), Tick(100 + GRAIN - 1));
        assert_eq!(fdb.entries().map(|station| station.seen).next(), Some(Tick(100)));
        fdb.learn(BRIDGE, mac(1), at(4), Tick(100 + GRAIN));
        assert_eq!(fdb.entries().map(|station| station.seen).next(), Some(Tick(100 + GRAIN)));
    }

    #[test]
    fn a_port_that_goes_takes_its_addresses_along() {
        let fdb = Fdb::new(8, 1);
        for last in 0..6 {
            fdb.learn(BRIDGE, mac(last), at(u16::from(last % 2)), Tick(0));
        }
        assert_eq!(fdb.flush_port(PortId(1)), 3);
        assert!(fdb.entries().all(|station| station.port == PortId(0)));
        assert_eq!(fdb.len(), 3);
    }

    #[test]
    fn a_full_table_does_not_learn_but_follows_moves() {
        let fdb = Fdb::new(4, 1);
        for last in 0..4 {
            assert_eq!(fdb.learn(BRIDGE, mac(last), at(1), Tick(0)), Learned::New);
        }
        assert_eq!(fdb.learn(BRIDGE, mac(9), at(1), Tick(0)), Learned::Not);
        assert_eq!(fdb.learn(BRIDGE, mac(3), at(2), Tick(0)), Learned::Moved);
        assert_eq!(fdb.find(BRIDGE, mac(9), Tick(0), LONG), None);
    }

    #[test]
    fn a_port_with_too_many_addresses_leaves_room_for_others() {
        let fdb = Fdb::new(64, 1);
        for last in 0..8 {
            assert_eq!(fdb.learn(BRIDGE, mac(last), at(1), Tick(0)), Learned::New);
        }
        assert_eq!(fdb.learn(BRIDGE, mac(9), at(1), Tick(0)), Learned::Not);
        assert_eq!(fdb.learn(BRIDGE, mac(3), at(1), Tick(0)), Learned::Known);
        assert_eq!(fdb.learn(BRIDGE, mac(9), at(2), Tick(0)), Learned::New);
        assert_eq!(fdb.learn(BRIDGE, mac(3), at(2), Tick(1)), Learned::Moved);
        assert_eq!(fdb.learn(BRIDGE, mac(10), at(1), Tick(1)), Learned::New);
        assert_eq!([1, 2].map(|port| fdb.stations(PortId(port))), [8, 2]);
        fdb.expire(Tick(LONG + 1), LONG);
        assert_eq!([1, 2].map(|port| fdb.stations(PortId(port))), [0, 0]);
    }
}
