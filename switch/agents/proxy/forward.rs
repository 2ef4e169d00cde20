//! To a backend and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{PathAndQuery, Uri};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use kswitch_config::routing::{
    Backend, BackendProtocol, Filters, Mirror, Persistence, PersistenceKind, Place, Target,
};
use tokio::io::copy_bidirectional;
use tokio::time::timeout;

use super::pool::{self, Body, Failure};
use super::request::{Going, Refusal, Way, empty, full, is_grpc};
use super::{Error, choose, head};

/// Places that are tried one after another where nothing was sent yet.
const TRIES: usize = 3;

/// Octets of a body that are kept to be sent twice.
const MIRRORED: usize = 1 << 20;

/// How long a backend may take to answer a request that has a body of its own.
const UPLOAD: Duration = Duration::from_hours(1);

/// How long a copy may take.
const COPY: Duration = Duration::from_secs(15);

/// Sends a request to a backend of its rule.
///
/// # Errors
/// What is answered instead.
pub(super) async fn forward(
    going: Going<'_>,
    mut parts: Parts,
    body: Incoming,
    way: &mut Way,
) -> Result<Response<Body>, Refusal> {
    let Going { client, rule, .. } = going;
    let shared = &client.shared;
    let persistence = rule.persistence.as_ref();
    let known = persistence.and_then(|by| choose::known(shared, rule, &token(by, &parts)?));
    let target = known.map(|(target, _)| target).or_else(|| choose::target(shared, rule));
    let Some(target) = target else {
        let reason = "the rule has no backend";
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, reason));
    };
    if let Some(answer) = going.own_answer(&target.filters, &parts) {
        return answer;
    }
    let backend = going.backend(target)?;
    let mut protocol = backend.protocol;
    if is_grpc(&parts.headers) && protocol == BackendProtocol::Http1 {
        // calls are made over HTTP/2 only
        protocol = BackendProtocol::H2c;
    }
    // taken from the request before anything of it is changed
    let upgrade = Upgrade::of(&mut parts, protocol);
    changed(going, target, &mut parts);
    let mirrors = rule.filters.mirrors.iter().chain(&target.filters.mirrors);
    let body = mirrored(going, mirrors.collect(), &parts, body).await;
    let has_body = !body.is_end_stream();
    let place = known.map(|(_, place)| place);
    let sending = send(going, backend, place, protocol, parts, body, way);
    let limit = limit(going, backend, has_body || upgrade.is_some());
    let (response, place) = match limit {
        None => sending.await?,
        Some(limit) => timeout(limit, sending).await.unwrap_or_else(|_| {
            let reason = "the backend did not answer in time";
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, reason))
        })?,
    };
    let mut response = answered(response, upgrade);
    head::edit(response.headers_mut(), &target.filters.response_headers);
    if let Some(by) = persistence.filter(|_| known.is_none()) {
        remember(by, place, &mut response);
    }
    Ok(response)
}

/// How long an answer may take to begin.
///
/// Source: Gateway API, `HTTPRouteTimeouts`: zero means no limit.
fn limit(going: Going<'_>, backend: &Backend, is_long: bool) -> Option<Duration> {
    let timeouts = going.rule.timeouts;
    let of_rule = [timeouts.request, timeouts.backend];
    if of_rule.iter().all(Option::is_none) {
        return Some(if is_long { UPLOAD } else { backend.timeout });
    }
    of_rule.into_iter().flatten().filter(|limit| !limit.is_zero()).min()
}

