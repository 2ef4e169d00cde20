//! ARP and neighbour discovery.

use kswitch::dataplane::frame::ETHERTYPE_ARP;
use kswitch::port::VNET_HEADER;
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
fn whoever_asked_in_vain_is_told_where_its_gateways_are() {
    let mut world = world(SHOP);
    let node = PortKind::Node { name: "node-a".into() };
    for machine in [pod("client"), node, internet()] {
        let id = world.port(&machine).unwrap().id;
        let port = world.snapshot().topology.port(id).unwrap().clone();
        let gateways = world.snapshot().topology.gateways(&port).to_vec();
        assert!(gateways.iter().any(|gateway| gateway.address.is_v4()), "{machine:?}");
        assert!(gateways.iter().any(|gateway| !gateway.address.is_v4()), "{machine:?}");
        world.take(&machine);
        world.remind();
        let frames = world.take(&machine);
        assert_eq!(frames.len(), gateways.len(), "{machine:?}");
        for (frame, gateway) in frames.iter().zip(gateways) {
            let (frame, own) = (&frame[VNET_HEADER..], gateway.address);
            assert_eq!(frame[6..12], port.router_mac.0);
            if own.is_v4() {
                // RFC 5227 section 3: a request in which both addresses are the sender's
                let own = own.low32().to_be_bytes();
                assert_eq!((&frame[12..14], frame[21]), (&[8, 6][..], 1));
                assert_eq!((&frame[22..28], &frame[28..32]), (&port.router_mac.0[..], &own[..]));
                assert_eq!(frame[38..42], own);
            } else {
                // RFC 4861 section 4.4: a router's, unsolicited, instead of what was known
                assert_eq!((frame[54], frame[58] >> 5), (136, 0b101));
                assert_eq!(frame[62..78], own.bits().to_be_bytes());
                assert_eq!(frame[80..86], port.router_mac.0);
            }
        }
    }
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

/// A neighbour solicitation as the machine's own stack sends it.
fn solicitation(world: &World, from: &PortKind, sender: Address, target: Address) -> Vec<u8> {
    let mut rest = target.bits().to_be_bytes().to_vec();
    rest.extend([1, 1]);
    rest.extend(world.port(from).unwrap().mac.0);
    // the solicited-node group of the target
    let group = Address::v6(0xff02_0000_0000_0000_0000_0001_ff00_0000 | target.bits() & 0xff_ffff);
    let packet = kswitch::sim::icmp::message(sender, group, (135, 0), [0; 4], &rest).ttl(255);
    let [.., a, b, c, d] = group.bits().to_be_bytes();
    packet.frame(world.port(from).unwrap().mac, MacAddress([0x33, 0x33, a, b, c, d]))
}

#[test]
fn the_edge_answers_for_load_balancers_on_the_uplink_and_for_nothing_else_inside() {
    let balanced = r#"
[[service]]
metadata = { name = "public" }
[service.spec]
type = "LoadBalancer"
clusterIP = "10.8.1.9"
clusterIPs = ["10.8.1.9", "fd00:8::109"]
ipFamilyPolicy = "RequireDualStack"
selector = { app = "web" }
ports = [{ port = 80, targetPort = 8080 }]
"#;
    let pools = "service-cidrs = [\"10.8.0.0/20\", \"fd00:8::/112\"]\n\
                 load-balancer-pools = [\"198.51.100.128/28\", \"2001:db8:99::80/124\"]";
    let shop = SHOP.replace("service-cidrs = [\"10.8.0.0/20\", \"fd00:8::/112\"]", pools);
    let mut world = world(&format!("{shop}{balanced}"));
    let host = internet();
    let (own, own_v6) = (address(&world, &host, true), address(&world, &host, false));
    let router = world.snapshot().topology.port(world.port(&host).unwrap().id).unwrap().router_mac;
    let served = ["198.51.100.129", "2001:db8:99::81"];
    let others = ["10.8.1.9", "198.51.100.130", "10.4.0.2"].map(|text| at(text, 0).address);
    let ask = request(&world, &host, own, at(served[0], 0).address);
    assert_eq!(moved_by_frame(&mut world, &host, &ask), each(&["answered"]));
    assert_eq!(world.take(&host)[0][10 + 6..10 + 12], router.0);
    let ask = solicitation(&world, &host, own_v6, at(served[1], 0).address);
    assert_eq!(moved_by_frame(&mut world, &host, &ask), each(&["answered"]));
    assert_eq!(world.take(&host)[0][10 + 6..10 + 12], router.0);
    for target in others {
        let ask = request(&world, &host, own, target);
        moved_by_frame(&mut world, &host, &ask);
        nothing(&mut world, &host);
    }
    // and what is sent there is served
    let syn = kswitch::sim::craft::Craft::syn(v4(&world, &host, 5000), at(served[0], 80));
    let frame = syn.frame(world.port(&host).unwrap().mac, router);
    assert_eq!(moved_by_frame(&mut world, &host, &frame), each(&["admitted"]));
}
