//! Consistent choice: a table in which every backend has about its share of the slots, and most
//! slots keep their backend when another one goes.
//!
//! Every slot is taken by one backend at build time, so a choice is one hash and one look-up however
//! many backends there are. The price is memory: two octets a slot for each set of backends.
//!
//! Source: "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4; names,
//! permutations and weights as Cilium publishes them.

use crate::murmur::murmur3_x64_128;
use crate::{Endpoint, Flow, Protocol};

/// Slots of a table unless told otherwise; Cilium's default.
pub const TABLE_SIZE: usize = 16_381;

/// Seed of a cluster that has none of its own: the first four octets of Cilium's default.
pub const SEED: u32 = 0x24b7_ef82;

/// Backends that one table can hold.
pub const MEMBERS_MAX: usize = u16::MAX as usize;

/// The order in which a backend prefers slots: from `offset` on, each time `skip` further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preference {
    /// The slot it likes best.
    pub offset: u64,
    /// The step to the next one, below the size of the table and not zero.
    pub skip: u64,
}

impl Preference {
    /// The preference of the backend of this name in a table of `size` slots.
    pub fn of(name: &str, size: usize, seed: u32) -> Self {
        let (h1, h2) = murmur3_x64_128(name.as_bytes(), seed);
        let size = size.max(2) as u64;
        Self { offset: h1 % size, skip: h2 % (size - 1) + 1 }
    }
}

/// The name under which an active backend takes part.
pub fn name(endpoint: Endpoint, protocol: Protocol) -> String {
    format!("[{endpoint}/{protocol},State:active]")
}

/// Which member each slot belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table(Box<[u16]>);

impl Table {
    /// The table of `size` slots for members of these names and weights, whatever their order.
    ///
    /// `None` where [`Table::build`] has none.
    pub fn of_names(size: usize, seed: u32, members: &[(String, u32)]) -> Option<Self> {
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|at| members.get(*at));
        let named = order.iter().filter_map(|at| members.get(*at));
        let sorted: Vec<_> =
            named.map(|(name, weight)| (Preference::of(name, size, seed), *weight)).collect();
        let Self(mut slots) = Self::build(size, &sorted)?;
        for slot in &mut slots {
            *slot = u16::try_from(*order.get(usize::from(*slot))?).ok()?;
        }
        Some(Self(slots))
    }

    /// The table of `size` slots, a prime, for members with these preferences and weights.
    ///
    /// Members take turns in the order given. `None` without members, with more than
    /// [`MEMBERS_MAX`], and where `size` is no prime or there are fewer slots than members.
    pub fn build(size: usize, members: &[(Preference, u32)]) -> Option<Self> {
        if members.is_empty() || members.len() > MEMBERS_MAX.min(size) || !is_prime(size) {
            return None;
        }
        let mut turns = Turns::new(members);
        let modulus = size as u64;
        let mut next: Vec<u64> = members.iter().map(|(preference, _)| preference.offset).collect();
        let mut slots: Vec<Option<u16>> = vec![None; size];
        for turn in 0..size {
            let member = turns.take(turn);
            let (preference, _) = members.get(member)?;
            let at = next.get_mut(member)?;
            // size is a prime, so that skips lead to every slot before they repeat one
            loop {
                let slot = slots.get_mut(usize::try_from(*at % modulus).ok()?)?;
                *at = (*at + preference.skip) % modulus;
                if slot.is_none() {
                    *slot = Some(u16::try_from(member).ok()?);
                    break;
                }
            }
        }
        slots.into_iter().collect::<Option<_>>().map(Self)
    }

    /// The member for the packets of `flow`: the same on every router, at any time.
    pub fn member(&self, flow: &Flow, seed: u32) -> usize {
        let slot = hash(flow, seed) % self.0.len().max(1) as u64;
        let member = usize::try_from(slot).ok().and_then(|slot| self.0.get(slot));
        member.copied().map_or(0, usize::from)
    }

    /// The member of each slot, in order.
    pub fn slots(&self) -> &[u16] {
        &self.0
    }
}

/// A hash of everything that identifies the flow.
fn hash(flow: &Flow, seed: u32) -> u64 {
    let Flow { protocol, source, target } = flow;
    let ports = u128::from(source.port) << 32 | u128::from(target.port) << 16;
    let words = [source.address.bits(), target.address.bits(), ports | u128::from(protocol.0)];
    let mut key = [0; 48];
    for (octets, word) in key.as_chunks_mut::<16>().0.iter_mut().zip(words) {
        *octets = word.to_be_bytes();
    }
    murmur3_x64_128(&key, seed).0
}

/// Whose turn it is to take a slot.
///
/// Equal members take turns. Of unequal ones each has a counter; it is passed over while its weight
/// times the number of turns has not reached that, and each slot costs it the sum of all weights.
struct Turns {
    weights: Vec<u64>,
    counters: Vec<u64>,
    sum: u64,
}

impl Turns {
    fn new(members: &[(Preference, u32)]) -> Self {
        let weights: Vec<u64> = members.iter().map(|(_, weight)| u64::from(*weight)).collect();
        let count = weights.len().max(1) as u64;
        // only whole numbers are added to it, so that the fraction may be left out
        let counters = weights.iter().map(|weight| weight / count).collect();
        Self { counters, sum: weights.iter().sum(), weights }
    }

    /// The member that takes a slot in this turn, counted from zero.
    fn take(&mut self, turn: usize) -> usize {
        let count = self.weights.len().max(1);
        let first = turn % count;
        if self.sum / count as u64 <= 1 {
            return first;
        }
        let due = |member: &usize| {
            let weight = self.weights.get(*member).copied().unwrap_or(0);
            let counter = self.counters.get(*member).copied().unwrap_or(0);
            (turn as u64 + 1) * weight >= counter
        };
        let member = (first..count).chain(0..first).find(due).unwrap_or(first);
        if let Some(counter) = self.counters.get_mut(member) {
            *counter += self.sum;
        }
        member
    }
}

