//! Routes: the rules of their custom resource definitions.

use super::ingress::hostname;
use super::{accept, one_of, port};
use crate::error::Findings;
use crate::gateway_api::{
    BackendReference, GrpcRoute, HttpRoute, HttpRule, L4Rule, PathModifier, RouteBackend,
    RouteFilter, RouteMatch, TlsRoute, ValueMatchSpec,
};
use crate::path::Path;
use crate::routing::{expression, timeout};
use crate::syntax::Refused;

/// The methods that a match may name.
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
const FILTERS: [&str; 7] = [
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestMirror",
    "RequestRedirect",
    "URLRewrite",
    "CORS",
    "ExtensionRef",
];

pub(super) fn check_http(route: &HttpRoute, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    hostnames(path, &route.spec.hostnames, findings);
    let rules = path.key("rules");
    for (index, rule) in route.spec.rules.iter().flatten().enumerate() {
        check_rule(rules.index(index), rule, findings);
    }
}

fn check_rule(path: Path<'_>, rule: &HttpRule, findings: &mut Findings) {
    let matches = path.key("matches");
    for (index, item) in rule.matches.iter().enumerate() {
        check_match(matches.index(index), item, findings);
    }
    filters(path.key("filters"), &rule.filters, findings);
    backends(path.key("backendRefs"), &rule.backend_refs, findings);
    let redirects = |filter: &RouteFilter| filter.type_ == "RequestRedirect";
    if rule.filters.iter().any(redirects) && !rule.backend_refs.is_empty() {
        let help = "remove one of the two";
        let message = "a rule that redirects has no backends";
        findings.error(path.key("backendRefs"), message, help);
    }
    if rule.filters.iter().any(redirects)
        && rule.filters.iter().any(|filter| filter.type_ == "URLRewrite")
    {
        let message = "a rule may redirect or rewrite, not both";
        findings.error(path.key("filters"), message, "remove one of the two");
    }
    let Some(timeouts) = &rule.timeouts else { return };
    let path = path.key("timeouts");
    for (key, text) in
        [("request", &timeouts.request), ("backendRequest", &timeouts.backend_request)]
    {
        if let Some(text) = text
            && timeout(text).is_none()
        {
            let message = format!("{text:?} is not a time");
            findings.error(path.key(key), message, "write it as in \"10s\" or \"1m30s\"");
        }
    }
}

fn check_match(path: Path<'_>, item: &RouteMatch, findings: &mut Findings) {
    one_of(findings, path.key("method"), item.method.as_deref(), &METHODS);
    if let Some(of) = &item.path {
        let path = path.key("path");
        let types = ["Exact", "PathPrefix", "RegularExpression"];
        one_of(findings, path.key("type"), of.type_.as_deref(), &types);
        match (of.type_.as_deref(), of.value.as_deref()) {
            (Some("RegularExpression"), Some(text)) => regex(path.key("value"), text, findings),
            (_, Some(text)) => path_syntax(path.key("value"), text, findings),
            (_, None) => {}
        }
    }
    values(path.key("headers"), &item.headers, findings);
    values(path.key("queryParams"), &item.query_params, findings);
}

fn values(path: Path<'_>, values: &[ValueMatchSpec], findings: &mut Findings) {
    for (index, item) in values.iter().enumerate() {
        let path = path.index(index);
        let types = ["Exact", "RegularExpression"];
        one_of(findings, path.key("type"), item.type_.as_deref(), &types);
        if item.name.is_empty() {
            findings.error(path.key("name"), "`name` is missing", "write what it is called");
        }
        match (item.type_.as_deref(), item.value.as_deref()) {
            (Some("RegularExpression"), Some(text)) => regex(path.key("value"), text, findings),
            (_, Some(_)) => {}
            (_, None) => {
                findings.error(path.key("value"), "`value` is missing", "write what it must be");
            }
        }
    }
}

fn regex(path: Path<'_>, text: &str, findings: &mut Findings) {
    if let Err(message) = expression(text) {
        findings.error(path, message, "write an expression in RE2's syntax");
    }
}

/// Notes a path that no request can have.
///
/// Source: `HTTPPathMatch`, its validation; `validateIngressRuleValue` of Kubernetes.
pub(super) fn path_syntax(path: Path<'_>, text: &str, findings: &mut Findings) {
    if !text.starts_with('/') {
        let message = format!("the path {text:?} does not begin with `/`");
        findings.error(path, message, "write an absolute path, as in \"/\"");
        return;
    }
    let inside = ["//", "/./", "/../", "%2f", "%2F", "#"];
    let is_end = text.ends_with("/.") || text.ends_with("/..");
    if is_end || inside.iter().any(|word| text.contains(word)) {
        let help = "write the path as it is after `.`, `..` and empty parts are resolved";
        findings.error(path, format!("{text:?} is a path that no request has"), help);
    }
}

