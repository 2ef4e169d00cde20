//! Workloads on the way from what they said to what they say: pods of earlier templates go, pods of
//! the template of now come, as far as the workload's strategy has it.
//!
//! [`Draft::begin_rollouts`] notes what was when a workload changes; [`Draft::roll_on`] takes the next
//! steps that the pods as they are allow. Both only change the draft.

mod daemons;
mod deployment;
mod members;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Draft, Ending, Entry, KeyRef};
use crate::cluster::{Cluster, Pod};
use crate::kind::Kind;
use crate::object::Object;
use crate::validate::{hash_of_template, index_of_pod};

/// Whose: kind, namespace and name.
type Owner = (&'static str, Box<str>, Box<str>);

/// Rollouts under way, by whose they are.
pub(crate) type Rollouts = BTreeMap<Owner, Arc<Rollout>>;

/// Kinds whose pods change over one after another.
const KINDS: [Kind; 3] = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];

/// How far a workload is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rollout {
    /// The workload as it is to be.
    of: Option<Arc<Entry>>,
    /// Pods that there are to be by the template of now, or, of a StatefulSet, at all; `None`: as many
    /// as are wanted.
    pub(crate) limit: Option<usize>,
    /// Of a Deployment: what it made by earlier templates, the oldest first.
    pub(crate) sets: Vec<OldSet>,
    /// Of others: the pods of earlier templates by name, each with the workload as it was.
    pub(crate) members: BTreeMap<Box<str>, Arc<Entry>>,
}

/// What a Deployment makes by an earlier template.
#[derive(Clone, Debug)]
pub(crate) struct OldSet {
    /// The Deployment as it was.
    pub(crate) entry: Arc<Entry>,
    /// Pods that there still are to be.
    pub(crate) replicas: usize,
    /// Numbers of pods that are made no more.
    pub(crate) replaced: BTreeSet<usize>,
}

impl Rollout {
    fn is_over(&self) -> bool {
        self.limit.is_none() && self.sets.is_empty() && self.members.is_empty()
    }
}

/// How a pod does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It has been ready for long enough.
    Available,
    /// It is ready, and has to be for so much longer.
    In(Duration),
    /// It is not ready.
    Not,
}

/// What came of a look at the workloads.
#[derive(Debug, Default)]
pub struct Progress {
    /// Whether the draft is another now.
    pub has_changed: bool,
    /// Pods that are to end.
    pub ending: Vec<Ending>,
    /// When to look again, if not before because a pod does otherwise.
    pub again: Option<Duration>,
}

/// A look at the workloads.
struct Look<'l> {
    cluster: &'l Cluster,
    how: &'l dyn Fn(&Pod, Duration) -> Availability,
    /// The time, as in RFC 3339.
    now: &'l str,
    progress: Progress,
}

impl Look<'_> {
    /// Whether a pod counts as available.
    fn is_available(&mut self, pod: &Pod, min_ready: Duration) -> bool {
        match (self.how)(pod, min_ready) {
            Availability::Available => true,
            Availability::Not => false,
            Availability::In(time) => {
                let again = self.progress.again.map_or(time, |again| again.min(time));
                self.progress.again = Some(again);
                false
            }
        }
    }
}

impl Draft {
    /// Whether any workload is on the way.
    pub fn has_rollouts(&self) -> bool {
        !self.rollouts.is_empty()
    }

    /// Notes how workloads were that are others now than in `before`, which had become `cluster`: their
    /// pods do not change at once.
    pub fn begin_rollouts(&mut self, before: &Self, cluster: &Cluster) {
        for kind in KINDS {
            for entry in self.of(kind).values().cloned().collect::<Vec<_>>() {
                match before.of(kind).get(&entry.key()) {
                    Some(old) if Arc::ptr_eq(old, &entry) => {}
                    Some(old) => self.begin(&entry, old, cluster),
                    None => self.begin_in_order(&entry, 0),
                }
            }
        }
        if self.has_rollouts() {
            let kinds = |name: &str| KINDS.into_iter().find(|kind| kind.name() == name);
            let gone: Vec<Owner> = { self.rollouts.keys() }
                .filter(|(kind, namespace, name)| {
                    let key = KeyRef { namespace, name };
                    kinds(kind).is_none_or(|kind| !self.of(kind).contains_key(&key))
                })
                .cloned()
                .collect();
            for owner in gone {
                Arc::make_mut(&mut self.rollouts).remove(&owner);
            }
        }
    }

