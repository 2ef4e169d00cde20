//! From machine to machine: bridged, routed, to the outside.

use kswitch::sim::craft::Craft;

use crate::lab::*;

#[test]
fn pods_of_one_node_are_bridged_and_keep_their_ttl() {
    let mut world = world(SHOP);
    for is_v4 in [true, false] {
        let source = kswitch_tables::Endpoint::new(address(&world, &pod("client"), is_v4), 4000);
        let target = kswitch_tables::Endpoint::new(address(&world, &pod("near"), is_v4), 8080);
        let packet = Craft::udp(source, target, b"hello");
        assert_eq!(moved(&mut world, &pod("client"), &packet), each(&["admitted"]));
        let got = one(&mut world, &pod("near"));
        assert_eq!((got.ends(), got.packet.ttl), ((source, target), 64));
        assert_eq!(got.data(), b"hello");
        assert_eq!(moved(&mut world, &pod("client"), &packet), each(&["established"]));
        one(&mut world, &pod("near"));
    }
}

#[test]
fn pods_of_two_nodes_are_two_hops_apart() {
    let mut world = world(SHOP);
    for is_v4 in [true, false] {
        let source = kswitch_tables::Endpoint::new(address(&world, &pod("client"), is_v4), 4000);
        let target = kswitch_tables::Endpoint::new(address(&world, &pod("far"), is_v4), 8080);
        let packet = Craft::udp(source, target, b"hello");
        assert_eq!(moved(&mut world, &pod("client"), &packet), each(&["admitted"]));
        let got = one(&mut world, &pod("far"));
        assert_eq!((got.ends(), got.packet.ttl), ((source, target), 62));
        let back = Craft::udp(target, source, b"hello yourself");
        assert_eq!(moved(&mut world, &pod("far"), &back), each(&["established"]));
        assert_eq!(one(&mut world, &pod("client")).packet.ttl, 62);
    }
}

#[test]
fn a_node_is_no_hop_for_its_own_processes() {
    let mut world = world(SHOP);
    let (own, near) = (v4(&world, &node("node-a"), 4000), v4(&world, &pod("near"), 8080));
    moved(&mut world, &node("node-a"), &Craft::udp(own, near, b""));
    assert_eq!(one(&mut world, &pod("near")).packet.ttl, 64);
    let far = v4(&world, &pod("far"), 8080);
    moved(&mut world, &node("node-a"), &Craft::udp(own, far, b""));
    assert_eq!(one(&mut world, &pod("far")).packet.ttl, 63);
    moved(&mut world, &pod("far"), &Craft::udp(far, own, b""));
    assert_eq!(one(&mut world, &node("node-a")).packet.ttl, 63);
}

#[test]
fn an_ethertype_nobody_knows_stays_on_its_bridge() {
    let mut world = world(SHOP);
    let (client, near) = (pod("client"), pod("near"));
    let macs = (world.port(&client).unwrap().mac, world.port(&near).unwrap().mac);
    let frame = kswitch::sim::craft::ethernet(macs.0, macs.1, 0x88b5, b"experimental");
    moved_by_frame(&mut world, &client, &frame);
    assert_eq!(world.take(&near), std::slice::from_ref(&frame));
    let flood = kswitch::sim::craft::ethernet(
        macs.0,
        kswitch_tables::MacAddress::BROADCAST,
        0x88b5,
        b"to all",
    );
    assert_eq!(moved_by_frame(&mut world, &client, &flood), each(&["flooded"]));
    assert_eq!(world.take(&near).len(), 1);
    nothing(&mut world, &pod("far"));
    nothing(&mut world, &client);
}

#[test]
fn nobody_outside_reaches_pods_or_cluster_ips() {
    let mut world = world(SHOP);
    let source = v4(&world, &internet(), 5000);
    for target in [v4(&world, &pod("near"), 8080), at("10.8.1.1", 80)] {
        let packet = Craft::syn(source, target);
        assert_eq!(moved(&mut world, &internet(), &packet), each(&["no_route"]));
        assert_eq!(one(&mut world, &internet()).icmp(), Some((3, 0)));
        nothing(&mut world, &pod("near"));
    }
}
