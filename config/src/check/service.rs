//! Services: the rules of `ValidateService` of Kubernetes.

mod addresses;
mod ports;

pub(crate) use addresses::family_name;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{accept, cidr, labels, one_of};
use crate::error::Findings;
use crate::network_balancer::{IP_MODE, IP_MODES, ingress_of};
use crate::path::Path;
use crate::syntax;

/// Seconds that a client may be remembered.
///
/// Source: `Service.spec.sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_SECONDS: std::ops::RangeInclusive<i32> = 1..=86_400;

/// What a Service offers beyond cluster IPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceType {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

impl ServiceType {
    const NAMES: [&str; 4] = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];

    /// That of a Service; a word that is none counts as the default.
    pub(crate) fn of(spec: &ServiceSpec) -> Self {
        match spec.type_.as_deref() {
            Some("NodePort") => Self::NodePort,
            Some("LoadBalancer") => Self::LoadBalancer,
            Some("ExternalName") => Self::ExternalName,
            _ => Self::ClusterIp,
        }
    }

    /// Whether it may have node ports.
    pub(crate) fn has_node_ports(self) -> bool {
        matches!(self, Self::NodePort | Self::LoadBalancer)
    }
}

/// Whether a Service has no cluster IP on purpose.
pub(crate) fn is_headless(spec: &ServiceSpec) -> bool {
    let first = spec.cluster_ips.iter().flatten().next();
    spec.cluster_ip.as_deref() == Some("None") || first.is_some_and(|first| first == "None")
}

pub(super) fn check(service: &Service, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    let Some(spec) = &service.spec else {
        findings.error(path, "`spec` is missing", "write `ports` and `selector` below it");
        return;
    };
    one_of(findings, path.key("type"), spec.type_.as_deref(), &ServiceType::NAMES);
    topology_mode(service, findings);
    ip_modes(service, findings);
    labels(path.key("selector"), spec.selector.as_ref(), findings);
    ports::check(path, spec, findings);
    addresses::check(path, spec, findings);
    affinity(path, spec, findings);
    policies(path, spec, findings);
    load_balancer(path, spec, findings);
    if ServiceType::of(spec) == ServiceType::ExternalName {
        let name = spec.external_name.as_deref().unwrap_or("");
        accept(
            findings,
            path.key("externalName"),
            syntax::dns_subdomain(name.trim_end_matches('.')),
        );
    }
}

fn affinity(path: Path<'_>, spec: &ServiceSpec, findings: &mut Findings) {
    let affinity = spec.session_affinity.as_deref();
    one_of(findings, path.key("sessionAffinity"), affinity, &["None", "ClientIP"]);
    let Some(config) = &spec.session_affinity_config else { return };
    let path = path.key("sessionAffinityConfig");
    if affinity != Some("ClientIP") {
        let help = "write sessionAffinity: ClientIP, or remove it";
        findings.error(path, "it has a meaning with `sessionAffinity: ClientIP` only", help);
    }
    let Some(seconds) = config.client_ip.as_ref().and_then(|client| client.timeout_seconds) else {
        return;
    };
    if !AFFINITY_SECONDS.contains(&seconds) {
        let client = path.key("clientIP");
        let message = format!("a client cannot be remembered for {seconds} s");
        let (least, most) = (AFFINITY_SECONDS.start(), AFFINITY_SECONDS.end());
        let help = format!("write a number from {least} to {most}");
        findings.error(client.key("timeoutSeconds"), message, help);
    }
}

/// Annotations by which hints followed from the processors of each zone. Nodes of a lab do not say
/// how many they have, and where that is so no hints follow in a cluster either.
///
/// Source: KEP-2433; annotations `service.kubernetes.io/topology-mode` and its predecessor.
fn topology_mode(service: &Service, findings: &mut Findings) {
    let annotations = Path::Root.key("metadata");
    let annotations = annotations.key("annotations");
    for key in ["service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"]
    {
        let mode = service.metadata.annotations.as_ref().and_then(|all| all.get(key));
        if mode.is_some_and(|mode| mode.eq_ignore_ascii_case("auto")) {
            let message =
                format!("`{key}` has no effect here: no zone says how many processors it has");
            let help = "write spec.trafficDistribution: PreferClose";
            findings.warning(annotations.key(key), message, help);
        }
    }
}

