//! Rules in words.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kswitch_tables::Protocol;
use kswitch_tables::policy::{Contact, Direction};

use super::Miss;
use crate::endpoints::protocol;

/// Peers and ports of a rule, as they were written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'p> {
    peers: &'p [NetworkPolicyPeer],
    ports: &'p [NetworkPolicyPort],
}

impl<'p> Written<'p> {
    pub(super) fn of(
        policy: &'p NetworkPolicy,
        direction: Direction,
        index: usize,
    ) -> Option<Self> {
        let spec = policy.spec.as_ref()?;
        let (peers, ports) = match direction {
            Direction::Ingress => {
                let rule = spec.ingress.as_ref()?.get(index)?;
                (&rule.from, &rule.ports)
            }
            Direction::Egress => {
                let rule = spec.egress.as_ref()?.get(index)?;
                (&rule.to, &rule.ports)
            }
        };
        let (peers, ports) = (peers.as_deref(), ports.as_deref());
        Some(Self { peers: peers.unwrap_or_default(), ports: ports.unwrap_or_default() })
    }

    /// Whether any of its ports is of this protocol.
    pub(super) fn has_protocol(self, wanted: Protocol) -> bool {
        self.ports.iter().any(|port| protocol(port.protocol.as_deref()) == Some(wanted))
    }

    /// The ports it allows, beside the one that was asked for.
    pub(super) fn port(self, contact: &Contact) -> Miss {
        let Contact { protocol: wanted, port: number, .. } = *contact;
        let ports: Vec<_> = self.ports.iter().map(|port| port_in_words(port, wanted)).collect();
        let asked = match wanted.has_ports() {
            false => wanted.to_string(),
            true if self.has_protocol(wanted) => number.to_string(),
            true => format!("{number}/{wanted}"),
        };
        Miss::Port { allowed: ports.join(", "), asked }
    }

    /// Whom it allows, beside the one who asked.
    pub(super) fn peer(self, contact: &Contact, direction: Direction) -> Miss {
        let (word, asked) = match direction {
            Direction::Ingress => ("from", contact.source.address),
            Direction::Egress => ("to", contact.target.address),
        };
        let peers: Vec<_> = self.peers.iter().map(peer_in_words).collect();
        Miss::Peer { allowed: format!("{word} {}", peers.join(" or ")), asked: asked.to_string() }
    }
}

/// The protocol is left out where it is the one that was asked for.
fn port_in_words(port: &NetworkPolicyPort, wanted: Protocol) -> String {
    let own = port.protocol.as_deref().unwrap_or("TCP");
    let number = match (&port.port, port.end_port) {
        (None, _) => return format!("any {own} port"),
        (Some(IntOrString::Int(first)), Some(last)) => format!("{first}-{last}"),
        (Some(IntOrString::Int(port)), None) => port.to_string(),
        (Some(IntOrString::String(name)), _) => name.clone(),
    };
    if protocol(Some(own)) == Some(wanted) { number } else { format!("{number}/{own}") }
}

fn peer_in_words(peer: &NetworkPolicyPeer) -> String {
    if let Some(block) = &peer.ip_block {
        let cidr = block.cidr.parse::<IpNet>().map_or(block.cidr.clone(), |net| net.to_string());
        let except = block.except.as_deref().unwrap_or_default();
        return match except {
            [] => cidr,
            except => format!("{cidr} without {}", except.join(", ")),
        };
    }
    let pods = peer.pod_selector.as_ref().and_then(in_words);
    let pods = pods.map_or("all pods".into(), |labels| format!("pods {labels}"));
    match &peer.namespace_selector {
        None => format!("{pods} of its namespace"),
        Some(namespaces) => match in_words(namespaces) {
            None => format!("{pods} of any namespace"),
            Some(labels) => format!("{pods} of namespaces {labels}"),
        },
    }
}

/// `app=web,tier in (a, b)`; `None` for a selector that selects all.
fn in_words(selector: &LabelSelector) -> Option<String> {
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let key = &expression.key;
        let values = expression.values.as_deref().unwrap_or_default().join(", ");
        match expression.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} not in ({values})"),
            "Exists" => key.clone(),
            _ => format!("!{key}"),
        }
    });
    let words: Vec<_> = equal.chain(expressions).collect();
    (!words.is_empty()).then(|| words.join(","))
}
