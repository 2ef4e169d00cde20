//! What GKE's objects of load balancers, and policies of the Gateway API, must say.

use super::ingress::hostname;
use super::{accept, one_of};
use crate::error::Findings;
use crate::gateway_api::BackendTlsPolicy;
use crate::gke::{
    BackendConfig, Cdn, Draining, FrontendConfig, GcpBackendPolicy, HealthCheck, HealthCheckPolicy,
    ManagedCertificate, TargetRef,
};
use crate::path::Path;
use crate::syntax;

/// Seconds of the longest time a request may take.
///
/// Source: Google Cloud, `BackendService.timeoutSec`.
const TIMEOUT_MAX: i64 = 2_147_483_647;
/// Seconds that places which go may have at most.
///
/// Source: GKE, "Connection draining timeout".
const DRAINING_MAX: i64 = 3_600;
/// Seconds that a cookie may last at most.
///
/// Source: GKE, "Session affinity": two weeks.
const COOKIE_MAX: i64 = 1_209_600;
/// Names that a certificate may have.
///
/// Source: GKE, "Using Google-managed SSL certificates".
const DOMAINS_MAX: usize = 100;

const AFFINITIES: [&str; 5] =
    ["NONE", "CLIENT_IP", "GENERATED_COOKIE", "HTTP_COOKIE", "HEADER_FIELD"];
const CODES: [&str; 5] =
    ["MOVED_PERMANENTLY_DEFAULT", "FOUND", "SEE_OTHER", "TEMPORARY_REDIRECT", "PERMANENT_REDIRECT"];
const MODES: [&str; 3] = ["CACHE_ALL_STATIC", "USE_ORIGIN_HEADERS", "FORCE_CACHE_ALL"];

/// Notes a number that is out of its range.
pub(super) fn within(
    findings: &mut Findings,
    path: Path<'_>,
    value: Option<i64>,
    (least, most): (i64, i64),
) {
    if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
        let help = format!("write a number from {least} to {most}");
        findings.error(path, format!("{value} cannot be said here"), help);
    }
}

/// How long requests, and places that go, have.
fn patience(
    path: &Path<'_>,
    timeout: Option<i64>,
    draining: Option<&Draining>,
    findings: &mut Findings,
) {
    within(findings, path.key("timeoutSec"), timeout, (1, TIMEOUT_MAX));
    let draining = draining.and_then(|at| at.draining_timeout_sec);
    let at = path.key("connectionDraining");
    within(findings, at.key("drainingTimeoutSec"), draining, (0, DRAINING_MAX));
}

/// How often places are checked, how long they have, and how many answers count.
fn pace(
    path: &Path<'_>,
    [interval, timeout]: [Option<i64>; 2],
    [healthy, unhealthy]: [Option<i64>; 2],
    findings: &mut Findings,
) {
    within(findings, path.key("checkIntervalSec"), interval, (1, 300));
    within(findings, path.key("timeoutSec"), timeout, (1, 300));
    within(findings, path.key("healthyThreshold"), healthy, (1, 10));
    within(findings, path.key("unhealthyThreshold"), unhealthy, (1, 10));
}

pub(super) fn check_backend_config(object: &BackendConfig, findings: &mut Findings) {
    let spec = &object.spec;
    let path = Path::Root.key("spec");
    patience(&path, spec.timeout_sec, spec.connection_draining.as_ref(), findings);
    if let Some(affinity) = &spec.session_affinity {
        let at = path.key("sessionAffinity");
        let word = Some(affinity.affinity_type.as_str()).filter(|word| !word.is_empty());
        one_of(findings, at.key("affinityType"), word, &AFFINITIES);
        let seconds = affinity.affinity_cookie_ttl_sec;
        within(findings, at.key("affinityCookieTtlSec"), seconds, (0, COOKIE_MAX));
    }
    for (key, headers) in [
        ("customRequestHeaders", &spec.custom_request_headers),
        ("customResponseHeaders", &spec.custom_response_headers),
    ] {
        let at = path.key(key);
        let at = at.key("headers");
        let lines = headers.iter().flat_map(|headers| &headers.headers);
        for (index, line) in lines.enumerate() {
            if !line.split_once(':').is_some_and(|(name, _)| is_name(name.trim())) {
                let help = "write a name and a value, as in \"x-client: {client_ip_address}\"";
                findings.error(at.index(index), format!("{line:?} is no field"), help);
            }
        }
    }
    if let Some(rate) = spec.logging.as_ref().and_then(|logging| logging.sample_rate)
        && !(0.0..=1.0).contains(&rate)
    {
        let at = path.key("logging");
        let message = format!("{rate} is no part of a whole");
        findings.error(at.key("sampleRate"), message, "write a number from 0 to 1");
    }
    if let Some(check) = &spec.health_check {
        health(path.key("healthCheck"), check, findings);
    }
    if let Some(cdn) = &spec.cdn {
        caching(path.key("cdn"), cdn, findings);
    }
    let is_gated = spec.iap.as_ref().is_some_and(|iap| iap.enabled);
    if is_gated && spec.cdn.as_ref().is_some_and(|cdn| cdn.enabled) {
        let message = "what is for certain people only cannot be kept for others";
        findings.error(path.key("cdn"), message, "enable either `iap` or `cdn`");
    }
}

/// Whether a word can be the name of a field.
///
/// Source: RFC 9110, 5.6.2, `token`.
fn is_name(word: &str) -> bool {
    let is_fitting = |at: u8| at.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&at);
    !word.is_empty() && word.bytes().all(is_fitting)
}

