//! Fragments through translation, in any order.

use kswitch::sim::World;
use kswitch::sim::craft::{Craft, ethernet};
use kswitch_tables::Endpoint;

use crate::lab::*;

/// The fragments of an IPv4 packet, each of `octets` payload octets at most, as whole frames.
fn fragments(world: &World, packet: &[u8], octets: usize) -> Vec<Vec<u8>> {
    let port = world.port(&pod("client")).unwrap();
    let gateway = world.snapshot().topology.port(port.id).unwrap().router_mac;
    let (header, payload) = packet.split_at(20);
    let pieces: Vec<&[u8]> = payload.chunks(octets).collect();
    let last = pieces.len() - 1;
    pieces
        .iter()
        .enumerate()
        .map(|(n, piece)| {
            let mut piece_packet = header.to_vec();
            let total = u16::try_from(20 + piece.len()).unwrap();
            let more = if n == last { 0 } else { 0x2000 };
            let offset = u16::try_from(n * octets / 8).unwrap() | more;
            piece_packet[2..4].copy_from_slice(&total.to_be_bytes());
            piece_packet[4..6].copy_from_slice(&[0x12, 0x34]);
            piece_packet[6..8].copy_from_slice(&offset.to_be_bytes());
            piece_packet[10..12].fill(0);
            let sum = kswitch::dataplane::checksum::of(&piece_packet);
            piece_packet[10..12].copy_from_slice(&sum.to_be_bytes());
            piece_packet.extend(*piece);
            ethernet(port.mac, gateway, 0x0800, &piece_packet)
        })
        .collect()
}

/// Puts fragments together: source, target and payload above IP.
fn reassembled(frames: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    let mut payload = vec![0; 65_535];
    let (mut end, mut addresses) = (0, Vec::new());
    for frame in frames {
        let ip = &frame[24..];
        let at = usize::from(u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff) * 8;
        let piece = &ip[20..usize::from(u16::from_be_bytes([ip[2], ip[3]]))];
        payload[at..at + piece.len()].copy_from_slice(piece);
        end = end.max(at + piece.len());
        addresses = ip[12..20].to_vec();
    }
    payload.truncate(end);
    (addresses, payload)
}

#[test]
fn a_datagram_in_pieces_reaches_one_endpoint_whole_in_any_order() {
    let data: Vec<u8> = (0..4000u32).map(|n| (n % 251) as u8).collect();
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
        let mut world = world(SHOP);
        let source = v4(&world, &pod("client"), 4000);
        let packet = Craft::udp(source, at("10.8.1.1", 53), &data).packet();
        let frames = fragments(&world, &packet, 1400);
        assert_eq!(frames.len(), 3);
        for n in order {
            world.send(&pod("client"), &frames[n]);
        }
        let (kind, got) = [pod("near"), pod("far")]
            .into_iter()
            .map(|kind| (kind.clone(), world.take(&kind)))
            .find(|(_, frames)| !frames.is_empty())
            .unwrap_or_else(|| panic!("nothing arrived in order {order:?}: {:?}", world.drops()));
        assert_eq!(got.len(), 3, "in order {order:?}");
        let (addresses, payload) = reassembled(&got);
        let target = Endpoint::new(address(&world, &kind, true), 8053);
        assert_eq!(addresses[4..], target.address.low32().to_be_bytes());
        assert_eq!(payload, Craft::udp(source, target, &data).packet()[20..]);
    }
}

#[test]
fn an_identification_may_serve_again_once_its_packet_is_whole() {
    let mut world = world(SHOP);
    let (source, far) = (v4(&world, &pod("client"), 4000), v4(&world, &pod("far"), 9));
    let frames = fragments(&world, &Craft::udp(source, far, &[7; 4000]).packet(), 1400);
    for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 2, 0]] {
        for n in order {
            world.send(&pod("client"), &frames[n]);
        }
        assert_eq!(world.take(&pod("far")).len(), 3, "in order {order:?}: {:?}", world.drops());
    }
}

