//! What a name is looked up by, made from a cluster and the records of its Services.

use std::net::IpAddr;
use std::sync::Arc;

use ahash::RandomState;
use ipnet::IpNet;
use kswitch_tables::Generation;

use super::outside::Outside;
use super::service::Own;
use super::{Data, Name, Record, ServiceRecords};
use crate::compile::{Map, are_same};
use crate::endpoints::key;
use crate::{Cluster, DnsSettings, PodRecords, ReverseEndpoints, Settings};

/// Everything that is known of names in one state of a cluster.
///
/// **Sharing**: never changed; the next state has others, which share what did not change.
#[derive(Debug)]
pub struct Zones {
    cluster: Arc<Cluster>,
    serial: u32,
    names: Arc<Names>,
    records: Arc<[Arc<ServiceRecords>]>,
    services: Arc<Services>,
    addresses: Arc<Addresses>,
    pods: Arc<Pods>,
}

/// Names that follow from the settings.
#[derive(Debug)]
struct Names {
    domain: Name,
    /// `svc.` and the domain.
    services: Name,
    server: Name,
    mailbox: Name,
    reverse_zones: Vec<IpNet>,
    outside: Outside,
}

/// Places in [`Zones::records`] by `service.namespace`.
type Services = Map<Name, u32>;

/// Places in [`Zones::records`] by address, sorted.
type Addresses = Vec<(IpAddr, u32)>;

/// Addresses of pods, with their namespaces.
type Pods = Map<(Box<str>, IpAddr), ()>;

impl Names {
    fn new(settings: &Settings) -> Self {
        let domain = Name::parse(&settings.cluster.domain).unwrap_or_default();
        let below = |text: &str| Name::parse(text).and_then(|name| name.below(&domain));
        let DnsSettings { reverse_zones, outside, .. } = &settings.dns;
        let own = || {
            let cluster = &settings.cluster;
            cluster.pod_cidrs.iter().chain(&cluster.service_cidrs).copied().collect()
        };
        Self {
            services: below("svc").unwrap_or_default(),
            server: below("ns.dns").unwrap_or_default(),
            mailbox: below("hostmaster").unwrap_or_default(),
            reverse_zones: reverse_zones.clone().unwrap_or_else(own),
            outside: Outside::new(outside),
            domain,
        }
    }
}

impl Zones {
    /// `[dns]` of the state.
    pub fn settings(&self) -> &DnsSettings {
        &self.cluster.settings.dns
    }

    pub(super) fn dns_addresses(&self) -> &[IpAddr] {
        &self.cluster.settings.cluster.dns_addresses
    }

    /// The cluster's domain.
    pub(super) fn domain(&self) -> &Name {
        &self.names.domain
    }

    /// The name server that has it all first hand.
    pub(super) fn server(&self) -> &Name {
        &self.names.server
    }

    pub(super) fn reverse_zones(&self) -> &[IpNet] {
        &self.names.reverse_zones
    }

    pub(super) fn names_outside(&self) -> &Outside {
        &self.names.outside
    }

    /// What a zone says of itself.
    pub(super) fn soa(&self) -> Data {
        let (server, mailbox) = (self.names.server.clone(), self.names.mailbox.clone());
        Data::Soa { server, mailbox, serial: self.serial }
    }

    /// Who says that there is no such thing.
    pub(super) fn authority(&self, zone: Name) -> Record {
        Record { owner: zone, data: self.soa() }
    }

    /// The whole name of `service.namespace`.
    pub(super) fn in_services(&self, own: &Name) -> Option<Name> {
        own.below(&self.names.services)
    }

    /// The records of a Service, by its labels.
    pub(super) fn service(&self, own: [&[u8]; 2]) -> Option<&ServiceRecords> {
        let at = *self.services.get(&Name::of(own)?)?;
        self.records.get(at as usize).map(|records| &**records)
    }

    pub(super) fn has_namespace(&self, label: &[u8]) -> bool {
        std::str::from_utf8(label).is_ok_and(|name| self.cluster.namespaces.contains_key(name))
    }

    /// Whether a pod of this namespace has this address.
    pub(super) fn has_pod(&self, namespace: &[u8], address: IpAddr) -> bool {
        std::str::from_utf8(namespace)
            .is_ok_and(|namespace| self.pods.contains_key(&(namespace.into(), address)))
    }

    /// The Services that an address belongs to, as `service.namespace` and with their records.
    pub(super) fn services_at(
        &self,
        address: IpAddr,
    ) -> impl Iterator<Item = (Name, &ServiceRecords)> {
        let start = self.addresses.partition_point(|(own, _)| *own < address);
        let rest = self.addresses.get(start..).unwrap_or_default();
        let here = rest.iter().take_while(move |(own, _)| *own == address);
        here.filter_map(|(_, at)| {
            let service = self.cluster.services.get(*at as usize)?;
            let (namespace, name) = key(service);
            let own = Name::of([name.as_bytes(), namespace.as_bytes()])?;
            Some((own, &**self.records.get(*at as usize)?))
        })
    }

