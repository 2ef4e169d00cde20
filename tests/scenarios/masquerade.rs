//! Leaving the cluster under the node's address.

use std::collections::BTreeSet;

use kswitch::sim::World;
use kswitch::sim::craft::{Body, Craft};
use kswitch_tables::Protocol;

use crate::lab::*;

#[test]
fn pods_leave_as_their_node_and_answers_come_back() {
    let mut world = world(SHOP);
    let far = v4(&world, &pod("far"), 4000);
    let outside = v4(&world, &internet(), 8080);
    let node = v4(&world, &node("node-b"), 0).address;
    moved(&mut world, &pod("far"), &Craft::udp(far, outside, b"hello"));
    let got = one(&mut world, &internet());
    assert_eq!(got.packet.flow.source.address, node);
    assert_eq!(got.packet.ttl, 62);
    let (seen, target) = got.ends();
    moved(&mut world, &internet(), &Craft::udp(target, seen, b"answer"));
    let back = one(&mut world, &pod("far"));
    assert_eq!((back.ends(), back.data()), ((outside, far), &b"answer"[..]));
}

#[test]
fn two_pods_with_one_port_leave_by_two() {
    let mut world = world(SHOP);
    let outside = v4(&world, &internet(), 8080);
    let mut seen = BTreeSet::new();
    for name in ["client", "near"] {
        let source = v4(&world, &pod(name), 4000);
        moved(&mut world, &pod(name), &Craft::udp(source, outside, b""));
        seen.insert(one(&mut world, &internet()).packet.flow.source);
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

#[test]
fn echoes_of_two_pods_with_one_identifier_come_back_to_each() {
    let mut world = world(SHOP);
    for is_v4 in [true, false] {
        let outside = kswitch_tables::Endpoint::new(address(&world, &internet(), is_v4), 0);
        for name in ["client", "near"] {
            let source = kswitch_tables::Endpoint::new(address(&world, &pod(name), is_v4), 77);
            moved(&mut world, &pod(name), &Craft::ping(source, outside, 1));
            let got = one(&mut world, &internet());
            let (seen, target) = got.ends();
            let reply = Craft {
                source: kswitch_tables::Endpoint::new(target.address, seen.port),
                target: seen,
                ttl: 64,
                body: Body::Echo { is_reply: true, sequence: 1, data: vec![0x5a; 56] },
            };
            moved(&mut world, &internet(), &reply);
            let back = one(&mut world, &pod(name));
            assert_eq!(back.packet.flow.target, source);
            assert_eq!(back.packet.flow.source.port, 77);
        }
    }
}

#[test]
fn a_silent_flow_is_forgotten_and_not_before() {
    let mut world = world(SHOP);
    let (far, outside) = (v4(&world, &pod("far"), 4000), v4(&world, &internet(), 8080));
    moved(&mut world, &pod("far"), &Craft::udp(far, outside, b""));
    let (seen, target) = one(&mut world, &internet()).ends();
    world.pass(29);
    moved(&mut world, &internet(), &Craft::udp(target, seen, b""));
    one(&mut world, &pod("far"));
    world.pass(121);
    let late = moved(&mut world, &internet(), &Craft::udp(target, seen, b""));
    assert!(!late.contains_key("established"), "{late:?}");
    nothing(&mut world, &pod("far"));
    assert!(world.shared.conntrack.len() <= 1, "only the late packet's own flow, if any");
}

/// Flows that nobody has answered, until one more does not fit; they have been silent for a while.
fn fill(world: &mut World) {
    let far = v4(world, &pod("far"), 9);
    for port in 1..=u16::MAX {
        let own = v4(world, &pod("client"), port);
        if !moved(world, &pod("client"), &Craft::udp(own, far, b"")).contains_key("admitted") {
            world.pass(60);
            return;
        }
        world.clear();
    }
    panic!("it never was full");
}

#[test]
fn in_a_full_table_one_flow_makes_way_for_one_that_looks_for_a_port_and_none_for_one_that_finds_none()
 {
    let mut world = world(SHOP);
    let outside = v4(&world, &internet(), 8080);
    // a protocol without ports leaves nothing to tell two pods apart by
    let tunnel = |world: &World, name: &str| {
        let (source, target) = (v4(world, &pod(name), 0), v4(world, &internet(), 0));
        Craft { source, target, ttl: 64, body: Body::Raw(Protocol(47), vec![0; 8]) }
    };
    let first = v4(&world, &pod("client"), 4000);
    moved(&mut world, &pod("client"), &Craft::udp(first, outside, b""));
    let gre = tunnel(&world, "client");
    moved(&mut world, &pod("client"), &gre);
    fill(&mut world);
    let full = world.shared.conntrack.len();
    let second = v4(&world, &pod("near"), 4000);
    let sent = Craft::udp(second, outside, b"");
    assert_eq!(moved(&mut world, &pod("near"), &sent), each(&["admitted"]));
    assert_eq!(world.shared.conntrack.len(), full);
    let gre = tunnel(&world, "near");
    assert_eq!(moved(&mut world, &pod("near"), &gre), each(&["no_source_port"]));
    assert_eq!(world.shared.conntrack.len(), full);
}
