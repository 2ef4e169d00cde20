//! The decisions about a packet, in the words of the cluster and with the lines they follow from.

mod policy;

use k8s_openapi::api::core::v1::Service;
use kswitch_config::{FrontendName, Kind, Place, PlannedPort, PortKind};
use kswitch_tables::conntrack::BindingFlags;
use kswitch_tables::{
    BackendSetId, Binding, Endpoint, Flow, FrontendId, Gateway, PortRole, Protocol, Route, Router,
    RouterId, Stickiness,
};

use super::Tables;
use super::probe::Tried;
use super::report::{Hop, Reply};
use super::verdict::Fate;
use crate::dataplane::DropReason;
use crate::dataplane::decision::Decision;
use crate::sim::craft::Craft;

/// The router at which load balancers are.
const EDGE: RouterId = RouterId(0);

/// A frontend of a router.
type Frontend = (RouterId, FrontendId);

/// Backends that are named one by one at most.
const NAMED_BACKENDS: usize = 8;

/// The way of a first packet.
pub(super) fn forth(
    tables: &Tables<'_>,
    from: &PlannedPort,
    flow: &Flow,
    tried: &Tried,
    fate: &Fate,
) -> Vec<Hop> {
    let mut teller = Teller { tables, flow, hops: Vec::new() };
    teller.port(from, fate);
    teller.not_taken_over(from);
    for decision in &tried.decisions {
        teller.decision(decision);
    }
    teller.end(from, tried, fate);
    teller.hops
}

/// The way of an answer: conntrack knows it.
pub(super) fn back(
    tables: &Tables<'_>,
    (end, client): (&PlannedPort, &PlannedPort),
    (packet, protocol): (&Craft, Protocol),
    tried: &Tried,
    fate: &Fate,
) -> Reply {
    let mut reply = Reply {
        source: packet.source.to_string(),
        target: packet.target.to_string(),
        verdict: fate.verdict().into(),
        reason: fate.reason().map(|reason| reason.key().into()),
        ..Reply::default()
    };
    let mut hop = Hop {
        at: end.kind.to_string(),
        table: "conntrack".into(),
        decision: "belongs to the flow: neither services nor policies are asked".into(),
        ..Hop::default()
    };
    if let Fate::Arrives { received, .. } = fate {
        let (source, target) = received.ends();
        reply.rewritten_source = Some(source.to_string());
        reply.rewritten_target = Some(target.to_string());
        hop.rewrite = rewrite((packet.source, packet.target), (source, target));
    }
    reply.hops.push(hop);
    let flow = Flow { protocol, source: packet.source, target: packet.target };
    let mut teller = Teller { tables, flow: &flow, hops: Vec::new() };
    // whatever was decided anew about it
    for decision in &tried.decisions {
        teller.decision(decision);
    }
    teller.end(end, tried, fate);
    reply.hops.append(&mut teller.hops);
    debug_assert!(
        !matches!(fate, Fate::Arrives { port, .. } if *port != client.id),
        "an answer goes to who asked"
    );
    reply
}

struct Teller<'a, 't> {
    tables: &'a Tables<'t>,
    flow: &'a Flow,
    hops: Vec<Hop>,
}

impl Teller<'_, '_> {
    fn push(&mut self, hop: Hop, place: Option<Place>) {
        let line = place.as_ref().map(|place| place.line_and_column().0);
        let file = place.map(|place| place.source.name().to_owned());
        self.hops.push(Hop { file, line, ..hop });
    }

    fn router(&self, id: RouterId) -> String {
        self.tables.names.router(id).unwrap_or("a router").to_owned()
    }

    /// Where the sender is: its port, and what may come in there.
    fn port(&mut self, from: &PlannedPort, fate: &Fate) {
        let is_refused = matches!(
            fate.reason(),
            Some(
                DropReason::SpoofedAddress
                    | DropReason::MartianSource
                    | DropReason::MartianTarget
                    | DropReason::NotForRouter
            )
        );
        if is_refused {
            return;
        }
        let (object, place) = self.machine(&from.kind);
        let hop = Hop {
            at: from.kind.to_string(),
            table: "port".into(),
            object: Some(object),
            decision: "the sender's own address".into(),
            ..Hop::default()
        };
        self.push(hop, place);
    }

