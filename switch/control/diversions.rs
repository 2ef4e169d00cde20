//! Which ports of its own addresses each node asks the switch for: node ports and host ports.

use std::collections::{BTreeMap, BTreeSet};

use kswitch_config::{Cluster, PlannedPort, PortKind};
use kswitch_tables::Protocol;

use super::hosts::INTERFACE;
use crate::lab::namespace;
use crate::lab::rule::{self, Diversion, Ports};

/// What the namespaces of nodes were told.
#[derive(Debug, Default)]
pub(super) struct Diversions {
    told: BTreeMap<String, Diversion>,
}

impl Diversions {
    /// Forgets a namespace that is about to go.
    pub(super) fn leave(&mut self, namespace: &str) {
        self.told.remove(namespace);
    }

    /// Tells each namespace what it has not been told. One that cannot be told is reported: its
    /// processes do without node ports of their own node.
    pub(super) fn keep(&mut self, wanted: impl IntoIterator<Item = (String, Diversion)>) {
        for (name, diversion) in wanted {
            let before = self.told.get(&name);
            if before == Some(&diversion) {
                continue;
            }
            let told = namespace::enter(&name, || rule::divert(&name, before, &diversion));
            match told {
                Ok(Ok(())) => {
                    self.told.insert(name, diversion);
                }
                Ok(Err(error)) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!("{error}: {}", cause.unwrap_or_default());
                }
                Err(error) => tracing::warn!("cannot enter namespace {name}: {error}"),
            }
        }
    }
}

/// What each node asks the switch for, by its namespace.
pub(super) fn of_nodes<'a>(
    cluster: &'a Cluster,
    ports: impl Iterator<Item = &'a PlannedPort>,
) -> Vec<(String, Diversion)> {
    let range = &cluster.settings.cluster.node_ports.range;
    let node_ports = [Protocol::TCP, Protocol::UDP, Protocol::SCTP].map(|protocol| Ports {
        protocol: protocol.0,
        first: *range.start(),
        last: *range.end(),
    });
    let mut host_ports = host_ports(cluster);
    ports
        .filter_map(|planned| {
            let PortKind::Node { name } = &planned.kind else { return None };
            let mut ports = host_ports.remove(name.as_str()).unwrap_or_default();
            ports.extend(node_ports);
            let interface = planned.addresses.iter().map(ipnet::IpNet::addr);
            let diversion = Diversion {
                interface: INTERFACE.to_owned(),
                addresses: interface.chain(planned.loopback.iter().copied()).collect(),
                gateways: planned.gateways.iter().map(|gateway| gateway.address).collect(),
                ports,
            };
            Some((planned.namespace.clone(), diversion))
        })
        .collect()
}

/// The host ports of the pods of each node, by its name, and the ports of its pods of the host
/// network: these may stand behind a Service that the node itself calls, and their answers have to
/// come by the switch then.
///
/// Source: `ContainerPort.hostPort`, `PodSpec.hostNetwork`.
fn host_ports(cluster: &Cluster) -> BTreeMap<&str, BTreeSet<Ports>> {
    let mut all: BTreeMap<&str, BTreeSet<Ports>> = BTreeMap::new();
    for pod in cluster.pods.iter().filter(|pod| !pod.is_finished()) {
        let Some(node) = cluster.nodes.get(pod.node) else { continue };
        for port in pod.container_ports() {
            let number = if pod.host_network { Some(port.container_port) } else { port.host_port };
            let number = number.and_then(|number| u16::try_from(number).ok());
            let protocol = match port.protocol.as_deref() {
                None | Some("TCP") => Protocol::TCP,
                Some("UDP") => Protocol::UDP,
                Some("SCTP") => Protocol::SCTP,
                Some(_) => continue,
            };
            if let Some(number) = number.filter(|number| *number != 0) {
                let ports = Ports { protocol: protocol.0, first: number, last: number };
                all.entry(&node.name).or_default().insert(ports);
            }
        }
    }
    all
}
