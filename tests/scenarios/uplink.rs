//! Machines on the uplink that the lab file does not name, and those behind a router of it.

use kswitch::dataplane::frame::{ETHERTYPE_ARP, TCP_ACK, TCP_SYN};
use kswitch::port::VNET_HEADER;
use kswitch::sim::World;
use kswitch::sim::craft::{Craft, ethernet};
use kswitch::sim::fragment;
use kswitch::sim::read::Received;
use kswitch_config::PortKind;
use kswitch_tables::{Address, Endpoint, MacAddress, Reachability};

use crate::lab::*;

/// A stranger on the internet's link.
const STRANGER: MacAddress = MacAddress([2, 0, 0, 0, 0x50, 1]);

/// Another.
const IMPOSTOR: MacAddress = MacAddress([2, 0, 0, 0, 0x66, 1]);

fn stranger(is_v4: bool) -> Address {
    at(if is_v4 { "198.51.100.50" } else { "2001:db8:99::50" }, 0).address
}

/// The edge's Ethernet address on the uplink.
fn edge(world: &World) -> MacAddress {
    let port = world.port(&internet()).unwrap().id;
    world.snapshot().topology.port(port).unwrap().router_mac
}

/// An ARP message: operation, sender and target.
fn arp(operation: u8, mac: MacAddress, sender: Address, target: Address) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation];
    arp.extend(mac.0);
    arp.extend(sender.low32().to_be_bytes());
    arp.extend([0; 6]);
    arp.extend(target.low32().to_be_bytes());
    ethernet(mac, MacAddress::BROADCAST, ETHERTYPE_ARP, &arp)
}

/// A neighbour advertisement with these flags: router, solicited, override.
fn advertisement(mac: MacAddress, target: Address, to: Address, flags: u8) -> Vec<u8> {
    let mut rest = target.bits().to_be_bytes().to_vec();
    rest.extend([2, 1]);
    rest.extend(mac.0);
    let word = [flags << 5, 0, 0, 0];
    let packet = kswitch::sim::icmp::message(target, to, (136, 0), word, &rest).ttl(255);
    let to_mac = if to.is_multicast() { MacAddress([0x33, 0x33, 0, 0, 0, 1]) } else { STRANGER };
    packet.frame(mac, to_mac)
}

/// What a frame asks for, if it is a question by the edge for an Ethernet address; and of whom.
fn question(frame: &[u8]) -> Option<(Address, MacAddress)> {
    let frame = &frame[VNET_HEADER..];
    let to = MacAddress(frame[..6].try_into().unwrap());
    if frame[12..14] == [8, 6] && frame[21] == 1 {
        let octets = frame[38..42].try_into().unwrap();
        return Some((Address::v4(u32::from_be_bytes(octets)), to));
    }
    if frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 135 {
        let octets = frame[62..78].try_into().unwrap();
        return Some((Address::v6(u128::from_be_bytes(octets)), to));
    }
    None
}

/// The stranger answers the edge's question.
fn answer(world: &mut World, is_v4: bool) {
    let frame = if is_v4 {
        arp(2, STRANGER, stranger(true), at("198.51.100.1", 0).address)
    } else {
        advertisement(STRANGER, stranger(false), at("2001:db8:99::1", 0).address, 0b011)
    };
    world.send(&internet(), &frame);
}

/// The one frame that came to the internet's port.
fn frame(world: &mut World) -> Vec<u8> {
    let mut frames = world.take(&internet());
    assert_eq!(frames.len(), 1, "{frames:x?}; drops {:?}", world.drops());
    frames.remove(0)
}

#[test]
fn a_stranger_is_asked_for_and_the_packet_waits_for_the_answer() {
    for is_v4 in [true, false] {
        let mut world = world(SHOP);
        let own = Endpoint::new(address(&world, &pod("client"), is_v4), 4000);
        let target = Endpoint::new(stranger(is_v4), 80);
        let syn = Craft::syn(own, target);
        assert_eq!(moved(&mut world, &pod("client"), &syn), each(&["asked"]));
        let asked = frame(&mut world);
        let (who, to) = question(&asked).expect("a question");
        assert_eq!((who, to.is_group()), (target.address, true));
        assert_eq!(asked[VNET_HEADER + 6..VNET_HEADER + 12], edge(&world).0);
        // a second one waits as well, and nobody is asked again
        assert_eq!(moved(&mut world, &pod("client"), &syn), each(&[]));

        answer(&mut world, is_v4);
        let came = world.take(&internet());
        assert_eq!(came.len(), 2, "both packets, in order");
        let first = Received::read(&came[0]).unwrap();
        assert!(first.is_intact);
        assert_eq!(first.macs, (STRANGER, edge(&world)));
        let (source, reached) = first.ends();
        assert_eq!((reached, first.packet.ttl), (target, 62));
        assert_eq!(source.address, address(&world, &node("node-a"), is_v4), "masqueraded");

        // and its answer finds the way back
        let reply = Craft::tcp(target, source, TCP_SYN | TCP_ACK).frame(STRANGER, edge(&world));
        assert_eq!(moved_by_frame(&mut world, &internet(), &reply), each(&["established"]));
        assert_eq!(one(&mut world, &pod("client")).ends(), (target, own));
        // the next frame asks nobody
        let ack = Craft::tcp(own, target, TCP_ACK);
        assert_eq!(moved(&mut world, &pod("client"), &ack), each(&["established"]));
    }
}

