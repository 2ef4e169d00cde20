//! `ManagedCertificate`: certificates that are issued for names.

use serde::{Deserialize, Serialize};

use crate::resource::resource;

resource!(
    /// A certificate that is issued for names, here by the lab's own authority.
    ManagedCertificate, "ManagedCertificate", "networking.gke.io", "v1", "managedcertificates",
    NamespaceResourceScope, ManagedCertificateSpec, ManagedCertificateStatus
);

/// What a [`ManagedCertificate`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedCertificateSpec {
    /// The names.
    pub domains: Vec<String>,
}

/// What has become of a [`ManagedCertificate`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedCertificateStatus {
    /// What the certificate is called.
    pub certificate_name: String,
    /// `Active` or `Provisioning`.
    pub certificate_status: String,
    /// By name.
    pub domain_status: Vec<DomainStatus>,
}

/// What has become of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DomainStatus {
    /// The name.
    pub domain: String,
    /// `Active` or `Provisioning`.
    pub status: String,
}
