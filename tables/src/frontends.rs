//! Frontends: the addresses at which backends are served.

use std::sync::Arc;

use crate::hash::{Map, map};
use crate::{Address, BackendSetId, Endpoint, Protocol, RouterId, SourceRangesId};

/// Index of a [`Frontend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrontendId(pub u32);

/// Which set a router uses.
#[derive(Clone, Debug)]
pub enum NodeSets {
    /// No router has any.
    Nowhere,
    /// Every router has the same.
    Everywhere(BackendSetId),
    /// Routers have sets of their own, by router; those not named have none.
    PerRouter(Box<[(RouterId, BackendSetId)]>),
}

impl NodeSets {
    /// A set for each of these routers, none for others.
    pub fn per_router(sets: impl IntoIterator<Item = (RouterId, BackendSetId)>) -> Self {
        let mut sets: Vec<_> = sets.into_iter().collect();
        if sets.is_empty() {
            return Self::Nowhere;
        }
        sets.sort_by_key(|(router, _)| *router);
        Self::PerRouter(sets.into())
    }

    /// The set of `router`.
    pub fn at(&self, router: RouterId) -> Option<BackendSetId> {
        match self {
            Self::Nowhere => None,
            Self::Everywhere(set) => Some(*set),
            Self::PerRouter(sets) => {
                let at = sets.binary_search_by_key(&router, |(router, _)| *router).ok()?;
                sets.get(at).map(|(_, set)| *set)
            }
        }
    }
}

/// Whose traffic a frontend is for, and so where it may go and as whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// For those inside: to [`Frontend::sets`]; a source from outside the cluster is masqueraded.
    Internal {
        /// Masquerade sources inside the cluster too.
        masquerade_all: bool,
    },
    /// For everyone: to [`Frontend::sets`], always masqueraded.
    External,
    /// For everyone; sources outside stay on the router they reached, with their own address.
    /// Sources inside go to [`Frontend::cluster_sets`], the router's own stack masqueraded.
    ExternalLocal,
    /// Straight to the backend; masqueraded only where the answer would not come back this way.
    HostPort,
}

/// Stickiness of clients to backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// What clients stick to: frontends of one service port share it.
    pub group: u32,
    /// How long after its last new flow a client is remembered, seconds.
    pub timeout_seconds: u32,
}

/// One address, protocol and port at which a service is reached.
#[derive(Clone, Debug)]
pub struct Frontend {
    /// Whose traffic it is for.
    pub policy: Policy,
    /// The backends for traffic under the frontend's own policy, by router.
    pub sets: NodeSets,
    /// The backends of the whole cluster, by router.
    pub cluster_sets: NodeSets,
    /// Whether any backend is usable anywhere: refusals then are silent, otherwise spoken.
    pub has_backends: bool,
    /// Sources admitted; `None` admits everyone.
    pub source_ranges: Option<SourceRangesId>,
    /// Stickiness.
    pub affinity: Option<Affinity>,
    /// Backends that still answer, whoever may be sent to them, by endpoint: flows without a
    /// connection are moved away from all others.
    pub serving: Arc<[Endpoint]>,
    /// What the control side calls it.
    pub label: u32,
}

impl Frontend {
    /// Whether a flow may stay with `backend`. **Cost**: a binary search.
    pub fn is_serving(&self, backend: Endpoint) -> bool {
        self.serving.binary_search(&backend).is_ok()
    }
}

/// Every frontend of a snapshot, by how it is found.
#[derive(Clone, Debug, Default)]
pub struct Frontends {
    all: Vec<Frontend>,
    by_address: Map<(Address, Protocol, u16), FrontendId>,
    by_router_port: Map<(RouterId, bool, Protocol, u16), FrontendId>,
    by_router_address: Map<(RouterId, Address, Protocol, u16), FrontendId>,
    by_local_port: Map<(bool, Protocol, u16), FrontendId>,
    /// Addresses of which every port belongs to a frontend or to nobody.
    owned: Map<Address, ()>,
}

impl Frontends {
    /// No frontends; maps hash by `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            all: Vec::new(),
            by_address: map(seed),
            by_router_port: map(seed),
            by_router_address: map(seed),
            by_local_port: map(seed),
            owned: map(seed),
        }
    }

    /// Makes room for frontends at so many addresses and ports.
    pub fn reserve(&mut self, places: usize) {
        self.all.reserve(places);
        self.by_address.reserve(places);
        self.by_local_port.reserve(places / 2);
        self.owned.reserve(places / 2);
    }

    /// Adds a frontend, not yet reachable.
    pub fn add(&mut self, frontend: Frontend) -> FrontendId {
        let id = FrontendId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push(frontend);
        id
    }

    /// Serves a frontend at this address and port. The first to claim it keeps it.
    pub fn serve(&mut self, address: Address, protocol: Protocol, port: u16, id: FrontendId) {
        self.by_address.entry((address, protocol, port)).or_insert(id);
    }

    /// Serves a frontend at this port on one router's own addresses. The last to claim it has it.
    pub fn serve_on_router(
        &mut self,
        router: RouterId,
        is_v4: bool,
        protocol: Protocol,
        port: u16,
        id: FrontendId,
    ) {
        self.by_router_port.insert((router, is_v4, protocol, port), id);
    }

    /// Serves a frontend at this port on one of a router's own addresses. The last to claim it has
    /// it, also against [`Frontends::serve_on_router`].
    pub fn serve_on_router_address(
        &mut self,
        router: RouterId,
        address: Address,
        protocol: Protocol,
        port: u16,
        id: FrontendId,
    ) {
        self.by_router_address.insert((router, address, protocol, port), id);
    }

    /// Serves a frontend at this port on every router's frontend addresses of the family.
    pub fn serve_locally(&mut self, is_v4: bool, protocol: Protocol, port: u16, id: FrontendId) {
        self.by_local_port.entry((is_v4, protocol, port)).or_insert(id);
    }

    /// Marks an address as belonging to frontends alone: its other ports are refused.
    pub fn own(&mut self, address: Address) {
        self.owned.insert(address, ());
    }

    /// Whether ports of `address` without a frontend are refused.
    pub fn owns(&self, address: Address) -> bool {
        self.owned.contains_key(&address)
    }

    /// The frontend of this id.
    pub fn get(&self, id: FrontendId) -> Option<&Frontend> {
        self.all.get(id.0 as usize)
    }

    /// The frontend served at exactly this address and port.
    pub fn at_address(
        &self,
        address: Address,
        protocol: Protocol,
        port: u16,
    ) -> Option<FrontendId> {
        self.by_address.get(&(address, protocol, port)).copied()
    }

    /// The frontend served at this port of one router's own `address`, or of all of them.
    pub fn at_router(
        &self,
        router: RouterId,
        address: Address,
        protocol: Protocol,
        port: u16,
    ) -> Option<FrontendId> {
        let at_address = self.by_router_address.get(&(router, address, protocol, port));
        let anywhere = || self.by_router_port.get(&(router, address.is_v4(), protocol, port));
        at_address.or_else(anywhere).copied()
    }

    /// The frontend served at this port of every router's frontend addresses.
    pub fn at_local_port(&self, is_v4: bool, protocol: Protocol, port: u16) -> Option<FrontendId> {
        self.by_local_port.get(&(is_v4, protocol, port)).copied()
    }

    /// Every frontend with its id.
    pub fn iter(&self) -> impl Iterator<Item = (FrontendId, &Frontend)> {
        (0..).map(FrontendId).zip(&self.all)
    }

    /// How many frontends there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
