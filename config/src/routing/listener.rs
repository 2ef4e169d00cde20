//! Gateways and their listeners before routes attach: what of them can be served.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;

use super::attach::Grants;
use super::certificate::certificate;
use super::condition::condition;
use super::front;
use super::gateway_tls::{self, Problem};
use super::host::HostPattern;
use super::listener_set::{self, PreparedSet};
use super::model::Rule;
use super::table::{Age, Candidate};
use super::tls::TlsTerms;
use crate::Cluster;
use crate::gateway_api::{
    GROUP, Gateway, ListenerSpec, ListenerStatus, ObjectReference, RouteGroupKind,
};

/// A Gateway that is served.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) object: Arc<Gateway>,
    pub(super) addresses: Vec<IpAddr>,
    /// Which TLS its policies allow.
    pub(super) terms: TlsTerms,
    /// Its own, then those of ListenerSets.
    pub(super) listeners: Vec<PreparedListener>,
    pub(super) sets: Vec<PreparedSet>,
    /// Why nothing of it is served: the reason of `Accepted`, and a sentence.
    pub(super) refused: Option<Problem>,
    /// The certificate that is shown to Services, or why there is none.
    pub(super) identity: Option<Result<Arc<CertifiedKey>, Problem>>,
}

/// A listener of it.
#[derive(Debug)]
pub(super) struct PreparedListener {
    pub(super) spec: ListenerSpec,
    /// Kinds of routes that may attach.
    pub(super) kinds: Vec<&'static str>,
    pub(super) certificates: Vec<Arc<CertifiedKey>>,
    /// Who vouches for clients; `None`: they need no certificate.
    pub(super) clients: Option<Arc<RootCertStore>>,
    /// The ListenerSet that it is of; `None`: the Gateway itself.
    pub(super) set: Option<usize>,
    /// The namespace of the object that it is of.
    pub(super) namespace: String,
    /// Whether another listener stands in its way.
    pub(super) is_in_conflict: bool,
    /// Whether traffic is taken.
    pub(super) is_usable: bool,
    conditions: Vec<Condition>,
    /// How many routes have attached.
    pub(super) attached: i32,
    /// Types of the routes that have requests, with their hosts.
    pub(super) requests: Vec<(&'static str, HostPattern)>,
    /// Rules of requests.
    pub(super) candidates: Vec<Candidate>,
    /// Rules of connections and datagrams.
    pub(super) streams: Vec<(Age, HostPattern, Arc<Rule>)>,
}

/// The addresses of a Gateway's status.
pub(crate) fn addresses(gateway: &Gateway) -> Vec<IpAddr> {
    let status = gateway.status.iter().flat_map(|status| &status.addresses);
    status.filter_map(|address| address.value.parse().ok()).collect()
}

/// Reads the listeners of a Gateway.
pub(super) fn prepare(cluster: &Cluster, grants: &Grants<'_>, gateway: &Arc<Gateway>) -> Prepared {
    let namespace = gateway.metadata.namespace.clone().unwrap_or_default();
    let owner = Owner {
        kind: "Gateway",
        namespace: &namespace,
        generation: gateway.metadata.generation,
        gateway,
        set: None,
    };
    let all = &gateway.spec.listeners;
    let listeners = all.iter().map(|spec| {
        let others = all.iter().filter(|other| !std::ptr::eq(*other, spec));
        listener(cluster, grants, owner, spec, conflict(others, spec).as_ref())
    });
    let name = gateway.metadata.name.clone().unwrap_or_default();
    let mut prepared = Prepared {
        terms: front::of_gateway(cluster, &namespace, &name),
        name,
        object: Arc::clone(gateway),
        addresses: addresses(gateway),
        listeners: listeners.collect(),
        sets: Vec::new(),
        refused: refused(gateway),
        identity: gateway_tls::identity(cluster, grants, gateway),
        namespace,
    };
    listener_set::add(cluster, grants, &mut prepared);
    if prepared.refused.is_some() {
        prepared.listeners.iter_mut().for_each(|listener| listener.is_usable = false);
    }
    prepared
}

/// Why nothing of a Gateway is served.
///
/// Source: Gateway API, `GatewayReasonInvalidParameters`.
fn refused(gateway: &Gateway) -> Option<Problem> {
    let parameters = gateway.spec.infrastructure.as_ref()?.get("parametersRef")?;
    let kind = parameters.get("kind").and_then(serde_json::Value::as_str).unwrap_or_default();
    Some(("InvalidParameters", format!("parameters of the kind {kind} are not known here")))
}

/// The object that has a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'o> {
    /// `Gateway` or `ListenerSet`.
    pub(super) kind: &'static str,
    pub(super) namespace: &'o str,
    pub(super) generation: Option<i64>,
    /// The Gateway that it, in the end, is of.
    pub(super) gateway: &'o Gateway,
    /// The ListenerSet among those of the Gateway.
    pub(super) set: Option<usize>,
}

