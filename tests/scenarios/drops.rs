//! Every reason for which a frame is dropped, and that it moves its own counter.

use std::collections::BTreeMap;

use kswitch::dataplane::DropReason;
use kswitch::dataplane::frame::{TCP_ACK, TCP_FIN, TCP_SYN};
use kswitch::port::VNET_HEADER;
use kswitch::sim::World;
use kswitch::sim::craft::{Body, Craft, ethernet};
use kswitch_config::PortKind;
use kswitch_config::link::{Direction, Faults, Rate, Share};
use kswitch_tables::{Endpoint, Flow, MacAddress, Protocol};

use crate::lab::*;

/// Counters that moved, and by how much.
type Moved = BTreeMap<&'static str, u64>;

/// The shop with policies, a Service for one node, one for few, and a node with one pod alone.
fn shop() -> World {
    world(&format!(
        r#"{SHOP}
[[service]]
metadata = {{ name = "local" }}
[service.spec]
clusterIP = "10.8.1.4"
internalTrafficPolicy = "Local"
selector = {{ only = "far" }}
ports = [{{ port = 80 }}]

[[service]]
metadata = {{ name = "few" }}
[service.spec]
type = "LoadBalancer"
clusterIP = "10.8.1.5"
loadBalancerIP = "203.0.113.9"
loadBalancerSourceRanges = ["192.0.2.0/24"]
selector = {{ app = "web" }}
ports = [{{ port = 80 }}]

[[service]]
metadata = {{ name = "inner" }}
[service.spec]
type = "LoadBalancer"
loadBalancerClass = "networking.gke.io/l4-regional-internal"
clusterIP = "10.8.1.6"
loadBalancerIP = "203.0.113.8"
selector = {{ app = "web" }}
ports = [{{ port = 80 }}]

[[pod]]
metadata = {{ name = "other", labels = {{ only = "far" }} }}
spec = {{ nodeName = "node-b" }}

[[pod]]
metadata = {{ name = "silent", labels = {{ role = "silent" }} }}
spec = {{ nodeName = "node-b" }}

[[pod]]
metadata = {{ name = "deaf", labels = {{ role = "deaf" }} }}
spec = {{ nodeName = "node-b" }}

[[node]]
name = "node-c"

[[pod]]
metadata = {{ name = "alone" }}
spec = {{ nodeName = "node-c" }}

[[network-policy]]
metadata = {{ name = "silent" }}
spec = {{ podSelector = {{ matchLabels = {{ role = "silent" }} }}, policyTypes = ["Egress"] }}

[[network-policy]]
metadata = {{ name = "deaf" }}
spec = {{ podSelector = {{ matchLabels = {{ role = "deaf" }} }}, policyTypes = ["Ingress"] }}
"#
    ))
}

/// A UDP datagram of the client to the far pod, as a frame.
fn datagram(world: &World) -> Vec<u8> {
    let (client, far) = (v4(world, &pod("client"), 4000), v4(world, &pod("far"), 9));
    world.frame(&pod("client"), &Craft::udp(client, far, b"data")).unwrap()
}

/// A frame whose octets from the IP header on are these.
fn with_ip(world: &World, ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let port = world.port(&pod("client")).unwrap();
    let router = world.snapshot().topology.port(port.id).unwrap().router_mac;
    ethernet(port.mac, router, ethertype, packet)
}

