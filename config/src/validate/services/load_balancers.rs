//! Addresses of load balancers, as a cloud's controller assigns them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServiceSpec};

use super::{Candidate, called};
use crate::allocate::Addresses;
use crate::check::{ServiceType, family_name};
use crate::draft::Entries;
use crate::error::Findings;
use crate::network_balancer::{self, Scheme, ingress_of, is_class_served, wanted_addresses};
use crate::path::Field;
use crate::settings::{Addressing, Settings};
use crate::validate::balancers::upper_half;
use crate::validate::owners::Owners;

/// The addresses that are taken and those that are free.
#[derive(Debug)]
pub(super) struct LoadBalancers<'o> {
    /// With the place of the Service that has it.
    taken: HashMap<IpAddr, usize, ahash::RandomState>,
    /// What is served there: an address may be shared as long as its ports are not.
    frontends: HashMap<(IpAddr, i32, String), usize, ahash::RandomState>,
    pools: Vec<(IpNet, Addresses)>,
    /// Those of the nodes' own network.
    internal: Vec<(IpNet, Addresses)>,
    reserved: BTreeMap<String, IpAddr>,
    owners: &'o Owners,
    addressing: Addressing,
}

impl<'o> LoadBalancers<'o> {
    pub(super) fn new(settings: &Settings, owners: &'o Owners) -> Self {
        let Settings { cluster: settings, gateway, .. } = settings;
        let pool = |range: &IpNet| {
            let is_host = range.prefix_len() == range.max_prefix_len();
            (*range, Addresses::from(*range, u128::from(!is_host)))
        };
        let half = |range: &IpNet| (*range, upper_half(range));
        Self {
            taken: HashMap::default(),
            frontends: HashMap::default(),
            pools: settings.load_balancer_pools.iter().map(pool).collect(),
            internal: settings.node_cidrs.iter().map(half).collect(),
            reserved: gateway.addresses.clone(),
            owners,
            addressing: settings.addressing,
        }
    }

    /// Takes the addresses of a Service that is as it was before.
    pub(super) fn register(&mut self, index: usize, service: &Service) {
        for address in addresses(service) {
            self.taken.entry(address).or_insert(index);
            for (port, protocol) in service.spec.iter().flat_map(ports) {
                self.frontends.entry((address, port, protocol.to_owned())).or_insert(index);
            }
        }
    }

    /// Takes the addresses that a Service asks for, in its status or by `loadBalancerIP`.
    pub(super) fn written(
        &mut self,
        candidate: &mut Candidate<'_>,
        entries: &Entries,
        findings: &mut Findings,
    ) {
        let (index, entry) = (candidate.index, candidate.entry);
        let spec = candidate.spec();
        if ServiceType::of(spec) != ServiceType::LoadBalancer {
            return;
        }
        let asked: Option<IpAddr> =
            spec.load_balancer_ip.as_deref().and_then(|text| text.parse().ok());
        let has_status = addresses(&candidate.service).next().is_some();
        let mut field = Field::of("status").key("loadBalancer").key("ingress").index(0).key("ip");
        let mut note = |field: &Field, message: String| {
            let help = "choose another address, or leave it out";
            findings.error(field.clone(), message, help).of(entry.called(), &entry.origin);
        };
        if let Some(address) = asked.filter(|_| !has_status) {
            field = Field::of("spec").key("loadBalancerIP");
            if self.addressing == Addressing::Checked && !self.owners.is_free(address) {
                note(&field, format!("{address} is the address of a machine already"));
            }
            push(&mut candidate.service, address);
        }
        if asked.is_none() && !has_status {
            field = Field::of("metadata").key("annotations").key(network_balancer::ADDRESSES);
            let names: Vec<String> =
                wanted_addresses(&candidate.service).map(str::to_owned).collect();
            for name in names {
                let address = self.reserved.get(&name).copied().or_else(|| name.parse().ok());
                match address {
                    Some(address) => push(&mut candidate.service, address),
                    None => note(&field, format!("no address is called `{name}`")),
                }
            }
        }
        for address in addresses(&candidate.service) {
            self.taken.entry(address).or_insert(index);
            for (port, protocol) in candidate.service.spec.iter().flat_map(ports) {
                let key = (address, port, protocol.to_owned());
                match self.frontends.get(&key) {
                    Some(other) if *other != index => {
                        let other = called(entries, *other);
                        note(
                            &field,
                            format!("{address} serves port {port} ({protocol}) of {other} already"),
                        );
                    }
                    _ => {
                        self.frontends.insert(key, index);
                    }
                }
            }
        }
    }

