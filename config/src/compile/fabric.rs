//! Everything that does not depend on which endpoints serve: machines, their places, the ways
//! between them. Kept from one state to the next while none of that changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use kswitch_tables::{PortId, Prefix, PrefixMap, RouterId, Topology};

use super::changes::{are_same, between};
use super::ids::Ids;
use super::plan::{Plan, PortKind};
use super::service::{Part, Vip};
use super::{Layout, Map, prefix, routes, topology};
use crate::observed::Neighbours;
use crate::{Cluster, Node, Observed, Pod};

/// Machines, their places, and the ways between them.
#[derive(Debug)]
pub(super) struct Fabric {
    pub(super) topology: Arc<Topology>,
    pub(super) plan: Arc<Plan>,
    /// What is attached where.
    pub(super) ports: Arc<Map<PortId, PortKind>>,
    /// Names of routers.
    pub(super) routers: Arc<Vec<Option<String>>>,
    /// Where pods are.
    pub(super) inside: PrefixMap<()>,
    /// Where pods keep their addresses on the way to.
    pub(super) unmasqueraded: PrefixMap<()>,
    entries: Vec<(Prefix, RouterId)>,
    /// Nodes that are switched off.
    down: BTreeSet<String>,
    neighbours: Neighbours,
}

/// Makes fabrics.
#[derive(Debug, Default)]
pub(super) struct Fabrics {
    port_ids: Ids<PortKind>,
    current: Option<Fabric>,
}

impl Fabrics {
    /// The fabric of a state: the one before, if it still holds.
    pub(super) fn update(
        &mut self,
        cluster: &Cluster,
        previous: Option<&Cluster>,
        layout: &Layout,
        entries: Vec<(Prefix, RouterId)>,
        observed: &Observed,
        seed: u64,
    ) -> &Fabric {
        let holds = previous.is_some_and(|before| has_same_machines(before, cluster));
        let is_same = |fabric: &Fabric| {
            fabric.entries == entries
                && fabric.down == observed.nodes_down
                && fabric.neighbours == observed.neighbours
        };
        let current = self.current.take().filter(|fabric| holds && is_same(fabric));
        let fabric =
            current.unwrap_or_else(|| self.build(cluster, layout, entries, observed, seed));
        self.current.insert(fabric)
    }

    fn build(
        &mut self,
        cluster: &Cluster,
        layout: &Layout,
        entries: Vec<(Prefix, RouterId)>,
        observed: &Observed,
        seed: u64,
    ) -> Fabric {
        let ids = self.port_ids.assign(topology::kinds(cluster));
        // numbers beyond the last port are those of no port
        let port = |id: u32| PortId(u16::try_from(id).unwrap_or(u16::MAX));
        let ids: Vec<PortId> = ids.into_iter().map(port).collect();
        let (topology, plan) = topology::build(cluster, layout, &ids, &entries, observed, seed);
        let ports = plan.ports.iter().map(|port| (port.id, port.kind.clone())).collect();
        Fabric {
            topology: Arc::new(topology),
            plan: Arc::new(plan),
            ports: Arc::new(ports),
            routers: Arc::new(router_names(cluster, layout)),
            inside: inside(cluster, layout, seed),
            unmasqueraded: unmasqueraded(cluster, layout, seed),
            entries,
            down: observed.nodes_down.clone(),
            neighbours: observed.neighbours.clone(),
        }
    }
}

/// Whether two states differ in nothing that a fabric follows from.
fn has_same_machines(before: &Cluster, after: &Cluster) -> bool {
    let place = |pod: &&Arc<Pod>| {
        let Pod { namespace, name, node, addresses, host_network, object: _ } = &***pod;
        let attached = !pod.is_finished();
        (namespace.clone(), name.clone(), *node, addresses.clone(), *host_network, attached)
    };
    let same_pods = || {
        let (old, new) = between(&before.pods, &after.pods);
        old.len() == new.len() && old.iter().map(place).eq(new.iter().map(place))
    };
    before.settings == after.settings
        && are_same(&before.nodes, &after.nodes)
        && before.externals == after.externals
        && same_pods()
}

