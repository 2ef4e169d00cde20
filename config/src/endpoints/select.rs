//! What belongs to which Service.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{SERVICE_NAME, key};
use crate::compile::Map;
use crate::{Cluster, Pod};

/// The selector of a Service, unless it leaves its endpoints to others.
///
/// Source: `ServiceSpec.selector`.
fn selector(service: &Service) -> Option<impl Iterator<Item = (&str, &str)> + Clone> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let labels = spec.selector.as_ref().filter(|labels| !labels.is_empty())?;
    Some(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

/// Whether a Service has a selector.
pub(super) fn has_selector(service: &Service) -> bool {
    selector(service).is_some()
}

/// Whether a Service selects a pod. Pods without an address or at their end never are.
pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let (namespace, _) = key(service);
    let matches = |mut labels: Option<_>| match &mut labels {
        Some(labels) => all_match(pod, labels),
        None => false,
    };
    pod.namespace == namespace && matches(selector(service)) && is_alive(pod)
}

fn all_match<'s>(pod: &Pod, mut labels: impl Iterator<Item = (&'s str, &'s str)>) -> bool {
    let have = pod.labels();
    labels.all(|(key, value)| have.get(key) == Some(value))
}

fn is_alive(pod: &Pod) -> bool {
    !pod.addresses.is_empty() && !pod.is_finished()
}

/// What some Services are served by.
///
/// **Cost** of making one: one pass over pods and written objects, however many Services ask.
#[derive(Debug)]
pub(crate) struct Sources<'c> {
    pods: &'c [Arc<Pod>],
    /// Indices of pods by namespace and label, for labels that are asked for.
    by_label: Map<(&'c str, &'c str, &'c str), Vec<u32>>,
    /// What was written, by namespace and name of the Service.
    written: Map<(&'c str, &'c str), Written<'c>>,
}

/// What was written for one Service.
#[derive(Debug, Default)]
struct Written<'c> {
    slices: Vec<&'c Arc<EndpointSlice>>,
    endpoints: Option<&'c Arc<Endpoints>>,
}

impl<'c> Sources<'c> {
    /// What these Services of a cluster are served by.
    pub(crate) fn new(
        cluster: &'c Cluster,
        services: impl Iterator<Item = &'c Service> + Clone,
    ) -> Self {
        let mut by_label: Map<_, Vec<u32>> = Map::default();
        for service in services.clone() {
            let (namespace, _) = key(service);
            let labels = selector(service).into_iter().flatten();
            by_label.extend(labels.map(|(key, value)| ((namespace, key, value), Vec::new())));
        }
        if !by_label.is_empty() {
            for (at, pod) in (0..).zip(&cluster.pods) {
                for (key, value) in pod.labels().iter() {
                    if let Some(pods) = by_label.get_mut(&(pod.namespace.as_str(), key, value)) {
                        pods.push(at);
                    }
                }
            }
        }
        let mut written: Map<_, Written<'c>> =
            services.map(|service| (key(service), Written::default())).collect();
        for slice in &cluster.endpoint_slices {
            if let Some(of) = service_of(slice).and_then(|key| written.get_mut(&key)) {
                of.slices.push(slice);
            }
        }
        for endpoints in &cluster.endpoints {
            if let Some(of) = mirrored_service(endpoints).and_then(|key| written.get_mut(&key)) {
                of.endpoints = Some(endpoints);
            }
        }
        Self { pods: &cluster.pods, by_label, written }
    }

    /// The pods that a Service selects.
    pub(crate) fn pods(&self, service: &Service) -> Vec<Arc<Pod>> {
        let Some(labels) = selector(service) else { return Vec::new() };
        let (namespace, _) = key(service);
        let with_label = |(key, value)| self.by_label.get(&(namespace, key, value));
        let lists = labels.clone().map(|label| with_label(label).map_or(&[][..], Vec::as_slice));
        // any label will do to start with; the rarest has the fewest pods to look at
        let rarest = lists.min_by_key(|pods| pods.len()).unwrap_or_default();
        let pods = rarest.iter().filter_map(|at| self.pods.get(*at as usize));
        pods.filter(|pod| all_match(pod, labels.clone()) && is_alive(pod)).cloned().collect()
    }

    /// The slices that were written for a Service.
    pub(crate) fn slices<'s>(&'s self, service: &'s Service) -> &'s [&'s Arc<EndpointSlice>] {
        self.written.get(&key(service)).map_or(&[], |written| &written.slices)
    }

    /// The Endpoints that are mirrored for a Service: for those with a selector there are none.
    pub(crate) fn endpoints<'s>(&'s self, service: &'s Service) -> Option<&'s Arc<Endpoints>> {
        let written = self.written.get(&key(service)).filter(|_| selector(service).is_none())?;
        written.endpoints
    }
}

/// Namespace and name of the Service that a slice is of.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<(&str, &str)> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some((slice.metadata.namespace.as_deref().unwrap_or("default"), name))
}

/// Namespace and name of the Service whose slices mirror these Endpoints.
///
/// Source: KEP-0752, on mirroring.
pub(crate) fn mirrored_service(endpoints: &Endpoints) -> Option<(&str, &str)> {
    const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
    const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
    let metadata = &endpoints.metadata;
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(SKIP));
    let is_lock = metadata.annotations.as_ref().is_some_and(|all| all.contains_key(LEADER));
    if is_lock || label.is_some_and(|value| value == "true") {
        return None;
    }
    Some((metadata.namespace.as_deref().unwrap_or("default"), metadata.name.as_deref()?))
}
