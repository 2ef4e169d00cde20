//! What may be sent from which pod to which, by a naive reading of the policies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kswitch_config::{Cluster, Pod};
use kswitch_tables::Protocol;

use crate::naive::{Machine, Probe, Reading, Seen, Verdict};

/// The port behind every Service of the random labs.
const BACKEND: u16 = 8080;

fn machine(pod: &Pod) -> Machine<'_> {
    if pod.host_network { Machine::Node(pod.node) } else { Machine::Pod(pod) }
}

/// Whether a target, `TCP 10.8.0.20:80`, is an address of a pod or a cluster IP: the naive reading
/// knows of no other frontends.
pub(crate) fn is_compared(cluster: &Cluster, target: &str) -> bool {
    let Some(Ok(end)) = target.strip_prefix("TCP ").map(str::parse::<std::net::SocketAddr>) else {
        return false;
    };
    let is_pods = cluster.pods.iter().any(|pod| pod.addresses.contains(&end.ip()));
    is_pods && end.port() != 80 || cluster_ips(cluster).iter().any(|(_, ip)| *ip == end.ip())
}

/// Every cluster IP, and the index of its Service.
fn cluster_ips(cluster: &Cluster) -> Vec<(usize, IpAddr)> {
    let ips = cluster.services.iter().enumerate().flat_map(|(at, service)| {
        let ips = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
        ips.filter_map(move |ip| Some((at, ip.parse().ok()?)))
    });
    ips.collect()
}

/// What becomes of what each pod sends to each pod and each cluster IP, whichever backend is chosen:
/// by sender and target.
pub(crate) fn of(cluster: &Cluster) -> BTreeMap<(String, String), BTreeSet<bool>> {
    let seen = Seen::default();
    let reading = Reading::new(cluster, &seen);
    let mut pairs = BTreeMap::new();
    let senders = cluster.pods.iter().filter(|pod| !pod.host_network);
    for (from, source) in
        senders.flat_map(|pod| pod.addresses.iter().map(move |address| (pod, *address)))
    {
        let name = format!("{}/{}", from.namespace, from.name);
        let passes = |to: &Pod, target: IpAddr, port: u16, is_translated: bool| {
            let probe = Probe {
                source: (Machine::Pod(from), source),
                target: (machine(to), target),
                protocol: Protocol::TCP,
                port,
                is_translated,
            };
            !matches!(reading.judge(&probe), Verdict::Denied(_))
        };
        let fits = |target: &IpAddr| target.is_ipv4() == source.is_ipv4();
        for to in &cluster.pods {
            for target in to.addresses.iter().filter(|target| fits(target) && **target != source) {
                for port in to.container_ports() {
                    let port = u16::try_from(port.container_port).unwrap();
                    let end = std::net::SocketAddr::new(*target, port);
                    let verdict = passes(to, *target, port, false);
                    pairs.insert((name.clone(), format!("TCP {end}")), BTreeSet::from([verdict]));
                }
            }
        }
        for (service, ip) in cluster_ips(cluster).into_iter().filter(|(_, ip)| fits(ip)) {
            let service = &cluster.services[service];
            let spec = service.spec.as_ref().unwrap();
            let is_local = spec.internal_traffic_policy.as_deref() == Some("Local");
            let selects = |pod: &Pod| {
                service.metadata.namespace.as_deref() == Some(&*pod.namespace)
                    && kswitch_config::Labels::get(pod.labels(), "app")
                        == spec.selector.as_ref().and_then(|it| it.get("app").map(String::as_str))
                    && (!is_local || pod.node == from.node)
            };
            let ends = cluster.pods.iter().filter(|pod| selects(pod)).filter_map(|pod| {
                let target = *pod.addresses.iter().find(|target| fits(target))?;
                Some(passes(pod, target, BACKEND, true))
            });
            let target = std::net::SocketAddr::new(ip, 80);
            pairs.insert((name.clone(), format!("TCP {target}")), ends.collect());
        }
    }
    pairs
}
