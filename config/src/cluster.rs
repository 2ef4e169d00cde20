//! The validated desired state of a lab.
//!
//! Kubernetes objects stay Kubernetes objects, completed with what an API server and the controllers
//! beside it would have filled in. Objects are shared, so that the next state costs only what changed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Endpoints, Node as NodeObject, Pod as PodObject, PodCondition,
    Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::cluster_policy::ClusterNetworkPolicy;
use crate::error::Problem;
use crate::interface::Interface;
use crate::link::FaultyLink;
use crate::routing::{GatewayObjects, IngressObjects};
use crate::settings::Settings;
use crate::syntax;
use crate::validate::MadePods;

/// A lab in which every rule holds.
///
/// **Sharing**: never changed; the next state is another `Cluster`.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// What lab.toml says beside its objects.
    pub settings: Settings,
    /// Labels of the namespaces, `kubernetes.io/metadata.name` among them.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The nodes, in the order they were written.
    pub nodes: Vec<Arc<Node>>,
    /// The pods, those of workloads among them.
    pub pods: Vec<Arc<Pod>>,
    /// The Services with cluster IPs, families, node ports and load balancer status filled in.
    pub services: Vec<Arc<Service>>,
    /// The slices that were written; those that follow from selectors are not here.
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
    /// The Endpoints that were written.
    pub endpoints: Vec<Arc<Endpoints>>,
    /// The policies that were written.
    pub network_policies: Vec<Arc<NetworkPolicy>>,
    /// The policies of the cluster that were written.
    pub cluster_network_policies: Vec<Arc<ClusterNetworkPolicy>>,
    /// The workloads as they were written; their pods are in [`Cluster::pods`].
    pub workloads: Vec<Workload>,
    /// Ingresses, and what they refer to.
    pub ingress: IngressObjects,
    /// The objects of the Gateway API.
    pub gateway_api: GatewayObjects,
    /// Load balancers in front of the nodes; each is one of [`Cluster::externals`] too.
    pub proxies: Vec<Proxy>,
    /// What checks nodes for network load balancers, where there are any; one of
    /// [`Cluster::externals`] too.
    pub prober: Option<Prober>,
    /// Hosts outside the cluster.
    pub externals: Vec<External>,
    /// What is wrong with links on purpose.
    pub links: Vec<FaultyLink>,
    /// Pods that no node takes.
    pub pending: Vec<Arc<PodObject>>,
    /// What was ignored or looks dangerous.
    pub warnings: Vec<Problem>,
    /// What the next validation compares with.
    pub(crate) memory: Memory,
}

/// The objects from which a cluster was made, to know the next time what has not changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// As wanted, in the order of [`Cluster::pods`].
    pub(crate) pods: Vec<Arc<PodObject>>,
    /// As wanted, in the order of [`Cluster::services`].
    pub(crate) services: Vec<Arc<Service>>,
    pub(crate) made_pods: MadePods,
}

impl Cluster {
    /// The index of a node, by name. **Cost**: linear in the nodes.
    pub fn node_index(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// A node, by name. **Cost**: linear in the nodes.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// A pod, by namespace and name. **Cost**: linear in the pods.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.iter().find(|pod| pod.name == name && pod.namespace == namespace)
    }

    /// A Service, by namespace and name. **Cost**: linear in the Services.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| {
            service.metadata.name.as_deref() == Some(name)
                && service.metadata.namespace.as_deref() == Some(namespace)
        })
    }
}

/// The label that names the zone of a node.
///
/// Source: Kubernetes well-known label `topology.kubernetes.io/zone`.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The label that names the region of a node.
///
/// Source: Kubernetes well-known label `topology.kubernetes.io/region`.
pub const REGION_LABEL: &str = "topology.kubernetes.io/region";

/// A machine of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name, a DNS label.
    pub name: String,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Its addresses, preferred first; at least one for each family of the cluster.
    pub addresses: Vec<IpAddr>,
    /// Where the addresses of its pods come from; the first address of each is the gateway's.
    pub pod_ranges: Vec<IpNet>,
    /// What keeps pods away.
    pub taints: Vec<Taint>,
    /// Condition `Ready`; true if nothing is said.
    pub ready: bool,
    /// Whether new pods stay away.
    pub unschedulable: bool,
    /// The Kubernetes object, complete.
    pub object: Arc<NodeObject>,
}

