//! `ClusterNetworkPolicies`.
//!
//! Source: policy.networking.k8s.io/v1alpha2, the schema of the custom resource.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{accept, cidr, one_of, port, selector};
use crate::cluster_policy::{
    ClusterNetworkPolicy, EgressPeer, EgressRule, IngressPeer, IngressRule, NamespacedPods,
    PolicyPort, PolicyProtocol, ProtocolPorts, Subject,
};
use crate::error::Findings;
use crate::path::Path;
use crate::syntax;

/// The most rules of a direction, peers or protocols of a rule, or networks of a peer.
const MOST: usize = 25;
/// The longest name of a rule, characters.
const NAME: usize = 100;
/// The highest priority.
const PRIORITY: i32 = 1000;

pub(super) fn check(policy: &ClusterNetworkPolicy, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    let spec = &policy.spec;
    one_of(findings, path.key("tier"), Some(&spec.tier), &["Admin", "Baseline"]);
    match spec.priority {
        Some(0..=PRIORITY) => {}
        Some(other) => {
            let help = format!("write a number from 0 to {PRIORITY}");
            findings.error(path.key("priority"), format!("{other} is out of range"), help);
        }
        None => {
            let help = format!("write `priority`, a number from 0 to {PRIORITY}");
            findings.error(path, "the priority is missing", help);
        }
    }
    let Subject { namespaces, pods } = &spec.subject;
    let at = path.key("subject");
    selectors(at, namespaces.as_ref(), pods.as_ref(), findings);
    let given = [namespaces.is_some(), pods.is_some()];
    exactly_one(at, &given, "`namespaces` or `pods`", findings);

    let rules = path.key("ingress");
    count(rules, spec.ingress.len(), 0, findings);
    for (index, rule) in spec.ingress.iter().enumerate() {
        ingress_rule(rules.index(index), rule, findings);
    }
    let rules = path.key("egress");
    count(rules, spec.egress.len(), 0, findings);
    for (index, rule) in spec.egress.iter().enumerate() {
        egress_rule(rules.index(index), rule, findings);
    }
}

fn ingress_rule(path: Path<'_>, rule: &IngressRule, findings: &mut Findings) {
    let IngressRule { name, action, from, protocols: of_rule } = rule;
    head(path, name.as_deref(), action, findings);
    let peers = path.key("from");
    count(peers, from.len(), 1, findings);
    for (index, IngressPeer { namespaces, pods }) in from.iter().enumerate() {
        let path = peers.index(index);
        selectors(path, namespaces.as_ref(), pods.as_ref(), findings);
        let given = [namespaces.is_some(), pods.is_some()];
        exactly_one(path, &given, "`namespaces` or `pods`", findings);
    }
    protocols(path.key("protocols"), of_rule.as_deref(), findings);
}

fn egress_rule(path: Path<'_>, rule: &EgressRule, findings: &mut Findings) {
    let EgressRule { name, action, to, protocols: of_rule } = rule;
    head(path, name.as_deref(), action, findings);
    let peers = path.key("to");
    count(peers, to.len(), 1, findings);
    for (index, peer) in to.iter().enumerate() {
        egress_peer(peers.index(index), peer, action, findings);
    }
    let path = path.key("protocols");
    protocols(path, of_rule.as_deref(), findings);
    let has_name = |protocol: &PolicyProtocol| protocol.destination_named_port.is_some();
    let named = of_rule.iter().flatten().position(has_name);
    let is_nameless = |peer: &EgressPeer| {
        peer.networks.is_some() || peer.nodes.is_some() || peer.domain_names.is_some()
    };
    if let Some(index) = named.filter(|_| to.iter().any(is_nameless)) {
        let message = "only pods have named ports, and the rule has other peers";
        let help = "write a rule of its own for the pods";
        findings.error(path.index(index).key("destinationNamedPort"), message, help);
    }
}

