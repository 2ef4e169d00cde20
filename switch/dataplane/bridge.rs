//! A bridge: which port has an Ethernet address, and who hears a flood.

use kswitch_tables::{MacAddress, PortId, PortRole, SegmentId, Snapshot, Tick};

use super::pipeline::{At, Output, Pipeline, Verdict};
use super::{DropReason, Frame};

/// How long a learned Ethernet address is believed: IEEE 802.1Q §8.8.3's recommended 300 s.
pub const LEARNED_MAX_AGE: Tick = Tick::from_secs(300);

impl Pipeline {
    /// Learns that `mac` is behind the port, unless the snapshot says where it is.
    pub(super) fn learn(&self, at: At<'_>, segment: SegmentId, mac: MacAddress) {
        if !mac.is_group() && !at.snapshot.topology.bridge_ports.contains_key(&(segment, mac)) {
            let limit = at.snapshot.limits.stations;
            self.shared.fdb.learn(segment, mac, (at.ingress, limit), at.now);
        }
    }

    /// The port of the bridge behind which `mac` is.
    pub(super) fn port_of(
        &self,
        at: At<'_>,
        segment: SegmentId,
        mac: MacAddress,
    ) -> Option<PortId> {
        let known = at.snapshot.topology.bridge_ports.get(&(segment, mac)).copied();
        known.or_else(|| self.shared.fdb.find(segment, mac, at.now, LEARNED_MAX_AGE.0))
    }

    /// Carries a frame within its bridge by Ethernet destination, outside conntrack: what is not
    /// IP unicast between two known machines.
    ///
    /// # Errors
    /// [`DropReason::NotForRouter`] on a link that is no bridge, [`DropReason::NoBridgeMember`]
    /// and [`DropReason::NoSuchNeighbour`] where nobody is there to hear it.
    pub(super) fn bridge(
        &self,
        at: At<'_>,
        frame: &Frame<'_>,
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let At { snapshot, ingress, port, .. } = at;
        let PortRole::Bridged(segment) = port.role else { return Err(DropReason::NotForRouter) };
        let (target, _) = frame.macs().ok_or(DropReason::FrameTooShort)?;
        if target == port.router_mac {
            return Err(DropReason::NotForRouter);
        }
        match self.port_of(at, segment, target) {
            Some(egress) if egress == ingress => Err(DropReason::NoSuchNeighbour),
            Some(egress) => {
                out.send(egress, frame.buffer());
                Ok(Verdict::Forwarded(egress))
            }
            None => flood(snapshot, segment, ingress, frame, out),
        }
    }
}

/// Sends a frame to every other port of its bridge, never beyond it.
fn flood(
    snapshot: &Snapshot,
    segment: SegmentId,
    ingress: PortId,
    frame: &Frame<'_>,
    out: &mut impl Output,
) -> Result<Verdict, DropReason> {
    let segment = snapshot.topology.segment(segment).ok_or(DropReason::PortGone)?;
    let mut heard = 0;
    for member in segment.members.iter().filter(|member| **member != ingress) {
        out.send(*member, frame.buffer());
        heard += 1;
    }
    if heard == 0 { Err(DropReason::NoBridgeMember) } else { Ok(Verdict::Flooded) }
}
