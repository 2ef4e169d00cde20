//! The Ethernet addresses of machines that were asked for them.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;

use crate::conntrack::{halves, joined};
use crate::slots::{Entry, Inserted, Life, SlotTable};
use crate::tally::Tally;
use crate::{Address, MacAddress, PortId, SegmentId, Tick, hash};

/// Neighbours on links whose machines the lab did not make.
///
/// **Sharing**: every worker finds, asks and learns, control expires; no locks.
/// Source: RFC 4861 §7.3.2, the states of a neighbour cache entry, of which it has three.
#[derive(Debug)]
pub struct Neighbours {
    slots: SlotTable<3, 1>,
    hasher: RandomState,
    /// How often a place was learned, changed or forgotten.
    changes: AtomicU64,
    /// Neighbours that have never answered, by the port that asked first.
    unanswered: Tally,
}

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The link.
    pub segment: SegmentId,
    /// Its address.
    pub address: Address,
    /// Its Ethernet address and its port, unless its state is [`Reachability::Incomplete`].
    pub place: Option<(MacAddress, PortId)>,
    /// How sure that is.
    pub state: Reachability,
    /// When it was last heard from, became stale, or was last asked.
    pub since: Tick,
    /// How often it was asked since it was last heard from, at most 255.
    pub unanswered: u8,
}

impl Neighbour {
    /// Whether it was asked often enough, and has not answered.
    ///
    /// Source: RFC 4861 §7.2.2.
    pub fn has_failed(&self, now: Tick) -> bool {
        self.state == Reachability::Incomplete
            && self.unanswered >= PROBES
            && now.since(self.since) >= ASK_AGAIN.0
    }
}

/// How sure it is that a neighbour is where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reachability {
    /// Asked, not answered; or stale, and asked too often without an answer.
    Incomplete,
    /// Answered, or heard from.
    Reachable,
    /// Heard from a while ago: still used, and to be asked again.
    Stale,
}

/// What to do for a frame to a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Ask: nobody else does.
    Ask,
    /// Wait: it was asked less than a second ago.
    Wait,
    /// There is no room to note the question.
    Full,
}

/// How long an answer is waited for before the question is asked again.
///
/// Source: RFC 4861 §10, `RETRANS_TIMER`; RFC 1122 §2.3.2.1.
pub const ASK_AGAIN: Tick = Tick::from_secs(1);

/// How many questions a neighbour may leave unanswered before it is not used any more, or given up.
///
/// Source: RFC 4861 §10, `MAX_UNICAST_SOLICIT` and `MAX_MULTICAST_SOLICIT`.
const PROBES: u8 = 3;

