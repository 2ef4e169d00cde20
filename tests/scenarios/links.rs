//! Links on which frames are lost, late, twice or other than they were; each way for itself.

use std::time::Duration;

use kswitch::dataplane::frame::{TCP_ACK, TCP_SYN};
use kswitch::port::VNET_HEADER;
use kswitch::sim::World;
use kswitch::sim::craft::{Body, Craft};
use kswitch_config::PortKind;
use kswitch_config::link::{Direction, Faults, Rate, Share};

use crate::lab::*;

const NONE: [u16; 0] = [];

const HALF: Share = Share(500_000);

/// A datagram of this number from the client to the far pod.
fn datagram(world: &World, number: u16) -> Craft {
    let (own, far) = (v4(world, &pod("client"), 4000), v4(world, &pod("far"), 9));
    Craft::udp(own, far, &number.to_be_bytes())
}

/// Sends so many, and answers the numbers of those that have come.
fn send(world: &mut World, count: u16) -> Vec<u16> {
    for number in 0..count {
        let packet = datagram(world, number);
        world.send_packet(&pod("client"), &packet);
    }
    come(world)
}

/// The numbers of the datagrams that came to the far pod.
fn come(world: &mut World) -> Vec<u16> {
    let packets = world.packets(&pod("far"));
    let number = |data: &[u8]| u16::from_be_bytes([data[0], data[1]]);
    packets.iter().map(|packet| number(packet.data())).collect()
}

/// Each link on the way from the client to the far pod, and which way it is gone along.
fn on_the_way() -> [(PortKind, Direction); 4] {
    [
        (pod("client"), Direction::From),
        (node("node-a"), Direction::From),
        (node("node-b"), Direction::To),
        (pod("far"), Direction::To),
    ]
}

#[test]
fn nothing_passes_a_link_that_is_cut_until_it_is_mended() {
    for (of, direction) in on_the_way() {
        let mut world = world(SHOP);
        world.link(&of, direction, Faults { partition: true, ..Faults::default() });
        let packet = datagram(&world, 1);
        let moved = moved(&mut world, &pod("client"), &packet);
        let first =
            if of == pod("client") { vec!["link_cut"] } else { vec!["admitted", "link_cut"] };
        assert_eq!(moved, each(&first), "{of}");
        nothing(&mut world, &pod("far"));
        // its neighbour on the node hears it, unless its own link is cut
        let (own, near) = (v4(&world, &pod("client"), 4000), v4(&world, &pod("near"), 9));
        world.send_packet(&pod("client"), &Craft::udp(own, near, b""));
        assert_eq!(world.packets(&pod("near")).len(), usize::from(of != pod("client")), "{of}");
        world.link(&of, direction, Faults::default());
        assert_eq!(send(&mut world, 3), [0, 1, 2], "{of}");
    }
}

#[test]
fn a_cut_is_of_one_way_alone() {
    for (of, direction) in on_the_way() {
        let mut world = world(SHOP);
        let other = if direction == Direction::From { Direction::To } else { Direction::From };
        world.link(&of, other, Faults { partition: true, ..Faults::default() });
        assert_eq!(send(&mut world, 1), [0], "{of}");
        let (own, far) = (v4(&world, &pod("client"), 4000), v4(&world, &pod("far"), 9));
        world.send_packet(&pod("far"), &Craft::udp(far, own, b""));
        nothing(&mut world, &pod("client"));
        assert_eq!(world.drops().get("link_cut"), Some(&1), "{of}");
    }
}

#[test]
fn a_router_beyond_a_cut_is_not_heard() {
    let mut world = world(SHOP);
    let probe = |ttl: u8, world: &World| Craft { ttl, ..datagram(world, 0) };
    let hops = |world: &mut World| {
        [1, 2].map(|ttl| {
            let packet = probe(ttl, world);
            world.send_packet(&pod("client"), &packet);
            world.packets(&pod("client")).len()
        })
    };
    assert_eq!(hops(&mut world), [1, 1]);
    for (of, direction) in [
        (node("node-a"), Direction::From),
        (node("node-a"), Direction::To),
        (node("node-b"), Direction::From),
        (node("node-b"), Direction::To),
    ] {
        world.link(&of, direction, Faults { partition: true, ..Faults::default() });
        assert_eq!(hops(&mut world), [1, 0], "{of} {}", direction.name());
        world.link(&of, direction, Faults::default());
    }
}