/// Why a listener cannot be told apart from another. Of the Gateway's own none of the two is served
/// then.
///
/// Source: Gateway API, `GatewaySpec.listeners`, "Distinct Listeners".
pub(super) fn conflict<'l>(
    others: impl Iterator<Item = &'l ListenerSpec>,
    spec: &ListenerSpec,
) -> Option<Problem> {
    if fitting(spec).is_empty() {
        return None;
    }

    let transport = |protocol: &str| match protocol {
        "UDP" => "UDP",
        _ => "TCP",
    };
    let group = |protocol: &str| match protocol {
        "HTTPS" | "TLS" => 1,
        "HTTP" => 2,
        "TCP" => 3,
        _ => 4,
    };
    for other in others.filter(|at| at.port == spec.port && !fitting(at).is_empty()) {
        if transport(&other.protocol) != transport(&spec.protocol) {
            continue;
        }
        if group(&other.protocol) != group(&spec.protocol) {
            let message = format!("the listener {} has another protocol on this port", other.name);
            return Some(("ProtocolConflict", message));
        }
        let host = |spec: &ListenerSpec| HostPattern::of_gateway(spec.hostname.as_deref());
        if host(other) == host(spec) {
            let message = format!("the listener {} has the same port and hosts", other.name);
            return Some(("HostnameConflict", message));
        }
    }
    None
}

fn is_passthrough(spec: &ListenerSpec) -> bool {
    spec.tls.as_ref().is_some_and(|tls| tls.mode.as_deref() == Some("Passthrough"))
}

/// Kinds of routes that fit the protocol of a listener; none: it is not known here.
fn fitting(spec: &ListenerSpec) -> &'static [&'static str] {
    match spec.protocol.as_str() {
        "HTTP" | "HTTPS" => &["HTTPRoute", "GRPCRoute"],
        "TLS" if is_passthrough(spec) => &["TLSRoute"],
        "TLS" => &["TLSRoute", "TCPRoute"],
        "TCP" => &["TCPRoute"],
        "UDP" => &["UDPRoute"],
        _ => &[],
    }
}

