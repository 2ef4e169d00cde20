//! What a client may want of the lab's life.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is to befall pods, nodes or what makes pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verb {
    /// A pod ends in peace; what made it makes another.
    DeletePod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// How long it may take, seconds; `None`: as long as it says.
        grace_seconds: Option<u64>,
    },
    /// A workload makes another number of pods.
    Scale {
        /// Which.
        workload: WorkloadName,
        /// How many.
        replicas: i32,
    },
    /// A workload makes its pods anew.
    Restart {
        /// Which.
        workload: WorkloadName,
    },
    /// New pods stay away from a node, or no longer.
    Cordon {
        /// Which.
        node: String,
        /// Whether they do.
        is_closed: bool,
    },
    /// New pods stay away from a node, and those on it end in peace; but those of DaemonSets.
    Drain {
        /// Which.
        node: String,
        /// How long they may take, seconds; `None`: as long as they say.
        grace_seconds: Option<u64>,
    },
    /// An object gets other labels.
    Label {
        /// Which: any kind.
        object: WorkloadName,
        /// Each label, and what it is to be; `None` to remove it.
        labels: Vec<(String, Option<String>)>,
    },
    /// A node hears of changes of Services and endpoints later.
    Lag {
        /// Which.
        node: String,
        /// How much later, as in `500ms`; `None`: at once.
        lag: Option<String>,
    },
    /// A node is switched off, on, or taken away.
    Node {
        /// Which.
        node: String,
        /// What is to befall it.
        power: Power,
    },
}

/// What is to befall a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "power", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Power {
    /// It is switched off: what runs on it ends at once, and nothing gets to it.
    Down {
        /// Until that is noticed, milliseconds; `None`: as the lab has it.
        grace_millis: Option<u64>,
        /// From then until its pods end that say nothing else, milliseconds; `None`: as the lab has
        /// it.
        toleration_millis: Option<u64>,
    },
    /// It is switched on.
    Up,
    /// It is gone for good, and what was on it.
    Gone,
}

/// A workload, as `deployment/web`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadName {
    /// Its kind, as people write it.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl WorkloadName {
    /// The workload that `text` names in a namespace.
    ///
    /// # Errors
    /// It names none.
    pub fn parse(text: &str, namespace: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((kind, name)) if !name.is_empty() && !name.contains('/') => Ok(Self {
                kind: kind.to_lowercase(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(format!("{text}: expected a workload, as in deployment/web")),
        }
    }

    /// Its kind; `None` where there is none of that name.
    pub fn kind(&self) -> Option<kswitch_config::Kind> {
        use kswitch_config::Kind;
        Some(match self.kind.as_str() {
            "deployment" | "deployments" | "deploy" => Kind::Deployment,
            "replicaset" | "replicasets" | "rs" => Kind::ReplicaSet,
            "statefulset" | "statefulsets" | "sts" => Kind::StatefulSet,
            "daemonset" | "daemonsets" | "ds" => Kind::DaemonSet,
            _ => return None,
        })
    }
}

impl WorkloadName {
    /// Its kind, of all there are; `None` where there is none of that name.
    pub fn any_kind(&self) -> Option<kswitch_config::Kind> {
        use kswitch_config::Kind;
        let short = match self.kind.as_str() {
            "po" | "pods" => Some(Kind::Pod),
            "no" | "nodes" => Some(Kind::Node),
            "ns" | "namespaces" => Some(Kind::Namespace),
            "svc" | "services" => Some(Kind::Service),
            "netpol" | "networkpolicies" => Some(Kind::NetworkPolicy),
            _ => self.kind(),
        };
        short.or_else(|| {
            Kind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(&self.kind))
        })
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}
