//! The cluster's domain: `service.namespace.svc.cluster.local` and all around it.

use std::net::IpAddr;

use super::service::{Below, Own, dashed};
use super::{Data, Found, Name, Type, Zones};
use crate::{EmptyServices, PodRecords, ReverseEndpoints};

/// Version of the schema.
///
/// Source: Kubernetes DNS-Based Service Discovery §2.2.
const SCHEMA: &str = "1.1.0";

impl Zones {
    /// What there is at a name of the domain, which has these labels before it.
    pub(super) fn in_cluster(&self, name: &Name, labels: &[&[u8]], wanted: Type) -> Found {
        match labels {
            [] => Found::Records(vec![self.soa(), Data::Ns(self.server().clone())]),
            [b"dns-version"] => Found::Records(vec![Data::Txt(SCHEMA.into())]),
            [b"dns"] => Found::Records(Vec::new()),
            [b"ns", b"dns"] => {
                let own = self.dns_addresses().iter();
                Found::Records(own.map(|address| Data::address(*address)).collect())
            }
            [below @ .., b"svc"] => self.of_services(name, below, wanted),
            [below @ .., b"pod"] => self.of_pods(below),
            _ => Found::Nothing,
        }
    }

    fn of_services(&self, name: &Name, labels: &[&[u8]], wanted: Type) -> Found {
        let (below, own) = match labels {
            [] => return Found::Records(Vec::new()),
            [namespace] => return Found::if_exists(self.has_namespace(namespace), Vec::new()),
            [below @ .., service, namespace] => (below, [*service, *namespace]),
        };
        let Some(records) = self.service(own) else { return Found::Nothing };
        let dns = self.settings();
        if !records.exists(dns.empty_services == EmptyServices::Exist) {
            return Found::Nothing;
        }
        if below.is_empty() {
            return match &records.own {
                Own::Alias(alias) => Found::Alias(alias.clone()),
                _ => Found::Records(records.at_name(name, wanted)),
            };
        }
        // names of endpoints are below that of their Service
        let Some(parent) = Name::of(own).and_then(|own| self.in_services(&own)) else {
            return Found::Nothing;
        };
        let endpoints_have_names = match records.own {
            Own::Headless => true,
            Own::Addresses(_) => dns.reverse_endpoints == ReverseEndpoints::All,
            Own::Alias(_) => false,
        };
        match records.below(below, &parent, endpoints_have_names) {
            Below::Nothing => Found::Nothing,
            Below::Names => Found::Records(Vec::new()),
            Below::Records(records) => Found::Records(records),
        }
    }

    fn of_pods(&self, labels: &[&[u8]]) -> Found {
        let mode = self.settings().pod_records;
        match labels {
            _ if mode == PodRecords::Disabled => Found::Nothing,
            [] => Found::Records(Vec::new()),
            [namespace] => Found::if_exists(self.has_namespace(namespace), Vec::new()),
            [label, namespace] if self.has_namespace(namespace) => match undashed(label) {
                Some(address) if mode == PodRecords::Insecure => {
                    Found::Records(vec![Data::address(address)])
                }
                Some(address) if self.has_pod(namespace, address) => {
                    Found::Records(vec![Data::address(address)])
                }
                _ => Found::Nothing,
            },
            _ => Found::Nothing,
        }
    }
}

/// The address of which a label was made.
fn undashed(label: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(label).ok()?;
    let v4 = || text.replace('-', ".").parse::<IpAddr>().ok();
    let v6 = || text.replace('-', ":").parse::<IpAddr>().ok();
    let address = v4().or_else(v6)?;
    // one address has one name, so that 1-0--2 does not stand for 1-0-0-…-2
    (*dashed(address) == *label || address.is_ipv6()).then_some(address)
}
