//! From a `NetworkPolicy` to rules.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kswitch_tables::policy::{
    Action, Block, Blocks, NamedPort, Peers, PortName, PortRange, Ports, Rule, SelectionId,
};

use super::super::prefix;
use super::selection::Selection;
use crate::endpoints::protocol;

/// What rules need numbers for.
pub(super) trait Numbers {
    /// The number of a selection.
    fn selection(&mut self, selection: Selection) -> SelectionId;
    /// The number of the name of a port.
    fn port_name(&mut self, name: &str) -> PortName;
    /// The seed of maps.
    fn seed(&self) -> u64;
}

/// In which directions a policy isolates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Isolates {
    pub(crate) ingress: bool,
    pub(crate) egress: bool,
}

impl Isolates {
    /// What is written, else ingress, and egress too where there are rules for it.
    ///
    /// Source: `NetworkPolicySpec.policyTypes`.
    pub(crate) fn of(spec: &NetworkPolicySpec) -> Self {
        match spec.policy_types.as_deref() {
            None | Some([]) => {
                let egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
                Self { ingress: true, egress }
            }
            Some(types) => {
                let has = |word: &str| types.iter().any(|written| written == word);
                Self { ingress: has("Ingress"), egress: has("Egress") }
            }
        }
    }
}

/// The rules for each direction that a policy isolates in: those of ingress, those of egress.
pub(super) fn rules(
    policy: &NetworkPolicy,
    isolates: Isolates,
    numbers: &mut impl Numbers,
) -> (Vec<Rule>, Vec<Rule>) {
    let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
    let Some(spec) = &policy.spec else { return Default::default() };
    let mut rule = |(of_peers, of_ports): (Option<&[_]>, Option<&[_]>)| Rule {
        action: Action::Accept,
        peers: peers(namespace, of_peers, numbers),
        ports: ports(of_ports, numbers),
    };
    let ingress = spec.ingress.iter().flatten().filter(|_| isolates.ingress);
    let ingress = ingress.map(|r| (r.from.as_deref(), r.ports.as_deref())).map(&mut rule).collect();
    let egress = spec.egress.iter().flatten().filter(|_| isolates.egress);
    let egress = egress.map(|r| (r.to.as_deref(), r.ports.as_deref())).map(&mut rule).collect();
    (ingress, egress)
}

/// Nothing written, or an empty list, means everyone.
fn peers(
    namespace: &str,
    peers: Option<&[NetworkPolicyPeer]>,
    numbers: &mut impl Numbers,
) -> Peers {
    let peers = peers.unwrap_or_default();
    if peers.is_empty() {
        return Peers::Everyone;
    }
    let selections = peers.iter().filter_map(|peer| Selection::of_peer(namespace, peer));
    let selections = selections.map(|selection| numbers.selection(selection)).collect();
    let blocks: Vec<Block> =
        peers.iter().filter_map(|peer| block(peer.ip_block.as_ref()?)).collect();
    let blocks = (!blocks.is_empty()).then(|| Blocks::new(numbers.seed(), &blocks));
    Peers::Listed { selections, blocks }
}

fn block(block: &IPBlock) -> Option<Block> {
    let parse = |text: &str| text.parse::<IpNet>().ok().map(prefix);
    let except = block.except.iter().flatten().filter_map(|text| parse(text)).collect();
    Some((parse(&block.cidr)?, except))
}

/// Nothing written, or an empty list, means every protocol and port.
fn ports(ports: Option<&[NetworkPolicyPort]>, numbers: &mut impl Numbers) -> Ports {
    let ports = ports.unwrap_or_default();
    if ports.is_empty() {
        return Ports::All;
    }
    let (mut ranges, mut names) = (Vec::new(), Vec::new());
    for port in ports {
        let Some(protocol) = protocol(port.protocol.as_deref()) else { continue };
        let number = |number: i32| u16::try_from(number).ok();
        match &port.port {
            None => ranges.push(PortRange { protocol, first: 0, last: u16::MAX }),
            Some(IntOrString::Int(first)) => {
                let bounds = number(*first).zip(number(port.end_port.unwrap_or(*first)));
                ranges.extend(bounds.map(|(first, last)| PortRange { protocol, first, last }));
            }
            Some(IntOrString::String(name)) => {
                names.push(NamedPort { name: numbers.port_name(name), protocol: Some(protocol) });
            }
        }
    }
    Ports::Listed { ranges: ranges.into(), names: names.into() }
}