fn egress_peer(path: Path<'_>, peer: &EgressPeer, action: &str, findings: &mut Findings) {
    let EgressPeer { namespaces, pods, nodes, networks, domain_names } = peer;
    selectors(path, namespaces.as_ref(), pods.as_ref(), findings);
    if let Some(nodes) = nodes {
        selector(path.key("nodes"), nodes, findings);
    }
    if let Some(networks) = networks {
        let path = path.key("networks");
        count(path, networks.len(), 1, findings);
        for (index, text) in networks.iter().enumerate() {
            cidr(findings, path.index(index), text);
            if networks.iter().take(index).any(|other| other == text) {
                findings.error(path.index(index), format!("{text} is written twice"), "remove it");
            }
        }
    }
    if let Some(names) = domain_names {
        let path = path.key("domainNames");
        count(path, names.len(), 1, findings);
        if action == "Accept" {
            let help = "write `networks` with the addresses";
            findings.warning(path, "names of hosts are not resolved, they match nothing", help);
        } else {
            findings.error(path, "names of hosts can only be accepted", "write `action: Accept`");
        }
    }
    let given = [
        namespaces.is_some(),
        pods.is_some(),
        nodes.is_some(),
        networks.is_some(),
        domain_names.is_some(),
    ];
    let kinds = "`namespaces`, `pods`, `nodes`, `networks` or `domainNames`";
    exactly_one(path, &given, kinds, findings);
}

/// What rules of both directions have.
fn head(path: Path<'_>, name: Option<&str>, action: &str, findings: &mut Findings) {
    one_of(findings, path.key("action"), Some(action), &["Accept", "Deny", "Pass"]);
    if name.is_some_and(|name| name.chars().count() > NAME) {
        let help = format!("write at most {NAME} characters");
        findings.error(path.key("name"), "the name is too long", help);
    }
}

fn protocols(path: Path<'_>, protocols: Option<&[PolicyProtocol]>, findings: &mut Findings) {
    let Some(protocols) = protocols else { return };
    count(path, protocols.len(), 1, findings);
    for (index, protocol) in protocols.iter().enumerate() {
        let path = path.index(index);
        let PolicyProtocol { tcp, udp, sctp, destination_named_port } = protocol;
        let of_protocols = [("tcp", tcp), ("udp", udp), ("sctp", sctp)];
        for (key, ports) in of_protocols {
            let path = path.key(key);
            match ports {
                None => {}
                Some(ProtocolPorts { destination_port: Some(port) }) => {
                    ports_of(path.key("destinationPort"), port, findings);
                }
                Some(ProtocolPorts { destination_port: None }) => {
                    let help = "write `destinationPort`";
                    findings.error(path, "the protocol has no port", help);
                }
            }
        }
        if let Some(name) = destination_named_port {
            accept(findings, path.key("destinationNamedPort"), syntax::port_name(name));
        }
        let given =
            [tcp.is_some(), udp.is_some(), sctp.is_some(), destination_named_port.is_some()];
        let kinds = "`tcp`, `udp`, `sctp` or `destinationNamedPort`";
        exactly_one(path, &given, kinds, findings);
    }
}

fn ports_of(path: Path<'_>, ports: &PolicyPort, findings: &mut Findings) {
    let PolicyPort { number, range } = ports;
    exactly_one(path, &[number.is_some(), range.is_some()], "`number` or `range`", findings);
    if let Some(number) = number {
        port(findings, path.key("number"), *number);
    }
    if let Some(range) = range {
        let path = path.key("range");
        port(findings, path.key("start"), range.start);
        port(findings, path.key("end"), range.end);
        if range.start >= range.end {
            let message = format!("a range from {} cannot end at {}", range.start, range.end);
            findings.error(path.key("end"), message, "write a number greater than `start`");
        }
    }
}

fn selectors(
    path: Path<'_>,
    namespaces: Option<&LabelSelector>,
    pods: Option<&NamespacedPods>,
    findings: &mut Findings,
) {
    if let Some(namespaces) = namespaces {
        selector(path.key("namespaces"), namespaces, findings);
    }
    if let Some(NamespacedPods { namespace_selector, pod_selector }) = pods {
        let path = path.key("pods");
        selector(path.key("namespaceSelector"), namespace_selector, findings);
        selector(path.key("podSelector"), pod_selector, findings);
    }
}

/// Notes what is not exactly one of several kinds.
fn exactly_one(path: Path<'_>, given: &[bool], kinds: &str, findings: &mut Findings) {
    let message = match given.iter().filter(|is_given| **is_given).count() {
        0 => "nothing is selected",
        1 => return,
        _ => "more than one kind is written",
    };
    findings.error(path, message, format!("write {kinds}, one of them"));
}

