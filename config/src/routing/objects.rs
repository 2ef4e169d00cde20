//! The objects of load balancers, as they were written.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use crate::draft::Draft;
use crate::gateway_api::{
    BackendTlsPolicy, Gateway, GatewayClass, GrpcRoute, HttpRoute, ListenerSet, ReferenceGrant,
    TcpRoute, TlsRoute, UdpRoute,
};
use crate::gke::{
    BackendConfig, FrontendConfig, GcpBackendPolicy, GcpGatewayPolicy, HealthCheckPolicy,
    ManagedCertificate, SecurityPolicy, SslPolicy,
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
    /// What is said of their requests and clients, and of those of Gateways.
    pub policies: PolicyObjects,
}

/// What is said of requests and clients.
#[derive(Clone, Debug, Default)]
pub struct PolicyObjects {
    /// Of requests to Services, by their annotations.
    pub backend_configs: Vec<Arc<BackendConfig>>,
    /// Of clients of Ingresses, by their annotations.
    pub frontend_configs: Vec<Arc<FrontendConfig>>,
    /// Of requests to Services that they name.
    pub backend_policies: Vec<Arc<GcpBackendPolicy>>,
    /// Of clients of Gateways that they name.
    pub gateway_policies: Vec<Arc<GcpGatewayPolicy>>,
    /// Of checks of Services that they name.
    pub health_policies: Vec<Arc<HealthCheckPolicy>>,
    /// Of clients that are refused.
    pub security_policies: Vec<Arc<SecurityPolicy>>,
    /// Of TLS with clients.
    pub ssl_policies: Vec<Arc<SslPolicy>>,
    /// Of TLS with Services.
    pub backend_tls: Vec<Arc<BackendTlsPolicy>>,
    /// Certificates that are issued here.
    pub managed: Vec<Arc<ManagedCertificate>>,
    /// Texts, certificates to be trusted among them.
    pub config_maps: Vec<Arc<ConfigMap>>,
}

/// The objects of the Gateway API.
#[derive(Clone, Debug, Default)]
pub struct GatewayObjects {
    /// Who serves Gateways.
    pub classes: Vec<Arc<GatewayClass>>,
    /// The Gateways, with their addresses.
    pub gateways: Vec<Arc<Gateway>>,
    /// More listeners of theirs.
    pub listener_sets: Vec<Arc<ListenerSet>>,
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
        policies: PolicyObjects {
            backend_configs: all!(BackendConfig),
            frontend_configs: all!(FrontendConfig),
            backend_policies: all!(GcpBackendPolicy),
            gateway_policies: all!(GcpGatewayPolicy),
            health_policies: all!(HealthCheckPolicy),
            security_policies: all!(SecurityPolicy),
            ssl_policies: all!(SslPolicy),
            backend_tls: all!(BackendTlsPolicy),
            managed: all!(ManagedCertificate),
            config_maps: all!(ConfigMap),
        },
    };
    let gateway = GatewayObjects {
        classes: all!(GatewayClass),
        gateways: all!(Gateway),
        listener_sets: all!(ListenerSet),
        http_routes: all!(HttpRoute),
        grpc_routes: all!(GrpcRoute),
        tls_routes: all!(TlsRoute),
        tcp_routes: all!(TcpRoute),
        udp_routes: all!(UdpRoute),
        grants: all!(ReferenceGrant),
    };
    (ingress, gateway)
}