impl Neighbours {
    /// A table of so many neighbours, hashing by `seed`.
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self {
            slots: SlotTable::new(capacity),
            hasher: hash::state(seed),
            changes: AtomicU64::new(0),
            unanswered: Tally::new(usize::from(u16::MAX) + 1),
        }
    }

    /// A number that is another whenever the place of a neighbour is.
    pub fn changes(&self) -> u64 {
        // Acquire, pairs with `changed`: who sees the number sees the place
        self.changes.load(Ordering::Acquire)
    }

    fn changed(&self) {
        // Release, pairs with `changes`
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// How many neighbours there are, those that have not answered among them.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What is known of this neighbour.
    ///
    /// **Cost**: one cache line; no writes.
    pub fn find(&self, segment: SegmentId, address: Address) -> Option<Neighbour> {
        let (hash, key) = self.key(segment, address);
        let entry = self.slots.find(hash, &key)?;
        Some(Self::neighbour(&key, &entry))
    }

    /// How many neighbours have never answered that were first asked for on behalf of this port.
    pub fn unanswered(&self, port: PortId) -> u32 {
        self.unanswered.get(port.0)
    }

    /// Notes that there is a frame from `asker` for a neighbour that is not known, or only stale:
    /// whether it is for the caller to ask. Of callers in the same second one is told so. An asker
    /// may have so many neighbours that have not answered (`limit`).
    pub fn ask(
        &self,
        segment: SegmentId,
        address: Address,
        (asker, limit): (PortId, u32),
        now: Tick,
    ) -> Asked {
        let (hash, key) = self.key(segment, address);
        if self.unanswered(asker) >= limit && self.slots.find(hash, &key).is_none() {
            return Asked::Full;
        }
        let bits = Standing { state: Reachability::Incomplete, since: now, unanswered: 1 }.bits();
        match self.slots.insert(hash, &key, &[NOWHERE | u64::from(asker.0)], bits) {
            Ok(Inserted::New(_)) => {
                self.unanswered.add(asker.0);
                Asked::Ask
            }
            Err(_) => Asked::Full,
            Ok(Inserted::Exists(entry)) => self.again(&entry, now),
        }
    }

    /// Whether a neighbour that is noted is to be asked for again.
    pub fn ask_again(&self, segment: SegmentId, address: Address, now: Tick) -> Asked {
        let (hash, key) = self.key(segment, address);
        self.slots.find(hash, &key).map_or(Asked::Wait, |entry| self.again(&entry, now))
    }

    fn again(&self, entry: &Entry<1>, now: Tick) -> Asked {
        let Standing { state, since, unanswered } = Standing::of(entry.life);
        let is_fresh = now.since(since) < ASK_AGAIN.0;
        // one that has just become stale is asked at once
        if state == Reachability::Reachable || is_fresh && unanswered > 0 {
            return Asked::Wait;
        }
        let state = if unanswered < PROBES { state } else { Reachability::Incomplete };
        let unanswered = unanswered.saturating_add(1);
        let asked = Standing { state, since: now, unanswered };
        if self.slots.refresh(entry.at, entry.life, asked.bits()).is_err() {
            return Asked::Wait;
        }
        if Standing::of(entry.life).state != asked.state {
            self.changed();
        }
        Asked::Ask
    }

    /// Takes note that a neighbour was heard at this Ethernet address and port; answers whether
    /// there was room.
    pub fn learn(
        &self,
        segment: SegmentId,
        address: Address,
        mac: MacAddress,
        port: PortId,
        now: Tick,
    ) -> bool {
        let (hash, key) = self.key(segment, address);
        let value = [mac.to_bits() << 16 | u64::from(port.0)];
        let heard = Standing { state: Reachability::Reachable, since: now, unanswered: 0 };
        let bits = heard.bits();
        match self.slots.insert(hash, &key, &value, bits) {
            Ok(Inserted::New(_)) => {
                self.changed();
                true
            }
            Err(_) => false,
            Ok(Inserted::Exists(mut entry)) => {
                let was_known = Standing::of(entry.life).state != Reachability::Incomplete;
                let has_moved = entry.value != value;
                if has_moved {
                    let Ok(at) = self.slots.replace(entry.at, &value) else { return false };
                    entry.at = at;
                    self.answered(&entry);
                }
                // An entry refreshed meanwhile was heard from, or is asked for, just now.
                let _ = self.slots.refresh(entry.at, entry.life, bits);
                if has_moved || !was_known {
                    self.changed();
                }
                true
            }
        }
    }

    /// Makes neighbours stale that were not heard from for `reachable` ticks, and forgets those
    /// that have not answered, or were stale, for `forget` ticks; answers how many it forgot.
    pub fn expire(&self, now: Tick, reachable: u32, forget: u32) -> usize {
        let mut forgotten = 0;
        for index in 0..self.slots.slots() {
            let Some((_, entry)) = self.slots.entry(index) else { continue };
            let standing = Standing::of(entry.life);
            let age = now.since(standing.since);
            if standing.state == Reachability::Reachable {
                if age >= reachable {
                    let stale = Standing { state: Reachability::Stale, since: now, ..standing };
                    // if it was heard from just now it is not stale
                    let _ = self.slots.refresh(entry.at, entry.life, stale.bits());
                }
            } else if age >= forget && self.slots.remove(entry.at, entry.life).is_ok() {
                self.answered(&entry);
                forgotten += 1;
                if standing.state == Reachability::Stale {
                    self.changed();
                }
            }
        }
        forgotten
    }

    /// Forgets every neighbour at `port`; answers how many.
    pub fn flush_port(&self, port: PortId) -> usize {
        let is_there = |neighbour: &Neighbour| neighbour.place.is_some_and(|(_, at)| at == port);
        (0..self.slots.slots()).filter(|index| self.forget_at(*index, is_there)).count()
    }

    /// Every neighbour.
    pub fn entries(&self) -> impl Iterator<Item = Neighbour> {
        (0..self.slots.slots())
            .filter_map(|index| self.slots.entry(index))
            .map(|(key, entry)| Self::neighbour(&key, &entry))
    }

    /// Has an entry that was replaced or removed count for nobody, if it did.
    #[expect(clippy::cast_possible_truncation, reason = "a field is cut out of a word")]
    fn answered(&self, before: &Entry<1>) {
        let [place] = before.value;
        if place | u64::from(u16::MAX) == u64::MAX {
            self.unanswered.remove(place as u16);
        }
    }

    fn forget_at(&self, index: u32, unwanted: impl Fn(&Neighbour) -> bool) -> bool {
        while let Some((key, entry)) = self.slots.entry(index) {
            if !unwanted(&Self::neighbour(&key, &entry)) {
                return false;
            }
            if self.slots.remove(entry.at, entry.life).is_ok() {
                self.answered(&entry);
                self.changed();
                return true;
            }
        }
        false
    }

    fn key(&self, segment: SegmentId, address: Address) -> (u64, [u64; 3]) {
        let [high, low] = halves(address);
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u128(address.bits());
        hasher.write_u16(segment.0);
        (hasher.finish(), [high, low, segment.0.into()])
    }

    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of words")]
    fn neighbour(&[high, low, segment]: &[u64; 3], entry: &Entry<1>) -> Neighbour {
        let [place] = entry.value;
        let Standing { state, since, unanswered } = Standing::of(entry.life);
        let known = state != Reachability::Incomplete;
        Neighbour {
            segment: SegmentId(segment as u16),
            address: joined(high, low),
            place: known.then(|| (MacAddress::from_bits(place >> 16), PortId(place as u16))),
            state,
            since,
            unanswered,
        }
    }
}

