//! Which node a pod goes to that asks for none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PodSpec, Toleration};

use super::workloads::{Group, Planned};
use crate::cluster::{Node, Taint};
use crate::node_controller::UNREACHABLE;

/// Spreads pods over the nodes that take them: first those of one group, then all.
#[derive(Debug)]
pub(super) struct Scheduler<'n> {
    nodes: &'n [Arc<Node>],
    pods: Vec<usize>,
    by_group: HashMap<Group, Vec<usize>, ahash::RandomState>,
    host_ports: HashSet<(usize, i32, String), ahash::RandomState>,
}

impl<'n> Scheduler<'n> {
    pub(super) fn new(nodes: &'n [Arc<Node>]) -> Self {
        Self {
            nodes,
            pods: vec![0; nodes.len()],
            by_group: HashMap::default(),
            host_ports: HashSet::default(),
        }
    }

    /// Counts a pod that is on a node; answers whether its host ports were free there.
    pub(super) fn put(&mut self, pod: &Planned, node: usize) -> Result<(), i32> {
        if let Some(count) = self.pods.get_mut(node) {
            *count += 1;
        }
        let nodes = self.nodes.len();
        let group = self.by_group.entry(pod.group.clone()).or_insert_with(|| vec![0; nodes]);
        if let Some(count) = group.get_mut(node) {
            *count += 1;
        }
        let mut taken = Ok(());
        for (port, protocol) in pod.spec().into_iter().flat_map(host_ports) {
            if !self.host_ports.insert((node, port, protocol.to_owned())) {
                taken = Err(port);
            }
        }
        taken
    }

    /// The node for a pod.
    ///
    /// # Errors
    /// Why no node takes it.
    pub(super) fn choose(&self, pod: &Planned) -> Result<usize, String> {
        if self.nodes.is_empty() {
            return Err("there is no node".to_owned());
        }
        let empty = PodSpec::default();
        let spec = pod.spec().unwrap_or(&empty);
        let group = self.by_group.get(&pod.group);
        let mut refusals = Vec::new();
        let mut best = None;
        for (index, node) in self.nodes.iter().enumerate() {
            if let Err(reason) = self.takes(spec, index, node) {
                refusals.push(format!("{} {reason}", node.name));
                continue;
            }
            let avoided = node
                .taints
                .iter()
                .any(|taint| taint.effect == "PreferNoSchedule" && !tolerates(spec, taint));
            let count = |counts: &[usize]| counts.get(index).copied().unwrap_or(0);
            let rank = (avoided, group.map_or(0, |group| count(group)), count(&self.pods), index);
            best = best.into_iter().chain([rank]).min();
        }
        best.map(|(.., index)| index).ok_or_else(|| refusals.join(", "))
    }

    fn takes(&self, spec: &PodSpec, index: usize, node: &Node) -> Result<(), String> {
        if !node.ready {
            return Err("is not ready".to_owned());
        }
        if node.unschedulable {
            return Err("is unschedulable".to_owned());
        }
        is_selected(spec, node)?;
        is_tolerated(spec, node)?;
        let mut ports = host_ports(spec);
        let taken = ports.find(|(port, protocol)| {
            self.host_ports.contains(&(index, *port, (*protocol).to_owned()))
        });
        taken.map_or(Ok(()), |(port, _)| Err(format!("has another pod on hostPort {port}")))
    }
}

/// Whether a node gets a DaemonSet's pod, or keeps it: conditions of the node do not matter to it.
pub(super) fn runs_daemon(spec: &PodSpec, node: &Node) -> bool {
    let is_silent = |taint: &Taint| taint.key == UNREACHABLE && taint.effect == "NoSchedule";
    let mut taints = node.taints.iter().filter(|taint| keeps_away(taint) && !is_silent(taint));
    is_selected(spec, node).is_ok() && taints.all(|taint| tolerates(spec, taint))
}

fn is_selected(spec: &PodSpec, node: &Node) -> Result<(), String> {
    let missing = spec
        .node_selector
        .iter()
        .flatten()
        .find(|(key, value)| node.labels().get(key) != Some(value.as_str()));
    missing.map_or(Ok(()), |(key, value)| Err(format!("lacks the label {key}={value}")))
}

fn is_tolerated(spec: &PodSpec, node: &Node) -> Result<(), String> {
    let mut taints = node.taints.iter().filter(|taint| keeps_away(taint));
    let taint = taints.find(|taint| !tolerates(spec, taint));
    taint.map_or(Ok(()), |taint| Err(format!("has the taint {}", taint.key)))
}

fn keeps_away(taint: &Taint) -> bool {
    matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
}

/// Source: Kubernetes `Toleration.ToleratesTaint`.
fn tolerates(spec: &PodSpec, taint: &Taint) -> bool {
    spec.tolerations.iter().flatten().any(|toleration| {
        let Toleration { effect, key, operator, value, toleration_seconds: _ } = toleration;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (effect, key) = (text(effect), text(key));
        let is_effect = effect.is_empty() || effect == taint.effect;
        let is_key = key.is_empty() || key == taint.key;
        let is_value = match operator.as_deref() {
            Some("Exists") => true,
            _ => !key.is_empty() && text(value) == taint.value,
        };
        is_effect && is_key && is_value
    })
}

/// Ports of the node that a pod asks for, with their protocols.
fn host_ports(spec: &PodSpec) -> impl Iterator<Item = (i32, &str)> {
    let is_host = spec.host_network == Some(true);
    spec.containers.iter().flat_map(|at| at.ports.iter().flatten()).filter_map(move |port| {
        let number = match port.host_port {
            Some(number) if number != 0 => number,
            _ if is_host => port.container_port,
            _ => return None,
        };
        Some((number, port.protocol.as_deref().unwrap_or("TCP")))
    })
}
