//! From ports of Services to the places that serve them.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Probe, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::model::{
    Backend, BackendKey, BackendPart, BackendPolicy, BackendProtocol, HealthCheckSpec, Persistence,
    PersistenceKind, Place,
};
use super::{backend_tls, policies};
use crate::endpoints::{Candidate, Gathering, Places, Sources, gather};
use crate::network_balancer::{self, may_be_balanced};
use crate::{Cluster, Observed, Pod};

/// How long a request may take at a backend.
///
/// Source: GKE, "Backend service timeout".
const TIMEOUT: Duration = Duration::from_secs(30);

/// A port, as routes and Ingresses name it.
#[derive(Clone, Copy, Debug)]
pub(super) enum PortRef<'p> {
    /// By number.
    Number(i32),
    /// By name.
    Name(&'p str),
}

/// Makes backends, each once.
#[derive(Debug)]
pub(super) struct Backends<'c> {
    cluster: &'c Cluster,
    pub(super) observed: &'c Observed,
    sources: Sources<'c>,
    places: Places,
    pods: HashMap<IpAddr, &'c Pod, ahash::RandomState>,
    made: BTreeMap<BackendKey, Arc<Backend>>,
}

impl<'c> Backends<'c> {
    pub(super) fn new(cluster: &'c Cluster, observed: &'c Observed) -> Self {
        let services = cluster.services.iter().map(|service| &**service);
        let pods = cluster.pods.iter().filter(|pod| !pod.host_network && !pod.is_finished());
        Self {
            cluster,
            observed,
            sources: Sources::new(cluster, services),
            places: Places::new(cluster),
            pods: pods
                .flat_map(|pod| pod.addresses.iter().map(move |address| (*address, &**pod)))
                .collect(),
            made: BTreeMap::new(),
        }
    }

    /// Every backend that was asked for.
    pub(super) fn all(self) -> BTreeMap<BackendKey, Arc<Backend>> {
        self.made
    }

