//! Where the load balancer's sockets are.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::agents::listen;
use crate::agents::namespace::Namespace;

/// Where the load balancer's sockets are.
#[derive(Clone, Debug)]
pub enum Network {
    /// On loopback, where other ports stand for the places that are meant.
    Mapped(Arc<Map>),
    /// In namespaces, one for each address of a load balancer.
    Namespaces(Arc<RwLock<HashMap<IpAddr, Home>>>),
}

/// Ports of loopback that stand for places.
#[derive(Debug, Default)]
pub struct Map {
    /// Where the load balancer listens, by where it should.
    pub listeners: RwLock<HashMap<SocketAddr, SocketAddr>>,
    /// The same of datagrams.
    pub sockets: RwLock<HashMap<SocketAddr, SocketAddr>>,
    /// Where backends listen, by where they should.
    pub backends: RwLock<HashMap<SocketAddr, SocketAddr>>,
}

/// The namespace of a load balancer.
#[derive(Clone, Debug)]
pub struct Home {
    /// The namespace.
    pub namespace: Namespace,
    /// Addresses from which backends are reached.
    pub sources: Vec<IpAddr>,
    /// Addresses from which they are checked.
    pub probes: Vec<IpAddr>,
}

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Network {
    fn home(&self, address: IpAddr) -> io::Result<Home> {
        let Self::Namespaces(homes) = self else { return Err(io::ErrorKind::Unsupported.into()) };
        let homes = homes.read().unwrap_or_else(PoisonError::into_inner);
        homes.get(&address).cloned().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Listens for connections.
    ///
    /// # Errors
    /// What the system says.
    pub async fn listen(&self, place: SocketAddr) -> io::Result<TcpListener> {
        if let Self::Mapped(map) = self {
            let listener = TcpListener::bind(LOOPBACK).await?;
            insert(&map.listeners, place, listener.local_addr()?);
            return Ok(listener);
        }
        let open = move || {
            let domain = Domain::for_address(place);
            let kind = Type::STREAM.nonblocking().cloexec();
            listen::listen(Socket::new(domain, kind, Some(Protocol::TCP))?, place)
        };
        TcpListener::from_std(self.home(place.ip())?.namespace.inside(open).await?)
    }

    /// Waits for datagrams.
    ///
    /// # Errors
    /// What the system says.
    pub async fn bind(&self, place: SocketAddr) -> io::Result<UdpSocket> {
        if let Self::Mapped(map) = self {
            let socket = UdpSocket::bind(LOOPBACK).await?;
            insert(&map.sockets, place, socket.local_addr()?);
            return Ok(socket);
        }
        let open = move || {
            let socket = std::net::UdpSocket::bind(place)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        UdpSocket::from_std(self.home(place.ip())?.namespace.inside(open).await?)
    }

    /// Connects the load balancer of an address to a backend.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect(&self, from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
        self.connect_by(from, to, |home| &home.sources).await
    }

    /// Connects what checks backends for the load balancer of an address to one.
    ///
    /// # Errors
    /// What the system says.
    pub async fn probe(&self, from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
        self.connect_by(from, to, |home| &home.probes).await
    }

    async fn connect_by(
        &self,
        from: IpAddr,
        to: SocketAddr,
        sources: fn(&Home) -> &[IpAddr],
    ) -> io::Result<TcpStream> {
        let stream = match self {
            Self::Mapped(map) => TcpStream::connect(mapped(map, to)?).await?,
            Self::Namespaces(_) => {
                let home = self.home(from)?;
                let source = source(sources(&home), to);
                let namespace = home.namespace;
                let open = move || {
                    let kind = Type::STREAM.nonblocking().cloexec();
                    let domain = Domain::for_address(to);
                    let socket = Socket::new(domain, kind, Some(Protocol::TCP))?;
                    // many connections share an address: the port is chosen for the pair
                    setsockopt(&socket, IpBindAddressNoPort, &true)?;
                    socket.bind(&source.into())?;
                    Ok(socket)
                };
                let socket = namespace.inside(open).await?;
                let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
                socket.connect(to).await?
            }
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A socket for datagrams between the load balancer of an address and a backend.
    ///
    /// # Errors
    /// What the system says.
    pub async fn associate(&self, from: IpAddr, to: SocketAddr) -> io::Result<UdpSocket> {
        match self {
            Self::Mapped(map) => {
                let socket = UdpSocket::bind(LOOPBACK).await?;
                socket.connect(mapped(map, to)?).await?;
                Ok(socket)
            }
            Self::Namespaces(_) => {
                let Home { namespace, sources, probes: _ } = self.home(from)?;
                let source = source(&sources, to);
                let open = move || {
                    let socket = std::net::UdpSocket::bind(source)?;
                    socket.connect(to)?;
                    socket.set_nonblocking(true)?;
                    Ok(socket)
                };
                UdpSocket::from_std(namespace.inside(open).await?)
            }
        }
    }
}

fn insert(map: &RwLock<HashMap<SocketAddr, SocketAddr>>, place: SocketAddr, at: SocketAddr) {
    map.write().unwrap_or_else(PoisonError::into_inner).insert(place, at);
}

fn mapped(map: &Map, to: SocketAddr) -> io::Result<SocketAddr> {
    let backends = map.backends.read().unwrap_or_else(PoisonError::into_inner);
    backends.get(&to).copied().ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
}

/// The address of the target's family from which it is reached.
fn source(sources: &[IpAddr], to: SocketAddr) -> SocketAddr {
    let any: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = sources.iter().find(|at| at.is_ipv4() == to.is_ipv4()).copied();
    SocketAddr::new(source.unwrap_or(any), 0)
}