/// Does what is dropped for this reason; answers which counters the last frame moved.
#[expect(clippy::too_many_lines, reason = "one arm for each reason, so that none is forgotten")]
fn drop_for(reason: DropReason) -> Moved {
    let mut world = shop();
    let world = &mut world;
    let client = pod("client");
    let own = v4(world, &client, 4000);
    let far = v4(world, &pod("far"), 9);
    let ip = VNET_HEADER + 14;
    let send = |world: &mut World, packet: &Craft| moved(world, &pod("client"), packet);
    let frame = |world: &mut World, frame: &[u8]| moved_by_frame(world, &pod("client"), frame);
    match reason {
        DropReason::FrameTooShort => {
            let short = datagram(world)[..VNET_HEADER + 13].to_vec();
            frame(world, &short)
        }
        DropReason::BadIpHeader => {
            let mut broken = datagram(world);
            broken[ip] = 0x44;
            frame(world, &broken)
        }
        DropReason::BadIpChecksum => {
            let mut broken = datagram(world);
            broken[ip + 10] ^= 1;
            frame(world, &broken)
        }
        DropReason::BadExtensionHeader => {
            let source = Endpoint::new(address(world, &client, false), 0);
            let target = Endpoint::new(address(world, &pod("far"), false), 0);
            // hop-by-hop options that claim to be longer than the packet
            let body = Body::Raw(Protocol(0), vec![17, 9, 0, 0, 0, 0, 0, 0]);
            send(world, &Craft { source, target, ttl: 64, body })
        }
        DropReason::BadTransportHeader => {
            let body = Body::Raw(Protocol::TCP, vec![0; 12]);
            send(world, &Craft { source: own, target: far, ttl: 64, body })
        }
        DropReason::BadIcmpChecksum => {
            let packet = Craft::ping(own, at("10.4.0.1", 0), 1);
            let mut broken = world.frame(&client, &packet).unwrap();
            *broken.last_mut().unwrap() ^= 1;
            frame(world, &broken)
        }
        DropReason::BadNeighbourMessage => {
            let mac = world.port(&client).unwrap().mac;
            // ARP of another hardware than Ethernet
            let arp = [&[0, 9, 8, 0, 6, 4, 0, 1][..], &[0; 20]].concat();
            frame(world, &ethernet(mac, MacAddress::BROADCAST, 0x0806, &arp))
        }
        DropReason::MartianSource => send(world, &Craft::udp(at("224.0.0.1", 1), far, b"")),
        DropReason::MartianTarget => send(world, &Craft::udp(own, at("127.0.0.1", 1), b"")),
        DropReason::SpoofedMac => {
            let mut lie = datagram(world);
            lie[VNET_HEADER + 6..ip - 2].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
            frame(world, &lie)
        }
        DropReason::SpoofedAddress => {
            let near = v4(world, &pod("near"), 1);
            send(world, &Craft::udp(near, far, b""))
        }
        DropReason::NotForRouter => {
            let host = node("node-a");
            let mac = world.port(&host).unwrap().mac;
            let strange = ethernet(mac, MacAddress::BROADCAST, 0x88b5, b"to whom?");
            moved_by_frame(world, &host, &strange)
        }
        DropReason::NoSuchNeighbour => {
            let mut lost = datagram(world);
            lost[VNET_HEADER..VNET_HEADER + 6].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
            frame(world, &lost)
        }
        DropReason::NoBridgeMember => {
            let mac = world.port(&pod("alone")).unwrap().mac;
            let call = ethernet(mac, MacAddress::BROADCAST, 0x88b5, b"anybody?");
            moved_by_frame(world, &pod("alone"), &call)
        }
        DropReason::Fragmented => {
            let packet = Craft::udp(own, at("10.8.1.2", 80), &[7; 64]).packet();
            let pieces = [
                piece(&packet[..20], &packet[20..60], 0, true),
                piece(&packet[..20], &packet[60..], 5, false),
            ];
            let [first, second] = pieces.map(|piece| with_ip(world, 0x0800, &piece));
            // the first is refused, and the second with it
            frame(world, &first);
            frame(world, &second)
        }
        DropReason::FragmentOverlap => {
            let packet = Craft::udp(own, far, &[7; 64]).packet();
            let pieces = [
                piece(&packet[..20], &packet[20..60], 0, true),
                piece(&packet[..20], &packet[52..], 4, false),
            ];
            let [first, second] = pieces.map(|piece| with_ip(world, 0x0800, &piece));
            frame(world, &first);
            frame(world, &second)
        }
        DropReason::NoRoute => {
            let outside = v4(world, &internet(), 5000);
            moved(world, &internet(), &Craft::udp(outside, far, b""))
        }
        DropReason::Blackhole => {
            *world = crate::modes::routes_based(&["10.4.0.0/24"]);
            send(world, &Craft::udp(own, far, b""))
        }
        DropReason::HostUnreachable => send(world, &Craft::udp(own, at("10.4.1.200", 9), b"")),
        DropReason::NodeDown => {
            crate::power::switch(world, &["node-b"]);
            send(world, &Craft::udp(own, far, b""))
        }
        DropReason::NeighbourQueueFull => {
            // the eighth that waits for one neighbour is the last
            for port in 0..8 {
                send(world, &Craft::udp(Endpoint { port, ..own }, at("198.51.100.50", 9), b""));
            }
            send(world, &Craft::udp(own, at("198.51.100.50", 9), b""))
        }
        DropReason::TtlExceeded => send(world, &Craft::udp(own, far, b"").ttl(1)),
        DropReason::TooBig => refused(send(world, &Craft::udp(own, far, &[0; 1600])), "admitted"),
        DropReason::NoService => send(world, &Craft::udp(own, at("10.8.1.99", 53), b"")),
        DropReason::NoServicePort => send(world, &Craft::udp(own, at("10.8.1.1", 99), b"")),
        DropReason::NoEndpoints => send(world, &Craft::syn(own, at("10.8.1.2", 80))),
        DropReason::NoLocalEndpoints => send(world, &Craft::syn(own, at("10.8.1.4", 80))),
        DropReason::SourceRange => {
            let outside = v4(world, &internet(), 5000);
            moved(world, &internet(), &Craft::syn(outside, at("203.0.113.9", 80)))
        }
        DropReason::NoForwardingRule => {
            let outside = v4(world, &internet(), 5000);
            moved(world, &internet(), &Craft::syn(outside, at("203.0.113.9", 81)))
        }
        DropReason::ForwardingScope => {
            let outside = v4(world, &internet(), 5000);
            moved(world, &internet(), &Craft::syn(outside, at("203.0.113.8", 80)))
        }
        DropReason::PolicyEgress => {
            let silent = v4(world, &pod("silent"), 4000);
            moved(world, &pod("silent"), &Craft::udp(silent, far, b""))
        }
        DropReason::PolicyIngress => {
            let deaf = v4(world, &pod("deaf"), 9);
            send(world, &Craft::udp(own, deaf, b""))
        }
        DropReason::MidStream => send(world, &Craft::tcp(own, at("10.8.1.1", 80), TCP_ACK)),
        DropReason::InvalidState => {
            send(world, &Craft::syn(own, far));
            // nobody has answered yet
            refused(send(world, &Craft::tcp(own, far, TCP_ACK)), "established")
        }
        DropReason::UnrelatedIcmp => {
            let quoted = Craft::udp(far, own, b"never sent").packet();
            let error = kswitch::sim::icmp::port_unreachable(own.address, far.address, &quoted);
            send(world, &error)
        }
        DropReason::UnsolicitedReply => {
            let body = Body::Echo { is_reply: true, sequence: 1, data: vec![0; 8] };
            send(
                world,
                &Craft { source: own, target: Endpoint::new(far.address, 0), ttl: 64, body },
            )
        }
        DropReason::ConntrackFull => fill(world),
        DropReason::ConntrackContended => {
            let flow = Flow { protocol: Protocol::UDP, source: own, target: far };
            let shared = std::sync::Arc::clone(&world.shared);
            let held = shared.conntrack.hold(&flow).expect("a flow of that kind is there");
            let contended = send(world, &Craft::udp(own, far, b""));
            drop(held);
            assert_eq!(send(world, &Craft::udp(own, far, b"")), each(&["admitted"]));
            contended
        }
        DropReason::HalfOpenLimit => {
            *world = crate::floods::limited(2);
            for port in [1, 2] {
                let moved = send(world, &Craft::syn(Endpoint { port, ..own }, far));
                assert_eq!(moved, each(&["admitted"]));
            }
            send(world, &Craft::syn(Endpoint { port: 3, ..own }, far))
        }
        DropReason::RouterPort => {
            // a node has a stack of its own, the edge has none
            let outside = v4(world, &internet(), 5000);
            moved(world, &internet(), &Craft::udp(outside, at("198.51.100.1", 9), b""))
        }
        DropReason::NoSourcePort => {
            // a protocol without ports leaves nothing to tell two pods apart by
            let tunnel = |world: &World, name: &str| {
                let source = v4(world, &pod(name), 0);
                let target = v4(world, &internet(), 0);
                Craft { source, target, ttl: 64, body: Body::Raw(Protocol(47), vec![0; 8]) }
            };
            let (first, second) = (tunnel(world, "client"), tunnel(world, "near"));
            send(world, &first);
            moved(world, &pod("near"), &second)
        }
        DropReason::PortBusy => {
            let packet = Craft::udp(own, far, b"");
            // the far pod does not read
            while world.drops().is_empty() {
                send(world, &packet);
            }
            refused(send(world, &packet), "established")
        }
        DropReason::LinkCut => {
            let cut = Faults { partition: true, ..Faults::default() };
            world.link(&client, Direction::From, cut);
            send(world, &Craft::udp(own, far, b""))
        }
        DropReason::LinkLoss => {
            let lossy = Faults { loss: Share::ALL, ..Faults::default() };
            world.link(&node("node-a"), Direction::From, lossy);
            refused(send(world, &Craft::udp(own, far, b"")), "admitted")
        }
        DropReason::LinkFull => {
            let slow = Faults { rate: Some(Rate(8)), ..Faults::default() };
            world.link(&client, Direction::From, slow);
            send(world, &Craft::udp(own, far, b""));
            send(world, &Craft::udp(own, far, b""))
        }
        DropReason::PortGone => {
            world.peer(&pod("far")).unwrap().cut();
            refused(send(world, &Craft::udp(own, far, b"")), "admitted")
        }
        DropReason::PortUnfinished => {
            world.peer(&pod("far")).unwrap().refuse_offloads();
            let mut unfinished = datagram(world);
            // a kind of segmentation that nobody has heard of
            unfinished[1] = 0x7f;
            refused(frame(world, &unfinished), "admitted")
        }
    }
}

