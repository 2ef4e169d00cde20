//! Frames that came in together.
//!
//! All are received and parsed, and their places in conntrack looked at, before the first is
//! carried: what one look-up waits for in memory, the others' have meanwhile fetched.

use kswitch_tables::{Conntrack, PortId, Snapshot, Tick};

use super::pipeline::{Output, Pipeline};
use super::{DropReason, Frame, Parsed};
use crate::port::{BUFFER_OCTETS, VNET_HEADER};

/// Frames taken from one queue before the next queue has its turn.
pub const BURST: usize = 32;

/// Buffers lie this far apart: a multiple of the cache line that is odd in lines, so that the
/// heads of a burst fall into different cache sets.
const BUFFER_STRIDE: usize = BUFFER_OCTETS.next_multiple_of(128) + 64;

/// What is known of a frame before it is carried.
///
/// It stays where parsing has put it: copies of what was stored piece by piece cost more than all
/// else that is done to an established frame, since the processor waits for each piece.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// What the frame is, or why it is none.
    pub parsed: Result<Parsed, DropReason>,
    /// [`Conntrack::hash`] of its flow, zero where there is none.
    pub hash: u64,
}

impl Arrival {
    /// What is to be known of a frame that is judged by a pipeline with this conntrack.
    #[inline]
    pub fn of(frame: &Frame<'_>, conntrack: &Conntrack) -> Self {
        let parsed = frame.parse();
        let hash = match &parsed {
            Ok(Parsed::Ip(packet)) => conntrack.hash(&packet.flow),
            _ => 0,
        };
        Self { parsed, hash }
    }
}

/// A burst of frames: their buffers, and what parsing found.
#[derive(Debug)]
pub struct Burst {
    buffers: Vec<Box<[u8]>>,
    /// Octets of each frame, virtio header included.
    octets: [usize; BURST],
    arrivals: [Arrival; BURST],
    count: usize,
}

impl Default for Burst {
    fn default() -> Self {
        let buffer = || vec![0u8; BUFFER_STRIDE].into_boxed_slice();
        Self {
            buffers: std::iter::repeat_with(buffer).take(BURST).collect(),
            octets: [0; BURST],
            arrivals: [Arrival { parsed: Err(DropReason::FrameTooShort), hash: 0 }; BURST],
            count: 0,
        }
    }
}

impl Burst {
    /// How many frames there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets every frame.
    pub const fn clear(&mut self) {
        self.count = 0;
    }

    /// Fills the burst with the octets, virtio headers first, that `receive` puts into buffers one
    /// after the other, until it answers `None`, or there are as many as asked for, or the burst is
    /// full.
    pub fn fill(&mut self, asked: usize, mut receive: impl FnMut(&mut [u8]) -> Option<usize>) {
        self.count = 0;
        let buffers = self.buffers.iter_mut().take(asked);
        for (buffer, octets) in buffers.zip(&mut self.octets) {
            let room = buffer.get_mut(..BUFFER_OCTETS).unwrap_or(&mut []);
            let Some(received) = receive(room) else { break };
            *octets = received;
            self.count += 1;
        }
    }

    /// Room for so many frames, to be told of by [`Self::received`].
    pub fn rooms(&mut self, count: usize) -> impl Iterator<Item = &mut [u8]> {
        self.count = 0;
        let buffers = self.buffers.iter_mut().take(count);
        buffers.map(|buffer| buffer.get_mut(..BUFFER_OCTETS).unwrap_or(&mut []))
    }

    /// Takes what was put into [`Self::rooms`]: the octets of each, `None` for a room left empty.
    pub fn received(&mut self, rooms: impl Iterator<Item = Option<usize>>) {
        for (number, octets) in rooms.enumerate().take(BURST) {
            let Some(octets) = octets else { continue };
            if number != self.count {
                self.buffers.swap(number, self.count);
            }
            if let Some(room) = self.octets.get_mut(self.count) {
                *room = octets;
                self.count += 1;
            }
        }
    }

    /// A frame of the burst as it is now, virtio header first.
    pub fn frame(&self, number: usize) -> &[u8] {
        let octets = self.octets.get(number).copied().unwrap_or(0);
        self.buffers.get(number).and_then(|buffer| buffer.get(..octets)).unwrap_or(&[])
    }

    /// Parses all frames and looks at their places in conntrack; answers the octets they have
    /// together, virtio headers left out.
    #[inline]
    pub fn prepare(&mut self, conntrack: &Conntrack) -> usize {
        let mut total = 0;
        let frames = self.buffers.iter_mut().zip(&self.octets).take(self.count);
        for ((buffer, octets), arrival) in frames.zip(&mut self.arrivals) {
            total += octets.saturating_sub(VNET_HEADER);
            let frame = Frame::new(buffer.get_mut(..*octets).unwrap_or(&mut []));
            *arrival = Arrival::of(&frame, conntrack);
        }
        // in a loop of its own, so that nothing stands between one load and the next
        for Arrival { parsed, hash } in self.arrivals.iter().take(self.count) {
            if let Ok(Parsed::Ip(packet)) = parsed {
                conntrack.warm(&packet.flow, *hash);
            }
        }
        total
    }

    /// Carries each frame to its fate.
    #[inline]
    pub fn carry(
        &mut self,
        pipeline: &mut Pipeline,
        snapshot: &Snapshot,
        now: Tick,
        ingress: PortId,
        out: &mut impl Output,
    ) {
        let frames = self.buffers.iter_mut().zip(&self.octets).take(self.count);
        for (number, ((buffer, octets), arrival)) in frames.zip(&self.arrivals).enumerate() {
            let buffer = buffer.get_mut(..*octets).unwrap_or(&mut []);
            out.begin(number, buffer);
            let mut frame = Frame::new(buffer);
            let verdict = pipeline.forward(snapshot, now, ingress, &mut frame, arrival, out);
            out.end(verdict);
        }
    }
}
