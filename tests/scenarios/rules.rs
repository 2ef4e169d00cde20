//! What toy versions of conntrack, NAT and bridges get wrong, rule by rule, and what shows that it
//! is right here.
//!
//! | rule | shown by |
//! |---|---|
//! | timeouts, by state | `requirements`: timers; `tables`: `conntrack::timeouts` |
//! | a SYN after the end reopens, and chooses anew | `a_port_used_again_begins_anew` |
//! | no endpoint for the middle of a stream | `services`: `a_segment_from_the_middle_of_nowhere…` |
//! | a full table refuses the newest half-open flow | `drops`: `conntrack_full`; `tables`: reclaim |
//! | two workers with one first frame agree | `tables/tests/stress.rs`, loom |
//! | answers need one look-up | `established` in every scenario with an answer |
//! | one client port by two addresses | `services`: `the_same_client_port_by_two_addresses…` |
//! | errors: outer and inner headers, three checksums | `icmp`, `odd`, `requirements` |
//! | errors are related to their flow, never to a policy | `icmp`, `requirements`: `error_from_inside` |
//! | fragments in any order, bounded | `fragments`, `odd`, `uplink` |
//! | checksums by difference; bad stays bad | `a_bad_checksum_stays_bad`, `odd` |
//! | partial checksums | `a_checksum_left_to_the_device_stays_so` |
//! | each router takes one hop, and speaks as itself | `forwarding`, `icmp`, `odd` |
//! | super-frames are judged by their segments | `a_super_frame_is_as_long_as_its_segments` |
//! | SCTP's CRC | conformance: `translate-sctp-address`; `odd` |
//! | neighbours, proxying, announcements | `neighbours`, `uplink`, `modes` |
//! | learning, ageing | `a_bridge_learns_and_forgets` |
//! | storms leave no flows | `what_goes_to_many_is_no_flow` |
//!
//! What concerns measurement and the kernel's packet generator is in `tools` and `benches`.

use kswitch::dataplane::Vnet;
use kswitch::dataplane::checksum::{fold, pseudo_header_sum};
use kswitch::dataplane::frame::{
    ETHERNET_HEADER, ETHERTYPE_ARP, IPV6_HEADER, TCP_ACK, TCP_FIN, TCP_SYN,
};
use kswitch::dataplane::rewrite::{get_u16, put_u16};
use kswitch::port::VNET_HEADER;
use kswitch::sim::World;
use kswitch::sim::craft::{Body, Craft, ethernet};
use kswitch::sim::read::Received;
use kswitch_config::PortKind;
use kswitch_tables::conntrack::State;
use kswitch_tables::{Address, Endpoint, MacAddress, Protocol};

use crate::lab::*;

/// Two more hosts on the uplink.
const OUTSIDE: &str = "[[external]]\nname = \"second\"\naddress = \"198.51.100.8/24\"\n\
                       [[external]]\nname = \"third\"\naddress = \"198.51.100.9/24\"\nmtu = 1280\n";

fn outside(name: &str) -> PortKind {
    PortKind::External { name: name.into() }
}

/// Sends a frame of the client; the endpoint's name, and the frame as it came there.
fn reached(world: &mut World, frame: &[u8]) -> (PortKind, Vec<u8>) {
    world.send(&pod("client"), frame);
    let found = [pod("near"), pod("far")]
        .into_iter()
        .find_map(|kind| world.take(&kind).pop().map(|frame| (kind, frame)));
    found.unwrap_or_else(|| panic!("nobody was reached: {:?}", world.drops()))
}