#[test]
fn who_does_not_answer_three_questions_is_unreachable() {
    for is_v4 in [true, false] {
        let mut world = world(SHOP);
        let client = pod("client");
        let own = Endpoint::new(address(&world, &client, is_v4), 4000);
        let packet = Craft::udp(own, Endpoint::new(stranger(is_v4), 9), b"anybody?");
        assert_eq!(moved(&mut world, &client, &packet), each(&["asked"]));
        world.pass(2);
        nothing(&mut world, &client);
        world.pass(2);
        let questions = world.take(&internet());
        assert_eq!(questions.iter().filter(|frame| question(frame).is_some()).count(), 3);
        assert_eq!(questions.len(), 3);
        let told = one(&mut world, &client);
        assert_eq!(told.icmp(), Some(if is_v4 { (3, 1) } else { (1, 3) }));
        let edge_address = if is_v4 { "10.128.0.1" } else { "fd00:128::1" };
        let from = told.packet.flow.source.address;
        assert_eq!(from, at(edge_address, 0).address, "the router that asked says so");
        assert_eq!(world.drops(), each(&["host_unreachable"]));
        // for a while nobody is asked again
        assert_eq!(moved(&mut world, &client, &packet), each(&["host_unreachable"]));
        world.clear();
        world.pass(6);
        assert_eq!(moved(&mut world, &client, &packet), each(&["asked"]));
        assert!(world.shared.conntrack.is_empty());
    }
}

/// The shop, whose web is also served at an address outside.
fn public() -> World {
    world(&SHOP.replace("[[service]]\nmetadata = { name = \"empty\" }", PUBLIC))
}

const PUBLIC: &str = r#"
[[service]]
metadata = { name = "public" }
[service.spec]
type = "LoadBalancer"
clusterIP = "10.8.1.9"
loadBalancerIP = "203.0.113.9"
selector = { app = "web" }
ports = [{ port = 80, targetPort = 8080 }]

[[service]]
metadata = { name = "empty" }
"#;

#[test]
fn a_stranger_may_call_once_it_is_known_to_be_there() {
    let mut world = public();
    let source = Endpoint::new(stranger(true), 5000);
    let vip = at("203.0.113.9", 80);
    let syn = Craft::syn(source, vip).frame(STRANGER, edge(&world));
    assert_eq!(moved_by_frame(&mut world, &internet(), &syn), each(&["asked"]));
    let (who, _) = question(&frame(&mut world)).unwrap();
    assert_eq!(who, source.address);
    answer(&mut world, true);
    let reached = [pod("near"), pod("far")].into_iter().find_map(|kind| {
        let packet = world.packets(&kind).pop()?;
        Some((kind, packet))
    });
    let (kind, packet) = reached.expect("the call goes on");
    let (client, endpoint) = packet.ends();
    let reply = Craft::tcp(endpoint, client, TCP_SYN | TCP_ACK);
    assert_eq!(moved(&mut world, &kind, &reply), each(&["established"]));
    let got = one(&mut world, &internet());
    assert_eq!((got.ends(), got.macs.0), ((vip, source), STRANGER));
}

#[test]
fn who_cannot_be_on_the_uplink_is_not_believed() {
    let mut world = public();
    let vip = at("203.0.113.9", 80);
    // neither in the prefix, nor behind anyone; a pod's, and a node's
    for lie in ["192.0.2.77", "10.4.0.2", "10.128.0.2"] {
        let syn = Craft::syn(at(lie, 5000), vip).frame(STRANGER, edge(&world));
        assert_eq!(moved_by_frame(&mut world, &internet(), &syn), each(&["spoofed_address"]));
        assert!(world.take(&internet()).is_empty(), "nobody is told or asked");
    }
    // in the prefix, but it does not answer
    let syn = Craft::syn(Endpoint::new(stranger(true), 5000), vip).frame(STRANGER, edge(&world));
    moved_by_frame(&mut world, &internet(), &syn);
    world.pass(4);
    assert_eq!(world.drops()["spoofed_address"], 4);
    assert!(world.packets(&internet()).is_empty());
}

