//! `ClusterNetworkPolicy`: the policies of those who run a cluster.
//!
//! Kubernetes has them as a custom resource, which no crate of types carries.
//! Source: policy.networking.k8s.io/v1alpha2, `ClusterNetworkPolicy`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};

/// A policy for any pods of the cluster, before or after what their namespaces say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicy {
    /// Always [`ClusterNetworkPolicy::API_VERSION`](k8s_openapi::Resource::API_VERSION).
    pub api_version: String,
    /// Always `ClusterNetworkPolicy`.
    pub kind: String,
    /// Its name, labels and annotations; it is in no namespace.
    pub metadata: ObjectMeta,
    /// What it says.
    pub spec: ClusterNetworkPolicySpec,
    /// What has become of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ClusterNetworkPolicyStatus>,
}

impl Default for ClusterNetworkPolicy {
    fn default() -> Self {
        Self {
            api_version: <Self as k8s_openapi::Resource>::API_VERSION.into(),
            kind: <Self as k8s_openapi::Resource>::KIND.into(),
            metadata: ObjectMeta::default(),
            spec: ClusterNetworkPolicySpec::default(),
            status: None,
        }
    }
}

impl k8s_openapi::Resource for ClusterNetworkPolicy {
    const API_VERSION: &'static str = "policy.networking.k8s.io/v1alpha2";
    const GROUP: &'static str = "policy.networking.k8s.io";
    const KIND: &'static str = "ClusterNetworkPolicy";
    const VERSION: &'static str = "v1alpha2";
    const URL_PATH_SEGMENT: &'static str = "clusternetworkpolicies";
    type Scope = k8s_openapi::ClusterResourceScope;
}

impl k8s_openapi::Metadata for ClusterNetworkPolicy {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What a [`ClusterNetworkPolicy`] says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicySpec {
    /// `Admin` or `Baseline`.
    pub tier: String,
    /// 0 to 1000; within a tier the lowest is asked first. Required.
    pub priority: Option<i32>,
    /// Whom it is about.
    pub subject: Subject,
    /// Rules about what they are sent, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<IngressRule>,
    /// Rules about what they send, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressRule>,
}

/// What has become of a [`ClusterNetworkPolicy`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicyStatus {
    /// What its implementation says of it.
    pub conditions: Vec<Condition>,
}

/// Whom a policy is about: exactly one of these. Pods in their node's network never are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subject {
    /// All pods of these namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Some pods of some namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
}

/// Some pods of some namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespacedPods {
    /// The namespaces; empty: all.
    pub namespace_selector: LabelSelector,
    /// The pods in them; empty: all.
    pub pod_selector: LabelSelector,
}

/// A rule about what pods are sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressRule {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `Accept`, `Deny` or `Pass`.
    pub action: String,
    /// Senders, any of which it matches.
    pub from: Vec<IngressPeer>,
    /// Protocols and ports, any of which it matches; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<PolicyProtocol>>,
}

/// A rule about what pods send.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EgressRule {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `Accept`, `Deny` or `Pass`.
    pub action: String,
    /// Receivers, any of which it matches.
    pub to: Vec<EgressPeer>,
    /// Protocols and ports, any of which it matches; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<PolicyProtocol>>,
}

/// Senders: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressPeer {
    /// All pods of these namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Some pods of some namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
}

/// Receivers: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EgressPeer {
    /// All pods of these namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Some pods of some namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
    /// The addresses of these nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<LabelSelector>,
    /// CIDRs; pods and nodes with such an address are among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// Names of hosts. Not resolved here: they match nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_names: Option<Vec<String>>,
}

/// A protocol and its ports: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyProtocol {
    /// TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<ProtocolPorts>,
    /// UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<ProtocolPorts>,
    /// SCTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp: Option<ProtocolPorts>,
    /// A port that a container of the target names, whatever its protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_named_port: Option<String>,
}

/// Ports of one protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProtocolPorts {
    /// Ports of the target; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<PolicyPort>,
}

/// A port or a range of them: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyPort {
    /// The port, host order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i32>,
    /// The ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<PolicyPortRange>,
}

/// Ports from the first to the last, host order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyPortRange {
    /// The first.
    pub start: i32,
    /// The last; greater than the first.
    pub end: i32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_read_is_written_again() {
        let object = json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2",
            "kind": "ClusterNetworkPolicy",
            "metadata": { "name": "no-metadata-server" },
            "spec": {
                "tier": "Admin",
                "priority": 10,
                "subject": { "namespaces": {} },
                "ingress": [{
                    "action": "Pass",
                    "from": [{ "pods": { "namespaceSelector": {}, "podSelector": {} } }],
                }],
                "egress": [{
                    "name": "metadata",
                    "action": "Deny",
                    "to": [{ "networks": ["169.254.169.254/32"] }, { "nodes": {} }],
                    "protocols": [
                        { "tcp": { "destinationPort": { "number": 80 } } },
                        { "udp": { "destinationPort": { "range": { "start": 1, "end": 9 } } } },
                        { "destinationNamedPort": "web" },
                    ],
                }],
            },
        });
        let policy: ClusterNetworkPolicy = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(policy.spec.egress[0].to[1].nodes, Some(LabelSelector::default()));
        assert_eq!(serde_json::to_value(&policy).unwrap(), object);
    }
}
