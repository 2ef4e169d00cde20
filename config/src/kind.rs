//! The kinds of Kubernetes objects that are carried.

/// A kind of Kubernetes object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A namespace.
    Namespace,
    /// A machine.
    Node,
    /// A pod.
    Pod,
    /// A Service.
    Service,
    /// Backends of a Service, written by hand or by a controller.
    EndpointSlice,
    /// Backends of a Service, in the older form.
    Endpoints,
    /// A rule about who may talk to whom.
    NetworkPolicy,
    /// A rule of those who run the cluster.
    ClusterNetworkPolicy,
    /// Makes ReplicaSets.
    Deployment,
    /// Makes pods, any number alike.
    ReplicaSet,
    /// Makes pods with names that stay.
    StatefulSet,
    /// Makes a pod on each node.
    DaemonSet,
    /// Hosts and paths by which Services are reached from outside.
    Ingress,
    /// Who serves an Ingress.
    IngressClass,
    /// Certificates with their keys, among other secrets.
    Secret,
    /// Who serves a Gateway.
    GatewayClass,
    /// Addresses and ports on which traffic comes in.
    Gateway,
    /// More listeners of a Gateway, from others than those who have it.
    ListenerSet,
    /// Where HTTP requests go.
    HttpRoute,
    /// Where gRPC calls go.
    GrpcRoute,
    /// Where TLS connections go.
    TlsRoute,
    /// Where TCP connections go.
    TcpRoute,
    /// Where UDP datagrams go.
    UdpRoute,
    /// Which objects elsewhere may refer to those of a namespace.
    ReferenceGrant,
    /// Texts, certificates to be trusted among them.
    ConfigMap,
    /// How load balancers speak TLS with Services.
    BackendTlsPolicy,
    /// What Ingresses do with requests to a Service.
    BackendConfig,
    /// What an Ingress does with clients.
    FrontendConfig,
    /// What Gateways do with requests to a Service.
    GcpBackendPolicy,
    /// What a Gateway does with clients.
    GcpGatewayPolicy,
    /// How Gateways check the places of a Service.
    HealthCheckPolicy,
    /// Which clients load balancers refuse.
    SecurityPolicy,
    /// Which versions of TLS load balancers speak.
    SslPolicy,
    /// Certificates that are issued for names.
    ManagedCertificate,
}

