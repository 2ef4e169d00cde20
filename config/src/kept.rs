//! What a lab has become since its file was read, for a run after this one: written down, read again, and
//! done again on top of the file.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::{Cluster, Node, Pod};
use crate::draft::Draft;
use crate::kind::Kind;
use crate::object::Object;
use crate::settings::Settings;

/// The changes of a running lab, and what it had assigned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Objects that are not as in the file.
    applied: Vec<Value>,
    /// Objects of the file that were removed: kind, namespace, name.
    deleted: Vec<(String, String, String)>,
    /// Pods that workloads make no more: kind, namespace and name of the workload, and numbers.
    replaced: Vec<(String, String, String, BTreeSet<usize>)>,
    /// The settings by which addresses were assigned.
    settings: String,
    nodes: Vec<KeptNode>,
    pods: Vec<KeptPod>,
    services: Vec<Service>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct KeptNode {
    name: String,
    addresses: Vec<IpAddr>,
    pod_ranges: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct KeptPod {
    namespace: String,
    name: String,
    node: usize,
    addresses: Vec<IpAddr>,
    host_network: bool,
}

/// What messages call the place of objects that were applied to a run before this one.
const ORIGIN: &str = "applied before the restart";

impl Kept {
    /// What distinguishes a running lab from its file, as it was read last.
    pub fn of(file: &Draft, draft: &Draft, cluster: &Cluster) -> Self {
        let mut kept = Self { settings: assigned_by(&cluster.settings), ..Self::default() };
        for entry in draft.entries() {
            let before = file.of(entry.object.kind()).get(&entry.key());
            let is_same = before.is_some_and(|before| Arc::ptr_eq(before, entry));
            // what is about to end does not come again
            if !is_same && entry.object.metadata().deletion_timestamp.is_none() {
                kept.applied.extend(entry.object.to_json());
            }
        }
        for entry in file.entries() {
            let (kind, key) = (entry.object.kind(), entry.key());
            let now = draft.of(kind).get(&key);
            if now.is_none_or(|now| now.object.metadata().deletion_timestamp.is_some()) {
                let name = (kind.name().to_owned(), key.namespace.to_owned(), key.name.to_owned());
                kept.deleted.push(name);
            }
        }
        let replaced = draft.replaced.iter();
        kept.replaced = replaced
            .map(|((kind, namespace, name), numbers)| {
                ((*kind).to_owned(), (**namespace).into(), (**name).into(), numbers.clone())
            })
            .collect();
        kept.nodes = cluster.nodes.iter().map(|node| KeptNode::of(node)).collect();
        kept.pods = cluster.pods.iter().map(|pod| KeptPod::of(pod)).collect();
        kept.services = cluster.services.iter().map(|service| Service::clone(service)).collect();
        kept
    }

    /// The draft of the lab, given that of its file: what cannot be applied any more is left out.
    #[must_use]
    pub fn redo(&self, mut draft: Draft) -> Draft {
        let kind_of = |name: &str| Kind::ALL.into_iter().find(|kind| kind.name() == name);
        for (kind, namespace, name) in &self.deleted {
            if let Some(kind) = kind_of(kind) {
                draft.delete(kind, namespace, name);
            }
        }
        for object in &self.applied {
            // the file may have been changed meanwhile: its own errors are told by validation
            let _ = draft.apply(object, ORIGIN);
        }
        let replaced = self.replaced.iter().filter_map(|(kind, namespace, name, numbers)| {
            let kind = kind_of(kind)?.name();
            Some(((kind, namespace.as_str().into(), name.as_str().into()), numbers.clone()))
        });
        draft.replaced = Arc::new(replaced.collect());
        draft
    }

    /// What was assigned, for validation to keep.
    pub fn previous(&self, draft: &Draft) -> Cluster {
        let settings = draft.settings().clone();
        let is_same = self.settings == assigned_by(&settings);
        let services = self.services.iter().filter(|_| is_same);
        Cluster {
            settings,
            nodes: self.nodes.iter().map(KeptNode::node).collect(),
            pods: self.pods.iter().map(KeptPod::pod).collect(),
            services: services.cloned().map(Arc::new).collect(),
            ..Cluster::default()
        }
    }
}

/// The settings that say from where addresses are.
fn assigned_by(settings: &Settings) -> String {
    format!("{:?}", settings.cluster)
}

impl KeptNode {
    fn of(node: &Node) -> Self {
        Self {
            name: node.name.clone(),
            addresses: node.addresses.clone(),
            pod_ranges: node.pod_ranges.clone(),
        }
    }

    fn node(&self) -> Arc<Node> {
        let Self { name, addresses, pod_ranges } = self.clone();
        Arc::new(Node {
            name,
            zone: None,
            addresses,
            pod_ranges,
            taints: Vec::new(),
            ready: true,
            unschedulable: false,
            object: Arc::default(),
        })
    }
}

impl KeptPod {
    fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            node: pod.node,
            addresses: pod.addresses.clone(),
            host_network: pod.host_network,
        }
    }

    fn pod(&self) -> Arc<Pod> {
        let Self { namespace, name, node, addresses, host_network } = self.clone();
        Arc::new(Pod { namespace, name, node, addresses, host_network, object: Arc::default() })
    }
}

