//! Families and cluster IPs of Services.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{Candidate, called, cluster_ips, has_cluster_ips};
use crate::allocate::ServiceAddresses;
use crate::check::{ServiceType, family_name, is_headless};
use crate::draft::Entries;
use crate::error::Findings;
use crate::path::Field;
use crate::settings::{Addressing, ClusterSettings};

/// Settles the families of a Service.
///
/// Source: Kubernetes `initIPFamilyFields`.
pub(super) fn set_families(
    candidate: &mut Candidate<'_>,
    settings: &ClusterSettings,
    findings: &mut Findings,
) {
    let entry = candidate.entry;
    let spec = candidate.spec();
    if ServiceType::of(spec) == ServiceType::ExternalName {
        (spec.cluster_ip, spec.cluster_ips) = (None, None);
        return;
    }
    let mut note = |field: Field, message: String, help: &str| {
        findings.error(field, message, help).of(entry.called(), &entry.origin);
    };
    let configured: Vec<_> =
        settings.service_cidrs.iter().map(|range| family_name(range.addr())).collect();
    let is_free = is_headless(spec) && spec.selector.as_ref().is_none_or(BTreeMap::is_empty);
    let policy = spec
        .ip_family_policy
        .get_or_insert_with(|| if is_free { "RequireDualStack" } else { "SingleStack" }.to_owned());
    let policy = policy.clone();
    let mut families = spec.ip_families.take().unwrap_or_default();
    for address in spec.cluster_ips.iter().flatten().skip(families.len()) {
        families.extend(address.parse().ok().map(|address| family_name(address).to_owned()));
    }
    let field = Field::of("spec");
    let has_two = families.len() > 1 || spec.cluster_ips.as_ref().is_some_and(|at| at.len() > 1);
    if policy == "SingleStack" && has_two {
        let help = "write ipFamilyPolicy: PreferDualStack or RequireDualStack";
        let message = "a Service of one family asks for two".to_owned();
        note(field.clone().key("ipFamilyPolicy"), message, help);
    }
    if !is_free {
        if policy == "RequireDualStack" && configured.len() < 2 {
            let message = "the cluster has one family only".to_owned();
            let help =
                "add a range of the other family to `service-cidrs`, or write PreferDualStack";
            note(field.clone().key("ipFamilyPolicy"), message, help);
        }
        for (index, family) in families.iter().enumerate() {
            if !configured.contains(&family.as_str()) {
                let message = format!("the cluster has no {family} range for Services");
                let help = "add one to `service-cidrs`, or write another family";
                note(field.clone().key("ipFamilies").index(index), message, help);
            }
        }
    }
    if families.is_empty() {
        families.extend(configured.first().map(|family| (*family).to_owned()));
    }
    if policy != "SingleStack" && families.len() == 1 && (configured.len() == 2 || is_free) {
        let is_v4 = families.iter().any(|family| family == "IPv4");
        families.push(if is_v4 { "IPv6" } else { "IPv4" }.to_owned());
    }
    spec.ip_families = Some(families);
}

/// The cluster IPs that are taken and those that are free.
#[derive(Debug)]
pub(super) struct ClusterIps {
    /// With the place of the Service that has it.
    taken: HashMap<IpAddr, usize, ahash::RandomState>,
    /// Kept for the cluster's DNS, unless a Service asks for one.
    reserved: Vec<IpAddr>,
    pools: Vec<ServiceAddresses>,
}

impl ClusterIps {
    pub(super) fn new(settings: &ClusterSettings) -> Self {
        Self {
            taken: HashMap::default(),
            reserved: settings.dns_addresses.clone(),
            pools: settings
                .service_cidrs
                .iter()
                .map(|range| ServiceAddresses::new(*range))
                .collect(),
        }
    }

    /// Takes the addresses of a Service that is as it was before.
    pub(super) fn register(&mut self, index: usize, service: &Service) {
        self.taken.extend(cluster_ips(service).map(|address| (address, index)));
    }

