//! Nodes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Node;

use super::{accept, cidr, one_of};
use crate::cluster::Node as Lagging;
use crate::error::Findings;
use crate::path::Path;
use crate::syntax;

pub(super) fn check(node: &Node, findings: &mut Findings) {
    let annotations = node.metadata.annotations.as_ref();
    if let Some(lag) = annotations.and_then(|all| all.get(Lagging::ENDPOINT_LAG_ANNOTATION)) {
        let path = Path::Root.key("metadata");
        let path = path.key("annotations");
        accept(findings, path.key(Lagging::ENDPOINT_LAG_ANNOTATION), syntax::duration(lag));
    }
    if let Some(spec) = &node.spec {
        let path = Path::Root.key("spec");
        match &spec.pod_cidrs {
            Some(ranges) => {
                let path = path.key("podCIDRs");
                for (index, range) in ranges.iter().enumerate() {
                    cidr(findings, path.index(index), range);
                }
            }
            None => {
                if let Some(range) = &spec.pod_cidr {
                    cidr(findings, path.key("podCIDR"), range);
                }
            }
        }
        let path = path.key("taints");
        for (index, taint) in spec.taints.iter().flatten().enumerate() {
            let path = path.index(index);
            accept(
                findings,
                path.key("key"),
                syntax::qualified_name(&taint.key, "the key of a taint"),
            );
            let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            one_of(findings, path.key("effect"), Some(&taint.effect), &effects);
        }
    }
    let path = Path::Root.key("status");
    let path = path.key("addresses");
    let mut seen = BTreeSet::new();
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    for (index, address) in addresses.enumerate() {
        let path = path.index(index);
        if !matches!(address.type_.as_str(), "InternalIP" | "ExternalIP") {
            continue;
        }
        let parsed = accept(findings, path.key("address"), syntax::address(&address.address));
        if parsed.is_some_and(|parsed| !seen.insert(parsed)) {
            let message = format!("{} stands here twice", address.address);
            findings.error(path.key("address"), message, "remove one of the two");
        }
    }
}