#[test]
fn what_is_behind_a_router_outside_is_reached_through_it_and_nothing_else_is() {
    let routes = "name = \"internet\"\nroutes = [\"192.0.2.0/24\", \"2001:db8:1::/48\"]";
    let mut world = world(&SHOP.replace("name = \"internet\"", routes));
    for (is_v4, behind) in [(true, "192.0.2.9"), (false, "2001:db8:1::9")] {
        let own = Endpoint::new(address(&world, &pod("client"), is_v4), 4000);
        let target = at(behind, 80);
        let syn = Craft::syn(own, target);
        assert_eq!(moved(&mut world, &pod("client"), &syn), each(&["admitted"]));
        let router = world.port(&internet()).unwrap().mac;
        let got = one(&mut world, &internet());
        assert_eq!((got.ends().1, got.macs.0), (target, router));
        let reply = Craft::tcp(target, got.ends().0, TCP_SYN | TCP_ACK).frame(router, got.macs.1);
        assert_eq!(moved_by_frame(&mut world, &internet(), &reply), each(&["established"]));
        assert_eq!(one(&mut world, &pod("client")).ends(), (target, own));
        // and it may call a node
        let node = Endpoint::new(address(&world, &node("node-a"), is_v4), 22);
        let call = Craft::syn(target, node).frame(router, edge(&world));
        assert_eq!(moved_by_frame(&mut world, &internet(), &call), each(&["admitted"]));
        world.clear();
    }
    let elsewhere = Craft::udp(v4(&world, &pod("client"), 4000), at("192.0.3.9", 9), b"");
    assert_eq!(moved(&mut world, &pod("client"), &elsewhere), each(&["no_route"]));
}

#[test]
fn a_wide_route_leaves_to_the_cluster_what_is_the_clusters() {
    let routes = "name = \"internet\"\nroutes = [\"0.0.0.0/0\"]";
    let mut world = world(&SHOP.replace("name = \"internet\"", routes));
    let out = Craft::syn(v4(&world, &pod("client"), 4000), at("8.8.8.8", 53));
    assert_eq!(moved(&mut world, &pod("client"), &out), each(&["admitted"]));
    assert_eq!(one(&mut world, &internet()).ends().1, at("8.8.8.8", 53));
    // neither pods nor cluster IPs are to be reached from outside, nor sent back there
    let outside = at("8.8.8.8", 5000);
    for (target, why) in [("10.4.1.2", "host_unreachable"), ("10.8.1.1", "no_service")] {
        let call = Craft::syn(outside, at(target, 80));
        assert_eq!(moved(&mut world, &internet(), &call), each(&[why]), "{target}");
        world.clear();
    }
}

fn known(world: &World, is_v4: bool) -> Option<(MacAddress, Reachability)> {
    let all: Vec<_> = world.shared.neighbours.entries().collect();
    let found = all.into_iter().find(|entry| entry.address == stranger(is_v4))?;
    Some((found.place?.0, found.state))
}

#[test]
fn what_is_said_unasked_changes_what_is_known_and_adds_nothing() {
    for is_v4 in [true, false] {
        let mut world = world(SHOP);
        let all = at("ff02::1", 0).address;
        let unasked = |mac, flags| {
            let own = stranger(is_v4);
            if is_v4 { arp(1, mac, own, own) } else { advertisement(mac, own, all, flags) }
        };
        moved_by_frame(&mut world, &internet(), &unasked(STRANGER, 0b001));
        assert_eq!(known(&world, is_v4), None, "nobody asked");
        let own = Endpoint::new(address(&world, &pod("client"), is_v4), 4000);
        let packet = Craft::udp(own, Endpoint::new(stranger(is_v4), 9), b"");
        moved(&mut world, &pod("client"), &packet);
        answer(&mut world, is_v4);
        assert_eq!(known(&world, is_v4).unwrap().0, STRANGER);
        world.clear();
        // it moved: the next frame of the flow follows it
        world.pass(3);
        world.send(&internet(), &unasked(IMPOSTOR, 0b001));
        world.clear();
        assert_eq!(moved(&mut world, &pod("client"), &packet), each(&[]), "judged anew");
        assert_eq!(one(&mut world, &internet()).macs.0, IMPOSTOR);
        assert!(world.shared.contests.is_empty());
        if !is_v4 {
            // without the override flag it only hints: RFC 4861 §7.2.5
            world.send(&internet(), &unasked(STRANGER, 0));
            assert_eq!(known(&world, is_v4).unwrap().0, IMPOSTOR);
        }
    }
}

