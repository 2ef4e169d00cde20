//! Policies that attach to Gateways and to the Services behind them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};

use super::backend::{Draining, Named};
use crate::resource::resource;

resource!(
    /// What Gateways do with requests to a Service.
    GcpBackendPolicy, "GCPBackendPolicy", "networking.gke.io", "v1", "gcpbackendpolicies",
    NamespaceResourceScope, GcpBackendPolicySpec, PolicyStatus
);
resource!(
    /// What a Gateway does with clients.
    GcpGatewayPolicy, "GCPGatewayPolicy", "networking.gke.io", "v1", "gcpgatewaypolicies",
    NamespaceResourceScope, GcpGatewayPolicySpec, PolicyStatus
);
resource!(
    /// How Gateways check the places of a Service.
    HealthCheckPolicy, "HealthCheckPolicy", "networking.gke.io", "v1", "healthcheckpolicies",
    NamespaceResourceScope, HealthCheckPolicySpec, PolicyStatus
);

/// What has become of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatus {
    /// `Attached`.
    pub conditions: Vec<Condition>,
}

/// What a policy attaches to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetRef {
    /// Its group; empty: the core group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace; `None`: that of the policy, which it has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// What a [`GcpBackendPolicy`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GcpBackendPolicySpec {
    /// What is done.
    pub default: BackendPolicyDefault,
    /// For which Service.
    pub target_ref: TargetRef,
}

/// What is done with requests to a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendPolicyDefault {
    /// Seconds that a backend may be silent; `None`: 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_sec: Option<i64>,
    /// How places that go may finish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_draining: Option<Draining>,
    /// How clients stay with their place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<PolicyAffinity>,
    /// The name of a `ComputeSecurityPolicy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_policy: Option<String>,
    /// Whether clients have to say who they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iap: Option<PolicyIap>,
    /// Which requests are noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<PolicyLogging>,
}

/// How clients stay with their place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyAffinity {
    /// `NONE`, `CLIENT_IP`, `GENERATED_COOKIE` or `HEADER_FIELD`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Seconds for which clients keep the cookie; `None` or 0: until they end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie_ttl_sec: Option<i64>,
}

/// Whether clients have to say who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyIap {
    /// Whether they have to.
    pub enabled: bool,
    /// The Secret of who vouches for them.
    #[serde(rename = "oauth2ClientSecret", skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Named>,
    /// What they are called there.
    #[serde(rename = "clientID", skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

/// Which requests are noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyLogging {
    /// Whether any are.
    pub enabled: bool,
    /// So many of a million; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<i64>,
}

/// What a [`GcpGatewayPolicy`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GcpGatewayPolicySpec {
    /// What is done.
    pub default: GatewayPolicyDefault,
    /// By which Gateway.
    pub target_ref: TargetRef,
}

/// What is done with clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayPolicyDefault {
    /// The name of a `ComputeSSLPolicy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_policy: Option<String>,
    /// Whether clients of other regions may ask; a lab has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_global_access: Option<bool>,
}

/// What a [`HealthCheckPolicy`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCheckPolicySpec {
    /// What is done.
    pub default: HealthDefault,
    /// For which Service.
    pub target_ref: TargetRef,
}

/// How the places of a Service are checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthDefault {
    /// Seconds from one check to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_interval_sec: Option<i64>,
    /// Seconds that an answer may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_sec: Option<i64>,
    /// Good answers in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_threshold: Option<i64>,
    /// Bad ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_threshold: Option<i64>,
    /// Whether checks are noted; without an effect here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_config: Option<serde_json::Value>,
    /// What is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<HealthCheckKind>,
}

/// What is asked of a place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCheckKind {
    /// `HTTP`, `HTTPS`, `HTTP2`, `TCP` or `GRPC`.
    #[serde(rename = "type")]
    pub type_: String,
    /// With `HTTP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_health_check: Option<HttpHealthCheck>,
    /// With `HTTPS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_health_check: Option<HttpHealthCheck>,
    /// With `HTTP2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http2_health_check: Option<HttpHealthCheck>,
    /// With `TCP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_health_check: Option<TcpHealthCheck>,
}

/// What is asked of a place over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpHealthCheck {
    /// `USE_FIXED_PORT` or `USE_SERVING_PORT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_specification: Option<String>,
    /// The port, if it is another than the one that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
    /// The `Host` that is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path that must answer 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_path: Option<String>,
}

/// What is asked of a place by connecting to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpHealthCheck {
    /// `USE_FIXED_PORT` or `USE_SERVING_PORT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_specification: Option<String>,
    /// The port, if it is another than the one that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
}