impl Node {
    /// Its labels.
    pub fn labels(&self) -> Labels<'_> {
        Labels(self.object.metadata.labels.as_ref())
    }

    /// The annotation that says how long after a change of Services and endpoints the node hears of it.
    pub const ENDPOINT_LAG_ANNOTATION: &str = "kswitch/endpoint-lag";

    /// How long after a change of Services and endpoints the node goes by it; no time if that cannot
    /// be read.
    pub fn endpoint_lag(&self) -> Duration {
        let annotations = self.object.metadata.annotations.as_ref();
        let text = annotations.and_then(|all| all.get(Self::ENDPOINT_LAG_ANNOTATION));
        text.and_then(|text| syntax::duration(text).ok()).unwrap_or_default()
    }

    /// The taint of a node that is about to go.
    ///
    /// Source: KEP-3836.
    pub const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

    /// Whether it is about to go, and wants no new flows.
    pub fn is_leaving(&self) -> bool {
        self.taints.iter().any(|taint| taint.key == Self::TO_BE_DELETED)
            || self.object.metadata.deletion_timestamp.is_some()
    }
}

/// What keeps pods away from a node unless they tolerate it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; empty if none is written.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// A pod with its place and addresses.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Index in [`Cluster::nodes`] of the node it runs on.
    pub node: usize,
    /// Its addresses, preferred first; those of the node with [`Pod::host_network`].
    pub addresses: Vec<IpAddr>,
    /// Whether it lives in its node's own network.
    pub host_network: bool,
    /// The Kubernetes object, complete with status.
    pub object: Arc<PodObject>,
}

impl Pod {
    /// Its labels.
    pub fn labels(&self) -> Labels<'_> {
        Labels(self.object.metadata.labels.as_ref())
    }

    /// Condition `Ready`: whether all containers and readiness gates say so.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready")
    }

    /// The readiness gate that a load balancer opens once the pod has passed its check.
    ///
    /// Source: GKE, "Pod readiness feedback" of container-native load balancing; KEP-580.
    pub const BALANCER_GATE: &str = "cloud.google.com/load-balancer-neg-ready";

    /// Whether it has the gate of load balancers, and nobody has written that it is open or not.
    pub fn has_balancer_gate(&self) -> bool {
        self.gates().any(|gate| gate == Self::BALANCER_GATE)
            && !self.conditions().any(|condition| condition.type_ == Self::BALANCER_GATE)
    }

    /// Whether all readiness gates but that of load balancers are open.
    pub fn other_gates_are_open(&self) -> bool {
        let has_own = self.has_balancer_gate();
        self.gates().all(|gate| (has_own && gate == Self::BALANCER_GATE) || self.condition(gate))
    }

    fn gates(&self) -> impl Iterator<Item = &str> {
        let spec = self.object.spec.as_ref();
        let gates = spec.into_iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
        gates.map(|gate| gate.condition_type.as_str())
    }

    fn conditions(&self) -> impl Iterator<Item = &PodCondition> {
        let status = self.object.status.iter();
        status.flat_map(|status| status.conditions.iter().flatten())
    }

    /// Whether it is being deleted.
    ///
    /// Source: `Pod.metadata.deletionTimestamp`.
    pub fn is_terminating(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// Whether it has run to its end, and will not run again.
    ///
    /// Source: `Pod.status.phase`.
    pub fn is_finished(&self) -> bool {
        let phase = self.object.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// Whether a condition of this type is `True`.
    pub fn condition(&self, name: &str) -> bool {
        self.conditions().any(|condition| condition.type_ == name && condition.status == "True")
    }

    /// The annotation by which a pod says that it takes no large segments and no unfinished checksums:
    /// `"false"`.
    pub const OFFLOADS_ANNOTATION: &str = "kswitch/offloads";

    /// Whether it takes large segments and unfinished checksums, as far as its annotation says.
    pub fn takes_offloads(&self) -> bool {
        let annotations = self.object.metadata.annotations.as_ref();
        let word = annotations.and_then(|all| all.get(Self::OFFLOADS_ANNOTATION));
        word.is_none_or(|word| word != "false")
    }

    /// The interface of this machine behind which it is, as its annotation says; one that cannot be
    /// read counts as none.
    pub fn interface(&self) -> Option<Interface> {
        let annotations = self.object.metadata.annotations.as_ref()?;
        Interface::from_annotation(annotations.get(Interface::ANNOTATION)?).ok()
    }

    /// Its containers, init containers that keep running among them.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        let spec = self.object.spec.as_ref();
        let sidecars = spec
            .into_iter()
            .flat_map(|spec| spec.init_containers.iter().flatten())
            .filter(|container| container.restart_policy.as_deref() == Some("Always"));
        sidecars.chain(spec.into_iter().flat_map(|spec| &spec.containers))
    }

    /// The ports that its containers name.
    pub fn container_ports(&self) -> impl Iterator<Item = &ContainerPort> {
        self.containers().flat_map(|container| container.ports.iter().flatten())
    }

    /// The port of this name and protocol (`TCP`, `UDP`, `SCTP`), host order.
    pub fn named_port(&self, name: &str, protocol: &str) -> Option<u16> {
        let port = self.container_ports().find(|port| {
            port.name.as_deref() == Some(name)
                && port.protocol.as_deref().unwrap_or("TCP") == protocol
        })?;
        u16::try_from(port.container_port).ok()
    }
}

