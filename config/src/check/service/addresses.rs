//! Addresses and families of Services.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ServiceSpec;

use super::super::{accept, one_of};
use super::{ServiceType, is_headless};
use crate::error::Findings;
use crate::path::Path;
use crate::syntax;

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

pub(super) fn check(path: Path<'_>, spec: &ServiceSpec, findings: &mut Findings) {
    families(path, spec, findings);
    cluster_ips(path, spec, findings);
    external_ips(path, spec, findings);
}

fn families(path: Path<'_>, spec: &ServiceSpec, findings: &mut Findings) {
    let policies = ["SingleStack", "PreferDualStack", "RequireDualStack"];
    let policy = spec.ip_family_policy.as_deref();
    one_of(findings, path.key("ipFamilyPolicy"), policy, &policies);
    let families = spec.ip_families.as_deref().unwrap_or(&[]);
    let at = path.key("ipFamilies");
    for (index, family) in families.iter().enumerate() {
        one_of(findings, at.index(index), Some(family), &FAMILIES);
        if families.iter().take(index).any(|before| before == family) {
            findings.error(
                at.index(index),
                format!("{family} stands here twice"),
                "remove one of the two",
            );
        }
    }
}

fn cluster_ips(path: Path<'_>, spec: &ServiceSpec, findings: &mut Findings) {
    let service_type = ServiceType::of(spec);
    let list = spec.cluster_ips.as_deref().unwrap_or(&[]);
    let single = spec.cluster_ip.as_deref().filter(|address| !address.is_empty());
    let at_single = path.key("clusterIP");
    let at_list = path.key("clusterIPs");
    let first = if single.is_some() { at_single } else { at_list };
    if service_type == ServiceType::ExternalName {
        if single.is_some() || !list.is_empty() {
            // the API keeps the address, and nobody serves it
            let message = "the cluster IP of an ExternalName Service is not served";
            findings.warning(first, message, "remove it");
        }
        return;
    }
    if let Some((single, listed)) = single.zip(list.first())
        && single != listed
    {
        let message = format!("clusterIP {single} is not the first of clusterIPs, {listed}");
        findings.error(at_single, message, "write the same address, or only one of the two fields");
    }
    if is_headless(spec) {
        if service_type != ServiceType::ClusterIp {
            let message = "a Service of this type needs a cluster IP";
            findings.error(first, message, "remove clusterIP: None, or write type: ClusterIP");
        }
        if list.len() > 1 {
            findings.error(at_list, "\"None\" stands beside addresses", "write clusterIPs: [None]");
        }
        return;
    }
    if list.is_empty()
        && let Some(single) = single
    {
        let address = accept(findings, at_single, syntax::address(single));
        family(at_single, 0, address, spec, findings);
    }
    let mut seen = Vec::new();
    for (index, text) in list.iter().enumerate() {
        let Some(address) = accept(findings, at_list.index(index), syntax::address(text)) else {
            continue;
        };
        if seen.contains(&address.is_ipv4()) {
            let help = "a Service has up to one cluster IP of each family";
            findings.error(
                at_list.index(index),
                format!("{text} is the second of its family"),
                help,
            );
        }
        seen.push(address.is_ipv4());
        family(at_list.index(index), index, Some(address), spec, findings);
    }
}

/// Notes an address that is not of the family that the Service asks for in its place.
fn family(
    path: Path<'_>,
    index: usize,
    address: Option<IpAddr>,
    spec: &ServiceSpec,
    findings: &mut Findings,
) {
    let asked = spec.ip_families.as_ref().and_then(|families| families.get(index));
    let Some((address, asked)) = address.zip(asked) else { return };
    if FAMILIES.contains(&asked.as_str()) && asked.as_str() != family_name(address) {
        let message = format!("{address} is not of ipFamilies[{index}], {asked}");
        findings.error(path, message, "put addresses and families in the same order");
    }
}

/// As in `Service.spec.ipFamilies`.
pub(crate) fn family_name(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn external_ips(path: Path<'_>, spec: &ServiceSpec, findings: &mut Findings) {
    let path = path.key("externalIPs");
    for (index, text) in spec.external_ips.iter().flatten().enumerate() {
        let Some(address) = accept(findings, path.index(index), syntax::address(text)) else {
            continue;
        };
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            let message = format!("{text} cannot be an address of a Service");
            findings.error(path.index(index), message, "write a unicast address of the outside");
        }
    }
    if spec.external_ips.as_ref().is_some_and(|list| !list.is_empty()) {
        let message = "whoever writes `externalIPs` can take over traffic to any address";
        let help = "Kubernetes deprecates them (CVE-2020-8554); prefer type: LoadBalancer";
        findings.warning(path, message, help);
    }
}
