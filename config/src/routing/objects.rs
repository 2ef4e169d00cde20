//! The objects of load balancers, as they were written.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use crate::draft::Draft;
use crate::gateway_api::{
    Gateway, GatewayClass, GrpcRoute, HttpRoute, ReferenceGrant, TcpRoute, TlsRoute, UdpRoute,
};
use crate::kind::Kind;
use crate::object::Object;

/// Ingresses and what they refer to.
#[derive(Clone, Debug, Default)]
pub struct IngressObjects {
    /// The Ingresses, with the addresses of their load balancers.
    pub ingresses: Vec<Arc<Ingress>>,
    /// Who serves them.
    pub classes: Vec<Arc<IngressClass>>,
    /// Certificates among them.
    pub secrets: Vec<Arc<Secret>>,
}

/// The objects of the Gateway API.
#[derive(Clone, Debug, Default)]
pub struct GatewayObjects {
    /// Who serves Gateways.
    pub classes: Vec<Arc<GatewayClass>>,
    /// The Gateways, with their addresses.
    pub gateways: Vec<Arc<Gateway>>,
    /// Routes of requests.
    pub http_routes: Vec<Arc<HttpRoute>>,
    /// Routes of calls.
    pub grpc_routes: Vec<Arc<GrpcRoute>>,
    /// Routes of TLS connections.
    pub tls_routes: Vec<Arc<TlsRoute>>,
    /// Routes of connections.
    pub tcp_routes: Vec<Arc<TcpRoute>>,
    /// Routes of datagrams.
    pub udp_routes: Vec<Arc<UdpRoute>>,
    /// Who may refer to what.
    pub grants: Vec<Arc<ReferenceGrant>>,
}

/// The objects of a draft.
pub(crate) fn read(draft: &Draft) -> (IngressObjects, GatewayObjects) {
    macro_rules! all {
        ($kind:ident) => {
            draft
                .of(Kind::$kind)
                .values()
                .filter_map(|entry| match &entry.object {
                    Object::$kind(object) => Some(object.clone()),
                    _ => None,
                })
                .collect()
        };
    }
    let ingress = IngressObjects {
        ingresses: all!(Ingress),
        classes: all!(IngressClass),
        secrets: all!(Secret),
    };
    let gateway = GatewayObjects {
        classes: all!(GatewayClass),
        gateways: all!(Gateway),
        http_routes: all!(HttpRoute),
        grpc_routes: all!(GrpcRoute),
        tls_routes: all!(TlsRoute),
        tcp_routes: all!(TcpRoute),
        udp_routes: all!(UdpRoute),
        grants: all!(ReferenceGrant),
    };
    (ingress, gateway)
}
