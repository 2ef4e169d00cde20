//! One Service as frontends and sets of backends.
//!
//! The part of a snapshot that follows from one Service names its sets by their number within the
//! part; [`super::merge`] moves them to their place in the snapshot.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kswitch_tables::{
    Address, Affinity, Backend, BackendSet, BackendSetId, Endpoint, Frontend, LoadId, NodeSets,
    Policy, Protocol, RouterId, SourceRanges, SourceRangesId, maglev,
};

use super::Layout;
use super::addresses::{Addresses, cluster_ips, health, is_local, ready_nodes};
use super::balancing::Balancing;
use super::categories::{self, Categories, Users};
use super::loads::LoadIds;
use super::services::{PortLabel, State};
use crate::Cluster;
use crate::dns::ServiceRecords;
use crate::endpoints::{Candidate, NodeIndex, PortCandidates, number, protocol};

/// How long a client sticks to its endpoint if nothing is said, seconds.
///
/// Source: `ClientIPConfig.timeoutSeconds`.
const AFFINITY_SECONDS: u32 = 10_800;

/// What follows from one Service.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Sets of backends.
    pub(super) sets: Vec<Arc<BackendSet>>,
    /// Source ranges.
    pub(super) ranges: Vec<Arc<SourceRanges>>,
    /// Frontends, and where each is served.
    pub(super) frontends: Vec<(Frontend, Protocol, Vec<Site>)>,
    /// Addresses of which every port is the Service's.
    pub(super) owned: Vec<Address>,
    /// Addresses that are known outside, and not a load balancer's.
    pub(super) vips: Vec<Vip>,
    /// Addresses of its load balancer.
    pub(super) balanced: Vec<Address>,
    /// Nodes with ready endpoints, and how many, where its load balancer asks for that.
    pub(super) local_ready: Vec<(NodeIndex, usize)>,
    /// Its health check.
    pub(super) health: Option<Health>,
    /// Its ports, with the labels of their frontends.
    pub(super) ports: Vec<PortLabel>,
    /// What is answered to who asks for its name.
    pub(super) records: Arc<ServiceRecords>,
}

/// Where a frontend is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// At one address.
    Address(Address, u16),
    /// At the addresses of every node.
    EveryNode {
        /// The family.
        is_v4: bool,
        /// The port, host order.
        port: u16,
    },
}

/// An address of a Service that is known outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vip {
    /// The address.
    pub(super) address: Address,
    /// Nodes with endpoints of their own; `None` if all are alike.
    pub(super) healthy: Option<Vec<NodeIndex>>,
}

/// What a health check of a Service tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Health {
    /// The port it is asked at, host order.
    pub(super) port: u16,
    /// Nodes with ready endpoints of the Service, and how many.
    pub(super) ready: Vec<(NodeIndex, usize)>,
}

/// Compiles one Service.
pub(super) fn compile(
    service: &Service,
    gathered: &[PortCandidates],
    labels: Vec<PortLabel>,
    state: State<'_>,
    loads: &mut LoadIds,
) -> Part {
    let State { cluster, layout, seed, observed: _ } = state;
    let mut part = Part { ports: labels, ..Part::default() };
    let Some(spec) = service.spec.as_ref().filter(|spec| is_proxied(service, spec)) else {
        return part;
    };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let balancing = Balancing::of(service).unwrap_or_default();
    let maglev_seed = cluster.settings.switch.seed.map_or(maglev::SEED, fold);
    for ip in cluster_ips(spec) {
        let addresses = Addresses::of(service, spec, ip);
        part.owned.push(addresses.cluster_ip);
        let ranges = addresses.source_ranges(spec, cluster, seed).map(|ranges| {
            part.ranges.push(Arc::new(ranges));
            SourceRangesId(number(part.ranges.len() - 1))
        });
        for of_port in gathered.iter().filter(|of_port| of_port.is_v4 == ip.is_ipv4()) {
            let label = part.ports.get(of_port.port).map(|port| port.label);
            let (Some(port), Some(label)) = (ports.get(of_port.port), label) else { continue };
            let Some(protocol) = protocol(port.protocol.as_deref()) else { continue };
            let mut sets = Sets {
                part: &mut part,
                candidates: &of_port.candidates,
                layout,
                balancing,
                protocol,
                maglev_seed,
                label,
                loads,
            };
            let frontends = sets.frontends(spec, cluster, label);
            addresses.serve(&mut part, port, protocol, frontends, ranges);
        }
        part.vips.extend(addresses.vips(spec, gathered));
        part.balanced.extend(addresses.load_balancers());
    }
    if !part.balanced.is_empty() && is_local(spec.external_traffic_policy.as_deref()) {
        let is_v4 = cluster_ips(spec).next().is_some_and(|ip| ip.is_ipv4());
        part.local_ready = ready_nodes(gathered, is_v4);
    }
    part.health = health(spec, gathered);
    part
}

