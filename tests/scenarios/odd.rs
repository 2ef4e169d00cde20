//! What a real network throws in now and then: errors of every make, further headers, options,
//! protocols without ports.

use kswitch::dataplane::checksum;
use kswitch::sim::World;
use kswitch::sim::craft::{Body, Craft, ethernet};
use kswitch::sim::icmp::{error, message, quoted_ends};
use kswitch::sim::read::Received;
use kswitch::sim::{fragment, sctp};
use kswitch_config::PortKind;
use kswitch_tables::conntrack::State;
use kswitch_tables::{Endpoint, MacAddress, Protocol};

use crate::lab::*;

/// The shop with a host outside behind a narrow link.
const NARROW: &str = "[[external]]\nname = \"narrow\"\nmtu = 1280\n\
                      addresses = [\"198.51.100.9/24\", \"2001:db8:99::9/64\"]\n";

fn narrow() -> PortKind {
    PortKind::External { name: "narrow".into() }
}

fn end(world: &World, kind: &PortKind, is_v4: bool, port: u16) -> Endpoint {
    Endpoint::new(address(world, kind, is_v4), port)
}

/// The Ethernet addresses of a machine and its router.
fn macs(world: &World, kind: &PortKind) -> (MacAddress, MacAddress) {
    let port = world.port(kind).unwrap();
    (port.mac, world.snapshot().topology.port(port.id).unwrap().router_mac)
}

/// The word of an error that is a path's MTU.
fn mtu(error: &Received) -> u32 {
    u32::from_be_bytes(error.upper()[4..8].try_into().unwrap())
}

/// Sends to a Service; the endpoint that it reached, and what it got.
fn reached(world: &mut World, packet: &Craft) -> (PortKind, Received) {
    moved(world, &pod("client"), packet);
    let found = [pod("near"), pod("far")]
        .into_iter()
        .find_map(|kind| world.packets(&kind).pop().map(|got| (kind, got)));
    found.unwrap_or_else(|| panic!("nobody was reached: {:?}", world.drops()))
}

#[test]
fn the_router_before_the_narrow_link_says_what_fits() {
    for is_v4 in [true, false] {
        let mut world = world(&format!("{SHOP}{NARROW}"));
        let source = end(&world, &pod("client"), is_v4, 4000);
        let target = end(&world, &narrow(), is_v4, 9);
        let sent = Craft::udp(source, target, &[7; 1300]);
        // the flow is recorded, the packet is not sent
        let counted = moved(&mut world, &pod("client"), &sent);
        assert_eq!(counted, each(&["admitted", "too_big"]));
        nothing(&mut world, &narrow());
        let told = one(&mut world, &pod("client"));
        assert_eq!(told.icmp(), Some(if is_v4 { (3, 4) } else { (2, 0) }));
        assert_eq!(mtu(&told), 1280);
        let edge = if is_v4 { "10.128.0.1" } else { "fd00:128::1" };
        assert_eq!(told.packet.flow.source.address, at(edge, 0).address);
        let quote = &told.upper()[8..];
        assert_eq!(quote, &sent.packet()[..quote.len()], "as the client sent it");
        let fits = Craft::udp(source, target, &[7; 1200]);
        assert_eq!(moved(&mut world, &pod("client"), &fits), each(&["established"]));
        one(&mut world, &narrow());
    }
}

