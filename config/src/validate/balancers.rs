//! Ingresses and Gateways with the addresses of their load balancers, and the hosts outside the
//! cluster that have those.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{Ingress, IngressLoadBalancerIngress};

use super::generations;
use super::owners::{Owner, Owners};
use crate::allocate::Addresses;
use crate::cluster::{Cluster, External, HostNetwork, Proxy};
use crate::draft::{Draft, Entry};
use crate::error::Findings;
use crate::gateway_api::{Gateway, StatusAddress};
use crate::kind::Kind;
use crate::object::Object;
use crate::path::Field;
use crate::routing::{self, GatewayObjects, IngressObjects};
use crate::settings::{Addressing, ClusterSettings};

/// The first two octets of addresses from which load balancers reach and check backends.
///
/// Source: GKE, "Health checks": 35.191.0.0/16.
const SOURCE: [u8; 2] = [35, 191];
/// The same in IPv6.
///
/// Source: Google Cloud, "Probe IP ranges": 2600:2d00:1:b029::/64.
const SOURCE_V6: [u16; 4] = [0x2600, 0x2d00, 0x1, 0xb029];
/// The router of a host that is alone on its link.
const ROUTERS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
];
/// Annotations that name the address of an Ingress.
///
/// Source: GKE, "Static IP addresses for HTTPS load balancers".
const STATIC: [&str; 2] = [
    "kubernetes.io/ingress.global-static-ip-name",
    "kubernetes.io/ingress.regional-static-ip-name",
];

/// Everything about load balancers in front of the nodes.
#[derive(Debug, Default)]
pub(super) struct Balancers {
    pub(super) ingress: IngressObjects,
    pub(super) gateway_api: GatewayObjects,
    pub(super) proxies: Vec<Proxy>,
    pub(super) hosts: Vec<External>,
}

/// An object that has an address: kind, namespace and name.
type Name = (Kind, String, String);

struct Assignment<'a> {
    draft: &'a Draft,
    owners: &'a mut Owners,
    findings: &'a mut Findings,
    /// What Services have or ask for.
    of_services: HashSet<IpAddr>,
    by_object: BTreeMap<Name, Vec<IpAddr>>,
    taken: HashMap<IpAddr, Name, ahash::RandomState>,
}

pub(super) fn balancers(
    draft: &Draft,
    previous: Option<&Cluster>,
    owners: &mut Owners,
    findings: &mut Findings,
) -> Balancers {
    let (mut ingress, mut gateway_api) = routing::read_objects(draft);
    generations::settle(&mut gateway_api, &mut ingress, previous);
    let settings = &draft.settings.gateway;
    let served = |entry: &&Arc<Entry>| match &entry.object {
        Object::Gateway(at) => {
            let class = &at.spec.gateway_class_name;
            routing::is_gateway_served(class, &gateway_api.classes, settings)
        }
        Object::Ingress(at) => routing::is_ingress_served(at, &ingress.classes, settings),
        _ => false,
    };
    let kinds = [Kind::Gateway, Kind::Ingress];
    let all = kinds.into_iter().flat_map(|kind| draft.of(kind).values());
    let entries: Vec<&Arc<Entry>> = all.filter(served).collect();
    let mut assignment = Assignment {
        draft,
        owners,
        findings,
        of_services: addresses_of_services(draft, previous),
        by_object: BTreeMap::new(),
        taken: HashMap::default(),
    };
    for entry in &entries {
        assignment.written(entry);
    }
    for entry in &entries {
        assignment.keep(entry, previous);
    }
    assignment.allocate(&entries);
    let Assignment { by_object, taken, .. } = assignment;
    let internal = entries.iter().filter(|entry| is_internal(entry));
    let names = internal.map(|entry| name(entry.object.kind(), entry.object.metadata()));
    let inner: HashSet<IpAddr> =
        names.filter_map(|name| by_object.get(&name)).flatten().copied().collect();
    for object in &mut gateway_api.gateways {
        let name = name(Kind::Gateway, &object.metadata);
        set_gateway(object, by_object.get(&name).map_or(&[], Vec::as_slice));
    }
    for object in &mut ingress.ingresses {
        let name = name(Kind::Ingress, &object.metadata);
        set_ingress(object, by_object.get(&name).map_or(&[], Vec::as_slice));
    }
    let mut addresses: Vec<IpAddr> = taken.into_keys().collect();
    addresses.sort();
    let has_v6 = draft.settings.cluster.pod_cidrs.iter().any(|range| range.addr().is_ipv6());
    let subnet = draft.settings.gateway.proxy_subnet;
    let (proxies, hosts) = addresses
        .into_iter()
        .map(|at| host(at, has_v6, inner.contains(&at).then_some(subnet), owners))
        .unzip();
    Balancers { ingress, gateway_api, proxies, hosts }
}

