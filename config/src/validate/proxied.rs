//! The hosts that have the addresses of Services whose load balancers are proxies.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

use super::balancers;
use super::owners::Owners;
use crate::cluster::{External, Proxy};
use crate::draft::Draft;
use crate::network_balancer::{Scheme, proxied as addresses};

/// The proxies of Services, each with its host; addresses of machines stay with these.
pub(super) fn proxied(
    draft: &Draft,
    services: &[Arc<Service>],
    owners: &mut Owners,
) -> (Vec<Proxy>, Vec<External>) {
    let settings = &draft.settings;
    // Services may share an address
    let wanted: BTreeSet<(IpAddr, bool)> = services
        .iter()
        .flat_map(|service| {
            let is_internal = Scheme::of(service).is_internal();
            addresses(service, settings).into_iter().map(move |address| (address, is_internal))
        })
        .collect();
    let has_v6 = settings.cluster.pod_cidrs.iter().any(|range| range.addr().is_ipv6());
    let subnet = settings.gateway.proxy_subnet;
    let mut known = BTreeSet::new();
    let new = wanted.into_iter().filter(|(address, _)| known.insert(*address));
    new.filter_map(|(address, is_internal)| {
        let is_free = owners.is_free(address);
        is_free.then(|| balancers::host(address, has_v6, is_internal.then_some(subnet), owners))
    })
    .unzip()
}
