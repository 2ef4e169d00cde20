//! Load balancers as clients see them: the objects with their status, and the chain of what was made
//! of them.

use std::net::SocketAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kswitch_config::routing::{
    Backend, BackendPart, HealthCheckSpec, Listener, Match, PathMatch, Rule, Serve, Socket,
    SocketKind, TargetBackend,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::firewall;
use super::network_views;
use super::request::{Failure, Kind, Response, Selector};
use super::running::Running;
use super::views::objects;

/// Answers `get` for a kind that load balancers are made of.
pub(super) fn get(running: &Running, kind: Kind, select: &Selector) -> Response {
    fn all<T: Serialize>(list: &[std::sync::Arc<T>], select: &Selector) -> Response {
        objects(list.iter().map(|object| &**object), select)
    }
    let routing = running.balancers.routing();
    match kind {
        Kind::GatewayClasses => all(&routing.gateway_classes, select),
        Kind::Gateways => all(&routing.gateways, select),
        Kind::ListenerSets => all(&routing.listener_sets, select),
        Kind::HttpRoutes => all(&routing.http_routes, select),
        Kind::GrpcRoutes => all(&routing.grpc_routes, select),
        Kind::TlsRoutes => all(&routing.tls_routes, select),
        Kind::TcpRoutes => all(&routing.tcp_routes, select),
        Kind::UdpRoutes => all(&routing.udp_routes, select),
        Kind::BackendTlsPolicies => all(&routing.backend_tls, select),
        Kind::ManagedCertificates => {
            all(&running.balancers.issuing.objects(&running.cluster), select)
        }
        Kind::Authorities => {
            let lab = &running.cluster.settings.lab.name;
            let own = running.balancers.issuing.authority();
            let object = |own| json!({ "metadata": { "name": lab }, "certificate": own });
            objects(own.map(object), select)
        }
        Kind::BackendServices => {
            let backends = routing.backends.values();
            let networks = network_views::backend_services(running);
            let backends = backends.map(|backend| backend_service(running, backend));
            objects(networks.into_iter().chain(backends), select)
        }
        Kind::ForwardingRules => {
            let sockets = routing.sockets.iter();
            let rules = sockets.flat_map(|socket| {
                socket.listeners.iter().map(|listener| forwarding_rule(socket, listener))
            });
            objects(network_views::forwarding_rules(running).into_iter().chain(rules), select)
        }
        Kind::HealthChecks => objects(network_views::health_checks(running), select),
        Kind::FirewallRules => objects(firewall::rules(running), select),
        _ => all(&routing.ingresses, select),
    }
}

/// What an Ingress or a Gateway was sent, from a number on.
pub(super) fn log(
    running: &Running,
    kind: &str,
    namespace: &str,
    name: &str,
    from: u64,
) -> Response {
    let routing = running.balancers.routing();
    let is_it = |metadata: &ObjectMeta| {
        metadata.name.as_deref() == Some(name) && metadata.namespace.as_deref() == Some(namespace)
    };
    let (kind, is_there) = match kind {
        "ingress" => ("Ingress", routing.ingresses.iter().any(|at| is_it(&at.metadata))),
        _ => ("Gateway", routing.gateways.iter().any(|at| is_it(&at.metadata))),
    };
    if !is_there {
        let message = format!("no {kind} {name} in namespace {namespace}");
        return Response::failed(Failure::NotFound, message);
    }
    let owner = (kind.to_owned(), namespace.to_owned(), name.to_owned());
    let (lines, next) = running.balancers.requests.since(&owner, from);
    Response::Log { lines, next }
}

fn backend_service(running: &Running, backend: &Backend) -> Value {
    let place = |place: &kswitch_config::routing::Place| {
        let health = health(running, backend, place.address);
        json!({
            "address": place.address.to_string(),
            "pod": place.pod,
            "node": place.node,
            "health": health,
        })
    };
    let HealthCheckSpec { is_http, path, port, interval, timeout, healthy, unhealthy, .. } =
        &backend.health_check;
    json!({
        "metadata": {
            "namespace": backend.key.namespace,
            "name": backend.key.name(),
        },
        "service": backend.key.service,
        "port": backend.key.port,
        "protocol": protocol(backend),
        "group": if backend.is_neg { "NEG" } else { "INSTANCE_GROUP" },
        "timeoutSeconds": backend.timeout.as_secs(),
        "healthCheck": {
            "type": if *is_http { "HTTP" } else { "TCP" },
            "path": path,
            "port": port,
            "intervalSeconds": interval.as_secs(),
            "timeoutSeconds": timeout.as_secs(),
            "healthyThreshold": healthy,
            "unhealthyThreshold": unhealthy,
        },
        "backends": backend.places.iter().map(place).collect::<Vec<_>>(),
    })
}

/// What is spoken with a backend, as the cloud calls it.
fn protocol(backend: &Backend) -> String {
    match backend.key.part {
        BackendPart::Requests => format!("{:?}", backend.protocol).to_ascii_uppercase(),
        BackendPart::Connections | BackendPart::OwnConnections => "TCP".to_owned(),
        BackendPart::Datagrams | BackendPart::OwnDatagrams => "UDP".to_owned(),
    }
}

/// How a place of a backend is, as the cloud has it.
pub(super) fn health(running: &Running, backend: &Backend, place: SocketAddr) -> &'static str {
    match running.balancers.is_healthy(&backend.key, place) {
        Some(true) => "HEALTHY",
        Some(false) => "UNHEALTHY",
        None => "UNKNOWN",
    }
}

