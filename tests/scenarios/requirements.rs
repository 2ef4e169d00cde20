//! What the RFCs ask of translators, row by row: BEHAVE for UDP (RFC 4787), TCP (RFC 5382) and
//! ICMP (RFC 5508), as masquerade at a node has it.
//!
//! Not met, knowingly:
//! - RFC 4787 REQ-1, RFC 5382 REQ-1 where two pods use one source port to one target: the second
//!   leaves by another port for that target alone, as Linux does it.
//! - RFC 4787 REQ-9, RFC 5382 REQ-8 (hairpinning): a node's own address leads to the node, since its
//!   ports are node ports and its processes'.
//! - RFC 5382 REQ-5, its four minutes for connections that open or close: these are Linux's and
//!   kube-proxy's, from 10 seconds to two minutes, and can be configured.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kswitch::dataplane::frame::{TCP_ACK, TCP_SYN};
use kswitch::sim::World;
use kswitch::sim::craft::{Body, Craft};
use kswitch::sim::icmp;
use kswitch::sim::read::Received;
use kswitch_config::PortKind;
use kswitch_tables::Endpoint;

use crate::lab::*;

/// RFC, requirement, what it says, and what shows it.
type Row = (u16, &'static str, &'static str, fn());

const ROWS: &[Row] = &[
    (4787, "REQ-1", "one mapping serves every target", one_mapping),
    (4787, "REQ-2", "a pod's mappings are all of one address", one_address),
    (4787, "REQ-3", "no two pods share a mapping", no_overloading),
    (4787, "REQ-3a", "ports stay below or above 1024", port_range),
    (4787, "REQ-4", "even ports stay even, odd ones odd", parity),
    (4787, "REQ-5", "a UDP mapping lives for two minutes", udp_timer),
    (4787, "REQ-6", "what goes out keeps the mapping", refresh),
    (4787, "REQ-8", "who was not spoken to is not heard", filtering),
    (4787, "REQ-10", "payloads are left alone", no_gateway_for_applications),
    (4787, "REQ-11", "the same traffic is translated the same way", deterministic),
    (4787, "REQ-12", "an ICMP error ends no mapping", errors_end_nothing),
    (4787, "REQ-13", "a packet too big for the next link is reported", too_big),
    (4787, "REQ-14", "fragments are taken in any order", fragments),
    (5382, "REQ-2a", "the three-way handshake passes", handshake),
    (5382, "REQ-2b", "simultaneous open passes", simultaneous_open),
    (5382, "REQ-3", "a connection from outside is not taken for an answer", tcp_filtering),
    (5382, "REQ-5", "an established connection idles for 2 h 4 min", tcp_timer),
    (5382, "REQ-7", "no two connections share a mapping", tcp_overloading),
    (5382, "REQ-9", "ICMP errors reach the pod, about its own packet", error_from_outside),
    (5382, "REQ-10", "an ICMP error ends no connection", errors_end_no_connection),
    (5508, "REQ-1", "queries are told apart by identifier", query),
    (5508, "REQ-2", "a query's mapping lives for a minute", query_timer),
    (5508, "REQ-3", "an error with a broken checksum goes no further", broken_error),
    (5508, "REQ-4", "errors from outside are translated, quote and all", error_from_outside),
    (5508, "REQ-5", "errors from inside are translated, quote and all", error_from_inside),
    (5508, "REQ-8", "an error about nothing known goes nowhere", unknown_error),
];