    /// Takes the addresses that a Service asks for.
    pub(super) fn written(
        &mut self,
        candidate: &mut Candidate<'_>,
        settings: &ClusterSettings,
        entries: &Entries,
        findings: &mut Findings,
    ) {
        let entry = candidate.entry;
        let is_list = match &entry.object {
            crate::object::Object::Service(wanted) => {
                let list = wanted.spec.as_ref().and_then(|spec| spec.cluster_ips.as_ref());
                list.is_some_and(|list| !list.is_empty())
            }
            _ => false,
        };
        for (index, address) in cluster_ips(&candidate.service).enumerate() {
            let field = Field::of("spec");
            let field =
                if is_list { field.key("clusterIPs").index(index) } else { field.key("clusterIP") };
            let mut note = |message: String, help: &str| {
                findings.error(field.clone(), message, help).of(entry.called(), &entry.origin);
            };
            let lies_within = settings.service_cidrs.iter().any(|range| range.contains(&address));
            if !lies_within && settings.addressing == Addressing::Checked {
                let ranges: Vec<_> =
                    settings.service_cidrs.iter().map(ToString::to_string).collect();
                let message = format!("{address} lies in none of `service-cidrs`");
                note(message, &format!("choose an address of {}", ranges.join(" or ")));
            }
            match self.taken.get(&address) {
                Some(other) if *other != candidate.index => {
                    let message = format!(
                        "{address} is the cluster IP of {} already",
                        called(entries, *other)
                    );
                    note(message, "choose another address, or leave it out");
                }
                _ => {
                    self.taken.insert(address, candidate.index);
                }
            }
        }
    }

    /// Takes again what a Service had before.
    pub(super) fn keep(&mut self, candidate: &mut Candidate<'_>) {
        let Some(before) = candidate.before else { return };
        let index = candidate.index;
        let spec = candidate.spec();
        if !has_cluster_ips(spec) {
            return;
        }
        for address in cluster_ips(before) {
            let fits = lacks(spec) == Some(family_name(address))
                && self.pools.iter().any(|pool| pool.range.contains(&address));
            if fits && !self.taken.contains_key(&address) {
                self.taken.insert(address, index);
                push(spec, address);
            }
        }
    }

    /// Takes what is still missing.
    pub(super) fn allocate(&mut self, candidate: &mut Candidate<'_>, findings: &mut Findings) {
        let (index, entry) = (candidate.index, candidate.entry);
        let spec = candidate.spec();
        if !has_cluster_ips(spec) {
            return;
        }
        while let Some(family) = lacks(spec) {
            let Self { taken, reserved, pools } = self;
            let pool = pools.iter_mut().find(|pool| family_name(pool.range.addr()) == family);
            // that the cluster lacks the family was told already
            let Some(pool) = pool else { return };
            let is_free = |at: IpAddr| !taken.contains_key(&at) && !reserved.contains(&at);
            let Some(address) = pool.take(is_free) else {
                let message = format!("no address of {} is left for the Service", pool.range);
                let help = "choose a larger range in `service-cidrs`";
                let field = Field::of("spec").key("clusterIP");
                findings.error(field, message, help).of(entry.called(), &entry.origin);
                return;
            };
            taken.insert(address, index);
            push(spec, address);
        }
    }
}

/// The family of the next cluster IP that a Service lacks.
fn lacks(spec: &ServiceSpec) -> Option<&'static str> {
    let had = spec.cluster_ips.as_ref().map_or(0, Vec::len);
    match spec.ip_families.as_ref()?.get(had)?.as_str() {
        "IPv4" => Some("IPv4"),
        _ => Some("IPv6"),
    }
}

fn push(spec: &mut ServiceSpec, address: IpAddr) {
    let text = address.to_string();
    spec.cluster_ip.get_or_insert_with(|| text.clone());
    spec.cluster_ips.get_or_insert_default().push(text);
}
