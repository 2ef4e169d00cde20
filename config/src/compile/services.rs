//! Which Services have to be compiled again, and what the others became before.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};

use super::changes::{are_same, between, same_ends};
use super::loads::LoadIds;
use super::service::{self, Part};
use super::{Layout, Map};
use crate::dns::ServiceRecords;
use crate::endpoints::{self, Gathering, Sources, gather, key};
use crate::{Cluster, Observed, Pod};

/// What a part follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct State<'c> {
    pub(super) cluster: &'c Cluster,
    pub(super) observed: &'c Observed,
    pub(super) layout: &'c Layout,
    pub(super) seed: u64,
}

/// Every Service of the last state as it was compiled, in order.
#[derive(Debug)]
pub(super) struct Services {
    parts: Arc<[Arc<Part>]>,
    loads: LoadIds,
}

impl Default for Services {
    fn default() -> Self {
        Self { parts: Arc::new([]), loads: LoadIds::default() }
    }
}

/// Numbers that were never given out before.
#[derive(Debug, Default)]
pub(super) struct Labels(u32);

impl Labels {
    /// Another one.
    pub(super) const fn fresh(&mut self) -> u32 {
        let label = self.0;
        self.0 = label.wrapping_add(1);
        label
    }
}

impl Services {
    /// Compiles what has to be, and forgets what is gone.
    pub(super) fn update(
        &mut self,
        state: State<'_>,
        previous: Option<(&Cluster, &Observed)>,
        labels: &mut Labels,
    ) {
        let before = previous.map_or(&[][..], |(before, _)| &before.services);
        let services = &state.cluster.services;
        let touched = previous.and_then(|(before, observed)| touched(state, before, observed));
        let known = Known::new(before, services);
        let old_parts = Arc::clone(&self.parts);
        let is_touched =
            |at: usize| touched.as_ref().is_none_or(|flags| flags.get(at) != Some(&false));
        let to_compile = services.iter().enumerate().filter(|(at, _)| is_touched(*at));
        let to_compile = to_compile.map(|(_, service)| &**service);
        let sources = Sources::new(state.cluster, to_compile);

        self.loads.turn();
        let mut is_kept = vec![false; old_parts.len()];
        let mut parts = Vec::with_capacity(services.len());
        for (at, service) in services.iter().enumerate() {
            let old = known.index(at, service);
            if let Some(kept) = old.and_then(|old| is_kept.get_mut(old)) {
                *kept = true;
            }
            let old = old.and_then(|old| old_parts.get(old));
            parts.push(match old {
                Some(part) if !is_touched(at) => Arc::clone(part),
                _ => self.compile(service, state, &sources, old, labels),
            });
        }
        for (part, _) in old_parts.iter().zip(is_kept).filter(|(_, kept)| !kept) {
            self.loads.reconsider(part.ports.iter().map(|port| port.label));
            self.loads.settle();
        }
        self.parts = parts.into();
    }

    /// The parts of the last state, in the order of its Services.
    pub(super) const fn parts(&self) -> &Arc<[Arc<Part>]> {
        &self.parts
    }

    fn compile(
        &mut self,
        service: &Service,
        state: State<'_>,
        sources: &Sources<'_>,
        old: Option<&Arc<Part>>,
        labels: &mut Labels,
    ) -> Arc<Part> {
        let old_ports = old.map_or(&[][..], |part| &part.ports);
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let ports: Vec<PortLabel> =
            ports.map(|port| PortLabel::new(port, old_ports, labels)).collect();
        let pods = sources.pods(service);
        let (slices, endpoints) = (sources.slices(service), sources.endpoints(service));
        let gathering = Gathering { service, pods: &pods, slices, endpoints };
        let gathered = gather(gathering, &state.layout.places, state.observed);

        self.loads.reconsider(old_ports.iter().map(|port| port.label));
        let mut part = service::compile(service, &gathered, ports, state, &mut self.loads);
        self.loads.settle();
        let records = ServiceRecords::of(gathering, state.observed);
        let same = old.map(|old| &old.records).filter(|old| ***old == records);
        part.records = same.map_or_else(|| Arc::new(records), Arc::clone);
        Arc::new(part)
    }
}