#[test]
fn what_fits_further_on_is_told_to_who_sends_too_much() {
    let routes = "name = \"internet\"\nroutes = [\"192.0.2.0/24\", \"2001:db8:1::/48\"]";
    for (is_v4, far) in [(true, "192.0.2.9"), (false, "2001:db8:1::9")] {
        let mut world = world(&SHOP.replace("name = \"internet\"", routes));
        let (target, router) = (at(far, 9), end(&world, &internet(), is_v4, 0));
        let sent = Craft::udp(end(&world, &pod("client"), is_v4, 4000), target, &[7; 1300]);
        moved(&mut world, &pod("client"), &sent);
        let seen = one(&mut world, &internet());
        let masquerade = seen.ends().0.address;
        // even what no link may demand is passed on: it is for the sender to judge (RFC 8201 §4)
        for octets in [1280_u16, 900] {
            let (kind, word) = if is_v4 { ((3, 4), [0, 0]) } else { ((2, 0), [0, 0]) };
            let [high, low] = octets.to_be_bytes();
            let word = [word[0], word[1], high, low];
            let report = error(router.address, masquerade, kind, word, &seen.ip);
            moved(&mut world, &internet(), &report);
            let told = one(&mut world, &pod("client"));
            assert_eq!((told.icmp(), mtu(&told)), (Some(kind), octets.into()));
            assert_eq!(told.packet.flow.source.address, router.address);
            let expected = (Protocol::UDP, sent.source, sent.target);
            assert_eq!(quoted_ends(&told.upper()[8..]), Some(expected));
        }
    }
}

#[test]
fn an_error_about_a_fragment_has_its_ports_behind_the_fragment_header() {
    for far in [false, true] {
        let mut world = world(SHOP);
        let source = end(&world, &pod("client"), false, 4000);
        let vip = at("fd00:8::101", 53);
        let target = if far { end(&world, &internet(), false, 9) } else { vip };
        let sent = Craft::udp(source, target, &[7; 2000]).packet();
        let (mac, router) = macs(&world, &pod("client"));
        for piece in fragment::cut(&sent, 1200, 99) {
            world.send(&pod("client"), &ethernet(mac, router, 0x86dd, &piece));
        }
        let (kind, first) = [pod("near"), pod("far"), internet()]
            .into_iter()
            .find_map(|kind| {
                let mut got = world.packets(&kind);
                (!got.is_empty()).then(|| (kind, got.remove(0)))
            })
            .unwrap();
        let (seen, from) = first.ends();
        let report = error(from.address, seen.address, (2, 0), [0, 0, 5, 0], &first.ip);
        moved(&mut world, &kind, &report);
        let told = one(&mut world, &pod("client"));
        assert_eq!((told.icmp(), mtu(&told)), (Some((2, 0)), 1280));
        assert_eq!(told.packet.flow.source.address, target.address);
        // addresses and ports of the quote are the sender's, behind its fragment header
        let quote = &told.upper()[8..];
        assert_eq!(quote[8..24], source.address.bits().to_be_bytes());
        assert_eq!(quote[24..40], target.address.bits().to_be_bytes());
        assert_eq!(quote[48..52], sent[40..44], "the ports");
    }
}

#[test]
fn an_error_about_an_error_is_about_nothing() {
    for is_v4 in [true, false] {
        let mut world = world(SHOP);
        let vip = at(if is_v4 { "10.8.1.1" } else { "fd00:8::101" }, 53);
        let source = end(&world, &pod("client"), is_v4, 4000);
        let (kind, got) = reached(&mut world, &Craft::udp(source, vip, b"question"));
        let (seen, from) = got.ends();
        let code = if is_v4 { (3, 3) } else { (1, 4) };
        let inner = error(from.address, seen.address, code, [0; 4], &got.ip).packet();
        let outer = error(seen.address, from.address, code, [0; 4], &inner);
        assert_eq!(moved(&mut world, &pod("client"), &outer), each(&["unrelated_icmp"]));
        nothing(&mut world, &kind);
        assert_eq!(world.shared.conntrack.len(), 1, "the flow is untouched");
    }
}

