//! Connections of clients: TLS, then HTTP/1.1 or HTTP/2, or whatever is passed on.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kswitch_config::routing::{Listener, Serve, SocketKind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::request::{self, Client};
use super::stream::{self, Passed};
use super::{Shared, tls};
use crate::agents::listen;

/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a client may take to send a request's head, or be idle between two.
///
/// Source: GKE, "Client HTTP keepalive timeout".
const HEAD_PATIENCE: Duration = Duration::from_secs(610);

/// Octets of a request's head at most.
const MAX_HEAD: usize = 64 * 1_024;

/// Requests that one client may have open at a time on a connection.
const STREAMS: u32 = 256;

/// Octets on their way in one request, and in all of a connection, under HTTP/2.
const WINDOW: u32 = 1 << 20;

/// Takes connections until the task is aborted, which ends them too.
pub(super) async fn accept(
    shared: Arc<Shared>,
    place: SocketAddr,
    kind: SocketKind,
    listener: TcpListener,
) {
    let serve = move |stream: TcpStream| {
        let permit = Arc::clone(&shared.permits).try_acquire_owned().ok()?;
        let shared = Arc::clone(&shared);
        Some(async move {
            // what is small is not held back to be sent with more
            let _ = stream.set_nodelay(true);
            match kind {
                SocketKind::Http => plain(shared, place, stream).await,
                SocketKind::Tls => secure(shared, place, stream).await,
                SocketKind::Tcp | SocketKind::Udp => passed_on(shared, place, stream).await,
            }
            drop(permit);
        })
    };
    listen::accept(listener, serve).await;
}

async fn plain(shared: Arc<Shared>, place: SocketAddr, stream: TcpStream) {
    let Ok(peer) = stream.peer_addr() else { return };
    let client = Client { shared, place, peer, scheme: "http", listener: None };
    http(Arc::new(client), stream).await;
}

async fn secure(shared: Arc<Shared>, place: SocketAddr, stream: TcpStream) {
    let Ok(peer) = stream.peer_addr() else { return };
    let Ok(Ok(name)) = timeout(HANDSHAKE, tls::server_name(&stream)).await else { return };
    let table = shared.table();
    let Some(socket) = table.connections(place) else { return };
    let asked = name.as_deref().unwrap_or("");
    // who asks for no name gets the listener for all, or the only one there is
    let only = || Some(&socket.listeners).filter(|all| all.len() == 1 && name.is_none());
    let listener = socket.listener(asked).or_else(|| only()?.first());
    let Some(listener) = listener.cloned() else { return };
    if let Serve::Passthrough(rules) = &listener.serve {
        let rule = rules.iter().find(|(host, _)| host.matches(asked));
        if let Some((_, rule)) = rule {
            stream::pass_on(&shared, (place, peer), stream, Passed::AsItIs, rule).await;
        }
        return;
    }
    let Some(config) = table.tls(&listener) else { return };
    let accepting = TlsAcceptor::from(Arc::clone(config)).accept(stream);
    let Ok(Ok(secured)) = timeout(HANDSHAKE, accepting).await else { return };
    drop(table);
    match &listener.serve {
        Serve::Http(_) => {
            let listener = Some(Arc::clone(&listener));
            let client = Client { shared, place, peer, scheme: "https", listener };
            http(Arc::new(client), secured).await;
        }
        Serve::Stream(rules) | Serve::Passthrough(rules) => {
            if let Some((_, rule)) = rules.iter().find(|(host, _)| host.matches(asked)) {
                let passed = Passed::OutOf(listener.identity.clone());
                stream::pass_on(&shared, (place, peer), secured, passed, rule).await;
            }
        }
    }
}

async fn passed_on(shared: Arc<Shared>, place: SocketAddr, stream: TcpStream) {
    let Ok(peer) = stream.peer_addr() else { return };
    let table = shared.table();
    let listener: Option<&Arc<Listener>> =
        table.connections(place).and_then(|socket| socket.listeners.first());
    let Some(listener) = listener.filter(|listener| listener.admits(peer.ip())) else { return };
    let Serve::Stream(rules) = &listener.serve else { return };
    if let Some((_, rule)) = rules.first() {
        stream::pass_on(&shared, (place, peer), stream, Passed::AsItIs, rule).await;
    }
}

async fn http<I>(client: Arc<Client>, connection: I)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let client = Arc::clone(&client);
        async move { Ok::<_, Infallible>(request::answer(&client, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(MAX_HEAD)
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
    // a client that breaks off has nobody to be told
    let _ = builder.serve_connection_with_upgrades(TokioIo::new(connection), service).await;
}