/// A port of a Service and the label of its frontends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortLabel {
    name: String,
    protocol: String,
    /// The label.
    pub(super) label: u32,
}

impl PortLabel {
    /// A port keeps its label for as long as its Service has one of its name and protocol.
    fn new(port: &ServicePort, old: &[Self], labels: &mut Labels) -> Self {
        let name = port.name.clone().unwrap_or_default();
        let protocol = port.protocol.clone().unwrap_or_default();
        let same = old.iter().find(|old| old.name == name && old.protocol == protocol);
        let label = same.map_or_else(|| labels.fresh(), |old| old.label);
        Self { name, protocol, label }
    }
}

/// Which Service of the state before each Service is.
struct Known<'c> {
    /// How many at the start are the same objects.
    start: usize,
    /// From which one on to the end all are the same objects.
    end: usize,
    /// How many more there were before.
    removed: isize,
    /// Those in between, by name.
    between: Map<(&'c str, &'c str), usize>,
}

impl<'c> Known<'c> {
    fn new(before: &'c [Arc<Service>], after: &[Arc<Service>]) -> Self {
        let (start, same_end) = same_ends(before, after);
        let end = before.len() - same_end;
        let between = before.iter().enumerate().take(end).skip(start);
        Self {
            start,
            end: after.len() - same_end,
            removed: before.len().cast_signed() - after.len().cast_signed(),
            between: between.map(|(at, service)| (key(service), at)).collect(),
        }
    }

    /// The index before of the Service that is at `at` now.
    fn index(&self, at: usize, service: &'c Service) -> Option<usize> {
        if at < self.start {
            Some(at)
        } else if at >= self.end {
            at.checked_add_signed(self.removed)
        } else {
            self.between.get(&key(service)).copied()
        }
    }
}

/// Pods and Services that are looked for one by one; if more have changed, everything is done again.
const TOUCHED_MAX: usize = 100;

/// Whether anything that a Service follows from differs from the state before, by index of the
/// Service; `None`: something that all follow from.
fn touched(state: State<'_>, before: &Cluster, observed: &Observed) -> Option<Vec<bool>> {
    let State { cluster, observed: now_observed, .. } = state;
    if before.settings != cluster.settings || !are_same(&before.nodes, &cluster.nodes) {
        return None;
    }
    let (_, services) = between(&before.services, &cluster.services);

    let (old, new) = between(&before.endpoint_slices, &cluster.endpoint_slices);
    let slices = old.into_iter().chain(new).filter_map(|slice| endpoints::service_of(slice));
    let (old, new) = between(&before.endpoints, &cluster.endpoints);
    let mirrored = old.into_iter().chain(new).filter_map(|all| endpoints::mirrored_service(all));
    let written: Map<(&str, &str), ()> = slices.chain(mirrored).map(|name| (name, ())).collect();

    let (old, new) = between(&before.pods, &cluster.pods);
    let mut pods: Vec<&Arc<Pod>> = old.into_iter().chain(new).collect();
    if observed.ready_pods != now_observed.ready_pods {
        let differs =
            |pod: &&Arc<Pod>| observed.is_pod_ready(pod) != now_observed.is_pod_ready(pod);
        pods.extend(cluster.pods.iter().filter(differs));
    }
    if pods.len().max(services.len()) > TOUCHED_MAX {
        return None;
    }
    let is_touched = |service: &Arc<Service>| {
        services.iter().any(|new| Arc::ptr_eq(new, service))
            || (!written.is_empty() && written.contains_key(&key(service)))
            || pods.iter().any(|pod| endpoints::selects(service, pod))
    };
    Some(cluster.services.iter().map(is_touched).collect())
}