    /// What a machine is called as an object, and where it is written.
    fn machine(&self, kind: &PortKind) -> (String, Option<Place>) {
        let Tables { cluster, draft, .. } = self.tables;
        match kind {
            PortKind::Node { name } => {
                (format!("Node {name}"), draft.place(Kind::Node, "", name, "metadata.name"))
            }
            PortKind::External { name } => {
                (format!("external {name}"), draft.place_of_external(name))
            }
            PortKind::Pod { namespace, name } => {
                let pod = cluster.pod(namespace, name);
                let place = pod.and_then(|pod| draft.place_of_pod(pod));
                (format!("Pod {namespace}/{name}"), place)
            }
        }
    }

    fn decision(&mut self, decision: &Decision) {
        match decision {
            Decision::Forwarded { label, node, among, stickiness } => {
                self.forwarded(*label, *node, *among, *stickiness);
            }
            Decision::Frontend { router, frontend } => self.frontend(*router, *frontend),
            Decision::SourceRanges { router, frontend, is_admitted } => {
                self.source_ranges((*router, *frontend), *is_admitted);
            }
            Decision::Chosen { router, frontend, set, backend, is_remembered } => {
                self.chosen((*router, *frontend), (*set, *backend), *is_remembered);
            }
            Decision::Way { target, crossed, egress } => {
                for router in crossed.routers() {
                    self.route(*router, *target);
                }
                if egress.is_host && crossed.routers().last() != Some(&egress.router) {
                    self.route(egress.router, *target);
                }
            }
            Decision::Bridged { port } => {
                let name = self.tables.names.port(*port).map(ToString::to_string);
                let name = name.unwrap_or_default();
                let hop = Hop {
                    at: self.bridge_of(*port),
                    table: "bridge".into(),
                    decision: format!("the Ethernet address is that of {name}, on the same bridge"),
                    ..Hop::default()
                };
                self.push(hop, None);
            }
            Decision::Policy { contact, verdict } => self.policy(contact, verdict),
            Decision::Bound { binding, .. } => self.bound(binding),
            // the fate tells
            Decision::Refused(_) => {}
        }
    }

    fn bridge_of(&self, port: kswitch_tables::PortId) -> String {
        let port = self.tables.snapshot.topology.port(port);
        port.map(|port| self.router(port.router)).unwrap_or_default()
    }

    fn frontend_name(&self, (router, id): Frontend) -> Option<FrontendName> {
        let served = self.tables.snapshot.served_at(router);
        self.tables.names.frontend(served.frontends.get(id)?.label)
    }

    /// What a frontend is called as an object, and where one of its fields is written.
    fn object_of(&self, id: Frontend, field: Option<&str>) -> (Option<String>, Option<Place>) {
        self.object_named(self.frontend_name(id), field)
    }

    fn object_named(
        &self,
        name: Option<FrontendName>,
        field: Option<&str>,
    ) -> (Option<String>, Option<Place>) {
        let draft = self.tables.draft;
        match name {
            Some(FrontendName::Service { service, port }) => {
                let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
                let name = service.metadata.name.as_deref().unwrap_or_default();
                let of_port = format!("spec.ports[{port}]");
                let field = field.unwrap_or(&of_port);
                let place = draft.place(Kind::Service, namespace, name, field);
                (Some(format!("Service {namespace}/{name}")), place)
            }
            Some(FrontendName::HostPort { pod, .. }) => {
                let object = format!("Pod {}/{}", pod.namespace, pod.name);
                (Some(object), draft.place_of_pod(&pod))
            }
            None => (None, None),
        }
    }

