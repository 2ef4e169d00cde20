//! To a backend and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{PathAndQuery, Uri};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use kswitch_config::routing::{
    ALL_NOTED, Backend, BackendProtocol, Filters, Listener, Mirror, Persistence, PersistenceKind,
    Place, Rule, Target, TargetBackend,
};
use tokio::time::{Instant, timeout};

use super::pool::{self, Answer, Body, Failure, Life, To};
use super::record::Way;
use super::request::{Client, Going, Refusal, empty, full, is_grpc};
use super::silence::{self, Limit, Movement};
use super::{Error, cache, choose, guard, head};

/// Places that are tried one after another where nothing was sent yet.
const TRIES: usize = 3;

/// Octets of a body that are kept to be sent twice.
const MIRRORED: usize = 1 << 20;

/// How long a copy may take.
const COPY: Duration = Duration::from_secs(15);

/// Sends a request to a backend of its rule, or answers it from what is kept.
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
    let by_rule = rule.persistence.as_ref();
    let known = by_rule.and_then(|by| choose::known(shared, rule, &token(by, &parts)?));
    let target = known.map(|(target, _)| target).or_else(|| choose::target(shared, rule));
    let Some(target) = target else {
        let reason = "the rule has no backend";
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, reason));
    };
    if let Some(answer) = going.own_answer(&target.filters, &parts) {
        return answer;
    }
    let backend = going.backend(target)?;
    way.noted = Some(backend.policy.noted).filter(|noted| *noted < ALL_NOTED);
    if let Some(answer) = guard::check(going, backend, &mut parts, way)? {
        return Ok(answer);
    }
    let by = by_rule.or(backend.affinity.as_ref());
    let known = known.map(|(_, place)| place);
    let known = known.or_else(|| {
        let by = backend.affinity.as_ref().filter(|_| by_rule.is_none())?;
        choose::known_place(shared, backend, &token(by, &parts)?)
    });
    let course = Course { going, target, backend, known };
    let mut response = match &backend.policy.caching {
        Some(caching) => cache::answer(course, caching, parts, body, way).await?,
        None => course.send(parts, whole(body), way).await?,
    };
    head::edit(response.headers_mut(), &target.filters.response_headers);
    if !backend.policy.response_headers.is_empty() {
        let told = Told { going, way };
        head::fill(response.headers_mut(), &backend.policy.response_headers, |name| told.of(name));
    }
    if let Some(by) = by.filter(|_| known.is_none())
        && let Some(place) = way.backend
    {
        remember(by, place, &mut response);
    }
    Ok(response)
}

/// A body as it comes.
pub(super) fn whole(body: Incoming) -> Body {
    body.map_err(Error::from).boxed()
}

/// A request that has met its backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course<'r> {
    /// What it has met before.
    pub(super) going: Going<'r>,
    /// The target of its rule.
    pub(super) target: &'r Target,
    /// Its backend.
    pub(super) backend: &'r Arc<Backend>,
    /// The place that the client had before.
    pub(super) known: Option<&'r Place>,
}

/// The same without what it borrows.
#[derive(Debug)]
pub(super) struct Owned {
    client: Arc<Client>,
    listener: Arc<Listener>,
    host: String,
    field: String,
    matched: String,
    rule: Arc<Rule>,
    target: usize,
}

impl Owned {
    /// What a course has.
    pub(super) fn of(course: Course<'_>) -> Self {
        let Course { going, target, .. } = course;
        let at = going.rule.targets.iter().position(|at| std::ptr::eq(at, target));
        Self {
            client: Arc::clone(going.client),
            listener: Arc::clone(going.listener),
            host: going.host.to_owned(),
            field: going.field.to_owned(),
            matched: going.matched.to_owned(),
            rule: Arc::clone(going.rule),
            target: at.unwrap_or(0),
        }
    }

