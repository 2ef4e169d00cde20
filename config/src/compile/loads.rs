//! Counters for backends whose flows are counted.

use std::collections::BTreeSet;

use kswitch_tables::{Endpoint, LoadId};

use super::Map;

/// Counters of backends, by the label of their frontends. A backend keeps its counter while it is
/// there; one that became free is given away in a later turn.
#[derive(Debug, Default)]
pub(super) struct LoadIds {
    current: Map<u32, Map<Endpoint, u32>>,
    previous: Map<u32, Map<Endpoint, u32>>,
    cooling: Vec<u32>,
    free: BTreeSet<u32>,
    next: u32,
}

impl LoadIds {
    /// Starts a turn: counters that became free before may be given away.
    pub(super) fn turn(&mut self) {
        self.free.extend(self.cooling.drain(..));
    }

    /// Starts over with the backends of these labels.
    pub(super) fn reconsider(&mut self, labels: impl IntoIterator<Item = u32>) {
        for label in labels {
            if let Some(counters) = self.current.remove(&label) {
                self.previous.insert(label, counters);
            }
        }
    }

    /// The counter of a backend.
    pub(super) fn id(&mut self, label: u32, endpoint: Endpoint) -> LoadId {
        let Self { current, previous, free, next, .. } = self;
        let counters = current.entry(label).or_default();
        let id = *counters.entry(endpoint).or_insert_with(|| {
            let old = previous.get_mut(&label).and_then(|old| old.remove(&endpoint));
            old.or_else(|| free.pop_first()).unwrap_or_else(|| {
                let id = *next;
                *next = next.saturating_add(1);
                id
            })
        });
        // beyond the last counter nobody counts
        u16::try_from(id).map_or(LoadId::NONE, LoadId)
    }

    /// Ends what [`LoadIds::reconsider`] started: backends that were not named again are gone.
    pub(super) fn settle(&mut self) {
        self.cooling.extend(self.previous.drain().flat_map(|(_, old)| old.into_values()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kswitch_tables::Address;

    #[test]
    fn counters_stay_and_come_back_a_turn_later() {
        let endpoint = |n| Endpoint::new(Address::v4(n), 80);
        let mut loads = LoadIds::default();
        loads.turn();
        assert_eq!([1, 2].map(|n| loads.id(7, endpoint(n)).0), [0, 1]);
        loads.turn();
        loads.reconsider([7]);
        assert_eq!([2, 3].map(|n| loads.id(7, endpoint(n)).0), [1, 2]);
        loads.settle();
        assert_eq!(loads.id(8, endpoint(1)).0, 3);
        loads.turn();
        assert_eq!(loads.id(8, endpoint(9)).0, 0);
    }
}
