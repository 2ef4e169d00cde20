//! Ports of Services.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::{accept, port, protocol};
use super::{ServiceType, is_headless};
use crate::error::Findings;
use crate::path::Path;
use crate::syntax;

pub(super) fn check(path: Path<'_>, spec: &ServiceSpec, findings: &mut Findings) {
    let service_type = ServiceType::of(spec);
    let list = spec.ports.as_deref().unwrap_or(&[]);
    let path = path.key("ports");
    if list.is_empty() && !is_headless(spec) && service_type != ServiceType::ExternalName {
        findings.error(path, "the Service has no port", "write ports: [{ port: 80 }]");
    }
    let mut names = BTreeMap::new();
    let mut numbers = BTreeMap::new();
    let mut node_ports = BTreeMap::new();
    for (index, at) in list.iter().enumerate() {
        let path = path.index(index);
        let word = at.protocol.as_deref().unwrap_or("TCP");
        protocol(findings, path.key("protocol"), at.protocol.as_deref());
        port(findings, path.key("port"), at.port);
        if let Some(other) = numbers.insert((at.port, word), index) {
            let message = format!("port {} ({word}) is ports[{other}] already", at.port);
            findings.error(path.key("port"), message, "give it another port or protocol");
        }
        match at.name.as_deref().unwrap_or("") {
            "" if list.len() > 1 => {
                let help = "with several ports each needs a name";
                findings.error(path.key("name"), "the port has no name", help);
            }
            "" => {}
            name => {
                accept(findings, path.key("name"), syntax::dns_label(name));
                if let Some(other) = names.insert(name, index) {
                    let message = format!("ports[{other}] is called `{name}` already");
                    findings.error(path.key("name"), message, "give each port a name of its own");
                }
            }
        }
        match &at.target_port {
            None | Some(IntOrString::Int(0)) => {}
            Some(IntOrString::String(name)) if name.is_empty() => {}
            Some(IntOrString::Int(number)) => port(findings, path.key("targetPort"), *number),
            Some(IntOrString::String(name)) => {
                accept(findings, path.key("targetPort"), syntax::port_name(name));
            }
        }
        let Some(node_port) = at.node_port.filter(|port| *port != 0) else { continue };
        port(findings, path.key("nodePort"), node_port);
        if !service_type.has_node_ports() {
            let help = "write type: NodePort or LoadBalancer, or remove it";
            findings.error(path.key("nodePort"), "a Service of this type has no node ports", help);
        } else if let Some(other) = node_ports.insert((node_port, word), index) {
            let message =
                format!("nodePort {node_port} ({word}) is that of ports[{other}] already");
            findings.error(path.key("nodePort"), message, "ask for another one, or for none");
        }
    }
}
