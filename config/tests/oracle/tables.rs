//! What the tables say, read as the switch reads them.

use std::net::{IpAddr, SocketAddr};

use kswitch_config::Compiled;
use kswitch_tables::{
    Address, Endpoint, Frontend, FrontendId, NodeSets, Policy, Protocol, Route, RouterId, Snapshot,
};

use super::{Origin, Outcome, Packet};

fn endpoint(socket: SocketAddr) -> Endpoint {
    Endpoint::new(socket.ip().into(), socket.port())
}

pub(crate) fn judge(packet: &Packet, snapshot: &Snapshot) -> Outcome {
    // nodes are numbered after the edge, in their order, as long as none was taken away
    let id = RouterId(u16::try_from(packet.node).unwrap() + 1);
    let Endpoint { address, port } = endpoint(packet.target);
    let Some(found) = frontend_at(snapshot, id, address, packet.protocol, port) else {
        return if snapshot.served.frontends.owns(address) {
            Outcome::NoSuchPort
        } else {
            Outcome::Untouched
        };
    };
    let frontend = snapshot.served.frontends.get(found).unwrap();
    let source = Address::from(packet.source);
    if let Some(ranges) = frontend.source_ranges
        && !snapshot.served.source_ranges(ranges).unwrap().admits(source)
    {
        return Outcome::Dropped;
    }
    let origin = match packet.origin {
        Origin::Node => Origin::Node,
        Origin::Pod | Origin::Outside if snapshot.is_inside(source) => Origin::Pod,
        Origin::Pod | Origin::Outside => Origin::Outside,
    };
    let (sets, masquerade) = sets(frontend, origin);
    match sets.at(id) {
        None if frontend.has_backends => Outcome::Dropped,
        None => Outcome::Rejected,
        Some(set) => {
            let members = snapshot.served.backends.members(set).iter();
            let backends = members.map(|backend| {
                SocketAddr::new(backend.endpoint.address.to_ip(), backend.endpoint.port)
            });
            let sticky_seconds = frontend.affinity.map(|affinity| affinity.timeout_seconds);
            Outcome::Served { backends: backends.collect(), masquerade, sticky_seconds }
        }
    }
}

fn frontend_at(
    snapshot: &Snapshot,
    id: RouterId,
    address: Address,
    protocol: Protocol,
    port: u16,
) -> Option<FrontendId> {
    let (router, frontends) = (snapshot.topology.router(id).unwrap(), &snapshot.served.frontends);
    let own = router.addresses.contains(&address);
    let of_router = || frontends.at_router(id, address, protocol, port);
    let local = || frontends.at_local_port(address.is_v4(), protocol, port);
    own.then(of_router)
        .flatten()
        .or_else(|| frontends.at_address(address, protocol, port))
        .or_else(|| router.frontend_addresses.contains(&address).then(local).flatten())
}

fn sets(frontend: &Frontend, origin: Origin) -> (&NodeSets, bool) {
    match (frontend.policy, origin) {
        (Policy::Internal { masquerade_all }, origin) => {
            (&frontend.sets, masquerade_all || origin != Origin::Pod)
        }
        (Policy::External, _) => (&frontend.sets, true),
        (Policy::ExternalLocal, Origin::Outside) => (&frontend.sets, false),
        (Policy::ExternalLocal, Origin::Pod) => (&frontend.cluster_sets, false),
        (Policy::ExternalLocal, Origin::Node) => (&frontend.cluster_sets, true),
        (Policy::HostPort, origin) => (&frontend.sets, origin == Origin::Node),
    }
}

pub(crate) fn may_stay(
    target: SocketAddr,
    backend: SocketAddr,
    protocol: Protocol,
    snapshot: &Snapshot,
) -> bool {
    let Endpoint { address, port } = endpoint(target);
    let frontends = &snapshot.served.frontends;
    let frontend = frontends.at_address(address, protocol, port).and_then(|id| frontends.get(id));
    frontend.is_some_and(|frontend| frontend.is_serving(endpoint(backend)))
}

/// The node that the edge sends packets for an address to.
pub(crate) fn entry(target: IpAddr, compiled: &Compiled) -> Vec<String> {
    let name = |router| compiled.names.router(router).map(str::to_owned);
    let mut rules = compiled.snapshot.forwarding.iter();
    if let Some((_, rule)) = rules.find(|((address, ..), _)| address.to_ip() == target) {
        let mut nodes: Vec<String> =
            rule.nodes.routers().iter().filter_map(|router| name(*router)).collect();
        nodes.sort();
        return nodes;
    }
    let topology = &compiled.snapshot.topology;
    match topology.route(topology.router(RouterId(0)).unwrap(), target.into()) {
        Some(Route::Router(router)) => name(router).into_iter().collect(),
        _ => Vec::new(),
    }
}
