//! What follows from one Service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::{Data, Name, Type};
use crate::Observed;
use crate::endpoints::{Conditions, Gathering, families, key, target_port};

/// A label in lower case.
type Label = Box<[u8]>;

/// The records of one Service, which all are at its name or below it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceRecords {
    /// What it is by itself.
    pub(super) own: Own,
    /// Its ports: those of a Service with cluster IPs, or those of the endpoints.
    pub(super) ports: Vec<Port>,
    /// Its ready endpoints by the label of their names.
    pub(super) endpoints: Vec<(Label, IpAddr)>,
}

/// What a Service is by itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Own {
    /// The addresses of its endpoints.
    #[default]
    Headless,
    /// Its cluster IPs.
    Addresses(Vec<IpAddr>),
    /// Another name.
    Alias(Name),
}

/// A port that somebody serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    /// `_tcp`, `_udp` or `_sctp`.
    pub(super) protocol: &'static [u8],
    /// Its name, with an underscore before it; `None`: it has none.
    pub(super) name: Option<Label>,
    /// Its number, host order.
    pub(super) number: u16,
    /// Label of the endpoint that serves it; `None`: the Service itself.
    pub(super) endpoint: Option<Label>,
}

/// What there is below the name of a Service.
#[derive(Debug)]
pub(super) enum Below {
    /// Nothing.
    Nothing,
    /// Names, and no records.
    Names,
    /// These records.
    Records(Vec<Data>),
}

impl ServiceRecords {
    /// What follows from a Service and its endpoints.
    pub(crate) fn of(from: Gathering<'_>, observed: &Observed) -> Self {
        let Some(spec) = &from.service.spec else { return Self::default() };
        if spec.type_.as_deref() == Some("ExternalName") {
            let alias = spec.external_name.as_deref().and_then(Name::parse);
            return Self { own: alias.map_or(Own::Headless, Own::Alias), ..Self::default() };
        }
        let found = Found::of(from, spec, observed);
        let endpoints = found.endpoints();
        if spec.cluster_ip.as_deref() == Some("None") {
            let ports = found.ports(&endpoints);
            return Self { own: Own::Headless, ports, endpoints };
        }
        let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let addresses: BTreeSet<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            let protocol = protocol_label(port.protocol.as_deref())?;
            let name = port_label(port.name.as_deref());
            Some(Port { protocol, name, number: u16::try_from(port.port).ok()?, endpoint: None })
        });
        let ports = ports.collect();
        Self { own: Own::Addresses(addresses.into_iter().collect()), ports, endpoints }
    }

    /// Whether its name exists.
    pub(super) fn exists(&self, empty_exist: bool) -> bool {
        match &self.own {
            Own::Headless => !self.endpoints.is_empty(),
            Own::Addresses(addresses) => {
                !addresses.is_empty() && (empty_exist || !self.endpoints.is_empty())
            }
            Own::Alias(_) => true,
        }
    }

    /// Its addresses.
    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        match &self.own {
            Own::Headless => self.endpoints.iter().map(|(_, address)| *address).collect(),
            Own::Addresses(addresses) => addresses.iter().copied().collect(),
            Own::Alias(_) => BTreeSet::new(),
        }
    }

    /// What there is at its own name; aliases are followed elsewhere.
    ///
    /// CoreDNS lists all ports for those who ask without a port, and some do.
    pub(super) fn at_name(&self, name: &Name, wanted: Type) -> Vec<Data> {
        let mut records: Vec<Data> = self.addresses().into_iter().map(Data::address).collect();
        if wanted == Type::Srv {
            records.extend(Self::services(&self.ports, name));
        }
        records
    }

    /// What there is at names below its own, the most special label first.
    pub(super) fn below(&self, labels: &[&[u8]], name: &Name, endpoints_have_names: bool) -> Below {
        match labels {
            [protocol] if self.named(protocol).next().is_some() => Below::Names,
            [label] if endpoints_have_names => {
                let start = self.endpoints.partition_point(|(own, _)| **own < **label);
                let rest = self.endpoints.get(start..).unwrap_or_default();
                let at = rest.iter().take_while(|(own, _)| **own == **label);
                let records: Vec<Data> = at.map(|(_, at)| Data::address(*at)).collect();
                if records.is_empty() { Below::Nothing } else { Below::Records(records) }
            }
            [port, protocol] => {
                let ports = self.named(protocol).filter(|own| own.name.as_deref() == Some(*port));
                let records = Self::services(ports, name);
                if records.is_empty() { Below::Nothing } else { Below::Records(records) }
            }
            _ => Below::Nothing,
        }
    }

    /// Ports with a name, by protocol.
    fn named<'p>(&'p self, protocol: &'p [u8]) -> impl Iterator<Item = &'p Port> {
        self.ports.iter().filter(move |port| port.protocol == protocol && port.name.is_some())
    }

    /// A record for each port and who serves it, once.
    fn services<'p>(ports: impl IntoIterator<Item = &'p Port>, name: &Name) -> Vec<Data> {
        let served: BTreeSet<(u16, Option<&Label>)> =
            ports.into_iter().map(|port| (port.number, port.endpoint.as_ref())).collect();
        let weight = 100_u16.checked_div(u16::try_from(served.len()).unwrap_or(u16::MAX));
        let record = |(port, endpoint): (u16, Option<&Label>)| {
            let target = endpoint.map_or_else(|| Some(name.clone()), |label| name.child(label))?;
            Some(Data::Srv { weight: weight.unwrap_or_default().max(1), port, target })
        };
        served.into_iter().filter_map(record).collect()
    }

    /// Labels of the endpoints at an address.
    pub(super) fn labels_at(&self, address: IpAddr) -> impl Iterator<Item = &Label> {
        self.endpoints.iter().filter(move |(_, at)| *at == address).map(|(label, _)| label)
    }
}

