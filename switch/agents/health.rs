//! Health check node ports: what a node answers a load balancer that asks for a Service.
//!
//! Under `externalTrafficPolicy: Local` a load balancer sends only to nodes that have an endpoint of
//! their own, and asks each node whether it has.
//!
//! Source: `ServiceSpec.healthCheckNodePort`; kube-proxy's answer, `pkg/proxy/healthcheck`.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use hyper::header::HeaderValue;
use hyper::{StatusCode, header};
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
    answer: Arc<RwLock<Answer>>,
    _tasks: Tasks,
}

impl Responder {
    /// Starts to give this answer to every request, whatever its path.
    ///
    /// # Errors
    ///
    /// The socket cannot be registered with the runtime.
    pub fn start(runtime: &Handle, socket: Socket, answer: Answer) -> io::Result<Self> {
        let _guard = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(socket.0)?;
        let answer = Arc::new(RwLock::new(answer));
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let current = Arc::clone(&answer);
        let accepting = listen::accept(listener, move |stream| {
            let permit = Arc::clone(&permits).try_acquire_owned().ok()?;
            let current = Arc::clone(&current);
            Some(async move {
                let respond = |_| std::future::ready(response(&current));
                // a client that breaks off has nobody to be told
                let _ = http::serve(stream, respond).await;
                drop(permit);
            })
        });
        let mut tasks = Tasks::default();
        tasks.push(runtime.spawn(accepting).abort_handle());
        Ok(Self { answer, _tasks: tasks })
    }

    /// Gives this answer from the next request on, also on connections that are open.
    pub fn set(&self, answer: Answer) {
        *self.answer.write().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

fn response(answer: &RwLock<Answer>) -> http::Answer {
    let Answer { status, headers, body } = &*answer.read().unwrap_or_else(PoisonError::into_inner);
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

#[cfg(test)]
mod tests {
    use super::*;

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
