//! Workloads that change over, step by step, as their pods come up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kswitch_config::{Availability, Cluster, Observed, Pod, Workload};

use super::answer::Office;
use super::lifecycle;
use super::request::Response;

/// Steps taken in one go at most.
const STEPS_MAX: usize = 1_000;

/// Since when pods are ready, where it matters to somebody.
#[derive(Debug, Default)]
pub(super) struct Since {
    /// `None`: for as long as anybody remembers.
    by_pod: BTreeMap<(String, String), Option<Instant>>,
    is_kept: bool,
}

impl Since {
    /// Takes note of which pods are ready.
    pub(super) fn note(&mut self, cluster: &Cluster, observed: &Observed) {
        if !cluster.workloads.iter().any(has_to_be_ready_for_long) {
            *self = Self::default();
            return;
        }
        // those that were there before anybody asked have been ready for long
        let now = self.is_kept.then(Instant::now);
        let ready = cluster.pods.iter().filter(|pod| observed.is_pod_ready(pod)).map(|pod| {
            let key = (pod.namespace.clone(), pod.name.clone());
            let since = self.by_pod.get(&key).copied().unwrap_or(now);
            (key, since)
        });
        self.by_pod = ready.collect();
        self.is_kept = true;
    }

    /// How a pod does that has to be ready for so long.
    pub(super) fn how(&self, pod: &Pod, observed: &Observed, long: Duration) -> Availability {
        if !observed.is_pod_ready(pod) {
            return Availability::Not;
        }
        let key = (pod.namespace.clone(), pod.name.clone());
        match self.by_pod.get(&key) {
            Some(Some(since)) => match long.saturating_sub(since.elapsed()) {
                Duration::ZERO => Availability::Available,
                rest => Availability::In(rest),
            },
            _ => Availability::Available,
        }
    }
}

fn has_to_be_ready_for_long(workload: &Workload) -> bool {
    let seconds = match workload {
        Workload::Deployment(it) => it.spec.as_ref().and_then(|spec| spec.min_ready_seconds),
        Workload::StatefulSet(it) => it.spec.as_ref().and_then(|spec| spec.min_ready_seconds),
        Workload::DaemonSet(it) => it.spec.as_ref().and_then(|spec| spec.min_ready_seconds),
        Workload::ReplicaSet(_) => None,
    };
    seconds.is_some_and(|seconds| seconds > 0)
}

impl Office {
    /// Takes the steps of rollouts that the pods as they are allow. Nobody else may change the lab
    /// meanwhile: the caller has its turn. Answers what was told.
    pub(super) fn roll_on(&self) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..STEPS_MAX {
            let (draft, before, progress) = {
                let desk = self.desk();
                if !desk.draft.has_rollouts() {
                    break;
                }
                let Some(running) = &desk.running else { break };
                let mut draft = desk.draft.clone();
                let how =
                    |pod: &Pod, long: Duration| running.since.how(pod, &running.observed, long);
                let progress = draft.roll_on(&running.cluster, &how, &lifecycle::now());
                (draft, Arc::clone(&running.cluster), progress)
            };
            if !progress.has_changed {
                break;
            }
            let (mut draft, mut ending) = (draft, progress.ending);
            match draft.validate(Some(&before)) {
                Ok(after) => ending.extend(draft.end_missing(&before, &after, &lifecycle::now())),
                Err(errors) => {
                    tracing::error!("a rollout cannot go on: {errors}");
                    break;
                }
            }
            if let Response::Failed { message, .. } = self.become_draft(draft) {
                tracing::error!("a rollout cannot go on: {message}");
                break;
            }
            told.extend(ending.iter().map(|pod| format!("pod/{} terminating", pod.name)));
            self.end_later(ending);
        }
        told
    }

    /// Looks whether rollouts can go on.
    pub(super) fn look_after_rollouts(&self) {
        if self.desk().draft.has_rollouts() {
            let _turn = self.turn();
            self.roll_on();
        }
    }
}
