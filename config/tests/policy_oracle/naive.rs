//! A reading of the objects, one by one, as their documents describe them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kswitch_config::{Cluster, ClusterNetworkPolicy, Pod};
use kswitch_tables::Protocol;
use kswitch_tables::policy::{Direction, Echo, Fallback, Tier};
use serde_json::Value;

#[derive(Clone, Copy)]
pub(crate) enum Machine<'c> {
    Pod(&'c Pod),
    /// Index of the node.
    Node(usize),
    Outside,
}

impl fmt::Debug for Machine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(pod) => {
                let Pod { namespace, name, node, .. } = pod;
                write!(formatter, "pod {namespace}/{name} on {node} {:?}", labels(pod))
            }
            Self::Node(node) => write!(formatter, "node {node}"),
            Self::Outside => formatter.write_str("outside"),
        }
    }
}

/// Who asks whom for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe<'c> {
    pub(crate) source: (Machine<'c>, IpAddr),
    pub(crate) target: (Machine<'c>, IpAddr),
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) is_translated: bool,
}

/// Direction, tier, and the policy and rule that refused it, if one did.
pub(crate) type Refusal = (Direction, Tier, Option<(String, usize)>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    /// Allowed, but what is only watched would have refused it.
    Audited(Refusal),
    Denied(Refusal),
}

/// What was read, and whether it held: a run that has not seen everything proves nothing.
#[derive(Debug, Default)]
pub(crate) struct Seen(pub(crate) RefCell<BTreeSet<(&'static str, bool)>>);

impl Seen {
    fn note(&self, construct: &'static str, holds: bool) -> bool {
        self.0.borrow_mut().insert((construct, holds));
        holds
    }
}

pub(crate) struct Reading<'c> {
    cluster: &'c Cluster,
    seen: &'c Seen,
    /// By priority and name.
    ordered: Vec<Ordered<'c>>,
}

/// A `ClusterNetworkPolicy`.
struct Ordered<'c> {
    policy: &'c ClusterNetworkPolicy,
    subject: Peer,
    ingress: Vec<Rule>,
    egress: Vec<Rule>,
}

struct Rule {
    action: String,
    peers: Vec<Peer>,
    protocols: Option<Vec<Value>>,
}

enum Peer {
    Namespaces(LabelSelector),
    Pods(LabelSelector, LabelSelector),
    Nodes(LabelSelector),
    Networks(Vec<IpNet>),
    DomainNames,
}

impl<'c> Ordered<'c> {
    fn new(policy: &'c ClusterNetworkPolicy) -> Self {
        let spec = serde_json::to_value(&policy.spec).unwrap();
        let rules = |rules: &Value, peers: &str| {
            let rule = |rule: &Value| Rule {
                action: rule["action"].as_str().unwrap().into(),
                peers: rule[peers].as_array().unwrap().iter().map(Peer::new).collect(),
                protocols: rule["protocols"].as_array().cloned(),
            };
            rules.as_array().into_iter().flatten().map(rule).collect()
        };
        Self {
            policy,
            subject: Peer::new(&spec["subject"]),
            ingress: rules(&spec["ingress"], "from"),
            egress: rules(&spec["egress"], "to"),
        }
    }
}

impl Peer {
    fn new(peer: &Value) -> Self {
        let (kind, value) = peer.as_object().unwrap().iter().next().unwrap();
        let selector = |value: &Value| serde_json::from_value(value.clone()).unwrap();
        match kind.as_str() {
            "namespaces" => Self::Namespaces(selector(value)),
            "pods" => {
                Self::Pods(selector(&value["namespaceSelector"]), selector(&value["podSelector"]))
            }
            "nodes" => Self::Nodes(selector(value)),
            "networks" => {
                let nets = value.as_array().unwrap().iter();
                Self::Networks(nets.map(|net| net.as_str().unwrap().parse().unwrap()).collect())
            }
            _ => Self::DomainNames,
        }
    }
}

type Labels = BTreeMap<String, String>;

impl<'c> Reading<'c> {
    pub(crate) fn new(cluster: &'c Cluster, seen: &'c Seen) -> Self {
        let policies = cluster.cluster_network_policies.iter();
        let mut ordered: Vec<_> = policies.map(|policy| Ordered::new(policy)).collect();
        ordered.sort_by_key(|Ordered { policy, .. }| {
            (policy.spec.priority, policy.metadata.name.clone())
        });
        Self { cluster, seen, ordered }
    }

