//! One machine that floods, and what the others notice of it.

use kswitch::dataplane::frame::{TCP_ACK, TCP_SYN};
use kswitch::sim::World;
use kswitch::sim::craft::{Craft, ethernet};
use kswitch::sim::fragment;
use kswitch_config::PortKind;
use kswitch_tables::{Endpoint, MacAddress};

use crate::lab::*;

/// The shop, where a machine may have begun so many flows that nobody has answered.
pub(crate) fn limited(half_open: u32) -> World {
    world(&format!("{SHOP}[switch.limits]\nhalf-open-flows = {half_open}\n"))
}

fn half_open(world: &World, of: &PortKind) -> u32 {
    world.shared.conntrack.half_open(world.port(of).unwrap().id)
}

#[test]
fn half_open_flows_of_a_machine_are_bounded_and_those_of_others_are_not() {
    let mut world = limited(8);
    let (client, far) = (pod("client"), v4(&world, &pod("far"), 9));
    let own = v4(&world, &client, 1);
    let talk = |world: &World, port| {
        let (own, far) = (v4(world, &pod("client"), port), v4(world, &pod("far"), 9));
        (
            Craft::syn(own, far),
            Craft::tcp(far, own, TCP_SYN | TCP_ACK),
            Craft::tcp(own, far, TCP_ACK),
        )
    };
    // one is there already
    let (syn, syn_ack, ack) = talk(&world, 100);
    moved(&mut world, &client, &syn);
    moved(&mut world, &pod("far"), &syn_ack);
    assert_eq!(half_open(&world, &client), 1, "its handshake is not done");
    moved(&mut world, &client, &ack);
    assert_eq!(half_open(&world, &client), 0);

    // SYNs, datagrams, echo requests and stray segments count alike
    for port in 0..2 {
        let own = Endpoint { port: 200 + port, ..own };
        moved(&mut world, &client, &Craft::syn(own, far));
        moved(&mut world, &client, &Craft::udp(own, far, b""));
        moved(&mut world, &client, &Craft::ping(own, far, port));
        moved(&mut world, &client, &Craft::tcp(Endpoint { port: 300 + port, ..own }, far, TCP_ACK));
    }
    assert_eq!(half_open(&world, &client), 8);
    let refused = each(&["half_open_limit"]);
    for port in 0..50 {
        let own = Endpoint { port: 400 + port, ..own };
        assert_eq!(moved(&mut world, &client, &Craft::syn(own, far)), refused);
    }
    assert_eq!(world.shared.conntrack.len(), 9);
    // what is known goes on, and others begin as ever, to the same target too
    assert_eq!(moved(&mut world, &client, &ack), each(&["established"]));
    let near = v4(&world, &pod("near"), 5000);
    assert_eq!(moved(&mut world, &pod("near"), &Craft::syn(near, far)), each(&["admitted"]));
    // its router answers
    let gateway = Craft::ping(own, at("10.4.0.1", 0), 1);
    assert_eq!(moved(&mut world, &client, &gateway), each(&["answered"]));

    // an answer makes room, and so does time
    let answer = Craft::udp(far, Endpoint { port: 200, ..own }, b"");
    assert_eq!(moved(&mut world, &pod("far"), &answer), each(&["established"]));
    assert_eq!(moved(&mut world, &client, &Craft::syn(own, far)), each(&["admitted"]));
    assert_eq!(half_open(&world, &client), 8);
    world.pass(700);
    assert_eq!(half_open(&world, &client), 0);
}

#[test]
fn half_open_flows_of_both_families_count_together() {
    let mut world = limited(2);
    let client = pod("client");
    for (is_v4, expected) in [(true, "admitted"), (false, "admitted"), (true, "half_open_limit")] {
        let source = Endpoint::new(address(&world, &client, is_v4), 1000 + u16::from(is_v4));
        let port = if expected == "admitted" { 9 } else { 10 };
        let target = Endpoint::new(address(&world, &pod("far"), is_v4), port);
        assert_eq!(moved(&mut world, &client, &Craft::udp(source, target, b"")), each(&[expected]));
    }
}