    /// A load balancer has chosen a node.
    fn forwarded(&mut self, label: u32, node: RouterId, among: usize, stickiness: Stickiness) {
        let (object, place) = self.object_named(self.tables.names.frontend(label), None);
        let what = match stickiness {
            Stickiness::Flow => "by the flow's hash",
            Stickiness::ClientAndProtocol => "by the client's address and the protocol",
            Stickiness::Client => "by the client's address",
        };
        let how = match among {
            0 | 1 => "the only node".to_owned(),
            _ => format!("{what}, among {among} nodes"),
        };
        let hop = Hop {
            at: self.router(EDGE),
            table: "forwarding-rules".into(),
            object,
            rule: Some(format!("{} {}", self.flow.protocol, self.flow.target)),
            decision: format!("to {}, {how}; the target stays", self.router(node)),
            ..Hop::default()
        };
        self.push(hop, place);
    }

    fn frontend(&mut self, router: RouterId, id: FrontendId) {
        let (object, place) = self.object_of((router, id), None);
        let target = self.flow.target;
        let (rule, decision) = match self.frontend_name((router, id)) {
            Some(FrontendName::Service { service, port }) => {
                let spec = service.spec.as_ref();
                let port = spec.and_then(|spec| spec.ports.as_ref()?.get(port));
                let number = port.map_or(0, |port| port.port);
                let of_cluster = super::name::cluster_addresses(&service)
                    .any(|address| address == target.address.to_ip());
                let of_outside = super::name::outer_addresses(&service)
                    .any(|address| address == target.address.to_ip());
                let what = match (of_cluster, of_outside) {
                    (true, _) => "a cluster IP",
                    (_, true) => "an address for the outside",
                    _ => "a node port",
                };
                let name = port.and_then(|port| port.name.as_deref()).unwrap_or_default();
                let to = port.and_then(super::name::target_port);
                let to = to.map(|to| format!(", target port {to}")).unwrap_or_default();
                let rule = format!("port {name} {number}/{}{to}", self.flow.protocol);
                (rule.replace("  ", " "), format!("{target} is {what} of it"))
            }
            Some(FrontendName::HostPort { port, protocol, .. }) => {
                (format!("hostPort {port}/{protocol}"), format!("{target} is a host port of it"))
            }
            None => (String::new(), "served".into()),
        };
        let is_lagging = self.tables.snapshot.lagging.iter().any(|(lagging, _)| *lagging == router);
        let decision = decision + if is_lagging { ", as the node last heard" } else { "" };
        let at = self.router(router);
        let rule = Some(rule).filter(|rule| !rule.is_empty());
        self.push(
            Hop { at, table: "frontends".into(), object, rule, decision, ..Hop::default() },
            place,
        );
    }

    /// An address of a load balancer that is a proxy is nobody's on nodes.
    ///
    /// Source: KEP-1860.
    fn not_taken_over(&mut self, from: &PlannedPort) {
        let Tables { cluster, draft, snapshot, .. } = self.tables;
        let (address, port) = (self.flow.target.address.to_ip(), self.flow.target.port);
        if matches!(from.kind, PortKind::External { .. }) {
            return;
        }
        let is_its = |service: &Service| {
            let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
            super::name::proxied_addresses(service).any(|at| at == address)
                && ports.into_iter().any(|at| at.port == i32::from(port))
        };
        let mut services = cluster.services.iter();
        let Some(service) = services.find(|service| is_its(service)) else { return };
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let router = snapshot.topology.port(from.id).map(|port| port.router);
        let hop = Hop {
            at: router.map(|router| self.router(router)).unwrap_or_default(),
            table: "frontends".into(),
            object: Some(format!("Service {namespace}/{name}")),
            rule: Some("ipMode Proxy".into()),
            decision: format!("{address} is its load balancer's, a proxy: not taken over here"),
            ..Hop::default()
        };
        self.push(hop, draft.place(Kind::Service, namespace, name, "metadata.name"));
    }

    fn source_ranges(&mut self, id: Frontend, is_admitted: bool) {
        let (object, place) = self.object_of(id, Some("spec.loadBalancerSourceRanges"));
        let source = self.flow.source.address;
        let said = if is_admitted { "within" } else { "outside" };
        let hop = Hop {
            at: self.last_place(),
            table: "source-ranges".into(),
            object,
            rule: Some("loadBalancerSourceRanges".into()),
            decision: format!("{source} is {said} the source ranges"),
            ..Hop::default()
        };
        self.push(hop, place);
    }

