//! TLS between load balancers and Services, as BackendTLSPolicies have it.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::condition::condition;
use super::model::{Backend, BackendProtocol, Routing, Rule, Serve, TargetBackend};
use super::objects::PolicyObjects;
use super::policies::{named, oldest};
use super::tls::BackendTls;
use crate::GatewaySettings;
use crate::gateway_api::{
    BackendTlsPolicy, GROUP, ParentReference, PolicyAncestorStatus, PolicyStatus, TlsTarget,
};

/// The file of a ConfigMap with the certificates that are trusted.
///
/// Source: Gateway API, `BackendTLSPolicyValidation.caCertificateRefs`.
pub(super) const CA: &str = "ca.crt";

/// Why a policy cannot be followed: the reasons of `Accepted` and `ResolvedRefs`, and a sentence.
type Problem = (&'static str, &'static str, String);

/// Which TLS a policy asks for.
fn read(objects: &PolicyObjects, policy: &BackendTlsPolicy) -> Result<BackendTls, Problem> {
    let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
    let validation = &policy.spec.validation;
    let mut texts = Vec::new();
    let mut problem = None;
    for reference in &validation.ca_certificate_refs {
        if reference.kind != "ConfigMap" || !matches!(reference.group.as_str(), "" | "core") {
            let message = format!("certificates of the kind {} are not known here", reference.kind);
            problem = Some(("NoValidCACertificate", "InvalidKind", message));
            continue;
        }
        let found = named(&objects.config_maps, namespace, &reference.name);
        let text = found.and_then(|found| found.data.as_ref()?.get(CA));
        match text {
            Some(text) if BackendTls::new("", Vec::new(), Some(&[text])).is_ok() => {
                texts.push(text.as_str());
            }
            _ => {
                let name = &reference.name;
                let message = format!("there is no certificate in `{CA}` of the ConfigMap {name}");
                problem = Some(("NoValidCACertificate", "InvalidCACertificateRef", message));
            }
        }
    }
    let is_system = validation.ca_certificate_refs.is_empty();
    if let Some(problem) = problem.filter(|_| texts.is_empty()) {
        return Err(problem);
    }
    if is_system && validation.well_known.as_deref().is_some_and(|word| word != "System") {
        let message = "only the certificates of the system are known by name";
        return Err(("Invalid", "ResolvedRefs", message.to_owned()));
    }
    let names = validation.alt_names.iter();
    let names = names.filter_map(|at| at.hostname.clone().or_else(|| at.uri.clone())).collect();
    BackendTls::new(&validation.hostname, names, (!is_system).then_some(&texts))
        .map_err(|why| ("NoValidCACertificate", "InvalidCACertificateRef", why.to_owned()))
}

/// Whether a policy is for a port of a Service, or for all of it.
fn target<'p>(
    policy: &'p BackendTlsPolicy,
    name: &str,
    port: Option<&str>,
) -> Option<&'p TlsTarget> {
    policy.spec.target_refs.iter().find(|target| {
        let is_it = target.kind == "Service" && matches!(target.group.as_str(), "" | "core");
        is_it && target.name == name && target.section_name.as_deref() == port
    })
}

/// The policy that holds for a port of a Service: that for the port, else that for all of it.
fn holding<'o>(
    objects: &'o PolicyObjects,
    namespace: &str,
    name: &str,
    port: Option<&str>,
) -> Option<&'o Arc<BackendTlsPolicy>> {
    let of = |port: Option<&str>| {
        oldest(objects.backend_tls.iter().filter(|policy| {
            policy.metadata.namespace.as_deref() == Some(namespace)
                && target(policy, name, port).is_some()
        }))
    };
    port.filter(|port| !port.is_empty()).and_then(|port| of(Some(port))).or_else(|| of(None))
}

