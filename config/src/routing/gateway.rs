//! Gateways with the routes that attach to them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::attach::{self, Applicant, Grants};
use super::backends::Backends;
use super::condition::condition;
use super::features;
use super::gateway_status::{parent_status, with_status};
use super::host::HostPattern;
use super::layer4;
use super::listener::{self, Prepared};
use super::listener_set;
use super::matching::Match;
use super::model::{BackendPart, Listener, Routing, Rule, Serve, Socket, SocketKind};
use super::rules::{Owner, Reader};
use super::table::{Age, Candidate, RouteTable};
use crate::gateway_api::{
    GatewayClassStatus, GrpcRoute, HttpRoute, HttpRule, ListenerSet, ParentReference, RouteStatus,
    TlsRouteSpec,
};
use crate::{Cluster, GatewaySettings};

/// Whether Gateways of a class are served.
pub(crate) fn is_served(
    class: &str,
    classes: &[Arc<crate::gateway_api::GatewayClass>],
    settings: &GatewaySettings,
) -> bool {
    match classes.iter().find(|at| at.metadata.name.as_deref() == Some(class)) {
        Some(at) if at.spec.controller_name == GatewaySettings::GATEWAY_CONTROLLER => true,
        // GKE's own classes are written with GKE's controller
        _ => settings.gateway_classes.iter().any(|name| name == class),
    }
}

/// A route of any kind, as far as attaching goes.
struct Facts<'r> {
    kind: &'static str,
    part: BackendPart,
    metadata: &'r ObjectMeta,
    hostnames: &'r [String],
    parents: &'r [ParentReference],
}

/// A route of requests.
#[derive(Clone, Copy)]
enum Asking<'r> {
    Http(&'r Arc<HttpRoute>),
    Grpc(&'r Arc<GrpcRoute>),
}

impl Asking<'_> {
    /// What tells which of two was there first; those that do not say so are as young as can be.
    fn age(&self) -> (bool, Option<String>, Option<String>, Option<String>) {
        let metadata = match self {
            Self::Http(route) => &route.metadata,
            Self::Grpc(route) => &route.metadata,
        };
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
        (created.is_none(), created, metadata.namespace.clone(), metadata.name.clone())
    }
}

/// What a route does.
enum Does {
    /// Requests that match go by a rule.
    Requests(Vec<(Vec<Match>, Arc<Rule>)>),
    /// All connections or datagrams go by a rule.
    Streams(Option<Arc<Rule>>),
}

/// What Gateways do.
pub(super) fn route<'c>(cluster: &'c Cluster, backends: &mut Backends<'c>) -> Routing {
    let grants = Grants::new(cluster);
    let objects = &cluster.gateway_api;
    let settings = &cluster.settings.gateway;
    let served = objects
        .gateways
        .iter()
        .filter(|at| is_served(&at.spec.gateway_class_name, &objects.classes, settings));
    let mut all = All {
        gateways: served.map(|at| listener::prepare(cluster, &grants, at)).collect(),
        cluster,
    };
    let mut routing = Routing::default();
    let http = objects.http_routes.iter().map(Asking::Http).enumerate();
    let grpc = objects.grpc_routes.iter().map(Asking::Grpc).enumerate();
    let mut asking: Vec<(usize, Asking<'_>)> = http.chain(grpc).collect();
    // of those of both types for the same hosts, the oldest holds
    asking.sort_by_cached_key(|(_, route)| route.age());
    routing.http_routes.clone_from(&objects.http_routes);
    routing.grpc_routes.clone_from(&objects.grpc_routes);
    for (place, route) in asking {
        match route {
            Asking::Http(route) => {
                let one = [HttpRule::default()];
                let spec = &route.spec;
                let rules = spec.rules.as_deref().unwrap_or(&one);
                let facts = facts("HTTPRoute", &route.metadata, &spec.hostnames, &spec.parent_refs);
                let status = all.add(&facts, &grants, backends, |reader| {
                    let rules = rules.iter().enumerate().map(|(at, rule)| reader.http(at, rule));
                    Does::Requests(rules.map(|(matches, rule)| (matches, Arc::new(rule))).collect())
                });
                if let Some(told) = routing.http_routes.get_mut(place) {
                    Arc::make_mut(told).status = Some(status);
                }
            }
            Asking::Grpc(route) => {
                let spec = &route.spec;
                let facts = facts("GRPCRoute", &route.metadata, &spec.hostnames, &spec.parent_refs);
                let status = all.add(&facts, &grants, backends, |reader| {
                    let rules = spec.rules.iter().enumerate();
                    let rules = rules.map(|(at, rule)| reader.grpc(at, rule));
                    Does::Requests(rules.map(|(matches, rule)| (matches, Arc::new(rule))).collect())
                });
                if let Some(told) = routing.grpc_routes.get_mut(place) {
                    Arc::make_mut(told).status = Some(status);
                }
            }
        }
    }
    macro_rules! layer4 {
        ($list:ident, $kind:literal, $part:expr, $hosts:expr) => {
            for route in &objects.$list {
                let spec = &route.spec;
                let facts = Facts {
                    part: $part,
                    ..facts($kind, &route.metadata, $hosts(spec), &spec.parent_refs)
                };
                let status = all.add(&facts, &grants, backends, |reader| {
                    let rule = spec.rules.first().map(|rule| Arc::new(reader.layer4(0, rule)));
                    Does::Streams(rule)
                });
                let mut route = route.as_ref().clone();
                route.status = Some(status);
                routing.$list.push(Arc::new(route));
            }
        };
    }
    layer4!(tls_routes, "TLSRoute", BackendPart::Connections, tls_hosts);
    layer4!(tcp_routes, "TCPRoute", BackendPart::Connections, no_hosts);
    layer4!(udp_routes, "UDPRoute", BackendPart::Datagrams, no_hosts);
    all.finish(&mut routing);
    routing
}

