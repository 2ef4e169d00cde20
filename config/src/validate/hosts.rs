//! Hosts outside the cluster, and the links that the edge router shares with them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::owners::{Owner, Owners};
use crate::cluster::{External, HostNetwork};
use crate::draft::{Draft, Host};
use crate::error::Findings;
use crate::path::Field;
use crate::settings::Addressing;
use crate::syntax::{self, Refused, nth_address};

/// Gateways of hosts that are alone on their link.
const ALONE: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 1, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
];

pub(super) fn externals(
    draft: &Draft,
    owners: &mut Owners,
    findings: &mut Findings,
) -> Vec<External> {
    let (mut names, mut routes) = (BTreeSet::new(), BTreeMap::new());
    for host in &draft.hosts {
        let mut note = |field: Field, message: String, help: &str| {
            let finding = findings.error(field, message, help);
            finding.object = Some(format!("external {}", host.name));
            finding.origin.clone_from(&host.origin);
        };
        if let Err(Refused { message, help }) = syntax::dns_label(&host.name) {
            note(Field::of("name"), message, &help);
        }
        if !names.insert(&host.name) {
            let message = format!("a host called `{}` is there already", host.name);
            note(Field::of("name"), message, "give each host a name of its own");
        }
        for (field, interface) in &host.addresses {
            if let Err((message, help)) = unusable(draft, *interface, &host.network) {
                note(field.clone(), message, help);
            }
            let owner = Owner::External(Arc::from(host.name.as_str()));
            if let Err(message) = owners.claim(interface.addr(), owner) {
                note(field.clone(), message, "choose another address");
            }
        }
        for (field, to) in &host.routes {
            if let Err((message, help)) = unroutable(draft, host, to.trunc()) {
                note(field.clone(), message, help);
            }
            if let Some(other) = routes.insert(to.trunc(), &host.name) {
                let message = format!("{to} is behind `{other}` already");
                note(field.clone(), message, "leave it to one of the two");
            }
        }
        for (field, gateway) in &host.gateways {
            let is_near = |interface: &IpNet| interface.contains(gateway);
            if !host.addresses.iter().any(|(_, interface)| is_near(interface)) {
                let message = format!("the gateway {gateway} is on no link of the host");
                note(field.clone(), message, "choose an address of the same prefix");
            }
        }
    }
    let gateways = gateways(&draft.hosts);
    for gateway in gateways.values() {
        if !ALONE.contains(gateway)
            && let Err(message) = owners.claim(*gateway, Owner::Edge)
        {
            // a host that names its neighbour as gateway
            let help = "leave the gateway out, or choose an address that no host has";
            findings.error(Field::of("external"), message, help).origin.clone_from(&draft.lab);
        }
    }
    draft.hosts.iter().map(|host| external(host, &gateways)).collect()
}

fn unusable(
    draft: &Draft,
    interface: IpNet,
    network: &HostNetwork,
) -> Result<(), (String, &'static str)> {
    let address = interface.addr();
    let is_host = interface.prefix_len() == interface.max_prefix_len();
    if address.is_loopback() || address.is_multicast() || address.is_unspecified() {
        return Err((
            format!("{address} cannot be the address of a machine"),
            "choose another one",
        ));
    }
    let is_end = address == interface.network()
        || (address.is_ipv4() && address == interface.broadcast() && interface.prefix_len() < 31);
    if is_end && !is_host && interface.prefix_len() + 1 < interface.max_prefix_len() {
        let message = format!("{address} is the first or the last address of its link");
        return Err((message, "choose an address between the two"));
    }
    if draft.settings.cluster.addressing == Addressing::AsGiven {
        return Ok(());
    }
    let settings = &draft.settings.cluster;
    // machines of the network share the range of the nodes
    let none = &Vec::new();
    for (key, ranges) in [
        ("pod-cidrs", &settings.pod_cidrs),
        ("service-cidrs", &settings.service_cidrs),
        ("node-cidrs", if network.is_vpc() { none } else { &settings.node_cidrs }),
        ("load-balancer-pools", &settings.load_balancer_pools),
    ] {
        if let Some(range) = ranges.iter().find(|range| range.contains(&address)) {
            let message = format!("{address} lies in {range} of `{key}`, inside the cluster");
            return Err((message, "choose an address outside the cluster, as in 198.51.100.0/24"));
        }
    }
    Ok(())
}

/// Why nothing of a prefix can be behind a host.
fn unroutable(draft: &Draft, host: &Host, to: IpNet) -> Result<(), (String, &'static str)> {
    let is_alike = |(_, own): &(Field, IpNet)| own.addr().is_ipv4() == to.addr().is_ipv4();
    if !host.addresses.iter().any(is_alike) {
        let message = format!("the host has no address of the family of {to}");
        return Err((message, "give it one in `addresses`, or leave the route out"));
    }
    let settings = &draft.settings.cluster;
    for (key, ranges) in [
        ("pod-cidrs", &settings.pod_cidrs),
        ("service-cidrs", &settings.service_cidrs),
        ("node-cidrs", &settings.node_cidrs),
    ] {
        // a wider one leaves to the cluster what is the cluster's
        if let Some(range) = ranges.iter().find(|range| range.contains(&to)) {
            let message = format!("{to} lies in {range} of `{key}`, inside the cluster");
            return Err((message, "choose a prefix outside the cluster"));
        }
    }
    Ok(())
}

/// The edge router's address on each link: the one a host names, else the first that no host has.
fn gateways(hosts: &[Host]) -> BTreeMap<IpNet, IpAddr> {
    let taken: BTreeSet<IpAddr> = hosts
        .iter()
        .flat_map(|host| &host.addresses)
        .map(|(_, interface)| interface.addr())
        .collect();
    let mut gateways = BTreeMap::new();
    let links =
        || hosts.iter().flat_map(|host| &host.addresses).map(|(_, interface)| interface.trunc());
    for (_, gateway) in hosts.iter().flat_map(|host| &host.gateways) {
        for link in links().filter(|link| link.contains(gateway)) {
            gateways.entry(link).or_insert(*gateway);
        }
    }
    for link in links() {
        let first = || (1..=syntax::last_address(link)).filter_map(|nth| nth_address(link, nth));
        let [v4, v6] = ALONE;
        let alone = if link.addr().is_ipv4() { v4 } else { v6 };
        gateways
            .entry(link)
            .or_insert_with(|| first().find(|address| !taken.contains(address)).unwrap_or(alone));
    }
    gateways
}

fn external(host: &Host, gateways: &BTreeMap<IpNet, IpAddr>) -> External {
    let addresses: Vec<_> = host.addresses.iter().map(|(_, interface)| *interface).collect();
    External {
        name: host.name.clone(),
        gateways: addresses.iter().filter_map(|at| gateways.get(&at.trunc()).copied()).collect(),
        addresses,
        routes: host.routes.iter().map(|(_, to)| to.trunc()).collect(),
        mtu: host.mtu,
        interface: host.interface.clone(),
        network: host.network.clone(),
    }
}
