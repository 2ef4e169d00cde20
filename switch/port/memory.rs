//! A port in memory: the other end is a test, a case runner or a smoltcp host.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Sent;
use super::tap::asks_for_work;

/// Frames waiting in one direction. Locked, since nothing in memory needs to be fast.
#[derive(Debug)]
struct Wire {
    frames: Mutex<VecDeque<Vec<u8>>>,
    capacity: usize,
    is_cut: AtomicBool,
    /// Whether it takes frames that leave checksums and segmentation to the receiver.
    takes_offloads: AtomicBool,
}

impl Wire {
    fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            frames: Mutex::new(VecDeque::new()),
            capacity,
            is_cut: AtomicBool::new(false),
            takes_offloads: AtomicBool::new(true),
        })
    }

    fn push(&self, frame: &[u8]) -> Sent {
        // Relaxed: tests switch between frames, in the same thread
        if self.is_cut.load(Ordering::Relaxed) {
            return Sent::Gone;
        }
        if !self.takes_offloads.load(Ordering::Relaxed) && asks_for_work(frame) {
            return Sent::Unfinished;
        }
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if frames.len() >= self.capacity {
            return Sent::Busy;
        }
        frames.push_back(frame.to_vec());
        Sent::Done
    }

    fn pop(&self) -> Option<Vec<u8>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// The switch's receiving side.
#[derive(Debug)]
pub struct Queue(Arc<Wire>);

impl Queue {
    /// Takes the next frame with its header.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let frame = self.0.pop().ok_or(io::ErrorKind::WouldBlock)?;
        let room = buffer.get_mut(..frame.len()).ok_or(io::ErrorKind::InvalidInput)?;
        room.copy_from_slice(&frame);
        Ok(frame.len())
    }
}

/// The switch's sending side.
#[derive(Debug)]
pub struct Sender(Arc<Wire>);

impl Sender {
    /// Hands a frame with its header to the other end.
    pub fn send(&self, buffer: &[u8]) -> Sent {
        self.0.push(buffer)
    }
}

/// The other end: what a machine on the port would hold.
#[derive(Clone, Debug)]
pub struct Peer {
    to_switch: Arc<Wire>,
    from_switch: Arc<Wire>,
}

impl Peer {
    /// Sends a frame, header first, to the switch.
    pub fn send(&self, frame: &[u8]) -> Sent {
        self.to_switch.push(frame)
    }

    /// Goes away, as a device does that is removed: what the switch sends finds nobody.
    pub fn cut(&self) {
        self.from_switch.is_cut.store(true, Ordering::Relaxed);
    }

    /// Takes whole frames only from now on, as a device without offloads.
    pub fn refuse_offloads(&self) {
        self.from_switch.takes_offloads.store(false, Ordering::Relaxed);
    }

    /// The next frame, header first, that the switch sent.
    pub fn receive(&self) -> Option<Vec<u8>> {
        self.from_switch.pop()
    }
}

/// A port that holds `capacity` frames each way, and its other end.
pub fn pair(capacity: usize) -> (Queue, Sender, Peer) {
    let (to_switch, from_switch) = (Wire::new(capacity), Wire::new(capacity));
    let peer = Peer { to_switch: to_switch.clone(), from_switch: from_switch.clone() };
    (Queue(to_switch), Sender(from_switch), peer)
}
