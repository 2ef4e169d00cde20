//! The kinds of objects that clients may ask for.

use serde::{Deserialize, Serialize};

/// The kinds that `get` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Kubernetes Nodes.
    Nodes,
    /// Kubernetes Pods.
    Pods,
    /// Kubernetes Services.
    Services,
    /// Kubernetes `EndpointSlices`, those made from selectors among them.
    EndpointSlices,
    /// Kubernetes Namespaces, those that are only spoken of among them.
    Namespaces,
    /// Kubernetes NetworkPolicies.
    NetworkPolicies,
    /// ClusterNetworkPolicies.
    ClusterNetworkPolicies,
    /// Kubernetes Deployments.
    Deployments,
    /// Kubernetes ReplicaSets, as they were written.
    ReplicaSets,
    /// Kubernetes StatefulSets.
    StatefulSets,
    /// Kubernetes DaemonSets.
    DaemonSets,
    /// Kubernetes Ingresses, with the addresses of their load balancers.
    Ingresses,
    /// Gateway API GatewayClasses.
    GatewayClasses,
    /// Gateway API Gateways, with status.
    Gateways,
    /// Gateway API ListenerSets, with status.
    ListenerSets,
    /// Gateway API HTTPRoutes, with status.
    HttpRoutes,
    /// Gateway API GRPCRoutes, with status.
    GrpcRoutes,
    /// Gateway API TLSRoutes, with status.
    TlsRoutes,
    /// Gateway API TCPRoutes, with status.
    TcpRoutes,
    /// Gateway API UDPRoutes, with status.
    UdpRoutes,
    /// How load balancers speak TLS with Services, with status.
    BackendTlsPolicies,
    /// Certificates that are issued, with status.
    ManagedCertificates,
    /// Who issues them.
    Authorities,
    /// What load balancers send to, with health.
    BackendServices,
    /// Where load balancers listen, and what they do there.
    ForwardingRules,
    /// How load balancers ask whether what they send to is healthy.
    HealthChecks,
    /// What is let through to nodes and pods for load balancers.
    FirewallRules,
    /// The switch's ports, as [`PortRecord`](super::PortRecord)s.
    Ports,
    /// Links, and what is wrong with them, as [`LinkRecord`](super::LinkRecord)s.
    Links,
    /// The switch's workers, as [`WorkerRecord`](super::WorkerRecord)s.
    Workers,
    /// Routes of every routing table, as [`RouteRecord`](super::RouteRecord)s.
    Routes,
    /// What the bridges know, as [`FdbRecord`](super::FdbRecord)s.
    Fdb,
    /// Who was found outside, and who claims what others have, as [`NeighbourRecord`](super::NeighbourRecord)s.
    Neighbours,
}

impl Kind {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 33] = [
        Self::Nodes,
        Self::Pods,
        Self::Services,
        Self::EndpointSlices,
        Self::Namespaces,
        Self::NetworkPolicies,
        Self::ClusterNetworkPolicies,
        Self::Deployments,
        Self::ReplicaSets,
        Self::StatefulSets,
        Self::DaemonSets,
        Self::Ingresses,
        Self::GatewayClasses,
        Self::Gateways,
        Self::ListenerSets,
        Self::HttpRoutes,
        Self::GrpcRoutes,
        Self::TlsRoutes,
        Self::TcpRoutes,
        Self::UdpRoutes,
        Self::BackendTlsPolicies,
        Self::ManagedCertificates,
        Self::Authorities,
        Self::BackendServices,
        Self::ForwardingRules,
        Self::HealthChecks,
        Self::FirewallRules,
        Self::Ports,
        Self::Links,
        Self::Workers,
        Self::Routes,
        Self::Fdb,
        Self::Neighbours,
    ];

    /// Whether objects of this kind live in namespaces.
    pub const fn is_namespaced(self) -> bool {
        !matches!(
            self,
            Self::Nodes
                | Self::Namespaces
                | Self::ClusterNetworkPolicies
                | Self::GatewayClasses
                | Self::Authorities
                | Self::Ports
                | Self::Links
                | Self::Workers
                | Self::Routes
                | Self::Fdb
                | Self::Neighbours
        )
    }

    /// The name of the kind, plural and lower case.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pods => "pods",
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Namespaces => "namespaces",
            Self::NetworkPolicies => "networkpolicies",
            Self::ClusterNetworkPolicies => "clusternetworkpolicies",
            Self::Deployments => "deployments",
            Self::ReplicaSets => "replicasets",
            Self::StatefulSets => "statefulsets",
            Self::DaemonSets => "daemonsets",
            Self::Ingresses => "ingresses",
            Self::GatewayClasses => "gatewayclasses",
            Self::Gateways => "gateways",
            Self::ListenerSets => "listenersets",
            Self::HttpRoutes => "httproutes",
            Self::GrpcRoutes => "grpcroutes",
            Self::TlsRoutes => "tlsroutes",
            Self::TcpRoutes => "tcproutes",
            Self::UdpRoutes => "udproutes",
            Self::BackendTlsPolicies => "backendtlspolicies",
            Self::ManagedCertificates => "managedcertificates",
            Self::Authorities => "ca",
            Self::BackendServices => "backendservices",
            Self::ForwardingRules => "forwardingrules",
            Self::HealthChecks => "healthchecks",
            Self::FirewallRules => "firewallrules",
            Self::Ports => "ports",
            Self::Links => "links",
            Self::Workers => "workers",
            Self::Routes => "routes",
            Self::Fdb => "fdb",
            Self::Neighbours => "neighbours",
        }
    }
}