    /// Takes again what a Service had before.
    pub(super) fn keep(&mut self, candidate: &mut Candidate<'_>) {
        let Some(before) = candidate.before else { return };
        for address in addresses(before) {
            let is_of_pool = self
                .pools_for(&candidate.service)
                .iter()
                .any(|(range, _)| range.contains(&address));
            if is_of_pool && self.is_free(address) && lacks(&candidate.service, address) {
                self.taken.insert(address, candidate.index);
                push(&mut candidate.service, address);
            }
        }
    }

    /// Takes an address of each family that a Service has and still lacks one of.
    pub(super) fn allocate(&mut self, candidate: &mut Candidate<'_>, findings: &mut Findings) {
        let entry = candidate.entry;
        let families = candidate.spec().ip_families.clone().unwrap_or_default();
        let is_internal = Scheme::of(&candidate.service).is_internal();
        for family in families {
            let of_family = |range: &IpNet| family_name(range.addr()) == family;
            let sample =
                self.pools_for(&candidate.service).iter().map(|(range, _)| *range).find(&of_family);
            let Some(sample) = sample else { continue };
            if !lacks(&candidate.service, sample.addr()) {
                continue;
            }
            let Self { taken, pools, internal, owners, .. } = self;
            let pools = if is_internal { internal } else { pools };
            let is_free = |at: IpAddr| !taken.contains_key(&at) && owners.is_free(at);
            let mut of_family = pools.iter_mut().filter(|(range, _)| of_family(range));
            match of_family.find_map(|(_, free)| free.take(is_free)) {
                Some(address) => {
                    taken.insert(address, candidate.index);
                    push(&mut candidate.service, address);
                }
                None => {
                    let message = format!("no {family} address is left for the load balancer");
                    let help = "choose a larger range in `load-balancer-pools`";
                    let error = findings.error(Field::of("spec").key("type"), message, help);
                    error.of(entry.called(), &entry.origin);
                    return;
                }
            }
        }
        let spec = candidate.spec();
        let is_balanced = ServiceType::of(spec) == ServiceType::LoadBalancer;
        let class =
            spec.load_balancer_class.clone().filter(|_| !is_class_served(&candidate.service));
        if is_balanced && addresses(&candidate.service).next().is_none() {
            let (message, help) = match class {
                Some(class) => (
                    format!("nobody assigns addresses of the class {class}, the Service has none"),
                    "remove loadBalancerClass, or write the address into its status",
                ),
                None => (
                    "the load balancer has no address".to_owned(),
                    "add `load-balancer-pools` to [cluster], as in [\"203.0.113.0/24\"]",
                ),
            };
            let warning = findings.warning(Field::of("spec").key("type"), message, help);
            warning.of(entry.called(), &entry.origin);
        }
    }

    /// Where addresses of a Service come from.
    fn pools_for(&self, service: &Service) -> &[(IpNet, Addresses)] {
        if Scheme::of(service).is_internal() { &self.internal } else { &self.pools }
    }

    fn is_free(&self, address: IpAddr) -> bool {
        !self.taken.contains_key(&address) && self.owners.is_free(address)
    }
}

/// Whether a Service wants an address of the family of `like` and has none.
fn lacks(service: &Service, like: IpAddr) -> bool {
    let Some(spec) = &service.spec else { return false };
    let family = family_name(like);
    ServiceType::of(spec) == ServiceType::LoadBalancer
        && is_class_served(service)
        && spec.load_balancer_ip.as_ref().is_none_or(String::is_empty)
        && spec.ip_families.iter().flatten().any(|at| at == family)
        && !ingress_of(service).any(|at| at.ip.as_deref().is_none_or(|ip| is_of(ip, family)))
}

fn is_of(address: &str, family: &str) -> bool {
    address.parse().is_ok_and(|address| family_name(address) == family)
}

/// Addresses of a Service's load balancer.
fn addresses(service: &Service) -> impl Iterator<Item = IpAddr> {
    ingress_of(service).filter_map(|at| at.ip.as_deref()?.parse().ok())
}

fn ports(spec: &ServiceSpec) -> impl Iterator<Item = (i32, &str)> {
    spec.ports.iter().flatten().map(|at| (at.port, at.protocol.as_deref().unwrap_or("TCP")))
}

fn push(service: &mut Service, address: IpAddr) {
    let mode = network_balancer::ip_mode(service).to_owned();
    let status = service.status.get_or_insert_default();
    let balancer = status.load_balancer.get_or_insert_default();
    balancer.ingress.get_or_insert_default().push(LoadBalancerIngress {
        ip: Some(address.to_string()),
        ip_mode: Some(mode),
        ..LoadBalancerIngress::default()
    });
}
