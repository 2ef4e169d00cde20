//! The host from which network load balancers check nodes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;

use super::owners::{Owner, Owners};
use crate::cluster::{External, HostNetwork, Prober};
use crate::draft::Draft;
use crate::network_balancer::ingress_of;

/// What it is called.
const NAME: &str = "health-checks";

/// From where it asks: an address of each of the ranges.
///
/// Source: Google Cloud, "Probe IP ranges and firewall rules": 35.191.0.0/16, 130.211.0.0/22 and
/// 2600:2d00:1:b029::/64.
const SOURCES: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(130, 211, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(35, 191, 255, 254)),
    IpAddr::V6(Ipv6Addr::new(0x2600, 0x2d00, 0x1, 0xb029, 0, 0, 0, 0xfffe)),
];

/// The routers of a host that is alone on its links.
const ROUTERS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
];

/// The host, if any Service has a load balancer with an address that nodes take.
pub(super) fn prober(
    draft: &Draft,
    services: &[Arc<Service>],
    owners: &mut Owners,
) -> Option<(Prober, External)> {
    let settings = &draft.settings;
    if !settings.gateway.health_checks || !services.iter().any(|service| is_balanced(service)) {
        return None;
    }
    let has_v6 = settings.cluster.node_cidrs.iter().any(|range| range.addr().is_ipv6());
    let wanted = SOURCES.into_iter().filter(|at| at.is_ipv4() || has_v6);
    let name: Arc<str> = NAME.into();
    let free = wanted.filter(|at| owners.claim(*at, Owner::External(Arc::clone(&name))).is_ok());
    let sources: Vec<IpAddr> = free.collect();
    let [router_v4, router_v6] = ROUTERS;
    let router = |at: &IpAddr| if at.is_ipv4() { router_v4 } else { router_v6 };
    let external = External {
        name: NAME.to_owned(),
        gateways: sources.iter().map(router).collect(),
        addresses: sources.iter().map(|at| IpNet::from(*at)).collect(),
        routes: Vec::new(),
        mtu: None,
        interface: None,
        network: HostNetwork::Internet,
    };
    let is_taken = draft.hosts.iter().any(|host| host.name == NAME);
    (!sources.is_empty() && !is_taken)
        .then(|| (Prober { name: NAME.to_owned(), sources }, external))
}

fn is_balanced(service: &Service) -> bool {
    let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    kind == Some("LoadBalancer") && ingress_of(service).any(|at| at.ip.is_some())
}
