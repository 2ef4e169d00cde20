//! An existing interface, taken over by a packet socket.
//!
//! With `PACKET_VNET_HDR` the socket gives and takes frames behind virtio headers, just as a TAP
//! does: large segments and unfinished checksums pass in both directions, and one system call, or
//! one of [`batch`](super::batch), moves them. So both sides are those of a TAP.
//!
//! The interface keeps feeding the machine's own network stack beside the switch: it should have no
//! addresses there.
//!
//! The only system calls that need `unsafe` here are those that make and set up the socket.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::tap::{self, checked};

/// Octets of frames that may wait for a worker. The system's limit does not apply to root.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;

/// Opens interface `name` of the calling thread's network namespace: the receiving queue, for one
/// worker, and the sender, for all.
///
/// Every frame on the interface comes in, whomever it is addressed to, but none that was sent out by
/// it.
///
/// # Errors
/// What the kernel says, with the name of the call that it refused; `NotFound` where there is no
/// such interface.
pub fn open(name: &str) -> io::Result<(tap::Queue, tap::Sender)> {
    let index = index_of(name)?;
    let socket = socket()?;
    set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1, "PACKET_VNET_HDR")?;
    set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1, "PACKET_IGNORE_OUTGOING")?;
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER, "SO_RCVBUFFORCE")?;
    bind(&socket, index, libc::ETH_P_ALL)?;
    let everyone = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: u16::try_from(libc::PACKET_MR_PROMISC).unwrap_or(1),
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(&socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &everyone, "PACKET_MR_PROMISC")?;
    Ok(tap::sides(File::from(socket)))
}

/// Opens interface `name` of the calling thread's network namespace to send only.
///
/// # Errors
/// As [`open`].
pub fn open_to_send(name: &str) -> io::Result<tap::Sender> {
    let index = index_of(name)?;
    let socket = socket()?;
    set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1, "PACKET_VNET_HDR")?;
    bind(&socket, index, 0)?;
    Ok(tap::sides(File::from(socket)).1)
}

#[expect(unsafe_code, reason = "a system call that names memory")]
pub(super) fn index_of(name: &str) -> io::Result<libc::c_int> {
    let text = CString::new(name)?;
    // SAFETY: the name ends with zero and lives across the call.
    let index = unsafe { libc::if_nametoindex(text.as_ptr()) };
    if index == 0 {
        let text = format!("there is no interface {name}");
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    libc::c_int::try_from(index).map_err(io::Error::other)
}

/// A packet socket that receives nothing before it is bound.
#[expect(unsafe_code, reason = "a system call that makes a descriptor")]
fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call names no memory.
    let descriptor = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    checked("socket", descriptor)?;
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[expect(unsafe_code, reason = "a system call that names memory")]
fn set<T>(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
    what: &str,
) -> io::Result<()> {
    let octets = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    let value: *const T = value;
    // SAFETY: the value is borrowed across the call, which reads as many octets of it as told.
    let answer =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.cast(), octets) };
    checked(what, answer)
}

/// Binds to an interface, for frames of this protocol; zero for none.
#[expect(unsafe_code, reason = "a system call that names memory")]
fn bind(socket: &OwnedFd, index: libc::c_int, protocol: libc::c_int) -> io::Result<()> {
    // SAFETY: the address is plain integers, of which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
    address.sll_protocol = u16::try_from(protocol).unwrap_or(0).to_be();
    address.sll_ifindex = index;
    let octets = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
    let address: *const libc::sockaddr_ll = &raw const address;
    // SAFETY: the address is that of a packet socket and lives across the call.
    let answer = unsafe { libc::bind(socket.as_raw_fd(), address.cast(), octets) };
    checked("bind", answer)
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