/// Makes the head of a request what the backend is to see.
fn changed(going: Going<'_>, target: &Target, parts: &mut Parts) {
    let Going { client, rule, .. } = going;
    head::end_hop(&mut parts.headers);
    if let Some(Wanted(protocol)) = parts.extensions.remove::<Wanted>() {
        parts.headers.insert(header::UPGRADE, protocol);
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let mut host = going.field.to_owned();
    for Filters { request_headers, host: new, path, .. } in [&rule.filters, &target.filters] {
        head::edit(&mut parts.headers, request_headers);
        if let Some(new) = new {
            host.clone_from(new);
        }
        if let Some(change) = path {
            let new = change.apply(parts.uri.path(), going.matched);
            let query = parts.uri.query().map_or_else(String::new, |query| format!("?{query}"));
            if let Ok(new) = PathAndQuery::try_from(format!("{new}{query}")) {
                parts.uri = Uri::from(new);
            }
        }
    }
    if let Ok(host) = HeaderValue::try_from(host) {
        parts.headers.insert(header::HOST, host);
    }
    head::forwarded(&mut parts.headers, client.peer.ip(), client.place.ip(), client.scheme);
}

/// Sends a request to a place of a backend, and to another if the first cannot be connected to.
async fn send(
    going: Going<'_>,
    backend: &Arc<Backend>,
    known: Option<&Place>,
    protocol: BackendProtocol,
    parts: Parts,
    body: Body,
    way: &mut Way,
) -> Result<(Response<Incoming>, SocketAddr), Refusal> {
    let Going { client, .. } = going;
    let shared = &client.shared;
    let mut request = outgoing(parts, body, protocol);
    for attempt in 0..TRIES {
        let known = known.filter(|_| attempt == 0);
        let chosen = known.or_else(|| choose::place(shared, backend, client.peer.ip()));
        let Some(chosen) = chosen else {
            let reason = format!("no place of {} is healthy", backend.key);
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason));
        };
        way.backend = Some(chosen.address);
        let from = client.place.ip();
        match pool::send(shared, from, chosen.address, protocol, request).await {
            Ok(response) => return Ok((response, chosen.address)),
            Err(Failure::Connect(unsent, _)) => {
                shared.health.failed(chosen.address);
                request = *unsent;
            }
            Err(Failure::Broken(error)) => {
                let reason = format!("the backend broke off: {error}");
                return Err(Refusal::new(StatusCode::BAD_GATEWAY, reason));
            }
        }
    }
    let reason = format!("no place of {} could be connected to", backend.key);
    Err(Refusal::new(StatusCode::BAD_GATEWAY, reason))
}

/// A request in the form that its protocol asks for.
fn outgoing(mut parts: Parts, body: Body, protocol: BackendProtocol) -> Request<Body> {
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    match protocol {
        BackendProtocol::Http1 | BackendProtocol::Https => {
            parts.version = Version::HTTP_11;
            parts.uri = Uri::from(path);
        }
        BackendProtocol::H2c | BackendProtocol::Http2 => {
            parts.version = Version::HTTP_2;
            let host = parts.headers.remove(header::HOST);
            let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("backend");
            let scheme = if protocol == BackendProtocol::Http2 { "https" } else { "http" };
            let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(path.clone());
            parts.uri = uri.build().unwrap_or_else(|_| Uri::from(path));
        }
    }
    parts.extensions.clear();
    Request::from_parts(parts, body)
}

/// Another protocol that a client wants to change to.
struct Upgrade {
    client: hyper::upgrade::OnUpgrade,
}

impl Upgrade {
    /// The wish of a request; its fields are kept for the backend.
    fn of(parts: &mut Parts, protocol: BackendProtocol) -> Option<Self> {
        let is_one = matches!(protocol, BackendProtocol::Http1 | BackendProtocol::Https);
        if !is_one || parts.version != Version::HTTP_11 {
            return None;
        }
        let wanted = parts.headers.get(header::UPGRADE).cloned()?;
        let connection = parts.headers.get(header::CONNECTION)?.to_str().ok()?;
        if !connection.to_ascii_lowercase().contains("upgrade") {
            return None;
        }
        let client = parts.extensions.remove::<hyper::upgrade::OnUpgrade>()?;
        parts.extensions.insert(Wanted(wanted));
        Some(Self { client })
    }
}

/// The protocol that is wanted, while fields of one hop are taken out.
#[derive(Clone)]
struct Wanted(HeaderValue);

