//! The echo servers that run, kept like those that are wanted.

use std::collections::BTreeMap;
use std::io;
use std::thread;

use kswitch_config::PortKind;

use super::hosts::EchoSpec;
use crate::agents::echo::{Echo, Server, Sockets};
use crate::lab::namespace;

/// Running echo servers by what they belong to.
#[derive(Debug)]
pub(super) struct Echoes {
    echo: Echo,
    servers: BTreeMap<PortKind, (EchoSpec, Server)>,
}

impl Echoes {
    /// None yet.
    pub(super) const fn new(echo: Echo) -> Self {
        Self { echo, servers: BTreeMap::new() }
    }

    /// Stops the servers of a namespace that is about to go.
    pub(super) fn leave(&mut self, namespace: &str) {
        self.servers.retain(|_, (spec, _)| spec.namespace != namespace);
    }

    /// Stops what is not wanted any more, and starts what is wanted and does not run. A server
    /// whose port is taken in its namespace is reported and left out.
    pub(super) fn keep(&mut self, wanted: impl IntoIterator<Item = (PortKind, EchoSpec)>) {
        let wanted: BTreeMap<_, _> = wanted.into_iter().collect();
        self.servers.retain(|kind, (spec, _)| wanted.get(kind) == Some(spec));
        self.add(wanted);
    }

    /// Starts what is wanted and does not run.
    pub(super) fn add(&mut self, wanted: impl IntoIterator<Item = (PortKind, EchoSpec)>) {
        let missing: Vec<_> =
            wanted.into_iter().filter(|(kind, _)| !self.servers.contains_key(kind)).collect();
        for (kind, spec, sockets) in open_all(missing) {
            let served = sockets.and_then(|sockets| {
                for port in sockets.unsupported() {
                    tracing::warn!("{kind}: this kernel offers no {port}");
                }
                self.echo.serve(sockets, spec.identity.clone())
            });
            match served {
                Ok(server) => {
                    self.servers.insert(kind, (spec, server));
                }
                Err(error) => tracing::warn!("{kind}: no echo server: {error}"),
            }
        }
    }
}

/// Opens the sockets of many servers, each in its namespace, on as many threads as there are
/// processors.
fn open_all(missing: Vec<(PortKind, EchoSpec)>) -> Vec<(PortKind, EchoSpec, io::Result<Sockets>)> {
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = missing.len().div_ceil(threads).max(1);
    let mut shares: Vec<Vec<_>> = Vec::new();
    let mut missing = missing.into_iter().peekable();
    while missing.peek().is_some() {
        shares.push(missing.by_ref().take(share).collect());
    }
    let open = |(kind, spec): (PortKind, EchoSpec)| {
        let sockets = namespace::enter(&spec.namespace, || Sockets::open(&spec.ports));
        let sockets = sockets.and_then(|opened| opened);
        (kind, spec, sockets)
    };
    thread::scope(|scope| {
        let handles: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(move || share.into_iter().map(open).collect::<Vec<_>>()))
            .collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).flatten().collect()
    })
}
