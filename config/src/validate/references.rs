//! What Ingresses, Gateways, routes and Services name that is not there: it is said where it is
//! named, and the rest is served.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend};

use crate::draft::{Draft, Entry, KeyRef};
use crate::error::Findings;
use crate::gateway_api::{Gateway, RouteBackend};
use crate::gke::BackendConfig;
use crate::kind::Kind;
use crate::object::Object;
use crate::path::Field;
use crate::routing::{BACKEND_CONFIGS, FRONTEND_CONFIG, managed_names};
use crate::suggest;

/// Notes what is named and not there.
pub(super) fn check(draft: &Draft, findings: &mut Findings) {
    let kinds = [
        Kind::Ingress,
        Kind::Gateway,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::Service,
        Kind::BackendConfig,
        Kind::FrontendConfig,
        Kind::GcpBackendPolicy,
        Kind::GcpGatewayPolicy,
    ];
    for entry in kinds.into_iter().flat_map(|kind| draft.of(kind).values()) {
        let mut looking = Looking { draft, entry, findings };
        match &entry.object {
            Object::Ingress(object) => looking.ingress(object),
            Object::Gateway(object) => looking.gateway(object),
            Object::HttpRoute(object) => {
                let rules = object.spec.rules.iter().flatten();
                looking.route(rules.map(|rule| &rule.backend_refs[..]));
            }
            Object::GrpcRoute(object) => {
                looking.route(object.spec.rules.iter().map(|rule| &rule.backend_refs[..]));
            }
            Object::Service(object) => looking.service(object),
            Object::BackendConfig(object) => looking.backend_config(object),
            Object::FrontendConfig(object) => {
                let name = object.spec.ssl_policy.as_deref();
                looking.of_project(Field::of("spec").key("sslPolicy"), Kind::SslPolicy, name);
            }
            Object::GcpBackendPolicy(object) => {
                let name = object.spec.default.security_policy.as_deref();
                let field = Field::of("spec").key("default").key("securityPolicy");
                looking.of_project(field, Kind::SecurityPolicy, name);
                looking.target(&object.spec.target_ref.name);
            }
            Object::GcpGatewayPolicy(object) => {
                let name = object.spec.default.ssl_policy.as_deref();
                let field = Field::of("spec").key("default").key("sslPolicy");
                looking.of_project(field, Kind::SslPolicy, name);
            }
            _ => {}
        }
    }
}

struct Looking<'l> {
    draft: &'l Draft,
    entry: &'l Arc<Entry>,
    findings: &'l mut Findings,
}

