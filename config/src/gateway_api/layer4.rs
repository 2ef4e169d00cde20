//! Routes of connections and datagrams.

use serde::{Deserialize, Serialize};

use super::resource::resource;
use super::route::{BackendReference, ParentReference};
use super::status::RouteStatus;

resource!(
    /// Where TCP connections go.
    TcpRoute, "TCPRoute", "v1alpha2", "tcproutes", NamespaceResourceScope, TcpRouteSpec, RouteStatus
);
resource!(
    /// Where UDP datagrams go.
    UdpRoute, "UDPRoute", "v1alpha2", "udproutes", NamespaceResourceScope, UdpRouteSpec, RouteStatus
);
resource!(
    /// Where TLS connections go, by the name their client asks for.
    TlsRoute, "TLSRoute", "v1", "tlsroutes", NamespaceResourceScope, TlsRouteSpec, RouteStatus
);

/// What a [`TcpRoute`] says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRouteSpec {
    /// Where it wants to attach.
    pub parent_refs: Vec<ParentReference>,
    /// Where connections go; only the first can be met.
    pub rules: Vec<L4Rule>,
}

/// What a [`UdpRoute`] says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UdpRouteSpec {
    /// Where it wants to attach.
    pub parent_refs: Vec<ParentReference>,
    /// Where datagrams go; only the first can be met.
    pub rules: Vec<L4Rule>,
}

/// What a [`TlsRoute`] says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsRouteSpec {
    /// Where it wants to attach.
    pub parent_refs: Vec<ParentReference>,
    /// Names it is for; empty: all of the listener.
    pub hostnames: Vec<String>,
    /// Where connections go; only the first can be met.
    pub rules: Vec<L4Rule>,
}

/// Where connections or datagrams go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct L4Rule {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Services that share them by weight.
    pub backend_refs: Vec<BackendReference>,
}