/// The answer of a backend as the client gets it.
fn answered(mut response: Response<Incoming>, upgrade: Option<Upgrade>) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let backend = hyper::upgrade::on(&mut response);
        if let Some(Upgrade { client }) = upgrade {
            tokio::spawn(async move {
                let Ok((client, backend)) = tokio::try_join!(client, backend) else { return };
                let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
                // who ends it, and how, is their business
                let _ = copy_bidirectional(&mut client, &mut backend).await;
            });
        }
        let (parts, _) = response.into_parts();
        return Response::from_parts(parts, empty());
    }
    let (mut parts, body) = response.into_parts();
    head::end_hop(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, body.map_err(Error::from).boxed())
}

/// The body of a request, of which mirrors get copies.
async fn mirrored(going: Going<'_>, mirrors: Vec<&Mirror>, parts: &Parts, body: Incoming) -> Body {
    let shared = &going.client.shared;
    let is_due = |mirror: &&&Mirror| {
        let Mirror { numerator, denominator, .. } = ***mirror;
        let share = shared.turns.share(&format!("{}, mirror", going.rule.name));
        let at = (u128::from(share) * u128::from(denominator)) >> 64;
        numerator >= denominator || at < u128::from(numerator)
    };
    let due: Vec<_> = mirrors.iter().filter(is_due).filter_map(|at| at.backend.clone()).collect();
    let is_small = body.size_hint().upper().is_some_and(|most| most <= MIRRORED as u64);
    if due.is_empty() || !is_small {
        return body.map_err(Error::from).boxed();
    }
    let Ok(whole) = Limited::new(body, MIRRORED).collect().await else { return empty() };
    let octets = whole.to_bytes();
    for backend in due {
        copy(going, backend, parts, octets.clone());
    }
    full(octets)
}

/// Sends a copy to a place of a backend; nobody waits for the answer.
fn copy(going: Going<'_>, backend: Arc<Backend>, parts: &Parts, octets: Bytes) {
    let client = Arc::clone(going.client);
    let mut head = Request::new(());
    *head.method_mut() = parts.method.clone();
    *head.uri_mut() = parts.uri.clone();
    *head.headers_mut() = parts.headers.clone();
    let (parts, ()) = head.into_parts();
    tokio::spawn(async move {
        let shared = &client.shared;
        let Some(place) = choose::place(shared, &backend, client.peer.ip()) else { return };
        let request = outgoing(parts, full(octets), backend.protocol);
        let from = client.place.ip();
        let sending = pool::send(shared, from, place.address, backend.protocol, request);
        if let Ok(Ok(response)) = timeout(COPY, sending).await {
            // read to its end, so that the connection can be used again
            let _ = timeout(COPY, response.into_body().collect()).await;
        }
    });
}

/// What a client sends to be known again.
fn token(by: &Persistence, parts: &Parts) -> Option<String> {
    match by.kind {
        PersistenceKind::Header => {
            Some(parts.headers.get(by.name.as_str())?.to_str().ok()?.to_owned())
        }
        PersistenceKind::Cookie => {
            let cookies = parts.headers.get_all(header::COOKIE).iter();
            let mut pairs = cookies
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(';').filter_map(|pair| pair.trim().split_once('=')));
            pairs.find(|(name, _)| *name == by.name).map(|(_, value)| value.to_owned())
        }
        PersistenceKind::ClientIp => None,
    }
}

/// Tells a client how it will be known again.
fn remember(by: &Persistence, place: SocketAddr, response: &mut Response<Body>) {
    let token = choose::token(place);
    let field = match by.kind {
        PersistenceKind::Header => head::field(&by.name, &token),
        PersistenceKind::Cookie => {
            let age = by.max_age.map_or_else(String::new, |age| format!("; Max-Age={age}"));
            head::field("set-cookie", &format!("{}={token}; Path=/; HttpOnly{age}", by.name))
        }
        PersistenceKind::ClientIp => None,
    };
    if let Some((name, value)) = field {
        response.headers_mut().append(name, value);
    }
}
