//! From a `ClusterNetworkPolicy` to rules.

use ipnet::IpNet;
use kswitch_tables::Protocol;
use kswitch_tables::policy::{
    Action, Block, Blocks, NamedPort, Peers, PortRange, Ports, Rule, SelectionId,
};

use super::super::prefix;
use super::rules::Numbers;
use super::selection::Selection;
use crate::cluster_policy::{
    ClusterNetworkPolicy, EgressRule, IngressRule, PolicyProtocol, ProtocolPorts,
};

/// The rules of a policy: those of ingress, those of egress.
pub(super) fn rules(
    policy: &ClusterNetworkPolicy,
    numbers: &mut impl Numbers,
) -> (Vec<Rule>, Vec<Rule>) {
    let ingress = policy.spec.ingress.iter().filter_map(|rule| ingress_rule(rule, numbers));
    let ingress = ingress.collect();
    let egress = policy.spec.egress.iter().filter_map(|rule| egress_rule(rule, numbers)).collect();
    (ingress, egress)
}

fn ingress_rule(rule: &IngressRule, numbers: &mut impl Numbers) -> Option<Rule> {
    let selections = rule.from.iter().filter_map(Selection::of_ingress_peer);
    let selections: Vec<SelectionId> =
        selections.map(|selection| numbers.selection(selection)).collect();
    Some(Rule {
        action: action(&rule.action)?,
        peers: Peers::Listed { selections: selections.into(), blocks: None },
        ports: ports(rule.protocols.as_deref(), numbers),
    })
}

fn egress_rule(rule: &EgressRule, numbers: &mut impl Numbers) -> Option<Rule> {
    let selections = rule.to.iter().filter_map(Selection::of_egress_peer);
    let selections: Vec<SelectionId> =
        selections.map(|selection| numbers.selection(selection)).collect();
    let networks = rule.to.iter().flat_map(|peer| peer.networks.iter().flatten());
    let blocks: Vec<Block> = networks
        .filter_map(|text| text.parse::<IpNet>().ok())
        .map(|net| (prefix(net), Vec::new()))
        .collect();
    let blocks = (!blocks.is_empty()).then(|| Blocks::new(numbers.seed(), &blocks));
    Some(Rule {
        action: action(&rule.action)?,
        peers: Peers::Listed { selections: selections.into(), blocks },
        ports: ports(rule.protocols.as_deref(), numbers),
    })
}

fn action(word: &str) -> Option<Action> {
    match word {
        "Accept" => Some(Action::Accept),
        "Deny" => Some(Action::Deny),
        "Pass" => Some(Action::Pass),
        _ => None,
    }
}

/// Nothing written means every protocol and port.
fn ports(protocols: Option<&[PolicyProtocol]>, numbers: &mut impl Numbers) -> Ports {
    let Some(protocols) = protocols else { return Ports::All };
    let (mut ranges, mut names) = (Vec::new(), Vec::new());
    for PolicyProtocol { tcp, udp, sctp, destination_named_port } in protocols {
        let of_protocols = [(Protocol::TCP, tcp), (Protocol::UDP, udp), (Protocol::SCTP, sctp)];
        let of_protocols = of_protocols.into_iter();
        ranges
            .extend(of_protocols.filter_map(|(protocol, ports)| range(protocol, ports.as_ref()?)));
        let name = destination_named_port.as_deref().filter(|name| !name.is_empty());
        names.extend(name.map(|name| NamedPort { name: numbers.port_name(name), protocol: None }));
    }
    Ports::Listed { ranges: ranges.into(), names: names.into() }
}

fn range(protocol: Protocol, ports: &ProtocolPorts) -> Option<PortRange> {
    let Some(port) = &ports.destination_port else {
        return Some(PortRange { protocol, first: 0, last: u16::MAX });
    };
    let (first, last) = match (&port.range, port.number) {
        (Some(range), _) => (range.start, range.end),
        (None, number) => (number?, number?),
    };
    let (first, last) = (u16::try_from(first).ok()?, u16::try_from(last).ok()?);
    Some(PortRange { protocol, first, last })
}
