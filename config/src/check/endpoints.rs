//! EndpointSlices and Endpoints.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{accept, one_of, port, protocol};
use crate::error::Findings;
use crate::path::Path;
use crate::syntax::{self, Refused};

/// Endpoints that one slice may hold.
///
/// Source: KEP-0752; Kubernetes `maxEndpoints`.
const ENDPOINTS: usize = 1000;
/// Label that names the Service of a slice.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

pub(super) fn check_slice(slice: &EndpointSlice, findings: &mut Findings) {
    let families = ["IPv4", "IPv6", "FQDN"];
    let address_type = slice.address_type.as_str();
    one_of(findings, Path::Root.key("addressType"), Some(address_type), &families);
    let labels = slice.metadata.labels.as_ref();
    if labels.is_none_or(|labels| !labels.contains_key(SERVICE_NAME_LABEL)) {
        let metadata = Path::Root.key("metadata");
        let help = format!("add the label `{SERVICE_NAME_LABEL}: …`");
        findings.warning(metadata.key("labels"), "the slice belongs to no Service", help);
    }
    let path = Path::Root.key("ports");
    let mut names = BTreeSet::new();
    for (index, at) in slice.ports.iter().flatten().enumerate() {
        let path = path.index(index);
        let name = at.name.as_deref().unwrap_or("");
        protocol(findings, path.key("protocol"), at.protocol.as_deref());
        if let Some(number) = at.port {
            port(findings, path.key("port"), number);
        }
        if !name.is_empty() {
            accept(findings, path.key("name"), syntax::dns_label(name));
        }
        if !names.insert(name) {
            let message = format!("the slice has two ports called `{name}`");
            findings.error(path.key("name"), message, "give each port a name of its own");
        }
    }
    let endpoints = slice.endpoints.as_deref().unwrap_or(&[]);
    let path = Path::Root.key("endpoints");
    if endpoints.len() > ENDPOINTS {
        let message = format!("the slice has {} endpoints", endpoints.len());
        findings.error(path, message, format!("split it: a slice holds up to {ENDPOINTS}"));
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(index);
        let path = path.key("addresses");
        if endpoint.addresses.is_empty() {
            findings.error(path, "the endpoint has no address", "write addresses: [ … ]");
        }
        for (index, text) in endpoint.addresses.iter().enumerate() {
            if address_type == "FQDN" {
                accept(findings, path.index(index), syntax::dns_subdomain(text));
            } else if let Some(address) =
                accept(findings, path.index(index), endpoint_address(text))
                && address.is_ipv4() != (address_type == "IPv4")
                && families.contains(&address_type)
            {
                let message = format!("{text} is not of the slice's addressType {address_type}");
                let help = "a slice holds addresses of one family: write another slice for it";
                findings.error(path.index(index), message, help);
            }
        }
    }
}

pub(super) fn check_endpoints(endpoints: &Endpoints, findings: &mut Findings) {
    let subsets = Path::Root.key("subsets");
    for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
        let path = subsets.index(index);
        for (key, addresses) in
            [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)]
        {
            let path = path.key(key);
            for (index, address) in addresses.iter().flatten().enumerate() {
                let path = path.index(index);
                accept(findings, path.key("ip"), endpoint_address(&address.ip));
            }
        }
        let ports = path.key("ports");
        let several = subset.ports.as_ref().is_some_and(|ports| ports.len() > 1);
        for (index, at) in subset.ports.iter().flatten().enumerate() {
            let path = ports.index(index);
            port(findings, path.key("port"), at.port);
            protocol(findings, path.key("protocol"), at.protocol.as_deref());
            match at.name.as_deref().unwrap_or("") {
                "" if several => {
                    let help = "with several ports each needs a name";
                    findings.error(path.key("name"), "the port has no name", help);
                }
                "" => {}
                name => {
                    accept(findings, path.key("name"), syntax::dns_label(name));
                }
            }
        }
    }
}

/// An address that traffic can be sent to from elsewhere.
///
/// Source: Kubernetes `ValidateNonSpecialIP`.
fn endpoint_address(text: &str) -> Result<IpAddr, Refused> {
    let address = syntax::address(text)?;
    let is_special = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let is_special =
        is_special || address.is_loopback() || address.is_unspecified() || address.is_multicast();
    if is_special {
        return Err(Refused {
            message: format!("{text} cannot be reached from other machines"),
            help: "write an address that is neither of the machine itself nor of its link".into(),
        });
    }
    Ok(address)
}