/// Does with a backend what its policy says.
pub(super) fn settle(objects: &PolicyObjects, port: &ServicePort, backend: &mut Backend) {
    let key = &backend.key;
    let policy = holding(objects, &key.namespace, &key.service, port.name.as_deref());
    let Some(policy) = policy else { return };
    match read(objects, policy) {
        Ok(tls) => {
            backend.policy.tls = Some(Arc::new(tls));
            backend.protocol = match backend.protocol {
                BackendProtocol::Http1 | BackendProtocol::Https => BackendProtocol::Https,
                BackendProtocol::H2c | BackendProtocol::Http2 => BackendProtocol::Http2,
            };
        }
        Err((_, _, message)) => backend.policy.unusable = Some(message),
    }
}

/// Says of every policy what has become of it, at each Gateway that leads to what it is for.
pub(super) fn status(objects: &PolicyObjects, routing: &mut Routing) {
    let mut ways: BTreeSet<(String, String, String, String)> = BTreeSet::new();
    for listener in routing.sockets.iter().flat_map(|socket| &socket.listeners) {
        let (kind, namespace, name) = &listener.owner;
        if kind != "Gateway" {
            continue;
        }
        let mut add = |rule: &Rule| {
            for target in &rule.targets {
                if let TargetBackend::Service(backend) = &target.backend {
                    let key = &backend.key;
                    let service = (key.namespace.clone(), key.service.clone());
                    ways.insert((service.0, service.1, namespace.clone(), name.clone()));
                }
            }
        };
        match &listener.serve {
            Serve::Http(table) => table.rules().for_each(|(_, _, rule)| add(rule)),
            Serve::Stream(rules) | Serve::Passthrough(rules) => {
                rules.iter().for_each(|(_, rule)| add(rule));
            }
        }
    }
    for policy in &objects.backend_tls {
        let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
        let is_target = |service: &str| {
            policy.spec.target_refs.iter().any(|at| at.kind == "Service" && at.name == service)
        };
        let gateways: BTreeSet<_> = ways
            .iter()
            .filter(|(of, service, ..)| of == namespace && is_target(service))
            .map(|(_, _, namespace, name)| (namespace, name))
            .collect();
        let conditions = conditions(objects, policy);
        let ancestors = gateways.into_iter().map(|(namespace, name)| PolicyAncestorStatus {
            ancestor_ref: ParentReference {
                group: Some(GROUP.to_owned()),
                kind: Some("Gateway".to_owned()),
                namespace: Some(namespace.clone()),
                name: name.clone(),
                ..ParentReference::default()
            },
            controller_name: GatewaySettings::GATEWAY_CONTROLLER.to_owned(),
            conditions: conditions.clone(),
        });
        let status = PolicyStatus { ancestors: ancestors.collect() };
        let mut policy = policy.as_ref().clone();
        policy.status = Some(status);
        routing.backend_tls.push(Arc::new(policy));
    }
}

fn conditions(objects: &PolicyObjects, policy: &Arc<BackendTlsPolicy>) -> Vec<Condition> {
    let generation = policy.metadata.generation;
    let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
    let is_beaten = policy.spec.target_refs.iter().all(|at| {
        let same = objects.backend_tls.iter().filter(|other| {
            other.metadata.namespace.as_deref() == Some(namespace)
                && target(other, &at.name, at.section_name.as_deref()).is_some()
        });
        oldest(same).is_some_and(|first| !Arc::ptr_eq(first, policy))
    });
    let resolved = |reason, message: &str| {
        condition("ResolvedRefs", reason == "ResolvedRefs", reason, message, generation)
    };
    match read(objects, policy) {
        Err((accepted, refs, message)) => vec![
            condition("Accepted", false, accepted, message.as_str(), generation),
            resolved(refs, &message),
        ],
        Ok(_) if is_beaten => {
            let message = "another policy for the same is older";
            vec![
                condition("Accepted", false, "Conflicted", message, generation),
                resolved("ResolvedRefs", ""),
            ]
        }
        Ok(_) => vec![
            condition("Accepted", true, "Accepted", "", generation),
            resolved("ResolvedRefs", ""),
        ],
    }
}
