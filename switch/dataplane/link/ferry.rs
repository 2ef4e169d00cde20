//! Taking frames over faulty links.

use super::line::Errand;
use super::{Lane, Line};
use crate::dataplane::DropReason;
use crate::dataplane::frame::ETHERNET_HEADER;
use crate::dataplane::segment::Segmenter;
use crate::port::{BUFFER_OCTETS, VNET_HEADER, is_unfinished};

/// Copies of one frame at most, however many links double it.
const COPIES_MAX: u32 = 4;

/// What a worker takes frames over faulty links with. Laid out by the control side.
#[derive(Debug)]
pub struct Ferry {
    /// What waits.
    pub(in crate::dataplane) line: Line,
    segmenter: Segmenter,
    /// Where a frame is changed.
    room: Box<[u8]>,
}

impl Default for Ferry {
    fn default() -> Self {
        let room = vec![0; BUFFER_OCTETS].into_boxed_slice();
        Self { line: Line::default(), segmenter: Segmenter::default(), room }
    }
}

impl Ferry {
    /// Takes a frame, virtio header first, over links one after the other; what comes through waits
    /// in the line, be it for no time at all. `lost` hears what does not come through.
    pub(in crate::dataplane) fn take(
        &mut self,
        lanes: &[Option<&Lane>],
        errand: Errand,
        now: u64,
        buffer: &[u8],
        mut lost: impl FnMut(DropReason),
    ) {
        let Self { line, segmenter, room } = self;
        let mut take = |packet: &[u8]| {
            if let Err(reason) = cross(line, room, lanes, (errand, now), packet) {
                lost(reason);
            }
        };
        let apart = lanes.iter().flatten().any(|lane| lane.tells_packets_apart());
        if !(apart && is_unfinished(buffer) && segmenter.send(buffer, &mut take)) {
            take(buffer);
        }
    }
}

fn cross(
    line: &mut Line,
    room: &mut [u8],
    lanes: &[Option<&Lane>],
    (errand, now): (Errand, u64),
    buffer: &[u8],
) -> Result<(), DropReason> {
    let octets = buffer.len().saturating_sub(VNET_HEADER);
    let (mut at, mut copies, mut is_changed) = (now, 1, false);
    for lane in lanes.iter().flatten() {
        let passage = lane.pass(octets, at)?;
        at = passage.at;
        if passage.is_doubled {
            copies = COPIES_MAX.min(copies * 2);
        }
        if let (Some(chance), Some(room)) = (passage.corrupt, room.get_mut(..buffer.len())) {
            if !is_changed {
                room.copy_from_slice(buffer);
                is_changed = true;
            }
            turn_a_bit(room, chance);
        }
    }
    let packet = room.get(..buffer.len()).filter(|_| is_changed).unwrap_or(buffer);
    for copy in 0..copies {
        if !line.hold(at, errand, packet) {
            if let Some(lane) = lanes.iter().flatten().last() {
                lane.overflow();
            }
            // a second copy that finds no room is nobody's loss
            return if copy == 0 { Err(DropReason::LinkFull) } else { Ok(()) };
        }
    }
    Ok(())
}

/// Turns one bit behind the Ethernet header.
fn turn_a_bit(buffer: &mut [u8], chance: u64) {
    let Some(packet) = buffer.get_mut(VNET_HEADER + ETHERNET_HEADER..) else { return };
    if packet.is_empty() {
        return;
    }
    let bit = chance % (packet.len() as u64 * 8);
    let place = usize::try_from(bit / 8).ok().and_then(|at| packet.get_mut(at));
    if let Some(octet) = place {
        *octet ^= 1 << (bit % 8);
    }
}