#[test]
fn a_machine_with_much_to_send_does_not_keep_others_waiting() {
    let mut world = world(SHOP);
    let far = v4(&world, &pod("far"), 9);
    let flood = v4(&world, &pod("client"), 1);
    // all of it is there before the other machine sends its few
    for port in 0..3000 {
        let packet = Craft::udp(Endpoint { port, ..flood }, far, b"");
        let frame = world.frame(&pod("client"), &packet).unwrap();
        world.peer(&pod("client")).unwrap().send(&frame);
    }
    let few = Craft::udp(v4(&world, &pod("near"), 1), far, b"");
    let frame = world.frame(&pod("near"), &few).unwrap();
    for _ in 0..10 {
        world.peer(&pod("near")).unwrap().send(&frame);
    }
    world.run();
    let came = world.packets(&pod("far"));
    assert_eq!(came.len(), 3010);
    let places: Vec<_> = { came.iter().enumerate() }
        .filter(|(_, packet)| packet.ends().0 == v4(&world, &pod("near"), 1))
        .map(|(place, _)| place)
        .collect();
    assert_eq!(places.len(), 10);
    // a burst of the one, a burst of the other
    assert!(places[9] < 2 * kswitch::dataplane::burst::BURST, "{places:?}");
}

/// The first or the second fragment of a datagram, as a frame.
fn piece(world: &World, from: &PortKind, id: u16, is_first: bool) -> Vec<u8> {
    let (own, far) = (v4(world, from, 4000), v4(world, &pod("far"), 9));
    let packet = Craft::udp(own, far, &[7; 40]).packet();
    let piece = &fragment::cut(&packet, 24, id.into())[usize::from(!is_first)];
    let port = world.port(from).unwrap();
    let router = world.snapshot().topology.port(port.id).unwrap().router_mac;
    ethernet(port.mac, router, 0x0800, piece)
}

#[test]
fn fragments_of_others_find_room_whatever_one_machine_leaves_unfinished() {
    for floods_with_firsts in [false, true] {
        let mut world = world(SHOP);
        let (client, near) = (pod("client"), pod("near"));
        let flood = |world: &mut World, ids: std::ops::Range<u16>| {
            for id in ids {
                let frame = piece(world, &client, id, floods_with_firsts);
                world.send(&client, &frame);
            }
            world.clear();
        };
        flood(&mut world, 0..2000);
        // its later fragment comes first, and waits
        let later = piece(&world, &near, 1, false);
        assert_eq!(moved_by_frame(&mut world, &near, &later), each(&[]));
        let later = piece(&world, &near, 2, false);
        assert_eq!(moved_by_frame(&mut world, &near, &later), each(&[]));
        flood(&mut world, 2000..6000);
        for id in [1, 2] {
            let first = piece(&world, &near, id, true);
            world.send(&near, &first);
            assert_eq!(world.take(&pod("far")).len(), 2, "both of them");
        }
    }
}

#[test]
fn questions_for_nobody_leave_others_their_neighbours() {
    let limits = "[switch.limits]\nneighbours = 12\n";
    let mut world = world(&format!("{SHOP}{limits}"));
    let (client, near) = (pod("client"), pod("near"));
    let (own, other) = (v4(&world, &client, 4000), v4(&world, &near, 4000));
    let at_uplink = |last: u16| at(&format!("198.51.100.{last}"), 9);
    for last in 100..250 {
        let moved = moved(&mut world, &client, &Craft::udp(own, at_uplink(last), b""));
        let expected = if last < 112 { "asked" } else { "neighbour_queue_full" };
        assert_eq!(moved, each(&[expected]), "{last}");
    }
    let asked = moved(&mut world, &near, &Craft::udp(other, at_uplink(50), b""));
    assert_eq!(asked, each(&["asked"]));
    // none has answered, and they are forgotten
    world.pass(60);
    let port = world.port(&client).unwrap().id;
    assert_eq!(world.shared.neighbours.unanswered(port), 0);
}

#[test]
fn ethernet_addresses_without_number_leave_others_theirs() {
    let more = "[switch]\nanti-spoof = false\n[switch.limits]\nlearned-addresses = 16\n";
    let mut world = world(&format!("{SHOP}{more}"));
    let mac = |last: u16| {
        let [high, low] = last.to_be_bytes();
        MacAddress([2, 0, 0, 1, high, low])
    };
    let call = |last| ethernet(mac(last), MacAddress::BROADCAST, 0x88b5, b"it is me");
    for last in 0..1000 {
        world.send(&pod("client"), &call(last));
    }
    world.clear();
    assert_eq!(world.shared.fdb.len(), 16);
    world.send(&pod("near"), &call(2000));
    assert_eq!(world.shared.fdb.len(), 17);
    // who is known is sent to, and nobody else hears it
    let port = world.port(&pod("client")).unwrap();
    let frame = ethernet(port.mac, mac(2000), 0x88b5, b"hello");
    world.clear();
    world.send(&pod("client"), &frame);
    assert_eq!(world.take(&pod("near")).len(), 1);
    nothing(&mut world, &node("node-a"));
}
