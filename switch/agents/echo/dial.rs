//! `/dial`: the server asks another server from inside its own namespace, so that one pod's view of
//! another can be had over HTTP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::http::Query;
use crate::agents::namespace::Namespace;

/// How long one try may take.
const TRY: Duration = Duration::from_secs(5);

/// How long all tries of a request may take together.
const ALL_TRIES: Duration = Duration::from_mins(1);

/// Tries of one request at most.
const MAX_TRIES: u32 = 1_000;

/// Octets of an answer that are taken.
const MAX_ANSWER: usize = 16 * 1_024;

/// Requests that one server carries out at a time.
const CONCURRENT: usize = 4;

/// Makes sockets in a server's namespace.
#[derive(Debug)]
pub(super) struct Dialer {
    namespace: Namespace,
    permits: Semaphore,
}

impl Dialer {
    pub(super) fn new(namespace: Namespace) -> Self {
        Self { namespace, permits: Semaphore::new(CONCURRENT) }
    }

    async fn http(&self, target: SocketAddr, path: &str) -> io::Result<String> {
        let stream = self
            .namespace
            .inside(move || {
                let stream = std::net::TcpStream::connect_timeout(&target, TRY)?;
                stream.set_nonblocking(true)?;
                Ok(stream)
            })
            .await?;
        let stream = TokioIo::new(TcpStream::from_std(stream)?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
        let exchange = async {
            let request = Request::get(format!("/{}", path.trim_start_matches('/')))
                .header(header::HOST, target.to_string())
                .body(Empty::<Bytes>::new())
                .map_err(io::Error::other)?;
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            Ok(String::from_utf8_lossy(&body).into_owned())
        };
        tokio::pin!(exchange, connection);
        tokio::select! {
            result = &mut exchange => result,
            // The connection may well end before the answer has been read out of it.
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }

    async fn udp(&self, target: SocketAddr, request: &str) -> io::Result<String> {
        let socket = self
            .namespace
            .inside(move || {
                let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = std::net::UdpSocket::bind(any)?;
                socket.connect(target)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .await?;
        let socket = UdpSocket::from_std(socket)?;
        socket.send(request.as_bytes()).await?;
        let mut answer = Vec::with_capacity(MAX_ANSWER);
        socket.recv_buf(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

#[derive(Clone, Copy)]
enum Protocol {
    Http,
    Udp,
}

/// Carries out what a query asks for; each try adds to `responses` or to `errors`.
///
/// # Errors
///
/// The query lacks something, or too many are under way: a sentence for the client.
pub(super) async fn answer(dialer: &Dialer, query: &Query) -> Result<Value, String> {
    let named = |name| query.get(name).ok_or_else(|| format!("{name} is missing\n"));
    let request = named("request")?;
    let host: IpAddr = named("host")?
        .trim_matches(['[', ']'])
        .parse()
        .map_err(|_| "host must be an address\n".to_owned())?;
    let port: u16 = named("port")?.parse().map_err(|_| "port must be a number\n".to_owned())?;
    let target = SocketAddr::new(host, port);
    let protocol = match query.get("protocol").unwrap_or("http") {
        "" | "http" => Protocol::Http,
        "udp" => Protocol::Udp,
        other => return Err(format!("unsupported protocol {other}, must be http or udp\n")),
    };
    let Ok(tries @ 1..=MAX_TRIES) = query.get("tries").unwrap_or("1").parse() else {
        return Err(format!("tries must be a number from 1 to {MAX_TRIES}\n"));
    };
    let _permit = dialer.permits.try_acquire().map_err(|_| "too many dials at a time\n")?;

    let (mut responses, mut errors) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + ALL_TRIES;
    for _ in 0..tries {
        let attempt = timeout(TRY, async {
            match protocol {
                Protocol::Http => dialer.http(target, request).await,
                Protocol::Udp => dialer.udp(target, request).await,
            }
        });
        match timeout_at(deadline, attempt).await {
            Ok(Ok(Ok(response))) => responses.push(response),
            Ok(Ok(Err(error))) => errors.push(error.to_string()),
            Ok(Err(_)) => errors.push("timed out".to_owned()),
            Err(_) => {
                errors.push("no time is left for more tries".to_owned());
                break;
            }
        }
    }
    let mut results = json!({});
    for (name, list) in [("responses", responses), ("errors", errors)] {
        if let Some(results) = results.as_object_mut()
            && !list.is_empty()
        {
            results.insert(name.into(), list.into());
        }
    }
    Ok(results)
}
