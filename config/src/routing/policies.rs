//! What BackendConfigs and policies say of the requests to a Service.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::caching::Caching;
use super::model::{ALL_NOTED, Backend, HealthCheckSpec, Persistence, PersistenceKind};
use super::objects::PolicyObjects;
use super::security::SecurityPolicy;
use super::template::HeaderTemplate;
use crate::gke::{
    BackendConfigSpec, BackendPolicyDefault, Draining, HealthCheck, HealthDefault, HttpHealthCheck,
    TargetRef,
};

/// Annotations of a Service that name its BackendConfigs.
///
/// Source: GKE, "Associating BackendConfig with your Ingress".
pub(crate) const CONFIGS: [&str; 2] =
    ["cloud.google.com/backend-config", "beta.cloud.google.com/backend-config"];

/// The cookie that load balancers set.
///
/// Source: Google Cloud, "Generated cookie affinity".
const COOKIE: &str = "GCLB";

/// The name of the BackendConfig of a port, if its Service names one.
pub(crate) fn config_of(service: &Service, port: &ServicePort) -> Option<String> {
    let annotations = service.metadata.annotations.as_ref()?;
    let text = CONFIGS.iter().find_map(|name| annotations.get(*name))?;
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let by_port = |key: &str| value.get("ports")?.get(key)?.as_str();
    let name = port.name.as_deref().and_then(by_port);
    let name = name.or_else(|| by_port(&port.port.to_string()));
    let name = name.or_else(|| value.get("default")?.as_str())?;
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

/// The object of a name.
pub(crate) fn named<'o, T: Metadata<Ty = ObjectMeta>>(
    all: &'o [Arc<T>],
    namespace: &str,
    name: &str,
) -> Option<&'o Arc<T>> {
    all.iter().find(|object| {
        let metadata = object.metadata();
        metadata.name.as_deref() == Some(name) && metadata.namespace.as_deref() == Some(namespace)
    })
}

/// Of several policies for one target the oldest holds, then the first by name.
///
/// Source: GEP-713, "Conflict Resolution".
pub(super) fn oldest<'o, T: Metadata<Ty = ObjectMeta>>(
    all: impl Iterator<Item = &'o Arc<T>>,
) -> Option<&'o Arc<T>> {
    all.min_by_key(|object| {
        let metadata = object.metadata();
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created.is_none(), created, metadata.namespace.clone(), metadata.name.clone())
    })
}

/// Whether a policy of a namespace is for an object.
pub(super) fn is_for(target: &TargetRef, kind: &str, name: &str) -> bool {
    target.kind == kind && target.name == name
}

/// Does with a backend what is said of it.
pub(super) fn settle(
    objects: &PolicyObjects,
    service: &Service,
    at: &ServicePort,
    backend: &mut Backend,
) {
    let (namespace, name) = (backend.key.namespace.clone(), backend.key.service.clone());
    let config = config_of(service, at);
    let config = config.and_then(|name| named(&objects.backend_configs, &namespace, &name));
    if let Some(config) = config {
        configured(objects, &namespace, &config.spec, backend);
    }
    let is_near = |metadata: &ObjectMeta| metadata.namespace.as_deref() == Some(namespace.as_str());
    let policies = objects.backend_policies.iter();
    let policy = oldest(
        policies
            .filter(|at| is_near(&at.metadata) && is_for(&at.spec.target_ref, "Service", &name)),
    );
    if let Some(policy) = policy {
        by_policy(objects, &namespace, &policy.spec.default, backend);
    }
    let checks = objects.health_policies.iter();
    let check = oldest(
        checks.filter(|at| is_near(&at.metadata) && is_for(&at.spec.target_ref, "Service", &name)),
    );
    if let Some(check) = check {
        checked_by_policy(&check.spec.default, &mut backend.health_check);
    }
}

fn seconds(value: Option<i64>) -> Option<Duration> {
    value.and_then(|at| u64::try_from(at).ok()).map(Duration::from_secs)
}