/// The place of a neighbour that has never answered, but for who asked: no machine has this Ethernet
/// address.
const NOWHERE: u64 = !(u16::MAX as u64);

/// What the life of an entry says.
#[derive(Clone, Copy)]
struct Standing {
    state: Reachability,
    since: Tick,
    unanswered: u8,
}

impl Standing {
    fn bits(self) -> u64 {
        (self.state as u64) << 40 | u64::from(self.unanswered) << 32 | u64::from(self.since.0)
    }

    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of a word")]
    fn of(life: Life) -> Self {
        let bits = life.bits();
        let state = match bits >> 40 {
            0 => Reachability::Incomplete,
            1 => Reachability::Reachable,
            _ => Reachability::Stale,
        };
        Self { state, since: Tick(bits as u32), unanswered: (bits >> 32) as u8 }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const LINK: SegmentId = SegmentId(1);
    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);
    const ASKER: (PortId, u32) = (PortId(1), 8);
    const HOST: Address = Address::v4(0xc633_6407);

    fn state(neighbours: &Neighbours) -> Option<Reachability> {
        neighbours.find(LINK, HOST).map(|neighbour| neighbour.state)
    }

    #[test]
    fn one_caller_a_second_is_told_to_ask() {
        let neighbours = Neighbours::new(8, 1);
        assert_eq!(neighbours.ask(LINK, HOST, ASKER, Tick(100)), Asked::Ask);
        assert_eq!(neighbours.ask(LINK, HOST, ASKER, Tick(100)), Asked::Wait);
        assert_eq!(neighbours.ask(LINK, HOST, ASKER, Tick(109)), Asked::Wait);
        assert_eq!(neighbours.ask(LINK, HOST, ASKER, Tick(110)), Asked::Ask);
        assert_eq!(neighbours.ask(LINK, HOST, ASKER, Tick(111)), Asked::Wait);
        let neighbour = neighbours.find(LINK, HOST).unwrap();
        assert_eq!((neighbour.state, neighbour.place), (Reachability::Incomplete, None));
    }