#[test]
fn later_fragments_do_not_know_what_is_behind_the_firsts_further_headers() {
    for order in [[0, 1], [1, 0]] {
        let mut world = world(SHOP);
        let source = end(&world, &pod("client"), false, 4000);
        let sent = Craft::udp(source, at("fd00:8::101", 53), &[7; 2000]).packet();
        // eight octets of destination options, all padding, before the datagram
        let mut with_options = sent[..40].to_vec();
        with_options.extend([17, 0, 1, 4, 0, 0, 0, 0]);
        with_options.extend(&sent[40..]);
        with_options[6] = 60;
        let length = u16::try_from(with_options.len() - 40).unwrap();
        with_options[4..6].copy_from_slice(&length.to_be_bytes());
        let pieces = fragment::cut(&with_options, 1200, 7);
        assert_eq!(pieces.len(), 2);
        let (mac, router) = macs(&world, &pod("client"));
        for n in order {
            world.send(&pod("client"), &ethernet(mac, router, 0x86dd, &pieces[n]));
        }
        let got: Vec<_> =
            [pod("near"), pod("far")].into_iter().flat_map(|kind| world.packets(&kind)).collect();
        assert_eq!(got.len(), 2, "in order {order:?}: {:?}", world.drops());
        let targets: Vec<_> = got.iter().map(|piece| piece.packet.flow.target.address).collect();
        assert_eq!(targets[0], targets[1], "both at one endpoint");
    }
}

#[test]
fn a_chunk_that_ends_an_association_counts_wherever_it_stands() {
    let mut world = world(SHOP);
    let source = end(&world, &pod("client"), true, 4000);
    let target = end(&world, &pod("far"), true, 9);
    let state = |world: &World| {
        let flow = world.shared.conntrack.connections().next().unwrap();
        flow.life.state
    };
    let init = sctp::packet(source, target, 0, 1, &sctp::init(5, &[]));
    moved(&mut world, &pod("client"), &init);
    let ack = sctp::packet(target, source, 5, 2, &sctp::init(6, b"kswitch"));
    moved(&mut world, &pod("far"), &ack);
    assert_eq!(state(&world), State::SctpOpen);
    // SACK and SHUTDOWN in one packet
    let mut bundle = sctp::packet(source, target, 6, 3, &[0; 12]);
    let Body::Raw(_, octets) = &mut bundle.body else { panic!("SCTP is sent raw") };
    octets.extend([7, 0, 0, 8, 0, 0, 0, 1]);
    assert_eq!(moved(&mut world, &pod("client"), &bundle), each(&["established"]));
    assert_eq!(state(&world), State::SctpClosed);
}

