//! Where frames come from and go to.
//!
//! A port has receiving [`Queue`]s, each owned by one worker, and a [`Sender`] that any worker may
//! use. Every buffer starts with a virtio network header ([`VNET_HEADER`] octets, see
//! [`crate::dataplane::Vnet`]); ports whose kernel side has none zero it and skip it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

pub mod batch;
pub mod choice;
pub mod lasting;
pub mod memory;
pub mod packet;
pub mod pages;
pub mod plain;
pub mod tap;
pub mod xdp;

/// Octets of the virtio network header before each frame.
///
/// Source: virtio 1.2 §5.1.6, the legacy form without `num_buffers`.
pub const VNET_HEADER: usize = 10;

/// Octets of a buffer: the header and the largest frame the kernel hands over, a GSO frame of
/// 65,535 octets behind an Ethernet header.
pub const BUFFER_OCTETS: usize = VNET_HEADER + 65_550;

/// What became of a frame handed to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The other side has it.
    Done,
    /// The other side's queue is full.
    Busy,
    /// There is no other side any more.
    Gone,
    /// The port cannot take a frame that leaves checksums or segmentation to the receiver.
    Unfinished,
}

impl Sent {
    /// What the answer of [`batch`] to a write says: octets, or the negative of an error number.
    pub fn from_result(result: i32, buffer: &[u8]) -> Self {
        if result >= 0 {
            return Self::Done;
        }
        tap::fate(&io::Error::from_raw_os_error(result.saturating_neg()), buffer)
    }
}

/// Whether an error of receiving means that there is no device any more.
pub fn is_gone(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Whether the header before a frame leaves anything to its receiver.
pub fn is_unfinished(buffer: &[u8]) -> bool {
    tap::asks_for_work(buffer)
}

/// The receiving side of a port, owned by one worker.
#[derive(Debug)]
pub enum Queue {
    /// A TAP with virtio headers.
    Tap(tap::Queue),
    /// A TAP without.
    Plain(plain::Queue),
    /// A queue of an interface, by AF_XDP.
    Xdp(xdp::Queue),
    /// Frames in memory.
    Memory(memory::Queue),
}

impl Queue {
    /// Receives one frame with its header; answers the octets written.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none for now; anything else means that the port
    /// is gone.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tap(queue) => queue.receive(buffer),
            Self::Plain(queue) => queue.receive(buffer),
            Self::Xdp(queue) => queue.receive(buffer),
            Self::Memory(queue) => queue.receive(buffer),
        }
    }

    /// The descriptor from which frames may be read whole, header first, by [`batch`].
    pub fn batched(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tap(queue) => Some(queue.as_fd()),
            Self::Plain(_) | Self::Xdp(_) | Self::Memory(_) => None,
        }
    }

    /// The descriptor to wait on; `None` for memory.
    pub fn descriptor(&self) -> Option<RawFd> {
        match self {
            Self::Tap(queue) => Some(queue.as_raw_fd()),
            Self::Plain(queue) => Some(queue.as_raw_fd()),
            Self::Xdp(queue) => Some(queue.as_raw_fd()),
            Self::Memory(_) => None,
        }
    }
}

/// The sending side of a port. **Sharing**: any worker may send at any time.
#[derive(Clone, Debug)]
pub enum Sender {
    /// A TAP with virtio headers.
    Tap(Arc<tap::Sender>),
    /// A TAP without.
    Plain(Arc<plain::Sender>),
    /// Frames in memory.
    Memory(Arc<memory::Sender>),
}

impl Sender {
    /// Sends one frame with its header.
    pub fn send(&self, buffer: &[u8]) -> Sent {
        match self {
            Self::Tap(sender) => sender.send(buffer),
            Self::Plain(sender) => sender.send(buffer),
            Self::Memory(sender) => sender.send(buffer),
        }
    }

    /// As [`Self::send`], through the queue that this worker receives from, where there are
    /// several: the kernel hands the answers to it then.
    pub fn send_by(&self, worker: usize, buffer: &[u8]) -> Sent {
        match self {
            Self::Tap(sender) => sender.send_by(worker, buffer),
            Self::Plain(_) | Self::Memory(_) => self.send(buffer),
        }
    }

    /// The descriptor to which frames may be written whole, header first, by [`batch`].
    pub fn batched_by(&self, worker: usize) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tap(sender) => Some(sender.descriptor_of(worker)),
            Self::Plain(_) | Self::Memory(_) => None,
        }
    }

    /// Whether frames may leave checksums and segmentation to the receiver.
    pub const fn takes_offloads(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }
}
