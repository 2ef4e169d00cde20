//! Packet sockets: frames of an interface, sent and received by hand.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::bind;
use socket2::{Domain, Protocol, Socket, Type};

/// Every protocol, in the order of octets that the kernel wants.
///
/// Source: packet(7), `ETH_P_ALL`.
const EVERY_PROTOCOL: i32 = 0x0003_u16.to_be() as i32;

/// Octets of the longest frame, those of segmentation offload included.
const LONGEST: usize = 65_535 + 14;

/// Octets of frames that may wait to be looked at, as far as the kernel allows.
const WAITING: usize = 4 << 20;

/// A packet socket on one interface.
#[derive(Debug)]
pub struct PacketSocket(Socket);

impl PacketSocket {
    /// Opens one on an interface in the network namespace of the calling thread.
    ///
    /// # Errors
    /// There is no such interface, or what else the system says.
    pub fn open(interface: &str) -> io::Result<Self> {
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = Socket::new(Domain::PACKET, kind, Some(Protocol::from(EVERY_PROTOCOL)))?;
        let mut all = getifaddrs()?.filter(|found| found.interface_name == interface);
        let address = all.find_map(|found| found.address?.as_link_addr().copied());
        let address = address.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        bind(socket.as_raw_fd(), &address)?;
        let _less_will_do = socket.set_recv_buffer_size(WAITING);
        let mut opened = Self(socket);
        // until it was bound, it heard of every interface
        while opened.receive()?.is_some() {}
        Ok(opened)
    }

    /// Sends a frame, Ethernet header first.
    ///
    /// # Errors
    /// What the system says: the frame is longer than the interface takes, for one.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        // a frame goes whole or not at all
        (&self.0).write_all(frame)
    }

    /// The next frame that came in or went out, Ethernet header first; `None` if there is none now.
    ///
    /// # Errors
    /// What the system says.
    pub fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut frame = vec![0; LONGEST];
        match (&self.0).read(&mut frame) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}
