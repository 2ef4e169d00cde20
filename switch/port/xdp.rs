//! An existing interface, taken over by AF_XDP: its frames leave the driver for memory that the
//! switch reads without a system call, before the kernel's network stack has seen them.
//!
//! Every receiving queue of the interface has a socket of its own; a program of five instructions at
//! the interface hands each frame to the socket of its queue. The program goes with the last of the
//! descriptors, however the switch ends. Frames are sent by a [packet socket](super::packet), by which
//! any worker may send at any time and the kernel finishes what the frame leaves open: a ring to send
//! by has room for one worker only.
//!
//! Interfaces that hand over frames with unfinished checksums (veth, whose other end expects that
//! nobody looks) cannot say so here; `unfinished` finds them.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::{VNET_HEADER, packet, tap};

mod program;
mod socket;
mod unfinished;

use program::Program;
use socket::Socket;

/// Receiving queues of an interface at most.
const QUEUES_MAX: u32 = 64;

/// The receiving side: one queue of the interface, owned by one worker.
#[derive(Debug)]
pub struct Queue {
    socket: Socket,
    /// Detached from the interface with the last queue.
    _program: Arc<Program>,
}

impl Queue {
    /// Receives one frame, behind a virtio header that says what it leaves open; answers the octets
    /// written. A frame that is longer than the buffer is cut.
    ///
    /// **Cost**: no system call.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none for now.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((header, room)) = buffer.split_first_chunk_mut::<VNET_HEADER>() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let octets = self.socket.receive(room).ok_or(io::ErrorKind::WouldBlock)?;
        *header = unfinished::header(room.get(..octets).unwrap_or(room));
        Ok(VNET_HEADER + octets)
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Opens interface `name` of the calling thread's network namespace: its receiving queues, one worker
/// each, and the sender, for all.
///
/// # Errors
/// What the kernel says, with the name of the call that it refused and what to do instead;
/// `NotFound` where there is no such interface.
pub fn open(name: &str) -> io::Result<(Vec<Queue>, tap::Sender)> {
    let index = packet::index_of(name)?;
    take(index).and_then(|queues| Ok((queues, packet::open_to_send(name)?))).map_err(|error| {
        let instead = "kind = \"packet\" takes any interface over";
        io::Error::new(error.kind(), format!("AF_XDP on {name}: {error}; {instead}"))
    })
}

fn take(index: libc::c_int) -> io::Result<Vec<Queue>> {
    let map = program::Map::new(QUEUES_MAX)?;
    let mut sockets = Vec::new();
    for number in 0..QUEUES_MAX {
        match Socket::open(index, number) {
            Ok(socket) => {
                map.put(number, &socket)?;
                sockets.push(socket);
            }
            // there are no more queues
            Err(error) if number > 0 && error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) => return Err(error),
        }
    }
    let program = Arc::new(Program::attach(index, &map)?);
    let queue = |socket| Queue { socket, _program: Arc::clone(&program) };
    Ok(sockets.into_iter().map(queue).collect())
}

/// A descriptor that a system call has just made.
#[expect(unsafe_code, reason = "takes a descriptor into possession")]
fn owned(call: &str, answer: libc::c_long) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    let answer = libc::c_int::try_from(answer).unwrap_or(-1);
    tap::checked(call, answer)?;
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(OwnedFd::from(unsafe { File::from_raw_fd(answer) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_not_found() {
        let error = open("no-such-link").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
