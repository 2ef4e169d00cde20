//! Where cases about load balancers are carried out.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError};

use kswitch_config::Observed;
use kswitch_config::routing::route;
use tokio::runtime::Runtime;

use super::super::format::Transport;
use super::super::topology::{Broken, Lab};
use super::backend::{Backends, Place, Port};
use crate::agents::proxy::network::Map;
use crate::agents::proxy::{Network, Proxy};
use crate::threads;

/// A lab with load balancers, backends, and a client outside.
pub trait Edge {
    /// Makes the lab be as it is to be now.
    ///
    /// # Errors
    /// It cannot be made so.
    fn change(&mut self, lab: &Lab) -> Result<(), Broken>;

    /// Does asynchronous work.
    fn block_on<F: Future>(&self, work: F) -> F::Output;

    /// Connects the client to a load balancer.
    ///
    /// # Errors
    /// What the system says.
    fn connect(&self, to: SocketAddr) -> io::Result<std::net::TcpStream>;

    /// A socket of the client for datagrams to a load balancer.
    ///
    /// # Errors
    /// What the system says.
    fn associate(&self, to: SocketAddr) -> io::Result<std::net::UdpSocket>;

    /// What has arrived at backends since it was last asked; `None` where nobody keeps that.
    fn arrived(&self) -> Option<Vec<serde_json::Value>>;

    /// Forgets what has arrived.
    fn forget(&self);
}

/// The load balancer itself over real sockets of loopback, without a network around it.
#[derive(Debug)]
pub struct Loopback {
    // dropped in this order: the load balancer, the backends, then what they run on
    proxy: Proxy,
    backends: Backends,
    map: Arc<Map>,
    runtime: Runtime,
}

impl Loopback {
    /// A load balancer for the lab of a case.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(lab: &Lab) -> Result<Self, Broken> {
        let broken = |error| Broken(format!("cannot start: {error}"));
        threads::check(1).map_err(broken)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("balancer")
            .enable_all()
            .build()
            .map_err(broken)?;
        let map = Arc::new(Map::default());
        let network = Network::Mapped(Arc::clone(&map));
        let proxy = Proxy::new(runtime.handle().clone(), network, None);
        let mut edge = Self { proxy, backends: Backends::default(), map, runtime };
        edge.change(lab)?;
        Ok(edge)
    }

    fn place(&self, to: SocketAddr, transport: Transport) -> io::Result<SocketAddr> {
        let map = if transport == Transport::Udp { &self.map.sockets } else { &self.map.listeners };
        let map = map.read().unwrap_or_else(PoisonError::into_inner);
        map.get(&to).copied().ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }
}

impl Edge for Loopback {
    fn change(&mut self, lab: &Lab) -> Result<(), Broken> {
        let Self { proxy, backends, map, runtime } = self;
        let broken = |error: io::Error| Broken(format!("cannot listen: {error}"));
        let open = |place: &Place| {
            let (pod, number, transport) = place;
            let (port, at) = open(*transport)?;
            let ips = lab.pod(pod).map(|pod| pod.ips.clone()).unwrap_or_default();
            let mut map = map.backends.write().unwrap_or_else(PoisonError::into_inner);
            for ip in ips {
                map.insert(SocketAddr::new(ip, *number), at);
            }
            Ok(port)
        };
        backends.keep(lab, runtime.handle(), open).map_err(broken)?;
        let routing = Arc::new(route(lab.cluster(), &Observed::default()));
        match runtime.block_on(proxy.publish(routing)).into_iter().next() {
            Some(problem) => Err(Broken(problem)),
            None => Ok(()),
        }
    }

    fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    fn connect(&self, to: SocketAddr) -> io::Result<std::net::TcpStream> {
        std::net::TcpStream::connect(self.place(to, Transport::Tcp)?)
    }

    fn associate(&self, to: SocketAddr) -> io::Result<std::net::UdpSocket> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(self.place(to, Transport::Udp)?)?;
        Ok(socket)
    }

    fn arrived(&self) -> Option<Vec<serde_json::Value>> {
        Some(self.backends.seen.all())
    }

    fn forget(&self) {
        self.backends.seen.clear();
    }
}

/// A port of loopback.
fn open(transport: Transport) -> io::Result<(Port, SocketAddr)> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    if transport == Transport::Udp {
        let socket = std::net::UdpSocket::bind(any)?;
        let at = socket.local_addr()?;
        return Ok((Port::Datagrams(socket), at));
    }
    let listener = std::net::TcpListener::bind(any)?;
    let at = listener.local_addr()?;
    Ok((Port::Connections(listener), at))
}
