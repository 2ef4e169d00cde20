//! From workloads to the pods their controllers would make.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::draft::{Entry, Rollout};
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

/// What makes the pods of a Deployment or ReplicaSet, by name; `None` for other kinds.
pub(crate) fn set_of(entry: &Entry) -> Option<String> {
    let name = entry.object.name();
    match &entry.object {
        Object::Deployment(object) => {
            Some(format!("{name}-{}", hash_of(&object.spec.as_ref()?.template)))
        }
        Object::ReplicaSet(_) => Some(name.to_owned()),
        _ => None,
    }
}

/// The number of the pod that a Deployment or ReplicaSet would make under this name.
pub(crate) fn index_of(entry: &Entry, pod: &str) -> Option<usize> {
    if !pod.starts_with(entry.object.name()) {
        return None;
    }
    let set = set_of(entry)?;
    let base = |name: &str| name.rsplit_once('-').map(|(base, _)| base.to_owned());
    if base(pod) != base(&generated_name(&set, 0)) {
        return None;
    }
    (0..NUMBERS).find(|at| generated_name(&set, *at) == pod)
}

/// The hash of the template by which a workload makes pods.
pub(crate) fn hash_of_template(entry: &Entry) -> Option<String> {
    let template = match &entry.object {
        Object::Deployment(object) => &object.spec.as_ref()?.template,
        Object::StatefulSet(object) => &object.spec.as_ref()?.template,
        Object::DaemonSet(object) => &object.spec.as_ref()?.template,
        _ => return None,
    };
    Some(hash_of(template))
}

/// The pods of a Deployment, ReplicaSet or StatefulSet of which so many were written already;
/// those of these numbers were replaced, and so far is the rollout under way, if there is one.
pub(super) fn pods(
    entry: &Entry,
    written: usize,
    replaced: &BTreeSet<usize>,
    rollout: Option<&Rollout>,
) -> Vec<Pod> {
    let rest = |replicas: Option<i32>| {
        let wanted = usize::try_from(replicas.unwrap_or(1)).unwrap_or(0);
        let limit = rollout.and_then(|rollout| rollout.limit).unwrap_or(usize::MAX);
        wanted.saturating_sub(written).min(limit)
    };
    match &entry.object {
        Object::Deployment(object) => {
            let Some(spec) = &object.spec else { return Vec::new() };
            let sets = rollout.map_or(&[][..], |rollout| &rollout.sets);
            let before =
                sets.iter().flat_map(|set| pods_of_set(&set.entry, set.replicas, &set.replaced));
            let now = pods_of_set(entry, rest(spec.replicas), replaced);
            before.chain(now).collect()
        }
        Object::ReplicaSet(object) => {
            let Some(spec) = &object.spec else { return Vec::new() };
            pods_of_set(entry, rest(spec.replicas), replaced)
        }
        Object::StatefulSet(object) => {
            let Some(spec) = &object.spec else { return Vec::new() };
            let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
            // those beyond the limit may be more than are wanted, while there are to be fewer
            let count = match rollout.and_then(|rollout| rollout.limit) {
                Some(limit) => limit.saturating_sub(written),
                None => rest(spec.replicas),
            };
            let count = i32::try_from(count).unwrap_or(0);
            let name = entry.object.name();
            let own = Members::new(entry, spec);
            let member = |ordinal: i32| {
                let before = rollout.and_then(|it| it.members.get(&*format!("{name}-{ordinal}")));
                let Some(Object::StatefulSet(before)) = before.map(|entry| &entry.object) else {
                    return own.member(ordinal);
                };
                let spec = before.spec.as_ref().unwrap_or(spec);
                Members::new(entry, spec).member(ordinal)
            };
            (start..start.saturating_add(count)).map(member).collect()
        }
        _ => Vec::new(),
    }
}

/// So many pods as a Deployment or ReplicaSet makes them, but for those of these numbers.
fn pods_of_set(entry: &Entry, count: usize, replaced: &BTreeSet<usize>) -> Vec<Pod> {
    let metadata = entry.object.metadata();
    let name = entry.object.name();
    let numbers = (0..).filter(|at| !replaced.contains(at)).take(count);
    match &entry.object {
        Object::Deployment(object) => {
            let Some(spec) = &object.spec else { return Vec::new() };
            let hash = hash_of(&spec.template);
            let set = format!("{name}-{hash}");
            let maker = Maker::new(Kind::ReplicaSet, metadata, &set, &spec.template);
            let maker = maker.labelled(TEMPLATE_HASH, &hash);
            numbers.map(|at| maker.pod(generated_name(&set, at))).collect()
        }
        Object::ReplicaSet(object) => {
            let Some(spec) = &object.spec else { return Vec::new() };
            let template = spec.template.clone().unwrap_or_default();
            let maker = Maker::new(Kind::ReplicaSet, metadata, name, &template);
            numbers.map(|at| maker.pod(generated_name(name, at))).collect()
        }
        _ => Vec::new(),
    }
}

/// What makes the members of a StatefulSet by one template.
struct Members<'e> {
    name: &'e str,
    spec: &'e StatefulSetSpec,
    maker: Maker,
}

impl<'e> Members<'e> {
    fn new(entry: &'e Entry, spec: &'e StatefulSetSpec) -> Self {
        let name = entry.object.name();
        let hash = format!("{name}-{}", hash_of(&spec.template));
        let metadata = entry.object.metadata();
        let maker = Maker::new(Kind::StatefulSet, metadata, name, &spec.template);
        Self { name, spec, maker: maker.labelled(REVISION_HASH, &hash) }
    }

    fn member(&self, ordinal: i32) -> Pod {
        let pod_name = format!("{}-{ordinal}", self.name);
        let mut pod = self.maker.pod(pod_name.clone());
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(POD_NAME.to_owned(), pod_name.clone());
        labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
        let pod_spec = pod.spec.get_or_insert_default();
        pod_spec.hostname.get_or_insert(pod_name);
        if pod_spec.subdomain.is_none() {
            pod_spec.subdomain.clone_from(&self.spec.service_name);
        }
        pod
    }
}

/// The name of the pod that a DaemonSet has on a node: the node's name stands for the index.
pub(crate) fn daemon_name(set: &str, node: &str) -> String {
    let suffix = generated_name(&format!("{set}/{node}"), 0);
    format!("{set}-{}", suffix.rsplit_once('-').map_or("", |(_, suffix)| suffix))
}

/// The pod of a DaemonSet on a node.
pub(super) fn daemon(set: &DaemonSet, node: &str) -> Pod {
    let name = set.metadata.name.as_deref().unwrap_or("");
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let hash = hash_of(&template);
    let maker = Maker::new(Kind::DaemonSet, &set.metadata, name, &template);
    let mut pod = maker.labelled(REVISION_HASH, &hash).pod(daemon_name(name, node));
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
