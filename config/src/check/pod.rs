//! Pods, and the templates of pods.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::{accept, labels, one_of, port, protocol};
use crate::error::Findings;
use crate::path::Path;
use crate::syntax;

pub(super) fn check(pod: &Pod, findings: &mut Findings) {
    if let Some(spec) = &pod.spec {
        check_spec(Path::Root.key("spec"), spec, findings);
    }
    let Some(status) = &pod.status else { return };
    let path = Path::Root.key("status");
    let phases = ["Pending", "Running", "Succeeded", "Failed", "Unknown"];
    one_of(findings, path.key("phase"), status.phase.as_deref(), &phases);
    if let Some(address) = &status.pod_ip {
        accept(findings, path.key("podIP"), syntax::address(address));
    }
    let addresses = path.key("podIPs");
    for (index, address) in status.pod_ips.iter().flatten().enumerate() {
        let path = addresses.index(index);
        accept(findings, path.key("ip"), syntax::address(&address.ip));
    }
    let conditions = path.key("conditions");
    for (index, condition) in status.conditions.iter().flatten().enumerate() {
        let path = conditions.index(index);
        let words = ["True", "False", "Unknown"];
        one_of(findings, path.key("status"), Some(&condition.status), &words);
    }
}

pub(super) fn check_spec(path: Path<'_>, spec: &PodSpec, findings: &mut Findings) {
    let host_network = spec.host_network == Some(true);
    let mut host_ports = BTreeSet::new();
    for (key, containers) in
        [("initContainers", spec.init_containers.as_ref()), ("containers", Some(&spec.containers))]
    {
        let path = path.key(key);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            check_container(path.index(index), container, host_network, &mut host_ports, findings);
        }
    }
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        accept(findings, path.key("nodeName"), syntax::dns_subdomain(node));
    }
    labels(path.key("nodeSelector"), spec.node_selector.as_ref(), findings);
    let tolerations = path.key("tolerations");
    for (index, toleration) in spec.tolerations.iter().flatten().enumerate() {
        let path = tolerations.index(index);
        one_of(
            findings,
            path.key("operator"),
            toleration.operator.as_deref(),
            &["Exists", "Equal"],
        );
        let effect = toleration.effect.as_deref().filter(|effect| !effect.is_empty());
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        one_of(findings, path.key("effect"), effect, &effects);
    }
    for (key, is_written) in [
        ("affinity", spec.affinity.is_some()),
        ("topologySpreadConstraints", spec.topology_spread_constraints.is_some()),
        ("schedulingGates", spec.scheduling_gates.is_some()),
        ("hostAliases", spec.host_aliases.is_some()),
    ] {
        if is_written {
            let help = "pods are spread evenly over the nodes that `nodeSelector` and taints allow";
            let help = if key == "hostAliases" { "" } else { help };
            findings.warning(path.key(key), format!("`{key}` has no effect here"), help);
        }
    }
}

fn check_container<'c>(
    path: Path<'_>,
    container: &'c Container,
    host_network: bool,
    host_ports: &mut BTreeSet<(i32, &'c str, &'c str)>,
    findings: &mut Findings,
) {
    let ports = path.key("ports");
    let mut names = BTreeSet::new();
    for (index, at) in container.ports.iter().flatten().enumerate() {
        let path = ports.index(index);
        port(findings, path.key("containerPort"), at.container_port);
        protocol(findings, path.key("protocol"), at.protocol.as_deref());
        if let Some(name) = at.name.as_deref().filter(|name| !name.is_empty()) {
            accept(findings, path.key("name"), syntax::port_name(name));
            if !names.insert(name) {
                let message = format!("the container has two ports called `{name}`");
                findings.error(path.key("name"), message, "give each port a name of its own");
            }
        }
        let host_ip = at.host_ip.as_deref().filter(|address| !address.is_empty());
        if let Some(address) = host_ip {
            accept(findings, path.key("hostIP"), syntax::address(address));
        }
        let Some(host_port) = at.host_port.filter(|port| *port != 0) else { continue };
        port(findings, path.key("hostPort"), host_port);
        if host_network && host_port != at.container_port {
            let message = "with `hostNetwork`, hostPort and containerPort are the same port";
            let help = format!("write hostPort: {}, or leave it out", at.container_port);
            findings.error(path.key("hostPort"), message, help);
        }
        let protocol = at.protocol.as_deref().unwrap_or("TCP");
        if !host_ports.insert((host_port, protocol, host_ip.unwrap_or(""))) {
            let message = format!("the pod asks for hostPort {host_port} ({protocol}) twice");
            findings.error(path.key("hostPort"), message, "ask for another port");
        }
    }
}
