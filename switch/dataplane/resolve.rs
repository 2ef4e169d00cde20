//! Neighbours that the snapshot does not name: asked for, learned, and watched for those who claim
//! what others have.
//!
//! Only the edge has such neighbours: every other link has just the machines that the lab made. A
//! neighbour that answers is learned here, has a place once the control side has published it, and
//! is kept there (`control`'s part) for as long as it answers.
//!
//! Source: RFC 826; RFC 4861 §7.2, §7.3; RFC 5227 §2.4; RFC 9131 is not followed: what was not
//! asked for, and does not ask, makes no entry.

use kswitch_tables::{Address, Asked, MacAddress, PortRole, RouterRole, SegmentId};

use super::icmp::Message;
use super::neighbour::answers_for;
use super::pipeline::{At, Output, Pipeline, Refusal, Verdict};
use super::{DropReason, Frame};

/// How long after one answer another machine's is not believed, ticks.
///
/// Source: Linux `neigh/default/locktime`, one second.
const LOCK: u32 = kswitch_tables::ASK_AGAIN.0;

/// How a neighbour said where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It asks for an address of ours, so that it will be answered.
    AskingUs,
    /// It answers a question.
    Answering,
    /// To all who know it, and instead of what they know.
    Unasked,
    /// To who does not know it.
    Hinting,
}

impl Pipeline {
    /// Has a frame wait for a neighbour, and asks for that unless it was asked for just now.
    ///
    /// # Errors
    /// `refusal` where the neighbour has not answered for a while; [`DropReason::NeighbourQueueFull`].
    #[cold]
    pub(super) fn await_neighbour(
        &mut self,
        at: At<'_>,
        frame: &Frame<'_>,
        (refusal, neighbour): (Refusal, Address),
        out: &mut impl Output,
    ) -> Result<Verdict, Refusal> {
        let At { snapshot, now, ingress, .. } = at;
        let topology = &snapshot.topology;
        let edge = topology.edge().and_then(|edge| topology.bridge(edge));
        let Some((id, segment)) = edge else { return Err(refusal) };
        // who only asks what would be sends nothing and waits for nobody
        if self.trail.is_some() {
            return Err(refusal);
        }
        let neighbours = &self.shared.neighbours;
        if neighbours.find(id, neighbour).is_some_and(|known| known.has_failed(now)) {
            return Err(refusal);
        }
        match neighbours.ask(id, neighbour, (ingress, snapshot.limits.neighbours), now) {
            Asked::Full => return Err(DropReason::NeighbourQueueFull.into()),
            Asked::Wait => {}
            Asked::Ask => {
                let Some(question) = self.message.question(segment, neighbour, None) else {
                    return Err(refusal);
                };
                for member in &segment.members {
                    out.send(*member, question);
                }
                self.counters.asked.add(1);
                self.shared.keeper.wake();
            }
        }
        let held = self.pending.hold((id, neighbour), ingress, refusal, now, frame.buffer())?;
        if let Some(lost) = held {
            self.counters.count_drop(lost, DropReason::NeighbourQueueFull);
        }
        Ok(Verdict::Held)
    }

    /// Takes note of where a machine says it is.
    pub(super) fn hear(
        &mut self,
        at: At<'_>,
        (address, mac): (Address, MacAddress),
        said: Said,
        out: &mut impl Output,
    ) {
        let At { snapshot, now, ingress, port } = at;
        let PortRole::Bridged(id) = port.role else { return };
        let topology = &snapshot.topology;
        let Some(segment) = topology.segment(id) else { return };
        if mac.is_group() || address.is_unspecified() || mac == segment.router_mac {
            return;
        }
        if self.contested(at, id, (address, mac)) {
            if self.shared.contests.note(id, address, (mac, ingress), now) {
                self.shared.keeper.wake();
                if answers_for(snapshot, port, address) {
                    defend(&mut self.message, segment.router_mac, address, &segment.members, out);
                }
            }
            return;
        }
        let is_edge =
            topology.router(segment.router).is_some_and(|router| router.role == RouterRole::Edge);
        let is_near = segment.gateways.iter().any(|gateway| gateway.on_link.contains(address));
        if !is_edge || !is_near {
            return;
        }
        let neighbours = &self.shared.neighbours;
        let known = neighbours.find(id, address);
        if known.is_none() && (said != Said::AskingUs || topology.hosts.contains_key(&address)) {
            return;
        }
        let place = known.and_then(|known| Some((known.place?, known.since)));
        if let Some(((old, _), since)) = place
            && old != mac
        {
            if said == Said::Hinting {
                return;
            }
            if said == Said::Answering && now.since(since) < LOCK {
                if self.shared.contests.note(id, address, (mac, ingress), now) {
                    self.shared.keeper.wake();
                }
                return;
            }
        }
        let before = neighbours.changes();
        neighbours.learn(id, address, mac, ingress, now);
        if neighbours.changes() != before {
            self.shared.keeper.wake();
        }
    }

    /// Whether the address is that of another machine which the snapshot names, or the router's.
    fn contested(&self, at: At<'_>, id: SegmentId, (address, mac): (Address, MacAddress)) -> bool {
        let At { snapshot, ingress, port, .. } = at;
        if answers_for(snapshot, port, address) {
            return true;
        }
        // one that was learned may move
        if self.shared.neighbours.find(id, address).is_some() {
            return false;
        }
        let host = snapshot.topology.hosts.get(&address);
        let hop =
            host.filter(|host| !host.is_host).and_then(|host| snapshot.topology.hop(host.hop));
        hop.is_some_and(|hop| {
            let is_here = snapshot.topology.port(hop.port).is_some_and(|at| at.role == port.role);
            is_here && (hop.port != ingress || hop.target_mac != mac)
        })
    }
}

/// Says whose an address is, to all of its link.
fn defend(
    message: &mut Message,
    mac: MacAddress,
    address: Address,
    members: &[kswitch_tables::PortId],
    out: &mut impl Output,
) {
    let announcement = message.announcement(mac, address, true);
    for member in members {
        out.send(*member, announcement);
    }
}
