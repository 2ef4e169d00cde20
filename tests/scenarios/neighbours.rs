//! ARP and neighbour discovery.

use kswitch::dataplane::frame::ETHERTYPE_ARP;
use kswitch::sim::World;
use kswitch::sim::craft::ethernet;
use kswitch_config::PortKind;
use kswitch_tables::{Address, MacAddress};

use crate::lab::*;

/// An ARP request as the machine's own stack sends it.
fn request(world: &World, from: &PortKind, sender: Address, target: Address) -> Vec<u8> {
    let mac = world.port(from).unwrap().mac;
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(mac.0);
    arp.extend(sender.low32().to_be_bytes());
    arp.extend([0; 6]);
    arp.extend(target.low32().to_be_bytes());
    ethernet(mac, MacAddress::BROADCAST, ETHERTYPE_ARP, &arp)
}

#[test]
fn the_gateway_answers_for_itself_alone() {
    let mut world = world(SHOP);
    let client = pod("client");
    let own = address(&world, &client, true);
    let gateway: Address = at("10.4.0.1", 0).address;
    let ask = request(&world, &client, own, gateway);
    assert_eq!(moved_by_frame(&mut world, &client, &ask), each(&["answered"]));
    let frames = world.take(&client);
    assert_eq!(frames.len(), 1);
    let reply = &frames[0][10..];
    assert_eq!(&reply[..6], &world.port(&client).unwrap().mac.0);
    assert_eq!(&reply[12..14], &[8, 6]);
    assert_eq!(reply[21], 2, "an ARP reply");
    assert_eq!(&reply[28..32], &gateway.low32().to_be_bytes());

    // a ClusterIP is on no link
    let ask = request(&world, &client, own, at("10.8.1.1", 0).address);
    moved_by_frame(&mut world, &client, &ask);
    nothing(&mut world, &client);
}

#[test]
fn a_question_about_a_neighbour_is_heard_by_it_alone() {
    let mut world = world(SHOP);
    let (client, near) = (pod("client"), pod("near"));
    let ask =
        request(&world, &client, address(&world, &client, true), address(&world, &near, true));
    moved_by_frame(&mut world, &client, &ask);
    assert_eq!(world.take(&near), [ask]);
    nothing(&mut world, &pod("far"));
}

#[test]
fn a_pod_cannot_claim_anothers_address() {
    let mut world = world(SHOP);
    let (client, near) = (pod("client"), pod("near"));
    let lie = request(&world, &client, address(&world, &near, true), at("10.4.0.1", 0).address);
    assert_eq!(moved_by_frame(&mut world, &client, &lie), each(&["spoofed_address"]));
    nothing(&mut world, &client);
    nothing(&mut world, &near);
}