    fn last_place(&self) -> String {
        self.hops.last().map(|hop| hop.at.clone()).unwrap_or_default()
    }

    fn chosen(
        &mut self,
        id: Frontend,
        (set, backend): (BackendSetId, Endpoint),
        is_remembered: bool,
    ) {
        use kswitch_tables::Method;
        let (object, place) = self.object_of(id, Some("spec.selector"));
        let backends = self.tables.snapshot.served_at(id.0).backends.get(set);
        let members = backends.map(|set| set.members()).unwrap_or_default();
        let how = match backends.map(|set| set.method()) {
            _ if is_remembered => "the client was sent there before",
            _ if members.len() == 1 => "the only one",
            Some(Method::Random) | None => "by chance",
            Some(Method::Maglev { .. }) => "by the flow's hash",
            Some(Method::LeastConnections) => "the least loaded",
        };
        let name = |backend: Endpoint| match self.tables.machine(backend.address) {
            Some(name) => format!("{name} {backend}"),
            None => backend.to_string(),
        };
        let all: Vec<_> =
            members.iter().take(NAMED_BACKENDS).map(|backend| name(backend.endpoint)).collect();
        let more = match members.len().checked_sub(NAMED_BACKENDS) {
            Some(more @ 1..) => format!(" and {more} more"),
            _ => String::new(),
        };
        let among = match members.len() {
            0 | 1 => String::new(),
            count => format!(", among {count}: {}{more}", all.join(", ")),
        };
        let hop = Hop {
            at: self.last_place(),
            table: "backends".into(),
            object,
            rule: None,
            decision: format!("{}, {how}{among}", name(backend)),
            rewrite: Some(format!("target {} -> {backend}", self.flow.target)),
            ..Hop::default()
        };
        self.push(hop, place);
    }

    fn route(&mut self, id: RouterId, target: kswitch_tables::Address) {
        let topology = &self.tables.snapshot.topology;
        let Some(router) = topology.router(id) else { return };
        let here = topology.hosts.get(&target).filter(|host| host.router == id);
        let found = topology.tables.get(router.table).and_then(|table| table.find_prefix(target));
        let (rule, decision) = match (here, found) {
            (Some(host), _) => {
                let name = self.tables.names.port(host.port).map(ToString::to_string);
                let name = name.unwrap_or_default();
                let is_own = topology.owner(target) == Some(host.port);
                let what = if is_own { name } else { format!("a neighbour of {name}") };
                (None, format!("{target} is {what} here"))
            }
            (None, Some((prefix, Route::Router(next)))) if *next != id => {
                (Some(prefix.to_string()), format!("via {}", self.router(*next)))
            }
            (None, Some((prefix, Route::Via(next)))) => {
                (Some(prefix.to_string()), format!("via {next}"))
            }
            (None, Some((prefix, Route::Discard | Route::Blackhole))) => {
                (Some(prefix.to_string()), "nowhere".into())
            }
            (None, Some((prefix, _))) => (Some(prefix.to_string()), "on a link of its own".into()),
            (None, None) => (None, format!("no route to {target}")),
        };
        let at = self.router(id);
        self.push(Hop { at, table: "routes".into(), rule, decision, ..Hop::default() }, None);
    }

    fn bound(&mut self, binding: &Binding) {
        let (source, flow) = (binding.source, self.flow);
        if binding.flags.has(BindingFlags::MASQUERADED) {
            let router = self.router_with(source);
            let hop = Hop {
                at: router.unwrap_or_else(|| source.address.to_string()),
                table: "masquerade".into(),
                decision: "the node's address stands in for the source's".into(),
                rewrite: Some(format!("source {} -> {source}", flow.source)),
                ..Hop::default()
            };
            self.push(hop, None);
        }
        let ends = (flow.source, flow.target);
        let hop = Hop {
            at: "conntrack".into(),
            table: "conntrack".into(),
            decision: "recorded in both directions".into(),
            rewrite: rewrite(ends, (binding.source, binding.target)),
            ..Hop::default()
        };
        self.push(hop, None);
    }