/// Whether `number` is a prime.
pub const fn is_prime(number: usize) -> bool {
    if number < 2 {
        return false;
    }
    let mut divisor = 2;
    while divisor * divisor <= number {
        if number.is_multiple_of(divisor) {
            return false;
        }
        divisor += 1;
    }
    true
}

const _: () = assert!(is_prime(TABLE_SIZE));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Address;

    fn endpoint(bits: u32, port: u16) -> Endpoint {
        Endpoint::new(Address::v4(bits), port)
    }

    fn named(members: &[(u32, u16, u32)]) -> Vec<(String, u32)> {
        let named = |(bits, port, weight): &(u32, u16, u32)| {
            (name(endpoint(*bits, *port), Protocol::TCP), *weight)
        };
        members.iter().map(named).collect()
    }

    fn equal(count: u32) -> Vec<(String, u32)> {
        named(&(1..=count).map(|n| (0x0af4_0000 + n, 80, 1)).collect::<Vec<_>>())
    }

    /// Source: the paper, Table 1: the look-up table before and after B1 is removed.
    #[test]
    fn the_example_of_the_paper() {
        let [b0, b1, b2] =
            [(3, 4), (0, 2), (3, 1)].map(|(offset, skip)| (Preference { offset, skip }, 1));
        let table = Table::build(7, &[b0, b1, b2]).unwrap();
        assert_eq!(table.slots(), [1, 0, 1, 0, 2, 2, 0]);
        let table = Table::build(7, &[b0, b2]).unwrap();
        assert_eq!(table.slots(), [0, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn names_are_those_of_cilium() {
        let v4 = endpoint(0x0af4_0101, 8080);
        assert_eq!(name(v4, Protocol::TCP), "[10.244.1.1:8080/TCP,State:active]");
        let v6 = Endpoint::new(Address::v6(0xfd00 << 112 | 1), 53);
        assert_eq!(name(v6, Protocol::UDP), "[[fd00::1]:53/UDP,State:active]");
    }

    /// Source: cilium `pkg/maglev/maglev_test.go`, `TestReproducible`: the first runs of its table.
    #[test]
    fn weighted_slots_are_those_of_cilium() {
        let members = named(&[(1, 1, 2), (3, 3, 13), (4, 4, 111), (5, 5, 10)]);
        let table = Table::of_names(251, SEED, &members).unwrap();
        let start = [2, 2, 2, 2, 2, 3, 2, 2, 2, 1, 2, 2, 0, 2, 3, 2, 3, 2, 1];
        assert_eq!(table.slots()[..start.len()], start);
        let end = [0, 3, 2, 2, 2, 3, 2, 2, 2, 2, 3, 2, 2, 1, 2, 2, 2, 2, 2, 2, 2];
        assert_eq!(table.slots()[251 - end.len()..], end);
    }

    #[test]
    fn order_does_not_matter() {
        let mut members = equal(5);
        let count = |table: &Table, members: &[(String, u32)]| -> Vec<String> {
            table.slots().iter().map(|slot| members[usize::from(*slot)].0.clone()).collect()
        };
        let table = count(&Table::of_names(251, SEED, &members).unwrap(), &members);
        members.reverse();
        assert_eq!(count(&Table::of_names(251, SEED, &members).unwrap(), &members), table);
    }

    #[test]
    fn equal_members_differ_by_at_most_a_slot() {
        for count in [1, 2, 3, 10, 100] {
            let table = Table::of_names(1021, SEED, &equal(count)).unwrap();
            let mut slots = vec![0; count as usize];
            table.slots().iter().for_each(|slot| slots[usize::from(*slot)] += 1);
            let (least, most) = (slots.iter().min().unwrap(), slots.iter().max().unwrap());
            assert!(most - least <= 1, "{count} members: {least} to {most} slots");
        }
    }

    #[test]
    fn few_survivors_move_when_one_of_a_hundred_leaves() {
        let members = equal(100);
        let before = Table::of_names(TABLE_SIZE, SEED, &members).unwrap();
        for gone in [0, 42, 99] {
            let mut fewer = members.clone();
            fewer.remove(gone);
            let after = Table::of_names(TABLE_SIZE, SEED, &fewer).unwrap();
            let moved = before.slots().iter().zip(after.slots()).filter(|(old, new)| {
                usize::from(**old) != gone
                    && members[usize::from(**old)].0 != fewer[usize::from(**new)].0
            });
            let moved = moved.count();
            assert!(moved * 50 < TABLE_SIZE, "{moved} of {TABLE_SIZE} slots moved");
        }
    }

    #[test]
    fn impossible_tables_are_refused() {
        assert_eq!(Table::of_names(251, SEED, &[]), None);
        assert_eq!(Table::of_names(250, SEED, &equal(2)), None);
        assert_eq!(Table::of_names(7, SEED, &equal(8)), None);
    }

    #[test]
    fn flows_spread_over_all_members_and_stay_with_theirs() {
        let table = Table::of_names(TABLE_SIZE, SEED, &equal(3)).unwrap();
        let flow = |port| Flow {
            protocol: Protocol::TCP,
            source: endpoint(0x0a04_0005, port),
            target: endpoint(0x0a08_0001, 80),
        };
        let mut counts = [0; 3];
        for port in 1..=30_000 {
            let member = table.member(&flow(port), SEED);
            assert_eq!(member, table.member(&flow(port), SEED));
            counts[member] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}
