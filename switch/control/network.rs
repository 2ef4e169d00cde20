//! Network load balancers at run time: what checks their nodes, and what becomes of connections
//! through nodes that leave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use kswitch_config::{
    BalancedNode, Cluster, NetworkBalancer, NodeHealth, PROXY_HEALTH_PORT, PortKind,
};
use tokio::runtime::Handle;

use super::monitor::Monitor;
use crate::agents::namespace::Namespace;
use crate::agents::prober::{Asked, Place, Prober};
use crate::lab::namespace;

/// A Service and a node: namespace and name of the one, name of the other.
type Member = (String, String, String);

/// What watches over the nodes of network load balancers.
#[derive(Debug)]
pub(super) struct Watchers {
    runtime: Handle,
    prober: Prober,
    changed: Sender<()>,
    /// Nodes that have left a group, and until when connections go on through them.
    draining: BTreeMap<Member, Instant>,
    /// How often nodes were found healthy that were not, or the other way round.
    turns: u64,
}

impl Watchers {
    /// Nobody is watched yet; `changed` hears whenever something is seen to be other than before.
    pub(super) fn new(runtime: Handle, changed: Sender<()>) -> Self {
        let prober = Prober::new(runtime.clone(), changed.clone());
        Self { runtime, prober, changed, draining: BTreeMap::new(), turns: 0 }
    }

    /// What checks have shown.
    pub(super) fn seen(&self) -> NodeHealth {
        self.prober.seen()
    }

    /// How often a node's health has changed so far.
    pub(super) const fn turns(&self) -> u64 {
        self.turns
    }

    /// Nodes through which connections go on although they have left their group.
    pub(super) fn draining(&mut self) -> BTreeSet<Member> {
        let now = Instant::now();
        self.draining.retain(|_, until| *until > now);
        self.draining.keys().cloned().collect()
    }

    /// Takes note of the nodes that leave their groups; answers whether there are any.
    pub(super) fn leave(
        &mut self,
        cluster: &Cluster,
        before: &[NetworkBalancer],
        after: &[NetworkBalancer],
    ) -> bool {
        let patience = cluster.settings.gateway.draining;
        let mut leaving = Vec::new();
        for (old, new) in pairs(before, after) {
            let is_there = |node: &&BalancedNode| cluster.node(&node.name).is_some();
            let stays = |name: &str| new.nodes.iter().any(|node| node.name == name);
            let gone = old.nodes.iter().filter(|node| !stays(&node.name)).filter(is_there);
            leaving.extend(gone.map(|node| member(old, &node.name)));
            self.draining.retain(|(namespace, service, name), _| {
                (namespace, service) != (&new.namespace, &new.service) || !stays(name)
            });
        }
        if leaving.is_empty() || patience.is_zero() {
            return false;
        }
        let until = Instant::now() + patience;
        for member in leaving {
            self.draining.entry(member).or_insert(until);
        }
        let changed = self.changed.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(patience + Duration::from_millis(1)).await;
            // nobody listens any more when the lab goes down
            let _ = changed.send(());
        });
        true
    }

    /// Tells of nodes whose health is another than before.
    pub(super) fn tell(
        &mut self,
        monitor: &Monitor,
        before: &[NetworkBalancer],
        after: &[NetworkBalancer],
    ) {
        for (old, new) in pairs(before, after) {
            for node in &new.nodes {
                let known = old.nodes.iter().find(|at| at.name == node.name);
                if known.is_none_or(|known| known.is_healthy == node.is_healthy) {
                    continue;
                }
                self.turns += 1;
                let service = format!("{}/{}", new.namespace, new.service);
                let what = format!("{} at port {}", new.check.path, new.check.port);
                monitor.health(&service, &format!("node/{}", node.name), node.is_healthy, &what);
            }
        }
    }

    /// Stops asking from a namespace that is about to go.
    pub(super) fn leave_namespace(&self, cluster: &Cluster, namespace: &str) {
        if home(cluster).as_deref() == Some(namespace) {
            self.prober.settle(None, &[]);
        }
    }

    /// Asks the nodes of these load balancers from now on.
    pub(super) fn keep(&mut self, cluster: &Cluster, balancers: &[NetworkBalancer]) {
        let Some(prober) = &cluster.prober else {
            self.prober.settle(None, &[]);
            self.prober.keep(BTreeMap::new());
            return;
        };
        if !self.prober.is_settled()
            && let Some(name) = home(cluster)
        {
            match namespace::enter(&name, Namespace::current).and_then(|opened| opened) {
                Ok(namespace) => self.prober.settle(Some(&namespace), &prober.sources),
                Err(error) => tracing::warn!("nodes are not checked: {name}: {error}"),
            }
        }
        let mut wanted: BTreeMap<Place, Asked> = BTreeMap::new();
        for balancer in balancers {
            // what under a Local policy has no port of its own says nothing of endpoints
            if balancer.is_local && balancer.check.port == PROXY_HEALTH_PORT {
                continue;
            }
            for node in &balancer.nodes {
                let Some(address) = node.addresses.first().copied() else { continue };
                let place = (balancer.check.port, node.name.clone());
                wanted.entry(place).or_insert_with(|| Asked {
                    address,
                    check: balancer.check.clone(),
                    is_healthy: node.is_healthy,
                });
            }
        }
        self.prober.keep(wanted);
    }
}

/// The namespace from which nodes are asked.
fn home(cluster: &Cluster) -> Option<String> {
    let name = cluster.prober.as_ref()?.name.clone();
    Some(PortKind::External { name }.namespace(&cluster.settings.lab.name))
}

fn member(balancer: &NetworkBalancer, node: &str) -> Member {
    (balancer.namespace.clone(), balancer.service.clone(), node.to_owned())
}

/// Load balancers that were there before and are there now.
fn pairs<'b>(
    before: &'b [NetworkBalancer],
    after: &'b [NetworkBalancer],
) -> impl Iterator<Item = (&'b NetworkBalancer, &'b NetworkBalancer)> {
    let name = |at: &'b NetworkBalancer| (&at.namespace, &at.service);
    let known: BTreeMap<_, &NetworkBalancer> = before.iter().map(|at| (name(at), at)).collect();
    after.iter().filter_map(move |new| Some((*known.get(&name(new))?, new)))
}