    /// The course again.
    pub(super) fn course(&self) -> Option<Course<'_>> {
        let Self { client, listener, host, field, matched, rule, target } = self;
        let target = rule.targets.get(*target)?;
        let TargetBackend::Service(backend) = &target.backend else { return None };
        let going = Going { client, listener, host, field, matched, rule };
        Some(Course { going, target, backend, known: None })
    }
}

impl Course<'_> {
    /// Sends a request on.
    ///
    /// # Errors
    /// What is answered instead.
    pub(super) async fn send(
        self,
        mut parts: Parts,
        body: Body,
        way: &mut Way,
    ) -> Result<Response<Body>, Refusal> {
        let Self { going, target, backend, .. } = self;
        if let Some(why) = &backend.policy.unusable {
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why));
        }
        let mut protocol = backend.protocol;
        if is_grpc(&parts.headers) && protocol == BackendProtocol::Http1 {
            // calls are made over HTTP/2 only
            protocol = BackendProtocol::H2c;
        }
        // taken from the request before anything of it is changed
        let upgrade = Upgrade::of(&mut parts, protocol);
        let key = choose::key(backend, going.client.peer.ip(), Some(&parts.headers));
        changed(going, target, &mut parts);
        if !backend.policy.request_headers.is_empty() {
            let told = Told { going, way };
            head::fill(&mut parts.headers, &backend.policy.request_headers, |name| told.of(name));
        }
        let mirrors = going.rule.filters.mirrors.iter().chain(&target.filters.mirrors);
        let mut body = mirrored(going, mirrors.collect(), &parts, body).await;
        let (head, rest) = self.limits(upgrade.is_some());
        let movement = (!body.is_end_stream()).then(Movement::default);
        if let Some(movement) = &movement {
            body = silence::watched(body, movement.clone());
        }
        let sending = self.send_to_place(protocol, key, parts, body, way);
        let sent = silence::within(head, movement.as_ref(), sending).await;
        let response = sent.unwrap_or_else(|| {
            let reason = "the backend did not answer in time";
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, reason))
        })?;
        let pool = &going.client.shared.pool;
        let upgrade = upgrade.zip(way.backend).map(|(upgrade, place)| (upgrade, pool.life(place)));
        Ok(answered(response, upgrade, rest, self.idle()))
    }

    /// How long an answer may take to begin, and how long it may go on.
    ///
    /// Source: Gateway API, `HTTPRouteTimeouts`: zero means no limit. Without them a backend may be
    /// silent for as long as its timeout says, and go on for as long as it is not.
    fn limits(self, is_upgrade: bool) -> (Limit, Limit) {
        let timeouts = self.going.rule.timeouts;
        let of_rule = [timeouts.request, timeouts.backend];
        if of_rule.iter().all(Option::is_none) {
            let limit = Limit::Silence(self.backend.timeout);
            return (limit, limit);
        }
        let least = of_rule.into_iter().flatten().filter(|limit| !limit.is_zero()).min();
        let limit = least.map_or(Limit::None, |limit| Limit::End(Instant::now() + limit));
        (limit, if is_upgrade { Limit::None } else { limit })
    }

    /// How long a connection that was upgraded may be silent.
    ///
    /// Source: GKE, "Support for WebSocket": the timeout of the backend service.
    fn idle(self) -> Duration {
        self.backend.timeout
    }

    /// Sends a request to a place, and to another if the first cannot be connected to.
    async fn send_to_place(
        self,
        protocol: BackendProtocol,
        key: Option<u64>,
        parts: Parts,
        body: Body,
        way: &mut Way,
    ) -> Result<Response<Answer>, Refusal> {
        let Self { going: Going { client, listener, .. }, backend, known, .. } = self;
        let shared = &client.shared;
        let mut request = outgoing(parts, body, protocol);
        for attempt in 0..TRIES {
            let known = known.filter(|_| attempt == 0);
            let chosen = known.or_else(|| choose::place(shared, backend, key));
            let Some(chosen) = chosen else {
                let reason = format!("no place of {} is healthy", backend.key);
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason));
            };
            way.backend = Some(chosen.address);
            let to = To {
                from: client.place.ip(),
                place: chosen.address,
                tls: backend.policy.tls.clone(),
                identity: listener.identity.clone(),
            };
            match pool::send(shared, to, protocol, request).await {
                Ok(response) => return Ok(response),
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
}