    /// The backend of a port of a Service.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn of(
        &mut self,
        namespace: &str,
        name: &str,
        port: PortRef<'_>,
        part: BackendPart,
    ) -> Result<Arc<Backend>, String> {
        let Some(service) = self.cluster.service(namespace, name) else {
            return Err(format!("there is no Service {namespace}/{name}"));
        };
        let spec = service.spec.as_ref();
        if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
            return Err(format!("the Service {namespace}/{name} is the name of a host elsewhere"));
        }
        let ports = spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let protocol = if part == BackendPart::Datagrams { "UDP" } else { "TCP" };
        let is_it = |at: &&ServicePort| {
            let is_named = match port {
                PortRef::Number(number) => at.port == number,
                PortRef::Name(name) => at.name.as_deref() == Some(name),
            };
            is_named && at.protocol.as_deref().unwrap_or("TCP") == protocol
        };
        let Some((index, at)) = ports.enumerate().find(|(_, at)| is_it(at)) else {
            let port = match port {
                PortRef::Number(number) => number.to_string(),
                PortRef::Name(name) => format!("`{name}`"),
            };
            return Err(format!("the Service {namespace}/{name} has no port {port} ({protocol})"));
        };
        let key = BackendKey {
            namespace: namespace.to_owned(),
            service: name.to_owned(),
            port: u16::try_from(at.port).unwrap_or_default(),
            part,
        };
        if let Some(made) = self.made.get(&key) {
            return Ok(Arc::clone(made));
        }
        let backend = Arc::new(self.make(key.clone(), service, index, at)?);
        self.made.insert(key, Arc::clone(&backend));
        Ok(backend)
    }

    /// The backend of the Service's own load balancer: its node ports, or its pods where it has
    /// none.
    ///
    /// Source: KEP-1860: a proxy sends to a node's address and the node port, or to a pod's.
    pub(super) fn of_service(
        &mut self,
        service: &Service,
        index: usize,
        port: &ServicePort,
        part: BackendPart,
    ) -> Arc<Backend> {
        let key = BackendKey {
            namespace: service.metadata.namespace.clone().unwrap_or_default(),
            service: service.metadata.name.clone().unwrap_or_default(),
            port: u16::try_from(port.port).unwrap_or_default(),
            part,
        };
        let settings = &self.cluster.settings.gateway;
        let nodes = self.nodes(&key, port);
        let is_neg = nodes.is_err();
        let mut places = nodes.unwrap_or_else(|_| self.endpoints(service, index));
        let spec = service.spec.as_ref();
        let own = spec.and_then(|spec| u16::try_from(spec.health_check_node_port?).ok());
        let own = own.filter(|port| *port != 0);
        let health_check = if is_neg {
            let is_http = false;
            HealthCheckSpec { is_http, ..self.health_check(&places) }
        } else {
            places.retain(|place| {
                let node = place.node.as_deref().and_then(|name| self.cluster.node(name));
                node.is_some_and(|node| may_be_balanced(node))
            });
            // where nodes keep what they are handed, those without endpoints drop it
            places.iter_mut().for_each(|place| place.is_waiting = own.is_some());
            let check = network_balancer::check(own, settings);
            HealthCheckSpec {
                path: check.path.to_owned(),
                port: Some(check.port),
                interval: check.interval,
                timeout: check.timeout,
                healthy: check.healthy,
                unhealthy: check.unhealthy,
                ..HealthCheckSpec::default()
            }
        };
        let by_client = spec.and_then(|spec| spec.session_affinity.as_deref()) == Some("ClientIP");
        let affinity = by_client.then(|| Persistence {
            kind: PersistenceKind::ClientIp,
            name: String::new(),
            max_age: None,
        });
        let backend = Arc::new(Backend {
            key: key.clone(),
            protocol: BackendProtocol::default(),
            is_neg,
            places,
            health_check,
            affinity,
            timeout: TIMEOUT,
            draining: Some(settings.draining),
            policy: BackendPolicy::default(),
        });
        self.made.insert(key, Arc::clone(&backend));
        backend
    }

    fn make(
        &self,
        key: BackendKey,
        service: &Service,
        index: usize,
        port: &ServicePort,
    ) -> Result<Backend, String> {
        let is_neg = has_neg(service);
        let places = if is_neg { self.endpoints(service, index) } else { self.nodes(&key, port)? };
        let mut health_check = self.health_check(&places);
        // whatever is spoken there, it need not be HTTP
        health_check.is_http = key.part == BackendPart::Requests;
        let mut backend = Backend {
            protocol: protocol(service, port),
            is_neg,
            health_check,
            key,
            places,
            affinity: None,
            timeout: TIMEOUT,
            draining: None,
            policy: BackendPolicy::default(),
        };
        let objects = &self.cluster.ingress.policies;
        policies::settle(objects, service, port, &mut backend);
        backend_tls::settle(objects, port, &mut backend);
        Ok(backend)
    }

    /// The endpoints that take new requests.
    fn endpoints(&self, service: &Service, index: usize) -> Vec<Place> {
        let pods = self.sources.pods(service);
        let gathered = gather(
            Gathering {
                service,
                pods: &pods,
                slices: self.sources.slices(service),
                endpoints: self.sources.endpoints(service),
            },
            &self.places,
            self.observed,
        );
        let candidates = || {
            let of_port = gathered.iter().filter(|at| at.port == index);
            of_port.flat_map(|at| &at.candidates)
        };
        let is_ready = |candidate: &&Candidate| candidate.conditions.ready;
        let chosen: Vec<&Candidate> = if candidates().any(|candidate| is_ready(&candidate)) {
            candidates().filter(is_ready).collect()
        } else {
            candidates().filter(|candidate| candidate.conditions.is_fallback()).collect()
        };
        let waiting = candidates().filter(|candidate| self.is_waiting(candidate));
        chosen.into_iter().chain(waiting).map(|candidate| self.place(candidate)).collect()
    }

    /// Whether only the load balancer's own word is missing for an endpoint to be ready.
    fn is_waiting(&self, candidate: &Candidate) -> bool {
        if self.observed.waiting_pods.is_empty() || candidate.conditions.ready {
            return false;
        }
        let pod = self.pods.get(&candidate.endpoint.address.to_ip());
        pod.is_some_and(|pod| {
            let key = (pod.namespace.clone(), pod.name.clone());
            self.observed.waiting_pods.contains(&key)
        })
    }

    fn place(&self, candidate: &Candidate) -> Place {
        let address = candidate.endpoint.address.to_ip();
        let pod = self.pods.get(&address);
        let node = self.cluster.nodes.get(candidate.node as usize).map(|node| node.name.clone());
        Place {
            address: SocketAddr::new(address, candidate.endpoint.port),
            node,
            pod: pod.map(|pod| format!("{}/{}", pod.namespace, pod.name)),
            is_waiting: self.is_waiting(candidate),
        }
    }

    /// The node port on every ready node.
    fn nodes(&self, key: &BackendKey, port: &ServicePort) -> Result<Vec<Place>, String> {
        let node_port = port.node_port.and_then(|port| u16::try_from(port).ok());
        let Some(node_port) = node_port.filter(|port| *port != 0) else {
            return Err(format!(
                "the Service {}/{} has no node port, and none of its endpoints is reached directly",
                key.namespace, key.service
            ));
        };
        let nodes = self.cluster.nodes.iter().filter(|node| self.observed.is_node_ready(node));
        let place = |node: &Arc<crate::Node>| {
            Some(Place {
                address: SocketAddr::new(*node.addresses.first()?, node_port),
                node: Some(node.name.clone()),
                pod: None,
                is_waiting: false,
            })
        };
        Ok(nodes.filter_map(place).collect())
    }

    /// How places are checked: as the readiness probe of their pods, where it asks the same port.
    ///
    /// Source: GKE, "Default and inferred parameters" of health checks.
    fn health_check(&self, places: &[Place]) -> HealthCheckSpec {
        let mut spec = HealthCheckSpec::default();
        let probe = places.iter().find_map(|place| {
            let pod = self.pods.get(&place.address.ip())?;
            pod.containers().find_map(|container| {
                let probe = container.readiness_probe.as_ref()?;
                let http = probe.http_get.as_ref()?;
                let port = match &http.port {
                    IntOrString::Int(number) => u16::try_from(*number).ok()?,
                    IntOrString::String(name) => pod.named_port(name, "TCP")?,
                };
                (port == place.address.port()).then_some(probe)
            })
        });
        if let Some(probe) = probe {
            infer(&mut spec, probe);
        }
        spec
    }
}