#[test]
fn a_header_in_pieces_is_put_together_first() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        for vip in [true, false] {
            let mut world = world(SHOP);
            let (client, far) = (v4(&world, &pod("client"), 4000), v4(&world, &pod("far"), 8080));
            let target = if vip { at("10.8.1.1", 80) } else { far };
            let packet = Craft::syn(client, target).packet();
            let frames = fragments(&world, &packet, 8);
            assert_eq!(frames.len(), 3);
            let last = order.map(|n| moved_by_frame(&mut world, &pod("client"), &frames[n]));
            assert_eq!(last[2], each(&["admitted"]), "in order {order:?}");
            let (kind, got) = [pod("near"), pod("far")]
                .into_iter()
                .find_map(|kind| world.packets(&kind).pop().map(|got| (kind, got)))
                .unwrap();
            assert!(got.is_intact);
            let served = Endpoint::new(address(&world, &kind, true), 8080);
            assert_eq!(got.ends(), (client, served));
            // the same once more is another packet under the same identification
            for frame in &frames {
                world.send(&pod("client"), frame);
            }
            assert_eq!(one(&mut world, &kind).ends(), (client, served));
        }
    }
}

#[test]
fn a_refusal_of_a_header_in_pieces_is_said_once() {
    for order in [[0, 1, 2], [2, 1, 0]] {
        let mut world = world(SHOP);
        let client = v4(&world, &pod("client"), 4000);
        let frames = fragments(&world, &Craft::syn(client, at("10.8.1.1", 81)).packet(), 8);
        for n in order {
            world.send(&pod("client"), &frames[n]);
        }
        assert_eq!(one(&mut world, &pod("client")).ends(), (at("10.8.1.1", 81), client));
    }
}

#[test]
fn policies_see_through_a_header_in_pieces() {
    let closed = r#"
[[network-policy]]
metadata = { name = "web" }
[network-policy.spec]
podSelector = { matchLabels = { app = "web" } }
ingress = [{ ports = [{ port = 80 }] }]
"#;
    let mut world = world(&format!("{SHOP}{closed}"));
    let (client, far) = (v4(&world, &pod("client"), 4000), v4(&world, &pod("far"), 8080));
    let frames = fragments(&world, &Craft::syn(client, far).packet(), 8);
    let moved: Vec<_> =
        frames.iter().map(|f| moved_by_frame(&mut world, &pod("client"), f)).collect();
    assert_eq!(moved[2], each(&["policy_ingress"]));
    nothing(&mut world, &pod("far"));
}

#[test]
fn overlapping_pieces_spoil_their_packet() {
    let mut world = world(SHOP);
    let source = v4(&world, &pod("client"), 4000);
    let packet = Craft::udp(source, at("10.8.1.1", 53), &[7; 4000]).packet();
    let frames = fragments(&world, &packet, 1400);
    let mut overlapping = frames[1].clone();
    // one word earlier, the header checksum mended
    let offset = u16::from_be_bytes([overlapping[30], overlapping[31]]) - 1;
    overlapping[30..32].copy_from_slice(&offset.to_be_bytes());
    overlapping[34..36].fill(0);
    let sum = kswitch::dataplane::checksum::of(&overlapping[24..44]);
    overlapping[34..36].copy_from_slice(&sum.to_be_bytes());
    world.send(&pod("client"), &frames[0]);
    assert_eq!(
        moved_by_frame(&mut world, &pod("client"), &overlapping),
        each(&["fragment_overlap"])
    );
    assert!(!moved_by_frame(&mut world, &pod("client"), &frames[1]).contains_key("established"));
}

#[test]
fn pieces_of_a_refused_packet_are_refused() {
    let mut world = world(SHOP);
    let source = v4(&world, &pod("client"), 4000);
    let packet = Craft::udp(source, at("10.8.1.2", 80), &[7; 3000]).packet();
    let frames = fragments(&world, &packet, 1400);
    let moved: Vec<_> =
        frames.iter().map(|f| moved_by_frame(&mut world, &pod("client"), f)).collect();
    assert_eq!(moved[0], each(&["no_service_port"]));
    assert_eq!(moved[1], each(&["fragmented"]));
}
