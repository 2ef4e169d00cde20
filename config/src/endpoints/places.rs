//! Nodes and zones by number, as endpoints and hints name them.

use crate::Cluster;
use crate::compile::Map;

/// Index of a node in [`Cluster::nodes`], or [`NOWHERE`].
pub(crate) type NodeIndex = u32;

/// Index of a zone that some node is in, or [`NOWHERE`].
pub(crate) type ZoneIndex = u32;

/// A node or zone that the cluster does not have.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Nodes and zones of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Places {
    nodes: Map<String, NodeIndex>,
    zones: Map<String, ZoneIndex>,
    zone_of: Vec<ZoneIndex>,
}

impl Places {
    /// The places of the cluster's nodes.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let mut places = Self::default();
        for node in &cluster.nodes {
            let zone = node.zone.as_ref().map_or(NOWHERE, |zone| {
                let next = number(places.zones.len());
                *places.zones.entry_ref(zone.as_str()).or_insert(next)
            });
            places.nodes.insert(node.name.clone(), number(places.zone_of.len()));
            places.zone_of.push(zone);
        }
        places
    }

    /// The index of a node.
    pub(crate) fn node(&self, name: &str) -> NodeIndex {
        self.nodes.get(name).copied().unwrap_or(NOWHERE)
    }

    /// The index of a zone.
    pub(crate) fn zone(&self, name: &str) -> ZoneIndex {
        self.zones.get(name).copied().unwrap_or(NOWHERE)
    }

    /// The zone of a node.
    pub(crate) fn zone_of(&self, node: NodeIndex) -> ZoneIndex {
        self.zone_of.get(node as usize).copied().unwrap_or(NOWHERE)
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> u32 {
        number(self.zone_of.len())
    }
}

/// A count as an index; the cluster's own limits are far below.
pub(crate) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(NOWHERE)
}
