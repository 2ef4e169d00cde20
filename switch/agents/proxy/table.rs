//! What is done with connections, ready to be looked up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use kswitch_config::routing::{Listener, Routing, Serve, Socket, SocketKind};
use rustls::ServerConfig;

use super::{Sort, sort, tls};

/// A routing with what follows from it.
#[derive(Debug, Default)]
pub struct Table {
    /// What it was made of.
    pub routing: Arc<Routing>,
    by_place: HashMap<(SocketAddr, bool), usize>,
    /// How each listener ends TLS, by its name.
    tls: HashMap<String, Arc<ServerConfig>>,
}

impl Table {
    /// Makes a routing ready.
    pub(super) fn new(routing: Arc<Routing>) -> Self {
        let mut by_place = HashMap::new();
        let mut configs = HashMap::new();
        for (at, socket) in routing.sockets.iter().enumerate() {
            by_place.entry((socket.place(), socket.kind == SocketKind::Udp)).or_insert(at);
            for listener in &socket.listeners {
                if socket.kind == SocketKind::Tls && !listener.certificates.is_empty() {
                    let is_http = matches!(listener.serve, Serve::Http(_));
                    let config = tls::server(&listener.certificates, is_http);
                    configs.insert(listener.name.clone(), config);
                }
            }
        }
        Self { routing, by_place, tls: configs }
    }

    /// What is listened on, and what each socket carries.
    pub(super) fn sockets(&self) -> impl Iterator<Item = ((SocketAddr, Sort), SocketKind)> {
        let sockets = self.by_place.values().filter_map(|at| self.routing.sockets.get(*at));
        sockets.map(|socket| ((socket.place(), sort(socket.kind)), socket.kind))
    }

    /// The socket of connections at a place.
    pub fn connections(&self, place: SocketAddr) -> Option<&Socket> {
        self.routing.sockets.get(*self.by_place.get(&(place, false))?)
    }

    /// The socket of datagrams at a place.
    pub fn datagrams(&self, place: SocketAddr) -> Option<&Socket> {
        self.routing.sockets.get(*self.by_place.get(&(place, true))?)
    }

    /// How a listener ends TLS.
    pub fn tls(&self, listener: &Listener) -> Option<&Arc<ServerConfig>> {
        self.tls.get(&listener.name)
    }
}
