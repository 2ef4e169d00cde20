//! Who is attached where: ports, segments, routers, and the way between them.

use crate::hash::{Map, map};
use crate::{Address, MacAddress, Prefix, PrefixMap};

/// Index of a [`Port`]; stable for the life of what is attached to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

/// Index of a [`Segment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u16);

/// Index of a [`Router`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId(pub u16);

/// Index of a [`Hop`] within one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopId(pub u32);

impl HopId {
    /// The greatest index that a binding has room for.
    pub const MAX: Self = Self((1 << 20) - 1);
}

/// How a port hangs on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRole {
    /// A member of a bridge, beside others.
    Bridged(SegmentId),
    /// Alone on a link to its router, which is a hop for it.
    Routed(RouterId),
    /// The router's own host stack: its router is no hop for it.
    Host(RouterId),
}

/// A port and the one machine expected behind it.
#[derive(Clone, Debug)]
pub struct Port {
    /// How it is attached.
    pub role: PortRole,
    /// The router that its frames meet first.
    pub router: RouterId,
    /// Ethernet address of the machine behind the port.
    pub mac: MacAddress,
    /// Ethernet address under which the router answers on this port.
    pub router_mac: MacAddress,
    /// Addresses that may appear as a source here. Also those that are delivered here.
    pub addresses: Vec<Address>,
    /// Whether other sources, or another Ethernet address, are refused.
    pub anti_spoof: bool,
    /// Largest IP packet the link carries, octets.
    pub mtu: u16,
    /// Which of [`Topology::tables`] its router looks up what comes from it in; `None`: the router's
    /// own.
    pub table: Option<usize>,
    /// Whether the node that it is on is switched off: nothing comes from it.
    pub is_down: bool,
}

/// An address of a router on a link, and the prefix that is on that link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The address answered for.
    pub address: Address,
    /// The addresses that are neighbours on the link; a host prefix where there are none.
    pub on_link: Prefix,
}

/// A bridge: the ports that hear each other, and the router among them.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The router attached to the bridge.
    pub router: RouterId,
    /// The router's Ethernet address on it.
    pub router_mac: MacAddress,
    /// The router's addresses on it.
    pub gateways: Vec<Gateway>,
    /// The ports on it, in order.
    pub members: Vec<PortId>,
}

/// What a router is to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterRole {
    /// Translates addresses of frontends and masquerades.
    Node,
    /// Only routes: the border to the outside.
    Edge,
}

/// A router: one hop, and a place where frontends are served.
#[derive(Clone, Debug)]
pub struct Router {
    /// Node or edge.
    pub role: RouterRole,
    /// Addresses on the links between routers, preferred first: the source of its ICMP errors
    /// there, and the address it masquerades with.
    pub addresses: Vec<Address>,
    /// Addresses on whose ports local frontends (node ports) are served.
    pub frontend_addresses: Vec<Address>,
    /// Addresses of its links to routed ports and its own host stack.
    pub link_gateways: Vec<Gateway>,
    /// Which of [`Topology::tables`] it routes by.
    pub table: usize,
    /// Whether it is switched off: whatever is sent there is lost, and nobody is told.
    pub is_down: bool,
}

impl Router {
    /// The preferred address of the family of `like`.
    pub fn address_like(&self, like: Address) -> Option<Address> {
        self.addresses.iter().copied().find(|address| address.is_v4() == like.is_v4())
    }
}

/// Where packets of a prefix go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// On to this router.
    Router(RouterId),
    /// The prefix lies on a link of the router itself; on a node's only attached addresses exist in
    /// it, on the edge's there may be others.
    Connected,
    /// On to the machine of this address on a link of the router itself, which forwards it.
    Via(Address),
    /// Silently nowhere: an address that a translation should have replaced.
    Discard,
    /// Silently nowhere, for want of a route to where it might be.
    Blackhole,
}

/// The last step to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The port to send on.
    pub port: PortId,
    /// Ethernet source: the router's.
    pub source_mac: MacAddress,
    /// Ethernet destination: the machine's.
    pub target_mac: MacAddress,
    /// Largest IP packet the link carries, octets.
    pub mtu: u16,
}