fn health(path: Path<'_>, check: &HealthCheck, findings: &mut Findings) {
    let times = [check.check_interval_sec, check.timeout_sec];
    pace(&path, times, [check.healthy_threshold, check.unhealthy_threshold], findings);
    within(findings, path.key("port"), check.port, (1, 65_535));
    one_of(findings, path.key("type"), check.type_.as_deref(), &["HTTP", "HTTPS", "HTTP2"]);
    if let (Some(timeout), Some(interval)) = (check.timeout_sec, check.check_interval_sec)
        && timeout > interval
    {
        let message = format!("an answer may take {timeout} s, but the next check is due before");
        findings.error(path.key("timeoutSec"), message, "write at most `checkIntervalSec`");
    }
}

fn caching(path: Path<'_>, cdn: &Cdn, findings: &mut Findings) {
    const TTL_MAX: i64 = 31_622_400;
    one_of(findings, path.key("cacheMode"), cdn.cache_mode.as_deref(), &MODES);
    within(findings, path.key("clientTtl"), cdn.client_ttl, (0, TTL_MAX));
    within(findings, path.key("defaultTtl"), cdn.default_ttl, (0, TTL_MAX));
    within(findings, path.key("maxTtl"), cdn.max_ttl, (0, TTL_MAX));
    within(findings, path.key("serveWhileStale"), cdn.serve_while_stale, (0, 604_800));
    if let Some(key) = &cdn.cache_policy {
        let at = path.key("cachePolicy");
        if !key.query_string_blacklist.is_empty() && !key.query_string_whitelist.is_empty() {
            let message = "`queryStringBlacklist` stands beside `queryStringWhitelist`";
            findings.error(at.key("queryStringBlacklist"), message, "write one of the two");
        }
    }
}

pub(super) fn check_frontend_config(object: &FrontendConfig, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    if let Some(redirect) = &object.spec.redirect_to_https {
        let at = path.key("redirectToHttps");
        let word = redirect.response_code_name.as_deref().filter(|word| !word.is_empty());
        one_of(findings, at.key("responseCodeName"), word, &CODES);
    }
}

/// Notes a policy that attaches to nothing.
fn target(path: Path<'_>, target: &TargetRef, kinds: &[&str], findings: &mut Findings) {
    one_of(findings, path.key("kind"), Some(&target.kind), kinds);
    if target.name.is_empty() {
        findings.error(path.key("name"), "the policy is for nothing", "write a name");
    }
}

pub(super) fn check_backend_policy(object: &GcpBackendPolicy, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    target(path.key("targetRef"), &object.spec.target_ref, &["Service"], findings);
    let path = path.key("default");
    let spec = &object.spec.default;
    patience(&path, spec.timeout_sec, spec.connection_draining.as_ref(), findings);
    if let Some(affinity) = &spec.session_affinity {
        let at = path.key("sessionAffinity");
        one_of(findings, at.key("type"), Some(&affinity.type_), &AFFINITIES);
        within(findings, at.key("cookieTtlSec"), affinity.cookie_ttl_sec, (0, COOKIE_MAX));
    }
    let rate = spec.logging.as_ref().and_then(|logging| logging.sample_rate);
    let at = path.key("logging");
    within(findings, at.key("sampleRate"), rate, (0, 1_000_000));
}

pub(super) fn check_health_policy(object: &HealthCheckPolicy, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    target(path.key("targetRef"), &object.spec.target_ref, &["Service"], findings);
    let path = path.key("default");
    let spec = &object.spec.default;
    let times = [spec.check_interval_sec, spec.timeout_sec];
    pace(&path, times, [spec.healthy_threshold, spec.unhealthy_threshold], findings);
    if let Some(config) = &spec.config {
        let kinds = ["HTTP", "HTTPS", "HTTP2", "TCP", "GRPC"];
        let at = path.key("config");
        one_of(findings, at.key("type"), Some(&config.type_), &kinds);
    }
}

pub(super) fn check_managed(object: &ManagedCertificate, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    let at = path.key("domains");
    let domains = &object.spec.domains;
    if !(1..=DOMAINS_MAX).contains(&domains.len()) {
        let message = format!("a certificate cannot be for {} names", domains.len());
        findings.error(at, message, format!("write 1 to {DOMAINS_MAX} names"));
    }
    for (index, domain) in domains.iter().enumerate() {
        if domain.starts_with("*.") {
            let message = format!("{domain} stands for many names");
            findings.error(at.index(index), message, "write each of them");
        } else {
            hostname(at.index(index), domain, findings);
        }
    }
}

pub(super) fn check_tls_policy(object: &BackendTlsPolicy, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    let spec = &object.spec;
    if spec.target_refs.is_empty() {
        let help = "write targetRefs: [{ group: \"\", kind: Service, name: … }]";
        findings.error(path.key("targetRefs"), "the policy is for nothing", help);
    }
    let path = path.key("validation");
    let validation = &spec.validation;
    accept(findings, path.key("hostname"), syntax::dns_subdomain(&validation.hostname));
    match (validation.ca_certificate_refs.is_empty(), validation.well_known.as_deref()) {
        (true, None | Some("")) => {
            let help = "write caCertificateRefs: [{ group: \"\", kind: ConfigMap, name: … }]";
            findings.error(path, "no certificate is trusted", help);
        }
        (false, Some(word)) if !word.is_empty() => {
            let message = "`wellKnownCACertificates` stands beside `caCertificateRefs`";
            findings.error(path.key("wellKnownCACertificates"), message, "write one of the two");
        }
        _ => {}
    }
}
