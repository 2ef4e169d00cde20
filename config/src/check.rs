//! What can be said of an object by itself: the rules an API server has for it.

mod balancer;
mod cluster_policy;
mod endpoints;
mod gateway;
mod ingress;
mod node;
mod pod;
mod policy;
mod route;
mod secret;
mod security;
mod service;
mod workload;

pub(crate) use service::{ServiceType, family_name, is_headless};

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::error::Findings;
use crate::kind::Kind;
use crate::object::Object;
use crate::path::Path;
use crate::suggest;
use crate::syntax::{self, Refused};

/// Notes everything wrong with an object, and every field of it that has no effect.
pub(crate) fn object(object: &Object, findings: &mut Findings) {
    metadata(object.kind(), object.metadata(), findings);
    match object {
        Object::Namespace(_) => {}
        Object::Node(object) => node::check(object, findings),
        Object::Pod(object) => pod::check(object, findings),
        Object::Service(object) => service::check(object, findings),
        Object::EndpointSlice(object) => endpoints::check_slice(object, findings),
        Object::Endpoints(object) => endpoints::check_endpoints(object, findings),
        Object::NetworkPolicy(object) => policy::check(object, findings),
        Object::ClusterNetworkPolicy(object) => cluster_policy::check(object, findings),
        Object::Deployment(object) => workload::check_deployment(object, findings),
        Object::ReplicaSet(object) => workload::check_replica_set(object, findings),
        Object::StatefulSet(object) => workload::check_stateful_set(object, findings),
        Object::DaemonSet(object) => workload::check_daemon_set(object, findings),
        Object::Ingress(object) => ingress::check(object, findings),
        Object::IngressClass(_) | Object::GatewayClass(_) => {}
        Object::Secret(object) => secret::check(object, findings),
        Object::Gateway(object) => gateway::check(object, findings),
        Object::ListenerSet(object) => gateway::check_set(object, findings),
        Object::HttpRoute(object) => route::check_http(object, findings),
        Object::GrpcRoute(object) => route::check_grpc(object, findings),
        Object::TlsRoute(object) => route::check_tls(object, findings),
        Object::TcpRoute(object) => route::check_l4(&object.spec.rules, findings),
        Object::UdpRoute(object) => route::check_l4(&object.spec.rules, findings),
        Object::ReferenceGrant(object) => gateway::check_grant(object, findings),
        Object::ConfigMap(_) => {}
        Object::BackendTlsPolicy(object) => balancer::check_tls_policy(object, findings),
        Object::BackendConfig(object) => balancer::check_backend_config(object, findings),
        Object::FrontendConfig(object) => balancer::check_frontend_config(object, findings),
        Object::GcpBackendPolicy(object) => balancer::check_backend_policy(object, findings),
        Object::GcpGatewayPolicy(_) => {}
        Object::HealthCheckPolicy(object) => balancer::check_health_policy(object, findings),
        Object::SecurityPolicy(object) => security::check(object, findings),
        Object::SslPolicy(object) => security::check_ssl(object, findings),
        Object::ManagedCertificate(object) => balancer::check_managed(object, findings),
    }
}

fn metadata(kind: Kind, metadata: &ObjectMeta, findings: &mut Findings) {
    let path = Path::Root.key("metadata");
    let name = metadata.name.as_deref().unwrap_or("");
    let checked = match kind {
        Kind::Namespace | Kind::Service => syntax::dns_label(name),
        _ => syntax::dns_subdomain(name),
    };
    accept(findings, path.key("name"), checked);
    if let Some(namespace) = &metadata.namespace {
        accept(findings, path.key("namespace"), syntax::dns_label(namespace));
    }
    labels(path.key("labels"), metadata.labels.as_ref(), findings);
}

fn labels(path: Path<'_>, labels: Option<&BTreeMap<String, String>>, findings: &mut Findings) {
    for (key, value) in labels.into_iter().flatten() {
        accept(findings, path.key(key), syntax::label_key(key));
        accept(findings, path.key(key), syntax::label_value(value));
    }
}

/// Notes why a word was refused, if it was.
fn accept<T>(findings: &mut Findings, path: Path<'_>, result: Result<T, Refused>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Refused { message, help }) => {
            findings.error(path, message, help);
            None
        }
    }
}

/// A range as in Kubernetes objects, where bits beyond the prefix have always been allowed.
fn cidr(findings: &mut Findings, path: Path<'_>, text: &str) -> Option<IpNet> {
    if let Ok(range) = text.parse::<IpNet>() {
        if range.trunc() != range {
            let message = format!("{text} has bits set beyond its prefix, they are ignored");
            findings.warning(path, message, format!("write {}", range.trunc()));
        }
        return Some(range.trunc());
    }
    accept(findings, path, syntax::cidr(text))
}

/// Notes a word that is none of those allowed.
fn one_of(findings: &mut Findings, path: Path<'_>, word: Option<&str>, allowed: &[&str]) {
    let Some(word) = word else { return };
    if allowed.contains(&word) {
        return;
    }
    let help = match suggest::closest(word, allowed.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("write {}", suggest::listed(allowed.iter().copied(), "or")),
    };
    findings.error(path, format!("{word:?} is not known here"), help);
}

/// Notes a number that cannot be a port.
fn port(findings: &mut Findings, path: Path<'_>, port: i32) {
    if !(1..=65_535).contains(&port) {
        let message = match port {
            0 => "the port is missing".to_owned(),
            _ => format!("{port} cannot be a port"),
        };
        findings.error(path, message, "write a number from 1 to 65535");
    }
}

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

fn protocol(findings: &mut Findings, path: Path<'_>, protocol: Option<&str>) {
    one_of(findings, path, protocol, &PROTOCOLS);
}

fn selector(path: Path<'_>, selector: &LabelSelector, findings: &mut Findings) {
    labels(path.key("matchLabels"), selector.match_labels.as_ref(), findings);
    let expressions = path.key("matchExpressions");
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = expressions.index(index);
        accept(findings, path.key("key"), syntax::label_key(&expression.key));
        let operators = ["In", "NotIn", "Exists", "DoesNotExist"];
        one_of(findings, path.key("operator"), Some(&expression.operator), &operators);
        let has_values = expression.values.as_ref().is_some_and(|values| !values.is_empty());
        let wants_values = matches!(expression.operator.as_str(), "In" | "NotIn");
        if has_values != wants_values && operators.contains(&expression.operator.as_str()) {
            let (message, help) = if wants_values {
                ("needs values", "write values: [ … ]")
            } else {
                ("takes no values", "remove `values`")
            };
            let message = format!("`{}` {message}", expression.operator);
            findings.error(path.key("values"), message, help);
        }
    }
}
