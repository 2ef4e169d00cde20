//! Node objects as the kubelet and the controllers would have completed them.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{
    Node as NodeObject, NodeAddress, NodeCondition, NodeSpec, NodeStatus, Taint as TaintObject,
};

use super::Candidate;
use crate::cluster::{Node, Taint, ZONE_LABEL};
use crate::identity::uid;
use crate::kind::Kind;
use crate::node_controller::UNREACHABLE;
use crate::settings::ClusterSettings;

pub(super) fn node(
    candidate: Candidate<'_>,
    settings: &ClusterSettings,
    lost: &BTreeSet<String>,
) -> Node {
    let Candidate { name, entry: _, object, addresses, ranges } = candidate;
    let mut object = object.clone();
    metadata(&mut object, &name);
    let spec = object.spec.get_or_insert_default();
    set_ranges(spec, &ranges);
    let is_lost = lost.contains(&*name);
    if is_lost {
        keep_away(spec);
    }
    let taints = spec.taints.iter().flatten();
    let taints = taints.map(|taint| Taint {
        key: taint.key.clone(),
        value: taint.value.clone().unwrap_or_default(),
        effect: taint.effect.clone(),
    });
    let taints = taints.collect();
    let unschedulable = spec.unschedulable == Some(true);
    let status = object.status.get_or_insert_default();
    if is_lost {
        fall_silent(status);
    }
    let ready = set_conditions(status);
    let listed = status.addresses.get_or_insert_default();
    for address in &addresses {
        let text = address.to_string();
        let is_listed = listed
            .iter()
            .any(|at| at.address.parse().is_ok_and(|at: std::net::IpAddr| at == *address));
        if !is_listed {
            listed.push(NodeAddress { address: text, type_: "InternalIP".to_owned() });
        }
    }
    if !listed.iter().any(|address| address.type_ == "Hostname") {
        listed.push(NodeAddress { address: name.to_string(), type_: "Hostname".to_owned() });
    }
    let zone = object.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE_LABEL)).cloned();
    let mut addresses = addresses;
    let prefers_v4 = settings.pod_cidrs.first().is_none_or(|range| range.addr().is_ipv4());
    addresses.sort_by_key(|address| address.is_ipv4() != prefers_v4);
    Node {
        name: name.to_string(),
        zone,
        addresses,
        pod_ranges: ranges,
        taints,
        ready,
        unschedulable,
        object: Arc::new(object),
    }
}

fn metadata(object: &mut NodeObject, name: &str) {
    let labels = object.metadata.labels.get_or_insert_default();
    for (key, value) in [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    ] {
        labels.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    object.metadata.uid.get_or_insert_with(|| uid(Kind::Node.name(), "", name));
}

fn set_ranges(spec: &mut NodeSpec, ranges: &[IpNet]) {
    spec.pod_cidr = ranges.first().map(ToString::to_string);
    spec.pod_cidrs = Some(ranges.iter().map(ToString::to_string).collect());
}

/// What the node controller does to a node that has been silent for too long.
///
/// Source: kube-controller-manager, `UnreachableTaintTemplate`, `NoScheduleTaint`.
fn keep_away(spec: &mut NodeSpec) {
    let taints = spec.taints.get_or_insert_default();
    for effect in ["NoSchedule", "NoExecute"] {
        if !taints.iter().any(|taint| taint.key == UNREACHABLE && taint.effect == effect) {
            let (key, effect) = (UNREACHABLE.to_owned(), effect.to_owned());
            taints.push(TaintObject { key, effect, value: None, time_added: None });
        }
    }
}

/// Source: kube-controller-manager, `NodeStatusUnknown`.
fn fall_silent(status: &mut NodeStatus) {
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "Ready");
    conditions.push(NodeCondition {
        type_: "Ready".to_owned(),
        status: "Unknown".to_owned(),
        reason: Some("NodeStatusUnknown".to_owned()),
        message: Some("Kubelet stopped posting node status.".to_owned()),
        ..NodeCondition::default()
    });
}

/// Answers whether the node is ready: it is if nothing else is said.
fn set_conditions(status: &mut NodeStatus) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    if let Some(condition) = conditions.iter().find(|condition| condition.type_ == "Ready") {
        return condition.status == "True";
    }
    conditions.push(NodeCondition {
        type_: "Ready".to_owned(),
        status: "True".to_owned(),
        reason: Some("KubeletReady".to_owned()),
        ..NodeCondition::default()
    });
    true
}
