//! Pod ranges for the nodes of a case, which as a rule names none.
//!
//! Pods of a node that share a /24 (or /64) share a link, as long as nobody else has an address in
//! that range. All other pods get a link of their own. A range that is of no use to anybody is given
//! where there is none, so that nodes have what nodes have.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::format::{Change, Pod, Topology};

/// Unused ranges that are tried, from the last one of the pods' ranges backwards.
const UNUSED_TRIES: u128 = 1024;

/// The pod ranges of each node of the topology, in order; `changes` may bring more pods.
pub fn pod_ranges<'c>(
    topology: &Topology,
    changes: impl IntoIterator<Item = &'c Change>,
    others: &[IpAddr],
) -> Vec<Vec<IpNet>> {
    let mut pods: Vec<&Pod> = topology.pods.iter().collect();
    pods.extend(changes.into_iter().filter_map(|change| match change {
        Change::AddPod(pod) => Some(pod),
        _ => None,
    }));
    pods.retain(|pod| !pod.host_network);
    let mut strangers: Vec<IpAddr> = others.to_vec();
    strangers.extend(topology.nodes.iter().flat_map(|node| &node.ips));
    strangers.extend(topology.externals.iter().flat_map(|host| &host.ips));
    let places = Places { topology, pods, strangers };

    let mut ranges: Vec<Vec<IpNet>> =
        topology.nodes.iter().map(|node| node.pod_cidrs.clone()).collect();
    for (node, ranges) in topology.nodes.iter().zip(&mut ranges) {
        for is_v4 in [true, false] {
            if ranges.iter().all(|range| range.addr().is_ipv4() != is_v4) {
                ranges.extend(places.shared(&node.name, is_v4));
            }
        }
    }
    for at in 0..ranges.len() {
        for cidr in &topology.cluster.pod_cidrs {
            let has = |range: &IpNet| range.addr().is_ipv4() == cidr.addr().is_ipv4();
            if ranges.get(at).is_some_and(|own| own.iter().any(has)) {
                continue;
            }
            let taken: Vec<IpNet> = ranges.iter().flatten().copied().collect();
            let unused = places.unused(*cidr, &taken);
            if let Some(own) = ranges.get_mut(at) {
                own.extend(unused);
            }
        }
    }
    ranges
}

struct Places<'t> {
    topology: &'t Topology,
    pods: Vec<&'t Pod>,
    /// Addresses of machines that are no pods.
    strangers: Vec<IpAddr>,
}

impl Places<'_> {
    /// The range in which most pods of the node share a link.
    fn shared(&self, node: &str, is_v4: bool) -> Option<IpNet> {
        let length = if is_v4 { 24 } else { 64 };
        let mut ranges: BTreeMap<IpNet, usize> = BTreeMap::new();
        let own = self.pods.iter().filter(|pod| pod.node == node).flat_map(|pod| &pod.ips);
        for ip in own.filter(|ip| ip.is_ipv4() == is_v4) {
            if let Ok(range) = IpNet::new(*ip, length) {
                *ranges.entry(range.trunc()).or_default() += 1;
            }
        }
        ranges.retain(|range, _| self.is_of(*range, node));
        ranges.into_iter().max_by_key(|(_, pods)| *pods).map(|(range, _)| range)
    }

    /// Whether nobody but pods of the node has an address in the range, and none the gateway's.
    fn is_of(&self, range: IpNet, node: &str) -> bool {
        let fits = |pod: &&Pod| {
            let mut inside = pod.ips.iter().filter(|ip| range.contains(*ip));
            inside.all(|ip| pod.node == node && is_for_pods(range, *ip))
        };
        self.pods.iter().all(fits) && self.is_free_of_others(range)
    }

    fn is_free_of_others(&self, range: IpNet) -> bool {
        let services = &self.topology.cluster.service_cidrs;
        let overlaps = |other: &IpNet| other.contains(&range) || range.contains(other);
        !self.strangers.iter().any(|ip| range.contains(ip)) && !services.iter().any(overlaps)
    }

    /// A part of `cidr` in which nobody has an address.
    fn unused(&self, cidr: IpNet, taken: &[IpNet]) -> Option<IpNet> {
        let usual = if cidr.addr().is_ipv4() { 24 } else { 64 };
        let length = usual.max(cidr.prefix_len() + 4).min(cidr.max_prefix_len() - 2);
        let count = 1_u128.checked_shl(u32::from(length.checked_sub(cidr.prefix_len())?))?;
        let shift = u32::from(cidr.max_prefix_len() - length);
        (0..count.min(UNUSED_TRIES)).find_map(|back| {
            let first = offset(cidr.network(), (count - 1 - back) << shift);
            let range = IpNet::new(first, length).ok()?;
            let overlaps = |other: &IpNet| other.contains(&range) || range.contains(other);
            let has_pod = self.pods.iter().flat_map(|pod| &pod.ips).any(|ip| range.contains(ip));
            let is_free = !has_pod && !taken.iter().any(overlaps) && self.is_free_of_others(range);
            is_free.then_some(range)
        })
    }
}

