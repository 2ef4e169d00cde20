//! Selectors as keys: who is meant by a policy, and by the peers of its rules.

use std::hash::{Hash, Hasher};

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::cluster_policy::{EgressPeer, IngressPeer, NamespacedPods, Subject};

/// A selector of labels that can be looked up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Selector(pub(super) LabelSelector);

impl Eq for Selector {}

impl Hash for Selector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let LabelSelector { match_expressions, match_labels } = &self.0;
        match_labels.hash(state);
        for expression in match_expressions.iter().flatten() {
            (&expression.key, &expression.operator, &expression.values).hash(state);
        }
    }
}

/// Machines that are selected together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Selection {
    /// Pods of one namespace.
    Own { namespace: String, pods: Selector },
    /// Pods of some namespaces.
    Pods { namespaces: Selector, pods: Selector },
    /// Nodes.
    Nodes(Selector),
}

impl Selection {
    /// The pods that a `NetworkPolicy` is about.
    pub(super) fn own(namespace: &str, pods: Option<&LabelSelector>) -> Self {
        let pods = Selector(pods.cloned().unwrap_or_default());
        Self::Own { namespace: namespace.to_owned(), pods }
    }

    /// The pods that a peer of a `NetworkPolicy` in `namespace` is; `None` if it is a block.
    ///
    /// Both selectors together are one clause. Without one of namespaces the policy's own is meant,
    /// without one of pods all of them are.
    ///
    /// Source: `NetworkPolicyPeer.podSelector`, `NetworkPolicyPeer.namespaceSelector`.
    pub(super) fn of_peer(namespace: &str, peer: &NetworkPolicyPeer) -> Option<Self> {
        match (&peer.namespace_selector, &peer.pod_selector) {
            (None, None) => None,
            (None, Some(pods)) => Some(Self::own(namespace, Some(pods))),
            (Some(namespaces), pods) => Some(Self::Pods {
                namespaces: Selector(namespaces.clone()),
                pods: Selector(pods.clone().unwrap_or_default()),
            }),
        }
    }

    /// The pods that a `ClusterNetworkPolicy` is about.
    pub(super) fn of_subject(subject: &Subject) -> Option<Self> {
        Self::of_pods(subject.namespaces.as_ref(), subject.pods.as_ref())
    }

    /// The senders that a peer of a `ClusterNetworkPolicy` is.
    pub(super) fn of_ingress_peer(peer: &IngressPeer) -> Option<Self> {
        Self::of_pods(peer.namespaces.as_ref(), peer.pods.as_ref())
    }

    /// The receivers that a peer of a `ClusterNetworkPolicy` is, other than by address.
    pub(super) fn of_egress_peer(peer: &EgressPeer) -> Option<Self> {
        let nodes = || Some(Self::Nodes(Selector(peer.nodes.clone()?)));
        Self::of_pods(peer.namespaces.as_ref(), peer.pods.as_ref()).or_else(nodes)
    }

    fn of_pods(namespaces: Option<&LabelSelector>, pods: Option<&NamespacedPods>) -> Option<Self> {
        let (namespaces, pods) = match (namespaces, pods) {
            (Some(namespaces), _) => (namespaces, &LabelSelector::default()),
            (None, Some(pods)) => (&pods.namespace_selector, &pods.pod_selector),
            (None, None) => return None,
        };
        let (namespaces, pods) = (Selector(namespaces.clone()), Selector(pods.clone()));
        Some(Self::Pods { namespaces, pods })
    }
}