fn name(kind: Kind, metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Name {
    (
        kind,
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// Addresses that Services have had before, or ask for now.
fn addresses_of_services(draft: &Draft, previous: Option<&Cluster>) -> HashSet<IpAddr> {
    let of_draft = draft.of(Kind::Service).values().filter_map(|entry| match &entry.object {
        Object::Service(service) => Some(service),
        _ => None,
    });
    let before = previous.into_iter().flat_map(|cluster| &cluster.services);
    of_draft.chain(before).flat_map(|service| balanced(service)).collect()
}

fn balanced(service: &Service) -> Vec<IpAddr> {
    let asked = service.spec.as_ref().and_then(|spec| spec.load_balancer_ip.as_deref());
    let status = service.status.iter().filter_map(|status| status.load_balancer.as_ref());
    let ingress = status.flat_map(|balancer| balancer.ingress.iter().flatten());
    let has = ingress.filter_map(|at| at.ip.as_deref());
    has.chain(asked).filter_map(|text| text.parse().ok()).collect()
}

impl Assignment<'_> {
    /// Takes the addresses that an object asks for.
    fn written(&mut self, entry: &Arc<Entry>) {
        let asked: Vec<(Field, String)> = match &entry.object {
            Object::Gateway(gateway) => {
                let at = Field::of("spec").key("addresses");
                let all = gateway.spec.addresses.iter().enumerate();
                let value = |(index, address): (usize, &crate::gateway_api::GatewayAddress)| {
                    let is_known = matches!(
                        address.type_.as_deref(),
                        None | Some("IPAddress" | "NamedAddress")
                    );
                    is_known.then_some(())?;
                    Some((at.clone().index(index).key("value"), address.value.clone()?))
                };
                all.filter_map(value).collect()
            }
            Object::Ingress(ingress) => {
                let at = Field::of("metadata").key("annotations");
                let annotations = ingress.metadata.annotations.as_ref();
                let of = |key: &&str| Some((at.clone().key(key), annotations?.get(*key)?.clone()));
                let shared = self.draft.settings.gateway.ingress_address;
                match shared {
                    Some(shared) => vec![(Field::of("spec"), shared.to_string())],
                    None => STATIC.iter().filter_map(of).take(1).collect(),
                }
            }
            _ => return,
        };
        for (field, text) in asked {
            let named = self.draft.settings.gateway.addresses.get(&text).copied();
            let Some(address) = named.or_else(|| text.parse().ok()) else {
                let message = format!("no address is called `{text}`");
                let help = "add it to `addresses` of [load-balancers]";
                self.findings.warning(field, message, help).of(entry.called(), &entry.origin);
                continue;
            };
            let is_checked = self.draft.settings.cluster.addressing == Addressing::Checked;
            let is_shared = self.taken.contains_key(&address);
            let whose = if is_checked && !is_shared && !self.owners.is_free(address) {
                Some("a machine")
            } else if self.of_services.contains(&address) {
                Some("a Service")
            } else {
                None
            };
            if let Some(whose) = whose {
                let message = format!("{address} is the address of {whose} already");
                let help = "choose another address, or leave it out";
                // a Gateway can say in its status that it does not have it
                let finding = match entry.object {
                    Object::Gateway(_) => self.findings.warning(field, message, help),
                    _ => self.findings.error(field, message, help),
                };
                finding.of(entry.called(), &entry.origin);
                continue;
            }
            self.take(entry, address);
        }
    }

    /// Takes again what an object had before.
    fn keep(&mut self, entry: &Arc<Entry>, previous: Option<&Cluster>) {
        let Some(previous) = previous.filter(|_| !self.has_address(entry)) else { return };
        let key = entry.key();
        let is_it = |at: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            at.name.as_deref() == Some(key.name) && at.namespace.as_deref() == Some(key.namespace)
        };
        let before = match entry.object.kind() {
            Kind::Gateway => {
                let all = &previous.gateway_api.gateways;
                all.iter().find(|at| is_it(&at.metadata)).map(|at| routing::gateway_addresses(at))
            }
            _ => {
                let all = &previous.ingress.ingresses;
                all.iter().find(|at| is_it(&at.metadata)).map(|at| routing::ingress_addresses(at))
            }
        };
        let pools = pools_for(entry, &self.draft.settings.cluster);
        for address in before.unwrap_or_default() {
            let is_of_pool = pools.iter().any(|range| range.contains(&address));
            if is_of_pool && self.owners.is_free(address) && !self.of_services.contains(&address) {
                self.take(entry, address);
            }
        }
    }

    /// Takes an address of the first pool for each object that has none.
    fn allocate(&mut self, entries: &[&Arc<Entry>]) {
        let pool = |range: &IpNet| {
            let is_host = range.prefix_len() == range.max_prefix_len();
            Addresses::from(*range, u128::from(!is_host))
        };
        let settings = &self.draft.settings.cluster;
        let mut outer: Vec<Addresses> = settings.load_balancer_pools.iter().map(pool).collect();
        let mut inner: Vec<Addresses> = settings.node_cidrs.iter().map(upper_half).collect();
        for entry in entries {
            if self.has_address(entry) || asks_in_vain(entry) {
                continue;
            }
            let Self { owners, of_services, .. } = self;
            let is_free = |at: IpAddr| owners.is_free(at) && !of_services.contains(&at);
            let pools = if is_internal(entry) { &mut inner } else { &mut outer };
            if let Some(address) = pools.iter_mut().find_map(|free| free.take(is_free)) {
                self.take(entry, address);
                continue;
            }
            let help = "add `load-balancer-pools` to [cluster], as in [\"203.0.113.0/24\"]";
            let message = "the load balancer has no address";
            let warning = self.findings.warning(Field::of("spec"), message, help);
            warning.of(entry.called(), &entry.origin);
        }
    }

    fn has_address(&self, entry: &Entry) -> bool {
        self.by_object.contains_key(&name(entry.object.kind(), entry.object.metadata()))
    }

    fn take(&mut self, entry: &Entry, address: IpAddr) {
        let name = name(entry.object.kind(), entry.object.metadata());
        let called: Arc<str> = entry.called().into();
        // a machine of this address was refused, or may have it too
        let _ = self.owners.claim(address, Owner::Balancer(called));
        self.taken.entry(address).or_insert_with(|| name.clone());
        self.by_object.entry(name).or_default().push(address);
    }
}

/// Whether a Gateway asks for addresses, none of which it has: it is not given others.
fn asks_in_vain(entry: &Entry) -> bool {
    let Object::Gateway(gateway) = &entry.object else { return false };
    gateway.spec.addresses.iter().any(|address| address.value.is_some())
}

fn set_gateway(object: &mut Arc<Gateway>, addresses: &[IpAddr]) {
    if addresses.is_empty() && object.status.is_none() {
        return;
    }
    let status = addresses
        .iter()
        .map(|address| StatusAddress { type_: "IPAddress".to_owned(), value: address.to_string() });
    Arc::make_mut(object).status.get_or_insert_default().addresses = status.collect();
}

fn set_ingress(object: &mut Arc<Ingress>, addresses: &[IpAddr]) {
    if addresses.is_empty() && object.status.is_none() {
        return;
    }
    let status = addresses.iter().map(|address| IngressLoadBalancerIngress {
        ip: Some(address.to_string()),
        ..IngressLoadBalancerIngress::default()
    });
    let balancer = &mut Arc::make_mut(object).status.get_or_insert_default().load_balancer;
    balancer.get_or_insert_default().ingress = Some(status.collect());
}

/// Classes whose load balancers only the nodes' own network reaches.
///
/// Source: GKE, "GatewayClass capabilities"; "Ingress for internal Application Load Balancers".
const INTERNAL: [&str; 2] = ["gke-l7-rilb", "gce-internal"];

/// Whether an object asks for such a load balancer.
fn is_internal(entry: &Entry) -> bool {
    let class = match &entry.object {
        Object::Gateway(gateway) => Some(gateway.spec.gateway_class_name.as_str()),
        Object::Ingress(ingress) => {
            let annotations = ingress.metadata.annotations.as_ref();
            let annotated = annotations.and_then(|all| all.get("kubernetes.io/ingress.class"));
            let spec = ingress.spec.as_ref();
            let named = spec.and_then(|spec| spec.ingress_class_name.as_ref());
            annotated.or(named).map(String::as_str)
        }
        _ => None,
    };
    class.is_some_and(|class| INTERNAL.contains(&class))
}

/// The ranges that addresses of an object come from.
fn pools_for<'s>(entry: &Entry, settings: &'s ClusterSettings) -> &'s [IpNet] {
    if is_internal(entry) { &settings.node_cidrs } else { &settings.load_balancer_pools }
}