fn tls_hosts(spec: &TlsRouteSpec) -> &[String] {
    &spec.hostnames
}

fn no_hosts<T>(_: &T) -> &[String] {
    &[]
}

fn facts<'r>(
    kind: &'static str,
    metadata: &'r ObjectMeta,
    hostnames: &'r [String],
    parents: &'r [ParentReference],
) -> Facts<'r> {
    Facts { kind, part: BackendPart::Requests, metadata, hostnames, parents }
}

struct All<'c> {
    gateways: Vec<Prepared>,
    cluster: &'c Cluster,
}

impl<'c> All<'c> {
    /// Attaches a route, and says what has become of it.
    fn add(
        &mut self,
        facts: &Facts<'_>,
        grants: &Grants<'c>,
        backends: &mut Backends<'c>,
        read: impl FnOnce(&mut Reader<'_, 'c>) -> Does,
    ) -> RouteStatus {
        let Facts { kind, part, metadata, hostnames, parents } = *facts;
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        let owner = Owner { kind, namespace, name, part };
        let mut reader = Reader { owner, backends, grants, problems: Vec::new() };
        let does = read(&mut reader);
        let problems = reader.problems;
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
        let age = |at, of| (created.clone(), namespace.to_owned(), name.to_owned(), at, of);
        let mut status = RouteStatus::default();
        // by Gateway and listener: one that is named twice has one route
        let mut counted = HashSet::new();
        for wanted in parents {
            let found = attach::parent(&mut self.gateways, wanted, namespace);
            let Some((gateway, set)) = found else { continue };
            let applicant = Applicant { kind, namespace, hostnames };
            let namespaces = &self.cluster.namespaces;
            let attached = attach::attach((gateway, set), wanted, applicant, namespaces)
                .and_then(|attached| attach::apart(gateway, kind, attached));
            status.parents.push(parent_status(metadata, wanted, attached.as_ref(), &problems));
            for (at, hosts) in attached.into_iter().flatten() {
                let gateway_name = (gateway.namespace.clone(), gateway.name.clone());
                let Some(listener) = gateway.listeners.get_mut(at) else { continue };
                if counted.insert((gateway_name, at)) {
                    listener.attached += 1;
                    listener.requests.extend(hosts.iter().map(|host| (kind, host.clone())));
                    push(listener, &hosts, &does, &age);
                }
            }
        }
        status
    }

