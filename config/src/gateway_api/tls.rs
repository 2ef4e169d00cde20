//! What a Gateway asks of its clients, and shows to Services, in TLS.

use serde::{Deserialize, Serialize};

use super::route::ObjectReference;

/// TLS of a Gateway on either side of it.
///
/// Source: Gateway API, `GatewayTLSConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayTlsSides {
    /// With Services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<GatewayBackendTls>,
    /// With clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frontend: Option<FrontendTls>,
}

/// TLS with Services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayBackendTls {
    /// The Secret with the certificate that is shown to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<ObjectReference>,
}

/// TLS with clients of listeners of the protocol `HTTPS`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FrontendTls {
    /// On ports that are not named below.
    #[serde(rename = "default")]
    pub usual: FrontendTlsTerms,
    /// On certain ports instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_port: Vec<PortTls>,
}

/// What is asked of clients on a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortTls {
    /// The port.
    pub port: i32,
    /// What is asked.
    pub tls: FrontendTlsTerms,
}

/// What is asked of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FrontendTlsTerms {
    /// A certificate; `None`: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<FrontendValidation>,
}

/// Which certificates of clients are good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FrontendValidation {
    /// ConfigMaps with the certificates of those who vouch for them.
    pub ca_certificate_refs: Vec<ObjectReference>,
    /// `AllowValidOnly` (the default) or `AllowInsecureFallback`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}