/// Sets how long requests, and places that go, have.
fn patience(timeout: Option<i64>, draining: Option<&Draining>, backend: &mut Backend) {
    backend.timeout = seconds(timeout).unwrap_or(backend.timeout);
    if let Some(draining) = draining {
        backend.draining = seconds(draining.draining_timeout_sec);
    }
}

fn security(objects: &PolicyObjects, namespace: &str, name: &str) -> Option<Arc<SecurityPolicy>> {
    let found = named(&objects.security_policies, namespace, name);
    // such policies are of a project, not of a namespace
    let found = found.or_else(|| {
        let all = &objects.security_policies;
        all.iter().find(|at| {
            at.metadata.name.as_deref() == Some(name)
                || at.spec.resource_id.as_deref() == Some(name)
        })
    });
    found.map(|object| Arc::new(SecurityPolicy::new(object)))
}

fn affinity(kind: &str, ttl: Option<i64>) -> Option<Persistence> {
    let (kind, name) = match kind {
        "CLIENT_IP" => (PersistenceKind::ClientIp, String::new()),
        "GENERATED_COOKIE" | "HTTP_COOKIE" => (PersistenceKind::Cookie, COOKIE.to_owned()),
        "HEADER_FIELD" => (PersistenceKind::HeaderHash, "x-session".to_owned()),
        _ => return None,
    };
    let max_age = ttl.and_then(|at| u64::try_from(at).ok()).filter(|at| *at > 0);
    Some(Persistence { kind, name, max_age })
}

fn audience(backend: &Backend) -> Arc<str> {
    let key = &backend.key;
    // as Google's have the numbers of project and backend service
    format!("/projects/0/global/backendServices/{}-{}-{}", key.namespace, key.service, key.port)
        .into()
}

fn configured(
    objects: &PolicyObjects,
    namespace: &str,
    spec: &BackendConfigSpec,
    backend: &mut Backend,
) {
    let BackendConfigSpec {
        timeout_sec,
        connection_draining,
        session_affinity,
        security_policy,
        cdn,
        iap,
        custom_request_headers,
        custom_response_headers,
        logging,
        health_check,
    } = spec;
    patience(*timeout_sec, connection_draining.as_ref(), backend);
    if let Some(by) = session_affinity {
        backend.affinity = affinity(&by.affinity_type, by.affinity_cookie_ttl_sec);
    }
    let templates = |headers: &Option<crate::gke::Headers>| -> Arc<[HeaderTemplate]> {
        let lines = headers.iter().flat_map(|headers| &headers.headers);
        lines.filter_map(|line| HeaderTemplate::new(line)).collect()
    };
    if iap.as_ref().is_some_and(|iap| iap.enabled) {
        backend.policy.identity = Some(audience(backend));
    }
    let policy = &mut backend.policy;
    let name = security_policy.as_ref().map(|at| at.name.as_str()).filter(|at| !at.is_empty());
    policy.security = name.and_then(|name| security(objects, namespace, name));
    policy.caching = cdn.as_ref().and_then(Caching::new).map(Arc::new);
    policy.request_headers = templates(custom_request_headers);
    policy.response_headers = templates(custom_response_headers);
    if let Some(logging) = logging {
        policy.noted = match (logging.enable, logging.sample_rate) {
            (false, _) => 0,
            (true, None) => ALL_NOTED,
            (true, Some(rate)) => share(rate),
        };
    }
    if let Some(check) = health_check {
        checked(check, &mut backend.health_check);
    }
}

/// So many of a million.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "kept from nothing to a million before"
)]
fn share(rate: f64) -> u32 {
    (rate.clamp(0.0, 1.0) * f64::from(ALL_NOTED)).round() as u32
}