#[test]
fn who_goes_by_way_of_another_node_crosses_its_links() {
    let mut world = world(&format!(
        r#"{SHOP}
[[service]]
metadata = {{ name = "door" }}
[service.spec]
type = "NodePort"
clusterIP = "10.8.1.9"
selector = {{ app = "web" }}
ports = [{{ port = 80, targetPort = 8080, nodePort = 30080 }}]
"#
    ));
    let (far_node, own) = (v4(&world, &node("node-b"), 30080), v4(&world, &pod("client"), 4001));
    let near = |world: &mut World| {
        (4001..4033)
            .filter(|port| {
                let own = kswitch_tables::Endpoint { port: *port, ..own };
                world.send_packet(&pod("client"), &Craft::syn(own, far_node));
                world.packets(&pod("far"));
                world.packets(&pod("near")).len() == 1
            })
            .count()
    };
    assert!(near(&mut world) > 0, "some are sent back to the node they came from");
    for direction in Direction::ALL {
        world.link(&node("node-b"), direction, Faults { partition: true, ..Faults::default() });
        assert_eq!(near(&mut world), 0, "{}", direction.name());
        world.link(&node("node-b"), direction, Faults::default());
    }
}

#[test]
fn what_is_delayed_comes_later_and_in_order() {
    for (of, direction) in on_the_way() {
        let mut world = world(SHOP);
        let delay = Duration::from_millis(300);
        world.link(&of, direction, Faults { delay, ..Faults::default() });
        assert_eq!(send(&mut world, 3), NONE, "{of}");
        world.pass_ticks(2);
        assert_eq!(send(&mut world, 1), NONE, "{of}");
        world.pass_ticks(1);
        assert_eq!(come(&mut world), [0, 1, 2], "{of}");
        world.link(&of, direction, Faults::default());
        assert_eq!(send(&mut world, 1), [0], "what comes after is not late any more: {of}");
        world.pass_ticks(2);
        assert_eq!(come(&mut world), [0], "what was under way is not lost: {of}");
    }
}

#[test]
fn delays_add_up() {
    let mut world = world(SHOP);
    for (of, direction) in on_the_way() {
        let delay = Duration::from_millis(100);
        world.link(&of, direction, Faults { delay, ..Faults::default() });
    }
    send(&mut world, 1);
    for _ in 0..3 {
        world.pass_ticks(1);
        nothing(&mut world, &pod("far"));
    }
    world.pass_ticks(1);
    assert_eq!(come(&mut world), [0]);
}

#[test]
fn what_is_lost_follows_from_the_seed() {
    let run = |seed| {
        let mut world = world(SHOP);
        let faults = Faults { loss: HALF, seed: Some(seed), ..Faults::default() };
        world.link(&pod("client"), Direction::From, faults);
        let come = send(&mut world, 1000);
        assert_eq!(world.drops().get("link_loss").copied(), Some(1000 - come.len() as u64));
        come
    };
    let come = run(1);
    // four standard deviations
    assert!(come.len().abs_diff(500) < 64, "{}", come.len());
    assert_eq!(come, run(1));
    assert_ne!(come, run(2));
}

#[test]
fn what_is_doubled_comes_twice() {
    let mut world = world(SHOP);
    let faults = Faults { duplicate: Share::ALL, ..Faults::default() };
    world.link(&pod("far"), Direction::To, faults);
    assert_eq!(send(&mut world, 2), [0, 0, 1, 1]);
}

#[test]
fn what_is_changed_differs_by_one_bit_behind_the_ethernet_header() {
    let mut world = world(SHOP);
    send(&mut world, 1);
    let packet = datagram(&world, 7);
    world.send_packet(&pod("client"), &packet);
    let whole = world.take(&pod("far")).remove(0);
    world.link(&pod("far"), Direction::To, Faults { corrupt: Share::ALL, ..Faults::default() });
    let mut places = std::collections::BTreeSet::new();
    for _ in 0..200 {
        world.send_packet(&pod("client"), &packet);
        let changed = world.take(&pod("far")).remove(0);
        let differences = whole.iter().zip(&changed).enumerate();
        let bits: Vec<_> = differences.filter(|(_, (a, b))| a != b).collect();
        let [(place, (a, b))] = bits[..] else { panic!("{bits:?}") };
        assert_eq!((a ^ b).count_ones(), 1);
        assert!(place >= VNET_HEADER + 14, "{place}");
        places.insert(place);
    }
    assert!(places.len() > 15, "{places:?}");
}

