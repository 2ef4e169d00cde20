//! Network load balancers, and the forwarding rules that follow from them.
//!
//! Nothing of a Service is compiled again when the health of a node changes: rules are made for each
//! snapshot, of groups of nodes that are shared between rules and kept between snapshots.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use kswitch_tables::{
    Candidate, ForwardingRule, ForwardingRules, NodeGroup, Prefix, RouterId, Scope, murmur3_x64_128,
};

use super::service::Part;
use super::{Layout, Map};
use crate::endpoints::{NodeIndex, key, protocol};
use crate::network_balancer::{
    self as network, BalancedNode, NetworkBalancer, Scheme, may_be_balanced,
};
use crate::{Cluster, External, HostNetwork, Node, Observed, REGION_LABEL};

/// Groups that rules have, by the nodes in them.
type Groups = Map<Vec<Candidate>, Arc<NodeGroup>>;

/// Makes rules.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    groups: Groups,
}

/// What rules follow from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Balanced<'c> {
    pub(super) cluster: &'c Cluster,
    pub(super) observed: &'c Observed,
    pub(super) layout: &'c Layout,
    pub(super) parts: &'c [Arc<Part>],
    pub(super) seed: u64,
}

impl Forwarding {
    /// Every load balancer of a state, and its rules.
    pub(super) fn make(&mut self, state: Balanced<'_>) -> (Vec<NetworkBalancer>, ForwardingRules) {
        let Balanced { cluster, observed, layout, parts, seed } = state;
        let mut rules = ForwardingRules::new(seed);
        let mut balancers = Vec::new();
        let mut groups = Groups::default();
        let told: Vec<Prefix> =
            observed.entry.routes.iter().map(|(net, _)| super::prefix(*net)).collect();
        for (service, part) in cluster.services.iter().zip(parts) {
            if part.balanced.is_empty() {
                continue;
            }
            let balancer = balancer(state, service, part);
            let group = self.group(&mut groups, &balancer, layout, cluster);
            let keepers = keepers(state, &balancer);
            for (of_port, port) in part.ports.iter().zip(ports(service)) {
                let (Some(protocol), Ok(number)) =
                    (protocol(port.protocol.as_deref()), u16::try_from(port.port))
                else {
                    continue;
                };
                for address in &part.balanced {
                    if told.iter().any(|prefix| prefix.contains(*address)) {
                        continue;
                    }
                    let rule = ForwardingRule {
                        scope: match balancer.scheme {
                            Scheme::TargetPool | Scheme::External => Scope::Everyone,
                            Scheme::Internal { is_global: false } => Scope::Region,
                            Scheme::Internal { is_global: true } => Scope::Network,
                        },
                        stickiness: balancer.stickiness,
                        nodes: Arc::clone(&group),
                        keepers: Arc::clone(&keepers),
                        label: of_port.label,
                    };
                    rules.add(*address, protocol, number, rule);
                }
            }
            balancers.push(balancer);
        }
        for host in cluster.externals.iter().filter(|host| is_elsewhere(host, cluster)) {
            for address in &host.addresses {
                rules.add_elsewhere(address.addr().into());
            }
        }
        for proxy in cluster.proxies.iter().filter(|proxy| proxy.is_internal) {
            rules.add_inner(proxy.address.into());
        }
        self.groups = groups;
        (balancers, rules)
    }

    /// The nodes for new flows: the healthy ones; all of them if none is.
    ///
    /// Source: Google Cloud, "Passthrough Network Load Balancers": all backends unhealthy.
    fn group(
        &self,
        groups: &mut Groups,
        balancer: &NetworkBalancer,
        layout: &Layout,
        cluster: &Cluster,
    ) -> Arc<NodeGroup> {
        let is_desperate = balancer.is_desperate();
        let nodes = balancer.nodes.iter().filter(|node| node.is_healthy || is_desperate);
        let candidates: Vec<Candidate> = nodes
            .filter_map(|node| {
                let at = cluster.node_index(&node.name)?;
                let router = *layout.routers.get(at)?;
                let weight = if is_desperate { 1 } else { node.weight };
                Some(Candidate { router, name: node.name.clone(), weight })
            })
            .collect();
        if let Some(group) = groups.get(&candidates) {
            return Arc::clone(group);
        }
        let before = self.groups.get(&candidates).map(Arc::clone);
        let group = before.unwrap_or_else(|| Arc::new(NodeGroup::new(&candidates)));
        groups.insert(candidates, Arc::clone(&group));
        group
    }
}

/// Whether a host of the nodes' network is in a region of which no node is.
fn is_elsewhere(host: &External, cluster: &Cluster) -> bool {
    let HostNetwork::Vpc { region: Some(region) } = &host.network else { return false };
    let mut nodes = cluster.nodes.iter();
    !nodes.any(|node| node.labels().get(REGION_LABEL) == Some(region))
}

fn ports(service: &Service) -> impl Iterator<Item = &k8s_openapi::api::core::v1::ServicePort> {
    service.spec.iter().flat_map(|spec| spec.ports.iter().flatten())
}

