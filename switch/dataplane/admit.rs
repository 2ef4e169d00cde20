//! The first frame of a flow: every table is asked, then both directions are recorded.

use kswitch_tables::conntrack::{BindError, BindingFlags, Bound, Death, State, TcpFlags};
use kswitch_tables::{
    Address, Astray, Attachment, Binding, Endpoint, Flow, LoadId, MacAddress, Port, PortId,
    PortRole, RouterRole, Snapshot, Topology,
};

use super::decision::{Crossed, Decision};
use super::forwarding::forwarding_at;
use super::masquerade::substitutes;
use super::pipeline::{At, Pipeline, Refusal};
use super::rewrite::deltas;
use super::translate::{Translation, frontend_at};
use super::walk::{Step, Walk};
use super::watch::{Account, What};
use super::{DropReason, Frame, Kind, Packet};

/// What became of a first frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Admitted {
    /// The flow is recorded, or another worker just did: this is its binding.
    Bound(Binding),
    /// It is an echo request for a router itself.
    Router,
}

/// Where a flow goes: found before anything is recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// Where its answers go.
    pub(super) home: Attachment,
    /// The machine it ends at.
    pub(super) egress: Attachment,
    /// Routers crossed.
    pub(super) hops: u8,
    /// The frontend's answer, where the flow was for one.
    pub(super) translation: Option<Translation>,
    /// The address that stands in for the source's.
    pub(super) masquerade: Option<Address>,
    /// Whether it stays on its bridge.
    pub(super) is_bridged: bool,
}

impl Pipeline {
    /// Admits a new flow. Decides first and records last: a flow that any table refuses leaves
    /// nothing behind.
    pub(super) fn admit(
        &mut self,
        at: At<'_>,
        frame: &Frame<'_>,
        packet: &Packet,
    ) -> Result<Admitted, Refusal> {
        let At { snapshot, ingress, port, .. } = at;
        let is_for_gateway = is_for_gateway(snapshot, port, packet);
        let source = packet.flow.source.address;
        // on a link a machine may use its address of that link, towards its router alone
        if !(is_for_gateway && source.is_link_local() && !source.is_v4()) {
            check_source(port, packet)?;
        }
        self.account = Account::default();
        let state = first_state(packet)?;
        if is_for_gateway {
            return Ok(Admitted::Router);
        }
        // before all that costs time, of which a flood leaves others none either
        if self.shared.conntrack.half_open(ingress) >= snapshot.limits.half_open {
            return Err(DropReason::HalfOpenLimit.into());
        }
        let (target_mac, _) = frame.macs().ok_or(DropReason::FrameTooShort)?;
        let way = if target_mac == port.router_mac {
            match self.route(at, packet)? {
                Some(way) => way,
                None => {
                    self.permit_to_router(snapshot, port, &packet.flow)?;
                    self.tell_audit(at, &packet.flow);
                    return Ok(Admitted::Router);
                }
            }
        } else {
            let way = self.bridged(at, packet.flow.source.address, target_mac)?;
            self.note(|| Decision::Bridged { port: way.egress.port });
            way
        };
        if way.translation.is_some() && state == State::MidStream {
            return Err(DropReason::MidStream.into());
        }
        // where answers will be recorded is read from memory while policies are judged
        let reply = answers(&packet.flow, rewritten(&packet.flow, &way, packet.flow.source.port));
        self.shared.conntrack.warm(&reply, self.shared.conntrack.hash(&reply));
        let target = way.translation.map_or(packet.flow.target, |chosen| chosen.backend);
        self.permit(snapshot, port, &packet.flow, target, &way)?;
        let binding = self.bind(at, &packet.flow, &way, state)?;
        self.counters.admitted.add(1);
        self.note(|| Decision::Bound { binding, masquerade: way.masquerade });
        self.tell_audit(at, &packet.flow);
        if let Some(watch) = &self.watch
            && watch.is_on()
        {
            let what = What::Opened(binding);
            watch.tell(at.event(Some(packet.flow), self.account.frontend, what));
        }
        self.account.frontend = None;
        Ok(Admitted::Bound(binding))
    }

    /// Tells of policies that are only watched, and would have refused the flow.
    pub(super) fn tell_audit(&mut self, at: At<'_>, flow: &Flow) {
        if let (Some((contact, denied)), Some(watch)) = (self.account.denied.take(), &self.watch) {
            let what = What::Audited(contact, denied);
            watch.tell(at.event(Some(*flow), self.account.frontend, what));
        }
    }

