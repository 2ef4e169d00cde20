//! StatefulSets: members come and go in order, and change over from the last to the first.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};

use super::{Draft, Look, Rollout, count, seconds};
use crate::cluster::Pod;
use crate::draft::Entry;
use crate::object::Object;

/// Whether members wait for each other.
///
/// Source: `StatefulSetSpec.podManagementPolicy`.
pub(super) fn is_ordered(object: &StatefulSet) -> bool {
    let spec = object.spec.as_ref();
    spec.and_then(|spec| spec.pod_management_policy.as_deref()) != Some("Parallel")
}

/// Whether the members of a StatefulSet run programs.
pub(super) fn has_programs(entry: &Entry) -> bool {
    let Object::StatefulSet(object) = &entry.object else { return false };
    let pod = object.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let mut containers = pod.into_iter().flat_map(|pod| &pod.containers);
    containers.any(|it| it.command.as_ref().is_some_and(|command| !command.is_empty()))
}

/// Whether a member that ends comes again by the template that it had: those below the partition do.
///
/// Source: `RollingUpdateStatefulSetStrategy.partition`.
pub(super) fn keeps_template(entry: &Entry, pod: &str) -> bool {
    let Object::StatefulSet(object) = &entry.object else { return false };
    let Some(spec) = &object.spec else { return false };
    let ordinal = pod.rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse::<usize>().ok());
    ordinal.is_some_and(|ordinal| ordinal < partition(spec))
}

fn partition(spec: &StatefulSetSpec) -> usize {
    let strategy = spec.update_strategy.as_ref().and_then(|it| it.rolling_update.as_ref());
    let partition = strategy.and_then(|it| it.partition).unwrap_or(0);
    usize::try_from(partition).unwrap_or(0)
}

impl Draft {
    /// The next steps of a StatefulSet.
    ///
    /// Source: kube-controller-manager, statefulset controller, `updateStatefulSet`.
    pub(super) fn march(
        &mut self,
        object: &StatefulSet,
        rollout: &Arc<Rollout>,
        look: &mut Look<'_>,
    ) -> Rollout {
        let mut next = Rollout::clone(rollout);
        let Some(spec) = &object.spec else { return Rollout::default() };
        let wanted = count(spec.replicas);
        let metadata = &object.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let name = metadata.name.clone().unwrap_or_default();
        let start = count(spec.ordinals.as_ref().and_then(|it| it.start).or(Some(0)));
        let min_ready = seconds(spec.min_ready_seconds);
        let mut have = next.limit.unwrap_or(wanted);
        let cluster = look.cluster;
        let pod = |ordinal: usize| cluster.pod(&namespace, &format!("{name}-{ordinal}"));
        // members beyond the last are about to end: others wait until they have
        let is_beyond = |it: &Arc<Pod>| {
            let ordinal = it.name.strip_prefix(&name).and_then(|rest| rest.strip_prefix('-'));
            let ordinal = ordinal.and_then(|ordinal| ordinal.parse::<usize>().ok());
            it.namespace == namespace
                && it.is_terminating()
                && ordinal.is_some_and(|ordinal| ordinal >= start + have)
        };
        let do_well = |ordinals: std::ops::Range<usize>, look: &mut Look<'_>| {
            ordinals.into_iter().all(|ordinal| {
                let own = pod(ordinal).filter(|pod| !pod.is_terminating());
                own.is_some_and(|pod| look.is_available(pod, min_ready))
            })
        };
        let waits = cluster.pods.iter().any(is_beyond);
        let is_settled = !waits && do_well(start..start + have, look);
        if have < wanted && is_settled {
            have += 1;
            look.progress.has_changed = true;
        } else if have > wanted && !waits && do_well(start..start + have - 1, look) {
            have -= 1;
            if let Some(last) = pod(start + have).cloned() {
                self.end(&last, look);
            }
            next.members.remove(&*format!("{name}-{}", start + have));
            look.progress.has_changed = true;
        }
        next.limit = (have != wanted).then_some(have);
        let strategy = spec.update_strategy.as_ref().and_then(|it| it.type_.as_deref());
        if strategy == Some("OnDelete") {
            return next;
        }
        for ordinal in (partition(spec).max(start)..start + have).rev() {
            let own = format!("{name}-{ordinal}");
            let there = pod(ordinal);
            if next.members.contains_key(&*own) {
                if let Some(old) = there.filter(|pod| !pod.is_terminating()).cloned() {
                    self.end(&old, look);
                }
                next.members.remove(&*own);
                look.progress.has_changed = true;
                break;
            }
            let does_well = there
                .filter(|pod| !pod.is_terminating())
                .is_some_and(|pod| look.is_available(pod, min_ready));
            if !does_well {
                break;
            }
        }
        next
    }
}
