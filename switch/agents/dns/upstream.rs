//! Somebody outside, asked for what nobody here knows.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::message::{Transport, Unknown};
use crate::agents::namespace::Namespace;

/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Octets of the largest answer over UDP.
const LARGEST: usize = 65_535;

/// The answer of the first that has one.
pub(super) async fn ask(
    namespace: &Namespace,
    servers: &[SocketAddr],
    unknown: &Unknown,
) -> Option<Vec<u8>> {
    for server in servers {
        if let Ok(Ok(answer)) = timeout(PATIENCE, ask_one(namespace, *server, unknown)).await {
            return Some(answer);
        }
    }
    None
}

async fn ask_one(
    namespace: &Namespace,
    server: SocketAddr,
    unknown: &Unknown,
) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = namespace.inside(move || std::net::UdpSocket::bind((any, 0))).await?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    socket.connect(server).await?;
    // who knows the port has to guess this, too; both are the kernel's and the allocator's choice
    let id = socket.local_addr()?.port() ^ identification(&socket);
    let request = unknown.request(id).ok_or(io::ErrorKind::InvalidData)?;
    socket.send(&request).await?;
    let mut answer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut answer).await?;
        let octets = answer.get(..length).unwrap_or_default();
        match unknown.is_cut(id, octets) {
            None => {}
            Some(true) if unknown.transport() == Transport::Tcp => break,
            Some(_) => {
                answer.truncate(length);
                return Ok(answer);
            }
        }
    }
    ask_by_tcp(namespace, server, &request).await
}

async fn ask_by_tcp(
    namespace: &Namespace,
    server: SocketAddr,
    request: &[u8],
) -> io::Result<Vec<u8>> {
    let make = move || if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = namespace.inside(make).await?;
    let mut stream = socket.connect(server).await?;
    stream.write_u16(u16::try_from(request.len()).map_err(io::Error::other)?).await?;
    stream.write_all(request).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn identification(socket: &UdpSocket) -> u16 {
    use std::hash::BuildHasher;
    // a hasher with keys of its own is what the standard library has for chance
    let hash = std::hash::RandomState::new().hash_one(std::ptr::from_ref(socket).addr());
    u16::try_from(hash & 0xffff).unwrap_or_default()
}
