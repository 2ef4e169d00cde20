//! The pods that are wanted: those written, and those that workloads make.

mod expand;
mod owned;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::schedule;
use crate::cluster::{Cluster, Node};
use crate::draft::{Draft, Entry, Rollout};
use crate::kind::Kind;
use crate::object::Object;
use crate::path::Field;
pub(crate) use expand::{hash_of_template, index_of as index_of_pod, set_of};
use owned::Owned;

/// A pod without a place yet.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) object: Arc<Pod>,
    /// What it was written as, or the workload that makes it.
    pub(super) entry: Arc<Entry>,
    /// Pods of one group are spread over the nodes.
    pub(super) group: Group,
}

/// Pods that do the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Group {
    /// Of one workload: its kind and its place among those of that kind.
    Workload(Kind, usize),
    /// With the same labels.
    Labels(BTreeMap<String, String>),
}

impl Planned {
    /// The way from the object that was written to the pod.
    pub(super) fn base(&self) -> Field {
        match self.entry.object {
            Object::Pod(_) => Field::default(),
            _ => Field::of("spec").key("template"),
        }
    }

    pub(super) fn spec(&self) -> Option<&PodSpec> {
        self.object.spec.as_ref()
    }

    /// The node that it asks for.
    pub(super) fn node_name(&self) -> Option<&str> {
        self.spec()?.node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// The addresses that it asks for, and the way to each.
    pub(super) fn addresses(&self) -> Vec<(Field, IpAddr)> {
        let Some(status) = &self.object.status else { return Vec::new() };
        let field = Field::of("status");
        let list = status.pod_ips.as_deref().unwrap_or(&[]);
        if list.is_empty() {
            let address = status.pod_ip.as_deref().and_then(|text| text.parse().ok());
            return address.map(|address| (field.key("podIP"), address)).into_iter().collect();
        }
        let at = |index| field.clone().key("podIPs").index(index).key("ip");
        let parsed = list.iter().enumerate();
        parsed.filter_map(|(index, text)| Some((at(index), text.ip.parse().ok()?))).collect()
    }

    /// The addresses that it asks for, as a pod with a network of its own.
    pub(super) fn written_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let is_host = self.spec().is_some_and(|spec| spec.host_network == Some(true));
        let addresses = if is_host { Vec::new() } else { self.addresses() };
        addresses.into_iter().map(|(_, address)| address)
    }
}

/// Pods that workloads made, kept for as long as nothing about them changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct MadePods {
    /// By the address of the entry, which is kept so that no other comes to stand there.
    by_workload: HashMap<usize, Made, ahash::RandomState>,
}

#[derive(Clone, Debug)]
struct Made {
    _entry: Arc<Entry>,
    written: usize,
    replaced: BTreeSet<usize>,
    rollout: Option<Arc<Rollout>>,
    pods: Arc<[Arc<Pod>]>,
}

/// The pods that are wanted, but for those of DaemonSets, whose number depends on the nodes.
pub(super) fn pods(draft: &Draft, previous: Option<&Cluster>) -> (Vec<Planned>, MadePods) {
    let mut planned = Vec::new();
    for entry in draft.of(Kind::Pod).values() {
        let Object::Pod(object) = &entry.object else { continue };
        let group = Group::Labels(object.metadata.labels.clone().unwrap_or_default());
        planned.push(Planned { object: object.clone(), entry: entry.clone(), group });
    }
    let owned = Owned::of(draft);
    let mut made = MadePods::default();
    for kind in [Kind::Deployment, Kind::ReplicaSet, Kind::StatefulSet] {
        for (index, entry) in draft.of(kind).values().enumerate() {
            if owned.has_owner(entry) {
                // its owner makes its pods
                continue;
            }
            let address = Arc::as_ptr(entry) as usize;
            let written = owned.pods_of(entry);
            let replaced = draft.replaced(entry);
            let rollout = draft.rollout(entry);
            let before =
                previous.and_then(|cluster| cluster.memory.made_pods.by_workload.get(&address));
            let pods = match before {
                Some(before)
                    if before.written == written
                        && before.replaced == replaced
                        && is_same(before.rollout.as_ref(), rollout) =>
                {
                    before.pods.clone()
                }
                _ => expand::pods(entry, written, &replaced, rollout.map(|rollout| &**rollout))
                    .into_iter()
                    .map(Arc::new)
                    .collect(),
            };
            let group = Group::Workload(kind, index);
            // one that ends under this name comes first
            let now = pods.iter().filter(|pod| !is_ending(draft, pod));
            planned.extend(now.map(|pod| Planned {
                object: pod.clone(),
                entry: entry.clone(),
                group: group.clone(),
            }));
            let (entry, rollout) = (entry.clone(), rollout.cloned());
            made.by_workload
                .insert(address, Made { _entry: entry, written, replaced, rollout, pods });
        }
    }
    (planned, made)
}

fn is_same(before: Option<&Arc<Rollout>>, now: Option<&Arc<Rollout>>) -> bool {
    match (before, now) {
        (None, None) => true,
        (Some(before), Some(now)) => Arc::ptr_eq(before, now),
        _ => false,
    }
}

/// Whether a pod of that name is there and about to end.
fn is_ending(draft: &Draft, pod: &Pod) -> bool {
    let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
    let metadata = &pod.metadata;
    draft.is_ending(&text(&metadata.namespace), &text(&metadata.name))
}

/// The pods of DaemonSets: one on each node that takes them.
pub(super) fn daemons(draft: &Draft, nodes: &[Arc<Node>]) -> Vec<Planned> {
    let mut planned = Vec::new();
    for (index, entry) in draft.of(Kind::DaemonSet).values().enumerate() {
        let Object::DaemonSet(set) = &entry.object else { continue };
        let rollout = draft.rollout(entry);
        for node in nodes {
            let before = rollout.filter(|rollout| !rollout.members.is_empty()).and_then(|it| {
                it.members.get(&*expand::daemon_name(entry.object.name(), &node.name))
            });
            let set = match before.map(|entry| &entry.object) {
                Some(Object::DaemonSet(before)) => before,
                _ => set,
            };
            let pod = expand::daemon(set, &node.name);
            let runs = pod.spec.as_ref().is_none_or(|spec| schedule::runs_daemon(spec, node));
            if runs && !is_ending(draft, &pod) {
                planned.push(Planned {
                    object: Arc::new(pod),
                    entry: entry.clone(),
                    group: Group::Workload(Kind::DaemonSet, index),
                });
            }
        }
    }
    planned
}
