//! A plain TAP device, for kernels and containers that refuse the rest: one queue, no virtio
//! header, no offloads.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use tun_tap::{Iface, Mode};

use super::tap::{asks_for_work, checked, fate, set_persistent};
use super::{Sent, VNET_HEADER};

/// A plain TAP just opened, to be taken apart into what one worker owns and what all share.
#[derive(Debug)]
pub struct Plain {
    device: Arc<Iface>,
}

impl Plain {
    /// Makes TAP `name` in the calling thread's network namespace.
    ///
    /// # Errors
    /// What the kernel says; `InvalidInput` when the device came out under another name.
    pub fn open(name: &str) -> io::Result<Self> {
        let device = Iface::without_packet_info(name, Mode::Tap)?;
        if device.name() != name {
            let text = format!("the kernel named the interface {} instead", device.name());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        device.set_non_blocking()?;
        // or else programs started from here would hold the device
        close_on_exec(&device)?;
        Ok(Self { device: Arc::new(device) })
    }

    /// Lets the device outlive its descriptor; it goes with its namespace then. See
    /// [`Tap::outlive_descriptors`](super::tap::Tap::outlive_descriptors).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn outlive_descriptors(&self) -> io::Result<()> {
        set_persistent(&*self.device)
    }

    /// The receiving queue, for one worker, and the sender, for all.
    pub fn into_parts(self) -> (Queue, Sender) {
        let Self { device } = self;
        (Queue { device: Arc::clone(&device) }, Sender { device })
    }
}

#[expect(unsafe_code, reason = "fcntl")]
fn close_on_exec(descriptor: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: takes its argument by value and touches no memory of ours.
    let answer = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    checked("F_SETFD", answer)
}

/// The receiving side, owned by one worker.
#[derive(Debug)]
pub struct Queue {
    device: Arc<Iface>,
}

impl Queue {
    /// Receives one frame behind a header that asks for nothing; answers the octets written.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none for now; anything else means that the
    /// device is gone.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (header, frame) =
            buffer.split_at_mut_checked(VNET_HEADER).ok_or(io::ErrorKind::InvalidInput)?;
        let octets = self.device.recv(frame)?;
        header.fill(0);
        Ok(VNET_HEADER + octets)
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.device.as_raw_fd()
    }
}

/// The sending side. **Sharing**: any thread may send at any time.
#[derive(Clone, Debug)]
pub struct Sender {
    device: Arc<Iface>,
}

impl Sender {
    /// Whether frames may leave checksums and segmentation to the receiver: never.
    pub const fn takes_offloads(&self) -> bool {
        false
    }

    /// Sends one frame without its header; a header that asks for work is
    /// [`Sent::Unfinished`], and nothing was sent.
    pub fn send(&self, buffer: &[u8]) -> Sent {
        if asks_for_work(buffer) {
            return Sent::Unfinished;
        }
        let Some(frame) = buffer.get(VNET_HEADER..) else {
            return Sent::Gone;
        };
        match self.device.send(frame) {
            Ok(_) => Sent::Done,
            Err(error) => fate(&error, buffer),
        }
    }
}
