//! What is done with connections, ready to be looked up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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
                    let config = tls::server(listener, is_http);
                    configs.extend(config.map(|config| (listener.name.clone(), config)));
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

    /// Whether a backend has a place.
    pub(super) fn has_place(&self, place: SocketAddr) -> bool {
        let mut backends = self.routing.backends.values();
        backends.any(|backend| backend.places.iter().any(|at| at.address == place))
    }

    /// Places that are here and not in the next table, and how long they may finish, where that is
    /// said.
    pub(super) fn going(&self, next: &Self) -> Vec<(SocketAddr, Duration)> {
        let backends = self.routing.backends.values();
        let all = backends.flat_map(|backend| {
            let places = backend.places.iter().map(|place| place.address);
            places.filter_map(|place| Some((place, backend.draining?)))
        });
        all.filter(|(place, _)| !next.has_place(*place)).collect()
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
