//! Frames that wait until the place of a neighbour is known.
//!
//! Room and time are bounded: of each neighbour's frames the newest are kept, as a neighbour that
//! answers late has more use for them.
//!
//! Source: RFC 1122 §2.3.2.2; RFC 4861 §7.2.2.

use kswitch_tables::{Address, PortId, SegmentId, Snapshot, Tick};

use super::pipeline::{At, Output, Pipeline, Refusal, Verdict};
use super::{DropReason, Frame, Parsed};

/// Frames that wait at most, over all neighbours of a worker.
pub const PENDING_MAX: usize = 64;

/// Frames that wait for one neighbour at most.
pub const PENDING_EACH: usize = 8;

/// Frames of one port that wait at most.
pub const PENDING_OF_PORT: usize = 16;

/// How long a frame waits at most, whatever is known of its neighbour.
pub const PENDING_MAX_AGE: Tick = Tick::from_secs(5);

/// Octets of a buffer that waits: virtio and Ethernet header and a packet of a link with large
/// frames. Longer frames do not wait.
const PENDING_OCTETS: usize = 9_216;

/// A frame that waits.
#[derive(Debug)]
struct Waiting {
    /// For whom; `None`: the room is free.
    neighbour: Option<(SegmentId, Address)>,
    /// The port it came in at.
    ingress: PortId,
    /// Since when.
    since: Tick,
    /// Its place in the order of arrival.
    number: u64,
    /// What becomes of it if the neighbour does not answer.
    refusal: Refusal,
    buffer: Box<[u8]>,
    length: usize,
}

/// The frames that one worker keeps waiting.
#[derive(Debug)]
pub struct Pending {
    rooms: Box<[Waiting]>,
    count: usize,
    numbers: u64,
}

/// A frame that waits no longer.
#[derive(Debug)]
pub struct Released {
    /// The port it came in at.
    pub ingress: PortId,
    /// Its buffer, virtio header first; [`Pipeline::take_back`] takes it again.
    pub buffer: Box<[u8]>,
    /// Octets of the buffer that are the frame's.
    pub length: usize,
    /// Why it goes no further; `None`: its neighbour is known now.
    pub refusal: Option<Refusal>,
    room: usize,
}

impl Default for Pending {
    fn default() -> Self {
        let refusal = Refusal::from(DropReason::HostUnreachable);
        let room = || Waiting {
            neighbour: None,
            ingress: PortId(0),
            since: Tick(0),
            number: 0,
            refusal,
            buffer: vec![0; PENDING_OCTETS].into(),
            length: 0,
        };
        Self {
            rooms: std::iter::repeat_with(room).take(PENDING_MAX).collect(),
            count: 0,
            numbers: 0,
        }
    }
}

impl Pending {
    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Has a frame wait for a neighbour. Answers the port of the frame that has to make room for
    /// it, if any.
    ///
    /// # Errors
    /// [`DropReason::NeighbourQueueFull`].
    pub(super) fn hold(
        &mut self,
        neighbour: (SegmentId, Address),
        ingress: PortId,
        refusal: Refusal,
        now: Tick,
        frame: &[u8],
    ) -> Result<Option<PortId>, DropReason> {
        let full = DropReason::NeighbourQueueFull;
        if frame.len() > PENDING_OCTETS {
            return Err(full);
        }
        let same = || self.rooms.iter().filter(|room| room.neighbour == Some(neighbour));
        let oldest = same().map(|room| room.number).min();
        let gives_way = oldest.filter(|_| same().count() >= PENDING_EACH);
        let of_port = || self.rooms.iter().filter(|room| room.neighbour.is_some());
        let of_port = of_port().filter(|room| room.ingress == ingress).count();
        if gives_way.is_none() && of_port >= PENDING_OF_PORT {
            return Err(full);
        }
        let room = match gives_way {
            Some(number) => self
                .rooms
                .iter_mut()
                .find(|room| room.number == number && room.neighbour == Some(neighbour)),
            None => self.rooms.iter_mut().find(|room| room.neighbour.is_none()),
        };
        let room = room.ok_or(full)?;
        let lost = gives_way.map(|_| room.ingress);
        room.buffer.get_mut(..frame.len()).ok_or(full)?.copy_from_slice(frame);
        room.length = frame.len();
        (room.neighbour, room.ingress, room.since) = (Some(neighbour), ingress, now);
        (room.number, room.refusal) = (self.numbers, refusal);
        self.numbers += 1;
        self.count += usize::from(lost.is_none());
        Ok(lost)
    }

    /// The frame that waits no longer as `fate` has it, the one that came first of all.
    fn release(
        &mut self,
        mut fate: impl FnMut(&(SegmentId, Address), Tick) -> Fate,
    ) -> Option<Released> {
        let mut chosen: Option<(usize, u64, Fate)> = None;
        for (at, room) in self.rooms.iter().enumerate() {
            let Some(neighbour) = &room.neighbour else { continue };
            let fate = fate(neighbour, room.since);
            if fate != Fate::Waits && chosen.is_none_or(|(_, number, _)| room.number < number) {
                chosen = Some((at, room.number, fate));
            }
        }
        let (at, _, fate) = chosen?;
        let room = self.rooms.get_mut(at)?;
        room.neighbour = None;
        self.count -= 1;
        Some(Released {
            ingress: room.ingress,
            buffer: std::mem::take(&mut room.buffer),
            length: room.length,
            refusal: (fate == Fate::Refused).then_some(room.refusal),
            room: at,
        })
    }
}