    /// Whether any address in a range has a name.
    pub(super) fn has_names_in(&self, range: &IpNet) -> bool {
        let start = self.addresses.partition_point(|(own, _)| *own < range.network());
        self.addresses.get(start).is_some_and(|(own, _)| range.contains(own))
    }
}

/// Makes the zones of one lab, state by state.
#[derive(Debug, Default)]
pub(crate) struct ZoneMaker {
    before: Option<Arc<Zones>>,
}

impl ZoneMaker {
    /// The zones of a state in which Services have these records, in order.
    ///
    /// **Cost**: a copy of pointers to the records; more only if Services, or addresses that have
    /// names, came or went.
    pub(crate) fn make(
        &mut self,
        cluster: &Arc<Cluster>,
        records: impl ExactSizeIterator<Item = Arc<ServiceRecords>>,
        generation: Generation,
    ) -> Arc<Zones> {
        let records: Arc<[Arc<ServiceRecords>]> = records.collect();
        let before = self.before.take();
        let before = before.as_deref();
        let same_settings = before.filter(|before| before.cluster.settings == cluster.settings);
        let names = same_settings.map_or_else(
            || Arc::new(Names::new(&cluster.settings)),
            |before| Arc::clone(&before.names),
        );
        let same_services =
            before.filter(|before| are_same(&before.cluster.services, &cluster.services));
        let services = same_services
            .map_or_else(|| Arc::new(services(cluster)), |before| Arc::clone(&before.services));
        let with_all = cluster.settings.dns.reverse_endpoints == ReverseEndpoints::All;
        let has_same_names = |before: &&Zones| {
            let pairs = before.records.iter().zip(&*records);
            before.records.len() == records.len()
                && pairs.into_iter().all(|(old, new)| {
                    Arc::ptr_eq(old, new)
                        || addresses_of(old, with_all).eq(addresses_of(new, with_all))
                })
        };
        let kept = same_services.and(same_settings).filter(has_same_names);
        let addresses = kept.map_or_else(
            || Arc::new(addresses(&records, with_all)),
            |before| Arc::clone(&before.addresses),
        );
        let same_pods =
            same_settings.filter(|before| are_same(&before.cluster.pods, &cluster.pods));
        let pods =
            same_pods.map_or_else(|| Arc::new(pods(cluster)), |before| Arc::clone(&before.pods));
        let serial = generation.0;
        let cluster = Arc::clone(cluster);
        let zones = Zones { cluster, serial, names, records, services, addresses, pods };
        let zones = Arc::new(zones);
        self.before = Some(Arc::clone(&zones));
        zones
    }
}

fn services(cluster: &Cluster) -> Services {
    let own = |service| {
        let (namespace, name) = key(service);
        Name::of([name.as_bytes(), namespace.as_bytes()])
    };
    let named = (0..).zip(&cluster.services).filter_map(|(at, service)| Some((own(service)?, at)));
    named.collect()
}

/// The addresses of a Service that have names.
fn addresses_of(records: &ServiceRecords, with_all: bool) -> impl Iterator<Item = IpAddr> {
    let (own, has_endpoints) = match &records.own {
        Own::Addresses(addresses) => (&**addresses, with_all),
        Own::Headless => (&[][..], true),
        Own::Alias(_) => (&[][..], false),
    };
    let endpoints = if has_endpoints { &*records.endpoints } else { &[] };
    own.iter().copied().chain(endpoints.iter().map(|(_, address)| *address))
}

fn addresses(records: &[Arc<ServiceRecords>], with_all: bool) -> Addresses {
    let mut all: Addresses = (0..)
        .zip(records)
        .flat_map(|(at, own)| addresses_of(own, with_all).map(move |address| (address, at)))
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn pods(cluster: &Cluster) -> Pods {
    let mut pods = Pods::with_hasher(RandomState::default());
    if cluster.settings.dns.pod_records == PodRecords::Verified {
        for pod in cluster.pods.iter().filter(|pod| !pod.is_finished()) {
            let namespace: Box<str> = pod.namespace.as_str().into();
            pods.extend(pod.addresses.iter().map(|address| ((namespace.clone(), *address), ())));
        }
    }
    pods
}

#[cfg(test)]
impl Zones {
    /// Whether nothing had to be made anew to look names up in the other one.
    pub(super) fn shares_look_ups(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.names, &other.names)
            && Arc::ptr_eq(&self.services, &other.services)
            && Arc::ptr_eq(&self.addresses, &other.addresses)
    }
}
