//! A Kubernetes object of any carried kind.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster_policy::ClusterNetworkPolicy;
use crate::gateway_api::{
    BackendTlsPolicy, Gateway, GatewayClass, GrpcRoute, HttpRoute, ListenerSet, ReferenceGrant,
    TcpRoute, TlsRoute, UdpRoute,
};
use crate::gke::{
    BackendConfig, FrontendConfig, GcpBackendPolicy, GcpGatewayPolicy, HealthCheckPolicy,
    ManagedCertificate, SecurityPolicy, SslPolicy,
};
use crate::ingress;
use crate::kind::Kind;
use crate::tree::{Format, Reading, Tree, read};

/// The namespace of objects that name none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// A Kubernetes object.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Namespace(Arc<Namespace>),
    Node(Arc<Node>),
    Pod(Arc<Pod>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    Endpoints(Arc<Endpoints>),
    NetworkPolicy(Arc<NetworkPolicy>),
    ClusterNetworkPolicy(Arc<ClusterNetworkPolicy>),
    Deployment(Arc<Deployment>),
    ReplicaSet(Arc<ReplicaSet>),
    StatefulSet(Arc<StatefulSet>),
    DaemonSet(Arc<DaemonSet>),
    Ingress(Arc<Ingress>),
    IngressClass(Arc<IngressClass>),
    Secret(Arc<Secret>),
    GatewayClass(Arc<GatewayClass>),
    Gateway(Arc<Gateway>),
    ListenerSet(Arc<ListenerSet>),
    HttpRoute(Arc<HttpRoute>),
    GrpcRoute(Arc<GrpcRoute>),
    TlsRoute(Arc<TlsRoute>),
    TcpRoute(Arc<TcpRoute>),
    UdpRoute(Arc<UdpRoute>),
    ReferenceGrant(Arc<ReferenceGrant>),
    ConfigMap(Arc<ConfigMap>),
    BackendTlsPolicy(Arc<BackendTlsPolicy>),
    BackendConfig(Arc<BackendConfig>),
    FrontendConfig(Arc<FrontendConfig>),
    GcpBackendPolicy(Arc<GcpBackendPolicy>),
    GcpGatewayPolicy(Arc<GcpGatewayPolicy>),
    HealthCheckPolicy(Arc<HealthCheckPolicy>),
    SecurityPolicy(Arc<SecurityPolicy>),
    SslPolicy(Arc<SslPolicy>),
    ManagedCertificate(Arc<ManagedCertificate>),
}

