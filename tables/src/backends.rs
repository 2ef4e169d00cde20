//! Sets of backends, and the choice among them.

use std::sync::Arc;

use crate::{Endpoint, Flow, LoadId, Loads, maglev};

/// Index of a set of backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendSetId(pub u32);

/// One place where a frontend's traffic may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Address and port that traffic is rewritten to.
    pub endpoint: Endpoint,
    /// What counts its flows; [`LoadId::NONE`] where nobody asks.
    pub load: LoadId,
}

impl From<Endpoint> for Backend {
    fn from(endpoint: Endpoint) -> Self {
        Self { endpoint, load: LoadId::NONE }
    }
}

/// How one of a set is chosen for a new flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// By chance, all with equal chances.
    Random,
    /// By the flow, so that every router chooses alike and few choices change with the set.
    Maglev {
        /// Which member each slot belongs to.
        table: maglev::Table,
        /// What flows are hashed with.
        seed: u32,
    },
    /// The one with the fewest flows; by chance among several such.
    LeastConnections,
}

/// Backends among which one is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSet {
    /// By endpoint, no two alike.
    members: Box<[Backend]>,
    method: Method,
}

impl BackendSet {
    /// A set of these backends; of several with the same endpoint one is kept.
    ///
    /// The members of a Maglev table must be given in the order of their endpoints.
    pub fn new(backends: impl IntoIterator<Item = Backend>, method: Method) -> Self {
        let mut members: Vec<Backend> = backends.into_iter().collect();
        if !members.is_sorted_by(|a, b| a.endpoint < b.endpoint) {
            members.sort_by_key(|backend| backend.endpoint);
            members.dedup_by_key(|backend| backend.endpoint);
        }
        Self { members: members.into(), method }
    }

    /// The members, by endpoint.
    pub fn members(&self) -> &[Backend] {
        &self.members
    }

    /// How one is chosen.
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The member with this endpoint. **Cost**: a binary search.
    pub fn member(&self, endpoint: Endpoint) -> Option<Backend> {
        let at = self.members.binary_search_by_key(&endpoint, |backend| backend.endpoint).ok()?;
        self.members.get(at).copied()
    }

    /// Whether `endpoint` is a member. **Cost**: a binary search.
    pub fn contains(&self, endpoint: Endpoint) -> bool {
        self.member(endpoint).is_some()
    }

    /// One member for `flow`; `None` if there is none.
    ///
    /// **Cost**: constant, but for [`Method::LeastConnections`] one load for each member.
    pub fn choose(&self, flow: &Flow, random: u32, loads: &Loads) -> Option<Backend> {
        let by_chance = scale(random, self.members.len());
        let at = match &self.method {
            Method::Random => by_chance,
            Method::Maglev { table, seed } => table.member(flow, *seed),
            Method::LeastConnections => {
                let (before, after) = self.members.split_at_checked(by_chance)?;
                // from a random start, so that ties do not all fall to the same one
                let turn = after.iter().chain(before);
                return turn.min_by_key(|backend| loads.get(backend.load)).copied();
            }
        };
        self.members.get(at).copied()
    }
}

/// `random` brought below `count`: no division, and a bias below 2⁻³² × `count`.
fn scale(random: u32, count: usize) -> usize {
    usize::try_from((u64::from(random) * count as u64) >> 32).unwrap_or(0)
}

/// Every set of backends of a snapshot. Snapshots share those that did not change.
#[derive(Clone, Debug, Default)]
pub struct BackendSets(Vec<Arc<BackendSet>>);

impl BackendSets {
    /// No sets, with room for `sets` of them.
    pub fn with_capacity(sets: usize) -> Self {
        Self(Vec::with_capacity(sets))
    }