    #[test]
    fn an_answer_makes_a_neighbour_reachable() {
        let neighbours = Neighbours::new(8, 1);
        neighbours.ask(LINK, HOST, ASKER, Tick(100));
        assert!(neighbours.learn(LINK, HOST, MAC, PortId(3), Tick(101)));
        let expected = Neighbour {
            segment: LINK,
            address: HOST,
            place: Some((MAC, PortId(3))),
            state: Reachability::Reachable,
            since: Tick(101),
            unanswered: 0,
        };
        assert_eq!(neighbours.find(LINK, HOST), Some(expected));
        assert_eq!(neighbours.entries().collect::<Vec<_>>(), [expected]);
        assert_eq!(neighbours.ask(LINK, HOST, ASKER, Tick(900)), Asked::Wait, "it is known");
    }

    #[test]
    fn both_families_and_all_links_are_apart() {
        let neighbours = Neighbours::new(8, 1);
        let long = Address::v6(0xfd00 << 112 | 7);
        neighbours.learn(LINK, HOST, MAC, PortId(3), Tick(0));
        neighbours.learn(LINK, long, MAC, PortId(4), Tick(0));
        assert_eq!(neighbours.find(SegmentId(2), HOST), None);
        assert_eq!(neighbours.find(LINK, HOST).unwrap().address, HOST);
        let found = neighbours.find(LINK, long).unwrap();
        assert_eq!((found.address, found.place), (long, Some((MAC, PortId(4)))));
    }

    #[test]
    fn a_neighbour_may_move() {
        let neighbours = Neighbours::new(8, 1);
        neighbours.learn(LINK, HOST, MAC, PortId(3), Tick(0));
        let elsewhere = MacAddress([2, 0, 0, 0, 0, 8]);
        assert!(neighbours.learn(LINK, HOST, elsewhere, PortId(5), Tick(9)));
        let found = neighbours.find(LINK, HOST).unwrap();
        assert_eq!((found.place, found.since), (Some((elsewhere, PortId(5))), Tick(9)));
    }

    #[test]
    fn silence_makes_stale_and_then_forgotten_unless_an_answer_comes() {
        let neighbours = Neighbours::new(8, 1);
        neighbours.learn(LINK, HOST, MAC, PortId(3), Tick(0));
        assert_eq!(neighbours.expire(Tick(299), 300, 600), 0);
        assert_eq!(state(&neighbours), Some(Reachability::Reachable));
        neighbours.expire(Tick(300), 300, 600);
        let stale = neighbours.find(LINK, HOST).unwrap();
        assert_eq!((stale.state, stale.since), (Reachability::Stale, Tick(300)));
        assert_eq!(stale.place, Some((MAC, PortId(3))), "it is still used");
        assert_eq!(neighbours.ask(LINK, HOST, ASKER, Tick(301)), Asked::Ask);
        assert_eq!(neighbours.ask(LINK, HOST, ASKER, Tick(310)), Asked::Wait);
        assert_eq!(state(&neighbours), Some(Reachability::Stale));
        neighbours.learn(LINK, HOST, MAC, PortId(3), Tick(311));
        assert_eq!(state(&neighbours), Some(Reachability::Reachable));
        neighbours.expire(Tick(611), 300, 600);
        assert_eq!(neighbours.expire(Tick(1_211), 300, 600), 1);
        assert!(neighbours.is_empty());
    }

    #[test]
    fn a_stale_neighbour_that_leaves_three_questions_unanswered_is_not_used() {
        let neighbours = Neighbours::new(8, 1);
        neighbours.learn(LINK, HOST, MAC, PortId(3), Tick(0));
        neighbours.expire(Tick(300), 300, 600);
        for second in 1..=3 {
            assert_eq!(neighbours.ask(LINK, HOST, ASKER, Tick(300 + second * 10)), Asked::Ask);
            assert_eq!(neighbours.find(LINK, HOST).unwrap().place, Some((MAC, PortId(3))));
        }
        assert_eq!(neighbours.ask(LINK, HOST, ASKER, Tick(340)), Asked::Ask);
        let gone = neighbours.find(LINK, HOST).unwrap();
        assert_eq!((gone.state, gone.place), (Reachability::Incomplete, None));
        assert_eq!(gone.unanswered, 4);
        assert!(!gone.has_failed(Tick(349)) && gone.has_failed(Tick(350)));
        neighbours.learn(LINK, HOST, MAC, PortId(3), Tick(341));
        assert_eq!(neighbours.find(LINK, HOST).unwrap().unanswered, 0);
    }

