//! Deployments: sets of pods of earlier templates shrink as that of now grows.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;

use super::{Draft, KeyRef, Look, OldSet, Rollout, count, owned, scaled, seconds};
use crate::cluster::Pod;
use crate::labels::matches;
use crate::validate::set_of;

/// A set of pods as it is.
struct Set {
    replicas: usize,
    /// Those that are there, the available ones last.
    pods: Vec<Arc<Pod>>,
    available: usize,
}

impl Draft {
    /// The next steps of a Deployment's rollout.
    ///
    /// Source: kube-controller-manager, deployment controller, `rolloutRolling`, `rolloutRecreate`.
    pub(super) fn roll(
        &mut self,
        object: &Deployment,
        rollout: &Arc<Rollout>,
        look: &mut Look<'_>,
    ) -> Rollout {
        let mut next = Rollout::clone(rollout);
        let Some(spec) = &object.spec else { return Rollout::default() };
        if spec.paused == Some(true) {
            return next;
        }
        let wanted = count(spec.replicas);
        let metadata = &object.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let name = metadata.name.clone().unwrap_or_default();
        let min_ready = seconds(spec.min_ready_seconds);
        let strategy = spec.strategy.as_ref();
        let mut see = |set: Option<String>, replicas: usize| {
            let set = set.unwrap_or_default();
            let key = KeyRef { namespace: &namespace, name: &set };
            let mut pods: Vec<_> = owned(look.cluster, "ReplicaSet", key).cloned().collect();
            pods.reverse();
            // who does not do well goes first, and among others who came last
            pods.sort_by_cached_key(|pod| look.is_available(pod, min_ready));
            let available = pods.iter().filter(|pod| look.is_available(pod, min_ready)).count();
            Set { replicas, pods, available }
        };
        let kind = crate::kind::Kind::Deployment;
        let own = self.of(kind).get(&KeyRef { namespace: &namespace, name: &name });
        let own = own.and_then(|entry| set_of(entry));
        let mut new = see(own, next.limit.unwrap_or(wanted).min(wanted));
        let mut old: Vec<Set> =
            next.sets.iter().map(|set| see(set_of(&set.entry), set.replicas)).collect();

        if strategy.and_then(|it| it.type_.as_deref()) == Some("Recreate") {
            let victims: Vec<_> = old.iter().flat_map(|set| set.pods.clone()).collect();
            for pod in &victims {
                self.end(pod, look);
            }
            next.sets.clear();
            // none may be left, not even one that is about to end
            let is_before = |pod: &&Arc<Pod>| {
                let none = std::collections::BTreeMap::new();
                let labels = pod.object.metadata.labels.as_ref().unwrap_or(&none);
                pod.namespace == namespace
                    && matches(&spec.selector, labels)
                    && !new.pods.iter().any(|own| Arc::ptr_eq(own, pod))
            };
            if !look.cluster.pods.iter().any(|pod| is_before(&pod)) {
                next.limit = None;
            }
            look.progress.has_changed |= !victims.is_empty() || next.limit.is_none();
            return next;
        }
        let rolling = strategy.and_then(|it| it.rolling_update.as_ref());
        let surge = rolling.and_then(|it| it.max_surge.as_ref());
        let surge = scaled(surge, "25%", wanted, true);
        let unavailable = rolling.and_then(|it| it.max_unavailable.as_ref());
        let mut unavailable = scaled(unavailable, "25%", wanted, false);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        let total = |new: &Set, old: &[Set]| {
            new.replicas + old.iter().map(|set| set.replicas).sum::<usize>()
        };
        let room = (wanted + surge).saturating_sub(total(&new, &old));
        let more = room.min(wanted - new.replicas);
        if more > 0 {
            new.replicas += more;
            look.progress.has_changed = true;
        }
        next.limit = Some(new.replicas);

        let least = wanted.saturating_sub(unavailable);
        let coming = new.replicas.saturating_sub(new.available);
        let spare = total(&new, &old).saturating_sub(least + coming);
        let mut left = spare;
        // those that do not do well go without anybody missing them
        for (set, kept) in old.iter_mut().zip(&mut next.sets) {
            let ill = set.replicas.saturating_sub(set.available).min(left);
            left -= ill;
            self.shrink(set, kept, ill, look);
        }
        let available = new.available + old.iter().map(|set| set.available).sum::<usize>();
        let mut left = if spare == 0 { 0 } else { available.saturating_sub(least).min(left) };
        for (set, kept) in old.iter_mut().zip(&mut next.sets) {
            let fewer = set.replicas.min(left);
            left -= fewer;
            self.shrink(set, kept, fewer, look);
        }
        next.sets.retain(|set| set.replicas > 0);
        if next.sets.is_empty() && new.replicas == wanted {
            next.limit = None;
        }
        next
    }

    /// Lets so many pods of a set end.
    fn shrink(&mut self, set: &mut Set, kept: &mut OldSet, fewer: usize, look: &mut Look<'_>) {
        if fewer == 0 {
            return;
        }
        // some may never have come
        let absent = set.replicas.saturating_sub(set.pods.len()).min(fewer);
        let victims: Vec<_> = set.pods.drain(..(fewer - absent).min(set.pods.len())).collect();
        for pod in &victims {
            if let Some(index) = crate::validate::index_of_pod(&kept.entry, &pod.name) {
                kept.replaced.insert(index);
            }
            self.end(pod, look);
        }
        set.replicas -= fewer;
        kept.replicas = set.replicas;
        look.progress.has_changed = true;
    }

    /// Lets a pod end.
    pub(super) fn end(&mut self, pod: &Pod, look: &mut Look<'_>) {
        let ending = self.end_pod(look.cluster, &pod.namespace, &pod.name, None, look.now);
        look.progress.ending.extend(ending);
    }
}
