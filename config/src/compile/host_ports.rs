//! Ports of nodes that lead to one pod.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ContainerPort;
use kswitch_tables::{
    Address, BackendSet, Endpoint, Frontend, Method, NodeSets, Policy, Protocol, RouterId, Served,
};

use super::Layout;
use crate::endpoints::protocol;
use crate::{Cluster, Pod};

/// A port of a node that leads to a pod.
#[derive(Clone, Debug)]
pub(super) struct HostPort {
    /// The pod.
    pub(super) pod: Arc<Pod>,
    /// The port of the node, host order.
    pub(super) port: u16,
    /// Its protocol.
    pub(super) protocol: Protocol,
    router: RouterId,
    /// On which address of the node; `None`: on all of the family.
    at: Option<Address>,
    backend: Endpoint,
}

/// Every host port of a cluster, in the order of the pods. Nobody reserves them: of several that
/// are the same the last one counts, and all of them come before node ports.
///
/// Source: `ContainerPort.hostPort`, `ContainerPort.hostIP`; CNI portmap.
pub(super) fn all(cluster: &Cluster, layout: &Layout) -> Vec<HostPort> {
    let mut all = Vec::new();
    let pods = cluster.pods.iter().filter(|pod| !pod.host_network && !pod.is_finished());
    for pod in pods {
        let Some(router) = layout.routers.get(pod.node).copied() else { continue };
        for port in pod.container_ports() {
            all.extend(of_port(pod, port, router));
        }
    }
    all
}

impl HostPort {
    /// Whether it is that of the same pod, and leads there the same way.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let Self { pod, port, protocol, router, at, backend } = self;
        Arc::ptr_eq(pod, &other.pod)
            && (*port, *protocol, *router) == (other.port, other.protocol, other.router)
            && (*at, *backend) == (other.at, other.backend)
    }
}

/// One host port for each family of the pod.
fn of_port(pod: &Arc<Pod>, port: &ContainerPort, router: RouterId) -> Vec<HostPort> {
    let host_port = port.host_port.and_then(|port| u16::try_from(port).ok()).filter(|n| *n != 0);
    let (Some(number), Some(protocol), Ok(target)) =
        (host_port, protocol(port.protocol.as_deref()), u16::try_from(port.container_port))
    else {
        return Vec::new();
    };
    let host_ip = port.host_ip.as_deref().filter(|ip| !ip.is_empty());
    let host_ip: Option<IpAddr> = host_ip.and_then(|ip| ip.parse().ok());
    let families = [true, false].into_iter();
    let families = families.filter(|is_v4| host_ip.is_none_or(|ip| ip.is_ipv4() == *is_v4));
    let first = |is_v4| pod.addresses.iter().find(move |ip| ip.is_ipv4() == is_v4);
    families
        .filter_map(first)
        .map(|address| HostPort {
            pod: Arc::clone(pod),
            port: number,
            protocol,
            router,
            at: host_ip.filter(|ip| !ip.is_unspecified()).map(Address::from),
            backend: Endpoint::new((*address).into(), target),
        })
        .collect()
}

/// Adds a host port under this label.
pub(super) fn serve(merged: &mut Served, host_port: &HostPort, label: u32) {
    let HostPort { port, protocol, router, at, backend, .. } = *host_port;
    let set = merged.backends.add(BackendSet::new([backend.into()], Method::Random));
    let id = merged.frontends.add(Frontend {
        policy: Policy::HostPort,
        sets: NodeSets::Everywhere(set),
        cluster_sets: NodeSets::Nowhere,
        has_backends: true,
        source_ranges: None,
        affinity: None,
        serving: Arc::new([backend]),
        label,
    });
    let frontends = &mut merged.frontends;
    match at {
        Some(address) => frontends.serve_on_router_address(router, address, protocol, port, id),
        None => {
            frontends.serve_on_router(router, backend.address.is_v4(), protocol, port, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{address, cluster, compiled, members, pod_of, router};
    use super::*;
    use crate::compile::Compiled;
    use serde_json::json;

    fn pod(name: &str, node: usize, addresses: &[&str], port: &serde_json::Value) -> Arc<Pod> {
        let spec = json!({ "spec": { "containers": [{ "name": "main", "ports": [port] }] } });
        pod_of(name, node, addresses, &spec)
    }

    /// Where a port of a node's address leads to.
    fn to(compiled: &Compiled, node: usize, at: &str, port: u16) -> Option<Vec<String>> {
        let frontends = &compiled.snapshot.served.frontends;
        let id = frontends.at_router(router(node), address(at), Protocol::TCP, port)?;
        Some(members(compiled, frontends.get(id).unwrap(), node))
    }

    #[test]
    fn a_host_port_leads_to_its_pod_on_its_node_only() {
        let mut cluster = cluster();
        let port = json!({ "containerPort": 80, "hostPort": 4444 });
        cluster.pods = vec![pod("a", 0, &["10.4.0.5", "fd00:4::5"], &port)];
        let compiled = compiled(&cluster);
        assert_eq!(to(&compiled, 0, "10.128.0.2", 4444).unwrap(), ["10.4.0.5:80"]);
        assert_eq!(to(&compiled, 0, "fd00:128::2", 4444).unwrap(), ["[fd00:4::5]:80"]);
        assert_eq!(to(&compiled, 1, "10.128.0.3", 4444), None);
        assert_eq!(to(&compiled, 0, "10.128.0.2", 80), None);
    }

    #[test]
    fn a_host_ip_narrows_it() {
        let mut cluster = cluster();
        let port = |ip| json!({ "containerPort": 80, "hostPort": 4444, "hostIP": ip });
        let addresses = ["10.4.0.5", "fd00:4::5"];
        cluster.pods = vec![pod("a", 0, &addresses, &port("10.128.0.2"))];
        let on_one = compiled(&cluster);
        assert!(to(&on_one, 0, "10.128.0.2", 4444).is_some());
        assert!(to(&on_one, 0, "10.128.0.9", 4444).is_none());
        cluster.pods = vec![pod("a", 0, &addresses, &port("::"))];
        let on_v6 = compiled(&cluster);
        assert!(to(&on_v6, 0, "10.128.0.2", 4444).is_none());
        assert!(to(&on_v6, 0, "fd00:128::2", 4444).is_some());
    }

    #[test]
    fn the_last_pod_has_it() {
        let mut cluster = cluster();
        let port = json!({ "containerPort": 80, "hostPort": 4444 });
        cluster.pods = vec![pod("a", 0, &["10.4.0.5"], &port), pod("b", 0, &["10.4.0.6"], &port)];
        assert_eq!(to(&compiled(&cluster), 0, "10.128.0.2", 4444).unwrap(), ["10.4.0.6:80"]);
    }

    #[test]
    fn pods_of_the_host_network_need_none() {
        let mut cluster = cluster();
        let port = json!({ "containerPort": 80, "hostPort": 80 });
        let mut pod = Pod::clone(&pod("a", 0, &["10.128.0.2"], &port));
        pod.host_network = true;
        cluster.pods = vec![pod.into()];
        assert_eq!(to(&compiled(&cluster), 0, "10.128.0.2", 80), None);
    }
}
