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
    /// `allow`, `deny(403)`, `deny(404)`, `deny(502)`, `redirect`, `throttle` or `rate_based_ban`.
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
    /// How many requests clients may send, with `throttle` and `rate_based_ban`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_options: Option<RateLimitOptions>,
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
    /// A condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expr: Option<SecurityExpression>,
}

/// A condition that clients meet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecurityExpression {
    /// In the language of Cloud Armor's rules.
    pub expression: String,
}

/// How many requests a client may send.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RateLimitOptions {
    /// `allow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conform_action: Option<String>,
    /// What becomes of those beyond: `deny(403)`, `deny(404)`, `deny(429)`, `deny(502)` or
    /// `redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exceed_action: Option<String>,
    /// Where they are sent, with `redirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exceed_redirect_options: Option<RedirectOptions>,
    /// What tells clients apart: `ALL` (the default), `IP`, `HTTP_HEADER` and others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforce_on_key: Option<String>,
    /// The name of the field or cookie that does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforce_on_key_name: Option<String>,
    /// Several of these together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub enforce_on_key_configs: Vec<RateLimitKey>,
    /// How many of a client's requests are let through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_threshold: Option<RateLimitThreshold>,
    /// How many may be beyond that before the client is banned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ban_threshold: Option<RateLimitThreshold>,
    /// For how many seconds it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ban_duration_sec: Option<i64>,
}

/// What tells clients apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RateLimitKey {
    /// As `enforceOnKey`.
    pub enforce_on_key_type: String,
    /// As `enforceOnKeyName`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforce_on_key_name: Option<String>,
}

/// A number of requests in a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RateLimitThreshold {
    /// The number.
    pub count: i64,
    /// The time, in seconds.
    pub interval_sec: i64,
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