fn router_names(cluster: &Cluster, layout: &Layout) -> Vec<Option<String>> {
    let mut names = vec![Some("edge".to_owned())];
    for (node, RouterId(at)) in cluster.nodes.iter().zip(&layout.routers) {
        let at = usize::from(*at);
        if names.len() <= at {
            names.resize(at + 1, None);
        }
        if let Some(name) = names.get_mut(at) {
            *name = Some(node.name.clone());
        }
    }
    names
}

/// Where pods are: their ranges, and the addresses of those that are elsewhere.
fn inside(cluster: &Cluster, layout: &Layout, seed: u64) -> PrefixMap<()> {
    let mut inside = PrefixMap::new(seed);
    let ranges = cluster.nodes.iter().flat_map(|node| &node.pod_ranges);
    for range in cluster.settings.cluster.pod_cidrs.iter().chain(ranges) {
        inside.insert(prefix(*range), ());
    }
    for (address, _) in routes::strangers(cluster, layout) {
        if inside.find(address).is_none() {
            inside.insert(Prefix::host(address), ());
        }
    }
    inside
}

/// Where pods keep their addresses on the way to: what the settings exempt, and the cluster itself.
fn unmasqueraded(cluster: &Cluster, layout: &Layout, seed: u64) -> PrefixMap<()> {
    let mut all = inside(cluster, layout, seed);
    let settings = &cluster.settings.cluster;
    for range in settings.masquerade.exempt.iter().chain(&settings.service_cidrs) {
        all.insert(prefix(*range), ());
    }
    for address in cluster.nodes.iter().flat_map(|node| &node.addresses) {
        all.insert(Prefix::host((*address).into()), ());
    }
    all
}

/// Where the edge sends packets to Services, and whatever else it was told to.
pub(super) fn entries(
    parts: &[Arc<Part>],
    cluster: &Cluster,
    observed: &Observed,
    layout: &Layout,
) -> Vec<(Prefix, RouterId)> {
    let routes = observed.entry.routes.iter();
    let mut entries: Vec<(Prefix, RouterId)> = routes
        .filter_map(|(net, name)| Some((prefix(*net), layout.router(layout.places.node(name))?)))
        .collect();
    let told = entries.len();
    let nodes = ByName::new(cluster, observed, layout);
    for vip in parts.iter().flat_map(|part| &part.vips) {
        let is_told = entries.iter().take(told).any(|(prefix, _)| prefix.contains(vip.address));
        if !is_told && let Some(router) = nodes.entry(vip) {
            entries.push((Prefix::host(vip.address), router));
        }
    }
    entries
}

/// Nodes by name: the ready ones first.
struct ByName(Vec<(usize, RouterId)>);

impl ByName {
    fn new(cluster: &Cluster, observed: &Observed, layout: &Layout) -> Self {
        let mut nodes: Vec<(&Node, usize, RouterId)> = (0..)
            .zip(cluster.nodes.iter().zip(&layout.routers))
            .map(|(at, (node, router))| (&**node, at, *router))
            .collect();
        nodes.sort_by_key(|(node, _, _)| (!observed.is_node_ready(node), node.name.as_str()));
        Self(nodes.into_iter().map(|(_, at, router)| (at, router)).collect())
    }

