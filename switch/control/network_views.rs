//! Network load balancers as clients see them: forwarding rules, groups of nodes with health, health
//! checks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kswitch_config::routing::{Backend, HealthCheckSpec};
use kswitch_config::{NetworkBalancer, NodeCheck, PROXY_HEALTH_PORT, Scheme, stickiness_name};
use serde_json::{Value, json};

use super::balanced;
use super::metrics::BalancerReading;
use super::running::Running;

/// From where nodes and pods are checked, and requests of load balancers come.
///
/// Source: Google Cloud, "Probe IP ranges and firewall rules".
const SOURCES: [&str; 2] = ["130.211.0.0/22", "35.191.0.0/16"];
const SOURCES_V6: &str = "2600:2d00:1:b029::/64";

/// The check that all Services share whose nodes are asked for their service proxy.
pub(super) const SHARED: &str = "k8s-shared-l4";

/// The forwarding rules of network load balancers: one for each address and protocol.
pub(super) fn forwarding_rules(running: &Running) -> Vec<Value> {
    let settings = &running.cluster.settings.gateway;
    let of = |balancer: &NetworkBalancer| -> Vec<Value> {
        let rule = |address: &IpAddr, (protocol, ports): (&String, Vec<u16>)| {
            let all: Vec<String> = ports.iter().map(u16::to_string).collect();
            json!({
                "metadata": { "namespace": balancer.namespace, "name": balancer.service },
                "ownerKind": "Service",
                "listener": format!("Service {}/{}", balancer.namespace, balancer.service),
                "address": address.to_string(),
                "port": format!("{}/{protocol}", all.join(",")),
                "protocol": protocol,
                "ports": ports,
                "target": balancer.scheme.group(settings.subsetting),
                "backendService": format!("{}/{}", balancer.namespace, balancer.service),
                "loadBalancingScheme": scheme(balancer.scheme),
                "allowGlobalAccess": balancer.scheme == Scheme::Internal { is_global: true },
                "externalTrafficPolicy": if balancer.is_local { "Local" } else { "Cluster" },
                "sessionAffinity": stickiness_name(balancer.stickiness),
            })
        };
        let ports = by_protocol(balancer);
        let pairs = balancer.addresses.iter().flat_map(|address| {
            ports.iter().map(move |(protocol, ports)| (address, (*protocol, ports.clone())))
        });
        pairs.map(|(address, ports)| rule(address, ports)).collect()
    };
    running.network.iter().flat_map(of).collect()
}

const fn scheme(scheme: Scheme) -> &'static str {
    if scheme.is_internal() { "INTERNAL" } else { "EXTERNAL" }
}

/// The ports of each protocol.
pub(super) fn by_protocol(balancer: &NetworkBalancer) -> BTreeMap<&String, Vec<u16>> {
    let mut ports: BTreeMap<&String, Vec<u16>> = BTreeMap::new();
    for (protocol, port) in &balancer.ports {
        ports.entry(protocol).or_default().push(*port);
    }
    ports
}

/// The groups of nodes behind network load balancers.
pub(super) fn backend_services(running: &Running) -> Vec<Value> {
    let settings = &running.cluster.settings.gateway;
    let of = |balancer: &NetworkBalancer| {
        let nodes = balancer.nodes.iter().map(|node| {
            let address = node.addresses.first().map(ToString::to_string);
            json!({
                "address": address,
                "node": node.name,
                "weight": node.weight,
                "health": health(running, balancer, &node.name, node.is_healthy),
            })
        });
        let draining = running.observed.draining.iter().filter(|(namespace, service, _)| {
            (namespace, service) == (&balancer.namespace, &balancer.service)
        });
        let draining: Vec<&String> = draining.map(|(.., node)| node).collect();
        let protocols: Vec<&String> = by_protocol(balancer).into_keys().collect();
        json!({
            "metadata": { "namespace": balancer.namespace, "name": balancer.service },
            "service": balancer.service,
            "protocol": if let [one] = protocols.as_slice() { one } else { "UNSPECIFIED" },
            "group": balancer.scheme.group(settings.subsetting),
            "loadBalancingScheme": scheme(balancer.scheme),
            "sessionAffinity": stickiness_name(balancer.stickiness),
            "connectionDrainingSeconds": settings.draining.as_secs(),
            "healthCheck": check(&balancer.check),
            "backends": nodes.collect::<Vec<_>>(),
            "draining": draining,
            "allUnhealthy": balancer.is_desperate(),
        })
    };
    running.network.iter().map(of).collect()
}

