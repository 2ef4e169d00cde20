//! Connections that are passed on as they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kswitch_config::routing::{Rule, TargetBackend};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::time::timeout;

use super::{Shared, choose};

/// How long a backend may take to be connected to.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// Places that are tried one after another.
const TRIES: usize = 3;

/// Passes a connection on to a backend of a rule, until one side ends it.
pub(super) async fn pass_on<I>(
    shared: &Shared,
    place: SocketAddr,
    peer: SocketAddr,
    mut client: I,
    rule: &Arc<Rule>,
) where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let Some(target) = choose::target(shared, rule) else { return };
    let TargetBackend::Service(backend) = &target.backend else { return };
    let key = choose::key(backend, peer.ip(), None);
    for _ in 0..TRIES {
        let Some(chosen) = choose::place(shared, backend, key) else { return };
        let connecting = shared.network.connect(place.ip(), chosen.address);
        match timeout(CONNECT, connecting).await {
            Ok(Ok(mut stream)) => {
                // who ends it, and how, is their business
                let _ = copy_bidirectional(&mut client, &mut stream).await;
                return;
            }
            _ => shared.health.failed(chosen.address),
        }
    }
}
