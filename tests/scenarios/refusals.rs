//! What is refused, and that it leaves nothing behind.

use kswitch::sim::craft::Craft;
use kswitch_tables::MacAddress;

use crate::lab::*;

#[test]
fn sources_that_are_not_ones_own_are_refused() {
    let mut world = world(SHOP);
    let (near, far) = (v4(&world, &pod("near"), 1), v4(&world, &pod("far"), 2));
    let lie = Craft::udp(near, far, b"");
    assert_eq!(moved(&mut world, &pod("client"), &lie), each(&["spoofed_address"]));
    let loopback = Craft::udp(at("127.0.0.1", 1), far, b"");
    assert_eq!(moved(&mut world, &pod("client"), &loopback), each(&["martian_source"]));
    let own = v4(&world, &pod("client"), 1);
    let mut frame = world.frame(&pod("client"), &Craft::udp(own, far, b"")).unwrap();
    frame[16..22].copy_from_slice(&MacAddress([2, 9, 9, 9, 9, 9]).0);
    assert_eq!(moved_by_frame(&mut world, &pod("client"), &frame), each(&["spoofed_mac"]));
    assert_eq!(world.shared.conntrack.len(), 0);
    nothing(&mut world, &pod("far"));
}

#[test]
fn a_known_flow_does_not_open_the_door_to_another_port() {
    let mut world = world(SHOP);
    let (client, far) = (v4(&world, &pod("client"), 1), v4(&world, &pod("far"), 2));
    moved(&mut world, &pod("client"), &Craft::udp(client, far, b""));
    one(&mut world, &pod("far"));
    let lie = Craft::udp(client, far, b"not me");
    assert_eq!(moved(&mut world, &pod("near"), &lie), each(&["spoofed_address"]));
    nothing(&mut world, &pod("far"));
}

#[test]
fn broken_headers_are_dropped_without_a_word() {
    let mut world = world(SHOP);
    let (client, far) = (v4(&world, &pod("client"), 1), v4(&world, &pod("far"), 2));
    let good = world.frame(&pod("client"), &Craft::udp(client, far, b"data")).unwrap();
    let ip = 10 + 14;
    let broken = |at: usize, octet: u8| {
        let mut frame = good.clone();
        frame[at] = octet;
        frame
    };
    for (frame, reason) in [
        (broken(ip, 0x55), "bad_ip_header"),
        (broken(ip, 0x44), "bad_ip_header"),
        (broken(ip + 2, 0x40), "bad_ip_header"),
        (broken(ip + 10, !good[ip + 10]), "bad_ip_checksum"),
        (good[..10 + 13].to_vec(), "frame_too_short"),
    ] {
        assert_eq!(moved_by_frame(&mut world, &pod("client"), &frame), each(&[reason]));
        nothing(&mut world, &pod("far"));
        nothing(&mut world, &pod("client"));
    }
}
