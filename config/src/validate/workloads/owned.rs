//! Pods that were written although a workload makes them, as in what `kubectl get all` prints.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::draft::{Draft, Entry, KeyRef};
use crate::kind::Kind;
use crate::object::Object;

/// Who owns how many of the written pods.
#[derive(Debug)]
pub(super) struct Owned<'d> {
    draft: &'d Draft,
    /// By namespace, kind and name of the owner.
    pods: HashMap<(&'d str, &'d str, &'d str), usize, ahash::RandomState>,
}

impl<'d> Owned<'d> {
    pub(super) fn of(draft: &'d Draft) -> Self {
        let mut pods = HashMap::default();
        for entry in draft.of(Kind::Pod).values() {
            let metadata = entry.object.metadata();
            if let Some(owner) = owner(metadata) {
                let namespace = entry.object.namespace();
                *pods.entry((namespace, owner.kind.as_str(), owner.name.as_str())).or_default() +=
                    1;
            }
        }
        Self { draft, pods }
    }

    /// Whether a workload belongs to another one that is there.
    pub(super) fn has_owner(&self, entry: &Entry) -> bool {
        owner(entry.object.metadata()).is_some_and(|owner| {
            let key = KeyRef { namespace: entry.object.namespace(), name: &owner.name };
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == owner.kind);
            kind.is_some_and(|kind| self.draft.of(kind).contains_key(&key))
        })
    }

    /// How many of a workload's pods were written.
    pub(super) fn pods_of(&self, entry: &Entry) -> usize {
        if self.pods.is_empty() {
            return 0;
        }
        let namespace = entry.object.namespace();
        let count = |kind: Kind, name| {
            self.pods.get(&(namespace, kind.name(), name)).copied().unwrap_or_default()
        };
        let direct = count(entry.object.kind(), entry.object.name());
        let Object::Deployment(_) = &entry.object else { return direct };
        let sets = self.draft.of(Kind::ReplicaSet).values();
        let own = sets.filter(|set| {
            set.object.namespace() == namespace
                && owner(set.object.metadata()).is_some_and(|owner| {
                    owner.kind == Kind::Deployment.name() && owner.name == entry.object.name()
                })
        });
        direct + own.map(|set| count(Kind::ReplicaSet, set.object.name())).sum::<usize>()
    }
}

fn owner(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}
