//! The echo server of each pod and external host, so that every lab can be probed with curl and nc.
//!
//! It answers what the Kubernetes e2e image agnhost answers (`netexec`): over HTTP `/hostname`,
//! `/clientip`, `/echo?msg=`, `/healthz`, `/header?key=`, `/dial`; over TCP, UDP and SCTP the
//! commands `hostname`, `clientip` and `echo MSG`, with everything else sent back as it came;
//! `whoami` tells which server was reached, at which of its addresses and from where. Any other path
//! over HTTP is answered with what the server saw of the request, as JSON.
//!
//! An idle server costs a task per socket and no thread. Its clients are whatever the lab holds, so
//! each thing a client can make grow has a limit here.

mod datagram;
mod dial;
mod http;
mod port;
mod sockets;
mod stream;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

pub use port::{EchoPort, Speaks};
pub use sockets::Sockets;

use dial::Dialer;

use super::datagrams::canonical;
use super::listen::Tasks;

/// Connections one server holds at a time, over all its ports; the newest beyond are closed.
pub const CONNECTIONS_PER_SERVER: usize = 1_024;

/// Who a server says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Name of the pod or external host.
    pub name: String,
    /// What `hostname` is answered with.
    ///
    /// Source: `Pod.spec.hostname`, else the pod's name.
    pub hostname: String,
    /// The pod's namespace; `None` outside the cluster.
    pub namespace: Option<String>,
    /// The node it runs on; `None` outside the cluster.
    pub node: Option<String>,
    /// Its addresses, preferred first.
    pub addresses: Vec<IpAddr>,
}

/// As commands write it: `namespace/pod`, `ext/host`.
impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace.as_deref().unwrap_or("ext"), self.name)
    }
}

/// What `/healthz` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Status 200.
    Healthy,
    /// Status 503.
    Unhealthy,
}

/// Runs echo servers, all on one runtime.
#[derive(Clone, Debug)]
pub struct Echo {
    runtime: Handle,
    connections: Arc<Semaphore>,
    /// UDP ports on which any of the servers answers. What comes from one of them is answered
    /// sparingly, lest two servers echo each other for ever.
    echoing: Arc<RwLock<BTreeSet<u16>>>,
}

impl Echo {
    /// Servers that together hold at most so many connections, which bounds their descriptors.
    pub fn new(runtime: Handle, connections: usize) -> Self {
        let connections = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Self { runtime, connections, echoing: Arc::default() }
    }

    /// What its servers run on.
    pub const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Starts answering on these sockets; ends when the [`Server`] is dropped.
    ///
    /// # Errors
    ///
    /// A socket cannot be registered with the runtime.
    pub fn serve(&self, sockets: Sockets, identity: Identity) -> io::Result<Server> {
        let Sockets { listeners, datagrams, namespace, unsupported: _ } = sockets;
        let host = Arc::new(Host {
            identity,
            healthy: AtomicBool::new(true),
            dialer: Dialer::new(namespace),
            echoing: Arc::clone(&self.echoing),
            connections: Arc::new(Semaphore::new(CONNECTIONS_PER_SERVER)),
            connections_overall: Arc::clone(&self.connections),
        });
        let _guard = self.runtime.enter();
        let mut server = Server { host: Arc::clone(&host), tasks: Tasks::default() };
        for (speaks, listener) in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let task = self.runtime.spawn(stream::accept(listener, speaks, Arc::clone(&host)));
            server.tasks.push(task.abort_handle());
        }
        for socket in datagrams {
            let port = socket.local_addr()?.port();
            self.echoing.write().unwrap_or_else(PoisonError::into_inner).insert(port);
            let socket = tokio::net::UdpSocket::from_std(socket)?;
            let task = self.runtime.spawn(datagram::answer_all(socket, Arc::clone(&host)));
            server.tasks.push(task.abort_handle());
        }
        Ok(server)
    }
}

/// A running echo server; dropping it closes its sockets and connections.
///
/// Its ports are free again once it has been dropped, unless that happens on the runtime itself,
/// where there is no waiting for it.
#[derive(Debug)]
#[must_use = "the server ends when this is dropped"]
pub struct Server {
    host: Arc<Host>,
    tasks: Tasks,
}

impl Server {
    /// Sets what `/healthz` says from now on.
    pub fn set_health(&self, health: Health) {
        self.host.healthy.store(health == Health::Healthy, Ordering::Relaxed);
    }
}

/// What the tasks of one server share.
#[derive(Debug)]
struct Host {
    identity: Identity,
    healthy: AtomicBool,
    dialer: Dialer,
    echoing: Arc<RwLock<BTreeSet<u16>>>,
    connections: Arc<Semaphore>,
    connections_overall: Arc<Semaphore>,
}

impl Host {
    /// Whether a server of this lab answers UDP on that port.
    fn is_echoing(&self, port: u16) -> bool {
        self.echoing.read().unwrap_or_else(PoisonError::into_inner).contains(&port)
    }
}

/// The two ends of a connection, as the server sees them.
#[derive(Clone, Copy, Debug)]
struct Ends {
    client: SocketAddr,
    server: SocketAddr,
}

impl Ends {
    /// IPv4 addresses as themselves, though they come by a socket for both families.
    fn new(client: SocketAddr, server: SocketAddr) -> Self {
        Self { client: canonical(client), server: canonical(server) }
    }
}

#[cfg(test)]
mod tests;
