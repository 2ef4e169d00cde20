//! Gateways and grants: the rules of their custom resource definitions.

use std::collections::BTreeMap;

use super::ingress::hostname;
use super::{accept, one_of, port, selector};
use crate::error::Findings;
use crate::gateway_api::{
    FrontendTlsTerms, Gateway, ListenerSet, ListenerSpec, ReferenceGrant, RouteNamespaces,
};
use crate::path::Path;
use crate::syntax;

/// What a listener may speak.
const PROTOCOLS: [&str; 5] = ["HTTP", "HTTPS", "TLS", "TCP", "UDP"];

pub(super) fn check(gateway: &Gateway, findings: &mut Findings) {
    let spec = &gateway.spec;
    let path = Path::Root.key("spec");
    if spec.gateway_class_name.is_empty() {
        let help = "write gatewayClassName: kswitch";
        findings.error(path.key("gatewayClassName"), "the Gateway has no class", help);
    }
    let at = path.key("addresses");
    for (index, address) in spec.addresses.iter().enumerate() {
        let path = at.index(index);
        match (address.type_.as_deref(), address.value.as_deref()) {
            (None | Some("IPAddress"), Some(value)) => {
                accept(findings, path.key("value"), syntax::address(value));
            }
            (None | Some("IPAddress"), None) | (Some("NamedAddress"), _) => {}
            (Some(other), _) => {
                let message = format!("addresses of the type {other} are not known here");
                findings.warning(path.key("type"), message, "write type: IPAddress");
            }
        }
    }
    check_listeners(path.key("listeners"), &spec.listeners, findings);
    if let Some(allowed) = spec.allowed_listeners.as_ref().and_then(|at| at.namespaces.as_ref()) {
        let path = path.key("allowedListeners");
        check_namespaces(&path.key("namespaces"), allowed, findings);
    }
    let frontend = spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref());
    let Some(frontend) = frontend else { return };
    let path = path.key("tls");
    let path = path.key("frontend");
    check_validation(&path.key("default"), &frontend.usual, findings);
    let at = path.key("perPort");
    for (index, of_port) in frontend.per_port.iter().enumerate() {
        let path = at.index(index);
        port(findings, path.key("port"), of_port.port);
        check_validation(&path.key("tls"), &of_port.tls, findings);
    }
}

pub(super) fn check_set(set: &ListenerSet, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    if set.spec.parent_ref.name.is_empty() {
        let help = "write parentRef: { name: … }";
        findings.error(path.key("parentRef"), "the ListenerSet names no Gateway", help);
    }
    check_listeners(path.key("listeners"), &set.spec.listeners, findings);
}

fn check_validation(path: &Path<'_>, terms: &FrontendTlsTerms, findings: &mut Findings) {
    let Some(validation) = &terms.validation else { return };
    let path = path.key("validation");
    let modes = ["AllowValidOnly", "AllowInsecureFallback"];
    one_of(findings, path.key("mode"), validation.mode.as_deref(), &modes);
    if validation.ca_certificate_refs.is_empty() {
        let help = "write caCertificateRefs: [{ kind: ConfigMap, name: … }]";
        findings.error(path.key("caCertificateRefs"), "nobody vouches for clients", help);
    }
}

fn check_listeners(at: Path<'_>, listeners: &[ListenerSpec], findings: &mut Findings) {
    if listeners.is_empty() {
        let help = "write listeners: [{ name: http, port: 80, protocol: HTTP }]";
        findings.error(at, "there is no listener", help);
    }
    let mut names = BTreeMap::new();
    for (index, listener) in listeners.iter().enumerate() {
        let path = at.index(index);
        check_listener(path, listener, findings);
        if let Some(first) = names.insert(&listener.name, index) {
            let message = format!("listeners[{first}] is called `{}` already", listener.name);
            findings.error(path.key("name"), message, "give each listener a name of its own");
        }
    }
}

fn check_listener(path: Path<'_>, listener: &ListenerSpec, findings: &mut Findings) {
    accept(findings, path.key("name"), syntax::dns_subdomain(&listener.name));
    port(findings, path.key("port"), listener.port);
    if !PROTOCOLS.contains(&listener.protocol.as_str()) {
        // others may be of other controllers: the listener's status says that it is not served
        let message = format!("{:?} is not known here", listener.protocol);
        findings.warning(path.key("protocol"), message, "write HTTP, HTTPS, TLS, TCP or UDP");
    }
    if let Some(host) = listener.hostname.as_deref().filter(|host| !host.is_empty()) {
        hostname(path.key("hostname"), host, findings);
    }
    let is_plain = matches!(listener.protocol.as_str(), "HTTP" | "TCP" | "UDP");
    if is_plain && listener.tls.is_some() {
        let message = format!("a listener of the protocol {} has no TLS", listener.protocol);
        findings.error(path.key("tls"), message, "write protocol: HTTPS or TLS, or remove it");
    }
    if let Some(tls) = &listener.tls {
        let path = path.key("tls");
        one_of(findings, path.key("mode"), tls.mode.as_deref(), &["Terminate", "Passthrough"]);
    }
    let Some(allowed) = &listener.allowed_routes else { return };
    let path = path.key("allowedRoutes");
    let Some(namespaces) = &allowed.namespaces else { return };
    check_namespaces(&path.key("namespaces"), namespaces, findings);
}

fn check_namespaces(path: &Path<'_>, namespaces: &RouteNamespaces, findings: &mut Findings) {
    let from = ["Same", "All", "Selector", "None"];
    one_of(findings, path.key("from"), namespaces.from.as_deref(), &from);
    if let Some(of) = &namespaces.selector {
        selector(path.key("selector"), of, findings);
    }
}

pub(super) fn check_grant(grant: &ReferenceGrant, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    for (key, is_empty) in [("from", grant.spec.from.is_empty()), ("to", grant.spec.to.is_empty())]
    {
        if is_empty {
            let help = "a grant names at least one in `from` and one in `to`";
            findings.error(path.key(key), format!("`{key}` is missing"), help);
        }
    }
}
