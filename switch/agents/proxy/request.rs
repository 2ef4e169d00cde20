//! Requests: which rule is for them, and what it changes before and after the backend.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use kswitch_config::routing::{
    self, Cors, Filters, Found, Listener, Rule, Seen, Serve, Target, TargetBackend, host_of,
};

use super::pool::Body;
use super::record::{Record, Way};
use super::table::Table;
use super::{Shared, cors, forward, head};

/// The client of a connection.
#[derive(Debug)]
pub struct Client {
    /// What all connections share.
    pub shared: Arc<Shared>,
    /// Where it came in.
    pub place: SocketAddr,
    /// Its own address.
    pub peer: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The listener that it agreed on TLS with.
    pub listener: Option<Arc<Listener>>,
}

/// An answer of the load balancer's own.
#[derive(Debug)]
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    /// Why.
    pub reason: String,
}

impl Refusal {
    /// An answer of this status, for this reason.
    pub fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }
}

/// Answers a request.
pub(super) async fn answer(client: &Arc<Client>, request: Request<Incoming>) -> Response<Body> {
    let begun = Instant::now();
    let asked = Asked {
        method: request.method().clone(),
        uri: request.uri().clone(),
        version: request.version(),
        host: host_field(&request).unwrap_or_default().to_owned(),
        agent: request.headers().get(header::USER_AGENT).cloned(),
    };
    let is_grpc = is_grpc(request.headers());
    let mut way = Way::default();
    let table = client.shared.table();
    let mut listener = None;
    let answered = route(client, &table, request, &mut listener, &mut way).await;
    let listener = listener.cloned();
    drop(table);
    let (mut response, reason) = match answered {
        Ok(response) => (response, None),
        Err(refusal) => (refused(&refusal, is_grpc), Some(refusal.reason)),
    };
    head::via(response.headers_mut());
    if client.shared.is_noted(way.noted) {
        let Asked { method, uri, version, host, agent } = asked;
        client.shared.told(Record {
            when: SystemTime::now(),
            client: client.peer,
            place: client.place,
            listener,
            method,
            scheme: client.scheme,
            host,
            uri,
            version,
            agent,
            status: response.status().as_u16(),
            way,
            reason,
            took: begun.elapsed(),
        });
    }
    response
}

/// What is told of a request, taken from it before it goes on.
struct Asked {
    method: Method,
    uri: Uri,
    version: Version,
    host: String,
    agent: Option<HeaderValue>,
}

/// What an Ingress answers where no backend is for a request.
///
/// Source: ingress-gce, `404-server-with-metrics`.
fn no_backend(listener: &Listener, path: &str) -> Refusal {
    let (kind, ..) = &listener.owner;
    let reason = if kind == "Ingress" {
        format!("response 404 (backend NotFound), service rules for [ {path} ] non-existent")
    } else {
        "no rule is for this request".to_owned()
    };
    Refusal::new(StatusCode::NOT_FOUND, reason)
}

/// Finds the rule of a request, and does what it says.
async fn route<'t>(
    client: &Arc<Client>,
    table: &'t Table,
    request: Request<Incoming>,
    met: &mut Option<&'t Arc<Listener>>,
    way: &mut Way,
) -> Result<Response<Body>, Refusal> {
    let field = match host_field(&request) {
        _ if request.headers().get_all(header::HOST).iter().count() > 1 => {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "the request names several hosts"));
        }
        Some(field) => field,
        // Source: RFC 9112, 3.2: before HTTP/1.1 there need be none
        None if request.version() < Version::HTTP_11 => "",
        None => return Err(Refusal::new(StatusCode::BAD_REQUEST, "the request names no host")),
    };
    let (field, host) = (field.to_owned(), host_of(field));
    let not_found = || Refusal::new(StatusCode::NOT_FOUND, "no rule is for this request");
    let socket = table.connections(client.place).ok_or_else(not_found)?;
    let listener = socket.listener(&host).ok_or_else(not_found)?;
    *met = Some(listener);
    // a connection that was opened for one listener's hosts is not for another's
    if client.listener.as_ref().is_some_and(|own| own.name != listener.name) {
        let reason = format!("this connection is not for {host}");
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, reason));
    }
    let Serve::Http(rules) = &listener.serve else { return Err(not_found()) };
    let (parts, body) = request.into_parts();
    let asked = routing::Request {
        host: &host,
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &head::Fields(&parts.headers),
    };
    let found = rules.find(&asked);
    let Found { rule, matched } = found.ok_or_else(|| no_backend(listener, parts.uri.path()))?;
    way.rule = Some(Arc::clone(rule));
    let going = Going { client, listener, host: &host, field: &field, matched, rule };
    going.on(parts, body, way).await
}

