//! Nodes that are switched off: nothing comes from them, nothing gets to them, nobody is told.

use std::collections::BTreeMap;

use kswitch::dataplane::frame::{TCP_ACK, TCP_RST, TCP_SYN};
use kswitch::sim::World;
use kswitch::sim::craft::{Body, Craft};
use kswitch_config::Observed;

use crate::lab::*;

/// Has these nodes, and no others, be switched off.
pub(crate) fn switch(world: &mut World, off: &[&str]) {
    let nodes_down = off.iter().map(|name| (*name).to_owned()).collect();
    let observed = Observed { nodes_down, ..world.observed.clone() };
    world.observe(observed);
}

#[test]
fn what_goes_to_a_node_without_power_is_lost_and_nobody_is_told() {
    let mut world = world(SHOP);
    switch(&mut world, &["node-b"]);
    for is_v4 in [true, false] {
        let own = kswitch_tables::Endpoint::new(address(&world, &pod("client"), is_v4), 4000);
        let far = kswitch_tables::Endpoint::new(address(&world, &pod("far"), is_v4), 8080);
        let node = kswitch_tables::Endpoint::new(address(&world, &node("node-b"), is_v4), 22);
        for target in [far, node] {
            let lost = moved(&mut world, &pod("client"), &Craft::syn(own, target));
            assert_eq!(lost, each(&["node_down"]));
        }
        let out = kswitch_tables::Endpoint::new(address(&world, &internet(), is_v4), 5000);
        let lost = moved(&mut world, &internet(), &Craft::syn(out, node));
        assert_eq!(lost, each(&["node_down"]));
        // nor does anything come from there, not even to a neighbour
        let lost = moved(&mut world, &pod("far"), &Craft::udp(far, own, b""));
        assert_eq!(lost, each(&["node_down"]));
        for machine in [pod("client"), pod("far"), internet()] {
            nothing(&mut world, &machine);
        }
        let near = kswitch_tables::Endpoint::new(address(&world, &pod("near"), is_v4), 8080);
        let carried = moved(&mut world, &pod("client"), &Craft::syn(own, near));
        assert_eq!(carried, each(&["admitted"]));
        one(&mut world, &pod("near"));
    }
}

#[test]
fn a_service_leads_to_a_node_without_power_until_that_is_noticed() {
    let mut world = world(SHOP);
    switch(&mut world, &["node-b"]);
    let client = pod("client");
    let mut fates = BTreeMap::<&str, u64>::new();
    for port in 4000..4100 {
        let packet = Craft::syn(v4(&world, &client, port), at("10.8.1.1", 80));
        for (fate, count) in moved(&mut world, &client, &packet) {
            *fates.entry(fate).or_default() += count;
        }
    }
    let (lost, kept) = (fates["node_down"], fates["admitted"]);
    assert!(lost > 20 && kept > 20 && lost + kept == 100, "{fates:?}");
    let ready_pods = [(("default".to_owned(), "far".to_owned()), false)].into();
    let observed = Observed { ready_pods, ..world.observed.clone() };
    world.observe(observed);
    for port in 5000..5050 {
        let packet = Craft::syn(v4(&world, &client, port), at("10.8.1.1", 80));
        assert_eq!(moved(&mut world, &client, &packet), each(&["admitted"]));
    }
}

#[test]
fn a_connection_outlives_the_power_of_a_node_and_is_reset_by_who_comes_back() {
    let mut world = world(SHOP);
    let (client, far) = (v4(&world, &pod("client"), 4000), v4(&world, &pod("far"), 8080));
    let segment = |flags| Craft::tcp(client, far, flags);
    let back = |flags| Craft::tcp(far, client, flags);
    moved(&mut world, &pod("client"), &segment(TCP_SYN));
    moved(&mut world, &pod("far"), &back(TCP_SYN | TCP_ACK));
    moved(&mut world, &pod("client"), &segment(TCP_ACK));
    world.clear();
    switch(&mut world, &["node-b"]);
    assert_eq!(moved(&mut world, &pod("client"), &segment(TCP_ACK)), each(&["node_down"]));
    switch(&mut world, &[]);
    moved(&mut world, &pod("client"), &segment(TCP_ACK));
    one(&mut world, &pod("far"));
    moved(&mut world, &pod("far"), &back(TCP_RST));
    one(&mut world, &pod("client"));
}

#[test]
fn machines_of_one_node_hear_nothing_of_each_other_without_power() {
    let mut world = world(SHOP);
    switch(&mut world, &["node-a"]);
    let (client, near) = (v4(&world, &pod("client"), 4000), v4(&world, &pod("near"), 8080));
    let ping = Craft {
        source: client,
        target: near,
        ttl: 64,
        body: Body::Raw(kswitch_tables::Protocol(253), vec![0; 8]),
    };
    assert_eq!(moved(&mut world, &pod("client"), &ping), each(&["node_down"]));
    nothing(&mut world, &pod("near"));
}
