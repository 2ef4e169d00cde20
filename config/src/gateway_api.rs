//! The objects of the Gateway API.
//!
//! Kubernetes has them as custom resources. The crate of types that exists for them is bound to
//! another version of Kubernetes' own types, metadata and conditions among them, and has a type of
//! its own for every place a filter can stand in; so those fields that mean something here are
//! written down once.
//!
//! Source: Gateway API, `apis/v1` and `apis/v1alpha2`.

mod backend_tls;
mod gateway;
mod http;
mod layer4;
mod listener_set;
mod resource;
mod route;
mod status;
mod tls;

pub use backend_tls::{
    AltName, BackendTlsPolicy, BackendTlsPolicySpec, BackendTlsValidation, TlsTarget,
};
pub use gateway::{
    AllowedListeners, AllowedRoutes, Gateway, GatewayAddress, GatewayClass, GatewayClassSpec,
    GatewaySpec, GatewayTls, GrantFrom, GrantTo, ListenerSpec, ReferenceGrant, ReferenceGrantSpec,
    RouteGroupKind, RouteNamespaces,
};
pub use http::{
    CookieConfig, CorsFilter, Fraction, GrpcMatch, GrpcMethodMatch, GrpcRoute, GrpcRouteSpec,
    GrpcRule, HeaderFilter, HeaderValue, HttpRoute, HttpRouteSpec, HttpRule, MirrorFilter,
    PathModifier, RedirectFilter, RouteBackend, RouteFilter, RouteMatch, RouteTimeouts,
    SessionPersistence, UrlRewriteFilter, ValueMatchSpec,
};
pub use layer4::{L4Rule, TcpRoute, TcpRouteSpec, TlsRoute, TlsRouteSpec, UdpRoute, UdpRouteSpec};
pub use listener_set::{ListenerSet, ListenerSetSpec, ListenerSetStatus};
pub use route::{BackendReference, LocalReference, ObjectReference, ParentReference};
pub use status::{
    GatewayClassStatus, GatewayStatus, ListenerStatus, PolicyAncestorStatus, PolicyStatus,
    RouteParentStatus, RouteStatus, StatusAddress, SupportedFeature,
};
pub use tls::{
    FrontendTls, FrontendTlsTerms, FrontendValidation, GatewayBackendTls, GatewayTlsSides, PortTls,
};

/// The group of all of them.
pub const GROUP: &str = "gateway.networking.k8s.io";
