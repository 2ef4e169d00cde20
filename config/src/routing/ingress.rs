//! Ingresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressClass, IngressSpec,
};
use rustls::sign::CertifiedKey;

use super::backends::{Backends, PortRef};
use super::front::{self, Front};
use super::host::HostPattern;
use super::listener::secret_certificate;
use super::matching::{Match, PathMatch};
use super::model::{
    BackendPart, Listener, Routing, Rule, Serve, Socket, SocketKind, Target, TargetBackend,
};
use super::table::{Candidate, RouteTable};
use crate::{Cluster, GatewaySettings, Observed};

/// The annotation that names a class where `ingressClassName` does not.
const CLASS: &str = "kubernetes.io/ingress.class";
/// The annotation that keeps port 80 shut.
///
/// Source: GKE, "Disabling HTTP".
const ALLOW_HTTP: &str = "kubernetes.io/ingress.allow-http";
/// The annotation that names certificates; here, Secrets beside the Ingress.
///
/// Source: GKE, "Using pre-shared certificates".
const PRE_SHARED: &str = "ingress.gcp.kubernetes.io/pre-shared-cert";
/// The annotation that names certificates which are issued.
///
/// Source: GKE, "Using Google-managed SSL certificates".
const MANAGED: &str = "networking.gke.io/managed-certificates";
/// The annotation of a class that Ingresses without a class have.
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// Whether an Ingress is served.
pub(crate) fn is_served(
    ingress: &Ingress,
    classes: &[Arc<IngressClass>],
    settings: &GatewaySettings,
) -> bool {
    let controller = |class: &IngressClass| {
        class.spec.as_ref().and_then(|spec| spec.controller.clone()).unwrap_or_default()
    };
    let of_spec = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    match of_spec.or_else(|| annotation(ingress, CLASS)) {
        Some(name) => {
            let class = classes.iter().find(|at| at.metadata.name.as_deref() == Some(name));
            class.is_some_and(|at| controller(at) == GatewaySettings::INGRESS_CONTROLLER)
                || settings.ingress_classes.iter().any(|at| at == name)
        }
        None => {
            let is_default = |class: &&Arc<IngressClass>| {
                let annotations = class.metadata.annotations.as_ref();
                annotations.and_then(|all| all.get(DEFAULT_CLASS)).is_some_and(|at| at == "true")
            };
            classes.iter().find(is_default).is_none_or(|class| {
                let name = class.metadata.name.as_deref().unwrap_or_default();
                controller(class) == GatewaySettings::INGRESS_CONTROLLER
                    || settings.ingress_classes.iter().any(|at| at == name)
            })
        }
    }
}

pub(super) fn annotation<'i>(ingress: &'i Ingress, name: &str) -> Option<&'i str> {
    ingress.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The addresses of an Ingress's status.
pub(crate) fn addresses(ingress: &Ingress) -> Vec<IpAddr> {
    let status = ingress.status.iter().filter_map(|status| status.load_balancer.as_ref());
    let ingress = status.flat_map(|balancer| balancer.ingress.iter().flatten());
    ingress.filter_map(|at| at.ip.as_deref()?.parse().ok()).collect()
}

/// What the Ingresses at one address do together.
#[derive(Default)]
struct Shared {
    names: Vec<(String, String)>,
    plain: Vec<Candidate>,
    secure: Vec<Candidate>,
    has_plain: bool,
    certificates: Vec<Arc<CertifiedKey>>,
    fallback: Option<Arc<Rule>>,
    /// What the first of them says of its clients.
    front: Front,
}

