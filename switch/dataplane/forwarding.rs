//! The network load balancer: which node a flow from outside is handed to.
//!
//! It sits at the edge, and rewrites nothing. Flows that are known are not asked about again, but
//! when the tables have changed: then a connection stays with its node for as long as the rule keeps
//! it there, and what is no settled connection goes where new flows go.

use kswitch_tables::conntrack::{BindingFlags, Found};
use kswitch_tables::{
    Endpoint, Flow, Forwarding, ForwardingRule, Port, RouterId, RouterRole, Snapshot,
};

use super::decision::Decision;
use super::{DropReason, Pipeline};

/// The rule for a flow that has come to the edge; `None` where its target is no load balancer's.
///
/// # Errors
/// Inside, [`DropReason::NoForwardingRule`] and [`DropReason::ForwardingScope`].
pub(super) fn forwarding_at<'s>(
    snapshot: &'s Snapshot,
    port: &Port,
    flow: &Flow,
) -> Option<Result<&'s ForwardingRule, DropReason>> {
    if snapshot.forwarding.is_inner(flow.target.address) && !is_near(snapshot, port) {
        return Some(Err(DropReason::ForwardingScope));
    }
    let found = snapshot.forwarding.find(flow)?;
    if snapshot.topology.hosts.contains_key(&flow.target.address) {
        // a machine has the address for itself
        return None;
    }
    let Forwarding::Rule(rule) = found else { return Some(Err(DropReason::NoForwardingRule)) };
    let is_admitted =
        snapshot.forwarding.admits(rule, flow.source.address, is_near(snapshot, port));
    Some(if is_admitted { Ok(rule) } else { Err(DropReason::ForwardingScope) })
}

/// Whether what comes in at a port is of the network that the nodes are in: all but hosts beyond
/// the edge that only know the edge's ways.
fn is_near(snapshot: &Snapshot, port: &Port) -> bool {
    let is_behind_edge =
        snapshot.topology.router(port.router).is_some_and(|router| router.role == RouterRole::Edge);
    !is_behind_edge || port.table.is_some()
}

/// Where a known flow goes on, that its rule may keep where it is.
///
/// The node that it went through has left its mark: its address where it masqueraded, else it is the
/// backend's own.
pub(super) fn kept_at(
    snapshot: &Snapshot,
    rule: &ForwardingRule,
    found: &Found,
    (source, target): (Endpoint, Endpoint),
    is_settled: bool,
) -> Option<RouterId> {
    let is_masqueraded = found.binding.flags.has(BindingFlags::MASQUERADED);
    let mark = if is_masqueraded { source.address } else { target.address };
    let router = snapshot.topology.hosts.get(&mark)?.router;
    rule.keeps(router, is_settled).then_some(router)
}

impl Pipeline {
    /// The node for a new flow.
    ///
    /// # Errors
    /// [`DropReason::NoRoute`] where there is no node at all.
    pub(super) fn forward_to(
        &mut self,
        rule: &ForwardingRule,
        flow: &Flow,
    ) -> Result<RouterId, DropReason> {
        self.account.frontend = Some(rule.label);
        let ForwardingRule { nodes, stickiness, label, .. } = rule;
        let node = nodes.choose(flow, *stickiness).ok_or(DropReason::NoRoute)?;
        let among = nodes.routers().len();
        self.note(|| Decision::Forwarded { label: *label, node, among, stickiness: *stickiness });
        Ok(node)
    }
}
