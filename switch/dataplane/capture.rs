//! Copies of frames for those who capture them, before and after rewriting.
//!
//! Copies go into boxes that the control side laid out beforehand and takes back: a worker neither
//! allocates nor waits, and counts what found no box. While nobody captures there are no boxes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use kswitch_tables::PortId;

use super::Verdict;
use super::counters::Counter;
use crate::port::VNET_HEADER;

/// Copies under way between a worker and the control side at most.
pub const COPIES_MAX: usize = 4096;

/// A copy of a frame.
#[derive(Debug, Default)]
pub struct Copied {
    /// The port it came in at, or went out at.
    pub port: Option<PortId>,
    /// Its fate, of a frame that came in; `None` for one that went out.
    pub verdict: Option<Verdict>,
    /// When its burst was carried, nanoseconds on the worker's clock.
    pub nanos: u64,
    /// Which frame of its worker it is: one that went out has the number of the one it follows from.
    pub number: u64,
    /// Octets of the frame, of which fewer may have been kept.
    pub octets: usize,
    /// The first octets, Ethernet header first.
    pub data: Vec<u8>,
}

/// A worker's copies. **Sharing**: one worker fills boxes, the control side empties them.
#[derive(Debug)]
pub struct Capture {
    is_on: CachePadded<AtomicBool>,
    /// Bit per port that is captured.
    ports: Box<[AtomicU64]>,
    /// One frame in so many is copied.
    sample: AtomicU64,
    free: ArrayQueue<Box<Copied>>,
    full: ArrayQueue<Box<Copied>>,
    number: Counter,
    /// Frames that found no box.
    pub lost: Counter,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            is_on: CachePadded::default(),
            ports: std::iter::repeat_with(AtomicU64::default).take(WORDS).collect(),
            sample: AtomicU64::new(1),
            free: ArrayQueue::new(COPIES_MAX),
            full: ArrayQueue::new(COPIES_MAX),
            number: Counter::default(),
            lost: Counter::default(),
        }
    }
}

/// Words of a bit for each port.
const WORDS: usize = (1 << 16) / 64;

impl Capture {
    /// Whether anything is captured.
    #[inline]
    pub fn is_on(&self) -> bool {
        // Relaxed: a frame more or less at the beginning and the end of a capture is no matter
        self.is_on.load(Ordering::Relaxed)
    }

    /// Captures from now on, or no longer.
    pub fn turn(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Has the frames of a port captured, or not.
    pub fn select(&self, port: PortId, is_wanted: bool) {
        if let Some(word) = self.ports.get(usize::from(port.0 / 64)) {
            let bit = 1 << (port.0 % 64);
            if is_wanted {
                word.fetch_or(bit, Ordering::Relaxed);
            } else {
                word.fetch_and(!bit, Ordering::Relaxed);
            }
        }
    }

    /// Has the frames of every port captured, those that come later among them, or of none.
    pub fn select_all(&self, is_wanted: bool) {
        let bits = if is_wanted { u64::MAX } else { 0 };
        self.ports.iter().for_each(|word| word.store(bits, Ordering::Relaxed));
    }

    /// Has one frame in so many copied; every one for 0 and 1.
    pub fn sample(&self, one_in: u64) {
        self.sample.store(one_in.max(1), Ordering::Relaxed);
    }

    /// Which frame of its worker came in last.
    pub(super) fn number(&self) -> u64 {
        self.number.get()
    }

    fn is_wanted(&self, port: PortId, number: u64) -> bool {
        if !number.is_multiple_of(self.sample.load(Ordering::Relaxed)) {
            return false;
        }
        let word = self.ports.get(usize::from(port.0 / 64));
        word.is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (port.0 % 64)) != 0)
    }

    /// Begins with a frame that came in: a copy of it as it is now, if its port is captured.
    pub(super) fn begin(&self, port: PortId, nanos: u64, buffer: &[u8]) -> Option<Box<Copied>> {
        self.number.add(1);
        let number = self.number();
        if self.is_wanted(port, number) { self.copy(port, nanos, buffer, number) } else { None }
    }

    /// Ends with it: its copy gets its fate.
    pub(super) fn end(&self, mut copied: Box<Copied>, verdict: Verdict) {
        copied.verdict = Some(verdict);
        self.put(copied);
    }

    /// A frame that goes out, following from the one of this number that came in.
    pub(super) fn sent(&self, port: PortId, nanos: u64, buffer: &[u8], number: u64) {
        if self.is_wanted(port, number)
            && let Some(copied) = self.copy(port, nanos, buffer, number)
        {
            self.put(copied);
        }
    }

    fn copy(&self, port: PortId, nanos: u64, buffer: &[u8], number: u64) -> Option<Box<Copied>> {
        let Some(mut copied) = self.free.pop() else {
            self.lost.add(1);
            return None;
        };
        let frame = buffer.get(VNET_HEADER..).unwrap_or(&[]);
        copied.port = Some(port);
        copied.verdict = None;
        copied.nanos = nanos;
        copied.number = number;
        copied.octets = frame.len();
        copied.data.clear();
        // no more than there is room for: a worker does not allocate
        let kept = frame.len().min(copied.data.capacity());
        copied.data.extend_from_slice(frame.get(..kept).unwrap_or(&[]));
        Some(copied)
    }

    fn put(&self, copied: Box<Copied>) {
        if self.full.push(copied).is_err() {
            self.lost.add(1);
        }
    }

    /// The next copy.
    pub fn take(&self) -> Option<Box<Copied>> {
        self.full.pop()
    }

    /// Lays out a box, or gives one back; one for which there is no room is freed.
    pub fn give(&self, copied: Box<Copied>) {
        drop(self.free.push(copied));
    }

    /// Frees every box that waits for a frame.
    pub fn clear(&self) {
        while self.free.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_kept_as_far_as_their_box_goes() {
        let capture = Capture::default();
        let frame = [7; VNET_HEADER + 100];
        capture.select(PortId(3), true);
        assert!(capture.begin(PortId(3), 0, &frame).is_none(), "there is no box");
        assert_eq!(capture.lost.get(), 1);
        for _ in 0..2 {
            capture.give(Box::new(Copied { data: Vec::with_capacity(64), ..Copied::default() }));
        }
        assert!(capture.begin(PortId(4), 0, &frame).is_none(), "not asked for");
        let copied = capture.begin(PortId(3), 9, &frame).unwrap();
        capture.sent(PortId(3), 9, &frame, 3);
        capture.end(copied, Verdict::Answered);
        let sent = capture.take().unwrap();
        let came = capture.take().unwrap();
        assert_eq!((came.number, sent.number), (3, 3));
        assert_eq!((came.octets, came.data.len(), came.nanos), (100, 64, 9));
        assert_eq!((came.verdict, sent.verdict), (Some(Verdict::Answered), None));
        assert_eq!(capture.lost.get(), 1);
    }
}
