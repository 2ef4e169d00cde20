//! What each machine of the plan needs of the lab: its namespace, files and listeners.

use kswitch_config::{Cluster, PlannedPort, Pod, PortKind};

use crate::agents::echo::{EchoPort, Identity};
use crate::lab::HostSpec;

/// What every machine of the lab calls its interface.
pub(crate) const INTERFACE: &str = "eth0";

/// Queues of a TAP: one, since a machine of the lab is rarely worth two workers.
const QUEUES: usize = 1;

/// The name servers a pod may list, and the octets of its search list.
///
/// Source: resolv.conf(5); KEP-2595.
const NAME_SERVERS_MAX: usize = 3;

/// What the lab must make for a port of the plan.
pub(super) fn host_spec(cluster: &Cluster, planned: &PlannedPort) -> HostSpec {
    let switch = &cluster.settings.switch;
    let (hostname, resolv_conf) = match &planned.kind {
        PortKind::Pod { namespace, name } => {
            let hostname = cluster
                .pod(namespace, name)
                .and_then(|pod| pod.object.spec.as_ref()?.hostname.clone())
                .unwrap_or_else(|| name.clone());
            (hostname, Some(resolv_conf(cluster, Some(namespace))))
        }
        // a node resolves as the machine outside the cluster that it is
        PortKind::Node { name } => (name.clone(), Some(resolv_conf(cluster, None))),
        PortKind::External { name } => (name.clone(), None),
    };
    HostSpec {
        namespace: planned.namespace.clone(),
        hostname,
        interface: INTERFACE.into(),
        mac: planned.mac.0,
        mtu: planned.mtu,
        addresses: planned.addresses.iter().map(|net| (net.addr(), net.prefix_len())).collect(),
        gateways: planned.gateways.iter().map(|gateway| gateway.address).collect(),
        loopback: planned.loopback.clone(),
        resolv_conf,
        hosts: None,
        queues: QUEUES,
        plain: !switch.offloads,
    }
}

/// `/etc/resolv.conf` under `dnsPolicy: ClusterFirst`; without a namespace, without a search list.
///
/// Source: Kubernetes "DNS for Services and Pods", Pod's DNS Policy.
fn resolv_conf(cluster: &Cluster, namespace: Option<&str>) -> String {
    use std::fmt::Write;
    let settings = &cluster.settings.cluster;
    let domain = &settings.domain;
    let mut text = String::new();
    if let Some(namespace) = namespace {
        // writing to a string cannot fail
        let _ = writeln!(text, "search {namespace}.svc.{domain} svc.{domain} {domain}");
    }
    for server in settings.dns_addresses.iter().take(NAME_SERVERS_MAX) {
        let _ = writeln!(text, "nameserver {server}");
    }
    if namespace.is_some() {
        text.push_str("options ndots:5\n");
    }
    text
}

/// A machine's echo server: where its sockets are, which they are, and who it says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EchoSpec {
    pub(super) namespace: String,
    pub(super) ports: Vec<EchoPort>,
    pub(super) identity: Identity,
}

/// The echo servers of the cluster, by the name of the port or pod they belong to.
pub(super) fn echo_specs(cluster: &Cluster) -> impl Iterator<Item = (PortKind, EchoSpec)> {
    let lab = &cluster.settings.lab.name;
    let pods = cluster.pods.iter().map(move |pod| {
        let kind = PortKind::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() };
        (kind.clone(), pod_echo(cluster, lab, kind, pod))
    });
    let externals = cluster.externals.iter().map(move |external| {
        let kind = PortKind::External { name: external.name.clone() };
        let identity = Identity {
            name: external.name.clone(),
            hostname: external.name.clone(),
            namespace: None,
            node: None,
            addresses: external.addresses.iter().map(ipnet::IpNet::addr).collect(),
        };
        let spec = EchoSpec {
            namespace: kind.namespace(lab),
            ports: EchoPort::DEFAULT.to_vec(),
            identity,
        };
        (kind, spec)
    });
    pods.chain(externals)
}

fn pod_echo(cluster: &Cluster, lab: &str, kind: PortKind, pod: &Pod) -> EchoSpec {
    let node = cluster.nodes.get(pod.node).map(|node| node.name.clone());
    let home = match &node {
        Some(node) if pod.host_network => PortKind::Node { name: node.clone() },
        _ => kind,
    };
    let hostname = pod.object.spec.as_ref().and_then(|spec| spec.hostname.clone());
    let ports = pod.container_ports().filter_map(|port| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        Some((protocol, u16::try_from(port.container_port).ok()?))
    });
    EchoSpec {
        namespace: home.namespace(lab),
        ports: EchoPort::of_pod(ports),
        identity: Identity {
            name: pod.name.clone(),
            hostname: hostname.unwrap_or_else(|| pod.name.clone()),
            namespace: Some(pod.namespace.clone()),
            node,
            addresses: pod.addresses.clone(),
        },
    }
}