    /// From router to router: frontends on the way, then the way to the backend. `None` where a
    /// router itself is the target of an echo request.
    pub(super) fn route(&mut self, at: At<'_>, packet: &Packet) -> Result<Option<Way>, Refusal> {
        let At { snapshot, port, .. } = at;
        let flow = &packet.flow;
        let home = home(&snapshot.topology, port, flow.source.address)?;
        let mut walk = Walk::new(&snapshot.topology, port);
        let refused =
            |walk: &Walk<'_>, refusal: Refusal| Refusal { router: Some(walk.at()), ..refusal };
        let (mut translation, mut masquerade, mut egress) = (None, None, None);
        while egress.is_none() && translation.is_none() {
            expire(&walk, packet)?;
            let router = walk.router().ok_or(DropReason::NoRoute)?;
            if router.role == RouterRole::Edge
                && let Some(rule) = forwarding_at(snapshot, port, flow)
            {
                let next = rule.and_then(|rule| self.forward_to(rule, flow));
                let next = next.map_err(|reason| refused(&walk, reason.into()))?;
                walk.hand_to(next)?;
                continue;
            }
            if router.role == RouterRole::Node {
                if let Some(id) = frontend_at(snapshot, walk.at(), router, flow) {
                    let chosen = self
                        .translate(at, walk.at(), flow, id)
                        .map_err(|reason| refused(&walk, reason.into()))?;
                    if chosen.masquerade {
                        masquerade = router.address_like(flow.source.address);
                    }
                    translation = Some(chosen);
                    break;
                }
                if snapshot.served_at(walk.at()).frontends.owns(flow.target.address) {
                    return Err(refused(&walk, DropReason::NoServicePort.into()));
                }
            }
            match walk.step(flow.target.address).map_err(|refusal| refused(&walk, refusal))? {
                Step::Arrived(host) => egress = Some(walk.arrive(host)),
                Step::Router if packet.kind == Kind::EchoRequest => return Ok(None),
                Step::Router => return Err(refused(&walk, DropReason::RouterPort.into())),
                Step::Onward => {}
            }
        }
        let egress = match (egress, translation) {
            (Some(egress), _) => egress,
            (None, Some(chosen)) => {
                walk.to(chosen.backend.address).map_err(|refusal| refused(&walk, refusal))?
            }
            (None, None) => return Err(DropReason::NoRoute.into()),
        };
        let crossed = walk.crossed();
        let target = translation.map_or(flow.target, |chosen| chosen.backend).address;
        self.note(|| Decision::Way { target, crossed: Crossed::new(crossed), egress });
        expire(&walk, packet)?;
        if masquerade.is_none() {
            masquerade = outward_source(snapshot, &walk, flow, translation.map(|t| t.backend));
        }
        let hops = u8::try_from(walk.crossed().len()).unwrap_or(u8::MAX);
        Ok(Some(Way { home, egress, hops, translation, masquerade, is_bridged: false }))
    }

    /// Straight to another machine of the bridge, by its Ethernet address.
    fn bridged(&self, at: At<'_>, source: Address, target: MacAddress) -> Result<Way, DropReason> {
        let At { snapshot, ingress, port, .. } = at;
        let topology = &snapshot.topology;
        let PortRole::Bridged(segment) = port.role else { return Err(DropReason::NotForRouter) };
        let egress = self.port_of(at, segment, target);
        let egress = egress.ok_or(DropReason::NoSuchNeighbour)?;
        let egress = behind(topology, egress).ok_or(DropReason::NoSuchNeighbour)?;
        // an Ethernet address is all that a bridge goes by, whoever is behind it
        let known = topology.hosts.get(&source).copied();
        let home = known.or_else(|| behind(topology, ingress)).ok_or(DropReason::SpoofedAddress)?;
        Ok(Way { home, egress, hops: 0, translation: None, masquerade: None, is_bridged: true })
    }

    /// Records both directions, under another source port where the flow's own is taken.
    fn bind(
        &mut self,
        at: At<'_>,
        flow: &Flow,
        way: &Way,
        state: State,
    ) -> Result<Binding, DropReason> {
        let reason = |error| match error {
            BindError::ReplyTaken => DropReason::NoSourcePort,
            BindError::Full => DropReason::ConntrackFull,
            BindError::Contended => DropReason::ConntrackContended,
        };
        let mut may_displace = true;
        match self.bind_from(at, flow, way, state, flow.source.port, &mut may_displace) {
            Err(BindError::ReplyTaken) if is_numbered(flow) => {}
            bound => return bound.map_err(reason),
        }
        let mut ports = substitutes(flow.source.port, self.random.next());
        loop {
            // reads of memory that nobody has looked at lately go on side by side
            let mut group = [None; PORTS_AT_ONCE];
            for (place, port) in group.iter_mut().zip(&mut ports) {
                let reply = answers(flow, rewritten(flow, way, port));
                let hash = self.shared.conntrack.hash(&reply);
                self.shared.conntrack.warm(&reply, hash);
                *place = Some((port, reply, hash));
            }
            if group.first().is_none_or(Option::is_none) {
                return Err(DropReason::NoSourcePort);
            }
            for (port, reply, hash) in group.into_iter().flatten() {
                if self.shared.conntrack.find(&reply, hash).is_some() {
                    continue;
                }
                match self.bind_from(at, flow, way, state, port, &mut may_displace) {
                    // by another thread, meanwhile
                    Err(BindError::ReplyTaken) => {}
                    bound => return bound.map_err(reason),
                }
            }
        }
    }