/// Whether a Service has addresses that anybody answers for.
///
/// Source: kube-proxy passes over headless Services, `ExternalName`, and the label
/// `service.kubernetes.io/service-proxy-name`.
fn is_proxied(service: &Service, spec: &ServiceSpec) -> bool {
    const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
    let labels = service.metadata.labels.as_ref();
    spec.type_.as_deref() != Some("ExternalName")
        && !labels.is_some_and(|labels| labels.contains_key(OTHER_PROXY))
}

/// The frontends of a port: what differs between kinds of address.
pub(super) struct PortFrontends {
    /// For the cluster IP.
    pub(super) internal: Frontend,
    /// For all others.
    pub(super) external: Frontend,
}

/// The sets of one port in one family.
struct Sets<'a> {
    part: &'a mut Part,
    candidates: &'a [Candidate],
    layout: &'a Layout,
    balancing: Balancing,
    protocol: Protocol,
    maglev_seed: u32,
    label: u32,
    loads: &'a mut LoadIds,
}

impl Sets<'_> {
    fn frontends(&mut self, spec: &ServiceSpec, cluster: &Cluster, label: u32) -> PortFrontends {
        let internal_local = is_local(spec.internal_traffic_policy.as_deref());
        let is_external = is_reached_from_outside(spec);
        let external_local = is_external && is_local(spec.external_traffic_policy.as_deref());

        let of_cluster = if is_external || !internal_local {
            let categories = categories::of_cluster(self.candidates, &self.layout.places);
            self.add(&categories)
        } else {
            NodeSets::Nowhere
        };
        let of_nodes = if internal_local || external_local {
            let categories = categories::of_nodes(self.candidates);
            self.add(&categories)
        } else {
            NodeSets::Nowhere
        };
        let serving = self.candidates.iter().filter(|c| c.conditions.is_serving());
        let internal = Frontend {
            policy: Policy::Internal { masquerade_all: cluster.settings.cluster.masquerade.all },
            sets: if internal_local { of_nodes.clone() } else { of_cluster.clone() },
            cluster_sets: NodeSets::Nowhere,
            has_backends: categories::any_usable(self.candidates),
            source_ranges: None,
            affinity: affinity(spec, label),
            serving: serving.map(|candidate| candidate.endpoint).collect(),
            label,
        };
        let (policy, sets, cluster_sets) = if external_local {
            (Policy::ExternalLocal, of_nodes, of_cluster)
        } else {
            (Policy::External, of_cluster, NodeSets::Nowhere)
        };
        let external = Frontend { policy, sets, cluster_sets, ..internal.clone() };
        PortFrontends { internal, external }
    }

    /// Adds the sets of these groups; answers which router has which.
    fn add(&mut self, categories: &Categories) -> NodeSets {
        let first = self.part.sets.len();
        for group in &categories.groups {
            let members: Vec<Endpoint> = group
                .iter()
                .filter_map(|at| self.candidates.get(*at))
                .map(|candidate| candidate.endpoint)
                .collect();
            let set = self.set(&members);
            self.part.sets.push(Arc::new(set));
        }
        let id = |group: usize| BackendSetId(number(first + group));
        match &categories.users {
            Users::Nobody => NodeSets::Nowhere,
            Users::Everybody => NodeSets::Everywhere(id(0)),
            Users::Some(users) => NodeSets::per_router(users.iter().filter_map(|(node, group)| {
                let router: RouterId = self.layout.router(*node)?;
                Some((router, id(*group)))
            })),
        }
    }

    fn set(&mut self, members: &[Endpoint]) -> BackendSet {
        let method = self.balancing.method(members, self.protocol, self.maglev_seed);
        let counts = self.balancing == Balancing::LeastConnections;
        let mut load = |endpoint| {
            if counts { self.loads.id(self.label, endpoint) } else { LoadId::NONE }
        };
        let backends: Vec<Backend> = members
            .iter()
            .map(|endpoint| Backend { endpoint: *endpoint, load: load(*endpoint) })
            .collect();
        BackendSet::new(backends, method)
    }
}

fn affinity(spec: &ServiceSpec, group: u32) -> Option<Affinity> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
    Some(Affinity { group, timeout_seconds: seconds.unwrap_or(AFFINITY_SECONDS) })
}

/// Whether a Service is reached from outside at all: the external policy counts for no other.
///
/// Source: kube-proxy `ServicePort.ExternallyAccessible`.
fn is_reached_from_outside(spec: &ServiceSpec) -> bool {
    matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"))
        || spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty())
}

/// 64 bits in 32, all of them counting.
const fn fold(seed: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the halves were put together before")]
    {
        (seed ^ (seed >> 32)) as u32
    }
}

#[cfg(test)]
mod tests;
