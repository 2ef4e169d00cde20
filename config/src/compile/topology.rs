//! Ports, bridges and routers, and the plan by which the lab attaches machines to them.
//!
//! A node is a bridge for the pods in its ranges, a router, and a port for its own network stack.
//! Pods with another address, and all pods of nodes in routed mode, have a link to the router each.
//! Hosts outside share one bridge, whose router is the edge.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kswitch_tables::{
    Address, Attachment, Gateway, Hop, HopId, MacAddress, Port, PortId, PortRole, Prefix, Router,
    RouterId, RouterRole, Segment, SegmentId, Topology,
};

use super::Layout;
use super::plan::{Plan, PlannedGateway, PlannedPort, PortKind, mac};
use super::{prefix, routes};
use crate::endpoints::number;
use crate::observed::Neighbours;
use crate::settings::PodLink;
use crate::{Cluster, External, Interface, Node, Observed, Pod};

/// The router between the fabric and the outside.
pub(super) const EDGE: RouterId = RouterId(0);

/// The bridge that hosts outside share.
const UPLINK: SegmentId = SegmentId(0);

/// What routers are called on links without a prefix of their own.
const LINK_GATEWAYS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
];

/// The topology of a cluster, and what to attach to it.
///
/// `ports` are the ids of [`kinds`], in order; `entries` where the edge sends packets to Services;
/// `observed` who was found outside beside the hosts that are written down, and which nodes are
/// switched off.
pub(super) fn build(
    cluster: &Cluster,
    layout: &Layout,
    ports: &[PortId],
    entries: &[(Prefix, RouterId)],
    observed: &Observed,
    seed: u64,
) -> (Topology, Plan) {
    let mut builder = Builder::new(cluster, layout, ports, &observed.nodes_down, seed);
    for (node, router) in cluster.nodes.iter().zip(&layout.routers) {
        builder.node(node, *router);
    }
    for external in &cluster.externals {
        builder.external(external);
    }
    for pod in attached_pods(cluster) {
        builder.pod(pod);
    }
    builder.neighbours(&observed.neighbours);
    let Builder { mut topology, plan, .. } = builder;
    topology.tables = routes::tables(cluster, layout, entries, seed);
    (topology, plan)
}

/// Who is attached, in the order of [`Plan::ports`].
pub(super) fn kinds(cluster: &Cluster) -> impl Iterator<Item = PortKind> {
    let nodes = cluster.nodes.iter().map(|node| PortKind::Node { name: node.name.clone() });
    let externals =
        cluster.externals.iter().map(|host| PortKind::External { name: host.name.clone() });
    let pods = attached_pods(cluster)
        .map(|pod| PortKind::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() });
    nodes.chain(externals).chain(pods)
}

/// The pods that have a network of their own.
fn attached_pods(cluster: &Cluster) -> impl Iterator<Item = &Pod> {
    cluster.pods.iter().map(|pod| &**pod).filter(|pod| !pod.host_network && !pod.is_finished())
}

/// Whether a pod is a member of its node's bridge: all its addresses are in the node's ranges.
pub(super) fn is_bridged(pod: &Pod, node: &Node, link: PodLink) -> bool {
    let in_range = |ip: &IpAddr| node.pod_ranges.iter().any(|range| range.contains(ip));
    link == PodLink::Bridged && pod.addresses.iter().all(in_range)
}

/// The gateway's address in a pod range: the first one.
pub(super) fn gateway(range: IpNet) -> IpAddr {
    match range.network() {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().wrapping_add(1)).into(),
    }
}

struct Builder<'c> {
    cluster: &'c Cluster,
    down: &'c BTreeSet<String>,
    layout: &'c Layout,
    ids: std::slice::Iter<'c, PortId>,
    topology: Topology,
    plan: Plan,
}

/// A machine about to be attached.
struct Machine {
    kind: PortKind,
    role: PortRole,
    router: RouterId,
    mtu: u16,
    anti_spoof: bool,
    table: Option<usize>,
    interface: Vec<IpNet>,
    gateways: Vec<IpAddr>,
    loopback: Vec<IpAddr>,
    behind: Option<Interface>,
}