/// Source: `ValidateLoadBalancerStatus` of Kubernetes; KEP-1860.
fn ip_modes(service: &Service, findings: &mut Findings) {
    let path = Path::Root.key("metadata");
    let path = path.key("annotations");
    let annotations = service.metadata.annotations.as_ref();
    let asked = annotations.and_then(|all| all.get(IP_MODE)).map(String::as_str);
    one_of(findings, path.key(IP_MODE), asked, &IP_MODES);
    let path = Path::Root.key("status");
    let path = path.key("loadBalancer");
    let path = path.key("ingress");
    for (index, at) in ingress_of(service).enumerate() {
        let path = path.index(index);
        one_of(findings, path.key("ipMode"), at.ip_mode.as_deref(), &IP_MODES);
        if at.ip_mode.is_some() && at.ip.is_none() {
            let message = "a mode belongs to an address, and there is none";
            findings.error(path.key("ipMode"), message, "write `ip`, or remove it");
        }
    }
}

fn policies(path: Path<'_>, spec: &ServiceSpec, findings: &mut Findings) {
    let policies = ["Cluster", "Local"];
    let external = spec.external_traffic_policy.as_deref().filter(|policy| !policy.is_empty());
    one_of(findings, path.key("externalTrafficPolicy"), external, &policies);
    let internal = spec.internal_traffic_policy.as_deref();
    one_of(findings, path.key("internalTrafficPolicy"), internal, &policies);
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    let distribution = spec.traffic_distribution.as_deref();
    one_of(findings, path.key("trafficDistribution"), distribution, &distributions);
    let service_type = ServiceType::of(spec);
    let has_external_ips = spec.external_ips.as_ref().is_some_and(|list| !list.is_empty());
    let is_reached_from_outside = service_type.has_node_ports() || has_external_ips;
    if external.is_some() && !is_reached_from_outside {
        let message = "the Service cannot be reached from outside";
        let help = "write type: NodePort or LoadBalancer, or remove it";
        findings.error(path.key("externalTrafficPolicy"), message, help);
    }
    let Some(health) = spec.health_check_node_port.filter(|port| *port != 0) else { return };
    let path = path.key("healthCheckNodePort");
    super::port(findings, path, health);
    if service_type != ServiceType::LoadBalancer || external != Some("Local") {
        let message = "the Service has no health check";
        let help = "it needs type: LoadBalancer and externalTrafficPolicy: Local";
        findings.error(path, message, help);
    }
}

fn load_balancer(path: Path<'_>, spec: &ServiceSpec, findings: &mut Findings) {
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or(&[]);
    let at = path.key("loadBalancerSourceRanges");
    for (index, range) in ranges.iter().enumerate() {
        cidr(findings, at.index(index), range.trim());
    }
    let address = spec.load_balancer_ip.as_deref().filter(|address| !address.is_empty());
    if let Some(address) = address {
        accept(findings, path.key("loadBalancerIP"), syntax::address(address));
    }
    if ServiceType::of(spec) == ServiceType::LoadBalancer {
        return;
    }
    for (key, is_written) in [
        ("loadBalancerSourceRanges", !ranges.is_empty()),
        ("loadBalancerIP", address.is_some()),
        ("loadBalancerClass", spec.load_balancer_class.is_some()),
        ("allocateLoadBalancerNodePorts", spec.allocate_load_balancer_node_ports.is_some()),
    ] {
        if is_written {
            let message = format!("`{key}` has a meaning with `type: LoadBalancer` only");
            findings.error(path.key(key), message, "write type: LoadBalancer, or remove it");
        }
    }
}
