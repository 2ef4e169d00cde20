//! Sockets, listeners, rules and backends.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::Ingress;
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;

use super::caching::Caching;
use super::host::HostPattern;
use super::path::PathChange;
use super::redirect::Redirect;
use super::security::SecurityPolicy;
use super::table::RouteTable;
use super::template::HeaderTemplate;
use super::tls::{BackendTls, TlsTerms};
use crate::gateway_api::{
    BackendTlsPolicy, Gateway, GatewayClass, GrpcRoute, HttpRoute, ListenerSet, TcpRoute, TlsRoute,
    UdpRoute,
};

/// Everything that load balancers outside the nodes do.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// Where they listen.
    pub sockets: Vec<Socket>,
    /// Where requests go, by Service and port.
    pub backends: BTreeMap<BackendKey, Arc<Backend>>,
    /// The classes, with status.
    pub gateway_classes: Vec<Arc<GatewayClass>>,
    /// The Gateways, with status.
    pub gateways: Vec<Arc<Gateway>>,
    /// More listeners of theirs, with status.
    pub listener_sets: Vec<Arc<ListenerSet>>,
    /// The routes of requests, with status.
    pub http_routes: Vec<Arc<HttpRoute>>,
    /// The routes of calls, with status.
    pub grpc_routes: Vec<Arc<GrpcRoute>>,
    /// The routes of TLS connections, with status.
    pub tls_routes: Vec<Arc<TlsRoute>>,
    /// The routes of connections, with status.
    pub tcp_routes: Vec<Arc<TcpRoute>>,
    /// The routes of datagrams, with status.
    pub udp_routes: Vec<Arc<UdpRoute>>,
    /// What is said of TLS with Services, with status.
    pub backend_tls: Vec<Arc<BackendTlsPolicy>>,
    /// The Ingresses, with status.
    pub ingresses: Vec<Arc<Ingress>>,
    /// What of all this has no effect, for people.
    pub remarks: Vec<String>,
}

/// What a socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SocketKind {
    /// HTTP without TLS.
    Http,
    /// TLS, and HTTP or anything else in it.
    Tls,
    /// TCP connections.
    Tcp,
    /// UDP datagrams.
    Udp,
}

/// An address and port that is listened on.
#[derive(Clone, Debug)]
pub struct Socket {
    /// The address.
    pub address: IpAddr,
    /// The port, host order.
    pub port: u16,
    /// What it carries.
    pub kind: SocketKind,
    /// Who shares it, told apart by the names of hosts.
    pub listeners: Vec<Arc<Listener>>,
}

impl Socket {
    /// The listener for a host, in lower case and without a port: that of the most specific name.
    ///
    /// Source: Gateway API, `Listener.hostname`.
    pub fn listener(&self, host: &str) -> Option<&Arc<Listener>> {
        let matching = self.listeners.iter().filter(|listener| listener.hostname.matches(host));
        matching.max_by_key(|listener| listener.hostname.specificity())
    }

    /// Where it is.
    pub const fn place(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

/// Hosts on a socket, and what is done for them.
#[derive(Clone, Debug)]
pub struct Listener {
    /// What people call it: `Gateway shop/edge, listener web`.
    pub name: String,
    /// Whose it is: kind, namespace and name.
    pub owner: (String, String, String),
    /// Its hosts.
    pub hostname: HostPattern,
    /// Certificates, the first of which serves unknown names.
    pub certificates: Vec<Arc<CertifiedKey>>,
    /// Which TLS is spoken.
    pub terms: TlsTerms,
    /// Who vouches for clients, which then have to show a certificate; `None`: they need not.
    pub clients: Option<Arc<RootCertStore>>,
    /// The certificate that is shown to backends that ask for one.
    pub identity: Option<Arc<CertifiedKey>>,
    /// The only addresses of clients that it is for; none: all.
    pub admitted: Vec<IpNet>,
    /// What is done.
    pub serve: Serve,
}

impl Listener {
    /// Whether it is for a client.
    pub fn admits(&self, client: IpAddr) -> bool {
        self.admitted.is_empty() || self.admitted.iter().any(|range| range.contains(&client))
    }
}

/// What is done with what comes in.
#[derive(Clone, Debug)]
pub enum Serve {
    /// Requests are read and routed.
    Http(RouteTable),
    /// Connections and datagrams are passed on; with TLS, after it was ended here.
    Stream(Vec<(HostPattern, Arc<Rule>)>),
    /// TLS connections are passed on as they are.
    Passthrough(Vec<(HostPattern, Arc<Rule>)>),
}

/// What is done with requests that match.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// What people call it: `HTTPRoute shop/web, rule 0`.
    pub name: String,
    /// What is changed.
    pub filters: Filters,
    /// Services that share them by weight.
    pub targets: Vec<Target>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// How clients stay with their backend.
    pub persistence: Option<Persistence>,
}

/// A Service that gets a share of the requests.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its share, against those beside it.
    pub weight: u32,
    /// Where they go.
    pub backend: TargetBackend,
    /// What is changed on the way to it.
    pub filters: Filters,
}

