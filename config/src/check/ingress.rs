//! Ingresses: the rules of `ValidateIngress` of Kubernetes.

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend};

use super::{accept, one_of, port};
use crate::error::Findings;
use crate::path::Path;
use crate::syntax;

pub(super) fn check(ingress: &Ingress, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    let Some(spec) = &ingress.spec else {
        findings.error(path, "`spec` is missing", "write `rules` or `defaultBackend` below it");
        return;
    };
    let rules = spec.rules.as_deref().unwrap_or(&[]);
    if rules.is_empty() && spec.default_backend.is_none() {
        let help = "write `rules`, `defaultBackend`, or both";
        findings.error(path, "the Ingress leads nowhere", help);
    }
    if let Some(backend_of) = &spec.default_backend {
        backend(path.key("defaultBackend"), backend_of, findings);
    }
    let at = path.key("rules");
    for (index, rule) in rules.iter().enumerate() {
        let path = at.index(index);
        if let Some(host) = rule.host.as_deref().filter(|host| !host.is_empty()) {
            hostname(path.key("host"), host, findings);
        }
        let http = path.key("http");
        let paths = http.key("paths");
        for (index, item) in rule.http.iter().flat_map(|http| &http.paths).enumerate() {
            check_path(paths.index(index), item, findings);
        }
    }
    let at = path.key("tls");
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        let path = at.index(index);
        let hosts = path.key("hosts");
        for (index, host) in tls.hosts.iter().flatten().enumerate() {
            hostname(hosts.index(index), host, findings);
        }
    }
}

fn check_path(path: Path<'_>, item: &HTTPIngressPath, findings: &mut Findings) {
    let types = ["Exact", "Prefix", "ImplementationSpecific"];
    one_of(findings, path.key("pathType"), Some(&item.path_type), &types);
    let text = item.path.as_deref().unwrap_or("");
    let is_free = item.path_type == "ImplementationSpecific";
    let may_be_absent = is_free && text.is_empty();
    if !(text.starts_with('/') || may_be_absent) {
        let message = format!("the path {text:?} does not begin with `/`");
        findings.error(path.key("path"), message, "write an absolute path, as in \"/\"");
    }
    if !is_free {
        super::route::path_syntax(path.key("path"), text, findings);
    }
    backend(path.key("backend"), &item.backend, findings);
}

fn backend(path: Path<'_>, backend: &IngressBackend, findings: &mut Findings) {
    let service = match (&backend.service, &backend.resource) {
        (Some(service), None) => service,
        (None, Some(_)) => {
            let message = "backends other than Services are not known here";
            findings.warning(path.key("resource"), message, "requests to it are answered with 500");
            return;
        }
        (Some(_), Some(_)) => {
            let help = "write one of the two";
            findings.error(path.key("resource"), "`resource` stands beside `service`", help);
            return;
        }
        (None, None) => {
            let help = "write service: { name: …, port: { number: 80 } }";
            findings.error(path, "the backend names nothing", help);
            return;
        }
    };
    let path = path.key("service");
    accept(findings, path.key("name"), syntax::dns_label(&service.name));
    let at = path.key("port");
    let Some(of) = &service.port else {
        findings.error(at, "the port is missing", "write port: { number: 80 }");
        return;
    };
    match (of.name.as_deref().filter(|name| !name.is_empty()), of.number) {
        (Some(_), Some(_)) => {
            findings.error(at, "`name` stands beside `number`", "write one of the two");
        }
        (Some(name), None) => {
            accept(findings, at.key("name"), syntax::dns_label(name));
        }
        (None, Some(number)) => port(findings, at.key("number"), number),
        (None, None) => {
            findings.error(at, "the port is missing", "write port: { number: 80 }");
        }
    }
}

/// Notes what cannot be the name of a host, with `*` for its first label or without.
pub(super) fn hostname(path: Path<'_>, host: &str, findings: &mut Findings) {
    let name = host.strip_prefix("*.").unwrap_or(host);
    if name.parse::<std::net::IpAddr>().is_ok() {
        let help = "write a name, or leave it out to be asked under any";
        findings.error(path, format!("{host} is an address, not a name"), help);
    } else {
        accept(findings, path, syntax::dns_subdomain(name));
    }
}