/// Labels of an object, which may have none.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a>(Option<&'a BTreeMap<String, String>>);

impl<'a> Labels<'a> {
    /// The value of a label.
    pub fn get(self, key: &str) -> Option<&'a str> {
        self.0?.get(key).map(String::as_str)
    }

    /// Every label.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl<'a> From<Option<&'a BTreeMap<String, String>>> for Labels<'a> {
    fn from(labels: Option<&'a BTreeMap<String, String>>) -> Self {
        Self(labels)
    }
}

/// A host outside the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// Its name, a DNS label.
    pub name: String,
    /// Its addresses with the prefixes of their links.
    pub addresses: Vec<IpNet>,
    /// The edge router's address on each of those links, in the same order.
    pub gateways: Vec<IpAddr>,
    /// What is behind it: the edge sends packets for these prefixes to it.
    pub routes: Vec<IpNet>,
    /// Largest IP packet on its link, octets; `None`: the cluster's.
    pub mtu: Option<u16>,
    /// The interface of this machine behind which it is; `None`: a namespace and a TAP are made.
    pub interface: Option<Interface>,
    /// Where it is.
    pub network: HostNetwork,
}

/// Where a host outside the cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostNetwork {
    /// Beyond the edge.
    #[default]
    Internet,
    /// In the network that the nodes are in, as another virtual machine of it: it reaches pods, and
    /// addresses of internal load balancers.
    Vpc {
        /// Its region; `None`: that of the nodes.
        region: Option<String>,
    },
}

impl HostNetwork {
    /// Whether it is the nodes' own network.
    pub const fn is_vpc(&self) -> bool {
        matches!(self, Self::Vpc { .. })
    }
}

/// A load balancer that ends connections and opens its own to backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// The name of the host outside that it is.
    pub name: String,
    /// Where clients reach it.
    pub address: IpAddr,
    /// From where it reaches backends.
    pub sources: Vec<IpAddr>,
    /// From where it checks them.
    pub probes: Vec<IpAddr>,
    /// Whether only the nodes' own network reaches it.
    pub is_internal: bool,
}

/// What checks nodes for network load balancers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prober {
    /// The name of the host outside that it is.
    pub name: String,
    /// From where it asks.
    pub sources: Vec<IpAddr>,
}

/// Something that makes pods.
#[derive(Clone, Debug)]
pub enum Workload {
    /// A Deployment.
    Deployment(Arc<Deployment>),
    /// A ReplicaSet.
    ReplicaSet(Arc<ReplicaSet>),
    /// A StatefulSet.
    StatefulSet(Arc<StatefulSet>),
    /// A DaemonSet.
    DaemonSet(Arc<DaemonSet>),
}
