//! Nodes with their addresses and pod ranges.

mod complete;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as NodeObject;

use super::owners::{Owner, Owners};
use super::pod_ranges::{Carver, range_size};
use super::ranges::{family, overlap};
use super::workloads::Planned;
use crate::allocate::Addresses;
use crate::cluster::{Cluster, Node};
use crate::draft::{Draft, Entry};
use crate::error::Findings;
use crate::kind::Kind;
use crate::object::Object;
use crate::path::Field;
use crate::settings::{Addressing, ClusterSettings};
use crate::syntax::nth_address;

/// A node while its addresses are looked for.
struct Candidate<'d> {
    name: Arc<str>,
    entry: &'d Arc<Entry>,
    object: &'d NodeObject,
    addresses: Vec<IpAddr>,
    ranges: Vec<IpNet>,
}

pub(super) fn nodes(
    draft: &Draft,
    pods: &[Planned],
    previous: Option<&Cluster>,
    owners: &mut Owners,
    findings: &mut Findings,
) -> Vec<Arc<Node>> {
    let settings = &draft.settings.cluster;
    for address in settings.edge_addresses() {
        // what else has it will be told of its own claim
        let _ = owners.claim(address, Owner::Edge);
    }
    let mut carver = Carver::new(settings, pods);
    let mut candidates: Vec<_> = draft.of(Kind::Node).values().filter_map(candidate).collect();
    for candidate in &mut candidates {
        candidate.written(settings, owners, &mut carver, findings);
    }
    let before: HashMap<&str, &Arc<Node>> = previous
        .iter()
        .flat_map(|previous| &previous.nodes)
        .map(|node| (node.name.as_str(), node))
        .collect();
    for candidate in &mut candidates {
        if let Some(node) = before.get(&*candidate.name) {
            candidate.keep(node, settings, owners, &mut carver);
        }
    }
    let mut free: Vec<_> =
        settings.node_cidrs.iter().map(|range| Addresses::from(*range, 2)).collect();
    for candidate in &mut candidates {
        candidate.allocate(settings, &mut free, owners, &mut carver, findings);
    }
    for Candidate { name, ranges, .. } in &candidates {
        for gateway in ranges.iter().filter_map(|range| nth_address(*range, 1)) {
            let _ = owners.claim(gateway, Owner::Gateway(name.clone()));
        }
    }
    let completed = candidates.into_iter().map(|at| complete::node(at, settings, &draft.lost));
    let shared = |node: Node| match before.get(node.name.as_str()) {
        // what is the same is the same object: all that follows from it stays
        Some(same) if ***same == node => Arc::clone(same),
        _ => Arc::new(node),
    };
    completed.map(shared).collect()
}

fn candidate(entry: &Arc<Entry>) -> Option<Candidate<'_>> {
    let Object::Node(object) = &entry.object else { return None };
    let name = Arc::from(entry.object.name());
    Some(Candidate { name, entry, object, addresses: Vec::new(), ranges: Vec::new() })
}