/// Where an address lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The router it is behind.
    pub router: RouterId,
    /// The port it is on.
    pub port: PortId,
    /// The step from that router to it.
    pub hop: HopId,
    /// Whether it is the router's own host stack, which costs no hop at that router.
    pub is_host: bool,
}

/// Why the place of a machine is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Astray {
    /// This neighbour on a link of the edge would have to be asked for.
    Unknown(Address),
    /// There is no way to it.
    Nowhere,
}

/// Ports, bridges, routers and routes of one generation.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// By [`PortId`]; ids of ports that went are `None`.
    pub ports: Vec<Option<Port>>,
    /// By [`SegmentId`].
    pub segments: Vec<Segment>,
    /// By [`RouterId`].
    pub routers: Vec<Router>,
    /// By [`HopId`].
    pub hops: Vec<Hop>,
    /// Every address with a place.
    pub hosts: Map<Address, Attachment>,
    /// Ethernet addresses known on bridges without learning.
    pub bridge_ports: Map<(SegmentId, MacAddress), PortId>,
    /// Routing tables; routers share them.
    pub tables: Vec<PrefixMap<Route>>,
}

impl Topology {
    /// An empty topology whose maps hash by `seed`.
    pub fn new(seed: u64) -> Self {
        Self { hosts: map(seed), bridge_ports: map(seed), ..Self::default() }
    }

    /// The port of this id, if something is attached to it.
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(usize::from(id.0))?.as_ref()
    }

    /// The bridge of this id.
    pub fn segment(&self, id: SegmentId) -> Option<&Segment> {
        self.segments.get(usize::from(id.0))
    }

    /// The router of this id.
    pub fn router(&self, id: RouterId) -> Option<&Router> {
        self.routers.get(usize::from(id.0))
    }

    /// The step of this id.
    pub fn hop(&self, id: HopId) -> Option<&Hop> {
        self.hops.get(id.0 as usize)
    }

    /// Addresses the router answers for on this port, with the prefix on the link.
    pub fn gateways(&self, port: &Port) -> &[Gateway] {
        match port.role {
            PortRole::Bridged(segment) => {
                self.segment(segment).map_or(&[], |segment| &segment.gateways)
            }
            PortRole::Routed(router) | PortRole::Host(router) => {
                self.router(router).map_or(&[], |router| &router.link_gateways)
            }
        }
    }

    /// Where a machine is; on the outside also one that is not known itself, but whose way is.
    ///
    /// # Errors
    /// [`Astray`], as it says.
    pub fn place(&self, address: Address) -> Result<Attachment, Astray> {
        if let Some(host) = self.hosts.get(&address) {
            return Ok(*host);
        }
        let edge = self.edge().and_then(|edge| self.router(edge));
        let next = match edge.and_then(|edge| self.route(edge, address)) {
            Some(Route::Connected) => address,
            Some(Route::Via(next)) => next,
            Some(Route::Router(_) | Route::Discard | Route::Blackhole) | None => {
                return Err(Astray::Nowhere);
            }
        };
        self.hosts.get(&next).copied().ok_or(Astray::Unknown(next))
    }

    /// The port that is there for the machine of this address. Of machines that were only found
    /// behind a port there is none.
    pub fn owner(&self, address: Address) -> Option<PortId> {
        let host = self.hosts.get(&address)?;
        self.port(host.port)?.addresses.contains(&address).then_some(host.port)
    }

    /// The router to the outside.
    pub fn edge(&self) -> Option<RouterId> {
        let mut all = (0..).map(RouterId).zip(&self.routers);
        all.find(|(_, router)| router.role == RouterRole::Edge).map(|(id, _)| id)
    }

    /// The bridge of a router.
    pub fn bridge(&self, router: RouterId) -> Option<(SegmentId, &Segment)> {
        (0..).map(SegmentId).zip(&self.segments).find(|(_, segment)| segment.router == router)
    }

    /// Where a table sends a packet for `target`, by longest prefix.
    pub fn route_by(&self, table: usize, target: Address) -> Option<Route> {
        self.tables.get(table)?.find(target).copied()
    }

    /// Where a router sends a packet for `target`, by longest prefix.
    pub fn route(&self, router: &Router, target: Address) -> Option<Route> {
        self.tables.get(router.table)?.find(target).copied()
    }
}