#[test]
fn a_port_used_again_begins_anew() {
    let mut world = world(SHOP);
    let (own, vip) = (v4(&world, &pod("client"), 4000), at("10.8.1.1", 80));
    let state = |world: &World| {
        let all: Vec<_> = world.shared.conntrack.connections().collect();
        assert_eq!(all.len(), 1);
        all[0].life.state
    };
    let mut endpoints = std::collections::BTreeSet::new();
    for turn in 0..20 {
        let syn = Craft::syn(own, vip);
        let expected =
            if turn == 0 { each(&["admitted"]) } else { each(&["admitted", "established"]) };
        assert_eq!(moved(&mut world, &pod("client"), &syn), expected, "turn {turn}");
        assert_eq!(state(&world), State::SynSent);
        let (kind, got) = [pod("near"), pod("far")]
            .into_iter()
            .find_map(|kind| world.packets(&kind).pop().map(|got| (kind, got)))
            .unwrap();
        let (client, endpoint) = got.ends();
        endpoints.insert(kind.to_string());
        for (from_client, flags) in [
            (false, TCP_SYN | TCP_ACK),
            (true, TCP_ACK),
            (true, TCP_FIN | TCP_ACK),
            (false, TCP_FIN | TCP_ACK),
            (true, TCP_ACK),
        ] {
            let (from, packet) = if from_client {
                (pod("client"), Craft::tcp(own, vip, flags))
            } else {
                (kind.clone(), Craft::tcp(endpoint, client, flags))
            };
            assert_eq!(moved(&mut world, &from, &packet), each(&["established"]));
        }
        assert_eq!(state(&world), State::TimeWait);
        world.clear();
    }
    assert_eq!(endpoints.len(), 2, "each time one is chosen");
}

#[test]
fn a_bad_checksum_stays_bad() {
    for is_v4 in [true, false] {
        let mut world = world(SHOP);
        let own = Endpoint::new(address(&world, &pod("client"), is_v4), 4000);
        let vip = at(if is_v4 { "10.8.1.1" } else { "fd00:8::101" }, 53);
        let mut frame = world.frame(&pod("client"), &Craft::udp(own, vip, b"question")).unwrap();
        *frame.last_mut().unwrap() ^= 1;
        let (_, got) = reached(&mut world, &frame);
        let got = Received::read(&got).unwrap();
        assert!(!got.is_intact, "nobody else would ever know");
        assert_eq!(got.data(), b"questioo");
    }
}

/// Has the sender of a frame leave its checksum to the device, as a pod's stack does.
fn leave_open(frame: &mut [u8], protocol: Protocol, ends: (Address, Address)) {
    let transport = ETHERNET_HEADER + if ends.0.is_v4() { 20 } else { IPV6_HEADER };
    let offset = if protocol == Protocol::TCP { 16 } else { 6 };
    let length = u32::try_from(frame.len() - VNET_HEADER - transport).unwrap();
    frame[0] = 1;
    frame[6..8].copy_from_slice(&u16::try_from(transport).unwrap().to_le_bytes());
    frame[8..10].copy_from_slice(&u16::to_le_bytes(offset));
    let sum = fold(pseudo_header_sum(ends.0, ends.1, protocol, length));
    put_u16(&mut frame[VNET_HEADER..], transport + usize::from(offset), sum);
}

#[test]
fn a_checksum_left_to_the_device_stays_so() {
    for is_v4 in [true, false] {
        for protocol in [Protocol::TCP, Protocol::UDP] {
            let mut world = world(SHOP);
            let own = Endpoint::new(address(&world, &pod("client"), is_v4), 4000);
            let service = if is_v4 { "10.8.1.1" } else { "fd00:8::101" };
            let (packet, vip) = if protocol == Protocol::TCP {
                (Craft::syn(own, at(service, 80)), at(service, 80))
            } else {
                (Craft::udp(own, at(service, 53), b"question"), at(service, 53))
            };
            let mut frame = world.frame(&pod("client"), &packet).unwrap();
            leave_open(&mut frame, protocol, (own.address, vip.address));
            let (kind, got) = reached(&mut world, &frame);
            assert_eq!(got[..VNET_HEADER], frame[..VNET_HEADER], "it is still left open");
            // the pseudo-header's sum is that of the addresses of now, whatever the ports
            let mut expected = got.clone();
            let endpoint = address(&world, &kind, is_v4);
            leave_open(&mut expected, protocol, (own.address, endpoint));
            assert_eq!(got, expected, "{protocol} over IPv{}", if is_v4 { 4 } else { 6 });
        }
    }
}

