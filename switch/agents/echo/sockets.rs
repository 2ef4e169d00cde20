//! The sockets of one server, opened in the namespace the calling thread is in.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::{EchoPort, Speaks};

/// Connections the kernel holds before they are accepted.
const BACKLOG: i32 = 1_024;

/// How long a client may leave sent data unacknowledged, or its window closed.
const STALLED: Duration = Duration::from_mins(1);

/// Sockets of one server, inside its namespace and not yet answered on.
#[derive(Debug)]
pub struct Sockets {
    pub(super) listeners: Vec<(Speaks, TcpListener)>,
    pub(super) datagrams: Vec<UdpSocket>,
    pub(super) namespace: OwnedFd,
    pub(super) unsupported: Vec<EchoPort>,
}

impl Sockets {
    /// Opens the ports on all addresses, of both families where the kernel has IPv6, in the
    /// network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// A port cannot be opened: the message names it. All of them are closed again.
    pub fn open(ports: &[EchoPort]) -> io::Result<Self> {
        let namespace = File::open("/proc/thread-self/ns/net")?.into();
        let mut sockets =
            Self { listeners: vec![], datagrams: vec![], namespace, unsupported: vec![] };
        for &port in ports {
            sockets
                .open_port(port)
                .map_err(|error| io::Error::new(error.kind(), format!("{port}: {error}")))?;
        }
        Ok(sockets)
    }

    /// Ports of a protocol that this kernel does not have, which are therefore not open.
    pub fn unsupported(&self) -> &[EchoPort] {
        &self.unsupported
    }

    fn open_port(&mut self, port: EchoPort) -> io::Result<()> {
        match port.speaks {
            Speaks::Http | Speaks::Text | Speaks::HttpOrText => {
                let (socket, address) = both_families(Type::STREAM, Protocol::TCP, port.number)?;
                socket.set_tcp_user_timeout(Some(STALLED))?;
                self.listeners.push((port.speaks, listen(socket, address)?));
            }
            Speaks::Sctp => match both_families(Type::STREAM, Protocol::SCTP, port.number) {
                Ok((socket, address)) => {
                    self.listeners.push((port.speaks, listen(socket, address)?));
                }
                Err(error) if is_unsupported(&error) => self.unsupported.push(port),
                Err(error) => return Err(error),
            },
            Speaks::Datagrams => {
                let (socket, address) = both_families(Type::DGRAM, Protocol::UDP, port.number)?;
                // A host has several addresses: the answer leaves from the one that was asked.
                if address.is_ipv6() {
                    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                } else {
                    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
                }
                socket.bind(&address.into())?;
                self.datagrams.push(socket.into());
            }
        }
        Ok(())
    }
}

fn listen(socket: Socket, address: SocketAddr) -> io::Result<TcpListener> {
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket for both families and the address to bind it to; for IPv4 alone where the kernel has no
/// IPv6.
fn both_families(kind: Type, protocol: Protocol, port: u16) -> io::Result<(Socket, SocketAddr)> {
    let kind = kind.nonblocking().cloexec();
    match Socket::new(Domain::IPV6, kind, Some(protocol)) {
        Ok(socket) => {
            socket.set_only_v6(false)?;
            Ok((socket, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))))
        }
        Err(error) if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {
            let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
            Ok((socket, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))
        }
        Err(error) => Err(error),
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let absent = [nix::libc::EPROTONOSUPPORT, nix::libc::ESOCKTNOSUPPORT];
    error.raw_os_error().is_some_and(|code| absent.contains(&code))
}