/// Adds what Ingresses do.
pub(super) fn route(cluster: &Cluster, backends: &mut Backends<'_>, routing: &mut Routing) {
    let objects = &cluster.ingress;
    let mut ingresses: Vec<&Arc<Ingress>> = objects.ingresses.iter().collect();
    // where several share an address, the oldest comes first
    ingresses.sort_by_key(|at| {
        let created = at.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created.is_none(), created)
    });
    let mut by_address: BTreeMap<IpAddr, Shared> = BTreeMap::new();
    for ingress in ingresses {
        routing.ingresses.push(Arc::clone(ingress));
        if !is_served(ingress, &objects.classes, &cluster.settings.gateway) {
            continue;
        }
        let (Some(spec), namespace) = (&ingress.spec, ingress.metadata.namespace.as_deref()) else {
            continue;
        };
        let namespace = namespace.unwrap_or_default();
        let front = Front::of(cluster, ingress, namespace);
        let observed = backends.observed;
        let mut reader = Reader { ingress, namespace, backends, remarks: &mut routing.remarks };
        let candidates = reader.rules(spec);
        let fallback = spec.default_backend.as_ref();
        let fallback = fallback.map(|backend| reader.rule("default backend", backend));
        let certificates = reader.certificates(cluster, observed, spec);
        let allows_http = annotation(ingress, ALLOW_HTTP) != Some("false");
        for address in addresses(ingress) {
            let shared = by_address.entry(address).or_default();
            let name = ingress.metadata.name.clone().unwrap_or_default();
            if shared.names.is_empty() {
                shared.front = front.clone();
            }
            shared.names.push((namespace.to_owned(), name));
            if allows_http {
                shared.has_plain = true;
                shared.plain.extend(candidates.iter().cloned());
            }
            shared.secure.extend(candidates.iter().cloned());
            shared.certificates.extend(certificates.iter().cloned());
            if shared.fallback.is_none() {
                shared.fallback.clone_from(&fallback);
            }
        }
    }
    for (address, shared) in by_address {
        shared.listen(address, routing);
    }
}

impl Shared {
    fn listen(self, address: IpAddr, routing: &mut Routing) {
        let Self { names, mut plain, secure, has_plain, certificates, fallback, front } = self;
        let Some((namespace, name)) = names.first().cloned() else { return };
        let called: Vec<_> = names.iter().map(|(ns, name)| format!("{ns}/{name}")).collect();
        let redirect = front.redirect.filter(|_| !certificates.is_empty());
        let of_plain = redirect.map(|redirect| {
            plain.clear();
            front::redirect(&called.join(", "), redirect)
        });
        let mut listen = |port, kind, candidates, certificates: Vec<_>, fallback| {
            let listener = Arc::new(Listener {
                name: format!("Ingress {}", called.join(", ")),
                owner: ("Ingress".to_owned(), namespace.clone(), name.clone()),
                hostname: HostPattern::Any,
                certificates,
                terms: front.terms.clone(),
                clients: None,
                identity: None,
                admitted: Vec::new(),
                serve: Serve::Http(RouteTable::of_ingresses(candidates, fallback)),
            });
            let same = |at: &&mut Socket| (at.address, at.port, at.kind) == (address, port, kind);
            match routing.sockets.iter_mut().find(same) {
                Some(socket) => socket.listeners.push(listener),
                None => {
                    routing.sockets.push(Socket { address, port, kind, listeners: vec![listener] });
                }
            }
        };
        if has_plain {
            let fallback = of_plain.or_else(|| fallback.clone());
            listen(80, SocketKind::Http, plain, Vec::new(), fallback);
        }
        if !certificates.is_empty() {
            listen(443, SocketKind::Tls, secure, certificates, fallback);
        }
    }
}

struct Reader<'r, 'c> {
    ingress: &'r Ingress,
    namespace: &'r str,
    backends: &'r mut Backends<'c>,
    remarks: &'r mut Vec<String>,
}

impl Reader<'_, '_> {
    fn called(&self) -> String {
        let name = self.ingress.metadata.name.as_deref().unwrap_or_default();
        format!("Ingress {}/{name}", self.namespace)
    }