/// Nodes that keep the connections they have: those of the group, and those that have left it while
/// connections may yet drain.
fn keepers(state: Balanced<'_>, balancer: &NetworkBalancer) -> Arc<[RouterId]> {
    let Balanced { cluster, observed, layout, .. } = state;
    let NetworkBalancer { namespace, service, nodes, .. } = balancer;
    let is_draining = |node: &Node| {
        !observed.draining.is_empty()
            && observed.draining.contains(&(namespace.clone(), service.clone(), node.name.clone()))
    };
    let keeps = |node: &Node| nodes.iter().any(|at| at.name == node.name) || is_draining(node);
    let mut routers: Vec<RouterId> = (cluster.nodes.iter().zip(&layout.routers))
        .filter(|(node, _)| keeps(node))
        .map(|(_, router)| *router)
        .collect();
    routers.sort_unstable();
    routers.into()
}

fn balancer(state: Balanced<'_>, service: &Arc<Service>, part: &Part) -> NetworkBalancer {
    let Balanced { cluster, observed, .. } = state;
    let settings = &cluster.settings.gateway;
    let (namespace, name) = key(service);
    let spec = service.spec.as_ref();
    let is_local = spec.and_then(|spec| spec.external_traffic_policy.as_deref()) == Some("Local");
    let scheme = Scheme::of(service);
    let check = network::check(part.health.as_ref().map(|health| health.port), settings);
    let is_weighted = is_local && network::is_weighted(service);
    let endpoints = |node: NodeIndex| {
        let found = part.local_ready.iter().find(|(at, _)| *at == node);
        found.map_or(0, |(_, count)| *count)
    };
    let is_healthy = |at: NodeIndex, node: &Node| {
        let seen = observed.node_health.get(&(check.port, node.name.clone())).copied();
        seen.unwrap_or_else(|| {
            observed.is_node_ready(node)
                && if is_local { endpoints(at) > 0 } else { !node.is_leaving() }
        })
    };
    let size = scheme.group_size(is_local, settings.subsetting);
    let members = (0..).zip(&cluster.nodes).filter(|(at, node)| {
        may_be_balanced(node) && (size.is_none() || !is_local || endpoints(*at) > 0)
    });
    let members: Vec<(NodeIndex, &Arc<Node>)> = members.collect();
    let members = match size {
        Some(size) if members.len() > size => subset(members, size, &format!("{namespace}/{name}")),
        _ => members,
    };
    let nodes: Vec<BalancedNode> = members
        .into_iter()
        .map(|(at, node)| BalancedNode {
            name: node.name.clone(),
            addresses: node.addresses.clone(),
            weight: match u32::try_from(endpoints(at)) {
                Ok(count @ 1..) if is_weighted => count,
                _ => 1,
            },
            is_healthy: is_healthy(at, node),
        })
        .collect();
    NetworkBalancer {
        namespace: namespace.to_owned(),
        service: name.to_owned(),
        addresses: part.balanced.iter().map(|address| address.to_ip()).collect(),
        ports: ports(service)
            .filter_map(|port| {
                let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
                Some((protocol, u16::try_from(port.port).ok()?))
            })
            .collect(),
        scheme,
        is_local,
        stickiness: network::stickiness(service),
        source_ranges: spec
            .and_then(|spec| spec.load_balancer_source_ranges.clone())
            .unwrap_or_default(),
        check,
        nodes,
    }
}

/// A node and its place in the cluster.
type Member<'c> = (NodeIndex, &'c Arc<Node>);

/// So many of these nodes, of all zones alike, and mostly the same ones whoever comes or goes.
///
/// Source: ingress-gce `pkg/neg/syncers/subsets.go`: by a hash of node and load balancer.
fn subset<'c>(
    mut members: Vec<(NodeIndex, &'c Arc<Node>)>,
    size: usize,
    salt: &str,
) -> Vec<(NodeIndex, &'c Arc<Node>)> {
    members.sort_by_cached_key(|(_, node)| {
        murmur3_x64_128(format!("{salt}/{}", node.name).as_bytes(), 0)
    });
    let mut by_zone: Vec<(Option<&str>, Vec<Member<'c>>)> = Vec::new();
    for (at, node) in members {
        let zone = node.zone.as_deref();
        match by_zone.iter_mut().find(|(of, _)| *of == zone) {
            Some((_, nodes)) => nodes.push((at, node)),
            None => by_zone.push((zone, vec![(at, node)])),
        }
    }
    // the smallest zone first: what it lacks of its share falls to the others
    by_zone.sort_by_key(|(_, nodes)| nodes.len());
    let mut chosen = Vec::with_capacity(size);
    let zones = by_zone.len();
    for (done, (_, nodes)) in by_zone.into_iter().enumerate() {
        let share = (size - chosen.len()).div_ceil(zones - done);
        chosen.extend(nodes.into_iter().take(share));
    }
    chosen.truncate(size);
    chosen.sort_unstable_by_key(|(at, _)| *at);
    chosen
}

#[cfg(test)]
mod tests;
