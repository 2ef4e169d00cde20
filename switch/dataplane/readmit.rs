//! A known flow under new tables: judged again, without choosing anew.
//!
//! An established flow keeps its backend and its source port while the backend exists; what may
//! change is the way there, and whether it is allowed at all. A datagram flow whose backend no
//! longer serves its frontend is dissolved and admitted anew.

use kswitch_tables::conntrack::{BindingFlags, Direction, Found};
use kswitch_tables::{Astray, Attachment, Binding, Endpoint, Flow, Protocol, RouterRole, Snapshot};

use super::admit::{Way, bindings, check_source};
use super::forwarding::{forwarding_at, kept_at};
use super::pipeline::{At, Pipeline, Refusal};
use super::translate::frontend_at;
use super::walk::{Step, Walk};
use super::watch::Account;
use super::{DropReason, Packet};

/// What to do with a flow found under an older generation.
enum Judgement {
    /// Its translation holds; this is its way now.
    Keep(Way),
    /// It must be admitted like a new one.
    Dissolve,
}

impl Pipeline {
    /// Judges a known flow by the tables of now: the binding of the packet's direction, or `None`
    /// where the packet must begin the flow anew.
    pub(super) fn readmit(
        &mut self,
        at: At<'_>,
        packet: &Packet,
        found: &Found,
    ) -> Result<Option<Binding>, Refusal> {
        check_source(at.port, packet)?;
        self.account = Account::default();
        let Some(binding) = self.rejudge(at.snapshot, &packet.flow, found)? else {
            return match found.binding.direction() {
                Direction::Original => Ok(None),
                Direction::Reply if found.binding.flags.has(BindingFlags::BRIDGED) => Ok(None),
                // only the original side may begin it anew
                Direction::Reply => Err(DropReason::MidStream.into()),
            };
        };
        self.tell_audit(at, &packet.flow);
        if binding.ingress != at.ingress {
            // the sender's address lives elsewhere
            return Err(DropReason::SpoofedAddress.into());
        }
        Ok(self.follow(found, packet, at.now)?.then_some(binding))
    }

    /// The binding of this direction under the tables of now, recorded again; a flow that may not
    /// go on is removed.
    ///
    /// `None` where the flow is dissolved.
    ///
    /// # Errors
    /// Why the flow may not go on.
    pub(super) fn rejudge(
        &mut self,
        snapshot: &Snapshot,
        flow: &Flow,
        found: &Found,
    ) -> Result<Option<Binding>, Refusal> {
        let direction = found.binding.direction();
        let (original, source, target) = match direction {
            Direction::Original => (*flow, found.binding.source, found.binding.target),
            // the answers come from the rewritten target to the rewritten source
            Direction::Reply => {
                (found.binding.answered_by(flow.protocol), flow.target, flow.source)
            }
        };
        let judged = self.judge_known(snapshot, &original, found, (source, target));
        let way = match judged {
            Ok(Judgement::Keep(way)) => way,
            Ok(Judgement::Dissolve) => {
                self.shared.conntrack.remove(found);
                return Ok(None);
            }
            // who comes back finds the flow as it was, and ends it
            Err(refusal) if refusal.reason == DropReason::NodeDown => return Err(refusal),
            // a neighbour that has not answered for a while may do so yet
            Err(refusal) if refusal.neighbour.is_some() => return Err(refusal),
            Err(refusal) => {
                self.shared.conntrack.remove(found);
                self.account.is_end = true;
                return Err(refusal);
            }
        };
        let ends = (source, target);
        let (forward, backward) = bindings(snapshot, way.home.port, &original, &way, ends);
        let binding = match direction {
            Direction::Original => forward,
            Direction::Reply => backward,
        };
        // another worker may have done the like: its binding says the same
        self.shared.conntrack.rebind(found, binding);
        Ok(Some(binding))
    }