/// Reads a listener.
pub(super) fn listener(
    cluster: &Cluster,
    grants: &Grants<'_>,
    owner: Owner<'_>,
    spec: &ListenerSpec,
    conflict: Option<&Problem>,
) -> PreparedListener {
    let Owner { kind, namespace, generation, gateway, set } = owner;
    let is_passthrough = is_passthrough(spec);
    let fitting = fitting(spec);
    let asked = spec.allowed_routes.as_ref().map_or(&[][..], |allowed| &allowed.kinds);
    let is_fitting = |kind: &RouteGroupKind| {
        let group = kind.group.as_deref().unwrap_or(GROUP);
        fitting.iter().copied().find(|fits| group == GROUP && *fits == kind.kind)
    };
    let kinds: Vec<_> = if asked.is_empty() {
        fitting.to_vec()
    } else {
        asked.iter().filter_map(is_fitting).collect()
    };
    let mut unresolved = None;
    if asked.iter().any(|kind| is_fitting(kind).is_none()) {
        let message = format!("not every kind of routes fits the protocol {}", spec.protocol);
        unresolved = Some(("InvalidRouteKinds", message));
    }
    let wants_certificates = matches!(spec.protocol.as_str(), "HTTPS" | "TLS") && !is_passthrough;
    let mut certificates = Vec::new();
    if wants_certificates {
        let refs = spec.tls.as_ref().map_or(&[][..], |tls| &tls.certificate_refs);
        if refs.is_empty() {
            unresolved = Some(("InvalidCertificateRef", "the listener has no certificate".into()));
        }
        for reference in refs {
            match certificate_of(cluster, grants, (kind, namespace), reference) {
                Ok(certified) => certificates.push(certified),
                Err(problem) => unresolved = Some(problem),
            }
        }
    }
    let has_certificates = !wants_certificates || !certificates.is_empty();
    let clients = match spec.protocol.as_str() {
        "HTTPS" => gateway_tls::clients(cluster, grants, gateway, spec.port),
        _ => gateway_tls::Clients::default(),
    };
    unresolved = unresolved.or(clients.problem);
    let mut refused = conflict.cloned();
    if fitting.is_empty() {
        let message = format!("the protocol {} is not known here", spec.protocol);
        refused = Some(("UnsupportedProtocol", message));
    } else if clients.is_hopeless {
        let message = "there is no certificate of anybody who vouches for clients";
        refused = refused.or_else(|| Some(("NoValidCACertificate", message.to_owned())));
    }
    let is_usable = refused.is_none() && has_certificates && !kinds.is_empty();
    let mut conditions = Vec::new();
    let mut add = |kind, is_true, reason, message: &str| {
        conditions.push(condition(kind, is_true, reason, message, generation));
    };
    match conflict {
        Some((reason, message)) => add("Conflicted", true, reason, message),
        None => add("Conflicted", false, "NoConflicts", ""),
    }
    match &refused {
        Some((reason, message)) => add("Accepted", false, reason, message),
        None => add("Accepted", true, "Accepted", ""),
    }
    match &unresolved {
        Some((reason, message)) => add("ResolvedRefs", false, reason, message),
        None => add("ResolvedRefs", true, "ResolvedRefs", ""),
    }
    if is_usable {
        add("Programmed", true, "Programmed", "");
    } else {
        // Source: GEP-1713: a listener of a set says what stands in its way
        let reason = conflict.filter(|_| set.is_some()).map_or("Invalid", |(reason, _)| *reason);
        add("Programmed", false, reason, "the listener takes no traffic");
    }
    PreparedListener {
        spec: spec.clone(),
        kinds,
        certificates,
        clients: clients.roots,
        set,
        namespace: namespace.to_owned(),
        is_in_conflict: conflict.is_some(),
        is_usable,
        conditions,
        attached: 0,
        requests: Vec::new(),
        candidates: Vec::new(),
        streams: Vec::new(),
    }
}

/// The certificate that an object, by kind and namespace, refers to.
pub(super) fn certificate_of(
    cluster: &Cluster,
    grants: &Grants<'_>,
    (owner, namespace): (&str, &str),
    reference: &ObjectReference,
) -> Result<Arc<CertifiedKey>, Problem> {
    let kind = reference.kind.as_deref().unwrap_or("Secret");
    if !matches!(reference.group.as_deref(), None | Some("" | "core")) || kind != "Secret" {
        let message = format!("certificates of the kind {kind} are not known here");
        return Err(("InvalidCertificateRef", message));
    }
    let of = reference.namespace.as_deref().unwrap_or(namespace);
    let name = &reference.name;
    if !grants.permit((owner, namespace), ("", "Secret"), of, name) {
        let message = format!("no ReferenceGrant in {of} lets {owner}s refer to the Secret {name}");
        return Err(("RefNotPermitted", message));
    }
    secret_certificate(cluster, of, name).map_err(|message| ("InvalidCertificateRef", message))
}

/// The certificate in a Secret.
///
/// # Errors
/// Why there is none.
pub(super) fn secret_certificate(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Result<Arc<CertifiedKey>, String> {
    let secret = cluster.ingress.secrets.iter().find(|secret| {
        secret.metadata.name.as_deref() == Some(name)
            && secret.metadata.namespace.as_deref() == Some(namespace)
    });
    let Some(secret) = secret else {
        return Err(format!("there is no Secret {namespace}/{name}"));
    };
    certificate(secret).map_err(|refused| format!("Secret {namespace}/{name}: {}", refused.message))
}

impl PreparedListener {
    /// What is told of it.
    pub(super) fn status(&self) -> ListenerStatus {
        let kind = |kind: &&'static str| RouteGroupKind {
            group: Some(GROUP.to_owned()),
            kind: (*kind).to_owned(),
        };
        ListenerStatus {
            name: self.spec.name.clone(),
            supported_kinds: self.kinds.iter().map(kind).collect(),
            attached_routes: self.attached,
            conditions: self.conditions.clone(),
        }
    }
}
