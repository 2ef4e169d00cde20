//! `FrontendConfig`: what an Ingress does with clients.

use serde::{Deserialize, Serialize};

use crate::resource::resource;

resource!(
    /// What the Ingresses that name it do with clients.
    FrontendConfig, "FrontendConfig", "networking.gke.io", "v1beta1", "frontendconfigs",
    NamespaceResourceScope, FrontendConfigSpec, serde_json::Value
);

/// What a [`FrontendConfig`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FrontendConfigSpec {
    /// The name of a `ComputeSSLPolicy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_policy: Option<String>,
    /// Whether clients without TLS are sent to where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_to_https: Option<RedirectToHttps>,
}

/// Whether clients without TLS are sent to where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RedirectToHttps {
    /// Whether they are.
    pub enabled: bool,
    /// `MOVED_PERMANENTLY_DEFAULT` (the default), `FOUND`, `SEE_OTHER`, `TEMPORARY_REDIRECT` or
    /// `PERMANENT_REDIRECT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_code_name: Option<String>,
}
