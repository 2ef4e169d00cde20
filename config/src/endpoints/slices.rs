//! EndpointSlices as objects, for people and programs that read them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointSubset, ObjectReference, Service, ServicePort,
};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::select::has_selector;
use super::{Conditions, Distribution, SERVICE_NAME, Sources, families, key, target_port};
use crate::{Cluster, Observed, Pod, identity};

/// Endpoints in one slice.
///
/// Source: kube-controller-manager `--max-endpoints-per-slice`.
const SLICE_MAX: usize = 100;

/// Who keeps slices that follow from a selector.
const CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// Who keeps slices that follow from Endpoints.
const MIRROR: &str = "endpointslicemirroring-controller.k8s.io";

/// Every EndpointSlice of a cluster: those that were written, and those that follow from selectors
/// and from Endpoints that were written.
pub fn endpoint_slices(cluster: &Cluster, observed: &Observed) -> Vec<Arc<EndpointSlice>> {
    let services = cluster.services.iter().map(|service| &**service);
    let sources = Sources::new(cluster, services.clone());
    let mut slices = cluster.endpoint_slices.clone();
    for service in services {
        slices.extend(of_service(service, cluster, observed, &sources));
    }
    slices
}

/// The slices that follow from a Service.
fn of_service(
    service: &Service,
    cluster: &Cluster,
    observed: &Observed,
    sources: &Sources<'_>,
) -> Vec<Arc<EndpointSlice>> {
    let mut made = Made { service, manager: CONTROLLER, slices: Vec::new() };
    if has_selector(service) {
        let pods = sources.pods(service);
        for is_v4 in families(service) {
            made.add_pods(&pods, is_v4, cluster, observed);
        }
    } else if let Some(endpoints) = sources.endpoints(service) {
        made.manager = MIRROR;
        for subset in endpoints.subsets.iter().flatten() {
            made.add_subset(subset);
        }
    }
    made.slices
}

/// The slices of one Service so far.
struct Made<'c> {
    service: &'c Service,
    manager: &'static str,
    slices: Vec<Arc<EndpointSlice>>,
}

impl Made<'_> {
    /// Pods whose ports have the same numbers share slices.
    fn add_pods(&mut self, pods: &[Arc<Pod>], is_v4: bool, cluster: &Cluster, observed: &Observed) {
        let mut groups: Vec<(Vec<EndpointPort>, Vec<Endpoint>)> = Vec::new();
        for pod in pods {
            let Some(ip) = pod.addresses.iter().find(|ip| ip.is_ipv4() == is_v4) else { continue };
            let ports = ports_of(self.service, pod);
            let endpoint = of_pod(self.service, pod, *ip, cluster, observed);
            match groups.iter_mut().find(|(have, _)| *have == ports) {
                Some((_, endpoints)) => endpoints.push(endpoint),
                None => groups.push((ports, vec![endpoint])),
            }
        }
        if groups.is_empty() {
            // a Service that has nothing says so
            self.add(is_v4, Vec::new(), Vec::new());
        }
        for (ports, endpoints) in groups {
            for endpoints in endpoints.chunks(SLICE_MAX) {
                self.add(is_v4, endpoints.to_vec(), ports.clone());
            }
        }
    }

    fn add_subset(&mut self, subset: &EndpointSubset) {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for is_v4 in [true, false] {
            let is_of_family = |(address, _): &(&EndpointAddress, bool)| {
                address.ip.parse().is_ok_and(|ip: IpAddr| ip.is_ipv4() == is_v4)
            };
            let all = ready.clone().chain(not_ready.clone()).filter(is_of_family);
            let endpoints: Vec<Endpoint> =
                all.map(|(address, ready)| mirrored(address, ready)).collect();
            for endpoints in endpoints.chunks(SLICE_MAX) {
                self.add(is_v4, endpoints.to_vec(), ports.clone());
            }
        }
    }

    fn add(&mut self, is_v4: bool, endpoints: Vec<Endpoint>, ports: Vec<EndpointPort>) {
        let (namespace, service) = key(self.service);
        let name = identity::generated_name(service, self.slices.len());
        let metadata = ObjectMeta {
            uid: Some(identity::uid("EndpointSlice", namespace, &name)),
            name: Some(name),
            generate_name: Some(format!("{service}-")),
            namespace: Some(namespace.to_owned()),
            labels: Some(self.labels()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                block_owner_deletion: Some(true),
                controller: Some(true),
                kind: "Service".into(),
                name: service.to_owned(),
                uid: self.service.metadata.uid.clone().unwrap_or_default(),
            }]),
            ..ObjectMeta::default()
        };
        self.slices.push(Arc::new(EndpointSlice {
            address_type: if is_v4 { "IPv4" } else { "IPv6" }.into(),
            endpoints: Some(endpoints),
            metadata,
            ports: Some(ports),
        }));
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let (_, service) = key(self.service);
        let mut labels = self.service.metadata.labels.clone().unwrap_or_default();
        labels.insert(SERVICE_NAME.into(), service.into());
        labels.insert("endpointslice.kubernetes.io/managed-by".into(), self.manager.into());
        let ip = self.service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
        if ip == Some("None") {
            labels.insert("service.kubernetes.io/headless".into(), String::new());
        }
        labels
    }
}

/// The ports of a Service as a pod has them; those that it does not name are left out.
fn ports_of(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let of_pod = |port: &ServicePort| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(i32::from(target_port(pod, port)?)),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
    };
    ports.filter_map(of_pod).collect()
}

fn of_pod(
    service: &Service,
    pod: &Pod,
    ip: IpAddr,
    cluster: &Cluster,
    observed: &Observed,
) -> Endpoint {
    let Conditions { ready, serving, terminating } = Conditions::of_pod(pod, service, observed);
    let node = cluster.nodes.get(pod.node);
    let (node_name, zone) =
        (node.map(|node| node.name.clone()), node.and_then(|node| node.zone.clone()));
    let distribution = Distribution::of(service);
    let for_zones = || zone.clone().map(|name| vec![ForZone { name }]);
    let for_nodes = || node_name.clone().map(|name| vec![ForNode { name }]);
    let hints = match distribution {
        Distribution::SameZone if ready => {
            EndpointHints { for_nodes: None, for_zones: for_zones() }
        }
        Distribution::SameNode if ready => {
            EndpointHints { for_nodes: for_nodes(), for_zones: for_zones() }
        }
        _ => EndpointHints::default(),
    };
    let spec = pod.object.spec.as_ref();
    let has_name = spec.is_some_and(|spec| spec.subdomain.as_deref() == Some(key(service).1));
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        deprecated_topology: None,
        hostname: spec.filter(|_| has_name).and_then(|spec| spec.hostname.clone()),
        node_name,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: pod.object.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        hints: (hints != EndpointHints::default()).then_some(hints),
        zone,
    }
}

/// Source: KEP-0752, on mirroring.
fn mirrored(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests;