    /// Adds a set; ids count from zero in the order of adding.
    pub fn add(&mut self, set: impl Into<Arc<BackendSet>>) -> BackendSetId {
        let id = BackendSetId(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        self.0.push(set.into());
        id
    }

    /// The set of this id.
    pub fn get(&self, id: BackendSetId) -> Option<&Arc<BackendSet>> {
        self.0.get(id.0 as usize)
    }

    /// The members of a set, by endpoint.
    pub fn members(&self, id: BackendSetId) -> &[Backend] {
        self.get(id).map_or(&[], |set| set.members())
    }

    /// The member of the set with this endpoint.
    pub fn member(&self, id: BackendSetId, endpoint: Endpoint) -> Option<Backend> {
        self.get(id)?.member(endpoint)
    }

    /// Whether `endpoint` is a member of the set.
    pub fn contains(&self, id: BackendSetId, endpoint: Endpoint) -> bool {
        self.get(id).is_some_and(|set| set.contains(endpoint))
    }

    /// One member of the set for `flow`; `None` if it has none. See [`BackendSet::choose`].
    pub fn choose(
        &self,
        id: BackendSetId,
        flow: &Flow,
        random: u32,
        loads: &Loads,
    ) -> Option<Backend> {
        self.get(id)?.choose(flow, random, loads)
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Protocol};

    fn endpoint(n: u16) -> Endpoint {
        Endpoint::new(Address::v4(0x0a04_0000 + u32::from(n)), 80)
    }

    fn flow(port: u16) -> Flow {
        let source = Endpoint::new(Address::v4(0x0a04_0909), port);
        Flow {
            protocol: Protocol::TCP,
            source,
            target: Endpoint::new(Address::v4(0x0a08_0001), 80),
        }
    }

    fn set(count: u16, method: Method) -> BackendSet {
        let backends = (0..count).map(|n| Backend { endpoint: endpoint(n), load: LoadId(n) });
        BackendSet::new(backends, method)
    }

    #[test]
    fn members_are_sorted_and_single() {
        let set = BackendSet::new([3, 1, 3, 2].map(|n| endpoint(n).into()), Method::Random);
        let members: Vec<_> = set.members().iter().map(|backend| backend.endpoint).collect();
        assert_eq!(members, [1, 2, 3].map(endpoint));
        assert!(set.contains(endpoint(2)) && !set.contains(endpoint(4)));
    }

    #[test]
    fn nobody_is_chosen_from_an_empty_set() {
        for method in [Method::Random, Method::LeastConnections] {
            assert_eq!(set(0, method).choose(&flow(1), u32::MAX, &Loads::default()), None);
        }
    }

    #[test]
    fn chance_reaches_every_member_and_no_further() {
        let set = set(3, Method::Random);
        let third = u32::MAX / 3;
        let randoms = [0, third, third + 1, 2 * third, 2 * third + 1, u32::MAX];
        let chosen = randoms.map(|random| {
            let backend = set.choose(&flow(1), random, &Loads::default()).unwrap();
            set.members().iter().position(|member| *member == backend).unwrap()
        });
        assert_eq!(chosen, [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn the_least_loaded_is_chosen_and_ties_are_broken_by_chance() {
        let (set, loads) = (set(4, Method::LeastConnections), Loads::new(4));
        [0, 0, 1, 2, 2, 3].iter().for_each(|n| loads.add(LoadId(*n)));
        let choose = |random| set.choose(&flow(1), random, &loads).unwrap().endpoint;
        assert_eq!(choose(0), endpoint(1));
        assert_eq!(choose(u32::MAX / 2), endpoint(1));
        assert_eq!(choose(u32::MAX / 4 * 3), endpoint(3));
        loads.add(LoadId(1));
        assert_eq!(choose(0), endpoint(3));
    }

    #[test]
    fn maglev_follows_the_flow() {
        let names: Vec<_> = (0..5).map(|n| (maglev::name(endpoint(n), Protocol::TCP), 1)).collect();
        let table = maglev::Table::of_names(251, maglev::SEED, &names).unwrap();
        let set = set(5, Method::Maglev { table, seed: maglev::SEED });
        let choose = |port, random| set.choose(&flow(port), random, &Loads::default()).unwrap();
        assert!((1..100).all(|port| choose(port, 0) == choose(port, u32::MAX)));
        assert!((1..100).any(|port| choose(port, 0) != choose(1, 0)));
    }
}