    fn rules(&mut self, spec: &IngressSpec) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let created = self.ingress.metadata.creation_timestamp.as_ref();
        let created = created.map(|time| time.0.to_string());
        let name = self.ingress.metadata.name.clone().unwrap_or_default();
        for (at, rule) in spec.rules.iter().flatten().enumerate() {
            let host = HostPattern::of_ingress(rule.host.as_deref());
            let paths = rule.http.iter().flat_map(|http| &http.paths);
            for (of, path) in paths.enumerate() {
                let told = format!("{host}{}", path.path.as_deref().unwrap_or("/*"));
                candidates.push(Candidate {
                    host: host.clone(),
                    matching: Match { path: path_match(path), ..Match::default() },
                    rule: self.rule(&told, &path.backend),
                    age: (created.clone(), self.namespace.to_owned(), name.clone(), at, of),
                });
            }
        }
        candidates
    }

    fn rule(&mut self, told: &str, backend: &IngressBackend) -> Arc<Rule> {
        let name = format!("{}, {told}", self.called());
        let target = match self.backend(backend) {
            Ok(backend) => TargetBackend::Service(backend),
            Err(why) => {
                self.remarks.push(format!("{name}: {why}"));
                TargetBackend::Unusable(why)
            }
        };
        let target = Target { weight: 1, backend: target, filters: super::Filters::default() };
        Arc::new(Rule { name, targets: vec![target], ..Rule::default() })
    }

    fn backend(&mut self, backend: &IngressBackend) -> Result<Arc<super::Backend>, String> {
        let Some(service) = &backend.service else {
            return Err("backends other than Services are not known here".to_owned());
        };
        let port = service.port.as_ref();
        let port = match port.and_then(|port| port.name.as_deref()).filter(|at| !at.is_empty()) {
            Some(name) => PortRef::Name(name),
            None => PortRef::Number(port.and_then(|port| port.number).unwrap_or(0)),
        };
        self.backends.of(self.namespace, &service.name, port, BackendPart::Requests)
    }

    /// The certificates of an Ingress; those that cannot be used are told, and left out.
    fn certificates(
        &mut self,
        cluster: &Cluster,
        observed: &Observed,
        spec: &IngressSpec,
    ) -> Vec<Arc<CertifiedKey>> {
        let of_spec = spec.tls.iter().flatten().filter_map(|tls| tls.secret_name.as_deref());
        let shared = annotation(self.ingress, PRE_SHARED).unwrap_or_default().split(',');
        let shared = shared.map(str::trim);
        let mut certificates = Vec::new();
        for name in of_spec.chain(shared).filter(|name| !name.is_empty()) {
            match secret_certificate(cluster, self.namespace, name) {
                Ok(certified) => certificates.push(certified),
                Err(why) => self.remarks.push(format!("{}: {why}", self.called())),
            }
        }
        for name in managed_names(self.ingress) {
            let key = (self.namespace.to_owned(), name.to_owned());
            match observed.certificates.get(&key) {
                Some(issued) => certificates.push(Arc::clone(&issued.0)),
                None => self.remarks.push(format!(
                    "{}: the ManagedCertificate {}/{name} is not issued",
                    self.called(),
                    self.namespace
                )),
            }
        }
        certificates
    }
}

/// The names of the ManagedCertificates of an Ingress.
pub(crate) fn managed_names(ingress: &Ingress) -> impl Iterator<Item = &str> {
    let names = annotation(ingress, MANAGED).unwrap_or_default().split(',');
    names.map(str::trim).filter(|name| !name.is_empty())
}

/// Source: KEP-1453; for `ImplementationSpecific`, GKE, "Paths": `*` at the end of a path stands for
/// whatever follows a `/`, and no path at all for every path.
fn path_match(path: &HTTPIngressPath) -> PathMatch {
    let text = path.path.as_deref().unwrap_or("");
    match path.path_type.as_str() {
        "Exact" => PathMatch::Exact(text.to_owned()),
        "Prefix" => PathMatch::prefix(text),
        _ => match text.strip_suffix('*') {
            Some(begin) if begin.ends_with('/') => PathMatch::Begins(begin.to_owned()),
            _ if text.is_empty() => PathMatch::default(),
            _ => PathMatch::Exact(text.to_owned()),
        },
    }
}
