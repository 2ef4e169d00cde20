//! The client: one request, connection or datagram at a time.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::format::l7::Asked;
use super::super::stage::Witness;
use super::backend::fields;
use crate::agents::proxy::tls;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Fields by name in lower case.
    pub(super) headers: BTreeMap<String, String>,
    /// What the backend told of the request; `None`: the body is something else.
    pub(super) told: Option<Value>,
    /// The certificate that was shown.
    pub(super) certificate: Option<CertificateDer<'static>>,
}

/// How the load balancer is spoken to.
#[derive(Clone, Debug)]
pub(super) struct Speaking<'a> {
    /// The `Host`, unless the request has another.
    pub(super) address: String,
    /// Whether in TLS.
    pub(super) is_tls: bool,
    /// The name that TLS is asked for.
    pub(super) sni: Option<&'a str>,
}

/// Sends a request.
///
/// # Errors
/// There was no answer.
pub(super) async fn request(
    stream: TcpStream,
    how: &Speaking<'_>,
    asked: &Asked,
) -> io::Result<Answer> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(PATIENCE, exchange(stream, how, asked)).await.map_err(late)?
}

async fn exchange(stream: TcpStream, how: &Speaking<'_>, asked: &Asked) -> io::Result<Answer> {
    stream.set_nodelay(true)?;
    if !how.is_tls {
        return talk(stream, how, asked).await;
    }
    let config = tls::client(None, b"http/1.1");
    let name = match how.sni {
        Some(name) => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
        None => ServerName::IpAddress(stream.peer_addr()?.ip().into()),
    };
    let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await?;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.map(|first| first.clone().into_owned());
    let answer = talk(stream, how, asked).await?;
    Ok(Answer { certificate, ..answer })
}

async fn talk<I>(stream: I, how: &Speaking<'_>, asked: &Asked) -> io::Result<Answer>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    let driver = tokio::spawn(connection);
    let host = asked.host.as_ref().unwrap_or(&how.address);
    let mut request = Request::builder()
        .method(asked.method.as_deref().unwrap_or("GET"))
        .uri(&asked.path)
        .header("host", host);
    for (name, value) in &asked.headers {
        request = request.header(name, value);
    }
    if !asked.backend_sets.is_empty() {
        let sets = asked.backend_sets.iter().map(|(name, value)| format!("{name}:{value}"));
        request = request.header("X-Echo-Set-Header", sets.collect::<Vec<_>>().join(","));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    driver.abort();
    let told = serde_json::from_slice::<Value>(&body).ok().filter(|told| told["pod"].is_string());
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: fields(&parts.headers),
        told,
        certificate: None,
    })
}

/// Sends a datagram, and waits for one.
///
/// # Errors
/// None came.
pub(super) async fn datagram(socket: UdpSocket) -> io::Result<Option<Value>> {
    socket.send(b"whoami").await?;
    let mut buffer = vec![0; 2_048];
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.map_err(late)??;
    let octets = buffer.get(..length).unwrap_or_default();
    let text = String::from_utf8_lossy(octets);
    // an echo server tells it in one line
    let witness = Witness::from_text(&text).and_then(|witness| {
        let (namespace, pod) = witness.who.split_once('/')?;
        Some(serde_json::json!({ "namespace": namespace, "pod": pod }))
    });
    Ok(witness.or_else(|| serde_json::from_slice(octets).ok()))
}
