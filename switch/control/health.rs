//! The health checks that nodes answer, kept like those that are wanted.

use std::collections::BTreeMap;

use kswitch_config::{Cluster, PROXY_HEALTH_PORT, PortKind};
use tokio::runtime::Handle;

use super::lags::Lags;
use crate::agents::health::{self, Responder, Says, Socket};
use crate::lab::namespace;

/// A port of a node's namespace, host order.
type Place = (String, u16);

/// Running responders by where they listen.
#[derive(Debug)]
pub(super) struct HealthChecks {
    runtime: Handle,
    responders: BTreeMap<Place, Responder>,
}

impl HealthChecks {
    /// None yet.
    pub(super) const fn new(runtime: Handle) -> Self {
        Self { runtime, responders: BTreeMap::new() }
    }

    /// Stops the responders of a namespace that is about to go.
    pub(super) fn leave(&mut self, namespace: &str) {
        self.responders.retain(|(name, _), _| name != namespace);
    }

    /// Stops what is not wanted any more, starts what does not run, and has all of them say what
    /// is so now. A port that is taken in its namespace is reported and left out.
    pub(super) fn keep(&mut self, cluster: &Cluster, lags: &Lags) {
        let lab = &cluster.settings.lab.name;
        let mut wanted: BTreeMap<Place, _> = BTreeMap::new();
        for node in &cluster.nodes {
            let namespace = PortKind::Node { name: node.name.clone() }.namespace(lab);
            for check in lags.checks(&node.name) {
                let says = Says::Anywhere(health::answer(check, &node.name));
                wanted.insert((namespace.clone(), check.port), says);
            }
            let says = Says::Proxy { is_eligible: !node.is_leaving() };
            wanted.entry((namespace, PROXY_HEALTH_PORT)).or_insert(says);
        }
        self.responders.retain(|place, _| wanted.contains_key(place));
        for (place, says) in wanted {
            if let Some(responder) = self.responders.get(&place) {
                responder.set(says);
                continue;
            }
            let (name, port) = &place;
            let socket = namespace::enter(name, || Socket::open(*port));
            let started = socket
                .and_then(|socket| socket)
                .and_then(|socket| Responder::start(&self.runtime, socket, says));
            match started {
                Ok(responder) => {
                    self.responders.insert(place, responder);
                }
                Err(error) => tracing::warn!("{name}: no health check at port {port}: {error}"),
            }
        }
    }
}
