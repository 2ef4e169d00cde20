//! What policies are called.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kswitch_tables::policy::PolicyId;

use crate::cluster_policy::ClusterNetworkPolicy;
use crate::policy_settings::PolicySettings;

/// A policy, as it was written.
#[derive(Clone, Debug)]
pub enum PolicyObject {
    /// A policy of a namespace.
    Network(Arc<NetworkPolicy>),
    /// A policy of the cluster.
    Cluster(Arc<ClusterNetworkPolicy>),
}

impl PolicyObject {
    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// Its namespace, if it is of one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Network(policy) => policy.metadata.namespace.as_deref(),
            Self::Cluster(_) => None,
        }
    }

    /// Whether it is only watched.
    pub fn is_audited(&self) -> bool {
        let annotations = self.metadata().annotations.as_ref();
        annotations
            .and_then(|all| all.get(PolicySettings::AUDIT))
            .is_some_and(|word| word == "true")
    }

    fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Network(policy) => &policy.metadata,
            Self::Cluster(policy) => &policy.metadata,
        }
    }

    /// Where it is in memory: what tells an object from the one that replaced it.
    pub(super) fn address(&self) -> usize {
        match self {
            Self::Network(policy) => Arc::as_ptr(policy).addr(),
            Self::Cluster(policy) => Arc::as_ptr(policy).addr(),
        }
    }
}

/// `shop/db-ingress`, or the name alone of a policy of the cluster.
impl fmt::Display for PolicyObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = self.namespace() {
            write!(formatter, "{namespace}/")?;
        }
        formatter.write_str(self.name())
    }
}

/// The policies behind the numbers of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct PolicyNames(Vec<Option<PolicyObject>>);

impl PolicyNames {
    pub(super) fn new(policies: impl Iterator<Item = Option<PolicyObject>>) -> Self {
        Self(policies.collect())
    }

    /// The policy of this number.
    pub fn get(&self, id: PolicyId) -> Option<&PolicyObject> {
        self.0.get(id.0 as usize)?.as_ref()
    }
}