/// The half of a range of nodes that these do not take theirs from first.
pub(super) fn upper_half(range: &IpNet) -> Addresses {
    let bits = u32::from(range.max_prefix_len() - range.prefix_len());
    Addresses::from(*range, 1_u128 << bits.saturating_sub(1).min(127))
}

/// The host that has a load balancer's address, and addresses from which it reaches backends: those
/// of a subnet for proxies, if there is one.
pub(super) fn host(
    address: IpAddr,
    has_v6: bool,
    subnet: Option<IpNet>,
    owners: &mut Owners,
) -> (Proxy, External) {
    let name = format!("lb-{}", address.to_string().replace([':', '.'], "-"));
    let name = name.trim_end_matches('-').to_owned();
    let owner: Arc<str> = name.as_str().into();
    let mut claim = |at: &dyn Fn(u16) -> IpAddr, first: u16| {
        let all = (0..=u16::MAX).map(|step| at(first.wrapping_add(step)));
        let mut free = all.filter(|at| owners.is_free(*at));
        let found = free.next()?;
        drop(free);
        owners.claim(found, Owner::External(Arc::clone(&owner))).ok()?;
        Some(found)
    };
    let low = match address {
        IpAddr::V4(v4) => {
            let [_, _, c, d] = v4.octets();
            u16::from_be_bytes([c, d])
        }
        IpAddr::V6(v6) => {
            let [.., last] = v6.segments();
            last
        }
    };
    let [a, b] = SOURCE;
    let v4 = |low: u16| {
        let [c, d] = low.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    let [e, f, g, h] = SOURCE_V6;
    let v6 = |low: u16| IpAddr::V6(Ipv6Addr::new(e, f, g, h, 0, 0, 0, low));
    let mut probes: Vec<IpAddr> = claim(&v4, low).into_iter().collect();
    if has_v6 {
        probes.extend(claim(&v6, low));
    }
    let mut sources = probes.clone();
    if let Some(subnet) = subnet {
        let mut free = Addresses::from(subnet, 2);
        let own = free.take(|at| owners.is_free(at));
        let own =
            own.filter(|at| owners.claim(*at, Owner::External(Arc::from(name.as_str()))).is_ok());
        sources.retain(|at| own.is_none_or(|own| at.is_ipv4() != own.is_ipv4()));
        sources.extend(own);
    }
    let mut all = vec![address];
    all.extend(&probes);
    all.extend(sources.iter().filter(|at| !probes.contains(at)));
    let [router_v4, router_v6] = ROUTERS;
    let external = External {
        name: name.clone(),
        gateways: all.iter().map(|at| if at.is_ipv4() { router_v4 } else { router_v6 }).collect(),
        addresses: all.into_iter().map(IpNet::from).collect(),
        routes: Vec::new(),
        mtu: None,
        interface: None,
        network: HostNetwork::Internet,
    };
    (Proxy { name, address, sources, probes, is_internal: subnet.is_some() }, external)
}
