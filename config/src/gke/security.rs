//! Which clients load balancers refuse, and which versions of TLS they speak.

use serde::{Deserialize, Serialize};

use crate::resource::resource;

resource!(
    /// Which clients are refused by backends that name it.
    SecurityPolicy, "ComputeSecurityPolicy", "compute.cnrm.cloud.google.com", "v1beta1",
    "computesecuritypolicies", NamespaceResourceScope, SecurityPolicySpec, serde_json::Value
);

/// What a [`SecurityPolicy`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecurityPolicySpec {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `CLOUD_ARMOR` (the default).
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Its name, where it is not the object's.
    #[serde(rename = "resourceID", skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// Its rules; the one of the lowest priority that a client matches holds.
    #[serde(rename = "rule")]
    pub rules: Vec<SecurityRule>,
}

/// What is done with some clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecurityRule {
    /// `allow`, `deny(403)`, `deny(404)`, `deny(502)` or `redirect`.
    pub action: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// From 0 to 2147483647, which is the rule for all others.
    pub priority: i64,
    /// Whether it is only noted, and done nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<bool>,
    /// Which clients.
    #[serde(rename = "match")]
    pub clients: SecurityMatch,
    /// Where clients are sent, with `redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_options: Option<RedirectOptions>,
}

/// Which clients a rule is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecurityMatch {
    /// `SRC_IPS_V1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versioned_expr: Option<String>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<SecurityConfig>,
    /// A condition in the language of Cloud Armor, which is not known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expr: Option<serde_json::Value>,
}

/// From where clients come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecurityConfig {
    /// Ranges of addresses; `*`: anywhere.
    pub src_ip_ranges: Vec<String>,
}

/// Where clients are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RedirectOptions {
    /// `EXTERNAL_302`.
    #[serde(rename = "type")]
    pub type_: String,
    /// The address of a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

resource!(
    /// Which versions of TLS are spoken by those who name it.
    SslPolicy, "ComputeSSLPolicy", "compute.cnrm.cloud.google.com", "v1beta1",
    "computesslpolicies", NamespaceResourceScope, SslPolicySpec, serde_json::Value
);

/// What a [`SslPolicy`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SslPolicySpec {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `TLS_1_0` (the default), `TLS_1_1`, `TLS_1_2` or `TLS_1_3`; here nothing below 1.2 is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tls_version: Option<String>,
    /// `COMPATIBLE` (the default), `MODERN`, `RESTRICTED` or `CUSTOM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Its name, where it is not the object's.
    #[serde(rename = "resourceID", skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// Names of cipher suites, with `CUSTOM`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub custom_features: Vec<String>,
}
