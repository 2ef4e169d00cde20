//! Which certificates a Gateway wants to see of clients, and which one it shows to Services.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;

use super::attach::Grants;
use super::backend_tls::CA;
use super::listener::certificate_of;
use super::policies::named;
use super::tls::BackendTls;
use crate::Cluster;
use crate::gateway_api::{FrontendTls, FrontendValidation, Gateway, ObjectReference};

/// A reference that cannot be used: the reason of `ResolvedRefs`, and what is wrong.
pub(super) type Problem = (&'static str, String);

/// What is asked of the clients of a port.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients {
    /// Who vouches for them; `None`: they need no certificate.
    pub(super) roots: Option<Arc<RootCertStore>>,
    /// What of it cannot be had.
    pub(super) problem: Option<Problem>,
    /// Whether nobody is left who could vouch for any.
    pub(super) is_hopeless: bool,
}

/// What holds on a port.
///
/// Source: Gateway API, `FrontendTLSConfig.perPort`: in place of what holds elsewhere.
fn validation(frontend: &FrontendTls, port: i32) -> Option<&FrontendValidation> {
    let of_port = frontend.per_port.iter().find(|at| at.port == port).map(|at| &at.tls);
    of_port.unwrap_or(&frontend.usual).validation.as_ref()
}

fn is_lenient(validation: &FrontendValidation) -> bool {
    validation.mode.as_deref() == Some("AllowInsecureFallback")
}

/// What a Gateway asks of the clients of a port.
///
/// Source: Gateway API, `FrontendTLSValidation`.
pub(super) fn clients(
    cluster: &Cluster,
    grants: &Grants<'_>,
    gateway: &Gateway,
    port: i32,
) -> Clients {
    let frontend = gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref());
    let Some(validation) = frontend.and_then(|frontend| validation(frontend, port)) else {
        return Clients::default();
    };
    let namespace = gateway.metadata.namespace.as_deref().unwrap_or_default();
    let mut texts = Vec::new();
    let mut problem = None;
    for reference in &validation.ca_certificate_refs {
        match authority(cluster, grants, namespace, reference) {
            Ok(text) => texts.push(text),
            Err(wrong) => problem = Some(wrong),
        }
    }
    let trusted = BackendTls::new("", Vec::new(), Some(&texts)).ok().and_then(|tls| tls.roots);
    let is_hopeless = texts.is_empty();
    // with a fallback anybody gets in, so that nobody need show anything
    let roots = trusted.filter(|_| !is_hopeless && !is_lenient(validation));
    Clients { roots, problem, is_hopeless }
}

/// The certificate of someone who vouches for clients.
fn authority<'c>(
    cluster: &'c Cluster,
    grants: &Grants<'_>,
    namespace: &str,
    reference: &ObjectReference,
) -> Result<&'c str, Problem> {
    let kind = reference.kind.as_deref().unwrap_or("ConfigMap");
    if !matches!(reference.group.as_deref(), None | Some("" | "core")) || kind != "ConfigMap" {
        let message = format!("certificates of the kind {kind} are not known here");
        return Err(("InvalidCACertificateKind", message));
    }
    let of = reference.namespace.as_deref().unwrap_or(namespace);
    let name = &reference.name;
    if !grants.permit(("Gateway", namespace), ("", "ConfigMap"), of, name) {
        let message =
            format!("no ReferenceGrant in {of} lets Gateways refer to the ConfigMap {name}");
        return Err(("RefNotPermitted", message));
    }
    let found = named(&cluster.ingress.policies.config_maps, of, name);
    let text = found.and_then(|found| found.data.as_ref()?.get(CA)).map(String::as_str);
    text.filter(|text| BackendTls::new("", Vec::new(), Some(&[text])).is_ok()).ok_or_else(|| {
        let message = format!("there is no certificate in `{CA}` of the ConfigMap {of}/{name}");
        ("InvalidCACertificateRef", message)
    })
}

/// Whether a Gateway lets in, somewhere, whoever shows nothing or anything.
pub(super) fn falls_back(gateway: &Gateway) -> bool {
    let frontend = gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref());
    frontend.is_some_and(|frontend| {
        let of_ports = frontend.per_port.iter().map(|at| &at.tls);
        let mut all = std::iter::once(&frontend.usual).chain(of_ports);
        all.any(|terms| terms.validation.as_ref().is_some_and(is_lenient))
    })
}

/// The certificate that a Gateway shows to Services; `None`: it shows none.
///
/// Source: Gateway API, `GatewayBackendTLS.clientCertificateRef`.
pub(super) fn identity(
    cluster: &Cluster,
    grants: &Grants<'_>,
    gateway: &Gateway,
) -> Option<Result<Arc<CertifiedKey>, Problem>> {
    let backend = gateway.spec.tls.as_ref()?.backend.as_ref()?;
    let reference = backend.client_certificate_ref.as_ref()?;
    let namespace = gateway.metadata.namespace.as_deref().unwrap_or_default();
    Some(certificate_of(cluster, grants, ("Gateway", namespace), reference).map_err(
        |(reason, message)| match reason {
            "InvalidCertificateRef" => ("InvalidClientCertificateRef", message),
            _ => (reason, message),
        },
    ))
}
