//! Addresses that more than one machine of a link claims.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

use crate::conntrack::{halves, joined};
use crate::slots::{Inserted, Life, SlotTable};
use crate::{Address, MacAddress, PortId, SegmentId, Tick, hash};

/// Claims to addresses of others.
///
/// **Sharing**: every worker notes, control reads and expires; no locks.
/// Source: RFC 5227 §2.4 (ongoing address conflict detection); RFC 4862 §5.4.
#[derive(Debug)]
pub struct Contests {
    slots: SlotTable<3, 1>,
    hasher: RandomState,
}

/// A claim to an address that another machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contest {
    /// The link.
    pub segment: SegmentId,
    /// The address.
    pub address: Address,
    /// Who claims it too, by Ethernet address.
    pub mac: MacAddress,
    /// The port at which the claim was heard.
    pub port: PortId,
    /// When it was heard last, give or take [`DEFEND_INTERVAL`].
    pub heard: Tick,
}

/// How often a claim to one address is answered, and noted, at most.
///
/// Source: RFC 5227 §1.1, `DEFEND_INTERVAL`.
pub const DEFEND_INTERVAL: Tick = Tick::from_secs(10);

impl Contests {
    /// A table of so many claims, hashing by `seed`.
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self { slots: SlotTable::new(capacity), hasher: hash::state(seed) }
    }

    /// How many addresses are claimed twice.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes note of a claim. Answers whether the owner is to defend the address: it was not
    /// claimed for a [`DEFEND_INTERVAL`]. What finds no room is not noted.
    #[expect(clippy::cast_possible_truncation, reason = "a life is a word of which half is used")]
    pub fn note(
        &self,
        segment: SegmentId,
        address: Address,
        (mac, port): (MacAddress, PortId),
        now: Tick,
    ) -> bool {
        let [high, low] = halves(address);
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u128(address.bits());
        hasher.write_u16(segment.0);
        let key = [high, low, segment.0.into()];
        let value = [mac.to_bits() << 16 | u64::from(port.0)];
        match self.slots.insert(hasher.finish(), &key, &value, now.0.into()) {
            Ok(Inserted::New(_)) => true,
            Err(_) => false,
            Ok(Inserted::Exists(mut entry)) => {
                if now.since(Tick(entry.life.bits() as u32)) < DEFEND_INTERVAL.0 {
                    return false;
                }
                if entry.value != value {
                    let Ok(at) = self.slots.replace(entry.at, &value) else { return false };
                    entry.at = at;
                }
                // who comes first defends
                self.slots.refresh(entry.at, entry.life, now.0.into()).is_ok()
            }
        }
    }

    /// Forgets claims not heard for `forget` ticks.
    pub fn expire(&self, now: Tick, forget: u32) {
        for index in 0..self.slots.slots() {
            let Some((_, entry)) = self.slots.entry(index) else { continue };
            if now.since(heard(entry.life)) >= forget {
                // one heard again just now stays
                let _ = self.slots.remove(entry.at, entry.life);
            }
        }
    }

    /// Every claim.
    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of words")]
    pub fn entries(&self) -> impl Iterator<Item = Contest> {
        (0..self.slots.slots()).filter_map(|index| self.slots.entry(index)).map(|(key, entry)| {
            let ([high, low, segment], [place]) = (key, entry.value);
            Contest {
                segment: SegmentId(segment as u16),
                address: joined(high, low),
                mac: MacAddress::from_bits(place >> 16),
                port: PortId(place as u16),
                heard: heard(entry.life),
            }
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a life is a word of which half is used")]
fn heard(life: Life) -> Tick {
    Tick(life.bits() as u32)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const LINK: SegmentId = SegmentId(1);
    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);
    const HOST: Address = Address::v4(0xc633_6407);

    #[test]
    fn a_claim_is_defended_once_in_a_while_and_forgotten() {
        let contests = Contests::new(8, 1);
        let claim = |now| contests.note(LINK, HOST, (MAC, PortId(3)), Tick(now));
        assert!(claim(100));
        assert!(!claim(100));
        assert!(!claim(199));
        assert!(claim(200));
        let expected =
            Contest { segment: LINK, address: HOST, mac: MAC, port: PortId(3), heard: Tick(200) };
        assert_eq!(contests.entries().collect::<Vec<_>>(), [expected]);
        contests.expire(Tick(799), 600);
        assert_eq!(contests.len(), 1);
        contests.expire(Tick(800), 600);
        assert!(contests.is_empty());
    }

    #[test]
    fn a_full_table_notes_nothing_more() {
        let contests = Contests::new(1, 1);
        assert!(contests.note(LINK, HOST, (MAC, PortId(3)), Tick(0)));
        assert!(!contests.note(LINK, Address::v4(9), (MAC, PortId(3)), Tick(0)));
    }
}