impl Looking<'_> {
    fn say(&mut self, field: Field, message: String, help: String) {
        let warning = self.findings.warning(field, message, help);
        warning.of(self.entry.called(), &self.entry.origin);
    }

    /// Notes an object that is not there.
    fn named(&mut self, field: Field, kind: Kind, namespace: &str, name: &str) -> bool {
        let all = self.draft.of(kind);
        let is_there = if namespace.is_empty() {
            all.values().any(|entry| entry.object.name() == name)
        } else {
            all.contains_key(&KeyRef { namespace, name })
        };
        if !is_there {
            let names = all.values().map(|entry| entry.object.name());
            let help = match suggest::closest(name, names) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("write the {} as well, or remove it here", kind.name()),
            };
            self.say(field, format!("there is no {} `{name}`", kind.name()), help);
        }
        is_there
    }

    /// The same of what a whole project shares.
    fn of_project(&mut self, field: Field, kind: Kind, name: Option<&str>) {
        let resource = |entry: &Entry| match &entry.object {
            Object::SecurityPolicy(at) => at.spec.resource_id.clone(),
            Object::SslPolicy(at) => at.spec.resource_id.clone(),
            _ => None,
        };
        let Some(name) = name.filter(|name| !name.is_empty()) else { return };
        let mut all = self.draft.of(kind).values();
        if !all.any(|entry| resource(entry).as_deref() == Some(name)) {
            self.named(field, kind, "", name);
        }
    }

    fn target(&mut self, name: &str) {
        let namespace = self.entry.object.namespace().to_owned();
        let field = Field::of("spec").key("targetRef").key("name");
        self.named(field, Kind::Service, &namespace, name);
    }

    fn ingress(&mut self, ingress: &Ingress) {
        let namespace = ingress.metadata.namespace.clone().unwrap_or_default();
        let Some(spec) = &ingress.spec else { return };
        let at = Field::of("spec");
        if let Some(backend) = &spec.default_backend {
            self.backend(at.clone().key("defaultBackend"), &namespace, backend);
        }
        for (index, rule) in spec.rules.iter().flatten().enumerate() {
            let paths = at.clone().key("rules").index(index).key("http").key("paths");
            for (index, path) in rule.http.iter().flat_map(|http| &http.paths).enumerate() {
                let field = paths.clone().index(index).key("backend");
                self.backend(field, &namespace, &path.backend);
            }
        }
        for (index, tls) in spec.tls.iter().flatten().enumerate() {
            let Some(name) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) else {
                continue;
            };
            let field = at.clone().key("tls").index(index).key("secretName");
            self.named(field, Kind::Secret, &namespace, name);
        }
        let annotations = || Field::of("metadata").key("annotations");
        let front = ingress.metadata.annotations.as_ref().and_then(|all| all.get(FRONTEND_CONFIG));
        if let Some(name) = front {
            let field = annotations().key(FRONTEND_CONFIG);
            self.named(field, Kind::FrontendConfig, &namespace, name);
        }
        for name in managed_names(ingress) {
            let field = annotations().key("networking.gke.io/managed-certificates");
            self.named(field, Kind::ManagedCertificate, &namespace, name);
        }
    }

    fn backend(&mut self, field: Field, namespace: &str, backend: &IngressBackend) {
        let Some(named) = &backend.service else { return };
        let field = field.key("service");
        if !self.named(field.clone().key("name"), Kind::Service, namespace, &named.name) {
            return;
        }
        let key = KeyRef { namespace, name: &named.name };
        let Some(Object::Service(service)) =
            self.draft.of(Kind::Service).get(&key).map(|entry| &entry.object)
        else {
            return;
        };
        let port = named.port.as_ref();
        let by_name = port.and_then(|port| port.name.as_deref()).filter(|name| !name.is_empty());
        let ports = || service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let is_there = match (by_name, port.and_then(|port| port.number)) {
            (Some(name), _) => ports().any(|port| port.name.as_deref() == Some(name)),
            (None, Some(number)) => ports().any(|port| port.port == number),
            (None, None) => return,
        };
        if !is_there {
            let all: Vec<String> = ports().map(|port| port.port.to_string()).collect();
            let message = format!("the Service `{}` has no such port", named.name);
            let help = match all.as_slice() {
                [] => "it has none".to_owned(),
                all => format!("it has {}", suggest::listed(all.iter().map(String::as_str), "and")),
            };
            self.say(field.key("port"), message, help);
        }
    }

    fn gateway(&mut self, gateway: &Gateway) {
        let own = gateway.metadata.namespace.clone().unwrap_or_default();
        for (index, listener) in gateway.spec.listeners.iter().enumerate() {
            let field = Field::of("spec").key("listeners").index(index).key("tls");
            let refs = listener.tls.iter().flat_map(|tls| &tls.certificate_refs);
            for (index, reference) in refs.enumerate() {
                if reference.kind.as_deref().unwrap_or("Secret") != "Secret" {
                    continue;
                }
                let field = field.clone().key("certificateRefs").index(index).key("name");
                let namespace = reference.namespace.as_deref().unwrap_or(&own);
                self.named(field, Kind::Secret, namespace, &reference.name);
            }
        }
    }

    fn route<'r>(&mut self, rules: impl Iterator<Item = &'r [RouteBackend]>) {
        let own = self.entry.object.namespace().to_owned();
        for (index, backends) in rules.enumerate() {
            let field = Field::of("spec").key("rules").index(index).key("backendRefs");
            for (index, reference) in backends.iter().enumerate() {
                if reference.kind.as_deref().unwrap_or("Service") != "Service" {
                    continue;
                }
                let field = field.clone().index(index).key("name");
                let namespace = reference.namespace.as_deref().unwrap_or(&own);
                self.named(field, Kind::Service, namespace, &reference.name);
            }
        }
    }

    fn service(&mut self, service: &Service) {
        let namespace = service.metadata.namespace.clone().unwrap_or_default();
        let annotations = service.metadata.annotations.iter().flatten();
        let ours: Vec<_> =
            annotations.filter(|(key, _)| BACKEND_CONFIGS.contains(&key.as_str())).collect();
        for (key, text) in ours {
            let field = Field::of("metadata").key("annotations").key(key);
            let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else {
                let help = "write {\"default\": \"NAME\"} or {\"ports\": {\"80\": \"NAME\"}}";
                self.say(field, "this is no JSON".to_owned(), help.to_owned());
                continue;
            };
            let ports = value.get("ports").and_then(serde_json::Value::as_object);
            let by_port = ports.into_iter().flat_map(serde_json::Map::values);
            for name in by_port.chain(value.get("default")).filter_map(serde_json::Value::as_str) {
                self.named(field.clone(), Kind::BackendConfig, &namespace, name);
            }
        }
    }

    fn backend_config(&mut self, config: &BackendConfig) {
        let name = config.spec.security_policy.as_ref().map(|policy| policy.name.as_str());
        let field = Field::of("spec").key("securityPolicy").key("name");
        self.of_project(field, Kind::SecurityPolicy, name);
    }
}
