//! Backends: servers that tell what arrives at them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::super::format::{PodName, Transport};
use super::super::topology::Lab;

/// The field by which a client has a backend set fields of its answer.
const SETS: &str = "x-echo-set-header";

/// Octets of a datagram at most.
const DATAGRAM: usize = 2_048;

/// Everything that arrived at backends since it was last asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Vec<Value>>>);

impl Seen {
    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What has arrived.
    pub(super) fn all(&self) -> Vec<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A port that a backend listens on, opened where the pod is.
#[derive(Debug)]
pub(super) enum Port {
    Connections(std::net::TcpListener),
    Datagrams(std::net::UdpSocket),
}

/// A pod, one of its ports, and its protocol.
pub(super) type Place = (PodName, u16, Transport);

/// The backends that run.
#[derive(Debug, Default)]
pub(super) struct Backends {
    running: BTreeMap<Place, Running>,
    pub(super) seen: Seen,
}

#[derive(Debug)]
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Backends {
    /// Has a backend run in each port of each pod; `open` opens new ones.
    ///
    /// # Errors
    /// What `open` says.
    pub(super) fn keep(
        &mut self,
        lab: &Lab,
        runtime: &Handle,
        mut open: impl FnMut(&Place) -> io::Result<Port>,
    ) -> io::Result<()> {
        let wanted: Vec<Place> = lab
            .pods()
            .flat_map(|(name, pod)| {
                pod.ports.iter().map(|port| (name.clone(), port.port, port.protocol))
            })
            .filter(|(_, _, transport)| *transport != Transport::Sctp)
            .collect();
        self.running.retain(|place, _| wanted.contains(place));
        for place in wanted {
            if self.running.contains_key(&place) {
                continue;
            }
            let port = open(&place)?;
            let _guard = runtime.enter();
            let (pod, seen) = (place.0.clone(), self.seen.clone());
            let task = match port {
                Port::Connections(listener) => {
                    listener.set_nonblocking(true)?;
                    runtime.spawn(connections(TcpListener::from_std(listener)?, pod, seen))
                }
                Port::Datagrams(socket) => {
                    socket.set_nonblocking(true)?;
                    runtime.spawn(datagrams(UdpSocket::from_std(socket)?, pod))
                }
            };
            self.running.insert(place, Running(task.abort_handle()));
        }
        Ok(())
    }
}

async fn connections(listener: TcpListener, pod: PodName, seen: Seen) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (pod, seen) = (pod.clone(), seen.clone());
        let service = service_fn(move |request| {
            let (pod, seen) = (pod.clone(), seen.clone());
            async move { Ok::<_, Infallible>(answer(&pod, &seen, request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn datagrams(socket: UdpSocket, pod: PodName) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let Ok((_, client)) = socket.recv_from(&mut buffer).await else { continue };
        let told = json!({ "namespace": pod.namespace, "pod": pod.name });
        let _ = socket.send_to(told.to_string().as_bytes(), client).await;
    }
}

async fn answer(pod: &PodName, seen: &Seen, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    // read whole, lest the client be broken off
    let _ = body.collect().await;
    let told = json!({
        "namespace": pod.namespace,
        "pod": pod.name,
        "method": parts.method.as_str(),
        "path": parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        "host": parts.headers.get("host").and_then(|host| host.to_str().ok()),
        "headers": fields(&parts.headers),
    });
    seen.0.lock().unwrap_or_else(PoisonError::into_inner).push(told.clone());
    let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let delay = query.into_iter().find(|(key, _)| key == "delay");
    if let Some(delay) = delay.and_then(|(_, text)| delay_of(&text)) {
        tokio::time::sleep(delay).await;
    }
    let mut response = Response::new(Full::from(told.to_string()));
    let sets = parts.headers.get_all(SETS).iter().filter_map(|value| value.to_str().ok());
    for pair in sets.flat_map(|value| value.split(',')) {
        let Some((name, value)) = pair.split_once(':') else { continue };
        let (name, value) =
            (HeaderName::try_from(name.trim()), HeaderValue::try_from(value.trim()));
        if let (Ok(name), Ok(value)) = (name, value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// `1s`, `200ms`.
fn delay_of(text: &str) -> Option<Duration> {
    if let Some(millis) = text.strip_suffix("ms") {
        return Some(Duration::from_millis(millis.parse().ok()?));
    }
    Some(Duration::from_secs_f64(text.strip_suffix('s')?.parse().ok()?))
}

/// The fields of a head: names in lower case, values of one name joined by `,`.
pub(super) fn fields(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = value.to_str().unwrap_or_default();
        all.entry(name.as_str().to_owned())
            .and_modify(|have| {
                have.push(',');
                have.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }
    all
}