impl<'c> Builder<'c> {
    fn new(
        cluster: &'c Cluster,
        layout: &'c Layout,
        ports: &'c [PortId],
        down: &'c BTreeSet<String>,
        seed: u64,
    ) -> Self {
        let count = layout.routers.iter().map(|router| router.0).max().map_or(1, |last| last + 1);
        let mut topology = Topology::new(seed);
        for id in 0..count {
            let (router, mac) = (RouterId(id), MacAddress::default());
            // numbers of nodes that went stay empty until another node has them
            topology.routers.push(empty_router());
            topology.segments.push(Segment {
                router,
                router_mac: mac,
                gateways: Vec::new(),
                members: Vec::new(),
            });
        }
        let mut builder =
            Self { cluster, down, layout, ids: ports.iter(), topology, plan: Plan::default() };
        builder.edge();
        builder
    }

    fn edge(&mut self) {
        let settings = &self.cluster.settings.cluster;
        let taken = |ip: &IpAddr| self.cluster.nodes.iter().any(|node| node.addresses.contains(ip));
        let addresses = settings.node_cidrs.iter().map(|range| gateway(*range));
        let mut gateways: Vec<Gateway> = Vec::new();
        for external in &self.cluster.externals {
            for (net, address) in external.addresses.iter().zip(&external.gateways) {
                let gateway = Gateway { address: (*address).into(), on_link: prefix(*net) };
                if !gateways.contains(&gateway) {
                    gateways.push(gateway);
                }
            }
        }
        // the addresses between routers first: under these it speaks to the inside
        let between = addresses.filter(|ip| !taken(ip)).map(Address::from);
        let edge = Router {
            role: RouterRole::Edge,
            addresses: between.chain(gateways.iter().map(|gateway| gateway.address)).collect(),
            frontend_addresses: Vec::new(),
            link_gateways: Vec::new(),
            table: routes::EDGE,
            is_down: false,
        };
        self.place_router(EDGE, edge, gateways, "edge");
    }

    fn node(&mut self, node: &Node, router: RouterId) {
        let addresses: Vec<Address> = node.addresses.iter().map(|ip| (*ip).into()).collect();
        let gateways = node
            .pod_ranges
            .iter()
            .map(|range| Gateway { address: gateway(*range).into(), on_link: prefix(*range) });
        let link_gateways = LINK_GATEWAYS.map(Address::from);
        let link_gateways =
            link_gateways.map(|address| Gateway { address, on_link: Prefix::host(address) });
        let built = Router {
            role: RouterRole::Node,
            addresses,
            frontend_addresses: frontend_addresses(self.cluster, node),
            link_gateways: link_gateways.into(),
            table: routes::FABRIC,
            is_down: self.down.contains(&node.name),
        };
        self.place_router(router, built, gateways.collect(), &node.name);
        self.attach(Machine {
            kind: PortKind::Node { name: node.name.clone() },
            role: PortRole::Host(router),
            router,
            mtu: self.cluster.settings.cluster.mtu,
            anti_spoof: self.cluster.settings.switch.anti_spoof,
            table: None,
            interface: node.addresses.iter().map(|ip| IpNet::from(*ip)).collect(),
            gateways: like(&LINK_GATEWAYS, &node.addresses),
            loopback: node.pod_ranges.iter().map(|range| gateway(*range)).collect(),
            behind: None,
        });
    }

    fn external(&mut self, external: &External) {
        let is_proxy = self.cluster.proxies.iter().any(|proxy| proxy.name == external.name);
        let is_prober = self.cluster.prober.iter().any(|prober| prober.name == external.name);
        let is_vpc = external.network.is_vpc();
        self.attach(Machine {
            kind: PortKind::External { name: external.name.clone() },
            role: PortRole::Bridged(UPLINK),
            router: EDGE,
            mtu: external.mtu.unwrap_or(self.cluster.settings.cluster.mtu),
            // the outside may claim to be anyone
            anti_spoof: is_vpc,
            // load balancers and their checks reach pods where others outside do not
            table: (is_proxy || is_prober || is_vpc).then_some(routes::FABRIC),
            interface: external.addresses.clone(),
            gateways: first_of_each_family(&external.gateways),
            loopback: Vec::new(),
            behind: external.interface.clone(),
        });
    }

