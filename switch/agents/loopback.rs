//! Node ports on a node's 127.0.0.1: connections are taken there and made anew to the node's address.
//!
//! A packet from 127.0.0.1 cannot leave the node, so no translation of packets helps: a proxy must.
//!
//! Source: KEP-6032, which has kube-proxy do the same, for TCP over IPv4.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::listen::{self, Tasks};
use super::namespace::Namespace;

/// Connections one proxy carries at a time; the newest beyond are closed.
const CONNECTIONS: usize = 256;

/// How long the node's address may take to answer.
const DIALING: Duration = Duration::from_secs(10);

/// How long a connection may be silent before its ends are asked whether they are there.
const KEEPALIVE: Duration = Duration::from_mins(5);

/// A listener on 127.0.0.1, inside its namespace and not yet accepted from.
#[derive(Debug)]
pub struct Socket {
    listener: std::net::TcpListener,
    namespace: Namespace,
}

impl Socket {
    /// Opens a port in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// The port is taken, or what else the system says.
    pub fn open(port: u16) -> io::Result<Self> {
        Ok(Self { listener: listen::on_loopback(port)?, namespace: Namespace::current()? })
    }
}

/// A running proxy; dropping it closes its port and its connections.
#[derive(Debug)]
#[must_use = "the proxy ends when this is dropped"]
pub struct Proxy {
    _tasks: Tasks,
}

impl Proxy {
    /// Carries connections to `target` in the namespace of the listener.
    ///
    /// # Errors
    ///
    /// The listener cannot be registered with the runtime.
    pub fn start(runtime: &Handle, socket: Socket, target: SocketAddr) -> io::Result<Self> {
        let Socket { listener, namespace } = socket;
        let _guard = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let accepting = listen::accept(listener, move |stream| {
            let permit = Arc::clone(&permits).try_acquire_owned().ok()?;
            let namespace = namespace.clone();
            Some(async move {
                // whichever end broke it off knows; there is nobody else to tell
                let _ = carry(stream, &namespace, target).await;
                drop(permit);
            })
        });
        let mut tasks = Tasks::default();
        tasks.push(runtime.spawn(accepting).abort_handle());
        Ok(Self { _tasks: tasks })
    }
}

/// Carries one connection until both directions have ended.
async fn carry(mut client: TcpStream, namespace: &Namespace, target: SocketAddr) -> io::Result<()> {
    let mut server = match dial(namespace, target).await {
        Ok(server) => server,
        Err(error) => {
            // so that the client sees a connection refused late, not one that ended well
            SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
            return Err(error);
        }
    };
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
        SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    }
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn dial(namespace: &Namespace, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = namespace.inside(TcpSocket::new_v4).await?;
    timeout(DIALING, socket.connect(target)).await?
}
