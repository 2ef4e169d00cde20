//! Leaving the cluster under the node's address.

use std::collections::BTreeSet;

use kswitch::sim::craft::{Body, Craft};

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
