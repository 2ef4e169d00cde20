//! Which backend a client was sent to, for services that want it sent there again.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

use crate::conntrack::{halves, joined};
use crate::slots::{Entry, Inserted, Slot, SlotTable};
use crate::{Address, Endpoint, Tick, hash};

/// The backends that clients stick to.
///
/// A client is known by its address and the group of frontends it used. Each new connection
/// refreshes what is remembered; frames of a connection do not.
///
/// **Sharing**: every worker finds and remembers, control expires; no locks.
/// Source: `Service.spec.sessionAffinityConfig.clientIP.timeoutSeconds`.
#[derive(Debug)]
pub struct Affinities {
    slots: SlotTable<3, 3>,
    hasher: RandomState,
}

/// What is remembered of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preference {
    /// The client.
    pub client: Address,
    /// The frontends that share it: [`Affinity::group`](crate::Affinity::group).
    pub group: u32,
    /// Where it was sent.
    pub backend: Endpoint,
    /// When it was last sent there.
    pub seen: Tick,
}

impl Affinities {
    /// A memory of so many clients, hashing by `seed`.
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self { slots: SlotTable::new(capacity), hasher: hash::state(seed) }
    }

    /// How many slots a memory of so many clients has.
    pub fn slots_for(capacity: usize) -> usize {
        SlotTable::<3, 3>::slots_for(capacity)
    }

    /// A memory in slots that are there already, and what another process remembered in them.
    /// `None` if they are not as many as [`Self::slots_for`] says.
    ///
    /// A client whose backend was just being replaced may have been given another port of one of
    /// the two: the caller forgets backends that are none.
    pub fn adopt(capacity: usize, seed: u64, slots: &'static [Slot<3, 3>]) -> Option<Self> {
        let slots = SlotTable::over(capacity, slots)?;
        let affinities = Self { slots, hasher: hash::state(seed) };
        affinities.slots.mend(|&[high, low, group]| {
            #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of words")]
            let (hash, _) = affinities.key(joined(high, low), group as u32);
            hash
        });
        Some(affinities)
    }

    /// How many clients are remembered, each once per group.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The backend that the client was sent to less than `timeout` ticks ago.
    ///
    /// **Cost**: one cache line; no writes.
    pub fn find(&self, client: Address, group: u32, now: Tick, timeout: u32) -> Option<Endpoint> {
        let (hash, key) = self.key(client, group);
        let entry = self.slots.find(hash, &key)?;
        let preference = Self::preference(&key, &entry);
        (now.since(preference.seen) < timeout).then_some(preference.backend)
    }

    /// Remembers that a new connection of the client went to `backend`; answers whether it could,
    /// which takes room, and no other thread that remembers another backend just then.
    pub fn remember(&self, client: Address, group: u32, backend: Endpoint, now: Tick) -> bool {
        let (hash, key) = self.key(client, group);
        let value = Self::value(backend);
        match self.slots.insert(hash, &key, &value, now.0.into()) {
            Ok(Inserted::New(_)) => true,
            Err(_) => false,
            Ok(Inserted::Exists(mut entry)) => {
                if entry.value != value {
                    let Ok(at) = self.slots.replace(entry.at, &value) else { return false };
                    entry.at = at;
                }
                // Who refreshed it first did so just now.
                let _ = self.slots.refresh(entry.at, entry.life, now.0.into());
                true
            }
        }
    }

    /// Forgets every client for which `unwanted` holds, refreshed meanwhile or not; answers how
    /// many. For backends that are gone.
    pub fn forget_if(&self, mut unwanted: impl FnMut(&Preference) -> bool) -> usize {
        (0..self.slots.slots()).filter(|index| self.forget_at(*index, &mut unwanted)).count()
    }

    /// Forgets clients last seen `timeout` ticks ago or longer, among `slots` slots from `cursor` on,
    /// which it moves on; answers how many.
    pub fn expire(&self, cursor: &mut u32, slots: u32, now: Tick, timeout: u32) -> usize {
        let mut forgotten = 0;
        for _ in 0..slots {
            let index = *cursor;
            *cursor = if index + 1 < self.slots.slots() { index + 1 } else { 0 };
            let Some((_, entry)) = self.slots.entry(index) else { continue };
            let is_old = now.since(seen(&entry)) >= timeout;
            forgotten += usize::from(is_old && self.slots.remove(entry.at, entry.life).is_ok());
        }
        forgotten
    }

    /// Everything remembered.
    pub fn entries(&self) -> impl Iterator<Item = Preference> {
        (0..self.slots.slots())
            .filter_map(|index| self.slots.entry(index))
            .map(|(key, entry)| Self::preference(&key, &entry))
    }

    fn forget_at(&self, index: u32, unwanted: &mut impl FnMut(&Preference) -> bool) -> bool {
        while let Some((key, entry)) = self.slots.entry(index) {
            if !unwanted(&Self::preference(&key, &entry)) {
                return false;
            }
            if self.slots.remove(entry.at, entry.life).is_ok() {
                return true;
            }
        }
        false
    }

    fn key(&self, client: Address, group: u32) -> (u64, [u64; 3]) {
        let [high, low] = halves(client);
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u128(client.bits());
        hasher.write_u32(group);
        (hasher.finish(), [high, low, group.into()])
    }

    fn value(backend: Endpoint) -> [u64; 3] {
        let [high, low] = halves(backend.address);
        [high, low, backend.port.into()]
    }

    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of words")]
    fn preference(&[high, low, group]: &[u64; 3], entry: &Entry<3>) -> Preference {
        let [backend_high, backend_low, port] = entry.value;
        Preference {
            client: joined(high, low),
            group: group as u32,
            backend: Endpoint::new(joined(backend_high, backend_low), port as u16),
            seen: seen(entry),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a life is a tick here")]
fn seen<const VALUE: usize>(entry: &Entry<VALUE>) -> Tick {
    Tick(entry.life.bits() as u32)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const TIMEOUT: u32 = 108_000;
    const CLIENT: Address = Address::v4(0x0a04_0001);

    fn backend(last: u32) -> Endpoint {
        Endpoint::new(Address::v4(0x0a04_0100 + last), 8080)
    }

    #[test]
    fn a_client_is_sent_where_it_was_sent_before() {
        let affinities = Affinities::new(8, 1);
        assert_eq!(affinities.find(CLIENT, 1, Tick(0), TIMEOUT), None);
        assert!(affinities.remember(CLIENT, 1, backend(1), Tick(0)));
        assert_eq!(affinities.find(CLIENT, 1, Tick(5), TIMEOUT), Some(backend(1)));
        assert_eq!(affinities.find(CLIENT, 2, Tick(5), TIMEOUT), None);
        assert_eq!(affinities.find(Address::v4(1), 1, Tick(5), TIMEOUT), None);
    }

    #[test]
    fn each_new_connection_starts_the_time_anew() {
        let affinities = Affinities::new(8, 1);
        affinities.remember(CLIENT, 1, backend(1), Tick(0));
        affinities.remember(CLIENT, 1, backend(1), Tick(TIMEOUT - 1));
        assert_eq!(affinities.find(CLIENT, 1, Tick(TIMEOUT), TIMEOUT), Some(backend(1)));
        let end = Tick(2 * TIMEOUT - 1);
        assert_eq!(affinities.find(CLIENT, 1, end, TIMEOUT), None);
        let mut cursor = 0;
        let slots = 64;
        assert_eq!(affinities.expire(&mut cursor, slots, Tick(end.0 - 1), TIMEOUT), 0);
        assert_eq!(affinities.expire(&mut cursor, slots, end, TIMEOUT), 1);
        assert!(affinities.is_empty());
    }

    #[test]
    fn a_new_backend_takes_the_place_of_the_old() {
        let affinities = Affinities::new(8, 1);
        affinities.remember(CLIENT, 1, backend(1), Tick(0));
        assert!(affinities.remember(CLIENT, 1, backend(2), Tick(4)));
        let expected = Preference { client: CLIENT, group: 1, backend: backend(2), seen: Tick(4) };
        assert_eq!(affinities.entries().collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn families_are_apart_and_whole() {
        let affinities = Affinities::new(8, 1);
        let client = Address::v6(0xfd00 << 112 | 0x0a04_0001);
        let far = Endpoint::new(Address::v6(0xfd01 << 112 | 9), 80);
        affinities.remember(CLIENT, u32::MAX, backend(1), Tick(0));
        affinities.remember(client, u32::MAX, far, Tick(u32::MAX));
        assert_eq!(affinities.find(client, u32::MAX, Tick(u32::MAX), 1), Some(far));
        assert_eq!(affinities.find(CLIENT, u32::MAX, Tick(0), 1), Some(backend(1)));
    }

    #[test]
    fn a_backend_that_is_gone_is_forgotten() {
        let affinities = Affinities::new(64, 1);
        for last in 0..20 {
            affinities.remember(Address::v4(last), 1, backend(last % 4), Tick(0));
        }
        assert_eq!(affinities.forget_if(|preference| preference.backend == backend(3)), 5);
        assert_eq!(affinities.len(), 15);
        assert_eq!(affinities.find(Address::v4(3), 1, Tick(0), TIMEOUT), None);
        assert_eq!(affinities.find(Address::v4(4), 1, Tick(0), TIMEOUT), Some(backend(0)));
    }

    #[test]
    fn what_is_remembered_outlives_the_process() {
        let slots: Vec<Slot<3, 3>> =
            (0..Affinities::slots_for(64)).map(|_| Slot::default()).collect();
        let slots = slots.leak();
        let before = Affinities::adopt(64, 1, slots).unwrap();
        assert!(before.remember(CLIENT, 1, backend(1), Tick(3)));
        drop(before);
        let after = Affinities::adopt(64, 1, slots).unwrap();
        assert_eq!(after.find(CLIENT, 1, Tick(5), TIMEOUT), Some(backend(1)));
        assert_eq!(after.len(), 1);
        assert!(Affinities::adopt(128, 1, slots).is_none());
    }

    #[test]
    fn a_full_memory_keeps_what_it_has() {
        let affinities = Affinities::new(2, 1);
        affinities.remember(Address::v4(1), 1, backend(1), Tick(0));
        affinities.remember(Address::v4(2), 1, backend(2), Tick(0));
        assert!(!affinities.remember(CLIENT, 1, backend(3), Tick(0)));
        assert_eq!(affinities.find(CLIENT, 1, Tick(0), TIMEOUT), None);
        assert_eq!(affinities.find(Address::v4(2), 1, Tick(0), TIMEOUT), Some(backend(2)));
    }
}