    pub(crate) fn judge(&self, probe: &Probe<'_>) -> Verdict {
        let settings = &self.cluster.settings.policy;
        if !self.seen.note("enabled", settings.enabled) {
            return Verdict::Allowed;
        }
        let is_echo = matches!(probe.protocol, Protocol::ICMP | Protocol::ICMPV6);
        if is_echo && self.seen.note("echo allowed", settings.icmp_echo == Echo::Allowed) {
            return Verdict::Allowed;
        }
        match self.decide(probe, false) {
            Some(refusal) if self.seen.note("audit of the lab", settings.audit) => {
                Verdict::Audited(refusal)
            }
            Some(refusal) => Verdict::Denied(refusal),
            None => match self.decide(probe, true) {
                Some(refusal) => Verdict::Audited(refusal),
                None => Verdict::Allowed,
            },
        }
    }

    fn decide(&self, probe: &Probe<'_>, with_audited: bool) -> Option<Refusal> {
        let is_itself = probe.source.1 == probe.target.1;
        if is_itself && !self.seen.note("itself by a service", probe.is_translated) {
            return None;
        }
        if let Machine::Pod(own) = probe.source.0
            && let Some((tier, rule)) = self.refuses(probe, own, Direction::Egress, with_audited)
        {
            return Some((Direction::Egress, tier, rule));
        }
        let Machine::Pod(own) = probe.target.0 else { return None };
        if let Machine::Node(node) = probe.source.0
            && self.seen.note("node to its own pod", node == own.node)
        {
            return None;
        }
        let (tier, rule) = self.refuses(probe, own, Direction::Ingress, with_audited)?;
        Some((Direction::Ingress, tier, rule))
    }

    fn refuses(
        &self,
        probe: &Probe<'_>,
        own: &Pod,
        direction: Direction,
        with_audited: bool,
    ) -> Option<(Tier, Option<(String, usize)>)> {
        match self.ordered("Admin", probe, own, direction, with_audited) {
            Some((action, rule)) if action == "Deny" => return Some((Tier::Admin, Some(rule))),
            Some((action, _)) if action == "Accept" => return None,
            _ => {}
        }
        let isolating: Vec<&NetworkPolicy> = self
            .cluster
            .network_policies
            .iter()
            .map(|policy| &**policy)
            .filter(|policy| self.counts(&policy.metadata, with_audited))
            .filter(|policy| self.isolates(policy, own, direction))
            .collect();
        if self.seen.note("isolated", !isolating.is_empty()) {
            let is_itself = probe.source.1 == probe.target.1;
            let allows = |policy: &&NetworkPolicy| self.allows(policy, probe, direction);
            let is_allowed = is_itself || isolating.iter().any(allows);
            return (!self.seen.note("isolated and allowed", is_allowed))
                .then_some((Tier::Isolation, None));
        }
        match self.ordered("Baseline", probe, own, direction, with_audited) {
            Some((action, rule)) if action == "Deny" => return Some((Tier::Baseline, Some(rule))),
            Some((action, _)) if action == "Accept" => return None,
            _ => {}
        }
        let denies = self.cluster.settings.policy.default == Fallback::Deny;
        let is_itself = probe.source.1 == probe.target.1;
        (self.seen.note("default deny", denies) && !is_itself).then_some((Tier::Fallback, None))
    }

    fn counts(&self, metadata: &ObjectMeta, with_audited: bool) -> bool {
        let annotations = metadata.annotations.as_ref();
        let word = annotations.and_then(|all| all.get("kswitch.dev/audit"));
        with_audited || !self.seen.note("audited policy", word.is_some_and(|word| word == "true"))
    }

    // NetworkPolicy

    fn isolates(&self, policy: &NetworkPolicy, own: &Pod, direction: Direction) -> bool {
        let spec = policy.spec.as_ref().unwrap();
        if policy.metadata.namespace.as_ref() != Some(&own.namespace) {
            return false;
        }
        let types = spec.policy_types.as_deref().unwrap_or_default();
        let has_type = if self.seen.note("policyTypes", !types.is_empty()) {
            types.iter().any(|word| *word == format!("{direction:?}"))
        } else {
            direction == Direction::Ingress || spec.egress.as_ref().is_some_and(|r| !r.is_empty())
        };
        has_type && self.selects(spec.pod_selector.as_ref().unwrap(), labels(own))
    }