/// The same without what was counted before the last step refused.
fn refused(mut moved: Moved, before: &'static str) -> Moved {
    assert_eq!(moved.remove(before), Some(1), "{moved:?}");
    moved
}

/// New flows until one more does not fit.
fn fill(world: &mut World) -> Moved {
    let far = v4(world, &pod("far"), 9);
    for port in 1..=u16::MAX {
        let own = v4(world, &pod("client"), port);
        let moved = moved(world, &pod("client"), &Craft::syn(own, far));
        if !moved.contains_key("admitted") {
            return moved;
        }
        world.clear();
    }
    panic!("it never was full")
}

/// A fragment of an IPv4 packet: its header, a piece, and where that belongs in units of 8 octets.
fn piece(header: &[u8], payload: &[u8], offset: u16, more: bool) -> Vec<u8> {
    let mut packet = header.to_vec();
    let total = u16::try_from(20 + payload.len()).unwrap();
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[4..6].copy_from_slice(&[0x12, 0x34]);
    packet[6..8].copy_from_slice(&(offset | if more { 0x2000 } else { 0 }).to_be_bytes());
    packet[10..12].fill(0);
    let sum = kswitch::dataplane::checksum::of(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

#[test]
fn every_reason_is_reached_and_moves_its_own_counter_alone() {
    let moved = DropReason::ALL.iter().map(|reason| (reason.key(), drop_for(*reason)));
    let others: Vec<_> = moved.filter(|(key, moved)| *moved != each(&[key])).collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn a_frame_that_is_refused_leaves_no_flow_behind() {
    let mut world = shop();
    let (own, silent): (PortKind, PortKind) = (pod("client"), pod("silent"));
    let source = v4(&world, &own, 4000);
    for target in [at("10.8.1.2", 80), at("10.8.1.4", 80), at("10.8.1.99", 80), at("10.4.1.200", 9)]
    {
        moved(&mut world, &own, &Craft::syn(source, target));
        moved(&mut world, &own, &Craft::tcp(source, target, TCP_SYN | TCP_FIN));
    }
    let (source, far) = (v4(&world, &silent, 4000), v4(&world, &pod("far"), 9));
    moved(&mut world, &silent, &Craft::udp(source, far, b""));
    assert!(world.shared.conntrack.is_empty());
}
