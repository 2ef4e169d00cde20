//! The way of a fragment through the pipeline.

use super::fragment::Later;
use super::frame::Fragment;
use super::pipeline::{At, Output, Pipeline, Refusal, Verdict};
use super::{DropReason, Frame, Kind, Packet, Parsed};

impl Pipeline {
    /// Carries a fragment: the first one like a whole packet, and then those that waited for it;
    /// a later one by the ports that the first one had.
    pub(super) fn piece(
        &mut self,
        at: At<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        fragment: Fragment,
        out: &mut impl Output,
    ) -> Result<Verdict, Refusal> {
        if fragment.offset > 0 {
            return self.later(at, frame, packet, fragment, out);
        }
        if packet.kind == Kind::Spread {
            super::admit::check_source(at.port, packet)?;
            let buffer = frame.buffer();
            return match self.fragments.spread(at.ingress, packet, fragment, at.now, buffer)? {
                Later::Whole => self.whole(at, packet, fragment, out),
                _ => Ok(Verdict::Held),
            };
        }
        self.fragments.first(at.ingress, packet, fragment, at.now)?;
        let hash = self.shared.conntrack.hash(&packet.flow);
        let verdict = self.unicast(at, frame, packet, hash, out);
        if let Err(refusal) = verdict {
            if refusal.neighbour.is_some() {
                // it comes again once its neighbour is known; the others wait for it
                self.fragments.put_off(at.ingress, packet, fragment);
            } else {
                self.fragments.refuse(at.ingress, packet, fragment);
            }
            return verdict;
        }
        while let Some((mut buffer, length)) =
            self.fragments.take_held(at.ingress, packet, fragment)
        {
            let mut held = Frame::new(buffer.get_mut(..length).unwrap_or(&mut []));
            if let Ok(Parsed::Ip(later)) = held.parse() {
                let flow = packet.flow;
                let later = Packet { flow, ..later };
                let carried = self.unicast(at, &mut held, &later, hash, out);
                if let Err(refusal) = carried {
                    self.counters.count_drop(at.ingress, refusal.reason);
                }
            }
            self.fragments.put_back(buffer);
        }
        verdict
    }

    /// Carries a packet that had to be put together.
    fn whole(
        &mut self,
        at: At<'_>,
        packet: &Packet,
        fragment: Fragment,
        out: &mut impl Output,
    ) -> Result<Verdict, Refusal> {
        let assembled = self.fragments.assemble(at.ingress, packet, fragment);
        let (mut buffer, length) = assembled.ok_or(DropReason::Fragmented)?;
        let mut frame = Frame::new(buffer.get_mut(..length).unwrap_or(&mut []));
        let verdict = match frame.parse() {
            Ok(Parsed::Ip(whole)) => {
                let hash = self.shared.conntrack.hash(&whole.flow);
                let verdict = self.unicast(at, &mut frame, &whole, hash, out);
                if let Err(refusal @ Refusal { neighbour: Some(neighbour), .. }) = verdict {
                    self.await_neighbour(at, &frame, (refusal, neighbour), out)
                        .map_err(|refusal| Refusal { neighbour: None, ..refusal })
                } else if let Err(refusal) = verdict {
                    // of the packet, not of its last piece
                    self.speak(at, &frame, &whole, refusal, out);
                    verdict
                } else {
                    verdict
                }
            }
            Ok(_) => Err(DropReason::Fragmented.into()),
            Err(reason) => Err(reason.into()),
        };
        self.fragments.take_back(buffer);
        verdict
    }

    fn later(
        &mut self,
        at: At<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        fragment: Fragment,
        out: &mut impl Output,
    ) -> Result<Verdict, Refusal> {
        super::admit::check_source(at.port, packet)?;
        match self.fragments.later(at.ingress, packet, fragment, at.now, frame.buffer())? {
            Later::Held => Ok(Verdict::Held),
            Later::Whole => self.whole(at, packet, fragment, out),
            Later::Ports(protocol, source, target) => {
                let mut packet = *packet;
                packet.flow.protocol = protocol;
                packet.flow.source.port = source;
                packet.flow.target.port = target;
                let hash = self.shared.conntrack.hash(&packet.flow);
                self.unicast(at, frame, &packet, hash, out)
            }
        }
    }
}
