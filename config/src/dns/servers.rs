//! Which pods are name servers.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::addons::{NAMESPACE, SERVICE};
use crate::endpoints::{protocol, selects, target_port};
use crate::{Cluster, Pod};
use kswitch_tables::Protocol;

/// A pod that is a name server.
#[derive(Clone, Debug)]
pub struct NameServer {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Where it is asked by UDP, host order.
    pub udp: Vec<u16>,
    /// Where it is asked by TCP, host order.
    pub tcp: Vec<u16>,
}

/// The pods behind the Service `kube-system/kube-dns`, but for those that bring a program of their
/// own.
pub fn name_servers(cluster: &Cluster) -> Vec<NameServer> {
    let Some(service) = cluster.service(NAMESPACE, SERVICE) else { return Vec::new() };
    let brings_own = |pod: &Pod| pod.containers().any(|container| cluster.runs(container));
    let pods = cluster.pods.iter().filter(|pod| selects(service, pod) && !brings_own(pod));
    let server = |pod: &Arc<Pod>| {
        let ports = |wanted: Protocol| -> Vec<u16> {
            let all = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
            let own = all.filter(|port| protocol(port.protocol.as_deref()) == Some(wanted));
            let numbers: BTreeSet<u16> = own.filter_map(|port| target_port(pod, port)).collect();
            numbers.into_iter().collect()
        };
        NameServer { pod: Arc::clone(pod), udp: ports(Protocol::UDP), tcp: ports(Protocol::TCP) }
    };
    pods.map(server).collect()
}