    fn allows(&self, policy: &NetworkPolicy, probe: &Probe<'_>, direction: Direction) -> bool {
        let namespace = policy.metadata.namespace.as_deref().unwrap();
        let NetworkPolicySpec { ingress, egress, .. } = policy.spec.as_ref().unwrap();
        let rules: Vec<_> = match direction {
            Direction::Ingress => {
                ingress.iter().flatten().map(|rule| (&rule.from, &rule.ports)).collect()
            }
            Direction::Egress => {
                egress.iter().flatten().map(|rule| (&rule.to, &rule.ports)).collect()
            }
        };
        rules.into_iter().any(|(peers, ports)| {
            let (peers, ports) = (peers.iter().flatten(), ports.iter().flatten());
            let is_peer = |peer: &NetworkPolicyPeer| {
                self.is_network_peer(namespace, peer, other(probe, direction))
            };
            let is_port = |port: &NetworkPolicyPort| self.is_network_port(port, probe);
            let (mut peers, mut ports) = (peers.peekable(), ports.peekable());
            (self.seen.note("all peers", peers.peek().is_none()) || peers.any(is_peer))
                && (self.seen.note("all ports", ports.peek().is_none()) || ports.any(is_port))
        })
    }

    fn is_network_peer(
        &self,
        namespace: &str,
        peer: &NetworkPolicyPeer,
        (machine, address): (Machine<'_>, IpAddr),
    ) -> bool {
        if let Some(block) = &peer.ip_block {
            let holds = |net: &str| net.parse::<IpNet>().unwrap().contains(&address);
            let is_excepted = block.except.iter().flatten().any(|net| holds(net));
            return self.seen.note("ipBlock", holds(&block.cidr))
                && !self.seen.note("ipBlock.except", is_excepted);
        }
        let Machine::Pod(pod) = machine else { return false };
        let is_namespace = match &peer.namespace_selector {
            Some(selector) => self.selects(selector, &self.cluster.namespaces[&pod.namespace]),
            None => pod.namespace == namespace,
        };
        let is_pod = peer.pod_selector.as_ref().is_none_or(|pods| self.selects(pods, labels(pod)));
        let construct = match (&peer.namespace_selector, &peer.pod_selector) {
            (Some(_), Some(_)) => "namespaceSelector and podSelector",
            (Some(_), None) => "namespaceSelector",
            _ => "podSelector",
        };
        self.seen.note(construct, is_namespace && is_pod)
    }

    fn is_network_port(&self, port: &NetworkPolicyPort, probe: &Probe<'_>) -> bool {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if !self.seen.note("protocol", protocol == word(probe.protocol)) {
            return false;
        }
        match (&port.port, port.end_port) {
            (None, _) => self.seen.note("protocol without port", true),
            (Some(IntOrString::Int(first)), Some(last)) => {
                self.seen.note("endPort", (*first..=last).contains(&i32::from(probe.port)))
            }
            (Some(IntOrString::Int(port)), None) => {
                self.seen.note("port", *port == i32::from(probe.port))
            }
            (Some(IntOrString::String(name)), _) => {
                self.seen.note("named port", is_named(name, protocol, probe))
            }
        }
    }

    // ClusterNetworkPolicy

    /// Action of the first rule of a tier that matches, and which one it is.
    fn ordered(
        &self,
        tier: &str,
        probe: &Probe<'_>,
        own: &Pod,
        direction: Direction,
        with_audited: bool,
    ) -> Option<(String, (String, usize))> {
        for Ordered { policy, subject, ingress, egress } in &self.ordered {
            if policy.spec.tier != tier || !self.counts(&policy.metadata, with_audited) {
                continue;
            }
            if !self.seen.note("subject", self.is_pods(subject, Machine::Pod(own))) {
                continue;
            }
            let rules = match direction {
                Direction::Ingress => ingress,
                Direction::Egress => egress,
            };
            let is_peer = |peer: &Peer| self.is_cluster_peer(peer, other(probe, direction));
            let is_protocol = |protocol: &Value| self.is_cluster_protocol(protocol, probe);
            for (index, Rule { action, peers, protocols }) in rules.iter().enumerate() {
                if peers.iter().any(is_peer)
                    && protocols.as_ref().is_none_or(|all| all.iter().any(is_protocol))
                {
                    let construct = match (tier, action.as_str()) {
                        ("Admin", "Accept") => "Admin Accept",
                        ("Admin", "Deny") => "Admin Deny",
                        ("Admin", _) => "Admin Pass",
                        (_, "Accept") => "Baseline Accept",
                        (_, "Deny") => "Baseline Deny",
                        _ => "Baseline Pass",
                    };
                    self.seen.note(construct, true);
                    let name = policy.metadata.name.clone().unwrap();
                    return Some((action.clone(), (name, index)));
                }
            }
        }
        None
    }