/// What is known of a node.
fn health(
    running: &Running,
    balancer: &NetworkBalancer,
    node: &str,
    is_healthy: bool,
) -> &'static str {
    let key = (balancer.check.port, node.to_owned());
    // what agrees with what was thought before is no news, and changes nothing
    match running.watchers.seen().get(&key).copied() {
        None if running.cluster.prober.is_some() => "UNKNOWN",
        seen if seen.unwrap_or(is_healthy) => "HEALTHY",
        _ => "UNHEALTHY",
    }
}

/// What belongs to no Service in particular is in no namespace.
pub(super) fn metadata(namespace: &str, name: &str) -> Value {
    match namespace {
        "" => json!({ "name": name }),
        _ => json!({ "namespace": namespace, "name": name }),
    }
}

fn check(check: &NodeCheck) -> Value {
    let NodeCheck { port, path, interval, timeout, healthy, unhealthy } = check;
    json!({
        "type": "HTTP",
        "path": path,
        "port": port,
        "intervalSeconds": interval.as_secs_f64(),
        "timeoutSeconds": timeout.as_secs_f64(),
        "healthyThreshold": healthy,
        "unhealthyThreshold": unhealthy,
    })
}

/// Every health check once, with the health of what it asks.
pub(super) fn health_checks(running: &Running) -> Vec<Value> {
    let mut all: BTreeMap<(String, String), Shared<'_>> = BTreeMap::new();
    for balancer in &running.network {
        let name = match balancer.check.port {
            PROXY_HEALTH_PORT => (String::new(), SHARED.to_owned()),
            _ => (balancer.namespace.clone(), balancer.service.clone()),
        };
        let results = BTreeMap::new();
        let fresh = || Shared { check: &balancer.check, users: BTreeSet::new(), results };
        let shared = all.entry(name).or_insert_with(fresh);
        shared.users.insert(format!("{}/{}", balancer.namespace, balancer.service));
        for node in &balancer.nodes {
            let health = health(running, balancer, &node.name, node.is_healthy);
            shared.results.insert(&node.name, health);
        }
    }
    let networks = all.into_iter().map(|((namespace, name), shared)| {
        let Shared { check, users, results } = shared;
        json!({
            "metadata": metadata(&namespace, &name),
            "type": "HTTP",
            "path": check.path,
            "port": check.port,
            "intervalSeconds": check.interval.as_secs_f64(),
            "timeoutSeconds": check.timeout.as_secs_f64(),
            "healthyThreshold": check.healthy,
            "unhealthyThreshold": check.unhealthy,
            "sourceRanges": sources(running),
            "usedBy": users,
            "results": results,
        })
    });
    let routing = running.balancers.routing();
    let backends = routing.backends.values().filter(|backend| backend.is_checked());
    let backends = backends.map(|backend| of_backend(running, backend));
    networks.chain(backends).collect()
}

/// A health check that several load balancers may use.
struct Shared<'b> {
    check: &'b NodeCheck,
    users: BTreeSet<String>,
    results: BTreeMap<&'b str, &'static str>,
}

fn of_backend(running: &Running, backend: &Backend) -> Value {
    let HealthCheckSpec { is_http, path, port, interval, timeout, healthy, unhealthy, .. } =
        &backend.health_check;
    let results: serde_json::Map<String, Value> = backend
        .places
        .iter()
        .map(|place| {
            let health = balanced::health(running, backend, place.address);
            (place.address.to_string(), health.into())
        })
        .collect();
    json!({
        "metadata": {
            "namespace": backend.key.namespace,
            "name": backend.key.name(),
        },
        "type": if *is_http { "HTTP" } else { "TCP" },
        "path": path,
        "port": port,
        "intervalSeconds": interval.as_secs_f64(),
        "timeoutSeconds": timeout.as_secs_f64(),
        "healthyThreshold": healthy,
        "unhealthyThreshold": unhealthy,
        "sourceRanges": sources(running),
        "usedBy": [format!("{}/{}", backend.key.namespace, backend.key.service)],
        "results": results,
    })
}

/// The ranges from which is asked.
pub(super) fn sources(running: &Running) -> Vec<&'static str> {
    let ranges = &running.cluster.settings.cluster.node_cidrs;
    let has_v6 = ranges.iter().any(|range| range.addr().is_ipv6());
    SOURCES.into_iter().chain(has_v6.then_some(SOURCES_V6)).collect()
}

/// How nodes are, for metrics.
pub(super) fn reading(running: &Running) -> BalancerReading {
    let nodes = running.network.iter().flat_map(|balancer| {
        let service = format!("{}/{}", balancer.namespace, balancer.service);
        let nodes = balancer.nodes.iter();
        nodes.map(move |node| (service.clone(), node.name.clone(), node.is_healthy))
    });
    BalancerReading { nodes: nodes.collect(), health_changes: running.watchers.turns() }
}