#[test]
fn a_super_frame_is_as_long_as_its_segments() {
    let mut world = world(&format!("{SHOP}{OUTSIDE}"));
    let own = v4(&world, &pod("client"), 4000);
    let third = v4(&world, &outside("third"), 80);
    let mut send = |target: Endpoint, size: u16| {
        let (sequence, acknowledged) = (1, 1);
        let body = Body::Tcp { flags: TCP_ACK, sequence, acknowledged, data: vec![7; 40_000] };
        let packet = Craft { source: own, target, ttl: 64, body };
        let mut frame = world.frame(&pod("client"), &packet).unwrap();
        leave_open(&mut frame, Protocol::TCP, (own.address, target.address));
        frame[1] = Vnet::GSO_TCPV4;
        frame[4..6].copy_from_slice(&size.to_le_bytes());
        let counted = moved_by_frame(&mut world, &pod("client"), &frame);
        let told = world.packets(&pod("client"));
        let came = world.take(&outside("third"));
        (counted, told, came.len())
    };
    // 1240 and its headers fit a link of 1280 octets, one more does not
    assert_eq!(send(third, 1240).2, 1, "as one frame");
    let (counted, told, came) = send(third, 1241);
    assert_eq!((counted, came), (each(&["established", "too_big"]), 0));
    assert_eq!(told[0].icmp(), Some((3, 4)));
    assert_eq!(get_u16(told[0].upper(), 6), Some(1280));
}

#[test]
fn a_bridge_learns_and_forgets() {
    const STATION: MacAddress = MacAddress([2, 0, 0, 0, 0x50, 9]);
    let mut world = world(&format!("{SHOP}{OUTSIDE}"));
    let second = world.port(&outside("second")).unwrap().mac;
    let call = ethernet(second, STATION, 0x88b5, b"where are you?");
    let flooded = |world: &mut World| {
        let counted = moved_by_frame(world, &outside("second"), &call);
        let heard = [internet(), outside("third")].map(|kind| world.take(&kind).len());
        (counted, heard)
    };
    assert_eq!(flooded(&mut world), (each(&["flooded"]), [1, 1]), "nobody knows it");
    moved_by_frame(&mut world, &internet(), &ethernet(STATION, second, 0x88b5, b"here"));
    world.clear();
    assert_eq!(flooded(&mut world), (each(&[]), [1, 0]), "it is known");
    // it moves
    moved_by_frame(&mut world, &outside("third"), &ethernet(STATION, second, 0x88b5, b"here"));
    world.clear();
    assert_eq!(flooded(&mut world), (each(&[]), [0, 1]));
    // to where a frame came from it is not sent back
    let own = ethernet(STATION, STATION, 0x88b5, b"me?");
    assert_eq!(moved_by_frame(&mut world, &outside("third"), &own), each(&["no_such_neighbour"]));
    world.pass(301);
    assert_eq!(flooded(&mut world), (each(&["flooded"]), [1, 1]), "it fell silent");
    assert!(world.shared.conntrack.is_empty());
}

#[test]
fn what_goes_to_many_is_no_flow() {
    let mut world = world(SHOP);
    let mac = world.port(&pod("client")).unwrap().mac;
    let own = v4(&world, &pod("client"), 4000);
    for target in ["255.255.255.255", "10.4.0.255", "224.0.0.251"] {
        for port in 0..200 {
            let packet = Craft::udp(own, at(target, port), b"anybody?");
            let frame = packet.frame(mac, MacAddress::BROADCAST);
            assert_eq!(moved_by_frame(&mut world, &pod("client"), &frame), each(&["flooded"]));
            nothing(&mut world, &pod("far"));
            world.clear();
        }
    }
    for last in 0..200_u32 {
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
        arp.extend(mac.0);
        arp.extend(own.address.low32().to_be_bytes());
        arp.extend([0; 6]);
        arp.extend((0x0a04_0000 + last).to_be_bytes());
        world.send(&pod("client"), &ethernet(mac, MacAddress::BROADCAST, ETHERTYPE_ARP, &arp));
        world.clear();
    }
    assert!(world.shared.conntrack.is_empty());
    assert!(world.shared.neighbours.is_empty(), "and none on a bridge of pods is remembered");
}
