//! Where a Service is reached, and what is told about it outside.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use kswitch_tables::{Address, Frontend, Prefix, Protocol, SourceRanges, SourceRangesId};

use super::parse_net;
use super::service::{Health, Part, PortFrontends, Site, Vip};
use crate::Cluster;
use crate::endpoints::{NOWHERE, NodeIndex, PortCandidates};
use crate::network_balancer::{ingress_of, is_vip};

/// The cluster IPs of a Service; none if it is headless.
pub(super) fn cluster_ips(spec: &ServiceSpec) -> impl Iterator<Item = IpAddr> {
    let all = spec.cluster_ips.as_deref().unwrap_or_default();
    let single = spec.cluster_ip.iter().filter(|_| all.is_empty());
    single.chain(all).filter_map(|text| text.parse().ok())
}

/// Whether a traffic policy keeps traffic on its node.
pub(super) fn is_local(policy: Option<&str>) -> bool {
    policy == Some("Local")
}

/// The addresses of a Service in one family.
pub(super) struct Addresses {
    pub(super) cluster_ip: Address,
    external_ips: Vec<Address>,
    load_balancers: Vec<Address>,
    has_node_ports: bool,
}

impl Addresses {
    pub(super) fn of(service: &Service, spec: &ServiceSpec, cluster_ip: IpAddr) -> Self {
        let of_family = |text: &String| {
            let ip: IpAddr = text.trim().parse().ok()?;
            (ip.is_ipv4() == cluster_ip.is_ipv4()).then(|| Address::from(ip))
        };
        let is_balancer = spec.type_.as_deref() == Some("LoadBalancer");
        let vips = ingress_of(service).filter(|at| is_balancer && is_vip(at.ip_mode.as_deref()));
        Self {
            cluster_ip: cluster_ip.into(),
            external_ips: spec.external_ips.iter().flatten().filter_map(of_family).collect(),
            load_balancers: vips.filter_map(|vip| of_family(vip.ip.as_ref()?)).collect(),
            has_node_ports: matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer")),
        }
    }

    /// Who may use the load balancer's addresses; `None` for everybody.
    ///
    /// Where the ranges hold a node, the addresses themselves may be sources: a node may have sent
    /// to one of them as if it were its own.
    /// Source: `ServiceSpec.loadBalancerSourceRanges`.
    pub(super) fn source_ranges(
        &self,
        spec: &ServiceSpec,
        cluster: &Cluster,
        seed: u64,
    ) -> Option<SourceRanges> {
        let written = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
        let ranges = written.iter().filter_map(|text| parse_net(text));
        let mut ranges: Vec<Prefix> =
            ranges.filter(|range| range.address().is_v4() == self.cluster_ip.is_v4()).collect();
        if ranges.is_empty() || self.load_balancers.is_empty() {
            return None;
        }
        let mut nodes = cluster.nodes.iter().flat_map(|node| &node.addresses);
        let holds = |ip: &IpAddr| ranges.iter().any(|range| range.contains((*ip).into()));
        if nodes.any(holds) {
            ranges.extend(self.load_balancers.iter().copied().map(Prefix::host));
        }
        Some(SourceRanges::new(seed, ranges))
    }

    pub(super) fn serve(
        &self,
        part: &mut Part,
        port: &ServicePort,
        protocol: Protocol,
        frontends: PortFrontends,
        ranges: Option<SourceRangesId>,
    ) {
        let PortFrontends { internal, external } = frontends;
        let Ok(number) = u16::try_from(port.port) else { return };
        let at = |address: &Address| Site::Address(*address, number);
        part.frontends.push((internal, protocol, vec![at(&self.cluster_ip)]));

        let mut sites: Vec<Site> = self.external_ips.iter().map(at).collect();
        let balancers = self.load_balancers.iter().map(at);
        if let Some(ranges) = ranges {
            let guarded = Frontend { source_ranges: Some(ranges), ..external.clone() };
            part.frontends.push((guarded, protocol, balancers.collect()));
        } else {
            sites.extend(balancers);
        }
        let node_port = port.node_port.and_then(|port| u16::try_from(port).ok());
        if let Some(port) = node_port.filter(|port| self.has_node_ports && *port != 0) {
            sites.push(Site::EveryNode { is_v4: self.cluster_ip.is_v4(), port });
        }
        if !sites.is_empty() {
            part.frontends.push((external, protocol, sites));
        }
    }

    /// The addresses of its load balancer.
    pub(super) fn load_balancers(&self) -> impl Iterator<Item = Address> {
        self.load_balancers.iter().copied()
    }

    /// What else is known outside, and at which nodes it may enter.
    pub(super) fn vips(&self, spec: &ServiceSpec, gathered: &[PortCandidates]) -> Vec<Vip> {
        let is_local = is_local(spec.external_traffic_policy.as_deref());
        let ready = || ready_nodes(gathered, self.cluster_ip.is_v4());
        let healthy: Option<Vec<NodeIndex>> =
            is_local.then(|| ready().into_iter().map(|(node, _)| node).collect());
        self.external_ips
            .iter()
            .map(|address| Vip { address: *address, healthy: healthy.clone() })
            .collect()
    }
}

/// The health check of a Service whose traffic from outside stays where it enters.
///
/// Source: `ServiceSpec.healthCheckNodePort`.
pub(super) fn health(spec: &ServiceSpec, gathered: &[PortCandidates]) -> Option<Health> {
    let is_balancer = spec.type_.as_deref() == Some("LoadBalancer");
    let port = spec.health_check_node_port.filter(|port| *port != 0)?;
    if !is_balancer || !is_local(spec.external_traffic_policy.as_deref()) {
        return None;
    }
    let is_v4 = cluster_ips(spec).next()?.is_ipv4();
    Some(Health { port: u16::try_from(port).ok()?, ready: ready_nodes(gathered, is_v4) })
}

/// Nodes with ready endpoints, and how many addresses that are, whatever their ports.
pub(super) fn ready_nodes(gathered: &[PortCandidates], is_v4: bool) -> Vec<(NodeIndex, usize)> {
    let of_family = gathered.iter().filter(|of_port| of_port.is_v4 == is_v4);
    let candidates = of_family.flat_map(|of_port| &of_port.candidates);
    let ready = candidates.filter(|c| c.conditions.ready && c.node != NOWHERE);
    let mut addresses: Vec<_> = ready.map(|c| (c.node, c.endpoint.address)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let mut nodes: Vec<(NodeIndex, usize)> = Vec::new();
    for (node, _) in addresses {
        match nodes.last_mut() {
            Some((last, count)) if *last == node => *count += 1,
            _ => nodes.push((node, 1)),
        }
    }
    nodes
}