impl Kind {
    /// Every kind, those that others refer to first.
    pub const ALL: [Self; 34] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::Endpoints,
        Self::NetworkPolicy,
        Self::ClusterNetworkPolicy,
        Self::Deployment,
        Self::ReplicaSet,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Ingress,
        Self::IngressClass,
        Self::Secret,
        Self::GatewayClass,
        Self::Gateway,
        Self::ListenerSet,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TlsRoute,
        Self::TcpRoute,
        Self::UdpRoute,
        Self::ReferenceGrant,
        Self::ConfigMap,
        Self::BackendTlsPolicy,
        Self::BackendConfig,
        Self::FrontendConfig,
        Self::GcpBackendPolicy,
        Self::GcpGatewayPolicy,
        Self::HealthCheckPolicy,
        Self::SecurityPolicy,
        Self::SslPolicy,
        Self::ManagedCertificate,
    ];

    /// As in an object's `kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Secret => "Secret",
            Self::GatewayClass => "GatewayClass",
            Self::Gateway => "Gateway",
            Self::ListenerSet => "ListenerSet",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TlsRoute => "TLSRoute",
            Self::TcpRoute => "TCPRoute",
            Self::UdpRoute => "UDPRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::ConfigMap => "ConfigMap",
            Self::BackendTlsPolicy => "BackendTLSPolicy",
            Self::BackendConfig => "BackendConfig",
            Self::FrontendConfig => "FrontendConfig",
            Self::GcpBackendPolicy => "GCPBackendPolicy",
            Self::GcpGatewayPolicy => "GCPGatewayPolicy",
            Self::HealthCheckPolicy => "HealthCheckPolicy",
            Self::SecurityPolicy => "ComputeSecurityPolicy",
            Self::SslPolicy => "ComputeSSLPolicy",
            Self::ManagedCertificate => "ManagedCertificate",
        }
    }

    /// As in an object's `apiVersion`.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Namespace | Self::Node | Self::Pod | Self::Service | Self::Endpoints => "v1",
            Self::Secret | Self::ConfigMap => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::NetworkPolicy | Self::Ingress | Self::IngressClass => "networking.k8s.io/v1",
            Self::ClusterNetworkPolicy => "policy.networking.k8s.io/v1alpha2",
            Self::Deployment | Self::ReplicaSet | Self::StatefulSet | Self::DaemonSet => "apps/v1",
            Self::GatewayClass | Self::Gateway | Self::HttpRoute | Self::GrpcRoute => {
                "gateway.networking.k8s.io/v1"
            }
            Self::ListenerSet | Self::TlsRoute => "gateway.networking.k8s.io/v1",
            Self::TcpRoute | Self::UdpRoute => "gateway.networking.k8s.io/v1alpha2",
            Self::ReferenceGrant => "gateway.networking.k8s.io/v1beta1",
            Self::BackendTlsPolicy => "gateway.networking.k8s.io/v1",
            Self::BackendConfig => "cloud.google.com/v1",
            Self::FrontendConfig => "networking.gke.io/v1beta1",
            Self::GcpBackendPolicy
            | Self::GcpGatewayPolicy
            | Self::HealthCheckPolicy
            | Self::ManagedCertificate => "networking.gke.io/v1",
            Self::SecurityPolicy | Self::SslPolicy => "compute.cnrm.cloud.google.com/v1beta1",
        }
    }

    /// Other versions that say the same, or did so in other words.
    const fn other_versions(self) -> &'static [&'static str] {
        match self {
            Self::Ingress => &["networking.k8s.io/v1beta1", "extensions/v1beta1"],
            Self::IngressClass => &["networking.k8s.io/v1beta1"],
            Self::GatewayClass | Self::Gateway | Self::HttpRoute => {
                &["gateway.networking.k8s.io/v1beta1"]
            }
            Self::GrpcRoute => &["gateway.networking.k8s.io/v1alpha2"],
            Self::TlsRoute => {
                &["gateway.networking.k8s.io/v1alpha3", "gateway.networking.k8s.io/v1alpha2"]
            }
            Self::TcpRoute | Self::UdpRoute => &["gateway.networking.k8s.io/v1"],
            Self::ReferenceGrant => {
                &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"]
            }
            Self::BackendTlsPolicy => &["gateway.networking.k8s.io/v1alpha3"],
            Self::BackendConfig => &["cloud.google.com/v1beta1"],
            Self::ManagedCertificate => &["networking.gke.io/v1beta2", "networking.gke.io/v1beta1"],
            _ => &[],
        }
    }

    /// As in `[[…]]` of lab.toml.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Node => "node",
            Self::Pod => "pod",
            Self::Service => "service",
            Self::EndpointSlice => "endpoint-slice",
            Self::Endpoints => "endpoints",
            Self::NetworkPolicy => "network-policy",
            Self::ClusterNetworkPolicy => "cluster-network-policy",
            Self::Deployment => "deployment",
            Self::ReplicaSet => "replica-set",
            Self::StatefulSet => "stateful-set",
            Self::DaemonSet => "daemon-set",
            Self::Ingress => "ingress",
            Self::IngressClass => "ingress-class",
            Self::Secret => "secret",
            Self::GatewayClass => "gateway-class",
            Self::Gateway => "gateway",
            Self::ListenerSet => "listener-set",
            Self::HttpRoute => "http-route",
            Self::GrpcRoute => "grpc-route",
            Self::TlsRoute => "tls-route",
            Self::TcpRoute => "tcp-route",
            Self::UdpRoute => "udp-route",
            Self::ReferenceGrant => "reference-grant",
            Self::ConfigMap => "config-map",
            Self::BackendTlsPolicy => "backend-tls-policy",
            Self::BackendConfig => "backend-config",
            Self::FrontendConfig => "frontend-config",
            Self::GcpBackendPolicy => "backend-policy",
            Self::GcpGatewayPolicy => "gateway-policy",
            Self::HealthCheckPolicy => "health-check-policy",
            Self::SecurityPolicy => "security-policy",
            Self::SslPolicy => "ssl-policy",
            Self::ManagedCertificate => "managed-certificate",
        }
    }

    /// Whether objects of it live in a namespace.
    pub const fn is_namespaced(self) -> bool {
        !matches!(
            self,
            Self::Namespace
                | Self::Node
                | Self::ClusterNetworkPolicy
                | Self::IngressClass
                | Self::GatewayClass
        )
    }

    /// The carried kind that an object claims to be of.
    pub(crate) fn find(api_version: &str, name: &str) -> Found {
        let Some(kind) = Self::ALL.into_iter().find(|kind| kind.name() == name) else {
            return Found::NotCarried;
        };
        let group =
            |version: &str| version.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
        if api_version == kind.api_version() || kind.other_versions().contains(&api_version) {
            Found::Kind(kind)
        } else if group(api_version) == group(kind.api_version())
            || group(api_version) == "extensions"
        {
            Found::OtherVersion(kind)
        } else {
            Found::NotCarried
        }
    }

    /// The kind of a `[[…]]` of lab.toml.
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.key() == key)
    }
}

/// What an object's `apiVersion` and `kind` lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A kind that is carried.
    Kind(Kind),
    /// A version of such a kind that Kubernetes no longer serves, or never did.
    OtherVersion(Kind),
    /// Anything else there is in Kubernetes.
    NotCarried,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_version_and_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::find(kind.api_version(), kind.name()), Found::Kind(kind));
            assert_eq!(Kind::of_key(kind.key()), Some(kind));
        }
        let ingress = Found::Kind(Kind::Ingress);
        assert_eq!(Kind::find("extensions/v1beta1", "Ingress"), ingress);
        let old = Found::OtherVersion(Kind::Deployment);
        assert_eq!(Kind::find("extensions/v1beta1", "Deployment"), old);
        assert_eq!(Kind::find("apps/v1beta2", "Deployment"), old);
        assert_eq!(Kind::find("serving.knative.dev/v1", "Service"), Found::NotCarried);
        assert_eq!(Kind::find("v1", "ServiceAccount"), Found::NotCarried);
    }
}