    fn pod(&mut self, pod: &Pod) {
        let settings = &self.cluster.settings;
        let (Some(node), Some(router)) =
            (self.cluster.nodes.get(pod.node), self.layout.routers.get(pod.node).copied())
        else {
            return;
        };
        let bridged = is_bridged(pod, node, settings.cluster.pod_link);
        let range_of = |ip: &IpAddr| {
            let range = node.pod_ranges.iter().find(|range| range.contains(ip))?;
            Some((IpNet::new(*ip, range.prefix_len()).ok()?, gateway(*range)))
        };
        let (interface, gateways) = if bridged {
            pod.addresses.iter().filter_map(range_of).unzip()
        } else {
            let interface = pod.addresses.iter().map(|ip| IpNet::from(*ip)).collect();
            (interface, like(&LINK_GATEWAYS, &pod.addresses))
        };
        self.attach(Machine {
            kind: PortKind::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() },
            role: if bridged {
                PortRole::Bridged(SegmentId(router.0))
            } else {
                PortRole::Routed(router)
            },
            router,
            mtu: settings.cluster.mtu,
            anti_spoof: settings.switch.anti_spoof,
            table: None,
            interface,
            gateways: first_of_each_family(&gateways),
            loopback: Vec::new(),
            behind: pod.interface(),
        });
    }

    /// Machines outside that were found, on the ports where they were heard.
    fn neighbours(&mut self, neighbours: &Neighbours) {
        let edge = self.topology.segments.get(usize::from(UPLINK.0));
        let source_mac = edge.map(|segment| segment.router_mac).unwrap_or_default();
        for (address, neighbour) in neighbours {
            let at = self.plan.ports.iter().find(|port| port.kind == neighbour.at);
            let Some(PlannedPort { id: port, mtu, .. }) = at else { continue };
            let hop = HopId(number(self.topology.hops.len()));
            let attachment = Attachment { router: EDGE, port: *port, hop, is_host: false };
            let address = Address::from(*address);
            // what is written down goes before what was heard
            if self.topology.hosts.contains_key(&address) {
                continue;
            }
            self.topology.hosts.insert(address, attachment);
            let target_mac = neighbour.mac;
            self.topology.hops.push(Hop { port: *port, source_mac, target_mac, mtu: *mtu });
        }
    }

    /// Fills in a router and the bridge of the same number.
    fn place_router(&mut self, id: RouterId, router: Router, gateways: Vec<Gateway>, name: &str) {
        let lab = &self.cluster.settings.lab.name;
        if let Some(place) = self.topology.routers.get_mut(usize::from(id.0)) {
            *place = router;
        }
        if let Some(segment) = self.topology.segments.get_mut(usize::from(id.0)) {
            segment.router_mac = mac(&format!("{lab}/router/{name}"));
            segment.gateways = gateways;
        }
    }

    fn attach(&mut self, machine: Machine) {
        let Machine {
            kind,
            role,
            router,
            mtu,
            anti_spoof,
            table,
            interface,
            gateways,
            loopback,
            behind,
        } = machine;
        let is_down = self.topology.router(router).is_some_and(|router| router.is_down);
        let segment = self.topology.segments.get_mut(usize::from(router.0));
        let (Some(id), Some(segment)) = (self.ids.next().copied(), segment) else { return };
        let lab = &self.cluster.settings.lab.name;
        let namespace = kind.namespace(lab);
        let given = behind.as_ref().and_then(|interface| interface.mac);
        let mac = given.unwrap_or_else(|| mac(&format!("{lab}/{}", kind_and_name(&kind))));
        let router_mac = segment.router_mac;

        if let PortRole::Bridged(bridge) = role {
            segment.members.push(id);
            self.topology.bridge_ports.insert((bridge, mac), id);
        }
        let hop = HopId(number(self.topology.hops.len()));
        self.topology.hops.push(Hop { port: id, source_mac: router_mac, target_mac: mac, mtu });
        let is_host = matches!(role, PortRole::Host(_));
        let ips = interface.iter().map(IpNet::addr).chain(loopback.iter().copied());
        let mut addresses: Vec<Address> = ips.map(Address::from).collect();
        for address in &addresses {
            let attachment = Attachment { router, port: id, hop, is_host };
            self.topology.hosts.entry(*address).or_insert(attachment);
        }
        if is_host && self.cluster.settings.cluster.node_ports.localhost {
            // what the node sends from there reaches its router, but nothing is sent back to there
            addresses.push(Ipv4Addr::LOCALHOST.into());
        }
        let at = usize::from(id.0);
        if self.topology.ports.len() <= at {
            self.topology.ports.resize(at + 1, None);
        }
        if let Some(place) = self.topology.ports.get_mut(at) {
            *place = Some(Port {
                role,
                router,
                mac,
                router_mac,
                addresses,
                anti_spoof,
                mtu,
                table,
                is_down,
            });
        }
        let gateways = gateways.into_iter().map(|ip| PlannedGateway::new(ip, &interface)).collect();
        self.plan.ports.push(PlannedPort {
            id,
            kind,
            namespace,
            mac,
            mtu,
            addresses: interface,
            gateways,
            loopback,
            interface: behind,
        });
    }
}

