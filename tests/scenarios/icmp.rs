//! Echoes, errors, and errors through translation.

use kswitch::sim::craft::{Body, Craft};
use kswitch_tables::{Endpoint, Protocol};

use crate::lab::*;

#[test]
fn gateways_answer_echoes_of_both_families() {
    let mut world = world(SHOP);
    for is_v4 in [true, false] {
        let client = pod("client");
        let gateway = world
            .port(&client)
            .unwrap()
            .gateways
            .iter()
            .find(|gateway| gateway.address.is_ipv4() == is_v4)
            .unwrap()
            .address;
        let source = Endpoint::new(address(&world, &client, is_v4), 5);
        let gateway = Endpoint::new(gateway.into(), 0);
        let ping = Craft::ping(source, gateway, 3);
        assert_eq!(moved(&mut world, &client, &ping), each(&["answered"]));
        let got = one(&mut world, &client);
        assert_eq!(got.packet.flow.source.address, gateway.address);
        assert_eq!(got.packet.flow.target, source);
        assert_eq!(got.icmp(), Some(if is_v4 { (0, 0) } else { (129, 0) }));
    }
}

#[test]
fn the_edge_answers_at_its_address_outside() {
    let mut world = world(SHOP);
    for (is_v4, edge) in [(true, at("198.51.100.1", 0)), (false, at("2001:db8:99::1", 0))] {
        for (kind, ttl) in [(internet(), 64), (pod("client"), 63)] {
            let source = Endpoint::new(address(&world, &kind, is_v4), 5);
            assert_eq!(
                moved(&mut world, &kind, &Craft::ping(source, edge, 1)),
                each(&["answered"])
            );
            let got = one(&mut world, &kind);
            assert_eq!(got.icmp(), Some(if is_v4 { (0, 0) } else { (129, 0) }));
            assert!(got.packet.ttl >= ttl, "{got:?}");
            // nobody listens there: traceroute's last hop
            let edge = Endpoint::new(edge.address, 33_434);
            let packet = Craft::udp(source, edge, b"");
            assert_eq!(moved(&mut world, &kind, &packet), each(&["router_port"]));
            let got = one(&mut world, &kind);
            assert_eq!(got.icmp(), Some(if is_v4 { (3, 3) } else { (1, 4) }));
            assert_eq!(got.packet.flow.source.address, edge.address);
        }
    }
}

#[test]
fn each_router_says_when_the_ttl_ends_there() {
    let mut world = world(SHOP);
    for is_v4 in [true, false] {
        let source = Endpoint::new(address(&world, &pod("client"), is_v4), 4000);
        let target = Endpoint::new(address(&world, &pod("far"), is_v4), 8080);
        let gateway = world.port(&pod("client")).unwrap().gateways.iter();
        let gateway = gateway.map(|g| g.address).find(|a| a.is_ipv4() == is_v4).unwrap();
        let other = address(&world, &node("node-b"), is_v4);
        for (ttl, router) in [(1, gateway.into()), (2, other)] {
            let packet = Craft::udp(source, target, b"x").ttl(ttl);
            assert_eq!(moved(&mut world, &pod("client"), &packet), each(&["ttl_exceeded"]));
            let got = one(&mut world, &pod("client"));
            assert_eq!(got.icmp(), Some(if is_v4 { (11, 0) } else { (3, 0) }));
            assert_eq!(got.packet.flow.source.address, router);
            nothing(&mut world, &pod("far"));
        }
        // the same holds once the flow is known
        moved(&mut world, &pod("client"), &Craft::udp(source, target, b"x"));
        one(&mut world, &pod("far"));
        let packet = Craft::udp(source, target, b"x").ttl(2);
        moved(&mut world, &pod("client"), &packet);
        assert_eq!(one(&mut world, &pod("client")).packet.flow.source.address, other);
    }
}

#[test]
fn an_error_from_behind_a_service_reaches_the_client_as_the_services() {
    let mut world = world(SHOP);
    let source = v4(&world, &pod("client"), 4000);
    let vip = at("10.8.1.1", 53);
    let sent = Craft::udp(source, vip, b"question");
    moved(&mut world, &pod("client"), &sent);
    let (kind, got) = [pod("near"), pod("far")]
        .into_iter()
        .find_map(|kind| world.packets(&kind).pop().map(|got| (kind, got)))
        .unwrap();
    // port unreachable, quoting the packet as the endpoint saw it
    for quoted in [got.ip.len(), 28] {
        let mut body = vec![3, 3, 0, 0, 0, 0, 0, 0];
        body.extend(&got.ip[..quoted]);
        let sum = kswitch::dataplane::checksum::of(&body);
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        let (seen, target) = got.ends();
        let error = Craft {
            source: Endpoint::new(target.address, 0),
            target: Endpoint::new(seen.address, 0),
            ttl: 64,
            body: Body::Raw(Protocol::ICMP, body),
        };
        moved(&mut world, &kind, &error);
        let back = one(&mut world, &pod("client"));
        assert_eq!(back.icmp(), Some((3, 3)));
        assert_eq!(back.packet.flow.source.address, vip.address);
        // the quote is what the client sent, but for what the way did to its TTL
        let mut expected = sent.clone().ttl(got.packet.ttl).packet();
        expected.truncate(quoted);
        assert_eq!(&back.upper()[8..], expected);
    }
}

#[test]
fn an_error_about_nothing_known_is_dropped() {
    let mut world = world(SHOP);
    let mut body = vec![3, 3, 0, 0, 0, 0, 0, 0];
    let (near, far) = (v4(&world, &pod("near"), 8080), v4(&world, &pod("far"), 1));
    body.extend(Craft::udp(far, near, b"never sent").packet());
    let sum = kswitch::dataplane::checksum::of(&body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    let error = Craft { source: near, target: far, ttl: 64, body: Body::Raw(Protocol::ICMP, body) };
    assert_eq!(moved(&mut world, &pod("near"), &error), each(&["unrelated_icmp"]));
    nothing(&mut world, &pod("far"));
}
