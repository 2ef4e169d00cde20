//! Listeners: opened in the namespace the calling thread is in, accepted from until told to stop.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

/// Connections the kernel holds before they are accepted.
const BACKLOG: i32 = 1_024;

/// How long a client may leave sent data unacknowledged, or its window closed.
const STALLED: Duration = Duration::from_mins(1);

/// How long to leave a listener alone that cannot accept, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long tasks that are dropped are waited for; it takes microseconds as a rule.
const CLOSING: Duration = Duration::from_secs(1);

/// How often it is looked whether tasks have ended.
const CLOSING_POLL: Duration = Duration::from_micros(100);

/// Opens a TCP port on all addresses, of both families where the kernel has IPv6.
///
/// # Errors
///
/// The port is taken, or what else the system says.
pub(crate) fn everywhere(port: u16) -> io::Result<std::net::TcpListener> {
    let (socket, address) = both_families(Type::STREAM, Protocol::TCP, port)?;
    socket.set_tcp_user_timeout(Some(STALLED))?;
    listen(socket, address)
}

/// Opens a TCP port on 127.0.0.1 alone.
///
/// # Errors
///
/// As [`everywhere`].
pub(crate) fn on_loopback(port: u16) -> io::Result<std::net::TcpListener> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::TCP))?;
    socket.set_tcp_user_timeout(Some(STALLED))?;
    listen(socket, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// Listens on an address.
///
/// # Errors
///
/// As [`everywhere`].
pub(crate) fn listen(socket: Socket, address: SocketAddr) -> io::Result<std::net::TcpListener> {
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket for both families and the address to bind it to; for IPv4 alone where the kernel has no
/// IPv6.
///
/// # Errors
///
/// The kernel has no such socket.
pub(crate) fn both_families(
    kind: Type,
    protocol: Protocol,
    port: u16,
) -> io::Result<(Socket, SocketAddr)> {
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

/// Accepts until the task is aborted, which ends its connections too.
///
/// A connection for which `serve` has no answer, because there are too many, is closed: the newest
/// goes, and those being served go on.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    mut serve: impl FnMut(TcpStream) -> Option<F> + Send,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Some(served) = serve(stream) {
                        connections.spawn(served);
                    }
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Tasks that end when this is dropped.
///
/// Their sockets are closed once it has been dropped, unless that happens on the runtime itself,
/// where there is no waiting for it.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Vec<AbortHandle>);

impl Tasks {
    /// Adds a task.
    pub(crate) fn push(&mut self, task: AbortHandle) {
        self.0.push(task);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
        if Handle::try_current().is_ok() {
            return;
        }
        let deadline = Instant::now() + CLOSING;
        while self.0.iter().any(|task| !task.is_finished()) && Instant::now() < deadline {
            thread::sleep(CLOSING_POLL);
        }
    }
}
