//! DaemonSets: pods change over node by node.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;

use super::{Draft, KeyRef, Look, Rollout, owned, scaled, seconds};

impl Draft {
    /// The next steps of a DaemonSet. Pods on surge are not carried: one node has one pod of it.
    ///
    /// Source: kube-controller-manager, daemon controller, `rollingUpdate`.
    pub(super) fn relieve(
        &mut self,
        object: &DaemonSet,
        rollout: &Arc<Rollout>,
        look: &mut Look<'_>,
    ) -> Rollout {
        let mut next = Rollout::clone(rollout);
        let Some(spec) = &object.spec else { return Rollout::default() };
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        let name = object.metadata.name.clone().unwrap_or_default();
        let strategy = spec.update_strategy.as_ref();
        if strategy.and_then(|it| it.type_.as_deref()) == Some("OnDelete") {
            return next;
        }
        let min_ready = seconds(spec.min_ready_seconds);
        let key = KeyRef { namespace: &namespace, name: &name };
        let pods: Vec<_> = owned(look.cluster, "DaemonSet", key).cloned().collect();
        let is_own = |own: &str| own.rsplit_once('-').is_some_and(|(base, _)| base == name);
        let ending =
            look.cluster.pods.iter().filter(|pod| {
                pod.namespace == namespace && pod.is_terminating() && is_own(&pod.name)
            });
        let ending = ending.count();
        let rolling = strategy.and_then(|it| it.rolling_update.as_ref());
        let most = rolling.and_then(|it| it.max_unavailable.as_ref());
        let most = match most {
            None => 1,
            value => scaled(value, "1", pods.len() + ending, true).max(1),
        };
        let (well, ill): (Vec<_>, Vec<_>) =
            pods.into_iter().partition(|pod| look.is_available(pod, min_ready));
        let mut missing = ill.len() + ending;
        for pod in ill.iter().chain(&well) {
            let is_well = well.iter().any(|own| Arc::ptr_eq(own, pod));
            if is_well && missing >= most {
                break;
            }
            if next.members.remove(&*pod.name).is_some() {
                self.end(pod, look);
                missing += usize::from(is_well);
                look.progress.has_changed = true;
            }
        }
        // nodes may have gone since
        let stays = |own: &str| look.cluster.pod(&namespace, own).is_some();
        next.members.retain(|own, _| stays(own));
        next
    }
}