fn infer(spec: &mut HealthCheckSpec, probe: &Probe) {
    let Some(http) = &probe.http_get else { return };
    if let Some(path) = http.path.as_deref().filter(|path| path.starts_with('/')) {
        path.clone_into(&mut spec.path);
    }
    for header in http.http_headers.iter().flatten() {
        if header.name.eq_ignore_ascii_case("host") {
            spec.host.clone_from(&header.value);
        }
    }
    let seconds = |value: Option<i32>| value.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    if let Some(period) = seconds(probe.period_seconds) {
        spec.interval = Duration::from_secs(period);
    }
    if let Some(timeout) = seconds(probe.timeout_seconds) {
        spec.timeout = Duration::from_secs(timeout);
    }
}

/// Whether a load balancer reaches the pods of a Service directly: unless it says otherwise.
///
/// Source: GKE, annotation `cloud.google.com/neg`.
fn has_neg(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    let text = annotations.and_then(|all| all.get("cloud.google.com/neg"));
    let value = text.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    value.and_then(|value| value.get("ingress")?.as_bool()).unwrap_or(true)
}

/// Source: KEP-3726; GKE, annotation `cloud.google.com/app-protocols`, by the name of the port.
fn protocol(service: &Service, port: &ServicePort) -> BackendProtocol {
    let annotations = service.metadata.annotations.as_ref();
    let text = annotations.and_then(|all| all.get("cloud.google.com/app-protocols"));
    let value = text.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let named = value.as_ref().and_then(|value| {
        value.get(port.name.as_deref().unwrap_or_default())?.as_str().map(str::to_owned)
    });
    match named.as_deref().or(port.app_protocol.as_deref()) {
        Some("HTTP2") => BackendProtocol::Http2,
        Some("HTTPS" | "https" | "kubernetes.io/wss") => BackendProtocol::Https,
        Some("kubernetes.io/h2c" | "grpc" | "h2c") => BackendProtocol::H2c,
        _ => BackendProtocol::Http1,
    }
}