    /// Makes sockets of the listeners.
    fn finish(self, routing: &mut Routing) {
        let mut sockets = BTreeMap::new();
        for mut gateway in self.gateways {
            for prepared in &mut gateway.listeners {
                if !prepared.is_usable {
                    continue;
                }
                let serve = match prepared.spec.protocol.as_str() {
                    "HTTP" | "HTTPS" => {
                        let candidates = std::mem::take(&mut prepared.candidates);
                        Serve::Http(RouteTable::of_routes(candidates))
                    }
                    _ => layer4::serve(prepared),
                };
                let kind = match prepared.spec.protocol.as_str() {
                    "HTTP" => SocketKind::Http,
                    "HTTPS" | "TLS" => SocketKind::Tls,
                    "TCP" => SocketKind::Tcp,
                    _ => SocketKind::Udp,
                };
                let (namespace, name) = (gateway.namespace.clone(), gateway.name.clone());
                let called = match prepared.set.and_then(|at| gateway.sets.get(at)) {
                    Some(set) => format!("ListenerSet {}/{}", set.namespace, set.name),
                    None => format!("Gateway {namespace}/{name}"),
                };
                let identity = gateway.identity.as_ref().and_then(|shown| shown.as_ref().ok());
                let listener = Arc::new(Listener {
                    name: format!("{called}, listener {}", prepared.spec.name),
                    owner: ("Gateway".to_owned(), namespace, name),
                    hostname: HostPattern::of_gateway(prepared.spec.hostname.as_deref()),
                    certificates: prepared.certificates.clone(),
                    terms: gateway.terms.clone(),
                    clients: prepared.clients.clone(),
                    identity: identity.cloned(),
                    admitted: Vec::new(),
                    serve,
                });
                let port = u16::try_from(prepared.spec.port).unwrap_or_default();
                for address in &gateway.addresses {
                    let socket = sockets.entry((*address, port, kind)).or_insert_with(|| Socket {
                        address: *address,
                        port,
                        kind,
                        listeners: Vec::new(),
                    });
                    socket.listeners.push(Arc::clone(&listener));
                }
            }
            let (sets, attached) = listener_set::with_status(&gateway);
            routing.listener_sets.extend(sets);
            routing.gateways.push(Arc::new(with_status(&gateway, attached)));
        }
        routing.sockets.extend(sockets.into_values());
        let objects = &self.cluster.gateway_api;
        let is_ours =
            |name: &str| is_served(name, &objects.classes, &self.cluster.settings.gateway);
        for gateway in &objects.gateways {
            if !is_ours(&gateway.spec.gateway_class_name) {
                routing.gateways.push(Arc::clone(gateway));
            }
        }
        let is_told = |set: &ListenerSet, routing: &Routing| {
            let (name, namespace) = (&set.metadata.name, &set.metadata.namespace);
            let mut told = routing.listener_sets.iter().map(|at| &at.metadata);
            told.any(|at| at.name == *name && at.namespace == *namespace)
        };
        for set in &objects.listener_sets {
            if !is_told(set, routing) {
                routing.listener_sets.push(Arc::clone(set));
            }
        }
        for class in &objects.classes {
            let mut class = class.as_ref().clone();
            if is_ours(class.metadata.name.as_deref().unwrap_or_default()) {
                let generation = class.metadata.generation;
                let conditions = vec![condition("Accepted", true, "Accepted", "", generation)];
                let supported_features = features::supported();
                class.status = Some(GatewayClassStatus { conditions, supported_features });
            }
            routing.gateway_classes.push(Arc::new(class));
        }
    }
}

fn push(
    listener: &mut listener::PreparedListener,
    hosts: &[HostPattern],
    does: &Does,
    age: &impl Fn(usize, usize) -> Age,
) {
    for host in hosts {
        match does {
            Does::Requests(rules) => {
                for (at, (matches, rule)) in rules.iter().enumerate() {
                    for (of, matching) in matches.iter().enumerate() {
                        listener.candidates.push(Candidate {
                            host: host.clone(),
                            matching: matching.clone(),
                            rule: Arc::clone(rule),
                            age: age(at, of),
                        });
                    }
                }
            }
            Does::Streams(rule) => {
                let stream = |rule: &Arc<Rule>| (age(0, 0), host.clone(), Arc::clone(rule));
                listener.streams.extend(rule.as_ref().map(stream));
            }
        }
    }
}
