//! Services with everything an API server allocates for them.

mod addresses;
mod defaults;
mod load_balancers;
mod ports;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::owners::Owners;
use crate::check::{ServiceType, is_headless};
use crate::cluster::Cluster;
use crate::draft::{Draft, Entry};
use crate::error::Findings;
use crate::kind::Kind;
use crate::object::Object;
use crate::settings::ClusterSettings;
use addresses::ClusterIps;
use load_balancers::LoadBalancers;
use ports::NodePorts;

/// The Services as they were wanted, and as they are.
#[derive(Debug, Default)]
pub(super) struct Completed {
    pub(super) wanted: Vec<Arc<Service>>,
    pub(super) services: Vec<Arc<Service>>,
}

/// A Service that is not as it was before.
struct Candidate<'d> {
    /// Place among all of them.
    index: usize,
    entry: &'d Entry,
    service: Service,
    before: Option<&'d Service>,
}

impl Candidate<'_> {
    /// Its specification; every Service has one, or an error that says so.
    fn spec(&mut self) -> &mut ServiceSpec {
        self.service.spec.get_or_insert_default()
    }
}

pub(super) fn services(
    draft: &Draft,
    previous: Option<&Cluster>,
    owners: &Owners,
    findings: &mut Findings,
) -> Completed {
    let settings = &draft.settings.cluster;
    let entries = draft.of(Kind::Service);
    let mut completed = Completed::default();
    let before = Before::of(previous, settings);
    let mut ips = ClusterIps::new(settings);
    let mut node_ports = NodePorts::new(settings);
    let mut balancers = LoadBalancers::new(&draft.settings, owners);
    let mut candidates = Vec::new();
    for (index, entry) in entries.values().enumerate() {
        let Object::Service(wanted) = &entry.object else { continue };
        completed.wanted.push(wanted.clone());
        if let Some(same) = before.same(index, wanted) {
            ips.register(index, same);
            node_ports.register(index, same);
            balancers.register(index, same);
            completed.services.push(same.clone());
            continue;
        }
        // its place, until it is complete
        completed.services.push(wanted.clone());
        let service = defaults::of(wanted);
        let before = before.named(entry);
        candidates.push(Candidate { index, entry, service, before });
    }
    candidates.retain_mut(|candidate| {
        addresses::set_families(candidate, settings, findings);
        // of one that breaks the rules nothing is known to be meant
        !candidate.entry.findings.has_errors()
    });
    for candidate in &mut candidates {
        ips.written(candidate, settings, entries, findings);
        node_ports.written(candidate, entries, findings);
        balancers.written(candidate, entries, findings);
    }
    for candidate in &mut candidates {
        ips.keep(candidate);
        node_ports.keep(candidate);
        balancers.keep(candidate);
    }
    for candidate in &mut candidates {
        ips.allocate(candidate, findings);
        node_ports.allocate(candidate, findings);
        balancers.allocate(candidate, findings);
    }
    for candidate in candidates {
        if let Some(place) = completed.services.get_mut(candidate.index) {
            *place = Arc::new(candidate.service);
        }
    }
    completed
}

/// The Services of the state before.
struct Before<'c> {
    cluster: Option<&'c Cluster>,
    /// Whether what was allocated then could be allocated the same now.
    is_same_cluster: bool,
    by_name: std::cell::OnceCell<HashMap<(&'c str, &'c str), usize, ahash::RandomState>>,
}

impl<'c> Before<'c> {
    fn of(cluster: Option<&'c Cluster>, settings: &ClusterSettings) -> Self {
        let same = |before: &ClusterSettings| {
            before.service_cidrs == settings.service_cidrs
                && before.load_balancer_pools == settings.load_balancer_pools
                && before.node_ports == settings.node_ports
                && before.addressing == settings.addressing
        };
        let is_same_cluster = cluster.is_some_and(|cluster| same(&cluster.settings.cluster));
        Self { cluster, is_same_cluster, by_name: std::cell::OnceCell::new() }
    }

    /// The complete Service, where nothing about it has changed.
    fn same(&self, index: usize, wanted: &Arc<Service>) -> Option<&'c Arc<Service>> {
        let cluster = self.cluster.filter(|_| self.is_same_cluster)?;
        let is_it = |index: &usize| {
            cluster.memory.services.get(*index).is_some_and(|was| Arc::ptr_eq(was, wanted))
        };
        // most are where they were in the list
        let index = Some(index).filter(&is_it).or_else(|| {
            let metadata = &wanted.metadata;
            self.find(metadata.namespace.as_deref()?, metadata.name.as_deref()?).filter(&is_it)
        })?;
        cluster.services.get(index)
    }

    fn named(&self, entry: &Entry) -> Option<&'c Service> {
        let key = entry.key();
        let index = self.find(key.namespace, key.name)?;
        self.cluster?.services.get(index).map(Arc::as_ref)
    }

    fn find(&self, namespace: &str, name: &str) -> Option<usize> {
        let cluster = self.cluster?;
        let by_name = self.by_name.get_or_init(|| {
            let name = |service: &'c Arc<Service>| {
                let metadata = &service.metadata;
                Some((metadata.namespace.as_deref()?, metadata.name.as_deref()?))
            };
            let names = cluster.services.iter().enumerate();
            names.filter_map(|(index, service)| Some((name(service)?, index))).collect()
        });
        by_name.get(&(namespace, name)).copied()
    }
}

/// The cluster IPs of a complete Service.
fn cluster_ips(service: &Service) -> impl Iterator<Item = IpAddr> {
    let list = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    list.filter_map(|text| text.parse().ok())
}

/// What messages call the Service at an index.
fn called(entries: &crate::draft::Entries, index: usize) -> String {
    entries.get_index(index).map_or_else(String::new, |(_, entry)| entry.called())
}

/// Whether a Service gets cluster IPs.
fn has_cluster_ips(spec: &ServiceSpec) -> bool {
    ServiceType::of(spec) != ServiceType::ExternalName && !is_headless(spec)
}