    fn router_with(&self, source: Endpoint) -> Option<String> {
        let routers = &self.tables.snapshot.topology.routers;
        let has = |router: &Router| {
            let own = router.link_gateways.iter().map(|Gateway { address, .. }| address);
            router.addresses.iter().chain(own).any(|address| *address == source.address)
        };
        let at = routers.iter().position(has)?;
        Some(self.router(RouterId(u16::try_from(at).ok()?)))
    }

    /// The router that refused a packet; where none did, the last to see it.
    fn place_of_refusal(&self, from: &PlannedPort, tried: &Tried) -> String {
        let port = self.tables.snapshot.topology.port(from.id);
        match (refusing(tried), port, self.hops.len()) {
            (Some(router), ..) => self.router(router),
            (None, Some(port), 0 | 1) => self.router(port.router),
            _ => self.last_place(),
        }
    }

    /// Where it ends.
    fn end(&mut self, from: &PlannedPort, tried: &Tried, fate: &Fate) {
        match fate {
            Fate::Arrives { port, name, .. } => {
                let kind = self.tables.names.port(*port);
                let (object, place) = kind.map(|kind| self.machine(kind)).unzip();
                let is_bridged = self
                    .tables
                    .snapshot
                    .topology
                    .port(*port)
                    .is_some_and(|port| matches!(port.role, PortRole::Bridged(_)));
                let decision = if is_bridged { "delivered by its bridge" } else { "delivered" };
                let hop = Hop {
                    at: name.clone(),
                    table: "port".into(),
                    object,
                    decision: decision.into(),
                    ..Hop::default()
                };
                self.push(hop, place.flatten());
            }
            Fate::Refused { reason, is_told, explanation } => {
                if explanation.is_some() {
                    return; // the policy has told
                }
                let said = if *is_told { "refused aloud: " } else { "" };
                let hop = Hop {
                    at: self.place_of_refusal(from, tried),
                    table: table_of(*reason).into(),
                    decision: format!("{said}{}", reason.meaning()),
                    ..Hop::default()
                };
                self.push(hop, None);
            }
            Fate::Answered { .. } | Fate::Flooded => {}
        }
    }
}

/// Who refused a packet.
fn refusing(tried: &Tried) -> Option<RouterId> {
    tried.decisions.iter().find_map(|decision| match decision {
        Decision::Refused(refusal) => refusal.router,
        _ => None,
    })
}

/// What of a packet changes.
fn rewrite(before: (Endpoint, Endpoint), after: (Endpoint, Endpoint)) -> Option<String> {
    let one = |what: &str, before: Endpoint, after: Endpoint| {
        (before != after).then(|| format!("{what} {before} -> {after}"))
    };
    let changes = [one("source", before.0, after.0), one("target", before.1, after.1)];
    let changes: Vec<_> = changes.into_iter().flatten().collect();
    (!changes.is_empty()).then(|| changes.join(", "))
}

/// The table that refuses for this reason.
const fn table_of(reason: DropReason) -> &'static str {
    match reason {
        DropReason::NoService | DropReason::NoServicePort => "frontends",
        DropReason::NoEndpoints | DropReason::NoLocalEndpoints => "backends",
        DropReason::SourceRange => "source-ranges",
        DropReason::NoForwardingRule | DropReason::ForwardingScope => "forwarding-rules",
        DropReason::PolicyEgress => "egress-policy",
        DropReason::PolicyIngress => "ingress-policy",
        DropReason::NoRoute
        | DropReason::Blackhole
        | DropReason::HostUnreachable
        | DropReason::NeighbourQueueFull
        | DropReason::NodeDown
        | DropReason::TtlExceeded
        | DropReason::TooBig
        | DropReason::RouterPort => "routes",
        DropReason::NoSuchNeighbour | DropReason::NoBridgeMember => "bridge",
        DropReason::MidStream
        | DropReason::InvalidState
        | DropReason::UnrelatedIcmp
        | DropReason::UnsolicitedReply
        | DropReason::ConntrackFull
        | DropReason::ConntrackContended
        | DropReason::HalfOpenLimit
        | DropReason::NoSourcePort => "conntrack",
        _ => "port",
    }
}
