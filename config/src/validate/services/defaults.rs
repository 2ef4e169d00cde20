//! Fields of Services that are the same for all who leave them out.

use k8s_openapi::api::core::v1::{
    ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::check::ServiceType;
use crate::identity::uid;
use crate::kind::Kind;

/// Seconds that a client is remembered, unless told otherwise.
///
/// Source: `Service.spec.sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_SECONDS: i32 = 10_800;

/// The Service with its defaults.
///
/// Source: Kubernetes `SetDefaults_Service`.
pub(super) fn of(wanted: &Service) -> Service {
    let mut service = wanted.clone();
    let namespace = service.metadata.namespace.clone().unwrap_or_default();
    let name = service.metadata.name.clone().unwrap_or_default();
    service.metadata.uid.get_or_insert_with(|| uid(Kind::Service.name(), &namespace, &name));
    let spec = service.spec.get_or_insert_default();
    let service_type = ServiceType::of(spec);
    or_word(&mut spec.type_, "ClusterIP");
    or_word(&mut spec.session_affinity, "None");
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        let config: &mut SessionAffinityConfig =
            spec.session_affinity_config.get_or_insert_default();
        let client: &mut ClientIPConfig = config.client_ip.get_or_insert_default();
        client.timeout_seconds.get_or_insert(AFFINITY_SECONDS);
    }
    spec.ports.iter_mut().flatten().for_each(port);
    let has_external_ips = spec.external_ips.as_ref().is_some_and(|list| !list.is_empty());
    if service_type.has_node_ports() || has_external_ips {
        or_word(&mut spec.external_traffic_policy, "Cluster");
    }
    if service_type != ServiceType::ExternalName {
        or_word(&mut spec.internal_traffic_policy, "Cluster");
    }
    if service_type == ServiceType::LoadBalancer {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
    for range in spec.load_balancer_source_ranges.iter_mut().flatten() {
        // blanks around a range have always been allowed
        *range = range.trim().to_owned();
    }
    addresses(spec);
    service
}

fn port(port: &mut ServicePort) {
    or_word(&mut port.protocol, "TCP");
    let is_written = match &port.target_port {
        None | Some(IntOrString::Int(0)) => false,
        Some(IntOrString::String(name)) => !name.is_empty(),
        Some(IntOrString::Int(_)) => true,
    };
    if !is_written {
        port.target_port = Some(IntOrString::Int(port.port));
    }
}

/// Each of `clusterIP` and `clusterIPs` from the other.
fn addresses(spec: &mut ServiceSpec) {
    let single = spec.cluster_ip.take().filter(|address| !address.is_empty());
    let list = spec.cluster_ips.take().unwrap_or_default();
    let list: Vec<String> = if list.is_empty() { single.into_iter().collect() } else { list };
    spec.cluster_ip = list.first().cloned();
    spec.cluster_ips = Some(list).filter(|list| !list.is_empty());
}

fn or_word(field: &mut Option<String>, word: &str) {
    if field.as_ref().is_none_or(String::is_empty) {
        *field = Some(word.to_owned());
    }
}