    #[test]
    fn who_does_not_answer_is_forgotten_when_nobody_asks_any_more() {
        let neighbours = Neighbours::new(8, 1);
        for second in 0..300 {
            assert_eq!(neighbours.ask(LINK, HOST, ASKER, Tick(second * 10)), Asked::Ask);
        }
        assert_eq!(neighbours.find(LINK, HOST).unwrap().unanswered, 255);
        assert_eq!(neighbours.expire(Tick(2_990 + 29), 300, 30), 0);
        assert_eq!(neighbours.expire(Tick(2_990 + 30), 300, 30), 1);
        assert_eq!(neighbours.find(LINK, HOST), None);
    }

    #[test]
    fn a_port_that_goes_takes_its_neighbours_along() {
        let neighbours = Neighbours::new(8, 1);
        for last in 0..6 {
            let port = PortId(u16::try_from(last % 2).unwrap());
            neighbours.learn(LINK, Address::v4(last), MAC, port, Tick(0));
        }
        neighbours.ask(LINK, HOST, ASKER, Tick(0));
        assert_eq!(neighbours.flush_port(PortId(1)), 3);
        assert_eq!(neighbours.len(), 4);
    }

    #[test]
    fn a_change_is_told_when_a_place_changes_and_only_then() {
        let neighbours = Neighbours::new(8, 1);
        let mut before = 0;
        let mut is_changed = |expected: bool, what: &str| {
            let now = neighbours.changes();
            assert_eq!(now != before, expected, "{what}");
            before = now;
        };
        neighbours.ask(LINK, HOST, ASKER, Tick(0));
        is_changed(false, "asked");
        neighbours.learn(LINK, HOST, MAC, PortId(3), Tick(1));
        is_changed(true, "answered");
        neighbours.learn(LINK, HOST, MAC, PortId(3), Tick(2));
        is_changed(false, "heard again");
        neighbours.learn(LINK, HOST, MAC, PortId(4), Tick(2));
        is_changed(true, "moved");
        neighbours.expire(Tick(302), 300, 600);
        is_changed(false, "stale");
        for second in 1..=3 {
            neighbours.ask(LINK, HOST, ASKER, Tick(310 + second * 10));
        }
        is_changed(false, "asked while stale");
        neighbours.ask(LINK, HOST, ASKER, Tick(350));
        is_changed(true, "given up");
        neighbours.expire(Tick(2_000), 300, 600);
        is_changed(false, "forgotten after it was given up");
    }

    #[test]
    fn a_full_table_says_so() {
        let neighbours = Neighbours::new(2, 1);
        neighbours.ask(LINK, Address::v4(1), ASKER, Tick(0));
        neighbours.ask(LINK, Address::v4(2), ASKER, Tick(0));
        assert_eq!(neighbours.ask(LINK, HOST, ASKER, Tick(0)), Asked::Full);
        assert!(!neighbours.learn(LINK, HOST, MAC, PortId(3), Tick(0)));
        assert!(neighbours.learn(LINK, Address::v4(2), MAC, PortId(3), Tick(0)));
    }

    #[test]
    fn who_asks_for_too_many_that_do_not_answer_leaves_room_for_others() {
        let neighbours = Neighbours::new(64, 1);
        let ask = |last, port, tick| {
            neighbours.ask(LINK, Address::v4(last), (PortId(port), 4), Tick(tick))
        };
        for last in 0..4 {
            assert_eq!(ask(last, 1, 0), Asked::Ask);
        }
        assert_eq!(ask(9, 1, 0), Asked::Full);
        assert_eq!(ask(3, 1, 10), Asked::Ask, "it is noted already");
        assert_eq!(ask(9, 2, 0), Asked::Ask, "another may");
        assert!(neighbours.learn(LINK, Address::v4(0), MAC, PortId(3), Tick(11)));
        assert_eq!((neighbours.unanswered(PortId(1)), ask(10, 1, 11)), (3, Asked::Ask));
        neighbours.flush_port(PortId(3));
        assert_eq!(neighbours.unanswered(PortId(1)), 4, "that one had answered");
        neighbours.expire(Tick(1_000), 300, 600);
        assert!(neighbours.is_empty());
        assert_eq!([1, 2].map(|port| neighbours.unanswered(PortId(port))), [0, 0]);
    }
}