    /// Whether the flow's translation still holds and the flow is still allowed, and its way now.
    fn judge_known(
        &mut self,
        snapshot: &Snapshot,
        original: &Flow,
        found: &Found,
        ends: (Endpoint, Endpoint),
    ) -> Result<Judgement, Refusal> {
        let judged = way_of_known(snapshot, original, found, ends)?;
        if let Judgement::Keep(way) = &judged {
            let port = snapshot.topology.port(way.home.port);
            let port = port.ok_or(DropReason::HostUnreachable)?;
            self.permit_known(snapshot, port, original, ends.1, way)?;
        }
        Ok(judged)
    }
}

/// Whether the flow's translation still holds, and its way now.
fn way_of_known(
    snapshot: &Snapshot,
    original: &Flow,
    found: &Found,
    (source, target): (Endpoint, Endpoint),
) -> Result<Judgement, Refusal> {
    let hosts = &snapshot.topology.hosts;
    let is_bridged = found.binding.flags.has(BindingFlags::BRIDGED);
    let home = match hosts.get(&original.source.address) {
        Some(home) => *home,
        // whom a bridge knows by an Ethernet address alone begins anew
        None if is_bridged => return Ok(Judgement::Dissolve),
        None => place(snapshot, original)?,
    };
    let port = snapshot.topology.port(home.port).ok_or(DropReason::HostUnreachable)?;
    let flags = found.binding.flags;
    let masquerade = flags.has(BindingFlags::MASQUERADED).then_some(source.address);
    if is_bridged {
        let Some(egress) = hosts.get(&target.address).copied() else {
            return Ok(Judgement::Dissolve);
        };
        let way = Way { home, egress, hops: 0, translation: None, masquerade, is_bridged: true };
        return Ok(Judgement::Keep(way));
    }
    let is_translated = target.address != original.target.address
        || (target.port != original.target.port && original.protocol.has_ports());
    let is_settled = !found.life.state.is_unreplied() && original.protocol != Protocol::UDP;
    let mut walk = Walk::new(&snapshot.topology, port);
    let mut frontend = None;
    while let Some(router) = walk.router() {
        if router.role == RouterRole::Node {
            frontend = frontend_at(snapshot, walk.at(), router, original);
        } else if is_translated && let Some(Ok(rule)) = forwarding_at(snapshot, port, original) {
            match kept_at(snapshot, rule, found, (source, target), is_settled) {
                Some(node) => walk.hand_to(node)?,
                None => return Ok(Judgement::Dissolve),
            }
            continue;
        }
        if frontend.is_some() {
            break;
        }
        match walk.step(original.target.address) {
            Ok(Step::Onward) => {}
            Err(refusal) if refusal.reason == DropReason::NodeDown => return Err(refusal),
            Ok(Step::Arrived(_) | Step::Router) | Err(_) => break,
        }
    }
    let holds = match (is_translated, frontend) {
        // what was no frontend's still is not
        (false, None) => true,
        // a connection outlives its service; a datagram flow does not
        (true, None) | (false, Some(_)) => is_settled,
        (true, Some(id)) => {
            is_settled
                || snapshot
                    .served_at(walk.at())
                    .frontends
                    .get(id)
                    .is_some_and(|frontend| frontend.is_serving(target))
        }
    };
    if !holds {
        return Ok(Judgement::Dissolve);
    }
    if !is_translated {
        walk = Walk::new(&snapshot.topology, port);
    }
    let egress = walk.to(target.address)?;
    let hops = u8::try_from(walk.crossed().len()).unwrap_or(u8::MAX);
    Ok(Judgement::Keep(Way {
        home,
        egress,
        hops,
        translation: None,
        masquerade,
        is_bridged: false,
    }))
}

/// Where the source of a flow is, which is no machine that the snapshot names.
fn place(snapshot: &Snapshot, original: &Flow) -> Result<Attachment, Refusal> {
    let gone = DropReason::HostUnreachable;
    snapshot.topology.place(original.source.address).map_err(|astray| match astray {
        Astray::Unknown(neighbour) => Refusal::of_neighbour(gone, neighbour),
        Astray::Nowhere => gone.into(),
    })
}
