//! Pod objects as the scheduler and the kubelet would have completed them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    HostIP, Pod as PodObject, PodCondition, PodIP, PodSpec, PodStatus,
};

use crate::cluster::{Node, Pod};
use crate::identity::uid;
use crate::kind::Kind;
use crate::validate::workloads::Planned;

pub(super) fn pod(planned: &Planned, node: usize, place: &Node, addresses: Vec<IpAddr>) -> Pod {
    let mut object = PodObject::clone(&planned.object);
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let name = object.metadata.name.clone().unwrap_or_default();
    object.metadata.uid.get_or_insert_with(|| uid(Kind::Pod.name(), &namespace, &name));
    let spec = object.spec.get_or_insert_default();
    spec.node_name = Some(place.name.clone());
    let host_network = spec.host_network == Some(true);
    let status = object.status.get_or_insert_default();
    set_status(spec, status);
    status.pod_ip = addresses.first().map(ToString::to_string);
    status.pod_ips = Some(addresses.iter().map(|ip| PodIP { ip: ip.to_string() }).collect());
    status.host_ip = place.addresses.first().map(ToString::to_string);
    status.host_ips =
        Some(place.addresses.iter().map(|ip| HostIP { ip: ip.to_string() }).collect());
    Pod { namespace, name, node, addresses, host_network, object: Arc::new(object) }
}

/// Phase and conditions: what was written stays, and a pod of which nothing is said runs and is
/// ready once its readiness gates are.
fn set_status(spec: &PodSpec, status: &mut PodStatus) {
    let phase = status.phase.get_or_insert_with(|| "Running".to_owned());
    let is_running = phase == "Running";
    let conditions = status.conditions.get_or_insert_default();
    let written: BTreeSet<String> = conditions.iter().map(|at| at.type_.clone()).collect();
    let is_true = |conditions: &[PodCondition], name: &str| {
        conditions.iter().any(|at| at.type_ == name && at.status == "True")
    };
    let set = |conditions: &mut Vec<PodCondition>, name: &str, is: bool| {
        if !written.contains(name) {
            let status = if is { "True" } else { "False" }.to_owned();
            conditions.push(PodCondition {
                type_: name.to_owned(),
                status,
                ..PodCondition::default()
            });
        }
    };
    set(conditions, "PodScheduled", true);
    set(conditions, "Initialized", true);
    set(conditions, "ContainersReady", is_running);
    let gates = spec.readiness_gates.iter().flatten();
    let are_open = gates.map(|gate| &gate.condition_type).all(|gate| is_true(conditions, gate));
    let is_ready = is_true(conditions, "ContainersReady") && are_open;
    set(conditions, "Ready", is_ready);
}