const fn empty_router() -> Router {
    Router {
        role: RouterRole::Node,
        addresses: Vec::new(),
        frontend_addresses: Vec::new(),
        link_gateways: Vec::new(),
        table: routes::FABRIC,
        is_down: false,
    }
}

/// What an Ethernet address is derived from; kinds must not share names.
fn kind_and_name(kind: &PortKind) -> String {
    match kind {
        PortKind::Node { name } => format!("node/{name}"),
        PortKind::External { name } => format!("ext/{name}"),
        PortKind::Pod { namespace, name } => format!("pod/{namespace}/{name}"),
    }
}

/// Where a node offers node ports.
///
/// The primary address of each family, unless ranges say otherwise; `127.0.0.1` only if asked for.
/// Source: kube-proxy `--nodeport-addresses` and `--iptables-localhost-nodeports`, nftables mode.
fn frontend_addresses(cluster: &Cluster, node: &Node) -> Vec<Address> {
    let node_ports = &cluster.settings.cluster.node_ports;
    let ranges = &node_ports.addresses;
    let is_wanted = |ip: &IpAddr| ranges.iter().any(|range| range.contains(ip));
    let mut addresses = first_of_each_family(&node.addresses);
    if !ranges.is_empty() {
        addresses = node.addresses.iter().copied().filter(is_wanted).collect();
    }
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if node_ports.localhost && (ranges.is_empty() || is_wanted(&localhost)) {
        addresses.push(localhost);
    }
    addresses.into_iter().map(Address::from).collect()
}

/// Those of `choices` whose family is among `addresses`.
fn like(choices: &[IpAddr], addresses: &[IpAddr]) -> Vec<IpAddr> {
    let has = |choice: &&IpAddr| addresses.iter().any(|ip| ip.is_ipv4() == choice.is_ipv4());
    choices.iter().filter(has).copied().collect()
}

