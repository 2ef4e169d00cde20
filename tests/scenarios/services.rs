//! Services: translation there and back.

use std::collections::BTreeSet;

use kswitch::dataplane::frame::{TCP_ACK, TCP_SYN};
use kswitch::sim::craft::Craft;
use kswitch_tables::Endpoint;

use crate::lab::*;

#[test]
fn a_service_reaches_every_endpoint_and_answers_as_itself() {
    let mut world = world(SHOP);
    for (is_v4, vip) in [(true, at("10.8.1.1", 80)), (false, at("fd00:8::101", 80))] {
        let client = address(&world, &pod("client"), is_v4);
        let mut reached = BTreeSet::new();
        for port in 4000..4060 {
            let source = Endpoint::new(client, port);
            moved(&mut world, &pod("client"), &Craft::syn(source, vip));
            let at = [pod("near"), pod("far")];
            let (name, got) = at
                .iter()
                .find_map(|kind| world.packets(kind).pop().map(|got| (kind.clone(), got)))
                .expect("reached nobody");
            assert!(got.is_intact, "{got:?}");
            let target = Endpoint::new(address(&world, &name, is_v4), 8080);
            assert_eq!(got.ends(), (source, target));
            reached.insert(name.to_string());
            let answer = Craft::tcp(target, source, TCP_SYN | TCP_ACK).numbered(9, 1001);
            assert_eq!(moved(&mut world, &name, &answer), each(&["established"]));
            assert_eq!(one(&mut world, &pod("client")).ends(), (vip, source));
        }
        assert_eq!(reached.len(), 2, "{reached:?}");
    }
}

#[test]
fn a_flow_stays_with_its_endpoint() {
    let mut world = world(SHOP);
    let (source, vip) = (v4(&world, &pod("client"), 4000), at("10.8.1.1", 53));
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        moved(&mut world, &pod("client"), &Craft::udp(source, vip, b"?"));
        for kind in [pod("near"), pod("far")] {
            if !world.take(&kind).is_empty() {
                seen.insert(kind.to_string());
            }
        }
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn a_pod_balanced_to_itself_sees_its_node() {
    let mut world = world(SHOP);
    let vip = at("10.8.1.1", 80);
    let node = v4(&world, &node("node-a"), 0).address;
    let itself = (4000..4100).find_map(|port| {
        let source = v4(&world, &pod("near"), port);
        moved(&mut world, &pod("near"), &Craft::syn(source, vip));
        world.packets(&pod("near")).pop().map(|got| (source, got))
    });
    let (source, got) = itself.expect("never balanced to itself");
    assert_eq!(got.packet.flow.source.address, node);
    let (seen, target) = got.ends();
    moved(&mut world, &pod("near"), &Craft::tcp(target, seen, TCP_SYN | TCP_ACK));
    assert_eq!(one(&mut world, &pod("near")).ends(), (vip, source));
}

#[test]
fn a_service_without_endpoints_refuses_and_an_address_without_service_is_silent() {
    let mut world = world(SHOP);
    let source = v4(&world, &pod("client"), 4000);
    let syn = Craft::syn(source, at("10.8.1.2", 80));
    assert_eq!(moved(&mut world, &pod("client"), &syn), each(&["no_endpoints"]));
    let reset = one(&mut world, &pod("client"));
    assert_eq!(reset.ends(), (at("10.8.1.2", 80), source));
    let datagram = Craft::udp(source, at("10.8.1.1", 9), b"");
    assert_eq!(moved(&mut world, &pod("client"), &datagram), each(&["no_service_port"]));
    assert_eq!(one(&mut world, &pod("client")).icmp(), Some((3, 3)));
    let nowhere = Craft::syn(source, at("10.8.9.9", 80));
    assert_eq!(moved(&mut world, &pod("client"), &nowhere), each(&["no_service"]));
    nothing(&mut world, &pod("client"));
}

#[test]
fn a_segment_from_the_middle_of_nowhere_chooses_no_endpoint() {
    let mut world = world(SHOP);
    let source = v4(&world, &pod("client"), 4000);
    let stray = Craft::tcp(source, at("10.8.1.1", 80), TCP_ACK);
    assert_eq!(moved(&mut world, &pod("client"), &stray), each(&["mid_stream"]));
    nothing(&mut world, &pod("near"));
    nothing(&mut world, &pod("far"));
}

#[test]
fn the_same_client_port_by_two_addresses_is_told_apart() {
    let mut world = world(&SHOP.replace(
        "[[external]]",
        r#"
[[service]]
metadata = { name = "twin" }
[service.spec]
clusterIP = "10.8.1.3"
selector = { app = "web" }
ports = [{ port = 80, targetPort = 8080 }]

[[external]]"#,
    ));
    // enough pairs that some meet at the same endpoint
    for port in 4000..4040 {
        let source = v4(&world, &pod("client"), port);
        let mut replies = Vec::new();
        for vip in [at("10.8.1.1", 80), at("10.8.1.3", 80)] {
            moved(&mut world, &pod("client"), &Craft::syn(source, vip));
            for kind in [pod("near"), pod("far")] {
                for got in world.packets(&kind) {
                    replies.push((kind.clone(), got.ends(), vip));
                }
            }
        }
        for (kind, (seen, target), vip) in replies {
            moved(&mut world, &kind, &Craft::tcp(target, seen, TCP_SYN | TCP_ACK));
            assert_eq!(one(&mut world, &pod("client")).ends(), (vip, source));
        }
    }
}
