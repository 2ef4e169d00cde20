//! What is said of the clients of an Ingress or a Gateway.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;

use super::ingress::annotation;
use super::model::{Filters, Rule};
use super::policies::{is_for, named, oldest};
use super::redirect::Redirect;
use super::tls::TlsTerms;
use crate::Cluster;

/// The annotation of an Ingress that names its FrontendConfig.
///
/// Source: GKE, "Associating FrontendConfig with your Ingress".
pub(crate) const FRONTEND: &str = "networking.gke.io/v1beta1.FrontendConfig";

/// What is done with clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Front {
    /// The status with which those without TLS are sent to where it is.
    pub(super) redirect: Option<u16>,
    /// Which TLS is spoken.
    pub(super) terms: TlsTerms,
}

impl Front {
    /// What is said of an Ingress.
    pub(super) fn of(cluster: &Cluster, ingress: &Ingress, namespace: &str) -> Self {
        let objects = &cluster.ingress.policies;
        let name = annotation(ingress, FRONTEND);
        let config = name.and_then(|name| named(&objects.frontend_configs, namespace, name));
        let Some(config) = config else { return Self::default() };
        let redirect = config.spec.redirect_to_https.as_ref().filter(|at| at.enabled);
        let status = redirect.map(|at| match at.response_code_name.as_deref() {
            Some("FOUND") => 302,
            Some("SEE_OTHER") => 303,
            Some("TEMPORARY_REDIRECT") => 307,
            Some("PERMANENT_REDIRECT") => 308,
            _ => 301,
        });
        Self { redirect: status, terms: terms(cluster, config.spec.ssl_policy.as_deref()) }
    }
}

/// Which TLS the policies of a Gateway allow.
pub(super) fn of_gateway(cluster: &Cluster, namespace: &str, name: &str) -> TlsTerms {
    let policies = cluster.ingress.policies.gateway_policies.iter();
    let policy = oldest(policies.filter(|at| {
        at.metadata.namespace.as_deref() == Some(namespace)
            && is_for(&at.spec.target_ref, "Gateway", name)
    }));
    terms(cluster, policy.and_then(|policy| policy.spec.default.ssl_policy.as_deref()))
}

/// Source: Google Cloud: SSL policies are of a project, not of a namespace.
fn terms(cluster: &Cluster, name: Option<&str>) -> TlsTerms {
    let all = cluster.ingress.policies.ssl_policies.iter();
    let found = name.and_then(|name| {
        let mut found = all.filter(|at| {
            at.metadata.name.as_deref() == Some(name)
                || at.spec.resource_id.as_deref() == Some(name)
        });
        found.next()
    });
    found.map(|policy| TlsTerms::new(policy)).unwrap_or_default()
}

/// The rule that sends clients to where TLS is.
pub(super) fn redirect(called: &str, status: u16) -> Arc<Rule> {
    let to = Redirect { scheme: Some("https".to_owned()), status, ..Redirect::default() };
    Arc::new(Rule {
        name: format!("Ingress {called}, redirect to HTTPS"),
        filters: Filters { redirect: Some(to), ..Filters::default() },
        ..Rule::default()
    })
}
