//! What the state before had made of the pods.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::cluster::{Cluster, Node, Pod};
use crate::validate::workloads::Planned;

/// The pods of the state before.
///
/// Most of them are where they were in the list, so that is looked at first.
#[derive(Debug)]
pub(super) struct Before<'c> {
    cluster: Option<&'c Cluster>,
    by_name: OnceCell<HashMap<(&'c str, &'c str), usize, ahash::RandomState>>,
    nodes: OnceCell<HashMap<String, usize, ahash::RandomState>>,
    addresses: OnceCell<HashSet<IpAddr, ahash::RandomState>>,
}

impl<'c> Before<'c> {
    pub(super) fn of(cluster: Option<&'c Cluster>) -> Self {
        let (by_name, nodes) = (OnceCell::new(), OnceCell::new());
        Self { cluster, by_name, nodes, addresses: OnceCell::new() }
    }

    /// The index of a node of the state to come.
    pub(super) fn index_of(&self, nodes: &[Arc<Node>], name: &str) -> Option<usize> {
        let by_name = self.nodes.get_or_init(|| {
            nodes.iter().enumerate().map(|(index, node)| (node.name.clone(), index)).collect()
        });
        by_name.get(name).copied()
    }

    /// The node that a pod was on, if that is still there.
    pub(super) fn node_of(
        &self,
        index: usize,
        pod: &Planned,
        nodes: &[Arc<Node>],
    ) -> Option<usize> {
        let (_, _, node) = self.find(index, pod)?;
        self.index_of(nodes, &node.name)
    }

    /// Whether any pod had this address.
    pub(super) fn had(&self, address: IpAddr) -> bool {
        let pods = || self.cluster.iter().flat_map(|cluster| &cluster.pods);
        let all = || pods().flat_map(|pod| pod.addresses.iter().copied()).collect();
        self.addresses.get_or_init(all).contains(&address)
    }

    /// The addresses that a pod had on the same node.
    pub(super) fn addresses(&self, index: usize, pod: &Planned, node: &Node) -> &'c [IpAddr] {
        match self.find(index, pod) {
            Some((_, before, place)) if place.name == node.name && !before.host_network => {
                &before.addresses
            }
            _ => &[],
        }
    }

    /// The pod of before, where nothing about it has changed.
    pub(super) fn same(
        &self,
        index: usize,
        pod: &Planned,
        node: usize,
        place: &Node,
        addresses: &[IpAddr],
    ) -> Option<Arc<Pod>> {
        let (at, before, was) = self.find(index, pod)?;
        let wanted = self.cluster?.memory.pods.get(at)?;
        let is_same = Arc::ptr_eq(wanted, &pod.object)
            && before.addresses == addresses
            && was.name == place.name
            && was.addresses == place.addresses;
        match (is_same, before.node == node) {
            (true, true) => Some(before.clone()),
            (true, false) => Some(Arc::new(Pod { node, ..Pod::clone(before) })),
            (false, _) => None,
        }
    }

    fn find(&self, index: usize, pod: &Planned) -> Option<(usize, &'c Arc<Pod>, &'c Node)> {
        let cluster = self.cluster?;
        let at = match cluster.memory.pods.get(index) {
            Some(wanted) if Arc::ptr_eq(wanted, &pod.object) => index,
            _ => {
                let by_name = self.by_name.get_or_init(|| {
                    let names =
                        cluster.pods.iter().map(|pod| (pod.namespace.as_str(), pod.name.as_str()));
                    names.enumerate().map(|(index, name)| (name, index)).collect()
                });
                let metadata = &pod.object.metadata;
                let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
                let (namespace, name) = (text(&metadata.namespace), text(&metadata.name));
                *by_name.get(&(namespace.as_str(), name.as_str()))?
            }
        };
        let before = cluster.pods.get(at)?;
        // who comes after one that ends is another, though it may have its name
        if before.is_terminating() && pod.object.metadata.deletion_timestamp.is_none() {
            return None;
        }
        Some((at, before, cluster.nodes.get(before.node)?))
    }
}
