//! What links that fail do to a packet on its way.
//!
//! The tables know nothing of them: what they decide is tried first, and what links make of it told
//! then. What is left to chance is only mentioned; what lets nothing pass is the packet's end.

use std::collections::BTreeMap;

use kswitch_config::link::{Direction, Faults, Share};
use kswitch_config::{PlannedPort, PortKind};
use kswitch_tables::RouterId;

use super::Tables;
use super::probe::Tried;
use super::report::{Hop, Reply};
use super::verdict::Fate;
use crate::dataplane::DropReason;
use crate::dataplane::decision::Decision;

/// What is wrong with each way along a link.
pub type Faulty = BTreeMap<(PortKind, Direction), Faults>;

/// A faulty way along a link, which a packet takes.
#[derive(Clone, Debug)]
struct Crossing {
    of: PortKind,
    direction: Direction,
    faults: Faults,
}

impl Crossing {
    /// Why nothing passes, if nothing does.
    fn end(&self) -> Option<DropReason> {
        if self.faults.partition {
            return Some(DropReason::LinkCut);
        }
        (self.faults.loss == Share::ALL).then_some(DropReason::LinkLoss)
    }

    fn hop(&self) -> Hop {
        let Self { of, direction, faults } = self;
        let link = match of {
            PortKind::Node { .. } => "the node's link to the fabric",
            PortKind::Pod { .. } | PortKind::External { .. } => "its link",
        };
        Hop {
            at: of.to_string(),
            table: "link".into(),
            rule: Some(faults.to_string()),
            decision: match self.end() {
                Some(reason) => format!("{link}, {} it: {}", direction.name(), reason.meaning()),
                None => format!("{link}, {} it, is faulty on purpose", direction.name()),
            },
            ..Hop::default()
        }
    }
}

impl Tables<'_> {
    fn crossing(&self, of: &PortKind, direction: Direction) -> Option<Crossing> {
        let way = (of.clone(), direction);
        let faults = match self.faults {
            Some(faults) => faults.get(&way).copied(),
            None => {
                let mut links = self.cluster.links.iter();
                links.find(|link| (&link.of, link.direction) == (of, direction)).map(|it| it.faults)
            }
        };
        let faults = faults.filter(|faults| !faults.is_none())?;
        Some(Crossing { of: of.clone(), direction, faults })
    }

    /// The link of a machine; what a node's own programs send crosses none before the fabric's.
    fn of_machine(&self, machine: &PortKind, direction: Direction) -> Option<Crossing> {
        let is_node = matches!(machine, PortKind::Node { .. });
        (!is_node).then(|| self.crossing(machine, direction)).flatten()
    }

    /// The links between these routers, one after the other.
    fn between(&self, routers: &[RouterId]) -> Vec<Crossing> {
        let node = |router: RouterId| {
            let name = self.names.router(router).unwrap_or_default().to_owned();
            PortKind::Node { name }
        };
        let pairs = routers.iter().zip(routers.iter().skip(1)).filter(|(one, next)| one != next);
        let both = pairs.flat_map(|(one, next)| {
            let out = self.crossing(&node(*one), Direction::From);
            [out, self.crossing(&node(*next), Direction::To)]
        });
        both.flatten().collect()
    }
}

/// The routers that a packet comes by, those of its sender and of its receiver among them.
pub(super) fn routers(tables: &Tables<'_>, from: &PlannedPort, tried: &Tried) -> Vec<RouterId> {
    let topology = &tables.snapshot.topology;
    let mut routers: Vec<_> = topology.port(from.id).map(|port| port.router).into_iter().collect();
    for decision in &tried.decisions {
        if let Decision::Way { crossed, egress, .. } = decision {
            routers.extend(crossed.routers());
            routers.push(egress.router);
        }
    }
    routers
}

/// Tells of the faulty links on the way of a packet that came to this end; answers its end on them.
pub(super) fn forth(
    tables: &Tables<'_>,
    from: &PlannedPort,
    routers: &[RouterId],
    hops: &mut Vec<Hop>,
    fate: Fate,
) -> Fate {
    let cut = |reason| Fate::Refused { reason, is_told: false, explanation: None };
    if let Some(first) = tables.of_machine(&from.kind, Direction::From) {
        let at = usize::from(hops.first().is_some_and(|hop| hop.table == "port"));
        if let Some(reason) = first.end() {
            hops.truncate(at);
            hops.push(first.hop());
            return cut(reason);
        }
        hops.insert(at.min(hops.len()), first.hop());
    }
    let Fate::Arrives { port, .. } = &fate else { return fate };
    let last = tables.names.port(*port).and_then(|kind| tables.of_machine(kind, Direction::To));
    match cross(hops, tables.between(routers).into_iter().chain(last)) {
        Some(reason) => cut(reason),
        None => fate,
    }
}

/// Tells of the faulty links on the way of an answer, which goes back over these routers.
pub(super) fn back(
    tables: &Tables<'_>,
    (end, client): (&PlannedPort, &PlannedPort),
    routers: &[RouterId],
    reply: &mut Reply,
) {
    if reply.verdict != "forward" {
        return;
    }
    let first = tables.of_machine(&end.kind, Direction::From);
    let back: Vec<_> = routers.iter().rev().copied().collect();
    let last = tables.of_machine(&client.kind, Direction::To);
    let all = first.into_iter().chain(tables.between(&back)).chain(last);
    if let Some(reason) = cross(&mut reply.hops, all) {
        (reply.verdict, reply.reason) = ("drop".into(), Some(reason.key().into()));
        (reply.rewritten_source, reply.rewritten_target) = (None, None);
    }
}

/// Puts links before the last hop, which is where the packet arrives; where one of them is its end,
/// in place of that.
fn cross(hops: &mut Vec<Hop>, crossings: impl Iterator<Item = Crossing>) -> Option<DropReason> {
    let arrival = hops.pop();
    for crossing in crossings {
        hops.push(crossing.hop());
        if let Some(reason) = crossing.end() {
            return Some(reason);
        }
    }
    hops.extend(arrival);
    None
}
