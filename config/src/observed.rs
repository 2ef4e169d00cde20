//! What is seen at run time, beside what is written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use kswitch_tables::MacAddress;

use crate::network_balancer::NodeHealth;
use crate::routing::Issued;
use crate::{Node, Pod, PortKind};

/// What the running lab has shown, and what it was told from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Readiness of pods, by namespace and name, where it was probed; else the Pod's own condition
    /// holds.
    pub ready_pods: BTreeMap<(String, String), bool>,
    /// Readiness of nodes, by name, where it was seen; else the Node's own condition holds.
    pub ready_nodes: BTreeMap<String, bool>,
    /// Nodes that are switched off, by name: nothing comes from them and nothing gets to them. They
    /// are ready until that is noticed.
    pub nodes_down: BTreeSet<String>,
    /// Pods that would be ready, but for the load balancer's gate: by namespace and name.
    pub waiting_pods: BTreeSet<(String, String)>,
    /// Health of nodes as load balancers find it; where none was checked, what a check would find.
    pub node_health: NodeHealth,
    /// Nodes that have left the group of a load balancer, whose connections go on for a while:
    /// namespace and name of the Service, name of the node.
    pub draining: BTreeSet<(String, String, String)>,
    /// Where packets from outside enter.
    pub entry: EntryPolicy,
    /// What was issued for ManagedCertificates, by namespace and name.
    pub certificates: BTreeMap<(String, String), Issued>,
    /// Machines on the links of hosts outside that nobody wrote down, by address.
    pub neighbours: Neighbours,
}

/// Machines that were found, by address.
pub type Neighbours = BTreeMap<IpAddr, Neighbour>;

/// A machine that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Behind whose port it was heard.
    pub at: PortKind,
}

impl Observed {
    /// Whether a pod is ready.
    pub fn is_pod_ready(&self, pod: &Pod) -> bool {
        if self.ready_pods.is_empty() {
            return pod.is_ready();
        }
        // the key is only borrowed in pairs of strings, so that a look-up has to own one
        let key = (pod.namespace.clone(), pod.name.clone());
        self.ready_pods.get(&key).copied().unwrap_or_else(|| pod.is_ready())
    }

    /// Whether a node is ready.
    pub fn is_node_ready(&self, node: &Node) -> bool {
        self.ready_nodes.get(&node.name).copied().unwrap_or(node.ready)
    }
}

/// Which node the edge hands a packet from outside to.
///
/// An external IP that no route holds enters at the first ready node, by name; under
/// `externalTrafficPolicy: Local` at the first of those that have a ready endpoint. An address of a
/// load balancer enters where that hands it to. Node addresses always lead to their node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryPolicy {
    /// Nodes by name for the longest prefix, also for addresses that the edge would not route.
    pub routes: Vec<(IpNet, String)>,
}

impl EntryPolicy {
    /// Everything that is no node's own address enters at this node.
    pub fn everything_at(node: &str) -> Self {
        let routes = [IpNet::V4(ipnet::Ipv4Net::default()), IpNet::V6(ipnet::Ipv6Net::default())];
        Self { routes: routes.map(|route| (route, node.to_owned())).into() }
    }
}