impl Candidate<'_> {
    /// Takes the addresses and ranges that the node itself names.
    fn written(
        &mut self,
        settings: &ClusterSettings,
        owners: &mut Owners,
        carver: &mut Carver,
        findings: &mut Findings,
    ) {
        let called = self.entry.called();
        let mut note = |field: Field, message: String, help: &str| {
            findings.error(field, message, help).of(called.as_str(), &self.entry.origin);
        };
        let addresses = self.object.status.iter().flat_map(|at| at.addresses.iter().flatten());
        for (index, address) in addresses.enumerate() {
            if address.type_ != "InternalIP" {
                continue;
            }
            let Ok(parsed) = address.address.parse() else { continue };
            let field = Field::of("status").key("addresses").index(index).key("address");
            if self.addresses.contains(&parsed) {
                continue;
            }
            if let Some((range, key)) = foreign(settings, parsed) {
                let message = format!("{parsed} lies in {range} of `{key}`");
                note(field.clone(), message, "choose an address of `node-cidrs`");
            }
            if let Err(message) = owners.claim(parsed, Owner::Node(self.name.clone())) {
                note(field, message, "choose another address");
            }
            self.addresses.push(parsed);
        }
        for (field, range) in written_ranges(self.object) {
            let lies_within = settings.pod_cidrs.iter().any(|cidr| cidr.contains(&range));
            if !lies_within && settings.addressing == Addressing::Checked {
                let message = format!("{range} lies in none of `pod-cidrs`");
                note(field.clone(), message, "choose a part of one of them");
            }
            match carver.claim(range, &self.name) {
                Ok(()) => self.ranges.push(range),
                Err((other, owner)) if owner == self.name => {
                    let message = format!("{range} overlaps {other} of the same node");
                    note(field, message, "remove one of the two");
                }
                Err((other, owner)) => {
                    let message = format!("{range} overlaps {other} of node {owner}");
                    note(field, message, "choose ranges that have no address in common");
                }
            }
        }
    }

    /// Takes again what the node had before and does not name.
    fn keep(
        &mut self,
        before: &Node,
        settings: &ClusterSettings,
        owners: &mut Owners,
        carver: &mut Carver,
    ) {
        for address in &before.addresses {
            let is_of_cluster = settings.node_cidrs.iter().any(|range| range.contains(address));
            if is_of_cluster
                && self.lacks_address(address.is_ipv4(), settings)
                && owners.claim(*address, Owner::Node(self.name.clone())).is_ok()
            {
                self.addresses.push(*address);
            }
        }
        for range in &before.pod_ranges {
            let is_cut = |cidr: &IpNet| {
                cidr.contains(range)
                    && range.prefix_len() == range_size(*cidr, settings.node_range_sizes)
            };
            if settings.pod_cidrs.iter().any(is_cut)
                && self.lacks_range(range.addr().is_ipv4())
                && carver.claim(*range, &self.name).is_ok()
            {
                self.ranges.push(*range);
            }
        }
    }

    /// Takes what is still missing.
    fn allocate(
        &mut self,
        settings: &ClusterSettings,
        free: &mut [Addresses],
        owners: &mut Owners,
        carver: &mut Carver,
        findings: &mut Findings,
    ) {
        let mut note = |field: Field, message: String, help: String| {
            findings.error(field, message, help).of(self.entry.called(), &self.entry.origin);
        };
        for (range, free) in settings.node_cidrs.iter().zip(free) {
            if !self.lacks_address(range.addr().is_ipv4(), settings) {
                continue;
            }
            match free.take(|address| owners.is_free(address)) {
                Some(address) => {
                    let _ = owners.claim(address, Owner::Node(self.name.clone()));
                    self.addresses.push(address);
                }
                None => {
                    let message = format!("no address of {range} is left for the node");
                    let help = "choose a larger range in `node-cidrs`".to_owned();
                    note(Field::default(), message, help);
                }
            }
        }
        for is_v4 in [true, false] {
            let mut cidrs = settings.pod_cidrs.iter().filter(|at| at.addr().is_ipv4() == is_v4);
            let Some(cidr) = cidrs.next() else { continue };
            if !self.lacks_range(is_v4) {
                continue;
            }
            match carver.carve(is_v4, &self.name) {
                Some(range) => self.ranges.push(range),
                None => {
                    let size = range_size(*cidr, settings.node_range_sizes);
                    let message = format!(
                        "no {} range of /{size} is left for the node's pods",
                        family(is_v4)
                    );
                    let key = if is_v4 { "node-range-size" } else { "node-range-size-ipv6" };
                    let help = format!("choose wider `pod-cidrs` or a `{key}` above {size}");
                    note(Field::default(), message, help);
                }
            }
        }
        // the cluster's first family is the preferred one
        let prefers_v4 = settings.pod_cidrs.first().is_none_or(|range| range.addr().is_ipv4());
        self.ranges.sort_by_key(|range| range.addr().is_ipv4() != prefers_v4);
    }

    fn lacks_address(&self, is_v4: bool, settings: &ClusterSettings) -> bool {
        let is_complete = settings.addressing == Addressing::AsGiven && !self.addresses.is_empty();
        !is_complete && !self.addresses.iter().any(|address| address.is_ipv4() == is_v4)
    }

    fn lacks_range(&self, is_v4: bool) -> bool {
        !self.ranges.iter().any(|range| range.addr().is_ipv4() == is_v4)
    }
}

/// The ranges that a node names, and the way to each.
fn written_ranges(object: &NodeObject) -> Vec<(Field, IpNet)> {
    let Some(spec) = &object.spec else { return Vec::new() };
    let parse = |text: &str| text.parse::<IpNet>().ok().map(|range| range.trunc());
    let field = Field::of("spec");
    match (&spec.pod_cidrs, &spec.pod_cidr) {
        (Some(list), _) if !list.is_empty() => {
            let at = |index| field.clone().key("podCIDRs").index(index);
            let parsed = list.iter().enumerate();
            parsed.filter_map(|(index, text)| Some((at(index), parse(text)?))).collect()
        }
        (_, Some(text)) => {
            parse(text).map(|range| (field.key("podCIDR"), range)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// The range of the cluster, other than the nodes', that an address lies in.
pub(super) fn foreign(
    settings: &ClusterSettings,
    address: IpAddr,
) -> Option<(IpNet, &'static str)> {
    if settings.addressing == Addressing::AsGiven {
        return None;
    }
    let lists = [
        ("pod-cidrs", &settings.pod_cidrs),
        ("service-cidrs", &settings.service_cidrs),
        ("load-balancer-pools", &settings.load_balancer_pools),
    ];
    lists.into_iter().find_map(|(key, ranges)| {
        ranges.iter().find(|range| overlap(**range, address.into())).map(|range| (*range, key))
    })
}
