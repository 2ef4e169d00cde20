//! A load balancer on loopback in front of backends that answer as a test has it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kswitch::agents::proxy::network::Map;
use kswitch::agents::proxy::{Network, Proxy};
use kswitch_config::routing::route;
use kswitch_config::{Observed, load_text};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::PATIENCE;

/// A node, two pods behind the Service `web`, and whatever a test adds.
pub(crate) const BASE: &str = r#"
[lab]
name = "proxy"

[cluster]
load-balancer-pools = ["203.0.113.0/28"]

[[node]]
name = "node-a"

[[pod]]
metadata = { name = "web-1", labels = { app = "web" } }
spec = { nodeName = "node-a", containers = [{ name = "c", ports = [{ containerPort = 8080 }] }] }

[[pod]]
metadata = { name = "web-2", labels = { app = "web" } }
spec = { nodeName = "node-a", containers = [{ name = "c", ports = [{ containerPort = 8080 }] }] }

[[service]]
spec = { selector = { app = "web" }, ports = [{ name = "http", port = 80, targetPort = 8080 }] }
[service.metadata]
name = "web"
annotations = { "cloud.google.com/backend-config" = '{"default": "web"}' }

[[ingress]]
metadata = { name = "web" }
[ingress.spec]
defaultBackend = { service = { name = "web", port = { number = 80 } } }
"#;

/// What a backend was asked.
pub(crate) type Seen = Arc<Mutex<Vec<Parts>>>;

/// How a backend answers the n-th request, by its head.
pub(crate) type Answer = Arc<dyn Fn(usize, &Parts) -> Response<Full<Bytes>> + Send + Sync>;

/// A load balancer and the backends behind it.
pub(crate) struct Bed {
    pub(crate) proxy: Proxy,
    pub(crate) map: Arc<Map>,
    pub(crate) seen: Seen,
    pub(crate) log: Arc<Mutex<Vec<Value>>>,
}

impl Bed {
    /// A lab, each place of which is a backend that answers so.
    pub(crate) async fn new(
        lab: &str,
        answer: impl Fn(usize, &Parts) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let log = Arc::<Mutex<Vec<Value>>>::default();
        let lines = Arc::clone(&log);
        let map = Arc::new(Map::default());
        let proxy = Proxy::new(
            tokio::runtime::Handle::current(),
            Network::Mapped(Arc::clone(&map)),
            Some(Arc::new(move |record| lines.lock().unwrap().push(record.to_json()))),
        );
        let mut bed = Self { proxy, map, seen: Seen::default(), log };
        let answer: Answer = Arc::new(answer);
        for place in bed.publish(lab).await {
            let at = backend(place, Arc::clone(&answer), Arc::clone(&bed.seen)).await;
            bed.map.backends.write().unwrap().insert(place, at);
        }
        bed
    }

    /// Does what a lab says from now on; the places of its backends come back.
    pub(crate) async fn publish(&mut self, lab: &str) -> Vec<SocketAddr> {
        let cluster = load_text("lab.toml", lab, Path::new("."));
        let cluster = cluster.unwrap_or_else(|errors| panic!("{errors:?}"));
        let routing = Arc::new(route(&cluster, &Observed::default()));
        let backends = routing.backends.values();
        let places = backends.flat_map(|at| &at.places).map(|place| place.address).collect();
        assert_eq!(self.proxy.publish(routing).await, Vec::<String>::new());
        places
    }

    /// Where a port of the load balancer is.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        let listeners = self.map.listeners.read().unwrap();
        *listeners.iter().find(|(place, _)| place.port() == port).unwrap().1
    }

    /// Asks for a path with some fields.
    pub(crate) async fn get(&self, path: &str, fields: &[(&str, &str)]) -> Told {
        self.ask("GET", path, fields).await
    }

    /// The same with another method.
    pub(crate) async fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Told {
        self.exchange(80, method, path, fields).await
    }

    /// Asks another port for a path.
    pub(crate) async fn get_at(&self, port: u16, path: &str) -> Told {
        self.exchange(port, "GET", path, &[]).await
    }

    async fn exchange(&self, port: u16, method: &str, path: &str, fields: &[(&str, &str)]) -> Told {
        let stream = TcpStream::connect(self.at(port)).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        if !fields.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "a.example");
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
        let (parts, body) = answer.into_parts();
        let fields = parts.headers.iter();
        let headers = fields
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let body = timeout(PATIENCE, body.collect()).await.unwrap();
        // of an answer that was cut off there is no whole body
        let body = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
        Told { status: parts.status.as_u16(), headers, body: body.unwrap_or_default() }
    }

    /// How many requests have come to backends.
    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// A field of the last request that a backend saw.
    pub(crate) fn last(&self, name: &str) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        Some(seen.last()?.headers.get(name)?.to_str().unwrap().to_owned())
    }
}

/// What a client was answered.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Told {
    /// A field of the answer.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A backend for a place, which says in every answer which it is.
async fn backend(place: SocketAddr, answer: Answer, seen: Seen) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
            let service = service_fn(move |request: Request<Incoming>| {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                async move {
                    let (parts, _) = request.into_parts();
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(parts.clone());
                        seen.len()
                    };
                    let mut response = answer(number, &parts);
                    let own = place.ip().to_string();
                    response.headers_mut().insert("x-place", own.parse().unwrap());
                    Ok::<_, Infallible>(response)
                }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    at
}

/// An answer with some fields.
pub(crate) fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}