    /// Has the members of StatefulSets come one after another where that makes a difference: where they
    /// run programs, which take their time.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        if self.settings.lab.run_commands && !self.is_broken {
            for entry in self.of(Kind::StatefulSet).values().cloned().collect::<Vec<_>>() {
                if members::has_programs(&entry) {
                    self.begin_in_order(&entry, 1);
                }
            }
        }
        self
    }

    /// Takes the next steps of all rollouts. `how` tells how a pod does that has to be ready for so
    /// long, `now` the time, as in RFC 3339.
    pub fn roll_on(
        &mut self,
        cluster: &Cluster,
        how: &dyn Fn(&Pod, Duration) -> Availability,
        now: &str,
    ) -> Progress {
        let mut look = Look { cluster, how, now, progress: Progress::default() };
        for (owner, rollout) in Arc::clone(&self.rollouts).iter() {
            let (kind, namespace, name) = owner;
            let key = KeyRef { namespace, name };
            let kind = KINDS.into_iter().find(|known| known.name() == *kind);
            let entry = kind.and_then(|kind| self.of(kind).get(&key)).cloned();
            let next = match entry.as_deref().map(|entry| &entry.object) {
                Some(Object::Deployment(object)) => self.roll(object, rollout, &mut look),
                Some(Object::StatefulSet(object)) => self.march(object, rollout, &mut look),
                Some(Object::DaemonSet(object)) => self.relieve(object, rollout, &mut look),
                _ => Rollout::default(),
            };
            let rollouts = Arc::make_mut(&mut self.rollouts);
            if next.is_over() {
                rollouts.remove(owner);
                look.progress.has_changed = true;
            } else if look.progress.has_changed {
                rollouts.insert(owner.clone(), Arc::new(next));
            }
        }
        look.progress
    }

    /// How far a workload is.
    pub(crate) fn rollout(&self, entry: &Entry) -> Option<&Arc<Rollout>> {
        if self.rollouts.is_empty() {
            return None;
        }
        self.rollouts.get(&owner(entry))
    }

    fn begin(&mut self, entry: &Arc<Entry>, old: &Arc<Entry>, cluster: &Cluster) {
        let owner = owner(entry);
        let (hash, old_hash) = (hash_of_template(entry), hash_of_template(old));
        let mut rollout =
            self.rollouts.get(&owner).map(|at| Rollout::clone(at)).unwrap_or_default();
        if rollout.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, entry)) {
            // it was begun already
            return;
        }
        rollout.of = Some(Arc::clone(entry));
        let is_other = hash != old_hash;
        match (&entry.object, &old.object) {
            (Object::Deployment(_), Object::Deployment(object)) if is_other => {
                let wanted = count(object.spec.as_ref().and_then(|spec| spec.replicas));
                let replicas = rollout.limit.map_or(wanted, |limit| limit.min(wanted));
                let replaced = Arc::make_mut(&mut self.replaced).remove(&owner).unwrap_or_default();
                rollout.sets.push(OldSet { entry: Arc::clone(old), replicas, replaced });
                // what was before may be what is wanted again
                let same = |set: &OldSet| hash_of_template(&set.entry) == hash;
                let again = rollout.sets.iter().position(same).map(|at| rollout.sets.remove(at));
                rollout.limit = Some(again.as_ref().map_or(0, |set| set.replicas));
                if let Some(set) = again {
                    Arc::make_mut(&mut self.replaced).insert(owner.clone(), set.replaced);
                }
                rollout.sets.retain(|set| set.replicas > 0);
            }
            (Object::StatefulSet(object), Object::StatefulSet(old_object)) => {
                if is_other {
                    rollout.note_members(Kind::StatefulSet, old, cluster);
                    rollout.members.retain(|_, entry| hash_of_template(entry) != hash);
                }
                let is = count(object.spec.as_ref().and_then(|spec| spec.replicas));
                let was = count(old_object.spec.as_ref().and_then(|spec| spec.replicas));
                if is != was && members::is_ordered(object) {
                    rollout.limit.get_or_insert(was);
                }
            }
            (Object::DaemonSet(_), Object::DaemonSet(_)) if is_other => {
                rollout.note_members(Kind::DaemonSet, old, cluster);
                rollout.members.retain(|_, entry| hash_of_template(entry) != hash);
            }
            _ => return,
        }
        if rollout.is_over() {
            Arc::make_mut(&mut self.rollouts).remove(&owner);
        } else {
            Arc::make_mut(&mut self.rollouts).insert(owner, Arc::new(rollout));
        }
    }

    /// Lets the members of a StatefulSet come one after another, from so many on.
    fn begin_in_order(&mut self, entry: &Arc<Entry>, from: usize) {
        let Object::StatefulSet(object) = &entry.object else { return };
        let wanted = count(object.spec.as_ref().and_then(|spec| spec.replicas));
        if members::is_ordered(object) && wanted > from {
            let rollout = Rollout { limit: Some(from), ..Rollout::default() };
            Arc::make_mut(&mut self.rollouts).insert(owner(entry), Arc::new(rollout));
        }
    }

    /// What makes a pod by an earlier template, by place among those, and its number there.
    fn old_maker_of(&self, namespace: &str, pod: &str) -> Option<(Owner, usize, usize)> {
        self.rollouts.iter().filter(|((_, own, _), _)| **own == *namespace).find_map(
            |(owner, rollout)| {
                let mut sets = rollout.sets.iter().enumerate();
                let (at, index) =
                    sets.find_map(|(at, set)| Some((at, index_of_pod(&set.entry, pod)?)))?;
                Some((owner.clone(), at, index))
            },
        )
    }

    /// Takes note that a pod of an earlier template ends: another number takes its place, or, where
    /// there is but one of its name, one of the template of now.
    pub(super) fn forget_member(&mut self, pod: &Pod) {
        if self.rollouts.is_empty() {
            return;
        }
        if let Some((owner, at, index)) = self.old_maker_of(&pod.namespace, &pod.name) {
            if let Some(rollout) = Arc::make_mut(&mut self.rollouts).get_mut(&owner)
                && let Some(set) = Arc::make_mut(rollout).sets.get_mut(at)
            {
                set.replaced.insert(index);
            }
            return;
        }
        let owners = pod.object.metadata.owner_references.iter().flatten();
        for reference in owners.filter(|it| it.controller == Some(true)) {
            let Some(kind) = KINDS.into_iter().find(|kind| kind.name() == reference.kind) else {
                continue;
            };
            let key = KeyRef { namespace: &pod.namespace, name: &reference.name };
            let Some(entry) = self.of(kind).get(&key).cloned() else { continue };
            if members::keeps_template(&entry, &pod.name) {
                continue;
            }
            if let Some(rollout) = Arc::make_mut(&mut self.rollouts).get_mut(&owner(&entry)) {
                Arc::make_mut(rollout).members.remove(&*pod.name);
            }
        }
    }
}