impl Object {
    /// Reads a tree as an object of this kind, in the namespace `default` if it names none.
    pub(crate) fn read(
        kind: Kind,
        tree: &mut Tree<'_>,
        text: &str,
        format: Format,
    ) -> Reading<Self> {
        macro_rules! reading {
            ($variant:ident) => {{
                let Reading { object, wrong, unknown } = read(tree, text, format);
                let object = object.map(|object| {
                    let mut object = object;
                    settle(kind, with_metadata(&mut object));
                    Self::$variant(Arc::new(object))
                });
                Reading { object, wrong, unknown }
            }};
        }
        match kind {
            Kind::Namespace => reading!(Namespace),
            Kind::Node => reading!(Node),
            Kind::Pod => reading!(Pod),
            Kind::Service => reading!(Service),
            Kind::EndpointSlice => reading!(EndpointSlice),
            Kind::Endpoints => reading!(Endpoints),
            Kind::NetworkPolicy => reading!(NetworkPolicy),
            Kind::ClusterNetworkPolicy => reading!(ClusterNetworkPolicy),
            Kind::Deployment => reading!(Deployment),
            Kind::ReplicaSet => reading!(ReplicaSet),
            Kind::StatefulSet => reading!(StatefulSet),
            Kind::DaemonSet => reading!(DaemonSet),
            Kind::Ingress => {
                ingress::modernise(tree);
                reading!(Ingress)
            }
            Kind::IngressClass => reading!(IngressClass),
            Kind::Secret => reading!(Secret),
            Kind::GatewayClass => reading!(GatewayClass),
            Kind::Gateway => reading!(Gateway),
            Kind::ListenerSet => reading!(ListenerSet),
            Kind::HttpRoute => reading!(HttpRoute),
            Kind::GrpcRoute => reading!(GrpcRoute),
            Kind::TlsRoute => reading!(TlsRoute),
            Kind::TcpRoute => reading!(TcpRoute),
            Kind::UdpRoute => reading!(UdpRoute),
            Kind::ReferenceGrant => reading!(ReferenceGrant),
            Kind::ConfigMap => reading!(ConfigMap),
            Kind::BackendTlsPolicy => reading!(BackendTlsPolicy),
            Kind::BackendConfig => reading!(BackendConfig),
            Kind::FrontendConfig => reading!(FrontendConfig),
            Kind::GcpBackendPolicy => reading!(GcpBackendPolicy),
            Kind::GcpGatewayPolicy => reading!(GcpGatewayPolicy),
            Kind::HealthCheckPolicy => reading!(HealthCheckPolicy),
            Kind::SecurityPolicy => reading!(SecurityPolicy),
            Kind::SslPolicy => reading!(SslPolicy),
            Kind::ManagedCertificate => reading!(ManagedCertificate),
        }
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Node(_) => Kind::Node,
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::NetworkPolicy(_) => Kind::NetworkPolicy,
            Self::ClusterNetworkPolicy(_) => Kind::ClusterNetworkPolicy,
            Self::Deployment(_) => Kind::Deployment,
            Self::ReplicaSet(_) => Kind::ReplicaSet,
            Self::StatefulSet(_) => Kind::StatefulSet,
            Self::DaemonSet(_) => Kind::DaemonSet,
            Self::Ingress(_) => Kind::Ingress,
            Self::IngressClass(_) => Kind::IngressClass,
            Self::Secret(_) => Kind::Secret,
            Self::GatewayClass(_) => Kind::GatewayClass,
            Self::Gateway(_) => Kind::Gateway,
            Self::ListenerSet(_) => Kind::ListenerSet,
            Self::HttpRoute(_) => Kind::HttpRoute,
            Self::GrpcRoute(_) => Kind::GrpcRoute,
            Self::TlsRoute(_) => Kind::TlsRoute,
            Self::TcpRoute(_) => Kind::TcpRoute,
            Self::UdpRoute(_) => Kind::UdpRoute,
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
            Self::ConfigMap(_) => Kind::ConfigMap,
            Self::BackendTlsPolicy(_) => Kind::BackendTlsPolicy,
            Self::BackendConfig(_) => Kind::BackendConfig,
            Self::FrontendConfig(_) => Kind::FrontendConfig,
            Self::GcpBackendPolicy(_) => Kind::GcpBackendPolicy,
            Self::GcpGatewayPolicy(_) => Kind::GcpGatewayPolicy,
            Self::HealthCheckPolicy(_) => Kind::HealthCheckPolicy,
            Self::SecurityPolicy(_) => Kind::SecurityPolicy,
            Self::SslPolicy(_) => Kind::SslPolicy,
            Self::ManagedCertificate(_) => Kind::ManagedCertificate,
        }
    }

    /// Its metadata.
    pub(crate) fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Namespace(object) => &object.metadata,
            Self::Node(object) => &object.metadata,
            Self::Pod(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::Endpoints(object) => &object.metadata,
            Self::NetworkPolicy(object) => &object.metadata,
            Self::ClusterNetworkPolicy(object) => &object.metadata,
            Self::Deployment(object) => &object.metadata,
            Self::ReplicaSet(object) => &object.metadata,
            Self::StatefulSet(object) => &object.metadata,
            Self::DaemonSet(object) => &object.metadata,
            Self::Ingress(object) => &object.metadata,
            Self::IngressClass(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::GatewayClass(object) => &object.metadata,
            Self::Gateway(object) => &object.metadata,
            Self::ListenerSet(object) => &object.metadata,
            Self::HttpRoute(object) => &object.metadata,
            Self::GrpcRoute(object) => &object.metadata,
            Self::TlsRoute(object) => &object.metadata,
            Self::TcpRoute(object) => &object.metadata,
            Self::UdpRoute(object) => &object.metadata,
            Self::ReferenceGrant(object) => &object.metadata,
            Self::ConfigMap(object) => &object.metadata,
            Self::BackendTlsPolicy(object) => &object.metadata,
            Self::BackendConfig(object) => &object.metadata,
            Self::FrontendConfig(object) => &object.metadata,
            Self::GcpBackendPolicy(object) => &object.metadata,
            Self::GcpGatewayPolicy(object) => &object.metadata,
            Self::HealthCheckPolicy(object) => &object.metadata,
            Self::SecurityPolicy(object) => &object.metadata,
            Self::SslPolicy(object) => &object.metadata,
            Self::ManagedCertificate(object) => &object.metadata,
        }
    }

    /// Its metadata, to be changed.
    pub(crate) fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Namespace(object) => &mut Arc::make_mut(object).metadata,
            Self::Node(object) => &mut Arc::make_mut(object).metadata,
            Self::Pod(object) => &mut Arc::make_mut(object).metadata,
            Self::Service(object) => &mut Arc::make_mut(object).metadata,
            Self::EndpointSlice(object) => &mut Arc::make_mut(object).metadata,
            Self::Endpoints(object) => &mut Arc::make_mut(object).metadata,
            Self::NetworkPolicy(object) => &mut Arc::make_mut(object).metadata,
            Self::ClusterNetworkPolicy(object) => &mut Arc::make_mut(object).metadata,
            Self::Deployment(object) => &mut Arc::make_mut(object).metadata,
            Self::ReplicaSet(object) => &mut Arc::make_mut(object).metadata,
            Self::StatefulSet(object) => &mut Arc::make_mut(object).metadata,
            Self::DaemonSet(object) => &mut Arc::make_mut(object).metadata,
            Self::Ingress(object) => &mut Arc::make_mut(object).metadata,
            Self::IngressClass(object) => &mut Arc::make_mut(object).metadata,
            Self::Secret(object) => &mut Arc::make_mut(object).metadata,
            Self::GatewayClass(object) => &mut Arc::make_mut(object).metadata,
            Self::Gateway(object) => &mut Arc::make_mut(object).metadata,
            Self::ListenerSet(object) => &mut Arc::make_mut(object).metadata,
            Self::HttpRoute(object) => &mut Arc::make_mut(object).metadata,
            Self::GrpcRoute(object) => &mut Arc::make_mut(object).metadata,
            Self::TlsRoute(object) => &mut Arc::make_mut(object).metadata,
            Self::TcpRoute(object) => &mut Arc::make_mut(object).metadata,
            Self::UdpRoute(object) => &mut Arc::make_mut(object).metadata,
            Self::ReferenceGrant(object) => &mut Arc::make_mut(object).metadata,
            Self::ConfigMap(object) => &mut Arc::make_mut(object).metadata,
            Self::BackendTlsPolicy(object) => &mut Arc::make_mut(object).metadata,
            Self::BackendConfig(object) => &mut Arc::make_mut(object).metadata,
            Self::FrontendConfig(object) => &mut Arc::make_mut(object).metadata,
            Self::GcpBackendPolicy(object) => &mut Arc::make_mut(object).metadata,
            Self::GcpGatewayPolicy(object) => &mut Arc::make_mut(object).metadata,
            Self::HealthCheckPolicy(object) => &mut Arc::make_mut(object).metadata,
            Self::SecurityPolicy(object) => &mut Arc::make_mut(object).metadata,
            Self::SslPolicy(object) => &mut Arc::make_mut(object).metadata,
            Self::ManagedCertificate(object) => &mut Arc::make_mut(object).metadata,
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or("")
    }

    /// Its namespace; empty for kinds that have none.
    pub(crate) fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or("")
    }
}

fn with_metadata<T>(object: &mut T) -> &mut ObjectMeta
where
    T: k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    object.metadata_mut()
}

fn settle(kind: Kind, metadata: &mut ObjectMeta) {
    if kind.is_namespaced() {
        let namespace = metadata.namespace.get_or_insert_with(String::new);
        if namespace.is_empty() {
            DEFAULT_NAMESPACE.clone_into(namespace);
        }
    } else {
        metadata.namespace = None;
    }
}

/// What messages call an object: `Service default/web`.
pub(crate) fn called(kind: Kind, namespace: &str, name: &str) -> String {
    let name = if name.is_empty() { "(without a name)" } else { name };
    if namespace.is_empty() {
        format!("{} {name}", kind.name())
    } else {
        format!("{} {namespace}/{name}", kind.name())
    }
}