/// The proxies of a Service, and what is behind them, for people.
pub(super) fn proxies(
    running: &Running,
    namespace: &str,
    name: &str,
) -> Vec<(String, Vec<String>)> {
    let is_its = |listener: &Listener| {
        let (kind, of, called) = &listener.owner;
        (kind.as_str(), of.as_str(), called.as_str()) == ("Service", namespace, name)
    };
    let mut all = Vec::new();
    for socket in &running.balancers.routing().sockets {
        let protocol = if socket.kind == SocketKind::Udp { "UDP" } else { "TCP" };
        for listener in socket.listeners.iter().filter(|listener| is_its(listener)) {
            let Serve::Stream(rules) = &listener.serve else { continue };
            let targets = rules.iter().flat_map(|(_, rule)| &rule.targets);
            let backends = targets.filter_map(|target| match &target.backend {
                TargetBackend::Service(backend) => Some(backend),
                TargetBackend::Unusable(_) => None,
            });
            let places = backends.flat_map(|backend| {
                backend.places.iter().map(|place| {
                    let whose = place.pod.as_ref().or(place.node.as_ref());
                    let whose = whose.map_or("", String::as_str);
                    let health = health(running, backend, place.address);
                    format!("{} {whose}: {health}", place.address)
                })
            });
            let line = format!("{}/{protocol}, a proxy in front of", socket.place());
            all.push((line, places.collect()));
        }
    }
    all
}

fn forwarding_rule(socket: &Socket, listener: &Listener) -> Value {
    let (kind, namespace, name) = &listener.owner;
    let proxy = match (socket.kind, &listener.serve) {
        (SocketKind::Http, _) => "TargetHttpProxy",
        (SocketKind::Tls, Serve::Http(_)) => "TargetHttpsProxy",
        (SocketKind::Tls, _) => "TargetTlsProxy",
        (SocketKind::Tcp, _) => "TargetTcpProxy",
        (SocketKind::Udp, _) => "TargetUdpProxy",
    };
    let map: Vec<Value> = match &listener.serve {
        Serve::Http(table) => {
            let rules = table.rules().map(|(host, matching, rule)| url(&host, matching, rule));
            let fallback = table.fallback().map(|rule| entry("*", "(default)", rule));
            rules.chain(fallback).collect()
        }
        Serve::Stream(rules) | Serve::Passthrough(rules) => {
            rules.iter().map(|(host, rule)| entry(&host.to_string(), "", rule)).collect()
        }
    };
    json!({
        "metadata": { "namespace": namespace, "name": name },
        "ownerKind": kind,
        "listener": listener.name,
        "address": socket.address.to_string(),
        "port": socket.port,
        "hosts": listener.hostname.to_string(),
        "target": proxy,
        "certificates": listener.certificates.len(),
        "urlMap": map,
    })
}

fn url(host: &str, matching: &Match, rule: &Rule) -> Value {
    let path = match &matching.path {
        PathMatch::Exact(path) => format!("= {path}"),
        PathMatch::Prefix(path) if path == "/" => "/*".to_owned(),
        PathMatch::Prefix(path) => format!("{path}, {path}/*"),
        PathMatch::Begins(path) => format!("{path}*"),
        PathMatch::Expression(expression) => format!("~ {}", expression.as_str()),
    };
    let mut text = path;
    if let Some(method) = &matching.method {
        text = format!("{method} {text}");
    }
    for (name, _) in &matching.headers {
        text.push_str(&format!(", header {name}"));
    }
    for (name, _) in &matching.query {
        text.push_str(&format!(", query {name}"));
    }
    entry(host, &text, rule)
}

fn entry(host: &str, path: &str, rule: &Rule) -> Value {
    let target = |target: &kswitch_config::routing::Target| {
        let (backend, problem) = match &target.backend {
            TargetBackend::Service(backend) => {
                let key = &backend.key;
                let name = format!("{}/{}", key.namespace, key.name());
                (Some(name), None)
            }
            TargetBackend::Unusable(why) => (None, Some(why)),
        };
        json!({ "backendService": backend, "weight": target.weight, "problem": problem })
    };
    let redirect = rule.filters.redirect.as_ref().map(|redirect| redirect.status);
    json!({
        "host": host,
        "path": path,
        "rule": rule.name,
        "redirect": redirect,
        "targets": rule.targets.iter().map(target).collect::<Vec<_>>(),
    })
}
