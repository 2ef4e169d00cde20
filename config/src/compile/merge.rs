//! From the parts of Services to the tables of a snapshot.

use std::sync::Arc;

use kswitch_tables::{
    BackendSetId, BackendSets, Frontend, Frontends, NodeSets, SourceRanges, SourceRangesId,
};

use super::service::{Part, Site};
use crate::endpoints::number;

/// Tables that grow by one part after another.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) frontends: Frontends,
    pub(super) backends: BackendSets,
    pub(super) source_ranges: Vec<Arc<SourceRanges>>,
}

impl Merged {
    /// Empty tables with room for these parts.
    pub(super) fn with_room_for(parts: &[Arc<Part>], seed: u64) -> Self {
        let sites =
            |part: &Part| -> usize { part.frontends.iter().map(|(_, _, sites)| sites.len()).sum() };
        let mut frontends = Frontends::new(seed);
        frontends.reserve(parts.iter().map(|part| sites(part)).sum());
        let backends = BackendSets::with_capacity(parts.iter().map(|part| part.sets.len()).sum());
        Self { frontends, backends, source_ranges: Vec::new() }
    }

    /// Adds a part; what it claims and another part has already stays with that one.
    pub(super) fn add(&mut self, part: &Part) {
        let first_set = number(self.backends.len());
        let first_ranges = number(self.source_ranges.len());
        for set in &part.sets {
            self.backends.add(Arc::clone(set));
        }
        self.source_ranges.extend(part.ranges.iter().cloned());
        for (frontend, protocol, sites) in &part.frontends {
            let Frontend {
                policy,
                sets,
                cluster_sets,
                has_backends,
                source_ranges,
                affinity,
                serving,
                label,
            } = frontend;
            let id = self.frontends.add(Frontend {
                policy: *policy,
                sets: shifted(sets, first_set),
                cluster_sets: shifted(cluster_sets, first_set),
                has_backends: *has_backends,
                source_ranges: source_ranges
                    .map(|SourceRangesId(at)| SourceRangesId(at + first_ranges)),
                affinity: *affinity,
                serving: Arc::clone(serving),
                label: *label,
            });
            for site in sites {
                match *site {
                    Site::Address(address, port) => {
                        self.frontends.serve(address, *protocol, port, id);
                    }
                    Site::EveryNode { is_v4, port } => {
                        self.frontends.serve_locally(is_v4, *protocol, port, id);
                    }
                }
            }
        }
        for address in &part.owned {
            self.frontends.own(*address);
        }
    }
}

fn shifted(sets: &NodeSets, by: u32) -> NodeSets {
    let shift = |BackendSetId(id): BackendSetId| BackendSetId(id + by);
    match sets {
        NodeSets::Nowhere => NodeSets::Nowhere,
        NodeSets::Everywhere(id) => NodeSets::Everywhere(shift(*id)),
        NodeSets::PerRouter(sets) => {
            NodeSets::PerRouter(sets.iter().map(|(router, id)| (*router, shift(*id))).collect())
        }
    }
}
