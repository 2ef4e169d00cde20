//! From pods and written objects to the candidates of each port.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointSubset, Endpoints, Service, ServicePort,
};
use k8s_openapi::api::discovery::v1 as discovery;
use kswitch_tables::{Address, Endpoint};

use super::{Candidate, Conditions, Distribution, Hints, NOWHERE, Places, families, number};
use super::{protocol, target_port};
use crate::{Observed, Pod};

/// The candidates of one port of a Service in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortCandidates {
    /// Index in `ServiceSpec.ports`.
    pub(crate) port: usize,
    /// Whether these are IPv4 addresses.
    pub(crate) is_v4: bool,
    /// By endpoint, no two alike.
    pub(crate) candidates: Vec<Candidate>,
}

/// What candidates of a Service are gathered from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gathering<'c> {
    /// The Service.
    pub(crate) service: &'c Service,
    /// The pods that it selects.
    pub(crate) pods: &'c [Arc<Pod>],
    /// The slices that were written for it.
    pub(crate) slices: &'c [&'c Arc<discovery::EndpointSlice>],
    /// The Endpoints that were written for it.
    pub(crate) endpoints: Option<&'c Arc<Endpoints>>,
}

/// The candidates of every port of a Service, in each family that it has.
pub(crate) fn gather(
    from: Gathering<'_>,
    places: &Places,
    observed: &Observed,
) -> Vec<PortCandidates> {
    let spec = from.service.spec.as_ref();
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut gathered = Vec::new();
    for is_v4 in families(from.service) {
        for (at, port) in ports.iter().enumerate() {
            let mut candidates = Vec::with_capacity(from.pods.len());
            from_pods(&mut candidates, from, port, is_v4, places, observed);
            for slice in from.slices {
                from_slice(&mut candidates, slice, port, is_v4, places);
            }
            for subset in from.endpoints.iter().flat_map(|all| all.subsets.iter().flatten()) {
                from_subset(&mut candidates, subset, port, is_v4, places);
            }
            sort(&mut candidates);
            gathered.push(PortCandidates { port: at, is_v4, candidates });
        }
    }
    gathered
}

/// Sorts candidates and keeps one for each endpoint: the one in the best state, since a slice that
/// an endpoint is moved from may be behind the one it is moved to.
fn sort(candidates: &mut Vec<Candidate>) {
    let rank = |candidate: &Candidate| {
        let Conditions { ready, serving, terminating } = candidate.conditions;
        (candidate.endpoint, !ready, !serving, terminating)
    };
    candidates.sort_by_key(rank);
    candidates.dedup_by_key(|candidate| candidate.endpoint);
}

fn from_pods(
    candidates: &mut Vec<Candidate>,
    from: Gathering<'_>,
    port: &ServicePort,
    is_v4: bool,
    places: &Places,
    observed: &Observed,
) {
    let distribution = Distribution::of(from.service);
    for pod in from.pods {
        let address = pod.addresses.iter().find(|ip| ip.is_ipv4() == is_v4);
        let (Some(address), Some(target)) = (address, target_port(pod, port)) else { continue };
        let node = number(pod.node);
        let conditions = Conditions::of_pod(pod, from.service, observed);
        let hints = if conditions.ready { pod_hints(distribution, node, places) } else { None };
        let endpoint = Endpoint::new((*address).into(), target);
        candidates.push(Candidate { endpoint, node, conditions, hints });
    }
}

fn pod_hints(distribution: Distribution, node: u32, places: &Places) -> Option<Box<Hints>> {
    let zone = Some(places.zone_of(node)).filter(|zone| *zone != NOWHERE);
    let hints = match distribution {
        Distribution::Anywhere => return None,
        Distribution::SameZone => Hints { nodes: Vec::new(), zones: zone.into_iter().collect() },
        Distribution::SameNode => Hints { nodes: vec![node], zones: zone.into_iter().collect() },
    };
    hints.boxed()
}

fn from_slice(
    candidates: &mut Vec<Candidate>,
    slice: &discovery::EndpointSlice,
    port: &ServicePort,
    is_v4: bool,
    places: &Places,
) {
    if slice.address_type != if is_v4 { "IPv4" } else { "IPv6" } {
        return;
    }
    let ports = slice.ports.iter().flatten();
    let numbers =
        ports.filter(|have| is_port(port, have.name.as_deref(), have.protocol.as_deref()));
    for number in numbers.filter_map(|have| u16::try_from(have.port?).ok()).filter(|n| *n != 0) {
        for endpoint in slice.endpoints.iter().flatten() {
            // addresses beyond the first have no meaning
            let address = endpoint.addresses.first().and_then(|text| address(text, is_v4));
            let Some(address) = address else { continue };
            candidates.push(Candidate {
                endpoint: Endpoint::new(address, number),
                node: endpoint.node_name.as_ref().map_or(NOWHERE, |name| places.node(name)),
                conditions: Conditions::of_slice(endpoint.conditions.as_ref()),
                hints: endpoint.hints.as_ref().and_then(|hints| written_hints(hints, places)),
            });
        }
    }
}

fn written_hints(hints: &discovery::EndpointHints, places: &Places) -> Option<Box<Hints>> {
    let nodes = hints.for_nodes.iter().flatten().map(|node| places.node(&node.name));
    let zones = hints.for_zones.iter().flatten().map(|zone| places.zone(&zone.name));
    Hints { nodes: nodes.collect(), zones: zones.collect() }.boxed()
}

fn from_subset(
    candidates: &mut Vec<Candidate>,
    subset: &EndpointSubset,
    port: &ServicePort,
    is_v4: bool,
    places: &Places,
) {
    let ports = subset.ports.iter().flatten();
    let numbers =
        ports.filter(|have| is_port(port, have.name.as_deref(), have.protocol.as_deref()));
    for number in numbers.filter_map(|have| u16::try_from(have.port).ok()) {
        let mut add = |addresses: &Option<Vec<EndpointAddress>>, ready| {
            for have in addresses.iter().flatten() {
                let Some(address) = address(&have.ip, is_v4) else { continue };
                candidates.push(Candidate {
                    endpoint: Endpoint::new(address, number),
                    node: have.node_name.as_ref().map_or(NOWHERE, |name| places.node(name)),
                    conditions: Conditions { ready, serving: ready, terminating: false },
                    hints: None,
                });
            }
        };
        add(&subset.addresses, true);
        add(&subset.not_ready_addresses, false);
    }
}

/// Whether a port of a slice is the one that a port of a Service leads to: by name and protocol.
fn is_port(port: &ServicePort, name: Option<&str>, has_protocol: Option<&str>) -> bool {
    name.unwrap_or_default() == port.name.as_deref().unwrap_or_default()
        && protocol(has_protocol) == protocol(port.protocol.as_deref())
}

/// An address of the family.
fn address(text: &str, is_v4: bool) -> Option<Address> {
    let ip: IpAddr = text.parse().ok()?;
    (ip.is_ipv4() == is_v4).then(|| ip.into())
}