/// What becomes of a frame that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waits,
    GoesOn,
    Refused,
}

impl Pipeline {
    /// Whether frames wait for neighbours.
    pub const fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Hands out a frame that waits no longer: its neighbour has a place in the snapshot, or will
    /// not answer.
    pub fn release(&mut self, snapshot: &Snapshot, now: Tick) -> Option<Released> {
        let neighbours = &self.shared.neighbours;
        self.pending.release(|(segment, address), since| {
            if snapshot.topology.hosts.contains_key(address) {
                return Fate::GoesOn;
            }
            let has_failed =
                neighbours.find(*segment, *address).is_some_and(|known| known.has_failed(now));
            let is_old = now.since(since) >= PENDING_MAX_AGE.0;
            if has_failed || is_old { Fate::Refused } else { Fate::Waits }
        })
    }

    /// Refuses a frame that waited in vain.
    pub fn give_up(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        ingress: PortId,
        (frame, refusal): (&Frame<'_>, Refusal),
        out: &mut impl Output,
    ) -> Verdict {
        let Some(port) = snapshot.topology.port(ingress) else {
            self.counters.count_drop(ingress, DropReason::PortGone);
            return Verdict::Dropped(DropReason::PortGone);
        };
        let packet = match frame.parse() {
            Ok(Parsed::Ip(packet)) => Some(packet),
            _ => None,
        };
        let at = At { snapshot, now, ingress, port };
        self.refuse(at, frame, packet.as_ref(), refusal, out)
    }

    /// Takes the buffer of a released frame again.
    pub fn take_back(&mut self, released: Released) {
        if let Some(room) = self.pending.rooms.get_mut(released.room) {
            room.buffer = released.buffer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: SegmentId = SegmentId(0);

    fn refusal() -> Refusal {
        DropReason::HostUnreachable.into()
    }

    fn hold(pending: &mut Pending, host: u32, frame: u8) -> Result<Option<PortId>, DropReason> {
        let neighbour = (LINK, Address::v4(host));
        pending.hold(neighbour, PortId(frame.into()), refusal(), Tick(0), &[frame; 20])
    }

    #[test]
    fn frames_leave_in_the_order_they_came() {
        let mut pending = Pending::default();
        for frame in 0..3 {
            assert_eq!(hold(&mut pending, 7, frame), Ok(None));
        }
        for frame in 0..3 {
            let released = pending.release(|_, _| Fate::GoesOn).unwrap();
            assert_eq!(released.buffer[..released.length], [frame; 20]);
            assert_eq!(released.refusal, None);
            pending.rooms[released.room].buffer = released.buffer;
        }
        assert!(pending.is_empty());
        assert!(pending.release(|_, _| Fate::GoesOn).is_none());
    }

    #[test]
    fn the_oldest_of_a_neighbour_gives_way_and_the_newest_of_too_many_is_refused() {
        let mut pending = Pending::default();
        for frame in 0..8 {
            assert_eq!(hold(&mut pending, 7, frame), Ok(None));
        }
        assert_eq!(hold(&mut pending, 7, 8), Ok(Some(PortId(0))));
        for host in 0..56 {
            let port = u8::try_from(20 + host / 16).unwrap();
            assert_eq!(hold(&mut pending, 100 + host, port), Ok(None));
        }
        assert_eq!(hold(&mut pending, 99, 9), Err(DropReason::NeighbourQueueFull));
        assert_eq!(hold(&mut pending, 7, 10), Ok(Some(PortId(1))), "there is room of its own");
        assert_eq!(pending.count, PENDING_MAX);
    }

    #[test]
    fn a_port_that_asks_for_many_leaves_room_for_others() {
        let mut pending = Pending::default();
        for host in 0..16 {
            assert_eq!(hold(&mut pending, host, 1), Ok(None));
        }
        assert_eq!(hold(&mut pending, 16, 1), Err(DropReason::NeighbourQueueFull));
        assert_eq!(hold(&mut pending, 16, 2), Ok(None));
        let released = pending.release(|_, _| Fate::GoesOn).unwrap();
        pending.rooms[released.room].buffer = released.buffer;
        assert_eq!(hold(&mut pending, 17, 1), Ok(None));
    }

    #[test]
    fn a_frame_longer_than_a_room_does_not_wait() {
        let mut pending = Pending::default();
        let (neighbour, long) = ((LINK, Address::v4(7)), vec![0; PENDING_OCTETS + 1]);
        let held = pending.hold(neighbour, PortId(0), refusal(), Tick(0), &long);
        assert_eq!(held, Err(DropReason::NeighbourQueueFull));
        assert!(pending.is_empty());
    }
}