#[test]
fn two_answers_to_one_question_are_a_duplicate_address() {
    let mut world = world(SHOP);
    let packet =
        Craft::udp(v4(&world, &pod("client"), 4000), Endpoint::new(stranger(true), 9), b"");
    moved(&mut world, &pod("client"), &packet);
    answer(&mut world, true);
    let second = arp(2, IMPOSTOR, stranger(true), at("198.51.100.1", 0).address);
    world.send(&internet(), &second);
    assert_eq!(known(&world, true).unwrap().0, STRANGER, "the first is believed");
    let contest = world.shared.contests.entries().next().expect("it is noted");
    assert_eq!((contest.address, contest.mac), (stranger(true), IMPOSTOR));
}

#[test]
fn a_neighbour_that_falls_silent_is_asked_by_its_name_and_then_by_all() {
    let mut world = world(SHOP);
    let packet =
        Craft::udp(v4(&world, &pod("client"), 4000), Endpoint::new(stranger(true), 9), b"");
    moved(&mut world, &pod("client"), &packet);
    answer(&mut world, true);
    world.clear();
    world.pass(61);
    let asked = world.take(&internet());
    let (who, to) = question(&asked[0]).unwrap();
    assert_eq!((who, to), (stranger(true), STRANGER));
    answer(&mut world, true);
    assert_eq!(known(&world, true).unwrap().1, Reachability::Reachable);
    moved(&mut world, &pod("client"), &packet);
    // now it is gone
    world.pass(70);
    assert_eq!(known(&world, true), None);
    world.clear();
    assert_eq!(moved(&mut world, &pod("client"), &packet), each(&["asked"]));
    assert!(question(&frame(&mut world)).unwrap().1.is_group());
    assert_eq!(world.shared.conntrack.len(), 1, "the flow is not forgotten for that");
    answer(&mut world, true);
    assert_eq!(one(&mut world, &internet()).macs.0, STRANGER);
}

#[test]
fn who_claims_an_address_of_the_edge_is_told_off_once_in_a_while() {
    for (is_v4, own) in [(true, "198.51.100.1"), (false, "2001:db8:99::1")] {
        let mut world = world(SHOP);
        let own = at(own, 0).address;
        let all = at("ff02::1", 0).address;
        let claim =
            if is_v4 { arp(1, IMPOSTOR, own, own) } else { advertisement(IMPOSTOR, own, all, 1) };
        world.send(&internet(), &claim);
        let said = world.take(&internet());
        let said: Vec<_> = said
            .iter()
            .filter(|frame| frame[VNET_HEADER + 6..VNET_HEADER + 12] == edge(&world).0)
            .collect();
        assert!(!said.is_empty(), "the address is defended");
        let contest = world.shared.contests.entries().next().expect("it is noted");
        assert_eq!((contest.address, contest.mac), (own, IMPOSTOR));
        if !is_v4 {
            world.send(&internet(), &claim);
            assert!(world.take(&internet()).is_empty(), "not at once again");
        }
        world.pass(11);
        world.clear();
        world.send(&internet(), &claim);
        assert!(!world.take(&internet()).is_empty());
    }
}

#[test]
fn claims_to_addresses_of_machines_of_the_lab_are_noted() {
    let two =
        format!("{SHOP}\n[[external]]\nname = \"other\"\naddresses = [\"198.51.100.8/24\"]\n");
    let mut world = world(&two);
    let other = PortKind::External { name: "other".into() };
    let own = v4(&world, &other, 0).address;
    world.send(&internet(), &arp(1, IMPOSTOR, own, own));
    let contest = world.shared.contests.entries().next().expect("it is noted");
    assert_eq!((contest.address, contest.mac), (own, IMPOSTOR));
    // a pod that claims its neighbour's is refused, and noted
    let near = v4(&world, &pod("near"), 0).address;
    let mac = world.port(&pod("client")).unwrap().mac;
    let lie = arp(2, mac, near, near);
    assert_eq!(moved_by_frame(&mut world, &pod("client"), &lie), each(&["spoofed_address"]));
    let noted: Vec<_> = world.shared.contests.entries().map(|contest| contest.address).collect();
    assert!(noted.contains(&near), "{noted:?}");
    world.pass(310);
    assert!(world.shared.contests.is_empty(), "nobody claims them any more");
}

