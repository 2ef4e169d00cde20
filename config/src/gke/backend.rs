//! `BackendConfig`: what Ingresses do with requests to a Service.

use serde::{Deserialize, Serialize};

use crate::resource::resource;

resource!(
    /// What Ingresses do with requests to the Services that name it.
    BackendConfig, "BackendConfig", "cloud.google.com", "v1", "backendconfigs",
    NamespaceResourceScope, BackendConfigSpec, serde_json::Value
);

/// What a [`BackendConfig`] says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendConfigSpec {
    /// Seconds that a backend may be silent; `None`: 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_sec: Option<i64>,
    /// How places that go may finish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_draining: Option<Draining>,
    /// How clients stay with their place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<Affinity>,
    /// Which clients are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_policy: Option<Named>,
    /// What is kept to answer again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cdn: Option<Cdn>,
    /// Whether clients have to say who they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iap: Option<Iap>,
    /// Fields that are added to requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_request_headers: Option<Headers>,
    /// Fields that are added to answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_response_headers: Option<Headers>,
    /// Which requests are noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// How places are checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
}

/// How places that go may finish.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Draining {
    /// Seconds, at most an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draining_timeout_sec: Option<i64>,
}

/// How clients stay with their place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Affinity {
    /// `NONE`, `CLIENT_IP`, `GENERATED_COOKIE` or `HEADER_FIELD`.
    pub affinity_type: String,
    /// Seconds for which clients keep the cookie; `None` or 0: until they end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity_cookie_ttl_sec: Option<i64>,
}

/// An object that is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Named {
    /// Its name; empty: none.
    pub name: String,
}

/// What is kept to answer again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cdn {
    /// Whether anything is.
    pub enabled: bool,
    /// `CACHE_ALL_STATIC` (the default), `USE_ORIGIN_HEADERS` or `FORCE_CACHE_ALL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_mode: Option<String>,
    /// What tells requests apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_policy: Option<CacheKey>,
    /// Requests that are always passed on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bypass_cache_on_request_headers: Vec<Bypass>,
    /// Seconds for which clients may keep answers, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ttl: Option<i64>,
    /// Seconds for which answers that do not say so are kept; `None`: an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_ttl: Option<i64>,
    /// Seconds for which answers are kept at most; `None`: a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<i64>,
    /// Whether failures are kept too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_caching: Option<bool>,
    /// For how long.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub negative_caching_policy: Vec<CacheNegative>,
    /// Whether requests for the same wait for the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_coalescing: Option<bool>,
    /// Seconds for which answers that are too old are given while a new one is fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serve_while_stale: Option<i64>,
}

/// What tells requests apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CacheKey {
    /// The host; `None`: no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_host: Option<bool>,
    /// `http` or `https`; `None`: no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_protocol: Option<bool>,
    /// The query; `None`: no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_query_string: Option<bool>,
    /// All parameters of the query but these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query_string_blacklist: Vec<String>,
    /// These parameters of the query.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query_string_whitelist: Vec<String>,
}

/// Requests that are always passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bypass {
    /// Those that have this field.
    pub header_name: String,
}

/// For how long a failure is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CacheNegative {
    /// Its status.
    pub code: i64,
    /// Seconds.
    pub ttl: i64,
}

/// Whether clients have to say who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Iap {
    /// Whether they have to.
    pub enabled: bool,
    /// Who vouches for them.
    #[serde(rename = "oauthclientCredentials", skip_serializing_if = "Option::is_none")]
    pub client: Option<IapClient>,
}

/// Who vouches for clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IapClient {
    /// The Secret with `client_id` and `client_secret`.
    pub secret_name: String,
}

/// Fields that are added to heads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Headers {
    /// Each as `name:value`; the value may have variables, as in `{client_ip_address}`.
    pub headers: Vec<String>,
}

/// Which requests are noted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Logging {
    /// Whether any are.
    pub enable: bool,
    /// The part of them, from 0 to 1; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<f64>,
}

/// How places are checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCheck {
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
    /// `HTTP`, `HTTPS` or `HTTP2`; `None`: that of the backend.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// The path that must answer 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_path: Option<String>,
    /// The port, if it is another than the one that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
}
