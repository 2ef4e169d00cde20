//! Who knows the way where.
//!
//! Nodes share the table of the fabric. In it a node's own ranges lead to the node itself, which
//! means that they lie on its own links.

use std::net::IpAddr;

use ipnet::IpNet;
use kswitch_tables::{Address, Prefix, PrefixMap, Route, RouterId};

use super::Layout;
use super::{prefix, topology};
use crate::Cluster;
use crate::settings::Mode;

/// The table of the fabric between nodes.
pub(super) const FABRIC: usize = 0;

/// The table of the router to the outside.
pub(super) const EDGE: usize = 1;

/// Both tables.
pub(super) fn tables(
    cluster: &Cluster,
    layout: &Layout,
    entries: &[(Prefix, RouterId)],
    seed: u64,
) -> Vec<PrefixMap<Route>> {
    vec![fabric(cluster, layout, seed), edge(cluster, layout, entries, seed)]
}

/// Nodes, their pods, and everything else by way of the edge. Cluster IPs have no place in it: what
/// no node has translated goes nowhere.
fn fabric(cluster: &Cluster, layout: &Layout, seed: u64) -> PrefixMap<Route> {
    let settings = &cluster.settings.cluster;
    let mut table = PrefixMap::new(seed);
    for default in [Address::UNSPECIFIED_V4, Address::UNSPECIFIED_V6] {
        table.insert(Prefix::new(default, 0), Route::Router(topology::EDGE));
    }
    for range in &settings.service_cidrs {
        table.insert(prefix(*range), Route::Discard);
    }
    match (settings.mode, &settings.routes) {
        (Mode::RoutesBased, Some(routes)) => {
            for range in &settings.pod_cidrs {
                table.insert(prefix(*range), Route::Blackhole);
            }
            for route in routes {
                if let Some(router) = layout.router(layout.places.node(&route.node)) {
                    table.insert(prefix(route.to), Route::Router(router));
                }
            }
        }
        (Mode::VpcNative | Mode::RoutesBased, _) => {
            for (node, router) in cluster.nodes.iter().zip(&layout.routers) {
                for range in &node.pod_ranges {
                    table.insert(prefix(*range), Route::Router(*router));
                }
            }
            for (address, router) in strangers(cluster, layout) {
                table.insert(Prefix::host(address), Route::Router(router));
            }
        }
    }
    insert_nodes(&mut table, cluster, layout);
    table
}

/// Nodes, addresses of Services that are known outside, and the links to hosts outside. Pods and
/// cluster IPs are not to be reached from there.
fn edge(
    cluster: &Cluster,
    layout: &Layout,
    entries: &[(Prefix, RouterId)],
    seed: u64,
) -> PrefixMap<Route> {
    let mut table = PrefixMap::new(seed);
    for external in &cluster.externals {
        for to in &external.routes {
            let is_alike = |net: &&IpNet| net.addr().is_ipv4() == to.addr().is_ipv4();
            if let Some(via) = external.addresses.iter().find(is_alike) {
                table.insert(prefix(*to), Route::Via(via.addr().into()));
            }
        }
    }
    if cluster.externals.iter().any(|external| !external.routes.is_empty()) {
        // what is inside is behind nobody outside, however wide a route is
        let settings = &cluster.settings.cluster;
        for range in settings.pod_cidrs.iter().chain(&settings.node_cidrs) {
            table.insert(prefix(*range), Route::Router(topology::EDGE));
        }
        for range in &settings.service_cidrs {
            table.insert(prefix(*range), Route::Discard);
        }
    }
    for (prefix, router) in entries {
        table.insert(*prefix, Route::Router(*router));
    }
    for net in cluster.externals.iter().flat_map(|external| &external.addresses) {
        table.insert(prefix(*net), Route::Connected);
    }
    insert_nodes(&mut table, cluster, layout);
    table
}

fn insert_nodes(table: &mut PrefixMap<Route>, cluster: &Cluster, layout: &Layout) {
    for (node, router) in cluster.nodes.iter().zip(&layout.routers) {
        for address in &node.addresses {
            table.insert(Prefix::host((*address).into()), Route::Router(*router));
        }
    }
}

/// Pods whose addresses are not in the ranges of their node.
pub(super) fn strangers(
    cluster: &Cluster,
    layout: &Layout,
) -> impl Iterator<Item = (Address, RouterId)> {
    cluster.pods.iter().filter(|pod| !pod.host_network).flat_map(|pod| {
        let ranges = cluster.nodes.get(pod.node).map_or(&[][..], |node| &node.pod_ranges);
        let router = layout.routers.get(pod.node);
        let is_strange = |ip: &&IpAddr| !ranges.iter().any(|range: &IpNet| range.contains(*ip));
        let strange = pod.addresses.iter().filter(is_strange);
        strange.filter_map(move |ip| Some(((*ip).into(), *router?)))
    })
}
