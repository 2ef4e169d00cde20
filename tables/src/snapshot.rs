//! Everything read-only that a frame is judged by.

use std::sync::Arc;

use crate::{
    Address, BackendSets, ForwardingRules, Frontends, Generation, Limits, Policies, PrefixMap,
    RouterId, SourceRanges, SourceRangesId, Topology,
};

/// What routers serve: frontends, their backends, and who may use them. The ids within are its own.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Addresses at which backends are served.
    pub frontends: Frontends,
    /// The backends.
    pub backends: BackendSets,
    /// By [`SourceRangesId`].
    pub source_ranges: Vec<Arc<SourceRanges>>,
}

impl Served {
    /// The ranges of this id.
    pub fn source_ranges(&self, id: SourceRangesId) -> Option<&SourceRanges> {
        self.source_ranges.get(id.0 as usize).map(|ranges| &**ranges)
    }
}

/// Every read-only table of one generation; never changed once published.
///
/// **Sharing**: built by the control side, read by every worker, freed by the control side once no
/// worker holds it. A frame sees exactly one.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its number; bindings judged under another are judged anew.
    pub generation: Generation,
    /// Ports, bridges, routers, routes. Generations that do not differ in them share them.
    pub topology: Arc<Topology>,
    /// What leads from addresses outside the nodes to a node.
    pub forwarding: ForwardingRules,
    /// What routers serve. Generations that do not differ in it share it.
    pub served: Arc<Served>,
    /// Routers that go on with what was served before, and that.
    pub lagging: Vec<(RouterId, Arc<Served>)>,
    /// Who may talk to whom.
    pub policies: Policies,
    /// Prefixes whose sources count as inside the cluster.
    pub inside: PrefixMap<()>,
    /// Destinations to which pods keep their own address on the way out.
    pub unmasqueraded: PrefixMap<()>,
    /// Whether what leaves through the edge is masqueraded at all.
    pub masquerade_egress: bool,
    /// What one port may take of the shared tables.
    pub limits: Limits,
}

impl Snapshot {
    /// Whether `source` belongs to the cluster's own machines.
    pub fn is_inside(&self, source: Address) -> bool {
        self.inside.find(source).is_some()
    }

    /// What a router serves. **Cost**: linear in the routers that lag behind.
    pub fn served_at(&self, router: RouterId) -> &Served {
        let older = self.lagging.iter().find(|(lagging, _)| *lagging == router);
        older.map_or(&self.served, |(_, older)| older)
    }
}
