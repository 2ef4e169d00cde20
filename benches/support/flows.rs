//! A conntrack table, and any number of flows to put into it.

use kswitch_tables::conntrack::{BindingFlags, Bound, State};
use kswitch_tables::{
    Address, Binding, Conntrack, Endpoint, Flow, Generation, HopId, LoadId, PortId, Protocol, Tick,
};

/// A table for so many IPv4 connections, in the pages that a switch has it in.
pub(crate) fn table(connections: usize) -> Conntrack {
    Conntrack::advised(connections, 1, 42, &kswitch::port::pages::enlarge)
}

/// A flow from one of a few hundred clients to a Service; another one for every number.
pub(crate) fn flow(number: usize) -> Flow {
    let number = u32::try_from(number).unwrap();
    let source = Endpoint::new(Address::v4(0x0a04_0000 + (number >> 15)), port(number));
    let target = Endpoint::new(Address::v4(0x0a60_0001), 80);
    Flow { protocol: Protocol::UDP, source, target }
}

fn port(number: u32) -> u16 {
    u16::try_from((number & 0x7fff) + 1024).unwrap()
}

/// Records a flow, translated to a backend, in both directions.
pub(crate) fn record(conntrack: &Conntrack, number: usize) {
    let original = flow(number);
    let backend = Endpoint::new(Address::v4(0x0a04_f000), 8080);
    let binding = |ingress, source, target, hop| Binding {
        ingress: PortId(ingress),
        source,
        target,
        ip_delta: 1,
        transport_delta: 2,
        hops: 2,
        hop: HopId(hop),
        load: LoadId::NONE,
        generation: Generation(1),
        flags: BindingFlags::NAT,
    };
    let forward = binding(1, original.source, backend, 1);
    let backward = binding(2, original.target, original.source, 2);
    let reply = forward.answered_by(original.protocol);
    let bound = conntrack.bind(&original, forward, &reply, backward, Tick(1), State::UdpUnreplied);
    assert!(matches!(bound, Ok(Bound::New(_))), "flow {number}: {bound:?}");
}
