//! The cluster's name servers, kept like those that are wanted.

use std::collections::BTreeMap;
use std::io;

use kswitch_config::{Cluster, Pod, PortKind, name_servers};

use super::hosts::home;
use crate::agents::dns::{Dns, Server, Sockets};
use crate::lab::namespace;

/// Where a name server listens: its namespace, and ports by UDP and TCP, host order.
type Place = (String, Vec<u16>, Vec<u16>);

/// Running name servers by the pods that they are.
#[derive(Debug)]
pub(super) struct NameServers {
    /// What they answer.
    pub(super) dns: Dns,
    servers: BTreeMap<PortKind, (Place, Server)>,
}

impl NameServers {
    /// None yet.
    pub(super) const fn new(dns: Dns) -> Self {
        Self { dns, servers: BTreeMap::new() }
    }

    /// Stops the servers of a namespace that is about to go.
    pub(super) fn leave(&mut self, namespace: &str) {
        self.servers.retain(|_, ((own, ..), _)| own != namespace);
    }

    /// Stops what is not wanted any more, and starts what is wanted and does not run. A server whose
    /// port is taken in its namespace is reported and left out.
    pub(super) fn keep(&mut self, cluster: &Cluster) {
        let place = |pod: &Pod, udp, tcp| -> Place {
            (home(cluster, pod).namespace(&cluster.settings.lab.name), udp, tcp)
        };
        let wanted: BTreeMap<PortKind, Place> = name_servers(cluster)
            .into_iter()
            .map(|server| {
                let pod = &server.pod;
                let kind =
                    PortKind::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() };
                (kind, place(pod, server.udp, server.tcp))
            })
            .collect();
        self.servers.retain(|kind, (place, _)| wanted.get(kind) == Some(place));
        for (kind, place) in wanted {
            if self.servers.contains_key(&kind) {
                continue;
            }
            match self.start(&place) {
                Ok(server) => {
                    self.servers.insert(kind, (place, server));
                }
                Err(error) => tracing::warn!("{kind}: no name server: {error}"),
            }
        }
    }

    fn start(&self, (namespace, udp, tcp): &Place) -> io::Result<Server> {
        self.dns.serve(namespace::enter(namespace, || Sockets::open(udp, tcp))??)
    }
}
