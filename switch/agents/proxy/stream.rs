//! Connections that are passed on as they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kswitch_config::routing::{Rule, TargetBackend};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::time::timeout;

use super::pool::{self, To};
use super::{Shared, choose};

/// How long a backend may take to be connected to.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// Places that are tried one after another.
const TRIES: usize = 3;

/// What a connection that is passed on has been through here.
#[derive(Clone, Debug)]
pub(super) enum Passed {
    /// Nothing.
    AsItIs,
    /// Its TLS has ended: backends that want some get their own.
    ///
    /// Source: Gateway API, `BackendTLSPolicy` with `TLSRoute`s of listeners that terminate.
    OutOf(Option<Arc<CertifiedKey>>),
}

/// Passes a connection on to a backend of a rule, until one side ends it.
pub(super) async fn pass_on<I>(
    shared: &Shared,
    (place, peer): (SocketAddr, SocketAddr),
    mut client: I,
    passed: Passed,
    rule: &Arc<Rule>,
) where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let Some(target) = choose::target(shared, rule) else { return };
    let TargetBackend::Service(backend) = &target.backend else { return };
    let (tls, identity) = match passed {
        Passed::AsItIs => (None, None),
        Passed::OutOf(_) if backend.policy.unusable.is_some() => return,
        Passed::OutOf(identity) => (backend.policy.tls.clone(), identity),
    };
    let key = choose::key(backend, peer.ip(), None);
    for _ in 0..TRIES {
        let Some(chosen) = choose::place(shared, backend, key) else { return };
        let (tls, identity) = (tls.clone(), identity.clone());
        let to = To { from: place.ip(), place: chosen.address, tls, identity };
        match timeout(CONNECT, pool::plain(shared, &to)).await {
            Ok(Ok(stream)) => {
                let mut stream = Box::pin(stream);
                let mut life = shared.pool.life(chosen.address);
                tokio::select! {
                    // who ends it, and how, is their business
                    _ = copy_bidirectional(&mut client, &mut stream) => {}
                    // unless the place has gone, and had time to finish
                    _ = life.changed() => {}
                }
                return;
            }
            _ => shared.health.failed(chosen.address),
        }
    }
}