    /// Records both directions under this source port; if there is no room, in the place of a
    /// connection that can be spared: of one for each flow, and of none for a port that is another's.
    fn bind_from(
        &self,
        at: At<'_>,
        flow: &Flow,
        way: &Way,
        state: State,
        port: u16,
        may_displace: &mut bool,
    ) -> Result<Binding, BindError> {
        let At { snapshot, now, ingress, .. } = at;
        let ends = rewritten(flow, way, port);
        let (forward, backward) = bindings(snapshot, ingress, flow, way, ends);
        let reply = answers(flow, ends);
        let conntrack = &self.shared.conntrack;
        let mut bound = conntrack.bind(flow, forward, &reply, backward, now, state);
        if bound == Err(BindError::Full) && *may_displace {
            if conntrack.find(&reply, conntrack.hash(&reply)).is_some() {
                return Err(BindError::ReplyTaken);
            }
            if let Some(Death { connection, .. }) = conntrack.reclaim(flow, now) {
                *may_displace = false;
                if let Some(watch) = self.watch.as_ref().filter(|watch| watch.is_on()) {
                    let what = What::Displaced(connection.life.state);
                    watch.tell(at.event(Some(connection.original), None, what));
                }
                bound = conntrack.bind(flow, forward, &reply, backward, now, state);
            }
        }
        let (Bound::New(found) | Bound::Existing(found)) = bound?;
        Ok(found.binding)
    }
}

/// Ports that are looked up side by side.
const PORTS_AT_ONCE: usize = 16;

/// The flow of the answers to what leaves with this source and target.
const fn answers(flow: &Flow, (source, target): (Endpoint, Endpoint)) -> Flow {
    Flow { protocol: flow.protocol, source: target, target: source }
}

/// Whether another source port (or echo identifier) could tell the flow apart.
const fn is_numbered(flow: &Flow) -> bool {
    flow.protocol.has_ports() || flow.source.port != 0
}

/// Source and target after rewriting, when the flow leaves with this source port.
pub(super) fn rewritten(flow: &Flow, way: &Way, port: u16) -> (Endpoint, Endpoint) {
    let source = Endpoint::new(way.masquerade.unwrap_or(flow.source.address), port);
    let mut target = way.translation.map_or(flow.target, |chosen| chosen.backend);
    if !flow.protocol.has_ports() {
        // an echo's identifier stands in both ends
        target.port = port;
    }
    (source, target)
}

/// The bindings of both directions.
pub(super) fn bindings(
    snapshot: &Snapshot,
    ingress: PortId,
    flow: &Flow,
    way: &Way,
    (source, target): (Endpoint, Endpoint),
) -> (Binding, Binding) {
    let mut flags = BindingFlags::default();
    if way.is_bridged {
        flags = flags.and(BindingFlags::BRIDGED);
    }
    if (source, target) != (flow.source, flow.target) {
        flags = flags.and(BindingFlags::NAT);
    }
    if way.masquerade.is_some() {
        flags = flags.and(BindingFlags::MASQUERADED);
    }
    let one = |ingress, from: (Endpoint, Endpoint), to: (Endpoint, Endpoint), hop, flags| {
        let (ip_delta, transport_delta) = deltas(flow.protocol, from, to);
        Binding {
            ingress,
            source: to.0,
            target: to.1,
            ip_delta,
            transport_delta,
            hops: way.hops,
            hop,
            load: LoadId::NONE,
            generation: snapshot.generation,
            flags,
        }
    };
    let forward = one(ingress, (flow.source, flow.target), (source, target), way.egress.hop, flags);
    let load = way.translation.map_or(LoadId::NONE, |chosen| chosen.load);
    let forward = Binding { load, ..forward };
    let backward = one(
        way.egress.port,
        (target, source),
        (flow.target, flow.source),
        way.home.hop,
        flags.and(BindingFlags::REPLY),
    );
    (forward, backward)
}

