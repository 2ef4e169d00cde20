//! Gateways and their listeners before routes attach: what of them can be served.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use rustls::sign::CertifiedKey;

use super::attach::Grants;
use super::certificate::certificate;
use super::condition::condition;
use super::front;
use super::host::HostPattern;
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
    pub(super) listeners: Vec<PreparedListener>,
}

/// A listener of it.
#[derive(Debug)]
pub(super) struct PreparedListener {
    pub(super) spec: ListenerSpec,
    /// Kinds of routes that may attach.
    pub(super) kinds: Vec<&'static str>,
    pub(super) certificates: Vec<Arc<CertifiedKey>>,
    /// Whether traffic is taken.
    pub(super) is_usable: bool,
    conditions: Vec<Condition>,
    /// How many routes have attached.
    pub(super) attached: i32,
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
    let all = &gateway.spec.listeners;
    let listeners = all
        .iter()
        .map(|spec| {
            listener(cluster, grants, &namespace, gateway, spec, conflict(all, spec).as_ref())
        })
        .collect();
    let name = gateway.metadata.name.clone().unwrap_or_default();
    Prepared {
        terms: front::of_gateway(cluster, &namespace, &name),
        name,
        namespace,
        object: Arc::clone(gateway),
        addresses: addresses(gateway),
        listeners,
    }
}

/// Why two listeners cannot be told apart: none of them is served then.
///
/// Source: Gateway API, `GatewaySpec.listeners`, "Distinct Listeners".
fn conflict(all: &[ListenerSpec], spec: &ListenerSpec) -> Option<(&'static str, String)> {
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
    let others = all.iter().filter(|other| other.name != spec.name && other.port == spec.port);
    for other in others {
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

fn listener(
    cluster: &Cluster,
    grants: &Grants<'_>,
    namespace: &str,
    gateway: &Gateway,
    spec: &ListenerSpec,
    conflict: Option<&(&'static str, String)>,
) -> PreparedListener {
    let generation = gateway.metadata.generation;
    let is_passthrough =
        spec.tls.as_ref().is_some_and(|tls| tls.mode.as_deref() == Some("Passthrough"));
    let fitting: &[&'static str] = match spec.protocol.as_str() {
        "HTTP" | "HTTPS" => &["HTTPRoute", "GRPCRoute"],
        "TLS" if is_passthrough => &["TLSRoute"],
        "TLS" => &["TLSRoute", "TCPRoute"],
        "TCP" => &["TCPRoute"],
        "UDP" => &["UDPRoute"],
        _ => &[],
    };
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
            match certificate_of(cluster, grants, namespace, reference) {
                Ok(certified) => certificates.push(certified),
                Err(problem) => unresolved = Some(problem),
            }
        }
    }
    let has_certificates = !wants_certificates || !certificates.is_empty();
    let is_usable = conflict.is_none() && has_certificates && !kinds.is_empty();
    let mut conditions = Vec::new();
    let mut add = |kind, is_true, reason, message: &str| {
        conditions.push(condition(kind, is_true, reason, message, generation));
    };
    match conflict {
        Some((reason, message)) => {
            add("Conflicted", true, reason, message);
            add("Accepted", false, reason, message);
        }
        None => {
            add("Conflicted", false, "NoConflicts", "");
            add("Accepted", true, "Accepted", "");
        }
    }
    match &unresolved {
        Some((reason, message)) => add("ResolvedRefs", false, reason, message),
        None => add("ResolvedRefs", true, "ResolvedRefs", ""),
    }
    if is_usable {
        add("Programmed", true, "Programmed", "");
    } else {
        add("Programmed", false, "Invalid", "the listener takes no traffic");
    }
    PreparedListener {
        spec: spec.clone(),
        kinds,
        certificates,
        is_usable,
        conditions,
        attached: 0,
        candidates: Vec::new(),
        streams: Vec::new(),
    }
}

/// The certificate that a Gateway refers to.
fn certificate_of(
    cluster: &Cluster,
    grants: &Grants<'_>,
    namespace: &str,
    reference: &ObjectReference,
) -> Result<Arc<CertifiedKey>, (&'static str, String)> {
    let kind = reference.kind.as_deref().unwrap_or("Secret");
    if !matches!(reference.group.as_deref(), None | Some("" | "core")) || kind != "Secret" {
        let message = format!("certificates of the kind {kind} are not known here");
        return Err(("InvalidCertificateRef", message));
    }
    let of = reference.namespace.as_deref().unwrap_or(namespace);
    let name = &reference.name;
    if !grants.permit(("Gateway", namespace), ("", "Secret"), of, name) {
        let message = format!("no ReferenceGrant in {of} lets Gateways refer to the Secret {name}");
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