    /// Where packets for an address enter: at a node with endpoints, if that is asked for. If there
    /// is none, they go to any node all the same.
    fn entry(&self, vip: &Vip) -> Option<RouterId> {
        let is_healthy = |at: usize| {
            let nodes = vip.healthy.as_ref();
            nodes.is_none_or(|nodes| nodes.iter().any(|node| *node as usize == at))
        };
        let healthy = self.0.iter().find(|(at, _)| is_healthy(*at));
        healthy.or(self.0.first()).map(|(_, router)| *router)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{address, cluster, node, pod, service_of};
    use super::*;
    use crate::EntryPolicy;
    use crate::compile::{Compiled, compile};
    use kswitch_tables::{Generation, Route};
    use serde_json::json;

    fn balanced(policy: &str) -> Cluster {
        let mut cluster = cluster();
        cluster.pods = vec![pod("a", 1, &["10.4.1.5"], "web")];
        cluster.services = vec![service_of(&json!({
            "metadata": { "name": "web", "namespace": "default" },
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": "10.8.0.1",
                "externalIPs": ["192.0.2.1"],
                "externalTrafficPolicy": policy,
                "selector": { "app": "web" },
                "ports": [{ "port": 80, "targetPort": 8080 }],
            },
            "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.10" }] } },
        }))];
        cluster
    }

    fn compiled(cluster: &Cluster, observed: &Observed) -> Compiled {
        compile(cluster, observed, Generation(1), 7)
    }

    /// The node that the edge sends packets for an address to.
    fn entry(compiled: &Compiled, target: &str) -> Option<String> {
        let topology = &compiled.snapshot.topology;
        match topology.route(&topology.routers[0], address(target)) {
            Some(Route::Router(router)) => compiled.names.router(router).map(str::to_owned),
            _ => None,
        }
    }

    #[test]
    fn external_addresses_enter_at_the_first_ready_node_by_name() {
        let mut cluster = balanced("Cluster");
        cluster.nodes.swap(0, 1);
        cluster.pods = Vec::new();
        let observed = Observed::default();
        assert_eq!(entry(&compiled(&cluster, &observed), "192.0.2.1").unwrap(), "node-a");
        assert_eq!(entry(&compiled(&cluster, &observed), "10.8.0.1"), None);
        let not_ready = [("node-a".to_owned(), false)].into();
        let observed = Observed { ready_nodes: not_ready, ..Observed::default() };
        assert_eq!(entry(&compiled(&cluster, &observed), "192.0.2.1").unwrap(), "node-b");
    }

    #[test]
    fn under_a_local_policy_they_enter_where_an_endpoint_is_ready() {
        let observed = Observed::default();
        let cluster = balanced("Local");
        assert_eq!(entry(&compiled(&cluster, &observed), "192.0.2.1").unwrap(), "node-b");
        let not_ready = [(("default".to_owned(), "a".to_owned()), false)].into();
        let observed = Observed { ready_pods: not_ready, ..Observed::default() };
        assert_eq!(entry(&compiled(&cluster, &observed), "192.0.2.1").unwrap(), "node-a");
    }

    #[test]
    fn what_was_told_comes_first_but_nodes_keep_their_addresses() {
        let observed =
            Observed { entry: EntryPolicy::everything_at("node-b"), ..Observed::default() };
        let compiled = compiled(&balanced("Cluster"), &observed);
        for target in ["203.0.113.10", "10.8.0.1", "10.4.0.5"] {
            assert_eq!(entry(&compiled, target).unwrap(), "node-b", "{target}");
        }
        assert_eq!(entry(&compiled, "10.128.0.2").unwrap(), "node-a");
        assert_eq!(entry(&compiled, "198.51.100.9"), None);
    }

    #[test]
    fn pods_are_inside_wherever_they_are_and_nodes_are_not() {
        let mut cluster = cluster();
        cluster.nodes[0] = node("node-a", "", &["10.128.0.2"], &["172.20.0.0/24"]);
        cluster.pods = vec![pod("a", 0, &["192.0.2.77"], "a")];
        let compiled = compiled(&cluster, &Observed::default());
        for inside in ["10.4.9.9", "172.20.0.5", "192.0.2.77", "fd00:4::9"] {
            assert!(compiled.snapshot.is_inside(address(inside)), "{inside}");
        }
        for outside in ["10.128.0.2", "10.8.0.1", "192.0.2.78", "198.51.100.7"] {
            assert!(!compiled.snapshot.is_inside(address(outside)), "{outside}");
        }
        let keeps = |to| compiled.snapshot.unmasqueraded.find(address(to)).is_some();
        assert!(["192.168.1.1", "10.128.0.3", "192.0.2.77", "172.20.0.5"].into_iter().all(keeps));
        assert!(!keeps("198.51.100.7"));
    }
}