/// What fields are filled with.
struct Told<'t> {
    going: Going<'t>,
    way: &'t Way,
}

impl Told<'_> {
    /// The value of a variable.
    ///
    /// Source: Google Cloud, "Variables that can appear in the header value".
    fn of(&self, variable: &str) -> Option<String> {
        let Client { peer, place, scheme, .. } = &**self.going.client;
        Some(match variable {
            "client_ip_address" => peer.ip().to_string(),
            "client_port" => peer.port().to_string(),
            "client_encrypted" => (*scheme == "https").to_string(),
            "client_protocol" => (*scheme).to_owned(),
            "server_ip_address" => place.ip().to_string(),
            "server_port" => place.port().to_string(),
            "cdn_cache_status" => self.way.cache?.word().to_owned(),
            "tls_sni_hostname" if *scheme == "https" => self.going.host.to_owned(),
            _ => return None,
        })
    }
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
fn answered(
    mut response: Response<Answer>,
    upgrade: Option<(Upgrade, Life)>,
    limit: Limit,
    idle: Duration,
) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let backend = hyper::upgrade::on(&mut response);
        if let Some((Upgrade { client }, mut life)) = upgrade {
            tokio::spawn(async move {
                let Ok((client, backend)) = tokio::try_join!(client, backend) else { return };
                tokio::select! {
                    () = silence::carry(TokioIo::new(client), TokioIo::new(backend), idle) => {}
                    _ = life.changed() => {}
                }
            });
        }
        let (parts, _) = response.into_parts();
        return Response::from_parts(parts, empty());
    }
    let (mut parts, body) = response.into_parts();
    head::end_hop(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, silence::limited(body, limit))
}

/// The body of a request, of which mirrors get copies.
async fn mirrored(going: Going<'_>, mirrors: Vec<&Mirror>, parts: &Parts, body: Body) -> Body {
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
        return body;
    }
    // at most as large as it says
    let Ok(whole) = body.collect().await else { return empty() };
    let octets = whole.to_bytes();
    for backend in due {
        copy(going, backend, parts, octets.clone());
    }
    full(octets)
}

/// Sends a copy to a place of a backend; nobody waits for the answer.
fn copy(going: Going<'_>, backend: Arc<Backend>, parts: &Parts, octets: Bytes) {
    let client = Arc::clone(going.client);
    let identity = going.listener.identity.clone();
    let mut head = Request::new(());
    *head.method_mut() = parts.method.clone();
    *head.uri_mut() = parts.uri.clone();
    *head.headers_mut() = parts.headers.clone();
    let (parts, ()) = head.into_parts();
    tokio::spawn(async move {
        let shared = &client.shared;
        let key = choose::key(&backend, client.peer.ip(), Some(&parts.headers));
        let Some(place) = choose::place(shared, &backend, key) else { return };
        let request = outgoing(parts, full(octets), backend.protocol);
        let to = To {
            from: client.place.ip(),
            place: place.address,
            tls: backend.policy.tls.clone(),
            identity,
        };
        let sending = pool::send(shared, to, backend.protocol, request);
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
        PersistenceKind::Cookie => head::cookie(&parts.headers, &by.name),
        PersistenceKind::ClientIp | PersistenceKind::HeaderHash => None,
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
        PersistenceKind::ClientIp | PersistenceKind::HeaderHash => None,
    };
    if let Some((name, value)) = field {
        response.headers_mut().append(name, value);
    }
}