/// Where requests go.
#[derive(Clone, Debug)]
pub enum TargetBackend {
    /// To a port of a Service.
    Service(Arc<Backend>),
    /// Nowhere, since what the route names cannot be used, for this reason: 500.
    Unusable(String),
}

/// How long a request may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// In all; `None`: no limit.
    pub request: Option<Duration>,
    /// At the backend; `None`: no limit but that of the whole.
    pub backend: Option<Duration>,
}

/// How clients stay with their backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// By what.
    pub kind: PersistenceKind,
    /// The name of the cookie or header.
    pub name: String,
    /// Seconds for which clients keep the cookie; `None`: until they end.
    pub max_age: Option<u64>,
}

/// By what clients are known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistenceKind {
    /// A cookie that the load balancer sets.
    Cookie,
    /// A header that it sets, and that clients send again.
    Header,
    /// The client's address.
    ClientIp,
    /// Whatever a header says that clients send by themselves.
    HeaderHash,
}

/// What is changed of a request, its answer, or both.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Fields of the request's head.
    pub request_headers: Vec<HeaderEdit>,
    /// Fields of the answer's head.
    pub response_headers: Vec<HeaderEdit>,
    /// Where the client is sent instead.
    pub redirect: Option<Redirect>,
    /// The host that the backend sees.
    pub host: Option<String>,
    /// The path that the backend sees.
    pub path: Option<PathChange>,
    /// Who gets a copy.
    pub mirrors: Vec<Mirror>,
    /// Which pages of other origins may ask.
    pub cors: Option<Arc<Cors>>,
    /// What cannot be done, so that requests are answered with 500.
    pub unusable: Option<String>,
}

/// Changes to the fields of a head; names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdit {
    /// In place of what is there.
    pub set: Vec<(String, String)>,
    /// Beside what is there.
    pub add: Vec<(String, String)>,
    /// Taken out.
    pub remove: Vec<String>,
}

/// A copy of requests.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Who gets it.
    pub backend: Option<Arc<Backend>>,
    /// So many requests …
    pub numerator: u32,
    /// … of so many.
    pub denominator: u32,
}

/// Which pages of other origins may ask.
///
/// Source: Gateway API, `HTTPCORSFilter`; Fetch Standard, "CORS protocol".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Any of these.
    pub origins: Vec<Origin>,
    /// Whether they may send cookies.
    pub credentials: bool,
    /// Methods; `*`: all.
    pub methods: Vec<String>,
    /// Fields of the request's head; `*`: all.
    pub headers: Vec<String>,
    /// Fields of the answer's head; `*`: all.
    pub expose: Vec<String>,
    /// Seconds for which the answer may be remembered.
    pub max_age: u32,
}

/// Where a page may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Anywhere.
    Any,
    /// From here, in lower case.
    Exact(String),
    /// From hosts whose name ends so: scheme with `://`, and the end of the host with its port.
    Suffix(String, String),
}

impl Origin {
    /// Reads one as it is written.
    pub(super) fn new(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.split_once("://*") {
            _ if text == "*" => Self::Any,
            Some((scheme, end)) => Self::Suffix(format!("{scheme}://"), end.to_owned()),
            None => Self::Exact(text),
        }
    }

    /// Whether an origin is one of these.
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.eq_ignore_ascii_case(origin),
            Self::Suffix(scheme, end) => {
                let origin = origin.to_ascii_lowercase();
                let rest = origin.strip_prefix(scheme.as_str());
                rest.and_then(|host| host.strip_suffix(end.as_str()))
                    .is_some_and(|first| !first.is_empty())
            }
        }
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// The port, host order.
    pub port: u16,
    /// Whose it is: routes' or the Service's own.
    pub part: BackendPart,
}

impl BackendKey {
    /// What people call the backend within its namespace.
    pub fn name(&self) -> String {
        format!("{}-{}{}", self.service, self.port, self.part.suffix())
    }
}

impl std::fmt::Display for BackendKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { namespace, service, port, part } = self;
        write!(formatter, "{namespace}/{service}:{port}{}", part.suffix())
    }
}

