//! From the parts of Services to the tables of a snapshot.

use std::sync::Arc;

use kswitch_tables::{
    BackendSetId, BackendSets, Frontend, Frontends, NodeSets, Served, SourceRangesId,
};

use super::service::{Part, Site};
use crate::endpoints::number;

/// Tables of these parts; what one claims and another has already stays with that one.
pub(super) fn merged(parts: &[Arc<Part>], seed: u64) -> Served {
    let mut merged = with_room_for(parts, seed);
    parts.iter().for_each(|part| add(&mut merged, part));
    merged
}

/// Empty tables with room for these parts.
fn with_room_for(parts: &[Arc<Part>], seed: u64) -> Served {
    let sites =
        |part: &Part| -> usize { part.frontends.iter().map(|(_, _, sites)| sites.len()).sum() };
    let mut frontends = Frontends::new(seed);
    frontends.reserve(parts.iter().map(|part| sites(part)).sum());
    let backends = BackendSets::with_capacity(parts.iter().map(|part| part.sets.len()).sum());
    Served { frontends, backends, source_ranges: Vec::new() }
}

fn add(merged: &mut Served, part: &Part) {
    let first_set = number(merged.backends.len());
    let first_ranges = number(merged.source_ranges.len());
    for set in &part.sets {
        merged.backends.add(Arc::clone(set));
    }
    merged.source_ranges.extend(part.ranges.iter().cloned());
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
        let id = merged.frontends.add(Frontend {
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
                    merged.frontends.serve(address, *protocol, port, id);
                }
                Site::EveryNode { is_v4, port } => {
                    merged.frontends.serve_locally(is_v4, *protocol, port, id);
                }
            }
        }
    }
    for address in &part.owned {
        merged.frontends.own(*address);
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