fn first_of_each_family(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut first: Vec<IpAddr> = Vec::new();
    for ip in addresses {
        if !first.iter().any(|have| have.is_ipv4() == ip.is_ipv4()) {
            first.push(*ip);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{address, cluster, compiled, node, pod, router};
    use super::*;
    use crate::compile::Compiled;
    use kswitch_tables::Route;

    fn port_of<'c>(compiled: &'c Compiled, name: &str) -> (&'c Port, &'c PlannedPort) {
        let planned =
            compiled.plan.ports.iter().find(|port| port.kind.to_string() == name).unwrap();
        (compiled.snapshot.topology.port(planned.id).unwrap(), planned)
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn a_pod_in_its_nodes_ranges_is_on_the_bridge() {
        let mut cluster = cluster();
        cluster.pods = vec![pod("a", 1, &["10.4.1.5", "fd00:4:0:1::5"], "a")];
        let compiled = compiled(&cluster);
        let (port, planned) = port_of(&compiled, "default/a");
        assert_eq!(port.role, PortRole::Bridged(SegmentId(2)));
        assert_eq!(port.router, router(1));
        assert_eq!(planned.namespace, "lab.default.a");
        assert_eq!(planned.addresses, nets(&["10.4.1.5/24", "fd00:4:0:1::5/64"]));
        let gateways: Vec<_> =
            planned.gateways.iter().map(|g| (g.address.to_string(), g.on_link)).collect();
        assert_eq!(gateways, [("10.4.1.1".into(), false), ("fd00:4:0:1::1".into(), false)]);

        let topology = &compiled.snapshot.topology;
        let segment = topology.segment(SegmentId(2)).unwrap();
        assert_eq!(segment.members, [planned.id]);
        assert_eq!(segment.router_mac, port.router_mac);
        assert_eq!(topology.bridge_ports.get(&(SegmentId(2), port.mac)), Some(&planned.id));
        let attachment = topology.hosts[&address("fd00:4:0:1::5")];
        assert_eq!(
            (attachment.router, attachment.port, attachment.is_host),
            (router(1), planned.id, false)
        );
        let hop = topology.hop(attachment.hop).unwrap();
        assert_eq!((hop.source_mac, hop.target_mac, hop.mtu), (port.router_mac, port.mac, 1500));
    }

    #[test]
    fn a_pod_elsewhere_has_a_link_of_its_own_and_a_route_to_it() {
        let mut cluster = cluster();
        cluster.pods = vec![pod("a", 0, &["10.4.1.5"], "a"), pod("b", 0, &["10.4.0.9"], "b")];
        let compiled = compiled(&cluster);
        let (port, planned) = port_of(&compiled, "default/a");
        assert_eq!(port.role, PortRole::Routed(router(0)));
        assert_eq!(planned.addresses, nets(&["10.4.1.5/32"]));
        assert_eq!(
            planned.gateways,
            [PlannedGateway { address: "169.254.1.1".parse().unwrap(), on_link: true }]
        );
        let topology = &compiled.snapshot.topology;
        let route = |target| topology.route(&topology.routers[2], address(target));
        assert_eq!(route("10.4.1.5"), Some(Route::Router(router(0))));
        assert_eq!(route("10.4.1.6"), Some(Route::Router(router(1))));
    }

    #[test]
    fn every_pod_has_a_link_of_its_own_in_routed_mode() {
        let mut cluster = cluster();
        cluster.settings.cluster.pod_link = PodLink::Routed;
        cluster.pods = vec![pod("a", 0, &["10.4.0.5"], "a")];
        let compiled = compiled(&cluster);
        assert_eq!(port_of(&compiled, "default/a").0.role, PortRole::Routed(router(0)));
    }

    #[test]
    fn a_node_is_a_router_with_a_host_stack() {
        let compiled = compiled(&cluster());
        let (port, planned) = port_of(&compiled, "node/node-a");
        assert_eq!(port.role, PortRole::Host(router(0)));
        assert_eq!(planned.addresses, nets(&["10.128.0.2/32", "fd00:128::2/128"]));
        assert!(
            planned.gateways.iter().all(|gateway| gateway.on_link) && planned.gateways.len() == 2
        );
        assert_eq!(
            planned.loopback.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.4.0.1", "fd00:4::1"]
        );
        let topology = &compiled.snapshot.topology;
        for own in ["10.128.0.2", "10.4.0.1", "fd00:4::1"] {
            assert!(topology.hosts[&address(own)].is_host, "{own}");
        }
        let gateways = topology.gateways(port).iter().map(|gateway| gateway.address);
        assert!(gateways.eq(["169.254.1.1", "fe80::1"].map(address)));
    }

    #[test]
    fn the_edge_knows_nodes_and_its_own_links_and_no_pods() {
        let mut cluster = cluster();
        cluster.pods = vec![pod("a", 0, &["10.4.0.5"], "a")];
        let compiled = compiled(&cluster);
        let topology = &compiled.snapshot.topology;
        let edge = topology.router(EDGE).unwrap();
        assert_eq!(edge.addresses, ["10.128.0.1", "198.51.100.1"].map(address));
        let route = |target| topology.route(edge, address(target));
        assert_eq!(route("10.128.0.3"), Some(Route::Router(router(1))));
        assert_eq!(route("198.51.100.9"), Some(Route::Connected));
        assert_eq!(route("10.4.0.5"), None);
        assert_eq!(route("10.8.0.1"), None);
        assert_eq!(port_of(&compiled, "ext/internet").0.role, PortRole::Bridged(UPLINK));
    }

    #[test]
    fn the_fabric_leads_everywhere_but_to_unclaimed_cluster_ips() {
        let compiled = compiled(&cluster());
        let topology = &compiled.snapshot.topology;
        let route = |target| topology.route(&topology.routers[1], address(target));
        assert_eq!(route("10.4.1.77"), Some(Route::Router(router(1))));
        assert_eq!(route("10.128.0.3"), Some(Route::Router(router(1))));
        assert_eq!(route("198.51.100.7"), Some(Route::Router(EDGE)));
        assert_eq!(route("2001:db8::7"), Some(Route::Router(EDGE)));
        assert_eq!(route("10.8.0.99"), Some(Route::Discard));
    }

    #[test]
    fn without_routes_there_is_no_way_to_pods_of_other_nodes() {
        let mut cluster = cluster();
        cluster.settings.cluster.mode = crate::Mode::RoutesBased;
        cluster.settings.cluster.routes = Some(vec![crate::StaticRoute {
            to: "10.4.1.0/24".parse().unwrap(),
            node: "node-b".into(),
        }]);
        let compiled = compiled(&cluster);
        let topology = &compiled.snapshot.topology;
        let route = |target| topology.route(&topology.routers[1], address(target));
        assert_eq!(route("10.4.1.5"), Some(Route::Router(router(1))));
        assert_eq!(route("fd00:4:0:1::5"), Some(Route::Blackhole));
    }

    #[test]
    fn node_ports_are_on_primary_addresses_unless_ranges_say_otherwise() {
        let mut cluster = cluster();
        cluster.nodes[0] =
            node("node-a", "", &["192.168.0.2", "192.168.1.2", "fd00::2"], &["10.4.0.0/24"]);
        let on = |cluster: &Cluster| -> Vec<String> {
            let compiled = compiled(cluster);
            let router = compiled.snapshot.topology.router(router(0)).unwrap();
            router.frontend_addresses.iter().map(ToString::to_string).collect()
        };
        assert_eq!(on(&cluster), ["192.168.0.2", "fd00::2"]);
        cluster.settings.cluster.node_ports.localhost = true;
        assert_eq!(on(&cluster), ["192.168.0.2", "fd00::2", "127.0.0.1"]);
        cluster.settings.cluster.node_ports.addresses = nets(&["192.168.0.0/16"]);
        assert_eq!(on(&cluster), ["192.168.0.2", "192.168.1.2"]);
        cluster.settings.cluster.node_ports.addresses = nets(&["0.0.0.0/0"]);
        assert_eq!(on(&cluster), ["192.168.0.2", "192.168.1.2", "127.0.0.1"]);
    }

    #[test]
    fn pods_of_the_host_network_and_finished_ones_are_not_attached() {
        let mut cluster = cluster();
        let mut host = Pod::clone(&pod("host", 0, &["10.128.0.2"], "a"));
        host.host_network = true;
        let done = serde_json::json!({ "status": { "phase": "Succeeded" } });
        let done = super::super::fixture::pod_of("done", 0, &["10.4.0.5"], &done);
        cluster.pods = vec![host.into(), done];
        let compiled = compiled(&cluster);
        assert_eq!(compiled.plan.ports.len(), 3);
        assert!(!compiled.snapshot.topology.hosts.contains_key(&address("10.4.0.5")));
    }
}
