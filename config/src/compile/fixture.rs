//! Small clusters for tests.

use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kswitch_tables::{Address, Endpoint, Frontend, Generation, Protocol, RouterId};
use serde_json::{Value, json};

use super::{Compiled, compile};
use crate::{Cluster, External, HostNetwork, Node, Observed, Pod};

pub(crate) fn address(text: &str) -> Address {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

pub(crate) fn endpoint(text: &str) -> Endpoint {
    let socket: std::net::SocketAddr = text.parse().unwrap();
    Endpoint::new(socket.ip().into(), socket.port())
}

pub(crate) fn node(name: &str, zone: &str, addresses: &[&str], ranges: &[&str]) -> Arc<Node> {
    Arc::new(Node {
        name: name.into(),
        zone: (!zone.is_empty()).then(|| zone.into()),
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        pod_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        taints: Vec::new(),
        ready: true,
        unschedulable: false,
        object: Arc::default(),
    })
}

/// A ready pod with label `app`, in namespace `default`.
pub(crate) fn pod(name: &str, node: usize, addresses: &[&str], app: &str) -> Arc<Pod> {
    pod_of(
        name,
        node,
        addresses,
        &json!({
            "metadata": { "labels": { "app": app } },
            "spec": { "containers": [{ "name": "main", "ports": [{ "name": "web", "containerPort": 8080 }] }] },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        }),
    )
}

pub(crate) fn pod_of(name: &str, node: usize, addresses: &[&str], object: &Value) -> Arc<Pod> {
    Arc::new(Pod {
        namespace: "default".into(),
        name: name.into(),
        node,
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        host_network: false,
        object: Arc::new(serde_json::from_value(object.clone()).unwrap()),
    })
}

pub(crate) fn service(name: &str, spec: &Value) -> Arc<Service> {
    service_of(&json!({ "metadata": { "name": name, "namespace": "default" }, "spec": spec }))
}

/// A Service with what is filled in at load: its families.
pub(crate) fn service_of(object: &Value) -> Arc<Service> {
    let mut service: Service = serde_json::from_value(object.clone()).unwrap();
    let spec = service.spec.as_mut().unwrap();
    let ips = spec.cluster_ips.clone().unwrap_or_else(|| spec.cluster_ip.iter().cloned().collect());
    let family = |ip: &String| if ip.contains(':') { "IPv6" } else { "IPv4" };
    spec.ip_families = Some(ips.iter().map(|ip| family(ip).to_owned()).collect());
    Arc::new(service)
}

pub(crate) fn slice(
    service: &str,
    family: &str,
    endpoints: &Value,
    ports: &Value,
) -> Arc<EndpointSlice> {
    let object = json!({
        "metadata": {
            "name": format!("{service}-1"),
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": ports,
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

/// Two dual-stack nodes in zones of their own, a host outside, and no pods.
pub(crate) fn cluster() -> Cluster {
    let nets =
        |texts: &[&str]| texts.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
    let mut cluster = Cluster {
        nodes: vec![
            node(
                "node-a",
                "zone-1",
                &["10.128.0.2", "fd00:128::2"],
                &["10.4.0.0/24", "fd00:4:0:0::/64"],
            ),
            node(
                "node-b",
                "zone-2",
                &["10.128.0.3", "fd00:128::3"],
                &["10.4.1.0/24", "fd00:4:0:1::/64"],
            ),
        ],
        externals: vec![External {
            name: "internet".into(),
            addresses: nets(&["198.51.100.7/24"]),
            gateways: vec!["198.51.100.1".parse().unwrap()],
            routes: Vec::new(),
            mtu: None,
            interface: None,
            network: HostNetwork::Internet,
        }],
        ..Cluster::default()
    };
    cluster.settings.cluster.pod_cidrs = nets(&["10.4.0.0/14", "fd00:4::/48"]);
    cluster.settings.cluster.service_cidrs = nets(&["10.8.0.0/20", "fd00:8::/112"]);
    cluster
}

pub(crate) fn compiled(cluster: &Cluster) -> Compiled {
    compile(cluster, &Observed::default(), Generation(1), 7)
}

/// The frontend at an address and port for TCP.
pub(crate) fn at<'c>(compiled: &'c Compiled, to: &str) -> &'c Frontend {
    let Endpoint { address, port } = endpoint(to);
    let frontends = &compiled.snapshot.served.frontends;
    frontends.get(frontends.at_address(address, Protocol::TCP, port).unwrap()).unwrap()
}

/// The members that traffic of the frontend's own policy has on a node.
pub(crate) fn members(compiled: &Compiled, frontend: &Frontend, node: usize) -> Vec<String> {
    members_of(compiled, frontend.sets.at(router(node)))
}

/// The members that traffic from inside has on a node where the policy is local.
pub(crate) fn cluster_members(
    compiled: &Compiled,
    frontend: &Frontend,
    node: usize,
) -> Vec<String> {
    members_of(compiled, frontend.cluster_sets.at(router(node)))
}

fn members_of(compiled: &Compiled, set: Option<kswitch_tables::BackendSetId>) -> Vec<String> {
    let backends = &compiled.snapshot.served.backends;
    let members = set.map_or(&[][..], |set| backends.members(set));
    members.iter().map(|backend| backend.endpoint.to_string()).collect()
}

pub(crate) fn router(node: usize) -> RouterId {
    RouterId(u16::try_from(node).unwrap() + 1)
}
