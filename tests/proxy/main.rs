//! The load balancer over real sockets of loopback: what lasts, what streams, what fails.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod bed;
mod caching;
mod mutual;
mod policies;
mod secure;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kswitch::agents::proxy::network::Map;
use kswitch::agents::proxy::{Network, Proxy};
use kswitch_config::routing::route;
use kswitch_config::{Observed, load_text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

const LAB: &str = r#"
[lab]
name = "proxy"

[[node]]
name = "node-a"

[[pod]]
metadata = { name = "web", labels = { app = "web" } }
spec = { nodeName = "node-a", containers = [{ name = "c", ports = [{ containerPort = 8080 }] }] }

[[service]]
metadata = { name = "web" }
spec = { selector = { app = "web" }, ports = [{ port = 80, targetPort = 8080 }] }

[[gateway]]
metadata = { name = "edge" }
[gateway.spec]
gatewayClassName = "kswitch"
addresses = [{ value = "203.0.113.1" }]
listeners = [{ name = "http", port = 80, protocol = "HTTP" }]

[[http-route]]
metadata = { name = "web" }
[http-route.spec]
parentRefs = [{ name = "edge" }]
rules = [{ backendRefs = [{ name = "web", port = 80 }] }]
"#;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// A load balancer in front of a backend, and where it listens.
async fn balanced(backend: SocketAddr) -> (Proxy, SocketAddr) {
    let cluster = load_text("lab.toml", LAB, Path::new(".")).unwrap();
    let routing = Arc::new(route(&cluster, &Observed::default()));
    let map = Arc::new(Map::default());
    let place = routing.backends.values().next().unwrap().places[0].address;
    map.backends.write().unwrap().insert(place, backend);
    let runtime = tokio::runtime::Handle::current();
    let mut proxy = Proxy::new(runtime, Network::Mapped(Arc::clone(&map)), None);
    assert_eq!(proxy.publish(routing).await, Vec::<String>::new());
    let at = map.listeners.read().unwrap()[&"203.0.113.1:80".parse().unwrap()];
    (proxy, at)
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

#[tokio::test]
async fn an_upgraded_connection_carries_octets_both_ways() {
    let (backend, at) = listener().await;
    tokio::spawn(async move {
        let (mut stream, _) = backend.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(
            head.contains("upgrade: websocket") && head.contains("connection: upgrade"),
            "{head}"
        );
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    });
    let (_proxy, at) = balanced(at).await;
    let mut client = TcpStream::connect(at).await.unwrap();
    let ask = "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    for word in [&b"hello"[..], b"again"] {
        client.write_all(word).await.unwrap();
        let mut echo = vec![0; word.len()];
        timeout(PATIENCE, client.read_exact(&mut echo)).await.unwrap().unwrap();
        assert_eq!(echo, word);
    }
}

type Body = BoxBody<Bytes, Infallible>;

/// A backend that answers with what it is sent, as it comes, and trailers in the end.
async fn echo(
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Infallible> {
    let kind = request.headers().get("content-type").cloned();
    let frames = stream::unfold(Some(request.into_body()), |body| async {
        let mut body = body?;
        match body.frame().await {
            Some(frame) => Some((frame, Some(body))),
            None => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                Some((Ok(Frame::trailers(trailers)), None))
            }
        }
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    if let Some(kind) = kind {
        response.headers_mut().insert("content-type", kind);
    }
    Ok(response)
}

async fn echoing() -> SocketAddr {
    let (backend, at) = listener().await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = backend.accept().await.unwrap();
            let builder = auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                let _ = builder.serve_connection(TokioIo::new(stream), service_fn(echo)).await;
            });
        }
    });
    at
}

/// A body whose frames are sent by hand.
fn by_hand() -> (mpsc::Sender<Bytes>, Body) {
    let (send, receive) = mpsc::channel(1);
    let frames = stream::unfold(receive, |mut receive: mpsc::Receiver<Bytes>| async {
        let octets = receive.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(octets)), receive))
    });
    (send, BodyExt::boxed(StreamBody::new(frames)))
}

#[tokio::test]
async fn a_call_streams_both_ways_and_ends_with_its_status() {
    let (_proxy, at) = balanced(echoing().await).await;
    let stream = TcpStream::connect(at).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let (send, body) = by_hand();
    let request = Request::post("http://a.example/shop.Cart/Chat")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap();
    let answer = tokio::spawn(sender.send_request(request));
    // what is sent comes back while the call goes on
    send.send(Bytes::from_static(b"one")).await.unwrap();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let mut next = async || timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(next().await.into_data().unwrap(), "one");
    send.send(Bytes::from_static(b"two")).await.unwrap();
    assert_eq!(next().await.into_data().unwrap(), "two");
    drop(send);
    let last = loop {
        match next().await.into_trailers() {
            Ok(trailers) => break trailers,
            Err(frame) => assert!(frame.into_data().unwrap().is_empty()),
        }
    };
    assert_eq!(last["grpc-status"], "0");
}

#[tokio::test]
async fn large_bodies_go_through_whole() {
    const PIECE: usize = 64 * 1_024;
    const PIECES: usize = 1_024;
    let (_proxy, at) = balanced(echoing().await).await;
    let stream = TcpStream::connect(at).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (send, body) = by_hand();
    let request = Request::put("/large").header("host", "a.example").body(body).unwrap();
    let sending = tokio::spawn(async move {
        for number in 0..PIECES {
            let octet = u8::try_from(number % 251).unwrap();
            send.send(Bytes::from(vec![octet; PIECE])).await.unwrap();
        }
    });
    let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let mut at = 0_usize;
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.unwrap() {
        let Ok(data) = frame.unwrap().into_data() else { continue };
        for octet in data {
            assert_eq!(usize::from(octet), at / PIECE % 251, "at {at}");
            at += 1;
        }
    }
    assert_eq!(at, PIECE * PIECES);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    let (_proxy, at) = balanced(echoing().await).await;
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: a.example\r\n", "200"),
        ("GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n", "200"),
        ("GET / HTTP/1.1\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n", "400"),
        ("GET / HTTP/1.0\r\n", "200"),
    ] {
        let mut client = TcpStream::connect(at).await.unwrap();
        let ask = format!("{head}Connection: close\r\n\r\n");
        client.write_all(ask.as_bytes()).await.unwrap();
        let mut told = String::new();
        timeout(PATIENCE, client.read_to_string(&mut told)).await.unwrap().unwrap();
        assert_eq!(told.split(' ').nth(1), Some(status), "{head}{told}");
    }
}

#[tokio::test]
async fn a_backend_that_is_gone_is_a_bad_gateway() {
    let (backend, at) = listener().await;
    drop(backend);
    let (_proxy, at) = balanced(at).await;
    let stream = TcpStream::connect(at).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/").header("host", "a.example").body(Empty::<Bytes>::new());
    let answer = timeout(PATIENCE, sender.send_request(request.unwrap())).await.unwrap().unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.headers()["via"], "1.1 kswitch");
}
