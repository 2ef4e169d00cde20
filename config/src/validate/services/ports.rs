//! Node ports of Services.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{Candidate, called};
use crate::allocate::Ports;
use crate::check::ServiceType;
use crate::draft::Entries;
use crate::error::Findings;
use crate::path::Field;
use crate::settings::ClusterSettings;

/// The node ports that are taken and those that are free.
#[derive(Debug)]
pub(super) struct NodePorts {
    /// With the place of the Service that has it.
    taken: HashMap<u16, usize, ahash::RandomState>,
    free: Ports,
    range: RangeInclusive<u16>,
}

impl NodePorts {
    pub(super) fn new(settings: &ClusterSettings) -> Self {
        let range = settings.node_ports.range.clone();
        Self { taken: HashMap::default(), free: Ports::new(&range), range }
    }

    /// Takes the ports of a Service that is as it was before.
    pub(super) fn register(&mut self, index: usize, service: &Service) {
        for (_, port) in service.spec.iter().flat_map(node_ports) {
            self.take(index, port);
        }
    }

    fn take(&mut self, index: usize, port: u16) {
        self.taken.insert(port, index);
        self.free.reserve(port);
    }

    /// Takes the ports that a Service asks for. Within one Service, protocols share a port.
    pub(super) fn written(
        &mut self,
        candidate: &mut Candidate<'_>,
        entries: &Entries,
        findings: &mut Findings,
    ) {
        let (index, entry) = (candidate.index, candidate.entry);
        for (field, port) in node_ports(candidate.spec()) {
            let mut note = |message: String, help: String| {
                findings.error(field.clone(), message, help).of(entry.called(), &entry.origin);
            };
            if !self.range.contains(&port) {
                let (first, last) = (self.range.start(), self.range.end());
                let message = format!("{port} is not a node port");
                let help = format!(
                    "write a number from {first} to {last}, or change `node-port-range` of [cluster]"
                );
                note(message, help);
            }
            match self.taken.get(&port) {
                Some(other) if *other != index => {
                    let message =
                        format!("{port} is a node port of {} already", called(entries, *other));
                    note(message, "choose another port, or leave it out".to_owned());
                }
                _ => self.take(index, port),
            }
        }
    }

    /// Takes again what a Service had before.
    pub(super) fn keep(&mut self, candidate: &mut Candidate<'_>) {
        let Some(before) = candidate.before.and_then(|before| before.spec.as_ref()) else { return };
        let index = candidate.index;
        let spec = candidate.spec();
        let is_free = |ports: &Self, port: u16| {
            ports.range.contains(&port)
                && ports.taken.get(&port).is_none_or(|other| *other == index)
        };
        if wants_ports(spec) {
            for port in spec.ports.iter_mut().flatten().filter(|port| is_missing(port.node_port)) {
                let same = before.ports.iter().flatten().find(|before| {
                    before.port == port.port
                        && before.protocol == port.protocol
                        && !is_missing(before.node_port)
                });
                let kept = same.and_then(|same| u16::try_from(same.node_port?).ok());
                if let Some(kept) = kept.filter(|kept| is_free(self, *kept)) {
                    self.take(index, kept);
                    port.node_port = Some(kept.into());
                }
            }
        }
        if wants_health_check(spec) && is_missing(spec.health_check_node_port) {
            let kept = before.health_check_node_port.and_then(|port| u16::try_from(port).ok());
            if let Some(kept) = kept.filter(|kept| *kept != 0 && is_free(self, *kept)) {
                self.take(index, kept);
                spec.health_check_node_port = Some(kept.into());
            }
        }
    }

    /// Takes what is still missing. Ports of one number but several protocols get the same.
    pub(super) fn allocate(&mut self, candidate: &mut Candidate<'_>, findings: &mut Findings) {
        let (index, entry) = (candidate.index, candidate.entry);
        let mut note = |field: Field| {
            let message = "no node port is left for the Service";
            let help = "choose a larger `node-port-range` in [cluster]";
            findings.error(field, message, help).of(entry.called(), &entry.origin);
        };
        let spec = candidate.spec();
        if wants_ports(spec) {
            let mut by_port: HashMap<i32, i32> = HashMap::new();
            for port in spec.ports.iter().flatten().filter(|port| !is_missing(port.node_port)) {
                by_port.entry(port.port).or_insert(port.node_port.unwrap_or_default());
            }
            for (at, port) in spec.ports.iter_mut().flatten().enumerate() {
                if !is_missing(port.node_port) {
                    continue;
                }
                let shared = by_port.get(&port.port).copied();
                let Some(number) = shared.or_else(|| self.next(index)) else {
                    note(Field::of("spec").key("ports").index(at).key("nodePort"));
                    return;
                };
                by_port.insert(port.port, number);
                port.node_port = Some(number);
            }
        }
        if wants_health_check(spec) && is_missing(spec.health_check_node_port) {
            spec.health_check_node_port = self.next(index);
            if spec.health_check_node_port.is_none() {
                note(Field::of("spec").key("healthCheckNodePort"));
            }
        }
    }

    fn next(&mut self, index: usize) -> Option<i32> {
        let port = self.free.take()?;
        self.taken.insert(port, index);
        Some(port.into())
    }
}

fn is_missing(port: Option<i32>) -> bool {
    port.is_none_or(|port| port == 0)
}

/// Source: Kubernetes `shouldAllocateNodePorts`.
fn wants_ports(spec: &ServiceSpec) -> bool {
    match ServiceType::of(spec) {
        ServiceType::NodePort => true,
        ServiceType::LoadBalancer => spec.allocate_load_balancer_node_ports != Some(false),
        ServiceType::ClusterIp | ServiceType::ExternalName => false,
    }
}

/// Source: Kubernetes `NeedsHealthCheck`.
fn wants_health_check(spec: &ServiceSpec) -> bool {
    ServiceType::of(spec) == ServiceType::LoadBalancer
        && spec.external_traffic_policy.as_deref() == Some("Local")
}

/// The node ports that a Service names, and the way to each.
fn node_ports(spec: &ServiceSpec) -> Vec<(Field, u16)> {
    let field = Field::of("spec");
    let number =
        |port: Option<i32>| port.and_then(|port| u16::try_from(port).ok()).filter(|at| *at != 0);
    let ports = spec.ports.iter().flatten().enumerate();
    let ports = ports.filter_map(|(index, port)| {
        let at = || field.clone().key("ports").index(index).key("nodePort");
        number(port.node_port).map(|number| (at(), number))
    });
    let health = number(spec.health_check_node_port);
    let health = health.map(|number| (field.clone().key("healthCheckNodePort"), number));
    ports.chain(health).collect()
}
