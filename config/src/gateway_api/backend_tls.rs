//! How load balancers speak TLS with Services.

use serde::{Deserialize, Serialize};

use super::resource::resource;
use super::route::LocalReference;
use super::status::PolicyStatus;

resource!(
    /// How load balancers speak TLS with Services.
    BackendTlsPolicy, "BackendTLSPolicy", "v1", "backendtlspolicies", NamespaceResourceScope,
    BackendTlsPolicySpec, PolicyStatus
);

/// What a [`BackendTlsPolicy`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendTlsPolicySpec {
    /// For which Services.
    pub target_refs: Vec<TlsTarget>,
    /// What their certificates have to be.
    pub validation: BackendTlsValidation,
    /// Further options of the implementation; none are known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<serde_json::Value>,
}

/// A Service, or a port of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsTarget {
    /// Its group; empty: the core group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The name of a port; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// What certificates of backends have to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendTlsValidation {
    /// ConfigMaps whose `ca.crt` has the certificates that are trusted.
    #[serde(rename = "caCertificateRefs", skip_serializing_if = "Vec::is_empty")]
    pub ca_certificate_refs: Vec<LocalReference>,
    /// `System`: those that this machine trusts.
    #[serde(rename = "wellKnownCACertificates", skip_serializing_if = "Option::is_none")]
    pub well_known: Option<String>,
    /// The name that is asked for by SNI, and that the certificate has to be for.
    pub hostname: String,
    /// Names one of which the certificate has to be for instead.
    #[serde(rename = "subjectAltNames", skip_serializing_if = "Vec::is_empty")]
    pub alt_names: Vec<AltName>,
}

/// A name that a certificate is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AltName {
    /// `Hostname` or `URI`.
    #[serde(rename = "type")]
    pub type_: String,
    /// With `Hostname`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// With `URI`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}
