//! What a node answers a load balancer that asks how it is: at a port of its own for a Service, and
//! at one for the service proxy.
//!
//! Under `externalTrafficPolicy: Local` a load balancer sends only to nodes that have an endpoint of
//! their own, and asks each node whether it has.
//!
//! Source: `ServiceSpec.healthCheckNodePort`; kube-proxy's answer, `pkg/proxy/healthcheck`.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Request, StatusCode, header};
use kswitch_config::HealthCheck;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::http;
use super::listen::{self, Tasks};

/// Connections one responder holds at a time; the newest beyond are closed.
const CONNECTIONS: usize = 64;

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status: 200 with an endpoint on the node, else 503.
    pub status: u16,
    /// Fields of the head.
    pub headers: [(&'static str, String); 3],
    /// The body.
    pub body: Value,
}

/// What is said at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// This, whatever the path.
    Anywhere(Answer),
    /// How the service proxy is: at `/healthz` whether new flows may come, at `/livez` whether it
    /// runs.
    ///
    /// Source: KEP-3836; kube-proxy `pkg/proxy/healthcheck/proxy_health.go`.
    Proxy {
        /// Whether the node is to stay.
        is_eligible: bool,
    },
}

/// What `node` answers a request for the health of a Service.
///
/// Endpoints that are terminating do not count, though they may still serve: so a load balancer
/// turns away from the node before the last of them ends.
pub fn answer(check: &HealthCheck, node: &str) -> Answer {
    let HealthCheck { namespace, service, port: _, ready } = check;
    let ready = ready.iter().find(|(name, _)| name == node).map_or(0, |(_, count)| *count);
    Answer {
        status: if ready > 0 { 200 } else { 503 },
        headers: [
            ("Content-Type", "application/json".to_owned()),
            ("X-Content-Type-Options", "nosniff".to_owned()),
            ("X-Load-Balancing-Endpoint-Weight", ready.to_string()),
        ],
        body: json!({
            "service": { "namespace": namespace, "name": service },
            "localEndpoints": ready,
            "serviceProxyHealthy": true,
        }),
    }
}

/// A port of a node, inside its namespace and not yet answered on.
#[derive(Debug)]
pub struct Socket(std::net::TcpListener);

impl Socket {
    /// Opens a port on all addresses in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// The port is taken, or what else the system says.
    pub fn open(port: u16) -> io::Result<Self> {
        listen::everywhere(port).map(Self)
    }
}

/// Answers for one Service on one node; dropping it closes its port and its connections.
#[derive(Debug)]
#[must_use = "the responder ends when this is dropped"]
pub struct Responder {
    says: Arc<RwLock<Says>>,
    _tasks: Tasks,
}

impl Responder {
    /// Starts to answer requests with this.
    ///
    /// # Errors
    ///
    /// The socket cannot be registered with the runtime.
    pub fn start(runtime: &Handle, socket: Socket, says: Says) -> io::Result<Self> {
        let _guard = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(socket.0)?;
        let says = Arc::new(RwLock::new(says));
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let current = Arc::clone(&says);
        let accepting = listen::accept(listener, move |stream| {
            let permit = Arc::clone(&permits).try_acquire_owned().ok()?;
            let current = Arc::clone(&current);
            Some(async move {
                let respond = |request: Request<Incoming>| {
                    let says = current.read().unwrap_or_else(PoisonError::into_inner).clone();
                    std::future::ready(response(&says, request.uri().path()))
                };
                // a client that breaks off has nobody to be told
                let _ = http::serve(stream, respond).await;
                drop(permit);
            })
        });
        let mut tasks = Tasks::default();
        tasks.push(runtime.spawn(accepting).abort_handle());
        Ok(Self { says, _tasks: tasks })
    }

    /// Says this from the next request on, also on connections that are open.
    pub fn set(&self, says: Says) {
        *self.says.write().unwrap_or_else(PoisonError::into_inner) = says;
    }
}

fn response(says: &Says, path: &str) -> http::Answer {
    let Answer { status, headers, body } = match says {
        Says::Anywhere(answer) => answer,
        Says::Proxy { is_eligible } => return proxy(*is_eligible, path),
    };
    let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = http::json(status, body);
    for (name, value) in headers {
        let name = header::HeaderName::try_from(*name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// How the service proxy is.
fn proxy(is_eligible: bool, path: &str) -> http::Answer {
    let is_good = match path {
        "/healthz" => is_eligible,
        "/livez" => true,
        _ => return http::text(StatusCode::NOT_FOUND, "404 page not found\n"),
    };
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    let now = jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string();
    let body = json!({ "lastUpdated": now, "currentTime": now, "nodeEligible": is_eligible });
    let status = if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = http::json(status, &body);
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_to_go_is_alive_and_wants_nothing_new() {
        let status = |is_eligible, path| response(&Says::Proxy { is_eligible }, path).status();
        assert_eq!(status(true, "/healthz"), 200);
        assert_eq!(status(false, "/healthz"), 503);
        assert_eq!(status(false, "/livez"), 200);
        assert_eq!(status(true, "/"), 404);
    }

    #[test]
    fn a_node_is_healthy_while_it_has_an_endpoint() {
        let check = HealthCheck {
            namespace: "shop".into(),
            service: "front".into(),
            port: 30_376,
            ready: vec![("node-a".into(), 2)],
        };
        let healthy = answer(&check, "node-a");
        assert_eq!(healthy.status, 200);
        assert_eq!(healthy.body["localEndpoints"], 2);
        assert_eq!(healthy.headers[2].1, "2");
        let other = answer(&check, "node-b");
        assert_eq!(other.status, 503);
        assert_eq!(other.body["localEndpoints"], 0);
        assert_eq!(other.body["service"]["name"], "front");
    }
}