/// Notes lists that are too short or too long.
fn count(path: Path<'_>, items: usize, least: usize, findings: &mut Findings) {
    if (least..=MOST).contains(&items) {
        return;
    }
    let message = match items {
        0 => "the list is empty".to_owned(),
        _ => format!("the list has {items} items"),
    };
    findings.error(path, message, format!("write {least} to {MOST} items"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// What is wrong with a policy that is right but for this.
    fn wrong(path: &str, value: Value) -> Vec<String> {
        let mut object = json!({
            "metadata": { "name": "p" },
            "spec": {
                "tier": "Admin", "priority": 0, "subject": { "namespaces": {} },
                "ingress": [{ "action": "Pass", "from": [{ "pods": { "podSelector": {} } }] }],
                "egress": [{ "action": "Deny", "to": [{ "networks": ["10.0.0.0/8"] }] }],
            },
        });
        let place = object.pointer_mut(path.rsplit_once('/').unwrap().0).unwrap();
        place[path.rsplit_once('/').unwrap().1] = value;
        let policy = serde_json::from_value(object).unwrap();
        let mut findings = Findings::default();
        check(&policy, &mut findings);
        let told =
            |finding: &crate::error::Finding| format!("{}: {}", finding.field, finding.message);
        findings.0.iter().map(told).collect()
    }

    #[test]
    fn what_the_schema_allows_is_right() {
        let protocols = json!([
            { "tcp": { "destinationPort": { "number": 80 } } },
            { "udp": { "destinationPort": { "range": { "start": 1, "end": 65_535 } } } },
        ]);
        for (path, value) in [
            ("/spec/tier", json!("Baseline")),
            ("/spec/priority", json!(1000)),
            ("/spec/egress/0/protocols", protocols),
            ("/spec/ingress/0/protocols", json!([{ "destinationNamedPort": "web" }])),
            ("/spec/subject", json!({ "pods": { "podSelector": {}, "namespaceSelector": {} } })),
            ("/spec/egress/0/to", json!([{ "nodes": {} }, { "namespaces": {} }])),
        ] {
            assert_eq!(wrong(path, value), Vec::<String>::new(), "{path}");
        }
    }

    #[test]
    fn what_it_does_not_allow_is_told() {
        let to_both = json!([{ "namespaces": {}, "networks": ["10.0.0.0/8"] }]);
        let range =
            json!([{ "tcp": { "destinationPort": { "range": { "start": 9, "end": 9 } } } }]);
        for (path, value, message) in [
            ("/spec/tier", json!("Platform"), "spec.tier: \"Platform\" is not known here"),
            ("/spec/priority", json!(1001), "spec.priority: 1001 is out of range"),
            ("/spec/priority", json!(null), "spec: the priority is missing"),
            ("/spec/subject", json!({}), "spec.subject: nothing is selected"),
            (
                "/spec/egress/0/action",
                json!("Allow"),
                "spec.egress[0].action: \"Allow\" is not known here",
            ),
            ("/spec/egress/0/to", json!([]), "spec.egress[0].to: the list is empty"),
            ("/spec/egress/0/to", json!([{}]), "spec.egress[0].to[0]: nothing is selected"),
            ("/spec/egress/0/to", to_both, "spec.egress[0].to[0]: more than one kind is written"),
            (
                "/spec/egress/0/to",
                json!([{ "networks": ["::/0", "::/0"] }]),
                "spec.egress[0].to[0].networks[1]: ::/0 is written twice",
            ),
            (
                "/spec/egress/0/to",
                json!([{ "domainNames": ["a.example"] }]),
                "spec.egress[0].to[0].domainNames: names of hosts can only be accepted",
            ),
            (
                "/spec/egress/0/protocols",
                json!([{ "destinationNamedPort": "web" }]),
                "spec.egress[0].protocols[0].destinationNamedPort: only pods have named ports, and the rule has other peers",
            ),
            (
                "/spec/egress/0/protocols",
                range,
                "spec.egress[0].protocols[0].tcp.destinationPort.range.end: a range from 9 cannot end at 9",
            ),
            (
                "/spec/egress/0/protocols",
                json!([{ "tcp": {} }]),
                "spec.egress[0].protocols[0].tcp: the protocol has no port",
            ),
            ("/spec/ingress/0/from", json!([{}]), "spec.ingress[0].from[0]: nothing is selected"),
        ] {
            assert_eq!(wrong(path, value.clone()), [message], "{path} {value}");
        }
    }
}
