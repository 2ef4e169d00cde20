//! The other ways to lay a cluster out: routes that are written down, and pods without a bridge.

use kswitch::dataplane::frame::{ETHERTYPE_ARP, TCP_ACK, TCP_SYN};
use kswitch::port::VNET_HEADER;
use kswitch::sim::World;
use kswitch::sim::craft::{Craft, ethernet};
use kswitch_tables::{Endpoint, MacAddress};

use crate::lab::*;

/// The shop with routes to these pod ranges alone; node-a has 10.4.0.0/24, node-b 10.4.1.0/24.
pub(crate) fn routes_based(ranges: &[&str]) -> World {
    let route = |range: &&str| {
        let node = if range.starts_with("10.4.0") { "node-a" } else { "node-b" };
        format!("{{ to = {range:?}, node = {node:?} }}")
    };
    let routes: Vec<_> = ranges.iter().map(route).collect();
    let mode = format!("[cluster]\nmode = \"routes-based\"\nroutes = [{}]", routes.join(", "));
    world(&SHOP.replace("[cluster]", &mode))
}

#[test]
fn pods_are_reached_by_the_routes_that_are_written_down_and_by_no_other() {
    let mut both = routes_based(&["10.4.0.0/24", "10.4.1.0/24"]);
    let (client, far) = (v4(&both, &pod("client"), 4000), v4(&both, &pod("far"), 9));
    assert_eq!(moved(&mut both, &pod("client"), &Craft::syn(client, far)), each(&["admitted"]));
    let got = one(&mut both, &pod("far"));
    assert_eq!((got.ends(), got.packet.ttl), ((client, far), 62));
    let reply = Craft::tcp(far, client, TCP_SYN | TCP_ACK);
    assert_eq!(moved(&mut both, &pod("far"), &reply), each(&["established"]));
    one(&mut both, &pod("client"));

    let mut near_only = routes_based(&["10.4.0.0/24"]);
    let syn = Craft::syn(client, far);
    assert_eq!(moved(&mut near_only, &pod("client"), &syn), each(&["blackhole"]));
    nothing(&mut near_only, &pod("far"));
    nothing(&mut near_only, &pod("client"));
    // the bridge needs no route, and nodes are reached as ever
    let near = v4(&near_only, &pod("near"), 9);
    moved(&mut near_only, &pod("client"), &Craft::syn(client, near));
    one(&mut near_only, &pod("near"));
    let node = v4(&near_only, &node("node-b"), 22);
    let to_node = Craft::syn(Endpoint { port: 4001, ..client }, node);
    assert_eq!(moved(&mut near_only, &pod("client"), &to_node), each(&["admitted"]));
    // a Service picks among its endpoints all the same: those without a route are lost
    let mut fates = std::collections::BTreeSet::new();
    for port in 5000..5040 {
        let syn = Craft::syn(Endpoint { port, ..client }, at("10.8.1.1", 80));
        fates.extend(moved(&mut near_only, &pod("client"), &syn).into_keys());
        near_only.clear();
    }
    assert_eq!(fates.into_iter().collect::<Vec<_>>(), ["admitted", "blackhole"]);
}

#[test]
fn a_pod_without_a_bridge_has_its_router_as_only_neighbour() {
    let mut world = world(&SHOP.replace("[cluster]", "[cluster]\npod-link = \"routed\""));
    let planned = world.port(&pod("client")).unwrap().clone();
    assert!(planned.addresses.iter().all(|net| net.prefix_len() == net.max_prefix_len()));
    let gateways: Vec<_> = planned.gateways.iter().map(|at| at.address.to_string()).collect();
    assert_eq!(gateways, ["169.254.1.1", "fe80::1"]);
    // the gateway answers for itself; nobody else hears the question
    let gateway = at("169.254.1.1", 0).address;
    let own = v4(&world, &pod("client"), 4000);
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(planned.mac.0);
    arp.extend(own.address.low32().to_be_bytes());
    arp.extend([0; 6]);
    arp.extend(gateway.low32().to_be_bytes());
    let ask = ethernet(planned.mac, MacAddress::BROADCAST, ETHERTYPE_ARP, &arp);
    assert_eq!(moved_by_frame(&mut world, &pod("client"), &ask), each(&["answered"]));
    let answer = world.take(&pod("client")).remove(0);
    let router = world.snapshot().topology.port(planned.id).unwrap().router_mac;
    assert_eq!(answer[VNET_HEADER + 22..VNET_HEADER + 28], router.0);
    nothing(&mut world, &pod("near"));

    for is_v4 in [true, false] {
        let own = Endpoint::new(address(&world, &pod("client"), is_v4), 4000);
        // its node is a hop even to a pod of the same node
        for (name, ttl) in [("near", 63), ("far", 62)] {
            let target = Endpoint::new(address(&world, &pod(name), is_v4), 9);
            let packet = Craft::udp(own, target, b"x");
            assert_eq!(moved(&mut world, &pod("client"), &packet), each(&["admitted"]));
            let got = one(&mut world, &pod(name));
            assert_eq!((got.ends(), got.packet.ttl), ((own, target), ttl));
        }
        // and says so
        let near = Endpoint::new(address(&world, &pod("near"), is_v4), 9);
        let short = Craft::udp(own, near, b"x").ttl(1);
        moved(&mut world, &pod("client"), &short);
        assert_eq!(
            one(&mut world, &pod("client")).icmp(),
            Some(if is_v4 { (11, 0) } else { (3, 0) })
        );
        // Services as ever
        let vip = at(if is_v4 { "10.8.1.1" } else { "fd00:8::101" }, 80);
        assert_eq!(moved(&mut world, &pod("client"), &Craft::syn(own, vip)), each(&["admitted"]));
        world.clear();
    }
    // a broadcast reaches nobody
    let call = ethernet(planned.mac, MacAddress::BROADCAST, 0x88b5, b"anybody?");
    assert_eq!(moved_by_frame(&mut world, &pod("client"), &call), each(&["not_for_router"]));
    // and nobody speaks for another
    let lie = Craft::udp(v4(&world, &pod("near"), 9), v4(&world, &pod("far"), 9), b"");
    assert_eq!(moved(&mut world, &pod("client"), &lie), each(&["spoofed_address"]));
}
