//! Which places serve a Service.
//!
//! Kubernetes has three ways to say so: a selector of pods, EndpointSlices somebody wrote, and
//! Endpoints somebody wrote. All are read into [`Candidate`]s here, as the controllers beside an
//! API server would do it by way of objects; the objects themselves are made only when somebody
//! asks to see them ([`endpoint_slices`]).

mod gather;
mod places;
mod select;
mod slices;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kswitch_tables::{Endpoint, Protocol};

use crate::{Observed, Pod};

pub(crate) use gather::{Gathering, PortCandidates, gather};
pub(crate) use places::{NOWHERE, NodeIndex, Places, ZoneIndex, number};
pub(crate) use select::{Sources, mirrored_service, selects, service_of};
pub use slices::endpoint_slices;

/// The label by which an EndpointSlice says whose it is.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// One place that may serve a port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Where it answers.
    pub(crate) endpoint: Endpoint,
    /// The node it is on.
    pub(crate) node: NodeIndex,
    /// What state it is in.
    pub(crate) conditions: Conditions,
    /// Who should prefer it, if anybody in particular.
    pub(crate) hints: Option<Box<Hints>>,
}

/// The state of an endpoint.
///
/// Source: `EndpointSlice.endpoints.conditions`; KEP-1672.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// It takes new connections.
    pub(crate) ready: bool,
    /// It answers, whether or not it is going away.
    pub(crate) serving: bool,
    /// It is going away.
    pub(crate) terminating: bool,
}

impl Conditions {
    /// The state of a pod that a Service selects.
    pub(crate) fn of_pod(pod: &Pod, service: &Service, observed: &Observed) -> Self {
        let publishes = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses);
        let serving = observed.is_pod_ready(pod);
        let terminating = pod.is_terminating();
        let ready = publishes == Some(true) || (serving && !terminating);
        Self { ready, serving, terminating }
    }

    /// The state that a slice tells: what is unknown counts as ready.
    pub(crate) fn of_slice(conditions: Option<&discovery::EndpointConditions>) -> Self {
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
        let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
        Self { ready, serving, terminating }
    }

    /// Whether it may stand in where nothing is ready.
    pub(crate) const fn is_fallback(self) -> bool {
        !self.ready && self.serving && self.terminating
    }

    /// Whether flows that have it may keep it.
    pub(crate) const fn is_serving(self) -> bool {
        self.ready || self.serving
    }
}

/// Who should prefer an endpoint. Names of places that the cluster lacks stay, as [`NOWHERE`].
///
/// Source: `EndpointSlice.endpoints.hints`; KEP-2433, KEP-3015.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// Clients on these nodes.
    pub(crate) nodes: Vec<NodeIndex>,
    /// Clients in these zones.
    pub(crate) zones: Vec<ZoneIndex>,
}

impl Hints {
    /// Hints, unless there are none.
    fn boxed(self) -> Option<Box<Self>> {
        let is_empty = self.nodes.is_empty() && self.zones.is_empty();
        (!is_empty).then(|| Box::new(self))
    }
}

/// How far from its clients traffic of a Service may go while something near is ready.
///
/// Source: `ServiceSpec.trafficDistribution`; KEP-4444, KEP-3015.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// Anywhere.
    Anywhere,
    /// To the zone of the client.
    SameZone,
    /// To the node of the client, then to its zone.
    SameNode,
}

impl Distribution {
    /// The wish of a Service.
    pub(crate) fn of(service: &Service) -> Self {
        let wish = service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref());
        match wish {
            Some("PreferClose" | "PreferSameZone") => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            _ => Self::Anywhere,
        }
    }
}

/// The port of `pod` that a port of a Service leads to, host order; `None` if the pod names none so.
///
/// Source: `ServicePort.targetPort`.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target_port {
        None => u16::try_from(port.port).ok(),
        // what was left out is zero in some writers' objects
        Some(IntOrString::Int(0)) => u16::try_from(port.port).ok(),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => {
            pod.named_port(name, port.protocol.as_deref().unwrap_or("TCP"))
        }
    }
}

/// A protocol as Kubernetes writes it; TCP if nothing is written.
pub(crate) fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("" | "TCP") => Some(Protocol::TCP),
        Some("UDP") => Some(Protocol::UDP),
        Some("SCTP") => Some(Protocol::SCTP),
        Some(_) => None,
    }
}

/// Namespace and name of an object.
pub(crate) fn key(service: &Service) -> (&str, &str) {
    let metadata = &service.metadata;
    (
        metadata.namespace.as_deref().unwrap_or("default"),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

/// The families in which a Service has endpoints, IPv4 as `true`: those of its addresses.
///
/// Source: `ServiceSpec.ipFamilies`.
pub(crate) fn families(service: &Service) -> impl Iterator<Item = bool> {
    let families = service.spec.iter().flat_map(|spec| spec.ip_families.iter().flatten());
    families.filter_map(|family| match family.as_str() {
        "IPv4" => Some(true),
        "IPv6" => Some(false),
        _ => None,
    })
}
