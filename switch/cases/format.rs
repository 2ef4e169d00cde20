//! The format of case files, as it is written.
//!
//! A case is a lab, objects loaded into it, and steps: changes, then packets with what must come of
//! them. What an area judges is in the file of its name; everything here is common to all. A word
//! that the format does not have is an error, with its place.

pub mod dns;
pub mod l3;
pub mod l7;
pub mod maglev;
pub mod nat;
pub mod policy;
pub mod services;
mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

pub use words::{Host, HostRef, PodName, Span, Transport, Word};

/// What a file says before anything else: which case it is.
#[derive(Clone, Debug, Deserialize)]
pub struct Head {
    /// Its name.
    pub case: String,
    /// What it is about.
    pub area: Area,
}

/// What a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// What kube-proxy does.
    Services,
    /// `networking.k8s.io` policies.
    NetworkPolicy,
    /// `policy.networking.k8s.io` policies.
    ClusterNetworkPolicy,
    /// Cluster DNS.
    Dns,
    /// Ingress and Gateway API.
    L7,
    /// Consistent hashing.
    Maglev,
    /// Address translation, packet by packet.
    Nat,
    /// TTL, MTU, ICMP, neighbours.
    L3,
}

/// How binding a case is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Level {
    /// An absolute requirement.
    #[default]
    #[serde(rename = "MUST")]
    Must,
    /// A recommendation.
    #[serde(rename = "SHOULD")]
    Should,
    /// What some implementation does.
    #[serde(rename = "peer")]
    Peer,
    /// To be measured and reported, never failed.
    #[serde(rename = "report")]
    Report,
}

/// A case file; `S` is a step of its area.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "S: Deserialize<'de>"))]
pub struct File<S> {
    /// Its name.
    pub case: String,
    /// What it is about.
    pub area: Area,
    /// One sentence for people.
    pub title: String,
    /// For choosing.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Where its facts come from.
    #[serde(default)]
    pub origin: Value,
    /// Whether the expectation is its source's own, or follows from it.
    #[serde(default)]
    pub expected_from: String,
    /// Features without which it is skipped.
    #[serde(default)]
    pub requires: Vec<String>,
    /// How binding it is.
    #[serde(default)]
    pub level: Level,
    /// A remark.
    #[serde(default)]
    pub note: String,
    /// Who does otherwise.
    #[serde(default)]
    pub peers_differ: String,
    /// Configuration of the switch.
    #[serde(default)]
    pub settings: Settings,
    /// Certificates that are made for it.
    #[serde(default)]
    pub secrets: Vec<l7::Secret>,
    /// The lab.
    #[serde(default)]
    pub topology: Topology,
    /// Objects loaded at the start.
    #[serde(default)]
    pub objects: Vec<Value>,
    /// What is done and judged, in order.
    #[serde(default = "Vec::new")]
    pub steps: Vec<S>,
    /// Objects that must be taken or refused.
    #[serde(default)]
    pub loads: Vec<policy::Load>,
    /// Tables of consistent hashing.
    #[serde(default)]
    pub vectors: Vec<maglev::Vector>,
    /// Internet checksums.
    #[serde(default)]
    pub sums: Vec<nat::Sum>,
    /// Internet checksums after a change.
    #[serde(default)]
    pub updates: Vec<nat::Update>,
    /// Packets before and after translation.
    #[serde(default)]
    pub packets: Vec<nat::Translated>,
}

/// Configuration of the switch for one case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Where node ports listen.
    #[serde(default)]
    pub node_port_addresses: Vec<IpNet>,
    /// Whether 127.0.0.1 of a node offers node ports; if nothing is said, it does.
    pub localhost_node_ports: Option<bool>,
    /// Whether all traffic to cluster IPs is masqueraded.
    #[serde(default)]
    pub masquerade_all: bool,
    /// Whether packets of pods leave the cluster with an address of their node.
    #[serde(default)]
    pub egress_masquerade: bool,
    /// Largest IP packets.
    #[serde(default)]
    pub mtu: Mtu,
    /// The class of Gateways that are served.
    pub gateway_class: Option<String>,
    /// The class of Ingresses that are served.
    pub ingress_class: Option<String>,
    /// The address that all Ingresses share.
    pub ingress_address: Option<IpAddr>,
    /// The name server.
    #[serde(flatten)]
    pub dns: dns::DnsSettings,
}

/// Largest IP packets of links, octets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mtu {
    /// Of pods and nodes.
    pub pods: Option<u16>,
    /// Of hosts outside.
    pub external: Option<u16>,
}

/// The lab of a case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Ranges of the cluster.
    #[serde(default)]
    pub cluster: Ranges,
    /// Machines.
    #[serde(default)]
    pub nodes: Vec<Node>,
    /// Namespaces.
    #[serde(default)]
    pub namespaces: Vec<Namespace>,
    /// Pods that are there at the start.
    #[serde(default)]
    pub pods: Vec<Pod>,
    /// Hosts outside the cluster.
    #[serde(default)]
    pub externals: Vec<External>,
}

/// Ranges of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranges {
    /// Of pods.
    #[serde(rename = "podCIDRs", default)]
    pub pod_cidrs: Vec<IpNet>,
    /// Of cluster IPs.
    #[serde(rename = "serviceCIDRs", default)]
    pub service_cidrs: Vec<IpNet>,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its addresses, preferred first.
    pub ips: Vec<IpAddr>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where its pods are.
    #[serde(rename = "podCIDRs", default)]
    pub pod_cidrs: Vec<IpNet>,
}

/// A namespace; the label with its name goes without saying.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its addresses, preferred first.
    pub ips: Vec<IpAddr>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether it lives in its node's own network.
    #[serde(rename = "hostNetwork", default)]
    pub host_network: bool,
    /// Where it listens.
    #[serde(default)]
    pub ports: Vec<Port>,
}

/// A port that a pod listens on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Port {
    /// Its name.
    pub name: Option<String>,
    /// The port, host order.
    pub port: u16,
    /// Its protocol.
    #[serde(default)]
    pub protocol: Transport,
    /// The same port of the node.
    pub host_port: Option<u16>,
    /// The address of the node at which that is.
    #[serde(rename = "hostIP")]
    pub host_ip: Option<IpAddr>,
}

/// A host outside the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
}

/// A change to the lab or its objects.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "words::ChangeFields")]
pub enum Change {
    /// Creates or replaces an object.
    Apply(Value),
    /// Deletes an object.
    Delete {
        /// Its kind.
        kind: String,
        /// Its namespace; empty for kinds without.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Replaces all labels of a namespace.
    SetNamespaceLabels(Namespace),
    /// Replaces all labels of a pod.
    SetPodLabels {
        /// Which pod.
        pod: PodName,
        /// Its new labels.
        labels: BTreeMap<String, String>,
    },
    /// Starts a pod.
    AddPod(Pod),
    /// Ends a pod.
    DeletePod(PodName),
    /// Makes a namespace.
    AddNamespace(Namespace),
    /// Deletes a namespace with all in it.
    DeleteNamespace(String),
}