fn filters(path: Path<'_>, filters: &[RouteFilter], findings: &mut Findings) {
    for (index, filter) in filters.iter().enumerate() {
        let path = path.index(index);
        one_of(findings, path.key("type"), Some(&filter.type_), &FILTERS);
        let (key, is_there) = match filter.type_.as_str() {
            "RequestHeaderModifier" => {
                ("requestHeaderModifier", filter.request_header_modifier.is_some())
            }
            "ResponseHeaderModifier" => {
                ("responseHeaderModifier", filter.response_header_modifier.is_some())
            }
            "RequestMirror" => ("requestMirror", filter.request_mirror.is_some()),
            "RequestRedirect" => ("requestRedirect", filter.request_redirect.is_some()),
            "URLRewrite" => ("urlRewrite", filter.url_rewrite.is_some()),
            "CORS" => ("cors", filter.cors.is_some()),
            "ExtensionRef" => ("extensionRef", filter.extension_ref.is_some()),
            _ => continue,
        };
        if !is_there {
            let message = format!("`{key}` is missing");
            findings.error(path.key(key), message, "a filter has what its type says");
        }
        if filter.type_ == "ExtensionRef" {
            let message = "filters of others are not known here";
            let help = "requests that meet it are answered with 500";
            findings.warning(path.key("extensionRef"), message, help);
        }
        if let Some(redirect) = &filter.request_redirect {
            let path = path.key("requestRedirect");
            let status = redirect.status_code.map(|status| status.to_string());
            let known = ["301", "302", "303", "307", "308"];
            one_of(findings, path.key("statusCode"), status.as_deref(), &known);
            let schemes = ["http", "https"];
            one_of(findings, path.key("scheme"), redirect.scheme.as_deref(), &schemes);
            modifier(path.key("path"), redirect.path.as_ref(), findings);
        }
        if let Some(rewrite) = &filter.url_rewrite {
            modifier(path.key("urlRewrite").key("path"), rewrite.path.as_ref(), findings);
        }
    }
}

fn modifier(path: Path<'_>, modifier: Option<&PathModifier>, findings: &mut Findings) {
    let Some(modifier) = modifier else { return };
    let types = ["ReplaceFullPath", "ReplacePrefixMatch"];
    one_of(findings, path.key("type"), Some(&modifier.type_), &types);
    let (key, value) = match modifier.type_.as_str() {
        "ReplaceFullPath" => ("replaceFullPath", &modifier.replace_full_path),
        _ => ("replacePrefixMatch", &modifier.replace_prefix_match),
    };
    if value.is_none() {
        let message = format!("`{key}` is missing");
        findings.error(path.key(key), message, "write the new path");
    }
}

fn backends(path: Path<'_>, refs: &[RouteBackend], findings: &mut Findings) {
    for (index, backend) in refs.iter().enumerate() {
        reference(path.index(index), &backend.reference(), findings);
        filters(path.index(index).key("filters"), &backend.filters, findings);
    }
}

fn reference(path: Path<'_>, backend: &BackendReference, findings: &mut Findings) {
    if backend.name.is_empty() {
        findings.error(path.key("name"), "`name` is missing", "write the name of a Service");
    }
    let is_service = backend.kind.as_deref().is_none_or(|kind| kind == "Service");
    match backend.port {
        Some(number) => port(findings, path.key("port"), number),
        None if is_service => {
            findings.error(path.key("port"), "the port is missing", "write a port of the Service");
        }
        None => {}
    }
    if let Some(weight) = backend.weight.filter(|weight| !(0..=1_000_000).contains(weight)) {
        let message = format!("{weight} cannot be a weight");
        accept::<()>(
            findings,
            path.key("weight"),
            Err(Refused { message, help: "write a number from 0 to 1000000".into() }),
        );
    }
}

fn hostnames(path: Path<'_>, hosts: &[String], findings: &mut Findings) {
    let path = path.key("hostnames");
    for (index, host) in hosts.iter().enumerate() {
        hostname(path.index(index), host, findings);
    }
}

pub(super) fn check_grpc(route: &GrpcRoute, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    hostnames(path, &route.spec.hostnames, findings);
    let rules = path.key("rules");
    for (index, rule) in route.spec.rules.iter().enumerate() {
        let path = rules.index(index);
        let matches = path.key("matches");
        for (index, item) in rule.matches.iter().enumerate() {
            let path = matches.index(index);
            values(path.key("headers"), &item.headers, findings);
            let Some(method) = &item.method else { continue };
            let path = path.key("method");
            let types = ["Exact", "RegularExpression"];
            one_of(findings, path.key("type"), method.type_.as_deref(), &types);
            if method.type_.as_deref() == Some("RegularExpression") {
                for (key, text) in [("service", &method.service), ("method", &method.method)] {
                    if let Some(text) = text {
                        regex(path.key(key), text, findings);
                    }
                }
            }
        }
        filters(path.key("filters"), &rule.filters, findings);
        backends(path.key("backendRefs"), &rule.backend_refs, findings);
    }
}

pub(super) fn check_tls(route: &TlsRoute, findings: &mut Findings) {
    hostnames(Path::Root.key("spec"), &route.spec.hostnames, findings);
    check_l4(&route.spec.rules, findings);
}

pub(super) fn check_l4(rules: &[L4Rule], findings: &mut Findings) {
    let path = Path::Root.key("spec");
    let path = path.key("rules");
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        let refs = path.key("backendRefs");
        for (index, backend) in rule.backend_refs.iter().enumerate() {
            reference(refs.index(index), backend, findings);
        }
    }
}
