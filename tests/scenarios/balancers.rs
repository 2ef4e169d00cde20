//! Network load balancers: from an address for the outside to a node, and on to an endpoint.

use std::collections::{BTreeMap, BTreeSet};

use kswitch::dataplane::frame::{TCP_ACK, TCP_SYN};
use kswitch::sim::World;
use kswitch::sim::craft::{Body, Craft};
use kswitch::sim::read::Received;
use kswitch_config::{Observed, PROXY_HEALTH_PORT, PortKind};
use kswitch_tables::{Address, Endpoint};

use crate::lab::*;

/// The shop with a third node that has no endpoint, load balancers of all kinds, and two hosts of
/// the nodes' own network.
fn shop() -> World {
    let service = |name: &str, ip: u8, policy: &str, annotations: &str| {
        format!(
            r#"
[[service]]
metadata = {{ name = "{name}", annotations = {{ {annotations} }} }}
[service.spec]
type = "LoadBalancer"
loadBalancerIP = "203.0.113.{ip}"
externalTrafficPolicy = "{policy}"
selector = {{ app = "web" }}
ports = [
    {{ name = "http", port = 80, targetPort = 8080 }},
    {{ name = "dns", port = 53, targetPort = 8053, protocol = "UDP" }},
]
"#
        )
    };
    let internal = "\"networking.gke.io/load-balancer-type\" = \"Internal\"";
    let global = format!(
        "{internal}, \"networking.gke.io/internal-load-balancer-allow-global-access\" = \"true\""
    );
    world(&format!(
        r#"{SHOP}
[[external]]
name = "vm"
address = "10.128.0.77/32"
network = "vpc"

[[external]]
name = "vm-far"
address = "10.150.0.2/32"
network = "vpc"
region = "asia-east1"

[[node]]
name = "node-c"
{}{}{}{}"#,
        service("wide", 1, "Cluster", ""),
        service("local", 2, "Local", ""),
        service("inner", 3, "Cluster", internal),
        service("global", 4, "Cluster", &global),
    ))
}

fn host(name: &str) -> PortKind {
    PortKind::External { name: name.into() }
}

/// What came to either endpoint.
fn arrived(world: &mut World) -> Option<(PortKind, Received)> {
    let at = [pod("near"), pod("far")];
    at.into_iter().find_map(|kind| world.packets(&kind).pop().map(|got| (kind, got)))
}

fn name_of(world: &World, node_address: Address) -> String {
    let nodes = ["node-a", "node-b", "node-c"];
    let found = nodes.iter().find(|name| v4(world, &node(name), 0).address == node_address);
    found.map_or_else(|| format!("{node_address}"), |name| (*name).to_owned())
}

fn ill(world: &mut World, nodes: &[&str]) {
    let health = nodes.iter().map(|name| ((PROXY_HEALTH_PORT, (*name).to_owned()), false));
    world.observe(Observed { node_health: health.collect(), ..Observed::default() });
}

#[test]
fn flows_enter_at_every_node_and_take_a_second_hop_under_its_address() {
    let mut world = shop();
    let vip = at("203.0.113.1", 80);
    let mut ways: BTreeMap<(String, String), u8> = BTreeMap::new();
    for port in 4000..4200 {
        let client = v4(&world, &internet(), port);
        assert_eq!(moved(&mut world, &internet(), &Craft::syn(client, vip)), each(&["admitted"]));
        let (kind, got) = arrived(&mut world).expect("nobody");
        let (seen, target) = got.ends();
        let entered = name_of(&world, seen.address);
        ways.insert((entered, kind.to_string()), got.packet.ttl);
        let answer = Craft::tcp(target, seen, TCP_SYN | TCP_ACK).numbered(9, 1001);
        assert_eq!(moved(&mut world, &kind, &answer), each(&["established"]));
        assert_eq!(one(&mut world, &internet()).ends(), (vip, client));
    }
    // the edge and a node, and one more where the endpoint is at another node
    let way = |node: &str, pod: &str| ways.get(&(node.to_owned(), format!("default/{pod}")));
    assert_eq!((way("node-a", "near"), way("node-b", "far")), (Some(&62), Some(&62)));
    assert_eq!((way("node-a", "far"), way("node-b", "near")), (Some(&61), Some(&61)));
    assert_eq!((way("node-c", "near"), way("node-c", "far")), (Some(&61), Some(&61)));
}