impl Rollout {
    /// Notes that the pods that a workload has now are as it was, unless they are older still.
    fn note_members(&mut self, kind: Kind, old: &Arc<Entry>, cluster: &Cluster) {
        for pod in owned(cluster, kind.name(), old.key()) {
            let name: Box<str> = pod.name.as_str().into();
            self.members.entry(name).or_insert_with(|| Arc::clone(old));
        }
    }
}

fn owner(entry: &Entry) -> Owner {
    let KeyRef { namespace, name } = entry.key();
    (entry.object.kind().name(), namespace.into(), name.into())
}

/// The pods that an object controls and that do not end.
fn owned<'c>(
    cluster: &'c Cluster,
    kind: &'c str,
    key: KeyRef<'c>,
) -> impl Iterator<Item = &'c Arc<Pod>> {
    cluster.pods.iter().filter(move |pod| {
        let mut owners = pod.object.metadata.owner_references.iter().flatten();
        pod.namespace == key.namespace
            && !pod.is_terminating()
            && owners
                .any(|it| it.controller == Some(true) && it.kind == kind && it.name == key.name)
    })
}

fn count(replicas: Option<i32>) -> usize {
    usize::try_from(replicas.unwrap_or(1)).unwrap_or(0)
}

fn seconds(seconds: Option<i32>) -> Duration {
    Duration::from_secs(seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0))
}

/// A number of pods, or a share of so many.
///
/// Source: Kubernetes `GetScaledValueFromIntOrPercent`.
fn scaled(value: Option<&IntOrString>, default: &str, of: usize, rounds_up: bool) -> usize {
    let share = |text: &str| {
        let percent = text.trim_end_matches('%').parse::<usize>().unwrap_or(0);
        let parts = percent.saturating_mul(of);
        if rounds_up { parts.div_ceil(100) } else { parts / 100 }
    };
    match value {
        Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(0),
        Some(IntOrString::String(text)) => share(text),
        None => share(default),
    }
}