#[test]
fn options_are_carried_as_they_are_through_translation() {
    let mut world = world(SHOP);
    let source = end(&world, &pod("client"), true, 4000);
    let plain = Craft::udp(source, at("10.8.1.1", 53), b"question").packet();
    // a loose source route that has been followed to its end, record route, and the end
    let options = [131, 7, 8, 192, 0, 2, 1, 7, 7, 4, 0, 0, 0, 0, 0, 0];
    let mut packet = plain[..20].to_vec();
    packet.extend(options);
    packet.extend(&plain[20..]);
    packet[0] = 0x49;
    let length = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum::of(&packet[..36]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let (mac, router) = macs(&world, &pod("client"));
    world.send(&pod("client"), &ethernet(mac, router, 0x0800, &packet));
    let got: Vec<_> =
        [pod("near"), pod("far")].into_iter().flat_map(|kind| world.packets(&kind)).collect();
    assert_eq!(got.len(), 1, "{:?}", world.drops());
    assert!(got[0].is_intact);
    assert_eq!(got[0].ip[20..36], options);
    assert_eq!(got[0].ends().1.port, 8053);
}

#[test]
fn the_last_hop_before_a_service_says_so_and_nothing_is_recorded() {
    for is_v4 in [true, false] {
        let mut world = world(SHOP);
        let vip = at(if is_v4 { "10.8.1.1" } else { "fd00:8::101" }, 80);
        let source = end(&world, &pod("client"), is_v4, 4000);
        let sent = Craft::syn(source, vip).ttl(1);
        assert_eq!(moved(&mut world, &pod("client"), &sent), each(&["ttl_exceeded"]));
        let told = one(&mut world, &pod("client"));
        assert_eq!(told.icmp(), Some(if is_v4 { (11, 0) } else { (3, 0) }));
        let gateway = at(if is_v4 { "10.4.0.1" } else { "fd00:4::1" }, 0).address;
        assert_eq!(told.packet.flow.source.address, gateway);
        let quoted = quoted_ends(&told.upper()[8..]);
        assert_eq!(quoted, Some((Protocol::TCP, source, vip)), "before translation");
        assert!(world.shared.conntrack.is_empty());
    }
}

#[test]
fn protocols_without_ports_are_told_apart_by_their_ends() {
    // GRE, ESP, DCCP, UDP-Lite, IP in IP
    for protocol in [47, 50, 33, 136, 4].map(Protocol) {
        let mut world = world(SHOP);
        let (source, target) =
            (end(&world, &pod("client"), true, 0), end(&world, &internet(), true, 0));
        let body = |octet| Body::Raw(protocol, vec![octet; 24]);
        let sent = Craft { source, target, ttl: 64, body: body(7) };
        assert_eq!(moved(&mut world, &pod("client"), &sent), each(&["admitted"]));
        let got = one(&mut world, &internet());
        let masquerade = end(&world, &node("node-a"), true, 0);
        assert_eq!((got.ends(), got.upper()), ((masquerade, target), &[7; 24][..]));
        let back = Craft { source: target, target: masquerade, ttl: 64, body: body(9) };
        assert_eq!(moved(&mut world, &internet(), &back), each(&["established"]));
        let got = one(&mut world, &pod("client"));
        assert_eq!((got.ends(), got.upper()), ((target, source), &[9; 24][..]));
    }
}

#[test]
fn a_datagram_without_checksum_has_none_behind_translation_either() {
    let mut world = world(SHOP);
    let source = end(&world, &pod("client"), true, 4000);
    let mut packet = Craft::udp(source, at("10.8.1.1", 53), b"question").packet();
    packet[26..28].fill(0);
    let (mac, router) = macs(&world, &pod("client"));
    world.send(&pod("client"), &ethernet(mac, router, 0x0800, &packet));
    let got: Vec<_> =
        [pod("near"), pod("far")].into_iter().flat_map(|kind| world.take(&kind)).collect();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0][10 + 14 + 26..10 + 14 + 28], [0, 0]);

    // IPv6 knows no such thing: what comes without one is as wrong behind it
    let source = end(&world, &pod("client"), false, 4000);
    let mut packet = Craft::udp(source, at("fd00:8::101", 53), b"question").packet();
    packet[46..48].fill(0);
    world.send(&pod("client"), &ethernet(mac, router, 0x86dd, &packet));
    let got: Vec<_> =
        [pod("near"), pod("far")].into_iter().flat_map(|kind| world.packets(&kind)).collect();
    assert!(got.iter().all(|got| !got.is_intact), "it was repaired");
}

#[test]
fn questions_of_other_kinds_are_answered_through_masquerade() {
    let mut world = world(SHOP);
    let (source, target) =
        (end(&world, &pod("client"), true, 0), end(&world, &internet(), true, 0));
    // a timestamp and its reply: RFC 792
    let ask = message(source.address, target.address, (13, 0), [0, 7, 0, 1], &[0; 12]);
    assert_eq!(moved(&mut world, &pod("client"), &ask), each(&["admitted"]));
    let got = one(&mut world, &internet());
    let seen = got.ends().0.address;
    assert_eq!(seen, address(&world, &node("node-a"), true));
    let reply = message(target.address, seen, (14, 0), [0, 7, 0, 1], &[0; 12]);
    assert_eq!(moved(&mut world, &internet(), &reply), each(&["established"]));
    assert_eq!(one(&mut world, &pod("client")).icmp(), Some((14, 0)));
}
