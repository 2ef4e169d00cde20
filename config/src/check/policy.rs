//! NetworkPolicies.

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{accept, cidr, one_of, port, protocol, selector};
use crate::error::Findings;
use crate::path::Path;
use crate::syntax;

pub(super) fn check(policy: &NetworkPolicy, findings: &mut Findings) {
    let Some(spec) = &policy.spec else { return };
    let path = Path::Root.key("spec");
    if let Some(pods) = &spec.pod_selector {
        selector(path.key("podSelector"), pods, findings);
    }
    let types = path.key("policyTypes");
    for (index, word) in spec.policy_types.iter().flatten().enumerate() {
        one_of(findings, types.index(index), Some(word), &["Ingress", "Egress"]);
    }
    // Source: ValidateNetworkPolicySpec of Kubernetes, which asks no more than this
    if spec.policy_types.iter().flatten().count() > 2 {
        findings.error(types, "there are but two types", "write Ingress, Egress or both");
    }
    let rules = path.key("ingress");
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        let path = rules.index(index);
        peers(path.key("from"), rule.from.as_deref(), findings);
        ports(path.key("ports"), rule.ports.as_deref(), findings);
    }
    let rules = path.key("egress");
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        let path = rules.index(index);
        peers(path.key("to"), rule.to.as_deref(), findings);
        ports(path.key("ports"), rule.ports.as_deref(), findings);
    }
}

fn peers(path: Path<'_>, peers: Option<&[NetworkPolicyPeer]>, findings: &mut Findings) {
    for (index, peer) in peers.into_iter().flatten().enumerate() {
        let path = path.index(index);
        if let Some(pods) = &peer.pod_selector {
            selector(path.key("podSelector"), pods, findings);
        }
        if let Some(namespaces) = &peer.namespace_selector {
            selector(path.key("namespaceSelector"), namespaces, findings);
        }
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        let Some(block) = &peer.ip_block else {
            if !selects {
                let help = "write `podSelector`, `namespaceSelector` or `ipBlock`";
                findings.error(path, "the peer selects nothing", help);
            }
            continue;
        };
        if selects {
            let help = "write them as two items of the list";
            findings.error(path.key("ipBlock"), "`ipBlock` stands beside a selector", help);
        }
        let path = path.key("ipBlock");
        let range = cidr(findings, path.key("cidr"), &block.cidr);
        let except = path.key("except");
        for (index, text) in block.except.iter().flatten().enumerate() {
            let exception = cidr(findings, except.index(index), text);
            if let Some((range, exception)) = range.zip(exception)
                && (!range.contains(&exception) || range == exception)
            {
                let message = format!("{text} is not a part of {range}");
                let help = format!("write a range that lies within {range}");
                findings.error(except.index(index), message, help);
            }
        }
    }
}

fn ports(path: Path<'_>, ports: Option<&[NetworkPolicyPort]>, findings: &mut Findings) {
    for (index, at) in ports.into_iter().flatten().enumerate() {
        let path = path.index(index);
        protocol(findings, path.key("protocol"), at.protocol.as_deref());
        match &at.port {
            Some(IntOrString::Int(number)) => port(findings, path.key("port"), *number),
            Some(IntOrString::String(name)) => {
                accept(findings, path.key("port"), syntax::port_name(name));
            }
            None => {}
        }
        let Some(end) = at.end_port else { continue };
        let message = match &at.port {
            Some(IntOrString::Int(first)) if end >= *first && end <= 65_535 => continue,
            Some(IntOrString::Int(first)) => format!("{end} cannot end a range from {first}"),
            Some(IntOrString::String(name)) => {
                format!("the port `{name}` is a name and begins no range")
            }
            None => "the range has no beginning".to_owned(),
        };
        let help = "write `port` as a number, and an `endPort` from there to 65535";
        findings.error(path.key("endPort"), message, help);
    }
}
