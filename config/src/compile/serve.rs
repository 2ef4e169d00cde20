//! What routers serve, made anew only where a Service or a host port is another.

use std::sync::Arc;

use kswitch_tables::{Protocol, Served};

use super::Map;
use super::changes::are_same;
use super::host_ports::{self, HostPort};
use super::merge::merged;
use super::names::FrontendName;
use super::service::Part;
use super::services::Labels;

/// Namespace and name of a pod, a port of its node, and the protocol.
type HostPortKey = (String, String, u16, Protocol);

/// What was served last, and what it was made of.
#[derive(Debug, Default)]
pub(super) struct Serving {
    parts: Arc<[Arc<Part>]>,
    host_ports: Vec<HostPort>,
    host_names: Arc<Map<u32, FrontendName>>,
    host_labels: Map<HostPortKey, u32>,
    served: Arc<Served>,
}

impl Serving {
    /// The tables of these parts and host ports, and what these are called by label.
    pub(super) fn make(
        &mut self,
        parts: &Arc<[Arc<Part>]>,
        host_ports: Vec<HostPort>,
        seed: u64,
        labels: &mut Labels,
    ) -> (Arc<Served>, Arc<Map<u32, FrontendName>>) {
        let is_same = are_same(&self.parts, parts)
            && self.host_ports.len() == host_ports.len()
            && self.host_ports.iter().zip(&host_ports).all(|(a, b)| a.is_same(b));
        // nothing is what there is before anything was made
        if !is_same || parts.is_empty() {
            let mut served = merged(parts, seed);
            let names = self.serve_host_ports(&mut served, &host_ports, labels);
            (self.served, self.host_names) = (Arc::new(served), Arc::new(names));
            (self.parts, self.host_ports) = (Arc::clone(parts), host_ports);
        }
        (Arc::clone(&self.served), Arc::clone(&self.host_names))
    }

    /// Adds host ports, which keep their labels while they are there; answers their names by label.
    fn serve_host_ports(
        &mut self,
        served: &mut Served,
        all: &[HostPort],
        fresh: &mut Labels,
    ) -> Map<u32, FrontendName> {
        let (mut labels, mut names) = (Map::default(), Map::default());
        for host_port in all {
            let HostPort { pod, port, protocol, .. } = host_port;
            let key = (pod.namespace.clone(), pod.name.clone(), *port, *protocol);
            let label = self.host_labels.get(&key).copied().unwrap_or_else(|| fresh.fresh());
            labels.insert(key, label);
            host_ports::serve(served, host_port, label);
            let (pod, port, protocol) = (Arc::clone(pod), *port, *protocol);
            names.insert(label, FrontendName::HostPort { pod, port, protocol });
        }
        self.host_labels = labels;
        names
    }
}
