//! What each machine of the plan needs of the lab: its namespace, files and listeners.

use std::collections::HashMap;
use std::sync::Arc;

use kswitch_config::{
    Cluster, InterfaceKind, NameServer, PlannedPort, Pod, PortKind, name_servers,
};

use super::etc;
use crate::agents::echo::{EchoPort, Identity, Speaks};
use crate::lab::{Existing, HostSpec};
use crate::port::tap::MAX_QUEUES;

/// What every machine of the lab calls its interface.
pub(crate) const INTERFACE: &str = "eth0";

/// Queues of a TAP: a machine of the lab is rarely worth two workers. A host outside stands for all
/// of the outside, and has one for every worker.
fn queues(kind: &PortKind, workers: usize) -> usize {
    match kind {
        PortKind::External { .. } => workers.clamp(1, MAX_QUEUES),
        PortKind::Pod { .. } | PortKind::Node { .. } => 1,
    }
}

/// What the lab must make for a port of the plan.
pub(super) fn host_spec(cluster: &Cluster, planned: &PlannedPort, workers: usize) -> HostSpec {
    let switch = &cluster.settings.switch;
    let Files { hostname, resolv_conf, hosts } = files(cluster, &planned.kind);
    HostSpec {
        namespace: planned.namespace.clone(),
        hostname,
        interface: INTERFACE.into(),
        mac: planned.mac.0,
        mtu: planned.mtu,
        addresses: planned.addresses.iter().map(|net| (net.addr(), net.prefix_len())).collect(),
        gateways: planned.gateways.iter().map(|gateway| gateway.address).collect(),
        loopback: planned.loopback.clone(),
        forwards: forwards(cluster, &planned.kind),
        resolv_conf,
        hosts,
        queues: queues(&planned.kind, workers),
        plain: !(switch.offloads && takes_offloads(cluster, &planned.kind)),
        existing: planned.interface.as_ref().map(|interface| match interface.kind {
            InterfaceKind::Packet => Existing::Packet(interface.name.clone()),
            InterfaceKind::Xdp => Existing::Xdp(interface.name.clone()),
        }),
    }
}

/// Whether a machine has others behind it.
fn forwards(cluster: &Cluster, kind: &PortKind) -> bool {
    let PortKind::External { name } = kind else { return false };
    cluster.externals.iter().any(|host| host.name == *name && !host.routes.is_empty())
}

fn takes_offloads(cluster: &Cluster, kind: &PortKind) -> bool {
    let PortKind::Pod { namespace, name } = kind else { return true };
    cluster.pod(namespace, name).is_none_or(|pod| pod.takes_offloads())
}

/// What a machine's processes find under `/etc` instead of the machine's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) hostname: String,
    pub(super) resolv_conf: Option<String>,
    pub(super) hosts: Option<String>,
}

/// The files of a machine.
pub(super) fn files(cluster: &Cluster, kind: &PortKind) -> Files {
    match kind {
        PortKind::Pod { namespace, name } => match cluster.pod(namespace, name) {
            Some(pod) => files_of_pod(cluster, pod),
            None => Files { hostname: name.clone(), ..Files::default() },
        },
        PortKind::Node { name } => {
            let resolv_conf = Some(etc::of_node(cluster));
            Files { hostname: name.clone(), resolv_conf, hosts: None }
        }
        PortKind::External { name } => Files { hostname: name.clone(), ..Files::default() },
    }
}

fn files_of_pod(cluster: &Cluster, pod: &Pod) -> Files {
    Files {
        hostname: etc::hostname(cluster, pod),
        resolv_conf: Some(etc::of_pod(cluster, pod)),
        hosts: Some(etc::hosts(cluster, pod)),
    }
}

/// The files of pods that are not as they were, by the namespace that they are in. Pods that came
/// have theirs already.
pub(super) fn changed_files(before: &Cluster, after: &Cluster) -> Vec<(String, Files)> {
    let same_settings = before.settings.cluster == after.settings.cluster;
    let old: HashMap<(&str, &str), &Arc<Pod>> =
        before.pods.iter().map(|pod| ((&*pod.namespace, &*pod.name), pod)).collect();
    let pods = after.pods.iter().filter(|pod| !pod.host_network).filter_map(|pod| {
        let old = *old.get(&(&*pod.namespace, &*pod.name))?;
        if same_settings && Arc::ptr_eq(old, pod) {
            return None;
        }
        let files = files_of_pod(after, pod);
        let kind = PortKind::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() };
        (files != files_of_pod(before, old))
            .then(|| (kind.namespace(&after.settings.lab.name), files))
    });
    pods.collect()
}

/// Whose network a pod lives in.
pub(super) fn home(cluster: &Cluster, pod: &Pod) -> PortKind {
    let node = cluster.nodes.get(pod.node).filter(|_| pod.host_network);
    node.map_or_else(
        || PortKind::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() },
        |node| PortKind::Node { name: node.name.clone() },
    )
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
    let servers = name_servers(cluster);
    let pods = cluster.pods.iter().map(move |pod| {
        let kind = PortKind::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() };
        let server = servers.iter().find(|server| Arc::ptr_eq(&server.pod, pod));
        (kind, pod_echo(cluster, lab, pod, server))
    });
    // load balancers answer for others
    let is_proxy = |name: &str| cluster.proxies.iter().any(|proxy| proxy.name == name);
    let hosts = cluster.externals.iter().filter(move |host| !is_proxy(&host.name));
    let externals = hosts.map(move |external| {
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

fn pod_echo(cluster: &Cluster, lab: &str, pod: &Pod, server: Option<&NameServer>) -> EchoSpec {
    let node = cluster.nodes.get(pod.node).map(|node| node.name.clone());
    let hostname = pod.object.spec.as_ref().and_then(|spec| spec.hostname.clone());
    // those that bring a program open their ports themselves
    let stood_in = pod.containers().filter(|container| !cluster.runs(container));
    let named = stood_in.flat_map(|container| container.ports.iter().flatten());
    let named: Vec<_> = named
        .filter_map(|port| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            Some((protocol, u16::try_from(port.container_port).ok()?))
        })
        .collect();
    let has_programs = pod.containers().any(|container| cluster.runs(container));
    let mut ports =
        if has_programs && named.is_empty() { Vec::new() } else { EchoPort::of_pod(named) };
    if let Some(NameServer { udp, tcp, .. }) = server {
        ports.retain(|port| match port.speaks {
            Speaks::Datagrams => !udp.contains(&port.number),
            Speaks::Sctp => true,
            Speaks::Http | Speaks::Text | Speaks::HttpOrText => !tcp.contains(&port.number),
        });
    }
    EchoSpec {
        namespace: home(cluster, pod).namespace(lab),
        ports,
        identity: Identity {
            name: pod.name.clone(),
            hostname: hostname.unwrap_or_else(|| pod.name.clone()),
            namespace: Some(pod.namespace.clone()),
            node,
            addresses: pod.addresses.clone(),
        },
    }
}
