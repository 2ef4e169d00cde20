//! Whole frames on an interface, many at a time, by a packet socket.
//!
//! The only system calls here that need `unsafe` are those that name memory.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// Frames that one call sends or receives at most.
pub const MOST: usize = 128;

/// Octets kept of a received frame: all of it, since many datagrams may come as one.
const SNAP: usize = 65_560;

/// A socket for the frames of one interface of the namespace it was opened in.
#[derive(Debug)]
pub struct Socket(OwnedFd);

/// Room for what one call receives.
#[derive(Debug)]
pub struct Room {
    buffers: Vec<Box<[u8]>>,
    octets: Vec<usize>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            buffers: vec![vec![0; SNAP].into_boxed_slice(); MOST],
            octets: Vec::with_capacity(MOST),
        }
    }
}

impl Room {
    /// The frames that the last call received, virtio headers first.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let both = self.buffers.iter().zip(&self.octets);
        both.filter_map(|(buffer, octets)| buffer.get(..(*octets).min(SNAP)))
    }
}

/// Whether a socket is to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It only sends.
    Send,
    /// It receives what comes in at the interface.
    Receive,
}

fn checked(call: &str, answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::new(error.kind(), format!("{call}: {error}")));
    }
    Ok(answer)
}

/// All of Ethernet's protocols, in network order.
fn everything() -> u16 {
    u16::try_from(libc::ETH_P_ALL).unwrap_or(3).to_be()
}

impl Socket {
    /// A socket on an interface of the calling thread's network namespace.
    ///
    /// # Errors
    /// What the kernel says, with the name of the call that it refused.
    #[expect(unsafe_code, reason = "system calls that name memory")]
    pub fn open(interface: &str, side: Side) -> io::Result<Self> {
        let name = CString::new(interface)?;
        // SAFETY: the name is a string that ends with zero and lives across the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: the call names no memory.
        let answer = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        let descriptor = checked("socket", answer)?;
        // SAFETY: the descriptor is new, and nobody else's.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(descriptor) });
        // SAFETY: the address is plain integers, of which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
        address.sll_protocol = if side == Side::Receive { everything() } else { 0 };
        address.sll_ifindex = i32::try_from(index).unwrap_or(0);
        let octets = u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
        // SAFETY: the address is one of a packet socket, as long as told, and lives across the call.
        let answer = unsafe { libc::bind(descriptor, (&raw const address).cast(), octets) };
        checked("bind", answer)?;
        match side {
            Side::Send => socket.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)?,
            Side::Receive => {
                socket.set(libc::SOL_SOCKET, libc::SO_RCVBUF, 32 << 20)?;
                socket.take_headers()?;
                socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
            }
        }
        Ok(socket)
    }

    /// Has each frame begin with a virtio header, which says what is left to be done.
    ///
    /// Source: packet(7) and `PACKET_VNET_HDR`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take_headers(&self) -> io::Result<()> {
        self.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)
    }

    #[expect(unsafe_code, reason = "a system call that names memory")]
    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let octets = u32::try_from(size_of::<libc::c_int>()).unwrap_or(0);
        let value: *const libc::c_int = &raw const value;
        // SAFETY: the value is an int that lives across the call.
        let answer =
            unsafe { libc::setsockopt(self.0.as_raw_fd(), level, option, value.cast(), octets) };
        checked("setsockopt", answer).map(drop)
    }

    /// How long [`Self::receive`] waits.
    ///
    /// # Errors
    /// What the kernel says.
    #[expect(unsafe_code, reason = "a system call that names memory")]
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        let time = libc::timeval {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_usec: i64::from(patience.subsec_micros()),
        };
        let octets = u32::try_from(size_of::<libc::timeval>()).unwrap_or(0);
        let (descriptor, time) = (self.0.as_raw_fd(), &raw const time);
        // SAFETY: the value is a time that lives across the call.
        let answer = unsafe {
            libc::setsockopt(descriptor, libc::SOL_SOCKET, libc::SO_RCVTIMEO, time.cast(), octets)
        };
        checked("setsockopt", answer).map(drop)
    }

    /// Sends frames, at most [`MOST`]; answers how many the interface took.
    ///
    /// # Errors
    /// What the kernel says of the first one, other than that its queue is full.
    #[expect(unsafe_code, reason = "a system call that names memory")]
    pub fn send<'f>(&self, frames: impl Iterator<Item = &'f [u8]>) -> io::Result<usize> {
        // SAFETY: both are plain integers and pointers, of which zero is a value.
        let (mut parts, mut messages): ([libc::iovec; MOST], [libc::mmsghdr; MOST]) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        let mut count = 0;
        for ((frame, part), message) in frames.zip(&mut parts).zip(&mut messages) {
            part.iov_base = frame.as_ptr().cast_mut().cast();
            part.iov_len = frame.len();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        let (descriptor, messages) = (self.0.as_raw_fd(), messages.as_mut_ptr());
        // SAFETY: the first `count` messages name one part each, and each part a frame that is
        // borrowed across the call, which only reads it.
        let answer = unsafe { libc::sendmmsg(descriptor, messages, count, 0) };
        let refused = (answer < 0).then(io::Error::last_os_error);
        match refused.map(|error| (error.raw_os_error(), error)) {
            None => Ok(usize::try_from(answer).unwrap_or(0)),
            Some((Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR | libc::ENETDOWN), _)) => Ok(0),
            Some((_, error)) => Err(io::Error::new(error.kind(), format!("sendmmsg: {error}"))),
        }
    }

    /// Receives what has come, at least one frame unless patience ends; answers how many.
    ///
    /// # Errors
    /// What the kernel says.
    #[expect(unsafe_code, reason = "a system call that names memory")]
    pub fn receive(&self, room: &mut Room) -> io::Result<usize> {
        room.octets.clear();
        // SAFETY: both are plain integers and pointers, of which zero is a value.
        let (mut parts, mut messages): ([libc::iovec; MOST], [libc::mmsghdr; MOST]) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        for ((buffer, part), message) in room.buffers.iter_mut().zip(&mut parts).zip(&mut messages)
        {
            part.iov_base = buffer.as_mut_ptr().cast();
            part.iov_len = SNAP;
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        let count = u32::try_from(MOST).unwrap_or(0);
        let flags = libc::MSG_WAITFORONE;
        let descriptor = self.0.as_raw_fd();
        // SAFETY: every message names one part, and each part a buffer that is borrowed, as long as
        // told, and written by nobody else.
        let answer = unsafe {
            libc::recvmmsg(descriptor, messages.as_mut_ptr(), count, flags, ptr::null_mut())
        };
        match checked("recvmmsg", answer) {
            Ok(received) => {
                let received = usize::try_from(received).unwrap_or(0);
                let octets = messages.iter().take(received);
                room.octets.extend(octets.map(|m| usize::try_from(m.msg_len).unwrap_or(0)));
                Ok(received)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}