/// Which of the backends that a port of a Service may be: a number may stand for a port of TCP and
/// one of UDP, and a load balancer of the Service itself reaches nodes where a route's reaches pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendPart {
    /// What gets the requests of routes and Ingresses.
    #[default]
    Requests,
    /// What gets the connections of routes.
    Connections,
    /// What gets the datagrams of routes.
    Datagrams,
    /// What gets the connections of the Service's own load balancer.
    OwnConnections,
    /// What gets its datagrams.
    OwnDatagrams,
}

impl BackendPart {
    /// What tells it from the others in names.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Requests => "",
            Self::Connections => "-tcp",
            Self::Datagrams => "-udp",
            Self::OwnConnections => "-proxy-tcp",
            Self::OwnDatagrams => "-proxy-udp",
        }
    }
}

/// What is spoken with a backend.
///
/// Source: KEP-3726, `ServicePort.appProtocol`; GKE annotation `cloud.google.com/app-protocols`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS.
    H2c,
    /// HTTP/1.1 in TLS; the backend's certificate is not judged.
    Https,
    /// HTTP/2 in TLS; the backend's certificate is not judged.
    Http2,
}

/// What serves a port of a Service.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Which.
    pub key: BackendKey,
    /// What is spoken with it.
    pub protocol: BackendProtocol,
    /// Whether its places are pods, which are reached directly, or ports of nodes.
    pub is_neg: bool,
    /// Its places.
    pub places: Vec<Place>,
    /// How its places are checked.
    pub health_check: HealthCheckSpec,
    /// How clients stay with their place.
    pub affinity: Option<Persistence>,
    /// How long a request may take, unless its rule says so.
    pub timeout: Duration,
    /// How long a place that goes may finish what it has begun; `None`: as long as that takes.
    pub draining: Option<Duration>,
    /// What else is done with its requests.
    pub policy: BackendPolicy,
}

impl Backend {
    /// Whether its places are checked: where datagrams are taken nobody answers, unless another port
    /// is named.
    pub fn is_checked(&self) -> bool {
        let has_datagrams =
            matches!(self.key.part, BackendPart::Datagrams | BackendPart::OwnDatagrams);
        !has_datagrams || self.health_check.port.is_some()
    }
}

/// A place that serves a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its address and port.
    pub address: SocketAddr,
    /// The node it is on, if that is known.
    pub node: Option<String>,
    /// The pod, as `namespace/name`, if it is one.
    pub pod: Option<String>,
    /// Whether it gets requests only once it has passed a check, and is ready only then.
    pub is_waiting: bool,
}

/// What is done with the requests of a backend, beside being sent on.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendPolicy {
    /// Which clients are refused.
    pub security: Option<Arc<SecurityPolicy>>,
    /// What is kept to answer again.
    pub caching: Option<Arc<Caching>>,
    /// Whether clients have to say who they are, and for whom: the audience of what vouches for
    /// them.
    pub identity: Option<Arc<str>>,
    /// So many of a million requests are noted.
    pub noted: u32,
    /// Fields that are added to requests.
    pub request_headers: Arc<[HeaderTemplate]>,
    /// Fields that are added to answers.
    pub response_headers: Arc<[HeaderTemplate]>,
    /// What its certificates have to be; `None`: anything.
    pub tls: Option<Arc<BackendTls>>,
    /// Why it cannot be asked as it should be.
    pub unusable: Option<String>,
}

/// How many requests are noted at most, of as many.
pub const ALL_NOTED: u32 = 1_000_000;

impl Default for BackendPolicy {
    fn default() -> Self {
        Self {
            security: None,
            caching: None,
            identity: None,
            noted: ALL_NOTED,
            request_headers: Arc::default(),
            response_headers: Arc::default(),
            tls: None,
            unusable: None,
        }
    }
}

/// How places are checked.
///
/// Source: GKE, "Health checks" of Ingress; `BackendConfig.spec.healthCheck`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheckSpec {
    /// Whether they are asked over HTTP; else a connection suffices.
    pub is_http: bool,
    /// Whether they are asked in TLS.
    pub is_secure: bool,
    /// The path that must answer 200.
    pub path: String,
    /// The `Host` that is sent; empty: the address.
    pub host: String,
    /// Another port than the one that serves, host order.
    pub port: Option<u16>,
    /// From one check to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Good answers in a row after which a place is healthy.
    pub healthy: u32,
    /// Bad ones after which it is not.
    pub unhealthy: u32,
}

impl Default for HealthCheckSpec {
    /// Those of a load balancer with NEGs.
    ///
    /// Source: GKE, "Default and inferred parameters" of health checks.
    fn default() -> Self {
        Self {
            is_http: true,
            is_secure: false,
            path: "/".into(),
            host: String::new(),
            port: None,
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(15),
            healthy: 1,
            unhealthy: 2,
        }
    }
}