#[test]
fn what_overtakes_is_not_late() {
    let mut world = world(SHOP);
    let delay = Duration::from_millis(100);
    let faults = Faults { delay, reorder: HALF, ..Faults::default() };
    world.link(&node("node-a"), Direction::From, faults);
    let first = send(&mut world, 100);
    assert!(first.len().abs_diff(50) < 20, "{first:?}");
    world.pass_ticks(1);
    let late = come(&mut world);
    let mut all: Vec<_> = first.iter().chain(&late).copied().collect();
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_rate_lets_through_so_many_bits_in_a_second() {
    let mut world = world(SHOP);
    // 1,042 octets with their headers: ten of them in a second
    let rate = Some(Rate(8 * 10 * 1042));
    let faults = Faults { rate, queue: Some(Duration::from_secs(2)), ..Faults::default() };
    world.link(&pod("far"), Direction::To, faults);
    let (own, far) = (v4(&world, &pod("client"), 4000), v4(&world, &pod("far"), 9));
    for _ in 0..30 {
        world.send_packet(&pod("client"), &Craft::udp(own, far, &[0; 1000]));
    }
    // one is being sent, twenty wait for two seconds at most
    assert_eq!(world.drops().get("link_full"), Some(&9));
    for _ in 0..21 {
        nothing(&mut world, &pod("far"));
        world.pass_ticks(1);
        assert_eq!(world.packets(&pod("far")).len(), 1);
    }
    world.pass_ticks(1);
    nothing(&mut world, &pod("far"));
}

#[test]
fn what_waits_has_bounds() {
    let mut world = world(SHOP);
    let delay = Duration::from_secs(1);
    world.link(&pod("client"), Direction::From, Faults { delay, ..Faults::default() });
    for _ in 0..10 {
        send(&mut world, 1000);
    }
    let full = world.drops().get("link_full").copied().unwrap_or_default();
    assert!((1000..5000).contains(&full), "{full}");
    let mut total = 0;
    // ports in memory take no more at once
    world.pass_ticks(10);
    total += come(&mut world).len() as u64;
    total += world.drops().get("port_busy").copied().unwrap_or_default();
    assert_eq!(total, 10_000 - full);
    assert_eq!(send(&mut world, 1), NONE);
    world.pass_ticks(10);
    assert_eq!(come(&mut world), [0], "there is room again");
}

#[test]
fn each_segment_of_a_super_frame_fares_for_itself() {
    let mut world = world(SHOP);
    let (own, far) = (v4(&world, &pod("client"), 4000), v4(&world, &pod("far"), 8080));
    world.send_packet(&pod("client"), &Craft::syn(own, far));
    world.send_packet(&pod("far"), &Craft::tcp(far, own, TCP_SYN | TCP_ACK));
    world.send_packet(&pod("client"), &Craft::tcp(own, far, TCP_ACK));
    world.clear();
    let faults = Faults { loss: HALF, ..Faults::default() };
    world.link(&pod("far"), Direction::To, faults);
    let mut packet = Craft::tcp(own, far, TCP_ACK);
    if let Body::Tcp { data, .. } = &mut packet.body {
        *data = vec![7; 50_000];
    }
    let mut frame = world.frame(&pod("client"), &packet).unwrap();
    // segments of 1,000 octets, and the checksum left to the device
    frame[..10].copy_from_slice(&[1, 1, 54, 0, 232, 3, 34, 0, 16, 0]);
    world.send(&pod("client"), &frame);
    let packets = world.packets(&pod("far"));
    assert!(packets.iter().all(|packet| packet.is_intact && packet.data().len() == 1000));
    assert!(packets.len().abs_diff(25) < 15, "{} {:?}", packets.len(), world.drops());
    assert_eq!(world.drops().get("link_loss").copied(), Some(50 - packets.len() as u64));
}

#[test]
fn the_lab_file_says_what_is_wrong_with_links() {
    let mut world = world(&format!(
        r#"{SHOP}
[[link]]
of = "node/node-a"
direction = "from"
delay = "100ms"

[[link]]
of = "client"
direction = "to"
loss = "100%"
"#
    ));
    assert_eq!(send(&mut world, 1), NONE);
    world.pass_ticks(1);
    assert_eq!(come(&mut world), [0]);
    let (own, far) = (v4(&world, &pod("client"), 4000), v4(&world, &pod("far"), 9));
    world.send_packet(&pod("far"), &Craft::udp(far, own, b""));
    nothing(&mut world, &pod("client"));
    assert_eq!(world.drops().get("link_loss"), Some(&1));
}