/// A request that has met its rule.
#[derive(Clone, Copy, Debug)]
pub struct Going<'r> {
    /// The client.
    pub client: &'r Arc<Client>,
    /// The listener that took it.
    pub listener: &'r Arc<Listener>,
    /// The host that it asks, without a port.
    pub host: &'r str,
    /// The same as it was written.
    pub field: &'r str,
    /// The part of the path that the rule asks for.
    pub matched: &'r str,
    /// The rule.
    pub rule: &'r Arc<Rule>,
}

impl Going<'_> {
    async fn on(
        self,
        parts: Parts,
        body: Incoming,
        way: &mut Way,
    ) -> Result<Response<Body>, Refusal> {
        let Self { rule, .. } = self;
        let cors = rule.filters.cors.clone();
        if let Some(cors) = &cors
            && cors::is_preflight(&parts.method, &parts.headers)
        {
            return Ok(preflight(cors, &parts));
        }
        let page = cors.as_ref().and_then(|cors| cors::origin(cors, &parts.headers));
        let page = page.map(str::to_owned);
        let mut response = match self.own_answer(&rule.filters, &parts) {
            Some(answer) => answer?,
            None => forward::forward(self, parts, body, way).await?,
        };
        head::edit(response.headers_mut(), &rule.filters.response_headers);
        if let (Some(cors), Some(page)) = (&cors, page) {
            cors::allow(cors, &page, None, response.headers_mut());
        }
        Ok(response)
    }

    /// What filters answer without a backend.
    pub fn own_answer(
        self,
        filters: &Filters,
        parts: &Parts,
    ) -> Option<Result<Response<Body>, Refusal>> {
        if let Some(reason) = &filters.unusable {
            return Some(Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, reason)));
        }
        let redirect = filters.redirect.as_ref()?;
        let location = redirect.location(Seen {
            scheme: self.client.scheme,
            host: self.host,
            port: self.client.place.port(),
            path: parts.uri.path(),
            matched: self.matched,
            query: parts.uri.query(),
        });
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::FOUND);
        if let Ok(location) = HeaderValue::try_from(location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Some(Ok(response))
    }

    /// The backend of a target, if it can be used.
    ///
    /// # Errors
    /// What is answered otherwise.
    pub fn backend(self, target: &Target) -> Result<&Arc<routing::Backend>, Refusal> {
        match &target.backend {
            TargetBackend::Service(backend) => Ok(backend),
            TargetBackend::Unusable(why) => {
                Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why))
            }
        }
    }
}

fn preflight(cors: &Cors, parts: &Parts) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Some(origin) = cors::origin(cors, &parts.headers) {
        cors::allow(cors, origin, Some(&parts.headers), response.headers_mut());
    }
    response
}

/// What the client calls the host it asks.
fn host_field<B>(request: &Request<B>) -> Option<&str> {
    let authority = request.uri().authority().map(hyper::http::uri::Authority::as_str);
    authority.or_else(|| request.headers().get(header::HOST)?.to_str().ok())
}

/// Whether this is a call of gRPC.
pub fn is_grpc(headers: &hyper::HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// A body without octets.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// A body of these octets.
pub fn full(octets: impl Into<Bytes>) -> Body {
    Full::new(octets.into()).map_err(|never| match never {}).boxed()
}

/// Source: gRPC, "HTTP to gRPC Status Code Mapping"; calls are told in their own words.
fn refused(refusal: &Refusal, is_grpc: bool) -> Response<Body> {
    let Refusal { status, reason } = refusal;
    if is_grpc {
        let code = match status.as_u16() {
            404 => "12",
            504 => "4",
            500 => "13",
            _ => "14",
        };
        let mut response = Response::new(empty());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(code));
        if let Ok(reason) = HeaderValue::try_from(reason) {
            headers.insert("grpc-message", reason);
        }
        return response;
    }
    let mut response = Response::new(full(format!("{status}: {reason}\n")));
    *response.status_mut() = *status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
