//! Addresses of pods: those they ask for, those they had, those that are free.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Before, Seated};
use crate::allocate::Addresses;
use crate::cluster::Node;
use crate::error::Findings;
use crate::path::Field;
use crate::settings::{Addressing, ClusterSettings};
use crate::syntax::last_address;
use crate::validate::owners::{Owner, Owners};
use crate::validate::pod_ranges::is_for_pods;

/// The addresses of each pod, in the order of the pods.
pub(super) fn assign(
    settings: &ClusterSettings,
    seated: &[Seated],
    nodes: &[Arc<Node>],
    before: &Before<'_>,
    owners: &mut Owners,
    findings: &mut Findings,
) -> Vec<Vec<IpAddr>> {
    let mut assigned: Vec<_> =
        seated.iter().map(|at| written(settings, at, nodes, owners, findings)).collect();
    for (index, (at, addresses)) in seated.iter().zip(&mut assigned).enumerate() {
        if let (Addressed::Lacking(list), Some(node)) = (addresses, nodes.get(at.node)) {
            for address in before.addresses(index, &at.pod, node) {
                let range = node.pod_ranges.iter().find(|range| range.contains(address));
                let is_missing = !list.iter().any(|had| had.is_ipv4() == address.is_ipv4());
                let fits = range.is_some_and(|range| is_for_pods(*range, *address));
                if is_missing && fits && owners.claim(*address, owner(at)).is_ok() {
                    list.push(*address);
                }
            }
        }
    }
    let mut free: Vec<Vec<Addresses>> = nodes
        .iter()
        .map(|node| node.pod_ranges.iter().map(|range| Addresses::from(*range, 2)).collect())
        .collect();
    let mut full = BTreeMap::new();
    let mut done = Vec::with_capacity(seated.len());
    for (index, (at, addresses)) in seated.iter().zip(assigned).enumerate() {
        let mut list = match addresses {
            Addressed::Done(list) => {
                done.push(list);
                continue;
            }
            Addressed::Lacking(list) => list,
        };
        let Some((node, free)) = nodes.get(at.node).zip(free.get_mut(at.node)) else { continue };
        for (range, free) in node.pod_ranges.iter().zip(free) {
            if list.iter().any(|had| had.is_ipv4() == range.addr().is_ipv4()) {
                continue;
            }
            // whoever had one until now may still be spoken to
            let is_fresh = |address| owners.is_free(address) && !before.had(address);
            let any = || Addresses::from(*range, 2).take(|address| owners.is_free(address));
            match free.take(is_fresh).or_else(any) {
                Some(address) => {
                    let _ = owners.claim(address, owner(at));
                    list.push(address);
                }
                None => full.entry((at.node, *range)).or_insert_with(Vec::new).push(index),
            }
        }
        let prefers_v4 = node.pod_ranges.first().is_none_or(|range| range.addr().is_ipv4());
        list.sort_by_key(|address| address.is_ipv4() != prefers_v4);
        done.push(list);
    }
    for ((node, range), lacking) in full {
        if let Some(node) = nodes.get(node) {
            note_full(node, range, &lacking, seated, findings);
        }
    }
    done
}

enum Addressed {
    /// These, and no others.
    Done(Vec<IpAddr>),
    /// One of each family of the node's ranges.
    Lacking(Vec<IpAddr>),
}

fn owner(seated: &Seated) -> Owner {
    Owner::Pod(seated.pod.object.clone())
}

/// The addresses that a pod asks for, or has from its node.
fn written(
    settings: &ClusterSettings,
    seated: &Seated,
    nodes: &[Arc<Node>],
    owners: &mut Owners,
    findings: &mut Findings,
) -> Addressed {
    let Seated { pod, node } = seated;
    if pod.spec().is_some_and(|spec| spec.host_network == Some(true)) {
        let addresses = nodes.get(*node).map(|node| node.addresses.clone());
        return Addressed::Done(addresses.unwrap_or_default());
    }
    let mut list: Vec<IpAddr> = Vec::new();
    for (field, address) in pod.addresses() {
        if list.contains(&address) {
            continue;
        }
        let mut note = |message: String, help: &str| {
            let error = findings.error(field.clone(), message, help);
            error.of(pod.entry.called(), &pod.entry.origin);
        };
        if let Err((message, help)) = usable(settings, address, *node, nodes) {
            note(message, help);
        } else if let Err(message) = owners.claim(address, owner(seated)) {
            note(message, "choose another address, or leave it out");
        }
        list.push(address);
    }
    if list.is_empty() { Addressed::Lacking(list) } else { Addressed::Done(list) }
}

fn usable(
    settings: &ClusterSettings,
    address: IpAddr,
    node: usize,
    nodes: &[Arc<Node>],
) -> Result<(), (String, &'static str)> {
    if address.is_loopback() || address.is_multicast() || address.is_unspecified() {
        return Err((
            format!("{address} cannot be the address of a machine"),
            "choose another one",
        ));
    }
    if settings.addressing == Addressing::AsGiven {
        return Ok(());
    }
    for (index, other) in nodes.iter().enumerate() {
        let Some(range) = other.pod_ranges.iter().find(|range| range.contains(&address)) else {
            continue;
        };
        if index != node {
            let message = format!("{address} lies in {range} of node {}", other.name);
            return Err((message, "choose an address of the pod's own node"));
        }
        if !is_for_pods(*range, address) {
            let message = format!("{address} is the gateway's or an end of {range}");
            return Err((message, "choose one of the addresses from the second on"));
        }
    }
    let lists = [
        ("service-cidrs", &settings.service_cidrs),
        ("node-cidrs", &settings.node_cidrs),
        ("load-balancer-pools", &settings.load_balancer_pools),
    ];
    for (key, ranges) in lists {
        if let Some(range) = ranges.iter().find(|range| range.contains(&address)) {
            let message = format!("{address} lies in {range} of `{key}`");
            return Err((message, "choose an address of the pod range of its node"));
        }
    }
    Ok(())
}

fn note_full(
    node: &Node,
    range: IpNet,
    lacking: &[usize],
    seated: &[Seated],
    findings: &mut Findings,
) {
    let first = lacking.first().and_then(|index| seated.get(*index));
    let Some(Seated { pod, .. }) = first else { return };
    let room = Addresses::size(range, 2).min(last_address(range));
    let others = match lacking.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let name = pod.object.metadata.name.as_deref().unwrap_or("");
    let message = format!(
        "the pod range {range} of node {} is full: no address is left for `{name}`{others}",
        node.name
    );
    let size = range.prefix_len();
    let key = if range.addr().is_ipv4() { "node-range-size" } else { "node-range-size-ipv6" };
    let help = format!(
        "it has room for {room}: add a node, or choose a `{key}` below {size} or wider `pod-ranges`"
    );
    let error = findings.error(Field::default(), message, help);
    error.of(pod.entry.called(), &pod.entry.origin);
}
