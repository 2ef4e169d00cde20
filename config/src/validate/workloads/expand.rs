//! From workloads to the pods their controllers would make.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::draft::Entry;
use crate::identity::{generated_name, template_hash, uid};
use crate::kind::Kind;
use crate::node_controller::UNREACHABLE;
use crate::object::Object;

/// Source: Kubernetes `DefaultDeploymentUniqueLabelKey`.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Source: Kubernetes `ControllerRevisionHashLabelKey`.
const REVISION_HASH: &str = "controller-revision-hash";
/// Source: Kubernetes `StatefulSetPodNameLabel`.
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// Source: Kubernetes `PodIndexLabel`.
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// Numbers of pods that are tried to find one by its name.
const NUMBERS: usize = 10_000;

/// The number of the pod that a Deployment or ReplicaSet would make under this name.
pub(crate) fn index_of(entry: &Entry, pod: &str) -> Option<usize> {
    let name = entry.object.name();
    let set = match &entry.object {
        Object::Deployment(object) => {
            format!("{name}-{}", hash_of(&object.spec.as_ref()?.template))
        }
        Object::ReplicaSet(_) => name.to_owned(),
        _ => return None,
    };
    if !pod.starts_with(name) {
        return None;
    }
    (0..NUMBERS).find(|at| generated_name(&set, *at) == pod)
}

/// The pods of a Deployment, ReplicaSet or StatefulSet of which so many were written already;
/// those of these numbers were replaced.
pub(super) fn pods(entry: &Entry, written: usize, replaced: &BTreeSet<usize>) -> Vec<Pod> {
    let metadata = entry.object.metadata();
    let name = entry.object.name();
    let rest = |replicas: Option<i32>| {
        usize::try_from(replicas.unwrap_or(1)).unwrap_or(0).saturating_sub(written)
    };
    let numbers = |count: usize| (0..).filter(|at| !replaced.contains(at)).take(count);
    match &entry.object {
        Object::Deployment(object) => {
            let Some(spec) = &object.spec else { return Vec::new() };
            let hash = hash_of(&spec.template);
            let set = format!("{name}-{hash}");
            let maker = Maker::new(Kind::ReplicaSet, metadata, &set, &spec.template);
            let maker = maker.labelled(TEMPLATE_HASH, &hash);
            numbers(rest(spec.replicas)).map(|at| maker.pod(generated_name(&set, at))).collect()
        }
        Object::ReplicaSet(object) => {
            let Some(spec) = &object.spec else { return Vec::new() };
            let template = spec.template.clone().unwrap_or_default();
            let maker = Maker::new(Kind::ReplicaSet, metadata, name, &template);
            numbers(rest(spec.replicas)).map(|at| maker.pod(generated_name(name, at))).collect()
        }
        Object::StatefulSet(object) => {
            let Some(spec) = &object.spec else { return Vec::new() };
            let hash = format!("{name}-{}", hash_of(&spec.template));
            let maker = Maker::new(Kind::StatefulSet, metadata, name, &spec.template);
            let maker = maker.labelled(REVISION_HASH, &hash);
            let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
            let replicas = i32::try_from(rest(spec.replicas)).unwrap_or(0);
            let ordinals = start..start.saturating_add(replicas);
            let member = |ordinal: i32| {
                let pod_name = format!("{name}-{ordinal}");
                let mut pod = maker.pod(pod_name.clone());
                let labels = pod.metadata.labels.get_or_insert_default();
                labels.insert(POD_NAME.to_owned(), pod_name.clone());
                labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
                let pod_spec = pod.spec.get_or_insert_default();
                pod_spec.hostname.get_or_insert(pod_name);
                if pod_spec.subdomain.is_none() {
                    pod_spec.subdomain.clone_from(&spec.service_name);
                }
                pod
            };
            ordinals.map(member).collect()
        }
        _ => Vec::new(),
    }
}

/// The pod of a DaemonSet on a node.
pub(super) fn daemon(set: &DaemonSet, node: &str) -> Pod {
    let name = set.metadata.name.as_deref().unwrap_or("");
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let hash = hash_of(&template);
    let maker = Maker::new(Kind::DaemonSet, &set.metadata, name, &template);
    // one node has one pod of it: the node's name stands for the index
    let suffix = generated_name(&format!("{name}/{node}"), 0);
    let suffix = suffix.rsplit_once('-').map_or("", |(_, suffix)| suffix);
    let mut pod = maker.labelled(REVISION_HASH, &hash).pod(format!("{name}-{suffix}"));
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in DAEMONS_TOLERATE {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    pod
}

/// What does not keep the pods of DaemonSets away.
///
/// Source: DaemonSet controller, `AddOrUpdateDaemonPodTolerations`.
const DAEMONS_TOLERATE: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    (UNREACHABLE, "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

fn hash_of(template: &PodTemplateSpec) -> String {
    template_hash(&serde_json::to_vec(template).unwrap_or_default())
}

/// What the pods of one workload have in common.
struct Maker {
    pod: Pod,
}

impl Maker {
    fn new(kind: Kind, owner: &ObjectMeta, name: &str, template: &PodTemplateSpec) -> Self {
        let namespace = owner.namespace.clone();
        let metadata = template.metadata.clone().unwrap_or_default();
        let reference = OwnerReference {
            api_version: kind.api_version().to_owned(),
            kind: kind.name().to_owned(),
            name: name.to_owned(),
            uid: uid(kind.name(), namespace.as_deref().unwrap_or(""), name),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        let metadata = ObjectMeta {
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            namespace,
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        };
        Self { pod: Pod { metadata, spec: template.spec.clone(), status: None } }
    }

    fn labelled(mut self, key: &str, value: &str) -> Self {
        let labels: &mut BTreeMap<_, _> = self.pod.metadata.labels.get_or_insert_default();
        labels.insert(key.to_owned(), value.to_owned());
        self
    }

    fn pod(&self, name: String) -> Pod {
        let mut pod = self.pod.clone();
        pod.metadata.generate_name = name.rsplit_once('-').map(|(base, _)| format!("{base}-"));
        pod.metadata.name = Some(name);
        pod
    }
}
