//! The lab's own authority: what it issues for ManagedCertificates, and who is told to trust it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kswitch_config::gke::{DomainStatus, ManagedCertificate, ManagedCertificateStatus};
use kswitch_config::routing::{Issued, certificate};
use kswitch_config::{Cluster, PortKind};

use crate::agents::proxy::authority::Authority;
use crate::lab::etc;

/// A ManagedCertificate, by namespace and name.
type Name = (String, String);

/// The lab's authority, and what it has issued.
#[derive(Debug, Default)]
pub(super) struct Issuing {
    authority: Option<Authority>,
    issued: BTreeMap<Name, (Vec<String>, Issued)>,
    /// Namespaces in which it is trusted.
    trusting: BTreeSet<String>,
}

impl Issuing {
    /// Issues what is wanted and not there, and forgets what is not wanted; says what cannot be.
    pub(super) fn keep(&mut self, cluster: &Cluster) -> Vec<String> {
        let wanted = &cluster.ingress.policies.managed;
        self.issued.retain(|name, (domains, _)| {
            wanted.iter().any(|at| name_of(at) == *name && at.spec.domains == *domains)
        });
        let mut problems = Vec::new();
        for object in wanted {
            let (name, domains) = (name_of(object), &object.spec.domains);
            if self.issued.contains_key(&name) {
                continue;
            }
            match self.issue(&cluster.settings.lab.name, domains) {
                Ok(issued) => {
                    self.issued.insert(name, (domains.clone(), issued));
                }
                Err(error) => {
                    let (namespace, name) = name;
                    problems.push(format!("ManagedCertificate {namespace}/{name}: {error}"));
                }
            }
        }
        problems.extend(self.trust(cluster));
        problems
    }

    fn issue(&mut self, lab: &str, domains: &[String]) -> Result<Issued, String> {
        if self.authority.is_none() {
            self.authority = Some(Authority::new(lab).map_err(|error| error.to_string())?);
        }
        let Some(authority) = &self.authority else { return Err("no authority".to_owned()) };
        let issued = authority.issue(domains).map_err(|error| error.to_string())?;
        let text = BTreeMap::from([
            ("tls.crt".to_owned(), issued.certificate),
            ("tls.key".to_owned(), issued.key),
        ]);
        let secret = Secret { string_data: Some(text), ..Secret::default() };
        certificate(&secret).map(Issued).map_err(|refused| refused.message)
    }

    /// Tells hosts outside and pods whom to trust, once there is something to be trusted.
    fn trust(&mut self, cluster: &Cluster) -> Vec<String> {
        let Some(authority) = &self.authority else { return Vec::new() };
        let lab = &cluster.settings.lab.name;
        let is_proxy = |name: &str| cluster.proxies.iter().any(|proxy| proxy.name == name);
        let outside = cluster.externals.iter().filter(|host| !is_proxy(&host.name));
        let outside = outside.map(|host| PortKind::External { name: host.name.clone() });
        let wanted: BTreeSet<String> = outside.map(|kind| kind.namespace(lab)).collect();
        self.trusting.retain(|namespace| wanted.contains(namespace));
        let mut problems = Vec::new();
        for namespace in wanted {
            if self.trusting.contains(&namespace) {
                continue;
            }
            match etc::trust(lab, &namespace, authority.certificate()) {
                Ok(()) => {
                    self.trusting.insert(namespace);
                }
                Err(error) => problems.push(error.to_string()),
            }
        }
        problems
    }

    /// What was issued, for those who route.
    pub(super) fn certificates(&self) -> BTreeMap<Name, Issued> {
        self.issued.iter().map(|(name, (_, issued))| (name.clone(), issued.clone())).collect()
    }

    /// The certificate of the authority, in PEM; `None` while it has issued nothing.
    pub(super) fn authority(&self) -> Option<&str> {
        self.authority.as_ref().map(Authority::certificate)
    }

    /// The ManagedCertificates with what has become of them.
    pub(super) fn objects(&self, cluster: &Cluster) -> Vec<Arc<ManagedCertificate>> {
        let all = cluster.ingress.policies.managed.iter();
        all.map(|object| {
            let is_there = self.issued.contains_key(&name_of(object));
            let word = if is_there { "Active" } else { "Provisioning" };
            let domain =
                |domain: &String| DomainStatus { domain: domain.clone(), status: word.to_owned() };
            let (namespace, name) = name_of(object);
            let mut object = object.as_ref().clone();
            object.status = Some(ManagedCertificateStatus {
                certificate_name: format!("mcrt-{namespace}-{name}"),
                certificate_status: word.to_owned(),
                domain_status: object.spec.domains.iter().map(domain).collect(),
            });
            Arc::new(object)
        })
        .collect()
    }
}

fn name_of(object: &ManagedCertificate) -> Name {
    let metadata = &object.metadata;
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}
