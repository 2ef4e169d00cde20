//! Where frames wait until their link is through with them.
//!
//! Room is laid out once, for so many frames and so many octets; a worker neither allocates nor
//! frees. What finds no room is lost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use kswitch_tables::PortId;

use crate::port::BUFFER_OCTETS;

/// Frames that wait at one worker at most.
pub(in crate::dataplane) const FRAMES_MAX: usize = 8192;

/// Octets of a piece of room. A frame has as many pieces as it needs.
const PIECE: usize = 2048;

/// Pieces of room: 16 MiB.
const PIECES: usize = 8192;

/// No piece.
const NONE: u32 = u32::MAX;

/// What is to be done with a frame when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::dataplane) enum Errand {
    /// Carried, as one that came in at this port.
    Carry(PortId),
    /// Sent on this port.
    Send(PortId),
}

impl Errand {
    const fn port(self) -> PortId {
        match self {
            Self::Carry(port) | Self::Send(port) => port,
        }
    }
}

/// A frame that waits. In order of time, then of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    /// When its time has come, nanoseconds.
    at: u64,
    number: u64,
    errand: Errand,
    first: u32,
    octets: usize,
}

/// A worker's frames that wait for their time.
#[derive(Debug)]
pub struct Line {
    waiting: BinaryHeap<Reverse<Waiting>>,
    room: Box<[u8]>,
    /// For each piece of room the next one, of the same frame or of those that are free.
    next: Box<[u32]>,
    free: u32,
    free_count: usize,
    number: u64,
    /// Where a frame is put together again.
    whole: Box<[u8]>,
}

impl Default for Line {
    fn default() -> Self {
        let last = PIECES as u64 - 1;
        let next = (0..PIECES as u64)
            .map(|at| if at == last { NONE } else { u32::try_from(at + 1).unwrap_or(NONE) });
        Self {
            waiting: BinaryHeap::with_capacity(FRAMES_MAX),
            room: vec![0; PIECE * PIECES].into_boxed_slice(),
            next: next.collect(),
            free: 0,
            free_count: PIECES,
            number: 0,
            whole: vec![0; BUFFER_OCTETS].into_boxed_slice(),
        }
    }
}

impl Line {
    /// When the next frame's time comes, nanoseconds.
    pub(in crate::dataplane) fn next_at(&self) -> Option<u64> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.at)
    }

    /// Frames that wait.
    pub(in crate::dataplane) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Has a frame, virtio header first, wait; `false` if there is no room.
    pub(in crate::dataplane) fn hold(&mut self, at: u64, errand: Errand, buffer: &[u8]) -> bool {
        let pieces = buffer.len().div_ceil(PIECE);
        if self.waiting.len() >= FRAMES_MAX || pieces > self.free_count {
            return false;
        }
        let (first, mut last) = (self.free, NONE);
        for part in buffer.chunks(PIECE) {
            let piece = self.free;
            let start = piece as usize * PIECE;
            let room = self.room.get_mut(start..start + part.len());
            let (Some(room), Some(next)) = (room, self.next.get(piece as usize)) else {
                return false;
            };
            room.copy_from_slice(part);
            (self.free, last) = (*next, piece);
            self.free_count -= 1;
        }
        if let Some(next) = self.next.get_mut(last as usize) {
            *next = NONE;
        }
        let first = if last == NONE { NONE } else { first };
        let (number, octets) = (self.number, buffer.len());
        self.number += 1;
        self.waiting.push(Reverse(Waiting { at, number, errand, first, octets }));
        true
    }

    /// The next frame whose time has come.
    pub(in crate::dataplane) fn take(&mut self, now: u64) -> Option<(Errand, &[u8])> {
        if self.next_at()? > now {
            return None;
        }
        let Reverse(Waiting { errand, first, octets, .. }) = self.waiting.pop()?;
        let Self { room, next, whole, .. } = self;
        let mut piece = first;
        for part in whole.get_mut(..octets)?.chunks_mut(PIECE) {
            let start = piece as usize * PIECE;
            part.copy_from_slice(room.get(start..start + part.len())?);
            piece = *next.get(piece as usize)?;
        }
        self.give_back(first);
        Some((errand, self.whole.get(..octets)?))
    }

    /// Forgets what waits for a port.
    pub(in crate::dataplane) fn forget(&mut self, port: PortId) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|Reverse(waiting)| {
            let stays = waiting.errand.port() != port;
            if !stays {
                self.give_back(waiting.first);
            }
            stays
        });
        self.waiting = waiting;
    }

    fn give_back(&mut self, first: u32) {
        let mut piece = first;
        while let Some(next) = self.next.get_mut(piece as usize) {
            let after = *next;
            *next = self.free;
            self.free = piece;
            self.free_count += 1;
            piece = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortId = PortId(3);

    #[test]
    fn frames_come_when_their_time_has_come_and_in_order() {
        let mut line = Line::default();
        for (at, octet) in [(30, 1), (10, 2), (10, 3), (20, 4)] {
            assert!(line.hold(at, Errand::Send(PORT), &[octet; 5000]));
        }
        assert_eq!(line.next_at(), Some(10));
        assert_eq!(line.take(9), None);
        for octet in [2, 3, 4] {
            assert_eq!(line.take(20), Some((Errand::Send(PORT), &[octet; 5000][..])));
        }
        assert_eq!(line.take(20), None);
        assert_eq!(line.take(30), Some((Errand::Send(PORT), &[1; 5000][..])));
        assert_eq!((line.next_at(), line.free_count), (None, PIECES));
    }

    #[test]
    fn room_ends_and_comes_back() {
        let mut line = Line::default();
        for round in 0..3 {
            let large = vec![round; BUFFER_OCTETS];
            let held = (0..1000).filter(|_| line.hold(5, Errand::Carry(PORT), &large)).count();
            assert_eq!(held, PIECES / BUFFER_OCTETS.div_ceil(PIECE));
            assert!(line.hold(4, Errand::Send(PortId(9)), &[7; 60]));
            line.forget(PORT);
            assert_eq!(line.len(), 1);
            assert_eq!(line.take(5), Some((Errand::Send(PortId(9)), &[7; 60][..])));
            assert_eq!(line.free_count, PIECES);
        }
        let held = (0..2 * FRAMES_MAX).filter(|_| line.hold(5, Errand::Send(PORT), &[1])).count();
        assert_eq!(held, FRAMES_MAX);
        while line.take(5).is_some() {}
        assert_eq!(line.free_count, PIECES);
    }
}
