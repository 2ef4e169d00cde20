//! Which packets would fare differently under another configuration: `kswitch trace --diff`.
//!
//! Every pod is tried with every port of every Service and of every other pod, under both
//! configurations, whichever backend is chosen.

use std::collections::{BTreeMap, BTreeSet};

use kswitch_config::{PlannedPort, Pod, PortKind};
use kswitch_tables::{Address, Endpoint, Flow, Protocol};
use serde::{Deserialize, Serialize};

use super::name::{cluster_addresses, outer_addresses, protocol_of};
use super::probe::{Probe, Tried, first};
use super::verdict::{Fate, denied, fate};
use super::{SOURCE_PORT, Tables};
use crate::control::request::Record;
use crate::dataplane::decision::Decision;

/// What the built-in echo server listens on when its pod names no ports.
const ECHO_PORTS: [(Protocol, u16); 2] = [(Protocol::TCP, 8080), (Protocol::UDP, 8081)];

/// What becomes of packets under one configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// `forward`, `drop` or `reject`; `absent` where the two are not both there; where backends
    /// differ, all that there are, as `forward|drop`.
    pub verdict: String,
    /// Why packets go no further.
    pub reason: Option<String>,
    /// The policies that refuse them.
    pub explanation: Option<String>,
}

/// Two whose packets fare differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    /// Who sends, `namespace/name`.
    pub from: String,
    /// Whom it is for, `namespace/name`.
    pub to: String,
    /// What it is for: `TCP 10.8.0.80:80`.
    pub target: String,
    /// Under the first configuration.
    pub before: Side,
    /// Under the second.
    pub after: Side,
}

/// All that would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// How many pairs there are.
    pub pairs: usize,
    /// Those that fare differently.
    pub changed: Vec<Pair>,
}

impl Record for Changes {
    const KIND: &'static str = "TraceDiff";
}

/// Something that can be sent to: its name, protocol and end.
type Goal = (String, Protocol, Endpoint);

/// A sender and a goal, by name and address.
type Key = (String, Address, Goal);

/// What would change between two configurations.
pub fn changes(before: &Tables<'_>, after: &Tables<'_>) -> Changes {
    let goals: BTreeSet<Goal> = goals(before).into_iter().chain(goals(after)).collect();
    let (first, second) = (sides(before, &goals), sides(after, &goals));
    let keys: BTreeSet<&Key> = first.keys().chain(second.keys()).collect();
    let absent = Side { verdict: "absent".into(), reason: None, explanation: None };
    let mut changed = Vec::new();
    for key in &keys {
        let side = |of: &BTreeMap<Key, Side>| of.get(*key).cloned().unwrap_or(absent.clone());
        let (before, after) = (side(&first), side(&second));
        if before.verdict != after.verdict {
            let (from, _, (to, protocol, end)) = (*key).clone();
            let target = format!("{protocol} {end}");
            changed.push(Pair { from, to, target, before, after });
        }
    }
    Changes { pairs: keys.len(), changed }
}

/// All that pods may want to reach.
fn goals(tables: &Tables<'_>) -> Vec<Goal> {
    let mut goals = Vec::new();
    for service in &tables.cluster.services {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        for port in ports {
            let Ok(number) = u16::try_from(port.port) else { continue };
            for address in cluster_addresses(service).chain(outer_addresses(service)) {
                let end = Endpoint::new(address.into(), number);
                goals.push((format!("{namespace}/{name}"), protocol_of(port), end));
            }
        }
    }
    for pod in &tables.cluster.pods {
        for (protocol, port) in ports_of(pod) {
            for address in &pod.addresses {
                let end = Endpoint::new((*address).into(), port);
                goals.push((format!("{}/{}", pod.namespace, pod.name), protocol, end));
            }
        }
    }
    goals
}

/// Where a pod listens.
fn ports_of(pod: &Pod) -> Vec<(Protocol, u16)> {
    let protocol = |name: Option<&str>| match name {
        Some("UDP") => Protocol::UDP,
        Some("SCTP") => Protocol::SCTP,
        _ => Protocol::TCP,
    };
    let named: Vec<_> = pod
        .container_ports()
        .filter_map(|port| {
            let number = u16::try_from(port.container_port).ok()?;
            Some((protocol(port.protocol.as_deref()), number))
        })
        .collect();
    if named.is_empty() { ECHO_PORTS.to_vec() } else { named }
}

/// What becomes of packets from every pod to every goal.
fn sides(tables: &Tables<'_>, goals: &BTreeSet<Goal>) -> BTreeMap<Key, Side> {
    let mut probe = Probe::new(tables.snapshot, 1);
    let mut sides = BTreeMap::new();
    let there: BTreeSet<Goal> = self::goals(tables).into_iter().collect();
    for port in tables.ports {
        let PortKind::Pod { .. } = port.kind else { continue };
        for source in port.addresses.iter().map(|net| Address::from(net.addr())) {
            for goal in goals.iter().filter(|goal| there.contains(*goal)) {
                let (_, protocol, target) = goal;
                if target.address == source || target.address.is_v4() != source.is_v4() {
                    continue;
                }
                let flow = Flow {
                    protocol: *protocol,
                    source: Endpoint::new(source, SOURCE_PORT),
                    target: *target,
                };
                let key = (port.kind.to_string(), source, goal.clone());
                if let Some(side) = side(tables, &mut probe, port, &flow) {
                    sides.insert(key, side);
                }
            }
        }
    }
    sides
}

/// What becomes of the packets of a flow, whichever backend is chosen.
fn side(
    tables: &Tables<'_>,
    probe: &mut Probe<'_>,
    from: &PlannedPort,
    flow: &Flow,
) -> Option<Side> {
    let packet = first(flow);
    probe.forget();
    let tried = probe.send(from, &packet, None)?;
    let set = tried.decisions.iter().find_map(|decision| match decision {
        Decision::Chosen { router, set, .. } => Some((*router, *set)),
        _ => None,
    });
    let mut all: Vec<Side> = Vec::new();
    let mut add = |tried: &Tried| {
        let fate = fate(tables, from, tried);
        let explanation = match &fate {
            Fate::Refused { explanation, .. } if denied(tried).is_some() => explanation.clone(),
            _ => None,
        };
        let side = Side {
            verdict: fate.verdict().into(),
            reason: fate.reason().map(|reason| reason.key().into()),
            explanation,
        };
        if !all.iter().any(|other| other.verdict == side.verdict) {
            all.push(side);
        }
    };
    match set {
        None => add(&tried),
        Some((router, set)) => {
            for backend in tables.snapshot.served_at(router).backends.members(set) {
                probe.forget();
                add(&probe.send(from, &packet, Some(backend.endpoint))?);
            }
        }
    }
    all.sort_by(|a, b| a.verdict.cmp(&b.verdict).reverse());
    let verdicts: Vec<_> = all.iter().map(|side| side.verdict.clone()).collect();
    let refused = all.iter().find(|side| side.reason.is_some());
    Some(Side {
        verdict: verdicts.join("|"),
        reason: refused.and_then(|side| side.reason.clone()),
        explanation: refused.and_then(|side| side.explanation.clone()),
    })
}
