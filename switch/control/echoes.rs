//! The echo servers that run, kept like those that are wanted.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use kswitch_config::PortKind;

use super::hosts::EchoSpec;
use crate::agents::echo::{Echo, Server, Sockets};
use crate::lab::namespace;
use crate::threads;

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
/// processors, and to be had.
fn open_all(missing: Vec<(PortKind, EchoSpec)>) -> Vec<(PortKind, EchoSpec, io::Result<Sockets>)> {
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let helpers = processors.min(missing.len()).saturating_sub(1);
    let (missing, opened) = (Mutex::new(missing.into_iter()), Mutex::new(Vec::new()));
    let open = || {
        while let Some((kind, spec)) = lock(&missing).next() {
            let sockets = namespace::enter(&spec.namespace, || Sockets::open(&spec.ports));
            let sockets = sockets.and_then(|opened| opened);
            lock(&opened).push((kind, spec, sockets));
        }
    };
    thread::scope(|scope| {
        for _ in 0..helpers {
            // without it those that are there open all
            let _ = threads::start_within(scope, "echoes", open);
        }
        open();
    });
    opened.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