#[test]
fn under_a_local_policy_the_client_is_seen_and_nodes_without_endpoints_are_not() {
    let mut world = shop();
    let vip = at("203.0.113.2", 80);
    let mut reached = BTreeSet::new();
    for port in 4000..4060 {
        let client = v4(&world, &internet(), port);
        assert_eq!(moved(&mut world, &internet(), &Craft::syn(client, vip)), each(&["admitted"]));
        let (kind, got) = arrived(&mut world).expect("nobody");
        assert_eq!(got.ends().0, client);
        assert_eq!(got.packet.ttl, 62);
        reached.insert(kind.to_string());
    }
    assert_eq!(reached.len(), 2);
}

#[test]
fn a_node_that_falls_ill_keeps_its_connections_and_gets_no_others() {
    let mut world = shop();
    let vip = at("203.0.113.1", 80);
    let mut through_c = Vec::new();
    for port in 4000..4100 {
        let client = v4(&world, &internet(), port);
        moved(&mut world, &internet(), &Craft::syn(client, vip));
        let (kind, got) = arrived(&mut world).expect("nobody");
        let (seen, target) = got.ends();
        moved(&mut world, &kind, &Craft::tcp(target, seen, TCP_SYN | TCP_ACK).numbered(9, 1001));
        one(&mut world, &internet());
        moved(&mut world, &internet(), &Craft::tcp(client, vip, TCP_ACK).numbered(1001, 10));
        arrived(&mut world).expect("nobody");
        if name_of(&world, seen.address) == "node-c" {
            through_c.push((client, kind, seen, target));
        }
    }
    assert!(through_c.len() > 10, "{}", through_c.len());
    ill(&mut world, &["node-c"]);
    for (client, kind, seen, target) in &through_c {
        let more = Craft::tcp(*client, vip, TCP_ACK).numbered(1001, 10);
        let counted = moved(&mut world, &internet(), &more);
        assert!(!counted.contains_key("admitted"), "{counted:?}");
        let got = one(&mut world, kind);
        assert_eq!(got.ends(), (*seen, *target), "another way");
        assert_eq!(got.packet.ttl, 61);
    }
    for port in 5000..5100 {
        let client = v4(&world, &internet(), port);
        moved(&mut world, &internet(), &Craft::syn(client, vip));
        let (_, got) = arrived(&mut world).expect("nobody");
        assert_ne!(name_of(&world, got.ends().0.address), "node-c");
    }
    // none left: all are tried
    ill(&mut world, &["node-a", "node-b", "node-c"]);
    let mut entered = BTreeSet::new();
    for port in 6000..6100 {
        let client = v4(&world, &internet(), port);
        moved(&mut world, &internet(), &Craft::syn(client, vip));
        let (_, got) = arrived(&mut world).expect("nobody");
        entered.insert(name_of(&world, got.ends().0.address));
    }
    assert_eq!(entered.len(), 3, "{entered:?}");
}

#[test]
fn datagrams_leave_a_node_that_falls_ill() {
    let mut world = shop();
    let vip = at("203.0.113.1", 53);
    let send = |world: &mut World, port: u16| {
        let client = v4(world, &internet(), port);
        moved(world, &internet(), &Craft::udp(client, vip, b"?"));
        let (_, got) = arrived(world).expect("nobody");
        name_of(world, got.ends().0.address)
    };
    let at_c: Vec<u16> = (4000..4100).filter(|port| send(&mut world, *port) == "node-c").collect();
    assert!(at_c.len() > 10);
    ill(&mut world, &["node-c"]);
    for port in at_c {
        assert_ne!(send(&mut world, port), "node-c");
    }
}

#[test]
fn a_client_that_sticks_enters_at_one_node() {
    let mut world = world(&format!(
        r#"{SHOP}
[[node]]
name = "node-c"
[[service]]
metadata = {{ name = "sticky" }}
[service.spec]
type = "LoadBalancer"
loadBalancerIP = "203.0.113.1"
sessionAffinity = "ClientIP"
selector = {{ app = "web" }}
ports = [{{ port = 80, targetPort = 8080 }}]
"#
    ));
    let mut entered = BTreeSet::new();
    for port in 4000..4050 {
        let client = v4(&world, &internet(), port);
        moved(&mut world, &internet(), &Craft::syn(client, at("203.0.113.1", 80)));
        let (_, got) = arrived(&mut world).expect("nobody");
        entered.insert(name_of(&world, got.ends().0.address));
    }
    assert_eq!(entered.len(), 1, "{entered:?}");
}

