//! Everything read-only that a frame is judged by.

use std::sync::Arc;

use crate::{
    Address, BackendSets, ForwardingRules, Frontends, Generation, Policies, PrefixMap,
    SourceRanges, SourceRangesId, Topology,
};

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
    /// Addresses at which backends are served.
    pub frontends: Frontends,
    /// The backends.
    pub backends: BackendSets,
    /// By [`SourceRangesId`].
    pub source_ranges: Vec<Arc<SourceRanges>>,
    /// Who may talk to whom.
    pub policies: Policies,
    /// Prefixes whose sources count as inside the cluster.
    pub inside: PrefixMap<()>,
    /// Destinations to which pods keep their own address on the way out.
    pub unmasqueraded: PrefixMap<()>,
    /// Whether what leaves through the edge is masqueraded at all.
    pub masquerade_egress: bool,
}

impl Snapshot {
    /// Whether `source` belongs to the cluster's own machines.
    pub fn is_inside(&self, source: Address) -> bool {
        self.inside.find(source).is_some()
    }

    /// The ranges of this id.
    pub fn source_ranges(&self, id: SourceRangesId) -> Option<&SourceRanges> {
        self.source_ranges.get(id.0 as usize).map(|ranges| &**ranges)
    }
}