/// Where the answers to `source` go, which came in at `port`.
///
/// # Errors
/// [`DropReason::SpoofedAddress`] for an address that cannot be behind the port, with the neighbour
/// that would have to be asked for where it may be.
pub(super) fn home(
    topology: &Topology,
    port: &Port,
    source: Address,
) -> Result<Attachment, Refusal> {
    let is_edge = topology.router(port.router).is_some_and(|at| at.role == RouterRole::Edge);
    match topology.place(source) {
        Ok(home) if home.router == port.router || !is_edge => Ok(home),
        Err(Astray::Unknown(neighbour)) if is_edge => {
            Err(Refusal::of_neighbour(DropReason::SpoofedAddress, neighbour))
        }
        _ => Err(DropReason::SpoofedAddress.into()),
    }
}

/// The machine that a port is there for.
fn behind(topology: &Topology, port: PortId) -> Option<Attachment> {
    let first = topology.port(port)?.addresses.first()?;
    topology.hosts.get(first).copied()
}

/// The address with which a flow of the cluster leaves through the edge, unless its target is one
/// to which sources keep their own.
fn outward_source(
    snapshot: &Snapshot,
    walk: &Walk<'_>,
    flow: &Flow,
    backend: Option<Endpoint>,
) -> Option<Address> {
    let node = snapshot.topology.router(walk.left_through()?)?;
    let target = backend.unwrap_or(flow.target).address;
    let is_wanted = snapshot.masquerade_egress
        && snapshot.is_inside(flow.source.address)
        && snapshot.unmasqueraded.find(target).is_none();
    is_wanted.then(|| node.address_like(flow.source.address)).flatten()
}

/// Refuses sources that no machine behind this port may use.
///
/// # Errors
/// [`DropReason::MartianSource`], [`DropReason::SpoofedAddress`], [`DropReason::MartianTarget`].
pub(super) fn check_source(port: &Port, packet: &Packet) -> Result<(), DropReason> {
    let (source, target) = (packet.flow.source.address, packet.flow.target.address);
    if source.is_unspecified() || source.is_multicast() || source.is_loopback() {
        return Err(DropReason::MartianSource);
    }
    if target.is_unspecified() || target.is_loopback() {
        return Err(DropReason::MartianTarget);
    }
    if port.anti_spoof && !port.addresses.contains(&source) {
        return Err(DropReason::SpoofedAddress);
    }
    Ok(())
}

/// The state in which a flow begins with this packet.
fn first_state(packet: &Packet) -> Result<State, DropReason> {
    match packet.kind {
        Kind::Tcp(flags) => {
            State::of_first_segment(TcpFlags(flags)).ok_or(DropReason::InvalidState)
        }
        Kind::EchoReply => Err(DropReason::UnsolicitedReply),
        _ => Ok(State::first(packet.flow.protocol)),
    }
}

/// Whether this is an echo request for the router's address on the sender's own link.
fn is_for_gateway(snapshot: &Snapshot, port: &Port, packet: &Packet) -> bool {
    packet.kind == Kind::EchoRequest
        && snapshot
            .topology
            .gateways(port)
            .iter()
            .any(|gateway| gateway.address == packet.flow.target.address)
}

/// Refuses a packet that may not cross the routers of the walk so far.
fn expire(walk: &Walk<'_>, packet: &Packet) -> Result<(), Refusal> {
    let crossed = walk.crossed();
    if usize::from(packet.ttl) > crossed.len() {
        return Ok(());
    }
    let last = usize::from(packet.ttl).saturating_sub(1);
    let router = crossed.get(last).copied();
    Err(Refusal { router, ..DropReason::TtlExceeded.into() })
}

/// The refusal of a packet of a known flow that may not cross all its routers: says which router
/// it got to.
pub(super) fn ttl_exceeded(snapshot: &Snapshot, binding: &Binding, packet: &Packet) -> Refusal {
    let router = snapshot.topology.port(binding.ingress).and_then(|port| {
        let mut walk = Walk::new(&snapshot.topology, port);
        // a walk that fails has still crossed the routers before
        let _ = walk.to(binding.target.address);
        let last = usize::from(packet.ttl).saturating_sub(1);
        walk.crossed().get(last).copied().or(Some(walk.at()))
    });
    Refusal { router, ..DropReason::TtlExceeded.into() }
}

/// The refusal of a packet of a known flow that the last link does not carry: the router before
/// that link says so.
///
/// Source: RFC 1191 §4; RFC 8201 §3.
pub(super) fn too_big(snapshot: &Snapshot, binding: &Binding, mtu: u16) -> Refusal {
    let last = snapshot.topology.place(binding.target.address).ok().map(|host| host.router);
    let router = last.filter(|_| binding.hops > 0);
    Refusal { router, mtu, ..DropReason::TooBig.into() }
}
