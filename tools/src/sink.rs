//! Where floods end: UDP sockets that nobody reads.
//!
//! A datagram has arrived when it is at a socket, whatever frames it came in. There it is dropped and
//! counted, since the socket's buffer is full: a program that read it would be measured, too.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::net::{Ipv4Addr, UdpSocket};

use socket2::SockRef;

/// Sockets of one namespace, and what its kernel counts.
#[derive(Debug)]
pub(crate) struct Sink {
    /// Open as long as datagrams are to end here.
    _sockets: Vec<UdpSocket>,
    counters: File,
}

impl Sink {
    /// On these ports of the calling thread's namespace.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn open(ports: impl Iterator<Item = u16>) -> io::Result<Self> {
        let open = |port| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
            // the least that there is: a few datagrams
            SockRef::from(&socket).set_recv_buffer_size(1)?;
            Ok(socket)
        };
        let sockets = ports.map(open).collect::<io::Result<_>>()?;
        Ok(Self { _sockets: sockets, counters: File::open("/proc/thread-self/net/snmp")? })
    }

    /// Datagrams that came to full sockets so far.
    ///
    /// # Errors
    /// If the kernel does not count them.
    pub(crate) fn received(&self) -> io::Result<u64> {
        let (mut file, mut text) = (&self.counters, String::new());
        file.rewind()?;
        file.read_to_string(&mut text)?;
        let unknown = || io::Error::other("no count of full sockets");
        counted(&text, "RcvbufErrors").ok_or_else(unknown)
    }
}

/// One of the numbers about UDP: a line of names, a line of numbers.
fn counted(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let at = lines.next()?.split_whitespace().position(|word| word == name)?;
    lines.next()?.split_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_socket_is_counted() {
        let text = "Tcp: RcvbufErrors\nTcp: 3\nUdp: InErrors RcvbufErrors\nUdp: 9 7\n";
        assert_eq!(counted(text, "RcvbufErrors"), Some(7));
        assert_eq!(counted(text, "NoPorts"), None);
    }
}