fn by_policy(
    objects: &PolicyObjects,
    namespace: &str,
    spec: &BackendPolicyDefault,
    backend: &mut Backend,
) {
    let BackendPolicyDefault {
        timeout_sec,
        connection_draining,
        session_affinity,
        security_policy,
        iap,
        logging,
    } = spec;
    patience(*timeout_sec, connection_draining.as_ref(), backend);
    if let Some(by) = session_affinity {
        backend.affinity = affinity(&by.type_, by.cookie_ttl_sec);
    }
    if iap.as_ref().is_some_and(|iap| iap.enabled) {
        backend.policy.identity = Some(audience(backend));
    }
    if let Some(name) = security_policy.as_deref().filter(|name| !name.is_empty()) {
        backend.policy.security = security(objects, namespace, name);
    }
    if let Some(logging) = logging {
        let rate = logging.sample_rate.and_then(|rate| u32::try_from(rate).ok());
        let rate = rate.unwrap_or(ALL_NOTED).min(ALL_NOTED);
        backend.policy.noted = if logging.enabled { rate } else { 0 };
    }
}

fn count(value: Option<i64>) -> Option<u32> {
    value.and_then(|at| u32::try_from(at).ok()).filter(|at| *at > 0)
}

fn port(value: Option<i64>) -> Option<u16> {
    value.and_then(|at| u16::try_from(at).ok()).filter(|at| *at > 0)
}

fn checked(check: &HealthCheck, spec: &mut HealthCheckSpec) {
    let HealthCheck {
        check_interval_sec,
        timeout_sec,
        healthy_threshold,
        unhealthy_threshold,
        type_,
        request_path,
        port: number,
    } = check;
    times(*check_interval_sec, *timeout_sec, spec);
    thresholds(*healthy_threshold, *unhealthy_threshold, spec);
    if let Some(kind) = type_ {
        spec.is_secure = kind != "HTTP";
    }
    if let Some(path) = request_path {
        spec.path.clone_from(path);
    }
    spec.port = port(*number).or(spec.port);
}

/// Sets interval and patience; one that is said alone bounds the other.
fn times(interval: Option<i64>, timeout: Option<i64>, spec: &mut HealthCheckSpec) {
    if let Some(interval) = seconds(interval).filter(|at| !at.is_zero()) {
        spec.interval = interval;
        spec.timeout = spec.timeout.min(interval);
    }
    if let Some(timeout) = seconds(timeout).filter(|at| !at.is_zero()) {
        spec.timeout = timeout;
    }
}

/// Sets how many answers in a row count.
fn thresholds(healthy: Option<i64>, unhealthy: Option<i64>, spec: &mut HealthCheckSpec) {
    spec.healthy = count(healthy).unwrap_or(spec.healthy);
    spec.unhealthy = count(unhealthy).unwrap_or(spec.unhealthy);
}

fn checked_by_policy(check: &HealthDefault, spec: &mut HealthCheckSpec) {
    let HealthDefault {
        check_interval_sec,
        timeout_sec,
        healthy_threshold,
        unhealthy_threshold,
        log_config: _,
        config,
    } = check;
    times(*check_interval_sec, *timeout_sec, spec);
    thresholds(*healthy_threshold, *unhealthy_threshold, spec);
    let Some(config) = config else { return };
    spec.is_http = matches!(config.type_.as_str(), "HTTP" | "HTTPS" | "HTTP2");
    spec.is_secure = matches!(config.type_.as_str(), "HTTPS" | "HTTP2");
    let http = match config.type_.as_str() {
        "HTTPS" => &config.https_health_check,
        "HTTP2" => &config.http2_health_check,
        _ => &config.http_health_check,
    };
    if let Some(HttpHealthCheck { port_specification: _, port: number, host, request_path }) = http
    {
        spec.port = port(*number).or(spec.port);
        spec.host = host.clone().unwrap_or_default();
        spec.path = request_path.clone().unwrap_or_else(|| "/".to_owned());
    }
    if let Some(tcp) = &config.tcp_health_check {
        spec.port = port(tcp.port).or(spec.port);
    }
}