    fn is_cluster_peer(&self, peer: &Peer, (machine, address): (Machine<'_>, IpAddr)) -> bool {
        let (construct, holds) = match (peer, machine) {
            (Peer::Networks(nets), _) => {
                ("networks", nets.iter().any(|net| net.contains(&address)))
            }
            (Peer::DomainNames, _) => ("domainNames", false),
            (Peer::Nodes(selector), Machine::Node(node)) => {
                let labels = self.cluster.nodes[node].object.metadata.labels.as_ref();
                ("nodes", self.selects(selector, labels.unwrap_or(&Labels::new())))
            }
            (Peer::Nodes(_), _) => ("nodes", false),
            (Peer::Namespaces(_), _) => ("namespaces", self.is_pods(peer, machine)),
            (Peer::Pods(..), _) => ("pods", self.is_pods(peer, machine)),
        };
        self.seen.note(construct, holds)
    }

    fn is_pods(&self, peer: &Peer, machine: Machine<'_>) -> bool {
        let Machine::Pod(pod) = machine else { return false };
        let of_namespace = &self.cluster.namespaces[&pod.namespace];
        match peer {
            Peer::Namespaces(namespaces) => self.selects(namespaces, of_namespace),
            Peer::Pods(namespaces, pods) => {
                self.selects(namespaces, of_namespace) && self.selects(pods, labels(pod))
            }
            _ => false,
        }
    }

    fn is_cluster_protocol(&self, protocol: &Value, probe: &Probe<'_>) -> bool {
        if let Some(name) = protocol["destinationNamedPort"].as_str() {
            let is_any = |protocol| is_named(name, protocol, probe);
            let holds = ["TCP", "UDP", "SCTP"].into_iter().any(is_any);
            return self.seen.note("destinationNamedPort", holds);
        }
        let own = &protocol[word(probe.protocol).to_lowercase()];
        let Some(port) = own.get("destinationPort") else { return false };
        let of = |value: &Value| value.as_i64().unwrap();
        if let Some(range) = port.get("range") {
            let holds = (of(&range["start"])..=of(&range["end"])).contains(&probe.port.into());
            return self.seen.note("range", holds);
        }
        self.seen.note("number", of(&port["number"]) == i64::from(probe.port))
    }

    // labels

    fn selects(&self, selector: &LabelSelector, labels: &Labels) -> bool {
        let LabelSelector { match_labels, match_expressions } = selector;
        let mut selects = true;
        for (key, value) in match_labels.iter().flatten() {
            selects &= self.seen.note("matchLabels", labels.get(key) == Some(value));
        }
        for expression in match_expressions.iter().flatten() {
            let value = labels.get(&expression.key);
            let is_listed = expression.values.iter().flatten().any(|one| Some(one) == value);
            selects &= match expression.operator.as_str() {
                "In" => self.seen.note("In", is_listed),
                "NotIn" => self.seen.note("NotIn", !is_listed),
                "Exists" => self.seen.note("Exists", value.is_some()),
                _ => self.seen.note("DoesNotExist", value.is_none()),
            };
        }
        let is_empty = match_labels.is_none() && match_expressions.is_none();
        self.seen.note("empty selector", is_empty);
        selects
    }
}

/// The other end, seen from the one whose policies are read.
const fn other<'c>(probe: &Probe<'c>, direction: Direction) -> (Machine<'c>, IpAddr) {
    match direction {
        Direction::Egress => probe.target,
        Direction::Ingress => probe.source,
    }
}

/// Whether the target calls the port so: the first port of the name and protocol counts.
fn is_named(name: &str, protocol: &str, probe: &Probe<'_>) -> bool {
    let Machine::Pod(pod) = probe.target.0 else { return false };
    let spec = pod.object.spec.as_ref().unwrap();
    let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let mut ports = ports.filter(|port| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref() == Some(protocol)
    });
    protocol == word(probe.protocol)
        && ports.next().is_some_and(|port| port.container_port == i32::from(probe.port))
}

fn labels(pod: &Pod) -> &Labels {
    static NONE: Labels = Labels::new();
    pod.object.metadata.labels.as_ref().unwrap_or(&NONE)
}

/// A protocol as objects have it, if they have it.
const fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::TCP => "TCP",
        Protocol::UDP => "UDP",
        Protocol::SCTP => "SCTP",
        _ => "none of them",
    }
}
