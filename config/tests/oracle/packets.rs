//! Random packets to where something may be.

use std::net::{IpAddr, SocketAddr};

use kswitch_config::Cluster;
use kswitch_tables::Protocol;

use super::random::Random;
use super::{Origin, Packet};

/// A packet at some node.
pub(crate) fn packet(random: &mut Random, cluster: &Cluster) -> Packet {
    let node = random.below(cluster.nodes.len());
    let protocol = *random.one(&[Protocol::TCP, Protocol::TCP, Protocol::UDP]);
    let address = address(random, cluster, node);
    let port = *random.one(&[80, 80, 53, 53, 4000, 4001, 30_000, 30_001, 30_002, 30_004, 99]);
    let (origin, source) = source(random, cluster, node, address.is_ipv4());
    Packet { node, origin, source, target: SocketAddr::new(address, port), protocol }
}

fn address(random: &mut Random, cluster: &Cluster, node: usize) -> IpAddr {
    let index = random.below(6);
    let text = match random.below(12) {
        0..=3 => format!("10.8.0.{}", index + 1),
        4 => format!("fd00:8::{}", index + 1),
        5 => format!("192.0.2.{index}"),
        6 => format!("203.0.113.{index}"),
        7 => (*random.one(&["2001:db8::", "2001:db8:1::"])).to_owned() + &index.to_string(),
        8..=10 => return *random.one(&cluster.nodes[node].addresses),
        _ => format!("10.4.0.{}", index + 5),
    };
    text.parse().unwrap()
}

fn source(random: &mut Random, cluster: &Cluster, node: usize, is_v4: bool) -> (Origin, IpAddr) {
    let of_family = |ip: &&IpAddr| ip.is_ipv4() == is_v4;
    let pods: Vec<IpAddr> = cluster
        .pods
        .iter()
        .filter(|pod| !pod.host_network)
        .filter_map(|pod| pod.addresses.iter().find(of_family).copied())
        .collect();
    match random.below(3) {
        0 if !pods.is_empty() => (Origin::Pod, *random.one(&pods)),
        1 => {
            let address = cluster.nodes[node].addresses.iter().find(of_family);
            (Origin::Node, *address.unwrap())
        }
        _ => {
            let outside: &[&str] = if is_v4 {
                // another node, two hosts, and somebody who uses the load balancer's address
                &["10.128.0.77", "198.51.100.7", "198.51.100.200", "203.0.113.1"]
            } else {
                &["2001:db8:7::1", "2001:db8:8::1"]
            };
            (Origin::Outside, random.one(outside).parse().unwrap())
        }
    }
}

/// Flows that are under way: where they were sent, and where they went.
pub(crate) fn flows(
    random: &mut Random,
    cluster: &Cluster,
) -> Vec<(SocketAddr, SocketAddr, Protocol)> {
    let mut flows = Vec::new();
    for _ in 0..20 {
        let index = random.below(6);
        let (target, node) = (format!("10.8.0.{}", index + 1), random.below(cluster.nodes.len()));
        let port = *random.one(&[80, 53]);
        let backend =
            (format!("10.4.{node}.{}", random.below(8) + 5), *random.one(&[8000, 8001, 5353]));
        let protocol = *random.one(&[Protocol::TCP, Protocol::UDP]);
        let socket = |ip: String, port| SocketAddr::new(ip.parse().unwrap(), port);
        flows.push((socket(target, port), socket(backend.0, backend.1), protocol));
    }
    flows
}