#[test]
fn every_requirement_holds() {
    let failed: Vec<_> = ROWS
        .iter()
        .filter(|row| catch_unwind(AssertUnwindSafe(row.3)).is_err())
        .map(|(rfc, requirement, says, _)| format!("RFC {rfc} {requirement}: {says}"))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The shop, and two hosts outside that know nothing of each other.
fn outside() -> (World, PortKind, PortKind) {
    let other = r#"
[[external]]
name = "other"
addresses = ["198.51.100.8/24", "2001:db8:99::8/64"]
"#;
    let world = world(&format!("{SHOP}{other}"));
    (world, internet(), PortKind::External { name: "other".into() })
}

/// Sends a packet from a pod; what the machine outside sees.
fn out(world: &mut World, name: &str, packet: &Craft, at: &PortKind) -> Received {
    moved(world, &pod(name), packet);
    one(world, at)
}

/// A datagram of a pod from this port to a machine.
fn datagram(world: &World, name: &str, port: u16, to: &PortKind) -> Craft {
    Craft::udp(v4(world, &pod(name), port), v4(world, to, 9000), b"hello")
}

/// Whether a datagram of `from` to where `seen` came from reaches the pod.
fn reaches(world: &mut World, from: &PortKind, port: u16, seen: Endpoint, name: &str) -> bool {
    let answer = Craft::udp(v4(world, from, port), seen, b"answer");
    moved(world, from, &answer);
    !world.take(&pod(name)).is_empty()
}

fn one_mapping() {
    let (mut world, first, second) = outside();
    let sources = [first, second].map(|to| {
        let packet = datagram(&world, "client", 4000, &to);
        out(&mut world, "client", &packet, &to).ends().0
    });
    assert_eq!(sources[0], sources[1]);
}

fn one_address() {
    let (mut world, to, _) = outside();
    let (source, target) = (v4(&world, &pod("client"), 4000), v4(&world, &to, 9000));
    let packets = [
        Craft::udp(source, target, b""),
        Craft::syn(source, target),
        Craft::ping(source, target, 1),
    ];
    let node = v4(&world, &node("node-a"), 0).address;
    for packet in packets {
        assert_eq!(out(&mut world, "client", &packet, &to).packet.flow.source.address, node);
    }
}

/// Two pods with one source port to one target leave by two, and each is answered.
fn told_apart(
    make: impl Fn(Endpoint, Endpoint) -> Craft,
    answer: impl Fn(Endpoint, Endpoint) -> Craft,
) {
    let (mut world, to, _) = outside();
    let target = v4(&world, &to, 9000);
    let seen = ["client", "near"].map(|name| {
        let packet = make(v4(&world, &pod(name), 4000), target);
        out(&mut world, name, &packet, &to).ends().0
    });
    assert_ne!(seen[0], seen[1]);
    for (name, seen) in ["client", "near"].into_iter().zip(seen) {
        moved(&mut world, &to, &answer(target, seen));
        assert_eq!(one(&mut world, &pod(name)).packet.flow.target.port, 4000);
    }
}

fn no_overloading() {
    let datagram = |from, to| Craft::udp(from, to, b"");
    told_apart(datagram, datagram);
}

fn tcp_overloading() {
    told_apart(Craft::syn, |from, to| Craft::tcp(from, to, TCP_SYN | TCP_ACK).numbered(1, 1001));
}

/// The ports by which pods leave that all use this one.
fn ports(own: u16) -> Vec<u16> {
    let (mut world, to, _) = outside();
    ["client", "near"]
        .map(|name| {
            let packet = datagram(&world, name, own, &to);
            out(&mut world, name, &packet, &to).ends().0.port
        })
        .to_vec()
}

fn port_range() {
    for own in [7, 600, 1023] {
        assert!(ports(own).iter().all(|port| (1..1024).contains(port)), "{own}");
    }
    assert!(ports(1024).iter().all(|port| *port >= 1024));
}

fn parity() {
    for own in [4000, 4001, 700, 701] {
        assert!(ports(own).iter().all(|port| port % 2 == own % 2), "{own}");
    }
}

fn udp_timer() {
    let (mut world, to, _) = outside();
    let packet = datagram(&world, "client", 4000, &to);
    let seen = out(&mut world, "client", &packet, &to).ends().0;
    world.pass(119);
    assert!(reaches(&mut world, &to, 9000, seen, "client"));
    world.pass(1_000);
    assert!(!reaches(&mut world, &to, 9000, seen, "client"), "it never ends");
}

fn refresh() {
    let (mut world, to, _) = outside();
    let packet = datagram(&world, "client", 4000, &to);
    let seen = out(&mut world, "client", &packet, &to).ends().0;
    for _ in 0..5 {
        world.pass(100);
        assert_eq!(out(&mut world, "client", &packet, &to).ends().0, seen);
    }
    assert!(reaches(&mut world, &to, 9000, seen, "client"));
}

fn filtering() {
    let (mut world, to, other) = outside();
    let packet = datagram(&world, "client", 4000, &to);
    let seen = out(&mut world, "client", &packet, &to).ends().0;
    assert!(!reaches(&mut world, &other, 9000, seen, "client"), "another host");
    assert!(!reaches(&mut world, &to, 9001, seen, "client"), "another port");
    assert!(reaches(&mut world, &to, 9000, seen, "client"));
}

fn no_gateway_for_applications() {
    let (mut world, to, _) = outside();
    let source = v4(&world, &pod("client"), 4000);
    let [a, b, c, d] = source.address.low32().to_be_bytes();
    let said = format!("PORT {a},{b},{c},{d},15,160\r\nVia: SIP/2.0/UDP {a}.{b}.{c}.{d}:4000\r\n");
    for port in [21, 5060] {
        let packet = Craft::udp(source, v4(&world, &to, port), said.as_bytes());
        assert_eq!(out(&mut world, "client", &packet, &to).data(), said.as_bytes());
    }
}

fn deterministic() {
    let run = || {
        let (mut world, to, _) = outside();
        ["client", "near", "far", "client"]
            .map(|name| {
                let packet = datagram(&world, name, 4000, &to);
                out(&mut world, name, &packet, &to).ends()
            })
            .to_vec()
    };
    assert_eq!(run(), run());
}

/// A host outside refuses a packet; what the pod hears of it.
fn refused(world: &mut World, to: &PortKind, got: &Received) -> Option<Received> {
    let (seen, target) = got.ends();
    moved(world, to, &icmp::port_unreachable(target.address, seen.address, &got.ip));
    world.packets(&pod("client")).pop()
}

fn errors_end_nothing() {
    let (mut world, to, _) = outside();
    let packet = datagram(&world, "client", 4000, &to);
    let got = out(&mut world, "client", &packet, &to);
    assert!(refused(&mut world, &to, &got).is_some());
    assert!(reaches(&mut world, &to, 9000, got.ends().0, "client"));
}

fn too_big() {
    let (mut world, to, _) = outside();
    let packet = Craft::udp(v4(&world, &pod("client"), 4000), v4(&world, &to, 9000), &[0; 1600]);
    moved(&mut world, &pod("client"), &packet);
    let got = one(&mut world, &pod("client"));
    assert_eq!(got.icmp(), Some((3, 4)));
    assert_eq!(got.upper()[6..8], 1500_u16.to_be_bytes(), "the MTU of the next link");
    nothing(&mut world, &to);
}

fn fragments() {
    let (mut world, to, _) = outside();
    let data: Vec<u8> = (0..2_400_u32).map(|n| (n % 251) as u8).collect();
    let source = v4(&world, &pod("client"), 4000);
    let whole = Craft::udp(source, v4(&world, &to, 9000), &data).packet();
    let pieces = kswitch::sim::fragment::cut(&whole, 1_000, 77);
    assert!(pieces.len() >= 3);
    let port = world.port(&pod("client")).unwrap();
    let router = world.snapshot().topology.port(port.id).unwrap().router_mac;
    let mac = port.mac;
    for piece in pieces.iter().rev() {
        let frame = kswitch::sim::craft::ethernet(mac, router, 0x0800, piece);
        world.send(&pod("client"), &frame);
    }
    let got: usize = world.take(&to).iter().map(|frame| frame.len() - 10 - 14 - 20).sum();
    assert_eq!(got, data.len() + 8);
}

/// A connection of the client to the host, open; the addresses the host sees.
fn open(world: &mut World, to: &PortKind) -> (Endpoint, Endpoint) {
    let (source, target) = (v4(world, &pod("client"), 4000), v4(world, to, 9000));
    let (seen, _) = out(world, "client", &Craft::syn(source, target), to).ends();
    moved(world, to, &Craft::tcp(target, seen, TCP_SYN | TCP_ACK).numbered(5000, 1001));
    assert_eq!(one(world, &pod("client")).ends(), (target, source));
    out(world, "client", &Craft::tcp(source, target, TCP_ACK).numbered(1001, 5001), to);
    (seen, target)
}

fn handshake() {
    let (mut world, to, _) = outside();
    open(&mut world, &to);
}

fn simultaneous_open() {
    let (mut world, to, _) = outside();
    let (source, target) = (v4(&world, &pod("client"), 4000), v4(&world, &to, 9000));
    let (seen, _) = out(&mut world, "client", &Craft::syn(source, target), &to).ends();
    moved(&mut world, &to, &Craft::syn(target, seen));
    assert_eq!(one(&mut world, &pod("client")).ends(), (target, source));
    let both = Craft::tcp(source, target, TCP_SYN | TCP_ACK).numbered(1000, 1001);
    out(&mut world, "client", &both, &to);
}

fn tcp_filtering() {
    let (mut world, to, other) = outside();
    let (seen, _) = open(&mut world, &to);
    let stranger = v4(&world, &other, 9000);
    moved(&mut world, &other, &Craft::syn(stranger, seen));
    nothing(&mut world, &pod("client"));
}

fn tcp_timer() {
    let (mut world, to, _) = outside();
    let (seen, target) = open(&mut world, &to);
    world.pass(2 * 3600 + 4 * 60);
    moved(&mut world, &to, &Craft::tcp(target, seen, TCP_ACK).numbered(5001, 1001));
    assert_eq!(one(&mut world, &pod("client")).packet.flow.target.port, 4000);
}

fn error_from_outside() {
    let (mut world, to, _) = outside();
    let packet = datagram(&world, "client", 4000, &to);
    let got = out(&mut world, "client", &packet, &to);
    let heard = refused(&mut world, &to, &got).unwrap();
    assert!(heard.is_intact);
    let (_, source, target) = icmp::quoted_ends(&heard.upper()[8..]).unwrap();
    assert_eq!((source, target), (packet.source, packet.target));
}

fn errors_end_no_connection() {
    let (mut world, to, _) = outside();
    let (seen, target) = open(&mut world, &to);
    let sent = Craft::tcp(seen, target, TCP_ACK).numbered(1001, 5001).packet();
    moved(&mut world, &to, &icmp::port_unreachable(target.address, seen.address, &sent));
    world.clear();
    moved(&mut world, &to, &Craft::tcp(target, seen, TCP_ACK).numbered(5001, 1001));
    one(&mut world, &pod("client"));
}

fn query() {
    told_apart(|from, to| Craft::ping(from, Endpoint::new(to.address, 0), 1), echo_reply);
}

fn echo_reply(from: Endpoint, to: Endpoint) -> Craft {
    let body = Body::Echo { is_reply: true, sequence: 1, data: vec![0x5a; 56] };
    Craft { source: Endpoint::new(from.address, to.port), target: to, ttl: 64, body }
}

fn query_timer() {
    let (mut world, to, _) = outside();
    let (source, target) = (v4(&world, &pod("client"), 77), v4(&world, &to, 0));
    let seen = out(&mut world, "client", &Craft::ping(source, target, 1), &to).ends().0;
    world.pass(59);
    moved(&mut world, &to, &echo_reply(target, seen));
    one(&mut world, &pod("client"));
}

fn broken_error() {
    let (mut world, to, _) = outside();
    let packet = datagram(&world, "client", 4000, &to);
    let got = out(&mut world, "client", &packet, &to);
    let (seen, target) = got.ends();
    let error = icmp::port_unreachable(target.address, seen.address, &got.ip);
    let mut frame = world.frame(&to, &error).unwrap();
    *frame.last_mut().unwrap() ^= 1;
    moved_by_frame(&mut world, &to, &frame);
    let heard = world.packets(&pod("client"));
    assert!(heard.iter().all(|heard| !heard.is_intact), "a broken checksum was mended: {heard:?}");
}

fn error_from_inside() {
    let (mut world, to, _) = outside();
    let packet = datagram(&world, "client", 4000, &to);
    let (seen, target) = out(&mut world, "client", &packet, &to).ends();
    moved(&mut world, &to, &Craft::udp(target, seen, b"answer"));
    let answer = one(&mut world, &pod("client"));
    let (_, own) = answer.ends();
    moved(
        &mut world,
        &pod("client"),
        &icmp::port_unreachable(own.address, target.address, &answer.ip),
    );
    let heard = one(&mut world, &to);
    assert_eq!(heard.packet.flow.source.address, seen.address);
    let (_, from, at) = icmp::quoted_ends(&heard.upper()[8..]).unwrap();
    assert_eq!((from, at), (target, seen));
}

fn unknown_error() {
    let (mut world, to, _) = outside();
    let (outer, node) = (v4(&world, &to, 9000), v4(&world, &node("node-a"), 4000));
    let never = Craft::udp(node, outer, b"").packet();
    moved(&mut world, &to, &icmp::port_unreachable(outer.address, node.address, &never));
    nothing(&mut world, &pod("client"));
}
