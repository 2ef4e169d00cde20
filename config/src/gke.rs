//! What GKE says of its load balancers beside Ingress and the Gateway API.
//!
//! These are custom resources of GKE and of its Config Connector, which no crate of types carries.
//! Those fields that mean something here are written down; the others are named in a warning.
//!
//! Source: GKE, "Ingress configuration" and "Configure Gateway resources using Policies"; Config
//! Connector, `ComputeSecurityPolicy`, `ComputeSSLPolicy`.

mod backend;
mod certificate;
mod frontend;
mod policy;
mod security;

pub use backend::{
    Affinity, BackendConfig, BackendConfigSpec, Bypass, CacheKey, CacheNegative, Cdn, Draining,
    Headers, HealthCheck, Iap, IapClient, Logging, Named,
};
pub use certificate::{
    DomainStatus, ManagedCertificate, ManagedCertificateSpec, ManagedCertificateStatus,
};
pub use frontend::{FrontendConfig, FrontendConfigSpec, RedirectToHttps};
pub use policy::{
    BackendPolicyDefault, GatewayPolicyDefault, GcpBackendPolicy, GcpBackendPolicySpec,
    GcpGatewayPolicy, GcpGatewayPolicySpec, HealthCheckKind, HealthCheckPolicy,
    HealthCheckPolicySpec, HealthDefault, HttpHealthCheck, PolicyAffinity, PolicyIap,
    PolicyLogging, PolicyStatus, TargetRef, TcpHealthCheck,
};
pub use security::{
    RateLimitKey, RateLimitOptions, RateLimitThreshold, RedirectOptions, SecurityConfig,
    SecurityExpression, SecurityMatch, SecurityPolicy, SecurityPolicySpec, SecurityRule, SslPolicy,
    SslPolicySpec,
};