#[test]
fn other_ports_and_echoes_end_at_the_load_balancer() {
    let mut world = shop();
    let client = v4(&world, &internet(), 4000);
    let closed = Craft::syn(client, at("203.0.113.1", 81));
    assert_eq!(moved(&mut world, &internet(), &closed), each(&["no_forwarding_rule"]));
    let datagram = Craft::udp(client, at("203.0.113.1", 80), b"");
    assert_eq!(moved(&mut world, &internet(), &datagram), each(&["no_forwarding_rule"]));
    let ping = Craft::ping(client, Endpoint::new(at("203.0.113.1", 0).address, 4000), 1);
    assert_eq!(moved(&mut world, &internet(), &ping), each(&["no_forwarding_rule"]));
    nothing(&mut world, &internet());
    let stray = Craft::tcp(client, at("203.0.113.1", 80), TCP_ACK);
    assert_eq!(moved(&mut world, &internet(), &stray), each(&["mid_stream"]));
}

#[test]
fn without_node_ports_an_address_serves_both_protocols() {
    let mut world = world(&format!(
        r#"{SHOP}
[[service]]
metadata = {{ name = "bare" }}
[service.spec]
type = "LoadBalancer"
loadBalancerIP = "203.0.113.9"
allocateLoadBalancerNodePorts = false
loadBalancerSourceRanges = ["198.51.100.0/24"]
selector = {{ app = "web" }}
ports = [
    {{ name = "http", port = 80, targetPort = 8080 }},
    {{ name = "dns", port = 80, targetPort = 8053, protocol = "UDP" }},
]
"#
    ));
    let client = v4(&world, &internet(), 4000);
    let vip = at("203.0.113.9", 80);
    for (packet, port) in [(Craft::syn(client, vip), 8080), (Craft::udp(client, vip, b""), 8053)] {
        assert_eq!(moved(&mut world, &internet(), &packet), each(&["admitted"]));
        let (_, got) = arrived(&mut world).expect("nobody");
        assert_eq!(got.ends().1.port, port);
    }
    let spec = world.cluster.service("default", "bare").and_then(|it| it.spec.clone()).unwrap();
    assert!(spec.ports.iter().flatten().all(|port| port.node_port.is_none()));
    // pods are no exception, and are refused before anything is translated
    let own = v4(&world, &pod("client"), 4000);
    let syn = Craft::syn(own, vip);
    assert_eq!(moved(&mut world, &pod("client"), &syn), each(&["source_range"]));
    assert!(arrived(&mut world).is_none());
}

#[test]
fn internal_addresses_are_for_the_network_and_its_region() {
    let mut world = shop();
    let cases = [
        ("internet", "203.0.113.3", false),
        ("internet", "203.0.113.4", false),
        ("vm", "203.0.113.3", true),
        ("vm", "203.0.113.4", true),
        ("vm-far", "203.0.113.3", false),
        ("vm-far", "203.0.113.4", true),
        ("vm-far", "203.0.113.1", true),
    ];
    for (from, vip, may) in cases {
        let client = v4(&world, &host(from), 4000);
        let syn = Craft::syn(client, at(vip, 80));
        let wanted = if may { each(&["admitted"]) } else { each(&["forwarding_scope"]) };
        assert_eq!(moved(&mut world, &host(from), &syn), wanted, "{from} to {vip}");
        assert_eq!(arrived(&mut world).is_some(), may, "{from} to {vip}");
        nothing(&mut world, &host(from));
    }
    // pods need not go out to it: their own node takes it, and masquerades as for all outside
    let client = v4(&world, &pod("client"), 4000);
    moved(&mut world, &pod("client"), &Craft::syn(client, at("203.0.113.3", 80)));
    let (_, got) = arrived(&mut world).expect("nobody");
    assert_eq!(name_of(&world, got.ends().0.address), "node-a");
}

#[test]
fn machines_of_the_network_reach_pods_and_pods_reach_them() {
    let mut world = shop();
    let (vm, far) = (v4(&world, &host("vm"), 4000), v4(&world, &pod("far"), 9));
    moved(&mut world, &host("vm"), &Craft::udp(vm, far, b"hello"));
    assert_eq!(one(&mut world, &pod("far")).ends(), (vm, far));
    moved(&mut world, &pod("far"), &Craft::udp(far, vm, b"answer"));
    assert_eq!(one(&mut world, &host("vm")).ends(), (far, vm));
    let near = v4(&world, &pod("near"), 4000);
    let body = Body::Echo { is_reply: false, sequence: 1, data: vec![0; 8] };
    let target = Endpoint::new(vm.address, 4000);
    moved(&mut world, &pod("near"), &Craft { source: near, target, ttl: 64, body });
    assert_eq!(one(&mut world, &host("vm")).packet.flow.source.address, near.address);
    // and may not claim to be another
    let other = Endpoint::new(at("10.128.0.99", 0).address, 4000);
    let spoofed = Craft::udp(other, far, b"");
    assert_eq!(moved(&mut world, &host("vm"), &spoofed), each(&["spoofed_address"]));
}
