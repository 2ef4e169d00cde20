//! Datagrams that are passed on: those of one client go to one backend, as long as there are any.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kswitch_config::routing::{Serve, TargetBackend};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Shared, choose};

/// How long a client may be silent before it is forgotten.
const IDLE: Duration = Duration::from_mins(1);

/// Clients that are remembered at most; datagrams of others are dropped.
const CLIENTS: usize = 4_096;

/// Octets of a datagram at most.
const LARGEST: usize = 65_535;

/// Passes datagrams on until the task is aborted.
pub(super) async fn serve(shared: Arc<Shared>, place: SocketAddr, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut buffer = vec![0; LARGEST];
    loop {
        tokio::select! {
            Some(client) = ends.recv() => {
                clients.remove(&client);
            }
            received = socket.recv_from(&mut buffer) => {
                let Ok((length, client)) = received else { continue };
                let known = clients.get(&client).cloned();
                let backend = match known {
                    Some(backend) => backend,
                    None if clients.len() >= CLIENTS => continue,
                    None => {
                        let Some(backend) = associate(&shared, place, client).await else {
                            continue;
                        };
                        clients.insert(client, Arc::clone(&backend));
                        let (socket, answering, ended) =
                            (Arc::clone(&socket), Arc::clone(&backend), ended.clone());
                        tokio::spawn(async move {
                            answer(&socket, client, &answering).await;
                            let _ = ended.send(client);
                        });
                        backend
                    }
                };
                // what cannot be sent is lost, as datagrams may be
                let _ = backend.send(buffer.get(..length).unwrap_or_default()).await;
            }
        }
    }
}

/// A socket to the backend of a new client.
async fn associate(
    shared: &Shared,
    place: SocketAddr,
    client: SocketAddr,
) -> Option<Arc<UdpSocket>> {
    let table = shared.table();
    let listener = table.datagrams(place)?.listeners.first()?;
    let Serve::Stream(rules) = &listener.serve else { return None };
    if !listener.admits(client.ip()) {
        return None;
    }
    let (_, rule) = rules.first()?;
    let target = choose::target(shared, rule)?;
    let TargetBackend::Service(backend) = &target.backend else { return None };
    let key = choose::key(backend, client.ip(), None);
    let chosen = choose::place(shared, backend, key)?;
    Some(Arc::new(shared.network.associate(place.ip(), chosen.address).await.ok()?))
}

/// Carries answers back until the backend is silent.
async fn answer(socket: &UdpSocket, client: SocketAddr, backend: &UdpSocket) {
    let mut buffer = vec![0; LARGEST];
    while let Ok(Ok(length)) = timeout(IDLE, backend.recv(&mut buffer)).await {
        let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), client).await;
    }
}
