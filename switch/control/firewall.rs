//! What a firewall in front of the nodes lets through for load balancers.
//!
//! It follows from them, as a cloud's controllers write it: for each address its ports to whom its
//! source ranges admit, and the checks. Nothing else of such an address leads anywhere, so that these
//! rules say what holds, and need not be asked about each flow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kswitch_config::{NetworkBalancer, PROXY_HEALTH_PORT};
use serde::Serialize;
use serde_json::Value;

use super::network_views::{SHARED, by_protocol, metadata, sources};
use super::running::Running;

/// A rule.
///
/// Source: Google Cloud, "VPC firewall rules"; GKE, "Automatically created firewall rules".
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FirewallRule {
    metadata: Value,
    direction: &'static str,
    action: &'static str,
    source_ranges: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    destination_ranges: Vec<String>,
    allowed: Vec<Allowed>,
    targets: &'static str,
}

/// Ports of a protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Allowed {
    protocol: String,
    ports: Vec<u16>,
}

impl FirewallRule {
    fn new(namespace: &str, name: &str, sources: Vec<String>, allowed: Vec<Allowed>) -> Self {
        Self {
            metadata: metadata(namespace, name),
            direction: "INGRESS",
            action: "ALLOW",
            source_ranges: sources,
            destination_ranges: Vec::new(),
            allowed,
            targets: "nodes",
        }
    }
}

fn tcp(ports: impl IntoIterator<Item = u16>) -> Vec<Allowed> {
    vec![Allowed { protocol: "TCP".to_owned(), ports: ports.into_iter().collect() }]
}

/// Every rule.
pub(super) fn rules(running: &Running) -> Vec<FirewallRule> {
    let checkers = || sources(running).into_iter().map(str::to_owned);
    let mut rules: Vec<FirewallRule> = running.network.iter().flat_map(of_balancer).collect();
    let mut checked: BTreeMap<u16, (String, String)> = BTreeMap::new();
    for NetworkBalancer { namespace, service, check, .. } in &running.network {
        let name = match check.port {
            PROXY_HEALTH_PORT => (String::new(), format!("{SHARED}-fw")),
            _ => (namespace.clone(), format!("k8s-fw-{namespace}-{service}-hc")),
        };
        checked.entry(check.port).or_insert(name);
    }
    rules.extend(checked.into_iter().map(|(port, (namespace, name))| {
        FirewallRule::new(&namespace, &name, checkers().collect(), tcp([port]))
    }));
    let backends = running.balancers.routing().backends.values();
    let places = backends.flat_map(|backend| {
        let check = backend.health_check.port;
        backend.places.iter().flat_map(move |place| [Some(place.address.port()), check])
    });
    let ports: BTreeSet<u16> = places.flatten().collect();
    if !ports.is_empty() {
        let proxies = running.cluster.proxies.iter().flat_map(|proxy| &proxy.sources);
        let inner = proxies.filter(|address| !is_checker(**address)).map(ToString::to_string);
        let sources = checkers().chain(inner).collect();
        let rule = FirewallRule::new("", "k8s-fw-l7", sources, tcp(ports));
        rules.push(FirewallRule { targets: "nodes and pods", ..rule });
    }
    rules
}

/// The rules of a network load balancer: one for each family.
fn of_balancer(balancer: &NetworkBalancer) -> Vec<FirewallRule> {
    let NetworkBalancer { namespace, service, addresses, source_ranges, .. } = balancer;
    let mut rules = Vec::new();
    for (is_v4, anyone, end) in [(true, "0.0.0.0/0", ""), (false, "::/0", "-ipv6")] {
        let of_family = addresses.iter().filter(|address| address.is_ipv4() == is_v4);
        let destinations: Vec<String> = of_family.map(ToString::to_string).collect();
        if destinations.is_empty() {
            continue;
        }
        let written = source_ranges.iter().map(|range| range.trim().to_owned());
        let mut sources: Vec<String> =
            written.filter(|range| range.contains(':') != is_v4).collect();
        if sources.is_empty() {
            sources.push(anyone.to_owned());
        }
        let allowed = by_protocol(balancer)
            .into_iter()
            .map(|(protocol, ports)| Allowed { protocol: protocol.clone(), ports })
            .collect();
        let name = format!("k8s-fw-{namespace}-{service}{end}");
        let rule = FirewallRule::new(namespace, &name, sources, allowed);
        rules.push(FirewallRule { destination_ranges: destinations, ..rule });
    }
    rules
}

/// Whether an address is within the ranges of checkers.
const fn is_checker(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(v4.octets(), [35, 191, ..] | [130, 211, 0..=3, _]),
        IpAddr::V6(v6) => matches!(v6.segments(), [0x2600, 0x2d00, 0x1, 0xb029, ..]),
    }
}