/// Whether a pod can have the address: not the range's own, not the gateway's, not the last one.
fn is_for_pods(range: IpNet, ip: IpAddr) -> bool {
    let is_last = ip.is_ipv4() && ip == range.broadcast();
    ip != range.network() && ip != offset(range.network(), 1) && !is_last
}

fn offset(first: IpAddr, by: u128) -> IpAddr {
    match first {
        IpAddr::V4(first) => {
            let by = u32::try_from(by).unwrap_or(u32::MAX);
            Ipv4Addr::from_bits(first.to_bits().wrapping_add(by)).into()
        }
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().wrapping_add(by)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(yaml: &str) -> Vec<Vec<String>> {
        let topology: Topology = serde_saphyr::from_str(yaml).unwrap();
        let ranges = pod_ranges(&topology, [], &[]);
        ranges.iter().map(|all| all.iter().map(ToString::to_string).collect()).collect()
    }

    const NODES: &str = "
nodes: [{name: a, ips: [192.168.0.2]}, {name: b, ips: [192.168.0.3]}]
cluster: {podCIDRs: [10.244.0.0/16], serviceCIDRs: [10.96.0.0/16]}
";

    fn with_pods(pods: &[(&str, &str)]) -> Vec<Vec<String>> {
        let pod = |(at, (node, ip)): (usize, &(&str, &str))| {
            format!("  - {{namespace: d, name: p{at}, node: {node}, ips: ['{ip}']}}\n")
        };
        let pods: String = pods.iter().enumerate().map(pod).collect();
        ranges(&format!("{NODES}pods:\n{pods}"))
    }

    #[test]
    fn pods_of_a_node_share_its_link() {
        let ranges = with_pods(&[("a", "10.244.1.10"), ("a", "10.244.1.11"), ("b", "10.244.2.10")]);
        assert_eq!(ranges, [["10.244.1.0/24"], ["10.244.2.0/24"]]);
    }

    #[test]
    fn a_range_with_pods_of_two_nodes_is_nobodys() {
        let ranges = with_pods(&[("a", "10.244.1.10"), ("b", "10.244.1.11")]);
        assert_eq!(ranges, [["10.244.255.0/24"], ["10.244.254.0/24"]]);
    }

    #[test]
    fn a_pod_with_the_gateways_address_shares_no_link() {
        let ranges = with_pods(&[("a", "10.244.1.1"), ("b", "10.244.2.2")]);
        assert_eq!(ranges, [["10.244.255.0/24"], ["10.244.2.0/24"]]);
    }

    #[test]
    fn ranges_that_are_given_stay() {
        let ranges = ranges(
            "{nodes: [{name: a, ips: [192.168.0.2], podCIDRs: [10.244.7.0/24]}], \
             cluster: {podCIDRs: [10.244.0.0/16]}, \
             pods: [{namespace: d, name: p, node: a, ips: [10.244.1.10]}]}",
        );
        assert_eq!(ranges, [["10.244.7.0/24"]]);
    }
}