#[test]
fn the_edge_asks_for_its_addresses_and_then_says_that_it_has_them() {
    let pools = "pod-cidrs = [\"10.4.0.0/14\", \"fd00:4::/48\"]\n\
                 load-balancer-pools = [\"198.51.100.128/28\"]";
    let text = SHOP.replace("pod-cidrs = [\"10.4.0.0/14\", \"fd00:4::/48\"]", pools);
    let balanced = PUBLIC.replace("loadBalancerIP = \"203.0.113.9\"\n", "");
    let text = text.replace("[[service]]\nmetadata = { name = \"empty\" }", &balanced);
    let mut world = world(&text);
    world.announce();
    let frames = world.take(&internet());
    let wanted = ["198.51.100.1", "198.51.100.129", "2001:db8:99::1"].map(|own| at(own, 0).address);
    for own in wanted {
        let sender =
            |frame: &[u8]| Address::v4(u32::from_be_bytes(frame[28..32].try_into().unwrap()));
        let is_about = |frame: &&Vec<u8>| {
            let frame = &frame[VNET_HEADER..];
            frame[6..12] == edge(&world).0
                && if own.is_v4() {
                    frame[12..14] == [8, 6] && frame[38..42] == own.low32().to_be_bytes()
                } else {
                    frame[12..14] == [0x86, 0xdd] && frame[62..78] == own.bits().to_be_bytes()
                }
        };
        let said: Vec<_> =
            frames.iter().filter(is_about).map(|frame| &frame[VNET_HEADER..]).collect();
        assert_eq!(said.len(), 2, "a probe and an announcement of {own:?}");
        if own.is_v4() {
            assert_eq!(sender(said[0]), Address::UNSPECIFIED_V4);
            assert_eq!(sender(said[1]), own);
        } else {
            assert_eq!((said[0][54], said[1][54]), (135, 136));
            assert_eq!(
                said[1][58] >> 5,
                0b101,
                "a router's, unsolicited, instead of what was known"
            );
            assert!(Received::read(&[&[0; VNET_HEADER], said[1]].concat()).unwrap().is_intact);
        }
    }
    // once is enough
    world.announce();
    assert!(world.take(&internet()).is_empty());
}

#[test]
fn a_datagram_in_pieces_waits_whole_for_its_neighbour() {
    for order in [[0, 1, 2], [2, 1, 0]] {
        let mut world = world(SHOP);
        let source = v4(&world, &pod("client"), 4000);
        let target = Endpoint::new(stranger(true), 9);
        let data: Vec<u8> = (0..4000u32).map(|n| (n % 251) as u8).collect();
        let packet = Craft::udp(source, target, &data).packet();
        let pieces = fragment::cut(&packet, 1480, 77);
        assert_eq!(pieces.len(), 3);
        let (mac, router) = {
            let port = world.port(&pod("client")).unwrap();
            (port.mac, world.snapshot().topology.port(port.id).unwrap().router_mac)
        };
        for n in order {
            world.send(&pod("client"), &ethernet(mac, router, 0x0800, &pieces[n]));
        }
        answer(&mut world, true);
        let got = world.packets(&internet());
        assert_eq!(got.len(), 3, "in order {order:?}: {:?}", world.drops());
        let whole = fragment::join(&got).unwrap();
        let masquerade = got[0].packet.flow.source.address;
        assert_eq!(masquerade, address(&world, &node("node-a"), true));
        assert_eq!(whole[28..], data);
    }
}

#[test]
fn machines_of_the_uplink_reach_each_other_whoever_they_are() {
    let two =
        format!("{SHOP}\n[[external]]\nname = \"other\"\naddresses = [\"198.51.100.8/24\"]\n");
    let mut world = world(&two);
    let other = PortKind::External { name: "other".into() };
    let (mac, target) = (world.port(&other).unwrap().mac, v4(&world, &other, 80));
    let source = Endpoint::new(stranger(true), 5000);
    let syn = Craft::syn(source, target).frame(STRANGER, mac);
    assert_eq!(moved_by_frame(&mut world, &internet(), &syn), each(&["admitted"]));
    assert_eq!(one(&mut world, &other).ends(), (source, target));
    let reply = Craft::tcp(target, source, TCP_SYN | TCP_ACK).frame(mac, STRANGER);
    assert_eq!(moved_by_frame(&mut world, &other, &reply), each(&["established"]));
    assert_eq!(one(&mut world, &internet()).ends(), (target, source));
    // also after the tables changed
    let observed = world.observed.clone();
    world.observe(observed);
    let ack = Craft::tcp(source, target, TCP_ACK).frame(STRANGER, mac);
    world.send(&internet(), &ack);
    assert_eq!(one(&mut world, &other).ends(), (source, target));
}
