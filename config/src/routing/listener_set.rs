//! Listeners that are added to Gateways from beside them.

use std::sync::Arc;

use super::attach::{self, Grants};
use super::condition::condition;
use super::listener::{self, Owner, Prepared};
use crate::Cluster;
use crate::gateway_api::{GROUP, ListenerSet, ListenerSetStatus, ListenerSpec};

/// A ListenerSet of a Gateway that is served.
#[derive(Debug)]
pub(super) struct PreparedSet {
    pub(super) namespace: String,
    pub(super) name: String,
    object: Arc<ListenerSet>,
    /// Whether the Gateway lets it add listeners.
    is_allowed: bool,
}

/// Adds to a Gateway the listeners of those ListenerSets that it allows.
///
/// Source: GEP-1713, "Listener precedence": the Gateway's own come first, then those of the oldest
/// set, then in the order of the alphabet.
pub(super) fn add(cluster: &Cluster, grants: &Grants<'_>, prepared: &mut Prepared) {
    let mut sets: Vec<_> =
        cluster.gateway_api.listener_sets.iter().filter(|set| is_of(set, prepared)).collect();
    sets.sort_by_key(|set| {
        let metadata = &set.metadata;
        let made = metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
        (made.is_none(), made, metadata.namespace.clone(), metadata.name.clone())
    });
    // those that later ones must be told apart from
    let own = prepared.listeners.iter().filter(|listener| !listener.is_in_conflict);
    let mut before: Vec<ListenerSpec> = own.map(|listener| listener.spec.clone()).collect();
    let gateway = Arc::clone(&prepared.object);
    for set in sets {
        let namespace = set.metadata.namespace.clone().unwrap_or_default();
        let allowed = gateway.spec.allowed_listeners.as_ref();
        let rule = allowed.and_then(|allowed| allowed.namespaces.as_ref());
        let is_allowed = attach::are_admitted(
            (rule, "None"),
            &prepared.namespace,
            &namespace,
            &cluster.namespaces,
        );
        let at = prepared.sets.len();
        if is_allowed {
            for spec in &set.spec.listeners {
                let conflict = listener::conflict(before.iter(), spec);
                let owner = Owner {
                    kind: "ListenerSet",
                    namespace: &namespace,
                    generation: set.metadata.generation,
                    gateway: &gateway,
                    set: Some(at),
                };
                let made = listener::listener(cluster, grants, owner, spec, conflict.as_ref());
                if !made.is_in_conflict {
                    before.push(spec.clone());
                }
                prepared.listeners.push(made);
            }
        }
        let name = set.metadata.name.clone().unwrap_or_default();
        prepared.sets.push(PreparedSet { namespace, name, object: Arc::clone(set), is_allowed });
    }
}

/// Whether a ListenerSet names a Gateway.
fn is_of(set: &ListenerSet, prepared: &Prepared) -> bool {
    let parent = &set.spec.parent_ref;
    let own = set.metadata.namespace.as_deref();
    parent.group.as_deref().is_none_or(|group| group == GROUP)
        && parent.kind.as_deref().is_none_or(|kind| kind == "Gateway")
        && parent.name == prepared.name
        && parent.namespace.as_deref().or(own) == Some(prepared.namespace.as_str())
}

/// The ListenerSets of a Gateway with their status, and how many of them have attached.
pub(super) fn with_status(prepared: &Prepared) -> (Vec<Arc<ListenerSet>>, usize) {
    let all: Vec<_> =
        prepared.sets.iter().enumerate().map(|(at, set)| one(prepared, at, set)).collect();
    let attached = all.iter().filter(|(_, is_attached)| *is_attached).count();
    (all.into_iter().map(|(set, _)| Arc::new(set)).collect(), attached)
}

fn one(prepared: &Prepared, at: usize, set: &PreparedSet) -> (ListenerSet, bool) {
    let listeners = prepared.listeners.iter().filter(|listener| listener.set == Some(at));
    let usable = listeners.clone().filter(|listener| listener.is_usable).count();
    let all = set.object.spec.listeners.len();
    let none = "ListenersNotValid";
    let (accepted, programmed, message) = if !set.is_allowed {
        ((false, "NotAllowed"), (false, "NotAllowed"), "the Gateway does not allow it")
    } else if prepared.refused.is_some() {
        ((false, "ParentNotAccepted"), (false, "ParentNotAccepted"), "the Gateway is not accepted")
    } else if usable == 0 {
        ((false, none), (false, none), "no listener can be served")
    } else if usable < all {
        ((true, none), (true, "Programmed"), "some listeners cannot be served")
    } else {
        ((true, "Accepted"), (true, "Programmed"), "")
    };
    let mut object = set.object.as_ref().clone();
    let generation = object.metadata.generation;
    object.status = Some(ListenerSetStatus {
        conditions: vec![
            condition("Accepted", accepted.0, accepted.1, message, generation),
            condition("Programmed", programmed.0, programmed.1, message, generation),
        ],
        listeners: listeners.map(listener::PreparedListener::status).collect(),
    });
    (object, accepted.0)
}
