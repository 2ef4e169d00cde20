//! The proxies for node ports on 127.0.0.1, kept like those that are wanted.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use k8s_openapi::api::core::v1::Service;
use kswitch_config::{Cluster, Node, NodePorts, PortKind};
use tokio::runtime::Handle;

use crate::agents::loopback::{Proxy, Socket};
use crate::lab::namespace;

/// Whose Services another proxy than Kubernetes' own serves.
///
/// Source: the well-known label of kube-proxy.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";

/// Running proxies by namespace and port, host order.
#[derive(Debug)]
pub(super) struct Loopbacks {
    runtime: Handle,
    proxies: BTreeMap<(String, u16), (SocketAddr, Proxy)>,
}

impl Loopbacks {
    /// None yet.
    pub(super) const fn new(runtime: Handle) -> Self {
        Self { runtime, proxies: BTreeMap::new() }
    }

    /// Stops the proxies of a namespace that is about to go.
    pub(super) fn leave(&mut self, namespace: &str) {
        self.proxies.retain(|(name, _), _| name != namespace);
    }

    /// Stops what is not wanted any more, and starts what does not run. A port that is taken in
    /// its namespace is reported and left out.
    pub(super) fn keep(&mut self, cluster: &Cluster) {
        let wanted = wanted(cluster);
        self.proxies.retain(|place, (target, _)| wanted.get(place) == Some(target));
        for (place, target) in wanted {
            if self.proxies.contains_key(&place) {
                continue;
            }
            let (name, port) = &place;
            let socket = namespace::enter(name, || Socket::open(*port));
            let started = socket
                .and_then(|socket| socket)
                .and_then(|socket| Proxy::start(&self.runtime, socket, target));
            match started {
                Ok(proxy) => {
                    self.proxies.insert(place, (target, proxy));
                }
                Err(error) => {
                    tracing::warn!("{name}: no node port at 127.0.0.1:{port}: {error}");
                }
            }
        }
    }
}

/// Where proxies shall listen, and the address of the node that each leads to.
fn wanted(cluster: &Cluster) -> BTreeMap<(String, u16), SocketAddr> {
    let settings = &cluster.settings.cluster.node_ports;
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if !settings.localhost || !is_offered(settings, &localhost) {
        return BTreeMap::new();
    }
    let ports: Vec<u16> = cluster.services.iter().flat_map(|service| tcp_ports(service)).collect();
    let mut wanted = BTreeMap::new();
    for node in &cluster.nodes {
        let Some(target) = target(settings, node) else { continue };
        let namespace =
            PortKind::Node { name: node.name.clone() }.namespace(&cluster.settings.lab.name);
        for port in &ports {
            wanted.insert((namespace.clone(), *port), SocketAddr::new(target, *port));
        }
    }
    wanted
}

/// Whether an address of a node is among those that node ports are offered at.
fn is_offered(settings: &NodePorts, address: &IpAddr) -> bool {
    let ranges = &settings.addresses;
    ranges.is_empty() || ranges.iter().any(|range| range.contains(address))
}

/// The first address of a node at which it offers node ports over IPv4.
fn target(settings: &NodePorts, node: &Node) -> Option<IpAddr> {
    let v4 = node.addresses.iter().filter(|ip| ip.is_ipv4());
    v4.copied().find(|ip| is_offered(settings, ip))
}

/// The node ports that a Service has for TCP over IPv4.
fn tcp_ports(service: &Service) -> Vec<u16> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let is_exposed = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    let labels = service.metadata.labels.as_ref();
    let is_ours = !labels.is_some_and(|labels| labels.contains_key(OTHER_PROXY));
    let families = spec.ip_families.as_deref().unwrap_or_default();
    if !is_exposed || !is_ours || !families.iter().any(|family| family == "IPv4") {
        return Vec::new();
    }
    let ports = spec.ports.iter().flatten();
    let tcp = ports.filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")));
    tcp.filter_map(|port| u16::try_from(port.node_port?).ok()).filter(|port| *port != 0).collect()
}
