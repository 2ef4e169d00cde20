//! Connections by real sockets.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::super::format::Transport;
use super::super::stage::{Outcome, Witness};

/// What a caller sends once it is connected.
const QUESTION: &[u8] = b"whoami\n";

/// Octets of the longest report.
const REPORT: usize = 512;

/// The kernel gives up on a neighbour that does not answer after three seconds, and says that there
/// is no way to the host: what comes this late is silence.
///
/// Source: `mcast_solicit`, `retrans_time_ms` of Linux.
const NEIGHBOUR_PATIENCE: Duration = Duration::from_millis(2_500);

/// A socket that is about to be connected.
#[derive(Debug)]
pub(super) struct Unconnected {
    socket: Socket,
    to: SocketAddr,
    transport: Transport,
}

/// A connection that is open.
#[derive(Debug)]
pub(super) enum Connection {
    Stream(TcpStream),
    Datagrams(UdpSocket),
}

/// Opens a socket in the namespace of the calling thread.
///
/// # Errors
/// What the system says.
pub(super) fn open(
    from: Option<SocketAddr>,
    to: SocketAddr,
    transport: Transport,
) -> io::Result<Unconnected> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
        Transport::Sctp => (Type::STREAM, Protocol::SCTP),
    };
    let domain = Domain::for_address(to);
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol))?;
    if let Some(from) = from {
        // the port may be that of a connection to elsewhere
        socket.set_reuse_address(from.port() != 0)?;
        socket.bind(&from.into())?;
    }
    if transport == Transport::Udp {
        // every ICMP error is heard of, not only those of ports
        match to {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
        }
    }
    Ok(Unconnected { socket, to, transport })
}

/// What came of a connection, and the connection itself where there is one.
pub(super) type Attempted = (Outcome, Option<Connection>);

impl Unconnected {
    /// Connects and asks who is there.
    ///
    /// # Errors
    /// Anything that is the fault of this machine and not an answer.
    pub(super) async fn call(self) -> io::Result<Attempted> {
        let begun = Instant::now();
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(error) => return Ok((outcome_of(error, begun)?, None)),
        };
        match connection.ask().await {
            Ok(outcome) => Ok((outcome, Some(connection))),
            Err(error) => Ok((outcome_of(error, begun)?, Some(connection))),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn connect(self) -> io::Result<Connection> {
        let Self { socket, to, transport } = self;
        Ok(match transport {
            Transport::Udp => {
                let socket = UdpSocket::from_std(socket.into())?;
                socket.connect(to).await?;
                Connection::Datagrams(socket)
            }
            Transport::Tcp | Transport::Sctp => {
                let stream = TcpSocket::from_std_stream(socket.into()).connect(to).await?;
                Connection::Stream(stream)
            }
        })
    }
}

impl Connection {
    /// Asks who is there.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn ask(&mut self) -> io::Result<Outcome> {
        let mut report = Vec::with_capacity(REPORT);
        match self {
            Self::Stream(stream) => {
                stream.write_all(QUESTION).await?;
                while !report.ends_with(b"\n") && report.len() < REPORT {
                    if stream.read_buf(&mut report).await? == 0 {
                        return Ok(Outcome::Refused("closed without an answer".to_owned()));
                    }
                }
            }
            Self::Datagrams(socket) => {
                socket.send(QUESTION).await?;
                socket.recv_buf(&mut report).await?;
            }
        }
        let text = String::from_utf8_lossy(&report);
        Ok(Witness::from_text(&text)
            .map_or_else(|| Outcome::Refused(format!("said {text:?}")), Outcome::Served))
    }

    /// Has the connection be reset when it goes, so that its port is free at once.
    pub(super) fn end_at_once(&self) {
        if let Self::Stream(stream) = self {
            // else it ends a little later
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// The stream, of a protocol that has one.
    pub(super) fn into_stream(self) -> Option<TcpStream> {
        match self {
            Self::Stream(stream) => Some(stream),
            Self::Datagrams(_) => None,
        }
    }
}

/// What an error says about the connection.
///
/// # Errors
/// The error, if it says something about this machine.
pub(super) fn outcome_of(error: io::Error, begun: Instant) -> io::Result<Outcome> {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::TimedOut => Ok(Outcome::Silent),
        Kind::HostUnreachable if begun.elapsed() > NEIGHBOUR_PATIENCE => Ok(Outcome::Silent),
        Kind::ConnectionRefused
        | Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::NotConnected
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::PermissionDenied => Ok(Outcome::Refused(error.to_string())),
        _ if error.raw_os_error() == Some(nix::libc::ENOPROTOOPT) => {
            Ok(Outcome::Refused(error.to_string()))
        }
        _ => Err(error),
    }
}