impl Object {
    /// As Kubernetes would print it.
    fn to_json(&self) -> Option<Value> {
        macro_rules! any {
            ($($variant:ident)*) => {
                match self {
                    $(Self::$variant(object) => serde_json::to_value(&**object),)*
                }
            };
        }
        let value = any!(Namespace Node Pod Service EndpointSlice Endpoints NetworkPolicy
            ClusterNetworkPolicy Deployment ReplicaSet StatefulSet DaemonSet Ingress IngressClass
            Secret GatewayClass Gateway ListenerSet HttpRoute GrpcRoute TlsRoute TcpRoute UdpRoute
            ReferenceGrant ConfigMap BackendTlsPolicy BackendConfig FrontendConfig GcpBackendPolicy
            GcpGatewayPolicy HealthCheckPolicy SecurityPolicy SslPolicy ManagedCertificate);
        let mut value = value.ok()?;
        let object = value.as_object_mut()?;
        object.insert("apiVersion".into(), self.kind().api_version().into());
        object.insert("kind".into(), self.kind().name().into());
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const LAB: &str = r#"
[lab]
name = "t"
[[node]]
name = "node-a"
[[pod]]
metadata = { name = "first", labels = { app = "web" } }
[[pod]]
metadata = { name = "second", labels = { app = "web" } }
[[service]]
metadata = { name = "web" }
spec = { selector = { app = "web" }, ports = [{ port = 80 }] }
"#;

    const MORE: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: another, labels: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: extra}
spec: {type: NodePort, ports: [{port: 81}]}
";

    fn read() -> Draft {
        Draft::read_text("lab.toml", LAB, Path::new(""))
    }

    fn assigned(cluster: &Cluster) -> Vec<String> {
        let pods = cluster.pods.iter().map(|pod| format!("{} {:?}", pod.name, pod.addresses));
        let spec = |service: &Arc<Service>| serde_json::to_string(&service.spec).unwrap();
        let mut all: Vec<_> = pods.chain(cluster.services.iter().map(spec)).collect();
        all.sort();
        all
    }

    #[test]
    fn what_was_applied_and_deleted_is_so_again_at_the_same_addresses() {
        let file = read();
        let before = file.validate(None).unwrap();
        let mut draft = file.clone();
        draft.delete(Kind::Pod, "default", "first");
        draft.apply_text("more.yaml", MORE).unwrap();
        let cluster = draft.validate(Some(&before)).unwrap();

        let text = serde_json::to_string(&Kept::of(&file, &draft, &cluster)).unwrap();
        let kept: Kept = serde_json::from_str(&text).unwrap();
        let again = kept.redo(read());
        let after = again.validate(Some(&kept.previous(&again))).unwrap();
        assert_eq!(assigned(&after), assigned(&cluster));
        // without what was kept, addresses would be others
        assert_ne!(assigned(&again.validate(None).unwrap()), assigned(&cluster));
    }

    #[test]
    fn a_lab_that_did_not_change_keeps_nothing_but_what_was_assigned() {
        let file = read();
        let cluster = file.validate(None).unwrap();
        let kept = Kept::of(&file, &file, &cluster);
        assert!(kept.applied.is_empty() && kept.deleted.is_empty() && kept.replaced.is_empty());
        assert_eq!(kept.pods.len(), 2);
    }
}