/// The ready endpoints of a Service, by address, with their names and ports.
#[derive(Default)]
struct Found {
    by_address: BTreeMap<IpAddr, Endpoint>,
}

#[derive(Default)]
struct Endpoint {
    hostnames: BTreeSet<Label>,
    /// Protocol, label and number of the ports.
    ports: BTreeSet<(&'static [u8], Option<Label>, u16)>,
}

impl Found {
    fn of(from: Gathering<'_>, spec: &ServiceSpec, observed: &Observed) -> Self {
        let (_, service) = key(from.service);
        let mut found = Self::default();
        for pod in from.pods {
            if !Conditions::of_pod(pod, from.service, observed).ready {
                continue;
            }
            let own = pod.object.spec.as_ref();
            let own = own.filter(|own| own.subdomain.as_deref() == Some(service));
            let hostname = own.and_then(|own| own.hostname.as_deref());
            let ports: Vec<_> = spec.ports.iter().flatten().collect();
            let number = |port: &&ServicePort| target_port(pod, port);
            for address in of_families(from.service, &pod.addresses) {
                let ports = ports.iter().filter_map(|port| {
                    Some((port.protocol.as_deref(), port.name.as_deref(), number(port)?))
                });
                found.add(address, hostname, ports);
            }
        }
        for slice in from.slices {
            let ports = slice.ports.iter().flatten().filter_map(|port| {
                let number = u16::try_from(port.port?).ok()?;
                Some((port.protocol.as_deref(), port.name.as_deref(), number))
            });
            for endpoint in slice.endpoints.iter().flatten() {
                // addresses beyond the first have no meaning
                let address = endpoint.addresses.first().and_then(|text| text.parse().ok());
                let is_ready = Conditions::of_slice(endpoint.conditions.as_ref()).ready;
                if let Some(address) = address.filter(|_| is_ready) {
                    found.add(address, endpoint.hostname.as_deref(), ports.clone());
                }
            }
        }
        for subset in from.endpoints.iter().flat_map(|all| all.subsets.iter().flatten()) {
            let ports = subset.ports.iter().flatten().filter_map(|port| {
                let number = u16::try_from(port.port).ok()?;
                Some((port.protocol.as_deref(), port.name.as_deref(), number))
            });
            for endpoint in subset.addresses.iter().flatten() {
                if let Ok(address) = endpoint.ip.parse() {
                    found.add(address, endpoint.hostname.as_deref(), ports.clone());
                }
            }
        }
        found
    }

    fn add<'p>(
        &mut self,
        address: IpAddr,
        hostname: Option<&str>,
        ports: impl Iterator<Item = (Option<&'p str>, Option<&'p str>, u16)>,
    ) {
        let endpoint = self.by_address.entry(address).or_default();
        endpoint.hostnames.extend(hostname.filter(|name| !name.is_empty()).map(lower));
        let ports = ports.filter_map(|(protocol, name, number)| {
            Some((protocol_label(protocol)?, port_label(name), number))
        });
        endpoint.ports.extend(ports);
    }

    /// The names of an endpoint: its own where it has one, else one made of its address.
    ///
    /// Source: CoreDNS, plugin kubernetes, `endpoint_pod_names`.
    fn labels(address: IpAddr, endpoint: &Endpoint) -> Vec<Label> {
        if endpoint.hostnames.is_empty() {
            return vec![dashed(address)];
        }
        endpoint.hostnames.iter().cloned().collect()
    }

    fn endpoints(&self) -> Vec<(Label, IpAddr)> {
        let mut endpoints: Vec<_> = self
            .by_address
            .iter()
            .flat_map(|(at, own)| Self::labels(*at, own).into_iter().map(|label| (label, *at)))
            .collect();
        endpoints.sort_unstable();
        endpoints
    }

    /// The ports of a headless Service: each endpoint's own.
    fn ports(&self, endpoints: &[(Label, IpAddr)]) -> Vec<Port> {
        let of_endpoint = |(label, at): &(Label, IpAddr)| {
            let ports = self.by_address.get(at).into_iter().flat_map(|own| &own.ports);
            let port = |(protocol, name, number): &(&'static [u8], Option<Label>, u16)| Port {
                protocol,
                name: name.clone(),
                number: *number,
                endpoint: Some(label.clone()),
            };
            ports.map(port).collect::<Vec<_>>()
        };
        let all: BTreeSet<Port> = endpoints.iter().flat_map(of_endpoint).collect();
        all.into_iter().collect()
    }
}

/// The first address of a pod in each family that the Service has.
fn of_families(service: &Service, addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first = |is_v4| addresses.iter().copied().find(|address| address.is_ipv4() == is_v4);
    families(service).filter_map(first).collect()
}

/// An address as a label.
pub(super) fn dashed(address: IpAddr) -> Label {
    lower(&address.to_string().replace(['.', ':'], "-"))
}

fn lower(text: &str) -> Label {
    text.to_ascii_lowercase().into_bytes().into()
}

fn port_label(name: Option<&str>) -> Option<Label> {
    let name = name.filter(|name| !name.is_empty())?;
    Some(lower(&format!("_{name}")))
}

fn protocol_label(protocol: Option<&str>) -> Option<&'static [u8]> {
    match protocol {
        None | Some("" | "TCP") => Some(b"_tcp"),
        Some("UDP") => Some(b"_udp"),
        Some("SCTP") => Some(b"_sctp"),
        Some(_) => None,
    }
}
